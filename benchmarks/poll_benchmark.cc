// Polls of one consumer: of a settled group beside that of a consumer that took its partitions by
// hand, and of a program's own type.
//
// Poll/.../N reads batches of 500 records of N bytes, PollTyped/N structs of N bytes in place;
// Poll/.../empty finds nothing. Floor/Poll is one XXH3 over each record's bytes, frame and all.

#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/populated.h"
#include "benchmarks/reading.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"
#include "cordwood/segment/frame.h"

namespace cordwood::benchmarks {
namespace {

void Poll(benchmark::State& state, bool in_group) {
  Reading reading(in_group, static_cast<std::size_t>(state.range(0)));
  RecordBatch batch;
  std::int64_t records = 0;
  for (auto _ : state) {
    if (!reading.consumer().PollInto(batch, absl::ZeroDuration()).ok()) {
      state.SkipWithError("poll failed");
      break;
    }
    for (const RecordView& record : batch) benchmark::DoNotOptimize(record.value()->data());
    records += static_cast<std::int64_t>(batch.size());
    if (batch.empty()) {
      state.PauseTiming();
      reading.consumer().SeekToBeginning().IgnoreError();
      state.ResumeTiming();
    }
  }
  state.SetItemsProcessed(records);
}
BENCHMARK_CAPTURE(Poll, group, true)->Apply(ValueBytes);
BENCHMARK_CAPTURE(Poll, assigned, false)->Apply(ValueBytes);

void PollEmpty(benchmark::State& state, bool in_group) {
  Reading reading(in_group, 100);
  RecordBatch batch;
  reading.consumer().PollInto(batch, absl::ZeroDuration()).IgnoreError();
  reading.consumer().SeekToEnd().IgnoreError();
  for (auto _ : state) {
    if (!reading.consumer().PollInto(batch, absl::ZeroDuration()).ok()) {
      state.SkipWithError("poll failed");
      break;
    }
  }
}
BENCHMARK_CAPTURE(PollEmpty, group, true)->Name("Poll/group/empty");
BENCHMARK_CAPTURE(PollEmpty, assigned, false)->Name("Poll/assigned/empty");

// As many frames as the consumer has to poll, 500 in each round.
void FloorPoll(benchmark::State& state) {
  constexpr std::int64_t kFrames = 500;
  const std::uint64_t frame_bytes = FrameBytesOf(state);
  const std::int64_t all = RecordsToPoll(frame_bytes);
  const std::vector<char> bytes(static_cast<std::uint64_t>(all) * frame_bytes, 'x');
  std::int64_t records = 0;
  std::int64_t at = 0;
  for (auto _ : state) {
    const char* from = bytes.data() + static_cast<std::uint64_t>(at) * frame_bytes;
    const std::int64_t frames = std::min(kFrames, all - at);
    for (std::int64_t i = 0; i < frames; ++i) {
      benchmark::DoNotOptimize(os::Hash64(from, frame_bytes));
      from += frame_bytes;
    }
    records += frames;
    at = at + frames < all ? at + frames : 0;
  }
  state.SetItemsProcessed(records);
}
BENCHMARK(FloorPoll)->Name("Floor/Poll")->Apply(ValueBytes);
BENCHMARK(FloorPoll)->Name("Floor/PollTyped")->Apply(ValueBytes);

template <std::size_t kBytes>
struct Sample {
  std::array<std::uint8_t, kBytes> bytes;
};

template <std::size_t kBytes>
void PollTyped(benchmark::State& state) {
  Reading reading(false, kBytes);
  auto consumer = reading.broker().NewTypedConsumer<std::string, Sample<kBytes>>().value();
  consumer.consumer().Assign({{"orders", 0}}).IgnoreError();
  TypedBatch<std::string, Sample<kBytes>> batch;
  std::int64_t records = 0;
  for (auto _ : state) {
    if (!consumer.PollInto(batch, absl::ZeroDuration()).ok()) {
      state.SkipWithError("poll failed");
      break;
    }
    for (const auto& record : batch) {
      if (!record.value().ok()) state.SkipWithError("not a sample");
      benchmark::DoNotOptimize(record.value().value().bytes.data());
    }
    records += static_cast<std::int64_t>(batch.raw().size());
    if (batch.empty()) {
      state.PauseTiming();
      consumer.consumer().SeekToBeginning().IgnoreError();
      state.ResumeTiming();
    }
  }
  state.SetItemsProcessed(records);
}
BENCHMARK_TEMPLATE(PollTyped, 16)->Name("PollTyped/16");
BENCHMARK_TEMPLATE(PollTyped, 100)->Name("PollTyped/100");
BENCHMARK_TEMPLATE(PollTyped, 1024)->Name("PollTyped/1024");
BENCHMARK_TEMPLATE(PollTyped, 16384)->Name("PollTyped/16384");

}  // namespace
}  // namespace cordwood::benchmarks
