// One partition, one thread: appending, each way beside its floor. The names are fixed, so that
// figures can be compared for years; the argument is the bytes of a record's value.
//
// The floor: the record's bytes, frame and all, copied by memcpy into the same kind of mapped,
// allocated file, one XXH3 over them, one CLOCK_REALTIME read where the call takes the time itself.
// Pages are populated before the clock starts on both sides, and neither has a helper thread; with
// AppendFaulting/ they are not, and with AppendPrefaultThread/ each side has one.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "benchmarks/populated.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::size_t kBatch = 100;
constexpr std::size_t kKeyBytes = 16;
constexpr int kKeys = 1024;  // a power of two

// ---- One by one

void AppendTo(benchmark::State& state, PopulatedLog& log) {
  const std::string value = ValueOf(state);
  RunInFiles(
      state, FramesThatFit(FrameBytesOf(state)), [&] { log.Renew(); },
      [&] { return log.partition().Append({.value = value}).ok(); });
  state.SetItemsProcessed(state.iterations());
}

void Append(benchmark::State& state) {
  PopulatedLog log;
  AppendTo(state, log);
}
BENCHMARK(Append)->Apply(ValueBytes);

void AppendFaulting(benchmark::State& state) {
  PopulatedLog log(Pages::kFaulting);
  AppendTo(state, log);
}
BENCHMARK(AppendFaulting)->Apply(ValueBytes);

// As a program has it that changes no option: the broker's thread makes pages and files ready.
void AppendPrefaultThread(benchmark::State& state) {
  PopulatedLog log(Pages::kFaulting, /*background_threads=*/true);
  AppendTo(state, log);
}
BENCHMARK(AppendPrefaultThread)->Apply(ValueBytes)->UseRealTime();

void CopyTo(benchmark::State& state, PopulatedFile& file) {
  const std::string frame(FrameBytesOf(state), 'x');
  RunInFiles(
      state, FramesThatFit(frame.size()), [&] { file.Renew(); },
      [&] {
        benchmark::DoNotOptimize(os::ReadClock(CLOCK_REALTIME));
        file.Put(frame);
        return true;
      });
  state.SetItemsProcessed(state.iterations());
}

void FloorAppend(benchmark::State& state) {
  PopulatedFile file;
  CopyTo(state, file);
}
BENCHMARK(FloorAppend)->Name("Floor/Append")->Apply(ValueBytes);

void FloorAppendFaulting(benchmark::State& state) {
  PopulatedFile file(Pages::kFaulting);
  CopyTo(state, file);
}
BENCHMARK(FloorAppendFaulting)->Name("Floor/AppendFaulting")->Apply(ValueBytes);

// A thread that keeps 8 MiB ahead of the copy populated.
void FloorAppendPrefaultThread(benchmark::State& state) {
  constexpr std::size_t kAheadBytes = 8 << 20;
  PopulatedFile file(Pages::kFaulting);
  const std::string frame(FrameBytesOf(state), 'x');
  std::atomic<std::size_t> written{0};
  std::jthread helper;
  const auto start = [&] {
    written.store(0, std::memory_order_relaxed);
    helper = std::jthread([&](const std::stop_token& stop) {
      for (std::size_t done = 0; !stop.stop_requested();) {
        const std::size_t until = std::min<std::size_t>(
            written.load(std::memory_order_relaxed) + kAheadBytes, PopulatedBytes());
        if (until < done + kAheadBytes / 4) {
          absl::SleepFor(absl::Microseconds(100));
          continue;
        }
        file.map().Populate(done, until).IgnoreError();
        done = until;
      }
    });
  };
  start();
  RunInFiles(
      state, FramesThatFit(frame.size()),
      [&] {
        helper.request_stop();
        helper.join();
        file.Renew();
        start();
      },
      [&] {
        benchmark::DoNotOptimize(os::ReadClock(CLOCK_REALTIME));
        file.Put(frame);
        written.store(static_cast<std::size_t>(file.to() - file.map().data()),
                      std::memory_order_relaxed);
        return true;
      });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(FloorAppendPrefaultThread)
    ->Name("Floor/AppendPrefaultThread")
    ->Apply(ValueBytes)
    ->UseRealTime();

// ---- In batches

void AppendBatch100(benchmark::State& state) {
  PopulatedLog log;
  const std::string value = ValueOf(state);
  const std::vector<Record> batch(kBatch, Record{.value = value});
  RunInFiles(
      state, FramesThatFit(FrameBytesOf(state) * kBatch), [&] { log.Renew(); },
      [&] { return log.partition().AppendBatch(batch).ok(); });
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}
BENCHMARK(AppendBatch100)->Apply(ValueBytes);

void FloorAppendBatch100(benchmark::State& state) {
  PopulatedFile file;
  const std::string frame(FrameBytesOf(state), 'x');
  RunInFiles(
      state, FramesThatFit(frame.size() * kBatch), [&] { file.Renew(); },
      [&] {
        for (std::size_t i = 0; i < kBatch; ++i) file.Put(frame);
        return true;
      });
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}
BENCHMARK(FloorAppendBatch100)->Name("Floor/AppendBatch100")->Apply(ValueBytes);

// ---- In place

// The value is made where it will lie, here by a memset: nothing is copied but the frame's header.
void AppendInPlace(benchmark::State& state) {
  PopulatedLog log;
  const auto value_bytes = static_cast<std::size_t>(state.range(0));
  RunInFiles(
      state, FramesThatFit(FrameBytesOf(state)), [&] { log.Renew(); },
      [&] {
        return log.partition()
            .AppendInPlace(value_bytes, {},
                           [](std::span<std::byte> to) {
                             std::memset(to.data(), 'x', to.size());
                             return to.size();
                           })
            .ok();
      });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(AppendInPlace)->Apply(ValueBytes);

void FloorAppendInPlace(benchmark::State& state) {
  PopulatedFile file;
  const std::uint64_t frame_bytes = FrameBytesOf(state);
  std::byte* to = file.map().data();
  RunInFiles(
      state, FramesThatFit(frame_bytes),
      [&] {
        file.Renew();
        to = file.map().data();
      },
      [&] {
        benchmark::DoNotOptimize(os::ReadClock(CLOCK_REALTIME));
        std::memset(to, 'x', frame_bytes);
        benchmark::DoNotOptimize(os::Hash64(to, frame_bytes));
        to += frame_bytes;
        return true;
      });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(FloorAppendInPlace)->Name("Floor/AppendInPlace")->Apply(ValueBytes);

// ---- Through a producer, with a key whose hash chooses the partition

std::vector<std::string> Keys() {
  std::vector<std::string> keys;
  for (int i = 0; i < kKeys; ++i) {
    std::string key = "key " + std::to_string(i);
    key.resize(kKeyBytes, '.');
    keys.push_back(std::move(key));
  }
  return keys;
}

void Send(benchmark::State& state) {
  PopulatedLog log;
  const Producer producer = log.broker().NewProducer().value();
  const std::string value = ValueOf(state);
  const std::vector<std::string> keys = Keys();
  std::string topic = log.topic();
  std::size_t next = 0;
  RunInFiles(
      state, FramesThatFit(FrameBytesOf(state, kKeyBytes)),
      [&] {
        log.Renew();
        topic = log.topic();
      },
      [&] { return producer.Send(topic, {.key = keys[next++ % kKeys], .value = value}).ok(); });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(Send)->Apply(ValueBytes);

void FloorSend(benchmark::State& state) {
  PopulatedFile file;
  const std::string frame(FrameBytesOf(state, kKeyBytes), 'x');
  const std::vector<std::string> keys = Keys();
  std::size_t next = 0;
  RunInFiles(
      state, FramesThatFit(frame.size()), [&] { file.Renew(); },
      [&] {
        const std::string& key = keys[next++ % kKeys];
        benchmark::DoNotOptimize(os::Hash64(key.data(), key.size()));
        benchmark::DoNotOptimize(os::ReadClock(CLOCK_REALTIME));
        file.Put(frame);
        return true;
      });
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(FloorSend)->Name("Floor/Send")->Apply(ValueBytes);

}  // namespace
}  // namespace cordwood::benchmarks
