#include "cordwood/broker.h"

#include "absl/strings/str_cat.h"
#include "broker_state.h"
#include "cordwood/consumer.h"
#include "cordwood/log/compaction.h"
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

absl::StatusOr<CompactionPlan> Broker::DescribeCompaction(const TopicPartition& where) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::TopicFiles> files,
                            state_->directory().OpenTopic(where.topic));
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::Log> log, files->OpenLog(where.partition));
  return log::Compactor::DryRun(std::move(log), log::CompactionSettings::Of(files->config()));
}

absl::Status Broker::AlterTopic(std::string_view name,
                                const std::map<std::string, std::string>& properties) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return state_->directory().AlterTopic(name, properties);
}

absl::Status Broker::CreatePartitions(std::string_view name, int new_count) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return state_->directory().CreatePartitions(name, new_count);
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

absl::StatusOr<DiskSpace> Broker::DescribeDisk() const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return state_->DescribeDisk();
}

absl::Status Broker::CheckDisk() const {
  CORDWOOD_ASSIGN_OR_RETURN(const DiskSpace disk, DescribeDisk());
  if (!disk.reserve_is_spent && !disk.is_low) return absl::OkStatus();
  return internal::Because(
      absl::ResourceExhaustedError(absl::StrCat(
          state_->context().root->path(), ": ", disk.free_bytes, " bytes are free on its disk",
          disk.reserve_is_spent ? ", and the reserve is in use: nothing can be appended" : "",
          "; make room, or keep less")),
      disk.reserve_is_spent ? Reason::kDiskFull : Reason::kDiskLow);
}

RecoveryReport Broker::recovery_report() const {
  return state_ == nullptr ? RecoveryReport() : state_->recovery_report();
}

absl::Status Broker::Maintain(absl::Duration budget) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  return state_->Maintain(budget);
}

absl::Status Broker::Close() const { return state_ == nullptr ? Check() : state_->Close(); }

}  // namespace cordwood
