#include "cordwood/segment/frame.h"

#include <array>
#include <vector>

namespace cordwood::segment {
namespace {

// Up to here the pieces are copied together and hashed in one go; above, XXH3's
// streaming form costs less than the copy (131 against 105 ns at 4 KiB).
constexpr std::uint32_t kCopyBytesMax = 4096;

}  // namespace

std::uint64_t EncodedHeadersBytes(const HeaderList& headers) {
  if (const auto encoded = headers.encoded()) return 4 + encoded->size();
  std::uint64_t bytes = 4;
  headers.ForEach([&](const Header& header) {
    bytes += 8 + header.key.size() + header.value.get().value_or(std::string_view()).size();
  });
  return bytes;
}

char* PutHeaders(char* to, const HeaderList& headers, std::uint32_t section_bytes) {
  to = PutU32(to, section_bytes);
  if (const auto encoded = headers.encoded()) return Put(to, *encoded);
  headers.ForEach([&](const Header& header) {
    const auto value = header.value.get();
    to = PutU32(to, static_cast<std::uint32_t>(header.key.size()));
    to = PutU32(to, value ? static_cast<std::uint32_t>(value->size()) : 0xffffffff);
    to = Put(to, header.key);
    if (value) to = Put(to, *value);
  });
  return to;
}

std::uint64_t HashBodyInPieces(const Record& record, FramePlan plan) {
  if (plan.body_bytes() <= kCopyBytesMax) {
    std::array<char, kCopyBytesMax> body;
    PutBody(body.data(), record, plan);
    return os::Hash64(body.data(), plan.body_bytes());
  }
  std::vector<char> headers(plan.headers_bytes);
  if (plan.headers_bytes != 0) PutHeaders(headers.data(), record.headers, plan.headers_bytes);
  const std::string_view value = record.value.bytes();
  const std::string_view key = record.key.bytes();
  const os::BytesPiece pieces[] = {
      {value.data(), value.size()}, {key.data(), key.size()}, {headers.data(), headers.size()}};
  return os::Hash64(pieces, std::size(pieces));
}

}  // namespace cordwood::segment
