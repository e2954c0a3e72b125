// Where in a partition to begin or to stop, as people say it: "start", "end", an offset, "-10"
// (so many before the end), a time, or how long ago.
//
//   Place from = ParsePlace("10m", absl::Now()).value();
//   Offset offset = OffsetOfPlace(from, partition).value();
//
// Thread safety: functions of values.

#ifndef CORDWOOD_TOOL_PLACE_H_
#define CORDWOOD_TOOL_PLACE_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/options.h"
#include "cordwood/partition.h"

namespace cordwood::tool {

struct Place {
  enum class Kind { kStart, kEnd, kOffset, kBeforeEnd, kTime };

  Kind kind = Kind::kStart;
  Offset number = 0;
  absl::Time time = {};
  friend bool operator==(const Place&, const Place&) = default;
};

inline constexpr char kPlaceHelp[] =
    "start, end, an offset, -N (N before the end), a time (2026-11-22T04:43:00Z, 2026-11-22), or "
    "how long ago (90s, 10m, 2h, 3d)";

// kInvalidArgument says what can be said.
absl::StatusOr<Place> ParsePlace(std::string_view text, absl::Time now);
// RFC 3339, or its beginning: a day, or a day and a time, in UTC if it names no zone.
absl::StatusOr<absl::Time> ParseTime(std::string_view text);
// "90s", "1h30m", "3d"
absl::StatusOr<absl::Duration> ParseDuration(std::string_view text);

// In [start, end] of the partition.
absl::StatusOr<Offset> OffsetOfPlace(const Place& place, const Partition& partition);
ResetTo ResetToPlace(const Place& place);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_PLACE_H_
