// What a broker says of its topics, and of all that it has.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "broker_state.h"
#include "cordwood/broker.h"
#include "cordwood/status_macros.h"

namespace cordwood {
namespace {

std::vector<ConfigEntry> SettingsOf(const TopicConfig& config) {
  const std::map<std::string, std::string> defaults = TopicConfig().ToProperties();
  std::vector<ConfigEntry> settings;
  for (auto& [name, value] : config.ToProperties()) {
    const auto usual = defaults.find(name);
    const bool is_usual = usual != defaults.end() && usual->second == value;
    settings.push_back(
        {.name = name,
         .value = value,
         .source = is_usual ? ConfigEntry::Source::kDefault : ConfigEntry::Source::kSet});
  }
  return settings;
}

// Of the first record that a reader gives.
absl::Time StampFrom(const Partition& partition, Offset from, Direction direction) {
  absl::StatusOr<PartitionReader> reader = partition.Read(from, direction);
  if (!reader.ok()) return absl::InfinitePast();
  for (const RecordView& record : *reader) return record.timestamp();
  return absl::InfinitePast();
}

absl::StatusOr<PartitionDescription> DescribePartition(log::Log& log, const Partition& partition) {
  PartitionDescription description{.partition = log.partition(),
                                   .start = log.start_offset(),
                                   .end = log.end_offset(),
                                   .durable = log.durable_offset()};
  CORDWOOD_ASSIGN_OR_RETURN(description.segments, log.DescribeSegments());
  for (const SegmentDescription& segment : description.segments) {
    description.bytes += segment.bytes;
  }
  if (description.end > description.start) {
    description.first_timestamp = StampFrom(partition, description.start, Direction::kForward);
    description.last_timestamp = StampFrom(partition, description.end, Direction::kBackward);
  }
  if (const absl::Status status = log.status(); !status.ok()) {
    description.failure = std::string(status.message());
  }
  return description;
}

}  // namespace

absl::StatusOr<TopicDescription> Broker::DescribeTopic(std::string_view name) const {
  CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, OpenTopic(name));
  const std::shared_ptr<log::TopicFiles>& files = topic.state_->files;
  TopicDescription description = {.name = files->name(),
                                  .partitions = files->partitions(),
                                  .config = files->config(),
                                  .id = topic.id()};
  description.settings = SettingsOf(description.config);
  for (int i = 0; i < description.partitions; ++i) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> log, files->OpenLog(i));
    CORDWOOD_ASSIGN_OR_RETURN(PartitionDescription partition,
                              DescribePartition(*log, topic.partition(i)));
    description.bytes += partition.bytes;
    description.records += partition.end - partition.start;
    description.by_number.push_back(std::move(partition));
  }
  return description;
}

absl::StatusOr<BrokerDescription> Broker::DescribeBroker() const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  BrokerDescription broker;
  broker.directory = state_->context().root->path();
  CORDWOOD_ASSIGN_OR_RETURN(broker.disk, DescribeDisk());
  for (const std::string& name : TopicNames()) {
    absl::StatusOr<TopicDescription> topic = DescribeTopic(name);
    if (!topic.ok()) {
      // One that was deleted meanwhile is none.
      if (!absl::IsNotFound(topic.status())) broker.failed_topics.push_back({name, topic.status()});
      continue;
    }
    broker.bytes += topic->bytes;
    broker.records += topic->records;
    broker.partitions += topic->partitions;
    broker.topics.push_back(*std::move(topic));
  }
  for (const std::string& name : ListGroups()) {
    absl::StatusOr<GroupDescription> group = DescribeGroup(name);
    if (group.ok()) {
      broker.groups.push_back(*std::move(group));
    } else if (!absl::IsNotFound(group.status())) {
      broker.failed_groups.push_back({name, group.status()});
    }
  }
  return broker;
}

}  // namespace cordwood
