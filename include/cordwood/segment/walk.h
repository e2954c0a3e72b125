// Walking the frames of a segment from its start, as far as they are whole.
//
//   const FramesEnd end = WalkFrames(segment, segment.file_bytes());
//
// Thread safety: any thread; the bytes below the limit must not change meanwhile.

#ifndef CORDWOOD_SEGMENT_WALK_H_
#define CORDWOOD_SEGMENT_WALK_H_

#include <cstdint>
#include <limits>

#include "cordwood/record.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/segment.h"

namespace cordwood::segment {

// Where a walk ended: behind the last good frame below the limits.
struct FramesEnd {
  Offset next = 0;
  std::uint64_t position = kFirstFrame;
  std::int64_t largest_timestamp = std::numeric_limits<std::int64_t>::min();

  Seal ToSeal(SealReason reason, std::int64_t last_append_ns) const {
    return {.next = next,
            .end_position = position,
            .largest_timestamp = largest_timestamp,
            .last_append_ns = last_append_ns,
            .reason = reason};
  }
};

// As CheckFrame (segment/frame.h), for who looks at whole segments: fetches the bytes first.
FrameState CheckFrameOf(const Segment& segment, std::uint64_t position, std::uint64_t limit,
                        bool verify_body, CheckedFrame& frame);

// What is in a file from a position on.
struct RestOfFile {
  std::uint64_t bytes = 0;  // that are not zero
  std::uint64_t end = 0;    // of the last of these; 0: there are none
};
RestOfFile LookAtRest(const Segment& segment, std::uint64_t from);

// Goes on while frames are whole, end at or before `limit`, and lie below `below`.
FramesEnd WalkFrames(const Segment& segment, std::uint64_t limit,
                     Offset below = std::numeric_limits<Offset>::max());

// Writes the index of a sealed segment anew from its frames, and seals it.
void RebuildIndex(Segment& segment, std::uint64_t end_position, std::int64_t index_interval_bytes);

}  // namespace cordwood::segment

#endif  // CORDWOOD_SEGMENT_WALK_H_
