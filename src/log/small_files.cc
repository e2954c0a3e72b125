#include "log/small_files.h"

#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"

namespace cordwood::log {

absl::StatusOr<std::string> ReadSmallFile(os::Folder& root, std::string_view path,
                                          std::uint64_t bytes_max) {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            root.OpenFile(path, os::OpenMode::kRead));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  if (info.size > bytes_max) {
    return absl::DataLossError(absl::StrCat(root.path(), "/", ToAbsl(path), ": ", info.size,
                                            " bytes are more than the ", bytes_max,
                                            " that it can have"));
  }
  std::string bytes(static_cast<std::size_t>(info.size), '\0');
  CORDWOOD_ASSIGN_OR_RETURN(const std::size_t read, file->ReadAt(bytes.data(), bytes.size(), 0));
  bytes.resize(read);
  return bytes;
}

absl::Status WriteNewFile(os::Folder& root, std::string_view path, std::string_view bytes) {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            root.OpenFile(path, os::OpenMode::kCreate));
  absl::Status status = file->WriteAt(bytes.data(), bytes.size(), 0);
  if (status.ok()) status = file->Sync();
  if (!status.ok()) root.Unlink(path).IgnoreError();
  return status;
}

absl::Status UnlinkIfThere(os::Folder& root, std::string_view path) {
  absl::Status removed = root.Unlink(path);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

absl::Status CreateFolderIfMissing(os::Folder& root, std::string_view path) {
  absl::Status made = root.CreateFolder(path);
  return absl::IsAlreadyExists(made) ? absl::OkStatus() : made;
}

absl::Status RemoveTree(os::Folder& root, const std::string& path) {
  const absl::StatusOr<std::vector<os::FolderEntry>> entries = root.List(path);
  if (!entries.ok()) return UnlinkIfThere(root, path);  // no folder
  absl::Status first;
  for (const os::FolderEntry& entry : *entries) {
    const std::string below = absl::StrCat(path, "/", entry.name);
    first.Update(entry.is_folder ? RemoveTree(root, below) : UnlinkIfThere(root, below));
  }
  first.Update(root.RemoveFolder(path));
  return first;
}

absl::StatusOr<bool> LockByte(os::File& file, os::LockKind kind, std::uint64_t byte,
                              std::int64_t deadline_ns) {
  for (;;) {
    CORDWOOD_ASSIGN_OR_RETURN(const bool locked, file.TryLock(kind, byte));
    if (locked) return true;
    if (os::MonotonicNanos() >= deadline_ns) return false;
    absl::SleepFor(absl::Milliseconds(5));
  }
}

}  // namespace cordwood::log
