// Where a partition's log starts, kept in two slots of which one is always whole
// (format.h, START SLOTS). No file means: nothing was ever given up.
//
// Thread and process safety: write under the partition's writer lock.

#ifndef CORDWOOD_LOG_START_FILE_H_
#define CORDWOOD_LOG_START_FILE_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/record.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

struct Start {
  Offset offset = 0;
  GapReason reason = GapReason::kTrim;  // why what was before is gone
};

// Returns once it is on the disk.
absl::Status WriteStartFile(const segment::PartitionFiles& files, const Start& start);
// kDataLoss: the file is there and neither slot is whole.
absl::StatusOr<Start> ReadStartFile(const segment::PartitionFiles& files);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_START_FILE_H_
