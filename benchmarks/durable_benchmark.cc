// Durable appends, and passes that make many partitions durable.
//
//   DurableAppend/threads:N        N threads, one partition, 100 bytes; each waits until it is on
//                                  the disk. syncs_per_s counts the values that `durable` was seen
//                                  to have: at least so many syncs there were
//   Floor/DurableAppend/threads:N  as many frames written one behind the other into an allocated
//                                  file, and one fdatasync for all of them: a sync as full as can
//                                  be
//   Floor/fdatasync                512 bytes written over and over at one place, and made durable
//   FlushPass/N                    one record more in each of N partitions, and one Maintain
//   Floor/FlushPass/N              as many bytes in N mapped files, and an msync of each; with more
//                                  than 64 files one syncfs

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/populated.h"
#include "benchmarks/quick.h"
#include "benchmarks/workers.h"
#include "cordwood/cordwood.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::size_t kValueBytes = 100;
constexpr std::uint64_t kFrameBytes = segment::FrameBytes(kValueBytes);

std::int64_t SyncsOfEach() { return FullOrQuick(1'000, 20); }

void DurableAppend(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  double seconds = 0, syncs = 0;
  for (auto _ : state) {
    const BenchmarkDir dir;
    const Broker broker = Broker::Open(dir.path(), {.background_threads = false}).value();
    const Partition partition = broker.CreateTopic("events").value().partition(0);
    const std::string value(kValueBytes, 'x');
    // The first one of a new file also writes what a file has to have.
    partition.Append({.value = value}, {.durability = Durability::kDurable}).IgnoreError();
    dir.Settle();
    std::vector<std::set<Offset>> seen(static_cast<std::size_t>(threads));
    Workers workers(WorkerKind::kThreads, threads, [&](int thread) {
      return [&, mine = &seen[static_cast<std::size_t>(thread)]] {
        for (std::int64_t n = SyncsOfEach(); n > 0; --n) {
          const AppendOptions durable{.durability = Durability::kDurable};
          if (!partition.Append({.value = value}, durable).ok()) return false;
          mine->insert(partition.durable_offset());
        }
        return true;
      };
    });
    workers.Begin();
    const std::optional<double> took = workers.End();
    if (!took.has_value()) return state.SkipWithError("append failed");
    state.SetIterationTime(*took);
    std::set<Offset> all;
    for (const std::set<Offset>& one : seen) all.insert(one.begin(), one.end());
    seconds += *took;
    syncs += static_cast<double>(all.size());
  }
  const auto records = state.iterations() * threads * SyncsOfEach();
  state.SetItemsProcessed(records);
  state.counters["syncs_per_s"] = syncs / seconds;
  state.counters["records_per_sync"] = static_cast<double>(records) / syncs;
}

void FloorDurableAppend(benchmark::State& state) {
  const BenchmarkDir dir;
  const std::string frames(kFrameBytes * static_cast<std::uint64_t>(state.range(0)), 'x');
  constexpr off_t kFileBytes = 128 << 20;
  const int file = open((dir.path() / "plain").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || posix_fallocate(file, 0, kFileBytes) != 0 || fsync(file) != 0) {
    state.SkipWithError("no file");
  }
  dir.Settle();
  off_t at = 0;
  for (auto _ : state) {
    if (pwrite(file, frames.data(), frames.size(), at) < 0 || fdatasync(file) != 0) {
      state.SkipWithError("sync failed");
      break;
    }
    at += static_cast<off_t>(frames.size());
    if (at + static_cast<off_t>(frames.size()) > kFileBytes) at = 0;
  }
  close(file);
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.counters["syncs_per_s"] =
      benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void ThreadCounts(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("threads")->Unit(benchmark::kMicrosecond);
  for (const int threads : {1, 2, 4, 8, 16}) benchmark->Arg(threads);
}
BENCHMARK(DurableAppend)->Apply(ThreadCounts)->UseManualTime();
BENCHMARK(FloorDurableAppend)->Name("Floor/DurableAppend")->Apply(ThreadCounts)->UseRealTime();

void FloorFdatasync(benchmark::State& state) {
  const BenchmarkDir dir;
  const int file = open((dir.path() / "plain").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const std::string entry(512, 'x');
  if (file < 0 || posix_fallocate(file, 0, 8192) != 0 ||
      pwrite(file, entry.data(), entry.size(), 4096) < 0 || fsync(file) != 0) {
    state.SkipWithError("no file");
  }
  dir.Settle();
  for (auto _ : state) {
    if (pwrite(file, entry.data(), entry.size(), 4096) < 0 || fdatasync(file) != 0) {
      state.SkipWithError("sync failed");
      break;
    }
  }
  close(file);
}
BENCHMARK(FloorFdatasync)->Name("Floor/fdatasync")->Unit(benchmark::kMicrosecond)->UseRealTime();

// ---- Many partitions

void FlushPass(benchmark::State& state) {
  const int partitions = static_cast<int>(state.range(0));
  const BenchmarkDir dir;
  const Broker broker = Broker::Open(dir.path(), {.background_threads = false}).value();
  const Topic topic = broker.CreateTopic("events", {.partitions = partitions}).value();
  const std::string value(kValueBytes, 'x');
  const auto append_to_each = [&] {
    for (int i = 0; i < partitions; ++i) {
      topic.partition(i).Append({.value = value}).IgnoreError();
    }
  };
  append_to_each();
  broker.Maintain(absl::InfiniteDuration()).IgnoreError();
  dir.Settle();
  for (auto _ : state) {
    state.PauseTiming();
    append_to_each();
    state.ResumeTiming();
    if (!broker.Maintain(absl::InfiniteDuration()).ok() ||
        topic.partition(partitions - 1).durable_offset() !=
            topic.partition(partitions - 1).end_offset()) {
      state.SkipWithError("not all is durable");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations() * partitions);
}

void FloorFlushPass(benchmark::State& state) {
  constexpr std::size_t kFileBytes = 64 << 10;
  const BenchmarkDir dir;
  const std::shared_ptr<os::Folder> folder =
      Storage::OperatingSystem()->OpenFolder(dir.path(), {}).value();
  std::vector<std::unique_ptr<os::Mapping>> maps;
  for (std::int64_t i = 0; i < state.range(0); ++i) {
    auto file = folder->OpenFile(std::to_string(i), os::OpenMode::kCreate).value();
    file->Allocate(kFileBytes).IgnoreError();
    maps.push_back(file->Map(kFileBytes, os::Access::kReadWrite).value());
  }
  dir.Settle();
  const std::string frame(kFrameBytes, 'x');
  std::size_t at = 0;
  for (auto _ : state) {
    state.PauseTiming();
    for (const auto& map : maps) std::memcpy(map->data() + at, frame.data(), frame.size());
    at = at + 2 * frame.size() <= kFileBytes ? at + frame.size() : 0;
    state.ResumeTiming();
    absl::Status synced;
    if (maps.size() > 64) {
      synced = folder->SyncFileSystem();
    } else {
      for (const auto& map : maps) synced.Update(map->Sync(0, kFileBytes));
    }
    if (!synced.ok()) {
      state.SkipWithError("sync failed");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

void PartitionCounts(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseRealTime()->Unit(benchmark::kMillisecond);
  for (const int partitions : {1, FullOrQuick(100, 10), FullOrQuick(1'000, 20)})
    benchmark->Arg(partitions);
}
BENCHMARK(FlushPass)->Apply(PartitionCounts);
BENCHMARK(FloorFlushPass)->Name("Floor/FlushPass")->Apply(PartitionCounts);

}  // namespace
}  // namespace cordwood::benchmarks
