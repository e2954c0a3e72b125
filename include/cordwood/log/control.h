// The control file of a topic: a page of its own, then one block of four cache lines
// for every partition, shared by all processes that have the directory open. It holds
// nothing that cannot be rebuilt from the logs, but for `durable`, a lower bound that
// is believed across boots.
//
//   header (4,096 bytes)   identity, doorbell and ring of the topic
//   block 0, 1, 2, ...     256 bytes a partition
//       line 0   the writer's lock, and what only its owner uses
//       line 1   tail: what readers read
//       line 2   doorbell of the partition
//       line 3   durable, and the lock of those who sync
//
// Partitions are added at its end (directory_alter.cc): the map is as long as the file can
// ever be, so that no block ever moves. What lies past the end of the file is not touched.
//
// Thread and process safety: every word is atomic. Who may store which is said at the
// word. A value from this page is copied once, checked, and only the copy is used.

#ifndef CORDWOOD_LOG_CONTROL_H_
#define CORDWOOD_LOG_CONTROL_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"

namespace cordwood::log {

// The end of a partition in one word, so that a roll and a batch are each seen whole.
//
//   63    62 ............ 32   31 ........... 0
//   slot  records since base   position / 8
struct Tail {
  unsigned slot = 0;          // which of base[2] and salt[2] it counts from
  std::uint32_t records = 0;  // since the segment's base; below 2^31
  std::uint64_t position = 0;

  static Tail Unpack(std::uint64_t word) {
    return {.slot = static_cast<unsigned>(word >> 63),
            .records = static_cast<std::uint32_t>(word >> 32) & 0x7fffffff,
            .position = (word & 0xffffffff) * 8};
  }
  std::uint64_t Pack() const {
    return std::uint64_t{slot} << 63 | std::uint64_t{records} << 32 | position / 8;
  }
};

// What a partition is, beside its tail.
enum class PartitionState : std::uint32_t {
  kOpen = 0,
  kFailed = 1,   // no append any more, reads go on; the way out is to open again
  kDeleted = 2,  // the topic is
};

// attention bits, in ControlBlock::attention and durable_attention
inline constexpr std::uint32_t kWaiting = 1;  // somebody sleeps on the block's own bell
inline constexpr std::uint32_t kArmed = 2;    // somebody sleeps on the topic's bell

struct alignas(64) ControlBlock {
  // Line 0. Stored by the owner of `lock` only; anew after a dead one.
  os::SharedLock lock;
  std::atomic<std::uint32_t> scratch_valid;  // 0: count the four below from the files
  std::atomic<std::uint64_t> intent;         // as Tail: how far bytes may have been written
  std::atomic<std::int64_t> largest_timestamp;
  std::atomic<std::uint64_t> index_count;
  std::atomic<std::uint64_t> next_index_position;
  std::atomic<std::int64_t> first_append_ns;  // of the active segment; 0: it is empty
  std::atomic<std::int64_t> last_append_ns;
  std::atomic<std::uint64_t> prepared;  // salt tag of the file made ready; 0: none

  // Line 1. Stored by the owner of `lock`, but for `start` and its reason; read by all.
  alignas(64) std::atomic<std::uint64_t> tail;
  std::atomic<std::int64_t> base[2];
  std::atomic<std::uint64_t> salt[2];  // SaltTag of the file: which file it is
  std::atomic<std::int64_t> start;
  std::atomic<std::uint32_t> start_reason;  // a GapReason
  std::atomic<std::uint32_t> state;         // a PartitionState

  // Line 2.
  alignas(64) std::atomic<std::uint32_t> bell;
  std::atomic<std::uint32_t> attention;
  // For metrics. Stored by the owner of `lock`: the bytes of frames ever appended, but for those
  // in the segment of base[i]; the batches of AppendBatch, and the records in them.
  std::atomic<std::uint64_t> bytes_before[2];
  std::atomic<std::uint64_t> batches;
  std::atomic<std::uint64_t> batch_records;

  // Line 3. `durable` and `sync_to` are stored by the owner of `sync_lock`.
  alignas(64) std::atomic<std::int64_t> durable;
  std::atomic<std::int64_t> sync_to;  // not 0: [durable, sync_to) is being synced, or was
                                      // and that failed
  os::SharedLock sync_lock;
  std::atomic<std::uint32_t> durable_bell;
  std::atomic<std::uint32_t> durable_attention;
  // A file of it was retired in this boot: no clean close, its seal may not be on the disk.
  std::atomic<std::uint32_t> has_retired;
  // Stored by the holder of the MaintenanceLock of kFiles; beside `start`, in line 1.
  std::atomic<std::int64_t> tombstone_horizon;  // as Start's
  std::atomic<std::int64_t> compacted_to;
  std::atomic<std::uint64_t> files_generation;  // moves when sealed files were replaced
  // For those who wait until a group has committed.
  std::atomic<std::uint32_t> room_bell;
  std::atomic<std::uint32_t> room_wanted;  // a flag
};
static_assert(sizeof(ControlBlock) == 256);
static_assert(offsetof(ControlBlock, tail) == 64);
static_assert(offsetof(ControlBlock, bell) == 128);
static_assert(offsetof(ControlBlock, durable) == 192);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// The end of a partition, as one consistent reading.
struct TailView {
  unsigned slot = 0;
  Offset base = 0;
  std::uint64_t salt = 0;
  std::uint32_t records = 0;
  std::uint64_t position = 0;

  Offset end() const { return base + records; }
};

// Rule 4: a roll fills base[!slot] and salt[!slot], then stores the tail once. A base
// that is the same before and after the tail was read belongs to that tail.
inline TailView ReadTail(const ControlBlock& block) {
  for (;;) {
    // Acquire: pairs with the release of the tail in an append; the bytes below it are
    // there, and so are the base and the salt that a roll stored before it.
    const unsigned slot = Tail::Unpack(block.tail.load(std::memory_order_acquire)).slot;
    const Offset base = block.base[slot].load(std::memory_order_acquire);
    const std::uint64_t salt = block.salt[slot].load(std::memory_order_acquire);
    const Tail tail = Tail::Unpack(block.tail.load(std::memory_order_acquire));
    if (tail.slot == slot && block.base[slot].load(std::memory_order_acquire) == base &&
        block.salt[slot].load(std::memory_order_acquire) == salt) {
      return {slot, base, salt, tail.records, tail.position};
    }
  }
}

// Frames ever appended, in bytes. As with the base, what is the same before and after the tail was
// read belongs to it.
std::uint64_t BytesProduced(const ControlBlock& block);

enum class ControlState : std::uint32_t {
  kMaking = 0,
  kReady = 1,
  kReplaced = 2,  // another file has its name now
};

// The ring names partitions that have news, for consumers that sleep on many.
struct ControlHeader {
  static constexpr std::uint64_t kMagic = 0x315f4c5254435743;  // "CWCTRL_1"
  static constexpr std::size_t kRingSize = 256;

  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t block_bytes;
  os::Bits128 topic_id;
  os::Bits128 boot_id;
  std::uint64_t inode;
  std::uint64_t device;
  // It only grows, under the names lock, once all of the new ones is on the disk.
  std::atomic<std::uint32_t> partitions;
  std::atomic<std::uint32_t> state;  // a ControlState
  // Of the topic's config: even, or odd while it is being changed; it only grows. Stored
  // under the names lock (directory_alter.cc). Odd without that lock: who changed it died.
  std::atomic<std::uint64_t> config_version;
  // The topic's name is on the disk: whoever comes to it first sees to that (rule 16).
  std::atomic<std::uint32_t> is_named;

  alignas(64) std::atomic<std::uint32_t> bell;
  std::atomic<std::uint32_t> sleepers;  // a flag
  alignas(64) std::atomic<std::uint64_t> ring_head;
  // ring[i % kRingSize] = (i + 1) << 32 | partition, once written
  alignas(64) std::atomic<std::uint64_t> ring[kRingSize];
};
static_assert(sizeof(ControlHeader) <= 4096);
static_assert(offsetof(ControlHeader, config_version) == 72);
static_assert(offsetof(ControlHeader, bell) == 128);
inline constexpr std::uint64_t kControlHeaderBytes = 4096;

// What a control block is made from, and what survives of one.
struct Watermarks {
  Offset start = 0;
  std::uint32_t start_reason = 0;
  Offset base = 0;  // of the active segment
  std::uint64_t salt = 0;
  std::uint32_t records = 0;
  std::uint64_t position = 0;
  Offset durable = 0;
  Offset tombstone_horizon = 0;
  Offset compacted_to = 0;
  std::int64_t last_append_ns = 0;  // 0: not known
  Offset sync_to = 0;               // not zero: a sync up to there failed, or its caller died in it
  std::uint64_t bytes_before = 0;   // as in the block, and the two after it
  std::uint64_t batches = 0;
  std::uint64_t batch_records = 0;

  Offset end() const { return base + records; }
};
Watermarks WatermarksOf(const ControlBlock& block);
void StoreWatermarks(const Watermarks& watermarks, ControlBlock& block);

// A mapped control file. It is never unmapped while a lock in it may be held: whoever
// uses a block holds the ControlFile by shared_ptr.
class ControlFile {
 public:
  static constexpr int kPartitionsMax = 100'000;

  // Writes a whole file at `path`, which must not be there, and syncs it.
  static absl::Status Create(os::Folder& root, std::string_view path, const os::Bits128& topic_id,
                             const os::Bits128& boot_id, std::span<const Watermarks> partitions);
  // kDataLoss if it is no control file of that topic, shorter than it says, or damaged so that
  // it says what can be no offset or position.
  static absl::StatusOr<std::shared_ptr<ControlFile>> Open(os::Folder& root, std::string_view path,
                                                           const os::Bits128& topic_id,
                                                           os::Access access);

  // One that is in no file: what a read-only opener found by itself.
  static std::shared_ptr<ControlFile> MakePrivate(const os::Bits128& topic_id,
                                                  std::span<const Watermarks> partitions);

  ControlHeader& header() const { return *header_; }
  ControlBlock& block(int partition) const { return blocks_[partition]; }
  // As many as the file was last found to hold.
  int partitions() const { return partitions_.load(std::memory_order_acquire); }
  // Looks at the file again, for partitions that were added to it. It has to be at `path`
  // still; else nothing changes.
  void LookForMore(os::Folder& root, std::string_view path);
  // Adding partitions, under the names lock. First their blocks, synced, which nobody sees;
  // then their number. kDataLoss: the file is shorter than that.
  absl::Status AddBlocks(os::Folder& root, std::string_view path, int first,
                         std::span<const Watermarks> added);
  absl::Status SetPartitions(os::Folder& root, std::string_view path, int partitions);
  std::uint64_t inode() const { return inode_; }
  std::uint64_t device() const { return device_; }
  // Whether it was written in this boot and is the file it says it is (not a copy):
  // worth trying, no more.
  bool IsWorthTrying(const os::Bits128& boot_id) const;
  // Over what must be the same again after a clean close.
  std::uint64_t WatermarkChecksum() const;
  // Around a change of the config, under the names lock. Whoever looks in between, or after
  // a death in between, finds it odd and believes no copy of the config.
  void BeginConfigChange() const;
  void EndConfigChange() const;
  // By the first opener, when nobody else is there: locks, doorbells and ring anew.
  void ResetSharedState(const os::Bits128& boot_id);
  absl::Status Sync() const;

  // Tells those who sleep on the topic that the partition has news.
  void RingTopic(int partition) const;

 private:
  ControlFile() = default;
  static void Fill(std::byte* data, const os::Bits128& topic_id, const os::Bits128& boot_id,
                   const os::FileInfo& info, std::span<const Watermarks> partitions);
  void Attach(int partitions, const os::FileInfo& info);
  // The file that is mapped; kDataLoss: another one has its name.
  absl::StatusOr<std::unique_ptr<os::File>> OpenAgain(os::Folder& root, std::string_view path,
                                                      os::OpenMode mode) const;

  std::unique_ptr<os::Mapping> mapping_;
  ControlHeader* header_ = nullptr;
  ControlBlock* blocks_ = nullptr;
  std::atomic<int> partitions_{0};
  std::uint64_t inode_ = 0;
  std::uint64_t device_ = 0;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_CONTROL_H_
