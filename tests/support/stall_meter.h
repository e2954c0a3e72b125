// How late threads of this machine come to run while a test measures time: what nobody's code is to
// blame for. Made after all forks.
//
//   const StallMeter meter;
//   ...
//   CHECK(elapsed_ns < kBound + meter.WorstNs());

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
  StallMeter() : thread_([this](const std::stop_token& stop) { Run(stop); }) {}

  // That of a stall that is still under way, too.
  std::int64_t WorstNs() const {
    return std::max(worst_ns_.load(), os::MonotonicNanos() - due_ns_.load());
  }

 private:
  static constexpr std::int64_t kStepNs = 5'000'000;

  void Run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      due_ns_ = os::MonotonicNanos() + kStepNs;
      std::this_thread::sleep_for(std::chrono::nanoseconds(kStepNs));
      worst_ns_ = std::max(worst_ns_.load(), os::MonotonicNanos() - due_ns_);
    }
  }

  std::atomic<std::int64_t> worst_ns_{0};
  std::atomic<std::int64_t> due_ns_{os::MonotonicNanos()};
  std::jthread thread_;  // last: it uses the others
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_STALL_METER_H_
