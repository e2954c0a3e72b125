// Every choice of a simulated machine: one seed, one course, with every compiler.
//
//   Random random(seed);
//   if (random.Chance(1, 2)) ...
//
// Thread safety: none of its own.

#ifndef CORDWOOD_SIM_RANDOM_H_
#define CORDWOOD_SIM_RANDOM_H_

#include <cstdint>
#include <random>

#include "cordwood/os/storage.h"

namespace cordwood::sim {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  std::uint64_t Next() { return engine_(); }
  // Of [0, limit). Not a distribution of the standard library's: each makes its own numbers.
  std::uint64_t Below(std::uint64_t limit) { return engine_() % limit; }
  bool Chance(std::uint64_t times, std::uint64_t of) { return Below(of) < times; }
  // How likely the next things of a kind are kept, of 8: now and then all, or none.
  std::uint64_t Mood() {
    constexpr std::uint64_t kMoods[] = {0, 0, 1, 4, 4, 7, 8, 8};
    return kMoods[Below(8)];
  }
  os::Bits128 Bits() {
    os::Bits128 bits;
    for (std::uint8_t& byte : bits) byte = static_cast<std::uint8_t>(Next());
    return bits;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace cordwood::sim

#endif  // CORDWOOD_SIM_RANDOM_H_
