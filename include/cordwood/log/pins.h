// Pins: what retention is to leave alone for as long as somebody holds it. One file a topic,
// topics/<topic>/pins, is shared by all processes. It is made with the topic's first pin, is
// believed while the directory is open, is never synced, and the next first opener removes it.
//
//   position  bytes  header
//          0      8  magic "CWPINS_1"
//          8      4  version, 1
//         12      4  number of slots, 511
//        128    128  slot 0
//
//   position  bytes  slot
//          0      8  how often it was taken << 32 | who has it: 0 nobody, else the word of an
//                    owner of locks (os/shared_lock.h), with bit 31 while the pin is being made
//          8      8  offset: what is at or above it stays
//         16      4  partition
//         20      4  process id, for messages: ids are reused
//         24      8  when it was made, by the broker's clock, since the Unix epoch
//         32     16  topic id
//         48     80  what for, up to the first zero byte
//
// All integers are little-endian, all times nanoseconds. What is not named is zero.
//
// A pin lives as long as the owner that its word names: who died has none, and the slot is
// anybody's. A pin of a partition is made under that partition's MaintenanceLock of kFiles,
// between a look at the start and the next, and retention looks at the pins under the same
// lock before it moves the start. So retention sees it, or who makes it sees the new start.
// Moving a pin forward and giving it up take no lock: either only lets go.
//
// Thread and process safety: every operation.

#ifndef CORDWOOD_LOG_PINS_H_
#define CORDWOOD_LOG_PINS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/log/context.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

inline constexpr std::size_t kPinWhyBytesMax = 80;

struct PinsHeader {
  static constexpr std::uint64_t kMagic = 0x315f534e49505743;  // "CWPINS_1"
  static constexpr std::uint32_t kVersion = 1;
  static constexpr std::uint32_t kSlots = 511;

  std::uint64_t magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t slots = kSlots;
  std::uint8_t reserved[112] = {};
};
static_assert(sizeof(PinsHeader) == 128);

struct PinSlot {
  static constexpr std::uint32_t kMaking = 1U << 31;

  std::atomic<std::uint64_t> holder;
  std::atomic<Offset> offset;
  std::atomic<std::uint32_t> partition;
  std::atomic<std::uint32_t> pid;
  std::atomic<std::int64_t> since_ns;
  std::atomic<std::uint64_t> topic_id[2];
  std::atomic<std::uint64_t> why[kPinWhyBytesMax / 8];
};
static_assert(sizeof(PinSlot) == 128);
static_assert(offsetof(PinSlot, partition) == 16);
static_assert(offsetof(PinSlot, topic_id) == 32);
static_assert(offsetof(PinSlot, why) == 48);

inline constexpr std::size_t kPinsFileBytes =
    sizeof(PinsHeader) + PinsHeader::kSlots * sizeof(PinSlot);
static_assert(kPinsFileBytes == 64 << 10);

// What a slot says.
struct PinView {
  Offset offset = 0;
  int pid = 0;
  std::int64_t since_ns = 0;
  std::string why = {};
};

// The pins of that partition whose holders live. kDataLoss: the file is damaged, so it cannot
// be told.
absl::StatusOr<std::vector<PinView>> ReadPins(const Context& context,
                                              const segment::PartitionFiles& files);
// The lowest of their offsets, or the largest that there is.
absl::StatusOr<Offset> PinnedFrom(const Context& context, const segment::PartitionFiles& files);

// When nobody else is in the directory: what others have left, in the folder of a topic.
void RemovePins(os::Folder& root, const std::string& topic_folder);

// One pin of this process.
class PinHold {
 public:
  // Takes a slot. Under the partition's MaintenanceLock of kFiles. kResourceExhausted: all are
  // taken, or the disk is full.
  static absl::StatusOr<std::shared_ptr<PinHold>> Make(const Context& context,
                                                       const segment::PartitionFiles& files,
                                                       Offset offset, std::string_view why);
  PinHold(const PinHold&) = delete;
  PinHold& operator=(const PinHold&) = delete;

  // False: it was given up, or `to` is lower.
  bool Move(Offset to);
  Offset offset() const;  // 0: it was given up
  // The second call does nothing. Not by the destructor: in a forked child the pin is the
  // parent's.
  void Release();

 private:
  PinHold(std::unique_ptr<os::Mapping> map, PinSlot* slot) : map_(std::move(map)), slot_(slot) {}

  const std::unique_ptr<os::Mapping> map_;
  mutable absl::Mutex mutex_;
  PinSlot* slot_ ABSL_GUARDED_BY(mutex_);  // null: given up
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_PINS_H_
