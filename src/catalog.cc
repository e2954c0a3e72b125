#include "cordwood/catalog.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "json_writer.h"

namespace cordwood {
namespace {

using internal::JsonWriter;

std::string TopicName(const CatalogOptions& options, const std::string& topic) {
  return options.connection + "/topic/" + topic;
}
std::string GroupName(const CatalogOptions& options, const std::string& group) {
  return options.connection + "/consumer-group/" + group;
}

// Those that it has offsets of, or whose records a member wants.
std::set<std::string> TopicsOf(const GroupDescription& group) {
  std::set<std::string> topics;
  for (const PartitionProgress& p : group.partitions) topics.insert(p.topic);
  for (const GroupMember& member : group.members) {
    topics.insert(member.topics.begin(), member.topics.end());
  }
  return topics;
}

// By topic: the groups that read it, and how many of their members do.
struct Readers {
  std::set<std::string> groups = {};
  std::int64_t members = 0;
};
std::map<std::string, Readers> ReadersOf(const BrokerDescription& broker) {
  std::map<std::string, Readers> readers;
  for (const GroupDescription& group : broker.groups) {
    for (const std::string& topic : TopicsOf(group)) readers[topic].groups.insert(group.name);
    for (const GroupMember& member : group.members) {
      for (const std::string& topic : member.topics) ++readers[topic].members;
    }
  }
  return readers;
}

void WriteReferences(JsonWriter& json, std::string_view type,
                     const std::set<std::string>& qualified_names) {
  json.BeginArray();
  for (const std::string& name : qualified_names) {
    json.BeginObject().Key("typeName").String(type);
    json.Key("uniqueAttributes").BeginObject().Key("qualifiedName").String(name).EndObject();
    json.EndObject();
  }
  json.EndArray();
}

// What both kinds begin with.
void BeginEntity(JsonWriter& json, std::string_view type, const std::string& name,
                 const std::string& qualified_name, const CatalogOptions& options) {
  json.BeginObject().Key("typeName").String(type);
  json.Key("attributes").BeginObject();
  json.Key("name").String(name);
  json.Key("qualifiedName").String(qualified_name);
  json.Key("connectionQualifiedName").String(options.connection);
}

void WriteTopic(JsonWriter& json, const TopicDescription& topic, const Readers& readers,
                const CatalogOptions& options) {
  const std::map<std::string, std::string> properties = topic.config.ToProperties();
  const TopicConfig& config = topic.config;
  BeginEntity(json, "KafkaTopic", topic.name, TopicName(options, topic.name), options);
  json.Key("kafkaTopicIsInternal").Bool(topic.name.starts_with("__"));
  json.Key("kafkaTopicCompressionType").String("uncompressed");
  json.Key("kafkaTopicReplicationFactor").Number(std::int64_t{1});
  json.Key("kafkaTopicSegmentBytes").Number(config.segment_bytes);
  json.Key("kafkaTopicRetentionTimeInMs")
      .Number(config.retention_age == absl::InfiniteDuration()
                  ? -1
                  : absl::ToInt64Milliseconds(config.retention_age));
  json.Key("kafkaTopicRetentionBytes")
      .Number(config.retention_bytes == kUnlimited ? -1 : config.retention_bytes);
  json.Key("kafkaTopicPartitionsCount").Number(std::int64_t{topic.partitions});
  json.Key("kafkaTopicSizeInBytes").Number(topic.bytes);
  json.Key("kafkaTopicRecordCount").Number(topic.records);
  json.Key("kafkaTopicConsumerCount").Number(readers.members);
  json.Key("kafkaTopicCleanupPolicy")
      .String(config.cleanup == CleanupPolicy::kDelete ? "delete" : "compact");
  json.Key("kafkaTopicLogCleanupPolicy").String(properties.at("cleanup.policy"));
  json.EndObject();
  json.Key("relationshipAttributes").BeginObject().Key("kafkaConsumerGroups");
  std::set<std::string> names;
  for (const std::string& group : readers.groups) names.insert(GroupName(options, group));
  WriteReferences(json, "KafkaConsumerGroup", names);
  json.EndObject().EndObject();
}

void WriteGroup(JsonWriter& json, const GroupDescription& group,
                const std::set<std::string>& topics, const CatalogOptions& options) {
  std::set<std::string> qualified;
  for (const std::string& topic : topics) qualified.insert(TopicName(options, topic));
  BeginEntity(json, "KafkaConsumerGroup", group.name, GroupName(options, group.name), options);
  json.Key("kafkaConsumerGroupMemberCount").Number(static_cast<std::int64_t>(group.members.size()));
  json.Key("kafkaConsumerGroupState").String(group.state);
  json.Key("kafkaConsumerGroupTopicConsumptionProperties").BeginArray();
  for (const PartitionProgress& p : group.partitions) {
    json.BeginObject().Key("topicName").String(p.topic);
    json.Key("topicPartition").String(std::to_string(p.partition));  // the model's type
    json.Key("topicLag").Number(p.lag);
    json.Key("topicCurrentOffset").Number(p.committed.value_or(0)).EndObject();
  }
  json.EndArray();
  json.Key("kafkaConsumerGroupAssignedPartitions").BeginArray();
  for (const PartitionProgress& p : group.partitions) {
    if (!p.member.empty()) json.String(p.topic + "-" + std::to_string(p.partition));
  }
  json.EndArray();
  json.Key("kafkaTopicNames").BeginArray();
  for (const std::string& topic : topics) json.String(topic);
  json.EndArray();
  json.Key("kafkaTopicQualifiedNames").BeginArray();
  for (const std::string& name : qualified) json.String(name);
  json.EndArray();
  json.EndObject();
  json.Key("relationshipAttributes").BeginObject().Key("kafkaTopics");
  WriteReferences(json, "KafkaTopic", qualified);
  json.EndObject().EndObject();
}

}  // namespace

std::string CatalogJson(const BrokerDescription& broker, const CatalogOptions& options) {
  std::map<std::string, Readers> readers = ReadersOf(broker);
  std::set<std::string> there;
  for (const TopicDescription& topic : broker.topics) there.insert(topic.name);
  JsonWriter json(options.pretty);
  json.BeginObject().Key("entities").BeginArray();
  for (const TopicDescription& topic : broker.topics) {
    WriteTopic(json, topic, readers[topic.name], options);
  }
  for (const GroupDescription& group : broker.groups) {
    // A relation has two ends: a topic that is not there, or cannot be described, is none.
    std::set<std::string> topics;
    const std::set<std::string> all = TopicsOf(group);
    std::set_intersection(all.begin(), all.end(), there.begin(), there.end(),
                          std::inserter(topics, topics.end()));
    WriteGroup(json, group, topics, options);
  }
  json.EndArray().EndObject();
  return std::move(json).Take();
}

}  // namespace cordwood
