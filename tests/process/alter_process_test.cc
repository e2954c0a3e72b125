// Changing a topic in a process that is killed over it, while others have the topic open.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"
#include "cordwood/log/control.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/storage.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/child.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::Child;
using testing::FailingStorage;
using testing::OpenQuiet;
using testing::TempDir;

// What another process would find on the directory's pages and files.
struct Seen {
  explicit Seen(const fs::path& data) {
    const auto root = Storage::OperatingSystem()->OpenFolder(data, {}).value();
    const auto identity = log::TopicFiles::ReadConfig(*root, "t").value();
    const auto control =
        log::ControlFile::Open(*root, "topics/t/control", identity.id, os::Access::kRead).value();
    config = identity.config;
    is_changing = control->header().config_version % 2 != 0;
  }
  TopicConfig config;
  bool is_changing = false;
};

constexpr std::uint32_t kReady = 1, kDone = 2, kFailed = 3;

// What a child does that makes the topic, waits, and changes it until that step kills it.
auto ChangesAndDies(const TempDir& dir, int step, std::function<bool(const Broker&)> change) {
  return [&dir, step, change = std::move(change)](Child& parent) {
    const auto storage = FailingStorage::Make();
    const Broker broker = OpenQuiet(dir / "data", storage);
    broker.CreateTopic("t").value();
    parent.Tell(kReady);
    parent.Wait();
    storage->DieBefore(step);
    const bool changed = change(broker);
    storage->Before(nullptr);
    parent.Tell(changed ? kDone : kFailed);
  };
}

TEST_CASE("AlterTopic: one that is killed at any step leaves no process with other settings") {
  bool is_whole = false;
  int left_odd = 0;
  for (int step = 1; !is_whole; ++step) {
    TempDir dir;
    Child altering(ChangesAndDies(dir, step, [](const Broker& b) {
      return b.AlterTopic("t", {{"retention.records", "7"}}).ok();
    }));
    REQUIRE(altering.Wait() == kReady);
    Broker broker = OpenQuiet(dir / "data");
    Topic topic = broker.OpenTopic("t").value();
    REQUIRE(topic.config() == TopicConfig());
    altering.Tell(1);
    is_whole = altering.Wait() == kDone;
    altering.Kill();

    INFO("step " << step);
    left_odd += Seen(dir / "data").is_changing;
    CHECK(topic.config() == Seen(dir / "data").config);
    CHECK((!is_whole || topic.config().retention_records == 7));
    // Maintenance ends what the dead one had begun.
    REQUIRE(broker.Maintain(absl::Seconds(10)).ok());
    CHECK(!Seen(dir / "data").is_changing);
    CHECK(topic.config() == Seen(dir / "data").config);
    CHECK(broker.AlterTopic("t", {{"retention.bytes", "8"}}).ok());
    CHECK(topic.config().retention_bytes == 8);
    CHECK(topic.config() == Seen(dir / "data").config);
  }
  CHECK(left_odd >= 2);  // before the rename, and before the folder was synced
}

TEST_CASE("CreatePartitions: one that is killed at any step leaves none half there") {
  bool is_whole = false;
  int finished = 0;
  for (int step = 1; !is_whole; ++step) {
    TempDir dir;
    Child adding(
        ChangesAndDies(dir, step, [](const Broker& b) { return b.CreatePartitions("t", 3).ok(); }));
    REQUIRE(adding.Wait() == kReady);
    Broker broker = OpenQuiet(dir / "data");
    Topic topic = broker.OpenTopic("t").value();
    adding.Tell(1);
    is_whole = adding.Wait() == kDone;
    adding.Kill();

    INFO("step " << step);
    const int before = topic.partition_count();
    CHECK(before == (is_whole ? 3 : 1));
    // Opening it is enough to end what has a config already.
    Topic again = OpenQuiet(dir / "data").OpenTopic("t").value();
    CHECK(again.partition_count() == Seen(dir / "data").config.partitions);
    CHECK(topic.partition_count() == again.partition_count());
    finished += topic.partition_count() > before;
    REQUIRE(broker.CreatePartitions("t", 4).ok());
    for (int p = 0; p < 4; ++p) CHECK(again.partition(p).Append({.value = "v"}).value() == 0);
  }
  CHECK(finished == 1);  // killed between the rename and the number
}

// ---- A group in three processes

using Read = std::map<std::pair<int, std::string>, std::vector<int>>;  // by partition and key

bool IsSet(const Broker& broker, const char* flag) {
  return broker.OpenTopic(flag).value().partition(0).end_offset() > 0;
}

// Sends key:0, key:1, ... of each of 20 keys until told, then says how many. Never far ahead of
// the group, which has to read it all.
void Produce(const fs::path& data) {
  constexpr int kAheadMax = 1000;
  Broker broker = Broker::Open(data).value();
  Producer producer = broker.NewProducer().value();
  const Partition seen = broker.OpenTopic("seen").value().partition(0);
  int sent = 0;
  while (!IsSet(broker, "stop")) {
    if (sent >= seen.end_offset() + kAheadMax) {
      seen.WaitForEnd(sent - kAheadMax + 1, absl::Milliseconds(20)).IgnoreError();
      continue;
    }
    const std::string key = absl::StrCat("k", sent % 20);
    if (!producer.Send("t", {.key = key, .value = absl::StrCat(sent / 20)}).ok()) return;
    ++sent;
  }
  producer.Send("total", {.value = absl::StrCat(sent)}).IgnoreError();
}

// Tells of each record that it reads, commits, and then polls again.
void Consume(const fs::path& data) {
  Broker broker = Broker::Open(data).value();
  Producer producer = broker.NewProducer().value();
  Consumer consumer =
      broker.NewConsumer({.group = "g", .reset = OffsetReset::kLatest, .max_poll_records = 100})
          .value();
  if (!consumer.Subscribe({"t"}).ok()) return;
  producer.Send("ready", {.value = "1"}).IgnoreError();
  while (!IsSet(broker, "quit")) {
    const absl::StatusOr<RecordBatch> batch = consumer.Poll(absl::Milliseconds(20));
    if (!batch.ok()) return;
    for (const RecordView& record : *batch) {
      const std::string row = absl::StrCat(record.partition(), " ", std::string(*record.key()), " ",
                                           std::string(*record.value()));
      if (!producer.Send("seen", {.value = row}).ok()) return;
    }
    if (!consumer.Commit().ok()) return;
  }
}

TEST_CASE("CreatePartitions: a producer and a group in other processes go on, record by record") {
  TempDir dir;
  const fs::path data = dir / "data";
  const auto run = [&](void (*what)(const fs::path&)) {
    return [&data, what](Child& parent) {
      parent.Wait();
      what(data);
    };
  };
  Child producing(run(Produce)), consuming(run(Consume)), beside(run(Consume));
  Broker broker = Broker::Open(data).value();
  broker.CreateTopic("t", {.partitions = 2}).value();
  for (const char* flag : {"stop", "quit", "total", "ready", "seen"}) {
    broker.CreateTopic(flag).value();
  }
  const auto end_of = [&](const char* topic) {
    return broker.OpenTopic(topic).value().partition(0);
  };
  consuming.Tell(1);
  beside.Tell(1);
  REQUIRE(end_of("ready").WaitForEnd(2, absl::Seconds(30)).ok());
  producing.Tell(1);
  for (int count = 3; count <= 12; ++count) {
    REQUIRE(end_of("seen").WaitForEnd(100 * count, absl::Seconds(30)).ok());
    REQUIRE(broker.CreatePartitions("t", count).ok());
  }
  // The producer has come to use the new ones.
  const Topic altered = broker.OpenTopic("t").value();
  for (int key = 0; key < 20; ++key) {
    const int p = altered.PartitionFor(absl::StrCat("k", key));
    REQUIRE(altered.partition(p).WaitForEnd(1, absl::Seconds(30)).ok());
  }
  REQUIRE(end_of("stop").Append({.value = "1"}).ok());
  REQUIRE(end_of("total").WaitForEnd(1, absl::Seconds(30)).ok());
  PartitionReader total = end_of("total").Read(0).value();
  const int sent = std::stoi(std::string((*total.begin()).value().value()));
  REQUIRE(end_of("seen").WaitForEnd(sent, absl::Seconds(60)).ok());
  REQUIRE(end_of("quit").Append({.value = "1"}).ok());

  Read read;
  PartitionReader seen = end_of("seen").Read(0).value();
  for (const RecordView& record : seen) {
    const std::vector<std::string> row =
        absl::StrSplit(absl::string_view(record.value()->data(), record.value()->size()), ' ');
    read[{std::stoi(row[0]), row[1]}].push_back(std::stoi(row[2]));
  }
  std::set<int> partitions;
  std::set<std::pair<std::string, int>> once;
  for (const auto& [where, numbers] : read) {
    partitions.insert(where.first);
    CHECK(std::is_sorted(numbers.begin(), numbers.end()));
    for (const int number : numbers) CHECK(once.emplace(where.second, number).second);
  }
  CHECK(once.size() == static_cast<std::size_t>(sent));
  CHECK(partitions.size() > 4);
}

}  // namespace
}  // namespace cordwood
