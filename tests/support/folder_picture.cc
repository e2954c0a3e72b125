#include "tests/support/folder_picture.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/support/files.h"

namespace cordwood::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLineBytes = 32;

}  // namespace

FolderPicture FolderPicture::Of(const fs::path& folder) {
  FolderPicture picture;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    if (entry.is_directory()) {
      picture.folders.insert(name);
    } else if (entry.is_regular_file()) {
      picture.files[name] = ReadAll(entry.path());
    }
  }
  return picture;
}

void FolderPicture::WriteTo(const fs::path& folder) const {
  fs::create_directories(folder);
  std::vector<fs::path> others;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder).string();
    const fs::file_status status = entry.symlink_status();
    const bool is_kept = (fs::is_directory(status) && folders.contains(name)) ||
                         (fs::is_regular_file(status) && files.contains(name));
    if (!is_kept) others.push_back(entry.path());
  }
  for (const fs::path& other : others) fs::remove_all(other);
  for (const std::string& name : folders) {
    fs::create_directory(folder / name);
    fs::permissions(folder / name, fs::perms::owner_all);
  }
  for (const auto& [name, bytes] : files) {
    WriteAll(folder / name, bytes);
    fs::permissions(folder / name, fs::perms::owner_read | fs::perms::owner_write);
  }
}

std::string FolderPicture::ToText() const {
  std::string text;
  for (const std::string& name : folders) absl::StrAppend(&text, "folder ", name, "\n");
  for (const auto& [name, bytes] : files) {
    absl::StrAppend(&text, "file ", name, " ", bytes.size(), "\n");
    for (std::size_t at = 0; at < bytes.size(); at += kLineBytes) {
      const std::string line = bytes.substr(at, kLineBytes);
      const bool is_zero = std::all_of(line.begin(), line.end(), [](char c) { return c == 0; });
      if (!is_zero) absl::StrAppend(&text, at, " ", absl::BytesToHexString(line), "\n");
    }
  }
  return text;
}

FolderPicture FolderPicture::FromText(std::string_view text) {
  FolderPicture picture;
  std::istringstream lines{std::string(text)};
  std::string* bytes = nullptr;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first, second;
    words >> first >> second;
    if (first == "folder") {
      picture.folders.insert(second);
    } else if (first == "file") {
      std::size_t size = 0;
      words >> size;
      bytes = &picture.files[second];
      bytes->assign(size, '\0');
    } else if (bytes != nullptr) {
      const std::string part = absl::HexStringToBytes(second);
      bytes->replace(std::stoull(first), part.size(), part);
    }
  }
  return picture;
}

}  // namespace cordwood::testing
