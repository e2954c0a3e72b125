// Consumers and groups: a Poll of a settled group beside that of a consumer that took its
// partitions by hand, commits, and how long a group takes to share its partitions anew.
//
// Poll/.../N reads batches of 500 records of N bytes; Poll/.../empty finds nothing. CommitDurable
// has Floor/fdatasync beside it: 512 bytes written into an allocated file, and made durable.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "cordwood/cordwood.h"
#include "cordwood/group/membership.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/clock.h"

namespace cordwood::benchmarks {
namespace {

constexpr int kRecords = 200'000;

// A topic of one partition, and a consumer of it.
class Reading {
 public:
  Reading(bool in_group, std::size_t value_bytes)
      : broker_(Broker::Open(dir_.path(), {.background_threads = false}).value()),
        consumer_(broker_.NewConsumer({.group = "billing"}).value()) {
    const Partition partition = broker_.CreateTopic("orders").value().partition(0);
    const std::string value(value_bytes, 'x');
    const std::vector<Record> batch(100, Record{.value = value});
    for (int i = 0; i < kRecords / 100; ++i) partition.AppendBatch(batch).IgnoreError();
    if (in_group) {
      consumer_.Subscribe({"orders"}).IgnoreError();
    } else {
      consumer_.Assign({{"orders", 0}}).IgnoreError();
    }
    dir_.Settle();
  }
  Consumer& consumer() { return consumer_; }

 private:
  BenchmarkDir dir_;
  Broker broker_;
  Consumer consumer_;
};

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
BENCHMARK_CAPTURE(Poll, group, true)->Arg(100);
BENCHMARK_CAPTURE(Poll, assigned, false)->Arg(100);

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

void CommitOne(benchmark::State& state, Durability durability) {
  Reading reading(true, 100);
  reading.consumer().Poll(absl::ZeroDuration()).IgnoreError();
  const TopicPartition where{"orders", 0};
  std::map<TopicPartition, Offset> offsets = {{where, 0}};
  const CommitOptions options{.durability = durability, .force = true};
  reading.consumer()
      .Commit({{where, kRecords}}, {.durability = Durability::kDurable})
      .IgnoreError();
  Offset& next = offsets.begin()->second;
  for (auto _ : state) {
    next = next + 1 < kRecords ? next + 1 : 0;
    if (!reading.consumer().Commit(offsets, options).ok()) {
      state.SkipWithError("commit failed");
      break;
    }
  }
}
BENCHMARK_CAPTURE(CommitOne, commit, Durability::kPublished)->Name("Commit");
BENCHMARK_CAPTURE(CommitOne, durable, Durability::kDurable)
    ->Name("CommitDurable")
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

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

// A member joins a group of 99 with 1,000 partitions, until each has what it is to have. All
// members are in this thread: what they would do at the same time is done one after the other.
void GroupAssign(benchmark::State& state) {
  const BenchmarkDir dir;
  RecoveryReport report;
  const auto directory = log::Directory::Open(dir.path() / "data", {}, {}, report).value();
  directory->CreateTopic("orders", {.partitions = static_cast<int>(state.range(1))}).value();
  const auto group =
      group::GroupStore::Open(directory->context()).value()->OpenGroup("billing", true).value();
  std::vector<std::shared_ptr<group::Member>> members;
  const auto join = [&] {
    members.push_back(group::Member::Join(group, *directory, {.topics = {"orders"}},
                                          group::BuiltInAssignor("cooperative-sticky"))
                          .value());
  };
  const auto settle = [&] {
    for (bool moved = true; moved;) {
      moved = false;
      for (const auto& member : members) {
        if (!member->HasNews()) continue;
        member->Hear();
        member->Look(os::ReadClock(CLOCK_MONOTONIC_COARSE)).IgnoreError();
        member->GiveUp(member->ToGiveUp());
        member->Take();
        moved = true;
      }
    }
  };
  for (int i = 1; i < state.range(0); ++i) join();
  settle();
  for (auto _ : state) {
    join();
    settle();
    state.PauseTiming();
    members.pop_back();
    settle();
    state.ResumeTiming();
  }
}
BENCHMARK(GroupAssign)
    ->Name("Group/assign")
    ->ArgNames({"members", "partitions"})
    ->Args({100, 1000})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cordwood::benchmarks
