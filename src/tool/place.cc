#include "tool/place.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cordwood/status_macros.h"

namespace cordwood::tool {
namespace {

absl::string_view ToAbsl(std::string_view s) { return absl::string_view(s.data(), s.size()); }

absl::Status Bad(std::string_view text, std::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat("\"", ToAbsl(text), "\" is not ", ToAbsl(wanted)));
}

}  // namespace

absl::StatusOr<absl::Time> ParseTime(std::string_view text) {
  for (const char* format :
       {"%Y-%m-%d%ET%H:%M:%E*S%Ez", "%Y-%m-%d%ET%H:%M:%E*S", "%Y-%m-%d%ET%H:%M",
        "%Y-%m-%d %H:%M:%E*S", "%Y-%m-%d %H:%M", "%Y-%m-%d"}) {
    absl::Time time;
    std::string ignored;
    if (absl::ParseTime(format, ToAbsl(text), absl::UTCTimeZone(), &time, &ignored)) return time;
  }
  return Bad(text, "a time, such as 2026-11-22T04:43:00Z");
}

absl::StatusOr<absl::Duration> ParseDuration(std::string_view text) {
  absl::Duration duration;
  std::int64_t days = 0;
  if (text.ends_with('d') && absl::SimpleAtoi(ToAbsl(text.substr(0, text.size() - 1)), &days)) {
    return absl::Hours(24) * days;
  }
  if (text != "0" && absl::ParseDuration(ToAbsl(text), &duration)) return duration;
  return Bad(text, "a duration, such as 90s, 10m, 2h or 3d");
}

absl::StatusOr<Place> ParsePlace(std::string_view text, absl::Time now) {
  if (text == "start") return Place{.kind = Place::Kind::kStart};
  if (text == "end") return Place{.kind = Place::Kind::kEnd};
  std::int64_t number = 0;
  if (absl::SimpleAtoi(ToAbsl(text), &number)) {
    number = std::max(number, -std::numeric_limits<std::int64_t>::max());
    if (text.front() == '-') return Place{.kind = Place::Kind::kBeforeEnd, .number = -number};
    return Place{.kind = Place::Kind::kOffset, .number = number};
  }
  if (const absl::StatusOr<absl::Time> time = ParseTime(text); time.ok()) {
    return Place{.kind = Place::Kind::kTime, .time = *time};
  }
  if (const absl::StatusOr<absl::Duration> ago = ParseDuration(text);
      ago.ok() && *ago >= absl::ZeroDuration()) {
    return Place{.kind = Place::Kind::kTime, .time = now - *ago};
  }
  return Bad(text, kPlaceHelp);
}

absl::StatusOr<Offset> OffsetOfPlace(const Place& place, const Partition& partition) {
  const Offset start = partition.start_offset();
  const Offset end = partition.end_offset();
  switch (place.kind) {
    case Place::Kind::kStart:
      return start;
    case Place::Kind::kEnd:
      return end;
    case Place::Kind::kOffset:
      return std::clamp(place.number, start, std::max(start, end));
    case Place::Kind::kBeforeEnd:
      return place.number > end - start ? start : end - place.number;
    case Place::Kind::kTime:
      break;
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Offset offset, partition.OffsetForTime(place.time));
  return std::clamp(offset, start, std::max(start, end));
}

ResetTo ResetToPlace(const Place& place) {
  switch (place.kind) {
    case Place::Kind::kEnd:
      return ResetTo::Latest();
    case Place::Kind::kOffset:
      return ResetTo::At(place.number);
    case Place::Kind::kTime:
      return ResetTo::Time(place.time);
    default:
      return ResetTo::Earliest();
  }
}

}  // namespace cordwood::tool
