#include "cordwood/segment/walk.h"

#include <algorithm>
#include <cstring>

namespace cordwood::segment {

FrameState CheckFrameOf(const Segment& segment, std::uint64_t position, std::uint64_t limit,
                        bool verify_body, CheckedFrame& frame) {
  if (limit - position >= kFrameHeaderBytes) {
    segment.Fetch(position, position + kFrameHeaderBytes);
    FrameHeader header;
    std::memcpy(&header, segment.data() + position, sizeof header);
    // A length is believed only when it is proven.
    if (HeaderCheck(MixHeader(segment.key(), position, header)) == header.check) {
      const std::uint64_t bytes = header.bytes_and_flags & ~kFlagsMask;
      segment.Fetch(position, position + std::min(bytes, limit - position));
    }
  }
  return CheckFrame(segment.key(), segment.data(), position, limit, verify_body, frame);
}

RestOfFile LookAtRest(const Segment& segment, std::uint64_t from) {
  constexpr std::uint64_t kStep = 64 << 10;
  RestOfFile rest;
  const std::uint64_t end = segment.file_bytes();
  for (; from < end; from += std::min(kStep, end - from)) {
    const std::uint64_t to = from + std::min(kStep, end - from);
    segment.Fetch(from, to);
    for (std::uint64_t at = from; at < to; ++at) {
      if (segment.data()[at] == std::byte{0}) continue;
      ++rest.bytes;
      rest.end = at + 1;
    }
  }
  return rest;
}

FramesEnd WalkFrames(const Segment& segment, std::uint64_t limit, Offset below) {
  FramesEnd end = {.next = segment.base()};
  limit = std::min(limit, segment.file_bytes());
  CheckedFrame frame;
  while (end.position < limit &&
         CheckFrameOf(segment, end.position, limit, true, frame) == FrameState::kValid &&
         frame.header.offset >= end.next && frame.header.offset < below) {
    end.position += frame.frame_bytes;
    end.next = frame.header.offset + 1;
    end.largest_timestamp = std::max(end.largest_timestamp, frame.header.timestamp_ns);
  }
  return end;
}

void RebuildIndex(Segment& segment, std::uint64_t end_position, std::int64_t index_interval_bytes) {
  Index* index = segment.index();
  if (index == nullptr) return;
  index->Clear(0);
  std::size_t count = 0;
  std::uint64_t next_entry = kFirstFrame;
  std::int64_t largest = std::numeric_limits<std::int64_t>::min();
  CheckedFrame frame;
  for (std::uint64_t position = kFirstFrame; position < end_position;) {
    if (CheckFrame(segment.key(), segment.data(), position, end_position, false, frame) !=
        FrameState::kValid) {
      position += 8;  // damage: the next frame is looked for as a reader does
      continue;
    }
    if (position >= next_entry) {
      const auto delta = static_cast<std::uint32_t>(frame.header.offset - segment.base());
      if (!index->Add(count, {delta, position, largest})) break;
      ++count;
      next_entry = position + static_cast<std::uint64_t>(index_interval_bytes);
    }
    largest = std::max(largest, frame.header.timestamp_ns);
    position += frame.frame_bytes;
  }
  index->Seal(count);
}

}  // namespace cordwood::segment
