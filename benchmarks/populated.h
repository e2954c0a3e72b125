// What the benchmarks of one partition write to: a log, and beside it the same kind of file without
// a log in it. Both have their pages populated before the clock runs, and take a new file when one
// is full: to write over bytes that were written before is another thing for the kernel.
//
//   PopulatedLog log;
//   RunInFiles(state, FramesThatFit(FrameBytesOf(state)), [&] { log.Renew(); },
//              [&] { return log.partition().Append(record).ok(); });
//
// For one thread.

#ifndef CORDWOOD_BENCHMARKS_POPULATED_H_
#define CORDWOOD_BENCHMARKS_POPULATED_H_

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/quick.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/frame.h"

namespace cordwood::benchmarks {

inline std::int64_t SegmentBytes() {
  return FullOrQuick<std::int64_t>(std::int64_t{1} << 30, 16 << 20);
}

// What is populated of it; both sides go no further.
inline std::uint64_t PopulatedBytes() { return FullOrQuick<std::uint64_t>(192 << 20, 8 << 20); }

// The sizes of every benchmark of appending and reading.
inline void ValueBytes(benchmark::internal::Benchmark* benchmark) {
  for (const int bytes : {16, 100, 1024, 16384}) benchmark->Arg(bytes);
}

inline std::uint64_t FrameBytesOf(const benchmark::State& state, std::uint64_t key_bytes = 0) {
  return segment::FrameBytes(static_cast<std::uint64_t>(state.range(0)) + key_bytes);
}
inline std::string ValueOf(const benchmark::State& state) {
  return std::string(static_cast<std::size_t>(state.range(0)), 'x');
}

// How many frames of that size fit what is populated.
inline std::int64_t FramesThatFit(std::uint64_t frame_bytes) {
  return static_cast<std::int64_t>((PopulatedBytes() - segment::kFirstFrame) / frame_bytes) - 1;
}

enum class Pages { kPopulated, kFaulting };

// A topic of one partition whose segment is populated; a new one whenever it is full.
class PopulatedLog {
 public:
  explicit PopulatedLog(Pages pages = Pages::kPopulated, bool background_threads = false)
      : pages_(pages),
        broker_(Broker::Open(dir_.path(), {.background_threads = background_threads}).value()) {
    Renew();
  }

  const Broker& broker() const { return broker_; }
  const Partition& partition() const { return partition_; }
  std::string topic() const { return "topic-" + std::to_string(topics_); }

  void Renew() {
    const std::string last = topic();
    ++topics_;
    if (topics_ > 1) {
      partition_ = Partition();
      broker_.DeleteTopic(last).IgnoreError();
    }
    partition_ =
        broker_.CreateTopic(topic(), {.segment_bytes = SegmentBytes()}).value().partition(0);
    dir_.Settle();
    if (pages_ == Pages::kPopulated) {
      internal::LogOf(partition_)->Populate(PopulatedBytes()).IgnoreError();
    }
  }

  // Appends records of that value, as many as fit.
  std::int64_t Fill(const Record& record, std::uint64_t frame_bytes) {
    const std::int64_t records = FramesThatFit(frame_bytes);
    for (std::int64_t i = 0; i < records; ++i) partition_.Append(record).IgnoreError();
    return records;
  }

 private:
  const Pages pages_;
  BenchmarkDir dir_;
  Broker broker_;
  Partition partition_;
  int topics_ = 0;
};

// The same kind of file; a new one whenever it is full.
class PopulatedFile {
 public:
  explicit PopulatedFile(Pages pages = Pages::kPopulated)
      : pages_(pages), root_(Storage::OperatingSystem()->OpenFolder(dir_.path(), {}).value()) {
    Renew();
  }

  os::Mapping& map() const { return *map_; }

  void Renew() {
    const std::string last = Name();
    ++files_;
    if (files_ > 1) {
      map_.reset();
      root_->Unlink(last).IgnoreError();
    }
    auto file = root_->OpenFile(Name(), os::OpenMode::kCreate).value();
    file->Allocate(static_cast<std::uint64_t>(SegmentBytes())).IgnoreError();
    map_ = file->Map(static_cast<std::uint64_t>(SegmentBytes()), os::Access::kReadWrite).value();
    dir_.Settle();
    if (pages_ == Pages::kPopulated) map_->Populate(0, PopulatedBytes()).IgnoreError();
    to_ = map_->data();
  }

  // The floor of a frame: its bytes copied, and one XXH3 over them.
  void Put(const std::string& frame) {
    std::memcpy(to_, frame.data(), frame.size());
    benchmark::DoNotOptimize(os::Hash64(to_, frame.size()));
    to_ += frame.size();
  }
  const std::byte* to() const { return to_; }

 private:
  std::string Name() const { return "plain-" + std::to_string(files_); }

  const Pages pages_;
  BenchmarkDir dir_;
  std::shared_ptr<os::Folder> root_;
  std::unique_ptr<os::Mapping> map_;
  std::byte* to_ = nullptr;
  int files_ = 0;
};

// The benchmark's loop: `once` again and again, and `renew`, with the clock stopped, whenever
// `per_file` of them have filled a file. `once` says whether it went well.
template <class Renew, class Once>
void RunInFiles(benchmark::State& state, std::int64_t per_file, Renew renew, Once once) {
  std::int64_t left = per_file;
  for (auto _ : state) {
    if (left-- == 0) {
      state.PauseTiming();
      renew();
      left = per_file - 1;
      state.ResumeTiming();
    }
    if (!once()) {
      state.SkipWithError("append failed");
      break;
    }
  }
}

}  // namespace cordwood::benchmarks

#endif  // CORDWOOD_BENCHMARKS_POPULATED_H_
