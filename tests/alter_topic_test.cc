// Changing the settings of a topic that is open, here and in other processes.

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/log/control.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/storage.h"
#include "cordwood/producer.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/failing_storage.h"
#include "tests/support/mortal_machine.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::FailingStorage;
using testing::MortalMachine;
using testing::OpenQuiet;
using testing::TempDir;
using testing::TwoBrokers;
using Properties = std::map<std::string, std::string>;

int SegmentsOf(const fs::path& partition) {
  const auto files = fs::directory_iterator(partition);
  return static_cast<int>(std::count_if(begin(files), end(files), [](const auto& entry) {
    return entry.path().extension() == ".log" && entry.path().filename().string()[0] != '.';
  }));
}

// ---- What changes

TEST_CASE("AlterTopic: only what is given changes, in every broker that has the topic open") {
  TwoBrokers b({.partitions = 2, .retain_for_groups = {"audit"}});
  Broker reader = Broker::Open(b.dir / "data", {.read_only = true}).value();
  Topic read_only = reader.OpenTopic("t").value();
  TopicConfig expected = b.topic.config();
  expected.retention_age = absl::Seconds(90);
  expected.cleanup = CleanupPolicy::kCompact;
  REQUIRE(b.one.AlterTopic("t", {{"retention.ms", "90000"}, {"cleanup.policy", "compact"}}).ok());
  CHECK(b.topic.config() == expected);
  CHECK(b.elsewhere.config() == expected);
  CHECK(read_only.config() == expected);
  CHECK(b.two.DescribeTopic("t").value().config == expected);
  expected.retention_records = 7;
  REQUIRE(b.two.AlterTopic("t", {{"retention.records", "7"}}).ok());
  CHECK(b.topic.config() == expected);
  CHECK(read_only.config() == expected);
}

TEST_CASE("AlterTopic: what was altered is there when the directory is opened again") {
  TempDir dir;
  TopicConfig expected;
  {
    Broker broker = OpenQuiet(dir / "data");
    Topic topic = broker.CreateTopic("t").value();
    REQUIRE(broker.AlterTopic("t", {{"retention.bytes", "1000000"}}).ok());
    expected = topic.config();
    REQUIRE(broker.Close().ok());
    CHECK(topic.config() == expected);
  }
  Broker again = OpenQuiet(dir / "data");
  CHECK(again.recovery_report().clean);
  CHECK(again.OpenTopic("t").value().config() == expected);
  CHECK(expected.retention_bytes == 1'000'000);
  // Its control page begins anew with the others.
  REQUIRE(again.AlterTopic("t", {{"retention.bytes", "-1"}}).ok());
  CHECK(OpenQuiet(dir / "data").OpenTopic("t").value().config().retention_bytes == kUnlimited);
}

TEST_CASE("AlterTopic: two who alter different properties at once both have their way") {
  TwoBrokers b;
  const auto alter = [](const Broker& broker, const char* property) {
    for (int i = 1; i <= 100; ++i) {
      if (!broker.AlterTopic("t", {{property, absl::StrCat(i)}}).ok()) return;
    }
  };
  std::thread other([&] { alter(b.two, "retention.records"); });
  alter(b.one, "retention.bytes");
  other.join();
  for (const Topic& topic : {b.topic, b.elsewhere}) {
    CHECK(topic.config().retention_records == 100);
    CHECK(topic.config().retention_bytes == 100);
  }
}

TEST_CASE("AlterTopic: a producer that asks nothing goes by the new settings after maintenance") {
  TwoBrokers b({.segment_bytes = 1 << 20});
  Producer producer = b.two.NewProducer().value();
  const std::string value(1000, 'x');
  const auto send = [&](int n) {
    for (int i = 0; i < n; ++i) REQUIRE(producer.Send("t", {.value = value}).ok());
  };
  send(100);
  CHECK(SegmentsOf(b.dir / "data/topics/t/0") == 1);
  REQUIRE(b.one
              .AlterTopic("t", {{"segment.bytes", "16384"},
                                {"max.message.bytes", "1000"},
                                {"message.timestamp.type", "LogAppendTime"}})
              .ok());
  REQUIRE(b.two.Maintain(absl::Seconds(10)).ok());
  // The long one ends at once, and those after it have the new size.
  send(100);
  CHECK(SegmentsOf(b.dir / "data/topics/t/0") >= 7);
  CHECK(absl::IsInvalidArgument(producer.Send("t", {.value = value + "x"}).status()));
  const absl::Time old = absl::FromUnixSeconds(1);
  CHECK(producer.Send("t", {.value = "v", .timestamp = old}).value().timestamp > old);
  const std::vector<Record> batch = {{.value = "v", .timestamp = old}};
  CHECK(producer.SendBatch("t", batch)[0].value().timestamp > old);
  CHECK(b.elsewhere.partition(0).end_offset() == 202);
}

TEST_CASE("AlterTopic: longer segments come after a file that was made ready shorter") {
  TwoBrokers b({.segment_bytes = 16 << 10});
  Partition partition = b.elsewhere.partition(0);
  for (int i = 0; i < 12; ++i) REQUIRE(partition.Append({.value = std::string(1000, 'x')}).ok());
  REQUIRE(b.two.Maintain(absl::Seconds(10)).ok());  // the next file is ready, and short
  REQUIRE(b.one.AlterTopic("t", {{"segment.bytes", "1048576"}}).ok());
  const std::string large(100'000, 'y');
  // One knows of it, the other does not yet; the file that is ready is too short for both.
  for (const Topic& topic : {b.topic, b.elsewhere}) {
    REQUIRE(topic.partition(0).Append({.value = large}).ok());
  }
  CHECK(partition.end_offset() == 14);
  REQUIRE(partition.Flush().ok());
  PartitionReader reader = partition.Read(12).value();
  int records = 0;
  for (const RecordView& record : reader) records += record.value() == large;
  CHECK(records == 2);
}

TEST_CASE("AlterTopic: appends of other threads go on meanwhile, and none is lost") {
  TwoBrokers b({.segment_bytes = 64 << 10});
  std::thread writer([partition = b.elsewhere.partition(0)] {
    for (int i = 0; i < 20'000; ++i) {
      if (!partition.Append({.value = absl::StrCat(i)}).ok()) return;
    }
  });
  for (int i = 0; i < 50; ++i) {
    CHECK(b.one.AlterTopic("t", {{"segment.bytes", i % 2 == 0 ? "4096" : "65536"}}).ok());
    CHECK(b.two.Maintain(absl::ZeroDuration()).ok());
  }
  writer.join();
  PartitionReader reader = b.topic.partition(0).Read(0).value();
  int next = 0;
  for (const RecordView& record : reader) {
    REQUIRE(record.value() == absl::StrCat(next));
    ++next;
  }
  CHECK(next == 20'000);
}

// ---- What does not

TEST_CASE("AlterTopic: what is bad or cannot change is refused in words, and nothing changes") {
  struct Row {
    Properties properties;
    const char* says;
  };
  const auto row = GENERATE(
      Row{{{"retention.hours", "1"}}, "unknown property \"retention.hours\""},
      Row{{{"", "1"}}, "unknown property"}, Row{{{"segment.bytes", "1"}}, "segment.bytes: 1 is"},
      Row{{{"segment.bytes", "many"}}, "segment.bytes: \"many\""},
      Row{{{"retention.bytes", "5"}, {"cleanup.policy", "burn"}}, "cleanup.policy: \"burn\""},
      Row{{{"min.compaction.lag.ms", "5"}, {"max.compaction.lag.ms", "4"}}, "is more than"},
      Row{{{"backlog.bytes", "4096"}}, "names no group"},
      Row{{{"retain.for.groups", "a\nb"}}, "retain.for.groups"},
      Row{{{"partitions", "3"}}, "CreatePartitions"}, Row{{{"partitions", "0"}}, "partitions"},
      Row{{{"partitioner", "murmur2"}}, "partitioner: cannot be altered"},
      Row{{{"index.interval.bytes", "64"}}, "index.interval.bytes: cannot be altered"},
      Row{{{"topic.id", std::string(32, '0')}}, "topic.id: cannot be altered"});
  TwoBrokers b;
  const TopicConfig before = b.topic.config();
  const absl::Status refused = b.one.AlterTopic("t", row.properties);
  INFO(refused.ToString());
  CHECK(absl::IsInvalidArgument(refused));
  CHECK(absl::StrContains(refused.message(), row.says));
  CHECK(b.topic.config() == before);
  CHECK(b.elsewhere.config() == before);
}

TEST_CASE("AlterTopic: all that a topic says of itself may be given back to it") {
  TwoBrokers b({.partitions = 3, .partitioner = "murmur2"});
  const TopicConfig before = b.topic.config();
  CHECK(b.one.AlterTopic("t", before.ToProperties()).ok());
  CHECK(b.one.AlterTopic("t", {}).ok());
  CHECK(b.elsewhere.config() == before);
}

TEST_CASE("AlterTopic: of no topic, of one that is deleted, and read-only") {
  TwoBrokers b;
  CHECK(absl::IsNotFound(b.one.AlterTopic("u", {})));
  CHECK(absl::IsInvalidArgument(b.one.AlterTopic("../t", {})));
  Broker reader = Broker::Open(b.dir / "data", {.read_only = true}).value();
  CHECK(absl::IsFailedPrecondition(reader.AlterTopic("t", {})));
  REQUIRE(b.one.DeleteTopic("t").ok());
  CHECK(absl::IsNotFound(b.two.AlterTopic("t", {})));
  // The new one has its own settings, and who held the old one does not see them.
  REQUIRE(b.one.CreateTopic("t").ok());
  REQUIRE(b.two.AlterTopic("t", {{"retention.records", "7"}}).ok());
  CHECK(b.elsewhere.config().retention_records == kUnlimited);
  CHECK(b.one.OpenTopic("t").value().config().retention_records == 7);
}

// ---- Crashes

TEST_CASE("AlterTopic: a power cut at any step leaves the old settings or the new ones, whole") {
  bool is_whole = false;
  for (int step = 1; !is_whole; ++step) {
    MortalMachine machine;
    const TopicConfig before = {.segment_bytes = 16 << 10};
    TopicConfig after = before;
    after.retention_records = 7;
    bool altered = false;
    {
      Broker broker = machine.Open();
      Topic topic = broker.CreateTopic("t", before).value();
      REQUIRE(topic.partition(0).Append({.value = "v"}).ok());
      REQUIRE(topic.partition(0).Flush().ok());
      machine.StopAt(step);
      altered = broker.AlterTopic("t", {{"retention.records", "7"}}).ok();
      is_whole = machine.done < step;
    }
    machine.Heal();
    machine.disk->PowerCut();
    Topic topic = machine.Open().OpenTopic("t").value();
    INFO("step " << step);
    CHECK((topic.config() == after || (!altered && topic.config() == before)));
    CHECK((altered || !is_whole));
    CHECK(topic.partition(0).end_offset() >= 1);
    CHECK(fs::exists(machine.dir / "data/topics/t/config"));
  }
}

TEST_CASE("AlterTopic: one that fails at any step can be done again, and all agree on it") {
  for (int step = 1; step <= 8; ++step) {
    MortalMachine machine;
    Broker broker = machine.Open();
    Topic topic = broker.CreateTopic("t").value();
    Broker other = machine.Open();
    Topic elsewhere = other.OpenTopic("t").value();
    machine.StopAt(step);
    broker.AlterTopic("t", {{"retention.records", "7"}}).IgnoreError();
    machine.Heal();
    INFO("step " << step);
    CHECK(elsewhere.config() == topic.config());
    REQUIRE(other.AlterTopic("t", {{"retention.bytes", "8"}}).ok());
    REQUIRE(other.AlterTopic("t", {{"retention.records", "9"}}).ok());
    CHECK(topic.config().retention_records == 9);
    CHECK(topic.config().retention_bytes == 8);
    CHECK(!fs::exists(machine.dir / "data/topics/t/.config-new"));
  }
}

// ---- While another thread closes the broker

TEST_CASE("Close: waits for a change of the topics that another thread is at") {
  using Op = FailingStorage::Op;
  TempDir dir;
  const std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  Broker broker =
      Broker::Open(dir / "data", {.background_threads = false, .storage = disk}).value();
  const Topic topic = broker.CreateTopic("t").value();
  const int kind = GENERATE(range(0, 4));
  CAPTURE(kind);
  const Op at = kind == 3 ? Op::kRename : Op::kSyncFolder;  // in the middle of it
  std::atomic<bool> begun{false};
  std::thread closer;
  absl::Status closed = absl::UnknownError("not yet");
  const std::thread::id changer = std::this_thread::get_id();
  disk->Before([&](const FailingStorage::Operation& operation) {
    if (operation.op != at || std::this_thread::get_id() != changer || begun.exchange(true)) return;
    closer = std::thread([&] { closed = broker.Close(); });
    while (topic.status().ok()) std::this_thread::yield();  // from here on it waits, or leaves
    // A chance to leave, for one that does not wait.
    const absl::Time until = absl::Now() + absl::Milliseconds(200);
    while (!fs::exists(dir / "data/CLEAN") && absl::Now() < until) std::this_thread::yield();
  });
  switch (kind) {
    case 0:
      broker.CreateTopic("new").status().IgnoreError();
      break;
    case 1:
      broker.AlterTopic("t", {{"retention.ms", "90000"}}).IgnoreError();
      break;
    case 2:
      broker.CreatePartitions("t", 3).IgnoreError();
      break;
    default:
      broker.DeleteTopic("t").IgnoreError();
  }
  REQUIRE(begun);
  closer.join();
  CHECK(closed.ok());
  // The marker came last: after it nobody of this process touched the directory.
  const std::vector<FailingStorage::Operation> done = disk->operations();
  const int marked = disk->Find(Op::kRename, "CLEAN");
  REQUIRE(marked >= 0);
  for (std::size_t i = static_cast<std::size_t>(marked); i < done.size(); ++i) {
    CAPTURE(done[i].path);
    CHECK(done[i].path.find("topics") == std::string::npos);
  }
  CHECK(OpenQuiet(dir / "data").recovery_report().clean);
}

}  // namespace
}  // namespace cordwood
