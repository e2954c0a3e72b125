// The shared lock between processes that are killed, stopped, forked and started again.

#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cordwood/os/clock.h"
#include "cordwood/os/shared_lock.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/lock_file.h"
#include "tests/support/shared_by_forks.h"

namespace cordwood::os::shared_lock_process_test {
namespace {

using testing::Child;
using testing::In;
using testing::kForever;
using testing::kMillisecond;
using testing::LockFile;

// What must happen soon has this long, on a machine that has other things to do.
constexpr std::int64_t kSoon = 5'000 * kMillisecond;

// What all processes of a test see.
struct Page {
  SharedLock lock;
  std::atomic<std::uint32_t> holder;  // the word of who is inside, 0 for nobody
  std::atomic<std::int64_t> count;
  std::atomic<std::int64_t> taken_over;
  std::atomic<std::int64_t> breaches;
};

using SharedPage = testing::SharedByForks<Page>;

// What a child does that takes the lock and tells its word.
auto LocksAndTells(LockFile& locks, const SharedPage& page) {
  return [&](Child& parent) {
    const auto owners = locks.Claim();
    const bool locked = page->lock.TryLock(*owners);
    parent.Tell(locked ? owners->me() : 0);
    if (parent.Wait() == 1) page->lock.Unlock();
    parent.Wait();
  };
}

}  // namespace

TEST_CASE("Shared lock: that of a process that was killed is taken over, soon") {
  LockFile locks;
  const SharedPage page;
  const auto owners = locks.Claim();
  Child child(LocksAndTells(locks, page));
  const std::uint32_t word = child.Wait();
  REQUIRE(word != 0);
  CHECK(page->lock.word() == word);
  CHECK_FALSE(owners->IsDead(word));
  CHECK(owners->Describe(word).find(std::to_string(child.pid())) != std::string::npos);
  CHECK(page->lock.Lock(*owners, In(20 * kMillisecond)) == LockResult::kTimedOut);
  child.Kill();
  const std::int64_t before = MonotonicNanos();
  CHECK(page->lock.Lock(*owners, kForever) == LockResult::kTakenOver);
  CHECK(MonotonicNanos() - before < kSoon);
  CHECK(page->lock.IsHeldBy(*owners));
}

TEST_CASE("Shared lock: who already sleeps when the owner is killed takes it over") {
  LockFile locks;
  const SharedPage page;
  const auto owners = locks.Claim();
  Child child(LocksAndTells(locks, page));
  REQUIRE(child.Wait() != 0);
  LockResult result = LockResult::kTimedOut;
  std::thread sleeper([&] { result = page->lock.Lock(*owners, In(10 * kSoon)); });
  while ((page->lock.word() & SharedLock::kWaiters) == 0) sched_yield();
  child.Kill();
  const std::int64_t before = MonotonicNanos();
  sleeper.join();
  CHECK(result == LockResult::kTakenOver);
  CHECK(MonotonicNanos() - before < kSoon);
}

TEST_CASE("Shared lock: of two that wait for a dead owner one is told, the other gets it after") {
  LockFile locks;
  const SharedPage page;
  const auto a = locks.Claim();
  const auto b = locks.Claim();
  Child child(LocksAndTells(locks, page));
  REQUIRE(child.Wait() != 0);
  std::atomic<int> told{0}, acquired{0};
  const auto wait = [&](const LockOwners& owners) {
    ++(page->lock.Lock(owners, In(10 * kSoon)) == LockResult::kTakenOver ? told : acquired);
    page->lock.Unlock();
  };
  std::thread one(wait, std::ref(*a)), other(wait, std::ref(*b));
  while ((page->lock.word() & SharedLock::kWaiters) == 0) sched_yield();
  child.Kill();
  one.join();
  other.join();
  CHECK(told == 1);
  CHECK(acquired == 1);
  CHECK(page->lock.word() == 0);
}

TEST_CASE("Shared lock: it is never taken from a process that is stopped") {
  LockFile locks;
  const SharedPage page;
  const auto owners = locks.Claim();
  Child child(LocksAndTells(locks, page));
  const std::uint32_t word = child.Wait();
  REQUIRE(word != 0);
  child.Stop();
  CHECK_FALSE(owners->IsDead(word));
  CHECK(page->lock.Lock(*owners, In(100 * kMillisecond)) == LockResult::kTimedOut);
  CHECK_FALSE(page->lock.TakeOverFromDead(*owners));
  CHECK((page->lock.word() & ~SharedLock::kWaiters) == word);
  child.Continue();
  child.Tell(1);
  CHECK(page->lock.Lock(*owners, In(10 * kSoon)) == LockResult::kAcquired);
}

TEST_CASE("Shared lock: a process that was killed while it was stopped is dead") {
  LockFile locks;
  const SharedPage page;
  const auto owners = locks.Claim();
  Child child(LocksAndTells(locks, page));
  REQUIRE(child.Wait() != 0);
  child.Stop();
  child.Kill();
  CHECK(page->lock.Lock(*owners, In(10 * kSoon)) == LockResult::kTakenOver);
}

TEST_CASE("Shared lock: a dead owner is dead though another process has its slot now") {
  LockFile locks;
  const SharedPage page;
  const auto owners = locks.Claim();
  Child first(LocksAndTells(locks, page));
  const std::uint32_t old = first.Wait();
  REQUIRE(old != 0);
  first.Kill();
  Child second([&](Child& parent) {
    const auto claimed = locks.Claim();
    parent.Tell(claimed->me());
    parent.Wait();
  });
  const std::uint32_t reused = second.Wait();
  CHECK((reused & 0xffff) == (old & 0xffff));
  CHECK(reused != old);
  CHECK(owners->IsDead(old));
  CHECK_FALSE(owners->IsDead(reused));
  CHECK(page->lock.Lock(*owners, In(10 * kSoon)) == LockResult::kTakenOver);
}

TEST_CASE("Shared lock: a killed owner is dead though a child that it forked lives on") {
  LockFile locks;
  const SharedPage page;
  const auto owners = locks.Claim();
  int ends[2];  // the grandchild lives until the test closes this
  REQUIRE(pipe(ends) == 0);
  Child child([&](Child& parent) {
    const auto claimed = locks.Claim();
    const bool locked = page->lock.TryLock(*claimed);
    const pid_t grandchild = fork();
    if (grandchild == 0) {
      close(ends[1]);
      char byte;
      while (read(ends[0], &byte, 1) > 0) {
      }
      _exit(0);
    }
    parent.Tell(locked ? static_cast<std::uint32_t>(grandchild) : 0);
    parent.Wait();
  });
  const auto grandchild = static_cast<pid_t>(child.Wait());
  REQUIRE(grandchild > 0);
  child.Kill();
  CHECK(kill(grandchild, 0) == 0);  // it lives
  CHECK(page->lock.Lock(*owners, In(10 * kSoon)) == LockResult::kTakenOver);
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("Shared lock: a process that execs or exits while it holds it is dead") {
  LockFile locks;
  const SharedPage page;
  const auto owners = locks.Claim();
  const bool execs = GENERATE(true, false);
  Child child([&](Child& parent) {
    const auto claimed = locks.Claim();
    parent.Tell(page->lock.TryLock(*claimed) ? 1 : 0);
    if (execs) execl("/bin/sleep", "sleep", "1000", nullptr);
    _exit(0);
  });
  REQUIRE(child.Wait() == 1);
  CHECK(page->lock.Lock(*owners, In(10 * kSoon)) == LockResult::kTakenOver);
}

TEST_CASE("Shared lock: processes that are killed at any moment are never inside by twos") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  LockFile locks;
  const SharedPage page;
  const auto works = [&](Child&) {
    const auto owners = locks.Claim();
    for (;;) {
      const LockResult result = page->lock.Lock(*owners, kForever);
      const std::uint32_t before = page->holder.exchange(owners->me());
      // Who takes over may find a dead owner still noted there; nobody else finds anybody.
      if (result == LockResult::kTakenOver) ++page->taken_over;
      if (result == LockResult::kAcquired && before != 0) ++page->breaches;
      if (before != 0 && !owners->IsDead(before)) ++page->breaches;
      page->count.store(page->count.load() + 1);
      if (page->holder.exchange(0) != owners->me()) ++page->breaches;
      page->lock.Unlock();
    }
  };
  std::vector<std::unique_ptr<Child>> children(3);
  for (auto& child : children) child = std::make_unique<Child>(works);
  for (int kills = 0; kills < 150; ++kills) {
    const std::int64_t goal = page->count.load() + 1 + static_cast<std::int64_t>(random() % 300);
    const std::int64_t deadline = In(10 * kSoon);
    while (page->count.load() < goal && MonotonicNanos() < deadline) sched_yield();
    REQUIRE(page->count.load() >= goal);  // they go on, whoever was killed
    children[random() % children.size()]->Kill();
    for (auto& child : children) {
      if (child->pid() < 0) child = std::make_unique<Child>(works);
    }
  }
  CHECK(page->breaches.load() == 0);
  CHECK(page->taken_over.load() > 0);
}

}  // namespace cordwood::os::shared_lock_process_test
