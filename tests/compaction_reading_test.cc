// How a compacted topic is read through the public API, and written to.

#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"
#include "cordwood/log/compaction.h"
#include "cordwood/share_consumer.h"
#include "tests/catch.h"
#include "tests/support/compaction_fixture.h"
#include "tests/support/git_changes.h"
#include "tests/support/temp_dir.h"

namespace cordwood::compaction_reading_test {
namespace {

using testing::Always;
using testing::Table;
using testing::TempDir;
using Offsets = std::vector<Offset>;

// A topic of segments of 4 KiB that compacts when it is told to. Its partition 1 is empty.
class Keyed {
 public:
  explicit Keyed(CleanupPolicy cleanup = CleanupPolicy::kCompact)
      : broker_(Broker::Open(dir_.path() / "log", {.background_threads = false}).value()) {
    partition_ =
        broker_.CreateTopic("t", {.partitions = 2, .segment_bytes = 4096, .cleanup = cleanup})
            .value()
            .partition(0);
  }

  Offset Put(const std::string& key, const std::string& value, std::int64_t time_ns = 0) {
    return partition_
        .Append({.key = key, .value = value, .timestamp = absl::FromUnixNanos(time_ns)})
        .value();
  }
  Offset Delete(const std::string& key) { return partition_.Append({.key = key}).value(); }
  // Fills the segment; nothing of the filler but its last record is left by a compaction.
  void Roll() {
    const Offset base = log::ReadTail(log()->block()).base;
    while (log::ReadTail(log()->block()).base == base) Put("~", std::string(500, 'f'));
    REQUIRE(partition_.Flush().ok());
  }
  // Closed, and without a page that a reader could go by.
  void Leave() {
    REQUIRE(broker_.Close().ok());
    std::filesystem::remove(path() / "topics/t/control");
  }
  void Return() {
    broker_ = Broker::Open(path(), {.background_threads = false}).value();
    partition_ = broker_.OpenTopic("t").value().partition(0);
  }
  log::CompactionResult Compact() {
    log::CompactionSettings settings = Always();
    settings.delete_retention_ns = 0;
    return testing::Compact(log(), settings);
  }
  Offsets Read(Offset from, Direction direction = Direction::kForward) {
    PartitionReader reader = partition_.Read(from, direction).value();
    Offsets offsets;
    for (const RecordView& record : reader) offsets.push_back(record.offset());
    CHECK(reader.status().ok());
    gaps.assign(reader.gaps().begin(), reader.gaps().end());
    return offsets;
  }

  std::filesystem::path path() const { return dir_.path() / "log"; }
  Broker& broker() { return broker_; }
  Partition& operator*() { return partition_; }
  Partition* operator->() { return &partition_; }
  std::shared_ptr<log::Log> log() { return internal::LogOf(partition_)->shared_from_this(); }
  std::vector<Gap> gaps;

 private:
  TempDir dir_;
  Broker broker_;
  Partition partition_;
};

TEST_CASE("Compaction: read backward from every offset, what is left comes in reverse, no gaps") {
  Keyed topic;
  for (int i = 0; i < 6; ++i) {
    for (int k = 0; k < 9; ++k) topic.Put(absl::StrCat(k % (i + 2)), std::string(60, 'v'));
    topic.Roll();
  }
  topic.Compact();
  const Offsets all = topic.Read(0);
  CHECK(topic.gaps.empty());
  CHECK(static_cast<Offset>(all.size()) < topic->end_offset());
  for (Offset from = 0; from <= topic->end_offset(); ++from) {
    Offsets expected(all.begin(), std::lower_bound(all.begin(), all.end(), from));
    std::reverse(expected.begin(), expected.end());
    CHECK(topic.Read(from, Direction::kBackward) == expected);
    CHECK(topic.gaps.empty());
  }
}

TEST_CASE("Compaction: a segment of which nothing is left is passed over, both ways") {
  Keyed topic;
  topic.Put("a", std::string(3500, '1'));
  topic.Roll();
  const Offset kept = topic.Put("a", std::string(3500, '2'));
  topic.Roll();
  topic.Roll();
  log::CompactionSettings settings = Always();
  settings.segment_bytes = 1;  // files are not joined
  testing::Compact(topic.log(), settings);
  CHECK(topic.Read(0).front() == kept);
  CHECK(topic.Read(1).front() == kept);
  CHECK(topic.Read(topic->end_offset(), Direction::kBackward).back() == kept);
  CHECK(topic.gaps.empty());
}

TEST_CASE("Compaction: a time is found among the records that are left") {
  Keyed topic;
  topic.Put("a", "1", 10);
  topic.Put("b", "1", 20);
  topic.Roll();
  topic.Put("a", "2", 30);
  topic.Roll();
  const auto at = [&](std::int64_t ns) {
    return topic->OffsetForTime(absl::FromUnixNanos(ns)).value();
  };
  CHECK(at(10) == 0);
  topic.Compact();
  CHECK(at(10) == 1);
  CHECK(at(20) == 1);
  CHECK(topic.Read(at(21)).front() == at(30));
  CHECK(at(31) == topic->end_offset());
}

TEST_CASE("Compaction: a consumer in a hole goes on behind it, and comes to the end") {
  Keyed topic;
  for (int i = 0; i < 3; ++i) {
    topic.Put("a", absl::StrCat(i));
    topic.Roll();
  }
  topic.Compact();
  Consumer consumer = topic.broker().NewConsumer({.group = "g"}).value();
  REQUIRE(consumer.Assign({{"t", 0}}).ok());
  const Offsets all = topic.Read(0);
  for (Offset from = 0; from < topic->end_offset(); ++from) {
    REQUIRE(consumer.Seek({"t", 0}, from).ok());
    Offsets got;
    while (consumer.position({"t", 0}).value() < topic->end_offset()) {
      const RecordBatch batch = consumer.Poll(absl::ZeroDuration()).value();
      CHECK(batch.gaps().empty());
      for (const RecordView& record : batch) got.push_back(record.offset());
    }
    CHECK(got == Offsets(std::lower_bound(all.begin(), all.end(), from), all.end()));
  }
}

TEST_CASE("Compaction: a consumer below the horizon is told once, and reads what is left there") {
  Keyed topic;
  topic.Put("a", "1");
  topic.Roll();
  topic.Delete("a");
  const Offset after = topic.Put("b", "1");
  topic.Roll();
  topic.Compact();
  topic.Roll();
  topic.Compact();
  REQUIRE(topic.log()->block().tombstone_horizon == after);
  const OutOfRange policy = GENERATE(OutOfRange::kGap, OutOfRange::kError);
  Consumer consumer = topic.broker().NewConsumer({.out_of_range = policy}).value();
  REQUIRE(consumer.Assign({{"t", 0}}).ok());
  REQUIRE(consumer.Seek({"t", 0}, 1).ok());
  absl::StatusOr<RecordBatch> batch = consumer.Poll(absl::ZeroDuration());
  if (policy == OutOfRange::kError) {
    CHECK(absl::IsOutOfRange(batch.status()));
    const std::vector<TopicPartition> one = {{"t", 0}};
    REQUIRE(consumer.Resume(one).ok());
    batch = consumer.Poll(absl::ZeroDuration());
    REQUIRE(batch.ok());
    CHECK(batch->gaps().empty());
  } else {
    REQUIRE(batch.ok());
    REQUIRE(batch->gaps().size() == 1);
    CHECK(batch->gaps()[0].reason == GapReason::kTombstones);
    CHECK(batch->gaps()[0].from == 1);
    CHECK(batch->gaps()[0].to == after);
  }
  CHECK(std::count_if(batch->begin(), batch->end(),
                      [&](const RecordView& r) { return r.offset() == after; }) == 1);
  CHECK(consumer.Poll(absl::ZeroDuration()).value().gaps().empty());
}

TEST_CASE("Compaction: a group is told of missing deletions though its commit is the start now") {
  Keyed topic;
  topic.Put("a", "1");
  topic.Roll();
  topic.Delete("a");
  topic.Roll();
  const std::map<TopicPartition, Offset> read = {{{"t", 0}, 1}};
  {
    Consumer consumer = topic.broker().NewConsumer({.group = "g"}).value();
    REQUIRE(consumer.Assign({{"t", 0}}).ok());
    REQUIRE(consumer.Commit(read).ok());
  }
  REQUIRE(topic->Trim(1).ok());
  topic.Compact();
  topic.Roll();
  topic.Compact();
  Consumer consumer = topic.broker().NewConsumer({.group = "g"}).value();
  Consumer other = topic.broker().NewConsumer({}).value();
  REQUIRE(other.Assign({{"t", 0}}).ok());
  SECTION("Assign") { REQUIRE(consumer.Assign({{"t", 0}}).ok()); }
  SECTION("Assign, beside another partition that it has") {
    REQUIRE(consumer.Assign({{"t", 1}}).ok());
    REQUIRE(consumer.Assign({{"t", 0}, {"t", 1}}).ok());
  }
  SECTION("Subscribe") { REQUIRE(consumer.Subscribe({"t"}).ok()); }
  SECTION("a position of its own") {
    consumer = std::move(other);
    other = topic.broker().NewConsumer({}).value();
    REQUIRE(other.Assign({{"t", 0}}).ok());
    REQUIRE(consumer.Seek({"t", 0}, 1).ok());
  }
  const RecordBatch batch = consumer.Poll(absl::Seconds(20)).value();
  REQUIRE(batch.gaps().size() == 1);
  CHECK(batch.gaps()[0].reason == GapReason::kTombstones);
  CHECK(other.Poll(absl::Seconds(20)).value().gaps().empty());  // it has read nothing before
}

TEST_CASE("Compaction: a consumer open read-only knows what it has read when a writer comes") {
  Keyed topic;
  topic.Put("first", "1");
  topic.Roll();
  topic.Delete("a");
  topic.Roll();
  topic.Compact();
  topic.Roll();
  topic.Leave();
  const Broker reader = Broker::Open(topic.path(), {.read_only = true}).value();
  Consumer consumer = reader.NewConsumer({.max_poll_records = 1}).value();
  REQUIRE(consumer.Assign({{"t", 0}}).ok());
  REQUIRE(consumer.Poll(absl::ZeroDuration()).value().size() == 1);
  topic.Return();
  REQUIRE(topic->Trim(1).ok());
  topic.Compact();
  // It looks for a writer while it waits, and with nothing to read until it has: what it has
  // mapped holds the tombstone still.
  const std::vector<TopicPartition> all = {{"t", 0}};
  REQUIRE(consumer.Pause(all).ok());
  REQUIRE(consumer.Poll(absl::Milliseconds(100)).value().empty());
  REQUIRE(consumer.Resume(all).ok());
  std::vector<Gap> gaps;
  while (gaps.empty() && consumer.position({"t", 0}).value() < topic->end_offset()) {
    const RecordBatch batch = consumer.Poll(absl::ZeroDuration()).value();
    gaps.assign(batch.gaps().begin(), batch.gaps().end());
  }
  REQUIRE(gaps.size() == 1);
  CHECK(gaps[0].reason == GapReason::kTombstones);
}

TEST_CASE("Compaction: a share group takes what is left, and is done with the rest") {
  Keyed topic;
  ShareConsumer consumer = topic.broker().NewShareConsumer({.group = "g"}).value();
  REQUIRE(consumer.Subscribe({"t"}).ok());
  for (int i = 0; i < 3; ++i) {
    topic.Put("a", absl::StrCat(i));
    topic.Roll();
  }
  topic.Compact();
  const Offsets all = topic.Read(0);
  Offsets got;
  for (int i = 0; i < 20; ++i) {
    AcquiredBatch batch = consumer.Acquire(absl::ZeroDuration()).value();
    for (const AcquiredRecord& record : batch) {
      got.push_back(record->offset());
      REQUIRE(consumer.Acknowledge(record).ok());
    }
  }
  CHECK(got == all);
}

TEST_CASE("Compaction: a record without a key is refused in words by a topic that compacts") {
  Keyed topic;
  const auto refused = [](const absl::Status& status) {
    return absl::IsInvalidArgument(status) && absl::StrContains(status.message(), "without a key");
  };
  CHECK(refused(topic->Append({.value = "v"}).status()));
  const std::vector<Record> batch = {{.key = "k"}, {.value = "v"}};
  CHECK(refused(topic->AppendBatch(batch).status()));
  const auto fill = [](std::span<std::byte> bytes) { return bytes.size(); };
  CHECK(refused(topic->AppendInPlace(3, {}, fill).status()));
  CHECK(refused(topic->AppendInPlace(8192, {}, fill).status()));
  CHECK(topic->end_offset() == 0);
  CHECK(topic->Append({.key = ""}).ok());
  Keyed other(CleanupPolicy::kDelete);
  CHECK(other->Append({.value = "v"}).ok());
}

TEST_CASE("Compaction: a dry run says what would be won, and the pass wins just that") {
  Keyed topic;
  for (int i = 0; i < 5; ++i) {
    for (int k = 0; k < 5; ++k) topic.Put(absl::StrCat(k), std::string(100, 'v'));
    topic.Roll();
  }
  topic.Put("0", "in the active one");
  const CompactionPlan plan = topic.broker().DescribeCompaction({"t", 0}).value();
  CHECK(plan.compact);
  CHECK(plan.segments.size() == 6);
  CHECK(plan.segments.back().why_not == "it is being written to");
  CHECK(plan.bytes_after < plan.bytes);
  const std::size_t before = topic.Read(0).size();
  std::int64_t dropped = 0;
  for (const CompactionPlan::Segment& segment : plan.segments) {
    dropped += segment.records - segment.records_after;
  }
  CHECK(topic.Read(0).size() == before);
  const log::CompactionResult result = topic.Compact();
  CHECK(static_cast<std::int64_t>(result.records_dropped) == dropped);
  const CompactionPlan after = topic.broker().DescribeCompaction({"t", 0}).value();
  CHECK_FALSE(after.compact);
  CHECK(after.bytes == plan.bytes_after);
  CHECK(after.bytes_after == after.bytes);
}

TEST_CASE("Compaction: a dry run says why a segment is not eligible") {
  Keyed topic;
  topic.Put("a", "1");
  const Offset base = log::ReadTail(topic.log()->block()).base;
  while (log::ReadTail(topic.log()->block()).base == base) topic.Put("~", std::string(500, 'f'));
  const auto why = [&] {
    return topic.broker().DescribeCompaction({"t", 0}).value().segments.at(0).why_not;
  };
  CHECK(absl::StrContains(why(), "not on the disk"));
  REQUIRE(topic->Flush().ok());
  CHECK(why().empty());
}

// The replay of a repository; killed at any moment: process/compaction_process_test.
TEST_CASE("Compaction: the changes of a repository, keyed by path, leave its tree") {
  const std::filesystem::path data = std::filesystem::path(CORDWOOD_SOURCE_FOLDER) / "tests/data";
  Keyed topic;
  std::size_t sent = 0;
  for (const testing::GitChange& change : testing::GitChanges(data)) {
    Record record = {.key = change.path, .timestamp = absl::FromUnixMillis(change.time_ms)};
    if (change.file) record.value = *change.file;
    REQUIRE(topic->Append(record).ok());
    if (++sent % 1000 == 0) {
      REQUIRE(topic->Flush().ok());
      topic.Compact();
    }
  }
  topic.Roll();
  topic.Compact();
  topic.Roll();
  topic.Compact();
  Table tree;
  std::size_t records = 0;
  PartitionReader reader = topic->Read(topic->start_offset()).value();
  for (const RecordView& record : reader) {
    if (*record.key() == "~") continue;
    ++records;
    if (record.value()) tree[std::string(*record.key())] = *record.value();
  }
  CHECK(reader.gaps().empty());
  CHECK(tree == testing::GitTree(data));
  CHECK(tree.size() == 741);
  CHECK(records == 741);  // each once, and no tombstone
}

}  // namespace
}  // namespace cordwood::compaction_reading_test
