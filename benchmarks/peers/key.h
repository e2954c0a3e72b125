// The number of a record as a key whose bytes sort as the numbers do.

#ifndef CORDWOOD_BENCHMARKS_PEERS_KEY_H_
#define CORDWOOD_BENCHMARKS_PEERS_KEY_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace cordwood::peers {

class Key {
 public:
  explicit Key(std::uint64_t number) {
    const std::uint64_t big_endian = __builtin_bswap64(number);
    std::memcpy(bytes_, &big_endian, sizeof bytes_);
  }
  std::string_view bytes() const { return std::string_view(bytes_, sizeof bytes_); }

 private:
  char bytes_[sizeof(std::uint64_t)];
};

}  // namespace cordwood::peers

#endif  // CORDWOOD_BENCHMARKS_PEERS_KEY_H_
