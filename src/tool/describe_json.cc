#include "tool/describe_json.h"

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tool/session.h"

namespace cordwood::tool {
namespace {

using internal::JsonWriter;

void WriteSegment(JsonWriter& json, const SegmentDescription& segment) {
  json.BeginObject();
  json.Key("file").String(segment.file);
  json.Key("base").Number(segment.base);
  json.Key("next").Number(segment.next);
  json.Key("bytes").Number(segment.bytes);
  json.Key("is_active").Bool(segment.is_active);
  json.Key("is_compacted").Bool(segment.is_compacted);
  WriteTime(json.Key("created"), segment.created);
  WriteTime(json.Key("last_append"), segment.last_append);
  WriteTime(json.Key("largest_timestamp"), segment.largest_timestamp);
  if (!segment.damage.empty()) json.Key("damage").String(segment.damage);
  json.EndObject();
}

void WritePartition(JsonWriter& json, const PartitionDescription& partition) {
  json.BeginObject();
  json.Key("partition").Number(std::int64_t{partition.partition});
  json.Key("start").Number(partition.start);
  json.Key("end").Number(partition.end);
  json.Key("durable").Number(partition.durable);
  json.Key("bytes").Number(partition.bytes);
  WriteTime(json.Key("first_timestamp"), partition.first_timestamp);
  WriteTime(json.Key("last_timestamp"), partition.last_timestamp);
  if (!partition.failure.empty()) json.Key("failure").String(partition.failure);
  json.Key("segments").BeginArray();
  for (const SegmentDescription& segment : partition.segments) WriteSegment(json, segment);
  json.EndArray();
  json.EndObject();
}

void WriteFailures(JsonWriter& json, const std::vector<BrokerDescription::Failure>& failures) {
  json.BeginArray();
  for (const BrokerDescription::Failure& failure : failures) {
    json.BeginObject().Key("name").String(failure.name);
    json.Key("why").String(std::string(failure.status.message())).EndObject();
  }
  json.EndArray();
}

}  // namespace

void WriteTopic(JsonWriter& json, const TopicDescription& topic, bool all) {
  json.BeginObject();
  json.Key("name").String(topic.name);
  json.Key("id").String(topic.id);
  json.Key("partitions").Number(std::int64_t{topic.partitions});
  json.Key("records").Number(topic.records);
  json.Key("bytes").Number(topic.bytes);
  if (all) {
    json.Key("by_number").BeginArray();
    for (const PartitionDescription& partition : topic.by_number) WritePartition(json, partition);
    json.EndArray();
    json.Key("settings").BeginObject();
    for (const ConfigEntry& entry : topic.settings) {
      json.Key(entry.name).BeginObject().Key("value").String(entry.value);
      json.Key("source").String(entry.source == ConfigEntry::Source::kSet ? "set" : "default");
      json.EndObject();
    }
    json.EndObject();
  }
  json.EndObject();
}

void WriteGroup(JsonWriter& json, const GroupDescription& group) {
  json.BeginObject();
  json.Key("name").String(group.name);
  json.Key("state").String(group.state);
  json.Key("type").String(group.is_shared ? "share" : "consumer");
  json.Key("assignor").String(group.assignor);
  json.Key("lag").Number(group.lag);
  json.Key("lag_bytes").Number(group.lag_bytes);
  json.Key("lag_ms").Number(absl::ToInt64Milliseconds(group.lag_age));
  json.Key("partitions").BeginArray();
  for (const PartitionProgress& p : group.partitions) {
    json.BeginObject();
    json.Key("topic").String(p.topic);
    json.Key("partition").Number(std::int64_t{p.partition});
    json.Key("committed");
    p.committed ? json.Number(*p.committed) : json.Null();
    json.Key("end").Number(p.end);
    json.Key("lag").Number(p.lag);
    json.Key("lag_bytes").Number(p.lag_bytes);
    json.Key("lag_ms").Number(absl::ToInt64Milliseconds(p.lag_age));
    json.Key("metadata").String(p.metadata);
    json.Key("member");
    p.member.empty() ? json.Null() : json.String(p.member);
    if (p.shared) {
      json.Key("shared").BeginObject().Key("held").Number(p.shared->held);
      json.Key("waiting").Number(p.shared->waiting).Key("done").Number(p.shared->done);
      json.EndObject();
    }
    json.EndObject();
  }
  json.EndArray();
  json.Key("members").BeginArray();
  for (const GroupMember& member : group.members) {
    json.BeginObject();
    json.Key("id").String(member.id);
    json.Key("instance_id").String(member.instance_id);
    json.Key("is_away").Bool(member.is_away);
    json.Key("pid").Number(std::int64_t{member.pid});
    WriteTime(json.Key("since"), member.since);
    json.Key("topics").BeginArray();
    for (const std::string& topic : member.topics) json.String(topic);
    json.EndArray();
    json.Key("assignment").BeginArray();
    for (const TopicPartition& where : member.assignment) {
      json.BeginObject().Key("topic").String(where.topic);
      json.Key("partition").Number(std::int64_t{where.partition}).EndObject();
    }
    json.EndArray();
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
}

void WriteBroker(JsonWriter& json, const BrokerDescription& broker) {
  json.BeginObject();
  json.Key("directory").String(broker.directory);
  json.Key("bytes").Number(broker.bytes);
  json.Key("records").Number(broker.records);
  json.Key("partitions").Number(broker.partitions);
  json.Key("disk").BeginObject();
  json.Key("free_bytes").Number(broker.disk.free_bytes);
  json.Key("is_low").Bool(broker.disk.is_low);
  json.Key("reserve_bytes").Number(broker.disk.reserve_bytes);
  json.Key("reserve_is_spent").Bool(broker.disk.reserve_is_spent);
  json.EndObject();
  json.Key("topics").BeginArray();
  for (const TopicDescription& topic : broker.topics) WriteTopic(json, topic, true);
  json.EndArray();
  json.Key("groups").BeginArray();
  for (const GroupDescription& group : broker.groups) WriteGroup(json, group);
  json.EndArray();
  WriteFailures(json.Key("failed_topics"), broker.failed_topics);
  WriteFailures(json.Key("failed_groups"), broker.failed_groups);
  json.EndObject();
}

}  // namespace cordwood::tool
