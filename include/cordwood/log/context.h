// What everything that belongs to one open of a directory shares: the storage, the root
// folder, the clock, this process's slot among the owners of locks, and whether the
// open is still one.
//
// Thread safety: immutable after the open, but for the live flag and the number of locks.

#ifndef CORDWOOD_LOG_CONTEXT_H_
#define CORDWOOD_LOG_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/log/age_clock.h"
#include "cordwood/log/metrics.h"
#include "cordwood/log/needs.h"
#include "cordwood/log/reserve.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"
#include "cordwood/status.h"

namespace cordwood::log {

// Open, closed, inherited over a fork, or of a process of a simulated machine that was
// killed: a word on a page that the kernel wipes in a child, so that one load tells all.
class LiveFlag {
 public:
  static absl::StatusOr<std::unique_ptr<LiveFlag>> Create();
  LiveFlag(const LiveFlag&) = delete;
  LiveFlag& operator=(const LiveFlag&) = delete;
  ~LiveFlag();

  // seq_cst: a Close() that finds a lock free after Shut() knows that its next owner
  // sees the flag.
  bool is_open() const { return word_->load(std::memory_order_seq_cst) == kOpen; }
  void Shut() { word_->store(kClosed, std::memory_order_seq_cst); }
  // What a dead process has, as that of a fork's child: nothing is done with it any more.
  void Kill() { word_->store(kKilled, std::memory_order_seq_cst); }
  // OK, or kFailedPrecondition that says why not.
  absl::Status Check() const;

 private:
  static constexpr std::uint32_t kForked = 0;  // what a wiped page reads as
  static constexpr std::uint32_t kOpen = 1;
  static constexpr std::uint32_t kClosed = 2;
  static constexpr std::uint32_t kKilled = 3;

  explicit LiveFlag(std::atomic<std::uint32_t>* word) : word_(word) {}
  std::atomic<std::uint32_t>* const word_;
};

struct Context {
  Context(std::shared_ptr<Storage> s, std::shared_ptr<os::Folder> r)
      : storage(std::move(s)), root(std::move(r)), clock(storage.get()) {}

  const std::shared_ptr<Storage> storage;
  const std::shared_ptr<os::Folder> root;
  const os::Clock clock;
  std::unique_ptr<LiveFlag> live;
  std::unique_ptr<os::LockOwners> owners;  // null: opened read-only
  os::Bits128 boot_id = {};
  std::shared_ptr<const Needs> needs;  // null: nobody needs anything
  std::unique_ptr<Reserve> reserve;    // null: there is none
  const std::unique_ptr<AgeClock> ages = std::make_unique<AgeClock>();
  // Never null. In the file once the directory is open for writing.
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  mutable std::atomic<int> works{0};  // how many of class Work there are

  // Whether it was a full disk that made something fail, and there is some room now.
  bool MadeRoom(const absl::Status& failed) const {
    if (reserve == nullptr || ReasonOf(failed) != Reason::kDiskFull) return false;
    reserve->Spend();
    return true;
  }
  // Runs what has to work on a full disk, too.
  template <class Work>
  absl::Status WithReserve(Work work) const {
    absl::Status status = work();
    return MadeRoom(status) ? work() : status;
  }
  MetricsPage& counts() const { return metrics->page(); }
  // The status, counted if it is an error.
  absl::Status Counted(Operation operation, absl::Status status) const {
    if (ABSL_PREDICT_FALSE(!status.ok())) counts().CountError(operation, status);
    return status;
  }
  bool read_only() const { return owners == nullptr; }
  absl::Status CheckWritable() const {
    if (!live->is_open()) return live->Check();
    if (read_only()) {
      return absl::FailedPreconditionError("the directory is open read-only");
    }
    return absl::OkStatus();
  }
};

// A change to more than one file, which a Close() of the same open waits for: who opens the
// directory next finds nothing half done by it, and it finds no files that are others' by then.
class Work {
 public:
  // Fails if the directory is closed or open read-only. The context has to outlive it.
  static absl::StatusOr<Work> Begin(const Context& context) {
    Work work(context);
    // After it was counted: a Close() that has found none has shut the flag before (seq_cst).
    if (absl::Status status = context.CheckWritable(); !status.ok()) return status;
    return work;
  }

 private:
  struct End {
    void operator()(const Context* context) const { context->works.fetch_sub(1); }
  };
  explicit Work(const Context& context) : count_(&context) { context.works.fetch_add(1); }

  std::unique_ptr<const Context, End> count_;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_CONTEXT_H_
