// Opening, closing and using a directory in processes that are killed, stopped or forked.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/child.h"
#include "tests/support/environment.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::Child;
using testing::FailingStorage;
using testing::kQuiet;
using testing::OpenQuiet;
using testing::TempDir;

// The records of a partition whose n-th value is n; less if one is not.
std::uint32_t CountInOrder(const Partition& partition) {
  std::uint32_t count = 0;
  PartitionReader reader = partition.Read(0).value();
  for (const RecordView& record : reader) {
    if (record.value() != absl::StrCat(count)) break;
    ++count;
  }
  return count;
}

bool AppendNumbers(const Partition& partition, std::uint32_t from, std::uint32_t to) {
  for (std::uint32_t i = from; i < to; ++i) {
    if (!partition.Append({.value = absl::StrCat(i)}).ok()) return false;
  }
  return true;
}

TEST_CASE("Rule 21: the first one in is killed, and those who are there go on") {
  TempDir dir;
  Child first([&](Child& parent) {
    Broker broker = OpenQuiet(dir / "data");
    AppendNumbers(broker.CreateTopic("t").value().partition(0), 0, 10);
    parent.Tell(1);
    parent.Wait();
  });
  REQUIRE(first.Wait() == 1);
  Broker second = OpenQuiet(dir / "data");
  Partition partition = second.OpenTopic("t").value().partition(0);
  first.Kill();
  CHECK(AppendNumbers(partition, 10, 20));
  // Somebody is here, so the next one is not first and puts nothing in order.
  Broker third = OpenQuiet(dir / "data");
  CHECK(third.recovery_report().items.empty());
  CHECK(AppendNumbers(third.OpenTopic("t").value().partition(0), 20, 30));
  CHECK(CountInOrder(partition) == 30);
  REQUIRE(second.Close().ok());
  CHECK(!fs::exists(dir / "data/CLEAN"));
  REQUIRE(third.Close().ok());
  CHECK(OpenQuiet(dir / "data").recovery_report().clean);
}

TEST_CASE("Rule 21: one that was alone and is killed leaves the directory to the next at once") {
  TempDir dir;
  Child alone([&](Child& parent) {
    Broker broker = Broker::Open(dir / "data", {.sharing = Sharing::kExclusive}).value();
    AppendNumbers(broker.CreateTopic("t").value().partition(0), 0, 10);
    parent.Tell(1);
    parent.Wait();
  });
  REQUIRE(alone.Wait() == 1);
  const absl::Status refused = Broker::Open(dir / "data", kQuiet).status();
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK(refused.message().find(absl::StrCat(alone.pid())) != absl::string_view::npos);
  alone.Stop();
  CHECK(absl::IsFailedPrecondition(Broker::Open(dir / "data", kQuiet).status()));
  alone.Kill();
  Broker broker = OpenQuiet(dir / "data");
  CHECK(!broker.recovery_report().clean);
  CHECK(broker.recovery_report().items.empty());
  CHECK(CountInOrder(broker.OpenTopic("t").value().partition(0)) == 10);
}

TEST_CASE("Rule 21: a control file that is replaced says so to a reader that follows it") {
  TempDir dir;
  { AppendNumbers(OpenQuiet(dir / "data").CreateTopic("t").value().partition(0), 0, 10); }
  Broker reader = Broker::Open(dir / "data", {.read_only = true}).value();
  Topic topic = reader.OpenTopic("t").value();
  CHECK(CountInOrder(topic.partition(0)) == 10);
  // A copy in its place is no file that could be believed.
  fs::remove(dir / "data/CLEAN");
  fs::copy_file(dir / "data/topics/t/control", dir / "control");
  fs::rename(dir / "control", dir / "data/topics/t/control");
  Broker writer = OpenQuiet(dir / "data");
  Partition partition = writer.OpenTopic("t").value().partition(0);
  CHECK(AppendNumbers(partition, 10, 20));
  CHECK(CountInOrder(reader.OpenTopic("t").value().partition(0)) == 20);
  CHECK(CountInOrder(topic.partition(0)) == 20);
}

TEST_CASE("Rules 21, 22, 27: killed at any operation on a file, nothing that was said is lost") {
  bool was_killed = true;
  for (int dies_at = 1; was_killed; ++dies_at) {
    CAPTURE(dies_at);
    TempDir dir(testing::FolderInMemory());
    constexpr std::uint32_t kMade = 1000, kDeleted = 1001, kClosed = 1002;
    Child child([&](Child& parent) {
      const auto storage = FailingStorage::Make();
      storage->DieBefore(dies_at);
      {
        Broker broker = OpenQuiet(dir / "data", storage);
        Partition log = broker.CreateTopic("t", {.segment_bytes = 4096}).value().partition(0);
        for (std::uint32_t i = 0; i < 60; ++i) {
          if (AppendNumbers(log, i, i + 1)) parent.Tell(i + 1);
        }
        broker.CreateTopic("u", {.partitions = 2}).value();
        parent.Tell(kMade);
        if (broker.DeleteTopic("u").ok()) parent.Tell(kDeleted);
      }
      OpenQuiet(dir / "data");
      parent.Tell(kClosed);
      raise(SIGKILL);
    });
    std::uint32_t appended = 0, last = 0;
    while (const std::uint32_t word = child.Wait()) {
      last = word;
      if (word < kMade) appended = word;
    }
    was_killed = last != kClosed;
    child.Kill();  // waits until the system has dropped its locks

    Broker broker = OpenQuiet(dir / "data");
    for (const std::string& name : broker.TopicNames()) {
      Topic topic = broker.OpenTopic(name).value();
      CHECK(topic.partition_count() == (name == "t" ? 1 : 2));
      for (int i = 0; i < topic.partition_count(); ++i) CHECK(topic.partition(i).status().ok());
    }
    if (last == kMade) CHECK(broker.TopicNames().front() == "t");
    if (last == kDeleted) CHECK(broker.TopicNames() == std::vector<std::string>{"t"});
    if (appended > 0) {
      // What was published, and perhaps the one that was at it.
      const std::uint32_t there = CountInOrder(broker.OpenTopic("t").value().partition(0));
      CHECK(there >= appended);
      CHECK(there <= appended + 1);
      CHECK(AppendNumbers(broker.OpenTopic("t").value().partition(0), there, there + 5));
      CHECK(CountInOrder(broker.OpenTopic("t").value().partition(0)) == there + 5);
    }
    for (const auto& entry : fs::directory_iterator(dir / "data/topics")) {
      CHECK(entry.path().filename().string().front() != '.');
    }
  }
}

TEST_CASE("Rule 40: in a child of a fork every handle says so, and the child opens its own") {
  TempDir dir;
  const bool with_thread = GENERATE(true, false);
  Broker broker = Broker::Open(dir / "data", {.background_threads = with_thread}).value();
  Topic topic = broker.CreateTopic("t", {.partitions = 2}).value();
  Partition partition = topic.partition(0);
  Producer producer = broker.NewProducer().value();
  REQUIRE(producer.Send("t", {.value = "0", .partition = 0}).ok());
  std::vector<absl::Status> told;
  REQUIRE(partition.OnDurable(0, [&](const absl::Status& s) { told.push_back(s); }).ok());
  {
    Child child([&](Child& parent) {
      std::uint32_t right = 0;
      const auto expect = [&](const absl::Status& s) { right += absl::IsFailedPrecondition(s); };
      expect(broker.OpenTopic("t").status());
      expect(broker.CreateTopic("u").status());
      expect(broker.Maintain(absl::Seconds(1)));
      expect(topic.status());
      expect(topic.partition(1).status());  // one that the parent has not opened
      expect(partition.status());
      expect(partition.Append({.value = "1"}).status());
      expect(partition.Read(0).status());
      expect(partition.Flush());
      expect(producer.Send("t", {.value = "1"}).status());
      expect(producer.Send("u", {.value = "1"}).status());
      expect(producer.Flush());
      expect(broker.Close());
      right += partition.end_offset() == 0;
      // The child's own.
      Broker own = OpenQuiet(dir / "data");
      right += AppendNumbers(own.OpenTopic("t").value().partition(0), 1, 2);
      // And no end of a handle here is one there.
      broker = Broker();
      topic = Topic();
      partition = Partition();
      producer = Producer();
      own = Broker();
      parent.Tell(right);
    });
    CHECK(child.Wait() == 15);
  }
  CHECK(AppendNumbers(partition, 2, 3));
  CHECK(CountInOrder(partition) == 3);
  CHECK(absl::IsFailedPrecondition(
      Broker::Open(dir / "data", {.sharing = Sharing::kExclusive}).status()));
  CHECK(broker.Close().ToString() == "OK");
  REQUIRE(told.size() == 1);
  CHECK(told[0].ok());
}

TEST_CASE("Broker: Close does not hang on a stopped process that holds everything") {
  TempDir dir;
  // Before this process has threads, which a child could inherit in the middle of something.
  Child child([&](Child& parent) {
    parent.Wait();
    Broker own = OpenQuiet(dir / "data");
    Partition log = own.OpenTopic("t").value().partition(0);
    const absl::Status status = log.AppendInPlace(8192, {},
                                                  [&](std::span<std::byte>) {
                                                    parent.Tell(1);
                                                    parent.Wait();  // in the writer's turn
                                                    return std::size_t{0};
                                                  })
                                    .status();
    parent.Tell(status.ok() ? 2 : 3);
  });
  Broker broker = Broker::Open(dir / "data").value();
  Partition partition = broker.CreateTopic("t").value().partition(0);
  child.Tell(1);
  REQUIRE(child.Wait() == 1);
  child.Stop();
  CHECK(absl::IsDeadlineExceeded(
      partition.Append({.value = "a"}, {.timeout = absl::Milliseconds(50)}).status()));
  CHECK(broker.Close().ToString() == "OK");
  CHECK(!fs::exists(dir / "data/CLEAN"));
  child.Continue();
  child.Tell(1);
  CHECK(child.Wait() == 2);
}

}  // namespace
}  // namespace cordwood
