// A writer's turn on a partition: the lock, and on release the doorbell.

#ifndef CORDWOOD_LOG_TURN_H_
#define CORDWOOD_LOG_TURN_H_

#include <cstdint>
#include <limits>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cordwood/log/log.h"
#include "cordwood/os/clock.h"

namespace cordwood::log {

// Set while a caller's `fill` runs in AppendInPlace: a call back into cordwood from
// there could wait for the very lock that its thread holds.
inline constinit thread_local bool in_fill = false;
inline bool InFill() { return in_fill; }
absl::Status InFillError();
class FillScope {
 public:
  FillScope() { in_fill = true; }
  FillScope(const FillScope&) = delete;
  FillScope& operator=(const FillScope&) = delete;
  ~FillScope() { in_fill = false; }
};

// The monotonic time after which a call that may take that long gives up.
inline std::int64_t DeadlineAfter(absl::Duration timeout) {
  constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  if (timeout <= absl::ZeroDuration()) return 0;
  const std::int64_t ns = absl::ToInt64Nanoseconds(timeout);
  const std::int64_t now = os::MonotonicNanos();
  return ns > kNever - now ? kNever : now + ns;
}

// One append with its options, and when it gives up, whatever it waits for. The clock is read
// when it waits for the first time.
class AppendCall {
 public:
  explicit AppendCall(const AppendOptions& options) : options_(options) {}
  const AppendOptions& options() const { return options_; }
  std::int64_t deadline_ns() {
    if (deadline_ns_ < 0) deadline_ns_ = DeadlineAfter(options_.timeout);
    return deadline_ns_;
  }

 private:
  const AppendOptions& options_;
  std::int64_t deadline_ns_ = -1;
};

class Log::Turn {
 public:
  explicit Turn(Log& log) : log_(log) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    if (held_) Release();
  }

  // kDeadlineExceeded names the holder; nothing has happened then.
  absl::Status Take(AppendCall& call) {
    return TakeBy([&] { return call.deadline_ns(); });
  }
  absl::Status Take(absl::Duration timeout) {
    return TakeBy([&] { return DeadlineAfter(timeout); });
  }

  void Release() {
    held_ = false;
    ControlBlock& block = log_.block();
    block.lock.Unlock();
    // After the unlock, whose exchange is the fence: a sleeper that set its flag before
    // it looked at the tail is seen here, or has seen the tail (rule 7).
    if (ABSL_PREDICT_FALSE(block.attention.load(std::memory_order_seq_cst) != 0)) RingNews(log_);
  }

 private:
  // `deadline_ns` is asked only if it has to wait.
  template <class DeadlineNs>
  absl::Status TakeBy(DeadlineNs deadline_ns) {
    if (ABSL_PREDICT_FALSE(InFill())) return InFillError();
    if (ABSL_PREDICT_FALSE(!log_.block().lock.TryLock(*log_.context_->owners))) {
      if (absl::Status status = WaitForIt(log_, deadline_ns()); !status.ok()) return status;
    }
    held_ = true;
    // After the lock is held: a Close() that finds it free has set the flag before.
    if (ABSL_PREDICT_FALSE(!log_.context_->live->is_open())) return log_.context_->live->Check();
    return log_.CheckState();
  }

  // Static, so that a turn need not have an address and lives in registers.
  static absl::Status WaitForIt(Log& log, std::int64_t deadline_ns);
  static void RingNews(Log& log);

  Log& log_;
  bool held_ = false;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_TURN_H_
