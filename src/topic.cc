#include "cordwood/topic.h"

#include "broker_state.h"

namespace cordwood {
namespace {

absl::Status NoTopic() {
  return absl::FailedPreconditionError("this Topic was made by default or moved from");
}

}  // namespace

std::string_view Topic::name() const {
  return state_ == nullptr ? std::string_view() : std::string_view(state_->files->name());
}

int Topic::partition_count() const { return state_ == nullptr ? 0 : state_->files->partitions(); }

std::string Topic::id() const {
  return state_ == nullptr ? std::string() : log::HexOf(state_->files->id());
}

Partition Topic::partition(int number) const {
  if (state_ == nullptr) return Partition(NoTopic());
  const absl::StatusOr<log::Log*> log = state_->files->FindLog(number);
  if (!log.ok()) return Partition(log.status());
  // Shares the topic, which owns the log.
  return Partition(std::shared_ptr<log::Log>(state_, *log));
}

TopicConfig Topic::config() const {
  return state_ == nullptr ? TopicConfig() : state_->files->config();
}

absl::Status Topic::status() const {
  return state_ == nullptr ? NoTopic() : state_->files->status();
}

int Topic::PartitionFor(std::string_view key) const {
  if (state_ == nullptr) return 0;
  return internal::PartitionForKey(state_->kind, key, state_->files->partitions());
}

}  // namespace cordwood
