// Where a partition's log starts and how far it is compacted, kept in two slots of which
// one is always whole (format.h, START SLOTS). No file means: nothing was ever given up.
//
// Thread and process safety: update under the MaintenanceLock of kFiles.

#ifndef CORDWOOD_LOG_START_FILE_H_
#define CORDWOOD_LOG_START_FILE_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/record.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

struct Start {
  Offset offset = 0;
  GapReason reason = GapReason::kTrim;  // why what was before is gone
  // One past the highest tombstone that compaction has removed: who reads on from below it
  // has not seen everything (rule 41).
  Offset tombstone_horizon = 0;
  Offset compacted_to = 0;  // every record below has been through a compaction ...
  // ... but for what was damaged then, and may be read again some day: no tombstone goes any more.
  bool has_passed_damage = false;
};

// Changes what the file says. Returns once that is on the disk.
absl::Status UpdateStartFile(const segment::PartitionFiles& files,
                             absl::FunctionRef<void(Start&)> change);
// Makes what the file says survive a power cut: who changed it may have died before that.
// has_failed: a sync of it may have failed, after which another says nothing.
absl::Status SyncStartFile(const segment::PartitionFiles& files, bool has_failed);
// kDataLoss: the file is there and neither slot is whole.
absl::StatusOr<Start> ReadStartFile(const segment::PartitionFiles& files);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_START_FILE_H_
