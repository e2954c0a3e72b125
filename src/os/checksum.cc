#include "cordwood/os/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace cordwood::os {

std::uint64_t Hash64(const void* data, std::size_t bytes) noexcept {
  return XXH3_64bits(data, bytes);
}

std::uint64_t Hash64(const BytesPiece* pieces, std::size_t count) noexcept {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (std::size_t i = 0; i < count; ++i) {
    XXH3_64bits_update(&state, pieces[i].data, pieces[i].bytes);
  }
  return XXH3_64bits_digest(&state);
}

}  // namespace cordwood::os
