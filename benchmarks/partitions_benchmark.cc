// Many partitions in one broker, under the limit of 1,024 open files that a process has by
// default: Partitions/N makes a topic of N, appends one record to each, reads it, closes, and
// opens it again. Times are per partition; memory is what is resident more than before, and
// descriptors and maps are the most that were seen at the end of a step. resident_per_partition is
// what one costs that has a record in it and is idle. Floor/Partitions/N does the same with N plain
// files in as many folders, which it maps, one after the other.

#include <benchmark/benchmark.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/quick.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/frame.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::uint64_t kFrameBytes = segment::FrameBytes(3);  // the record's value is "one"

// The least of what it has and 1,024, for as long as this lives.
class UsualLimit {
 public:
  UsualLimit() {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit usual = {std::min<rlim_t>(1024, before_.rlim_cur), before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &usual);
  }
  UsualLimit(const UsualLimit&) = delete;
  UsualLimit& operator=(const UsualLimit&) = delete;
  ~UsualLimit() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_ = {};
};

double ResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) return std::stod(line.substr(6)) * 1024;
  }
  return 0;
}
double Maps() {
  std::ifstream maps("/proc/self/maps");
  double lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}
double Descriptors() {
  return static_cast<double>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                                           std::filesystem::directory_iterator()));
}
double DiskBytes(const std::filesystem::path& path) {
  double bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    struct stat info;
    if (lstat(entry.path().c_str(), &info) == 0) bytes += static_cast<double>(info.st_blocks) * 512;
  }
  return bytes;
}

absl::Status ReadOne(const Partition& partition) {
  auto reader = partition.Read(0);
  if (!reader.ok()) return reader.status();
  int records = 0;
  for (const RecordView& record : *reader) {
    benchmark::DoNotOptimize(record.offset());
    ++records;
  }
  if (!reader->status().ok()) return reader->status();
  return records == 1 ? absl::OkStatus() : absl::InternalError("not one record");
}

void Partitions(benchmark::State& state) {
  const UsualLimit limit;
  const auto n = static_cast<int>(state.range(0));
  for (auto _ : state) {
    const BenchmarkDir dir;
    const double resident_before = ResidentBytes();
    double maps = 0, descriptors = 0, resident = 0;
    auto last = std::chrono::steady_clock::now();
    const auto step = [&](const char* name) {
      const auto now = std::chrono::steady_clock::now();
      state.counters[name] = std::chrono::duration<double>(now - last).count() / n;
      maps = std::max(maps, Maps());
      descriptors = std::max(descriptors, Descriptors());
      resident = std::max(resident, ResidentBytes() - resident_before);
      last = std::chrono::steady_clock::now();
    };
    // A handle that is left keeps the maps of its partitions, so each broker has its own scope.
    const auto write = [&]() -> absl::Status {
      const Broker broker = Broker::Open(dir.path() / "data").value();
      const auto topic = broker.CreateTopic("events", {.partitions = n});
      if (!topic.ok()) return topic.status();
      step("create_s");
      for (int i = 0; i < n; ++i) {
        const auto at = topic->partition(i).Append({.value = "one"});
        if (!at.ok()) return at.status();
      }
      step("append_s");
      for (int i = 0; i < n; ++i) {
        if (absl::Status status = ReadOne(topic->partition(i)); !status.ok()) return status;
      }
      step("read_s");
      const absl::Status closed = broker.Close();
      step("close_s");
      return closed;
    };
    const auto read = [&]() -> absl::Status {
      const Broker broker = Broker::Open(dir.path() / "data").value();
      const auto topic = broker.OpenTopic("events");
      if (!topic.ok()) return topic.status();
      step("open_s");
      for (int i = 0; i < n; ++i) {
        if (absl::Status status = ReadOne(topic->partition(i)); !status.ok()) return status;
      }
      step("read_again_s");
      return broker.Close();
    };
    absl::Status status = write();
    state.counters["disk_bytes"] = DiskBytes(dir.path());
    last = std::chrono::steady_clock::now();
    if (status.ok()) status = read();
    if (!status.ok()) {
      state.SkipWithError(status.ToString().c_str());
      break;
    }
    state.counters["maps"] = maps;
    state.counters["descriptors"] = descriptors;
    state.counters["resident_bytes"] = resident;
    state.counters["resident_per_partition"] = resident / n;
  }
}

// A folder and a file for each, of the blocks that a log's first segment begins with.
void FloorPartitions(benchmark::State& state) {
  constexpr std::size_t kFileBytes = 64 << 10;
  const UsualLimit limit;
  const std::int64_t n = state.range(0);
  for (auto _ : state) {
    const BenchmarkDir dir;
    const std::shared_ptr<os::Folder> root =
        Storage::OperatingSystem()->OpenFolder(dir.path(), {}).value();
    const auto name = [](std::int64_t i) { return std::to_string(i) + "/log"; };
    auto last = std::chrono::steady_clock::now();
    const auto for_each = [&](const char* step, auto f) {
      for (std::int64_t i = 0; i < n; ++i) f(i);
      const auto now = std::chrono::steady_clock::now();
      state.counters[step] =
          std::chrono::duration<double>(now - last).count() / static_cast<double>(n);
      last = std::chrono::steady_clock::now();
    };
    const auto map = [&](std::int64_t i, os::OpenMode mode) {
      const auto file = root->OpenFile(name(i), mode).value();
      if (mode == os::OpenMode::kCreate) file->Allocate(kFileBytes).IgnoreError();
      return file->Map(kFileBytes, os::Access::kReadWrite).value();
    };
    const auto hash = [&](const os::Mapping& at) {
      benchmark::DoNotOptimize(os::Hash64(at.data(), kFrameBytes));
    };
    for_each("create_s",
             [&](std::int64_t i) { root->CreateFolder(std::to_string(i)).IgnoreError(); });
    std::vector<std::unique_ptr<os::Mapping>> maps(static_cast<std::size_t>(n));
    const std::string frame(kFrameBytes, 'x');
    for_each("append_s", [&](std::int64_t i) {
      auto& at = maps[static_cast<std::size_t>(i)];
      at = map(i, os::OpenMode::kCreate);
      std::memcpy(at->data(), frame.data(), kFrameBytes);
      hash(*at);
    });
    for_each("read_s", [&](std::int64_t i) { hash(*maps[static_cast<std::size_t>(i)]); });
    maps.clear();
    root->SyncFileSystem().IgnoreError();
    last = std::chrono::steady_clock::now();
    for_each("read_again_s", [&](std::int64_t i) { hash(*map(i, os::OpenMode::kReadWrite)); });
  }
}

void Counts(benchmark::internal::Benchmark* benchmark) {
  benchmark->Iterations(1)->UseRealTime()->Unit(benchmark::kMillisecond);
  benchmark->Arg(FullOrQuick(100, 10))->Arg(FullOrQuick(10'000, 20));
}
BENCHMARK(Partitions)->Apply(Counts);
BENCHMARK(FloorPartitions)->Name("Floor/Partitions")->Apply(Counts);

}  // namespace
}  // namespace cordwood::benchmarks
