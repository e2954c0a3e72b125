// A Segment is one file of frames, mapped, and the index beside it. Frames are only
// ever added at its end; what has been published never changes. This class knows the
// file; where its published end is, the log knows.
//
// Thread safety: Grow, WriteSeal and what writes frames under the partition's writer
// lock; everything else from any thread of any process at the same time.
//
// Lifetime: held by shared_ptr. A record's view points into the map and lives while
// somebody holds the Segment, also when the file has been unlinked meanwhile. The map
// also holds a read lock on byte 0 of the file: a pin that other processes can see.
//
// Invariants:
//  (1) data()[0, file_bytes()) can be touched: the file has blocks there.
//  (2) file_bytes() only grows, and no file is ever cut.

#ifndef CORDWOOD_SEGMENT_SEGMENT_H_
#define CORDWOOD_SEGMENT_SEGMENT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/index.h"

namespace cordwood::segment {

// Where a partition's files are and what ties them to it.
struct PartitionFiles {
  std::shared_ptr<os::Folder> root;
  std::string folder;  // relative to root: "topics/orders/3"
  os::Bits128 topic_id = {};
  std::uint32_t partition = 0;
  std::int64_t index_interval_bytes = 4096;
  std::shared_ptr<const cordwood::internal::PartitionName> name;  // what records' views show

  std::string Path(std::string_view file) const { return folder + "/" + std::string(file); }
};

// Where the frames of a segment end that is not written to any more.
struct SegmentEnd {
  Offset next = 0;
  std::uint64_t position = 0;
};

class Segment {
 public:
  static constexpr std::uint64_t kBytesAtFirst = 8 << 10;
  static constexpr std::uint64_t kPinByte = 0;

  // Makes a segment with its index under `stem` (no extension), with a header that is
  // synced and names no base. The capacity is rounded up to a multiple of 8. A compaction
  // says which offset it will end before.
  static absl::Status Create(const PartitionFiles& files, const std::string& stem,
                             const os::Bits128& salt, std::uint64_t capacity,
                             std::uint64_t offset_span, std::int64_t created_ns,
                             Offset compacted_next = 0);

  // Opens the segment of that base. kDataLoss: the header is not one of ours, or of
  // another topic or partition, or the file is that of another base. A missing or foreign index is
  // no error: index() is null. A segment that has not got its name yet is opened under its `stem`.
  static absl::StatusOr<std::shared_ptr<Segment>> Open(const PartitionFiles& files, Offset base,
                                                       os::Access access, std::string stem = {});

  // What the file says of itself, read without a map.
  struct Facts {
    SegmentHeader header;
    std::optional<Seal> seal;

    std::optional<SegmentEnd> End() const { return EndOf(header, seal); }
  };
  // Errors as those of Open.
  static absl::StatusOr<Facts> ReadFacts(const PartitionFiles& files, Offset base);

  Offset base() const { return base_; }
  const SegmentKey& key() const { return key_; }
  const SegmentHeader& header() const { return header_; }
  std::uint64_t salt_tag() const { return SaltTag(header_.salt); }
  // One past the highest offset that can have been given out here (rule 23).
  Offset offset_limit() const { return base_ + static_cast<Offset>(header_.offset_span); }
  std::uint64_t capacity() const { return header_.capacity; }
  std::byte* data() const { return map_->data(); }
  std::uint64_t file_bytes() const { return file_bytes_.load(std::memory_order_acquire); }
  // What this process has blocks for by its own call, and may store to (os::File::Allocate).
  std::uint64_t writable_bytes() const { return writable_bytes_.load(std::memory_order_acquire); }
  Index* index() const { return index_.get(); }
  const cordwood::internal::PartitionName* name() const { return name_.get(); }
  std::string path() const { return Stem() + ".log"; }
  bool writable() const { return writable_; }

  // Blocks for [0, bytes) and the index entries for them, rounded up to a step.
  absl::Status Grow(std::uint64_t bytes);
  // Looks at the file again, which another process may have grown. kNotFound: the name
  // is gone or is another file's; what is mapped stays readable.
  absl::Status RefreshSize();

  // A compaction wrote it: between its records, and behind the last, offsets may be missing.
  bool is_compacted() const { return header_.compacted_next != 0; }
  // The seal, copied and checked; none while the segment is written to, or the seal itself.
  std::optional<Seal> ReadSeal() const;
  // As the seal says, or the header of what a compaction wrote.
  std::optional<SegmentEnd> End() const { return EndOf(header_, ReadSeal()); }
  void WriteSeal(Seal seal);

  // Of a sealed segment, before anyone else has it: an index that is not whole is none.
  void DropDamagedIndex() {
    if (index_ != nullptr && !index_->IsSealedAndWhole()) index_.reset();
  }

  // As os::Mapping::Fetch. The header and the seal are always there.
  void Fetch(std::uint64_t from, std::uint64_t to) const { map_->Fetch(from, to); }
  void Forget() const { map_->Forget(); }
  absl::Status Sync(std::uint64_t from, std::uint64_t to) { return map_->Sync(from, to); }
  absl::Status Populate(std::uint64_t from, std::uint64_t to) { return map_->Populate(from, to); }

 private:
  static std::optional<SegmentEnd> EndOf(const SegmentHeader& header,
                                         const std::optional<Seal>& seal);
  explicit Segment(const PartitionFiles& files) : files_(files), name_(files.name) {}
  std::string Stem() const { return files_.Path(stem_); }
  std::size_t IndexEntriesFor(std::uint64_t bytes) const {
    return Index::EntriesFor(bytes, files_.index_interval_bytes);
  }
  absl::StatusOr<std::unique_ptr<os::File>> Reopen(os::OpenMode mode) const;
  static constexpr std::size_t kSealWords = sizeof(Seal) / sizeof(std::uint64_t);
  std::atomic<std::uint64_t>* SealWords() const {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(data() + kSealPosition);
  }

  const PartitionFiles files_;
  const std::shared_ptr<const cordwood::internal::PartitionName> name_;
  Offset base_ = 0;
  std::string stem_;
  SegmentHeader header_;
  SegmentKey key_;
  bool writable_ = false;
  std::uint64_t inode_ = 0;
  std::unique_ptr<os::Mapping> map_;
  std::unique_ptr<Index> index_;
  std::atomic<std::uint64_t> file_bytes_{0};
  std::atomic<std::uint64_t> writable_bytes_{0};
};

}  // namespace cordwood::segment

#endif  // CORDWOOD_SEGMENT_SEGMENT_H_
