// A Pin, and who holds what of a topic.

#include <algorithm>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "broker_state.h"
#include "cordwood/broker.h"
#include "cordwood/group/needs.h"
#include "cordwood/log/pins.h"
#include "cordwood/partition.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood {

Pin& Pin::operator=(Pin&& other) noexcept {
  if (this == &other) return *this;
  Release();
  log_ = std::move(other.log_);
  hold_ = std::move(other.hold_);
  return *this;
}

void Pin::Release() {
  if (hold_ != nullptr) log_->Unpin(hold_);
}

absl::Status Pin::status() const {
  if (hold_ == nullptr) {
    return absl::FailedPreconditionError("this Pin was made by default or moved from");
  }
  // A failed partition can be read still, and nothing of it goes.
  const absl::Status status = log_->status();
  return absl::IsDataLoss(status) ? absl::OkStatus() : status;
}

Offset Pin::offset() const { return status().ok() ? hold_->offset() : 0; }

absl::Status Pin::Move(Offset to) {
  CORDWOOD_RETURN_IF_ERROR(status());
  const auto where = [&] {
    return absl::StrCat(log_->name().topic, "-", log_->partition(), ": Pin::Move(", to, ")");
  };
  if (const Offset end = log_->end_offset(); to > end) {
    return internal::At(
        absl::OutOfRangeError(absl::StrCat(where(), " is past the end, which is ", end)),
        log_->name(), to);
  }
  if (hold_->Move(to)) return absl::OkStatus();
  CORDWOOD_RETURN_IF_ERROR(status());
  return internal::At(
      absl::InvalidArgumentError(absl::StrCat(where(), ": it is at ", hold_->offset(),
                                              " and goes forward only; make another one")),
      log_->name(), to);
}

absl::StatusOr<Pin> Partition::Pin(Offset from, std::string_view why) const {
  if (log_ == nullptr) return status();
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::PinHold> hold, log_->Pin(from, why));
  return cordwood::Pin(log_, std::move(hold));
}

absl::StatusOr<std::vector<RetentionHold>> Broker::DescribeHolds(std::string_view topic) const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::TopicFiles> files,
                            state_->directory().OpenTopic(topic));
  const std::vector<std::string> groups = files->config().retain_for_groups;
  const int partitions = files->partitions();  // some may be added meanwhile
  std::vector<RetentionHold> holds;
  for (int p = 0; p < partitions; ++p) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> log, files->OpenLog(p));
    for (const std::string& name : groups) {
      CORDWOOD_ASSIGN_OR_RETURN(const group::GroupNeed need,
                                group::NeedOf(state_->groups(), name, log));
      holds.push_back({.partition = p,
                       .kind = RetentionHold::Kind::kGroup,
                       .offset = need.from,
                       .name = name,
                       .is_there = need.is_there,
                       .since = need.first_stamp_ns ? absl::FromUnixNanos(*need.first_stamp_ns)
                                                    : absl::InfinitePast()});
    }
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<log::PinView> pins,
                              log::ReadPins(log->context(), log->files()));
    for (const log::PinView& pin : pins) {
      holds.push_back({.partition = p,
                       .kind = RetentionHold::Kind::kPin,
                       .offset = pin.offset,
                       .name = pin.why,
                       .pid = pin.pid,
                       .since = absl::FromUnixNanos(pin.since_ns)});
    }
  }
  for (RetentionHold& hold : holds) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> log, files->OpenLog(hold.partition));
    hold.bytes =
        static_cast<std::int64_t>(log->BytesFrom(std::max(hold.offset, log->start_offset())));
  }
  std::stable_sort(holds.begin(), holds.end(), [](const RetentionHold& a, const RetentionHold& b) {
    return std::tie(a.partition, a.offset) < std::tie(b.partition, b.offset);
  });
  return holds;
}

}  // namespace cordwood
