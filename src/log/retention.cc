#include "cordwood/log/retention.h"

#include <algorithm>
#include <vector>

#include "cordwood/os/clock.h"

namespace cordwood::log {
namespace {

bool IsPossible(std::int64_t time_ns, std::int64_t now_ns) {
  return time_ns >= kEarliestClockNs && time_ns <= now_ns;
}

// When each segment was last appended to, as well as that can be known.
std::vector<std::int64_t> AppendTimes(std::span<const SegmentFacts> segments, std::int64_t now_ns) {
  std::vector<std::int64_t> times(segments.size());
  std::int64_t not_after = now_ns;
  for (std::size_t i = segments.size(); i-- > 0;) {
    const std::int64_t said = segments[i].last_append_ns;
    if (IsPossible(said, now_ns)) not_after = said;
    times[i] = not_after;
  }
  return times;
}

// What the age of each segment counts from.
std::vector<std::int64_t> Births(std::span<const SegmentFacts> segments, RetentionClock clock,
                                 std::int64_t now_ns) {
  std::vector<std::int64_t> births = AppendTimes(segments, now_ns);
  std::int64_t before = std::numeric_limits<std::int64_t>::min();
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const std::int64_t largest = segments[i].largest_timestamp_ns;
    if (clock == RetentionClock::kRecord) {
      births[i] = std::min(largest, os::SaturatingAdd(births[i], kTimestampAheadMaxNs));
      continue;
    }
    if (largest <= now_ns) births[i] = std::max(births[i], largest);
    births[i] = before = std::max(before, births[i]);
  }
  return births;
}

}  // namespace

Offset RetainFrom(std::span<const SegmentFacts> segments, const RetentionRules& rules,
                  std::int64_t now_ns) {
  if (segments.empty()) return 0;
  const std::vector<std::int64_t> births = Births(segments, rules.clock, now_ns);
  std::int64_t bytes = 0;  // of what is left
  for (const SegmentFacts& segment : segments) bytes += static_cast<std::int64_t>(segment.bytes);
  const Offset end = segments.back().next;
  const std::int64_t oldest = os::SaturatingAdd(now_ns, -rules.age_ns);
  Offset start = end;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const SegmentFacts& segment = segments[i];
    const bool is_active = i + 1 == segments.size();
    start = segment.base;
    if (segment.next > rules.needed_from && bytes <= rules.needed_bytes) break;
    if (segment.next > rules.pinned_from) break;
    const std::int64_t left = bytes - static_cast<std::int64_t>(segment.bytes);
    const bool too_old = rules.age_ns != RetentionRules::kForEver && births[i] < oldest;
    const bool too_many =
        !is_active && (left >= rules.bytes || end - segment.next >= rules.records);
    if (!too_old && !too_many) break;
    bytes = left;
    start = end;
  }
  // Where a segment could not be read, `segments` has a hole, and the pin may be in it.
  return std::min(start, rules.pinned_from);
}

}  // namespace cordwood::log
