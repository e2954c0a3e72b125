// Being a member of a group: joining it, the partitions that it gives, leaving it.
//
//   std::shared_ptr<Member> member = Member::Join(group, directory, {.topics = {"orders"}}, a);
//   if (member->HasNews()) {                 // one load; nothing else in a settled group
//     member->Hear();
//     std::vector<int> entries = member->ToGiveUp();
//     ...                                    // on_revoked
//     member->GiveUp(entries);
//     std::vector<Owned> more = member->Take();
//     ...                                    // on_assigned
//   }
//
// What members share is in group/live.h. Who is to read what is decided by whoever notices
// that it has to be: the member that joins, leaves, or finds that another one is dead. A
// member is there as long as its byte of `members` is locked, which the kernel undoes when
// its process dies; each member asks now and then for the byte of the next one in the ring,
// and so a death is noticed without a heartbeat (rule 37).
//
// Deciding is done under the roster lock; handing over is not, and neither are a settled Poll
// and a commit. So a process that is stopped while it decides holds up other decisions, but
// nobody's reading.
//
// Thread safety: one thread at a time, but for NeedsPoll, Resign and bell.

#ifndef CORDWOOD_GROUP_MEMBERSHIP_H_
#define CORDWOOD_GROUP_MEMBERSHIP_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/group/assignor.h"
#include "cordwood/group/offsets.h"
#include "cordwood/os/storage.h"

namespace cordwood::log {
class Directory;
}  // namespace cordwood::log

namespace cordwood::group {

struct Subscription {
  std::vector<std::string> topics = {};
  std::string instance_id = {};           // of a static member
  std::int64_t session_timeout_ns = 0;    // how long a static member's partitions are kept
  std::int64_t poll_interval_max_ns = 0;  // 0: it may be as slow as it likes
};

// A partition that has become a member's own.
struct Owned {
  int entry = 0;
  std::uint16_t epoch = 0;  // its commits are of this one
};

class Member {
 public:
  // How often a member looks after the next one.
  static constexpr std::int64_t kLookNanos = 100'000'000;

  // The group's entries have the topics' partitions. kNotFound: a topic; kFailedPrecondition:
  // the group was deleted, its members use another assignor, or a member with the same
  // instance_id is there; kUnavailable: a stopped process holds a lock, the message says
  // which. The directory has to outlive it.
  static absl::StatusOr<std::shared_ptr<Member>> Join(std::shared_ptr<Group> group,
                                                      log::Directory& directory,
                                                      const Subscription& subscription,
                                                      std::shared_ptr<const Assignor> assignor,
                                                      Group::Wait wait = Group::Wait::kForTurn);
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  // Leaves if Leave() was not called.
  ~Member();

  // Takes the place of what was subscribed before, and decides anew. With an error it is as
  // it was.
  absl::Status Subscribe(const std::vector<std::string>& topics,
                         Group::Wait wait = Group::Wait::kForTurn);
  // Gives up what it has and leaves at once; waits for nobody. A static member's partitions
  // are kept for it.
  void Leave();
  // Is no member any more, though its thread may not know yet: others take what it has. For
  // a broker that is closed under its consumers. Any thread.
  void Resign();

  // ---- Handing over
  // Whether a target or an owner has changed since the last Hear().
  bool HasNews() const {
    // Acquire: pairs with the release of Ring(); what it tells of is there.
    return bell().load(std::memory_order_acquire) != heard_.load(std::memory_order_relaxed);
  }
  void Hear();
  // Who sleeps on this, too, hears of news.
  const std::atomic<std::uint32_t>& bell() const { return group_->live().bell; }
  std::uint32_t heard() const { return heard_.load(std::memory_order_relaxed); }
  // It was thrown out for want of a Poll, or has resigned, and others may have its partitions.
  bool IsEvicted() const;
  // The entries of its own that another member, or nobody, is to have, in order.
  std::vector<int> ToGiveUp() const;
  void GiveUp(const std::vector<int>& entries);
  // What it is to have and nobody owns any more.
  std::vector<Owned> Take();
  // The partitions that it owns.
  const std::map<int, std::uint16_t>& owned() const { return owned_; }

  // ---- Looking after the group
  // At most every kLookNanos: decides anew if that is wanted, or if the next member in the
  // ring is dead, overdue, or has been away for too long. Waits for no lock. Returns what came
  // of the last look that was made.
  absl::Status Look(std::int64_t now_ns);
  bool IsTimeToLook(std::int64_t now_ns) const { return now_ns >= next_look_ns_; }
  // Somebody should: a topic has come, gone or grown.
  void WantDecision();
  // That it polls, if it has a poll_interval_max_ns.
  void Polled(std::int64_t now_ns);
  // Whether a Poll would find something to do here. Any thread.
  bool NeedsPoll(std::int64_t now_ns) const;

  int number() const { return slot_; }

 private:
  Member(std::shared_ptr<Group> group, log::Directory& directory, Subscription subscription,
         std::shared_ptr<const Assignor> assignor);

  absl::Status Enter(std::unique_ptr<os::File> members, Group::Wait wait);
  bool IsDecisionWanted() const;
  void GiveUpSlot() ABSL_EXCLUSIVE_LOCKS_REQUIRED(slot_mutex_);
  // The next in the ring, and the one in slot `also`: the next one may be stopped, and look
  // after nobody itself.
  bool SomebodyIsGone(std::int64_t now_ns, int also) const;
  MemberSlot& slot() const { return group_->slot(slot_); }

  const std::shared_ptr<Group> group_;
  log::Directory& directory_;
  Subscription subscription_;
  const std::shared_ptr<const Assignor> assignor_;
  std::unique_ptr<os::File> probe_;  // asks for the bytes of others; holds none itself
  // Who resigns while the slot's byte is locked resigns itself, and nobody who came after.
  absl::Mutex slot_mutex_;
  std::unique_ptr<os::LockKeeper> lock_ ABSL_GUARDED_BY(slot_mutex_);
  int slot_ = -1;
  std::map<int, std::uint16_t> owned_;  // the epoch by entry
  std::atomic<std::uint32_t> heard_{0};
  std::int64_t next_look_ns_ = 0;
  absl::Status last_look_;
  int also_ = 0;  // whom it looks after besides, in turn
};

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_MEMBERSHIP_H_
