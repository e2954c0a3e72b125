// A TableView of N keys, each of 16 bytes with a value of 64, in one partition: how long it takes
// to open and what it costs in memory, to get, to put, and to compare and set.
//
// TableOpen counts bytes_per_key, all that was allocated, and overhead_per_key, the same without
// the key and the value themselves. TableIncrement is a Get, and a Put that expects its offset.
// TableGetNews is a Get after a record that somebody else has appended, with that append.

#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmarks/benchmark_dir.h"
#include "benchmarks/quick.h"
#include "cordwood/cordwood.h"

namespace cordwood::benchmarks {
namespace {

constexpr std::size_t kKeyBytes = 16;
constexpr std::size_t kValueBytes = 64;

std::string KeyOf(std::int64_t i) { return absl::StrCat("key ", absl::Dec(i, absl::kZeroPad12)); }

// A compacted topic in which each key was put once, in random order.
class Table {
 public:
  explicit Table(std::int64_t keys)
      : broker_(Broker::Open(dir_.path(), {.background_threads = false}).value()),
        log_(broker_.CreateTopic("table", {.cleanup = CleanupPolicy::kCompact})
                 .value()
                 .partition(0)) {
    for (std::int64_t i = 0; i < keys; ++i) keys_.push_back(KeyOf(i));
    std::shuffle(keys_.begin(), keys_.end(), std::mt19937(1));
    const std::string value(kValueBytes, 'x');
    std::vector<Record> batch;
    for (const std::string& key : keys_) {
      batch.push_back({.key = key, .value = value});
      if (batch.size() < 1000) continue;
      log_.AppendBatch(batch).value();
      batch.clear();
    }
    if (!batch.empty()) log_.AppendBatch(batch).value();
    std::shuffle(keys_.begin(), keys_.end(), std::mt19937(2));
    dir_.Settle();
  }

  TableView Open() const { return TableView::Open(broker_, "table").value(); }
  const Partition& log() const { return log_; }
  const std::string& NextKey() { return keys_[next_ = next_ + 1 == keys_.size() ? 0 : next_ + 1]; }

 private:
  BenchmarkDir dir_;
  Broker broker_;
  Partition log_;
  std::vector<std::string> keys_;
  std::size_t next_ = 0;
};

void Many(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(FullOrQuick(1'000'000, 10'000));
}
void FewAndMany(benchmark::internal::Benchmark* benchmark) { benchmark->Arg(1000)->Apply(Many); }

double AllocatedBytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd);
}

void Open(benchmark::State& state) {
  const Table topic(state.range(0));
  double bytes = 0;
  for (auto _ : state) {
    const double before = AllocatedBytes();
    std::optional<TableView> view = topic.Open();
    state.PauseTiming();
    bytes = AllocatedBytes() - before;
    if (view->Size().value() != state.range(0)) state.SkipWithError("keys are missing");
    view.reset();
    state.ResumeTiming();
  }
  const double per_key = bytes / static_cast<double>(state.range(0));
  state.counters["bytes_per_key"] = per_key;
  state.counters["overhead_per_key"] = per_key - static_cast<double>(kKeyBytes + kValueBytes);
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(Open)->Name("TableOpen")->Apply(Many)->Unit(benchmark::kMillisecond)->UseRealTime();

void Get(benchmark::State& state) {
  Table topic(state.range(0));
  const TableView view = topic.Open();
  for (auto _ : state) {
    const auto found = view.Get(topic.NextKey());
    if (!found.ok() || !found->has_value()) state.SkipWithError("not there");
    benchmark::DoNotOptimize(found);
  }
}
BENCHMARK(Get)->Name("TableGet")->Apply(FewAndMany);

void GetNews(benchmark::State& state) {
  Table topic(state.range(0));
  const TableView view = topic.Open();
  for (auto _ : state) {
    const std::string& key = topic.NextKey();
    const auto at = topic.log().Append({.key = key, .value = key});
    const auto found = view.Get(key);
    if (!at.ok() || !found.ok() || !found->has_value() || (*found)->offset() != *at) {
      state.SkipWithError("not the news");
    }
  }
}
BENCHMARK(GetNews)->Name("TableGetNews")->Apply(FewAndMany);

void Put(benchmark::State& state) {
  Table topic(state.range(0));
  const TableView view = topic.Open();
  const std::string value(kValueBytes, 'y');
  for (auto _ : state) {
    if (!view.Put(topic.NextKey(), value).ok()) state.SkipWithError("put failed");
  }
}
BENCHMARK(Put)->Name("TablePut")->Arg(1000);

void Increment(benchmark::State& state) {
  Table topic(state.range(0));
  const TableView view = topic.Open();
  const std::string value(kValueBytes, 'y');
  for (auto _ : state) {
    const std::string& key = topic.NextKey();
    const auto found = view.Get(key);
    if (!found.ok() || !found->has_value() ||
        !view.Put(key, value, {.expected_offset = (*found)->offset()}).ok()) {
      state.SkipWithError("put failed");
    }
  }
}
BENCHMARK(Increment)->Name("TableIncrement")->Apply(FewAndMany);

void ForEach(benchmark::State& state) {
  const Table topic(state.range(0));
  const TableView view = topic.Open();
  for (auto _ : state) {
    std::size_t bytes = 0;
    if (!view.ForEach([&](const RecordView& record) { bytes += record.value()->size(); }).ok() ||
        bytes != static_cast<std::size_t>(state.range(0)) * kValueBytes) {
      state.SkipWithError("values are missing");
    }
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(ForEach)->Name("TableForEach")->Apply(Many)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cordwood::benchmarks
