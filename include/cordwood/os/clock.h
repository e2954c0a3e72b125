// The broker's clock: CLOCK_REALTIME read inline (the vDSO, about 20 ns) where the
// storage is the operating system's, else the storage's own.
//
// Thread safety: any thread. It must not outlive the Storage.

#ifndef CORDWOOD_OS_CLOCK_H_
#define CORDWOOD_OS_CLOCK_H_

#include <time.h>

#include <cstdint>
#include <limits>

#include "absl/base/optimization.h"
#include "cordwood/os/storage.h"

namespace cordwood::os {

inline std::int64_t ReadClock(clockid_t id) {
  timespec now;
  clock_gettime(id, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// Nanoseconds of a clock that never jumps, for deadlines.
inline std::int64_t MonotonicNanos() { return ReadClock(CLOCK_MONOTONIC); }

// A time so much later, or the last one there is.
inline std::int64_t SaturatingAdd(std::int64_t time_ns, std::int64_t duration_ns) {
  std::int64_t sum = 0;
  if (!__builtin_add_overflow(time_ns, duration_ns, &sum)) return sum;
  return duration_ns > 0 ? std::numeric_limits<std::int64_t>::max()
                         : std::numeric_limits<std::int64_t>::min();
}

class Clock {
 public:
  explicit Clock(Storage* storage)
      : simulated_(storage->is_operating_system() ? nullptr : storage) {}

  // Unix time in nanoseconds.
  std::int64_t Now() const {
    if (ABSL_PREDICT_TRUE(simulated_ == nullptr)) return ReadClock(CLOCK_REALTIME);
    return simulated_->NowNanos();
  }
  // The same, up to 4 ms behind, at a fifth of the price.
  std::int64_t NowCoarse() const {
    if (ABSL_PREDICT_TRUE(simulated_ == nullptr)) return ReadClock(CLOCK_REALTIME_COARSE);
    return simulated_->NowNanos();
  }

 private:
  Storage* simulated_;
};

}  // namespace cordwood::os

#endif  // CORDWOOD_OS_CLOCK_H_
