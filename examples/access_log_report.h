// What access_log prints: a progress bar, tables, and numbers that a person can read.
//
//   ProgressBar bar(stdout);
//   bar.Show(0.62, "24,800 sent, 24,310 read");   [##################            ]  62%  24,800 ...
//   bar.Finish("40,000 sent, 40,000 read");
#ifndef CORDWOOD_EXAMPLES_ACCESS_LOG_REPORT_H_
#define CORDWOOD_EXAMPLES_ACCESS_LOG_REPORT_H_

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace access_log {

// 1234567 -> "1,234,567".
inline std::string WithCommas(std::int64_t number) {
  std::string text = std::to_string(number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t at = text.size(); at > first + 3;) text.insert(at -= 3, 1, ',');
  return text;
}

// 4231841 -> "4.2 MB"; a megabyte is a million bytes.
inline std::string Megabytes(std::int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

// What came from outside, made fit for a terminal: one line, at most `width` characters, no control
// characters (a request may hold anything, escape sequences too).
inline std::string Printable(std::string_view text, std::size_t width) {
  std::string out(text.substr(0, width));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  if (text.size() > width && width >= 3) out.replace(width - 3, 3, "...");
  return out;
}

// An error in words, without the name of its code.
inline std::string InWords(const absl::Status& status) {
  const std::string words(status.message());
  return words.empty() ? status.ToString() : words;
}

// Rows of cells in columns that are as wide as they must be. Numbers go to the right.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title = {};
    Align align = Align::kRight;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {
    for (const Column& column : columns_) widths_.push_back(column.title.size());
  }

  // As many cells as there are columns.
  void AddRow(std::vector<std::string> cells) {
    cells.resize(columns_.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
      widths_[i] = std::max(widths_[i], cells[i].size());
    }
    rows_.push_back(std::move(cells));
  }

  std::string ToString() const {
    std::vector<std::string> titles;
    for (const Column& column : columns_) titles.push_back(column.title);
    std::string out = Line(titles);
    for (const std::vector<std::string>& row : rows_) out += Line(row);
    return out;
  }

 private:
  std::string Line(const std::vector<std::string>& cells) const {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths_[i] - cells[i].size(), ' ');
      line += "  ";
      line += columns_[i].align == Align::kLeft ? cells[i] + padding : padding + cells[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    return line + '\n';
  }

  std::vector<Column> columns_;
  std::vector<std::size_t> widths_ = {};
  std::vector<std::vector<std::string>> rows_ = {};
};

// On a terminal one line that is drawn again, at most 20 times a second. On a pipe or a file a
// plain line for each quarter.
class ProgressBar {
 public:
  explicit ProgressBar(std::FILE* out) : out_(out), terminal_(isatty(fileno(out)) == 1) {}
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  // Ends the line, so that an error does not stand beside half a bar.
  ~ProgressBar() {
    if (line_is_open_) std::fputc('\n', out_);
  }

  // True if Show() would print something: what it would show is worth putting together.
  bool IsDue(double done) const {
    return terminal_ ? absl::Now() >= next_draw_ : done >= next_quarter_ && next_quarter_ < 1;
  }

  void Show(double done, const std::string& text) {
    if (!IsDue(done)) return;
    next_draw_ = absl::Now() + absl::Milliseconds(50);
    while (next_quarter_ <= done) next_quarter_ += 0.25;
    Draw(done, text);
  }

  void Finish(const std::string& text) {
    Draw(1, text);
    if (line_is_open_) std::fputc('\n', out_);
    line_is_open_ = false;
  }

 private:
  static constexpr std::size_t kWidth = 30;

  void Draw(double done, const std::string& text) {
    done = std::clamp(done, 0.0, 1.0);
    const int percent = static_cast<int>(done * 100);
    if (terminal_) {
      const auto filled = static_cast<std::size_t>(done * static_cast<double>(kWidth));
      const std::string bar = std::string(filled, '#') + std::string(kWidth - filled, ' ');
      std::fprintf(out_, "\r[%s] %3d%%  %s\x1b[K", bar.c_str(), percent, text.c_str());
      line_is_open_ = true;
    } else {
      std::fprintf(out_, "%3d%%  %s\n", percent, text.c_str());
    }
    std::fflush(out_);
  }

  std::FILE* out_;
  bool terminal_;
  bool line_is_open_ = false;
  absl::Time next_draw_ = absl::InfinitePast();
  double next_quarter_ = 0.25;
};

}  // namespace access_log

#endif  // CORDWOOD_EXAMPLES_ACCESS_LOG_REPORT_H_
