#include "cordwood/log/age_clock.h"

#include <algorithm>

#include "cordwood/os/clock.h"

namespace cordwood::log {
namespace {

// Less is the two clocks' own business: how fast a clock is slewed, and when each was read.
constexpr std::int64_t kJumpNanosMin = 60'000'000'000;

}  // namespace

void AgeClock::Observe(std::int64_t wall_ns, std::int64_t elapsed_ns) {
  absl::MutexLock lock(&mutex_);
  if (!last_) {
    last_ = Reading{wall_ns, elapsed_ns};
    return;
  }
  const std::int64_t expected = os::SaturatingAdd(last_->wall_ns, elapsed_ns - last_->elapsed_ns);
  std::int64_t by = wall_ns - expected;
  if (by >= kJumpNanosMin) jumps_.push_back({.before_ns = expected, .by_ns = by});
  if (by <= -kJumpNanosMin) {
    for (; by < 0 && !jumps_.empty(); jumps_.pop_back()) {
      const std::int64_t taken_back = std::min(-by, jumps_.back().by_ns);
      jumps_.back().by_ns -= taken_back;
      by += taken_back;
      if (jumps_.back().by_ns > 0) break;
    }
  }
  last_ = Reading{wall_ns, elapsed_ns};
}

std::int64_t AgeClock::Moved(std::int64_t noted_ns) const {
  absl::MutexLock lock(&mutex_);
  for (const Jump& jump : jumps_) {
    if (noted_ns <= jump.before_ns) noted_ns = os::SaturatingAdd(noted_ns, jump.by_ns);
  }
  return noted_ns;
}

}  // namespace cordwood::log
