#include "cordwood/segment/copy.h"

#include <algorithm>
#include <cstring>

#include "cordwood/os/checksum.h"

namespace cordwood::segment {

void FrameCopier::Copy(const CheckedFrame& frame, std::uint32_t batch_remaining, Offset durable) {
  const FrameHeader& header = frame.header;
  FramePlan plan;
  plan.bytes_and_flags = header.bytes_and_flags;
  plan.value_bytes = header.value_bytes;
  plan.key_bytes = header.key_bytes;
  plan.headers_bytes = frame.headers_bytes;
  std::byte* body = to_.data() + position_ + kFrameHeaderBytes;
  std::memcpy(body, frame.body, frame.frame_bytes - kFrameHeaderBytes);
  plan.body_hash = os::Hash64(body, plan.body_bytes());
  WriteFrameHeader(to_.key(), to_.data(), plan,
                   {.position = position_,
                    .offset = header.offset,
                    .timestamp_ns = header.timestamp_ns,
                    .batch_remaining = batch_remaining,
                    .durable = durable});
  const auto delta = static_cast<std::uint32_t>(header.offset - to_.base());
  if (position_ >= next_entry_ && to_.index() != nullptr &&
      to_.index()->Add(entries_, {delta, position_, largest_})) {
    ++entries_;
    next_entry_ = position_ + index_interval_bytes_;
  }
  largest_ = std::max(largest_, header.timestamp_ns);
  position_ += frame.frame_bytes;
  ++records_;
}

}  // namespace cordwood::segment
