// Describing, resetting and deleting groups.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cordwood/consumer.h"
#include "tests/support/consumer_fixture.h"

namespace cordwood {
namespace {

using namespace consumer_testing;

const TopicPartition kFirst{"orders", 0};

// "orders-0: 3 -> 5", "none -> 0"
List Words(const std::vector<OffsetChange>& changes) {
  List words;
  for (const OffsetChange& change : changes) {
    const std::string from = change.from ? std::to_string(*change.from) : "none";
    words.push_back(change.where.topic + "-" + std::to_string(change.where.partition) + ": " +
                    from + " -> " + std::to_string(change.to));
  }
  return words;
}

// Ten records in each partition, stamped a minute apart, the last one now; the group
// "billing" has committed 5 of the first partition.
struct Ten : World {
  explicit Ten(int partitions = 2) : World({{"orders", partitions}}) {
    for (int p = 0; p < partitions; ++p) {
      for (int i = 0; i < 10; ++i) {
        const absl::Time stamp = now - absl::Minutes(9 - i);
        REQUIRE(Log(p).Append({.value = "x", .timestamp = stamp}).ok());
      }
    }
    Consumer consumer = Subscribed();
    REQUIRE(consumer.Poll(kLong).ok());
    REQUIRE(consumer.Commit({{kFirst, 5}}, {.metadata = "host-1"}).ok());
  }
  // What the dry run says, the reset does.
  List Reset(const ResetTo& to, ResetOptions options = {}) {
    const auto before = Committed();
    options.dry_run = true;
    const auto dry = broker.ResetOffsets("billing", to, options).value();
    CHECK(Committed() == before);
    options.dry_run = false;
    const auto done = broker.ResetOffsets("billing", to, options).value();
    CHECK(done == dry);
    for (const OffsetChange& change : done) CHECK(Committed().at(change.where) == change.to);
    return Words(done);
  }
  std::map<TopicPartition, std::optional<Offset>> Committed() const {
    std::map<TopicPartition, std::optional<Offset>> committed;
    const GroupDescription group = broker.DescribeGroup("billing").value();
    for (const PartitionProgress& p : group.partitions) {
      committed[{p.topic, p.partition}] = p.committed;
    }
    return committed;
  }

  const absl::Time now = absl::Now();
};

}  // namespace

// ---- Describing

TEST_CASE("Describe: lag, its age and the text of the commit") {
  const Ten world;
  const GroupDescription group = world.broker.DescribeGroup("billing").value();
  REQUIRE(group.partitions.size() == 2);
  CHECK(group.partitions[0].lag == 5);
  CHECK(group.partitions[0].metadata == "host-1");
  CHECK(group.partitions[0].lag_age >= absl::Minutes(4));
  CHECK(group.partitions[0].lag_age < absl::Minutes(5));
  CHECK(group.partitions[1].lag == 10);
  CHECK(group.partitions[1].lag_age >= absl::Minutes(9));
  CHECK(group.members.empty());
  CHECK(group.state == "Empty");
}

TEST_CASE("Describe: a group that has read all has no lag, and that no age") {
  Ten world;
  world.Reset(ResetTo::Latest());
  const GroupDescription group = world.broker.DescribeGroup("billing").value();
  for (const PartitionProgress& p : group.partitions) {
    CHECK(p.lag == 0);
    CHECK(p.lag_age == absl::ZeroDuration());
  }
}

TEST_CASE("Describe: the members, with process, topics and what each reads") {
  const Ten world;
  const absl::Time before = absl::Now();
  Consumer first = world.Subscribed({.assignor = "range"});
  Consumer second = world.Subscribed({.group_instance_id = "worker-1", .assignor = "range"});
  for (int i = 0; i < 3; ++i) {
    REQUIRE(first.Poll(absl::ZeroDuration()).ok());
    REQUIRE(second.Poll(absl::ZeroDuration()).ok());
  }
  const auto describe = [&] { return world.broker.DescribeGroup("billing").value(); };
  const GroupDescription group = describe();
  CHECK(group.state == "Stable");
  CHECK(group.assignor == "range");
  REQUIRE(group.members.size() == 2);
  CHECK(group.members[0].id == "member-0000");
  CHECK(group.members[0].assignment == first.assignment());
  CHECK(group.members[1].assignment == second.assignment());
  CHECK(group.members[1].instance_id == "worker-1");
  for (const GroupMember& member : group.members) {
    CHECK(member.pid == getpid());
    CHECK(member.topics == List{"orders"});
    CHECK(member.since >= before - absl::Seconds(1));
    CHECK_FALSE(member.is_away);
  }
  CHECK(group.partitions[1].member == "member-0001");
  REQUIRE(second.Close().ok());
  CHECK(describe().members[1].is_away);
  CHECK(describe().state == "Stable");
}

// ---- Resetting

TEST_CASE("Reset: to the start, the end, an offset, a time, a duration ago, and by a shift") {
  Ten world;
  CHECK(world.Reset(ResetTo::Earliest()) == List{"orders-0: 5 -> 0", "orders-1: none -> 0"});
  CHECK(world.Reset(ResetTo::Latest()) == List{"orders-0: 0 -> 10", "orders-1: 0 -> 10"});
  CHECK(world.Reset(ResetTo::At(3)) == List{"orders-0: 10 -> 3", "orders-1: 10 -> 3"});
  CHECK(world.Reset(ResetTo::Time(world.now - absl::Minutes(4))) ==
        List{"orders-0: 3 -> 5", "orders-1: 3 -> 5"});
  CHECK(world.Reset(ResetTo::Ago(absl::Seconds(150))) ==
        List{"orders-0: 5 -> 7", "orders-1: 5 -> 7"});
  CHECK(world.Reset(ResetTo::Shift(-2)) == List{"orders-0: 7 -> 5", "orders-1: 7 -> 5"});
  CHECK(world.Reset(ResetTo::Shift(1)) == List{"orders-0: 5 -> 6", "orders-1: 5 -> 6"});
}

TEST_CASE("Reset: what lies outside the records is their start or end") {
  Ten world(1);
  REQUIRE(world.Log().Trim(2).ok());
  CHECK(world.Reset(ResetTo::At(0)) == List{"orders-0: 5 -> 2"});
  CHECK(world.Reset(ResetTo::At(99)) == List{"orders-0: 2 -> 10"});
  CHECK(world.Reset(ResetTo::Shift(1000)) == List{"orders-0: 10 -> 10"});
  CHECK(world.Reset(ResetTo::Shift(std::numeric_limits<std::int64_t>::min())) ==
        List{"orders-0: 10 -> 2"});
  CHECK(world.Reset(ResetTo::Time(absl::InfiniteFuture())) == List{"orders-0: 2 -> 10"});
}

TEST_CASE("Reset: only the partitions that are named") {
  Ten world;
  world.broker.CreateTopic("users", {.partitions = 2}).value();
  CHECK(world.Reset(ResetTo::Earliest(), {.partitions = {{"orders", 1}}}) ==
        List{"orders-1: none -> 0"});
  CHECK(world.Reset(ResetTo::Latest(), {.partitions = {{"users", -1}}}) ==
        List{"users-0: none -> 0", "users-1: none -> 0"});
  CHECK(world.Reset(ResetTo::Shift(1), {.partitions = {kFirst, {"orders", -1}}}) ==
        List{"orders-0: 5 -> 6", "orders-1: 0 -> 1"});
}

TEST_CASE("Reset: the next member begins there") {
  Ten world(1);
  world.Reset(ResetTo::At(8));
  CHECK(world.Subscribed().Poll(kLong).value().size() == 2);
}

TEST_CASE("Reset: a group that there is not yet is made, and by a dry run not") {
  Ten world(1);
  const ResetOptions named{.partitions = {{"orders", -1}}, .dry_run = true};
  CHECK(world.broker.ResetOffsets("audit", ResetTo::Earliest()).status().code() ==
        absl::StatusCode::kNotFound);
  CHECK(Words(world.broker.ResetOffsets("audit", ResetTo::At(4), named).value()) ==
        List{"orders-0: none -> 4"});
  CHECK(world.broker.ListGroups() == List{"billing"});
  CHECK(
      Words(world.broker.ResetOffsets("audit", ResetTo::At(4), {.partitions = {kFirst}}).value()) ==
      List{"orders-0: none -> 4"});
  CHECK(world.broker.ListGroups() == List{"audit", "billing"});
}

TEST_CASE("Reset: with a member, living or away, it is refused in words and changes nothing") {
  Ten world(1);
  const auto refused = [&] {
    const absl::Status status = world.broker.ResetOffsets("billing", ResetTo::Earliest()).status();
    CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(Says(status, "member-0000"));
    CHECK(world.Committed().at(kFirst) == 5);
    const absl::Status deleted = world.broker.DeleteGroup("billing");
    CHECK(deleted.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(Says(deleted, "member-0000"));
    return std::string(status.message());
  };
  Consumer member = world.Subscribed({.group_instance_id = "worker-1"});
  CHECK(refused().find("process " + std::to_string(getpid())) != std::string::npos);
  REQUIRE(member.Close().ok());
  CHECK(refused().find("away") != std::string::npos);
}

TEST_CASE("Reset: a topic or partition that there is not is kNotFound, and nothing changes") {
  Ten world(1);
  const auto code = [&](const TopicPartition& where) {
    return world.broker
        .ResetOffsets("billing", ResetTo::Earliest(), {.partitions = {kFirst, where}})
        .status()
        .code();
  };
  CHECK(code({"nothing", 0}) == absl::StatusCode::kNotFound);
  CHECK(code({"orders", 1}) == absl::StatusCode::kNotFound);
  CHECK(code({"orders", -2}) == absl::StatusCode::kNotFound);
  CHECK(absl::IsNotFound(
      world.broker.ResetOffsets("audit", ResetTo::Latest(), {.partitions = {{"nothing", 0}}})
          .status()));
  CHECK(world.broker.ListGroups() == List{"billing"});
  CHECK(world.Committed().at(kFirst) == 5);
}

TEST_CASE("Reset: read-only a dry run works, and a reset is kFailedPrecondition") {
  Ten world(1);
  const Broker reader = Broker::Open(world.dir.path() / "data", {.read_only = true}).value();
  CHECK(Words(reader.ResetOffsets("billing", ResetTo::Latest(), {.dry_run = true}).value()) ==
        List{"orders-0: 5 -> 10"});
  CHECK(reader.ResetOffsets("billing", ResetTo::Latest()).status().code() ==
        absl::StatusCode::kFailedPrecondition);
}

}  // namespace cordwood
