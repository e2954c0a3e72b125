// Files and folders, in a word each.
//
//   WriteAll(dir / "file", "text");
//   CHECK(ReadAll(dir / "file") == "text");
//   CHECK(NamesIn(dir.path()) == std::set<std::string>{"file"});

#ifndef CORDWOOD_TESTS_SUPPORT_FILES_H_
#define CORDWOOD_TESTS_SUPPORT_FILES_H_

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>

namespace cordwood::testing {

inline std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteAll(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::set<std::string> NamesIn(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_FILES_H_
