// The sparse index of a segment: two files with an entry for the same frames, about
// one every index interval (format.h). Entry i says: the frame at position(i) has
// offset(i), and the largest timestamp of all frames before it is time_before(i).
//
//   index.Add(i, offset_delta, position, largest_timestamp);          // the writer
//   const std::size_t i = index.LastAtOrBeforeOffset(offset_delta);   // a reader
//
// An index is a hint. Every answer is checked against bounds here, and by the caller
// against the frame that it finds; without an index a reader scans. What no frame shows is that
// none before it is later: so an entry has a check of its own (format.h).
//
// Thread safety: Add under the partition's writer lock; the rest from any thread of any
// process at the same time.

#ifndef CORDWOOD_SEGMENT_INDEX_H_
#define CORDWOOD_SEGMENT_INDEX_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/format.h"

namespace cordwood::segment {

struct IndexEntry {
  std::uint32_t offset_delta = 0;
  std::uint64_t position = 0;
  std::int64_t time_before = std::numeric_limits<std::int64_t>::min();
};

class Index {
 public:
  static constexpr std::size_t kHeaderBytes = sizeof(IndexHeader);
  static constexpr std::size_t kOffsetEntryBytes = 8;
  static constexpr std::size_t kTimeEntryBytes = 16;
  static constexpr const char* kOffsetExtension = ".index";
  static constexpr const char* kTimeExtension = ".timeindex";

  // How many entries so many bytes of a segment need at most, and the bytes of both files then.
  static std::size_t EntriesFor(std::uint64_t segment_bytes, std::int64_t interval_bytes) {
    return static_cast<std::size_t>(segment_bytes / static_cast<std::uint64_t>(interval_bytes) + 2);
  }
  static std::uint64_t FileBytes(std::size_t entries) {
    return 2 * kHeaderBytes + entries * (kOffsetEntryBytes + kTimeEntryBytes);
  }

  // Makes the two files of the names `stem` + extension, for a segment with that salt.
  static absl::Status Create(os::Folder& root, const std::string& stem, const os::Bits128& salt);
  // Room for `entries_max` entries is reserved in memory. kDataLoss if the files belong
  // to another segment or are no indexes.
  static absl::StatusOr<std::unique_ptr<Index>> Open(os::Folder& root, const std::string& stem,
                                                     const os::Bits128& salt,
                                                     std::size_t entries_max, os::Access access);

  // Makes room for that many entries; the writer calls it before Add needs it.
  absl::Status Grow(os::Folder& root, const std::string& stem, std::size_t entries);
  // Looks again how many entries the files have room for.
  void Refresh(os::Folder& root, const std::string& stem);
  std::size_t room() const { return room_.load(std::memory_order_acquire); }

  // Stores entry i; false if there is no room: then the segment has one entry less.
  bool Add(std::size_t i, const IndexEntry& entry) {
    if (i >= room()) return false;
    TimeEntry& time = times()[i];
    const std::uint64_t check = TimeCheck(salt_, entry.time_before, entry.position);
    time.largest_before.store(entry.time_before, std::memory_order_relaxed);
    // Release: pairs with the acquire in At(); the time is there when the position is.
    time.position_and_check.store(entry.position | check << 32, std::memory_order_release);
    offsets()[i].store(entry.offset_delta | entry.position / 8 << 32, std::memory_order_release);
    return true;
  }

  // What stands beside the position of a time entry.
  static std::uint32_t TimeCheck(const os::Bits128& salt, std::int64_t largest_before,
                                 std::uint64_t position);

  // Entries from `i` on are no more: written as zero.
  void Clear(std::size_t i);

  // As os::Mapping::Fetch, of all entries that there is room for. Of who does not ask for it, and
  // reads files into memory, an index has its first entries only: it is a hint all the same.
  void Fetch() const;

  // The number of entries, found by looking for the first zero.
  std::size_t Count() const;
  // Nothing where there is no entry, or one that cannot be right.
  std::optional<IndexEntry> At(std::size_t i) const;

  // The last of `count` entries whose offset is at or before; nothing if there is none.
  std::optional<std::size_t> LastAtOrBeforeOffset(std::uint32_t offset_delta,
                                                  std::size_t count) const;
  // The last whose position is at or before.
  std::optional<std::size_t> LastAtOrBeforePosition(std::uint64_t position,
                                                    std::size_t count) const;
  // The last before which every timestamp is earlier than the time.
  std::optional<std::size_t> LastBeforeTime(std::int64_t time_ns, std::size_t count) const;

  // Writes number and checksum into both headers: nothing will be added any more.
  void Seal(std::size_t count);
  // Whether both headers carry the checksum of what is there.
  bool IsSealedAndWhole() const;
  absl::Status Sync();

 private:
  struct TimeEntry {
    std::atomic<std::int64_t> largest_before;
    std::atomic<std::uint64_t> position_and_check;
  };
  static_assert(sizeof(TimeEntry) == kTimeEntryBytes);
  static_assert(kSegmentBytesMax < std::uint64_t{1} << 32);  // a position

  Index() = default;
  std::atomic<std::uint64_t>* offsets() const {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(offset_map_->data() + kHeaderBytes);
  }
  TimeEntry* times() const {
    return reinterpret_cast<TimeEntry*>(time_map_->data() + kHeaderBytes);
  }
  template <class Before>
  std::optional<std::size_t> Last(std::size_t count, Before before) const;
  absl::Status SetRoom(os::File& offset_file, os::File& time_file);

  std::unique_ptr<os::Mapping> offset_map_;
  std::unique_ptr<os::Mapping> time_map_;
  std::atomic<std::size_t> room_{0};
  std::size_t entries_max_ = 0;
  os::Bits128 salt_ = {};
  std::uint64_t offset_inode_ = 0;
  std::uint64_t time_inode_ = 0;
};

}  // namespace cordwood::segment

#endif  // CORDWOOD_SEGMENT_INDEX_H_
