// Files of some lines and folders of files, whole at a time; and the locks on bytes that
// an open or a close waits for. Not for anything that is appended to.
//
// Thread safety: any thread; what a path names belongs to one caller at a time.

#ifndef CORDWOOD_LOG_SMALL_FILES_H_
#define CORDWOOD_LOG_SMALL_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cordwood/os/storage.h"

namespace cordwood::log {

// absl's own string_view is another type where it was built for C++14.
inline absl::string_view ToAbsl(std::string_view s) {
  return absl::string_view(s.data(), s.size());
}

// kDataLoss: it is larger than that.
absl::StatusOr<std::string> ReadSmallFile(os::Folder& root, std::string_view path,
                                          std::uint64_t bytes_max);
// Its bytes survive a power cut; its name does once the folder is synced. What could not be
// written whole is removed again. kAlreadyExists.
absl::Status WriteNewFile(os::Folder& root, std::string_view path, std::string_view bytes);
absl::Status UnlinkIfThere(os::Folder& root, std::string_view path);
// OK if it is there already.
absl::Status CreateFolderIfMissing(os::Folder& root, std::string_view path);
// A file, or a folder with all that is in it. Links are removed, never followed. Goes on
// after an error and returns the first.
absl::Status RemoveTree(os::Folder& root, const std::string& path);

// Whether the lock was had before the deadline, which is of the monotonic clock. The lock
// has no queue, so it is asked for again every 5 ms.
absl::StatusOr<bool> LockByte(os::File& file, os::LockKind kind, std::uint64_t byte,
                              std::int64_t deadline_ns);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_SMALL_FILES_H_
