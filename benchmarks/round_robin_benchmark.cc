// Partitions/append/N: a record of 100 bytes to one partition after the other, round and round,
// with nothing but memory in the way: the files are there, and a record was appended to each. Its
// floor is the same bytes copied and hashed into N mapped files, and one reading of the clock.

#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/quick.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/frame.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::size_t kValueBytes = 100;
constexpr std::uint64_t kFrameBytes = segment::FrameBytes(kValueBytes);

// Each partition or file gets so many, whose pages are populated before: 16 MiB in all for 100,
// 2 GB for ten thousand would not do.
std::size_t RoundsFor(std::int64_t partitions) { return partitions > 1'000 ? 100 : 1'000; }

void RoundRobin(benchmark::State& state) {
  const auto partitions = static_cast<int>(state.range(0));
  const std::size_t rounds = RoundsFor(partitions);
  const std::string value(kValueBytes, 'x');
  const BenchmarkDir dir;
  const Broker broker = Broker::Open(dir.path(), {.background_threads = false}).value();
  int topics = 0;
  std::vector<Partition> logs;
  const auto renew = [&] {
    logs.clear();
    if (topics > 0) broker.DeleteTopic("topic-" + std::to_string(topics)).IgnoreError();
    const std::string name = "topic-" + std::to_string(++topics);
    const Topic topic = broker.CreateTopic(name, {.partitions = partitions}).value();
    for (int i = 0; i < partitions; ++i) {
      logs.push_back(topic.partition(i));
      logs.back().Append({.value = value}).IgnoreError();
      internal::LogOf(logs.back())
          ->Populate(segment::kFirstFrame + (rounds + 2) * kFrameBytes)
          .IgnoreError();
    }
    dir.Settle();
  };
  renew();
  std::size_t next = 0, left = rounds;
  for (auto _ : state) {
    if (!logs[next].Append({.value = value}).ok()) {
      state.SkipWithError("append failed");
      break;
    }
    if (++next < logs.size()) continue;
    next = 0;
    if (--left > 0) continue;
    state.PauseTiming();
    renew();
    left = rounds;
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations());
}

void FloorRoundRobin(benchmark::State& state) {
  const std::size_t rounds = RoundsFor(state.range(0));
  const std::string frame(kFrameBytes, 'x');
  const BenchmarkDir dir;
  const std::shared_ptr<os::Folder> folder =
      Storage::OperatingSystem()->OpenFolder(dir.path(), {}).value();
  int files = 0;
  std::vector<std::unique_ptr<os::Mapping>> maps;
  const std::size_t bytes = (rounds + 1) * kFrameBytes;
  const auto renew = [&] {
    maps.clear();
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      if (files >= state.range(0)) {
        folder->Unlink(std::to_string(files - state.range(0))).IgnoreError();
      }
      auto file = folder->OpenFile(std::to_string(files++), os::OpenMode::kCreate).value();
      file->Allocate(bytes).IgnoreError();
      maps.push_back(file->Map(bytes, os::Access::kReadWrite).value());
      maps.back()->Populate(0, bytes).IgnoreError();
    }
    dir.Settle();
  };
  renew();
  std::size_t next = 0, at = 0;
  for (auto _ : state) {
    std::byte* to = maps[next]->data() + at;
    benchmark::DoNotOptimize(os::ReadClock(CLOCK_REALTIME));
    std::memcpy(to, frame.data(), kFrameBytes);
    benchmark::DoNotOptimize(os::Hash64(to, kFrameBytes));
    if (++next < maps.size()) continue;
    next = 0;
    at += kFrameBytes;
    if (at + kFrameBytes <= bytes) continue;
    state.PauseTiming();
    renew();
    at = 0;
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations());
}

void Counts(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(FullOrQuick(100, 10))->Arg(FullOrQuick(10'000, 20));
}
BENCHMARK(RoundRobin)->Name("Partitions/append")->Apply(Counts);
BENCHMARK(FloorRoundRobin)->Name("Floor/Partitions/append")->Apply(Counts);

}  // namespace
}  // namespace cordwood::benchmarks
