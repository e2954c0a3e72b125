// The forwarder against faults of the cluster, and of what it is told.

#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "cordwood/cordwood.h"
#include "cordwood/kafka/forwarder.h"
#include "kafka/lanes.h"
#include "kafka/marks.h"
#include "tests/catch.h"
#include "tests/kafka/mock_cluster.h"
#include "tests/kafka/way.h"
#include "tests/support/says.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using namespace cordwood::testing;
using kafka::ForwarderOptions;
using kafka::KafkaForwarder;
using List = std::vector<std::string>;

}  // namespace

TEST_CASE("Kafka forwarder: what is here is there, and a second run adds what is new") {
  Way way;
  way.Send("a");
  way.Send("b");
  REQUIRE(way.Forward().ok());
  CHECK(way.There() == List{"a", "b"});
  way.Send("c");
  REQUIRE(way.Forward().ok());
  CHECK(way.There() == List{"a", "b", "c"});
}

TEST_CASE("Kafka forwarder: its progress is the group's, and the topic is held for the group") {
  Way way(2);
  way.Send("a", 0);
  way.Send("b", 1);
  way.Send("c", 1);
  REQUIRE(way.Forward().ok());
  std::int64_t committed = 0, lag = 0;
  const GroupDescription group = way.broker.DescribeGroup("to-kafka").value();
  for (const PartitionProgress& p : group.partitions) {
    committed += p.committed.value_or(0);
    lag += p.lag;
  }
  CHECK(committed == 3);
  CHECK(lag == 0);
  CHECK(way.topic.config().retain_for_groups == List{"to-kafka"});
}

TEST_CASE("Kafka forwarder: a partition that stands still does not have the others read back") {
  Way way(2, 3);
  ForwarderOptions options = way.Options();
  options.routes[0].partitioning = kafka::Partitioning::kMurmur2;
  options.transaction_records_max = 1;
  for (int i = 0; i < 100; ++i) way.Send("a", 0);
  REQUIRE(way.Forward(options).ok());
  std::int64_t end = 0;
  const GroupDescription group = way.broker.DescribeGroup("to-kafka").value();
  for (const PartitionProgress& p : group.partitions) {
    if (p.partition != 1) continue;
    const auto reached = kafka::internal::ParseReached(p.metadata).value();
    for (const auto& [target, e] : reached.ends) end += e;
  }
  CHECK(end > 50);
}

TEST_CASE("Kafka forwarder: a group that was reset back forwards again") {
  Way way;
  way.Send("a");
  way.Send("b");
  REQUIRE(way.Forward().ok());
  way.Reset(ResetTo::At(1));
  REQUIRE(way.Forward().ok());
  CHECK(way.There() == List{"a", "b", "b"});
}

// As if it were killed between the commit in the cluster and the one here: the offsets and their
// metadata are put back to what they were before.
TEST_CASE("Kafka forwarder: what has arrived and is not committed here is not sent again") {
  const bool is_late = GENERATE(false, true);
  Way way;
  way.Send("a");
  REQUIRE(way.Forward().ok());
  const std::string metadata = way.broker.DescribeGroup("to-kafka").value().partitions[0].metadata;
  way.Send("b");
  way.Send("c");
  REQUIRE(way.Forward().ok());
  {
    Consumer consumer = way.broker.NewConsumer({.group = "to-kafka"}).value();
    REQUIRE(consumer.Assign({{"orders", 0}}).ok());
    const absl::Status status =
        consumer.Commit({{{"orders", 0}, 1}}, {.metadata = metadata, .force = true});
    INFO(status);
    REQUIRE(status.ok());
  }
  // The cluster has given something up just when it is asked for.
  if (is_late) way.mock.Fail(MockCluster::kFetch, {RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE});
  way.Send("d");
  REQUIRE(way.Forward().ok());
  CHECK(way.There() == List{"a", "b", "c", "d"});
}

TEST_CASE("Kafka forwarder: a target that ends before the place where it has ended is data loss") {
  Way way;
  way.Send("a");
  REQUIRE(way.Forward().ok());
  MockCluster other;
  other.CreateTopic("orders", 1);
  ForwarderOptions options = way.Options();
  options.cluster = other.cluster();
  const absl::Status status = way.Forward(options);
  CHECK(absl::IsDataLoss(status));
  CHECK(Says(status, "orders-0 ends at 0"));
  // Reset, it goes on.
  way.Reset(ResetTo::Earliest());
  REQUIRE(way.Forward(options).ok());
  CHECK(other.Values("orders", 0) == List{"a"});
}

TEST_CASE("Kafka forwarder: partition counts that differ are refused, or spread by murmur2") {
  Way way(2, 3);
  way.Send("a");
  const absl::Status status = way.Forward();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "topic orders has 2 partitions, Kafka topic orders has 3"));
  ForwarderOptions options = way.Options();
  options.routes[0].partitioning = kafka::Partitioning::kMurmur2;
  REQUIRE(way.Forward(options).ok());
  const int at = cordwood::internal::PartitionForKey("murmur2", "k", 3);
  CHECK(way.There(at) == List{"a"});
}

TEST_CASE(
    "Kafka forwarder: errors that pass are tried again, and nothing is twice or out of order") {
  Way way;
  for (int i = 0; i < 20; ++i) way.Send(std::to_string(i));
  List wanted;
  for (int i = 0; i < 20; ++i) wanted.push_back(std::to_string(i));
  way.mock.Fail(MockCluster::kInitProducerId, {RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE});
  way.mock.Fail(MockCluster::kAddPartitionsToTxn, {RD_KAFKA_RESP_ERR_NOT_COORDINATOR});
  way.mock.Fail(MockCluster::kProduce,
                {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT});
  way.mock.Fail(MockCluster::kEndTxn, {RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS});
  ForwarderOptions options = way.Options();
  options.cluster.properties["retry.backoff.ms"] = "1";
  REQUIRE(way.Forward(options).ok());
  CHECK(way.There() == wanted);
}

TEST_CASE(
    "Kafka forwarder: a record that is refused for good is set aside, and the others arrive") {
  Way way;
  for (int i = 0; i < 10; ++i) way.Send(i == 6 ? std::string(5000, 'x') : std::to_string(i));
  ForwarderOptions options = way.Options();
  options.cluster.properties["message.max.bytes"] = "2000";
  const absl::Status status = way.Forward(options);
  CHECK(absl::IsInvalidArgument(status));
  CHECK(Says(status, "orders-0 at offset 6"));

  const Topic letters = way.broker.CreateTopic("refused").value();
  options.dead_letter_topic = "refused";
  REQUIRE(way.Forward(options).ok());
  PartitionReader reader = letters.partition(0).Read(0).value();
  List found;
  for (const RecordView& letter : reader) {
    CHECK(letter.value() == std::string(5000, 'x'));
    CHECK(letter.headers().Last("cordwood.target") == "orders");
    CHECK(letter.headers().Last("cordwood.reason")->find("MSG_SIZE_TOO_LARGE") !=
          std::string_view::npos);
    found.emplace_back(letter.headers().Last("cordwood.source").value());
  }
  CHECK(found == List{way.topic.id() + "/0/6"});
}

TEST_CASE("Kafka forwarder: behind one that librdkafka itself refuses, none is passed over") {
  Way way;
  List wanted;
  way.Send(std::string(5000, 'x'));
  for (int i = 0; i < 9; ++i) wanted.push_back(std::to_string(i));
  for (const std::string& value : wanted) way.Send(value);
  way.broker.CreateTopic("refused").value();
  ForwarderOptions options = way.Options();
  options.cluster.properties["message.max.bytes"] = "2000";
  options.dead_letter_topic = "refused";
  REQUIRE(way.Forward(options).ok());
  CHECK(way.There() == wanted);
}

// The refusal comes while the transaction waits for more.
TEST_CASE("Kafka forwarder: one that is refused before its transaction ends is set aside") {
  Way way;
  way.broker.CreateTopic("refused").value();
  way.mock.Fail(MockCluster::kProduce, {RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE});
  ForwarderOptions options = way.Options();
  options.dead_letter_topic = "refused";
  options.transaction_time = absl::Milliseconds(300);
  KafkaForwarder forwarder = KafkaForwarder::Open(way.broker, options).value();
  std::jthread thread([&](std::stop_token stop) { forwarder.Run(stop).IgnoreError(); });
  way.Send("a");
  while (forwarder.progress().empty() || forwarder.progress()[0].restarts == 0) {
    std::this_thread::yield();
  }
  way.Send("b");
  while (forwarder.progress()[0].records == 0) std::this_thread::yield();
  CHECK(forwarder.progress()[0].dead_letters == 1);
  CHECK(way.There() == List{"b"});
}

TEST_CASE("Kafka forwarder: a topic that was deleted is no error, and made anew it goes on") {
  Way way;
  way.broker.CreateTopic("other").value();
  way.mock.CreateTopic("other", 1);
  ForwarderOptions options = way.Options();
  options.routes = {{.pattern = "o.*"}};
  KafkaForwarder forwarder = KafkaForwarder::Open(way.broker, options).value();
  absl::Status status = absl::UnknownError("still running");
  std::jthread thread([&](std::stop_token stop) { status = forwarder.Run(stop); });
  way.Send("a");
  while (way.There().empty()) std::this_thread::yield();
  REQUIRE(way.broker.DeleteTopic("orders").ok());
  const Topic anew = way.broker.CreateTopic("orders").value();
  REQUIRE(anew.partition(0).Append({.value = "b"}).ok());
  while (way.There().size() < 2) std::this_thread::yield();
  CHECK(way.There() == List{"a", "b"});
  thread.request_stop();
  thread.join();
  INFO(status);
  CHECK(status.ok());
}

TEST_CASE("Kafka forwarder: while the cluster is away it says why nothing arrives, and the lag") {
  Way way;
  way.Send("a");
  REQUIRE(way.Forward().ok());
  way.mock.SetDown(true);
  KafkaForwarder forwarder = KafkaForwarder::Open(way.broker, way.Options()).value();
  std::jthread thread([&](std::stop_token stop) { forwarder.Run(stop).IgnoreError(); });
  const auto progress = [&] {
    return forwarder.progress().empty() ? kafka::ForwardedTopic() : forwarder.progress()[0];
  };
  while (progress().restarts == 0) std::this_thread::yield();
  CHECK(progress().lag == 0);
  CAPTURE(progress().last_error);
  CHECK(progress().last_error.find("127.0.0.1") != std::string::npos);
  way.mock.SetDown(false);
  way.Send("b");
  while (progress().records == 0) std::this_thread::yield();
  CHECK(progress().last_error.empty());
  // In the middle of its work, too.
  way.mock.SetDown(true);
  way.Send("c");
  while (progress().last_error.empty()) std::this_thread::yield();
  CHECK(progress().lag == 1);
  way.mock.SetDown(false);
  while (progress().lag != 0) std::this_thread::yield();
  CHECK(way.There() == List{"a", "b", "c"});
}

TEST_CASE("Kafka forwarder: the topic is held for each group that forwards it") {
  Way way;
  way.Send("a");
  ForwarderOptions options = way.Options();
  REQUIRE(way.Forward(options).ok());
  options.group = "to-kafka-2";
  way.mock.CreateTopic("orders-2", 1);
  options.routes[0].target = "orders-2";
  REQUIRE(way.Forward(options).ok());
  CHECK(way.topic.config().retain_for_groups == List{"to-kafka", "to-kafka-2"});
}

TEST_CASE("Kafka forwarder: a target that was made anew with fewer partitions is data loss") {
  Way way(2, 3);
  ForwarderOptions options = way.Options();
  options.routes[0].partitioning = kafka::Partitioning::kMurmur2;
  way.Send("a");
  REQUIRE(way.Forward(options).ok());
  MockCluster other;
  other.CreateTopic("orders", 1);
  options.cluster = other.cluster();
  const absl::Status status = way.Forward(options);
  INFO(status);
  CHECK(absl::IsDataLoss(status));
  CHECK(Says(status, "Kafka topic orders has 1 partitions, and had more than 2"));
}

TEST_CASE("Kafka forwarder: it waits for a cluster that is away, and stops when it is told to") {
  Way way;
  way.Send("a");
  way.mock.SetDown(true);
  KafkaForwarder forwarder = KafkaForwarder::Open(way.broker, way.Options()).value();
  absl::Status status = absl::UnknownError("still running");
  std::jthread thread([&](std::stop_token stop) { status = forwarder.Run(stop); });
  while (forwarder.progress().empty() || forwarder.progress()[0].restarts == 0) {
    std::this_thread::yield();
  }
  CHECK(forwarder.progress()[0].lag == 1);
  SECTION("it comes") {
    way.mock.SetDown(false);
    while (forwarder.progress()[0].records == 0) std::this_thread::yield();
    thread.request_stop();
    thread.join();
    CHECK(way.There() == List{"a"});
  }
  SECTION("it does not") {
    thread.request_stop();
    thread.join();
  }
  CHECK(status.ok());
}

TEST_CASE("Kafka forwarder: a second one for the same group and topic is refused") {
  Way way;
  KafkaForwarder first = KafkaForwarder::Open(way.broker, way.Options()).value();
  way.Send("a");
  std::jthread thread([&](std::stop_token stop) { first.Run(stop).IgnoreError(); });
  while (first.progress().empty() || first.progress()[0].records == 0) std::this_thread::yield();
  const absl::Status status = way.Forward();
  CHECK(absl::IsFailedPrecondition(status));
}

TEST_CASE("Kafka forwarder: a pattern finds topics that are made later") {
  Way way;
  way.mock.CreateTopic("edge.sensor-1", 1);
  ForwarderOptions options = way.Options();
  options.routes = {{.pattern = "sensor-.*", .target_prefix = "edge."}};
  KafkaForwarder forwarder = KafkaForwarder::Open(way.broker, options).value();
  std::jthread thread([&](std::stop_token stop) { forwarder.Run(stop).IgnoreError(); });
  const Topic sensor = way.broker.CreateTopic("sensor-1").value();
  REQUIRE(sensor.partition(0).Append({.value = "21.5"}).ok());
  while (forwarder.progress().empty() || forwarder.progress()[0].records == 0) {
    std::this_thread::yield();
  }
  CHECK(way.mock.Values("edge.sensor-1", 0) == List{"21.5"});
}

TEST_CASE("Kafka forwarder: what librdkafka is told is checked, and a secret is in no word of it") {
  Way way;
  const auto refused = [&](const std::string& name, const std::string& value) {
    ForwarderOptions options = way.Options();
    options.cluster.properties["security.protocol"] = "ssl";
    options.cluster.properties[name] = value;
    return KafkaForwarder::Open(way.broker, options).status();
  };
  CHECK(Says(refused("no.such.property", "1"), "no.such.property"));
  CHECK(Says(refused("acks", "1"), "the bridge sets it itself"));
  CHECK(absl::IsInvalidArgument(refused("transactional.id", "mine")));
  const absl::Status status = refused("ssl.key.pem", "-----hunter2");
  CHECK(absl::IsInvalidArgument(status));
  CHECK_FALSE(Says(status, "hunter2"));
  CHECK(kafka::internal::WithoutSecrets("login as u with hunter2",
                                        {{"sasl.username", "u"}, {"sasl.password", "hunter2"}}) ==
        "login as u with <hidden>");
  // One begins with the other: nothing of it is left.
  CHECK(kafka::internal::WithoutSecrets("with hunter2", {{"sasl.oauthbearer.client.secret", "hunt"},
                                                         {"sasl.password", "hunter2"}}) ==
        "with <hidden>");
}

TEST_CASE("Kafka forwarder: transactions that the cluster would end are refused") {
  Way way;
  ForwarderOptions options = way.Options();
  options.transaction_time = absl::Seconds(31);
  CHECK(Says(KafkaForwarder::Open(way.broker, options).status(), "transaction_time: 31s"));
  options.cluster.properties["transaction.timeout.ms"] = "120000";
  CHECK(KafkaForwarder::Open(way.broker, options).ok());
  options.transaction_time = -absl::Seconds(1);
  CHECK(absl::IsInvalidArgument(KafkaForwarder::Open(way.broker, options).status()));
}

TEST_CASE("Kafka forwarder: a full disk is waited for") {
  int times = 0;
  const absl::Status status = kafka::internal::TryForEver(
      {},
      [&] { return ++times == 1 ? absl::ResourceExhaustedError("the disk") : absl::OkStatus(); },
      [](const absl::Status& error) { return absl::IsResourceExhausted(error); });
  CHECK(status.ok());
  CHECK(times == 2);
}

TEST_CASE("Kafka forwarder: the routes are checked") {
  Way way;
  const auto refused = [&](const kafka::Route& route) {
    ForwarderOptions options = way.Options();
    options.routes = {route};
    return KafkaForwarder::Open(way.broker, options).status();
  };
  CHECK(absl::IsInvalidArgument(refused({})));
  CHECK(absl::IsInvalidArgument(refused({.topic = "orders", .pattern = "o.*"})));
  CHECK(absl::IsInvalidArgument(refused({.pattern = "o.*", .target = "one"})));
  CHECK(absl::IsInvalidArgument(refused({.pattern = "("})));
  CHECK(absl::IsNotFound(refused({.topic = "nowhere"})));
}

}  // namespace cordwood
