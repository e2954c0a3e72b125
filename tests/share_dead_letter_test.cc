// ShareConsumer: what is given up, and order by key.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/support/share_fixture.h"

namespace cordwood {
namespace {

using namespace share_testing;
using Code = absl::StatusCode;

// Letters have to be durable in a short time: here no thread of the broker is at a sync beside
// them.
class QuietWorld : public ShareWorld {
 public:
  explicit QuietWorld(const std::map<std::string, int>& topics = {{"orders", 1}, {"dead", 1}})
      : ShareWorld(topics, {.background_threads = false}) {}
};

}  // namespace

// ---- Dead letters

TEST_CASE("ShareConsumer: a dead letter has the record and says where it was, and why") {
  QuietWorld world;
  world.Send(0, "fine");
  const absl::Time time = absl::FromUnixSeconds(1'000'000);
  REQUIRE(world.Log()
              .Append({.key = "k", .value = "v", .headers = {{"h", "1"}}, .timestamp = time})
              .ok());
  ShareConsumer worker = world.Worker();
  for (int count = 1; count <= 5; ++count) {
    const AcquiredBatch batch = worker.Acquire(kLong).value();
    for (const AcquiredRecord& record : batch) {
      const bool bad = record->key().has_value();
      if (bad) CHECK(record.delivery_count() == count);
      CHECK(worker.Acknowledge(record, bad ? AckType::kRelease : AckType::kAccept).ok());
    }
  }
  CHECK(worker.Acquire(kShort).value().empty());
  CHECK(world.Letters() == std::vector<Letter>{{{"value", "v"},
                                                {"h", "1"},
                                                {"topic", "orders"},
                                                {"partition", "0"},
                                                {"offset", "1"},
                                                {"group", "billing"},
                                                {"delivery_count", "5"},
                                                {"reason", "delivery limit reached"}}});
  PartitionReader reader = world.Log(0, "dead").Read(0).value();
  const RecordView letter = *reader.begin();
  CHECK(letter.key() == "k");
  CHECK(letter.timestamp() == time);
  CHECK(world.Log(0, "dead").durable_offset() == 1);
  CHECK(world.Lag() == 0);
}

TEST_CASE("ShareConsumer: what is rejected goes to the dead letters at once") {
  QuietWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  CHECK(worker.Acknowledge(*One(worker), AckType::kReject).ok());
  REQUIRE(world.Letters().size() == 1);
  CHECK(world.Letters()[0].at("reason") == "rejected");
  CHECK(world.Letters()[0].at("delivery_count") == "1");
  CHECK(world.Lag() == 0);
}

TEST_CASE("ShareConsumer: what expires, or is held by one that closes, is given up at the limit") {
  QuietWorld world;
  world.Send(0, "a");
  const ShareConsumerOptions options = {.lock_time = absl::Milliseconds(1), .delivery_limit = 2};
  std::optional<ShareConsumer> worker = world.Worker(options);
  const One first(*worker);
  const One second(*worker);
  SECTION("expired") { CHECK(worker->Acquire(kShort).value().empty()); }
  SECTION("closed") { worker.reset(); }
  REQUIRE(world.Letters().size() == 1);
  CHECK(world.Letters()[0].at("delivery_count") == "2");
  CHECK(world.Lag() == 0);
}

TEST_CASE("ShareConsumer: without a dead-letter topic records are given up in silence") {
  QuietWorld world;
  world.Send(0, "a");
  world.Send(0, "b");
  ShareConsumer worker = world.broker.NewShareConsumer({.group = "g", .delivery_limit = 1}).value();
  REQUIRE(worker.Subscribe({"orders"}).ok());
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  CHECK(worker.Acknowledge(*batch.begin(), AckType::kReject).ok());
  CHECK(worker.Acknowledge(*++batch.begin(), AckType::kRelease).ok());
  CHECK(worker.Acquire(kShort).value().empty());
}

TEST_CASE("ShareConsumer: a dead letter that cannot be written is told of, and written later") {
  QuietWorld world;
  world.Send(0, "a");
  world.Send(0, "b");
  ShareConsumer worker = world.Worker({.max_poll_records = 1});
  REQUIRE(world.broker.DeleteTopic("dead").ok());
  CHECK(worker.Acknowledge(*One(worker), AckType::kReject).code() == Code::kFailedPrecondition);
  // The records after it are not held up.
  const One next(worker);
  CHECK((*next)->value() == "b");
  absl::Status told;
  for (int i = 0; i < 100 && told.ok(); ++i) told = worker.Acquire(kShort).status();
  CHECK(told.code() == Code::kFailedPrecondition);
  REQUIRE(world.broker.CreateTopic("dead").ok());
  for (int i = 0; i < 100 && world.Letters().empty(); ++i) REQUIRE(worker.Acquire(kShort).ok());
  CHECK(world.Letters().size() == 1);
  CHECK(world.Lag() == 1);
}

TEST_CASE("ShareConsumer: a dead letter that is too large goes without its record, and says why") {
  QuietWorld world({{"orders", 1}});
  world.broker.CreateTopic("dead", {.max_message_bytes = 1000}).value();
  world.Send(0, std::string(900, 'x'));
  ShareConsumer worker = world.Worker();
  CHECK(worker.Acknowledge(*One(worker), AckType::kReject).ok());
  REQUIRE(world.Letters().size() == 1);
  CHECK(world.Letters()[0].at("value") == "none");
  CHECK(world.Letters()[0].at("offset") == "0");
  CHECK_FALSE(world.Letters()[0].at("omitted").empty());
}

TEST_CASE("ShareConsumer: of one that is killed over a dead letter, it is written once") {
  QuietWorld world;
  world.Send(0, "a");
  world.Send(0, "b", "dead");  // of somebody else
  ShareConsumer worker = world.Worker();
  const One one(worker);
  const bool is_written = GENERATE(false, true);
  if (is_written) {
    REQUIRE(world.Log(0, "dead")
                .Append({.value = "a",
                         .headers = {{"cordwood.dlq.topic", "orders"},
                                     {"cordwood.dlq.partition", "0"},
                                     {"cordwood.dlq.offset", "0"},
                                     {"cordwood.dlq.group", "billing"}}})
                .ok());
  }
  // It has said that the record dies, and where the letters begin, and no more.
  world.Overwrite(offsetof(group::ShareHeader, letters_from), 1 + 1);
  world.Overwrite(group::kShareHeaderBytes,
                  group::PackShareWord(0, {group::ShareState::kRejected, 1}));
  CHECK(worker.Acquire(kShort).value().empty());
  REQUIRE(world.Letters().size() == 2);
  CHECK(world.Letters()[1].at("offset") == "0");
  CHECK(world.Lag() == 0);
}

TEST_CASE("ShareConsumer: a record that is gone when its letter is due holds nothing up") {
  QuietWorld world;
  world.Send(0, "a");
  world.Send(0, "b");
  ShareConsumer worker = world.Worker();
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  REQUIRE(world.Log().Trim(1).ok());
  CHECK(worker.Acknowledge(*batch.begin(), AckType::kReject).ok());
  CHECK(world.Letters().empty());
  CHECK(world.Lag() == 1);
}

// ---- Order by key

TEST_CASE("ShareConsumer: by key, a record waits while an earlier one of its key is held") {
  ShareWorld world;
  world.SendKey("x", "x1");
  world.SendKey("x", "x2");
  world.SendKey("y", "y1");
  world.Send(0, "no key");
  world.Send(0, "no key either");
  const ShareConsumerOptions options = {.order_by_key = true};
  ShareConsumer worker = world.Worker(options);
  ShareConsumer other = world.Worker(options);
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  CHECK(Values(batch) == List{"x1", "y1", "no key", "no key either"});
  CHECK(other.Acquire(kShort).value().empty());
  REQUIRE(worker.Acknowledge(*batch.begin()).ok());
  CHECK(Values(other.Acquire(kLong).value()) == List{"x2"});
}

TEST_CASE("ShareConsumer: by key, a record waits for an earlier one that is delivered again") {
  ShareWorld world;
  for (const char* value : {"x1", "x2", "x3"}) world.SendKey("x", value);
  ShareConsumer worker = world.Worker({.order_by_key = true});
  REQUIRE(worker.Acknowledge(*One(worker), AckType::kRelease).ok());
  List order;
  for (int i = 0; i < 3; ++i) {
    const One one(worker);
    order.emplace_back((*one)->value().value());
    REQUIRE(worker.Acknowledge(*one).ok());
  }
  CHECK(order == List{"x1", "x2", "x3"});
}

TEST_CASE("ShareConsumer: by key, what one without order holds counts too") {
  QuietWorld world;
  world.SendKey("x", "x1");
  world.SendKey("x", "x2");
  ShareConsumer any = world.Worker({.max_poll_records = 1});
  ShareConsumer ordered = world.Worker({.order_by_key = true});
  const One held(any);
  CHECK(ordered.Acquire(kShort).value().empty());
  REQUIRE(any.Acknowledge(*held, AckType::kReject).ok());
  CHECK((*One(ordered))->value() == "x2");
}

TEST_CASE("ShareConsumer: a topic that takes no dead letter at all holds up nobody") {
  QuietWorld world;
  world.broker.CreateTopic("tiny", {.max_message_bytes = 10}).value();
  world.Send(0, "a");
  world.Send(0, "b");
  ShareConsumer worker = world.Worker({.dead_letter_topic = "tiny", .max_poll_records = 1});
  const absl::Status status = worker.Acknowledge(*One(worker), AckType::kReject);
  CHECK(status.code() == absl::StatusCode::kDataLoss);
  CHECK(OffsetOf(status) == 0);
  CHECK(worker.Acknowledge(*One(worker)).ok());
  CHECK(world.Lag() == 0);
}

}  // namespace cordwood
