// Partitions that are added to a topic while it is written to and read.

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/consumer_fixture.h"
#include "tests/support/failing_storage.h"
#include "tests/support/mortal_machine.h"
#include "tests/support/sleeper.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using namespace consumer_testing;
using Op = FailingStorage::Op;

// Polls until so many records are there, or a long time is over.
List Read(Consumer& consumer, std::size_t records) {
  List all;
  const absl::Time end = absl::Now() + kLong;
  while (all.size() < records && absl::Now() < end) {
    const RecordBatch batch = consumer.Poll(absl::Milliseconds(100)).value();
    for (const std::string& value : Values(batch)) all.push_back(value);
  }
  std::sort(all.begin(), all.end());
  return all;
}

List ReadAll(const Topic& topic) {
  List all;
  for (int p = 0; p < topic.partition_count(); ++p) {
    const Partition partition = topic.partition(p);
    PartitionReader reader = partition.Read(partition.start_offset()).value();
    for (const RecordView& record : reader) all.emplace_back(record.value().value());
    CHECK(reader.status().ok());
  }
  std::sort(all.begin(), all.end());
  return all;
}

// ---- Who sees them

TEST_CASE("CreatePartitions: they are there in every broker, and old handles see them") {
  TwoBrokers b({.partitions = 2});
  Producer producer = b.two.NewProducer().value();
  Broker reader = Broker::Open(b.dir / "data", {.read_only = true}).value();
  Topic read_only = reader.OpenTopic("t").value();
  REQUIRE(producer.Send("t", {.value = "old", .partition = 1}).ok());
  CHECK(absl::IsNotFound(producer.Send("t", {.value = "early", .partition = 4}).status()));
  REQUIRE(b.one.CreatePartitions("t", 5).ok());
  REQUIRE(producer.Send("t", {.value = "new", .partition = 4}).ok());
  for (const Topic& topic : {b.topic, b.elsewhere, read_only}) {
    CHECK(topic.partition_count() == 5);
    CHECK(topic.config().partitions == 5);
    CHECK(topic.partition(4).end_offset() == 1);
    CHECK(ReadAll(topic) == List{"new", "old"});
    CHECK(absl::IsNotFound(topic.partition(5).status()));
  }
  CHECK(b.two.DescribeTopic("t").value().partitions == 5);
  CHECK(b.two.OpenOrCreateTopic("t", {.partitions = 5}).ok());
}

TEST_CASE("CreatePartitions: they are there when the directory is opened again") {
  TempDir dir;
  {
    Broker broker = OpenQuiet(dir / "data");
    Topic topic = broker.CreateTopic("t").value();
    REQUIRE(broker.CreatePartitions("t", 3).ok());
    REQUIRE(topic.partition(2).Append({.value = "v"}).ok());
  }
  {
    Topic topic = Broker::Open(dir / "data", {.read_only = true}).value().OpenTopic("t").value();
    CHECK(ReadAll(topic) == List{"v"});
    CHECK(topic.partition_count() == 3);
  }
  Broker again = OpenQuiet(dir / "data");
  CHECK(again.recovery_report().clean);
  REQUIRE(again.CreatePartitions("t", 70).ok());
  CHECK(ReadAll(again.OpenTopic("t").value()) == List{"v"});
}

TEST_CASE("CreatePartitions: what cannot be is refused in words, and nothing changes") {
  struct Row {
    int count;
    CleanupPolicy cleanup;
    absl::StatusCode code;
    const char* says;
  };
  const auto row = GENERATE(
      Row{2, CleanupPolicy::kDelete, absl::StatusCode::kInvalidArgument, "has 2 partitions"},
      Row{1, CleanupPolicy::kDelete, absl::StatusCode::kInvalidArgument, "more"},
      Row{0, CleanupPolicy::kDelete, absl::StatusCode::kInvalidArgument, "not 0"},
      Row{-1, CleanupPolicy::kDelete, absl::StatusCode::kInvalidArgument, "not -1"},
      Row{100'001, CleanupPolicy::kDelete, absl::StatusCode::kInvalidArgument, "100000"},
      Row{3, CleanupPolicy::kCompact, absl::StatusCode::kFailedPrecondition, "compacted"},
      Row{3, CleanupPolicy::kCompactAndDelete, absl::StatusCode::kFailedPrecondition, "key"});
  TwoBrokers b({.partitions = 2, .cleanup = row.cleanup});
  const absl::Status refused = b.one.CreatePartitions("t", row.count);
  INFO(refused.ToString());
  CHECK(refused.code() == row.code);
  CHECK(absl::StrContains(refused.message(), row.says));
  CHECK(b.elsewhere.partition_count() == 2);
  CHECK(!fs::exists(b.dir / "data/topics/t/2"));
}

TEST_CASE("CreatePartitions: of no topic, of one that is deleted, and read-only") {
  TwoBrokers b;
  CHECK(absl::IsNotFound(b.one.CreatePartitions("u", 2)));
  CHECK(absl::IsInvalidArgument(b.one.CreatePartitions("../t", 2)));
  Broker reader = Broker::Open(b.dir / "data", {.read_only = true}).value();
  CHECK(absl::IsFailedPrecondition(reader.CreatePartitions("t", 2)));
  REQUIRE(b.two.CreatePartitions("t", 2).ok());
  Partition added = b.topic.partition(1);
  REQUIRE(b.two.DeleteTopic("t").ok());
  CHECK(absl::IsNotFound(added.Append({.value = "v"}).status()));
  CHECK(absl::IsNotFound(b.one.CreatePartitions("t", 3)));
}

TEST_CASE("CreatePartitions: keys whose hash moves go elsewhere from then on, and old ones stay") {
  TwoBrokers b({.partitions = 2});
  Producer producer = b.two.NewProducer().value();
  std::map<std::string, int> before;
  for (int i = 0; i < 50; ++i) {
    const std::string key = absl::StrCat("key ", i);
    before[key] = producer.Send("t", {.key = key, .value = key}).value().partition;
  }
  REQUIRE(b.one.CreatePartitions("t", 4).ok());
  int moved = 0;
  for (const auto& [key, partition] : before) {
    const int now = producer.Send("t", {.key = key, .value = key}).value().partition;
    CHECK(now == b.topic.PartitionFor(key));
    CHECK(now % 2 == partition);  // as xxh3 is taken modulo their number
    moved += now != partition;
  }
  CHECK(moved > 10);
  CHECK(ReadAll(b.elsewhere).size() == 100);
}

TEST_CASE("CreatePartitions: again and again, while other threads append to what there is") {
  TwoBrokers b;
  constexpr int kPartitions = 60;
  std::vector<std::thread> writers;
  for (int w = 0; w < 2; ++w) {
    writers.emplace_back([topic = w == 0 ? b.topic : b.elsewhere, w] {
      for (int i = 0; i < 5'000; ++i) {
        const int p = i % topic.partition_count();
        if (!topic.partition(p).Append({.value = absl::StrCat(w, ".", i)}).ok()) return;
      }
    });
  }
  for (int count = 2; count <= kPartitions; ++count) {
    CHECK((count % 2 == 0 ? b.one : b.two).CreatePartitions("t", count).ok());
  }
  for (std::thread& writer : writers) writer.join();
  const List all = ReadAll(b.topic);
  CHECK(std::set<std::string>(all.begin(), all.end()).size() == 10'000);
  CHECK(all.size() == 10'000);
  CHECK(ReadAll(b.elsewhere) == all);
  for (int p = 0; p < kPartitions; ++p) CHECK(b.elsewhere.partition(p).Append({}).ok());
}

TEST_CASE("CreatePartitions: a deletion beside it leaves the topic whole or gone") {
  for (int round = 0; round < 20; ++round) {
    TwoBrokers b;
    std::thread deleting([&] { b.two.DeleteTopic("t").IgnoreError(); });
    const absl::Status added = b.one.CreatePartitions("t", 4);
    deleting.join();
    CHECK((added.ok() || absl::IsNotFound(added)));
    CHECK(absl::IsNotFound(b.one.OpenTopic("t").status()));
    CHECK(b.one.CreateTopic("t").value().partition_count() == 1);
  }
}

// ---- Consumers

TEST_CASE("CreatePartitions: a group that has subscribed reads them from their start") {
  const bool by_pattern = GENERATE(false, true);
  const OffsetReset reset = GENERATE(OffsetReset::kEarliest, OffsetReset::kLatest);
  World world;
  Consumer consumer = world.broker.NewConsumer({.group = "billing", .reset = reset}).value();
  REQUIRE((by_pattern ? consumer.SubscribePattern("ord.*") : consumer.Subscribe({"orders"})).ok());
  REQUIRE(consumer.Poll(kShort).ok());
  Broker other = OpenQuiet(world.dir / "data");
  REQUIRE(other.CreatePartitions("orders", 3).ok());
  world.Send(2, "c");
  world.Send(1, "b");
  world.Send(0, "a");
  CHECK(Read(consumer, 3) == List{"a", "b", "c"});
  CHECK(consumer.assignment() == world.All());
  REQUIRE(consumer.Commit().ok());
  CHECK(consumer.committed({"orders", 2}).value() == 1);
}

TEST_CASE("CreatePartitions: who joins later with kLatest reads them from their start too") {
  World world;
  Consumer first = world.Subscribed({.reset = OffsetReset::kLatest});
  REQUIRE(first.Poll(kShort).ok());
  REQUIRE(world.broker.CreatePartitions("orders", 2).ok());
  world.Send(1, "early");
  // Before the first one has looked. It is the second one's when both have polled.
  Consumer second = world.Subscribed({.reset = OffsetReset::kLatest});
  List all;
  for (const absl::Time end = absl::Now() + kLong; all.empty() && absl::Now() < end;) {
    for (Consumer* consumer : {&first, &second}) {
      for (const std::string& v : Values(consumer->Poll(kShort).value())) all.push_back(v);
    }
  }
  CHECK(all == List{"early"});
}

TEST_CASE("CreatePartitions: a consumer that sleeps hears of them, in Poll and by its eventfd") {
  World world({{"orders", 1}}, {.background_threads = false});
  Consumer consumer = world.Subscribed();
  REQUIRE(consumer.Poll(kShort).ok());
  SECTION("Poll") {
    std::atomic<bool> sent{false};
    std::jthread adding = OnceCallerSleeps([&] {
      sent = world.broker.CreatePartitions("orders", 2).ok() &&
             world.Log(1).Append({.value = "b"}).ok();
    });
    CHECK(Values(consumer.Poll(kLong).value()) == List{"b"});
    adding.join();
    CHECK(sent);
  }
  SECTION("eventfd") {
    pollfd ready = {.fd = consumer.ReadyFd().value(), .events = POLLIN, .revents = 0};
    while (poll(&ready, 1, 50) == 1) REQUIRE(consumer.Poll(absl::ZeroDuration()).ok());
    REQUIRE(world.broker.CreatePartitions("orders", 2).ok());
    world.Send(1, "b");
    List all;
    for (int i = 0; i < 20 && all.empty(); ++i) {
      REQUIRE(poll(&ready, 1, 10'000) == 1);
      all = Values(consumer.Poll(absl::ZeroDuration()).value());
    }
    CHECK(all == List{"b"});
  }
}

TEST_CASE("CreatePartitions: one that is added can be assigned beside those that are") {
  World world;
  Consumer consumer = world.Assigned();
  world.Send(0, "a");
  CHECK(Read(consumer, 1) == List{"a"});
  REQUIRE(world.broker.CreatePartitions("orders", 2).ok());
  world.Send(1, "b");
  REQUIRE(consumer.Assign({{"orders", 0}, {"orders", 1}}).ok());
  world.Send(0, "c");
  CHECK(Read(consumer, 2) == List{"b", "c"});
}

TEST_CASE("CreatePartitions: a share group takes from them, from their start") {
  World world;
  ShareConsumer consumer =
      world.broker.NewShareConsumer({.group = "workers", .reset = OffsetReset::kLatest}).value();
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  CHECK(consumer.Acquire(kShort).value().empty());
  REQUIRE(world.broker.CreatePartitions("orders", 3).ok());
  world.Send(2, "c");
  const AcquiredBatch batch = consumer.Acquire(kLong).value();
  REQUIRE(batch.size() == 1);
  CHECK((*batch.begin())->value() == "c");
  CHECK(consumer.Acknowledge(*batch.begin()).ok());
}

// ---- Crashes

// A machine that stops, with the power or without, before the n-th operation of adding.
struct StoppedAdding {
  StoppedAdding(int count, int step, bool power_cut) {
    {
      Broker broker = machine.Open();
      Topic topic = broker.CreateTopic("t", {.partitions = 2, .segment_bytes = 4096}).value();
      REQUIRE(topic.partition(1).Append({.value = "old"}).ok());
      REQUIRE(topic.partition(1).Flush().ok());
      machine.StopAt(step);
      added = broker.CreatePartitions("t", count).ok();
      steps = machine.done;
      if (steps < step) {
        // If they are there, they keep what is made durable in them.
        machine.Heal();
        REQUIRE(topic.partition(count - 1).Append({.value = "new"}).ok());
        REQUIRE(topic.partition(count - 1).Flush().ok());
        machine.StopAt(machine.done + 1);  // no close
      }
    }
    machine.Heal();
    if (power_cut) machine.disk->PowerCut();
  }

  MortalMachine machine;
  bool added = false;
  int steps = 0;
};

TEST_CASE("CreatePartitions: a stop at any step, with the power or without, costs no record") {
  const bool power_cut = GENERATE(true, false);
  const int count = GENERATE(3, 67);  // folders synced one by one, and all together
  constexpr int kNever = 1 << 30;
  const int steps = StoppedAdding(count, kNever, power_cut).steps;
  int grown = 0;
  for (int step = 1; step <= steps + 1; ++step) {
    if (count == 67 && step < steps - 5) continue;  // one folder after the other
    StoppedAdding stopped(count, step, power_cut);
    // Nor is anything of what it has left damage.
    const std::filesystem::path path = stopped.machine.dir / "data";
    const VerifyReport found = Verify(path, {.storage = stopped.machine.disk}).value();
    for (const FileProblem& problem : found.problems) {
      INFO(problem.file << ": " << problem.what);
      CHECK(problem.state != VerifiedState::kDamaged);
    }
    Broker broker = stopped.machine.Open();
    Topic topic = broker.OpenTopic("t").value();
    INFO("step " << step << " of " << steps);
    CHECK((topic.partition_count() == count || (!stopped.added && topic.partition_count() == 2)));
    grown += topic.partition_count() == count;
    CHECK(ReadAll(topic) == (step > steps ? List{"new", "old"} : List{"old"}));
    CHECK(topic.partition(0).Append({.value = "after"}).ok());
    CHECK(topic.partition(topic.partition_count() - 1).Append({.value = "after"}).ok());
    // And it goes on, over whatever was left.
    REQUIRE(broker.CreatePartitions("t", count + 1).ok());
    CHECK(topic.partition(count).Append({.value = "after"}).value() == 0);
  }
  // Where the config has the new number, they are there, though the call did not return.
  CHECK(grown == (power_cut ? 1 : 2));
}

TEST_CASE("CreatePartitions: one that fails at any step can be done again beside others") {
  for (int step = 1; step < 40; ++step) {
    MortalMachine machine;
    Broker broker = machine.Open();
    Topic topic = broker.CreateTopic("t", {.partitions = 2}).value();
    Broker other = machine.Open();
    Topic elsewhere = other.OpenTopic("t").value();
    machine.StopAt(step);
    const bool added = broker.CreatePartitions("t", 3).ok();
    const bool is_whole = machine.done < step;
    machine.Heal();
    INFO("step " << step);
    // What was left is ended by whoever looks, and everybody agrees on it.
    REQUIRE(other.Maintain(absl::Seconds(10)).ok());
    CHECK(elsewhere.partition_count() == topic.partition_count());
    CHECK((!added || topic.partition_count() == 3));
    CHECK(other.OpenTopic("t").value().config() == topic.config());
    REQUIRE(other.CreatePartitions("t", 4).ok());
    for (int p = 0; p < 4; ++p) {
      CHECK(topic.partition(p).Append({.value = "v"}).ok());
      CHECK(elsewhere.partition(p).end_offset() == 1);
    }
    if (is_whole) return;
  }
  FAIL("there is no end to its steps");
}

TEST_CASE("CreatePartitions: one whose number was not on the disk is never appended to") {
  // The folder's sync fails after the rename: the new config is there, and may go.
  MortalMachine machine;
  {
    Broker broker = machine.Open();
    Topic topic = broker.CreateTopic("t", {.partitions = 2}).value();
    machine.disk->SettleNames();
    machine.disk->Before([&](const FailingStorage::Operation& op) {
      if (op.op != Op::kRename) return;
      machine.disk->Fail({.op = Op::kSyncFolder});
    });
    CHECK(!broker.CreatePartitions("t", 3).ok());
    CHECK(topic.partition_count() == 2);
    CHECK(absl::IsNotFound(topic.partition(2).status()));
    machine.Heal();
    REQUIRE(broker.Maintain(absl::Seconds(10)).ok());
    REQUIRE(topic.partition_count() == 3);
    REQUIRE(topic.partition(2).Append({.value = "durable"}).ok());
    REQUIRE(topic.partition(2).Flush().ok());
    machine.StopAt(1);  // no close
  }
  machine.Heal();
  machine.disk->PowerCut();
  CHECK(ReadAll(machine.Open().OpenTopic("t").value()) == List{"durable"});
}

}  // namespace
}  // namespace cordwood
