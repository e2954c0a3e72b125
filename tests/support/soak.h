// What tests of many processes that run for a while share: how long, and what a folder and a
// process hold.

#ifndef CORDWOOD_TESTS_SUPPORT_SOAK_H_
#define CORDWOOD_TESTS_SUPPORT_SOAK_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <system_error>
#include <vector>

namespace cordwood::testing {

// $CORDWOOD_SOAK_SECONDS, or a minute.
inline std::int64_t SoakSeconds() {
  const char* const seconds = std::getenv("CORDWOOD_SOAK_SECONDS");
  return seconds != nullptr ? std::atoi(seconds) : 60;
}

// What is in a folder that others change.
class FolderWatch {
 public:
  explicit FolderWatch(const std::filesystem::path& path)
      : folder_(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}
  FolderWatch(const FolderWatch&) = delete;
  FolderWatch& operator=(const FolderWatch&) = delete;
  ~FolderWatch() { close(folder_); }

  // Bytes of blocks that were there at one moment, or a little less: of the files that are in
  // both of two lists, what they had between them. They only grow.
  std::int64_t Bytes() {
    std::int64_t bytes = 0;
    std::map<std::string, std::int64_t> blocks;
    for (const std::string& name : Names()) {
      struct stat info;
      if (fstatat(folder_, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
        blocks[name] = std::int64_t{info.st_blocks} * 512;
      }
    }
    for (const std::string& name : Names()) {
      const auto found = blocks.find(name);
      if (found != blocks.end()) bytes += found->second;
      if (name.ends_with(".log") && name[0] != '.') segments_.insert(name);
    }
    return bytes;
  }
  // Of all that it has ever seen.
  std::size_t segments() const { return segments_.size(); }

 private:
  // One call of the system up to some 1,000 files: they were there at one moment.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    DIR* const stream = fdopendir(openat(folder_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    while (const dirent* entry = readdir(stream)) names.emplace_back(entry->d_name);
    closedir(stream);
    return names;
  }

  const int folder_;
  std::set<std::string> segments_;
};

// What a process holds of a directory.
struct Holds {
  std::int64_t maps = 0;
  std::int64_t mapped_bytes = 0;  // of the address space
  std::int64_t descriptors = 0;   // of anything

  static Holds Of(pid_t pid, const std::filesystem::path& path) {
    Holds holds;
    const std::string process = "/proc/" + std::to_string(pid);
    std::ifstream maps(process + "/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find(path.string()) == std::string::npos) continue;
      char* end = nullptr;
      const std::uint64_t from = std::strtoull(line.c_str(), &end, 16);
      ++holds.maps;
      holds.mapped_bytes += static_cast<std::int64_t>(std::strtoull(end + 1, nullptr, 16) - from);
    }
    std::error_code ignored;
    for (std::filesystem::directory_iterator it(process + "/fd", ignored), last; it != last;
         it.increment(ignored)) {
      ++holds.descriptors;
    }
    return holds;
  }
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_SOAK_H_
