#include "group/roster.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/status_macros.h"
#include "group/files.h"

namespace cordwood::group {
namespace {

// A checksum, the length of the text.
constexpr std::size_t kPrefixBytes = 12;
// Of a file member-N; a longer one is none of ours.
constexpr std::uint64_t kMemberFileBytesMax = std::uint64_t{64} << 20;

std::string FileOf(int slot) { return absl::StrCat("member-", slot); }

bool IsLocked(os::File& probe, int slot) {
  // An error says nothing about the member, so it counts as alive.
  return probe.IsLocked(os::LockKind::kExclusive, kFirstSlotByte + static_cast<std::uint64_t>(slot))
      .value_or(true);
}

bool IsOverdue(const MemberSlot& slot, std::int64_t now_ns) {
  const std::int64_t interval = slot.poll_interval_max_ns.load(std::memory_order_relaxed);
  const std::int64_t polled = slot.polled_ns.load(std::memory_order_relaxed);
  return interval > 0 && now_ns > os::SaturatingAdd(polled, interval);
}

// Rule 36: who was the owner cannot commit from here on.
void NextEpoch(LiveEntry& entry) {
  std::uint64_t word = entry.word.load(std::memory_order_acquire);
  while (!entry.word.compare_exchange_weak(
      word, PackCommit(static_cast<std::uint16_t>(EpochOf(word) + 1), UnpackCommit(word)),
      std::memory_order_acq_rel, std::memory_order_acquire)) {
  }
}

}  // namespace

std::string MemberId(int slot) { return absl::StrFormat("member-%04d", slot); }

//  state    its byte  and                       what it means           dealt with
//  free     -         -                         nobody                  no
//  joined   locked    polled in time            a member                no
//  joined   locked    overdue                   evict it                yes
//  joined   free      -                         dead                    yes
//  left     locked    -                         it is just leaving      no
//  left     free      -                         its slot is free        yes
//  evicted  locked    -                         it does not know yet    no
//  evicted  free      -                         its slot is free        yes
//  away     -         within its time           it may come back        no
//  away     -         its time is over          not any more            yes
bool IsGone(const Group& group, os::File& probe, int slot, std::int64_t now_ns) {
  const MemberSlot& member = group.slot(slot);
  switch (member.state.load(std::memory_order_acquire)) {
    case MemberState::kFree:
      return false;
    case MemberState::kJoined:
      return IsOverdue(member, now_ns) || !IsLocked(probe, slot);
    case MemberState::kLeft:
    case MemberState::kEvicted:
      return !IsLocked(probe, slot);
    case MemberState::kAway:
      return now_ns > member.away_until_ns.load(std::memory_order_relaxed);
  }
  return true;  // a state that there is not is nobody's either
}

bool IsMember(const Group& group, os::File& probe, int slot, std::int64_t now_ns) {
  const MemberState state = group.slot(slot).state.load(std::memory_order_acquire);
  // One that is overdue is one still, until somebody evicts it.
  return (state == MemberState::kJoined && IsLocked(probe, slot)) ||
         (state == MemberState::kJoined &&
          group.slot(slot).session_timeout_ns.load(std::memory_order_relaxed) > 0) ||
         (state == MemberState::kAway && !IsGone(group, probe, slot, now_ns));
}

Roster::~Roster() {
  if (held_) group_.live().roster_lock.Unlock();
}

absl::Status Roster::Take(std::int64_t wait_ns) {
  const os::LockOwners& owners = *group_.context().owners;
  os::SharedLock& lock = group_.live().roster_lock;
  if (lock.Lock(owners, os::MonotonicNanos() + wait_ns) == os::LockResult::kTimedOut) {
    return absl::UnavailableError(
        absl::StrCat("group ", group_.name(), ": the list of its members is with ",
                     owners.Describe(lock.word()), "; try again, or end that process"));
  }
  held_ = true;
  return absl::OkStatus();
}

bool Roster::TryTake() {
  const os::LockOwners& owners = *group_.context().owners;
  os::SharedLock& lock = group_.live().roster_lock;
  held_ = lock.TryLock(owners) || lock.TakeOverFromDead(owners);
  return held_;
}

// ---- Who is there

void Roster::Sweep(std::int64_t now_ns) {
  const int slots = group_.slots_used();
  // Who may own partitions, and who is to have some; all others' are free.
  std::array<bool, kMembersMax> owns{}, keeps{};
  std::vector<int> freed;
  // Before the first change: what is freed here has to be given to somebody.
  bool has_changed = false;
  const auto change = [&] {
    if (!std::exchange(has_changed, true)) {
      group_.live().wanted.fetch_add(1, std::memory_order_acq_rel);
    }
  };
  for (int i = 0; i < slots; ++i) {
    MemberSlot& slot = group_.slot(i);
    const auto at = static_cast<std::size_t>(i);
    MemberState state = slot.state.load(std::memory_order_acquire);
    if (!IsGone(group_, probe_, i, now_ns)) {
      owns[at] = state == MemberState::kJoined;
      keeps[at] = owns[at] || state == MemberState::kAway;
      continue;
    }
    change();
    const std::int64_t session = slot.session_timeout_ns.load(std::memory_order_relaxed);
    if (state == MemberState::kJoined && IsLocked(probe_, i)) {
      // It fails where the member has just left by itself. seq_cst: who takes a partition
      // looks at its state after that, we at the partition's owner after this (Take()).
      slot.state.compare_exchange_strong(state, MemberState::kEvicted, std::memory_order_seq_cst);
    } else if (state == MemberState::kJoined && session > 0) {
      slot.away_until_ns.store(os::SaturatingAdd(now_ns, session), std::memory_order_relaxed);
      slot.state.store(MemberState::kAway, std::memory_order_release);
      keeps[at] = true;
    } else {
      freed.push_back(i);
    }
  }
  const auto is = [](const std::array<bool, kMembersMax>& which, std::uint32_t ref) {
    const int slot = SlotOfRef(ref);
    return slot >= 0 && which[static_cast<std::size_t>(slot)];
  };
  const int entries = group_.entries();
  for (int i = 0; i < entries; ++i) {
    LiveEntry& entry = group_.entry(i);
    std::uint32_t owner = entry.owner.load(std::memory_order_seq_cst);
    if (owner != 0 && !is(owns, owner)) {
      change();
      // It fails where an evicted owner gives it up itself, and somebody may have it by now.
      if (entry.owner.compare_exchange_strong(owner, kBarred, std::memory_order_acq_rel)) {
        NextEpoch(entry);
        entry.owner.store(0, std::memory_order_release);
      }
    }
    const std::uint32_t target = entry.target.load(std::memory_order_relaxed);
    if (target != 0 && !is(keeps, target)) {
      change();
      entry.target.store(0, std::memory_order_relaxed);
    }
  }
  // Last: who dies before this leaves a slot that is swept again.
  for (const int i : freed) {
    group_.slot(i).state.store(MemberState::kFree, std::memory_order_release);
  }
  // Who was evicted has to find out.
  if (has_changed) os::Ring(group_.live().bell);
}

absl::StatusOr<MemberFile> ReadMember(const Group& group, int slot) {
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::unique_ptr<os::File> file,
      group.context().root->OpenFile(group.Path(FileOf(slot)), os::OpenMode::kRead));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  std::string bytes(std::min(info.size, kMemberFileBytesMax), '\0');
  CORDWOOD_ASSIGN_OR_RETURN(const std::size_t read, file->ReadAt(bytes.data(), bytes.size(), 0));
  bytes.resize(read);
  MemberFile member;
  std::uint64_t checksum;
  std::uint32_t text_bytes;
  if (bytes.size() < kPrefixBytes) return member;
  std::memcpy(&checksum, bytes.data(), sizeof checksum);
  std::memcpy(&text_bytes, bytes.data() + sizeof checksum, sizeof text_bytes);
  // It was killed while it wrote: it wants nothing.
  if (text_bytes > bytes.size() - kPrefixBytes ||
      checksum != os::Hash64(bytes.data() + sizeof checksum, sizeof text_bytes + text_bytes)) {
    return member;
  }
  std::vector<std::string> lines =
      absl::StrSplit(absl::string_view(bytes).substr(kPrefixBytes, text_bytes), '\n');
  if (lines.size() < 3) return member;
  lines.pop_back();  // what is after the last line feed
  member.assignor = std::move(lines[0]);
  member.instance_id = std::move(lines[1]);
  member.topics.assign(std::make_move_iterator(lines.begin() + 2),
                       std::make_move_iterator(lines.end()));
  return member;
}

absl::Status Roster::WriteMember(int slot, const MemberFile& member) {
  std::string bytes(kPrefixBytes, '\0');
  absl::StrAppend(&bytes, member.assignor, "\n", member.instance_id, "\n");
  for (const std::string& topic : member.topics) absl::StrAppend(&bytes, topic, "\n");
  const auto text_bytes = static_cast<std::uint32_t>(bytes.size() - kPrefixBytes);
  std::memcpy(bytes.data() + sizeof(std::uint64_t), &text_bytes, sizeof text_bytes);
  const std::uint64_t checksum =
      os::Hash64(bytes.data() + sizeof(std::uint64_t), bytes.size() - sizeof(std::uint64_t));
  std::memcpy(bytes.data(), &checksum, sizeof checksum);
  os::Folder& root = *group_.context().root;
  const std::string path = group_.Path(FileOf(slot));
  // By rename: who is killed here leaves what was there before.
  const std::string made = group_.Path(".member-new");
  if (absl::Status old = root.Unlink(made); !old.ok() && !absl::IsNotFound(old)) return old;
  {
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                              root.OpenFile(made, os::OpenMode::kCreate));
    CORDWOOD_RETURN_IF_ERROR(file->Allocate(bytes.size()));
    CORDWOOD_RETURN_IF_ERROR(file->WriteAt(bytes.data(), bytes.size(), 0));
  }
  return root.Rename(made, path);
}

absl::StatusOr<std::vector<std::pair<int, MemberFile>>> Roster::Members() const {
  std::vector<std::pair<int, MemberFile>> members;
  for (int i = 0; i < group_.slots_used(); ++i) {
    const MemberState state = group_.slot(i).state.load(std::memory_order_acquire);
    if (state != MemberState::kJoined && state != MemberState::kAway) continue;
    absl::StatusOr<MemberFile> member = ReadMember(group_, i);
    if (!member.ok()) return member.status();
    members.emplace_back(i, *std::move(member));
  }
  return members;
}

// ---- Who is to read what

absl::Status Roster::Decide(log::Directory& directory, const Assignor& assignor,
                            std::int64_t now_ns) {
  LiveHeader& live = group_.live();
  Sweep(now_ns);
  // What is wanted from here on is for the next decision.
  const std::uint32_t wanted = live.wanted.load(std::memory_order_acquire);
  CORDWOOD_ASSIGN_OR_RETURN(const auto files, Members());
  std::vector<AssignedMember> members;
  std::map<std::string, int> slot_of;
  std::map<int, std::size_t> member_in;
  std::set<std::string> names;
  for (const auto& [slot, file] : files) {
    member_in[slot] = members.size();
    members.push_back({.id = MemberId(slot),
                       .topics = file.topics,
                       .owned = {},
                       .instance_id = file.instance_id});
    slot_of[members.back().id] = slot;
    names.insert(file.topics.begin(), file.topics.end());
  }
  std::vector<AssignedTopic> topics;
  std::map<std::string, std::vector<int>> entries;
  std::vector<std::uint32_t> targets(static_cast<std::size_t>(group_.entries()), 0);
  absl::Status trouble;
  for (const std::string& name : names) {
    const absl::StatusOr<std::shared_ptr<log::TopicFiles>> topic = directory.OpenTopic(name);
    // Nobody can read what is deleted or damaged. Any other error is this process's own
    // trouble, for which nobody is to lose a partition.
    if (absl::IsNotFound(topic.status()) || absl::IsDataLoss(topic.status()) ||
        absl::IsInvalidArgument(topic.status())) {
      continue;
    }
    if (!topic.ok()) {
      trouble.Update(topic.status());
      CORDWOOD_ASSIGN_OR_RETURN(const std::vector<int> kept, group_.EntriesNamed(name));
      for (const int entry : kept) {
        if (static_cast<std::size_t>(entry) >= targets.size()) continue;
        targets[static_cast<std::size_t>(entry)] =
            group_.entry(entry).target.load(std::memory_order_relaxed);
      }
      continue;
    }
    const TopicRef ref{(*topic)->id(), name, (*topic)->partitions()};
    CORDWOOD_ASSIGN_OR_RETURN(entries[name], group_.Entries(ref, false));
    topics.push_back({.name = name, .partitions = ref.partitions});
    for (int p = 0; p < ref.partitions; ++p) {
      const int entry = entries[name][static_cast<std::size_t>(p)];
      if (entry == Group::kNoEntry) continue;
      // What it is to have, not what it has: what is on its way to it is not sent back.
      const auto member =
          member_in.find(SlotOfRef(group_.entry(entry).target.load(std::memory_order_relaxed)));
      if (member != member_in.end()) members[member->second].owned.push_back({name, p});
    }
  }
  const Assignment assignment = assignor.Assign(members, topics);
  if (absl::Status wrong = CheckAssignment(assignment, members, topics); !wrong.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the assignor ", Piece(assignor.name()), ": ", wrong.message()));
  }
  for (const auto& [id, partitions] : assignment) {
    for (const TopicPartition& where : partitions) {
      const int entry = entries[where.topic][static_cast<std::size_t>(where.partition)];
      if (entry != Group::kNoEntry && static_cast<std::size_t>(entry) < targets.size()) {
        targets[static_cast<std::size_t>(entry)] = RefOfSlot(slot_of[id]);
      }
    }
  }
  bool moves = false;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    std::atomic<std::uint32_t>& target = group_.entry(static_cast<int>(i)).target;
    if (target.load(std::memory_order_relaxed) != targets[i]) {
      target.store(targets[i], std::memory_order_relaxed);
      moves = true;
    }
  }
  if (moves) group_.context().counts().rebalances.Add();
  // Before it counts as decided: who is to take something must have been rung.
  os::Ring(live.bell);
  // Release: who finds it decided finds the targets, too.
  if (trouble.ok()) live.decided.store(wanted, std::memory_order_release);
  return trouble;
}

}  // namespace cordwood::group
