// With $CORDWOOD_BENCHMARK_QUICK in the environment every benchmark does a small part of its work:
// to see that it runs, as the smoke test does. Its figures then mean nothing.

#ifndef CORDWOOD_BENCHMARKS_QUICK_H_
#define CORDWOOD_BENCHMARKS_QUICK_H_

#include <cstdlib>

namespace cordwood::benchmarks {

inline bool IsQuick() {
  static const bool is_quick = std::getenv("CORDWOOD_BENCHMARK_QUICK") != nullptr;
  return is_quick;
}

// The one or the other.
template <class T>
T FullOrQuick(T full, T quick) {
  return IsQuick() ? quick : full;
}

}  // namespace cordwood::benchmarks

#endif  // CORDWOOD_BENCHMARKS_QUICK_H_
