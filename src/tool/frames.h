// The frames of a segment, one behind the other, as `dump` and `explain` look at them: damaged
// ones, too.
//
//   ForEachFrame(segment, segment::kFirstFrame, limit, [&](const FoundFrame& found) {
//     Show(found);
//     return true;   // go on
//   });
//
// Thread safety: any thread; the bytes below the limit must not change meanwhile.

#ifndef CORDWOOD_TOOL_FRAMES_H_
#define CORDWOOD_TOOL_FRAMES_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "cordwood/describe.h"
#include "cordwood/log/log.h"
#include "cordwood/partition.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/segment.h"

namespace cordwood::tool {

struct FoundFrame {
  std::uint64_t position = 0;
  // kValid, or kBadBody: then its header can be believed.
  segment::FrameState state = segment::FrameState::kValid;
  segment::CheckedFrame frame = {};
};

// Up to the first one whose header cannot be believed, which is given with kBadHeader, or is none.
void ForEachFrame(const segment::Segment& segment, std::uint64_t position, std::uint64_t limit,
                  absl::FunctionRef<bool(const FoundFrame&)> use);

std::string_view NameOf(segment::FrameState state);

// A segment of a partition, opened to be read, and where its frames end.
struct OpenedSegment {
  SegmentDescription description = {};
  std::shared_ptr<segment::Segment> segment = {};
  std::uint64_t limit = 0;
};
absl::StatusOr<OpenedSegment> OpenSegment(const Partition& partition,
                                          const SegmentDescription& description);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_FRAMES_H_
