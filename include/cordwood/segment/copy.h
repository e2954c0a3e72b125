// Copying frames from one segment to another that nobody reads yet, with its index.
//
//   FrameCopier copier(fresh, index_interval_bytes);
//   copier.Copy(frame, batch_remaining, durable);          // for each, offsets ascending
//   fresh.index()->Seal(copier.index_entries());
//
// Frames must have been checked: what is copied is signed anew, and damage would be
// signed with it. There must be room for them in the file.
//
// Thread safety: one thread at a time. The segment must outlive the copier.

#ifndef CORDWOOD_SEGMENT_COPY_H_
#define CORDWOOD_SEGMENT_COPY_H_

#include <cstddef>
#include <cstdint>
#include <limits>

#include "cordwood/record.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/segment.h"

namespace cordwood::segment {

class FrameCopier {
 public:
  FrameCopier(Segment& to, std::int64_t index_interval_bytes)
      : to_(to), index_interval_bytes_(static_cast<std::uint64_t>(index_interval_bytes)) {}

  // Offset, timestamp, key, value and headers stay. `durable` as in FramePlace.
  void Copy(const CheckedFrame& frame, std::uint32_t batch_remaining, Offset durable);

  std::uint64_t position() const { return position_; }  // one past the last frame
  std::uint32_t records() const { return records_; }
  std::int64_t largest_timestamp() const { return largest_; }
  std::size_t index_entries() const { return entries_; }

 private:
  Segment& to_;
  const std::uint64_t index_interval_bytes_;
  std::uint64_t position_ = kFirstFrame;
  std::uint64_t next_entry_ = kFirstFrame;
  std::size_t entries_ = 0;
  std::uint32_t records_ = 0;
  std::int64_t largest_ = std::numeric_limits<std::int64_t>::min();
};

}  // namespace cordwood::segment

#endif  // CORDWOOD_SEGMENT_COPY_H_
