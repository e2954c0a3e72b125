// What everything that belongs to one open of a directory shares: the storage, the root
// folder, the clock, this process's slot among the owners of locks, and whether the
// open is still one.
//
// Thread safety: immutable after the open, but for the live flag.

#ifndef CORDWOOD_LOG_CONTEXT_H_
#define CORDWOOD_LOG_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"

namespace cordwood::log {

// Open, closed, or inherited over a fork: a word on a page that the kernel wipes in a
// child, so that one load tells all three.
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
  // OK, or kFailedPrecondition that says why not.
  absl::Status Check() const;

 private:
  static constexpr std::uint32_t kForked = 0;  // what a wiped page reads as
  static constexpr std::uint32_t kOpen = 1;
  static constexpr std::uint32_t kClosed = 2;

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

  bool read_only() const { return owners == nullptr; }
  absl::Status CheckWritable() const {
    if (!live->is_open()) return live->Check();
    if (read_only()) {
      return absl::FailedPreconditionError("the directory is open read-only");
    }
    return absl::OkStatus();
  }
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_CONTEXT_H_
