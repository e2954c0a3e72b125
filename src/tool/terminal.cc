#include "tool/terminal.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tool/output.h"

namespace cordwood::tool {
namespace {

// A handler of a signal reaches nothing else.
std::atomic<bool> stopped{false};

void Stop(int) { stopped.store(true, std::memory_order_relaxed); }

void WriteAll(int fd, std::string_view text) {
  // What cannot be shown is not shown.
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

bool WantsColours(std::string_view when, int fd) {
  if (when != "auto") return when == "always";
  const char* const terminal = getenv("TERM");
  const char* const no_colour = getenv("NO_COLOR");
  return isatty(fd) != 0 && (no_colour == nullptr || *no_colour == '\0') && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

void StopOnSignals() {
  struct sigaction action = {};
  action.sa_handler = Stop;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool IsStopped() { return stopped.load(std::memory_order_relaxed); }

TerminalSize SizeOf(int fd) {
  winsize size = {};
  TerminalSize answer;
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0) {
    answer = {.rows = size.ws_row, .columns = size.ws_col};
  }
  return answer;
}

Keys::Keys(int fd) : fd_(fd), is_terminal_(isatty(fd) != 0 && tcgetattr(fd, &before_) == 0) {
  if (!is_terminal_) return;
  termios raw = before_;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  tcsetattr(fd_, TCSANOW, &raw);
}

Keys::~Keys() {
  if (is_terminal_) tcsetattr(fd_, TCSANOW, &before_);
}

char Keys::Wait(absl::Duration timeout) const {
  pollfd wait = {.fd = is_terminal_ ? fd_ : -1, .events = POLLIN, .revents = 0};
  char key = 0;
  if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) == 1) {
    // The end of the input is a wish to leave, too.
    if (read(fd_, &key, 1) != 1) key = 'q';
  }
  return IsStopped() ? '\0' : key;
}

Progress::Progress(std::string_view what, std::int64_t total_bytes)
    : what_(what), total_(total_bytes), is_visible_(isatty(2) != 0), begun_(absl::Now()) {}

void Progress::Show(std::int64_t records, std::int64_t bytes) {
  Write(bytes, std::max<std::int64_t>(total_, 0), records, bytes, "");
}

void Progress::ShowLag(std::int64_t records, std::int64_t bytes, std::int64_t lag) {
  Write(records, records + lag, records, bytes, absl::StrCat("  lag ", Count(lag)));
}

void Progress::Write(std::int64_t part, std::int64_t total, std::int64_t records,
                     std::int64_t bytes, std::string_view more) {
  constexpr absl::Duration kInterval = absl::Milliseconds(100);
  constexpr std::int64_t kBarWidth = 24;
  if (!is_visible_) return;
  const absl::Time now = absl::Now();
  if (now - shown_ < kInterval) return;
  shown_ = now;
  std::string line = absl::StrCat("\r", what_, " ");
  if (total > 0) {
    part = std::clamp<std::int64_t>(part, 0, total);
    const std::int64_t full = part * kBarWidth / total;
    absl::StrAppend(&line, "[", std::string(static_cast<std::size_t>(full), '#'),
                    std::string(static_cast<std::size_t>(kBarWidth - full), '.'), "] ",
                    part * 100 / total, " %  ");
  }
  const double seconds = std::max(absl::ToDoubleSeconds(now - begun_), 1e-3);
  absl::StrAppend(&line, Count(records), " records  ", BytesText(bytes), "  ",
                  RateText(static_cast<double>(records) / seconds), std::string(more), "\033[K");
  WriteAll(2, line);
}

void Progress::Clear() {
  if (is_visible_ && shown_ != absl::InfinitePast()) WriteAll(2, "\r\033[K");
  shown_ = absl::InfinitePast();
}

}  // namespace cordwood::tool
