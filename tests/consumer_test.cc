// A consumer that was assigned its partitions: what Poll gives, where it begins, what it
// says is missing. Groups are in consumer_group_test.cc, waiting in consumer_wait_test.cc.

#include "cordwood/consumer.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cordwood/os/clock.h"
#include "tests/support/consumer_fixture.h"

namespace cordwood {
namespace {
using namespace consumer_testing;
}  // namespace

// ---- What Poll gives

TEST_CASE("Consumer: reads every record once, in the order of its partition") {
  World world({{"orders", 3}});
  for (int p = 0; p < 3; ++p) world.SendMany(p, 100);
  Consumer consumer = world.Assigned({.max_poll_records = 7});
  std::map<int, Offset> next;
  for (int seen = 0; seen < 300;) {
    const RecordBatch batch = consumer.Poll(kLong).value();
    REQUIRE(!batch.empty());
    REQUIRE(batch.size() <= 7);
    for (const RecordView& record : batch) {
      CHECK(record.topic() == "orders");
      CHECK(record.offset() == next[record.partition()]++);
    }
    seen += static_cast<int>(batch.size());
  }
  CHECK(consumer.Poll(kShort).value().empty());
}

TEST_CASE("Consumer: a partition with much does not keep the others waiting") {
  World world({{"orders", 4}});
  world.SendMany(0, 1000);
  for (int p = 1; p < 4; ++p) world.Send(p, "x");
  Consumer consumer = world.Assigned({.max_poll_records = 100});
  const RecordBatch batch = consumer.Poll(kLong).value();
  CHECK(batch.partitions().size() == 4);
  CHECK(batch.size() == 28);  // a fourth of the room, and what the others have
}

TEST_CASE("Consumer: more partitions than fit a batch take turns") {
  World world({{"orders", 10}});
  for (int p = 0; p < 10; ++p) world.SendMany(p, 10);
  Consumer consumer = world.Assigned({.max_poll_records = 2});
  std::set<int> seen;
  for (int i = 0; i < 5; ++i) {
    const RecordBatch batch = consumer.Poll(kLong).value();
    for (const RecordView& record : batch) seen.insert(record.partition());
  }
  CHECK(seen.size() == 10);
}

TEST_CASE("Consumer: the parts of a batch say what a commit after them stores") {
  World world({{"orders", 2}});
  world.SendMany(0, 3);
  world.SendMany(1, 2);
  Consumer consumer = world.Assigned();
  const RecordBatch batch = consumer.Poll(kLong).value();
  REQUIRE(batch.partitions().size() == 2);
  for (const PartitionRecords& part : batch.partitions()) {
    CHECK(part.topic() == "orders");
    CHECK(part.next_offset() == (part.partition() == 0 ? 3 : 2));
    CHECK(part.size() == static_cast<std::size_t>(part.next_offset()));
  }
}

TEST_CASE("Consumer: an empty batch comes after the timeout, and at once for none") {
  World world;
  Consumer consumer = world.Assigned();
  const std::int64_t begin = os::MonotonicNanos();
  CHECK(consumer.Poll(kShort).value().empty());
  CHECK(absl::Nanoseconds(os::MonotonicNanos() - begin) >= kShort);
  CHECK(consumer.Poll(absl::ZeroDuration()).value().empty());
  CHECK(consumer.Poll(-absl::Seconds(1)).value().empty());
}

TEST_CASE("Consumer: PollInto uses the memory of the batch again") {
  World world;
  world.SendMany(0, 300);
  Consumer consumer = world.Assigned({.max_poll_records = 100});
  RecordBatch batch;
  REQUIRE(consumer.PollInto(batch, kLong).ok());
  const RecordView* const memory = &*batch.begin();
  for (Offset first = 100; first < 300; first += 100) {
    REQUIRE(consumer.PollInto(batch, kLong).ok());
    CHECK(&*batch.begin() == memory);
    CHECK(memory->offset() == first);
    CHECK(batch.size() == 100);
  }
  REQUIRE(consumer.PollInto(batch, kShort).ok());
  CHECK(batch.empty());
}

TEST_CASE("Consumer: a batch outlives its consumer, its broker and the files' names") {
  std::optional<RecordBatch> batch;
  {
    World world;
    world.Send(0, "value");
    batch = world.Assigned().Poll(kLong).value();
  }
  CHECK(Values(*batch) == List{"value"});
  CHECK(batch->begin()->topic() == "orders");
}

TEST_CASE("Consumer: records of many partitions are found, and none is missed") {
  World world({{"orders", 500}});
  Consumer consumer = world.Assigned();
  CHECK(consumer.Poll(kShort).value().empty());
  for (const int p : {499, 0, 250, 499}) {
    world.Send(p, std::to_string(p));
    const RecordBatch batch = consumer.Poll(kLong).value();
    CHECK(Values(batch) == List{std::to_string(p)});
  }
  for (int p = 0; p < 500; ++p) world.Send(p, "x");  // more than the ring holds
  std::size_t seen = 0;
  while (seen < 500) {
    const RecordBatch batch = consumer.Poll(kLong).value();
    REQUIRE(!batch.empty());
    seen += batch.size();
  }
  CHECK(seen == 500);
}

// ---- What is assigned

TEST_CASE("Consumer: Assign of what does not exist is kNotFound and changes nothing") {
  World world({{"orders", 2}});
  Consumer consumer = world.Assigned();
  for (const TopicPartition& where : Partitions{{"orders", 2}, {"orders", -1}, {"nothing", 0}}) {
    CAPTURE(where.topic, where.partition);
    CHECK(consumer.Assign({{"orders", 0}, where}).code() == absl::StatusCode::kNotFound);
  }
  CHECK(consumer.assignment() == world.All());
}

TEST_CASE("Consumer: Assign keeps the positions of what stays") {
  World world({{"orders", 3}});
  for (int p = 0; p < 3; ++p) world.SendMany(p, 2);
  Consumer consumer = world.broker.NewConsumer().value();
  REQUIRE(consumer.Assign({{"orders", 0}, {"orders", 1}, {"orders", 0}}).ok());
  CHECK(consumer.Poll(kLong).value().size() == 4);
  REQUIRE(consumer.Assign({{"orders", 1}, {"orders", 2}}).ok());
  CHECK(consumer.assignment() == Partitions{{"orders", 1}, {"orders", 2}});
  CHECK(consumer.position({"orders", 1}).value() == 2);
  const RecordBatch batch = consumer.Poll(kLong).value();
  CHECK(batch.size() == 2);
  CHECK(batch.begin()->partition() == 2);
}

TEST_CASE("Consumer: Poll with nothing to read is kFailedPrecondition") {
  World world;
  Consumer consumer = world.broker.NewConsumer().value();
  CHECK(consumer.Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition);
  REQUIRE(consumer.Assign({{"orders", 0}}).ok());
  CHECK(consumer.Poll(kShort).ok());
  REQUIRE(consumer.Assign({}).ok());
  CHECK(consumer.Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("Consumer: Assign and Subscribe exclude each other") {
  World world;
  Consumer consumer = world.broker.NewConsumer({.group = "billing"}).value();
  REQUIRE(consumer.Assign({{"orders", 0}}).ok());
  CHECK(consumer.Subscribe({"orders"}).code() == absl::StatusCode::kFailedPrecondition);
  REQUIRE(consumer.Assign({}).ok());
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  CHECK(consumer.Assign({{"orders", 0}}).code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("Consumer: what is not assigned is kFailedPrecondition that names it") {
  World world({{"orders", 2}});
  Consumer consumer = world.broker.NewConsumer({.group = "billing"}).value();
  REQUIRE(consumer.Assign({{"orders", 0}}).ok());
  const TopicPartition other{"orders", 1};
  for (const absl::Status& status :
       {consumer.Seek(other, 0), consumer.SeekToBeginning({&other, 1}),
        consumer.SeekToEnd({&other, 1}), consumer.SeekToTime(absl::Now(), {&other, 1}),
        consumer.Pause({&other, 1}), consumer.Resume({&other, 1}),
        consumer.position(other).status(), consumer.committed(other).status(),
        consumer.lag(other).status(), consumer.Commit({{other, 0}})}) {
    CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(Says(status, "orders-1"));
    CHECK(PartitionOf(status) == other);
  }
}

TEST_CASE("Consumer: a topic that is deleted is kNotFound once, and not assigned any more") {
  World world({{"orders", 2}, {"users", 1}});
  Consumer consumer = world.broker.NewConsumer().value();
  REQUIRE(consumer.Assign({{"orders", 0}, {"orders", 1}, {"users", 0}}).ok());
  CHECK(consumer.Poll(kShort).value().empty());
  REQUIRE(world.broker.DeleteTopic("orders").ok());
  const absl::Status status = consumer.Poll(kLong).status();
  CHECK(status.code() == absl::StatusCode::kNotFound);
  CHECK(PartitionOf(status)->topic == "orders");
  CHECK(consumer.assignment() == Partitions{{"users", 0}});
  world.Send(0, "x", "users");
  CHECK(Values(consumer.Poll(kLong).value()) == List{"x"});
}

TEST_CASE("Consumer: options that make no sense are kInvalidArgument") {
  World world;
  for (const ConsumerOptions& options :
       {ConsumerOptions{.group = "../x"}, ConsumerOptions{.max_poll_records = 0},
        ConsumerOptions{.auto_commit = AutoCommit::kAfterPoll},
        ConsumerOptions{.max_poll_interval = absl::ZeroDuration()}}) {
    CHECK(world.broker.NewConsumer(options).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

// ---- Positions

TEST_CASE("Consumer: Seek goes where it is told, and a negative offset is kInvalidArgument") {
  World world;
  world.SendMany(0, 5);
  Consumer consumer = world.Assigned();
  REQUIRE(consumer.Seek({"orders", 0}, 3).ok());
  CHECK(consumer.position({"orders", 0}).value() == 3);
  CHECK(Values(consumer.Poll(kLong).value()) == List{"3", "4"});
  const absl::Status status = consumer.Seek({"orders", 0}, -1);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(PartitionOf(status) == TopicPartition{"orders", 0});
}

TEST_CASE("Consumer: to the beginning, to the end, to a time, for all or for some") {
  World world({{"orders", 2}});
  const absl::Time noon = absl::FromUnixSeconds(1'000'000);
  for (int p = 0; p < 2; ++p) {
    for (int i = 0; i < 4; ++i) {
      REQUIRE(world.Log(p).Append({.value = "x", .timestamp = noon + absl::Hours(i)}).ok());
    }
  }
  Consumer consumer = world.Assigned();
  const TopicPartition first{"orders", 0}, second{"orders", 1};
  REQUIRE(consumer.SeekToTime(noon + absl::Hours(2)).ok());
  CHECK(consumer.position(first).value() == 2);
  REQUIRE(consumer.SeekToTime(noon + absl::Hours(9), {&second, 1}).ok());
  CHECK(consumer.position(second).value() == 4);
  REQUIRE(consumer.SeekToBeginning({&second, 1}).ok());
  CHECK(consumer.position(first).value() == 2);
  CHECK(consumer.position(second).value() == 0);
  REQUIRE(consumer.SeekToEnd().ok());
  CHECK(consumer.Poll(kShort).value().empty());
  REQUIRE(consumer.SeekToBeginning().ok());
  CHECK(consumer.Poll(kLong).value().size() == 8);
}

TEST_CASE("Consumer: where it begins without a commit is the reset's matter") {
  World world;
  world.SendMany(0, 2);
  CHECK(world.Assigned().position({"orders", 0}).value() == 0);
  Consumer latest = world.Assigned({.reset = OffsetReset::kLatest});
  CHECK(latest.position({"orders", 0}).value() == 2);
  Consumer error = world.Assigned({.reset = OffsetReset::kError});
  CHECK(error.position({"orders", 0}).status().code() == absl::StatusCode::kOutOfRange);
  const absl::Status status = error.Poll(kLong).status();
  CHECK(status.code() == absl::StatusCode::kOutOfRange);
  CHECK(PartitionOf(status) == TopicPartition{"orders", 0});
  CHECK(error.Poll(kShort).value().empty());
  REQUIRE(error.Seek({"orders", 0}, 1).ok());
  CHECK(Values(error.Poll(kLong).value()) == List{"1"});
}

TEST_CASE("Consumer: a position past the end is put back as the reset says, or is an error") {
  World world;
  world.SendMany(0, 2);
  const TopicPartition where{"orders", 0};
  Consumer earliest = world.Assigned();
  REQUIRE(earliest.Seek(where, 9).ok());
  CHECK(earliest.Poll(kLong).value().size() == 2);
  Consumer latest = world.Assigned({.reset = OffsetReset::kLatest});
  REQUIRE(latest.Seek(where, 9).ok());
  CHECK(latest.Poll(kShort).value().empty());
  CHECK(latest.position(where).value() == 2);
  Consumer strict = world.Assigned({.out_of_range = OutOfRange::kError});
  REQUIRE(strict.Seek(where, 9).ok());
  const absl::Status status = strict.Poll(kLong).status();
  CHECK(status.code() == absl::StatusCode::kOutOfRange);
  CHECK(OffsetOf(status) == 9);
  CHECK(strict.position(where).value() == 9);
}

TEST_CASE("Consumer: without a group the lag counts from the position") {
  World world;
  world.SendMany(0, 5);
  Consumer consumer = world.Assigned({.max_poll_records = 2});
  CHECK(consumer.lag({"orders", 0}).value() == 5);
  REQUIRE(consumer.Poll(kLong).ok());
  CHECK(consumer.lag({"orders", 0}).value() == 3);
}

TEST_CASE("Consumer: a paused partition is left out and keeps its position") {
  World world({{"orders", 2}});
  Consumer consumer = world.Assigned();
  const TopicPartition paused{"orders", 0};
  REQUIRE(consumer.Pause({&paused, 1}).ok());
  world.Send(0, "a");
  world.Send(1, "b");
  CHECK(Values(consumer.Poll(kLong).value()) == List{"b"});
  CHECK(consumer.Poll(kShort).value().empty());
  CHECK(consumer.position(paused).value() == 0);
  REQUIRE(consumer.Resume({&paused, 1}).ok());
  CHECK(Values(consumer.Poll(kLong).value()) == List{"a"});
}

TEST_CASE("Consumer: read_up_to kDurable gives nothing that a power cut could take back") {
  World world({{"orders", 1}}, {.background_threads = false});
  world.Send(0, "a");
  Consumer consumer = world.Assigned({.read_up_to = ReadUpTo::kDurable});
  CHECK(consumer.Poll(kShort).value().empty());
  REQUIRE(world.Log().Flush().ok());
  world.Send(0, "b");
  CHECK(Values(consumer.Poll(kLong).value()) == List{"a"});
  CHECK(consumer.Poll(kShort).value().empty());
  REQUIRE(consumer.Seek({"orders", 0}, 2).ok());  // published, and not yet durable
  CHECK(consumer.Poll(kShort).value().empty());
  REQUIRE(consumer.Seek({"orders", 0}, 1).ok());
  REQUIRE(world.Log().Flush().ok());
  CHECK(Values(consumer.Poll(kLong).value()) == List{"b"});
}

// ---- Gaps and errors

TEST_CASE("Consumer: what was trimmed is a gap, in a batch that may have no record") {
  World world;
  world.SendMany(0, 3);
  Consumer consumer = world.Assigned();
  REQUIRE(world.Log().Trim(3).ok());
  const RecordBatch batch = consumer.Poll(kLong).value();
  CHECK(batch.empty());
  REQUIRE(batch.gaps().size() == 1);
  CHECK(batch.gaps()[0] == Gap{"orders", 0, 0, 3, GapReason::kTrim});
  CHECK(consumer.position({"orders", 0}).value() == 3);
  CHECK(consumer.Poll(kShort).value().gaps().empty());
}

TEST_CASE("Consumer: a damaged record is a gap, and the records after it are there") {
  World world;
  world.SendMany(0, 3);
  world.DamageFirstRecord(0);
  const RecordBatch batch = world.Assigned().Poll(kLong).value();
  CHECK(Values(batch) == List{"1", "2"});
  REQUIRE(batch.gaps().size() == 1);
  CHECK(batch.gaps()[0] == Gap{"orders", 0, 0, 1, GapReason::kDamage});
  Consumer unchecked = world.Assigned({.verify_checksums = false});
  CHECK(unchecked.Poll(kLong).value().size() == 3);
}

TEST_CASE("Consumer: with kError what is gone is an error, once, and the position stays") {
  World world;
  world.SendMany(0, 3);
  Consumer consumer = world.Assigned({.out_of_range = OutOfRange::kError});
  REQUIRE(world.Log().Trim(2).ok());
  const TopicPartition where{"orders", 0};
  const absl::Status status = consumer.Poll(kLong).status();
  CHECK(status.code() == absl::StatusCode::kOutOfRange);
  CHECK(PartitionOf(status) == where);
  CHECK(OffsetOf(status) == 0);
  CHECK(consumer.position(where).value() == 0);
  CHECK(consumer.Poll(kShort).value().empty());

  SECTION("Resume tries again") {
    REQUIRE(consumer.Resume({&where, 1}).ok());
    CHECK(consumer.Poll(kLong).status().code() == absl::StatusCode::kOutOfRange);
  }
  SECTION("Seek goes on elsewhere") {
    REQUIRE(consumer.Seek(where, 2).ok());
    CHECK(Values(consumer.Poll(kLong).value()) == List{"2"});
  }
}

TEST_CASE("Consumer: with kError damage is kDataLoss, after the records before it") {
  World world({{"orders", 2}});
  world.SendMany(0, 2);
  world.SendMany(1, 2);
  world.DamageFirstRecord(0);
  Consumer consumer = world.Assigned({.out_of_range = OutOfRange::kError});
  const RecordBatch batch = consumer.Poll(kLong).value();
  CHECK(batch.size() == 2);  // those of the other partition
  CHECK(batch.begin()->partition() == 1);
  const absl::Status status = consumer.Poll(kLong).status();
  CHECK(status.code() == absl::StatusCode::kDataLoss);
  CHECK(PartitionOf(status) == TopicPartition{"orders", 0});
  world.Send(1, "more");
  CHECK(Values(consumer.Poll(kLong).value()) == List{"more"});
}

// ---- The end of it

TEST_CASE("Consumer: one that was moved from, or closed, answers kFailedPrecondition") {
  World world;
  world.Send(0, "x");
  Consumer first = world.Assigned();
  Consumer second = std::move(first);
  CHECK(first.Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(first.Assign({}).code() == absl::StatusCode::kFailedPrecondition);
  CHECK(first.assignment().empty());
  first.Wakeup();
  CHECK(first.Close().ok());
  CHECK(second.Poll(kLong).value().size() == 1);
  CHECK(second.Close().ok());
  CHECK(second.Close().ok());
  CHECK(second.Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(second.Seek({"orders", 0}, 0).code() == absl::StatusCode::kFailedPrecondition);
  first = world.Assigned();
  CHECK(first.Poll(kLong).value().size() == 1);
}

TEST_CASE("Consumer: after the broker was closed every call is kFailedPrecondition") {
  World world;
  world.Send(0, "x");
  Consumer consumer = world.Assigned({.group = "billing"});
  const RecordBatch batch = consumer.Poll(kLong).value();
  REQUIRE(world.broker.Close().ok());
  CHECK(Values(batch) == List{"x"});
  CHECK(consumer.Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(consumer.Commit().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(consumer.ReadyFd().status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("Consumer: Poll inside AppendInPlace's fill is kFailedPrecondition") {
  World world;
  Consumer consumer = world.Assigned();
  absl::Status inside;
  REQUIRE(world.Log()
              .AppendInPlace(8, {},
                             [&](std::span<std::byte> out) {
                               inside = consumer.Poll(kShort).status();
                               std::fill(out.begin(), out.end(), std::byte{0});
                               return out.size();
                             })
              .ok());
  CHECK(inside.code() == absl::StatusCode::kFailedPrecondition);
}

}  // namespace cordwood
