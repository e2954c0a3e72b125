#include "sim/find_record.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/frame.h"
#include "cordwood/status_macros.h"

namespace cordwood::sim {
namespace {

absl::StatusOr<std::string> ReadAll(os::Folder& directory, const std::string& path) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            directory.OpenFile(path, os::OpenMode::kRead));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  std::string bytes(info.size, '\0');
  CORDWOOD_ASSIGN_OR_RETURN(const std::size_t read, file->ReadAt(bytes.data(), bytes.size(), 0));
  bytes.resize(read);
  return bytes;
}

// The frame of that offset in the bytes of a segment file. What lies behind the end that its
// seal names is no record.
std::optional<RecordPlace> FindFrame(const std::string& file, Offset offset) {
  if (file.size() < segment::kFirstFrame) return std::nullopt;
  segment::SegmentHeader header;
  segment::Seal seal;
  std::memcpy(&header, file.data(), sizeof header);
  std::memcpy(&seal, file.data() + sizeof header, sizeof seal);
  if (!segment::IsValid(header)) return std::nullopt;
  const bool is_sealed = segment::IsValid(seal, header.salt);
  const std::uint64_t end =
      is_sealed ? std::min<std::uint64_t>(seal.end_position, file.size()) : file.size();
  const auto key = segment::SegmentKey::Make(header.salt, header.topic_id, header.partition);
  const auto* data = reinterpret_cast<const std::byte*>(file.data());
  segment::CheckedFrame frame;
  for (std::uint64_t at = segment::kFirstFrame; at < end;) {
    if (segment::CheckFrame(key, data, at, end, true, frame) != segment::FrameState::kValid) {
      at += 8;
      continue;
    }
    if (frame.header.offset == offset) return RecordPlace{"", at, frame.frame_bytes};
    at += frame.frame_bytes;
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<RecordPlace> FindRecord(os::Folder& directory, const TopicPartition& where,
                                       Offset offset) {
  const std::string folder = absl::StrCat("topics/", where.topic, "/", where.partition);
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries, directory.List(folder));
  std::vector<Offset> bases;
  for (const os::FolderEntry& entry : entries) {
    const std::optional<Offset> base = segment::BaseOfFileName(entry.name);
    if (base && *base <= offset) bases.push_back(*base);
  }
  // The newest first: a file that was retired may have records that a later one has, too.
  std::sort(bases.begin(), bases.end(), std::greater<>());
  for (const Offset base : bases) {
    const std::string path = absl::StrCat(folder, "/", segment::SegmentFileName(base));
    CORDWOOD_ASSIGN_OR_RETURN(const std::string file, ReadAll(directory, path));
    if (std::optional<RecordPlace> place = FindFrame(file, offset)) {
      place->path = path;
      return *std::move(place);
    }
  }
  return absl::NotFoundError(
      absl::StrCat(where.topic, "-", where.partition, ": no record at offset ", offset));
}

}  // namespace cordwood::sim
