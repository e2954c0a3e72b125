// ShareConsumer: what becomes of a record that was acquired, and every error.

#include "cordwood/share_consumer.h"

#include <atomic>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cordwood/os/clock.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/share_fixture.h"
#include "tests/support/sleeper.h"

namespace cordwood {
namespace {

using namespace share_testing;
using Code = absl::StatusCode;

constexpr absl::Duration kNow = absl::ZeroDuration();

void Await(absl::Time until) {
  while (absl::Now() < until) std::this_thread::yield();
}

}  // namespace

// ---- Acknowledging

TEST_CASE("ShareConsumer: what is accepted is not delivered again, and the lag says so") {
  ShareWorld world;
  world.Send(0, "a");
  world.Send(0, "b");
  ShareConsumer worker = world.Worker();
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  REQUIRE(Values(batch) == List{"a", "b"});
  CHECK(Counts(batch) == std::vector<int>{1, 1});
  CHECK(world.Lag() == 2);
  CHECK(worker.Acknowledge(*++batch.begin()).ok());
  CHECK(world.Lag() == 2);
  CHECK(worker.Acknowledge(*batch.begin()).ok());
  CHECK(world.Lag() == 0);
  CHECK(worker.Acquire(kShort).value().empty());
}

TEST_CASE("ShareConsumer: what is released is delivered again, and counted") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  for (int count = 1; count <= 3; ++count) {
    const One one(worker);
    CHECK((*one).delivery_count() == count);
    CHECK(worker.Acknowledge(*one, AckType::kRelease).ok());
  }
}

TEST_CASE("ShareConsumer: what is held is given to nobody else, and the others are") {
  ShareWorld world;
  for (const char* value : {"a", "b", "c"}) world.Send(0, value);
  ShareConsumer first = world.Worker({.max_poll_records = 2});
  ShareConsumer second = world.Worker();
  const AcquiredBatch held = first.Acquire(kLong).value();
  CHECK(Values(held) == List{"a", "b"});
  CHECK(Values(second.Acquire(kLong).value()) == List{"c"});
  CHECK(second.Acquire(kShort).value().empty());
}

TEST_CASE("ShareConsumer: one acknowledgement counts, the next one is kAborted") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  const One one(worker);
  REQUIRE(worker.Acknowledge(*one).ok());
  for (const AckType type : {AckType::kAccept, AckType::kRelease, AckType::kReject}) {
    const absl::Status again = worker.Acknowledge(*one, type);
    CHECK(again.code() == Code::kAborted);
    CHECK(OffsetOf(again) == 0);
    CHECK(PartitionOf(again) == TopicPartition{"orders", 0});
  }
  CHECK(worker.Renew(*one).code() == Code::kAborted);
  CHECK(world.Letters().empty());
}

TEST_CASE("ShareConsumer: after its lock time a record is delivered again, and not before") {
  ShareWorld world;
  world.Send(0, "a");
  const ShareConsumerOptions options = {.lock_time = absl::Milliseconds(200)};
  ShareConsumer slow = world.Worker(options);
  ShareConsumer other = world.Worker(options);
  const absl::Time begin = absl::Now();
  const std::int64_t begin_ns = os::MonotonicNanos();
  const One late(slow);
  const One again(other);
  CHECK(absl::Nanoseconds(os::MonotonicNanos() - begin_ns) >= options.lock_time);
  CHECK((*again).delivery_count() == 2);
  CHECK((*late).lock_deadline() >= begin + options.lock_time);
  // Nothing changes: it is the other one's.
  CHECK(slow.Acknowledge(*late).code() == Code::kAborted);
  CHECK(slow.Renew(*late).code() == Code::kAborted);
  CHECK(other.Acknowledge(*again).ok());
}

TEST_CASE("ShareConsumer: an acknowledgement after the lock time counts while nobody else has it") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker({.lock_time = absl::Nanoseconds(1)});
  const One one(worker);
  CHECK(worker.Acknowledge(*one).ok());
  CHECK(worker.Acquire(kShort).value().empty());
}

TEST_CASE("ShareConsumer: a lock that is renewed is held from then on") {
  ShareWorld world;
  world.Send(0, "a");
  const ShareConsumerOptions options = {.lock_time = absl::Milliseconds(300)};
  ShareConsumer worker = world.Worker(options);
  ShareConsumer other = world.Worker(options);
  const absl::Time begin = absl::Now();
  const One one(worker);
  Await(begin + options.lock_time / 2);
  const std::int64_t renewed = os::MonotonicNanos();
  REQUIRE(worker.Renew(*one).ok());
  const One again(other);
  CHECK(absl::Nanoseconds(os::MonotonicNanos() - renewed) >= options.lock_time);
}

TEST_CASE("ShareConsumer: a lock time without an end is one") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker({.lock_time = absl::InfiniteDuration()});
  ShareConsumer other = world.Worker();
  const One one(worker);
  CHECK(other.Acquire(kShort).value().empty());
  CHECK(worker.Renew(*one).ok());
}

// ---- Closing

TEST_CASE("ShareConsumer: what is held when it closes is free at once, with its count") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer other = world.Worker();
  std::optional<ShareConsumer> worker = world.Worker();
  const One one(*worker);
  SECTION("Close") { CHECK(worker->Close().ok()); }
  SECTION("the destructor") { worker.reset(); }
  SECTION("an assignment") { *worker = world.Worker(); }
  CHECK((*One(other)).delivery_count() == 2);
  if (!worker) return;
  CHECK_FALSE(worker->Acknowledge(*one).ok());
  CHECK(worker->Close().ok());
}

TEST_CASE("ShareConsumer: what is held of a topic that is left out is free at once") {
  ShareWorld world({{"orders", 1}, {"mail", 1}, {"dead", 1}});
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  ShareConsumer other = world.Worker();
  const One one(worker);
  REQUIRE(worker.Subscribe({"mail"}).ok());
  CHECK(worker.Acknowledge(*one).code() == Code::kAborted);
  CHECK((*One(other)).delivery_count() == 2);
}

TEST_CASE("ShareConsumer: a broker that is closed gives back what its consumers hold") {
  ShareWorld world;
  world.Send(0, "a");
  Broker second = Broker::Open(world.dir.path() / "data").value();
  ShareConsumer other = world.Worker();
  ShareConsumer worker = second.NewShareConsumer({.group = "billing"}).value();
  REQUIRE(worker.Subscribe({"orders"}).ok());
  const One one(worker);
  REQUIRE(second.Close().ok());
  CHECK((*One(other)).delivery_count() == 2);
  CHECK(worker.Acknowledge(*one).code() == Code::kFailedPrecondition);
  CHECK((*one)->value() == "a");
  CHECK(worker.Close().ok());
}

TEST_CASE("ShareConsumer: acknowledgements are there after everything was closed") {
  ShareWorld world;
  for (const char* value : {"a", "b", "c", "d"}) world.Send(0, value);
  {
    ShareConsumer worker = world.Worker();
    const AcquiredBatch batch = worker.Acquire(kLong).value();
    auto record = batch.begin();
    REQUIRE(worker.Acknowledge(*++record).ok());
    REQUIRE(worker.Acknowledge(*++record, AckType::kReject).ok());
  }
  REQUIRE(world.broker.Close().ok());
  world.broker = Broker::Open(world.dir.path() / "data").value();
  ShareConsumer worker = world.Worker();
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  CHECK(Values(batch) == List{"a", "d"});
  CHECK(Counts(batch) == std::vector<int>{2, 2});
}

TEST_CASE("ShareConsumer: a flush pass writes what was acknowledged, and once") {
  const auto storage = FailingStorage::Make();
  ShareWorld world({{"orders", 1}, {"dead", 1}}, {.background_threads = false, .storage = storage});
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  const One one(worker);
  REQUIRE(worker.Acknowledge(*one).ok());
  storage->Forget();
  REQUIRE(world.broker.Maintain(absl::Seconds(10)).ok());
  REQUIRE(world.broker.Maintain(absl::Seconds(10)).ok());
  CHECK(storage->Count(FailingStorage::Op::kMapSync, "share-") == 1);
  // After the records, and before the offsets (rule 23).
  const int share = storage->Find(FailingStorage::Op::kMapSync, "share-");
  CHECK(storage->Find(FailingStorage::Op::kMapSync, ".log") < share);
  CHECK(storage->Find(FailingStorage::Op::kFileSync, "offsets") > share);
}

TEST_CASE("ShareConsumer: a batch outlives its consumer and its broker") {
  std::optional<ShareWorld> world;
  world.emplace();
  world->Send(0, "a");
  AcquiredBatch batch = world->Worker().Acquire(kLong).value();
  const AcquiredBatch moved = std::move(batch);
  REQUIRE(world->broker.Close().ok());
  world->broker = Broker();
  CHECK(Values(moved) == List{"a"});
  CHECK(batch.empty());
}

// ---- What is taken

TEST_CASE("ShareConsumer: partitions take turns, and each of them has its own records") {
  ShareWorld world({{"orders", 3}, {"dead", 1}});
  for (int i = 0; i < 6; ++i) world.Send(i % 3, std::to_string(i));
  ShareConsumer worker = world.Worker({.max_poll_records = 2});
  std::set<std::string> values;
  std::set<int> partitions;
  for (int i = 0; i < 3; ++i) {
    const AcquiredBatch batch = worker.Acquire(kLong).value();
    for (const AcquiredRecord& record : batch) {
      values.emplace(record->value().value());
      partitions.insert(record->partition());
      CHECK(worker.Acknowledge(record).ok());
    }
  }
  CHECK(values.size() == 6);
  CHECK(partitions.size() == 3);
  CHECK(world.Lag() == 0);
}

TEST_CASE("ShareConsumer: a partition that a stopped process has locked does not hold up others") {
  ShareWorld world({{"orders", 2}, {"dead", 1}});
  ShareConsumer worker = world.Worker();
  world.Send(0, "a");
  REQUIRE(worker.Acknowledge(*One(worker)).ok());
  world.Send(0, "b");
  world.Send(1, "c");
  // The second open of a directory has the second slot, and lives.
  const Broker stopped = Broker::Open(world.dir.path() / "data").value();
  constexpr std::uint64_t kReady = group::ShareHeader::kReady;
  world.Overwrite(offsetof(group::ShareHeader, state), std::uint64_t{0x10002} << 32 | kReady);
  CHECK((*One(worker))->value() == "c");
  CHECK(worker.Acquire(kShort).value().empty());
  world.Overwrite(offsetof(group::ShareHeader, state), kReady);
  CHECK((*One(worker))->value() == "b");
}

TEST_CASE("ShareConsumer: at most 2,048 records are held, until the first one is done with") {
  ShareWorld world;
  world.SendMany(0, 2100);
  ShareConsumer worker = world.Worker({.max_poll_records = 3000});
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  CHECK(batch.size() == 2048);
  CHECK(worker.Acquire(kShort).value().empty());
  REQUIRE(worker.Acknowledge(*++batch.begin()).ok());
  CHECK(worker.Acquire(kShort).value().empty());
  REQUIRE(worker.Acknowledge(*batch.begin()).ok());
  CHECK(Values(worker.Acquire(kLong).value()) == List{"2048", "2049"});
}

TEST_CASE("ShareConsumer: all of many records are delivered once, lap after lap") {
  ShareWorld world;
  world.SendMany(0, 5000);
  ShareConsumer worker = world.Worker();
  std::set<Offset> seen;
  while (seen.size() < 5000) {
    const AcquiredBatch batch = worker.Acquire(kLong).value();
    REQUIRE_FALSE(batch.empty());
    for (const AcquiredRecord& record : batch) {
      REQUIRE(seen.insert(record->offset()).second);
      REQUIRE(record.delivery_count() == 1);
      REQUIRE(worker.Acknowledge(record).ok());
    }
  }
  CHECK(world.Lag() == 0);
}

TEST_CASE("ShareConsumer: what was trimmed is a gap, and the group goes on past it") {
  ShareWorld world;
  world.SendMany(0, 3000);
  REQUIRE(world.Log().Trim(2990).ok());
  REQUIRE(world.broker.OpenTopic("orders").ok());
  ShareConsumer worker = world.Worker();
  CHECK(worker.Acquire(kLong).value().size() == 10);
}

TEST_CASE("ShareConsumer: what is trimmed behind its back is told of once") {
  ShareWorld world;
  world.SendMany(0, 3000);
  ShareConsumer worker = world.Worker({.max_poll_records = 1});
  REQUIRE(worker.Acknowledge(*One(worker)).ok());
  REQUIRE(world.Log().Trim(2999).ok());
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  REQUIRE(batch.gaps().size() == 1);
  CHECK(batch.gaps()[0] == Gap{"orders", 0, 1, 2999, GapReason::kTrim});
  CHECK(Values(batch) == List{"2999"});
  REQUIRE(worker.Acknowledge(*batch.begin()).ok());
  CHECK(worker.Acquire(kShort).value().gaps().empty());
  CHECK(world.Lag() == 0);
}

TEST_CASE("ShareConsumer: a damaged record is a gap, and costs no other") {
  ShareWorld world;
  for (const char* value : {"a", "b"}) world.Send(0, value);
  REQUIRE(world.Log().Flush().ok());
  world.DamageFirstRecord(0);
  ShareConsumer worker = world.Worker();
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  REQUIRE(batch.gaps().size() == 1);
  CHECK(batch.gaps()[0] == Gap{"orders", 0, 0, 1, GapReason::kDamage});
  CHECK(Values(batch) == List{"b"});
}

TEST_CASE("ShareConsumer: where a group begins is the start, the end, or an error") {
  ShareWorld world;
  world.Send(0, "old");
  ShareConsumer latest = world.Worker({.reset = OffsetReset::kLatest});
  world.Send(0, "new");
  CHECK(Values(latest.Acquire(kLong).value()) == List{"new"});
  ShareConsumer none =
      world.broker.NewShareConsumer({.group = "other", .reset = OffsetReset::kError}).value();
  const absl::Status status = none.Subscribe({"orders"});
  CHECK(status.code() == Code::kOutOfRange);
  CHECK(PartitionOf(status) == TopicPartition{"orders", 0});
}

TEST_CASE("ShareConsumer: a group that is reset begins anew from there") {
  ShareWorld world;
  for (const char* value : {"a", "b", "c"}) world.Send(0, value);
  {
    ShareConsumer worker = world.Worker();
    const AcquiredBatch batch = worker.Acquire(kLong).value();
    for (const AcquiredRecord& record : batch) REQUIRE(worker.Acknowledge(record).ok());
    CHECK(world.broker.ResetOffsets("billing", ResetTo::At(1)).status().code() ==
          Code::kFailedPrecondition);
    // Nor does an ordinary consumer commit behind its back.
    Consumer consumer = world.broker.NewConsumer({.group = "billing"}).value();
    REQUIRE(consumer.Assign({{"orders", 0}}).ok());
    CHECK(consumer.Commit({{{"orders", 0}, 1}}, {.force = true}).code() ==
          Code::kFailedPrecondition);
  }
  REQUIRE(world.broker.ResetOffsets("billing", ResetTo::At(1)).ok());
  ShareConsumer worker = world.Worker();
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  CHECK(Values(batch) == List{"b", "c"});
  CHECK(Counts(batch) == std::vector<int>{1, 1});
}

// ---- Waiting

TEST_CASE("ShareConsumer: a record that is appended, or released, wakes who waits") {
  ShareWorld world;
  ShareConsumer worker = world.Worker();
  ShareConsumer other = world.Worker();
  const std::jthread producer([&] { world.Log().Append({.value = "a"}).IgnoreError(); });
  const One one(worker);
  const std::jthread releaser([&] { worker.Acknowledge(*one, AckType::kRelease).IgnoreError(); });
  CHECK((*One(other)).delivery_count() == 2);
}

TEST_CASE("ShareConsumer: who waits is woken, and does not find it when it looks by itself") {
  ShareWorld world;
  ShareConsumer worker = world.Worker({.delivery_limit = 1000});
  ShareConsumer other = world.Worker({.delivery_limit = 1000});
  constexpr int kRounds = 20;
  std::vector<absl::Duration> woken;
  for (int i = 0; i < kRounds; ++i) {
    world.Send(0, "a");
    const One one(worker);
    // The other one waits by then; a look is due 100 ms later.
    absl::Time released;
    std::jthread releaser = OnceCallerSleeps([&] {
      worker.Acknowledge(*one, AckType::kRelease).IgnoreError();
      released = absl::Now();
    });
    const One again(other);
    const absl::Time now = absl::Now();
    releaser.join();
    woken.push_back(now - released);
    REQUIRE(other.Acknowledge(*again).ok());
  }
  // Looks alone would take 100 ms each; a stall of the machine hits a few.
  CHECK(std::count_if(woken.begin(), woken.end(), [](absl::Duration after) {
          return after < absl::Milliseconds(75);
        }) > kRounds / 2);
}

TEST_CASE("ShareConsumer: Wakeup, a stop token and a close end an Acquire that waits") {
  ShareWorld world;
  ShareConsumer worker = world.Worker();
  worker.Wakeup();
  CHECK(worker.Acquire(kLong).status().code() == Code::kCancelled);
  CHECK(worker.Acquire(kNow).value().empty());
  std::stop_source stop;
  std::thread stopper([&] { stop.request_stop(); });
  CHECK(worker.Acquire(absl::InfiniteDuration(), stop.get_token()).status().code() ==
        Code::kCancelled);
  stopper.join();
  std::thread closer([&] { world.broker.Close().IgnoreError(); });
  CHECK(worker.Acquire(absl::InfiniteDuration()).status().code() == Code::kFailedPrecondition);
  closer.join();
}

TEST_CASE("ShareConsumer: many consumers and workers at a time, each record is accepted once") {
  ShareWorld world({{"orders", 2}, {"dead", 1}});
  constexpr int kRecords = 600;
  for (int i = 0; i < kRecords; ++i) world.Send(i % 2, std::to_string(i));
  std::vector<std::atomic<int>> accepted(kRecords);
  std::atomic<int> left = kRecords;
  const auto work = [&](ShareConsumer worker) {
    while (left > 0) {
      const AcquiredBatch batch = worker.Acquire(absl::Milliseconds(10)).value();
      // Acknowledged by two threads, a part of them first released.
      const auto acknowledge = [&](std::size_t parity) {
        std::size_t i = 0;
        for (const AcquiredRecord& record : batch) {
          if (i++ % 2 != parity) continue;
          const int number = std::stoi(std::string(record->value().value()));
          const bool release = number % 7 == 0 && record.delivery_count() == 1;
          if (!worker.Acknowledge(record, release ? AckType::kRelease : AckType::kAccept).ok()) {
            continue;
          }
          if (release) continue;
          ++accepted[static_cast<std::size_t>(number)];
          --left;
        }
      };
      std::thread helper(acknowledge, 1);
      acknowledge(0);
      helper.join();
    }
  };
  std::vector<std::jthread> threads;
  for (int i = 0; i < 3; ++i) threads.emplace_back(work, world.Worker({.max_poll_records = 20}));
  threads.clear();  // joins
  for (const std::atomic<int>& times : accepted) CHECK(times == 1);
  CHECK(world.Lag() == 0);
}

// ---- Errors

TEST_CASE("ShareConsumer: options that make no sense are refused") {
  ShareWorld world;
  const auto code = [&](const ShareConsumerOptions& options) {
    return world.broker.NewShareConsumer(options).status().code();
  };
  CHECK(code({}) == Code::kInvalidArgument);
  CHECK(code({.group = "../x"}) == Code::kInvalidArgument);
  CHECK(code({.group = "g", .lock_time = kNow}) == Code::kInvalidArgument);
  CHECK(code({.group = "g", .delivery_limit = 0}) == Code::kInvalidArgument);
  CHECK(code({.group = "g", .delivery_limit = 1001}) == Code::kInvalidArgument);
  CHECK(code({.group = "g", .max_poll_records = 0}) == Code::kInvalidArgument);
  CHECK(code({.group = "g", .dead_letter_topic = "none"}) == Code::kNotFound);
}

TEST_CASE("ShareConsumer: what cannot be subscribed to is refused, and nothing changes") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  CHECK(worker.Subscribe({"orders", "none"}).code() == Code::kNotFound);
  CHECK(worker.Subscribe({"orders", "dead"}).code() == Code::kInvalidArgument);
  CHECK(Values(worker.Acquire(kLong).value()) == List{"a"});
}

TEST_CASE("ShareConsumer: a group reads a topic by share consumers or by a consumer") {
  ShareWorld world;
  {
    const Consumer consumer = world.Subscribed();
    ShareConsumer worker = world.broker.NewShareConsumer({.group = "billing"}).value();
    CHECK(worker.Subscribe({"orders"}).code() == Code::kFailedPrecondition);
  }
  ShareConsumer worker = world.Worker();
  Consumer consumer = world.broker.NewConsumer({.group = "billing"}).value();
  CHECK(consumer.Subscribe({"orders"}).code() == Code::kFailedPrecondition);
  CHECK(world.broker.DeleteGroup("billing").code() == Code::kFailedPrecondition);
  REQUIRE(worker.Close().ok());
  CHECK(world.broker.DeleteGroup("billing").ok());
}

TEST_CASE("ShareConsumer: a group that was deleted and made again begins anew") {
  ShareWorld world;
  world.Send(0, "a");
  {
    ShareConsumer worker = world.Worker();
    REQUIRE(worker.Acknowledge(*One(worker)).ok());
  }
  REQUIRE(world.broker.DeleteGroup("billing").ok());
  ShareConsumer worker = world.Worker();
  CHECK((*One(worker)).delivery_count() == 1);
}

TEST_CASE("ShareConsumer: a topic that is deleted is told of once, and read no more") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  const One one(worker);
  REQUIRE(world.broker.DeleteTopic("orders").ok());
  const absl::Status status = worker.Acquire(kLong).status();
  CHECK(status.code() == Code::kNotFound);
  CHECK(PartitionOf(status) == TopicPartition{"orders", 0});
  CHECK(worker.Acquire(kLong).status().code() == Code::kFailedPrecondition);
}

TEST_CASE("ShareConsumer: a record of somebody else's, or of nobody's, cannot be acknowledged") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  ShareConsumer other = world.Worker();
  const One one(worker);
  CHECK(other.Acknowledge(*one).code() == Code::kInvalidArgument);
  CHECK(other.Renew(*one).code() == Code::kInvalidArgument);
  CHECK(worker.Acknowledge(AcquiredRecord()).code() == Code::kInvalidArgument);
  CHECK(worker.Acknowledge(*one, static_cast<AckType>(9)).code() == Code::kInvalidArgument);
  CHECK(worker.Acknowledge(*one).ok());
}

TEST_CASE("ShareConsumer: one that is new, moved from, closed or read-only says so") {
  ShareWorld world;
  ShareConsumer fresh = world.broker.NewShareConsumer({.group = "g"}).value();
  CHECK(fresh.Acquire(kNow).status().code() == Code::kFailedPrecondition);
  ShareConsumer worker = world.Worker();
  ShareConsumer moved = std::move(worker);
  worker.Wakeup();
  CHECK(worker.Close().ok());
  CHECK(worker.Acquire(kNow).status().code() == Code::kFailedPrecondition);
  CHECK(worker.Acknowledge(AcquiredRecord()).code() == Code::kFailedPrecondition);
  CHECK(worker.Renew(AcquiredRecord()).code() == Code::kFailedPrecondition);
  REQUIRE(moved.Close().ok());
  CHECK(moved.Subscribe({"orders"}).code() == Code::kFailedPrecondition);
  CHECK(moved.Acquire(kNow).status().code() == Code::kFailedPrecondition);
  const Broker reader = Broker::Open(world.dir.path() / "data", {.read_only = true}).value();
  CHECK(reader.NewShareConsumer({.group = "g"}).status().code() == Code::kFailedPrecondition);
}

TEST_CASE("ShareConsumer: inside a fill it answers kFailedPrecondition") {
  ShareWorld world;
  world.Send(0, "a");
  ShareConsumer worker = world.Worker();
  const One one(worker);
  absl::Status acquired, acknowledged;
  world.Log()
      .AppendInPlace(1, {},
                     [&](std::span<std::byte>) {
                       acquired = worker.Acquire(kNow).status();
                       acknowledged = worker.Acknowledge(*one);
                       return std::size_t{0};
                     })
      .IgnoreError();
  CHECK(acquired.code() == Code::kFailedPrecondition);
  CHECK(acknowledged.code() == Code::kFailedPrecondition);
}

}  // namespace cordwood
