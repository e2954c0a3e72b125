// Threads or processes that begin together, and how long it took until the last one was done.
//
//   Workers workers(WorkerKind::kProcesses, 4, [&](int i) {
//     return [partition = Open(i)] { return Work(partition); };  // a bool: did it go well
//   });
//   workers.Begin();                    // once all are ready
//   std::optional<double> seconds = workers.End();
//
// The function makes what a worker needs, in the worker, and returns what it is to do. A process is
// a fork: it opens its own broker, and this process must have no other thread meanwhile.
// SharedArray is memory that both kinds see.

#ifndef CORDWOOD_BENCHMARKS_WORKERS_H_
#define CORDWOOD_BENCHMARKS_WORKERS_H_

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include "cordwood/os/clock.h"

namespace cordwood::benchmarks {

enum class WorkerKind { kThreads, kProcesses };

// Of values that begin as zero; its pages are there.
template <class T>
class SharedArray {
 public:
  explicit SharedArray(std::size_t count)
      : bytes_(count * sizeof(T)),
        at_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE,
                 -1, 0)) {
    if (at_ == MAP_FAILED) std::abort();  // nothing can be measured
    for (std::size_t i = 0; i < count; ++i) new (&(*this)[i]) T();
  }
  SharedArray(const SharedArray&) = delete;
  SharedArray& operator=(const SharedArray&) = delete;
  ~SharedArray() { munmap(at_, bytes_); }

  T& operator[](std::size_t i) const { return static_cast<T*>(at_)[i]; }

 private:
  const std::size_t bytes_;
  void* const at_;
};

class Workers {
 public:
  template <class Make>
  Workers(WorkerKind kind, int count, Make make) : shared_(1), count_(count) {
    for (int i = 0; i < count; ++i) {
      if (kind == WorkerKind::kThreads) {
        threads_.emplace_back([this, i, make] { Run(make(i)); });
        continue;
      }
      const pid_t pid = fork();
      if (pid == 0) {
        Run(make(i));
        _exit(0);
      }
      if (pid < 0) std::abort();
      processes_.push_back(pid);
    }
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() { Join(); }

  // When they have begun, by the monotonic clock.
  std::int64_t Begin() {
    Shared& shared = shared_[0];
    while (shared.ready.load(std::memory_order_acquire) < count_) std::this_thread::yield();
    const std::int64_t now = os::MonotonicNanos();
    began_ns_ = now;
    shared.begun.store(true, std::memory_order_release);
    return now;
  }

  // The seconds from Begin() to the end of the last one. Nothing: one of them has failed.
  std::optional<double> End() {
    Join();
    const Shared& shared = shared_[0];
    if (shared.succeeded.load(std::memory_order_acquire) != count_) return std::nullopt;
    return static_cast<double>(shared.ended_ns.load(std::memory_order_relaxed) - began_ns_) * 1e-9;
  }

 private:
  struct Shared {
    std::atomic<int> ready{0};
    std::atomic<bool> begun{false};
    std::atomic<int> succeeded{0};
    std::atomic<std::int64_t> ended_ns{0};  // the last one's
  };

  template <class Work>
  void Run(Work work) {
    Shared& shared = shared_[0];
    shared.ready.fetch_add(1, std::memory_order_acq_rel);
    while (!shared.begun.load(std::memory_order_acquire)) std::this_thread::yield();
    const bool succeeded = work();
    const std::int64_t now = os::MonotonicNanos();
    std::int64_t last = shared.ended_ns.load(std::memory_order_relaxed);
    while (last < now && !shared.ended_ns.compare_exchange_weak(last, now)) {
    }
    if (succeeded) shared.succeeded.fetch_add(1, std::memory_order_acq_rel);
  }

  void Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    for (const pid_t pid : processes_) waitpid(pid, nullptr, 0);
    processes_.clear();
  }

  SharedArray<Shared> shared_;
  const int count_;
  std::int64_t began_ns_ = 0;
  std::vector<std::thread> threads_;
  std::vector<pid_t> processes_;
};

}  // namespace cordwood::benchmarks

#endif  // CORDWOOD_BENCHMARKS_WORKERS_H_
