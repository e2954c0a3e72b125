// Segments: how slow the slowest append is where one ends and the next begins, and how long it
// takes to open a directory that has many.
//
//   Roll/segment_bytes:N        appends of 100 bytes, ten million of them or as many as ten
//                               segments hold, with the thread that makes files ready, as a broker
//                               has it that changes no option. Its time is the slowest append; p50
//                               and so on are those of all, rolls counts how often one ended
//   Floor/Roll/segment_bytes:N  the same bytes copied and hashed into one allocated file after the
//                               other; another thread makes the next one and populates its pages
//   Open/segments:N             of a directory that was closed, with N segments in one partition
//   Floor/Open/segments:N       N files: their names read, and the last one of them mapped

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/benchmark_dir.h"
#include "benchmarks/percentiles.h"
#include "benchmarks/populated.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::size_t kValueBytes = 100;
constexpr std::uint64_t kFrameBytes = segment::FrameBytes(kValueBytes);

std::size_t AppendsFor(std::int64_t segment_bytes) {
  const auto in_ten = static_cast<std::size_t>(10 * segment_bytes) / kFrameBytes;
  return std::min(in_ten, FullOrQuick<std::size_t>(10'000'000, 50'000));
}

// `once` says whether it went well. The clock is read once for each, at its end: two neighbours
// share a reading.
template <class Once>
void TimeEach(benchmark::State& state, std::size_t appends, Once once) {
  std::vector<std::int64_t> times(appends);
  std::int64_t last = os::MonotonicNanos();
  for (std::int64_t& time : times) {
    if (!once()) return state.SkipWithError("append failed");
    const std::int64_t now = os::MonotonicNanos();
    time = now - last;
    last = now;
  }
  const Percentiles all = PercentilesOf(std::move(times));
  state.SetIterationTime(static_cast<double>(all.max_ns) * 1e-9);
  state.counters["p50_ns"] = static_cast<double>(all.p50_ns);
  state.counters["p99_ns"] = static_cast<double>(all.p99_ns);
  state.counters["p99.9_ns"] = static_cast<double>(all.p999_ns);
  state.counters["max_ns"] = static_cast<double>(all.max_ns);
}

void Roll(benchmark::State& state) {
  for (auto _ : state) {
    const BenchmarkDir dir;
    const Broker broker = Broker::Open(dir.path()).value();
    const Partition partition =
        broker.CreateTopic("events", {.segment_bytes = state.range(0)}).value().partition(0);
    const std::string value(kValueBytes, 'x');
    dir.Settle();
    TimeEach(state, AppendsFor(state.range(0)),
             [&] { return partition.Append({.value = value}).ok(); });
    double segments = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path())) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() == ".log" && !name.starts_with('.')) ++segments;
    }
    state.counters["rolls"] = segments - 1;
  }
}

// Files that another thread makes ready, one ahead.
class FilesAhead {
 public:
  FilesAhead(const BenchmarkDir& dir, std::size_t bytes)
      : folder_(Storage::OperatingSystem()->OpenFolder(dir.path(), {}).value()),
        bytes_(bytes),
        thread_([this] { Run(); }) {}
  FilesAhead(const FilesAhead&) = delete;
  FilesAhead& operator=(const FilesAhead&) = delete;
  ~FilesAhead() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::unique_ptr<os::Mapping> Next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ready_ != nullptr; });
    auto map = std::move(ready_);
    changed_.notify_all();
    return map;
  }

 private:
  void Run() {
    for (int i = 0;; ++i) {
      auto file = folder_->OpenFile(std::to_string(i), os::OpenMode::kCreate).value();
      file->Allocate(bytes_).IgnoreError();
      auto map = file->Map(bytes_, os::Access::kReadWrite).value();
      map->Populate(0, bytes_).IgnoreError();
      std::unique_lock lock(mutex_);
      ready_ = std::move(map);
      changed_.notify_all();
      changed_.wait(lock, [&] { return ready_ == nullptr || is_over_; });
      if (is_over_) return;
    }
  }

  const std::shared_ptr<os::Folder> folder_;
  const std::size_t bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<os::Mapping> ready_;
  bool is_over_ = false;
  std::thread thread_;
};

void FloorRoll(benchmark::State& state) {
  const auto file_bytes = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    const BenchmarkDir dir;
    dir.Settle();
    FilesAhead files(dir, file_bytes);
    std::vector<std::unique_ptr<os::Mapping>> old;  // as a log's readers have them
    std::unique_ptr<os::Mapping> map = files.Next();
    const std::string frame(kFrameBytes, 'x');
    std::size_t at = 0;
    TimeEach(state, AppendsFor(state.range(0)), [&] {
      if (at + kFrameBytes > file_bytes) {
        old.push_back(std::move(map));
        map = files.Next();
        at = 0;
      }
      benchmark::DoNotOptimize(os::ReadClock(CLOCK_REALTIME));
      std::memcpy(map->data() + at, frame.data(), kFrameBytes);
      benchmark::DoNotOptimize(os::Hash64(map->data() + at, kFrameBytes));
      at += kFrameBytes;
      return true;
    });
  }
}

void SegmentSizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("segment_bytes")->Iterations(1)->UseManualTime();
  benchmark->Unit(benchmark::kMicrosecond)->Arg(16 << 20)->Arg(128 << 20);
}
BENCHMARK(Roll)->Apply(SegmentSizes);
BENCHMARK(FloorRoll)->Name("Floor/Roll")->Apply(SegmentSizes);

// ---- Open

constexpr std::int64_t kSmallSegmentBytes = 16 << 10;

void Open(benchmark::State& state) {
  const BenchmarkDir dir;
  const BrokerOptions options{.background_threads = false};
  {
    const Broker broker = Broker::Open(dir.path(), options).value();
    const Partition partition =
        broker.CreateTopic("events", {.segment_bytes = kSmallSegmentBytes}).value().partition(0);
    // Two records fill a segment: it is the number of files that counts here.
    const std::string value(kSmallSegmentBytes / 2 - 1024, 'x');
    for (std::int64_t i = 0; i < 2 * state.range(0) - 1; ++i) {
      partition.Append({.value = value}).IgnoreError();
    }
    if (!broker.Close().ok()) state.SkipWithError("not closed");
  }
  dir.Settle();
  for (auto _ : state) {
    const Broker broker = Broker::Open(dir.path(), options).value();
    const Partition partition = broker.OpenTopic("events").value().partition(0);
    benchmark::DoNotOptimize(partition.end_offset());
    state.PauseTiming();
    if (partition.end_offset() != 2 * state.range(0) - 1 || !broker.Close().ok()) {
      state.SkipWithError("records are missing");
    }
    state.ResumeTiming();
  }
}

void FloorOpen(benchmark::State& state) {
  const BenchmarkDir dir;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    const std::string path = dir.path() / absl::StrCat(absl::Dec(i, absl::kZeroPad16), ".log");
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || posix_fallocate(file, 0, kSmallSegmentBytes) != 0) {
      state.SkipWithError("no file");
    }
    close(file);
  }
  dir.Settle();
  for (auto _ : state) {
    const auto folder = Storage::OperatingSystem()->OpenFolder(dir.path(), {}).value();
    const auto names = folder->List(".").value();
    const auto newest = std::max_element(
        names.begin(), names.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    const auto file = folder->OpenFile(newest->name, os::OpenMode::kReadWrite).value();
    benchmark::DoNotOptimize(
        file->Map(static_cast<std::size_t>(kSmallSegmentBytes), os::Access::kReadWrite).value());
  }
}

void SegmentCounts(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("segments")->UseRealTime()->Unit(benchmark::kMicrosecond);
  benchmark->Arg(1)->Arg(FullOrQuick(100, 10))->Arg(FullOrQuick(2'000, 20));
}
BENCHMARK(Open)->Apply(SegmentCounts);
BENCHMARK(FloorOpen)->Name("Floor/Open")->Apply(SegmentCounts);

}  // namespace
}  // namespace cordwood::benchmarks
