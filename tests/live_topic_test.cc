// Deleting records and topics while other threads, with brokers of their own, append and read.

#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/catch.h"
#include "tests/support/consumer_fixture.h"
#include "tests/support/failing_storage.h"

namespace cordwood {
namespace {

using namespace consumer_testing;
using testing::FailingStorage;

TEST_CASE("Trim: while others append and read, records read and gaps are all that was sent") {
  constexpr int kRecords = 50'000;
  TempDir dir;
  Broker broker = Broker::Open(dir / "data").value();
  Topic topic = broker.CreateTopic("orders", {.segment_bytes = 16 << 10}).value();
  const Partition partition = topic.partition(0);
  Broker reading = Broker::Open(dir / "data").value();
  Consumer consumer =
      reading.NewConsumer({.out_of_range = OutOfRange::kGap, .max_poll_records = 50}).value();
  REQUIRE(consumer.Assign({{"orders", 0}}).ok());
  std::jthread writer([&] {
    const Partition own =
        Broker::Open(dir / "data").value().OpenTopic("orders").value().partition(0);
    for (int i = 0; i < kRecords; ++i) {
      if (!own.Append({.value = std::to_string(i)}).ok()) return;
    }
  });
  std::jthread trimmer([&](const std::stop_token& stop) {
    // Close behind the writer, and so before the reader as well.
    while (!stop.stop_requested()) {
      const Offset end = partition.end_offset();
      if (!partition.Trim(end - end / 16).ok()) return;
    }
  });
  Offset next = 0;
  int records = 0, out_of_order = 0;
  while (next < kRecords) {
    const RecordBatch batch = consumer.Poll(kLong).value();
    if (batch.empty() && batch.gaps().empty()) break;
    // In order of offsets, and nothing between the two that is neither.
    std::map<Offset, Offset> parts;
    for (const RecordView& record : batch) {
      CHECK(record.value() == std::to_string(record.offset()));
      parts[record.offset()] = record.offset() + 1;
      ++records;
    }
    for (const Gap& gap : batch.gaps()) {
      CHECK(gap.reason == GapReason::kTrim);
      parts[gap.from] = gap.to;
    }
    for (const auto& [from, to] : parts) {
      out_of_order += from != next;
      next = to;
    }
  }
  writer.join();
  trimmer.request_stop();
  trimmer.join();
  CHECK(next == kRecords);
  CHECK(out_of_order == 0);
  CHECK(records > 0);
  CHECK(topic.status().ok());
}

TEST_CASE("Delete: while others send and read, and again, the last topic is read as it is") {
  TempDir dir;
  Broker broker = Broker::Open(dir / "data").value();
  broker.CreateTopic("orders", {.partitions = 2}).value();
  absl::Status trouble;
  std::jthread sender([&](const std::stop_token& stop) {
    Broker own = Broker::Open(dir / "data").value();
    Producer producer = own.NewProducer().value();
    for (int i = 0; !stop.stop_requested(); ++i) {
      const absl::Status sent =
          producer.Send("orders", {.value = std::to_string(i), .partition = i % 2}).status();
      // Between the deletion and the new one of the name there is none.
      if (!sent.ok() && !absl::IsNotFound(sent)) {
        trouble = sent;
        return;
      }
    }
  });
  Broker reading = Broker::Open(dir / "data").value();
  Consumer consumer = reading.NewConsumer({.group = "billing"}).value();
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  std::map<std::string, int> times;
  std::set<std::string> missing;  // of what is in the last topic, once that is known
  const auto read = [&] {
    const absl::StatusOr<RecordBatch> batch = consumer.Poll(absl::Milliseconds(20));
    CHECK((batch.ok() || absl::IsNotFound(batch.status())));
    if (!batch.ok()) return;
    for (const std::string& value : Values(*batch)) {
      ++times[value];
      missing.erase(value);
    }
  };
  for (int round = 0; round < 5; ++round) {
    const Partition now = broker.OpenTopic("orders").value().partition(1);
    CHECK(now.WaitForEnd(50, kLong).ok());
    read();
    CHECK(broker.DeleteTopic("orders").ok());
    CHECK(absl::IsNotFound(now.status()));
    read();
    CHECK(broker.CreateTopic("orders", {.partitions = 2}).ok());
  }
  const Topic last = broker.OpenTopic("orders").value();
  CHECK(last.partition(1).WaitForEnd(50, kLong).ok());
  sender.request_stop();
  sender.join();
  REQUIRE(trouble.ToString() == "OK");
  for (int p = 0; p < 2; ++p) {
    PartitionReader reader = last.partition(p).Read(0).value();
    for (const RecordView& record : reader) {
      const std::string value(*record.value());
      if (!times.contains(value)) missing.insert(value);
    }
  }
  while (!missing.empty()) read();
  int twice = 0;
  for (const auto& [value, n] : times) twice += n > 1;
  CHECK(twice == 0);
}

TEST_CASE("Delete: who removes files of the old topic removes none of a new one of its name") {
  using Op = FailingStorage::Op;
  const auto storage = FailingStorage::Make();
  TempDir dir;
  const BrokerOptions options = {.background_threads = false, .storage = storage};
  Broker trimming = Broker::Open(dir / "data", options).value();
  Broker deleting = Broker::Open(dir / "data", options).value();
  Partition old = trimming.CreateTopic("t", {.segment_bytes = 4096}).value().partition(0);
  for (int i = 0; i < 10; ++i) REQUIRE(old.Append({.value = std::string(1000, 'x')}).ok());
  std::atomic<bool> once{false}, created{false};
  std::jthread other;
  storage->Before([&](const FailingStorage::Operation& op) {
    if (op.op != Op::kUnlink || op.path != "topics/t/0/00000000000000000000.log") return;
    if (once.exchange(true)) return;
    other = std::jthread(
        [&] { created = deleting.DeleteTopic("t").ok() && deleting.CreateTopic("t").ok(); });
    while (old.status().ok()) std::this_thread::yield();
    // It has to wait for us, however long that is.
    for (const absl::Time end = absl::Now() + kShort * 10; !created && absl::Now() < end;) {
      std::this_thread::yield();
    }
  });
  old.Trim(9).IgnoreError();
  REQUIRE(once);
  other.join();
  CHECK(created);
  CHECK(std::filesystem::exists(dir / "data/topics/t/0/00000000000000000000.log"));
  CHECK(absl::IsNotFound(old.Trim(9)));
  Producer producer = trimming.NewProducer().value();
  CHECK(producer.Send("t", {.value = "new"}).value().offset == 0);
}

TEST_CASE("Delete: a sync that fails over a deletion leaves the topic deleted, and not failed") {
  using Op = FailingStorage::Op;
  std::atomic<bool> once{false};
  const auto storage = FailingStorage::Make();
  TempDir dir;
  const BrokerOptions options = {.background_threads = false, .storage = storage};
  Broker flushing = Broker::Open(dir / "data", options).value();
  Broker deleting = Broker::Open(dir / "data", options).value();
  Producer producer = flushing.NewProducer().value();
  flushing.CreateTopic("t").value();
  REQUIRE(producer.Send("t", {.value = "old"}).ok());
  Partition partition = flushing.OpenTopic("t").value().partition(0);
  storage->Before([&](const FailingStorage::Operation& op) {
    if (op.op == Op::kMapSync && !once.exchange(true)) CHECK(deleting.DeleteTopic("t").ok());
  });
  storage->Fail({.op = Op::kMapSync, .where = ".log"});
  CHECK(absl::IsNotFound(partition.Flush()));
  CHECK(once);
  CHECK(absl::IsNotFound(partition.status()));
  CHECK(absl::IsNotFound(partition.Append({.value = "late"}).status()));
  // The producer has known the old one, and goes on in the new one of the name.
  REQUIRE(deleting.CreateTopic("t").ok());
  CHECK(producer.Send("t", {.value = "new"}).value().offset == 0);
}

}  // namespace
}  // namespace cordwood
