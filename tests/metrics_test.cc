// Metrics: each number moves when its event happens, and only then.

#include "cordwood/metrics.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/cordwood.h"
#include "cordwood/log/metrics.h"
#include "cordwood/testing.h"
#include "metric_families.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/failing_storage.h"
#include "tests/support/faulty_storage.h"
#include "tests/support/files.h"
#include "tests/support/log_fixture.h"
#include "tests/support/sleeper.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::FailingStorage;
using testing::FaultyStorage;
using testing::OpenQuiet;
using testing::TempDir;
using Op = FailingStorage::Op;
using Names = std::set<std::string>;

// "errors_total append DATA_LOSS": the name, without what all begin with, and the labels but for
// the topic's, the partition's and the group's.
std::map<std::string, std::string> ValuesOf(const MetricsSnapshot& metrics) {
  std::map<std::string, std::string> values;
  for (const internal::MetricFamily& family : internal::MetricFamilies(metrics)) {
    for (const internal::MetricSample& sample : family.samples) {
      std::string name = family.name.substr(std::strlen("cordwood_")) + sample.suffix;
      for (const auto& [label, value] : sample.labels) {
        const bool is_place = label == "topic" || label == "partition" || label == "group";
        if (!is_place) absl::StrAppend(&name, " ", value);
      }
      absl::StrAppend(&values[name], sample.value, " ");
    }
  }
  return values;
}

// A topic with one partition, in a directory where nothing happens by itself.
struct World {
  explicit World(const TopicConfig& config = {.segment_bytes = 4096})
      : broker(OpenQuiet(dir / "data", disk)), topic(broker.CreateTopic("t", config).value()) {}

  absl::Status Append(std::string_view value = "v", std::string_view key = "k") const {
    return log.Append({.key = key, .value = value}).status();
  }
  MetricsSnapshot Now() const { return broker.Metrics().value(); }
  MetricCounts Counts() const { return Now().counts.value(); }
  PartitionMetrics Partition0() const { return Now().partitions.at(0); }
  // The numbers that `act` moves. Which appends are timed is chance, and so is what others do to
  // the disk and the time that passes.
  Names Moved(const std::function<void()>& act) const {
    const auto before = ValuesOf(Now());
    act();
    Names moved;
    for (const auto& [name, value] : ValuesOf(Now())) {
      const bool is_chance = name.starts_with("append_duration") || name == "disk_free_bytes" ||
                             name.starts_with("sync_duration_seconds_bucket") ||
                             name == "sync_duration_seconds_sum" || name.ends_with("age_seconds") ||
                             name.ends_with("lag_seconds");
      const auto old = before.find(name);
      if (!is_chance && (old == before.end() || old->second != value)) moved.insert(name);
    }
    return moved;
  }

  TempDir dir;
  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  Broker broker;
  Topic topic;
  Partition log = topic.partition(0);
};

const Names kProduced = {"produced_records_total", "produced_bytes_total", "log_end_offset",
                         "log_size_bytes"};
Names operator+(Names names, const Names& more) {
  names.insert(more.begin(), more.end());
  return names;
}

// ---- What is read off

TEST_CASE("Metrics: an append and a batch move what is produced, and nothing else") {
  World w;
  CHECK(w.Moved([&] { REQUIRE(w.Append().ok()); }) == kProduced);
  const std::uint64_t frame = w.Partition0().produced_bytes;
  CHECK(frame > 0);
  const std::vector<Record> batch(4, Record{.key = "k", .value = "v"});
  CHECK(w.Moved([&] { REQUIRE(w.log.AppendBatch(batch).ok()); }) ==
        kProduced + Names{"produced_batches_total", "produced_batch_records_total"});
  const PartitionMetrics now = w.Partition0();
  CHECK(now.end == 5);
  CHECK(now.batches == 1);
  CHECK(now.batch_records == 4);
  CHECK(now.produced_bytes == 5 * frame);
  CHECK(w.Moved([] {}).empty());
}

TEST_CASE("Metrics: what is produced goes on over rolls, trims, reopening, and failed syncs") {
  World w;
  REQUIRE(w.Append().ok());
  const std::uint64_t frame = w.Partition0().produced_bytes;
  std::uint64_t appended = 1;
  const auto append = [&](int records) {
    for (int i = 0; i < records; ++i) REQUIRE(w.Append().ok());
    appended += static_cast<std::uint64_t>(records);
    CHECK(w.Partition0().produced_bytes == appended * frame);
  };
  for (int i = 0; i < 200; ++i) append(1);
  REQUIRE(w.log.Trim(150).ok());
  append(1);
  w.disk->Fail({.op = Op::kMapSync, .where = ".log"});
  REQUIRE(w.log.Flush().ok());  // in a fresh file
  CHECK(w.Counts().retired_files == 1);
  append(100);
  REQUIRE(w.broker.Close().ok());
  w.broker = OpenQuiet(w.dir / "data", w.disk);
  w.log = w.broker.OpenTopic("t")->partition(0);
  append(100);
  CHECK(w.Partition0().end == static_cast<Offset>(appended));
}

TEST_CASE("Metrics: lag, pins, the backlog and what is not durable are those of now") {
  World w({.retain_for_groups = {"g"}});
  for (int i = 0; i < 10; ++i) REQUIRE(w.Append().ok());
  const std::int64_t all = w.Partition0().backlog_bytes.value();
  CHECK(all == static_cast<std::int64_t>(w.Partition0().produced_bytes));
  const Names committed = w.Moved([&] {
    REQUIRE(w.broker.ResetOffsets("g", ResetTo::At(5), {.partitions = {{"t", 0}}}).ok());
  });
  CHECK(committed.contains("consumer_group_lag"));
  CHECK(committed.contains("consumer_group_committed_offset"));
  CHECK(w.Partition0().backlog_bytes == all / 2);
  CHECK(w.Now().groups.at(0).partitions.at(0).lag == 5);

  std::optional<Pin> pin = w.log.Pin(3, "test").value();
  CHECK(w.Partition0().pins == 1);
  CHECK(w.Moved([&] { pin.reset(); }) == Names{"retention_pins"});

  w.disk->Advance(absl::Seconds(90));
  REQUIRE(w.Append().ok());  // it is the first one that counts
  CHECK(w.Partition0().unsynced_age >= absl::Seconds(90));
  CHECK(w.Partition0().unsynced_age < absl::Hours(1));
  CHECK(w.Moved([&] { REQUIRE(w.log.Flush().ok()); }) ==
        Names{"log_durable_offset", "sync_duration_seconds_count"});
  CHECK(w.Partition0().unsynced_age == absl::ZeroDuration());
}

TEST_CASE("Metrics: a record of 1995 that was appended now has not been waiting since") {
  World w;
  REQUIRE(w.log.Append({.value = "v", .timestamp = absl::FromUnixSeconds(800'000'000)}).ok());
  CHECK(w.Partition0().unsynced_age < absl::Hours(1));
  w.disk->Advance(absl::Hours(2));
  CHECK(w.Partition0().unsynced_age >= absl::Hours(2));
  CHECK(w.Partition0().unsynced_age < absl::Hours(3));
}

// ---- What is counted

TEST_CASE("Metrics: rolls, trims, retention") {
  World w;
  const std::string half(1400, 'v');
  for (int i = 0; i < 2; ++i) REQUIRE(w.Append(half).ok());
  CHECK(w.Moved([&] { REQUIRE(w.Append(half).ok()); }) ==
        kProduced + Names{"segment_rolls_total", "log_segments"});
  CHECK(w.Counts().rolls == 1);

  CHECK(w.Moved([&] { REQUIRE(w.log.Trim(1).ok()); }) ==
        Names{"log_start_offset", "removed_records_total trim"});
  CHECK(w.Moved([&] { REQUIRE(w.log.Trim(2).ok()); }) ==
        Names{"log_start_offset", "log_segments", "log_size_bytes", "removed_records_total trim",
              "removed_segments_total trim", "removed_bytes_total trim"});
  CHECK(w.Counts().removed_by_trim.segments == 1);
  CHECK(w.Counts().removed_by_trim.records == 2);
  CHECK(w.Counts().removed_by_trim.bytes > 3000);

  for (int i = 0; i < 20; ++i) REQUIRE(w.Append(half).ok());
  REQUIRE(w.broker.AlterTopic("t", {{"retention.records", "4"}}).ok());
  REQUIRE(w.broker.Maintain(absl::Seconds(30)).ok());
  CHECK(w.Counts().removed_by_retention.records ==
        static_cast<std::uint64_t>(w.log.start_offset() - 2));
  CHECK(w.Counts().removed_by_retention.segments >= 8);
  CHECK(w.Counts().removed_by_backlog.segments == 0);
}

TEST_CASE("Metrics: compaction") {
  World w({.segment_bytes = 4096,
           .retention_age = absl::InfiniteDuration(),
           .cleanup = CleanupPolicy::kCompact,
           .dirty_ratio_min = 0.01});
  for (int i = 0; i < 300; ++i) REQUIRE(w.Append("v", absl::StrCat(i % 3)).ok());
  REQUIRE(w.broker.Maintain(absl::Seconds(30)).ok());
  const MetricCounts counts = w.Counts();
  CHECK(counts.compactions == 1);
  CHECK(counts.compaction_removed_records > 200);
  CHECK(counts.compaction_read_bytes > counts.compaction_written_bytes);
  CHECK(w.Moved([&] { REQUIRE(w.broker.Maintain(absl::Seconds(30)).ok()); }).empty());
}

TEST_CASE("Metrics: what consumers have read is told in time, and when they close") {
  World w;
  for (int i = 0; i < 300; ++i) REQUIRE(w.Append().ok());
  Consumer consumer = w.broker.NewConsumer({.group = "g", .max_poll_records = 1}).value();
  CHECK(w.Moved([&] { REQUIRE(consumer.Subscribe({"t"}).ok()); }).contains("rebalances_total"));
  // Together: an addition on a page of all processes is dear.
  for (int i = 0; i < 130; ++i) REQUIRE(consumer.Poll(absl::ZeroDuration())->size() == 1);
  CHECK(w.Counts().consumed_records == 128);
  CHECK(w.Counts().consumed_batches == 128);
  // Before it waits for more.
  REQUIRE(consumer.Seek({"t", 0}, 299).ok());
  REQUIRE(consumer.Poll(absl::ZeroDuration())->size() == 1);
  REQUIRE(consumer.Poll(absl::ZeroDuration())->empty());
  CHECK(w.Counts().consumed_records == 131);
  CHECK(w.Counts().consumed_bytes == 131 * (w.Partition0().produced_bytes / 300));
  REQUIRE(consumer.Seek({"t", 0}, 0).ok());
  REQUIRE(consumer.Poll(absl::ZeroDuration())->size() == 1);
  CHECK(w.Moved([&] { REQUIRE(consumer.Close().ok()); }) ==
        Names{"consumed_records_total", "consumed_bytes_total", "consumed_batches_total",
              "consumer_group_members"});
}

TEST_CASE("Metrics: what share consumers have read") {
  World w;
  for (int i = 0; i < 10; ++i) REQUIRE(w.Append().ok());
  ShareConsumer consumer = w.broker.NewShareConsumer({.group = "g"}).value();
  REQUIRE(consumer.Subscribe({"t"}).ok());
  REQUIRE(consumer.Acquire(absl::ZeroDuration())->size() == 10);
  CHECK(w.Counts().consumed_records == 10);
  CHECK(w.Counts().consumed_bytes == w.Partition0().produced_bytes);
  CHECK(w.Counts().consumed_batches == 1);
}

TEST_CASE("Metrics: one append in 1,024 is timed, whatever is in it") {
  World w(TopicConfig{});
  for (int i = 0; i < 50'000; ++i) REQUIRE(w.Append().ok());
  const LatencyHistogram timed = w.Counts().append_latency;
  // 49 are to be expected; what comes by chance is fewer than 12 or more than 120 in no lifetime.
  CHECK(timed.count() >= 12);
  CHECK(timed.count() <= 120);
  CHECK(timed.sum > absl::ZeroDuration());
  // And of batches those with one of these: of 1,024 records, each.
  const std::vector<Record> batch(1024, Record{.value = "v"});
  for (int i = 0; i < 10; ++i) REQUIRE(w.log.AppendBatch(batch).ok());
  CHECK(w.Counts().append_latency.count() == timed.count() + 10);
  CHECK(timed.Quantile(0.5) <= timed.Quantile(0.99));
}

TEST_CASE("Metrics: latencies are sorted into steps of two") {
  using log::LatencyCounters;
  CHECK(LatencyCounters::BucketOf(-1) == 0);
  CHECK(LatencyCounters::BucketOf(0) == 0);
  for (std::size_t i = 0; i + 1 < LatencyHistogram::kBuckets; ++i) {
    const std::int64_t most = absl::ToInt64Nanoseconds(LatencyHistogram::UpperBound(i));
    CHECK(LatencyCounters::BucketOf(most) == i);
    CHECK(LatencyCounters::BucketOf(most + 1) == i + 1);
  }
  CHECK(LatencyCounters::BucketOf(std::numeric_limits<std::int64_t>::max()) ==
        LatencyHistogram::kBuckets - 1);
  CHECK(LatencyHistogram::UpperBound(LatencyHistogram::kBuckets - 1) == absl::InfiniteDuration());
  LatencyHistogram histogram;
  CHECK(histogram.Quantile(0.99) == absl::ZeroDuration());
  histogram.counts[3] = 99;
  histogram.counts[7] = 1;
  CHECK(histogram.Quantile(0.99) == LatencyHistogram::UpperBound(3));
  CHECK(histogram.Quantile(1) == LatencyHistogram::UpperBound(7));
}

TEST_CASE("Metrics: errors, by what was done and why") {
  World w({.segment_bytes = 4096, .max_message_bytes = 100});
  CHECK(w.Moved([&] { CHECK(!w.Append(std::string(200, 'v')).ok()); }) ==
        Names{"errors_total append INVALID_ARGUMENT"});
  CHECK(w.Moved([&] { CHECK(!w.log.Append({.value = "v"}, {.expected_offset = 7}).ok()); }) ==
        Names{"errors_total append ABORTED"});
  for (int i = 0; i < 2; ++i) REQUIRE(w.Append().ok());
  Consumer consumer =
      w.broker.NewConsumer({.group = "g", .out_of_range = OutOfRange::kError}).value();
  REQUIRE(consumer.Assign({{"t", 0}}).ok());
  REQUIRE(w.log.Trim(1).ok());
  CHECK(w.Moved([&] { CHECK(!consumer.Poll(absl::ZeroDuration()).ok()); }) ==
        Names{"errors_total poll OUT_OF_RANGE"});
  CHECK(w.Moved([&] {
           CHECK(!consumer.Commit({{{"t", 0}, 5}}).ok());
         }).contains("errors_total commit OUT_OF_RANGE"));
  consumer.Wakeup();  // no error, nor is it one of the log that a handle is closed
  CHECK(w.Moved([&] {
           CHECK(!consumer.Poll(absl::ZeroDuration()).ok());
           CHECK(consumer.Close().ok());
           CHECK(!consumer.Poll(absl::ZeroDuration()).ok());
         }).empty());
  REQUIRE(w.Append().ok());
  w.disk->Fail({.op = Op::kMapSync, .where = ".log"});
  CHECK(w.Moved([&] { CHECK(w.log.Flush().ok()); }).contains("errors_total sync UNAVAILABLE"));
}

TEST_CASE("Metrics: a full backlog, and how long it was waited for") {
  World w({.retain_for_groups = {"g"}, .backlog_bytes = 4096});
  while (w.log.Append({.value = std::string(500, 'v')}, {.timeout = absl::Milliseconds(30)}).ok()) {
  }
  const MetricCounts counts = w.Counts();
  CHECK(counts.blocked_by_backlog.times == 1);
  CHECK(counts.blocked_by_backlog.time >= absl::Milliseconds(20));
  REQUIRE(counts.errors.size() == 1);
  CHECK(counts.errors[0].operation == "append");
  CHECK(counts.errors[0].kind == "BACKLOG_FULL");
  REQUIRE(w.broker.AlterTopic("t", {{"backlog.policy", "drop-oldest"}}).ok());
  REQUIRE(w.broker.Maintain(absl::Seconds(30)).ok());
  CHECK(w.Moved([&] {
           REQUIRE(w.Append(std::string(500, 'v')).ok());
         }).contains("removed_records_total backlog"));
  CHECK(w.Counts().blocked_by_backlog.times == 1);
}

TEST_CASE("Metrics: a writer that sleeps for its turn has been blocked") {
  testing::LogFixture log;
  const std::shared_ptr<log::Log> other = log.OpenBeside();
  os::SharedLock& lock = other->block().lock;
  log.Append("a");
  const log::MetricsPage& counts = log->context().counts();
  CHECK(counts.blocked_by_writers.times.value() == 0);
  REQUIRE(lock.TryLock(*other->context().owners));
  testing::Sleeper writer([&] { log.Append("b"); });
  while ((lock.word() & os::SharedLock::kWaiters) == 0) sched_yield();
  lock.Unlock();
  writer.Join();
  CHECK(counts.blocked_by_writers.times.value() == 1);
  CHECK(counts.blocked_by_writers.time_ns.value() > 0);
}

// ---- The page

TEST_CASE("Metrics: what two count adds up") {
  testing::TwoBrokers b;
  for (const Broker* broker : {&b.one, &b.two}) {
    const Partition log = broker->OpenTopic("t")->partition(0);
    CHECK(!log.Append({.value = "v"}, {.expected_offset = 7}).ok());
  }
  for (const Broker* broker : {&b.one, &b.two}) {
    const MetricCounts counts = broker->Metrics()->counts.value();
    CHECK(counts.is_shared);
    REQUIRE(counts.errors.size() == 1);
    CHECK(counts.errors[0].count == 2);
  }
}

TEST_CASE("Metrics: what is added at the same time is not lost") {
  constexpr std::uint64_t kEach = 3'000'000;
  const auto page = std::make_unique<log::MetricsPage>();
  std::atomic<int> ready{0};
  const auto add = [&] {
    for (ready.fetch_add(1); ready.load() < 2;) sched_yield();
    for (std::uint64_t i = 0; i < kEach; ++i) page->rolls.Add();
  };
  { const std::jthread one(add), two(add); }
  CHECK(page->rolls.value() == 2 * kEach);
}

TEST_CASE("Metrics: counts outlive the processes") {
  World w;
  CHECK(!w.Append("v", std::string(2 << 20, 'k')).ok());
  const absl::Time since = w.Counts().since;
  REQUIRE(w.broker.Close().ok());
  w.disk->Advance(absl::Hours(1));
  w.broker = OpenQuiet(w.dir / "data", w.disk);
  CHECK(w.Counts().errors.at(0).count == 1);
  CHECK(w.Counts().since == since);
}

// What was made of the file; then all works, and what is counted from then on is right.
TEST_CASE("Metrics: a page that is missing or damaged is made anew or done without") {
  World w;
  CHECK(!w.Append("v", std::string(2 << 20, 'k')).ok());
  REQUIRE(w.broker.Close().ok());
  const fs::path page = w.dir / "data/metrics";
  std::string bytes = testing::ReadAll(page);
  REQUIRE(bytes.size() == log::Metrics::kFileBytes);
  std::string what;
  bool is_shared = true;
  std::uint64_t errors = 1;  // afterwards
  SECTION("missing") { fs::remove(page); }
  SECTION("empty") { fs::resize_file(page, 0); }
  SECTION("of another version") {
    bytes[7] = '9';
    testing::WriteAll(page, bytes);
  }
  SECTION("rubbish") { testing::WriteAll(page, std::string(bytes.size(), '\xa5')); }
  SECTION("zeros") { testing::WriteAll(page, std::string(bytes.size(), '\0')); }
  SECTION("longer than it should be") {
    testing::WriteAll(page, bytes + bytes);
    errors = 2;
  }
  SECTION("a folder") {
    fs::remove(page);
    fs::create_directory(page);
    is_shared = false;
  }
  SECTION("a link that leads out") {
    testing::WriteAll(w.dir / "elsewhere", bytes);
    fs::remove(page);
    fs::create_symlink(w.dir / "elsewhere", page);
    is_shared = false;
  }
  w.broker = OpenQuiet(w.dir / "data", w.disk);
  w.log = w.broker.OpenTopic("t")->partition(0);
  CHECK(!w.Append("v", std::string(2 << 20, 'k')).ok());
  const MetricCounts counts = w.Counts();
  CHECK(counts.is_shared == is_shared);
  REQUIRE(counts.errors.size() == 1);
  CHECK(counts.errors[0].count == errors);
  CHECK(w.Append().ok());
}

TEST_CASE("Metrics: whatever numbers somebody writes into the page, they are only numbers") {
  World w;
  std::string bytes = testing::ReadAll(w.dir / "data/metrics");
  REQUIRE(bytes.size() == log::Metrics::kFileBytes);
  std::fill(bytes.begin() + 8, bytes.end(), '\xff');
  testing::WriteAll(w.dir / "data/metrics", bytes);
  CHECK(w.Counts().rolls == ~std::uint64_t{0});
  CHECK(w.Counts().errors.size() == log::kOperations * log::kErrorKinds);
  CHECK(w.Counts().blocked_by_backlog.time > absl::ZeroDuration());
  CHECK(!PrometheusText(w.Now()).empty());
  CHECK(!w.Append("v", std::string(2 << 20, 'k')).ok());
  CHECK(w.Append().ok());
}

TEST_CASE("Metrics: read-only, the page of others is seen, and nothing is changed") {
  World w;
  CHECK(!w.Append("v", std::string(2 << 20, 'k')).ok());
  const Broker reader =
      Broker::Open(w.dir / "data", {.read_only = true, .storage = w.disk}).value();
  CHECK(reader.Metrics()->counts->errors.at(0).count == 1);
  CHECK(!w.Append("v", std::string(2 << 20, 'k')).ok());
  CHECK(reader.Metrics()->counts->errors.at(0).count == 2);
  const std::string before = testing::ReadAll(w.dir / "data/metrics");
  Consumer consumer = reader.NewConsumer().value();
  REQUIRE(w.Append().ok());
  REQUIRE(consumer.Assign({{"t", 0}}).ok());
  REQUIRE(consumer.Poll(absl::ZeroDuration())->size() == 1);
  REQUIRE(consumer.Close().ok());
  CHECK(testing::ReadAll(w.dir / "data/metrics") == before);

  SECTION("there is none") { fs::remove(w.dir / "data/metrics"); }
  SECTION("it is too short") { fs::resize_file(w.dir / "data/metrics", 100); }
  const MetricsSnapshot without = reader.Metrics().value();
  CHECK(!without.counts);
  CHECK(without.partitions.at(0).end == 1);
  CHECK(PrometheusText(without).find("cordwood_rolls") == std::string::npos);
}

TEST_CASE("Metrics: an open never fails for want of the page") {
  for (int nth = 1;; ++nth) {
    TempDir dir;
    OpenQuiet(dir / "data").Close().IgnoreError();
    fs::remove(dir / "data/metrics");
    const auto storage = FaultyStorage::Over(Storage::OperatingSystem());
    storage->FailNth(nth, ENOSPC);
    const absl::StatusOr<Broker> broker =
        Broker::Open(dir / "data", {.background_threads = false, .storage = storage});
    if (!storage->was_hit()) break;
    INFO(storage->hit());
    if (storage->hit().find("metrics") == std::string::npos) continue;
    REQUIRE(broker.ok());
    CHECK(!broker->Metrics()->counts->is_shared);
    CHECK(broker->CreateTopic("t").ok());
  }
}

TEST_CASE("Metrics: recoveries, and the same numbers for the same seed") {
  const auto run = [](std::uint64_t seed) {
    testing::Machine machine(seed);
    {
      const Broker broker = machine.Open("/data").value();
      const Partition log = broker.CreateTopic("t", {.segment_bytes = 4096})->partition(0);
      for (int i = 0; i < 100; ++i) REQUIRE(log.Append({.value = absl::StrCat(i)}).ok());
      REQUIRE(log.Flush().ok());
      for (int i = 0; i < 1000; ++i) REQUIRE(log.Append({.value = absl::StrCat(i)}).ok());
    }
    const auto broker_again = machine.Open("/data");
    machine.CutPower();
    const Broker broker = machine.Open("/data").value();
    const MetricsSnapshot now = broker.Metrics().value();
    CHECK(now.counts->recovered_partitions >= 1);
    return PrometheusText(now);
  };
  for (std::uint64_t seed = 1; seed <= 3; ++seed) CHECK(run(seed) == run(seed));
}

TEST_CASE("Metrics: a killed process leaves its counts behind") {
  const int records = GENERATE(30, 50, 70);  // one, two and three rolls
  testing::Machine machine(7);
  Broker broker = machine.Open("/data").value();
  Partition log = broker.CreateTopic("t", {.segment_bytes = 4096})->partition(0);
  for (int i = 0; i < records; ++i) REQUIRE(log.Append({.value = std::string(100, 'v')}).ok());
  const std::vector<Record> batch(3, Record{.value = "v"});
  REQUIRE(log.AppendBatch(batch).ok());
  const MetricsSnapshot before = broker.Metrics().value();
  machine.KillProcess();
  broker = machine.Open("/data").value();
  const MetricsSnapshot after = broker.Metrics().value();
  CHECK(before.counts->rolls > 0);
  CHECK(after.counts->rolls == before.counts->rolls);
  CHECK(after.counts->recovered_partitions == 1);
  CHECK(after.counts->recovery_lost_records == 0);
  CHECK(after.partitions.at(0).produced_bytes == before.partitions.at(0).produced_bytes);
  CHECK(after.partitions.at(0).batches == 1);
  CHECK(after.partitions.at(0).batch_records == 3);
}

// ---- The text

TEST_CASE("Metrics: Prometheus's text, to the letter") {
  MetricsSnapshot metrics;
  metrics.partitions.push_back({.topic = "a\"b\\c\nd", .partition = 3, .end = 42});
  const std::string text = PrometheusText(metrics);
  CHECK(text.starts_with(
      "# HELP cordwood_produced_records_total Records appended, as the end offset counts them.\n"
      "# TYPE cordwood_produced_records_total counter\n"
      "cordwood_produced_records_total{topic=\"a\\\"b\\\\c\\nd\",partition=\"3\"} 42\n"
      "# HELP cordwood_produced_bytes_total "));
  CHECK(text.find("cordwood_disk_free_bytes 0\n") != std::string::npos);
  CHECK(text.find("backlog_bytes") == std::string::npos);  // no topic has one
  metrics.counts.emplace();
  metrics.counts->sync_latency.counts[1] = 2;
  metrics.counts->sync_latency.counts[28] = 1;
  metrics.counts->sync_latency.sum = absl::Milliseconds(1500);
  metrics.counts->since = absl::FromUnixMillis(1'790'000'000'250);
  const std::string counted = PrometheusText(metrics);
  for (const char* line :
       {"cordwood_sync_duration_seconds_bucket{le=\"0.000000064\"} 0\n",
        "cordwood_sync_duration_seconds_bucket{le=\"0.000000128\"} 2\n",
        "cordwood_sync_duration_seconds_bucket{le=\"8.589934592\"} 2\n",
        "cordwood_sync_duration_seconds_bucket{le=\"+Inf\"} 3\n",
        "cordwood_sync_duration_seconds_sum 1.5\n", "cordwood_sync_duration_seconds_count 3\n",
        "cordwood_counts_created_timestamp_seconds 1790000000.25\n"}) {
    INFO(line);
    CHECK(counted.find(line) != std::string::npos);
  }
}

TEST_CASE("Metrics: names are Prometheus's: unique, base units, _total for counters alone") {
  World w;
  REQUIRE(w.Append().ok());
  Names names;
  for (const internal::MetricFamily& family : internal::MetricFamilies(w.Now())) {
    INFO(family.name);
    CHECK(names.insert(family.name).second);
    CHECK(family.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos);
    CHECK(family.name.ends_with("_total") == (family.type == "counter"));
    CHECK(family.help.ends_with("."));
    for (const char* unit : {"_ms", "_us", "_ns", "_millis", "_kb", "_mb"}) {
      CHECK(family.name.find(unit) == std::string::npos);
    }
  }
  CHECK(names.size() > 30);
}

}  // namespace
}  // namespace cordwood
