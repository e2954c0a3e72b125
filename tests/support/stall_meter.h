// How long this machine lets a thread wait that wants to run, for bounds that are to hold beside
// other work too:
//
//   const StallMeter meter;
//   ...
//   CHECK(elapsed_ns < kBound + meter.WorstNs());
//
// It has a thread: make it after all forks.

#ifndef CORDWOOD_TESTS_SUPPORT_STALL_METER_H_
#define CORDWOOD_TESTS_SUPPORT_STALL_METER_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stop_token>
#include <thread>

#include "cordwood/os/clock.h"

namespace cordwood::testing {

class StallMeter {
 public:
  StallMeter()
      : thread_([this](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            asleep_since_ = os::MonotonicNanos();
            std::this_thread::sleep_for(std::chrono::nanoseconds(kSleepNanos));
            worst_ = std::max(worst_.load(), Overslept());
          }
        }) {}
  StallMeter(const StallMeter&) = delete;
  StallMeter& operator=(const StallMeter&) = delete;

  // The longest until now, and that of a sleep which should be over counts.
  std::int64_t WorstNs() const { return std::max(worst_.load(), Overslept()); }

 private:
  static constexpr std::int64_t kSleepNanos = 5'000'000;

  std::int64_t Overslept() const { return os::MonotonicNanos() - asleep_since_ - kSleepNanos; }

  std::atomic<std::int64_t> asleep_since_{os::MonotonicNanos()};
  std::atomic<std::int64_t> worst_{0};
  std::jthread thread_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_STALL_METER_H_
