// One partition, one thread: appending and reading, each beside its floor. The names are fixed, so
// that figures can be compared for years; the argument is the bytes of a record's value.
//
// The floor: the record's bytes, frame and all, copied by memcpy into the same kind of mapped,
// allocated file, one XXH3 over them, one CLOCK_REALTIME read where the call takes the time itself.
// Pages are populated before the clock starts on both sides, and neither has a helper thread. The
// floor of reading is one XXH3 over each record's bytes.

#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "cordwood/cordwood.h"
#include "cordwood/log/cursor.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/frame.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::int64_t kSegmentBytes = std::int64_t{1} << 30;
constexpr std::uint64_t kPopulatedBytes = 192 << 20;
constexpr std::size_t kBatch = 100;

std::uint64_t FrameBytesOf(const benchmark::State& state) {
  return segment::FrameBytes(static_cast<std::uint64_t>(state.range(0)));
}

// How many frames of that size fit what is populated.
std::int64_t FramesThatFit(std::uint64_t frame_bytes) {
  return static_cast<std::int64_t>((kPopulatedBytes - segment::kFirstFrame) / frame_bytes) - 1;
}

// A topic of one partition whose segment is populated; a new one whenever it is full.
class Filled {
 public:
  Filled() : broker_(Broker::Open(dir_.path(), {.background_threads = false}).value()) { Renew(); }

  const Partition& partition() const { return partition_; }

  void Renew() {
    const std::string name = "topic-" + std::to_string(++topics_);
    if (topics_ > 1) {
      partition_ = Partition();
      broker_.DeleteTopic("topic-" + std::to_string(topics_ - 1)).IgnoreError();
    }
    Topic topic = broker_.CreateTopic(name, {.segment_bytes = kSegmentBytes}).value();
    partition_ = topic.partition(0);
    dir_.Settle();
    internal::LogOf(partition_)->Populate(kPopulatedBytes).IgnoreError();
  }

 private:
  BenchmarkDir dir_;
  Broker broker_;
  Partition partition_;
  int topics_ = 0;
};

// The same kind of file without a log in it; a new one whenever it is full, as of a log: to write
// over bytes that were written before is another thing for the kernel.
class Plain {
 public:
  Plain() : root_(Storage::OperatingSystem()->OpenFolder(dir_.path(), {}).value()) { Renew(); }

  std::byte* data() const { return map_->data(); }

  void Renew() {
    const std::string name = "plain-" + std::to_string(++files_);
    if (files_ > 1) {
      map_.reset();
      root_->Unlink("plain-" + std::to_string(files_ - 1)).IgnoreError();
    }
    auto file = root_->OpenFile(name, os::OpenMode::kCreate).value();
    file->Allocate(static_cast<std::uint64_t>(kSegmentBytes)).IgnoreError();
    map_ = file->Map(static_cast<std::uint64_t>(kSegmentBytes), os::Access::kReadWrite).value();
    dir_.Settle();
    map_->Populate(0, kPopulatedBytes).IgnoreError();
  }

 private:
  BenchmarkDir dir_;
  std::shared_ptr<os::Folder> root_;
  std::unique_ptr<os::Mapping> map_;
  int files_ = 0;
};

void Append(benchmark::State& state) {
  Filled filled;
  const std::string value(static_cast<std::size_t>(state.range(0)), 'x');
  std::int64_t left = FramesThatFit(FrameBytesOf(state));
  for (auto _ : state) {
    if (left-- == 0) {
      state.PauseTiming();
      filled.Renew();
      left = FramesThatFit(FrameBytesOf(state)) - 1;
      state.ResumeTiming();
    }
    if (!filled.partition().Append({.value = value}).ok()) {
      state.SkipWithError("append failed");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(Append)->Arg(100)->Arg(1024);

void AppendBatch100(benchmark::State& state) {
  Filled filled;
  const std::string value(static_cast<std::size_t>(state.range(0)), 'x');
  const std::vector<Record> batch(kBatch, Record{.value = value});
  const std::int64_t batches = FramesThatFit(FrameBytesOf(state) * kBatch);
  std::int64_t left = batches;
  for (auto _ : state) {
    if (left-- == 0) {
      state.PauseTiming();
      filled.Renew();
      left = batches - 1;
      state.ResumeTiming();
    }
    if (!filled.partition().AppendBatch(batch).ok()) {
      state.SkipWithError("append failed");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}
BENCHMARK(AppendBatch100)->Arg(100);

void CopyAndHash(std::byte* to, const std::string& frame) {
  std::memcpy(to, frame.data(), frame.size());
  benchmark::DoNotOptimize(os::Hash64(to, frame.size()));
}

void FloorAppend(benchmark::State& state) {
  Plain plain;
  const std::string frame(FrameBytesOf(state), 'x');
  const std::int64_t frames = FramesThatFit(frame.size());
  std::int64_t left = frames;
  std::byte* to = plain.data();
  for (auto _ : state) {
    if (left-- == 0) {
      state.PauseTiming();
      plain.Renew();
      to = plain.data();
      left = frames - 1;
      state.ResumeTiming();
    }
    benchmark::DoNotOptimize(os::ReadClock(CLOCK_REALTIME));
    CopyAndHash(to, frame);
    to += frame.size();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(FloorAppend)->Name("Floor/Append")->Arg(100)->Arg(1024);

void FloorAppendBatch100(benchmark::State& state) {
  Plain plain;
  const std::string frame(FrameBytesOf(state), 'x');
  const std::int64_t batches = FramesThatFit(frame.size() * kBatch);
  std::int64_t left = batches;
  std::byte* to = plain.data();
  for (auto _ : state) {
    if (left-- == 0) {
      state.PauseTiming();
      plain.Renew();
      to = plain.data();
      left = batches - 1;
      state.ResumeTiming();
    }
    for (std::size_t i = 0; i < kBatch; ++i) {
      CopyAndHash(to, frame);
      to += frame.size();
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}
BENCHMARK(FloorAppendBatch100)->Name("Floor/AppendBatch100")->Arg(100);

// Fills the populated part and reads it over and over, checked, without a copy.
void Read(benchmark::State& state) {
  Filled filled;
  const std::string value(static_cast<std::size_t>(state.range(0)), 'x');
  for (std::int64_t i = FramesThatFit(FrameBytesOf(state)); i > 0; --i) {
    filled.partition().Append({.value = value}).IgnoreError();
  }
  std::int64_t records = 0;
  for (auto _ : state) {
    auto reader = filled.partition().Read(0);
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
BENCHMARK(Read)->Arg(100)->Arg(1024)->Unit(benchmark::kMillisecond);

void FloorRead(benchmark::State& state) {
  Plain plain;
  const std::uint64_t frame_bytes = FrameBytesOf(state);
  const std::int64_t frames = FramesThatFit(frame_bytes);
  std::memset(plain.data(), 'x', kPopulatedBytes);
  std::int64_t records = 0;
  for (auto _ : state) {
    const std::byte* from = plain.data();
    for (std::int64_t i = 0; i < frames; ++i) {
      benchmark::DoNotOptimize(os::Hash64(from, frame_bytes));
      from += frame_bytes;
    }
    records += frames;
  }
  state.SetItemsProcessed(records);
}
BENCHMARK(FloorRead)->Name("Floor/Read")->Arg(100)->Arg(1024)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cordwood::benchmarks
