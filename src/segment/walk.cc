#include "cordwood/segment/walk.h"

#include <algorithm>

#include "cordwood/segment/frame.h"

namespace cordwood::segment {

FramesEnd WalkFrames(const Segment& segment, std::uint64_t limit, Offset below) {
  FramesEnd end = {.next = segment.base()};
  limit = std::min(limit, segment.file_bytes());
  CheckedFrame frame;
  while (end.position < limit &&
         CheckFrame(segment.key(), segment.data(), end.position, limit, true, frame) ==
             FrameState::kValid &&
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
