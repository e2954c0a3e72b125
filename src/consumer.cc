// The Consumer: a handle of a ConsumerState, or of nothing.

#include "cordwood/consumer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "consumer_state.h"
#include "cordwood/status_macros.h"

namespace cordwood {
namespace {

absl::Status MovedFrom() { return absl::FailedPreconditionError("the consumer was moved from"); }

}  // namespace

namespace internal {

absl::StatusOr<Consumer> MakeConsumer(std::shared_ptr<BrokerState> broker,
                                      const ConsumerOptions& options) {
  CORDWOOD_RETURN_IF_ERROR(broker->status());
  if (!options.group.empty()) CORDWOOD_RETURN_IF_ERROR(ValidateName("group", options.group));
  if (options.max_poll_records < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_poll_records is ", options.max_poll_records, ": it is at least 1"));
  }
  if (options.auto_commit != AutoCommit::kOff && options.group.empty()) {
    return absl::InvalidArgumentError(
        "auto_commit without a group: set ConsumerOptions::group, for offsets are a group's");
  }
  if (options.max_poll_interval <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("max_poll_interval is not above zero");
  }
  if (options.custom_assignor == nullptr && group::BuiltInAssignor(options.assignor) == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "there is no assignor ", options.assignor,
        ": cooperative-sticky, sticky, range or roundrobin; one of your own is given as "
        "ConsumerOptions::custom_assignor"));
  }
  if (options.custom_assignor != nullptr) {
    const std::string_view name = options.custom_assignor->name();
    CORDWOOD_RETURN_IF_ERROR(ValidateName("assignor", name));
    if (group::BuiltInAssignor(name) != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("custom_assignor has the name of a built-in one, ", std::string(name)));
    }
  }
  if (!options.group_instance_id.empty()) {
    CORDWOOD_RETURN_IF_ERROR(ValidateName("group_instance_id", options.group_instance_id));
    if (options.session_timeout <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError("session_timeout is not above zero");
    }
  }
  return Consumer(std::make_unique<ConsumerState>(std::move(broker), options));
}

}  // namespace internal

Consumer::Consumer(std::unique_ptr<internal::ConsumerState> state) : state_(std::move(state)) {}
Consumer::Consumer(Consumer&&) noexcept = default;

Consumer& Consumer::operator=(Consumer&& other) noexcept {
  if (this == &other) return *this;
  if (state_ != nullptr) state_->Close(*this).IgnoreError();
  state_ = std::move(other.state_);
  return *this;
}

Consumer::~Consumer() {
  if (state_ != nullptr) state_->Close(*this).IgnoreError();
}

absl::Status Consumer::Subscribe(std::vector<std::string> topics) {
  return state_ == nullptr ? MovedFrom() : state_->Subscribe(std::move(topics));
}
absl::Status Consumer::SubscribePattern(std::string_view regex) {
  return state_ == nullptr ? MovedFrom() : state_->SubscribePattern(regex);
}
absl::Status Consumer::Assign(std::vector<TopicPartition> partitions) {
  return state_ == nullptr ? MovedFrom() : state_->Assign(std::move(partitions));
}

absl::StatusOr<RecordBatch> Consumer::Poll(absl::Duration timeout, std::stop_token stop) {
  RecordBatch batch;
  absl::Status status = PollInto(batch, timeout, std::move(stop));
  if (!status.ok()) return status;
  return batch;
}
absl::Status Consumer::PollInto(RecordBatch& batch, absl::Duration timeout, std::stop_token stop) {
  return state_ == nullptr ? MovedFrom() : state_->Poll(*this, batch, timeout, stop);
}
absl::StatusOr<int> Consumer::ReadyFd() {
  if (state_ == nullptr) return MovedFrom();
  return state_->ReadyFd();
}

absl::Status Consumer::Commit(const CommitOptions& options) {
  return state_ == nullptr ? MovedFrom() : state_->CommitPositions(options);
}
absl::Status Consumer::Commit(const RecordView& record, const CommitOptions& options) {
  return state_ == nullptr ? MovedFrom()
                           : state_->CommitOffset(record.topic(), record.partition(),
                                                  record.offset() + 1, options);
}
absl::Status Consumer::Commit(const std::map<TopicPartition, Offset>& offsets,
                              const CommitOptions& options) {
  return state_ == nullptr ? MovedFrom() : state_->CommitOffsets(offsets, options);
}

absl::Status Consumer::Seek(const TopicPartition& where, Offset offset) {
  return state_ == nullptr ? MovedFrom() : state_->Seek(where, offset);
}
absl::Status Consumer::SeekToBeginning(std::span<const TopicPartition> partitions) {
  return state_ == nullptr ? MovedFrom() : state_->SeekToBeginning(partitions);
}
absl::Status Consumer::SeekToEnd(std::span<const TopicPartition> partitions) {
  return state_ == nullptr ? MovedFrom() : state_->SeekToEnd(partitions);
}
absl::Status Consumer::SeekToTime(absl::Time time, std::span<const TopicPartition> partitions) {
  return state_ == nullptr ? MovedFrom() : state_->SeekToTime(time, partitions);
}

absl::StatusOr<Offset> Consumer::position(const TopicPartition& where) const {
  if (state_ == nullptr) return MovedFrom();
  return state_->Position(where);
}
absl::StatusOr<std::optional<Offset>> Consumer::committed(const TopicPartition& where) const {
  if (state_ == nullptr) return MovedFrom();
  return state_->Committed(where);
}
absl::StatusOr<std::int64_t> Consumer::lag(const TopicPartition& where) const {
  if (state_ == nullptr) return MovedFrom();
  return state_->Lag(where);
}

absl::Status Consumer::Pause(std::span<const TopicPartition> partitions) {
  return state_ == nullptr ? MovedFrom() : state_->SetPaused(partitions, true);
}
absl::Status Consumer::Resume(std::span<const TopicPartition> partitions) {
  return state_ == nullptr ? MovedFrom() : state_->SetPaused(partitions, false);
}
std::vector<TopicPartition> Consumer::assignment() const {
  return state_ == nullptr ? std::vector<TopicPartition>() : state_->Assignment();
}

void Consumer::Wakeup() {
  if (state_ != nullptr) state_->Wakeup();
}
absl::Status Consumer::Close() {
  return state_ == nullptr ? absl::OkStatus() : state_->Close(*this);
}

}  // namespace cordwood
