// From before an append to after the checked read of that record by somebody else: p50, p99, p99.9
// and the worst, in nanoseconds; the time of a row is its p50.
//
//   Latency/spin            the reader is a thread that polls without waiting
//   Latency/block           the reader is a thread that sleeps in its Poll
//   Latency/process         as spin, in another process; Latency/process/block as block
//   Floor/spin              a store of one thread, seen by another that spins on it
//   Floor/futex             a wake of a futex, until the thread that slept on it runs
//
// One record is on its way at a time. The writer goes on once the reader has it, and a moment
// later, so that the reader is back in its loop, or asleep.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/percentiles.h"
#include "benchmarks/populated.h"
#include "benchmarks/workers.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/doorbell.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::size_t kValueBytes = 100;
constexpr std::int64_t kSpinPauseNanos = 2'000;
constexpr absl::Duration kSleepPause = absl::Microseconds(100);
constexpr absl::Duration kPatience = absl::Seconds(10);

enum class Reader { kSpins, kSleeps };

std::size_t SamplesOf(Reader reader) {
  return reader == Reader::kSpins ? FullOrQuick<std::size_t>(200'000, 1'000)
                                  : FullOrQuick<std::size_t>(10'000, 100);
}

void Pause(Reader reader) {
  if (reader == Reader::kSleeps) return absl::SleepFor(kSleepPause);
  const std::int64_t until = os::MonotonicNanos() + kSpinPauseNanos;
  while (os::MonotonicNanos() < until) {
  }
}

// `write(i, now)` hands over the time; `make_reader()` gives, in the reader's thread or process,
// a function that waits for the next one and returns it, or nothing if it failed.
template <class Write, class MakeReader>
void Measure(benchmark::State& state, WorkerKind kind, Reader reader, Write write,
             MakeReader make_reader) {
  const std::size_t samples = SamplesOf(reader);
  for (auto _ : state) {
    const SharedArray<std::int64_t> times(samples);
    const SharedArray<std::atomic<std::size_t>> seen(1);
    Workers workers(kind, 1, [&](int) {
      return [&, next = make_reader()]() mutable {
        for (std::size_t i = 0; i < samples; ++i) {
          const std::optional<std::int64_t> sent = next();
          times[i] = os::MonotonicNanos() - sent.value_or(0);
          // Also after a failure: the writer waits for it.
          seen[0].store(sent.has_value() ? i + 1 : samples, std::memory_order_release);
          if (!sent.has_value()) return false;
        }
        return true;
      };
    });
    workers.Begin();
    for (std::size_t i = 0; i < samples; ++i) {
      Pause(reader);
      if (!write(i, os::MonotonicNanos())) {
        state.SkipWithError("write failed");
        std::abort();  // the reader would wait for ever
      }
      while (seen[0].load(std::memory_order_acquire) <= i) {
        if (reader == Reader::kSleeps) std::this_thread::yield();
      }
    }
    if (!workers.End().has_value()) {
      state.SkipWithError("the reader failed");
      return;
    }
    const Percentiles all =
        PercentilesOf(std::vector<std::int64_t>(&times[0], &times[0] + samples));
    state.SetIterationTime(static_cast<double>(all.p50_ns) * 1e-9);
    state.counters["p50_ns"] = static_cast<double>(all.p50_ns);
    state.counters["p99_ns"] = static_cast<double>(all.p99_ns);
    state.counters["p99.9_ns"] = static_cast<double>(all.p999_ns);
    state.counters["max_ns"] = static_cast<double>(all.max_ns);
  }
}

// ---- Through a log

// Polls a topic, from the end that it has now.
class Tail {
 public:
  Tail(const Broker& broker, const std::string& topic, Reader reader)
      : timeout_(reader == Reader::kSpins ? absl::ZeroDuration() : kPatience),
        consumer_(broker.NewConsumer().value()) {
    consumer_.Assign({{topic, 0}}).IgnoreError();
    consumer_.SeekToEnd().IgnoreError();
  }

  std::optional<std::int64_t> Next() {
    const std::int64_t patience_ends = os::MonotonicNanos() + absl::ToInt64Nanoseconds(kPatience);
    for (int i = 0;; ++i) {
      if (!consumer_.PollInto(batch_, timeout_).ok()) return std::nullopt;
      if (!batch_.empty()) break;
      if (i % 1'000'000 == 999'999 && os::MonotonicNanos() > patience_ends) return std::nullopt;
    }
    std::int64_t sent_ns = 0;
    std::memcpy(&sent_ns, batch_.begin()->value()->data(), sizeof sent_ns);
    return sent_ns;
  }

 private:
  const absl::Duration timeout_;
  Consumer consumer_;
  RecordBatch batch_;
};

void Latency(benchmark::State& state, WorkerKind kind, Reader reader) {
  const BenchmarkDir dir;
  const BrokerOptions options{.background_threads = false};
  const Broker broker = Broker::Open(dir.path(), options).value();
  const Partition partition =
      broker.CreateTopic("events", {.segment_bytes = SegmentBytes()}).value().partition(0);
  dir.Settle();
  internal::LogOf(partition)->Populate(PopulatedBytes()).IgnoreError();
  std::string value(kValueBytes, 'x');
  Measure(
      state, kind, reader,
      [&](std::size_t, std::int64_t now_ns) {
        std::memcpy(value.data(), &now_ns, sizeof now_ns);
        return partition.Append({.value = value}).ok();
      },
      [&] {
        const Broker own =
            kind == WorkerKind::kThreads ? broker : Broker::Open(dir.path(), options).value();
        const auto tail = std::make_shared<Tail>(own, "events", reader);
        return [tail] { return tail->Next(); };
      });
}
void AsOne(benchmark::internal::Benchmark* benchmark) { benchmark->Iterations(1)->UseManualTime(); }

BENCHMARK_CAPTURE(Latency, spin, WorkerKind::kThreads, Reader::kSpins)->Apply(AsOne);
BENCHMARK_CAPTURE(Latency, block, WorkerKind::kThreads, Reader::kSleeps)->Apply(AsOne);
BENCHMARK_CAPTURE(Latency, process, WorkerKind::kProcesses, Reader::kSpins)->Apply(AsOne);
BENCHMARK_CAPTURE(Latency, process, WorkerKind::kProcesses, Reader::kSleeps)
    ->Name("Latency/process/block")
    ->Apply(AsOne);

// ---- Floors

void FloorSpin(benchmark::State& state) {
  const SharedArray<std::atomic<std::int64_t>> word(1);
  Measure(
      state, WorkerKind::kThreads, Reader::kSpins,
      [&](std::size_t, std::int64_t now_ns) {
        word[0].store(now_ns, std::memory_order_release);
        return true;
      },
      [&] {
        return [&, last = std::int64_t{0}]() mutable -> std::optional<std::int64_t> {
          std::int64_t sent_ns = last;
          while (sent_ns == last) sent_ns = word[0].load(std::memory_order_acquire);
          last = sent_ns;
          return sent_ns;
        };
      });
}
BENCHMARK(FloorSpin)->Name("Floor/spin")->Apply(AsOne);

void FloorFutex(benchmark::State& state) {
  struct Bell {
    std::atomic<std::uint32_t> sequence{0};
    std::atomic<std::int64_t> sent_ns{0};
  };
  const SharedArray<Bell> bell(1);
  Measure(
      state, WorkerKind::kThreads, Reader::kSleeps,
      [&](std::size_t, std::int64_t now_ns) {
        bell[0].sent_ns.store(now_ns, std::memory_order_relaxed);
        bell[0].sequence.fetch_add(1, std::memory_order_release);
        os::FutexWake(&bell[0].sequence, 1);
        return true;
      },
      [&] {
        return [&, last = std::uint32_t{0}]() mutable -> std::optional<std::int64_t> {
          while (bell[0].sequence.load(std::memory_order_acquire) == last) {
            os::FutexWait(&bell[0].sequence, last, absl::ToInt64Nanoseconds(kPatience));
          }
          ++last;
          return bell[0].sent_ns.load(std::memory_order_relaxed);
        };
      });
}
BENCHMARK(FloorFutex)->Name("Floor/futex")->Apply(AsOne);

}  // namespace
}  // namespace cordwood::benchmarks
