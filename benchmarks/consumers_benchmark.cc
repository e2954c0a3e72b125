// Consumers/N: N consumers, each in a thread of its own, that read one partition from its start to
// its end at the same time, records of 100 bytes. The rate is that of all of them. Its floor: as
// many threads with one XXH3 over each record's bytes.

#include <benchmark/benchmark.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "benchmarks/populated.h"
#include "benchmarks/reading.h"
#include "benchmarks/workers.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::size_t kValueBytes = 100;
constexpr std::uint64_t kFrameBytes = segment::FrameBytes(kValueBytes);

template <class Make>
void Race(benchmark::State& state, std::int64_t records, Make make) {
  for (auto _ : state) {
    Workers race(WorkerKind::kThreads, static_cast<int>(state.range(0)), make);
    race.Begin();
    const std::optional<double> seconds = race.End();
    if (!seconds.has_value()) return state.SkipWithError("a reader failed");
    state.SetIterationTime(*seconds);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0) * records);
}

void Consumers(benchmark::State& state) {
  const Reading reading(false, kValueBytes);
  Race(state, reading.records(), [&](int) {
    const auto consumer = std::make_shared<Consumer>(reading.broker().NewConsumer().value());
    consumer->Assign({{"orders", 0}}).IgnoreError();
    return [consumer, left = reading.records()]() mutable {
      RecordBatch batch;
      while (left > 0) {
        if (!consumer->PollInto(batch, absl::ZeroDuration()).ok() || batch.empty()) return false;
        for (const RecordView& record : batch) benchmark::DoNotOptimize(record.value()->data());
        left -= static_cast<std::int64_t>(batch.size());
      }
      return true;
    };
  });
}

void FloorConsumers(benchmark::State& state) {
  const std::int64_t records = RecordsToPoll(kFrameBytes);
  const std::vector<char> bytes(static_cast<std::size_t>(records) * kFrameBytes, 'x');
  Race(state, records, [&](int) {
    return [&] {
      const char* from = bytes.data();
      for (std::int64_t i = 0; i < records; ++i) {
        benchmark::DoNotOptimize(os::Hash64(from, kFrameBytes));
        from += kFrameBytes;
      }
      return true;
    };
  });
}

void Counts(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseManualTime()->Unit(benchmark::kMillisecond);
  for (const int consumers : {1, 2, 4, 16}) benchmark->Arg(consumers);
}
BENCHMARK(Consumers)->Apply(Counts);
BENCHMARK(FloorConsumers)->Name("Floor/Consumers")->Apply(Counts);

}  // namespace
}  // namespace cordwood::benchmarks
