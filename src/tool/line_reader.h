// Lines of a file descriptor, in the memory that they were read into.
//
//   LineReader lines(0);
//   while (lines.Fill().value()) {                 // waits for more
//     while (auto line = lines.Next()) Use(*line);  // valid until the next Fill()
//   }
//
// So what came together is handled together, and nobody waits for a line that has come.
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_TOOL_LINE_READER_H_
#define CORDWOOD_TOOL_LINE_READER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace cordwood::tool {

class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // False: there is no more. kFailedPrecondition: a line is longer than 1 GiB.
  absl::StatusOr<bool> Fill();
  // The next whole line, without its "\n"; the last one need not have one.
  std::optional<std::string_view> Next();

  std::int64_t lines() const { return lines_; }  // that Next() has given
  std::int64_t bytes() const { return bytes_; }  // that were read

 private:
  const int fd_;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of what is in it and was not given
  std::size_t searched_ = 0;         // up to there is no end of a line
  bool is_over_ = false;
  std::int64_t lines_ = 0, bytes_ = 0;
};

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_LINE_READER_H_
