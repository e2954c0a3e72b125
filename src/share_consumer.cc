// The ShareConsumer: a handle of a ShareConsumerState, or of nothing.

#include "cordwood/share_consumer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "share_consumer_state.h"

namespace cordwood {
namespace {

constexpr int kDeliveryLimitMax = 1000;

absl::Status MovedFrom() {
  return absl::FailedPreconditionError("the share consumer was moved from");
}

}  // namespace

namespace internal {

absl::StatusOr<ShareConsumer> MakeShareConsumer(std::shared_ptr<BrokerState> broker,
                                                const ShareConsumerOptions& options) {
  CORDWOOD_RETURN_IF_ERROR(broker->context().CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(ValidateName("group", options.group));
  if (options.lock_time <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("lock_time is not above zero");
  }
  if (options.delivery_limit < 1 || options.delivery_limit > kDeliveryLimitMax) {
    return absl::InvalidArgumentError(absl::StrCat("delivery_limit is ", options.delivery_limit,
                                                   ": it is in [1, ", kDeliveryLimitMax, "]"));
  }
  if (options.max_poll_records < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_poll_records is ", options.max_poll_records, ": it is at least 1"));
  }
  if (!options.dead_letter_topic.empty()) {
    CORDWOOD_RETURN_IF_ERROR(broker->directory().OpenTopic(options.dead_letter_topic).status());
  }
  return ShareConsumer(std::make_unique<ShareConsumerState>(std::move(broker), options));
}

}  // namespace internal

ShareConsumer::ShareConsumer(std::unique_ptr<internal::ShareConsumerState> state)
    : state_(std::move(state)) {}
ShareConsumer::ShareConsumer(ShareConsumer&&) noexcept = default;

ShareConsumer& ShareConsumer::operator=(ShareConsumer&& other) noexcept {
  if (this == &other) return *this;
  if (state_ != nullptr) state_->Close().IgnoreError();
  state_ = std::move(other.state_);
  return *this;
}

ShareConsumer::~ShareConsumer() {
  if (state_ != nullptr) state_->Close().IgnoreError();
}

absl::Status ShareConsumer::Subscribe(const std::vector<std::string>& topics) {
  return state_ == nullptr ? MovedFrom() : state_->Subscribe(topics);
}
absl::StatusOr<AcquiredBatch> ShareConsumer::Acquire(absl::Duration timeout, std::stop_token stop) {
  if (state_ == nullptr) return MovedFrom();
  return state_->Acquire(timeout, stop);
}
absl::Status ShareConsumer::Acknowledge(const AcquiredRecord& record, AckType type) {
  return state_ == nullptr ? MovedFrom() : state_->Acknowledge(record, type);
}
absl::Status ShareConsumer::Renew(const AcquiredRecord& record) {
  return state_ == nullptr ? MovedFrom() : state_->Renew(record);
}
void ShareConsumer::Wakeup() {
  if (state_ != nullptr) state_->Wakeup();
}
absl::Status ShareConsumer::Close() {
  return state_ == nullptr ? absl::OkStatus() : state_->Close();
}

}  // namespace cordwood
