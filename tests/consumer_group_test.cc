// A consumer in a group of one: Subscribe, commits, callbacks.

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cordwood/consumer.h"
#include "tests/support/consumer_fixture.h"

namespace cordwood {
namespace {

using namespace consumer_testing;

const TopicPartition kFirst{"orders", 0};

// What the callbacks were called with, as "+orders-0" and "-orders-0".
struct Diary {
  ConsumerOptions Options() {
    const auto note = [this](const char* sign) {
      return [this, sign](const Partitions& partitions) {
        for (const TopicPartition& p : partitions) {
          entries.push_back(sign + p.topic + "-" + std::to_string(p.partition));
        }
      };
    };
    return {.on_assigned = note("+"), .on_revoked = note("-"), .on_lost = note("!")};
  }
  List Take() { return std::exchange(entries, {}); }

  List entries;
};

}  // namespace

// ---- Subscribe

TEST_CASE("Group: Subscribe without a group is kInvalidArgument, of no topic kNotFound") {
  World world;
  CHECK(world.broker.NewConsumer().value().Subscribe({"orders"}).code() ==
        absl::StatusCode::kInvalidArgument);
  Consumer consumer = world.broker.NewConsumer({.group = "billing"}).value();
  CHECK(consumer.Subscribe({"nothing"}).code() == absl::StatusCode::kNotFound);
  CHECK(consumer.Commit().ok());
}

TEST_CASE("Group: two consumers of one group read different topics") {
  World world({{"orders", 1}, {"users", 1}});
  Consumer orders = world.Subscribed({}, {"orders"});
  Consumer users = world.Subscribed({}, {"users"});
  world.Send(0, "o", "orders");
  world.Send(0, "u", "users");
  CHECK(Values(orders.Poll(kLong).value()) == List{"o"});
  CHECK(Values(users.Poll(kLong).value()) == List{"u"});
}

TEST_CASE("Group: another group reads the same topic") {
  World world;
  world.Send(0, "x");
  Consumer one = world.Subscribed();
  Consumer other = world.broker.NewConsumer({.group = "audit"}).value();
  REQUIRE(other.Subscribe({"orders"}).ok());
  CHECK(one.Poll(kLong).value().size() == 1);
  CHECK(other.Poll(kLong).value().size() == 1);
}

TEST_CASE("Group: Subscribe takes all topics or none") {
  World world({{"orders", 1}});
  Consumer first = world.Subscribed();
  CHECK(first.Subscribe({"orders", "nothing"}).code() == absl::StatusCode::kNotFound);
  REQUIRE(first.Poll(kShort).ok());
  CHECK(first.assignment() == world.All());
}

TEST_CASE("Group: records between Subscribe and the first Poll are read with kLatest too") {
  World world;
  world.Send(0, "before");
  Consumer consumer = world.Subscribed({.reset = OffsetReset::kLatest});
  world.Send(0, "after");
  CHECK(Values(consumer.Poll(kLong).value()) == List{"after"});
}

TEST_CASE("Group: an empty subscription gives all back") {
  World world;
  Diary diary;
  Consumer consumer = world.Subscribed(diary.Options());
  REQUIRE(consumer.Poll(kShort).ok());
  REQUIRE(consumer.Subscribe({}).ok());
  CHECK(consumer.Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(diary.Take() == List{"+orders-0", "-orders-0"});
  CHECK(world.Subscribed().Poll(kShort).ok());
  CHECK(consumer.Assign({kFirst}).ok());
}

TEST_CASE("Group: a pattern matches whole names, and finds topics that are made later") {
  World world({{"orders", 1}, {"orders-eu", 1}, {"users", 1}});
  Consumer consumer = world.broker.NewConsumer({.group = "billing"}).value();
  REQUIRE(consumer.SubscribePattern("orders(-..)?").ok());
  CHECK(consumer.Poll(kShort).value().empty());
  CHECK(consumer.assignment() == Partitions{{"orders", 0}, {"orders-eu", 0}});
  world.broker.CreateTopic("orders-us").value();
  world.Send(0, "new", "orders-us");
  CHECK(Values(consumer.Poll(kLong).value()) == List{"new"});
}

TEST_CASE("Group: a pattern that is none is kInvalidArgument and leaves all as it was") {
  World world;
  Consumer consumer = world.Subscribed();
  CHECK(consumer.SubscribePattern("orders(").code() == absl::StatusCode::kInvalidArgument);
  REQUIRE(consumer.Poll(kShort).ok());
  CHECK(consumer.assignment() == world.All());
}

// ---- Commit

TEST_CASE("Group: the next member begins where the last one committed") {
  World world({{"orders", 2}});
  world.SendMany(0, 3);
  world.SendMany(1, 3);
  {
    Consumer consumer = world.Subscribed();
    CHECK(consumer.Poll(kLong).value().size() == 6);
    REQUIRE(consumer.Commit().ok());
  }
  world.Send(1, "new");
  Consumer again = world.Subscribed();
  CHECK(Values(again.Poll(kLong).value()) == List{"new"});
}

TEST_CASE("Group: what was not committed is read again") {
  World world;
  world.SendMany(0, 2);
  CHECK(world.Subscribed().Poll(kLong).value().size() == 2);
  CHECK(world.Subscribed().Poll(kLong).value().size() == 2);
}

TEST_CASE("Group: a commit of a record stores the offset after it") {
  World world;
  world.SendMany(0, 3);
  Consumer consumer = world.Subscribed();
  const RecordBatch batch = consumer.Poll(kLong).value();
  REQUIRE(consumer.Commit(*++batch.begin()).ok());
  CHECK(consumer.committed(kFirst).value() == 2);
  CHECK(consumer.lag(kFirst).value() == 1);
}

TEST_CASE("Group: a commit of offsets is checked as a whole") {
  World world({{"orders", 2}});
  world.SendMany(0, 3);
  Consumer consumer = world.Subscribed();
  REQUIRE(consumer.Poll(kLong).ok());
  CHECK(consumer.Commit({{kFirst, 2}, {{"orders", 1}, 0}}).ok());
  CHECK(consumer.committed(kFirst).value() == 2);
  CHECK(consumer.Commit({{kFirst, 4}}).code() == absl::StatusCode::kOutOfRange);
  CHECK(consumer.Commit({{kFirst, -1}}).code() == absl::StatusCode::kInvalidArgument);
  const absl::Status status = consumer.Commit({{kFirst, 3}, {{"users", 0}, 1}});
  CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(PartitionOf(status) == TopicPartition{"users", 0});
  CHECK(consumer.committed(kFirst).value() == 2);
}

TEST_CASE("Group: a commit goes back only when it is forced") {
  World world;
  world.SendMany(0, 3);
  Consumer consumer = world.Subscribed();
  REQUIRE(consumer.Poll(kLong).ok());
  REQUIRE(consumer.Commit().ok());
  REQUIRE(consumer.SeekToBeginning().ok());
  const absl::Status back = consumer.Commit();
  CHECK(back.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(Says(back, "force"));
  CHECK(PartitionOf(back) == kFirst);
  CHECK(consumer.Commit({.force = true}).ok());
  CHECK(consumer.committed(kFirst).value() == 0);
}

TEST_CASE("Group: a commit goes past a gap") {
  World world;
  world.SendMany(0, 3);
  Consumer consumer = world.Subscribed();
  REQUIRE(world.Log().Trim(3).ok());
  CHECK(consumer.Poll(kLong).value().gaps().size() == 1);
  REQUIRE(consumer.Commit().ok());
  CHECK(consumer.committed(kFirst).value() == 3);
}

TEST_CASE("Group: Commit without a group is kFailedPrecondition, and so is committed") {
  World world;
  Consumer consumer = world.Assigned();
  CHECK(consumer.Commit().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(consumer.committed(kFirst).status().code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("Group: a consumer that was assigned its partitions uses the group's offsets") {
  World world;
  world.SendMany(0, 3);
  {
    Consumer consumer = world.Assigned({.group = "billing"});
    CHECK_FALSE(consumer.committed(kFirst).value().has_value());
    REQUIRE(consumer.Commit({{kFirst, 2}}).ok());
  }
  CHECK(Values(world.Assigned({.group = "billing"}).Poll(kLong).value()) == List{"2"});
  CHECK(Values(world.Subscribed().Poll(kLong).value()) == List{"2"});
}

TEST_CASE("Group: a durable commit makes the data durable first") {
  World world({{"orders", 1}}, {.background_threads = false});
  world.SendMany(0, 3);
  Consumer consumer = world.Subscribed();
  REQUIRE(consumer.Poll(kLong).ok());
  CHECK(world.Log().durable_offset() == 0);
  REQUIRE(consumer.Commit({.durability = Durability::kDurable}).ok());
  CHECK(world.Log().durable_offset() == 3);
}

TEST_CASE("Group: a text that is too long for a commit is kInvalidArgument") {
  World world;
  world.Send(0, "x");
  Consumer consumer = world.Subscribed();
  REQUIRE(consumer.Poll(kLong).ok());
  CHECK(consumer.Commit({.metadata = std::string(4097, 'm')}).code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(consumer.Commit({.metadata = "host-1"}).ok());
}

TEST_CASE("Group: auto-commit commits with the next Poll, and with Close") {
  World world;
  world.SendMany(0, 4);
  {
    Consumer consumer =
        world.Subscribed({.max_poll_records = 2, .auto_commit = AutoCommit::kAfterPoll});
    REQUIRE(consumer.Poll(kLong).ok());
    CHECK_FALSE(consumer.committed(kFirst).value().has_value());
    REQUIRE(consumer.Poll(kLong).ok());
    CHECK(consumer.committed(kFirst).value() == 2);
    REQUIRE(consumer.SeekToBeginning().ok());
    REQUIRE(consumer.Poll(kLong).ok());
    CHECK(consumer.committed(kFirst).value() == 4);  // given before the Seek
    REQUIRE(consumer.Poll(kLong).ok());
    CHECK(consumer.committed(kFirst).value() == 4);  // not taken back
    world.Send(0, "5th");
    REQUIRE(consumer.Poll(kLong).ok());
  }
  CHECK(world.Subscribed().Poll(kShort).value().empty());
}

// ---- Callbacks

TEST_CASE("Group: callbacks run in the Poll after Subscribe, and in Close") {
  World world({{"orders", 2}});
  Diary diary;
  Consumer consumer = world.Subscribed(diary.Options());
  CHECK(diary.Take().empty());
  CHECK(consumer.assignment().empty());
  REQUIRE(consumer.Poll(kShort).ok());
  CHECK(diary.Take() == List{"+orders-0", "+orders-1"});
  REQUIRE(consumer.Poll(kShort).ok());
  CHECK(diary.Take().empty());
  REQUIRE(consumer.Close().ok());
  CHECK(diary.Take() == List{"-orders-0", "-orders-1"});
}

TEST_CASE("Group: the destructor calls on_revoked, and not after Close or a move") {
  World world;
  Diary diary;
  {
    Consumer consumer = world.Subscribed(diary.Options());
    REQUIRE(consumer.Poll(kShort).ok());
    Consumer moved = std::move(consumer);
  }
  CHECK(diary.Take() == List{"+orders-0", "-orders-0"});
}

TEST_CASE("Group: a new subscription revokes and assigns only what changes") {
  World world({{"orders", 1}, {"users", 1}, {"items", 1}});
  Diary diary;
  Consumer consumer = world.Subscribed(diary.Options(), {"orders", "users"});
  REQUIRE(consumer.Poll(kShort).ok());
  diary.Take();
  REQUIRE(consumer.Subscribe({"users", "items"}).ok());
  REQUIRE(consumer.Poll(kShort).ok());
  CHECK(diary.Take() == List{"-orders-0", "+items-0"});
  CHECK(consumer.assignment() == Partitions{{"items", 0}, {"users", 0}});
  CHECK(world.Subscribed({}, {"orders"}).Poll(kShort).ok());
}

TEST_CASE("Group: Seek in on_assigned and Commit in on_revoked are allowed") {
  World world;
  world.SendMany(0, 3);
  absl::Status sought, committed;
  {
    Consumer consumer = world.Subscribed(
        {.on_assigned = [&](Consumer& self, const Partitions& p) { sought = self.Seek(p[0], 1); },
         .on_revoked = [&](Consumer& self, const Partitions&) { committed = self.Commit(); }});
    CHECK(Values(consumer.Poll(kLong).value()) == List{"1", "2"});
  }
  CHECK(sought.ok());
  CHECK(committed.ok());
  CHECK(world.Subscribed().Poll(kShort).value().empty());
}

TEST_CASE("Group: what would call back again is refused inside a callback") {
  World world;
  std::vector<absl::Status> inside;
  Consumer consumer = world.Subscribed({.on_assigned = [&](Consumer& self, const Partitions&) {
    inside = {self.Poll(kShort).status(), self.Subscribe({}), self.Assign({}), self.Close()};
  }});
  CHECK(consumer.Poll(kShort).ok());
  REQUIRE(inside.size() == 4);
  for (const absl::Status& status : inside) {
    CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  }
}

TEST_CASE("Group: after the broker was closed it is too late to commit") {
  World world;
  Diary diary;
  {
    Consumer consumer = world.Subscribed(diary.Options());
    REQUIRE(consumer.Poll(kShort).ok());
    REQUIRE(world.broker.Close().ok());
  }
  CHECK(diary.Take() == List{"+orders-0", "!orders-0"});
}

TEST_CASE("Group: a topic that is deleted is lost") {
  World world;
  Diary diary;
  Consumer consumer = world.Subscribed(diary.Options());
  REQUIRE(consumer.Poll(kShort).ok());
  REQUIRE(world.broker.DeleteTopic("orders").ok());
  CHECK(consumer.Poll(kLong).status().code() == absl::StatusCode::kNotFound);
  CHECK(diary.Take() == List{"+orders-0", "!orders-0"});
}

TEST_CASE("Group: a member that polls too late loses all, and the next Poll joins again") {
  World world;
  world.SendMany(0, 2);
  Diary diary;
  ConsumerOptions options = diary.Options();
  options.max_poll_interval = absl::Milliseconds(50);
  Consumer consumer = world.Subscribed(options);
  CHECK(consumer.Poll(kLong).value().size() == 2);
  absl::SleepFor(absl::Milliseconds(150));
  CHECK(consumer.Poll(kLong).status().code() == absl::StatusCode::kAborted);
  CHECK(consumer.assignment().empty());
  CHECK(consumer.Poll(kLong).value().size() == 2);  // from what was committed: nothing
  CHECK(diary.Take() == List{"+orders-0", "!orders-0", "+orders-0"});
}

// ---- What is said of a group

TEST_CASE("Group: its description has the state, what is committed and the lag") {
  World world({{"orders", 2}});
  world.SendMany(0, 3);
  world.SendMany(1, 1);
  {
    Consumer consumer = world.Subscribed();
    REQUIRE(consumer.Poll(kLong).ok());
    REQUIRE(consumer.Commit({{kFirst, 2}}).ok());
    CHECK(world.broker.DescribeGroup("billing").value().state == "Stable");
    CHECK(world.broker.DeleteGroup("billing").code() == absl::StatusCode::kFailedPrecondition);
  }
  const GroupDescription group = world.broker.DescribeGroup("billing").value();
  CHECK(group.state == "Empty");
  REQUIRE(group.partitions.size() == 2);
  CHECK(group.partitions[0].lag == 1);
  CHECK(group.partitions[1].lag == 1);
  CHECK(world.broker.ListGroups() == List{"billing"});
  CHECK(world.broker.DeleteGroup("billing").ok());
  CHECK(world.broker.ListGroups().empty());
  CHECK(world.Subscribed().Poll(kLong).value().size() == 4);
}

TEST_CASE("Group: offsets survive a clean close and open") {
  World world;
  world.SendMany(0, 3);
  Consumer consumer = world.Subscribed();
  REQUIRE(consumer.Poll(kLong).ok());
  REQUIRE(consumer.Commit().ok());
  REQUIRE(consumer.Close().ok());
  REQUIRE(world.broker.Close().ok());
  world.broker = Broker::Open(world.dir.path() / "data").value();
  CHECK(world.Subscribed().Poll(kShort).value().empty());
}

}  // namespace cordwood
