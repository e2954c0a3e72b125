// XXH3-64, unseeded, as published with xxHash 0.8. The 210 KB header of xxHash stays
// out of ours: it is compiled into one source file of this layer.
//
//   std::uint64_t hash = os::Hash64(bytes.data(), bytes.size());
//
// Thread safety: any thread.

#ifndef CORDWOOD_OS_CHECKSUM_H_
#define CORDWOOD_OS_CHECKSUM_H_

#include <cstddef>
#include <cstdint>

namespace cordwood::os {

std::uint64_t Hash64(const void* data, std::size_t bytes) noexcept;

struct BytesPiece {
  const void* data = nullptr;
  std::size_t bytes = 0;
};

// The hash of the pieces as if they lay one behind the other.
std::uint64_t Hash64(const BytesPiece* pieces, std::size_t count) noexcept;

}  // namespace cordwood::os

#endif  // CORDWOOD_OS_CHECKSUM_H_
