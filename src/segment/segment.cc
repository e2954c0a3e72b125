#include "cordwood/segment/segment.h"

#include <algorithm>
#include <array>
#include <bit>

#include "absl/strings/str_cat.h"
#include "cordwood/segment/frame.h"
#include "cordwood/status_macros.h"

namespace cordwood::segment {
namespace {

constexpr std::uint64_t kGrowthStepMax = 16 << 20;

// Doubles, by 16 MiB at most: ten thousand quiet partitions cost little, a busy one
// asks rarely.
std::uint64_t NextSize(std::uint64_t now, std::uint64_t needed, std::uint64_t capacity) {
  const std::uint64_t step = std::min(std::max(now, Segment::kBytesAtFirst), kGrowthStepMax);
  return std::min(std::max(now + step, (needed + 4095) & ~std::uint64_t{4095}), capacity);
}

// A writer and a thread that works ahead may both grow the file; it never shrinks.
void RaiseTo(std::uint64_t bytes, std::atomic<std::uint64_t>& size) {
  std::uint64_t now = size.load(std::memory_order_relaxed);
  while (now < bytes && !size.compare_exchange_weak(now, bytes, std::memory_order_release)) {
  }
}

absl::Status DamagedHeader(const PartitionFiles& files, const std::string& path,
                           absl::string_view what) {
  return absl::DataLossError(absl::StrCat(files.root->path(), "/", path, ", position 0: ", what));
}

// What says which segment a file is: the header by itself does not say of which offset.
struct FirstBytes {
  SegmentHeader header;
  Seal seal;
  FrameHeader frame;
};
static_assert(offsetof(FirstBytes, seal) == kSealPosition);
static_assert(offsetof(FirstBytes, frame) == kFirstFrame);
static_assert(sizeof(FirstBytes) == kFirstFrame + kFrameHeaderBytes);

// The offset of the first frame, if its header holds.
std::optional<Offset> FirstOffset(const FirstBytes& first) {
  const SegmentHeader& of = first.header;
  const std::uint64_t mix =
      MixHeader(SegmentKey::Make(of.salt, of.topic_id, of.partition), kFirstFrame, first.frame);
  if (HeaderCheck(mix) != first.frame.check || first.frame.bytes_and_flags <= kFlagsMask) {
    return std::nullopt;
  }
  return first.frame.offset;
}

// Of a file that has that base's name: that it is that segment. A disk may write what is right to
// the place of something else.
absl::Status CheckFirstBytes(const PartitionFiles& files, const std::string& path, Offset base,
                             const FirstBytes& first, std::size_t bytes_read) {
  const SegmentHeader& header = first.header;
  if (bytes_read < sizeof header || !IsValid(header)) {
    return DamagedHeader(files, path, "not the header of a segment, or a damaged one");
  }
  if (header.topic_id != files.topic_id) {
    return DamagedHeader(files, path, "the segment belongs to another topic");
  }
  if (header.partition != files.partition) {
    return DamagedHeader(files, path,
                         absl::StrCat("the segment belongs to partition ", header.partition));
  }
  if (header.compacted_next != 0 &&
      (header.compacted_next <= base ||
       header.compacted_next - base > static_cast<Offset>(header.offset_span))) {
    return DamagedHeader(files, path, "it was compacted under another name");
  }
  if (bytes_read < kFirstFrame) {
    return DamagedHeader(files, path, "the file is shorter than a segment's header");
  }
  if (IsValid(first.seal, header.salt) && first.seal.base != base) {
    return DamagedHeader(files, path,
                         absl::StrCat("it is the segment of offset ", first.seal.base));
  }
  const std::optional<Offset> offset =
      bytes_read < sizeof first ? std::nullopt : FirstOffset(first);
  const Offset first_max = header.compacted_next == 0 ? base : header.compacted_next - 1;
  if (offset && (*offset < base || *offset > first_max)) {
    return DamagedHeader(
        files, path, absl::StrCat("it is another segment: its first record has offset ", *offset));
  }
  return absl::OkStatus();
}

// The seal, if it is one of that segment.
std::optional<Seal> Checked(const Seal& seal, const SegmentHeader& header, Offset base) {
  if (!IsValid(seal, header.salt) || seal.base != base || seal.end_position > header.capacity) {
    return std::nullopt;
  }
  return seal;
}

}  // namespace

absl::Status Segment::Create(const PartitionFiles& files, const std::string& stem,
                             const os::Bits128& salt, std::uint64_t capacity,
                             std::uint64_t offset_span, std::int64_t created_ns,
                             Offset compacted_next) {
  SegmentHeader header;
  header.partition = files.partition;
  header.topic_id = files.topic_id;
  header.salt = salt;
  header.capacity = (capacity + 7) & ~std::uint64_t{7};
  header.offset_span = offset_span;
  header.created_ns = created_ns;
  header.compacted_next = compacted_next;
  Sign(header);
  const std::string path = files.Path(stem);
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            files.root->OpenFile(path + ".log", os::OpenMode::kCreate));
  absl::Status made = file->Allocate(std::min(header.capacity, kBytesAtFirst));
  if (made.ok()) made = file->WriteAt(&header, sizeof header, 0);
  if (made.ok()) made = file->Sync();
  if (made.ok()) made = Index::Create(*files.root, path, salt);
  if (made.ok()) return made;
  // On a full disk it is tried again and again, each time under another name.
  for (const char* extension : {".log", Index::kOffsetExtension, Index::kTimeExtension}) {
    files.root->Unlink(path + extension).IgnoreError();
  }
  return made;
}

absl::StatusOr<std::shared_ptr<Segment>> Segment::Open(const PartitionFiles& files, Offset base,
                                                       os::Access access, std::string stem) {
  auto segment = std::shared_ptr<Segment>(new Segment(files));
  segment->base_ = base;
  segment->stem_ = stem.empty() ? SegmentFileName(base, "") : std::move(stem);
  segment->writable_ = access == os::Access::kReadWrite;
  const std::string path = segment->path();
  CORDWOOD_ASSIGN_OR_RETURN(
      std::unique_ptr<os::File> file,
      files.root->OpenFile(
          path, access == os::Access::kRead ? os::OpenMode::kRead : os::OpenMode::kReadWrite));
  // The pin is there before the header is read, so that it is not that of an earlier use of the
  // file, and before the map, with which it lives.
  CORDWOOD_ASSIGN_OR_RETURN(const bool pinned, file->TryLock(os::LockKind::kShared, kPinByte));
  if (!pinned) return absl::UnavailableError(absl::StrCat(path, ": about to be reused"));
  FirstBytes first;
  CORDWOOD_ASSIGN_OR_RETURN(const std::size_t bytes, file->ReadAt(&first, sizeof first, 0));
  CORDWOOD_RETURN_IF_ERROR(CheckFirstBytes(files, path, base, first, bytes));
  segment->header_ = first.header;
  const SegmentHeader& header = segment->header_;
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  if (info.size < kFirstFrame) return DamagedHeader(files, path, "the file was cut just now");
  CORDWOOD_ASSIGN_OR_RETURN(segment->map_, file->Map(header.capacity, access));
  segment->inode_ = info.inode;
  segment->file_bytes_.store(std::min(info.size, header.capacity), std::memory_order_release);
  segment->key_ = SegmentKey::Make(header.salt, header.topic_id, header.partition);
  if (auto index = Index::Open(*files.root, segment->Stem(), header.salt,
                               segment->IndexEntriesFor(header.capacity), access);
      index.ok()) {
    segment->index_ = *std::move(index);
  }
  return segment;
}

absl::StatusOr<Segment::Facts> Segment::ReadFacts(const PartitionFiles& files, Offset base) {
  const std::string path = files.Path(SegmentFileName(base));
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            files.root->OpenFile(path, os::OpenMode::kRead));
  FirstBytes first;
  CORDWOOD_ASSIGN_OR_RETURN(const std::size_t bytes, file->ReadAt(&first, sizeof first, 0));
  CORDWOOD_RETURN_IF_ERROR(CheckFirstBytes(files, path, base, first, bytes));
  return Facts{first.header, Checked(first.seal, first.header, base)};
}

absl::StatusOr<std::unique_ptr<os::File>> Segment::Reopen(os::OpenMode mode) const {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file, files_.root->OpenFile(path(), mode));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  if (info.inode != inode_) {
    return absl::NotFoundError(absl::StrCat(path(), ": the name is another file's now"));
  }
  return file;
}

absl::Status Segment::Grow(std::uint64_t bytes) {
  if (bytes <= writable_bytes()) return absl::OkStatus();
  if (bytes > capacity()) {
    return absl::InternalError(absl::StrCat(path(), ": asked to grow past its capacity"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file, Reopen(os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  std::uint64_t size = std::min(info.size, capacity());
  if (size < bytes) size = NextSize(size, bytes, capacity());
  // Also where the file is as long already: see os::File::Allocate.
  absl::Status allocated = file->Allocate(size);
  if (absl::IsResourceExhausted(allocated) && size > bytes) {
    size = bytes;  // the disk has no whole step left, but perhaps this much
    allocated = file->Allocate(size);
  }
  CORDWOOD_RETURN_IF_ERROR(allocated);
  // An index without room has an entry less; that costs a reader time, not a record.
  if (index_ != nullptr) index_->Grow(*files_.root, Stem(), IndexEntriesFor(size)).IgnoreError();
  RaiseTo(size, file_bytes_);
  RaiseTo(size, writable_bytes_);
  return absl::OkStatus();
}

absl::Status Segment::RefreshSize() {
  const std::uint64_t before = file_bytes();  // before the look: meanwhile it may grow
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file, Reopen(os::OpenMode::kRead));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  if (info.size < before) {
    file_bytes_.store(info.size, std::memory_order_release);  // beyond it a touch is a SIGBUS
    return absl::DataLossError(absl::StrCat(path(), ": has been cut from ", before, " to ",
                                            info.size, " bytes by somebody"));
  }
  RaiseTo(std::min(info.size, capacity()), file_bytes_);
  if (index_ != nullptr) index_->Refresh(*files_.root, Stem());
  return absl::OkStatus();
}

// Word by word, as it may be written at this moment: then its checksum does not hold.
std::optional<Seal> Segment::ReadSeal() const {
  std::array<std::uint64_t, kSealWords> words;
  const std::atomic<std::uint64_t>* from = SealWords();
  // Acquire: whoever believes the seal sees the frames before it, too.
  for (std::uint64_t& word : words) word = (from++)->load(std::memory_order_acquire);
  return Checked(std::bit_cast<Seal>(words), header_, base_);
}

std::optional<SegmentEnd> Segment::EndOf(const SegmentHeader& header,
                                         const std::optional<Seal>& seal) {
  if (seal) return SegmentEnd{seal->next, seal->end_position};
  if (header.compacted_next == 0) return std::nullopt;
  return SegmentEnd{header.compacted_next, header.capacity};
}

void Segment::WriteSeal(Seal seal) {
  seal.base = base_;
  Sign(seal, header_.salt);
  const auto words = std::bit_cast<std::array<std::uint64_t, kSealWords>>(seal);
  std::atomic<std::uint64_t>* to = SealWords();
  for (const std::uint64_t word : words) (to++)->store(word, std::memory_order_release);
}

}  // namespace cordwood::segment
