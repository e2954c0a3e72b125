// A folder for the data of one benchmark, gone with the object; below $CORDWOOD_BENCHMARK_DIR or
// else the system's folder for temporary files. Which file system it is on matters: say it with
// the figures.

#ifndef CORDWOOD_BENCHMARKS_BENCHMARK_DIR_H_
#define CORDWOOD_BENCHMARKS_BENCHMARK_DIR_H_

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "benchmarks/quick.h"

namespace cordwood::benchmarks {

class BenchmarkDir {
 public:
  BenchmarkDir() {
    const char* below = std::getenv("CORDWOOD_BENCHMARK_DIR");
    const std::filesystem::path parent =
        below != nullptr ? std::filesystem::path(below) : std::filesystem::temp_directory_path();
    std::string name = (parent / "cordwood-benchmark-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();  // nothing can be measured
    path_ = name;
  }
  BenchmarkDir(const BenchmarkDir&) = delete;
  BenchmarkDir& operator=(const BenchmarkDir&) = delete;
  ~BenchmarkDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

  // Waits until the file system has written what it has to: what is left of making and removing
  // files would run beside the benchmark. A quick run has no time for that.
  void Settle() const {
    if (IsQuick()) return;
    const int folder = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return;
    syncfs(folder);
    close(folder);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace cordwood::benchmarks

#endif  // CORDWOOD_BENCHMARKS_BENCHMARK_DIR_H_
