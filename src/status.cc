#include "cordwood/status.h"

#include <charconv>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cordwood/os/storage.h"

namespace cordwood {
namespace {

constexpr char kPartitionUrl[] = "cordwood/partition";  // "<partition> <topic>"
constexpr char kOffsetUrl[] = "cordwood/offset";
constexpr char kBacklogFull[] = "backlog full";
constexpr char kDiskLow[] = "disk low";

}  // namespace

std::optional<TopicPartition> PartitionOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kPartitionUrl);
  if (!payload) return std::nullopt;
  const std::string text(*payload);
  const std::size_t space = text.find(' ');
  TopicPartition where;
  if (space == std::string::npos || !absl::SimpleAtoi(text.substr(0, space), &where.partition)) {
    return std::nullopt;
  }
  where.topic = text.substr(space + 1);
  return where;
}

std::optional<Offset> OffsetOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kOffsetUrl);
  if (!payload) return std::nullopt;
  Offset offset = 0;
  if (!absl::SimpleAtoi(std::string(*payload), &offset)) return std::nullopt;
  return offset;
}

Reason ReasonOf(const absl::Status& status) {
  const auto payload = status.GetPayload(os::kReasonUrl);
  if (payload && *payload == os::kDiskFull) return Reason::kDiskFull;
  if (payload && *payload == kBacklogFull) return Reason::kBacklogFull;
  if (payload && *payload == kDiskLow) return Reason::kDiskLow;
  return Reason::kOther;
}

namespace internal {

absl::Status Because(absl::Status status, Reason reason) {
  const char* const word = reason == Reason::kDiskFull      ? os::kDiskFull
                           : reason == Reason::kBacklogFull ? kBacklogFull
                                                            : kDiskLow;
  if (reason != Reason::kOther) status.SetPayload(os::kReasonUrl, absl::Cord(word));
  return status;
}

absl::Status At(absl::Status status, const PartitionName& name, std::optional<Offset> offset) {
  if (status.ok()) return status;
  status.SetPayload(kPartitionUrl, absl::Cord(absl::StrCat(name.partition, " ", name.topic)));
  if (offset) status.SetPayload(kOffsetUrl, absl::Cord(absl::StrCat(*offset)));
  return status;
}

}  // namespace internal
}  // namespace cordwood
