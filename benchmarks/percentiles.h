// The percentiles of a series of times, from every single one of them: nothing is rounded.
//
// Value types, for any thread.

#ifndef CORDWOOD_BENCHMARKS_PERCENTILES_H_
#define CORDWOOD_BENCHMARKS_PERCENTILES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cordwood::benchmarks {

struct Percentiles {
  std::int64_t p50_ns = 0;
  std::int64_t p99_ns = 0;
  std::int64_t p999_ns = 0;
  std::int64_t max_ns = 0;
};

// The smallest time that so many thousandths of all do not exceed. All zero: there are no times.
inline Percentiles PercentilesOf(std::vector<std::int64_t> times_ns) {
  if (times_ns.empty()) return {};
  std::sort(times_ns.begin(), times_ns.end());
  const auto at = [&](std::size_t thousandths) {
    const std::size_t rank = (times_ns.size() * thousandths + 999) / 1000;
    return times_ns[rank - 1];
  };
  return {.p50_ns = at(500), .p99_ns = at(990), .p999_ns = at(999), .max_ns = times_ns.back()};
}

}  // namespace cordwood::benchmarks

#endif  // CORDWOOD_BENCHMARKS_PERCENTILES_H_
