// What is in a directory as entities of Atlan's Kafka model, for data catalogues: a KafkaTopic for
// each topic, a KafkaConsumerGroup for each group, and who reads what, named at both ends.
//
//   BrokerDescription all = broker.DescribeBroker().value();
//   std::cout << CatalogJson(all, {.connection = "default/cordwood/edge-7"});
//
//   {"entities": [
//     {"typeName": "KafkaTopic",
//      "attributes": {"name": "orders", "qualifiedName": "default/cordwood/edge-7/topic/orders",
//                     "kafkaTopicPartitionsCount": 3, ...},
//      "relationshipAttributes": {"kafkaConsumerGroups": [
//        {"typeName": "KafkaConsumerGroup", "uniqueAttributes":
//          {"qualifiedName": "default/cordwood/edge-7/consumer-group/billing"}}]}},
//     ...]}
//
// What means something else here than in a cluster:
//
//   kafkaTopicReplicationFactor     1: there is one copy
//   kafkaTopicCompressionType       "uncompressed"
//   kafkaTopicIsInternal            the name begins with two underscores, as Kafka's own do
//   kafkaTopicRetentionTimeInMs     -1: for ever; kafkaTopicRetentionBytes: -1: without a bound
//   kafkaTopicCleanupPolicy         "compact" of a topic that deletes, too: the model has one word
//   kafkaTopicLogCleanupPolicy      Kafka's cleanup.policy: "compact,delete"
//   kafkaTopicConsumerCount         members of groups that have subscribed to it
//   topicCurrentOffset              0 where nothing was committed
//   kafkaConsumerGroupAssignedPartitions   "orders-0", those that a member reads now
//
// Thread safety: a function of values.

#ifndef CORDWOOD_CATALOG_H_
#define CORDWOOD_CATALOG_H_

#include <string>

#include "cordwood/describe.h"

namespace cordwood {

// How CatalogJson() writes.
struct CatalogOptions {
  // What all qualified names begin with.
  std::string connection = "default/cordwood/local";
  bool pretty = false;  // lines and indents, for people
};

// The entities of all that `broker` describes, as JSON in UTF-8: topics first, then groups, by
// name. What could not be described is not in it.
std::string CatalogJson(const BrokerDescription& broker, const CatalogOptions& options = {});

}  // namespace cordwood

#endif  // CORDWOOD_CATALOG_H_
