// One partition, one thread: reading it forward, backward and from a time on, each way checked,
// without a copy, and beside its floor. The argument is the bytes of a record's value.
//
// The floor of reading is one XXH3 over each record's bytes, frame and all. That of SeekTime is a
// binary search among as many times as there are index entries, and one XXH3 over each frame of
// half an index interval, which is what lies between an entry and the record on the average.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "benchmarks/populated.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"

namespace cordwood::benchmarks {
namespace {

// Fills the populated part and reads it over and over, checked, without a copy.
void ReadAll(benchmark::State& state, Direction direction) {
  PopulatedLog log;
  const std::string value = ValueOf(state);
  const std::int64_t written = log.Fill({.value = value}, FrameBytesOf(state));
  std::int64_t records = 0;
  for (auto _ : state) {
    auto reader = log.partition().Read(direction == Direction::kForward ? 0 : written, direction);
    if (!reader.ok()) {
      state.SkipWithError("read failed");
      break;
    }
    for (const RecordView& record : *reader) {
      benchmark::DoNotOptimize(record.value()->data());
      ++records;
    }
  }
  state.SetItemsProcessed(records);
}

void Read(benchmark::State& state) { ReadAll(state, Direction::kForward); }
BENCHMARK(Read)->Apply(ValueBytes)->Unit(benchmark::kMillisecond);

void ReadBackward(benchmark::State& state) { ReadAll(state, Direction::kBackward); }
BENCHMARK(ReadBackward)->Apply(ValueBytes)->Unit(benchmark::kMillisecond);

void HashAll(benchmark::State& state, Direction direction) {
  PopulatedFile file;
  const std::uint64_t frame_bytes = FrameBytesOf(state);
  const std::int64_t frames = FramesThatFit(frame_bytes);
  std::memset(file.map().data(), 'x', PopulatedBytes());
  std::int64_t records = 0;
  const auto step =
      static_cast<std::ptrdiff_t>(frame_bytes) * (direction == Direction::kForward ? 1 : -1);
  for (auto _ : state) {
    const std::byte* from = file.map().data();
    if (direction == Direction::kBackward) from -= step * (frames - 1);
    for (std::int64_t i = 0; i < frames; ++i) {
      benchmark::DoNotOptimize(os::Hash64(from, frame_bytes));
      from += step;
    }
    records += frames;
  }
  state.SetItemsProcessed(records);
}

void FloorRead(benchmark::State& state) { HashAll(state, Direction::kForward); }
BENCHMARK(FloorRead)->Name("Floor/Read")->Apply(ValueBytes)->Unit(benchmark::kMillisecond);

void FloorReadBackward(benchmark::State& state) { HashAll(state, Direction::kBackward); }
BENCHMARK(FloorReadBackward)
    ->Name("Floor/ReadBackward")
    ->Apply(ValueBytes)
    ->Unit(benchmark::kMillisecond);

// ---- From a time on

constexpr std::int64_t kStepNanos = 1000;  // from one record to the next
constexpr int kTimes = 4096;               // a power of two

std::vector<std::int64_t> RandomTimes(std::int64_t records) {
  std::mt19937_64 random(1);
  std::vector<std::int64_t> times(kTimes);
  for (std::int64_t& time : times) {
    time = std::uniform_int_distribution<std::int64_t>(0, records - 1)(random) * kStepNanos;
  }
  return times;
}

void SeekTime(benchmark::State& state) {
  PopulatedLog log;
  const std::string value = ValueOf(state);
  const std::int64_t records = FramesThatFit(FrameBytesOf(state));
  for (std::int64_t i = 0; i < records; ++i) {
    const absl::Time time = absl::FromUnixNanos(i * kStepNanos);
    log.partition().Append({.value = value, .timestamp = time}).IgnoreError();
  }
  const std::vector<std::int64_t> times = RandomTimes(records);
  std::size_t next = 0;
  for (auto _ : state) {
    const std::int64_t time = times[next++ % kTimes];
    const auto found = log.partition().OffsetForTime(absl::FromUnixNanos(time));
    if (!found.ok() || *found != time / kStepNanos) {
      state.SkipWithError("not the record of that time");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(SeekTime)->Apply(ValueBytes);

void FloorSeekTime(benchmark::State& state) {
  PopulatedFile file;
  const std::uint64_t frame_bytes = FrameBytesOf(state);
  const std::int64_t records = FramesThatFit(frame_bytes);
  std::memset(file.map().data(), 'x', PopulatedBytes());
  const std::int64_t index_interval_bytes = TopicConfig().index_interval_bytes;
  const std::int64_t records_per_entry =
      (index_interval_bytes + static_cast<std::int64_t>(frame_bytes) - 1) /
      static_cast<std::int64_t>(frame_bytes);
  std::vector<std::int64_t> entries;
  for (std::int64_t i = 0; i < records; i += records_per_entry) entries.push_back(i * kStepNanos);
  const std::int64_t frames_passed = std::max<std::int64_t>(records_per_entry / 2, 1);
  const std::vector<std::int64_t> times = RandomTimes(records);
  std::size_t next = 0;
  for (auto _ : state) {
    const std::int64_t time = times[next++ % kTimes];
    const auto entry = std::upper_bound(entries.begin(), entries.end(), time) - entries.begin() - 1;
    const std::int64_t first =
        std::min<std::int64_t>(entry * records_per_entry, records - frames_passed);
    const std::byte* from = file.map().data() + static_cast<std::uint64_t>(first) * frame_bytes;
    for (std::int64_t i = 0; i < frames_passed; ++i) {
      benchmark::DoNotOptimize(os::Hash64(from, frame_bytes));
      from += frame_bytes;
    }
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(FloorSeekTime)->Name("Floor/SeekTime")->Apply(ValueBytes);

}  // namespace
}  // namespace cordwood::benchmarks
