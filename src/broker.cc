#include "cordwood/broker.h"

#include "absl/strings/str_cat.h"
#include "broker_state.h"
#include "cordwood/consumer.h"
#include "cordwood/share_consumer.h"
#include "cordwood/status_macros.h"
#include "producer_state.h"

namespace cordwood {

absl::StatusOr<Broker> Broker::Open(const std::filesystem::path& path,
                                    const BrokerOptions& options) {
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<internal::BrokerState> state,
                            internal::BrokerState::Open(path, options));
  return Broker(std::move(state));
}

absl::Status Broker::Check() const {
  if (state_ != nullptr) return state_->status();
  return absl::FailedPreconditionError("this Broker was made by default or moved from");
}

// ---- Topics

absl::StatusOr<Topic> Broker::CreateTopic(std::string_view name, const TopicConfig& config) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::TopicFiles> files,
                            state_->directory().CreateTopic(name, config));
  return Topic(std::make_shared<const internal::TopicState>(state_, std::move(files)));
}

absl::StatusOr<Topic> Broker::OpenTopic(std::string_view name) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::TopicFiles> files,
                            state_->directory().OpenTopic(name));
  return Topic(std::make_shared<const internal::TopicState>(state_, std::move(files)));
}

absl::StatusOr<Topic> Broker::OpenOrCreateTopic(std::string_view name,
                                                const TopicConfig& config) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::TopicFiles> files,
                            state_->directory().OpenOrCreateTopic(name, config));
  return Topic(std::make_shared<const internal::TopicState>(state_, std::move(files)));
}

absl::Status Broker::DeleteTopic(std::string_view name) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return state_->directory().DeleteTopic(name);
}

std::vector<std::string> Broker::TopicNames() const {
  if (!Check().ok()) return {};
  return state_->directory().TopicNames();
}

absl::StatusOr<TopicDescription> Broker::DescribeTopic(std::string_view name) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::TopicFiles> files,
                            state_->directory().OpenTopic(name));
  TopicDescription topic = {
      .name = files->name(), .partitions = files->partitions(), .config = files->config()};
  for (int i = 0; i < files->partitions(); ++i) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> log, files->OpenLog(i));
    topic.bytes += log->TotalBytes();
    topic.records += log->end_offset() - log->start_offset();
  }
  return topic;
}

absl::Status Broker::AlterTopic(std::string_view, const std::map<std::string, std::string>&) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return absl::UnimplementedError(
      "AlterTopic is not in this version; a topic keeps the settings that it was made with");
}

absl::Status Broker::CreatePartitions(std::string_view, int) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return absl::UnimplementedError(
      "CreatePartitions is not in this version; a topic keeps the partitions that it was made "
      "with");
}

// ---- Producers and consumers

absl::StatusOr<Producer> Broker::NewProducer(const ProducerOptions& options) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  CORDWOOD_RETURN_IF_ERROR(state_->context().CheckWritable());
  return Producer(std::make_shared<internal::ProducerState>(state_, options));
}

absl::StatusOr<Consumer> Broker::NewConsumer(const ConsumerOptions& options) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return internal::MakeConsumer(state_, options);
}

absl::StatusOr<ShareConsumer> Broker::NewShareConsumer(const ShareConsumerOptions& options) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return internal::MakeShareConsumer(state_, options);
}

// ---- Groups

absl::StatusOr<GroupDescription> Broker::DescribeGroup(std::string_view group) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return state_->groups().Describe(group, state_->directory());
}

std::vector<std::string> Broker::ListGroups() const {
  if (!Check().ok()) return {};
  return state_->groups().List();
}

absl::Status Broker::DeleteGroup(std::string_view group) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  CORDWOOD_RETURN_IF_ERROR(state_->context().CheckWritable());
  return state_->groups().Delete(group);
}

absl::StatusOr<std::vector<OffsetChange>> Broker::ResetOffsets(std::string_view group,
                                                               const ResetTo& to,
                                                               const ResetOptions& options) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  if (!options.dry_run) CORDWOOD_RETURN_IF_ERROR(state_->context().CheckWritable());
  return state_->groups().Reset(group, to, options, state_->directory());
}

// ---- The directory

RecoveryReport Broker::recovery_report() const {
  return state_ == nullptr ? RecoveryReport() : state_->recovery_report();
}

absl::Status Broker::Maintain(absl::Duration budget) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return state_->Maintain(budget);
}

absl::Status Broker::Close() const { return state_ == nullptr ? Check() : state_->Close(); }

}  // namespace cordwood
