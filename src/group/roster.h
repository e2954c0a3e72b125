// What is done under the roster lock of a group: finding out who is still there, and
// deciding who is to read what.
//
//   Roster roster(group, probe);
//   if (!roster.TryTake()) return;         // somebody else is at it
//   roster.Decide(directory, assignor);
//
// Who holds the lock may die between any two lines. Whatever is stored is right by itself: a
// target may be old, but a partition never has two owners; and from before the first change
// until after the last ring `wanted` differs from `decided`, so that the next one who looks
// makes the decision again.

#ifndef CORDWOOD_GROUP_ROSTER_H_
#define CORDWOOD_GROUP_ROSTER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/group/assignor.h"
#include "cordwood/group/offsets.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/storage.h"

namespace cordwood::group {

// What a file member-N says.
struct MemberFile {
  std::string assignor = {};
  std::string instance_id = {};
  std::vector<std::string> topics = {};
};

// Whether the member in a slot is to be dealt with: it is dead, overdue, or has been away
// for too long. Needs no lock.
bool IsGone(const Group& group, os::File& probe, int slot, std::int64_t now_ns);
// Whether there is a member in a slot, or one that may come back.
bool IsMember(const Group& group, os::File& probe, int slot, std::int64_t now_ns);
// What the member in a slot has written. Without the roster lock it may be half of it, and
// then it is nothing.
absl::StatusOr<MemberFile> ReadMember(const Group& group, int slot);
// The id of the member in a slot, for assignors and messages.
std::string MemberId(int slot);

class Roster {
 public:
  // `probe`: the file `members`, opened without a lock of its own.
  Roster(Group& group, os::File& probe) : group_(group), probe_(probe) {}
  Roster(const Roster&) = delete;
  Roster& operator=(const Roster&) = delete;
  ~Roster();

  // kUnavailable names who has the lock.
  absl::Status Take(std::int64_t wait_ns);
  // Now or not at all; also from a dead owner.
  bool TryTake();

  // ---- With the lock
  // Frees the slots and partitions of those who are gone, and wants a decision if it has.
  void Sweep(std::int64_t now_ns);
  // The members that have partitions or may come back for them, by slot.
  absl::StatusOr<std::vector<std::pair<int, MemberFile>>> Members() const;
  absl::Status WriteMember(int slot, const MemberFile& member);
  // Sweeps, stores who is to read what, and rings. With an error the decision is wanted
  // still: what somebody has keeps its target, what nobody has may be nobody's for now.
  absl::Status Decide(log::Directory& directory, const Assignor& assignor, std::int64_t now_ns);

 private:
  Group& group_;
  os::File& probe_;
  bool held_ = false;
};

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_ROSTER_H_
