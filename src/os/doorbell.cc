#include "cordwood/os/doorbell.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "cordwood/os/clock.h"

namespace cordwood::os {
namespace {

constexpr std::int64_t kFallbackNanos = 10'000'000;

timespec ToTimespec(std::int64_t ns) {
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}

}  // namespace

void FutexWait(const std::atomic<std::uint32_t>* word, std::uint32_t expected,
               std::int64_t timeout_ns) noexcept {
  if (timeout_ns <= 0) return;
  const timespec timeout = ToTimespec(timeout_ns);
  syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, nullptr, 0);
}

void FutexWake(std::atomic<std::uint32_t>* word, int count) noexcept {
  syscall(SYS_futex, word, FUTEX_WAKE, count, nullptr, nullptr, 0);
}

void FutexWaitAny(std::span<const FutexWaiter> waiters, std::int64_t timeout_ns) noexcept {
  if (timeout_ns <= 0 || waiters.empty()) return;
#ifdef SYS_futex_waitv
  if (waiters.size() <= FUTEX_WAITV_MAX) {
    std::array<futex_waitv, FUTEX_WAITV_MAX> list;
    for (std::size_t i = 0; i < waiters.size(); ++i) {
      list[i] = {};
      list[i].val = waiters[i].expected;
      list[i].uaddr = reinterpret_cast<std::uintptr_t>(waiters[i].word);
      list[i].flags = FUTEX_32;
    }
    const std::int64_t now = MonotonicNanos();
    const timespec until =
        ToTimespec(now + std::min(timeout_ns, std::numeric_limits<std::int64_t>::max() - now));
    const long woken = syscall(SYS_futex_waitv, list.data(), static_cast<unsigned>(waiters.size()),
                               0U, &until, CLOCK_MONOTONIC);
    // Any other error, of an old system (ENOSYS) or a sandbox (EPERM), must not become a busy loop.
    if (woken >= 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT) return;
  }
#endif
  FutexWait(waiters[0].word, waiters[0].expected, std::min(timeout_ns, kFallbackNanos));
}

}  // namespace cordwood::os
