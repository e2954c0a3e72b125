// From before an append to after the read of that record by another thread, which follows. One
// record is on its way at a time, and the writer waits a moment after each, so that the reader is
// back in its loop. As benchmarks/latency_benchmark.cc, and as the Java peer does it.
//
//   return MeasureOneByOne(job,
//                          [&](std::string_view value) { return peer.Append(value); },
//                          [&]() -> std::optional<std::int64_t> { return tail.Next(); });

#ifndef CORDWOOD_BENCHMARKS_PEERS_LATENCY_H_
#define CORDWOOD_BENCHMARKS_PEERS_LATENCY_H_

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "benchmarks/peers/peer.h"
#include "benchmarks/percentiles.h"

namespace cordwood::peers {

// The time that a value was sent at, which it begins with.
inline std::int64_t SentAt(std::string_view value) {
  std::int64_t sent_ns = 0;
  std::memcpy(&sent_ns, value.data(), sizeof sent_ns);
  return sent_ns;
}

// `append(value)` hands over one, `next()` waits for it in the reader's thread and gives its
// SentAt(); nothing: it failed. The first tenth is for the caches, and does not count.
template <class Append, class Next>
int MeasureOneByOne(const Job& job, Append append, Next next) {
  constexpr std::int64_t kPauseNanos = 2'000;
  const std::int64_t warm_up = job.records / 10;
  const std::int64_t all = warm_up + job.records;
  std::vector<std::int64_t> times(static_cast<std::size_t>(all));
  std::atomic<std::int64_t> seen{0};
  std::atomic<bool> failed{false};
  std::thread reader([&] {
    for (std::int64_t i = 0; i < all; ++i) {
      const std::optional<std::int64_t> sent = next();
      times[static_cast<std::size_t>(i)] = NowNanos() - sent.value_or(0);
      if (!sent.has_value()) {
        failed = true;
        return;
      }
      seen.store(i + 1, std::memory_order_release);
    }
  });
  std::string value(job.value_bytes, 'x');
  for (std::int64_t i = 0; i < all && !failed; ++i) {
    const std::int64_t pause_ends = NowNanos() + kPauseNanos;
    while (NowNanos() < pause_ends) {
    }
    const std::int64_t now = NowNanos();
    std::memcpy(value.data(), &now, sizeof now);
    if (!append(value)) std::exit(1);  // the reader would wait for ever
    while (seen.load(std::memory_order_acquire) <= i && !failed) {
    }
  }
  reader.join();
  if (failed) return 1;
  times.erase(times.begin(), times.begin() + warm_up);
  const benchmarks::Percentiles p = benchmarks::PercentilesOf(std::move(times));
  std::printf("%lld %lld %lld %lld\n", static_cast<long long>(p.p50_ns),
              static_cast<long long>(p.p99_ns), static_cast<long long>(p.p999_ns),
              static_cast<long long>(p.max_ns));
  return 0;
}

}  // namespace cordwood::peers

#endif  // CORDWOOD_BENCHMARKS_PEERS_LATENCY_H_
