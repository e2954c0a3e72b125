// Retention and bounded backlogs as a program sees them: topics, groups, Maintain.

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using testing::FailingStorage;
using testing::TempDir;

// A directory whose clock the test moves.
struct World {
  explicit World(const TopicConfig& config = {})
      : broker(Broker::Open(dir.path() / "data", Options()).value()),
        topic(broker.CreateTopic("events", config).value()),
        log(topic.partition(0)) {}

  BrokerOptions Options() const {
    return {
        .flush_interval = absl::InfiniteDuration(), .background_threads = false, .storage = disk};
  }
  void Append(int records, std::size_t bytes = 100) const {
    for (int i = 0; i < records; ++i) REQUIRE(log.Append({.value = std::string(bytes, 'v')}).ok());
  }
  void Days(int days) const { disk->Advance(absl::Hours(24 * days)); }
  void Maintain() const { REQUIRE(broker.Maintain(absl::Seconds(30)).ok()); }
  void Commit(Offset next, const std::string& group = "uplink") const {
    Consumer consumer = broker.NewConsumer({.group = group}).value();
    REQUIRE(consumer.Assign({{"events", 0}}).ok());
    REQUIRE(consumer.Commit({{{"events", 0}, next}}).ok());
  }
  std::vector<std::filesystem::path> Files() const {
    std::vector<std::filesystem::path> files;
    for (const auto& entry :
         std::filesystem::directory_iterator(dir.path() / "data/topics/events/0")) {
      if (entry.path().extension() == ".log" && entry.path().filename().string()[0] != '.') {
        files.push_back(entry.path());
      }
    }
    return files;
  }

  TempDir dir;
  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  Broker broker;
  Topic topic;
  Partition log;
};

TEST_CASE("Retention: ten thousand records of 1995 stay for seven days from their append") {
  const World world;
  const absl::Time of_1995 = absl::FromCivil(absl::CivilDay(1995, 8, 1), absl::UTCTimeZone());
  for (int i = 0; i < 10'000; ++i) {
    REQUIRE(world.log.Append({.value = "GET /", .timestamp = of_1995}).ok());
  }
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  world.Days(6);
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  PartitionReader reader = world.log.Read(0).value();
  int records = 0;
  for (const RecordView& record : reader) records += record.timestamp() == of_1995;
  CHECK(records == 10'000);
  world.Days(2);
  world.Maintain();
  CHECK(world.log.start_offset() == 10'000);
  CHECK(world.log.end_offset() == 10'000);
  CHECK(world.log.Append({.value = "next"}).value() == 10'000);  // never used again
}

TEST_CASE(
    "Retention: the files are gone after the start has moved, and stay gone after a power cut") {
  World world({.segment_bytes = 4096, .retention_bytes = 8192});
  world.Append(200);
  world.Maintain();
  const Offset start = world.log.start_offset();
  CHECK(start > 0);
  CHECK(world.Files().size() <= 4);
  const Offset end = world.log.end_offset();
  REQUIRE(world.log.Flush().ok());
  world.log = {};
  world.topic = {};
  REQUIRE(world.broker.Close().ok());
  world.broker = {};
  world.disk->PowerCut();
  world.broker = Broker::Open(world.dir.path() / "data", world.Options()).value();
  const Partition again = world.broker.OpenTopic("events").value().partition(0);
  CHECK(again.start_offset() == start);
  CHECK(again.end_offset() >= end);
}

TEST_CASE("Retention: a clock that is set ahead removes nothing, and keeps nothing for ever") {
  const World world;
  world.Append(10);
  world.Maintain();
  world.disk->SetClock(absl::Hours(365 * 24));
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  world.Days(6);
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  SECTION("it stays so") {}
  SECTION("it is set right again") { world.disk->SetClock(-absl::Hours(365 * 24)); }
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  world.Days(8);
  world.Maintain();
  CHECK(world.log.start_offset() == 10);
}

TEST_CASE("Retention: a clock that is set back keeps nothing for ever") {
  const World world;
  world.Append(10);
  world.Maintain();
  world.disk->SetClock(-absl::Hours(365 * 24));
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  world.Days(8);
  world.Maintain();
  CHECK(world.log.start_offset() == 10);
}

TEST_CASE("Retention: by bytes the directory stays within its bound without anybody's Maintain") {
  const World world({.segment_bytes = 64 << 10, .retention_bytes = 512 << 10});
  std::uintmax_t most = 0;
  for (int i = 0; i < 20'000; ++i) {
    world.Append(1, 400);
    if (i % 100 != 0) continue;
    std::uintmax_t bytes = 0;
    for (const auto& file : world.Files()) bytes += std::filesystem::file_size(file);
    most = std::max(most, bytes);
  }
  CHECK(most <= (512 << 10) + 2 * (64 << 10));
  CHECK(world.log.start_offset() > 10'000);
}

TEST_CASE("Retention: by records") {
  const World world({.segment_bytes = 4096, .retention_records = 50});
  world.Append(500);
  world.Maintain();
  CHECK(world.log.end_offset() - world.log.start_offset() >= 50);
  CHECK(world.log.end_offset() - world.log.start_offset() < 50 + 30);  // less than a segment more
}

TEST_CASE("Retention: a reader whose records have gone gets a gap that says so") {
  const World world({.segment_bytes = 4096, .retention_bytes = 8192});
  world.Append(10);
  Consumer consumer = world.broker.NewConsumer().value();
  REQUIRE(consumer.Assign({{"events", 0}}).ok());
  REQUIRE(consumer.Poll(absl::Seconds(5)).value().size() == 10);
  world.Append(500);
  world.Maintain();
  const RecordBatch batch = consumer.Poll(absl::Seconds(5)).value();
  REQUIRE(batch.gaps().size() == 1);
  CHECK(batch.gaps()[0].reason == GapReason::kRetention);
  CHECK(batch.gaps()[0].from == 10);
  CHECK(batch.gaps()[0].to == world.log.start_offset());
}

TEST_CASE("Retention: what a named group has not committed stays, whatever age and bytes say") {
  const World world({.segment_bytes = 4096,
                     .retention_age = absl::Hours(1),
                     .retention_bytes = 4096,
                     .retain_for_groups = {"uplink", "audit"}});
  world.Append(500);
  world.Days(1);
  world.Maintain();
  CHECK(world.log.start_offset() == 0);  // neither has committed anything
  world.Commit(500, "uplink");
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  world.Commit(300, "audit");
  world.Maintain();
  CHECK(world.log.start_offset() > 250);
  CHECK(world.log.start_offset() <= 300);
}

TEST_CASE("Retention: a commit that a power cut can take lets nothing go") {
  const World world(
      {.segment_bytes = 4096, .retention_bytes = 8192, .retain_for_groups = {"uplink"}});
  world.Append(500);
  world.Commit(500);  // in memory, so far
  world.Append(500);  // over many rolls, each of which asks for retention
  CHECK(world.log.start_offset() == 0);
  world.Maintain();  // and now it is durable
  CHECK(world.log.start_offset() > 400);
}

TEST_CASE("Retention: a segment whose header is damaged goes no earlier than the next") {
  const World world({.segment_bytes = 4096});
  world.Append(100);
  REQUIRE(world.log.Flush().ok());
  {
    std::fstream file(world.dir.path() / "data/topics/events/0/00000000000000000000.log",
                      std::ios::in | std::ios::out | std::ios::binary);
    file << "not a segment's";
  }
  const Broker other = Broker::Open(world.dir.path() / "data", world.Options()).value();
  REQUIRE(other.Maintain(absl::Seconds(30)).ok());
  CHECK(world.log.start_offset() == 0);
  world.Days(8);
  REQUIRE(other.Maintain(absl::Seconds(30)).ok());
  CHECK(world.log.start_offset() == 100);
}

TEST_CASE("Retention: what groups hold has a limit of its own") {
  const World world({.segment_bytes = 4096,
                     .retention_age = absl::Hours(1),
                     .retain_for_groups = {"uplink"},
                     .retain_for_groups_bytes = 20'000});
  world.Append(1000);
  world.Days(1);
  world.Maintain();
  CHECK(world.log.start_offset() > 800);
  CHECK(world.log.start_offset() < 1000);
}

TEST_CASE("Retention: by the records' clock a timestamp far ahead is refused") {
  const World world({.retention_clock = RetentionClock::kRecord});
  const absl::Time now = absl::Now();
  CHECK(world.log.Append({.value = "v", .timestamp = now + absl::Minutes(59)}).ok());
  const absl::Status far =
      world.log.Append({.value = "v", .timestamp = now + absl::Minutes(61)}).status();
  CHECK(absl::IsInvalidArgument(far));
  const std::vector<Record> batch = {{.value = "v"},
                                     {.value = "v", .timestamp = now + absl::Hours(9)}};
  CHECK(absl::IsInvalidArgument(world.log.AppendBatch(batch).status()));
  CHECK(world.log.end_offset() == 1);
}

TEST_CASE(
    "Retention: a process that is at it, or has stopped there, holds up no append and no other "
    "topic") {
  const World world({.segment_bytes = 4096, .retention_bytes = 8192});
  const Partition other =
      world.broker.CreateTopic("other", {.segment_bytes = 4096, .retention_bytes = 8192})
          .value()
          .partition(0);
  // As another process would, in the middle of it.
  const auto folder = world.disk->OpenFolder(world.dir.path() / "data", {}).value();
  const auto control = folder->OpenFile("topics/events/control", os::OpenMode::kReadWrite).value();
  REQUIRE(control->TryLock(os::LockKind::kExclusive, std::uint64_t{1} << 40).value());
  world.Append(500);
  for (int i = 0; i < 500; ++i) REQUIRE(other.Append({.value = std::string(100, 'o')}).ok());
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  CHECK(other.start_offset() > 0);
  REQUIRE(control->Unlock(std::uint64_t{1} << 40).ok());
  world.Maintain();
  CHECK(world.log.start_offset() > 0);
}

TEST_CASE("Retention: changed on a live topic, it holds from the next maintenance on") {
  const World world({.segment_bytes = 4096});
  world.Append(500);
  world.Maintain();
  CHECK(world.log.start_offset() == 0);
  REQUIRE(world.broker.AlterTopic("events", {{"retention.bytes", "8192"}}).ok());
  world.Maintain();
  CHECK(world.log.start_offset() > 400);
  const Offset start = world.log.start_offset();
  REQUIRE(world.broker.AlterTopic("events", {{"retention.bytes", "-1"}}).ok());
  world.Append(500);
  world.Maintain();
  CHECK(world.log.start_offset() == start);
}

// ---- Backlogs

TopicConfig Bounded(BacklogPolicy policy, std::int64_t bytes = 64 << 10) {
  return {.segment_bytes = 16 << 10,
          .retention_age = absl::InfiniteDuration(),
          .retain_for_groups = {"uplink"},
          .backlog_bytes = bytes,
          .backlog_policy = policy};
}

// Appends until it does not go on, and says how many and why.
std::pair<int, absl::Status> Fill(const World& world, const AppendOptions& options = {}) {
  for (int records = 0; records < 100'000; ++records) {
    const absl::Status status =
        world.log.Append({.value = std::string(400, 'v')}, options).status();
    if (!status.ok()) return {records, status};
  }
  return {100'000, absl::OkStatus()};
}

TEST_CASE("Backlog: when it is full an append fails and says that it is not the disk") {
  const World world(Bounded(BacklogPolicy::kFail));
  const auto [records, status] = Fill(world);
  CHECK(absl::IsResourceExhausted(status));
  CHECK(ReasonOf(status) == Reason::kBacklogFull);
  CHECK(PartitionOf(status) == TopicPartition{"events", 0});
  // To within an index interval of 64 KiB, in frames of 448 bytes.
  CHECK(records * 448 <= 64 << 10);
  CHECK(records * 448 > (64 - 5) << 10);
  CHECK(world.log.end_offset() == records);
}

TEST_CASE("Backlog: it has room again once the slowest group has committed") {
  const World world(Bounded(BacklogPolicy::kFail));
  const int records = Fill(world).first;
  world.Commit(records, "another");
  CHECK(!world.log.Append({.value = std::string(400, 'v')}).ok());
  world.Commit(records / 2);
  const int more = Fill(world).first;
  CHECK(more >= records / 2 - 12);
  CHECK(more <= records / 2 + 12);
}

TEST_CASE("Backlog: a full disk has another reason than a full backlog") {
  const World world;
  world.disk->Fail({.op = FailingStorage::Op::kAllocate,
                    .status =
                        [] {
                          absl::Status full = absl::ResourceExhaustedError("ENOSPC");
                          full.SetPayload(os::kReasonUrl, absl::Cord(os::kDiskFull));
                          return full;
                        }(),
                    .times = FailingStorage::kAlways});
  const auto [records, status] = Fill(world);
  CHECK(absl::IsResourceExhausted(status));
  CHECK(ReasonOf(status) == Reason::kDiskFull);
  CHECK(ReasonOf(absl::ResourceExhaustedError("else")) == Reason::kOther);
}

TEST_CASE("Backlog: a value that is written in place is filled once, however often room is made") {
  const World world(Bounded(BacklogPolicy::kDropOldest));
  const std::size_t bytes = GENERATE(std::size_t{400}, std::size_t{6000});
  int filled = 0;
  for (int i = 0; i < 500; ++i) {
    REQUIRE(world.log
                .AppendInPlace(bytes, {},
                               [&](std::span<std::byte> to) {
                                 ++filled;
                                 return to.size();
                               })
                .ok());
  }
  CHECK(filled == 500);
}

TEST_CASE("Backlog: a limit that is raised on a live topic lets go on, one that is lowered holds") {
  const World world(Bounded(BacklogPolicy::kFail));
  const int records = Fill(world).first;
  REQUIRE(world.broker.AlterTopic("events", {{"backlog.bytes", "131072"}}).ok());
  const int more = Fill(world).first;
  CHECK(more > records / 2);
  world.Commit(records + more);
  REQUIRE(world.broker.AlterTopic("events", {{"backlog.bytes", "8192"}}).ok());
  CHECK(Fill(world).first < 30);
  REQUIRE(world.broker.AlterTopic("events", {{"backlog.bytes", "-1"}}).ok());
  CHECK(world.log.Append({.value = std::string(100'000, 'v')}).ok());
}

TEST_CASE("Backlog: a record larger than the whole limit is let through when nothing is owed") {
  const World world(Bounded(BacklogPolicy::kFail, 4096));
  CHECK(world.log.Append({.value = std::string(10'000, 'v')}).ok());
  CHECK(!world.log.Append({.value = "v"}).ok());
  world.Commit(1);
  CHECK(world.log.Append({.value = std::string(10'000, 'v')}).ok());
}

TEST_CASE("Backlog: a blocked append comes back at its deadline, and nothing was published") {
  const World world(Bounded(BacklogPolicy::kBlock));
  const auto [records, status] = Fill(world, {.timeout = absl::Milliseconds(50)});
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK(ReasonOf(status) == Reason::kBacklogFull);
  CHECK(!OffsetOf(status).has_value());
  CHECK(world.log.end_offset() == records);
}

TEST_CASE("Backlog: a blocked append goes on when the group commits") {
  const World world(Bounded(BacklogPolicy::kBlock));
  const int records = Fill(world, {.timeout = absl::ZeroDuration()}).first;
  Consumer uplink = world.broker.NewConsumer({.group = "uplink"}).value();
  REQUIRE(uplink.Assign({{"events", 0}}).ok());
  std::atomic<bool> done{false};
  absl::StatusOr<Offset> appended;
  std::jthread producer([&] {
    appended = world.log.Append({.value = std::string(400, 'v')}, {.timeout = absl::Seconds(60)});
    done = true;
  });
  CHECK(!done);  // nobody has committed
  REQUIRE(uplink.Commit({{{"events", 0}, records}}).ok());
  producer.join();
  CHECK(appended.value() == records);
}

TEST_CASE(
    "Backlog: several producers and one slow consumer: nothing is lost, and the limit holds") {
  const World world(Bounded(BacklogPolicy::kBlock));
  constexpr int kEach = 2000;
  std::atomic<bool> appended{true};
  std::vector<std::jthread> producers;
  for (int p = 0; p < 3; ++p) {
    producers.emplace_back([&] {
      for (int i = 0; i < kEach && appended; ++i) {
        if (!world.log.Append({.value = std::string(400, 'v')}).ok()) appended = false;
      }
    });
  }
  Consumer uplink = world.broker.NewConsumer({.group = "uplink", .max_poll_records = 50}).value();
  REQUIRE(uplink.Subscribe({"events"}).ok());
  int read = 0;
  Offset most = 0;
  while (read < 3 * kEach) {
    const Offset position = read;
    const RecordBatch batch = uplink.Poll(absl::Seconds(20)).value();
    REQUIRE(!batch.empty());
    CHECK(batch.gaps().empty());
    most = std::max(most, world.log.end_offset() - position);
    read += static_cast<int>(batch.size());
    REQUIRE(uplink.Commit().ok());
  }
  producers.clear();  // joins
  CHECK(appended);
  CHECK(read == 3 * kEach);
  CHECK(most * 448 <= (64 << 10) + 4096);
}

TEST_CASE("Backlog: with drop, records read plus lengths of gaps is what was sent") {
  const std::int64_t limit = GENERATE(std::int64_t{64} << 10, std::int64_t{6} << 10);
  World world(Bounded(BacklogPolicy::kDropOldest, limit));
  constexpr Offset kSent = 3000;
  world.Append(10);
  Consumer uplink = world.broker.NewConsumer({.group = "uplink"}).value();
  REQUIRE(uplink.Subscribe({"events"}).ok());
  Offset seen = static_cast<Offset>(uplink.Poll(absl::Seconds(5)).value().size());
  REQUIRE(uplink.Commit().ok());
  world.Append(kSent - 10, 400);  // and the consumer does nothing meanwhile
  CHECK(world.log.start_offset() > 2000);
  bool dropped = false;
  while (seen < kSent) {
    const RecordBatch batch = uplink.Poll(absl::Seconds(5)).value();
    for (const Gap& gap : batch.gaps()) {
      CHECK(gap.reason == GapReason::kDropped);
      dropped = true;
      seen += gap.to - gap.from;
    }
    seen += static_cast<Offset>(batch.size());
    REQUIRE((!batch.empty() || !batch.gaps().empty()));
  }
  CHECK(dropped);
  CHECK(seen == kSent);
}

TEST_CASE("Backlog: with drop the directory stays under the limit and two segments") {
  const World world(Bounded(BacklogPolicy::kDropOldest));
  std::uintmax_t most = 0;
  for (int i = 0; i < 5000; ++i) {
    world.Append(1, 400);
    if (i % 20 != 0) continue;
    std::uintmax_t bytes = 0;
    for (const auto& file : world.Files()) bytes += std::filesystem::file_size(file);
    most = std::max(most, bytes);
  }
  CHECK(most <= (64 << 10) + 2 * (16 << 10));
}

}  // namespace
}  // namespace cordwood
