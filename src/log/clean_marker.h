// The file CLEAN: what the last who closed a directory left for the first who opens it.
// The bytes are in segment/format.h. An entry says: in this control file, and no copy of
// it, these were the watermarks when every record of the topic was durable and nobody had
// it open. A topic that could not be made durable has no entry, and is recovered.
//
// Thread safety: values, and functions on files that only one process touches at a time.

#ifndef CORDWOOD_LOG_CLEAN_MARKER_H_
#define CORDWOOD_LOG_CLEAN_MARKER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "cordwood/log/control.h"
#include "cordwood/os/storage.h"

namespace cordwood::log {

inline constexpr char kCleanMarkerName[] = "CLEAN";
inline constexpr std::uint64_t kMarkerBytesMax = 64 << 20;  // a million topics

struct CleanHeader {
  static constexpr std::uint64_t kMagic = 0x314e41454c435743;  // "CWCLEAN1"

  std::uint64_t magic = kMagic;
  std::uint64_t topics = 0;
  std::uint8_t reserved[40] = {};
  std::uint64_t checksum = 0;
};
static_assert(sizeof(CleanHeader) == 64);
static_assert(offsetof(CleanHeader, checksum) == 56);

struct CleanEntry {
  os::Bits128 topic_id = {};
  std::uint64_t inode = 0;
  std::uint64_t device = 0;
  std::uint64_t watermarks = 0;
  std::uint8_t reserved[24] = {};

  static CleanEntry Of(const ControlFile& control);
  friend bool operator==(const CleanEntry&, const CleanEntry&) = default;
};
static_assert(sizeof(CleanEntry) == 64);
static_assert(offsetof(CleanEntry, inode) == 16);
static_assert(offsetof(CleanEntry, watermarks) == 32);

void Sign(CleanHeader& header, std::span<const CleanEntry> entries);
bool IsValid(const CleanHeader& header, std::span<const CleanEntry> entries);

// The marker's bytes, and the entries that bytes are; none if they are no valid marker.
std::string EncodeCleanMarker(std::span<const CleanEntry> entries);
std::vector<CleanEntry> DecodeCleanMarker(std::string_view bytes);

// Empty if there is no marker, or none that holds: then every topic is recovered.
std::vector<CleanEntry> ReadCleanMarker(os::Folder& root);
// Survives a power cut once it returns OK; all or nothing before.
absl::Status WriteCleanMarker(os::Folder& root, std::span<const CleanEntry> entries);
// Does so for good, before the caller changes anything that the marker speaks of; and with it
// every name in the root, whose makers may have died before they did.
absl::Status RemoveCleanMarker(os::Folder& root);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_CLEAN_MARKER_H_
