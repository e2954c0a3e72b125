// The live page of a group: what its members share in memory, in whichever processes they
// are. It holds what every commit changes, who the members are, and which partition is
// whose. It is believed in the boot it was made in; what has to last longer is in the
// durable image (group/offsets.h). It is never synced.
//
//   position  bytes  header
//          0      8  magic "CWLIVE_2"
//          8      4  version, 2
//         12      4  state: 1 ready, 2 replaced
//         16     16  boot id
//         32      8  inode of this file
//         40      8  device of this file
//         48      4  lock (os/shared_lock.h): adding entries, writing the other files
//         52      4  number of entries
//         56      4  1 while `offsets` is written and synced
//         60      4  1 if `metadata` was written and not synced
//         64      4  roster lock (os/shared_lock.h): who is a member, and the targets
//         68      4  bell: bumped and rung when a target or an owner has changed
//         72      4  wanted: how often somebody wanted the targets decided anew
//         76      4  decided: what `wanted` was when they were last decided
//         80      4  the number of the highest member slot ever used, plus 1
//         84      4  counts the files that had the name `offsets`
//       4096     64  member slot 0; 1,024 of them
//      69632     32  entry 0: one for each entry of `offsets`
//
//   position  bytes  member slot
//          0      4  state: 0 free, 1 joined, 2 left, 3 evicted, 4 away
//          4      4  process id, for messages: ids are reused
//          8      8  when it polled last, if it has a max_poll_interval
//         16      8  max_poll_interval; 0: none
//         24      8  until when its partitions are kept, if it is away
//         32      8  how long they are kept; 0: it is no static member
//         40      8  when it joined, since the Unix epoch
//
//   position  bytes  entry
//          0      8  owner epoch << 48 | committed offset + 1; the low 48 bits 0: nothing
//          8      8  what the durable image has, in the same form with epoch 0
//         16      4  owner: who reads the partition, its member slot plus 1; 0: nobody;
//                    2^32 - 1: it is being taken from an owner that is gone
//         20      4  target: who is to read it
//
// All integers are little-endian, all times nanoseconds; those without a word are of the
// monotonic clock. What is not named is zero.
//
// Who changes what: a member slot, the targets and `decided` whoever has the roster lock,
// but for its own state, which a member that leaves sets without it. An owner is set by a
// CAS from 0 by its target, and set to 0 by itself; or by who has the roster lock, when
// the owner is gone or evicted. The word is changed by CAS only, by a commit from the epoch
// that its owner got, and that epoch by who takes the partition from somebody or for itself:
// so who is not the owner any more cannot commit (rule 36).
//
// How a partition changes hands, without anybody waiting for a lock:
//
//   owner A, target B   decided. A reads on until its next Poll, which calls on_revoked;
//   owner 0, target B   given up by A, which rings. B's Poll takes it:
//   owner B, target B   and only then puts a new epoch into the word, then reads what is
//                       committed, then calls on_assigned.

#ifndef CORDWOOD_GROUP_LIVE_H_
#define CORDWOOD_GROUP_LIVE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"

namespace cordwood::group {

inline constexpr int kEntriesMax = 1 << 18;  // of a group
inline constexpr int kMembersMax = 1024;
inline constexpr Offset kCommitMax = (Offset{1} << 48) - 2;

struct LiveHeader {
  static constexpr std::uint64_t kMagic = 0x325f4556494c5743;  // "CWLIVE_2"
  static constexpr std::uint32_t kVersion = 2;
  static constexpr std::uint32_t kReady = 1;
  static constexpr std::uint32_t kReplaced = 2;

  std::uint64_t magic;
  std::uint32_t version;
  std::atomic<std::uint32_t> state;
  os::Bits128 boot_id;
  std::uint64_t inode;
  std::uint64_t device;
  os::SharedLock lock;
  // Stored (release) by the owner of `lock`, after the entry is in both files.
  std::atomic<std::uint32_t> entries;
  std::atomic<std::uint32_t> syncing;
  std::atomic<std::uint32_t> metadata_written;
  os::SharedLock roster_lock;
  std::atomic<std::uint32_t> bell;
  std::atomic<std::uint32_t> wanted;
  std::atomic<std::uint32_t> decided;
  std::atomic<std::uint32_t> slots_used;
  std::atomic<std::uint32_t> image;
  std::uint8_t reserved[40];
};
static_assert(sizeof(LiveHeader) == 128);
static_assert(offsetof(LiveHeader, lock) == 48);
static_assert(offsetof(LiveHeader, roster_lock) == 64);
static_assert(offsetof(LiveHeader, slots_used) == 80);

enum class MemberState : std::uint32_t {
  kFree = 0,
  kJoined = 1,
  kLeft = 2,     // by itself; its slot is freed once its byte is
  kEvicted = 3,  // for want of a Poll; its process may live, and has to find out
  kAway = 4,     // a static member that has gone and may come back
};

struct MemberSlot {
  std::atomic<MemberState> state;
  std::atomic<std::uint32_t> pid;
  std::atomic<std::int64_t> polled_ns;
  std::atomic<std::int64_t> poll_interval_max_ns;
  std::atomic<std::int64_t> away_until_ns;
  std::atomic<std::int64_t> session_timeout_ns;
  std::atomic<std::int64_t> since_ns;
  std::uint8_t reserved[16];
};
static_assert(sizeof(MemberSlot) == 64);
static_assert(offsetof(MemberSlot, since_ns) == 40);

struct LiveEntry {
  std::atomic<std::uint64_t> word;
  std::atomic<std::uint64_t> durable;  // stored by the owner of LiveHeader::lock
  std::atomic<std::uint32_t> owner;
  std::atomic<std::uint32_t> target;
  std::uint8_t reserved[8];
};
static_assert(sizeof(LiveEntry) == 32);
static_assert(offsetof(LiveEntry, target) == 20);

inline constexpr std::uint64_t kMembersAt = 4096;
inline constexpr std::uint64_t kLiveEntriesAt = kMembersAt + kMembersMax * sizeof(MemberSlot);
static_assert(kLiveEntriesAt == 69632);

// ---- The forms of a live word

inline constexpr int kEpochShift = 48;
inline constexpr std::uint64_t kOffsetMask = (std::uint64_t{1} << kEpochShift) - 1;

inline std::uint16_t EpochOf(std::uint64_t word) {
  return static_cast<std::uint16_t>(word >> kEpochShift);
}
inline std::uint64_t PackCommit(std::uint16_t epoch, std::optional<Offset> offset) {
  return std::uint64_t{epoch} << kEpochShift |
         (offset ? static_cast<std::uint64_t>(*offset + 1) : 0);
}
inline std::optional<Offset> UnpackCommit(std::uint64_t word) {
  if ((word & kOffsetMask) == 0) return std::nullopt;
  return static_cast<Offset>(word & kOffsetMask) - 1;
}

// A value of LiveEntry::owner or target, and the slot it means; -1: nobody.
inline std::uint32_t RefOfSlot(int slot) { return static_cast<std::uint32_t>(slot + 1); }
// An owner that is being replaced: nobody takes the partition before it has its new epoch.
inline constexpr std::uint32_t kBarred = ~std::uint32_t{0};
inline int SlotOfRef(std::uint32_t ref) {
  return ref > static_cast<std::uint32_t>(kMembersMax) ? -1 : static_cast<int>(ref) - 1;
}

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_LIVE_H_
