// Compaction as a program sees it: topics, Maintain, the background thread, table views.

#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <thread>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/git_changes.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using testing::FailingStorage;
using testing::GitChange;
using testing::TempDir;
using Table = std::map<std::string, std::string>;

const std::filesystem::path kData = std::filesystem::path(CORDWOOD_SOURCE_FOLDER) / "tests/data";

struct World {
  explicit World(TopicConfig config = {}, bool background_threads = false)
      : broker(Broker::Open(dir.path() / "data", {.flush_interval = absl::Milliseconds(10),
                                                  .background_threads = background_threads,
                                                  .storage = disk})
                   .value()) {
    config.segment_bytes = 16 << 10;
    if (config.cleanup == CleanupPolicy::kDelete) config.cleanup = CleanupPolicy::kCompact;
    log = broker.CreateTopic("table", config).value().partition(0);
  }
  void Put(const std::string& key, const std::string& value) const {
    REQUIRE(log.Append({.key = key, .value = value}).ok());
  }
  void Delete(const std::string& key) const { REQUIRE(log.Append({.key = key}).ok()); }
  // So many records of other keys, that the segment is closed.
  void Roll() const {
    for (int i = 0; i < 40; ++i) Put("filler", std::string(500, 'f'));
  }
  void Maintain() const { REQUIRE(broker.Maintain(absl::Seconds(60)).ok()); }
  int Records() const {
    PartitionReader reader = log.Read(log.start_offset()).value();
    int records = 0;
    for ([[maybe_unused]] const RecordView& record : reader) ++records;
    CHECK(reader.status().ok());
    CHECK(reader.gaps().empty());
    return records;
  }

  TempDir dir;
  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  Broker broker;
  Partition log;
};

Table ReadPlainly(const Partition& log) {
  Table table;
  PartitionReader reader = log.Read(log.start_offset()).value();
  for (const RecordView& record : reader) {
    const std::string key(record.key().value());
    if (record.is_tombstone()) {
      table.erase(key);
    } else {
      table[key] = std::string(record.value().value());
    }
  }
  REQUIRE(reader.status().ok());
  CHECK(reader.gaps().empty());
  return table;
}

Table ReadView(const TableView& view) {
  Table table;
  REQUIRE(view.ForEach([&](const RecordView& record) {
                table[std::string(record.key().value())] = std::string(record.value().value());
              })
              .ok());
  return table;
}

TEST_CASE(
    "Compaction: the changes of a repository end in its tree, through a view and by reading") {
  const World world({.delete_retention = absl::ZeroDuration(), .dirty_ratio_min = 0.1});
  const TableView early = TableView::Open(world.broker, "table").value();
  int sent = 0;
  for (const GitChange& change : testing::GitChanges(kData)) {
    REQUIRE(world.log
                .Append({.key = change.path,
                         .value = change.file ? Bytes(*change.file) : Bytes(nullptr),
                         .timestamp = absl::FromUnixMillis(change.time_ms)})
                .ok());
    if (++sent % 1000 == 0) world.Maintain();
  }
  world.Roll();
  world.Delete("filler");
  for (int i = 0; i < 3; ++i) world.Maintain();
  const Table tree = testing::GitTree(kData);
  CHECK(tree.size() == 741);
  CHECK((ReadPlainly(world.log) == tree));
  CHECK((ReadView(TableView::Open(world.broker, "table").value()) == tree));
  CHECK((ReadView(early) == tree));  // from before, through every compaction
  CHECK(world.Records() < 2000);     // of 12,433
}

TEST_CASE("Compaction: Maintain does it for topics that compact, and for no others") {
  const World world;
  const Partition other =
      world.broker.CreateTopic("other", {.segment_bytes = 16 << 10}).value().partition(0);
  for (int i = 0; i < 200; ++i) {
    world.Put("key", std::string(500, 'v'));
    REQUIRE(other.Append({.key = "key", .value = std::string(500, 'v')}).ok());
  }
  world.Maintain();
  CHECK(world.Records() < 40);
  CHECK(world.log.end_offset() == 200);
  PartitionReader reader = other.Read(0).value();
  int records = 0;
  for ([[maybe_unused]] const RecordView& record : reader) ++records;
  CHECK(records == 200);
}

TEST_CASE("Compaction: in many short steps it comes to the same end") {
  const World world;
  for (int i = 0; i < 500; ++i) world.Put("key" + std::to_string(i % 10), std::string(500, 'v'));
  for (int i = 0; i < 1000; ++i) REQUIRE(world.broker.Maintain(absl::Microseconds(1)).ok());
  CHECK(world.Records() < 10 + 40);
}

TEST_CASE("Compaction: the background thread does it while others write and read") {
  const World world({}, true);
  std::atomic<bool> appended{true};
  std::jthread writer([&](const std::stop_token& stop) {
    for (int i = 0; !stop.stop_requested(); ++i) {
      const std::string key = std::to_string(i % 50);
      if (!world.log.Append({.key = key, .value = std::to_string(i)}).ok()) appended = false;
    }
  });
  const TableView view = TableView::Open(world.broker, "table").value();
  bool described = false;
  while (!described || ReadPlainly(world.log).size() < 50 ||
         world.Records() == world.log.end_offset() - world.log.start_offset()) {
    CHECK(view.Size().value() <= 50);
    const auto plan = world.broker.DescribeCompaction({"table", 0});
    // The thread may replace what a dry run is about to read.
    REQUIRE((plan.ok() || absl::IsAborted(plan.status())));
    described = described || (plan.ok() && !plan->segments.empty());
  }
  writer.request_stop();
  writer.join();
  CHECK(appended);
  CHECK(ReadPlainly(world.log).size() == 50);
  CHECK((ReadPlainly(world.log) == ReadView(view)));
}

TEST_CASE("Compaction: a view that had not read a deletion hears of it all the same") {
  const World world({.delete_retention = absl::ZeroDuration(), .dirty_ratio_min = 0});
  world.Put("gone", "v");
  world.Put("stays", "v");
  const TableView view = TableView::Open(world.broker, "table").value();
  REQUIRE(view.Get("gone").value().has_value());
  world.Delete("gone");
  for (int pass = 0; pass < 3; ++pass) {
    world.Roll();
    world.Maintain();
  }
  bool seen = false;
  PartitionReader reader = world.log.Read(world.log.start_offset()).value();
  for (const RecordView& record : reader) seen = seen || record.key() == "gone";
  CHECK(!seen);  // neither the record nor its tombstone
  CHECK(!view.Get("gone").value().has_value());
  CHECK(view.Get("stays").value().has_value());
}

TEST_CASE("Compaction: what is overdue is closed and compacted, though its segment is not full") {
  const World world({.compaction_lag_max = absl::Hours(1), .dirty_ratio_min = 1});
  for (int i = 0; i < 10; ++i) world.Put("key", "v");
  world.Maintain();
  CHECK(world.Records() == 10);
  world.disk->Advance(absl::Hours(2));
  world.Maintain();
  world.Maintain();
  CHECK(world.Records() == 1);
}

TEST_CASE("Compaction: together with deletion, what is old goes whole") {
  const World world({.retention_age = absl::Hours(1), .cleanup = CleanupPolicy::kCompactAndDelete});
  for (int i = 0; i < 100; ++i) world.Put("key", std::string(500, 'v'));
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  CHECK(world.Records() < 40);
  world.disk->Advance(absl::Hours(2));
  world.Maintain();
  CHECK(world.log.start_offset() == 100);
}

TEST_CASE("Compaction: a topic that is altered to compact does from then on") {
  const World world;
  const Partition log =
      world.broker.CreateTopic("plain", {.segment_bytes = 16 << 10}).value().partition(0);
  for (int i = 0; i < 100; ++i) {
    REQUIRE(log.Append({.key = "key", .value = std::string(500, 'v')}).ok());
  }
  REQUIRE(world.broker.AlterTopic("plain", {{"cleanup.policy", "compact"}}).ok());
  world.Maintain();
  PartitionReader reader = log.Read(0).value();
  int records = 0;
  for ([[maybe_unused]] const RecordView& record : reader) ++records;
  CHECK(records < 40);
  CHECK(absl::IsInvalidArgument(log.Append({.value = "no key"}).status()));
}

}  // namespace
}  // namespace cordwood
