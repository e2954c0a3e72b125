#include "log/clean_marker.h"

#include <algorithm>
#include <cstring>

#include "cordwood/os/checksum.h"
#include "cordwood/status_macros.h"
#include "log/small_files.h"

namespace cordwood::log {
namespace {

constexpr char kUnfinishedName[] = ".CLEAN-new";

std::uint64_t ChecksumOf(std::span<const CleanEntry> entries) {
  return os::Hash64(entries.data(), entries.size_bytes()) ^ entries.size();
}

}  // namespace

CleanEntry CleanEntry::Of(const ControlFile& control) {
  return {.topic_id = control.header().topic_id,
          .inode = control.inode(),
          .device = control.device(),
          .watermarks = control.WatermarkChecksum()};
}

void Sign(CleanHeader& header, std::span<const CleanEntry> entries) {
  header.topics = entries.size();
  header.checksum = ChecksumOf(entries);
}

bool IsValid(const CleanHeader& header, std::span<const CleanEntry> entries) {
  return header.magic == CleanHeader::kMagic && header.topics == entries.size() &&
         header.checksum == ChecksumOf(entries);
}

std::string EncodeCleanMarker(std::span<const CleanEntry> entries) {
  CleanHeader header;
  Sign(header, entries);
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes.append(reinterpret_cast<const char*>(entries.data()), entries.size_bytes());
  return bytes;
}

std::vector<CleanEntry> DecodeCleanMarker(std::string_view bytes) {
  CleanHeader header;
  if (bytes.size() < sizeof header) return {};
  std::memcpy(&header, bytes.data(), sizeof header);
  bytes.remove_prefix(sizeof header);
  // As many as there are bytes for; the header's number only has to agree.
  std::vector<CleanEntry> entries(bytes.size() / sizeof(CleanEntry));
  if (!entries.empty()) {
    std::memcpy(entries.data(), bytes.data(), entries.size() * sizeof(CleanEntry));
  }
  if (!IsValid(header, entries)) return {};
  return entries;
}

std::vector<CleanEntry> ReadCleanMarker(os::Folder& root) {
  const absl::StatusOr<std::string> bytes = ReadSmallFile(root, kCleanMarkerName, kMarkerBytesMax);
  if (!bytes.ok()) return {};
  return DecodeCleanMarker(*bytes);
}

absl::Status WriteCleanMarker(os::Folder& root, std::span<const CleanEntry> entries) {
  CORDWOOD_RETURN_IF_ERROR(UnlinkIfThere(root, kUnfinishedName));
  // Synced before it has its name: a marker that is there is whole, or its checksum fails.
  CORDWOOD_RETURN_IF_ERROR(WriteNewFile(root, kUnfinishedName, EncodeCleanMarker(entries)));
  CORDWOOD_RETURN_IF_ERROR(root.Rename(kUnfinishedName, kCleanMarkerName));
  return root.SyncFolder("");
}

absl::Status RemoveCleanMarker(os::Folder& root) {
  CORDWOOD_RETURN_IF_ERROR(UnlinkIfThere(root, kCleanMarkerName));
  return root.SyncFolder("");
}

}  // namespace cordwood::log
