// Threads that sleep, and what is done as soon as they do.
//
//   Sleeper waiter([&] { waited = partition.WaitForEnd(1, absl::Seconds(60)); });
//   partition.Append({.value = "a"}).value();  // wakes it
//   waiter.Join();
//
//   const std::jthread writer = OnceCallerSleeps([&] { log.Append({.value = "a"}).IgnoreError();
//   }); CHECK(consumer.Poll(absl::Seconds(10)).value().size() == 1);
//
// That a thread sleeps does not say where: a test that finds it on its way there, at some lock,
// tests less, but is as right.

#ifndef CORDWOOD_TESTS_SUPPORT_SLEEPER_H_
#define CORDWOOD_TESTS_SUPPORT_SLEEPER_H_

#include <sched.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

namespace cordwood::testing {

// Returns when a thread, of any process, sleeps: 'S' in its line of /proc. False when it is gone.
inline bool WaitUntilItSleeps(pid_t thread) {
  for (;;) {
    std::ifstream stat("/proc/" + std::to_string(thread) + "/stat");
    std::string line;
    if (!std::getline(stat, line)) return false;
    const char state = line[line.rfind(')') + 2];
    if (state == 'S') return true;
    if (state == 'Z') return false;
    sched_yield();
  }
}

inline pid_t ThisThread() { return static_cast<pid_t>(syscall(SYS_gettid)); }

// A thread that runs f; the test goes on when it sleeps.
class Sleeper {
 public:
  template <class F>
  explicit Sleeper(F f)
      : thread_([this, f] {
          id_.store(ThisThread());
          f();
        }) {
    while (id_.load() == 0) sched_yield();
    WaitUntilItSleeps(id_.load());
  }
  void Join() { thread_.join(); }

 private:
  std::atomic<pid_t> id_{0};
  std::jthread thread_;
};

// Runs f in a thread once the caller sleeps, at the latest where it joins this one.
template <class F>
std::jthread OnceCallerSleeps(F f) {
  return std::jthread([caller = ThisThread(), f = std::move(f)] {
    WaitUntilItSleeps(caller);
    f();
  });
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_SLEEPER_H_
