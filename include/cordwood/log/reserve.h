// Blocks of the disk that are kept for what has to work on a full one: committed offsets, the
// start of a log, and the files that retention makes before it removes others.
//
//   CORDWOOD_RETURN_IF_ERROR(context.WithReserve([&] { return UpdateStartFile(...); }));
//
// It is a file of the directory. When the disk is full its blocks are given back and the work is
// done again. From then on no record is appended, in any process, until there is room for the
// reserve again: what it gave up is not for records.
//
// Thread and process safety: every operation.

#ifndef CORDWOOD_LOG_RESERVE_H_
#define CORDWOOD_LOG_RESERVE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "cordwood/os/storage.h"

namespace cordwood::log {

class Reserve {
 public:
  // Null if the disk has no room for its first page, or cannot make it: then there is none.
  static std::unique_ptr<Reserve> Open(os::Folder& root, std::uint64_t bytes);

  bool is_spent() const { return IsSpent(page_->state.load(std::memory_order_acquire)); }
  std::uint64_t bytes() const { return bytes_; }
  // Gives the blocks back. What was tried can be tried again.
  void Spend();
  // Takes the blocks again, once there is room for as many more: what was given back does not
  // count, for it is for somebody.
  void Refill();

 private:
  // The first page of the file, which all processes map; the rest is never touched.
  struct Page {
    std::atomic<std::uint32_t> state;  // counts; odd: the blocks have been given back
  };

  Reserve(os::Folder& root, std::unique_ptr<os::File> file, std::unique_ptr<os::Mapping> map,
          std::uint64_t bytes)
      : root_(root),
        file_(std::move(file)),
        map_(std::move(map)),
        page_(reinterpret_cast<Page*>(map_->data())),
        bytes_(bytes) {}

  static bool IsSpent(std::uint32_t state) { return state % 2 != 0; }
  void TakeBlocks();

  os::Folder& root_;  // of the Context that this is in
  const std::unique_ptr<os::File> file_;
  const std::unique_ptr<os::Mapping> map_;
  Page* const page_;
  const std::uint64_t bytes_;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_RESERVE_H_
