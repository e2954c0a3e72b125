#include "cordwood/segment/segment.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
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

}  // namespace

absl::Status Segment::Create(const PartitionFiles& files, const std::string& stem,
                             const os::Bits128& salt, std::uint64_t capacity,
                             std::uint64_t offset_span, std::int64_t now_ns) {
  SegmentHeader header;
  header.partition = files.partition;
  header.topic_id = files.topic_id;
  header.salt = salt;
  header.capacity = (capacity + 7) & ~std::uint64_t{7};
  header.offset_span = offset_span;
  header.created_ns = now_ns;
  Sign(header);
  const std::string path = files.Path(stem);
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            files.root->OpenFile(path + ".log", os::OpenMode::kCreate));
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(std::min(header.capacity, kBytesAtFirst)));
  CORDWOOD_RETURN_IF_ERROR(file->WriteAt(&header, sizeof header, 0));
  CORDWOOD_RETURN_IF_ERROR(file->Sync());
  return Index::Create(*files.root, path, salt);
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
  CORDWOOD_ASSIGN_OR_RETURN(const std::size_t bytes,
                            file->ReadAt(&segment->header_, sizeof segment->header_, 0));
  const SegmentHeader& header = segment->header_;
  const auto bad = [&](absl::string_view what) {
    return absl::DataLossError(absl::StrCat(files.root->path(), "/", path, ", position 0: ", what));
  };
  if (bytes != sizeof header || !IsValid(header)) {
    return bad("not the header of a segment, or a damaged one");
  }
  if (header.topic_id != files.topic_id) return bad("the segment belongs to another topic");
  if (header.partition != files.partition) {
    return bad(absl::StrCat("the segment belongs to partition ", header.partition));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  if (info.size < kFirstFrame) return bad("the file is shorter than a segment's header");
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

absl::StatusOr<std::unique_ptr<os::File>> Segment::Reopen(os::OpenMode mode) const {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file, files_.root->OpenFile(path(), mode));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  if (info.inode != inode_) {
    return absl::NotFoundError(absl::StrCat(path(), ": the name is another file's now"));
  }
  return file;
}

absl::Status Segment::Grow(std::uint64_t bytes) {
  const std::uint64_t now = file_bytes();
  if (bytes <= now) return absl::OkStatus();
  if (bytes > capacity()) {
    return absl::InternalError(absl::StrCat(path(), ": asked to grow past its capacity"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file, Reopen(os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  std::uint64_t size = std::min(info.size, capacity());
  if (size < bytes) {
    size = NextSize(size, bytes, capacity());
    absl::Status status = file->Allocate(size);
    if (absl::IsResourceExhausted(status) && size > bytes) {
      size = bytes;  // the disk has no whole step left, but perhaps this much
      status = file->Allocate(size);
    }
    CORDWOOD_RETURN_IF_ERROR(status);
  }
  // An index without room has an entry less; that costs a reader time, not a record.
  if (index_ != nullptr) index_->Grow(*files_.root, Stem(), IndexEntriesFor(size)).IgnoreError();
  RaiseFileBytes(size);
  return absl::OkStatus();
}

// A writer and a thread that works ahead may both grow the file; it never shrinks.
void Segment::RaiseFileBytes(std::uint64_t bytes) {
  std::uint64_t now = file_bytes();
  while (now < bytes && !file_bytes_.compare_exchange_weak(now, bytes, std::memory_order_release)) {
  }
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
  RaiseFileBytes(std::min(info.size, capacity()));
  if (index_ != nullptr) index_->Refresh(*files_.root, Stem());
  return absl::OkStatus();
}

std::optional<Seal> Segment::ReadSeal() const {
  Seal seal;
  std::memcpy(&seal, data() + kSealPosition, sizeof seal);
  if (!IsValid(seal, header_.salt) || seal.base != base_ || seal.end_position > capacity()) {
    return std::nullopt;
  }
  return seal;
}

void Segment::WriteSeal(Seal seal) {
  seal.base = base_;
  Sign(seal, header_.salt);
  std::memcpy(data() + kSealPosition, &seal, sizeof seal);
}

}  // namespace cordwood::segment
