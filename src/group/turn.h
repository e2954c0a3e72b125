// A turn on a group's files, under the lock in its live page.

#ifndef CORDWOOD_GROUP_TURN_H_
#define CORDWOOD_GROUP_TURN_H_

#include <cstdint>

#include "absl/status/status.h"
#include "cordwood/group/offsets.h"

namespace cordwood::group {

class Group::Turn {
 public:
  // Long enough for any sync; a process that keeps the lock longer is named.
  static constexpr std::int64_t kWaitNanos = 30'000'000'000;
  // Of a flush pass or of retention, which a process that is stopped must not hold up.
  static constexpr std::int64_t kPassWaitNanos = 100'000'000;
  static std::int64_t NanosOf(Wait wait) {
    return wait == Wait::kForTurn ? kWaitNanos : kPassWaitNanos;
  }

  explicit Turn(const Group& group) : group_(group) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    if (held_) group_.live_->lock.Unlock();
  }

  // kUnavailable names who has it.
  absl::Status Take(std::int64_t wait_ns = kWaitNanos);

 private:
  const Group& group_;
  bool held_ = false;
};

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_TURN_H_
