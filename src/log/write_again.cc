#include "log/write_again.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "cordwood/status_macros.h"

namespace cordwood::log {

absl::Status WriteAgain(os::Folder& root, const std::string& path, std::uint64_t limit) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            root.OpenFile(path, os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  limit = std::min(limit, info.size);
  std::vector<char> page(4096);
  for (std::uint64_t at = 0; at < limit; at += page.size()) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::size_t bytes, file->ReadAt(page.data(), page.size(), at));
    const auto end = page.begin() + static_cast<std::ptrdiff_t>(bytes);
    // Of nothing but zeros there is nothing to lose.
    if (std::all_of(page.begin(), end, [](char c) { return c == 0; })) continue;
    CORDWOOD_RETURN_IF_ERROR(file->WriteAt(page.data(), bytes, at));
  }
  return absl::OkStatus();
}

}  // namespace cordwood::log
