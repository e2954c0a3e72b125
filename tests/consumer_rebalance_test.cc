// Several consumers in a group: who reads what, callbacks, fencing, topics that come and go.

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cordwood/consumer.h"
#include "cordwood/group/assignor.h"
#include "cordwood/group/offsets.h"
#include "cordwood/log/directory.h"
#include "tests/support/consumer_fixture.h"

namespace cordwood {
namespace {

using namespace consumer_testing;

const TopicPartition kFirst{"orders", 0};
const TopicPartition kSecond{"orders", 1};

// A consumer with a list of what its callbacks were called with: "+orders-0" assigned,
// "-orders-0" revoked, "!orders-0" lost.
struct Worker {
  Worker(const World& world, ConsumerOptions options = {}, const List& topics = {"orders"}) {
    const auto note = [this](const char* sign) {
      return [this, sign](Consumer& self, const Partitions& partitions) {
        for (const TopicPartition& p : partitions) {
          diary.push_back(sign + p.topic + "-" + std::to_string(p.partition));
        }
        if (*sign == '-' && commits) self.Commit().IgnoreError();
        if (*sign == '-' && while_revoked) while_revoked();
      };
    };
    options.on_assigned = note("+");
    options.on_revoked = note("-");
    options.on_lost = note("!");
    consumer = world.Subscribed(std::move(options), topics);
  }
  List Poll() { return Values(consumer->Poll(absl::ZeroDuration()).value()); }
  List TakeDiary() { return std::exchange(diary, {}); }
  Partitions Has() const { return consumer->assignment(); }

  List diary;
  bool commits = false;
  std::function<void()> while_revoked;
  std::optional<Consumer> consumer;
};

// All to the member with the smallest id, but for what `spoil` adds.
class Greedy : public group::Assignor {
 public:
  explicit Greedy(std::string name = "greedy") : name_(std::move(name)) {}
  std::string_view name() const override { return name_; }
  group::Assignment Assign(std::span<const group::AssignedMember> members,
                           std::span<const group::AssignedTopic> topics) const override {
    group::Assignment all;
    for (const group::AssignedTopic& topic : topics) {
      for (int p = 0; p < topic.partitions + spoil; ++p) {
        all[members.front().id].push_back({topic.name, p});
      }
    }
    return all;
  }
  int spoil = 0;

 private:
  const std::string name_;
};

}  // namespace

// ---- Handing over

TEST_CASE("Rebalance: a second consumer takes half, and only what moves is called back") {
  World world({{"orders", 4}});
  Worker first(world);
  first.Poll();
  CHECK(first.TakeDiary() == List{"+orders-0", "+orders-1", "+orders-2", "+orders-3"});
  Worker second(world);
  CHECK(second.Poll().empty());
  CHECK(second.TakeDiary().empty());  // the first one has not given anything up
  first.Poll();
  CHECK(first.TakeDiary() == List{"-orders-2", "-orders-3"});
  second.Poll();
  CHECK(second.TakeDiary() == List{"+orders-2", "+orders-3"});
  CHECK(second.consumer->Close().ok());
  first.Poll();
  CHECK(first.TakeDiary() == List{"+orders-2", "+orders-3"});
}

TEST_CASE("Rebalance: nobody reads a revoked partition before on_revoked has returned") {
  World world({{"orders", 2}});
  world.Send(1, "x");
  Worker first(world);
  CHECK(first.Poll() == List{"x"});
  Worker second(world);
  List read_inside;
  first.while_revoked = [&] { read_inside = second.Poll(); };
  first.Poll();
  first.while_revoked = nullptr;
  CHECK(read_inside.empty());
  CHECK(second.Poll() == List{"x"});  // nobody has committed it
}

TEST_CASE("Rebalance: what on_revoked commits is not read again") {
  World world({{"orders", 2}});
  world.Send(0, "a");
  world.Send(1, "b");
  Worker first(world);
  first.commits = true;
  CHECK(first.Poll().size() == 2);
  Worker second(world);
  first.Poll();
  CHECK(second.Poll().empty());
  CHECK(second.consumer->committed(kSecond).value() == 1);
}

TEST_CASE("Rebalance: auto-commit commits what was polled before it gives it up") {
  World world({{"orders", 2}});
  world.Send(1, "b");
  Worker first(world, {.auto_commit = AutoCommit::kAfterPoll});
  CHECK(first.Poll() == List{"b"});
  Worker second(world);
  first.Poll();
  CHECK(second.Poll().empty());
}

TEST_CASE("Rebalance: a consumer that sleeps in Poll gets what another one leaves at once") {
  World world({{"orders", 2}});
  world.Send(0, "a");
  world.Send(1, "b");
  std::optional<Worker> first(std::in_place, world);
  first->Poll();
  Worker second(world);
  std::thread sleeper([&] {
    std::size_t records = 0;
    while (records < 2) records += second.consumer->Poll(kLong).value().size();
  });
  first.reset();
  sleeper.join();
  CHECK(second.Has() == world.All());
}

TEST_CASE("Rebalance: a new subscription of one member moves what it leaves to the others") {
  World world({{"orders", 2}, {"users", 2}});
  Worker first(world, {}, {"orders", "users"});
  Worker second(world, {}, {"orders", "users"});
  for (int i = 0; i < 3; ++i) {
    first.Poll();
    second.Poll();
  }
  REQUIRE(second.consumer->Subscribe({"users"}).ok());
  for (int i = 0; i < 3; ++i) {
    first.Poll();
    second.Poll();
  }
  CHECK(first.Has() == world.All("orders"));
  CHECK(second.Has() == world.All("users"));
}

// ---- Fencing

TEST_CASE("Rebalance: a commit of what was given away is kAborted and names it") {
  World world({{"orders", 2}});
  world.Send(0, "a");
  world.Send(1, "b");
  Worker first(world);
  const RecordBatch batch = first.consumer->Poll(kLong).value();
  REQUIRE(batch.size() == 2);
  Worker second(world);
  first.Poll();
  second.Poll();
  for (const RecordView& record : batch) {
    const absl::Status status = first.consumer->Commit(record);
    CHECK(status.code() ==
          (record.partition() == 0 ? absl::StatusCode::kOk : absl::StatusCode::kAborted));
    if (!status.ok()) CHECK(PartitionOf(status) == kSecond);
  }
  const absl::Status both = first.consumer->Commit({{kFirst, 1}, {kSecond, 1}});
  CHECK(both.code() == absl::StatusCode::kAborted);
  CHECK(PartitionOf(both) == kSecond);
  CHECK(first.consumer->committed(kFirst).value() == 1);
  CHECK_FALSE(second.consumer->committed(kSecond).value().has_value());
}

TEST_CASE("Rebalance: one that never had a partition is told so, and not kAborted") {
  World world({{"orders", 2}});
  Worker first(world);
  CHECK(first.consumer->Commit({{{"users", 0}, 0}}).code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("Rebalance: a consumer with Assign does not commit behind a member's back") {
  World world;
  world.SendMany(0, 3);
  Consumer assigned = world.Assigned({.group = "billing"});
  REQUIRE(assigned.Poll(kLong).ok());
  {
    Worker member(world);
    member.Poll();
    CHECK(assigned.Commit().code() == absl::StatusCode::kFailedPrecondition);
    CHECK(member.consumer->Commit({{kFirst, 1}}).ok());
  }
  CHECK(assigned.Commit().ok());
  CHECK(assigned.committed(kFirst).value() == 3);
}

TEST_CASE("Rebalance: who polls too late loses all to the others, and commits nothing") {
  World world({{"orders", 2}});
  world.SendMany(0, 2);
  Worker slow(world, {.max_poll_interval = absl::Milliseconds(50)});
  CHECK(slow.Poll().size() == 2);
  Worker other(world);
  for (int i = 0; i < 1000 && other.Has().size() < 2; ++i) {
    other.consumer->Poll(absl::Milliseconds(10)).IgnoreError();
  }
  REQUIRE(other.Has() == world.All());
  const absl::Status commit = slow.consumer->Commit();
  CHECK(commit.code() == absl::StatusCode::kAborted);
  CHECK_FALSE(other.consumer->committed(kFirst).value().has_value());
  CHECK(slow.consumer->Poll(kShort).status().code() == absl::StatusCode::kAborted);
  CHECK(slow.TakeDiary() == List{"+orders-0", "+orders-1", "!orders-0", "!orders-1"});
  // It may poll too late again meanwhile.
  for (int i = 0; i < 10'000 && slow.Has().size() != 1; ++i) {
    slow.consumer->Poll(absl::ZeroDuration()).IgnoreError();
    other.consumer->Poll(absl::ZeroDuration()).IgnoreError();
  }
  CHECK(slow.Has().size() == 1);
}

TEST_CASE("Rebalance: who subscribes again after a pause has not polled too late") {
  World world;
  Worker worker(world, {.max_poll_interval = absl::Milliseconds(500)});
  worker.Poll();
  REQUIRE(worker.consumer->Subscribe({}).ok());
  worker.consumer->Poll(absl::ZeroDuration()).IgnoreError();
  absl::SleepFor(absl::Milliseconds(600));
  REQUIRE(worker.consumer->Subscribe({"orders"}).ok());
  CHECK(worker.consumer->Poll(absl::ZeroDuration()).ok());
}

// ---- Where a partition is begun

TEST_CASE("Rebalance: with kLatest the next owner goes on where the group began") {
  World world({{"orders", 2}});
  world.Send(1, "old");
  const ConsumerOptions latest{.reset = OffsetReset::kLatest};
  Worker first(world, latest);
  first.Poll();
  Worker second(world, latest);
  world.Send(1, "new");
  first.consumer->Pause(std::vector{kSecond}).IgnoreError();
  first.Poll();  // gives it up unread
  CHECK(second.Poll() == List{"new"});
}

TEST_CASE("Rebalance: a topic that a pattern finds later is shared, and read from its start") {
  World world({{"orders", 2}});
  const ConsumerOptions latest{.reset = OffsetReset::kLatest};
  std::vector<Worker> workers;
  workers.reserve(2);
  for (int i = 0; i < 2; ++i) {
    workers.emplace_back(world, latest);
    REQUIRE(workers.back().consumer->SubscribePattern("orders.*").ok());
  }
  world.broker.CreateTopic("orders-eu", {.partitions = 2}).value();
  world.Send(0, "x", "orders-eu");
  world.Send(1, "y", "orders-eu");
  List read;
  const auto shared = [&] { return workers[0].Has().size() == 2 && workers[1].Has().size() == 2; };
  for (int i = 0; i < 1000 && (read.size() < 2 || !shared()); ++i) {
    for (Worker& worker : workers) {
      const List more = Values(worker.consumer->Poll(absl::Milliseconds(5)).value());
      read.insert(read.end(), more.begin(), more.end());
      REQUIRE(worker.consumer->Commit().ok());
    }
  }
  std::sort(read.begin(), read.end());
  CHECK(read == List{"x", "y"});
  CHECK(shared());
}

TEST_CASE("Rebalance: a topic that appeared is not skipped by an owner that comes later") {
  World world;
  const ConsumerOptions latest{.reset = OffsetReset::kLatest};
  {
    Worker first(world, latest);
    REQUIRE(first.consumer->SubscribePattern("orders.*").ok());
    world.broker.CreateTopic("orders-eu").value();
    world.Send(0, "x", "orders-eu");
    CHECK(Values(first.consumer->Poll(kLong).value()) == List{"x"});
  }
  Worker second(world, latest);
  REQUIRE(second.consumer->SubscribePattern("orders.*").ok());
  CHECK(Values(second.consumer->Poll(kLong).value()) == List{"x"});
}

TEST_CASE("Rebalance: a topic that is deleted is lost by each of its readers, not revoked") {
  World world({{"orders", 2}, {"users", 2}});
  Worker first(world, {}, {"orders", "users"});
  Worker second(world, {}, {"orders", "users"});
  for (int i = 0; i < 3; ++i) {
    first.Poll();
    second.Poll();
  }
  for (Worker* worker : {&first, &second}) worker->TakeDiary();
  REQUIRE(world.broker.DeleteTopic("orders").ok());
  List told;
  for (int i = 0; i < 6; ++i) {
    for (Worker* worker : {&first, &second}) {
      const absl::StatusOr<RecordBatch> batch = worker->consumer->Poll(absl::ZeroDuration());
      if (!batch.ok()) CHECK(absl::IsNotFound(batch.status()));
      for (const std::string& entry : worker->TakeDiary()) {
        if (entry.find("orders") != std::string::npos) told.push_back(entry);
      }
    }
  }
  std::sort(told.begin(), told.end());
  CHECK(told == List{"!orders-0", "!orders-1"});
  CHECK(first.Has().size() + second.Has().size() == 2);
}

TEST_CASE("Rebalance: a topic that is made again under its name is read from its start") {
  World world;
  world.Send(0, "old");
  Worker worker(world, {.reset = OffsetReset::kLatest});
  worker.Poll();
  REQUIRE(world.broker.DeleteTopic("orders").ok());
  CHECK(absl::IsNotFound(worker.consumer->Poll(kLong).status()));
  world.broker.CreateTopic("orders").value();
  world.Send(0, "new");
  CHECK(Values(worker.consumer->Poll(kLong).value()) == List{"new"});
}

// ---- Static members, assignors

TEST_CASE("Rebalance: a static member comes back to its partitions, and nobody is disturbed") {
  World world({{"orders", 4}});
  Worker other(world);
  const ConsumerOptions options{.group_instance_id = "worker-1"};
  std::optional<Worker> worker(std::in_place, world, options);
  for (int i = 0; i < 3; ++i) {
    other.Poll();
    worker->Poll();
  }
  const Partitions had = worker->Has();
  REQUIRE(had.size() == 2);
  other.TakeDiary();
  worker.reset();
  other.Poll();
  worker.emplace(world, options);
  worker->Poll();
  other.Poll();
  CHECK(worker->Has() == had);
  CHECK(other.TakeDiary().empty());
}

TEST_CASE("Rebalance: a user's own assignor is asked") {
  World world({{"orders", 2}});
  const ConsumerOptions options{.custom_assignor = std::make_shared<Greedy>()};
  Worker first(world, options);
  Worker second(world, options);
  for (int i = 0; i < 3; ++i) {
    first.Poll();
    second.Poll();
  }
  CHECK(first.Has() == world.All());
  CHECK(second.Has().empty());
  CHECK(world.broker.NewConsumer({.group = "billing"}).value().Subscribe({"orders"}).code() ==
        absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("Rebalance: an assignment that is none is an error, and nothing changes") {
  World world({{"orders", 2}});
  const auto greedy = std::make_shared<Greedy>();
  Worker first(world, {.custom_assignor = greedy});
  first.Poll();
  greedy->spoil = 1;
  Consumer second =
      world.broker.NewConsumer({.group = "billing", .custom_assignor = greedy}).value();
  const absl::Status status = second.Subscribe({"orders"});
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(Says(status, "orders-2"));
  CHECK(first.Has() == world.All());
  greedy->spoil = 0;
  CHECK(second.Subscribe({"orders"}).ok());
}

TEST_CASE("Rebalance: options that cannot be are kInvalidArgument") {
  World world;
  const auto code = [&](const ConsumerOptions& options) {
    return world.broker.NewConsumer(options).status().code();
  };
  CHECK(code({.group = "billing", .assignor = "fair"}) == absl::StatusCode::kInvalidArgument);
  CHECK(code({.group = "billing", .group_instance_id = "a/b"}) ==
        absl::StatusCode::kInvalidArgument);
  CHECK(code({.group = "billing",
              .group_instance_id = "a",
              .session_timeout = absl::ZeroDuration()}) == absl::StatusCode::kInvalidArgument);
  CHECK(code({.group = "billing", .custom_assignor = std::make_shared<Greedy>("range")}) ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("Rebalance: a decision that cannot be made is told once, and polls go on") {
  World world({{"orders", 2}});
  const auto greedy = std::make_shared<Greedy>();
  Worker first(world, {.custom_assignor = greedy});
  std::optional<Worker> second(std::in_place, world, ConsumerOptions{.custom_assignor = greedy});
  first.Poll();
  greedy->spoil = 1;
  second.reset();
  int told = 0;
  world.SendMany(0, 3);
  List read;
  // And then several looks more, one every 100 ms.
  for (int more = 5; more > 0;) {
    if (told >= 1 && read.size() >= 3) --more;
    const absl::StatusOr<RecordBatch> batch = first.consumer->Poll(absl::Milliseconds(110));
    if (!batch.ok()) {
      CHECK(Says(batch.status(), "greedy"));
      ++told;
      continue;
    }
    for (const std::string& value : Values(*batch)) read.push_back(value);
  }
  CHECK(told == 1);
  CHECK(read.size() == 3);
}

TEST_CASE("Rebalance: a process that is stopped while it decides holds up nobody's reading") {
  World world;
  Worker worker(world);
  REQUIRE(worker.consumer->SubscribePattern("orders.*").ok());
  worker.Poll();
  // Another open has the lock, as if it were stopped.
  RecoveryReport report;
  const auto directory = log::Directory::Open(world.dir.path() / "data", {}, {}, report).value();
  const auto group =
      group::GroupStore::Open(directory->context()).value()->OpenGroup("billing", false).value();
  REQUIRE(group->live().roster_lock.TryLock(*directory->context()->owners));
  world.broker.CreateTopic("orders-eu").value();
  world.Send(0, "new", "orders-eu");
  const absl::Time until = absl::Now() + absl::Milliseconds(2500);
  for (int i = 0; absl::Now() < until; ++i) {  // two looks for topics
    world.Send(0, std::to_string(i));
    REQUIRE(Values(worker.consumer->Poll(absl::Milliseconds(100)).value()) ==
            List{std::to_string(i)});
    absl::SleepFor(absl::Milliseconds(5));  // the pace
  }
  CHECK(worker.Has() == world.All());
  group->live().roster_lock.Unlock();
  CHECK(Values(worker.consumer->Poll(kLong).value()) == List{"new"});
}

TEST_CASE("Rebalance: when a broker is closed others have what its consumers had") {
  World world({{"orders", 2}});
  Broker other = Broker::Open(world.dir.path() / "data").value();
  Consumer consumer = other.NewConsumer({.group = "billing"}).value();
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  Worker worker(world);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(consumer.Poll(absl::ZeroDuration()).ok());
    worker.Poll();
  }
  REQUIRE(worker.Has().size() == 1);
  REQUIRE(other.Close().ok());
  for (int i = 0; i < 1000 && worker.Has().size() < 2; ++i) {
    REQUIRE(worker.consumer->Poll(absl::Milliseconds(10)).ok());
  }
  CHECK(worker.Has() == world.All());
}

// ---- The eventfd

TEST_CASE("Rebalance: the eventfd is readable while a rebalance waits, and not after") {
  World world({{"orders", 2}});
  Worker first(world);
  first.Poll();
  const int fd = first.consumer->ReadyFd().value();
  // The watcher may tell of what a Poll has just heard by itself: soon it is quiet all the same.
  const auto is_quiet_after_polls = [&] {
    for (int i = 0; i < 10 && IsReadable(fd); ++i) first.Poll();
    return !IsReadable(fd);
  };
  CHECK(is_quiet_after_polls());
  std::optional<Worker> second(std::in_place, world);
  CHECK(IsReadable(fd, kLong));
  first.Poll();
  second->Poll();
  CHECK(is_quiet_after_polls());
  CHECK(first.Has().size() == 1);
  second.reset();
  CHECK(IsReadable(fd, kLong));
  first.Poll();
  CHECK(first.Has() == world.All());
}

}  // namespace cordwood
