// Groups: commits, and how long a group takes to share its partitions anew. CommitDurable has
// Floor/fdatasync beside it: 512 bytes written into an allocated file, and made durable.

#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/quick.h"
#include "benchmarks/reading.h"
#include "cordwood/cordwood.h"
#include "cordwood/group/membership.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/clock.h"

namespace cordwood::benchmarks {
namespace {

void CommitOne(benchmark::State& state, Durability durability) {
  Reading reading(true, 100);
  reading.consumer().Poll(absl::ZeroDuration()).IgnoreError();
  const TopicPartition where{"orders", 0};
  std::map<TopicPartition, Offset> offsets = {{where, 0}};
  const CommitOptions options{.durability = durability, .force = true};
  reading.consumer()
      .Commit({{where, reading.records()}}, {.durability = Durability::kDurable})
      .IgnoreError();
  Offset& next = offsets.begin()->second;
  for (auto _ : state) {
    next = next + 1 < reading.records() ? next + 1 : 0;
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
    ->Args({FullOrQuick(100, 10), FullOrQuick(1000, 100)})
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cordwood::benchmarks
