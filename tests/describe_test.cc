// What a broker says of its topics, of its groups, and of all that it has.

#include "cordwood/describe.h"

#include <filesystem>
#include <string>
#include <vector>

#include "cordwood/consumer.h"
#include "cordwood/share_consumer.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/files.h"
#include "tests/support/says.h"

namespace cordwood {
namespace {

using namespace testing;

const TopicConfig kSmallSegments = {.partitions = 2, .segment_bytes = 4096};
constexpr int kRecords = 200;

// Two hundred records in partition 0, stamped a second apart, and none in partition 1.
struct World {
  World() {
    topic = broker.CreateTopic("t", kSmallSegments).value();
    for (int i = 0; i < kRecords; ++i) {
      REQUIRE(topic.partition(0).Append({.value = "x", .timestamp = Stamp(i)}).ok());
    }
  }
  static absl::Time Stamp(int i) { return absl::FromUnixSeconds(1'000'000'000 + i); }
  TopicDescription Describe() const { return broker.DescribeTopic("t").value(); }

  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Topic topic;
};

std::string SourceOf(const TopicDescription& topic, std::string_view name) {
  for (const ConfigEntry& entry : topic.settings) {
    if (entry.name == name) {
      return entry.value + (entry.source == ConfigEntry::Source::kSet ? " (set)" : " (default)");
    }
  }
  return "none";
}

}  // namespace

// ---- Topics

TEST_CASE("DescribeTopic: segments stand for all offsets, and their bytes are the topic's") {
  const World world;
  const TopicDescription topic = world.Describe();
  REQUIRE(topic.by_number.size() == 2);
  const PartitionDescription& full = topic.by_number[0];
  REQUIRE(full.segments.size() > 2);
  Offset next = 0;
  std::int64_t bytes = 0;
  for (const SegmentDescription& segment : full.segments) {
    CHECK(segment.base == next);
    CHECK(segment.damage.empty());
    CHECK(segment.is_active == (&segment == &full.segments.back()));
    CHECK(segment.largest_timestamp == World::Stamp(static_cast<int>(segment.next) - 1));
    CHECK(std::filesystem::file_size(world.dir / "data" / segment.file) >=
          static_cast<std::uintmax_t>(segment.bytes));
    next = segment.next;
    bytes += segment.bytes;
  }
  CHECK(next == kRecords);
  CHECK(full.bytes == bytes);
  CHECK(topic.bytes == bytes + topic.by_number[1].bytes);
  CHECK(topic.records == kRecords);
  CHECK(topic.id == world.topic.id());
}

TEST_CASE("DescribeTopic: a partition's watermarks and the times of its ends") {
  const World world;
  const Partition log = world.topic.partition(0);
  REQUIRE(log.Flush().ok());
  REQUIRE(log.Trim(50).ok());
  Append(world.topic, 0, "not durable");
  const PartitionDescription p = world.Describe().by_number[0];
  CHECK(p.start == 50);
  CHECK(p.end == kRecords + 1);
  CHECK(p.durable == kRecords);
  CHECK(p.first_timestamp == World::Stamp(50));
  CHECK(p.last_timestamp > World::Stamp(kRecords));
  CHECK(p.failure.empty());
}

TEST_CASE("DescribeTopic: an empty partition has a segment and no times") {
  const World world;
  const PartitionDescription empty = world.Describe().by_number[1];
  CHECK(empty.end == 0);
  REQUIRE(empty.segments.size() == 1);
  CHECK(empty.segments[0].is_active);
  CHECK(empty.first_timestamp == absl::InfinitePast());
  CHECK(empty.last_timestamp == absl::InfinitePast());
  CHECK(empty.segments[0].largest_timestamp == absl::InfinitePast());
}

TEST_CASE("DescribeTopic: a setting is set where it differs from the default") {
  const World world;
  CHECK(SourceOf(world.Describe(), "segment.bytes") == "4096 (set)");
  CHECK(SourceOf(world.Describe(), "retention.ms") == "604800000 (default)");
  REQUIRE(world.broker.AlterTopic("t", {{"retention.ms", "1000"}}).ok());
  CHECK(SourceOf(world.Describe(), "retention.ms") == "1000 (set)");
  CHECK(world.Describe().settings.size() == TopicConfig().ToProperties().size());
}

TEST_CASE("DescribeTopic: one that is open read-only says the same") {
  const World world;
  REQUIRE(world.topic.partition(0).Flush().ok());
  const Broker reader =
      Broker::Open(world.dir / "data", {.read_only = true, .background_threads = false}).value();
  const TopicDescription theirs = reader.DescribeTopic("t").value();
  const TopicDescription ours = world.Describe();
  CHECK(theirs.bytes == ours.bytes);
  CHECK(theirs.settings == ours.settings);
  REQUIRE(theirs.by_number[0].segments.size() == ours.by_number[0].segments.size());
  for (std::size_t i = 0; i < ours.by_number[0].segments.size(); ++i) {
    CHECK(theirs.by_number[0].segments[i].next == ours.by_number[0].segments[i].next);
  }
  CHECK(theirs.by_number[0].last_timestamp == ours.by_number[0].last_timestamp);
}

TEST_CASE("DescribeTopic: a segment whose header is damaged is named, and the others are there") {
  TempDir dir;
  std::string damaged;
  std::size_t count = 0;
  {
    const Broker broker = OpenQuiet(dir / "data");
    const Topic topic = broker.CreateTopic("t", kSmallSegments).value();
    for (int i = 0; i < kRecords; ++i) Append(topic, 0, "x");
    const auto segments = broker.DescribeTopic("t").value().by_number[0].segments;
    damaged = segments[1].file;
    count = segments.size();
  }
  std::string bytes = ReadAll(dir / "data" / damaged);
  bytes[40] = static_cast<char>(bytes[40] ^ 1);
  WriteAll(dir / "data" / damaged, bytes);

  const Broker broker = OpenQuiet(dir / "data");
  const auto segments = broker.DescribeTopic("t").value().by_number[0].segments;
  REQUIRE(segments.size() >= count);
  CHECK(segments[0].damage.empty());
  CHECK(segments[1].file == damaged);
  CHECK(segments[1].damage.find(damaged) != std::string::npos);
  CHECK(segments[1].next == segments[2].base);
}

// ---- Groups

TEST_CASE("DescribeGroup: the lag in records, bytes and time, of each partition and of all") {
  const World world;
  Consumer consumer = world.broker.NewConsumer({.group = "g"}).value();
  REQUIRE(consumer.Subscribe({"t"}).ok());
  REQUIRE(consumer.Poll(absl::Seconds(10)).ok());
  REQUIRE(consumer.Commit({{{"t", 0}, kRecords - 5}}).ok());
  const GroupDescription group = world.broker.DescribeGroup("g").value();
  REQUIRE(group.partitions.size() == 2);
  constexpr std::int64_t kFrameBytes = 56;
  CHECK(group.partitions[0].lag_bytes == 5 * kFrameBytes);
  CHECK(group.partitions[1].lag_bytes == 0);
  CHECK(group.name == "g");
  CHECK(group.lag == 5);
  CHECK(group.lag_bytes == 5 * kFrameBytes);
  CHECK(group.lag_age == group.partitions[0].lag_age);
  CHECK(group.lag_age > absl::Hours(24));
}

TEST_CASE("DescribeGroup: of one that shares, what is held, waits and is done with") {
  TempDir dir;
  const Broker broker = OpenQuiet(dir / "data");
  const Topic topic = broker.CreateTopic("t").value();
  for (int i = 0; i < 5; ++i) Append(topic, 0, "x");
  ShareConsumer worker = broker.NewShareConsumer({.group = "g"}).value();
  REQUIRE(worker.Subscribe({"t"}).ok());
  const AcquiredBatch batch = worker.Acquire(absl::Seconds(10)).value();
  REQUIRE(batch.size() == 5);
  auto record = batch.begin();
  REQUIRE(worker.Acknowledge(*++record, AckType::kAccept).ok());
  REQUIRE(worker.Acknowledge(*++record, AckType::kRelease).ok());
  // Whoever looks only sees the same.
  const Broker reader =
      Broker::Open(dir / "data", {.read_only = true, .background_threads = false}).value();
  for (const Broker& from : {broker, reader}) {
    const GroupDescription group = from.DescribeGroup("g").value();
    CHECK(group.is_shared);
    CHECK(group.state == "Stable");
    CHECK(group.lag == 5);
    CHECK(group.partitions.at(0).shared == ShareProgress{.held = 3, .waiting = 1, .done = 1});
  }
  REQUIRE(worker.Close().ok());
  const GroupDescription closed = reader.DescribeGroup("g").value();
  CHECK(closed.is_shared);
  CHECK(closed.state == "Empty");
  CHECK(closed.partitions.at(0).shared == ShareProgress{.held = 0, .waiting = 4, .done = 1});
}

TEST_CASE("DescribeGroup: a damaged share file is as none, and costs nothing else") {
  TempDir dir;
  std::filesystem::path file = dir / "data/groups/g";
  {
    const Broker broker = OpenQuiet(dir / "data");
    const Topic topic = broker.CreateTopic("t").value();
    Append(topic, 0, "x");
    file /= "share-" + topic.id() + "-0";
    ShareConsumer worker = broker.NewShareConsumer({.group = "g"}).value();
    REQUIRE(worker.Subscribe({"t"}).ok());
    REQUIRE(worker.Acquire(absl::Seconds(10)).ok());
  }
  std::string bytes = ReadAll(file);
  SECTION("in its header") { bytes[16] = static_cast<char>(bytes[16] ^ 1); }
  SECTION("cut off") { bytes.resize(100); }
  WriteAll(file, bytes);
  const Broker reader =
      Broker::Open(dir / "data", {.read_only = true, .background_threads = false}).value();
  const GroupDescription group = reader.DescribeGroup("g").value();
  CHECK(!group.is_shared);
  CHECK(!group.partitions.at(0).shared);
  CHECK(group.lag == 1);
}

// ---- All of it

TEST_CASE("DescribeBroker: topics, groups, sums, and the disk") {
  World world;
  REQUIRE(world.broker.CreateTopic("u").ok());
  {
    Consumer consumer = world.broker.NewConsumer({.group = "g"}).value();
    REQUIRE(consumer.Subscribe({"t"}).ok());
  }
  const BrokerDescription broker = world.broker.DescribeBroker().value();
  REQUIRE(broker.topics.size() == 2);
  CHECK(broker.topics[0].name == "t");
  CHECK(broker.topics[1].name == "u");
  CHECK(broker.partitions == 3);
  CHECK(broker.records == kRecords);
  CHECK(broker.bytes == broker.topics[0].bytes + broker.topics[1].bytes);
  REQUIRE(broker.groups.size() == 1);
  CHECK(broker.groups[0].name == "g");
  CHECK(broker.disk.free_bytes > 0);
  CHECK(broker.failed_topics.empty());
}

TEST_CASE("DescribeBroker: a topic that is damaged is named with the reason") {
  TempDir dir;
  {
    const Broker broker = OpenQuiet(dir / "data");
    REQUIRE(broker.CreateTopic("good").ok());
    REQUIRE(broker.CreateTopic("bad").ok());
  }
  WriteAll(dir / "data/topics/bad/config", "nonsense");
  const Broker broker =
      Broker::Open(dir / "data", {.read_only = true, .background_threads = false}).value();
  const BrokerDescription description = broker.DescribeBroker().value();
  REQUIRE(description.topics.size() == 1);
  CHECK(description.topics[0].name == "good");
  REQUIRE(description.failed_topics.size() == 1);
  CHECK(description.failed_topics[0].name == "bad");
  CHECK(Says(description.failed_topics[0].status, "topics/bad/config"));
}

}  // namespace cordwood
