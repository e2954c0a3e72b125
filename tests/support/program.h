// Running the program as a person does: with arguments, in a pipe, or on a terminal.
//
//   const Ran ran = RunProgram({"--dir", dir, "topics"});
//   CHECK(ran.code == 0);
//   CHECK(ran.out.find("orders") != std::string::npos);
//
//   CHECK(RunShell("cordwood --dir \"$1\" consume orders | head -n 3", {dir}).out == "a\nb\nc\n");
//
//   OnTerminal top({"--dir", dir, "top"});
//   REQUIRE(top.Sees("TOPIC"));
//   top.Type("q");
//   CHECK(top.Wait() == 0);

#ifndef CORDWOOD_TESTS_SUPPORT_PROGRAM_H_
#define CORDWOOD_TESTS_SUPPORT_PROGRAM_H_

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/files.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

struct Ran {
  int code = -1;  // -1: it did not end by itself
  std::string out, err;
};

namespace program_internal {

inline std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

inline int CodeOf(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }

// In the child: the program is found by its name, and no setting of the tester's counts.
inline void SetEnvironment() {
  const std::filesystem::path program = CORDWOOD_PROGRAM;
  const char* const path = getenv("PATH");
  setenv("PATH", (program.parent_path().string() + ":" + (path == nullptr ? "" : path)).c_str(), 1);
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  unsetenv("CORDWOOD_DIR");
}

}  // namespace program_internal

// Of the root user: runs it as somebody who may do less.
enum class As { kSelf, kNobody };

// `words`: the program and its arguments. Standard input is `input`, and then ends.
inline Ran RunWords(std::vector<std::string> words, std::string_view input = "",
                    As as = As::kSelf) {
  const TempDir dir;
  WriteAll(dir / "in", input);
  const std::string in = dir / "in", out = dir / "out", err = dir / "err";
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("fork");
  if (pid == 0) {
    program_internal::SetEnvironment();
    const int files[] = {open(in.c_str(), O_RDONLY), open(out.c_str(), O_CREAT | O_WRONLY, 0600),
                         open(err.c_str(), O_CREAT | O_WRONLY, 0600)};
    for (int i = 0; i < 3; ++i) dup2(files[i], i);
    std::vector<char*> pointers = program_internal::Pointers(words);
    if (as == As::kSelf || geteuid() != 0) execvp(pointers[0], pointers.data());
    // Nobody may not be allowed to go where the program is, so it is opened before.
    const int program = open(pointers[0], O_RDONLY);
    if (setgid(65534) == 0 && setuid(65534) == 0) fexecve(program, pointers.data(), environ);
    _exit(127);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return {program_internal::CodeOf(status), ReadAll(out), ReadAll(err)};
}

inline Ran RunProgram(std::vector<std::string> arguments, std::string_view input = "",
                      As as = As::kSelf) {
  arguments.insert(arguments.begin(), CORDWOOD_PROGRAM);
  return RunWords(std::move(arguments), input, as);
}

// With the arguments as $1, $2, and so on.
inline Ran RunShell(const std::string& script, std::vector<std::string> arguments,
                    const std::string& shell = "sh") {
  arguments.insert(arguments.begin(), {shell, "-c", script, shell});
  return RunWords(std::move(arguments));
}

// The program on a terminal of its own, 24 lines of 100 characters.
class OnTerminal {
 public:
  explicit OnTerminal(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), CORDWOOD_PROGRAM);
    winsize size = {};
    size.ws_row = 24;
    size.ws_col = 100;
    pid_ = forkpty(&fd_, nullptr, nullptr, &size);
    if (pid_ < 0) throw std::runtime_error("forkpty");
    if (pid_ == 0) {
      // Not before the other side knows how the terminal was.
      char go = 0;
      if (read(0, &go, 1) != 1) _exit(126);
      program_internal::SetEnvironment();
      std::vector<char*> pointers = program_internal::Pointers(arguments);
      execvp(pointers[0], pointers.data());
      _exit(127);
    }
    before_ = Settings();
    Type("\n");
  }
  OnTerminal(const OnTerminal&) = delete;
  OnTerminal& operator=(const OnTerminal&) = delete;
  ~OnTerminal() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(fd_);
  }

  // Waits until it has written that, behind what the last Sees() found. False: it has ended, or
  // a minute is over.
  bool Sees(std::string_view text) {
    for (;;) {
      const std::size_t at = seen_.find(text, looked_);
      if (at != std::string::npos) {
        looked_ = at + text.size();
        return true;
      }
      if (!ReadMore()) return false;
    }
  }
  void Type(std::string_view keys) {
    if (write(fd_, keys.data(), keys.size()) < 0) throw std::runtime_error("write");
  }
  // Its exit code, once it has ended.
  int Wait() {
    while (ReadMore()) {
    }
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return program_internal::CodeOf(status);
  }
  // Whether echo, line ends and such are as they were before.
  bool IsAsItWas() const {
    const termios now = Settings();
    return now.c_lflag == before_.c_lflag && now.c_oflag == before_.c_oflag &&
           now.c_iflag == before_.c_iflag && now.c_cflag == before_.c_cflag;
  }
  // All that it has written.
  const std::string& seen() const { return seen_; }
  bool Has(std::string_view text) const { return seen_.find(text) != std::string::npos; }

 private:
  termios Settings() const {
    termios settings = {};
    if (tcgetattr(fd_, &settings) != 0) throw std::runtime_error("tcgetattr");
    return settings;
  }

  bool ReadMore() {
    pollfd wait = {.fd = fd_, .events = POLLIN, .revents = 0};
    if (poll(&wait, 1, 60'000) != 1) return false;
    char bytes[4096];
    const ssize_t got = read(fd_, bytes, sizeof bytes);
    if (got > 0) seen_.append(bytes, static_cast<std::size_t>(got));
    return got > 0;  // EIO: the program has ended
  }

  pid_t pid_ = -1;
  int fd_ = -1;
  termios before_ = {};
  std::string seen_;
  std::size_t looked_ = 0;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_PROGRAM_H_
