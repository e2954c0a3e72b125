// Several writers at a time, in threads and in processes, all on one partition or each on its own:
// Writers/one/..., Writers/own/..., records of 100 bytes. The rate is that of all of them.
//
// Floor/Writers/... are as many threads or processes that each copy and hash into a file of their
// own, as in append_benchmark.cc: that of Writers/own, and what the memory lets through for both.
// Pages are populated before the clock starts on both sides.

#include <benchmark/benchmark.h>

#include <memory>
#include <optional>
#include <string>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/populated.h"
#include "benchmarks/workers.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/clock.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::size_t kValueBytes = 100;
constexpr std::uint64_t kFrameBytes = segment::FrameBytes(kValueBytes);

std::int64_t RecordsOfEach() { return FullOrQuick(250'000, 2'500); }

// One race.
template <class Make>
void Race(benchmark::State& state, WorkerKind kind, int workers, Make make) {
  Workers race(kind, workers, make);
  race.Begin();
  const std::optional<double> seconds = race.End();
  if (!seconds.has_value()) return state.SkipWithError("a writer failed");
  state.SetIterationTime(*seconds);
}

void CountRecords(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * state.range(0) * RecordsOfEach());
}

void Writers(benchmark::State& state, WorkerKind kind, bool own_partition) {
  const int writers = static_cast<int>(state.range(0));
  const BrokerOptions options{.background_threads = false};
  for (auto _ : state) {
    const BenchmarkDir dir;
    const Broker broker = Broker::Open(dir.path(), options).value();
    const Topic topic = broker
                            .CreateTopic("events", {.partitions = own_partition ? writers : 1,
                                                    .segment_bytes = SegmentBytes()})
                            .value();
    dir.Settle();
    // Blocks; each process then has its own page tables to fill.
    const std::uint64_t bytes =
        static_cast<std::uint64_t>(RecordsOfEach() * (own_partition ? 1 : writers)) * kFrameBytes +
        segment::kFirstFrame;
    for (int i = 0; i < topic.partition_count(); ++i) {
      internal::LogOf(topic.partition(i))->Populate(bytes).IgnoreError();
    }
    Race(state, kind, writers, [&](int i) {
      const Broker mine =
          kind == WorkerKind::kThreads ? broker : Broker::Open(dir.path(), options).value();
      const Partition partition = mine.OpenTopic("events").value().partition(own_partition ? i : 0);
      if (kind == WorkerKind::kProcesses) {
        internal::LogOf(partition)->Populate(bytes).IgnoreError();
      }
      return [mine, partition, value = std::string(kValueBytes, 'x')] {
        for (std::int64_t n = RecordsOfEach(); n > 0; --n) {
          if (!partition.Append({.value = value}).ok()) return false;
        }
        return true;
      };
    });
  }
  CountRecords(state);
}

void FloorWriters(benchmark::State& state, WorkerKind kind) {
  for (auto _ : state) {
    Race(state, kind, static_cast<int>(state.range(0)), [](int) {
      const auto file = std::make_shared<PopulatedFile>();
      return [file, frame = std::string(kFrameBytes, 'x')] {
        for (std::int64_t n = RecordsOfEach(); n > 0; --n) {
          benchmark::DoNotOptimize(os::ReadClock(CLOCK_REALTIME));
          file->Put(frame);
        }
        return true;
      };
    });
  }
  CountRecords(state);
}

void Counts(benchmark::internal::Benchmark* benchmark, const char* name) {
  benchmark->ArgName(name)->UseManualTime()->Unit(benchmark::kMillisecond);
  for (const int writers : {1, 2, 4}) benchmark->Arg(writers);
}
void Threads(benchmark::internal::Benchmark* benchmark) { Counts(benchmark, "threads"); }
void Processes(benchmark::internal::Benchmark* benchmark) { Counts(benchmark, "processes"); }

BENCHMARK_CAPTURE(Writers, one, WorkerKind::kThreads, false)->Apply(Threads);
BENCHMARK_CAPTURE(Writers, own, WorkerKind::kThreads, true)->Apply(Threads);
BENCHMARK_CAPTURE(Writers, one, WorkerKind::kProcesses, false)->Apply(Processes);
BENCHMARK_CAPTURE(Writers, own, WorkerKind::kProcesses, true)->Apply(Processes);
BENCHMARK_CAPTURE(FloorWriters, threads, WorkerKind::kThreads)
    ->Name("Floor/Writers")
    ->Apply(Threads);
BENCHMARK_CAPTURE(FloorWriters, processes, WorkerKind::kProcesses)
    ->Name("Floor/Writers")
    ->Apply(Processes);

}  // namespace
}  // namespace cordwood::benchmarks
