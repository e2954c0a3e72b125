// What the program writes: standard output through a buffer of its own, tables, and numbers as
// people read them.
//
//   Output out(1);
//   Table table({{"TOPIC"}, {"RECORDS", Align::kRight}});
//   table.Row({"orders", Count(40'000)});
//   table.Print(out, style);
//   CORDWOOD_RETURN_IF_ERROR(out.Flush());
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_TOOL_OUTPUT_H_
#define CORDWOOD_TOOL_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace cordwood::tool {

class Output {
 public:
  explicit Output(int fd) : fd_(fd) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // Appends here what is to be written, and then calls Write() with nothing.
  std::string& buffer() { return buffer_; }
  void Write(std::string_view text = {}) {
    buffer_ += text;
    if (buffer_.size() >= kEnough) Flush().IgnoreError();  // status() says it
  }
  // kCancelled: nobody reads it any more, as after `| head`. Else why it could not be written.
  absl::Status Flush();
  absl::Status status() const { return status_; }

 private:
  static constexpr std::size_t kEnough = 64 << 10;

  const int fd_;
  std::string buffer_;
  absl::Status status_;
};

// Escape sequences for a terminal, or nothing.
class Style {
 public:
  explicit Style(bool colours) : colours_(colours) {}
  std::string Bold(std::string_view text) const { return With("\033[1m", text); }
  std::string Dim(std::string_view text) const { return With("\033[2m", text); }
  std::string Bad(std::string_view text) const { return With("\033[31m", text); }
  std::string Good(std::string_view text) const { return With("\033[32m", text); }

 private:
  std::string With(std::string_view begin, std::string_view text) const {
    if (!colours_ || text.empty()) return std::string(text);
    return std::string(begin) + std::string(text) + "\033[0m";
  }

  const bool colours_;
};

enum class Align { kLeft, kRight };

class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // As many cells as there are columns.
  void Row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string Text(const Style& style) const;

 private:
  std::string Line(const std::vector<std::string>& cells,
                   const std::vector<std::size_t>& widths) const;

  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

std::string Count(std::int64_t number);     // "1,234,567"
std::string BytesText(std::int64_t bytes);  // "1.5 MiB"
std::string RateText(double per_second);    // "12.3 k/s"
// "2 m 5 s", the two largest units.
std::string DurationText(absl::Duration duration);
// "2026-11-22T04:43:59.123Z"; InfinitePast is "-".
std::string TimeText(absl::Time time);
// RFC 3339 to the nanosecond, for programs; a time without end is the last one of a record.
std::string ExactTimeText(absl::Time time);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_OUTPUT_H_
