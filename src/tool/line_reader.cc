#include "tool/line_reader.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "tool/terminal.h"

namespace cordwood::tool {
namespace {

constexpr std::size_t kChunk = 1 << 20;
constexpr std::size_t kLineMax = std::size_t{1} << 30;  // no record can be longer

}  // namespace

absl::StatusOr<bool> LineReader::Fill() {
  if (is_over_) return false;
  std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
  end_ -= begin_;
  searched_ = end_;
  begin_ = 0;
  if (end_ > kLineMax) {
    return absl::FailedPreconditionError(
        absl::StrCat("line ", lines_ + 1, " is longer than 1 GiB, which no record may be"));
  }
  if (buffer_.size() < end_ + kChunk) buffer_.resize(2 * buffer_.size() + kChunk);
  for (;;) {
    const ssize_t got = read(fd_, buffer_.data() + end_, buffer_.size() - end_);
    if (got < 0 && errno == EINTR && !IsStopped()) continue;
    if (got < 0 && errno != EINTR) {
      return absl::UnavailableError(absl::StrCat("the input cannot be read: ", strerror(errno)));
    }
    is_over_ = got <= 0;
    if (got < 0) end_ = begin_;  // stopped: the line is not whole
    if (got > 0) {
      end_ += static_cast<std::size_t>(got);
      bytes_ += got;
    }
    return end_ > 0;
  }
}

std::optional<std::string_view> LineReader::Next() {
  const void* const found = std::memchr(buffer_.data() + searched_, '\n', end_ - searched_);
  std::string_view line;
  if (found != nullptr) {
    const auto at = static_cast<std::size_t>(static_cast<const char*>(found) - buffer_.data());
    line = std::string_view(buffer_.data() + begin_, at - begin_);
    begin_ = searched_ = at + 1;
  } else if (is_over_ && begin_ < end_) {
    line = std::string_view(buffer_.data() + begin_, end_ - begin_);
    begin_ = searched_ = end_;
  } else {
    searched_ = end_;
    return std::nullopt;
  }
  ++lines_;
  return line;
}

}  // namespace cordwood::tool
