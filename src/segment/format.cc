#include "cordwood/segment/format.h"

#include <charconv>
#include <cstdio>
#include <limits>

namespace cordwood::segment {
namespace {

// A segment's offsets fit the 32 bits that an index entry has for them.
constexpr Offset kOffsetsMax = Offset{1} << 32;
// A base that leaves room for them: base + offset span must not wrap.
constexpr Offset kBaseMax = std::numeric_limits<Offset>::max() - 2 * kOffsetsMax;

// Of every byte before the checksum, which is the last member.
template <class T>
std::uint64_t ChecksumOf(const T& value) {
  return os::Hash64(&value, offsetof(T, checksum));
}

}  // namespace

SegmentKey SegmentKey::Make(const os::Bits128& salt, const os::Bits128& topic_id,
                            std::uint32_t partition) {
  SegmentKey key;
  std::uint8_t input[40];
  std::memcpy(input, salt.data(), 16);
  std::memcpy(input + 16, topic_id.data(), 16);
  std::memcpy(input + 32, &partition, 4);
  for (std::uint32_t i = 0; i < key.k.size(); ++i) {
    std::memcpy(input + 36, &i, 4);
    key.k[i] = os::Hash64(input, sizeof input);
  }
  key.odd = key.k[5] | 1;
  key.odd_for_body = (key.k[5] ^ key.k[0]) | 1;
  return key;
}

void Sign(SegmentHeader& header) { header.checksum = ChecksumOf(header); }
void Sign(Seal& seal, const os::Bits128& salt) { seal.checksum = ChecksumOf(seal) ^ SaltTag(salt); }
void Sign(StartSlot& slot) { slot.checksum = ChecksumOf(slot); }

bool IsValid(const SegmentHeader& header) {
  return header.magic == kSegmentMagic && header.version == kFormatVersion &&
         header.checksum == ChecksumOf(header) && header.capacity >= kFirstFrame &&
         header.capacity <= kSegmentBytesMax && header.capacity % 8 == 0 &&
         header.offset_span <= kOffsetSpanMax && header.compacted_next >= 0;
}

bool IsValid(const Seal& seal, const os::Bits128& salt) {
  return seal.magic == kSealMagic && seal.checksum == (ChecksumOf(seal) ^ SaltTag(salt)) &&
         seal.base >= 0 && seal.next >= seal.base && seal.next - seal.base <= kOffsetsMax &&
         seal.end_position >= kFirstFrame && seal.end_position <= kSegmentBytesMax &&
         seal.end_position % 8 == 0;
}

bool IsValid(const StartSlot& slot) {
  return slot.sequence != 0 && slot.start >= 0 && slot.reason <= 2 &&
         slot.checksum == ChecksumOf(slot);
}

std::string SegmentFileName(Offset base, const char* extension) {
  char name[48];
  std::snprintf(name, sizeof name, "%020lld%s", static_cast<long long>(base), extension);
  return name;
}

std::optional<Offset> BaseOfFileName(std::string_view name) {
  if (name.size() != 24 || name.substr(20) != ".log" || name.front() == '-') return std::nullopt;
  Offset base = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + 20, base);
  if (error != std::errc() || end != name.data() + 20 || base > kBaseMax) return std::nullopt;
  return base;
}

}  // namespace cordwood::segment
