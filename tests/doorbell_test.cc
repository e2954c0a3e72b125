// Futexes on shared pages: wakes across processes, waits for several words, timeouts, and the
// protocol of waiters and ringers that loses no wake.

#include "cordwood/os/doorbell.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "cordwood/os/clock.h"
#include "cordwood/os/storage.h"
#include "tests/catch.h"
#include "tests/support/sleeper.h"
#include "tests/support/temp_dir.h"

namespace cordwood::os::doorbell_test {
namespace {

using testing::Sleeper;
using testing::WaitUntilItSleeps;
using Word = std::atomic<std::uint32_t>;

constexpr std::int64_t kMillisecond = 1'000'000;
// A wait that nothing but a wake may end, and when it must have ended at the latest.
constexpr std::int64_t kLong = 20'000 * kMillisecond;
constexpr std::int64_t kSoon = 10'000 * kMillisecond;

class Stopwatch {
 public:
  std::int64_t ns() const { return MonotonicNanos() - start_; }

 private:
  const std::int64_t start_ = MonotonicNanos();
};

// The first word of a file that processes share.
class SharedFile {
 public:
  SharedFile() : folder_(Storage::OperatingSystem()->OpenFolder(dir_.path(), {}).value()) {
    const auto file = folder_->OpenFile("bell", OpenMode::kCreate).value();
    if (!file->Allocate(4096).ok()) FAIL("Allocate");
  }
  std::unique_ptr<Mapping> Map(Access access) {
    const OpenMode mode = access == Access::kRead ? OpenMode::kRead : OpenMode::kReadWrite;
    return folder_->OpenFile("bell", mode).value()->Map(4096, access).value();
  }

 private:
  testing::TempDir dir_;
  std::unique_ptr<Folder> folder_;
};

Word* WordOf(const Mapping& map) { return reinterpret_cast<Word*>(map.data()); }

// From now on this process gets that error from futex_waitv, as in a container with an old list of
// system calls. False where that cannot be done.
bool ForbidWaitsForSeveral(int error) {
#ifdef SYS_futex_waitv
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex_waitv, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {.len = 4, .filter = program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
#else
  return error == 0;
#endif
}

// The protocol of doorbell.h, for a ball that two players throw to each other. `attention` is a
// flag, the ball's exchange is the fence.
struct Court {
  Word ball{0};
  Word sequence{0};
  Word attention{0};

  void Throw(std::uint32_t value) {
    ball.exchange(value, std::memory_order_seq_cst);
    if (attention.load(std::memory_order_seq_cst) != 0 &&
        attention.exchange(0, std::memory_order_seq_cst) != 0) {
      Ring(sequence);
    }
  }
  // False when the ball had come and nobody had rung: a wake was lost.
  bool Catch(std::uint32_t value) {
    for (;;) {
      const std::uint32_t seen = sequence.load(std::memory_order_acquire);
      attention.store(1, std::memory_order_seq_cst);
      if (ball.load(std::memory_order_seq_cst) == value) return true;
      const Stopwatch watch;
      FutexWait(&sequence, seen, kLong);
      if (watch.ns() >= kLong) return false;
    }
  }
};

}  // namespace

// ---- One word ---------------------------------------------------------------------------------

TEST_CASE("Doorbell: a ring wakes who sleeps in another process, at another address, read-only") {
  SharedFile file;
  const auto map = file.Map(Access::kReadWrite);
  const pid_t child = fork();
  if (child == 0) {
    const auto own = file.Map(Access::kRead);
    const Stopwatch watch;
    while (WordOf(*own)->load() == 0 && watch.ns() < kLong) FutexWait(WordOf(*own), 0, kLong);
    _exit(WordOf(*own)->load() == 1 && watch.ns() < kSoon ? 0 : 1);
  }
  CHECK(WaitUntilItSleeps(child));
  Ring(*WordOf(*map));
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("Doorbell: a ring wakes all who sleep, a wake as many as it says") {
  Word word{0};
  std::atomic<int> awake{0};
  const auto sleeps = [&] {
    FutexWait(&word, 0, kLong);
    ++awake;
  };
  const Stopwatch watch;
  Sleeper a(sleeps), b(sleeps), c(sleeps);
  FutexWake(&word, 1);
  while (awake.load() == 0) sched_yield();
  CHECK(awake.load() == 1);
  Ring(word);
  a.Join();
  b.Join();
  c.Join();
  CHECK(word.load() == 1);
  CHECK(watch.ns() < kSoon);
}

TEST_CASE("Doorbell: a wait for a word that has changed already ends at once") {
  Word word{1};
  const Stopwatch watch;
  FutexWait(&word, 0, kLong);
  const FutexWaiter waiters[] = {{&word, 1}, {&word, 0}};
  FutexWaitAny(waiters, kLong);
  CHECK(watch.ns() < kSoon);
}

TEST_CASE("Doorbell: a wait ends at its time, and one without time does not begin") {
  Word word{0};
  const FutexWaiter waiters[] = {{&word, 0}};
  const Stopwatch watch;
  FutexWait(&word, 0, 20 * kMillisecond);
  CHECK(watch.ns() >= 20 * kMillisecond);
  FutexWaitAny(waiters, 20 * kMillisecond);
  CHECK(watch.ns() >= 40 * kMillisecond);
  for (const std::int64_t none : {std::int64_t{0}, std::numeric_limits<std::int64_t>::min()}) {
    FutexWait(&word, 0, none);
    FutexWaitAny(waiters, none);
  }
  FutexWaitAny({}, kLong);
  CHECK(watch.ns() < kSoon);
}

TEST_CASE("Doorbell: the longest wait of all is a wait, and ends with a ring") {
  Word word{0};
  const bool any = GENERATE(false, true);
  std::atomic<int> returns{0};
  Sleeper sleeper([&] {
    const FutexWaiter waiter = {&word, 0};
    while (word.load() == 0 && returns.load() < 1'000) {
      if (any) FutexWaitAny({&waiter, 1}, std::numeric_limits<std::int64_t>::max());
      if (!any) FutexWait(&word, 0, std::numeric_limits<std::int64_t>::max());
      ++returns;
    }
  });
  Ring(word);
  sleeper.Join();
  CHECK(returns.load() < 100);  // it slept, and did not spin
}

// ---- Several words ----------------------------------------------------------------------------

TEST_CASE("Doorbell: a wait for several words ends when any of them is rung") {
  std::vector<Word> words(128);
  const std::size_t rung = GENERATE(0U, 1U, 64U, 127U);
  const Stopwatch watch;
  Sleeper sleeper([&] {
    std::vector<FutexWaiter> waiters;
    for (const Word& word : words) waiters.push_back({&word, 0});
    while (words[rung].load() == 0) FutexWaitAny(waiters, kLong);
  });
  Ring(words[rung]);
  sleeper.Join();
  CHECK(watch.ns() < kSoon);
}

TEST_CASE("Doorbell: a wait for several words of two files wakes across processes") {
  SharedFile one, other;
  const auto one_map = one.Map(Access::kReadWrite);
  const auto other_map = other.Map(Access::kReadWrite);
  const pid_t child = fork();
  if (child == 0) {
    const auto own_one = one.Map(Access::kRead), own_other = other.Map(Access::kRead);
    const FutexWaiter waiters[] = {{WordOf(*own_one), 0}, {WordOf(*own_other), 0}};
    const Stopwatch watch;
    while (WordOf(*own_other)->load() == 0 && watch.ns() < kLong) FutexWaitAny(waiters, kLong);
    _exit(WordOf(*own_other)->load() == 1 && watch.ns() < kSoon ? 0 : 1);
  }
  CHECK(WaitUntilItSleeps(child));
  Ring(*WordOf(*other_map));
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE("Doorbell: more words than the system waits for at once are looked at every 10 ms") {
  std::vector<Word> words(129);
  std::vector<FutexWaiter> waiters;
  for (const Word& word : words) waiters.push_back({&word, 0});
  const Stopwatch watch;
  FutexWaitAny(waiters, kLong);
  CHECK(watch.ns() >= 10 * kMillisecond);
  CHECK(watch.ns() < kSoon);
}

TEST_CASE("Doorbell: where a sandbox forbids the wait for several words nobody spins") {
  const int error = GENERATE(EPERM, ENOSYS);
  const pid_t child = fork();
  if (child == 0) {
    if (!ForbidWaitsForSeveral(error)) _exit(2);
    const Word word{0};
    const FutexWaiter waiters[] = {{&word, 0}, {&word, 0}};
    const Stopwatch watch;
    FutexWaitAny(waiters, kLong);
    _exit(watch.ns() >= 10 * kMillisecond && watch.ns() < kSoon ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 2) {
    WARN("skipped: no sandbox can be made here");
  } else {
    CHECK(status == 0);
  }
}

// ---- The protocol -----------------------------------------------------------------------------

TEST_CASE("Doorbell: in 100,000 throws between two threads no wake is lost") {
  constexpr std::uint32_t kThrows = 100'000;
  Court court;
  std::atomic<bool> lost{false};
  std::thread other([&] {
    for (std::uint32_t i = 1; i < 2 * kThrows && !lost.load(); i += 2) {
      if (!court.Catch(i)) lost.store(true);
      court.Throw(i + 1);
    }
  });
  for (std::uint32_t i = 1; i < 2 * kThrows && !lost.load(); i += 2) {
    court.Throw(i);
    if (!court.Catch(i + 1)) lost.store(true);
  }
  other.join();
  CHECK_FALSE(lost.load());
  CHECK(court.ball.load() == 2 * kThrows);
}

TEST_CASE("Doorbell: a ring between the look and the sleep is not lost") {
  Word sequence{0};
  const std::uint32_t seen = sequence.load();
  Ring(sequence);
  const Stopwatch watch;
  FutexWait(&sequence, seen, kLong);
  CHECK(watch.ns() < kSoon);
}

TEST_CASE("Doorbell: a sequence goes on over the end of its 32 bits") {
  Word sequence{0xffffffff};
  const Stopwatch watch;
  Sleeper sleeper([&] {
    while (sequence.load() == 0xffffffff) FutexWait(&sequence, 0xffffffff, kLong);
  });
  Ring(sequence);
  sleeper.Join();
  CHECK(sequence.load() == 0);
  CHECK(watch.ns() < kSoon);
}

}  // namespace cordwood::os::doorbell_test
