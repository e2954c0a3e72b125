// The importer against faults of the cluster, and what it finds here.

#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "cordwood/cordwood.h"
#include "cordwood/kafka/forwarder.h"
#include "cordwood/kafka/importer.h"
#include "tests/catch.h"
#include "tests/kafka/mock_cluster.h"
#include "tests/support/says.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using namespace cordwood::testing;
using kafka::ImporterOptions;
using kafka::KafkaForwarder;
using kafka::KafkaImporter;
using List = std::vector<std::string>;

// A cluster with topic "prices" of one partition, and a local topic of that name.
struct Way {
  Way() { mock.CreateTopic("prices", 1); }

  // To the cluster.
  void Send(const std::string& value) const {
    REQUIRE(from.partition(0).Append({.key = "k", .value = value}).ok());
    REQUIRE(
        KafkaForwarder::Open(source, {.cluster = mock.cluster(), .routes = {{.topic = "prices"}}})
            .value()
            .RunToEnd()
            .ok());
  }
  KafkaImporter Importer(const std::string& group = "kafka-importer") const {
    return KafkaImporter::Open(
               broker, {.cluster = mock.cluster(), .group = group, .routes = {{.topic = "prices"}}})
        .value();
  }
  absl::Status Import() const { return Importer().RunToEnd(); }
  List Here() const {
    List values;
    PartitionReader reader = to.partition(0).Read(0).value();
    for (const RecordView& record : reader) values.emplace_back(record.value().value_or("(none)"));
    return values;
  }

  TempDir dir;
  Broker source = Broker::Open(dir / "source").value();
  Topic from = source.CreateTopic("prices").value();
  Broker broker = Broker::Open(dir / "data").value();
  Topic to = broker.CreateTopic("prices").value();
  MockCluster mock;
};

}  // namespace

TEST_CASE("Kafka importer: what is there is here once, with what others append between") {
  Way way;
  way.Send("a");
  REQUIRE(way.Import().ok());
  REQUIRE(way.to.partition(0).Append({.value = "mine"}).ok());
  way.Send("b");
  REQUIRE(way.Import().ok());
  CHECK(way.Here() == List{"a", "mine", "b"});
  // Another group has no position, and finds it in the records.
  REQUIRE(way.Importer("another").RunToEnd().ok());
  CHECK(way.Here() == List{"a", "mine", "b"});
}

TEST_CASE("Kafka importer: what was given up just when it is asked for is no end") {
  Way way;
  way.Send("a");
  way.mock.Fail(MockCluster::kFetch, {RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE});
  KafkaImporter importer = way.Importer();
  const absl::Status status = importer.RunToEnd();
  INFO(status);
  REQUIRE(status.ok());
  CHECK(importer.progress()[0].restarts == 1);
  CHECK(way.Here() == List{"a"});
}

// The cluster has another record where ours is from, as if its topic were deleted, made again and
// filled beyond the place where the importer was.
TEST_CASE("Kafka importer: a topic that was made anew and has grown is data loss") {
  Way way;
  way.Send("a");
  way.Send("b");
  REQUIRE(way.Import().ok());
  List sources;
  PartitionReader reader = way.to.partition(0).Read(0).value();
  for (const RecordView& record : reader) {
    sources.emplace_back(record.headers().Last("kafka.source").value());
  }
  const Topic again = way.broker.CreateTopic("again").value();
  REQUIRE(again.partition(0)
              .Append({.key = "k", .value = "A", .headers = {{"kafka.source", sources.at(0)}}})
              .ok());
  KafkaImporter importer =
      KafkaImporter::Open(way.broker, {.cluster = way.mock.cluster(),
                                       .routes = {{.topic = "prices", .target = "again"}}})
          .value();
  const absl::Status status = importer.RunToEnd();
  INFO(status);
  CHECK(absl::IsDataLoss(status));
  CHECK(Says(status, "Kafka partition prices-0 has at 0 another record"));
}

TEST_CASE("Kafka importer: one that was moved from says so") {
  Way way;
  KafkaImporter importer = KafkaImporter::Open(way.broker, {.cluster = way.mock.cluster(),
                                                            .routes = {{.topic = "prices"}}})
                               .value();
  const KafkaImporter other = std::move(importer);
  CHECK(absl::IsFailedPrecondition(importer.Run({})));
  CHECK(absl::IsFailedPrecondition(importer.RunToEnd()));
  CHECK(importer.progress().empty());
}

TEST_CASE(
    "Kafka importer: a record that is too large here is an error that says where it is from") {
  Way way;
  way.Send("a");
  way.Send(std::string(5000, 'x'));
  REQUIRE(way.broker.AlterTopic("prices", {{"max.message.bytes", "1000"}}).ok());
  const absl::Status status = way.Import();
  INFO(status);
  CHECK(absl::IsInvalidArgument(status));
  CHECK(Says(status, "importing Kafka topic prices"));
}

}  // namespace cordwood
