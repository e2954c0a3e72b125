// What groups have not committed, for the log, which does not know of them.
//
// Thread and process safety: every operation, once Bind() has returned.

#ifndef CORDWOOD_GROUP_NEEDS_H_
#define CORDWOOD_GROUP_NEEDS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "cordwood/group/offsets.h"
#include "cordwood/log/log.h"
#include "cordwood/log/needs.h"

namespace cordwood::group {

// What a group needs of one partition, for people.
struct GroupNeed {
  Offset from = 0;        // what it has not committed, as far as that is still there
  bool is_there = false;  // there is such a group
  std::optional<std::int64_t> first_stamp_ns = {};  // of the first record of that
};
absl::StatusOr<GroupNeed> NeedOf(GroupStore& store, const std::string& group,
                                 const std::shared_ptr<log::Log>& log);

// The timestamp of the first record from an offset on. Nothing: there is none, or it cannot be
// read.
std::optional<std::int64_t> FirstStampFrom(std::shared_ptr<log::Log> log, Offset from);

class GroupNeeds final : public log::Needs {
 public:
  // Before anybody else has the directory. Until then, and after the groups are gone, everything
  // is needed.
  void Bind(const std::shared_ptr<GroupStore>& groups) { groups_ = groups; }

  Offset NeededFrom(const os::Bits128& topic_id, const cordwood::internal::PartitionName& name,
                    std::span<const std::string> groups, Commits commits) const override;

 private:
  // They share the Context that this is in.
  std::weak_ptr<GroupStore> groups_;
};

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_NEEDS_H_
