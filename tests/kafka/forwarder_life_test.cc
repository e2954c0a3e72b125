// What the forwarder counts, how it stops, and that it is the only one.

#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "cordwood/cordwood.h"
#include "cordwood/kafka/forwarder.h"
#include "kafka/client.h"
#include "kafka/forwarder_lane.h"
#include "kafka/transactions.h"
#include "tests/catch.h"
#include "tests/kafka/mock_cluster.h"
#include "tests/kafka/way.h"
#include "tests/support/says.h"

namespace cordwood {
namespace {

using namespace cordwood::testing;
using kafka::ForwarderOptions;
using kafka::KafkaForwarder;
using List = std::vector<std::string>;

}  // namespace

TEST_CASE("Kafka forwarder: a second group to the same target is refused, and holds nothing") {
  Way way;
  way.Send("a");
  REQUIRE(way.Forward().ok());
  ForwarderOptions options = way.Options();
  options.group = "other";
  const absl::Status status = way.Forward(options);
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "group to-kafka forwards topic orders to Kafka topic orders already"));
  CHECK(way.topic.config().retain_for_groups == List{"to-kafka"});
  // The one that was first is not disturbed.
  way.Send("b");
  REQUIRE(way.Forward().ok());
  CHECK(way.There() == List{"a", "b"});

  // To another cluster, or once the first one is deleted, it may.
  MockCluster elsewhere;
  elsewhere.CreateTopic("orders", 1);
  options.cluster = elsewhere.cluster();
  REQUIRE(way.Forward(options).ok());
  CHECK(elsewhere.Values("orders", 0) == List{"a", "b"});
  options.cluster = way.mock.cluster();
  options.group = "third";
  REQUIRE(way.broker.AlterTopic("orders", {{"retain.for.groups", ""}}).ok());
  absl::Status deleted;
  do {
    deleted = way.broker.DeleteGroup("to-kafka");
  } while (absl::IsFailedPrecondition(deleted));
  REQUIRE(deleted.ok());
  REQUIRE(way.Forward(options).ok());
  CHECK(way.There() == List{"a", "b", "a", "b"});
}

TEST_CASE("Kafka forwarder: of two groups that begin at the same time one at least is refused") {
  for (int round = 0; round < 10; ++round) {
    Way way;
    way.Send("a");
    absl::Status statuses[2];
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&, i] {
          ForwarderOptions options = way.Options();
          options.group = i == 0 ? "one" : "two";
          statuses[i] = way.Forward(options);
        });
      }
    }
    const int refused = static_cast<int>(absl::IsFailedPrecondition(statuses[0])) +
                        static_cast<int>(absl::IsFailedPrecondition(statuses[1]));
    CAPTURE(statuses[0], statuses[1]);
    CHECK(refused >= 1);
    CHECK(way.There().size() == static_cast<std::size_t>(2 - refused));
  }
}

TEST_CASE("Kafka forwarder: what it counts adds up") {
  Way way(2);
  way.broker.CreateTopic("refused").value();
  for (int i = 0; i < 8; ++i) way.Send(i == 5 ? std::string(5000, 'x') : std::to_string(i), i % 2);
  ForwarderOptions options = way.Options();
  options.cluster.properties["message.max.bytes"] = "2000";
  options.dead_letter_topic = "refused";
  KafkaForwarder forwarder = KafkaForwarder::Open(way.broker, options).value();
  REQUIRE(forwarder.RunToEnd().ok());
  const kafka::ForwardedTopic counted = forwarder.progress().at(0);
  CHECK(counted.records == 7);
  CHECK(counted.bytes == 14);
  CHECK(counted.refused == 1);
  CHECK(counted.dead_letters == 1);
  CHECK(counted.in_flight == 0);
  CHECK(counted.delivered >= counted.records);
  // Its transactions were halved until it was alone: what was with it was sent again.
  CHECK(counted.retried > 0);
  CHECK(counted.restarts > 0);
  CHECK(counted.away == absl::ZeroDuration());
  CHECK(counted.lag == 0);
  REQUIRE(counted.partitions.size() == 2);
  CHECK(counted.partitions[1].next == 4);
}

TEST_CASE("Kafka forwarder: the time that the cluster was away is counted, and ends") {
  Way way;
  way.mock.SetDown(true);
  way.Send("a");
  KafkaForwarder forwarder = KafkaForwarder::Open(way.broker, way.Options()).value();
  std::jthread thread([&](std::stop_token stop) { forwarder.Run(stop).IgnoreError(); });
  const auto away = [&] {
    return forwarder.progress().empty() ? absl::ZeroDuration() : forwarder.progress()[0].away;
  };
  while (away() == absl::ZeroDuration()) std::this_thread::yield();
  const absl::Duration before = away();
  while (away() <= before) std::this_thread::yield();
  way.mock.SetDown(false);
  while (forwarder.progress()[0].records == 0) std::this_thread::yield();
  const absl::Duration whole = away();
  way.Send("b");
  while (forwarder.progress()[0].records == 1) std::this_thread::yield();
  CHECK(away() == whole);
}

TEST_CASE("Kafka forwarder: it lets go of a cluster that goes away while records are under way") {
  Way way;
  KafkaForwarder forwarder = KafkaForwarder::Open(way.broker, way.Options()).value();
  absl::Status status = absl::UnknownError("still running");
  std::jthread thread([&](std::stop_token stop) { status = forwarder.Run(stop); });
  way.Send("a");
  while (forwarder.progress().empty() || forwarder.progress()[0].records == 0) {
    std::this_thread::yield();
  }
  way.mock.SetDown(true);
  way.Send("b");
  while (forwarder.progress()[0].in_flight == 0) std::this_thread::yield();
  thread.request_stop();
  thread.join();
  CHECK(status.ok());
  CHECK(forwarder.progress()[0].lag == 1);
  CHECK(forwarder.progress()[0].in_flight == 0);
  way.mock.SetDown(false);
  REQUIRE(way.Forward().ok());
  CHECK(way.There() == List{"a", "b"});
}

// For ten minutes it would ask, one call of librdkafka after the other.
TEST_CASE("Kafka client: a question to a cluster that is away ends when it is to stop") {
  using kafka::internal::Client;
  MockCluster mock;
  mock.SetDown(true);
  const auto client = Client::Open(RD_KAFKA_CONSUMER, mock.cluster(), {}).value();
  const auto ask = [&](int what, std::stop_token stop) {
    const absl::Duration timeout = absl::Minutes(10);
    switch (what) {
      case 0:
        return client->ClusterId(timeout, stop).status();
      case 1:
        return client->CountPartitions("orders", timeout, stop).status();
      default:
        return client->EndsOf("orders", 0, timeout, stop).status();
    }
  };
  for (int what = 0; what < 3; ++what) {
    CAPTURE(what);
    absl::Status status;
    std::jthread thread([&](std::stop_token stop) { status = ask(what, stop); });
    thread.request_stop();
    thread.join();
    CHECK(absl::IsCancelled(status));
  }
}

TEST_CASE("Kafka forwarder: who is to stop waits while something arrives, and not for ever") {
  using kafka::internal::GivesUp;
  const absl::Duration ms = absl::Milliseconds(1);
  CHECK_FALSE(GivesUp(499 * ms, 10'000 * ms));  // the cluster has been away for long
  CHECK(GivesUp(500 * ms, 10'000 * ms));
  CHECK_FALSE(GivesUp(4'999 * ms, 499 * ms));
  CHECK(GivesUp(2'000 * ms, 500 * ms));
  CHECK(GivesUp(5'000 * ms, 0 * ms));
}

TEST_CASE("Kafka forwarder: behind, a transaction may grow, but not until the cluster ends it") {
  using kafka::internal::TransactionTimeMax;
  const absl::Duration ms = absl::Milliseconds(1);
  const absl::Duration minute = absl::Minutes(1);
  CHECK(TransactionTimeMax(100 * ms, false, minute) == 100 * ms);
  CHECK(TransactionTimeMax(100 * ms, true, minute) == 1000 * ms);
  CHECK(TransactionTimeMax(3000 * ms, true, minute) == 3000 * ms);
  CHECK(TransactionTimeMax(100 * ms, true, 1000 * ms) == 500 * ms);
}

}  // namespace cordwood
