// TableView: get, put, compare and set, iterate, watch, wait, and every error. How a partition
// follows its log is in table_partition_test.cc.

#include "cordwood/table_view.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/partition.h"
#include "cordwood/producer.h"
#include "cordwood/status.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using testing::FailingStorage;
using testing::TempDir;
using Code = absl::StatusCode;
using Told = std::vector<std::string>;
using Table = std::map<std::string, std::string>;

constexpr absl::Duration kNow = absl::ZeroDuration();
constexpr absl::Duration kLong = absl::Seconds(20);

const TopicConfig kCompacted = {.cleanup = CleanupPolicy::kCompact};

// A directory with a compacted topic, "prices".
class Prices {
 public:
  explicit Prices(const TopicConfig& config = kCompacted, const BrokerOptions& options = {})
      : broker(Broker::Open(data(), options).value()) {
    broker.CreateTopic("prices", config).value();
  }

  std::filesystem::path data() const { return dir_ / "data"; }
  TableView View() const { return TableView::Open(broker, "prices").value(); }
  Partition Log(int partition = 0) const {
    return broker.OpenTopic("prices").value().partition(partition);
  }

 private:
  TempDir dir_;

 public:
  Broker broker;
};

// The value, or "none".
std::string Value(const TableView& view, std::string_view key) {
  const std::optional<OwnedRecord> found = view.Get(key).value();
  return found ? std::string(found->value().value()) : "none";
}

Table TableOf(const TableView& view) {
  Table table;
  REQUIRE(view.ForEach([&](const RecordView& record) {
                table[std::string(record.key().value())] = std::string(record.value().value());
              })
              .ok());
  return table;
}

std::string Text(const RecordView& record) {
  const auto value = record.value();
  return absl::StrCat(std::string(record.key().value()),
                      value ? absl::StrCat("=", std::string(*value)) : "-", "@", record.offset());
}

// Puts one more than what is there, until nobody was faster. How often somebody was.
int Increment(const TableView& view, std::string_view key) {
  for (int aborted = 0;; ++aborted) {
    const std::optional<OwnedRecord> found = view.Get(key).value();
    const int count = found ? std::stoi(std::string(found->value().value())) : 0;
    const auto at = view.Put(key, std::to_string(count + 1),
                             {.expected_offset = found ? found->offset() : kNoRecord});
    if (at.ok()) return aborted;
    if (!absl::IsAborted(at.status())) throw std::runtime_error(at.status().ToString());
  }
}

}  // namespace

// ---- Get, Put and Delete

TEST_CASE("TableView: what is put is got, with its offset, headers and time") {
  const Prices prices;
  const TableView view = prices.View();
  CHECK(Value(view, "apple") == "none");
  CHECK(view.Put("apple", "3").value() == 0);
  CHECK(view.Put("pear", "").value() == 1);
  REQUIRE(prices.Log()
              .Append({.key = "apple",
                       .value = "4",
                       .headers = {{"unit", "cent"}},
                       .timestamp = absl::FromUnixSeconds(5)})
              .ok());
  const OwnedRecord apple = view.Get("apple").value().value();
  CHECK(apple.key() == "apple");
  CHECK(apple.value() == "4");
  CHECK(apple.offset() == 2);
  CHECK(apple.timestamp() == absl::FromUnixSeconds(5));
  CHECK(apple.headers().Last("unit") == "cent");
  CHECK(apple.topic() == "prices");
  CHECK(apple.partition() == 0);
  CHECK(Value(view, "pear") == "");
}

TEST_CASE("TableView: a key that is deleted is not there, and can be put again") {
  const Prices prices;
  const TableView view = prices.View();
  view.Put("apple", "3").value();
  CHECK(view.Delete("apple").value() == 1);
  CHECK(Value(view, "apple") == "none");
  CHECK(view.Size().value() == 0);
  CHECK(view.Delete("apple").value() == 2);
  view.Put("apple", "4", {.expected_offset = kNoRecord}).value();
  CHECK(Value(view, "apple") == "4");
}

TEST_CASE("TableView: it is rebuilt on open, from every partition") {
  const int partitions = GENERATE(1, 4);
  const Prices prices({.partitions = partitions, .cleanup = CleanupPolicy::kCompact});
  Table expected;
  {
    const TableView view = prices.View();
    for (int i = 0; i < 500; ++i) {
      const std::string key = absl::StrCat("key ", i % 100);
      expected[key] = std::to_string(i);
      view.Put(key, expected[key]).value();
    }
    view.Delete("key 7").value();
    expected.erase("key 7");
    CHECK(TableOf(view) == expected);
  }
  const TableView view = prices.View();
  CHECK(TableOf(view) == expected);
  CHECK(view.Size().value() == 99);
  CHECK(Value(view, "key 7") == "none");
  CHECK(Value(view, "key 99") == "499");
}

TEST_CASE("TableView: reads are current: two views see each other's puts, and a producer's") {
  const Prices prices({.partitions = 3, .cleanup = CleanupPolicy::kCompact});
  const TableView one = prices.View();
  const TableView two = TableView::Open(Broker::Open(prices.data()).value(), "prices").value();
  Producer producer = prices.broker.NewProducer().value();
  for (int i = 0; i < 100; ++i) {
    const std::string key = std::to_string(i % 9);
    one.Put(key, std::to_string(i)).value();
    REQUIRE(Value(two, key) == std::to_string(i));
    two.Delete(key).value();
    REQUIRE(Value(one, key) == "none");
    producer.Send("prices", {.key = key, .value = "sent"}).value();
    REQUIRE(Value(one, key) == "sent");
  }
}

TEST_CASE("TableView: a record without a key is counted, one elsewhere is in ForEach only") {
  const Prices prices({.partitions = 2, .retention_age = absl::InfiniteDuration()});
  const TableView view = prices.View();
  const int own = prices.broker.OpenTopic("prices").value().PartitionFor("apple");
  REQUIRE(prices.Log(0).Append({.value = "no key"}).ok());
  REQUIRE(prices.Log(1 - own).Append({.key = "apple", .value = "elsewhere"}).ok());
  CHECK(Value(view, "apple") == "none");
  CHECK(view.Size().value() == 1);
  CHECK(view.keyless_records() == 1);
  view.Put("apple", "3", {.expected_offset = kNoRecord}).value();
  CHECK(Value(view, "apple") == "3");
  int visits = 0;
  REQUIRE(view.ForEach([&](const RecordView& record) {
                ++visits;
                CHECK((record.partition() == own) == (record.value() == "3"));
              })
              .ok());
  CHECK(visits == 2);
}

// ---- Compare and set

TEST_CASE("TableView: a put with an expected offset is kAborted if the key has another one") {
  const Prices prices;
  const TableView view = prices.View();
  const auto put = [&](Offset expected) {
    return view.Put("apple", "3", {.expected_offset = expected});
  };
  CHECK(put(0).status().code() == Code::kAborted);
  CHECK(OffsetOf(put(0).status()) == kNoRecord);
  CHECK(put(kNoRecord).value() == 0);
  CHECK(OffsetOf(put(kNoRecord).status()) == 0);
  CHECK(put(0).value() == 1);
  CHECK(OffsetOf(put(0).status()) == 1);
  CHECK(PartitionOf(put(0).status()) == TopicPartition{"prices", 0});
  CHECK(prices.Log().end_offset() == 2);
}

TEST_CASE("TableView: a record of another key in between is no reason to abort") {
  const Prices prices;
  const TableView view = prices.View();
  const Offset at = view.Put("apple", "3").value();
  view.Put("pear", "1").value();
  REQUIRE(prices.Log().Append({.key = "plum", .value = "9"}).ok());
  CHECK(view.Put("apple", "4", {.expected_offset = at}).value() == 3);
}

TEST_CASE("TableView: a delete with an expected offset deletes that record alone") {
  const Prices prices;
  const TableView view = prices.View();
  const Offset first = view.Put("apple", "3").value();
  const Offset second = view.Put("apple", "4").value();
  CHECK(view.Delete("apple", {.expected_offset = first}).status().code() == Code::kAborted);
  CHECK(Value(view, "apple") == "4");
  CHECK(view.Delete("apple", {.expected_offset = second}).ok());
  CHECK(Value(view, "apple") == "none");
}

TEST_CASE("TableView: a key that came and went is as one that never was, an offset is not") {
  const Prices prices;
  const TableView view = prices.View();
  const Offset at = view.Put("apple", "3").value();
  view.Delete("apple").value();
  CHECK(view.Put("apple", "3", {.expected_offset = at}).status().code() == Code::kAborted);
  view.Put("apple", "3", {.expected_offset = kNoRecord}).value();
  CHECK(view.Put("apple", "3", {.expected_offset = at}).status().code() == Code::kAborted);
}

TEST_CASE("TableView: threads that compare and set lose no increment, on one view or on two") {
  const Prices prices({.partitions = 2, .cleanup = CleanupPolicy::kCompact});
  const TableView one = prices.View();
  const TableView two = GENERATE(false, true) ? prices.View() : one;
  constexpr int kThreads = 4;
  constexpr int kIncrements = 500;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kIncrements; ++i) {
          Increment(t % 2 == 0 ? one : two, absl::StrCat("key ", i % 5));
        }
      });
    }
  }
  int sum = 0;
  for (const auto& [key, value] : TableOf(prices.View())) sum += std::stoi(value);
  CHECK(sum == kThreads * kIncrements);
  CHECK(TableOf(one) == TableOf(two));
}

TEST_CASE(
    "TableView: a put that is published and not durable says its offset and is not repeated") {
  const auto storage = FailingStorage::Make();
  const Prices prices(kCompacted, {.background_threads = false, .storage = storage});
  const TableView view = prices.View();
  view.Put("apple", "3").value();
  storage->Fail({.op = FailingStorage::Op::kMapSync, .times = FailingStorage::kAlways});
  storage->Fail({.op = FailingStorage::Op::kFileSync, .times = FailingStorage::kAlways});
  const auto put =
      view.Put("apple", "4", {.expected_offset = 0, .durability = Durability::kDurable});
  CHECK_FALSE(put.ok());
  CHECK(put.status().code() != Code::kAborted);
  CHECK(OffsetOf(put.status()) == 1);
  CHECK(Value(view, "apple") == "4");
  CHECK(prices.Log().end_offset() == 2);
}

TEST_CASE("TableView: a put that others always overtake ends at its deadline, and put nothing") {
  const Prices prices;
  const TableView view = prices.View();
  std::vector<std::jthread> others;
  for (int t = 0; t < 3; ++t) {
    others.emplace_back([&](const std::stop_token& stop) {
      const Partition log = prices.Log();
      while (!stop.stop_requested()) log.Append({.key = "other", .value = "x"}).value();
    });
  }
  // Most get through at once; with no time at all some do not.
  int late = 0;
  for (int i = 0; i < 100'000 && late == 0; ++i) {
    const auto found = view.Get("apple").value();
    const auto put =
        view.Put("apple", std::to_string(i),
                 {.expected_offset = found ? found->offset() : kNoRecord, .timeout = kNow});
    if (put.ok()) continue;
    ++late;
    CHECK(put.status().code() == Code::kDeadlineExceeded);
    CHECK_FALSE(OffsetOf(put.status()).has_value());
    CHECK(Value(view, "apple") == (found ? std::string(found->value().value()) : "none"));
  }
  CHECK(late == 1);
}

// ---- Watching and waiting

TEST_CASE("TableView: a watcher is told of every change, in order, by the call that applies it") {
  const Prices prices;
  const TableView view = prices.View();
  view.Put("before", "0").value();
  CHECK(view.Size().value() == 1);
  Told told;
  const auto id =
      view.Watch([&](const RecordView& record) { told.push_back(Text(record)); }).value();
  view.Put("apple", "3").value();
  view.Put("apple", "4").value();
  CHECK(told.empty());
  CHECK(Value(view, "pear") == "none");
  CHECK(told == Told{"apple=3@1", "apple=4@2"});
  view.Delete("apple").value();
  view.Delete("apple").value();
  CHECK(view.Poll(kNow).value() == 1);
  CHECK(told.back() == "apple-@3");
  CHECK(view.Unwatch(id).ok());
  view.Put("pear", "1").value();
  CHECK(view.Poll(kNow).value() == 1);
  CHECK(told.size() == 3);
  CHECK(view.Unwatch(id).code() == Code::kNotFound);
}

TEST_CASE("TableView: watchers of one view in many threads are told each change once, in order") {
  const Prices prices({.partitions = 3, .cleanup = CleanupPolicy::kCompact});
  const TableView view = prices.View();
  std::map<int, std::vector<Offset>> told;  // by partition
  std::atomic<bool> inside{false};
  std::atomic<bool> overlapped{false};
  view.Watch([&](const RecordView& record) {
        if (inside.exchange(true)) overlapped = true;
        std::this_thread::yield();
        told[record.partition()].push_back(record.offset());
        inside = false;
      })
      .value();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) {
          view.Put(absl::StrCat(t, " ", i % 20), "x").value();
          if (i % 3 == 0) view.Get(absl::StrCat(i % 4, " 1")).value();
        }
      });
    }
  }
  view.Poll(kNow).value();
  std::size_t all = 0;
  for (const auto& [partition, offsets] : told) {
    CAPTURE(partition);
    CHECK(std::is_sorted(offsets.begin(), offsets.end()));
    CHECK(offsets.size() == static_cast<std::size_t>(prices.Log(partition).end_offset()));
    all += offsets.size();
  }
  CHECK(all == 2000);
  CHECK_FALSE(overlapped);
}

TEST_CASE("TableView: a callback that calls a view gets kFailedPrecondition, and may append") {
  const Prices prices;
  prices.broker.CreateTopic("audit", {}).value();
  const Partition audit = prices.broker.OpenTopic("audit").value().partition(0);
  const TableView view = prices.View();
  const TableView other = prices.View();
  const auto calls = [&](const RecordView& record) {
    CHECK(view.Get("apple").status().code() == Code::kFailedPrecondition);
    CHECK(other.Put("apple", "5").status().code() == Code::kFailedPrecondition);
    CHECK(view.Unwatch(1).code() == Code::kFailedPrecondition);
    CHECK(view.gaps().empty());
    CHECK(audit.Append({.value = record.key()}).ok());
  };
  view.Watch(calls).value();
  view.Put("apple", "3").value();
  CHECK(view.Poll(kNow).value() == 1);
  CHECK(view.ForEach(calls).ok());
  CHECK(audit.end_offset() == 2);
  CHECK(Value(other, "apple") == "3");
}

TEST_CASE("TableView: an exception of a callback goes through, and the view goes on") {
  const Prices prices;
  const TableView view = prices.View();
  int calls = 0;
  view.Watch([&](const RecordView&) {
        if (++calls == 1) throw std::runtime_error("mine");
      })
      .value();
  view.Put("apple", "3").value();
  CHECK_THROWS(view.Get("apple"));
  CHECK(Value(view, "apple") == "3");
  view.Put("apple", "4").value();
  CHECK(Value(view, "apple") == "4");
  CHECK(calls == 2);
}

TEST_CASE("TableView: Poll sleeps until there is a change, in any partition") {
  const int partitions = GENERATE(1, 8);
  const Prices prices({.partitions = partitions, .cleanup = CleanupPolicy::kCompact});
  const TableView view = prices.View();
  for (int i = 0; i < 20; ++i) {
    const std::string key = std::to_string(i);
    const std::jthread putter([&] { prices.View().Put(key, "1").value(); });
    REQUIRE(view.Poll(kLong).value() == 1);
  }
  CHECK(view.Size().value() == 20);
  CHECK(view.Poll(absl::Milliseconds(20)).value() == 0);
}

TEST_CASE("TableView: Poll is ended by its token and by the broker's Close") {
  const Prices prices;
  const TableView view = prices.View();
  std::stop_source stop;
  stop.request_stop();
  CHECK(view.Poll(kLong, stop.get_token()).status().code() == Code::kCancelled);
  const std::jthread closer([&] { prices.broker.Close().IgnoreError(); });
  CHECK(view.Poll(kLong).status().code() == Code::kFailedPrecondition);
}

TEST_CASE("TableView: keyless records do not end a Poll, but do not keep it busy either") {
  const Prices prices({.partitions = 1, .retention_age = absl::InfiniteDuration()});
  const TableView view = prices.View();
  REQUIRE(prices.Log().Append({.value = "no key"}).ok());
  CHECK(view.Poll(absl::Milliseconds(20)).value() == 0);
  CHECK(view.keyless_records() == 1);
}

// ---- What is lost, and what is wrong

TEST_CASE("TableView: what a trim takes goes from the view, and its watchers are told") {
  const Prices prices;
  const TableView view = prices.View();
  for (const char* key : {"a", "b", "c"}) view.Put(key, "1").value();
  view.Put("a", "2").value();
  CHECK(view.Size().value() == 3);
  Told told;
  view.Watch([&](const RecordView& record) { told.push_back(Text(record)); }).value();
  REQUIRE(prices.Log().Trim(2).ok());
  CHECK(TableOf(view) == Table{{"a", "2"}, {"c", "1"}});
  CHECK(told == Told{"b-@1"});
  CHECK(TableOf(prices.View()) == TableOf(view));
  CHECK(view.gaps().empty());
  REQUIRE(prices.Log().Trim(4).ok());
  CHECK(view.Size().value() == 0);
  CHECK(view.Put("a", "3", {.expected_offset = kNoRecord}).value() == 4);
}

TEST_CASE("TableView: a damaged record is passed over, and gaps() says where") {
  Prices prices;
  {
    const TableView view = prices.View();
    view.Put("apple", "old value").value();
    view.Put("apple", "new value").value();
    view.Put("pear", "1").value();
  }
  REQUIRE(prices.broker.Close().ok());
  const auto file = prices.data() / "topics/prices/0/00000000000000000000.log";
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  std::string bytes(65536, '\0');
  stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  stream.clear();
  const std::size_t at = bytes.find("new value");
  REQUIRE(at != std::string::npos);
  stream.seekp(static_cast<std::streamoff>(at));
  stream.put('N');
  stream.close();

  prices.broker = Broker::Open(prices.data()).value();
  const TableView view = prices.View();
  CHECK(TableOf(view) == Table{{"apple", "old value"}, {"pear", "1"}});
  CHECK(view.gaps() == std::vector<Gap>{{"prices", 0, 1, 2, GapReason::kDamage}});
}

TEST_CASE("TableView: a topic that forgets keys is refused, unless the caller accepts that") {
  const TempDir dir;
  const Broker broker = Broker::Open(dir / "data").value();
  const auto open = [&](const TopicConfig& config, const TableViewOptions& options = {}) {
    broker.DeleteTopic("t").IgnoreError();
    broker.CreateTopic("t", config).value();
    return TableView::Open(broker, "t", options).status();
  };
  const auto says = [](const absl::Status& status, const std::string& text) {
    return status.code() == Code::kFailedPrecondition &&
           std::string(status.message()).find(text) != std::string::npos;
  };
  constexpr absl::Duration kEver = absl::InfiniteDuration();
  CHECK(says(open({}), "retention_age is 168h"));
  CHECK(says(open({.retention_age = kEver, .retention_bytes = 1 << 30}), "retention_bytes"));
  CHECK(says(open({.retention_age = kEver, .retention_records = 5}), "retention_records are 5"));
  CHECK(says(open({.partitions = 2, .retention_age = kEver, .partitioner = "round-robin"}),
             "round-robin"));
  CHECK(says(open({.partitions = 2, .retention_age = kEver, .partitioner = "mine"}), "mine"));
  CHECK(open({.retention_age = kEver}).ok());
  CHECK(open({.cleanup = CleanupPolicy::kCompactAndDelete}).ok());
  CHECK(open({.retention_age = kEver, .partitioner = "mine"}).ok());
  CHECK(open({.partitions = 2, .retention_age = kEver, .partitioner = "murmur2"}).ok());
  CHECK(open({}, {.keys_may_expire = true}).ok());
  CHECK(TableView::Open(broker, "no-such-topic").status().code() == Code::kNotFound);
  CHECK(TableView::Open(Broker(), "t").status().code() == Code::kFailedPrecondition);
}

TEST_CASE("TableView: one that is not open, or was closed, answers kFailedPrecondition") {
  const Prices prices;
  TableView view = prices.View();
  SECTION("made by default") { view = TableView(); }
  SECTION("moved from") { const TableView other = std::move(view); }
  SECTION("the broker is closed") { REQUIRE(prices.broker.Close().ok()); }
  const auto check = [](const absl::Status& status) {
    CHECK(status.code() == Code::kFailedPrecondition);
  };
  check(view.Get("a").status());
  check(view.Put("a", "1").status());
  check(view.Delete("a").status());
  check(view.ForEach([](const RecordView&) {}));
  check(view.Size().status());
  check(view.Watch([](const RecordView&) {}).status());
  check(view.Unwatch(1));
  check(view.Poll(kLong).status());
  CHECK(view.gaps().empty());
  CHECK(view.keyless_records() == 0);
}

TEST_CASE("TableView: of a topic that was deleted, and made again, it is kNotFound") {
  const Prices prices;
  const TableView view = prices.View();
  view.Put("apple", "3").value();
  REQUIRE(prices.broker.DeleteTopic("prices").ok());
  if (GENERATE(false, true)) prices.broker.CreateTopic("prices", kCompacted).value();
  CHECK(view.Get("apple").status().code() == Code::kNotFound);
  CHECK(view.Put("apple", "3").status().code() == Code::kNotFound);
  CHECK(view.Poll(kLong).status().code() == Code::kNotFound);
}

TEST_CASE(
    "TableView: a value over the topic's limit and no function to call are kInvalidArgument") {
  const Prices prices({.max_message_bytes = 1000, .cleanup = CleanupPolicy::kCompact});
  const TableView view = prices.View();
  CHECK(view.Put("a", std::string(2000, 'x')).status().code() == Code::kInvalidArgument);
  CHECK(view.Put("a", std::string(2000, 'x'), {.expected_offset = kNoRecord}).status().code() ==
        Code::kInvalidArgument);
  CHECK(view.Watch(nullptr).status().code() == Code::kInvalidArgument);
}

TEST_CASE("TableView: in a read-only directory it reads, follows and waits, and puts nothing") {
  Prices prices({.partitions = 2, .cleanup = CleanupPolicy::kCompact});
  const TableView writer = prices.View();
  writer.Put("apple", "3").value();
  const Broker reader = Broker::Open(prices.data(), {.read_only = true}).value();
  const TableView view = TableView::Open(reader, "prices").value();
  CHECK(Value(view, "apple") == "3");
  writer.Put("apple", "4").value();
  CHECK(Value(view, "apple") == "4");
  for (const auto& put :
       {view.Put("a", "1"), view.Delete("a"), view.Put("a", "1", {.expected_offset = kNoRecord})}) {
    CHECK(put.status().code() == Code::kFailedPrecondition);
  }
  const std::jthread later([&] { writer.Put("pear", "1").value(); });
  CHECK(view.Poll(kLong).value() == 1);
}

TEST_CASE("TableView: in a read-only directory it goes on with the next process that writes") {
  Prices prices;
  prices.View().Put("apple", "3").value();
  REQUIRE(prices.broker.Close().ok());
  // Without it the reader has a page of its own.
  const bool has_page = GENERATE(true, false);
  if (!has_page) std::filesystem::remove(prices.data() / "topics/prices/control");
  const Broker reader = Broker::Open(prices.data(), {.read_only = true}).value();
  const TableView view = TableView::Open(reader, "prices").value();
  CHECK(Value(view, "apple") == "3");
  prices.broker = Broker::Open(prices.data()).value();
  prices.View().Put("apple", "4").value();
  CHECK(view.Poll(GENERATE(kNow, kLong)).value() == 1);
  CHECK(Value(view, "apple") == "4");
}

TEST_CASE("TableView: it may outlive its broker and topic handles") {
  std::optional<Prices> prices(std::in_place);
  const TableView view = prices->View();
  prices->broker = Broker();
  view.Put("apple", "3").value();
  CHECK(Value(view, "apple") == "3");
}

}  // namespace cordwood
