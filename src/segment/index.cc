#include "cordwood/segment/index.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "cordwood/os/checksum.h"
#include "cordwood/status_macros.h"

namespace cordwood::segment {
namespace {

constexpr std::size_t kEntriesAtFirst = 64;

absl::Status CreateOne(os::Folder& root, const std::string& path, std::uint64_t magic,
                       const os::Bits128& salt, std::size_t entry_bytes) {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            root.OpenFile(path, os::OpenMode::kCreate));
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(Index::kHeaderBytes + kEntriesAtFirst * entry_bytes));
  IndexHeader header;
  header.magic = magic;
  header.salt = salt;
  return file->WriteAt(&header, sizeof header, 0);
}

absl::StatusOr<std::unique_ptr<os::File>> OpenOne(os::Folder& root, const std::string& path,
                                                  std::uint64_t magic, const os::Bits128& salt,
                                                  os::Access access) {
  CORDWOOD_ASSIGN_OR_RETURN(
      std::unique_ptr<os::File> file,
      root.OpenFile(path,
                    access == os::Access::kRead ? os::OpenMode::kRead : os::OpenMode::kReadWrite));
  IndexHeader header;
  CORDWOOD_ASSIGN_OR_RETURN(const std::size_t bytes, file->ReadAt(&header, sizeof header, 0));
  if (bytes != sizeof header || header.magic != magic || header.salt != salt) {
    return absl::DataLossError(absl::StrCat(path, ": not the index of this segment"));
  }
  return file;
}

std::uint64_t ChecksumOfEntries(const std::byte* map, std::size_t count, std::size_t entry_bytes) {
  return os::Hash64(map + Index::kHeaderBytes, count * entry_bytes) ^ count;
}

void SealOne(std::byte* map, std::size_t count, std::size_t entry_bytes) {
  IndexHeader header;
  std::memcpy(&header, map, sizeof header);
  header.count = count;
  header.checksum = ChecksumOfEntries(map, count, entry_bytes);
  std::memcpy(map, &header, sizeof header);
}

bool IsWhole(const std::byte* map, std::size_t room, std::size_t entry_bytes) {
  IndexHeader header;
  std::memcpy(&header, map, sizeof header);
  return header.count != 0 && header.count <= room &&
         header.checksum == ChecksumOfEntries(map, header.count, entry_bytes);
}

}  // namespace

absl::Status Index::Create(os::Folder& root, const std::string& stem, const os::Bits128& salt) {
  CORDWOOD_RETURN_IF_ERROR(
      CreateOne(root, stem + kOffsetExtension, kIndexMagic, salt, kOffsetEntryBytes));
  return CreateOne(root, stem + kTimeExtension, kTimeIndexMagic, salt, kTimeEntryBytes);
}

absl::StatusOr<std::unique_ptr<Index>> Index::Open(os::Folder& root, const std::string& stem,
                                                   const os::Bits128& salt, std::size_t entries_max,
                                                   os::Access access) {
  auto index = std::unique_ptr<Index>(new Index());
  index->salt_ = salt;
  index->entries_max_ = entries_max;
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> offset_file,
                            OpenOne(root, stem + kOffsetExtension, kIndexMagic, salt, access));
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> time_file,
                            OpenOne(root, stem + kTimeExtension, kTimeIndexMagic, salt, access));
  CORDWOOD_ASSIGN_OR_RETURN(
      index->offset_map_, offset_file->Map(kHeaderBytes + entries_max * kOffsetEntryBytes, access));
  CORDWOOD_ASSIGN_OR_RETURN(index->time_map_,
                            time_file->Map(kHeaderBytes + entries_max * kTimeEntryBytes, access));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo offset_info, offset_file->Info());
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo time_info, time_file->Info());
  index->offset_inode_ = offset_info.inode;
  index->time_inode_ = time_info.inode;
  CORDWOOD_RETURN_IF_ERROR(index->SetRoom(*offset_file, *time_file));
  return index;
}

void Index::Fetch() const {
  offset_map_->Fetch(0, kHeaderBytes + room() * kOffsetEntryBytes);
  time_map_->Fetch(0, kHeaderBytes + room() * kTimeEntryBytes);
}

absl::Status Index::SetRoom(os::File& offset_file, os::File& time_file) {
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo offsets, offset_file.Info());
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo times, time_file.Info());
  if (offsets.inode != offset_inode_ || times.inode != time_inode_) {
    return absl::NotFoundError("the names of the index are other files' now");
  }
  const auto entries = [](std::uint64_t size, std::size_t entry_bytes) {
    return size < kHeaderBytes ? 0 : (size - kHeaderBytes) / entry_bytes;
  };
  // Two may look at once, one before the other grew the files: the room never shrinks.
  const std::size_t seen = std::min({entries_max_, entries(offsets.size, kOffsetEntryBytes),
                                     entries(times.size, kTimeEntryBytes)});
  std::size_t now = room();
  while (now < seen && !room_.compare_exchange_weak(now, seen, std::memory_order_release)) {
  }
  return absl::OkStatus();
}

absl::Status Index::Grow(os::Folder& root, const std::string& stem, std::size_t entries) {
  entries = std::min(entries, entries_max_);
  if (entries <= room()) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(
      std::unique_ptr<os::File> offset_file,
      OpenOne(root, stem + kOffsetExtension, kIndexMagic, salt_, os::Access::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(
      std::unique_ptr<os::File> time_file,
      OpenOne(root, stem + kTimeExtension, kTimeIndexMagic, salt_, os::Access::kReadWrite));
  CORDWOOD_RETURN_IF_ERROR(SetRoom(*offset_file, *time_file));  // only if they are ours
  CORDWOOD_RETURN_IF_ERROR(offset_file->Allocate(kHeaderBytes + entries * kOffsetEntryBytes));
  CORDWOOD_RETURN_IF_ERROR(time_file->Allocate(kHeaderBytes + entries * kTimeEntryBytes));
  return SetRoom(*offset_file, *time_file);
}

void Index::Refresh(os::Folder& root, const std::string& stem) {
  auto offset_file = OpenOne(root, stem + kOffsetExtension, kIndexMagic, salt_, os::Access::kRead);
  auto time_file = OpenOne(root, stem + kTimeExtension, kTimeIndexMagic, salt_, os::Access::kRead);
  // Without them the reader has the entries that it had: it scans a little more.
  if (offset_file.ok() && time_file.ok()) SetRoom(**offset_file, **time_file).IgnoreError();
}

std::uint32_t Index::TimeCheck(const os::Bits128& salt, std::int64_t largest_before,
                               std::uint64_t position) {
  struct {
    os::Bits128 salt;
    std::int64_t largest_before;
    std::uint64_t position;
  } const bytes = {salt, largest_before, position};
  return static_cast<std::uint32_t>(os::Hash64(&bytes, sizeof bytes));
}

void Index::Clear(std::size_t i) {
  // All of them: after a power cut some may stand behind a page that was lost.
  for (; i < room(); ++i) {
    offsets()[i].store(0, std::memory_order_release);
    times()[i].position_and_check.store(0, std::memory_order_release);
  }
}

std::size_t Index::Count() const {
  // Entries are added from the front, so the zeros are all behind.
  std::size_t low = 0, high = room();
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (offsets()[middle].load(std::memory_order_acquire) != 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

std::optional<IndexEntry> Index::At(std::size_t i) const {
  if (i >= room()) return std::nullopt;
  const std::uint64_t word = offsets()[i].load(std::memory_order_acquire);
  const std::uint64_t position = (word >> 32) * 8;
  if (position < kFirstFrame) return std::nullopt;
  const std::uint64_t time_word = times()[i].position_and_check.load(std::memory_order_acquire);
  const std::int64_t before = times()[i].largest_before.load(std::memory_order_relaxed);
  const std::uint64_t check = TimeCheck(salt_, before, position);
  if (time_word != (position | check << 32)) return std::nullopt;
  return IndexEntry{static_cast<std::uint32_t>(word), position, before};
}

template <class Before>
std::optional<std::size_t> Index::Last(std::size_t count, Before before) const {
  std::size_t low = 0, high = std::min(count, room());
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    const std::optional<IndexEntry> entry = At(middle);
    if (entry && before(*entry)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low == 0 ? std::nullopt : std::optional<std::size_t>(low - 1);
}

std::optional<std::size_t> Index::LastAtOrBeforeOffset(std::uint32_t offset_delta,
                                                       std::size_t count) const {
  return Last(count, [&](const IndexEntry& e) { return e.offset_delta <= offset_delta; });
}
std::optional<std::size_t> Index::LastAtOrBeforePosition(std::uint64_t position,
                                                         std::size_t count) const {
  return Last(count, [&](const IndexEntry& e) { return e.position <= position; });
}
std::optional<std::size_t> Index::LastBeforeTime(std::int64_t time_ns, std::size_t count) const {
  return Last(count, [&](const IndexEntry& e) { return e.time_before < time_ns; });
}

void Index::Seal(std::size_t count) {
  SealOne(offset_map_->data(), count, kOffsetEntryBytes);
  SealOne(time_map_->data(), count, kTimeEntryBytes);
}

bool Index::IsSealedAndWhole() const {
  return IsWhole(offset_map_->data(), room(), kOffsetEntryBytes) &&
         IsWhole(time_map_->data(), room(), kTimeEntryBytes);
}

absl::Status Index::Sync() {
  const std::size_t entries = room();
  CORDWOOD_RETURN_IF_ERROR(offset_map_->Sync(0, kHeaderBytes + entries * kOffsetEntryBytes));
  return time_map_->Sync(0, kHeaderBytes + entries * kTimeEntryBytes);
}

}  // namespace cordwood::segment
