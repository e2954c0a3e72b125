// For a file of which a sync may have failed. The system takes its pages for clean from then on,
// and no later sync writes them, though it says OK (rule 14). What is written again is dirty again.
//
// Thread safety: the file belongs to the caller.

#ifndef CORDWOOD_LOG_WRITE_AGAIN_H_
#define CORDWOOD_LOG_WRITE_AGAIN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "cordwood/os/storage.h"

namespace cordwood::log {

// A file in the directory: there while it is recovered or repaired, and from when that was cut off,
// or one of its syncs has failed. Who finds it does not trust that what looks synced is.
inline constexpr char kRecoveringName[] = "recovering";

// The pages of [0, limit), as far as the file goes, with what is in them.
absl::Status WriteAgain(os::Folder& root, const std::string& path, std::uint64_t limit);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_WRITE_AGAIN_H_
