#include "cordwood/kafka/cluster.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "kafka/client.h"

namespace cordwood::kafka {
namespace {

using internal::Client;
using internal::Owned;
using internal::ToAbsl;
using internal::ToMillis;

// The settings that mean the same on both sides, by the name that both have for them.
constexpr const char* kShared[] = {
    "cleanup.policy",        "delete.retention.ms",    "max.compaction.lag.ms",
    "max.message.bytes",     "message.timestamp.type", "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms", "retention.bytes",        "retention.ms",
};

// Kafka has no -1 for "no limit" here.
constexpr std::string_view kLagMaxProperty = "max.compaction.lag.ms";
constexpr std::string_view kNoLimit = "9223372036854775807";

// Sends one request of the admin interface and waits for its answer.
template <class Send>
absl::StatusOr<Owned<rd_kafka_event_t>> Ask(const Client& client, const std::string& what,
                                            rd_kafka_admin_op_t operation, absl::Duration timeout,
                                            Send send) {
  const Owned<rd_kafka_queue_t> queue(rd_kafka_queue_new(client.get()));
  const Owned<rd_kafka_AdminOptions_t> options(rd_kafka_AdminOptions_new(client.get(), operation));
  char reason[512] = {};
  rd_kafka_AdminOptions_set_request_timeout(options.get(), ToMillis(timeout), reason,
                                            sizeof reason);
  send(options.get(), queue.get());
  Owned<rd_kafka_event_t> event(
      rd_kafka_queue_poll(queue.get(), ToMillis(timeout + absl::Seconds(1))));
  if (event == nullptr) return absl::DeadlineExceededError(absl::StrCat(what, ": no answer"));
  if (const auto error = rd_kafka_event_error(event.get()); error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    return internal::StatusOf(error, what);
  }
  return event;
}

}  // namespace

absl::StatusOr<ClusterTopic> DescribeTopic(const ClusterOptions& cluster, std::string_view name,
                                           absl::Duration timeout) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                            Client::Open(RD_KAFKA_CONSUMER, cluster, {}));
  ClusterTopic topic;
  CORDWOOD_ASSIGN_OR_RETURN(const auto counts, client->CountPartitions(name, timeout));
  topic.partitions = counts.begin()->second;

  const std::string what = absl::StrCat("settings of Kafka topic ", ToAbsl(name));
  const Owned<rd_kafka_ConfigResource_t> resource(
      rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, std::string(name).c_str()));
  rd_kafka_ConfigResource_t* asked[] = {resource.get()};
  CORDWOOD_ASSIGN_OR_RETURN(
      const Owned<rd_kafka_event_t> event,
      Ask(*client, what, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, timeout,
          [&](const rd_kafka_AdminOptions_t* options, rd_kafka_queue_t* queue) {
            rd_kafka_DescribeConfigs(client->get(), asked, 1, options, queue);
          }));
  std::size_t count = 0;
  const rd_kafka_ConfigResource_t** answers = rd_kafka_DescribeConfigs_result_resources(
      rd_kafka_event_DescribeConfigs_result(event.get()), &count);
  if (count != 1) return absl::UnavailableError(absl::StrCat(what, ": no answer"));
  CORDWOOD_RETURN_IF_ERROR(internal::StatusOf(rd_kafka_ConfigResource_error(answers[0]), what));
  const rd_kafka_ConfigEntry_t** entries = rd_kafka_ConfigResource_configs(answers[0], &count);
  for (std::size_t i = 0; i < count; ++i) {
    const char* const value = rd_kafka_ConfigEntry_value(entries[i]);
    topic.properties[rd_kafka_ConfigEntry_name(entries[i])] = value == nullptr ? "" : value;
  }
  return topic;
}

absl::StatusOr<std::map<std::string, int>> ListTopics(const ClusterOptions& cluster,
                                                      absl::Duration timeout) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                            Client::Open(RD_KAFKA_CONSUMER, cluster, {}));
  return client->CountPartitions("", timeout);
}

absl::Status CreateTopic(const ClusterOptions& cluster, std::string_view name,
                         const TopicConfig& config, int replication_factor,
                         absl::Duration timeout) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                            Client::Open(RD_KAFKA_CONSUMER, cluster, {}));
  const std::string what = absl::StrCat("making Kafka topic ", ToAbsl(name));
  char reason[512] = {};
  const Owned<rd_kafka_NewTopic_t> topic(rd_kafka_NewTopic_new(
      std::string(name).c_str(), config.partitions, replication_factor, reason, sizeof reason));
  if (topic == nullptr) return absl::InvalidArgumentError(absl::StrCat(what, ": ", reason));
  for (const auto& [property, value] : ToClusterProperties(config)) {
    rd_kafka_NewTopic_set_config(topic.get(), property.c_str(), value.c_str());
  }
  rd_kafka_NewTopic_t* asked[] = {topic.get()};
  CORDWOOD_ASSIGN_OR_RETURN(
      const Owned<rd_kafka_event_t> event,
      Ask(*client, what, RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout,
          [&](const rd_kafka_AdminOptions_t* options, rd_kafka_queue_t* queue) {
            rd_kafka_CreateTopics(client->get(), asked, 1, options, queue);
          }));
  std::size_t count = 0;
  const rd_kafka_topic_result_t** answers =
      rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
  if (count != 1) return absl::UnavailableError(absl::StrCat(what, ": no answer"));
  const char* const words = rd_kafka_topic_result_error_string(answers[0]);
  return internal::StatusOf(rd_kafka_topic_result_error(answers[0]),
                            words == nullptr ? what : absl::StrCat(what, ": ", words));
}

std::map<std::string, std::string> ToClusterProperties(const TopicConfig& config) {
  const std::map<std::string, std::string> all = config.ToProperties();
  std::map<std::string, std::string> shared;
  for (const char* name : kShared) shared[name] = all.at(name);
  std::string& lag_max = shared[std::string(kLagMaxProperty)];
  if (lag_max == "-1") lag_max = kNoLimit;
  return shared;
}

absl::StatusOr<TopicConfig> FromClusterTopic(const ClusterTopic& topic) {
  std::map<std::string, std::string> properties = {{"partitions", std::to_string(topic.partitions)},
                                                   {"retention.clock", "record"}};
  for (const char* name : kShared) {
    const auto it = topic.properties.find(name);
    if (it == topic.properties.end()) continue;
    const bool is_endless = name == kLagMaxProperty && it->second == kNoLimit;
    properties[name] = is_endless ? "-1" : it->second;
  }
  return TopicConfig::FromProperties(properties);
}

}  // namespace cordwood::kafka
