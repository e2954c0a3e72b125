// Writing and checking one frame, the bytes of a record in a segment (format.h).
//
//   FramePlan plan;                                       // before the lock
//   if (PlanSizes(record, plan) > limit) return TooLarge(...);
//   HashBody(record, plan);
//   WriteFrame(key, data + position, position, plan, record, placement);
//
//   CheckedFrame frame;
//   switch (CheckFrame(key, data, position, limit, true, frame)) { ... }
//
// Pure functions on memory; thread-safe. CheckFrame reads each word of a header once,
// into a copy, and uses only the copy: whoever may write to the file cannot change a
// length between its check and its use.

#ifndef CORDWOOD_SEGMENT_FRAME_H_
#define CORDWOOD_SEGMENT_FRAME_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "cordwood/os/checksum.h"
#include "cordwood/record.h"
#include "cordwood/segment/format.h"

namespace cordwood::segment {

inline std::uint64_t Mum(std::uint64_t a, std::uint64_t b) {
  __extension__ using Product = unsigned __int128;
  const Product product = static_cast<Product>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

inline std::uint64_t MixHeader(const SegmentKey& key, std::uint64_t position,
                               const FrameHeader& h) {
  const auto& k = key.k;
  return Mum((h.bytes_and_flags | (position / 8) << 32) ^ k[0],
             static_cast<std::uint64_t>(h.offset) ^ k[1]) ^
         Mum(static_cast<std::uint64_t>(h.timestamp_ns) ^ k[2],
             (h.value_bytes | std::uint64_t{h.key_bytes} << 32) ^ k[3]) ^
         Mum((h.batch_remaining | std::uint64_t{h.durable_lag} << 32) ^ k[4], key.odd);
}
inline std::uint32_t HeaderCheck(std::uint64_t mix) {
  return static_cast<std::uint32_t>(mix ^ mix >> 32);
}
inline std::uint64_t Checksum(const SegmentKey& key, std::uint64_t mix, std::uint64_t body_hash) {
  return Mum(body_hash ^ mix, key.odd_for_body);
}

// What can be known of a frame before its place is.
struct FramePlan {
  std::uint32_t bytes_and_flags = 0;
  std::uint32_t value_bytes = 0;
  std::uint32_t key_bytes = 0;
  std::uint32_t headers_bytes = 0;  // the whole section
  std::uint64_t body_hash = 0;

  std::uint32_t frame_bytes() const { return bytes_and_flags & ~kFlagsMask; }
  std::uint32_t body_bytes() const { return value_bytes + key_bytes + headers_bytes; }
};

inline constexpr std::uint64_t FrameBytes(std::uint64_t body_bytes) {
  return (kFrameHeaderBytes + body_bytes + 7) & ~std::uint64_t{7};
}

std::uint64_t EncodedHeadersBytes(const HeaderList& headers);

// The whole headers section; zero where there are no headers.
inline std::uint64_t HeadersSectionBytes(const HeaderList& headers) {
  return ABSL_PREDICT_TRUE(headers.empty()) ? 0 : EncodedHeadersBytes(headers);
}

// What is short is copied inline, 16 bytes at a time and the last 16 once more where they
// overlap: a call of memcpy costs as much as the copy.
inline char* Put(char* to, std::string_view bytes) {
  const std::size_t n = bytes.size();
  const char* from = bytes.data();
  if (ABSL_PREDICT_TRUE(n >= 16 && n <= 256)) {
    for (std::size_t i = 0; i < n - 16; i += 16) std::memcpy(to + i, from + i, 16);
    std::memcpy(to + n - 16, from + n - 16, 16);
  } else if (n != 0) {
    std::memcpy(to, from, n);
  }
  return to + n;
}
inline void PutU64(std::byte* to, std::uint64_t value) { std::memcpy(to, &value, 8); }
inline char* PutU32(char* to, std::uint32_t value) {
  std::memcpy(to, &value, 4);
  return to + 4;
}

char* PutHeaders(char* to, const HeaderList& headers, std::uint32_t section_bytes);

ABSL_ATTRIBUTE_ALWAYS_INLINE inline void PutBody(char* to, const Record& record,
                                                 const FramePlan& plan) {
  if (plan.value_bytes != 0) to = Put(to, record.value.bytes());
  if (plan.key_bytes != 0) to = Put(to, record.key.bytes());
  if (ABSL_PREDICT_FALSE(plan.headers_bytes != 0)) {
    PutHeaders(to, record.headers, plan.headers_bytes);
  }
}

// Key, headers and padding behind a value that is in its place already.
inline void PutTail(char* value, const Record& record, const FramePlan& plan) {
  char* to = value + plan.value_bytes;
  if (plan.key_bytes != 0) to = Put(to, record.key.bytes());
  if (plan.headers_bytes != 0) to = PutHeaders(to, record.headers, plan.headers_bytes);
  char* const end = value + plan.frame_bytes() - kFrameHeaderBytes;
  if (to != end) std::memset(to, 0, static_cast<std::size_t>(end - to));
}

// By value: a plan whose address is taken would live in memory on the hot path.
std::uint64_t HashBodyInPieces(const Record& record, FramePlan plan);

// All but the hash. The bytes of the body: the plan is good for nothing if they are not below
// 2^31 - 64.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline std::uint64_t PlanSizes(const Record& record, FramePlan& plan) {
  const std::uint64_t value_bytes = record.value.bytes().size();
  const std::uint64_t key_bytes = record.key.bytes().size();
  const std::uint64_t headers_bytes = HeadersSectionBytes(record.headers);
  plan.value_bytes = static_cast<std::uint32_t>(value_bytes);
  plan.key_bytes = static_cast<std::uint32_t>(key_bytes);
  plan.headers_bytes = static_cast<std::uint32_t>(headers_bytes);
  plan.bytes_and_flags = static_cast<std::uint32_t>(FrameBytes(plan.body_bytes())) |
                         (record.key.has_value() ? kHasKey : 0) |
                         (record.value.has_value() ? kHasValue : 0) |
                         (plan.headers_bytes != 0 ? kHasHeaders : 0);
  return value_bytes + key_bytes + headers_bytes;
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline void HashBody(const Record& record, FramePlan& plan) {
  if (ABSL_PREDICT_TRUE(plan.body_bytes() == plan.value_bytes)) {
    plan.body_hash = os::Hash64(record.value.bytes().data(), plan.value_bytes);
  } else {
    plan.body_hash = HashBodyInPieces(record, plan);
  }
}

// Where a frame goes and what is known only under the lock.
struct FramePlace {
  std::uint64_t position = 0;
  Offset offset = 0;
  std::int64_t timestamp_ns = 0;
  std::uint32_t batch_remaining = 0;
  Offset durable = 0;
};

// The header, last: until it is there the frame is none. It is stored word by word from
// registers: a struct that is filled on the stack and then copied stalls on the way.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void WriteFrameHeader(const SegmentKey& key, std::byte* data,
                                                          const FramePlan& plan,
                                                          const FramePlace& place) {
  const auto lag = static_cast<std::uint64_t>(place.offset - place.durable);
  const FrameHeader header = {.check = 0,
                              .bytes_and_flags = plan.bytes_and_flags,
                              .checksum = 0,
                              .offset = place.offset,
                              .timestamp_ns = place.timestamp_ns,
                              .value_bytes = plan.value_bytes,
                              .key_bytes = plan.key_bytes,
                              .batch_remaining = place.batch_remaining,
                              .durable_lag = lag < kDurableLagUnknown
                                                 ? static_cast<std::uint32_t>(lag)
                                                 : kDurableLagUnknown};
  const std::uint64_t mix = MixHeader(key, place.position, header);
  const auto pair = [](std::uint32_t low, std::uint32_t high) {
    return low | std::uint64_t{high} << 32;
  };
  std::byte* const to = data + place.position;
  PutU64(to, pair(HeaderCheck(mix), header.bytes_and_flags));
  PutU64(to + 8, Checksum(key, mix, plan.body_hash));
  PutU64(to + 16, static_cast<std::uint64_t>(header.offset));
  PutU64(to + 24, static_cast<std::uint64_t>(header.timestamp_ns));
  PutU64(to + 32, pair(header.value_bytes, header.key_bytes));
  PutU64(to + 40, pair(header.batch_remaining, header.durable_lag));
}

// Writes the whole frame. data is the start of the segment.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void WriteFrame(const SegmentKey& key, std::byte* data,
                                                    const FramePlan& plan, const FramePlace& place,
                                                    const Record& record) {
  char* frame = reinterpret_cast<char*>(data + place.position);
  // The last 8 bytes hold the padding; zero them first, the body goes over it.
  std::memset(frame + plan.frame_bytes() - 8, 0, 8);
  PutBody(frame + kFrameHeaderBytes, record, plan);
  WriteFrameHeader(key, data, plan, place);
}

// Asks for the cache lines that the next appends will store to, so that the exchange
// that ends a writer's turn need not wait for them.
//
// Always inlined: GCC 12 takes a function that only prefetches for one that does nothing, and
// drops the calls (an append of 1,024 bytes took twice as long).
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void PrefetchForWrite(const std::byte* at,
                                                          std::uint64_t bytes) {
  constexpr std::uint64_t kLine = 64, kBytesMax = 4096;
  for (std::uint64_t i = 0; i < bytes && i < kBytesMax; i += kLine) {
    __builtin_prefetch(at + i, 1, 3);
  }
}

enum class FrameState {
  kValid,
  kNothing,    // a length of zero: never written
  kBadHeader,  // the header's check does not hold: no word of it can be believed
  kPastEnd,    // a proven header, but the frame reaches past the limit
  kBadBody,    // a proven header over bytes that are wrong
};

struct CheckedFrame {
  FrameHeader header;
  const char* body = nullptr;
  std::uint32_t headers_bytes = 0;
  std::uint32_t frame_bytes = 0;
};

// The length of the headers section of a frame whose header is proven, and whether
// the body's parts fit the frame with zero padding.
inline bool CheckBodyShape(CheckedFrame& frame) {
  const FrameHeader& h = frame.header;
  std::uint64_t body = std::uint64_t{h.value_bytes} + h.key_bytes;
  const std::uint64_t room = frame.frame_bytes - kFrameHeaderBytes;
  frame.headers_bytes = 0;
  if (ABSL_PREDICT_FALSE((h.bytes_and_flags & kHasHeaders) != 0)) {
    if (body + 4 > room) return false;
    std::memcpy(&frame.headers_bytes, frame.body + body, 4);
    if (frame.headers_bytes < 4) return false;
    body += frame.headers_bytes;
  }
  if (body > room || room - body >= 8) return false;
  // The padding, if there is any, is the top of the frame's last word.
  std::uint64_t last;
  std::memcpy(&last, frame.body + room - 8, 8);
  return room == body || last >> (64 - 8 * (room - body)) == 0;
}

// position <= limit; [data, data + limit) can be read. Without verify_body the value
// and key may be damaged, but everything stays within the frame.
inline FrameState CheckFrame(const SegmentKey& key, const std::byte* data, std::uint64_t position,
                             std::uint64_t limit, bool verify_body, CheckedFrame& frame) {
  if (ABSL_PREDICT_FALSE(limit - position < kFrameHeaderBytes)) return FrameState::kPastEnd;
  std::memcpy(&frame.header, data + position, sizeof frame.header);
  const FrameHeader& h = frame.header;
  frame.frame_bytes = h.bytes_and_flags & ~kFlagsMask;
  const std::uint64_t mix = MixHeader(key, position, h);
  if (ABSL_PREDICT_FALSE(HeaderCheck(mix) != h.check)) {
    return frame.frame_bytes == 0 ? FrameState::kNothing : FrameState::kBadHeader;
  }
  if (ABSL_PREDICT_FALSE(frame.frame_bytes < kFrameHeaderBytes)) {
    return frame.frame_bytes == 0 ? FrameState::kNothing : FrameState::kBadHeader;
  }
  if (ABSL_PREDICT_FALSE(frame.frame_bytes > limit - position)) return FrameState::kPastEnd;
  frame.body = reinterpret_cast<const char*>(data + position + kFrameHeaderBytes);
  if (ABSL_PREDICT_FALSE(!CheckBodyShape(frame))) return FrameState::kBadBody;
  if (verify_body) {
    const std::size_t bytes = std::size_t{h.value_bytes} + h.key_bytes + frame.headers_bytes;
    const std::uint64_t hash = os::Hash64(frame.body, bytes);
    if (ABSL_PREDICT_FALSE(Checksum(key, mix, hash) != h.checksum)) return FrameState::kBadBody;
  }
  return FrameState::kValid;
}

// What the record of a frame that was checked looks like to a user.
inline RecordView ViewOf(const CheckedFrame& frame, const internal::PartitionName* where) {
  const FrameHeader& h = frame.header;
  return RecordView(internal::RecordParts{.body = frame.body,
                                          .value_bytes = h.value_bytes,
                                          .key_bytes = h.key_bytes,
                                          .headers_bytes = frame.headers_bytes,
                                          .flags = h.bytes_and_flags & (kHasKey | kHasValue),
                                          .offset = h.offset,
                                          .timestamp_ns = h.timestamp_ns,
                                          .where = where});
}

}  // namespace cordwood::segment

#endif  // CORDWOOD_SEGMENT_FRAME_H_
