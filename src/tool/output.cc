#include "tool/output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace cordwood::tool {

absl::Status Output::Flush() {
  std::string_view left = buffer_;
  while (status_.ok() && !left.empty()) {
    const ssize_t written = write(fd_, left.data(), left.size());
    if (written >= 0) {
      left.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE) {
      status_ = absl::CancelledError("nobody reads the output any more");
    } else if (errno != EINTR) {
      status_ =
          absl::UnavailableError(absl::StrCat("the output cannot be written: ", strerror(errno),
                                              "; make room, or send it "
                                              "elsewhere"));
    }
  }
  buffer_.clear();
  return status_;
}

std::string Table::Line(const std::vector<std::string>& cells,
                        const std::vector<std::size_t>& widths) const {
  std::string line;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    const std::string space(widths[i] - std::min(widths[i], cells[i].size()), ' ');
    if (i > 0) line += "  ";
    line += columns_[i].align == Align::kRight ? space + cells[i] : cells[i] + space;
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

std::string Table::Text(const Style& style) const {
  std::vector<std::string> titles;
  std::vector<std::size_t> widths;
  for (const Column& column : columns_) {
    titles.push_back(column.title);
    widths.push_back(column.title.size());
  }
  for (const std::vector<std::string>& row : rows_) {
    for (std::size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text = style.Bold(Line(titles, widths)) + "\n";
  for (const std::vector<std::string>& row : rows_) text += Line(row, widths) + "\n";
  return text;
}

std::string Count(std::int64_t number) {
  std::string text = std::to_string(number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t at = text.size(); at > first + 3;) {
    at -= 3;
    text.insert(at, ",");
  }
  return text;
}

std::string BytesText(std::int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double number = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (number >= 1024 && unit + 1 < kUnits.size()) {
    number /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrCat(bytes, " B") : absl::StrFormat("%.1f %s", number, kUnits[unit]);
}

std::string RateText(double per_second) {
  if (per_second >= 1e6) return absl::StrFormat("%.1f M/s", per_second / 1e6);
  if (per_second >= 1e4) return absl::StrFormat("%.1f k/s", per_second / 1e3);
  return absl::StrFormat("%.0f /s", per_second);
}

std::string DurationText(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "for ever";
  if (duration < absl::Seconds(1)) {
    return absl::StrCat(absl::ToInt64Milliseconds(duration), " ms");
  }
  constexpr std::array<std::pair<const char*, std::int64_t>, 4> kUnits = {
      {{"d", 86'400}, {"h", 3'600}, {"m", 60}, {"s", 1}}};
  std::int64_t seconds = absl::ToInt64Seconds(duration);
  std::string text;
  int parts = 0;
  for (const auto& [unit, size] : kUnits) {
    const std::int64_t number = seconds / size;
    seconds %= size;
    if ((number == 0 && parts == 0) || parts == 2) continue;
    ++parts;
    if (number != 0) absl::StrAppend(&text, text.empty() ? "" : " ", number, " ", unit);
  }
  return text;
}

std::string TimeText(absl::Time time) {
  if (time == absl::InfinitePast()) return "-";
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

std::string ExactTimeText(absl::Time time) {
  using Limits = std::numeric_limits<std::int64_t>;
  time = std::clamp(time, absl::FromUnixNanos(Limits::min()), absl::FromUnixNanos(Limits::max()));
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*SZ", time, absl::UTCTimeZone());
}

}  // namespace cordwood::tool
