// A lock in a page that processes share, and that outlives its owner: when the owner
// dies, by any signal at any instruction, the next one gets it and is told so.
//
//   31        30   29 ............ 16  15 ............ 0
//   unused  waiters  slot generation    owner slot + 1      0 = free
//
// A process has a slot: a byte of the file `locks` that it holds by an open-file-
// description lock, which the kernel drops when the process is gone. A waiter asks for
// that byte; only if it is free, or its generation has moved on, is the owner dead.
// No timer ever takes a lock away: a paused owner is not a dead one.
//
// Why not a robust pthread mutex: it names its owner by a thread id of one PID
// namespace; with two containers on one directory the death of a waiter handed out the
// lock of a living owner. It also costs twice as much.
//
// Thread and process safety: any. The page must stay mapped, and the LockOwners alive,
// while the lock is held.

#ifndef CORDWOOD_OS_SHARED_LOCK_H_
#define CORDWOOD_OS_SHARED_LOCK_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"

namespace cordwood::os {

// The owners of a directory's shared locks: the file `locks`, with a table of who holds
// which slot, and the slot of this process.
//
//   file `locks`, little-endian        position
//   u64 magic "CWLOCKS1"                      0
//   slot table, 32 bytes a slot              64     see Slot
//   byte-range locks: 0 open, 1 presence, 2 names (log/directory.h); kSlotByte + slot
class LockOwners {
 public:
  static constexpr int kSlots = 1024;  // processes, or opens, at a time
  static constexpr std::uint64_t kOpenByte = 0;
  static constexpr std::uint64_t kPresenceByte = 1;
  static constexpr std::uint64_t kSlotByte = 1 << 20;

  struct Slot {
    std::atomic<std::uint32_t> generation;  // counts its owners
    std::atomic<std::uint32_t> pid;         // for messages only: ids are reused
    std::atomic<std::int64_t> since_ns;
    std::atomic<std::uint64_t> command[2];
  };
  static_assert(sizeof(Slot) == 32);

  // Claims a slot of the file `locks` in `root`, which must be there.
  static absl::StatusOr<std::unique_ptr<LockOwners>> Claim(Folder& root, std::int64_t now_ns);

  // For who only asks about others: reads the file, and has no slot. kNotFound: there is none.
  static absl::StatusOr<std::unique_ptr<LockOwners>> Observe(Folder& root);

  // The word of a lock that this process holds.
  std::uint32_t me() const { return me_; }
  // Whether the owner named by a lock word is gone, or is none: the word of a damaged page would
  // else be held for ever. 0.5 us.
  bool IsDead(std::uint32_t word) const;
  // "process 4711 (gateway)", for messages.
  std::string Describe(std::uint32_t word) const;
  // Who holds any slot at all, for the message of an open that had to give up.
  std::string DescribeHolders() const;

 private:
  LockOwners() = default;

  std::unique_ptr<File> probe_;  // asks for the bytes of others; holds none itself
  std::unique_ptr<Mapping> table_;
  std::unique_ptr<LockKeeper> slot_lock_;
  Slot* slots_ = nullptr;
  std::uint32_t me_ = 0;
};

enum class LockResult {
  kAcquired,   // free before, or handed over by its owner
  kTakenOver,  // the owner is dead: repair what it may have left half done
  kTimedOut,   // the owner lives and keeps it
};

class SharedLock {
 public:
  static constexpr std::uint32_t kWaiters = 1U << 30;

  bool TryLock(const LockOwners& owners) {
    std::uint32_t free = 0;
    // Acquire: pairs with the release in Unlock(); seq_cst so that a Close() that has
    // set its flag and then finds the lock free knows that the next owner sees the flag.
    return word_.compare_exchange_strong(free, owners.me(), std::memory_order_seq_cst,
                                         std::memory_order_relaxed);
  }
  // deadline_ns is of the monotonic clock. What it has slept is added to slept_ns.
  LockResult Lock(const LockOwners& owners, std::int64_t deadline_ns,
                  std::int64_t* slept_ns = nullptr) {
    return TryLock(owners) ? LockResult::kAcquired : LockSlow(owners, deadline_ns, slept_ns);
  }
  // The exchange is a full fence: what the caller looks at afterwards (a doorbell's
  // attention flag) is no older than what the lock protected.
  void Unlock() {
    if (word_.exchange(0, std::memory_order_seq_cst) & kWaiters) WakeOne();
  }
  // Takes the lock from an owner that is dead; true if there was one.
  bool TakeOverFromDead(const LockOwners& owners);

  std::uint32_t word() const { return word_.load(std::memory_order_seq_cst); }
  bool IsHeldBy(const LockOwners& owners) const { return (word() & ~kWaiters) == owners.me(); }
  // Only where nobody else can be there: by the first opener of a directory.
  void Reset() { word_.store(0, std::memory_order_relaxed); }

 private:
  LockResult LockSlow(const LockOwners& owners, std::int64_t deadline_ns, std::int64_t* slept_ns);
  void WakeOne();

  std::atomic<std::uint32_t> word_;
};
static_assert(sizeof(SharedLock) == 4);

}  // namespace cordwood::os

#endif  // CORDWOOD_OS_SHARED_LOCK_H_
