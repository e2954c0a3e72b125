#include "cordwood/producer.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/partitioner.h"
#include "cordwood/status.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/says.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using testing::FailingStorage;
using testing::Says;
using testing::TempDir;

// A broker with a topic "t", without threads.
class Fixture {
 public:
  explicit Fixture(const TopicConfig& config = {.partitions = 4},
                   std::shared_ptr<Storage> storage = nullptr)
      : broker_(
            Broker::Open(dir_ / "data", {.background_threads = false, .storage = storage}).value()),
        topic_(broker_.CreateTopic("t", config).value()) {}

  const Broker& broker() const { return broker_; }
  const Topic& topic() const { return topic_; }
  Producer NewProducer(const ProducerOptions& options = {}) const {
    return broker_.NewProducer(options).value();
  }
  std::vector<std::string> Values(int partition) const {
    std::vector<std::string> values;
    PartitionReader reader = topic_.partition(partition).Read(0).value();
    for (const RecordView& record : reader) values.emplace_back(record.value().value());
    CHECK(reader.status().ok());
    return values;
  }

 private:
  TempDir dir_;
  Broker broker_;
  Topic topic_;
};

// Sends everything to one partition, existing or not.
class Always : public Partitioner {
 public:
  Always(std::string name, int choice) : name_(std::move(name)), choice_(choice) {}
  std::string_view name() const override { return name_; }
  int Choose(std::string_view, const Record&, int) override { return choice_; }

 private:
  const std::string name_;
  const int choice_;
};

TEST_CASE("Producer: a record goes where its key says, and the metadata says where") {
  Fixture f;
  Producer producer = f.NewProducer();
  const absl::Time when = absl::FromUnixMillis(1'700'000'000'123);
  for (const char* key : {"alice", "bob", "carol", ""}) {
    const RecordMetadata at =
        producer.Send("t", {.key = key, .value = key, .timestamp = when}).value();
    CHECK(at.topic == "t");
    CHECK(at.partition == f.topic().PartitionFor(key));
    CHECK(at.timestamp == when);
    CHECK(f.Values(at.partition).at(static_cast<std::size_t>(at.offset)) == key);
  }
}

TEST_CASE("Producer: a record that names its partition goes there") {
  Fixture f;
  Producer producer = f.NewProducer();
  CHECK(producer.Send("t", {.key = "a", .value = "1", .partition = 3}).value().partition == 3);
  const absl::Status status = producer.Send("t", {.value = "1", .partition = 4}).status();
  CHECK(absl::IsNotFound(status));
  CHECK(Says(status, "partition 4"));
  CHECK(absl::IsNotFound(producer.Send("t", {.value = "1", .partition = -1}).status()));
}

TEST_CASE("Producer: a topic that does not exist is kNotFound, a bad name kInvalidArgument") {
  Fixture f;
  Producer producer = f.NewProducer();
  CHECK(absl::IsNotFound(producer.Send("u", {.value = "1"}).status()));
  CHECK(absl::IsInvalidArgument(producer.Send("", {.value = "1"}).status()));
  CHECK(absl::IsInvalidArgument(producer.Send("../t", {.value = "1"}).status()));
  REQUIRE(f.broker().CreateTopic("u").ok());
  CHECK(producer.Send("u", {.value = "1"}).ok());
}

TEST_CASE("Producer: a record without time gets the clock's, in an append-time topic always") {
  const absl::Time old = absl::FromUnixSeconds(1);
  SECTION("create time") {
    Fixture f;
    Producer producer = f.NewProducer();
    CHECK(producer.Send("t", {.value = "1", .timestamp = old}).value().timestamp == old);
    CHECK(producer.Send("t", {.value = "1"}).value().timestamp > old);
    const std::vector<Record> two = {{.value = "1", .timestamp = old}, {.value = "2"}};
    const auto sent = producer.SendBatch("t", two);
    CHECK(sent.at(0).value().timestamp == old);
    CHECK(sent.at(1).value().timestamp > old);
  }
  SECTION("append time") {
    Fixture f({.timestamp_type = TimestampType::kAppendTime});
    Producer producer = f.NewProducer();
    const RecordMetadata at = producer.Send("t", {.value = "1", .timestamp = old}).value();
    CHECK(at.timestamp > old);
    const std::vector<Record> one = {{.value = "1", .timestamp = old}};
    const RecordMetadata batched = producer.SendBatch("t", one).at(0).value();
    CHECK(batched.timestamp > old);
    PartitionReader reader = f.topic().partition(0).Read(0).value();
    std::vector<absl::Time> stored;
    for (const RecordView& record : reader) stored.push_back(record.timestamp());
    CHECK(stored == std::vector<absl::Time>{at.timestamp, batched.timestamp});
  }
}

// ---- Partitioners

TEST_CASE("Producer: records without a key stay on a partition for 16 KiB, then move on") {
  Fixture f;
  Producer producer = f.NewProducer();
  const std::string value(1024, 'x');
  std::vector<int> runs;
  std::set<int> partitions;
  int last = -1;
  for (int i = 0; i < 16 * 8; ++i) {
    const int partition = producer.Send("t", {.value = value}).value().partition;
    if (partition != last) runs.push_back(0);
    ++runs.back();
    partitions.insert(last = partition);
  }
  CHECK(partitions.size() == 4);
  for (std::size_t i = 1; i + 1 < runs.size(); ++i) CHECK(runs[i] == 16);
}

TEST_CASE("Producer: a batch without keys stays together, and the next one goes elsewhere") {
  Fixture f;
  Producer producer = f.NewProducer();
  const std::vector<Record> batch(10, Record{.value = "x"});
  int last = -1;
  for (int i = 0; i < 8; ++i) {
    const auto sent = producer.SendBatch("t", batch);
    REQUIRE(sent.size() == 10);
    const int partition = sent[0].value().partition;
    for (std::size_t n = 0; n < sent.size(); ++n) {
      CHECK(sent[n].value().partition == partition);
      CHECK(sent[n].value().offset == sent[0].value().offset + static_cast<Offset>(n));
    }
    CHECK(partition != last);
    last = partition;
  }
}

TEST_CASE("Producer: round-robin takes the next partition for every record, key or not") {
  Fixture f({.partitions = 4, .partitioner = "round-robin"});
  Producer producer = f.NewProducer();
  const int first = producer.Send("t", {.key = "same", .value = "x"}).value().partition;
  for (int i = 1; i < 9; ++i) {
    CHECK(producer.Send("t", {.key = "same", .value = "x"}).value().partition == (first + i) % 4);
  }
}

TEST_CASE("Producer: murmur2 places keys as Kafka's Java client") {
  Fixture f({.partitions = 7, .partitioner = "murmur2"});
  Producer producer = f.NewProducer();
  for (const char* key : {"alice", "bob", "carol"}) {
    CHECK(producer.Send("t", {.key = key, .value = "x"}).value().partition ==
          (Murmur2(key) & 0x7fffffff) % 7);
  }
}

TEST_CASE("Producer: a partitioner of a user's own decides, and what it may not is refused") {
  Fixture f({.partitions = 4, .partitioner = "always"});
  CHECK(f.NewProducer({.partitioner = std::make_shared<Always>("always", 2)})
            .Send("t", {.key = "a", .value = "x"})
            .value()
            .partition == 2);
  const int choice = GENERATE(-1, 4);
  Producer bad = f.NewProducer({.partitioner = std::make_shared<Always>("always", choice)});
  const absl::Status status = bad.Send("t", {.value = "x"}).status();
  CHECK(absl::IsInvalidArgument(status));
  CHECK(Says(status, "always"));
  CHECK(bad.Send("t", {.value = "x", .partition = 1}).ok());
}

TEST_CASE("Producer: another partitioner than the topic's is refused and both are named") {
  Fixture f;
  Producer producer = f.NewProducer({.partitioner = std::make_shared<Always>("mine", 0)});
  const absl::Status status = producer.Send("t", {.value = "x"}).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "\"mine\""));
  CHECK(Says(status, "\"xxh3\""));
  const std::vector<Record> one(1);
  CHECK(absl::IsFailedPrecondition(producer.SendBatch("t", one).at(0).status()));
}

TEST_CASE("Producer: without the topic's own partitioner only named partitions can be sent to") {
  Fixture f({.partitions = 4, .partitioner = "by-region"});
  Producer producer = f.NewProducer();
  const absl::Status status = producer.Send("t", {.key = "a", .value = "x"}).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "by-region"));
  CHECK(producer.Send("t", {.value = "x", .partition = 1}).ok());
}

// ---- Batches

TEST_CASE("Producer: a batch has a result for each record, in order, and is dense per partition") {
  Fixture f;
  Producer producer = f.NewProducer();
  std::vector<std::string> texts;
  for (int i = 0; i < 40; ++i) texts.push_back(std::to_string(i));
  std::vector<Record> records;
  for (const std::string& text : texts) records.push_back({.key = text, .value = text});
  records[7].partition = 99;
  const auto sent = producer.SendBatch("t", records);
  REQUIRE(sent.size() == records.size());
  std::array<Offset, 4> next = {};
  for (std::size_t i = 0; i < sent.size(); ++i) {
    if (i == 7) {
      CHECK(absl::IsNotFound(sent[i].status()));
      continue;
    }
    const RecordMetadata& at = sent[i].value();
    CHECK(at.partition == f.topic().PartitionFor(texts[i]));
    CHECK(at.offset == next[static_cast<std::size_t>(at.partition)]++);
    CHECK(f.Values(at.partition).at(static_cast<std::size_t>(at.offset)) == texts[i]);
  }
  CHECK(producer.SendBatch("t", {}).empty());
}

TEST_CASE("Producer: a record over the limit keeps its partition's batch out, not the others") {
  Fixture f({.partitions = 2, .max_message_bytes = 100});
  Producer producer = f.NewProducer();
  const std::string large(101, 'x');
  const std::vector<Record> records = {{.value = "a", .partition = 0},
                                       {.value = "b", .partition = 1},
                                       {.value = large, .partition = 0}};
  const auto sent = producer.SendBatch("t", records);
  CHECK(absl::IsInvalidArgument(sent.at(0).status()));
  CHECK(sent.at(1).ok());
  CHECK(absl::IsInvalidArgument(sent.at(2).status()));
  CHECK(f.Values(0).empty());
  CHECK(f.Values(1).size() == 1);
  CHECK(absl::IsInvalidArgument(producer.Send("t", {.value = large}).status()));
}

// ---- Durability

TEST_CASE("Producer: Flush makes durable what was sent, in every topic sent to") {
  Fixture f;
  Topic other = f.broker().CreateTopic("u").value();
  Producer producer = f.NewProducer();
  CHECK(producer.Flush().ok());
  for (int i = 0; i < 4; ++i) REQUIRE(producer.Send("t", {.value = "x", .partition = i}).ok());
  REQUIRE(producer.Send("u", {.value = "x"}).ok());
  CHECK(other.partition(0).durable_offset() == 0);
  CHECK(producer.Flush().ToString() == "OK");
  for (int i = 0; i < 4; ++i) CHECK(f.topic().partition(i).durable_offset() == 1);
  CHECK(other.partition(0).durable_offset() == 1);
}

TEST_CASE("Producer: a durable send is durable when it returns, by its options or the producer's") {
  Fixture f;
  const bool by_default = GENERATE(true, false);
  Producer producer =
      by_default ? f.NewProducer({.durability = Durability::kDurable}) : f.NewProducer();
  const SendOptions options =
      by_default ? SendOptions() : SendOptions{.durability = Durability::kDurable};
  REQUIRE(producer.Send("t", {.value = "x", .partition = 2}, options).ok());
  CHECK(f.topic().partition(2).durable_offset() == 1);
  const std::vector<Record> batch(3, Record{.value = "x", .partition = 1});
  CHECK(producer.SendBatch("t", batch, options).at(2).ok());
  CHECK(f.topic().partition(1).durable_offset() == 3);
  REQUIRE(producer.Send("t", {.value = "x", .partition = 0}, {.durability = Durability::kPublished})
              .ok());
  CHECK(f.topic().partition(0).durable_offset() == 0);
}

TEST_CASE("Producer: what was published and not made durable carries its offset, one by one") {
  auto storage = FailingStorage::Make();
  Fixture f({.partitions = 1}, storage);
  Producer producer = f.NewProducer({.durability = Durability::kDurable});
  REQUIRE(producer.Send("t", {.value = "0"}).ok());
  storage->Fail({.op = FailingStorage::Op::kMapSync, .times = FailingStorage::kAlways});
  storage->Fail({.op = FailingStorage::Op::kCreate, .times = FailingStorage::kAlways});
  const std::vector<Record> batch = {{.value = "1"}, {.value = "2"}};
  const auto sent = producer.SendBatch("t", batch);
  CHECK(!sent.at(0).ok());
  CHECK(OffsetOf(sent.at(0).status()) == 1);
  CHECK(OffsetOf(sent.at(1).status()) == 2);
  CHECK(PartitionOf(sent.at(1).status()) == TopicPartition{"t", 0});
  CHECK(f.topic().partition(0).end_offset() == 3);
  CHECK(!producer.Flush().ok());
  CHECK(!producer.Send("t", {.value = "3"}).ok());
  storage->Heal();
}

// ---- Threads

TEST_CASE("Producer: many threads and copies send to many topics at once") {
  Fixture f({.partitions = 1});
  constexpr int kTopics = 20;
  constexpr int kThreads = 4;
  for (int i = 0; i < kTopics; ++i) {
    REQUIRE(f.broker().CreateTopic("topic-" + std::to_string(i)).ok());
  }
  const Producer producer = f.NewProducer();
  std::vector<std::thread> threads;
  for (int n = 0; n < kThreads; ++n) {
    threads.emplace_back([copy = producer] {
      for (int i = 0; i < 20 * kTopics; ++i) {
        if (!copy.Send("topic-" + std::to_string(i % kTopics), {.value = "x"}).ok()) return;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kTopics; ++i) {
    Topic topic = f.broker().OpenTopic("topic-" + std::to_string(i)).value();
    CHECK(topic.partition(0).end_offset() == 20 * kThreads);
  }
}

}  // namespace
}  // namespace cordwood
