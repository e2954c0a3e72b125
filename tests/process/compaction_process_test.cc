// A process that compacts, killed again and again, beside one that writes and reads.

#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/cordwood.h"
#include "cordwood/log/compaction.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/child.h"
#include "tests/support/compaction_fixture.h"
#include "tests/support/git_changes.h"
#include "tests/support/temp_dir.h"

namespace cordwood::compaction_process_test {
namespace {

using testing::Child;
using testing::GitChange;
using testing::OpenQuiet;
using testing::Table;
using testing::TempDir;

const std::filesystem::path kData = std::filesystem::path(CORDWOOD_SOURCE_FOLDER) / "tests/data";

std::shared_ptr<log::Log> LogOf(const Partition& partition) {
  return internal::LogOf(partition)->shared_from_this();
}

// Waits for a word, then compacts until it is killed. Tombstones have no grace time.
void CompactForEver(const std::filesystem::path& path, Child& parent) {
  parent.Wait();
  const Broker broker = OpenQuiet(path);
  const Partition partition = broker.OpenTopic("t").value().partition(0);
  log::CompactionSettings settings = testing::Always(16 << 10);
  settings.delete_retention_ns = 0;
  settings.key_map_bytes = 8 << 10;  // several passes
  parent.Tell(1);
  for (;;) testing::TryCompact(LogOf(partition), settings).IgnoreError();
}

// Again, if a deletion was compacted away before the reader got there: it is told of that.
Table Read(const Partition& partition, bool& well) {
  PartitionReader reader = partition.Read(partition.start_offset()).value();
  Table table;
  Offset next = 0;
  for (const RecordView& record : reader) {
    well &= record.offset() >= next;
    next = record.offset() + 1;
    if (record.value()) {
      table[std::string(*record.key())] = *record.value();
    } else {
      table.erase(std::string(*record.key()));
    }
  }
  well &= reader.status().ok();
  bool is_overtaken = false;
  for (const Gap& gap : reader.gaps()) {
    well &= gap.reason == GapReason::kTombstones;
    is_overtaken = true;
  }
  return is_overtaken ? Read(partition, well) : table;
}

void Append(const Partition& partition, const GitChange& change) {
  Record record = {.key = change.path, .timestamp = absl::FromUnixMillis(change.time_ms)};
  if (change.file) record.value = *change.file;
  REQUIRE(partition.Append(record).ok());
}

TEST_CASE("Compaction: killed at any moment, a replay of a repository gives its tree") {
  const TempDir dir;
  const std::filesystem::path path = dir / "log";
  constexpr int kKills = 60;
  std::vector<std::unique_ptr<Child>> children;
  for (int i = 0; i < kKills; ++i) {
    children.push_back(
        std::make_unique<Child>([&](Child& parent) { CompactForEver(path, parent); }));
  }
  Broker broker = OpenQuiet(path);
  Partition partition =
      broker.CreateTopic("t", {.segment_bytes = 16 << 10, .cleanup = CleanupPolicy::kCompact})
          .value()
          .partition(0);
  const std::vector<GitChange> changes = testing::GitChanges(kData);
  REQUIRE(changes.size() == 12'433);

  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::size_t sent = 0;
  Table expected;
  int wrong = 0;
  bool well = true;
  for (int i = 0; i < kKills; ++i) {
    children[static_cast<std::size_t>(i)]->Tell(1);
    REQUIRE(children[static_cast<std::size_t>(i)]->Wait() == 1);
    // Written and read while the child compacts.
    const std::size_t until = changes.size() * static_cast<std::size_t>(i + 1) / kKills;
    for (; sent < until; ++sent) {
      const GitChange& change = changes[sent];
      Append(partition, change);
      if (change.file) {
        expected[change.path] = *change.file;
      } else {
        expected.erase(change.path);
      }
      if (sent % 50 == 0) REQUIRE(partition.Flush().ok());
    }
    REQUIRE(partition.Flush().ok());
    wrong += Read(partition, well) != expected;
    absl::SleepFor(absl::Microseconds(random() % 5000));  // the moment of the kill
    children[static_cast<std::size_t>(i)]->Kill();
    wrong += Read(partition, well) != expected;
    if (i % 10 == 9) {  // all are gone: the next one is the first opener
      partition = Partition();
      broker = Broker();
      broker = OpenQuiet(path);
      partition = broker.OpenTopic("t").value().partition(0);
      wrong += Read(partition, well) != expected;
    }
  }
  CHECK(wrong == 0);
  CHECK(well);
  const std::int64_t end = partition.end_offset();
  CHECK(end == static_cast<std::int64_t>(changes.size()));
  REQUIRE(testing::TryCompact(LogOf(partition), testing::Always(16 << 10)).ok());
  CHECK(Read(partition, well) == testing::GitTree(kData));
  CHECK(expected.size() == 741);
}

}  // namespace
}  // namespace cordwood::compaction_process_test
