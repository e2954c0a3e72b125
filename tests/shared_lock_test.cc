// The shared lock within one process: several opens, several threads. What needs a process that
// dies or is stopped is in tests/process/shared_lock_process_test.cc.

#include "cordwood/os/shared_lock.h"

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/storage.h"
#include "tests/catch.h"
#include "tests/support/lock_file.h"

namespace cordwood::os::shared_lock_test {
namespace {

using testing::In;
using testing::kForever;
using testing::kMillisecond;
using testing::LockFile;

bool Has(std::string_view text, std::string_view words) {
  return text.find(words) != std::string_view::npos;
}

}  // namespace

// ---- Owners -----------------------------------------------------------------------------------

TEST_CASE("Lock owners: two opens have two words, and both are alive") {
  LockFile locks;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  CHECK(a->me() != b->me());
  CHECK((a->me() & 0xffff) != (b->me() & 0xffff));
  CHECK((a->me() & SharedLock::kWaiters) == 0);
  for (const LockOwners* asks : {a.get(), b.get()}) {
    CHECK_FALSE(asks->IsDead(a->me()));
    CHECK_FALSE(asks->IsDead(b->me()));
    CHECK_FALSE(asks->IsDead(a->me() | SharedLock::kWaiters));
  }
}

TEST_CASE("Lock owners: an open that ended is dead, and stays so when its slot is claimed again") {
  LockFile locks;
  const auto a = locks.Claim();
  auto b = locks.Claim();
  const std::uint32_t old = b->me();
  b.reset();
  CHECK(a->IsDead(old));
  CHECK(a->IsDead(old | SharedLock::kWaiters));
  b = locks.Claim();
  CHECK((b->me() & 0xffff) == (old & 0xffff));
  CHECK(b->me() != old);
  CHECK(a->IsDead(old));
  CHECK(b->IsDead(old));
  CHECK_FALSE(a->IsDead(b->me()));
}

TEST_CASE("Lock owners: a word that names no slot is of nobody, and none leads out of the table") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  LockFile locks;
  const auto owners = locks.Claim();
  CHECK(owners->IsDead(0));
  CHECK(owners->IsDead(SharedLock::kWaiters));
  CHECK(owners->IsDead(0xffff));
  CHECK(owners->IsDead(LockOwners::kSlots + 1));
  CHECK(owners->Describe(0) == "an unknown process");
  CHECK(owners->Describe(0xffff) == "an unknown process");
  for (int i = 0; i < 10'000; ++i) {
    const std::uint32_t word = static_cast<std::uint32_t>(random());
    if (owners->Describe(word).size() > 60) FAIL(word);
    if (!owners->IsDead(word) && (word & 0xffff) > LockOwners::kSlots) FAIL(word);
  }
}

TEST_CASE("Lock owners: a description has the process's number and name") {
  LockFile locks;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  std::string name;
  std::getline(std::ifstream("/proc/self/comm"), name);
  const std::string expected = "process " + std::to_string(getpid()) + " (" + name + ")";
  CHECK(a->Describe(b->me()) == expected);
  CHECK(a->DescribeHolders() == expected);  // all but itself
}

TEST_CASE("Lock owners: a name in the table that was made to deceive a terminal is made plain") {
  LockFile locks;
  const auto owners = locks.Claim();
  const std::uint32_t slot = (owners->me() & 0xffff) - 1;
  const std::string name = "\x1b[2J\n\xff 789abcdef";
  REQUIRE(locks.file().WriteAt(name.data(), name.size(), 64 + 32 * slot + 16).ok());
  CHECK(Has(owners->Describe(owners->me()), "(?[2J?? 789abcdef"));
}

TEST_CASE("Lock owners: when all slots are taken the next is told so") {
  LockFile locks;
  for (int slot = 0; slot < LockOwners::kSlots; ++slot) {
    REQUIRE(
        locks.file()
            .TryLock(LockKind::kExclusive, LockOwners::kSlotByte + static_cast<std::uint64_t>(slot))
            .value());
  }
  const absl::Status status = locks.TryClaim().status();
  CHECK(absl::IsResourceExhausted(status));
  CHECK(Has(std::string(status.message()), "/locks: all 1024 slots"));
}

TEST_CASE("Lock owners: without the file there is nothing to claim") {
  const testing::TempDir dir;
  const auto folder = Storage::OperatingSystem()->OpenFolder(dir.path(), {}).value();
  CHECK(absl::IsNotFound(LockOwners::Claim(*folder, 0).status()));
}

// ---- The lock ---------------------------------------------------------------------------------

TEST_CASE("Shared lock: a free one is had at once, and again after it was given back") {
  LockFile locks;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  SharedLock lock{};
  CHECK(lock.Lock(*a, 0) == LockResult::kAcquired);
  CHECK(lock.IsHeldBy(*a));
  CHECK_FALSE(lock.IsHeldBy(*b));
  CHECK_FALSE(lock.TryLock(*b));
  CHECK_FALSE(lock.TakeOverFromDead(*b));
  lock.Unlock();
  CHECK(lock.word() == 0);
  CHECK_FALSE(lock.TakeOverFromDead(*b));  // free is not dead
  CHECK(lock.TryLock(*b));
  CHECK(lock.IsHeldBy(*b));
}

TEST_CASE("Shared lock: a wait ends at its deadline, and the word names the holder") {
  LockFile locks;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  SharedLock lock{};
  REQUIRE(lock.TryLock(*a));
  const std::int64_t before = MonotonicNanos();
  CHECK(lock.Lock(*b, before - 1) == LockResult::kTimedOut);
  CHECK(lock.Lock(*b, before + 30 * kMillisecond) == LockResult::kTimedOut);
  CHECK(MonotonicNanos() - before >= 30 * kMillisecond);
  CHECK(Has(b->Describe(lock.word()), "process " + std::to_string(getpid())));
  CHECK(lock.IsHeldBy(*a));
  lock.Unlock();
  CHECK(lock.Lock(*b, 0) == LockResult::kAcquired);
}

TEST_CASE("Shared lock: the lock of an open that ended is taken over, once") {
  LockFile locks;
  const auto a = locks.Claim();
  auto gone = locks.Claim();
  SharedLock lock{};
  REQUIRE(lock.TryLock(*gone));
  gone.reset();
  CHECK(lock.Lock(*a, kForever) == LockResult::kTakenOver);
  CHECK(lock.IsHeldBy(*a));
  lock.Unlock();
  CHECK(lock.Lock(*a, kForever) == LockResult::kAcquired);
}

TEST_CASE("Shared lock: who asks only about the dead gets it from them and from nobody else") {
  LockFile locks;
  const auto a = locks.Claim();
  auto b = locks.Claim();
  SharedLock lock{};
  REQUIRE(lock.TryLock(*b));
  CHECK_FALSE(lock.TakeOverFromDead(*a));
  b.reset();
  CHECK(lock.TakeOverFromDead(*a));
  CHECK(lock.IsHeldBy(*a));
}

TEST_CASE("Shared lock: of two that find its owner dead at the same moment one takes it") {
  LockFile locks;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  for (int round = 0; round < 200; ++round) {
    SharedLock lock{};
    auto gone = locks.Claim();
    REQUIRE(lock.TryLock(*gone));
    gone.reset();
    std::atomic<int> ready{0}, taken{0};
    const auto take = [&](const LockOwners& owners) {
      for (++ready; ready.load() < 2;) {
      }
      if (lock.TakeOverFromDead(owners)) ++taken;
    };
    std::thread other(take, std::ref(*a));
    take(*b);
    other.join();
    REQUIRE(taken.load() == 1);
  }
}

TEST_CASE("Shared lock: a sleeper gets the lock that is given back, though it waits without end") {
  LockFile locks;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  SharedLock lock{};
  REQUIRE(lock.TryLock(*a));
  LockResult result = LockResult::kTimedOut;
  std::thread sleeper([&] { result = lock.Lock(*b, kForever); });
  while ((lock.word() & SharedLock::kWaiters) == 0) std::this_thread::yield();
  CHECK(lock.IsHeldBy(*a));  // the flag of who waits changes nothing about who holds it
  lock.Unlock();
  sleeper.join();
  CHECK(result == LockResult::kAcquired);
  CHECK(lock.IsHeldBy(*b));
}

TEST_CASE("Shared lock: two sleepers both get it, the flag is not lost on the way") {
  LockFile locks;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  SharedLock lock{};
  for (int round = 0; round < 200; ++round) {
    REQUIRE(lock.TryLock(*a));
    const auto wait = [&] {
      if (lock.Lock(*b, kForever) == LockResult::kAcquired) lock.Unlock();
    };
    std::thread one(wait), other(wait);
    while ((lock.word() & SharedLock::kWaiters) == 0) std::this_thread::yield();
    lock.Unlock();
    one.join();
    other.join();
    REQUIRE(lock.word() == 0);
  }
}

TEST_CASE("Shared lock: four threads of two opens add up, a plain counter under it") {
  LockFile locks;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  SharedLock lock{};
  constexpr int kEach = 100'000;
  std::int64_t counter = 0;
  std::atomic<int> not_acquired{0};
  std::vector<std::thread> threads;
  for (const LockOwners* owners : {a.get(), a.get(), b.get(), b.get()}) {
    threads.emplace_back([&, owners] {
      for (int i = 0; i < kEach; ++i) {
        if (lock.Lock(*owners, kForever) != LockResult::kAcquired) ++not_acquired;
        ++counter;
        lock.Unlock();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(counter == 4 * kEach);
  CHECK(not_acquired == 0);
  CHECK(lock.word() == 0);
}

TEST_CASE("Shared lock: a word that no owner ever wrote is taken over at once") {
  LockFile locks;
  const auto owners = locks.Claim();
  alignas(SharedLock) std::uint32_t word = GENERATE(0x80000000, 0xffff, 0x8000ffff, 0xbfff0000);
  CAPTURE(word);
  SharedLock lock{};
  std::memcpy(static_cast<void*>(&lock), &word, sizeof word);
  CHECK(lock.Lock(*owners, In(2 * kMillisecond)) == LockResult::kTakenOver);
  CHECK(lock.IsHeldBy(*owners));
  lock.Unlock();
  CHECK(lock.TryLock(*owners));
}

}  // namespace cordwood::os::shared_lock_test
