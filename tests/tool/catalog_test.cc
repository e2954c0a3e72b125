// The catalogue, against a schema of the attributes that it has to have.

#include "cordwood/catalog.h"

#include <filesystem>
#include <set>
#include <string>

#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/files.h"
#include "tests/support/json_schema.h"
#include "tests/support/program.h"

namespace cordwood::testing {
namespace {

using tool::JsonValue;
using tool::ParseJson;

// Two topics that two groups read, one that nobody reads, and one of the system's.
struct World {
  World() {
    REQUIRE(broker.CreateTopic("orders", {.partitions = 2}).ok());
    REQUIRE(broker
                .CreateTopic("users", {.segment_bytes = 8192,
                                       .retention_age = absl::InfiniteDuration(),
                                       .retention_bytes = 1 << 20,
                                       .cleanup = CleanupPolicy::kCompactAndDelete})
                .ok());
    REQUIRE(broker.CreateTopic("unread", {.cleanup = CleanupPolicy::kCompact}).ok());
    REQUIRE(broker.CreateTopic("__system").ok());
    for (int i = 0; i < 10; ++i) Append(broker.OpenTopic("orders").value(), i % 2, "x");
    REQUIRE(consumer.Subscribe({"orders", "users"}).ok());
    REQUIRE(consumer.Poll(absl::Seconds(10)).ok());
    REQUIRE(consumer.Commit({{{"orders", 1}, 3}}).ok());
    // And one whose members have gone.
    REQUIRE(
        broker.ResetOffsets("audit", ResetTo::Earliest(), {.partitions = {{"orders", -1}}}).ok());
    schema = ReadAll(CORDWOOD_SOURCE_FOLDER "/tests/data/catalog.schema.json");
    text = CatalogJson(broker.DescribeBroker().value(), {.connection = "default/cw/1"});
  }
  const JsonValue& Entity(const std::string& qualified_name) {
    document = ParseJson(text).value();
    for (const JsonValue& entity : document.Find("entities")->items) {
      if (entity.Find("attributes")->Find("qualifiedName")->text == qualified_name) return entity;
    }
    FAIL(qualified_name << " is not there");
    return document;
  }
  // "name=value", as it is written
  std::string Attribute(const std::string& qualified_name, const std::string& attribute) {
    const JsonValue* const found = Entity(qualified_name).Find("attributes")->Find(attribute);
    REQUIRE(found != nullptr);
    return std::string(found->raw);
  }

  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Consumer consumer = broker.NewConsumer({.group = "billing"}).value();
  std::string schema, text;
  JsonValue document;
};

// Who points at whom, over one of the two relations.
std::set<std::pair<std::string, std::string>> Pairs(const JsonValue& document,
                                                    const std::string& type,
                                                    const std::string& relation, bool turned) {
  std::set<std::pair<std::string, std::string>> pairs;
  for (const JsonValue& entity : document.Find("entities")->items) {
    if (entity.Find("typeName")->text != type) continue;
    const std::string own = entity.Find("attributes")->Find("qualifiedName")->text;
    for (const JsonValue& other : entity.Find("relationshipAttributes")->Find(relation)->items) {
      const std::string name = other.Find("uniqueAttributes")->Find("qualifiedName")->text;
      pairs.insert(turned ? std::pair(name, own) : std::pair(own, name));
    }
  }
  return pairs;
}

}  // namespace

TEST_CASE("Catalog: it is as the schema says") {
  const World world;
  const JsonValue schema = ParseJson(world.schema).value();
  CHECK(BreachesOf(ParseJson(world.text).value(), schema) == "");
  // And the schema notices what is not.
  for (const std::string attribute :
       {"kafkaTopicRecordCount", "kafkaTopicLogCleanupPolicy", "kafkaConsumerGroupState",
        "topicLag", "kafkaTopicQualifiedNames", "uniqueAttributes"}) {
    std::string broken = world.text;
    broken.replace(broken.find(attribute), 5, "other");
    CAPTURE(attribute);
    CHECK(BreachesOf(ParseJson(broken).value(), schema) != "");
  }
}

TEST_CASE("Catalog: a directory without topics gives a catalogue without entities") {
  const TempDir dir;
  const Broker broker = OpenQuiet(dir / "data");
  CHECK(CatalogJson(broker.DescribeBroker().value()) == "{\"entities\":[]}");
}

TEST_CASE("Catalog: the relation of topics and groups is the same from both ends") {
  const World world;
  const JsonValue document = ParseJson(world.text).value();
  const auto of_topics = Pairs(document, "KafkaTopic", "kafkaConsumerGroups", false);
  const auto of_groups = Pairs(document, "KafkaConsumerGroup", "kafkaTopics", true);
  CHECK(of_topics == of_groups);
  const std::string topic = "default/cw/1/topic/", group = "default/cw/1/consumer-group/";
  CHECK(of_topics ==
        std::set<std::pair<std::string, std::string>>{{topic + "orders", group + "audit"},
                                                      {topic + "orders", group + "billing"},
                                                      {topic + "users", group + "billing"}});
}

TEST_CASE("Catalog: a topic's attributes") {
  World world;
  const std::string orders = "default/cw/1/topic/orders", users = "default/cw/1/topic/users";
  CHECK(world.Attribute(orders, "kafkaTopicRecordCount") == "10");
  CHECK(world.Attribute(orders, "kafkaTopicPartitionsCount") == "2");
  CHECK(world.Attribute(orders, "kafkaTopicConsumerCount") == "1");
  CHECK(world.Attribute(orders, "kafkaTopicRetentionTimeInMs") == "604800000");
  CHECK(world.Attribute(orders, "kafkaTopicRetentionBytes") == "-1");
  CHECK(world.Attribute(orders, "kafkaTopicCleanupPolicy") == "\"delete\"");
  CHECK(world.Attribute(orders, "kafkaTopicSizeInBytes") ==
        std::to_string(world.broker.DescribeTopic("orders").value().bytes));
  CHECK(world.Attribute(users, "kafkaTopicSegmentBytes") == "8192");
  CHECK(world.Attribute(users, "kafkaTopicRetentionTimeInMs") == "-1");
  CHECK(world.Attribute(users, "kafkaTopicRetentionBytes") == "1048576");
  CHECK(world.Attribute(users, "kafkaTopicLogCleanupPolicy") == "\"compact,delete\"");
  CHECK(world.Attribute(users, "kafkaTopicIsInternal") == "false");
  CHECK(world.Attribute("default/cw/1/topic/__system", "kafkaTopicIsInternal") == "true");
  CHECK(world.Attribute("default/cw/1/topic/unread", "kafkaTopicConsumerCount") == "0");
}

TEST_CASE("Catalog: a group's attributes") {
  World world;
  const std::string group = "default/cw/1/consumer-group/";
  CHECK(world.Attribute(group + "billing", "kafkaConsumerGroupState") == "\"Stable\"");
  CHECK(world.Attribute(group + "billing", "kafkaConsumerGroupMemberCount") == "1");
  CHECK(world.Attribute(group + "billing", "kafkaTopicNames") == "[\"orders\",\"users\"]");
  CHECK(world.Attribute(group + "billing", "kafkaConsumerGroupAssignedPartitions") ==
        "[\"orders-0\",\"orders-1\",\"users-0\"]");
  CHECK(world.Attribute(group + "billing", "kafkaConsumerGroupTopicConsumptionProperties")
            .find("{\"topicName\":\"orders\",\"topicPartition\":\"1\",\"topicLag\":2,"
                  "\"topicCurrentOffset\":3}") != std::string::npos);
  CHECK(world.Attribute(group + "audit", "kafkaConsumerGroupState") == "\"Empty\"");
  CHECK(world.Attribute(group + "audit", "kafkaConsumerGroupAssignedPartitions") == "[]");
}

TEST_CASE("Catalog: the program gives the same") {
  const World world;
  const Ran ran = RunProgram({"--dir", world.dir / "data", "describe", "--catalog", "--connection",
                              "default/cw/1", "--json"});
  CHECK(ran.err == "");
  CHECK(ran.code == 0);
  CHECK(ran.out == world.text + "\n");
}

}  // namespace cordwood::testing
