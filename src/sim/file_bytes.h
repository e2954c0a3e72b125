// The bytes of one file, twice: what processes see, and what the disk has. What a sync
// covered is on the disk; of the rest the power's end takes what it likes.
//
//   seen   | header | frame | frame | frame |          a window of the page cache
//   disk   | header | frame |  0 0  | fra   |          after a cut: what was not synced, in
//                                                      sectors of 512 bytes, each kept or lost
//
// As bad as Linux allows it to be:
//   - A sync takes whole pages, as they are at that moment, and the file's size.
//   - The pages that a failed sync should have written count as clean from then on: some of
//     their sectors are on the disk, and nothing that is stored to them later ever gets there,
//     though later syncs say OK (RELIABILITY: 0 of 8192 pages on ext4, xfs and btrfs); but for
//     what write() replaces as a whole page, which makes it dirty again.
//   - The system writes back a page whenever it likes.
//   - A size that was not synced is kept or lost by itself; where it is kept and the bytes are
//     not, there are zeros.
//
// Errors are those of the page cache: the host has no memory.
//
// Thread safety: none of its own. Stores through a map may happen at any time.

#ifndef CORDWOOD_SIM_FILE_BYTES_H_
#define CORDWOOD_SIM_FILE_BYTES_H_

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "sim/page_cache.h"
#include "sim/random.h"

namespace cordwood::sim {

class FileBytes {
 public:
  static constexpr std::uint64_t kPage = 4096;
  static constexpr std::uint64_t kSector = 512;

  explicit FileBytes(std::shared_ptr<PageCache> cache)
      : cache_(std::move(cache)), window_(cache_->NewWindow()) {}

  std::uint64_t size() const { return size_; }
  const std::shared_ptr<Window>& window() const { return window_; }
  // Somebody has it open or mapped.
  bool is_open() const { return window_.use_count() > 1; }

  // ---- What processes do.
  absl::Status Write(const void* from, std::uint64_t bytes, std::uint64_t position);
  void GrowTo(std::uint64_t bytes);
  absl::Status PunchHole(std::uint64_t from, std::uint64_t to);

  // ---- Blocks of the disk, of a page each.
  std::uint64_t blocks() const { return block_count_; }
  // How many [from, to) lacks.
  std::uint64_t BlocksMissing(std::uint64_t from, std::uint64_t to) const;
  // Gives it the first of those, `limit` at most; where that ended, or `to`.
  std::uint64_t AddBlocks(std::uint64_t from, std::uint64_t to, std::uint64_t limit);

  // ---- What gets to the disk.
  absl::Status Sync(std::uint64_t from, std::uint64_t to);
  absl::Status FailSync(std::uint64_t from, std::uint64_t to, Random& random);
  absl::Status WriteBackSomePage(Random& random);

  // ---- What happens to the machine.
  // Who has it mapped keeps the old window.
  absl::Status LeaveToTheDead();
  absl::Status CutPower(Random& random);
  // One bit, here and, if the disk has the same byte, there.
  absl::Status FlipBit(std::uint64_t position, int bit);

 private:
  // Calls `f` for each page of [from, to) that is not lost, with its position and its bytes.
  absl::Status ForPages(std::uint64_t from, std::uint64_t to,
                        absl::FunctionRef<void(std::uint64_t, const char*, std::uint64_t)> f);
  void DropBlocks(std::uint64_t from, std::uint64_t to);
  // What the disk has at [position, position + bytes); past its end there are zeros.
  bool DiskHas(const char* data, std::uint64_t bytes, std::uint64_t position) const;
  void PutOnDisk(const char* data, std::uint64_t bytes, std::uint64_t position);

  const std::shared_ptr<PageCache> cache_;
  std::shared_ptr<Window> window_;
  std::uint64_t size_ = 0;
  std::string disk_;
  std::set<std::uint64_t> lost_;  // pages of failed syncs, by number
  std::vector<bool> has_block_;
  std::uint64_t block_count_ = 0;
};

}  // namespace cordwood::sim

#endif  // CORDWOOD_SIM_FILE_BYTES_H_
