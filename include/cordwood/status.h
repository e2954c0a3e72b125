// Where a Status of cordwood happened. A Status of Append, Read or Poll carries the
// partition that it is about and, where there is one, the offset:
//
//   auto at = partition.Append(record, {.durability = Durability::kDurable});
//   if (!at.ok() && OffsetOf(at.status())) ...  // published, but not made durable:
//                                               // it is visible, do not send it again
//
// Thread safety: functions of values.

#ifndef CORDWOOD_STATUS_H_
#define CORDWOOD_STATUS_H_

#include <optional>

#include "absl/status/status.h"
#include "cordwood/record.h"

namespace cordwood {

// Which partition a Status of Poll, Read or Append is about. None: it is about no single one.
std::optional<TopicPartition> PartitionOf(const absl::Status& status);
// At which offset; each call says which one that is. None: it does not say.
std::optional<Offset> OffsetOf(const absl::Status& status);

// What there was no room in, where that is why (kResourceExhausted, or kDeadlineExceeded after
// waiting for it).
enum class Reason {
  kOther,
  kDiskFull,     // or the quota on it
  kBacklogFull,  // TopicConfig::backlog_bytes
  kDiskLow,      // not yet: BrokerOptions::low_disk_bytes
};
// kOther: it does not say.
Reason ReasonOf(const absl::Status& status);

namespace internal {

// The status with the place noted in it. An OK status stays as it is.
absl::Status At(absl::Status status, const PartitionName& name,
                std::optional<Offset> offset = std::nullopt);
// The status with the reason noted in it.
absl::Status Because(absl::Status status, Reason reason);

}  // namespace internal
}  // namespace cordwood

#endif  // CORDWOOD_STATUS_H_
