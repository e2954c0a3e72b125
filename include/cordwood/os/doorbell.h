// A doorbell is a futex word on a page that processes share: who waits for something
// sleeps on it, who made it happen rings. Never private futexes: those of two
// processes do not meet (RELIABILITY 2e: woke 0).
//
// A waiter (rule 7 of the protocol: `attention` is a flag, not a count)
//   1. reads the sequence, 2. sets its flag in `attention`, 3. looks once more whether
//   what it waits for is there, 4. sleeps while the sequence is what it read.
// A ringer looks at `attention` after an exchange on a word that the waiter's look
// depends on, clears it by exchange, bumps the sequence and wakes all.
//
// Thread and process safety: any. Every wait is finite, because a ringer may die
// between its store and its ring.

#ifndef CORDWOOD_OS_DOORBELL_H_
#define CORDWOOD_OS_DOORBELL_H_

#include <atomic>
#include <cstdint>
#include <span>

namespace cordwood::os {

// Sleeps while *word == expected, at most timeout_ns. Returns early on any wake or
// signal: the caller looks again at what it waits for.
void FutexWait(const std::atomic<std::uint32_t>* word, std::uint32_t expected,
               std::int64_t timeout_ns) noexcept;
void FutexWake(std::atomic<std::uint32_t>* word, int count) noexcept;
inline constexpr int kWakeAll = 0x7fffffff;

struct FutexWaiter {
  const std::atomic<std::uint32_t>* word = nullptr;
  std::uint32_t expected = 0;
};
// Sleeps while every word is as expected. Where the system has no futex_waitv (before
// Linux 5.16, or more than 128 words) it sleeps on the first, at most 10 ms.
void FutexWaitAny(std::span<const FutexWaiter> waiters, std::int64_t timeout_ns) noexcept;

inline void Ring(std::atomic<std::uint32_t>& sequence) noexcept {
  sequence.fetch_add(1, std::memory_order_release);
  FutexWake(&sequence, kWakeAll);
}

}  // namespace cordwood::os

#endif  // CORDWOOD_OS_DOORBELL_H_
