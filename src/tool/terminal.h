// The terminal, if there is one: colours, keys, its size, a line that shows how far something is;
// and the signals that end a command.
//
// Thread safety: one thread at a time, but for IsStopped().

#ifndef CORDWOOD_TOOL_TERMINAL_H_
#define CORDWOOD_TOOL_TERMINAL_H_

#include <termios.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace cordwood::tool {

// `when`: "always", "never", or "auto": on a terminal that can, unless $NO_COLOR is set.
bool WantsColours(std::string_view when, int fd);

// SIGINT and SIGTERM end the command as if its input had ended. Later ones kill it.
void StopOnSignals();
bool IsStopped();

struct TerminalSize {
  int rows = 24, columns = 80;
};
TerminalSize SizeOf(int fd);

// Keys one by one and without an echo, for as long as it lives.
class Keys {
 public:
  explicit Keys(int fd);
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;
  ~Keys();

  // The next key, or 0 after that time, or once IsStopped().
  char Wait(absl::Duration timeout) const;

 private:
  const int fd_;
  termios before_ = {};  // first, as is_terminal_ is made with it
  bool is_terminal_ = false;
};

// A line on standard error that is written over, and goes when it is done. Nothing if that is no
// terminal.
class Progress {
 public:
  // `total_bytes` -1: not known.
  Progress(std::string_view what, std::int64_t total_bytes);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { Clear(); }

  void Show(std::int64_t records, std::int64_t bytes);
  // Of what has no end: the bar is `records` of those and the `lag`.
  void ShowLag(std::int64_t records, std::int64_t bytes, std::int64_t lag);
  void Clear();
  bool is_visible() const { return is_visible_; }

 private:
  // `total` 0: no bar.
  void Write(std::int64_t part, std::int64_t total, std::int64_t records, std::int64_t bytes,
             std::string_view more);

  const std::string what_;
  const std::int64_t total_;
  const bool is_visible_;
  const absl::Time begun_;
  absl::Time shown_ = absl::InfinitePast();
};

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_TERMINAL_H_
