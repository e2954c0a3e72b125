// What the commands of `cordwood kafka` are told: the cluster, with librdkafka's properties, and
// which topics.
//
//   ClusterArguments cluster;
//   AddClusterArguments(command, cluster);
//   ...
//   CORDWOOD_ASSIGN_OR_RETURN(const kafka::ClusterOptions options, ReadCluster(cluster));
//
// Values of properties may be passwords: they are in no message.

#ifndef CORDWOOD_TOOL_KAFKA_OPTIONS_H_
#define CORDWOOD_TOOL_KAFKA_OPTIONS_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/kafka/cluster.h"

namespace CLI {
class App;
}  // namespace CLI

namespace cordwood::tool {

struct ClusterArguments {
  std::string brokers = {};
  std::vector<std::string> properties = {};
  std::vector<std::string> files = {};
};
void AddClusterArguments(CLI::App* command, ClusterArguments& cluster);
// A property of -X counts more than --brokers, that more than one of a file.
absl::StatusOr<kafka::ClusterOptions> ReadCluster(const ClusterArguments& cluster);

struct TopicArguments {
  std::vector<std::string> names = {};  // "orders", or "orders=shop.orders"
  std::vector<std::string> patterns = {};
  std::string prefix = {};
  std::string partitioner = "same";
};
// `whose`: where the topics are, in words.
void AddTopicArguments(CLI::App* command, TopicArguments& topics, std::string_view whose);
kafka::Partitioning PartitioningOf(const TopicArguments& topics);

struct Names {
  std::string topic = {};
  std::string target = {};  // none: the same, behind the prefix
};
// kInvalidArgument: "=target", "topic=".
absl::StatusOr<Names> ParseNames(std::string_view text);

// Those whose whole name matches. kInvalidArgument: it is no pattern.
absl::StatusOr<std::vector<std::string>> Matching(const std::vector<std::string>& names,
                                                  const std::string& pattern);

// Lines of NAME=VALUE, empty ones, and comments that begin with #, as kcat has them. Later ones
// count more. `where` is for the error, which has nothing of the text.
absl::Status ParseProperties(std::string_view text, std::string_view where,
                             std::map<std::string, std::string>& properties);

// Errors of the library name its options; here they are named as the program has them.
absl::Status InWordsOfProgram(const absl::Status& status);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_KAFKA_OPTIONS_H_
