// Opening and closing on a simulated machine: processes that die while they make a directory, and
// disks that fail while one is recovered or before it is closed.

#include <algorithm>
#include <cstddef>
#include <map>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"
#include "cordwood/testing.h"
#include "sim/inside.h"
#include "tests/catch.h"

namespace cordwood {
namespace {

using testing::Inside;
using testing::Machine;

const TopicConfig kKept = {.segment_bytes = 32 << 10, .retention_age = absl::InfiniteDuration()};
const TopicPartition kPartition = {"t", 0};

std::map<Offset, std::string> RecordsOf(const Partition& partition) {
  std::map<Offset, std::string> records;
  PartitionReader reader = partition.Read(partition.start_offset()).value();
  for (const RecordView& record : reader) records[record.offset()] = record.value().value_or("");
  CHECK(reader.status().ok());
  return records;
}

Partition OpenAt(Machine& machine, Broker& broker) {
  broker = machine.Open("/data").value();
  return broker.OpenOrCreateTopic("t", kKept).value().partition(0);
}

// Calls `f` before the disk's n-th operation from now on.
template <class F>
void BeforeOperation(Machine& machine, int n, F f) {
  Inside::DiskOf(machine).Before([n, f]() mutable {
    if (n > 0 && --n == 0) f();
  });
}

// Whether all of it went well.
bool AppendAndCommit(Machine& machine, const std::string& value) {
  absl::StatusOr<Broker> broker = machine.Open("/data");
  if (!broker.ok()) return false;
  const absl::StatusOr<Topic> topic = broker->OpenOrCreateTopic("t", kKept);
  if (!topic.ok()) return false;
  const absl::StatusOr<Offset> offset =
      topic->partition(0).Append({.value = value}, {.durability = Durability::kDurable});
  if (!offset.ok()) return false;
  absl::StatusOr<Consumer> consumer = broker->NewConsumer({.group = "g"});
  return consumer.ok() && consumer->Assign({kPartition}).ok() &&
         consumer->Commit({{kPartition, *offset + 1}}, {.durability = Durability::kDurable}).ok();
}

TEST_CASE("Opening: whenever the maker of a directory died, what the next one confirms stays") {
  int deaths = 0;
  const bool with_power_cut = GENERATE(false, true);
  for (int operation = 1;; ++operation) {
    CAPTURE(with_power_cut, operation);
    bool has_died = false;
    Machine machine(static_cast<std::uint64_t>(operation));
    BeforeOperation(machine, operation, [&] {
      has_died = true;
      with_power_cut ? machine.CutPower() : machine.KillProcess();
    });
    AppendAndCommit(machine, "of the one that died");
    if (!has_died) break;
    ++deaths;
    REQUIRE(AppendAndCommit(machine, "of the next one"));
    machine.CutPower();
    Broker broker;
    const Partition partition = OpenAt(machine, broker);
    const auto records = RecordsOf(partition);
    REQUIRE(!records.empty());
    CHECK(records.rbegin()->second == "of the next one");
    Consumer consumer = broker.NewConsumer({.group = "g"}).value();
    REQUIRE(consumer.Assign({kPartition}).ok());
    CHECK(consumer.committed(kPartition).value() == records.rbegin()->first + 1);
  }
  CHECK(deaths > 20);
}

TEST_CASE("Opening: a topic whose deletion was cut off is whole or gone") {
  int gone = 0;
  bool has_died = true;
  constexpr int kSeeds = 20;
  for (int life = 0; life % kSeeds != 0 || has_died; ++life) {
    const int operation = 1 + life / kSeeds;
    CAPTURE(life, operation);
    Machine machine(static_cast<std::uint64_t>(life));
    Broker broker;
    const Partition partition = OpenAt(machine, broker);
    REQUIRE(partition.Append({.value = "there"}, {.durability = Durability::kDurable}).ok());
    has_died = false;
    BeforeOperation(machine, operation, [&] {
      has_died = true;
      machine.KillProcess();
    });
    broker.DeleteTopic("t").IgnoreError();
    BeforeOperation(machine, 0, [] {});
    machine.KillProcess();
    REQUIRE(machine.Open("/data").ok());  // which goes on with what it finds
    machine.CutPower();
    broker = machine.Open("/data").value();
    const absl::StatusOr<Topic> topic = broker.OpenTopic("t");
    gone += absl::IsNotFound(topic.status());
    if (absl::IsNotFound(topic.status())) continue;
    REQUIRE(topic.ok());
    CHECK(RecordsOf(topic->partition(0)).size() == 1);
  }
  CHECK(gone > 0);
}

TEST_CASE("Opening: a sync that failed in a recovery is not forgotten by the next one") {
  int failures = 0;
  const bool is_control_lost = GENERATE(false, true);
  for (int operation = 1;; ++operation) {
    CAPTURE(is_control_lost, operation);
    bool has_come = false;
    Machine machine(static_cast<std::uint64_t>(operation));
    Broker broker;
    Partition partition = OpenAt(machine, broker);
    REQUIRE(partition.Append({.value = "first"}, {.durability = Durability::kDurable}).ok());
    for (int i = 0; i < 100; ++i) {
      REQUIRE(partition.Append({.value = std::string(500, 'v')}).ok());
    }
    REQUIRE(partition.Trim(1).ok());
    // In the middle of an append, so that there is something to clear away.
    const auto die = [&](std::span<std::byte> value) {
      std::fill(value.begin(), value.end(), std::byte{1});
      machine.KillProcess();
      return value.size();
    };
    partition.AppendInPlace(5000, {}, die).IgnoreError();
    if (is_control_lost)
      REQUIRE(Inside::DiskOf(machine).FlipBit("/data", "topics/t/control", 0, 0).ok());
    BeforeOperation(machine, operation, [&] {
      has_come = true;
      machine.FailNextSync();
    });
    {
      absl::StatusOr<Broker> failing = machine.Open("/data");
      if (failing.ok()) failures += !failing->OpenTopic("t").ok();
      failures += !failing.ok();
    }
    machine.KillProcess();
    if (!has_come) break;
    static_cast<void>(Inside::DiskOf(machine).TakeFailure());
    BeforeOperation(machine, 0, [] {});

    partition = OpenAt(machine, broker);
    const Offset start = partition.start_offset();
    CHECK(start == 1);
    REQUIRE(partition.Flush().ok());
    const auto before = RecordsOf(partition);
    CHECK(before.size() == 100);
    machine.CutPower();
    partition = OpenAt(machine, broker);
    CHECK(RecordsOf(partition) == before);
    CHECK(partition.start_offset() == start);
  }
  CHECK(failures > 3);
}

TEST_CASE("Closing: a power cut after a clean close takes nothing of a log with a failed sync") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Machine machine(seed);
    Broker broker;
    Partition partition = OpenAt(machine, broker);
    for (int i = 0; i < 30; ++i) {
      REQUIRE(partition.Append({.value = std::string(500, 'a')}).ok());
    }
    REQUIRE(partition.Flush().ok());
    // Over a roll: the file that is retired has a seal, and ends before it.
    for (int i = 0; i < 60; ++i) {
      REQUIRE(partition.Append({.value = std::string(500, 'b')}).ok());
    }
    machine.FailNextSync();
    REQUIRE(partition.Flush().ok());
    const auto before = RecordsOf(partition);
    REQUIRE(before.size() == 90);
    REQUIRE(broker.Close().ok());
    machine.CutPower();
    partition = OpenAt(machine, broker);
    CHECK(RecordsOf(partition) == before);
  }
}

}  // namespace
}  // namespace cordwood
