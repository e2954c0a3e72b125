// How an Apache Kafka cluster is reached, and what its topics are like: for both bridges.
//
//   kafka::ClusterOptions cluster = {.properties = {{"bootstrap.servers", "kafka-1:9092"},
//                                                   {"security.protocol", "sasl_ssl"},
//                                                   {"sasl.mechanisms", "SCRAM-SHA-512"},
//                                                   {"sasl.username", "edge-7"},
//                                                   {"sasl.password", password}}};
//   kafka::ClusterTopic orders = kafka::DescribeTopic(cluster, "orders").value();
//
// Thread safety: the options are values, the functions are for any thread; each makes a connection
// of its own and waits for it, up to its timeout.

#ifndef CORDWOOD_KAFKA_CLUSTER_H_
#define CORDWOOD_KAFKA_CLUSTER_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/options.h"

namespace cordwood::kafka {

// Of everything that reaches a cluster.
struct ClusterOptions {
  // By librdkafka's own names, and handed to it as they are. kInvalidArgument: one that it does
  // not know, or that the bridges rest on and set themselves: transactional.id,
  // enable.idempotence, acks, isolation.level and the like. No password, key or token in them is
  // ever logged, or part of an error.
  std::map<std::string, std::string> properties = {};
  // What librdkafka says, with syslog's level, on threads of its own; it must not block. None:
  // nothing is said, least of all on stderr.
  std::function<void(int level, std::string_view message)> on_log = {};
};

// Which partition a record goes to on the other side.
enum class Partitioning {
  kSame,     // partition 3 to partition 3; the counts must be equal
  kMurmur2,  // where Kafka's Java producer puts its key; without a key by its own partition
};

// A topic as the cluster has it.
struct ClusterTopic {
  int partitions = 0;
  std::map<std::string, std::string> properties = {};  // all of its settings, by Kafka's names
};

// Asks the cluster. kNotFound: there is no such topic; kPermissionDenied; kDeadlineExceeded: the
// cluster did not answer; kUnavailable: another error of the cluster, in librdkafka's words.
absl::StatusOr<ClusterTopic> DescribeTopic(const ClusterOptions& cluster, std::string_view name,
                                           absl::Duration timeout = absl::Seconds(30));

// All that there are, with how many partitions each has; also those of the cluster's own, which
// begin with "__". kDeadlineExceeded.
absl::StatusOr<std::map<std::string, int>> ListTopics(const ClusterOptions& cluster,
                                                      absl::Duration timeout = absl::Seconds(30));

// Makes it as the local topic is: partitions, and the settings of ToClusterProperties. A
// replication factor of -1 is the cluster's own default. kAlreadyExists; kInvalidArgument: the
// cluster refuses a setting; else as DescribeTopic.
absl::Status CreateTopic(const ClusterOptions& cluster, std::string_view name,
                         const TopicConfig& config, int replication_factor = -1,
                         absl::Duration timeout = absl::Seconds(30));

// Those settings of a topic that Kafka has, too, under its names: cleanup, retention, compaction,
// sizes. Left out is what the cluster has no word for (groups that hold records back, backlogs,
// retention by number of records) and what is the broker's own business (segments, indexes).
//
// Kafka counts the age of a record from its timestamp. A topic whose age counts from the append
// (RetentionClock::kAppend, the default here) keeps records with old timestamps longer than its
// copy in the cluster, which may give them up at once.
std::map<std::string, std::string> ToClusterProperties(const TopicConfig& config);

// The other way. What a cordwood topic has no setting for is left out; the age counts as in
// Kafka, from the timestamp. kInvalidArgument: a setting is out of the bounds of TopicConfig.
absl::StatusOr<TopicConfig> FromClusterTopic(const ClusterTopic& topic);

}  // namespace cordwood::kafka

#endif  // CORDWOOD_KAFKA_CLUSTER_H_
