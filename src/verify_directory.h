// A directory as Verify and Repair look at it.
//
// Thread and process safety: any thread, beside anyone.

#ifndef CORDWOOD_VERIFY_DIRECTORY_H_
#define CORDWOOD_VERIFY_DIRECTORY_H_

#include <filesystem>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"
#include "cordwood/verify.h"
#include "log/verify.h"

namespace cordwood::internal {

// Nothing to tell of it.
inline bool IsWell(const VerifiedRange& range) {
  return range.state == VerifiedState::kValid || range.state == VerifiedState::kInUse;
}

// kNotFound: it is not one of ours; kFailedPrecondition: of a newer format.
absl::StatusOr<std::shared_ptr<os::Folder>> OpenToVerify(Storage& storage,
                                                         const std::filesystem::path& directory);

// `findings` has more of each problem, in the same order.
absl::StatusOr<VerifyReport> VerifyDirectory(const std::shared_ptr<Storage>& storage,
                                             const std::shared_ptr<os::Folder>& root, bool is_open,
                                             log::Findings& findings);

// What was found twice, or nothing wrong once: one bad look proves nothing.
struct Looked {
  VerifyReport report = {};
  log::Findings findings = {};
  bool is_settled = false;  // else each look found something else, as often as it looks
};
// `is_alone`: nobody has it open, or can come.
absl::StatusOr<Looked> LookUntilAlike(const std::shared_ptr<Storage>& storage,
                                      const std::shared_ptr<os::Folder>& root, bool is_alone);

}  // namespace cordwood::internal

#endif  // CORDWOOD_VERIFY_DIRECTORY_H_
