#include "cordwood/os/shared_lock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/status_macros.h"

namespace cordwood::os {
namespace {

constexpr std::uint64_t kMagic = 0x31534b434f4c5743;  // "CWLOCKS1"
constexpr std::size_t kTableAt = 64;
constexpr std::size_t kFileBytes = 64 << 10;
static_assert(kTableAt + LockOwners::kSlots * sizeof(LockOwners::Slot) <= kFileBytes);

constexpr std::uint32_t kGenerationMask = (1U << 14) - 1;
constexpr std::int64_t kSpinNanos = 2'000;
constexpr std::int64_t kSleepNanos = 10'000'000;

std::uint32_t SlotOf(std::uint32_t word) { return (word & 0xffff) - 1; }
std::uint32_t GenerationOf(std::uint32_t word) { return (word >> 16) & kGenerationMask; }

std::uint32_t MakeWord(int slot, std::uint32_t generation) {
  return static_cast<std::uint32_t>(slot + 1) | ((generation & kGenerationMask) << 16);
}

void ReadCommand(char (&name)[16]) {
  memset(name, 0, sizeof name);
  FILE* file = fopen("/proc/self/comm", "re");
  if (file == nullptr) return;
  if (fgets(name, sizeof name, file) != nullptr) name[strcspn(name, "\n")] = 0;
  fclose(file);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LockOwners>> LockOwners::Claim(Folder& root, std::int64_t now_ns) {
  auto owners = std::unique_ptr<LockOwners>(new LockOwners());
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                            root.OpenFile("locks", OpenMode::kReadWrite));
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(kFileBytes));
  // The table is mapped from another open than the one that holds the slot: a child that
  // is forked inherits this map, and must not keep the lock with it.
  CORDWOOD_ASSIGN_OR_RETURN(owners->probe_, root.OpenFile("locks", OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const FileInfo held, file->Info());
  CORDWOOD_ASSIGN_OR_RETURN(const FileInfo probed, owners->probe_->Info());
  if (held.inode != probed.inode || held.device != probed.device) {
    // Which may be shorter than the table, too: a store past its end is a SIGBUS.
    return absl::UnavailableError(
        absl::StrCat(root.path(), "/locks: another file has taken its name; open again"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(owners->table_, owners->probe_->Map(kFileBytes, Access::kReadWrite));
  std::byte* data = owners->table_->data();
  reinterpret_cast<std::atomic<std::uint64_t>*>(data)->store(kMagic, std::memory_order_relaxed);
  owners->slots_ = reinterpret_cast<Slot*>(data + kTableAt);

  for (int slot = 0; slot < kSlots; ++slot) {
    CORDWOOD_ASSIGN_OR_RETURN(const bool locked,
                              file->TryLock(LockKind::kExclusive, kSlotByte + std::uint64_t(slot)));
    if (!locked) continue;
    Slot& entry = owners->slots_[slot];
    // Before anyone can see a lock word with it: an old owner's word is another one.
    const std::uint32_t generation = entry.generation.fetch_add(1, std::memory_order_seq_cst) + 1;
    entry.pid.store(static_cast<std::uint32_t>(getpid()), std::memory_order_relaxed);
    entry.since_ns.store(now_ns, std::memory_order_relaxed);
    char name[16];
    ReadCommand(name);
    for (int i = 0; i < 2; ++i) {
      std::uint64_t part;
      memcpy(&part, name + 8 * i, 8);
      entry.command[i].store(part, std::memory_order_relaxed);
    }
    owners->me_ = MakeWord(slot, generation);
    CORDWOOD_ASSIGN_OR_RETURN(owners->slot_lock_, file->KeepLocks());
    return owners;
  }
  return absl::ResourceExhaustedError(absl::StrCat(root.path(), "/locks: all ", kSlots,
                                                   " slots are taken: close one of the opens"));
}

absl::StatusOr<std::unique_ptr<LockOwners>> LockOwners::Observe(Folder& root) {
  auto owners = std::unique_ptr<LockOwners>(new LockOwners());
  CORDWOOD_ASSIGN_OR_RETURN(owners->probe_, root.OpenFile("locks", OpenMode::kRead));
  CORDWOOD_ASSIGN_OR_RETURN(const FileInfo info, owners->probe_->Info());
  if (info.size < kFileBytes) {
    return absl::DataLossError(absl::StrCat(root.path(), "/locks: shorter than its table"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(owners->table_, owners->probe_->Map(kFileBytes, Access::kRead));
  owners->slots_ = reinterpret_cast<Slot*>(owners->table_->data() + kTableAt);
  return owners;
}

bool LockOwners::IsDead(std::uint32_t word) const {
  const std::uint32_t slot = SlotOf(word);
  if (slot >= kSlots) return true;  // no owner ever wrote that
  const std::uint32_t now = slots_[slot].generation.load(std::memory_order_seq_cst);
  if ((now & kGenerationMask) != GenerationOf(word)) return true;
  // An error says nothing about the owner, so it counts as alive.
  return !probe_->IsLocked(LockKind::kExclusive, kSlotByte + slot).value_or(true);
}

std::string LockOwners::Describe(std::uint32_t word) const {
  const std::uint32_t slot = SlotOf(word);
  if ((word & 0xffff) == 0 || slot >= kSlots) return "an unknown process";
  char name[17] = {};
  for (int i = 0; i < 2; ++i) {
    const std::uint64_t part = slots_[slot].command[i].load(std::memory_order_relaxed);
    memcpy(name + 8 * i, &part, 8);
  }
  std::replace_if(
      name, name + strlen(name), [](char c) { return c < ' ' || c > '~'; }, '?');
  return absl::StrCat("process ", slots_[slot].pid.load(std::memory_order_relaxed), " (", name,
                      ")");
}

std::string LockOwners::DescribeHolders() const {
  std::string list;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    if (slot == SlotOf(me_)) continue;
    if (slots_[slot].generation.load(std::memory_order_relaxed) == 0) continue;
    if (!probe_->IsLocked(LockKind::kExclusive, kSlotByte + slot).value_or(false)) continue;
    absl::StrAppend(&list, list.empty() ? "" : ", ", Describe(slot + 1));
  }
  return list.empty() ? "an unknown process" : list;
}

bool SharedLock::TakeOverFromDead(const LockOwners& owners) {
  std::uint32_t word = word_.load(std::memory_order_seq_cst);
  if ((word & ~kWaiters) == 0 || !owners.IsDead(word)) return false;
  return word_.compare_exchange_strong(word, owners.me() | (word & kWaiters),
                                       std::memory_order_seq_cst);
}

LockResult SharedLock::LockSlow(const LockOwners& owners, std::int64_t deadline_ns,
                                std::int64_t* slept_ns) {
  const std::int64_t spin_until = MonotonicNanos() + kSpinNanos;
  std::uint32_t waiters = 0;  // set once we have slept: others may sleep still
  for (;;) {
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    if ((word & ~kWaiters) == 0) {
      if (word_.compare_exchange_weak(word, owners.me() | waiters | (word & kWaiters),
                                      std::memory_order_seq_cst)) {
        return LockResult::kAcquired;
      }
      continue;
    }
    const std::int64_t now = MonotonicNanos();
    if (now < spin_until) continue;
    if (TakeOverFromDead(owners)) return LockResult::kTakenOver;
    if (now >= deadline_ns) return LockResult::kTimedOut;
    if ((word & kWaiters) == 0 &&
        !word_.compare_exchange_strong(word, word | kWaiters, std::memory_order_seq_cst)) {
      continue;
    }
    waiters = kWaiters;
    FutexWait(&word_, word | kWaiters, std::min(kSleepNanos, deadline_ns - now));
    if (slept_ns != nullptr) *slept_ns += MonotonicNanos() - now;
  }
}

void SharedLock::WakeOne() { FutexWake(&word_, 1); }

}  // namespace cordwood::os
