// A lock of those who change the sealed files of a partition, where its log starts, or what
// compaction writes. Writers and readers never take it.
//
//   ASSIGN_OR_RETURN(auto lock, MaintenanceLock::TryTake(context, files, MaintenanceLock::kFiles));
//   if (!lock) return ...;                       // another thread or process is at it
//
// It is an open-file-description lock on a byte of the topic's control file: it goes with
// its holder's process, and a forked child does not keep it. A process that is stopped
// keeps it; so whoever works in the background only tries.
//
// Who has it looks whether the topic is deleted before it changes anything: the path may be
// a new topic's by then. A deletion waits, after its mark, for who has looked before it
// (Directory::WaitForRemovers). And a Close waits for those of its own open (class Work).
//
// Thread and process safety: threads of one process exclude each other, too.

#ifndef CORDWOOD_LOG_MAINTENANCE_LOCK_H_
#define CORDWOOD_LOG_MAINTENANCE_LOCK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/log/context.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

class MaintenanceLock {
 public:
  enum Kind : std::uint64_t {
    // The names of sealed segments, the start file, and what the control block says of them.
    // Held for as long as some files take to be renamed, synced or removed.
    kFiles = 0,
    // A compaction, as long as it runs. Taken before kFiles.
    kCompaction = 1,
    // Making the file of pins: of partition 0, for the whole topic. Taken after kFiles.
    kPins = 2,
  };

  // Nothing: another has it. The context has to outlive the lock; kFailedPrecondition: it is
  // closed.
  static absl::StatusOr<std::optional<MaintenanceLock>> TryTake(
      const Context& context, const segment::PartitionFiles& files, Kind kind) {
    return Take(context, files, kind, 0);
  }
  // The byte of the control file.
  static std::uint64_t ByteOf(std::uint64_t partition, Kind kind);
  // Waits until the deadline, which is of the monotonic clock.
  static absl::StatusOr<std::optional<MaintenanceLock>> Take(const Context& context,
                                                             const segment::PartitionFiles& files,
                                                             Kind kind, std::int64_t deadline_ns);

 private:
  MaintenanceLock(Work work, std::unique_ptr<os::LockKeeper> keeper)
      : work_(std::move(work)), keeper_(std::move(keeper)) {}

  Work work_;  // outlives the lock itself
  std::unique_ptr<os::LockKeeper> keeper_;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_MAINTENANCE_LOCK_H_
