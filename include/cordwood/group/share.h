// What a share group knows of one partition: which of its records are held, by whom and
// until when, how often each was delivered, and which are done with. One mapped file for
// each, shared by all processes: groups/<group>/share-<topic id, 32 hex digits>-<partition>
//
//   ShareTurn turn(*file);
//   CORDWOOD_RETURN_IF_ERROR(turn.Take(wait_ns));       // the file's lock
//   for (Offset o = turn.start(); o < turn.limit(log->end_offset()); ++o) ...
//   turn.Hold(o, {.deliveries = 1, .deadline_ns = ..., .member = ..., .key = 0});
//   turn.Set(o, ShareState::kAccepted, 1);
//   turn.Advance();                                     // moves `start`, and commits it
//
// All integers are little-endian; what is not named is zero.
//
//   position  bytes  header, 4,096 bytes
//          0      8  magic "CWSHARE1"
//          8      4  version, 1
//         12      4  number of slots, 2,048
//         16     16  topic id
//         32      4  partition
//         40      8  inode of this file
//         48      8  device of this file
//         56      8  XXH3-64 of bytes 0 to 55
//         64     16  boot id
//         80      4  state: 1 ready, 2 replaced
//         84      4  lock (os/shared_lock.h) of all that follows, and of the slots
//         88      8  start: every offset below is done with; -1: not begun
//         96      8  next start: above start, a move of it was begun
//        104      8  the dead-letter topic's end before letters were written, + 1; 0: none
//        112      8  changes, counted
//        120      8  changes that are on the disk
//        128      4  lock of who syncs this file
//        132      4  1 while it is synced
//        152      4  bell, counts what has become free
//        156      4  1: somebody sleeps on the bell
//   position  bytes  slot i, 32 bytes, at 4096 + 32 i
//          0      8  word: offset << 16 | state << 13 | deliveries
//          8      8  the lock's deadline, in nanoseconds of the monotonic clock
//         16      4  who holds it: the word of a lock that this process would hold
//         20      4  and which of its consumers
//         24      8  of its key: 0 not known, 1 it has none, else a hash
//
//   The file is valid if and only if the first 64 bytes hold, with its topic and partition;
//   and believed if also boot id, inode and device are right and it is not replaced. One
//   that is valid and not believed is copied to a new one, which takes its name; one that
//   is not valid is made anew.
//   The word of slot (offset mod 2,048) is about an offset if and only if it names it, and
//   its state is one of those below. Else the record was never delivered.
//   Why the whole offset is in the word: an old lap's word can never be taken for a newer
//   record's. And why all that decides is in one word: it is changed by one store, and a
//   sector has all of it or nothing. What a kill or a power cut leaves of a slot is a word
//   that once was right, so at worst a record is delivered again. A word may get to the
//   disk before the record that it is about; that is no harm, as offsets are never used
//   again (rule 23 of the protocol).
//
//   `start` is what the group has committed, so lag and descriptions are those of any
//   group. It is moved in three steps, of which each may be the last: next start; the
//   commit; start. Whoever has the lock next looks where it stopped:
//
//   case  committed        what it means                         what is done
//   @A    none, no start   the first one here                    begin, commit
//   @B    none             a power cut took the commit           commit start
//   @C    any, no start    the file is new, the group is not     start = committed
//   @D    = next start     killed after the commit               start = next start
//   @E    = start          agreed, or killed before the commit   commit next start
//   @F    other            somebody reset the group              start = committed,
//                                                                all words are forgotten
//
//   After a boot the file and the group's durable offsets may be of different times. A word
//   about offset w was written when start was above w - 2,048: so the largest of that, of
//   the header's start and of what is committed holds, and what a slot's next lap overwrote
//   was done with. A reset (Broker::ResetOffsets) removes the file before it commits, so no
//   file speaks of a time before one.
//
// Worked example. 7 was delivered a second time, to a process whose lock word is 10003, and
// slot 7 is, in hex, 02 40 07 00 00 00 00 00: offset 7, state 2, 2 deliveries; then its
// deadline, 03 00 01 00, the consumer, and the key. Released, it is 02 20 07 00 00 00 00 00.

#ifndef CORDWOOD_GROUP_SHARE_H_
#define CORDWOOD_GROUP_SHARE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/describe.h"
#include "cordwood/group/offsets.h"
#include "cordwood/log/context.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"

namespace cordwood::group {

inline constexpr std::uint32_t kShareVersion = 1;
inline constexpr Offset kShareSlots = 2048;  // so many records from `start` on are looked at
inline constexpr std::uint64_t kShareHeaderBytes = 4096;
inline constexpr int kDeliveriesMax = (1 << 13) - 1;

enum class ShareState : std::uint8_t {
  kNone = 0,       // never delivered
  kAvailable = 1,  // was delivered, or looked at, and can be taken
  kAcquired = 2,
  kAccepted = 3,
  kArchived = 4,  // done with otherwise: dead letter written, or the record is gone
  kRejected = 5,  // the dead letter is still to be written
  kWornOut = 6,   // the same: delivered as often as it may be
};
inline constexpr bool IsDone(ShareState state) {
  return state == ShareState::kAccepted || state == ShareState::kArchived;
}
inline constexpr bool IsDying(ShareState state) {
  return state == ShareState::kRejected || state == ShareState::kWornOut;
}

struct ShareWord {
  ShareState state = ShareState::kNone;
  int deliveries = 0;

  friend bool operator==(const ShareWord&, const ShareWord&) = default;
};
inline constexpr std::uint64_t PackShareWord(Offset offset, ShareWord word) {
  return static_cast<std::uint64_t>(offset) << 16 | static_cast<std::uint64_t>(word.state) << 13 |
         static_cast<std::uint64_t>(word.deliveries);
}
// What the word says of the offset. Any word will do.
ShareWord ReadShareWord(std::uint64_t word, Offset offset);

// Where a share group goes on that was not begun in this boot; -1: it was not begun.
// `newest`: the largest offset that a word is about, -1: none. `end`: the partition's.
Offset StartAfterBoot(std::optional<Offset> committed, Offset start, Offset newest, Offset end);

// The rows of the table above.
enum class StartCase { kFirst, kCommitAgain, kNew, kMoved, kAgreed, kReset };
StartCase CaseOfStart(std::optional<Offset> committed, Offset start, Offset next_start);

struct ShareHeader {
  static constexpr std::uint64_t kMagic = 0x3145524148535743;  // "CWSHARE1"
  static constexpr std::uint32_t kReady = 1;
  static constexpr std::uint32_t kReplaced = 2;

  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t slots;
  os::Bits128 topic_id;
  std::uint32_t partition;
  std::uint32_t reserved;
  std::uint64_t inode;
  std::uint64_t device;
  std::uint64_t checksum;

  os::Bits128 boot_id;
  std::atomic<std::uint32_t> state;
  os::SharedLock lock;
  std::atomic<std::int64_t> start;
  std::atomic<std::int64_t> next_start;
  std::atomic<std::int64_t> letters_from;
  // Counted after the word that it counts, so that a sync that has read it has that word.
  std::atomic<std::uint64_t> changes;
  std::atomic<std::uint64_t> synced;
  os::SharedLock sync_lock;
  std::atomic<std::uint32_t> syncing;
  std::uint8_t reserved_too[16];
  std::atomic<std::uint32_t> bell;
  std::atomic<std::uint32_t> sleepers;
};
static_assert(sizeof(ShareHeader) == 160);
static_assert(offsetof(ShareHeader, checksum) == 56);
static_assert(offsetof(ShareHeader, lock) == 84);
static_assert(offsetof(ShareHeader, changes) == 112);
static_assert(offsetof(ShareHeader, bell) == 152);

struct ShareSlot {
  std::atomic<std::uint64_t> word;
  std::atomic<std::int64_t> deadline_ns;
  std::atomic<std::uint32_t> holder;
  std::atomic<std::uint32_t> member;
  std::atomic<std::uint64_t> key;
};
static_assert(sizeof(ShareSlot) == 32);
inline constexpr std::size_t kShareBytes =
    kShareHeaderBytes + static_cast<std::size_t>(kShareSlots) * sizeof(ShareSlot);

// ShareSlot::key
inline constexpr std::uint64_t kKeyUnknown = 0;
inline constexpr std::uint64_t kNoKey = 1;
std::uint64_t ShareKeyOf(const RecordView& record);

// The share file of one partition, as this process has it open.
//
// Thread and process safety: every operation.
class ShareFile {
 public:
  struct Place {
    std::shared_ptr<const log::Context> context = {};
    std::shared_ptr<Group> group = {};
    TopicRef topic = {};
    int partition = 0;
    int entry = 0;  // of the group, for the commits
  };
  // Keeps the file mapped, also when another one has taken its place.
  struct Mapped {
    std::unique_ptr<os::Mapping> map;
    ShareHeader* header = nullptr;
    ShareSlot* slots = nullptr;
  };

  // `initial`: where a group begins that has committed nothing; `end`: the partition's.
  // kUnavailable: another process is making it, and does not get on for `wait_ns`.
  static absl::StatusOr<std::shared_ptr<ShareFile>> Open(Place place, Offset initial, Offset end,
                                                         std::int64_t wait_ns);

  // Makes what was acknowledged durable. After the records that were acknowledged are.
  // kUnavailable: another process is at it, or has the lock.
  absl::Status Sync();

  std::shared_ptr<Mapped> mapped() const;
  const Place& place() const { return place_; }

 private:
  friend class ShareTurn;

  ShareFile(Place place, Offset initial, Offset end);
  std::string Path() const { return folder_ + "/" + name_; }
  std::string NewPath() const { return folder_ + "/." + name_; }

  // Maps the file; false: there is none to believe.
  absl::StatusOr<bool> Map();
  absl::Status MapOrMake(std::int64_t wait_ns);
  absl::StatusOr<std::unique_ptr<Mapped>> MapValid(os::File& file) const;
  bool IsOfThisBoot(const ShareHeader& header, const os::FileInfo& info) const;
  absl::StatusOr<std::unique_ptr<os::File>> LockMaking(std::int64_t wait_ns) const;
  // Under LockMaking: a new file with the slots of the old one, then it takes the name.
  absl::Status Build(const Mapped* old, bool is_believed) const;
  absl::Status Publish() const;
  absl::Status Replace();

  const Place place_;
  const std::string folder_;  // relative to the root
  const std::string name_;
  const Offset initial_;
  const Offset end_;

  mutable absl::Mutex mutex_;
  std::shared_ptr<Mapped> mapped_ ABSL_GUARDED_BY(mutex_);
};

// A turn on a share file, under its lock. What it takes is never left half done: each
// function below may be cut off by a kill after any store.
//
// Thread safety: one thread. The ShareFile must outlive it.
class ShareTurn {
 public:
  struct Lease {
    int deliveries = 0;
    std::int64_t deadline_ns = 0;
    std::uint32_t member = 0;
    std::uint64_t key = kKeyUnknown;
  };

  explicit ShareTurn(ShareFile& file) : file_(file) {}
  ShareTurn(const ShareTurn&) = delete;
  ShareTurn& operator=(const ShareTurn&) = delete;
  ~ShareTurn();

  // kUnavailable names who has the lock; kFailedPrecondition: closed, or the group is gone.
  absl::Status Take(std::int64_t wait_ns);

  Offset start() const { return start_; }
  // Records below may be held. [start, limit) has at most kShareSlots.
  Offset limit(Offset end) const { return start_ > end - kShareSlots ? end : start_ + kShareSlots; }
  ShareWord Look(Offset offset) const {
    return ReadShareWord(slot(offset).word.load(std::memory_order_acquire), offset);
  }
  std::uint64_t key(Offset offset) const {
    return slot(offset).key.load(std::memory_order_relaxed);
  }
  std::int64_t deadline_ns(Offset offset) const {
    return slot(offset).deadline_ns.load(std::memory_order_relaxed);
  }
  // Of an acquired one: its lock time is not over, and its holder lives.
  bool IsHeld(Offset offset, std::int64_t now_ns);
  // Whether it is held as that consumer of this process got it.
  bool IsLease(Offset offset, int deliveries, std::uint32_t member) const;

  void Hold(Offset offset, const Lease& lease);
  void Set(Offset offset, ShareState state, int deliveries);
  // Keeps what it takes a look at the record to know. Before the word that is about it.
  void NoteKey(Offset offset, std::uint64_t key);
  void Renew(Offset offset, std::int64_t deadline_ns);
  // An acquired one becomes free; or, after so many deliveries, is worn out: then true.
  bool Release(Offset offset, int deliveries, int delivery_limit);
  // All that the consumer holds; member 0: all that this process does. True: some are worn out.
  bool ReleaseAll(std::uint32_t member, int delivery_limit);

  // Moves start over what is done with.
  absl::Status Advance();
  // The records [from, to) are gone: none of them that is not held keeps start back. Returns
  // how far that could be noted.
  absl::StatusOr<Offset> PassGap(Offset from, Offset to, Offset end, std::int64_t now_ns);

  // Where to look for dead letters that may have been written.
  std::optional<Offset> letters_from() const;
  void SetLettersFrom(std::optional<Offset> from);

  // Those who sleep look again once the turn is over.
  void Wake() { wake_ = true; }
  const std::shared_ptr<ShareFile::Mapped>& mapped() const { return mapped_; }

 private:
  ShareSlot& slot(Offset offset) const {
    return mapped_->slots[static_cast<std::size_t>(offset % kShareSlots)];
  }
  void Store(Offset offset, ShareWord word);
  absl::Status Reconcile();
  absl::Status MoveStart(Offset to);
  bool IsGone(std::uint32_t holder);

  ShareFile& file_;
  std::shared_ptr<ShareFile::Mapped> mapped_;  // set while the lock is held
  Offset start_ = 0;
  bool changed_ = false;
  bool wake_ = false;
  std::vector<std::pair<std::uint32_t, bool>> gone_;  // holders that were asked for
};

// Being one of those that share the records of a group, until it is destroyed or the process
// dies. kFailedPrecondition: the group has members of the other kind (group/membership.h), or
// was deleted.
absl::StatusOr<std::unique_ptr<os::LockKeeper>> JoinShare(const Group& group);
// What a share group knows of the records [from, end) of a partition; none: it has shared none.
// It takes no lock and stores nothing, so it may be asked read-only.
absl::StatusOr<std::optional<ShareProgress>> CountShared(const Group& group,
                                                         const os::Bits128& topic_id, int partition,
                                                         Offset from, Offset end);
// Removes what a share group knows of a partition, so that it begins anew where it has
// committed. While nobody is a member.
absl::Status ForgetShareFile(const Group& group, const os::Bits128& topic_id, int partition);

// The share files that an open directory has used.
//
// Thread and process safety: every operation.
class ShareStore {
 public:
  absl::StatusOr<std::shared_ptr<ShareFile>> Open(ShareFile::Place place, Offset initial,
                                                  Offset end, std::int64_t wait_ns);
  // In a flush pass, after the data. Goes on after an error and returns the first.
  absl::Status SyncAll();
  // Gives back what the consumers of this open still hold: before it is closed.
  void ReleaseAll();
  std::uint32_t NewMember() { return next_member_.fetch_add(1, std::memory_order_relaxed); }

 private:
  using Key = std::tuple<std::string, os::Bits128, int>;
  std::vector<std::shared_ptr<ShareFile>> All();

  std::atomic<std::uint32_t> next_member_{1};
  absl::Mutex mutex_;
  std::map<Key, std::shared_ptr<ShareFile>> files_ ABSL_GUARDED_BY(mutex_);
};

// By the last who closes a directory: what processes left that were killed is made durable.
absl::Status SyncShareFiles(const log::Context& context);

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_SHARE_H_
