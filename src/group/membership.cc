#include "cordwood/group/membership.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/log/directory.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/status_macros.h"
#include "group/files.h"
#include "group/roster.h"

namespace cordwood::group {
namespace {

// Longer than any decision takes; a process that keeps the lock longer is named.
std::int64_t NanosOf(Group::Wait wait) {
  return wait == Group::Wait::kForTurn ? 30'000'000'000 : 10'000'000;
}

std::int64_t Now() { return os::ReadClock(CLOCK_MONOTONIC_COARSE); }

absl::Status AddTopics(Group& group, log::Directory& directory,
                       const std::vector<std::string>& topics, Group::Wait wait) {
  for (const std::string& name : topics) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::TopicFiles> topic,
                              directory.OpenTopic(name));
    CORDWOOD_RETURN_IF_ERROR(
        group.Entries({topic->id(), topic->name(), topic->partitions()}, true, wait).status());
  }
  return absl::OkStatus();
}

}  // namespace

Member::Member(std::shared_ptr<Group> group, log::Directory& directory, Subscription subscription,
               std::shared_ptr<const Assignor> assignor)
    : group_(std::move(group)),
      directory_(directory),
      subscription_(std::move(subscription)),
      assignor_(std::move(assignor)) {}

Member::~Member() { Leave(); }

// ---- Joining and leaving

absl::StatusOr<std::shared_ptr<Member>> Member::Join(std::shared_ptr<Group> group,
                                                     log::Directory& directory,
                                                     const Subscription& subscription,
                                                     std::shared_ptr<const Assignor> assignor,
                                                     Group::Wait wait) {
  CORDWOOD_RETURN_IF_ERROR(group->context().CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(AddTopics(*group, directory, subscription.topics, wait));
  auto member = std::shared_ptr<Member>(
      new Member(std::move(group), directory, subscription, std::move(assignor)));
  Group& g = *member->group_;
  os::Folder& root = *g.context().root;
  CORDWOOD_ASSIGN_OR_RETURN(member->probe_,
                            root.OpenFile(g.Path("members"), os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> members,
                            root.OpenFile(g.Path("members"), os::OpenMode::kReadWrite));
  CORDWOOD_RETURN_IF_ERROR(g.LockPresence(*members, wait));
  CORDWOOD_RETURN_IF_ERROR(member->Enter(std::move(members), wait));
  g.Register(member);
  return member;
}

absl::Status Member::Enter(std::unique_ptr<os::File> members, Group::Wait wait) {
  absl::MutexLock own_slot(&slot_mutex_);
  Roster roster(*group_, *probe_);
  CORDWOOD_RETURN_IF_ERROR(roster.Take(NanosOf(wait)));
  const std::int64_t now = Now();
  roster.Sweep(now);
  CORDWOOD_ASSIGN_OR_RETURN(const auto others, roster.Members());
  int wanted = -1;
  for (const auto& [number, other] : others) {
    if (!other.assignor.empty() && other.assignor != assignor_->name()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "group ", group_->name(), " has members with the assignor ", other.assignor,
          ", and this one has ", Piece(assignor_->name()), "; they have to be the same"));
    }
    if (subscription_.instance_id.empty() || other.instance_id != subscription_.instance_id) {
      continue;
    }
    if (group_->slot(number).state.load(std::memory_order_acquire) != MemberState::kAway) {
      return absl::FailedPreconditionError(absl::StrCat(
          "group ", group_->name(), " has a member with group_instance_id ",
          subscription_.instance_id, ", in process ",
          group_->slot(number).pid.load(std::memory_order_relaxed), "; close that one first"));
    }
    wanted = number;
  }
  const auto lock = [&](int number) -> absl::Status {
    slot_mutex_.AssertHeld();
    CORDWOOD_ASSIGN_OR_RETURN(
        const bool locked, members->TryLock(os::LockKind::kExclusive,
                                            kFirstSlotByte + static_cast<std::uint64_t>(number)));
    if (!locked) return absl::OkStatus();  // one that has just left may still have its byte
    CORDWOOD_ASSIGN_OR_RETURN(lock_, members->KeepLocks());
    // At once: a child forked meanwhile would keep the descriptor, and the locks (rule 2).
    members.reset();
    slot_ = number;
    return absl::OkStatus();
  };
  if (wanted >= 0) {
    CORDWOOD_RETURN_IF_ERROR(lock(wanted));
    if (lock_ == nullptr) {
      return absl::UnavailableError(absl::StrCat("group ", group_->name(), ": the member ",
                                                 subscription_.instance_id,
                                                 " is just leaving; subscribe again"));
    }
  }
  for (int i = 0; i < kMembersMax && lock_ == nullptr; ++i) {
    if (group_->slot(i).state.load(std::memory_order_acquire) == MemberState::kFree) {
      CORDWOOD_RETURN_IF_ERROR(lock(i));
    }
  }
  if (lock_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("group ", group_->name(), " has ", kMembersMax,
                                                     " members, which is the most"));
  }
  const MemberFile file{std::string(assignor_->name()), subscription_.instance_id,
                        subscription_.topics};
  MemberSlot& own = slot();
  const MemberState before = own.state.load(std::memory_order_relaxed);
  absl::Status status = roster.WriteMember(slot_, file);
  if (status.ok()) {
    const bool is_static = !subscription_.instance_id.empty();
    own.pid.store(static_cast<std::uint32_t>(getpid()), std::memory_order_relaxed);
    own.polled_ns.store(now, std::memory_order_relaxed);
    own.poll_interval_max_ns.store(subscription_.poll_interval_max_ns, std::memory_order_relaxed);
    own.session_timeout_ns.store(is_static ? subscription_.session_timeout_ns : 0,
                                 std::memory_order_relaxed);
    own.since_ns.store(group_->context().clock.Now(), std::memory_order_relaxed);
    std::atomic<std::uint32_t>& used = group_->live().slots_used;
    used.store(
        std::max(used.load(std::memory_order_relaxed), static_cast<std::uint32_t>(slot_) + 1),
        std::memory_order_release);
    // From here on it is a member, and swept if this process dies.
    own.state.store(MemberState::kJoined, std::memory_order_release);
    // After that: a ShareConsumer that joins looks for members when it has its lock.
    const bool is_shared = probe_->IsLocked(os::LockKind::kExclusive, kShareByte).value_or(false);
    if (is_shared) {
      status = absl::FailedPreconditionError(absl::StrCat(
          "group ", group_->name(), " has a ShareConsumer; close it, or use another group"));
    } else {
      group_->live().wanted.fetch_add(1, std::memory_order_acq_rel);
      status = roster.Decide(directory_, *assignor_, now);
    }
  }
  if (!status.ok()) {
    own.state.store(before == MemberState::kAway ? before : MemberState::kFree,
                    std::memory_order_release);
    lock_.reset();
  }
  return status;
}

absl::Status Member::Subscribe(const std::vector<std::string>& topics, Group::Wait wait) {
  CORDWOOD_RETURN_IF_ERROR(AddTopics(*group_, directory_, topics, wait));
  Roster roster(*group_, *probe_);
  CORDWOOD_RETURN_IF_ERROR(roster.Take(NanosOf(wait)));
  MemberFile file{std::string(assignor_->name()), subscription_.instance_id, topics};
  CORDWOOD_RETURN_IF_ERROR(roster.WriteMember(slot_, file));
  group_->live().wanted.fetch_add(1, std::memory_order_acq_rel);
  absl::Status status = roster.Decide(directory_, *assignor_, Now());
  if (status.ok()) {
    subscription_.topics = topics;
  } else {
    file.topics = subscription_.topics;
    status.Update(roster.WriteMember(slot_, file));
  }
  return status;
}

void Member::Leave() {
  {
    absl::MutexLock lock(&slot_mutex_);
    if (lock_ == nullptr) return;
  }
  for (const auto& [entry, epoch] : owned_) {
    std::uint32_t self = RefOfSlot(slot_);
    group_->entry(entry).owner.compare_exchange_strong(self, 0, std::memory_order_acq_rel);
  }
  owned_.clear();
  // Who waits for one of these: should this process die below, nobody else would ring.
  os::Ring(group_->live().bell);
  Resign();
  {
    // Rule 37: it waits for nobody. Who has the lock, or hears the bell, sees what is wanted.
    Roster roster(*group_, *probe_);
    if (group_->context().live->is_open() && roster.TryTake()) {
      roster.Decide(directory_, *assignor_, Now()).IgnoreError();
    }
  }
  absl::MutexLock lock(&slot_mutex_);
  lock_.reset();
}

void Member::Resign() {
  absl::MutexLock lock(&slot_mutex_);
  if (lock_ != nullptr) GiveUpSlot();
}

void Member::GiveUpSlot() {
  const bool is_static = !subscription_.instance_id.empty();
  if (is_static) {
    slot().away_until_ns.store(os::SaturatingAdd(Now(), subscription_.session_timeout_ns),
                               std::memory_order_relaxed);
  }
  // It fails where it was evicted, or has resigned: then there is nothing to be kept for it.
  MemberState joined = MemberState::kJoined;
  if (!slot().state.compare_exchange_strong(
          joined, is_static ? MemberState::kAway : MemberState::kLeft, std::memory_order_seq_cst) &&
      joined == MemberState::kEvicted) {
    slot().state.compare_exchange_strong(joined, MemberState::kLeft, std::memory_order_seq_cst);
  }
  group_->live().wanted.fetch_add(1, std::memory_order_acq_rel);
  os::Ring(group_->live().bell);
}

// ---- Handing over

void Member::Hear() {
  heard_.store(bell().load(std::memory_order_acquire), std::memory_order_relaxed);
  // Not where the last one failed: that rings, too.
  if (IsDecisionWanted() && last_look_.ok()) next_look_ns_ = 0;
}

bool Member::IsDecisionWanted() const {
  const LiveHeader& live = group_->live();
  return live.wanted.load(std::memory_order_acquire) !=
         live.decided.load(std::memory_order_acquire);
}

bool Member::IsEvicted() const {
  return slot().state.load(std::memory_order_seq_cst) != MemberState::kJoined;
}

std::vector<int> Member::ToGiveUp() const {
  std::vector<int> entries;
  for (const auto& [entry, epoch] : owned_) {
    if (group_->entry(entry).target.load(std::memory_order_relaxed) != RefOfSlot(slot_)) {
      entries.push_back(entry);
    }
  }
  return entries;
}

void Member::GiveUp(const std::vector<int>& entries) {
  if (entries.empty()) return;
  for (const int entry : entries) {
    std::uint32_t self = RefOfSlot(slot_);
    owned_.erase(entry);
    // Release: pairs with the acquire in Take(); what was committed comes first. It fails
    // where this member has been evicted.
    group_->entry(entry).owner.compare_exchange_strong(self, 0, std::memory_order_acq_rel);
  }
  os::Ring(group_->live().bell);
}

std::vector<Owned> Member::Take() {
  std::vector<Owned> taken;
  const std::uint32_t self = RefOfSlot(slot_);
  const int entries = group_->entries();
  for (int i = 0; i < entries; ++i) {
    LiveEntry& entry = group_->entry(i);
    std::uint32_t nobody = 0;
    if (entry.target.load(std::memory_order_relaxed) != self ||
        entry.owner.load(std::memory_order_relaxed) != 0 ||
        !entry.owner.compare_exchange_strong(nobody, self, std::memory_order_seq_cst)) {
      continue;
    }
    // It may have been stopped before the CAS, and be no member any more. seq_cst: who evicts
    // looks at the owner after it has stored the state, we the other way round.
    if (IsEvicted()) {
      std::uint32_t own = self;
      entry.owner.compare_exchange_strong(own, 0, std::memory_order_acq_rel);
      os::Ring(group_->live().bell);
      break;
    }
    // Rule 36: before it is told, so before what is committed is read. From a word that was
    // there while it was the owner: who takes the partition from it changes the owner first.
    std::uint64_t word = entry.word.load(std::memory_order_acquire);
    while (entry.owner.load(std::memory_order_acquire) == self) {
      const auto epoch = static_cast<std::uint16_t>(EpochOf(word) + 1);
      if (!entry.word.compare_exchange_weak(word, PackCommit(epoch, UnpackCommit(word)),
                                            std::memory_order_acq_rel, std::memory_order_acquire)) {
        continue;
      }
      owned_[i] = epoch;
      taken.push_back({i, epoch});
      break;
    }
  }
  return taken;
}

// ---- Looking after the group

void Member::WantDecision() {
  group_->live().wanted.fetch_add(1, std::memory_order_acq_rel);
  next_look_ns_ = 0;
}

void Member::Polled(std::int64_t now_ns) {
  slot().polled_ns.store(now_ns, std::memory_order_relaxed);
}

bool Member::SomebodyIsGone(std::int64_t now_ns, int also) const {
  if (IsDecisionWanted()) return true;
  const int slots = group_->slots_used();
  for (int i = 1; i < slots; ++i) {
    const int next = (slot_ + i) % slots;
    if (IsGone(*group_, *probe_, next, now_ns)) return true;
    const MemberState state = group_->slot(next).state.load(std::memory_order_relaxed);
    if (state == MemberState::kJoined || state == MemberState::kAway) break;
  }
  return also < slots && also != slot_ && IsGone(*group_, *probe_, also, now_ns);
}

absl::Status Member::Look(std::int64_t now_ns) {
  if (now_ns < next_look_ns_) return last_look_;
  next_look_ns_ = now_ns + kLookNanos;
  also_ = also_ + 1 < group_->slots_used() ? also_ + 1 : 0;
  if (!SomebodyIsGone(now_ns, also_)) return last_look_ = absl::OkStatus();
  Roster roster(*group_, *probe_);
  // Else somebody is at it, or stopped; in a moment once more.
  if (roster.TryTake()) last_look_ = roster.Decide(directory_, *assignor_, now_ns);
  return last_look_;
}

bool Member::NeedsPoll(std::int64_t now_ns) const {
  const std::int64_t interval = subscription_.poll_interval_max_ns;
  const bool is_nearly_overdue =
      interval > 0 && now_ns - slot().polled_ns.load(std::memory_order_relaxed) > interval / 2;
  return is_nearly_overdue || HasNews() || SomebodyIsGone(now_ns, kMembersMax);
}

}  // namespace cordwood::group
