// A directory with its file `locks`, of which anybody can claim a slot; and times for its locks.
//
//   LockFile locks;
//   const auto owners = locks.Claim();
//   CHECK(lock.Lock(*owners, In(20 * kMillisecond)) == os::LockResult::kTimedOut);

#ifndef CORDWOOD_TESTS_SUPPORT_LOCK_FILE_H_
#define CORDWOOD_TESTS_SUPPORT_LOCK_FILE_H_

#include <cstdint>
#include <limits>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

inline constexpr std::int64_t kMillisecond = 1'000'000;
inline constexpr std::int64_t kForever = std::numeric_limits<std::int64_t>::max();

inline std::int64_t In(std::int64_t ns) { return os::MonotonicNanos() + ns; }

class LockFile {
 public:
  LockFile() : folder_(Storage::OperatingSystem()->OpenFolder(dir_.path(), {}).value()) {
    file_ = folder_->OpenFile("locks", os::OpenMode::kCreate).value();
  }
  absl::StatusOr<std::unique_ptr<os::LockOwners>> TryClaim() {
    return os::LockOwners::Claim(*folder_, 1'000);
  }
  std::unique_ptr<os::LockOwners> Claim() { return TryClaim().value(); }
  os::File& file() { return *file_; }

 private:
  TempDir dir_;
  std::unique_ptr<os::Folder> folder_;
  std::unique_ptr<os::File> file_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_LOCK_FILE_H_
