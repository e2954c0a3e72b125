#include "tool/frames.h"

#include <algorithm>

#include "cordwood/status_macros.h"

namespace cordwood::tool {

using segment::FrameState;

void ForEachFrame(const segment::Segment& segment, std::uint64_t position, std::uint64_t limit,
                  absl::FunctionRef<bool(const FoundFrame&)> use) {
  while (position < limit) {
    FoundFrame found{.position = position};
    found.state =
        segment::CheckFrame(segment.key(), segment.data(), position, limit, true, found.frame);
    if (found.state == FrameState::kNothing) return;
    if (!use(found)) return;
    if (found.state != FrameState::kValid && found.state != FrameState::kBadBody) return;
    position += found.frame.frame_bytes;
  }
}

std::string_view NameOf(FrameState state) {
  switch (state) {
    case FrameState::kValid:
      return "good";
    case FrameState::kNothing:
      return "nothing is written there";
    case FrameState::kBadHeader:
      return "damaged header";
    case FrameState::kPastEnd:
      return "reaches past the end";
    case FrameState::kBadBody:
      return "damaged";
  }
  return "";
}

absl::StatusOr<OpenedSegment> OpenSegment(const Partition& partition,
                                          const SegmentDescription& description) {
  OpenedSegment opened{.description = description};
  const log::Log* const log = internal::LogOf(partition);
  if (log == nullptr) return partition.status();
  CORDWOOD_ASSIGN_OR_RETURN(
      opened.segment, segment::Segment::Open(log->files(), description.base, os::Access::kRead));
  opened.limit =
      std::min(static_cast<std::uint64_t>(description.bytes), opened.segment->file_bytes());
  return opened;
}

}  // namespace cordwood::tool
