#include "cordwood/status.h"

#include <charconv>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace cordwood {
namespace {

constexpr char kPartitionUrl[] = "cordwood/partition";  // "<partition> <topic>"
constexpr char kOffsetUrl[] = "cordwood/offset";

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

namespace internal {

absl::Status At(absl::Status status, const PartitionName& name, std::optional<Offset> offset) {
  if (status.ok()) return status;
  status.SetPayload(kPartitionUrl, absl::Cord(absl::StrCat(name.partition, " ", name.topic)));
  if (offset) status.SetPayload(kOffsetUrl, absl::Cord(absl::StrCat(*offset)));
  return status;
}

}  // namespace internal
}  // namespace cordwood
