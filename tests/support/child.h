// A forked child with a pipe each way: parent and child wait for each other's words.
//
//   Child child([](Child& parent) {
//     const auto address = parent.Receive<Address>();   // what the test made after the fork
//     parent.Tell(1);                                    // "I am there"
//   });
//   child.Send(address);
//   REQUIRE(child.Wait() == 1);
//   child.Kill();
//
// Fork before the parent opens anything. The child runs the function, then waits until it is
// killed, at the latest when the test is over, however that ends.

#ifndef CORDWOOD_TESTS_SUPPORT_CHILD_H_
#define CORDWOOD_TESTS_SUPPORT_CHILD_H_

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <type_traits>

namespace cordwood::testing {

class Child {
 public:
  explicit Child(const std::function<void(Child&)>& run) {
    int down[2], up[2];
    if (pipe(down) != 0 || pipe(up) != 0) throw std::runtime_error("pipe");
    const pid_t parent = getpid();
    const bool is_main_thread = syscall(SYS_gettid) == parent;
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error("fork");
    const bool is_child = pid_ == 0;
    // The signal comes when the thread that forked ends, so only the main one's stands for all.
    if (is_child && is_main_thread) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);  // it was gone before
    }
    in_ = is_child ? down[0] : up[0];
    out_ = is_child ? up[1] : down[1];
    close(is_child ? down[1] : down[0]);
    close(is_child ? up[0] : up[1]);
    if (!is_child) return;
    try {
      run(*this);
      Wait();
    } catch (...) {
      _exit(1);  // the parent's Wait() gives 0
    }
    _exit(0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) Kill();
    close(in_);
    close(out_);
  }

  // To the other side, and from it.
  template <class T>
  void Send(const T& value) const {
    static_assert(std::is_trivially_copyable_v<T>);
    const char* from = reinterpret_cast<const char*>(&value);
    for (std::size_t done = 0; done < sizeof value;) {
      const ssize_t n = write(out_, from + done, sizeof value - done);
      if (n <= 0) return;
      done += static_cast<std::size_t>(n);
    }
  }
  // All zero when the other side is gone.
  template <class T>
  T Receive() const {
    static_assert(std::is_trivially_copyable_v<T>);
    T value = {};
    char* to = reinterpret_cast<char*>(&value);
    for (std::size_t done = 0; done < sizeof value;) {
      const ssize_t n = read(in_, to + done, sizeof value - done);
      if (n <= 0) return {};
      done += static_cast<std::size_t>(n);
    }
    return value;
  }
  void Tell(std::uint32_t word) const { Send(word); }
  std::uint32_t Wait() const { return Receive<std::uint32_t>(); }

  pid_t pid() const { return pid_; }
  int in() const { return in_; }  // readable once the other side has said something
  void Kill() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void Stop() const {
    kill(pid_, SIGSTOP);
    waitpid(pid_, nullptr, WUNTRACED);
  }
  void Continue() const { kill(pid_, SIGCONT); }

 private:
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_CHILD_H_
