// One line of a web server's access log, taken apart.
//
//   absl::StatusOr<AccessLogLine> line = ParseAccessLogLine(
//       "uplherc.upl.com - - [01/Aug/1995:00:00:07 -0400] \"GET / HTTP/1.0\" 304 0");
//   line->host     "uplherc.upl.com"
//   line->time     1995-08-01T04:00:07Z
//   line->request  "GET / HTTP/1.0"
//
// It reads the Common Log Format and what begins like it (the Combined Log Format of Apache and
// nginx, or a virtual host's log with more fields at the end):
//
//   host ident user [day/Mon/year:hour:minute:second zone] "request" status bytes ...
//
// A pure function: no state, no clock, no locale, nothing is allocated but the words of an error.
#ifndef CORDWOOD_EXAMPLES_ACCESS_LOG_PARSER_H_
#define CORDWOOD_EXAMPLES_ACCESS_LOG_PARSER_H_

#include <array>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string_view>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"

namespace access_log {

// The views point into the line that was parsed.
struct AccessLogLine {
  std::string_view host = {};
  absl::Time time = {};
  absl::Duration utc_offset = {};  // the zone that the server wrote its times in: -4 h for "-0400"
  std::string_view request = {};   // what stood between the quotation marks
};

// No web server writes a longer line; a file that has one is not a log.
inline constexpr std::size_t kLineBytesMax = 64 * 1024;

namespace internal {

// Reads a number that fills all of `digits`; a sign is no digit.
inline std::optional<int> ParseDigits(std::string_view digits) {
  int value = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, value);
  if (error != std::errc() || stop != end || value < 0 || digits.front() == '-') {
    return std::nullopt;
  }
  return value;
}

inline std::optional<int> ParseMonth(std::string_view name) {
  static constexpr std::array<std::string_view, 12> kNames = {
      "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<int>(i) + 1;
  }
  return std::nullopt;
}

// "-0400"; no place on Earth is more than 14 hours away.
inline std::optional<absl::Duration> ParseZone(std::string_view zone) {
  if (zone.size() != 5 || (zone[0] != '+' && zone[0] != '-')) return std::nullopt;
  const std::optional<int> hours = ParseDigits(zone.substr(1, 2));
  const std::optional<int> minutes = ParseDigits(zone.substr(3, 2));
  if (!hours || !minutes || *hours > 14 || *minutes > 59) return std::nullopt;
  const absl::Duration offset = absl::Hours(*hours) + absl::Minutes(*minutes);
  return zone[0] == '-' ? -offset : offset;
}

struct TimeAndZone {
  absl::Time time = {};
  absl::Duration utc_offset = {};
};

// "01/Aug/1995:00:00:07 -0400": every field at its place. The days of each month are checked.
inline std::optional<TimeAndZone> ParseTime(std::string_view text) {
  if (text.size() != 26 || text[2] != '/' || text[6] != '/' || text[11] != ':' || text[14] != ':' ||
      text[17] != ':' || text[20] != ' ') {
    return std::nullopt;
  }
  const std::optional<int> day = ParseDigits(text.substr(0, 2));
  const std::optional<int> month = ParseMonth(text.substr(3, 3));
  const std::optional<int> year = ParseDigits(text.substr(7, 4));
  const std::optional<int> hour = ParseDigits(text.substr(12, 2));
  const std::optional<int> minute = ParseDigits(text.substr(15, 2));
  const std::optional<int> second = ParseDigits(text.substr(18, 2));
  const std::optional<absl::Duration> zone = ParseZone(text.substr(21));
  if (!day || !month || !year || !hour || !minute || !second || !zone) return std::nullopt;

  // CivilSecond carries 30 February over into March; so what comes out must be what went in.
  const absl::CivilSecond civil(*year, *month, *day, *hour, *minute, *second);
  if (civil.day() != *day || civil.hour() != *hour || civil.minute() != *minute ||
      civil.second() != *second) {
    return std::nullopt;
  }
  return TimeAndZone{absl::FromCivil(civil, absl::UTCTimeZone()) - *zone, *zone};
}

// True for `" 200 1839`: a quotation mark, a space, three digits, and then a space or the end.
inline bool IsEndOfRequest(std::string_view rest) {
  return rest.size() >= 5 && rest.substr(0, 2) == "\" " && ParseDigits(rest.substr(2, 3)) &&
         (rest.size() == 5 || rest[5] == ' ');
}

}  // namespace internal

// Takes `line` apart, which has no newline at its end (a carriage return may be there), or says in
// kInvalidArgument what is wrong with it.
inline absl::StatusOr<AccessLogLine> ParseAccessLogLine(std::string_view line) {
  if (line.size() > kLineBytesMax) return absl::InvalidArgumentError("longer than 64 KiB");
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  if (line.empty()) return absl::InvalidArgumentError("empty");

  AccessLogLine parsed;
  parsed.host = line.substr(0, line.find(' '));
  if (parsed.host.empty() || parsed.host.size() == line.size()) {
    return absl::InvalidArgumentError("no host at its start");
  }

  // The user's name, which stands between, may hold spaces, so the time is looked for.
  const std::size_t time_begin = line.find(" [", parsed.host.size());
  const std::size_t time_end = line.find("] \"", parsed.host.size());
  if (time_begin == std::string_view::npos || time_end == std::string_view::npos ||
      time_end < time_begin) {
    return absl::InvalidArgumentError("no [time] before a \"request\"");
  }
  const std::optional<internal::TimeAndZone> at =
      internal::ParseTime(line.substr(time_begin + 2, time_end - time_begin - 2));
  if (!at) return absl::InvalidArgumentError("the time is not like [01/Aug/1995:00:00:07 -0400]");
  parsed.time = at->time;
  parsed.utc_offset = at->utc_offset;

  // A request may hold quotation marks (clients send anything): it ends at the one that a status
  // of three digits follows.
  const std::size_t request_begin = time_end + 3;
  for (std::size_t i = request_begin; i < line.size(); ++i) {
    if (internal::IsEndOfRequest(line.substr(i))) {
      parsed.request = line.substr(request_begin, i - request_begin);
      return parsed;
    }
  }
  return absl::InvalidArgumentError("no status of three digits after the \"request\"");
}

}  // namespace access_log

#endif  // CORDWOOD_EXAMPLES_ACCESS_LOG_PARSER_H_
