// What is left of a partition after its processes died or the power went, decided by
// a pure function over its segments' frames, then carried out.
//
//   case  frame       offset      what it means                      decision
//   @A    valid       -           a frame                            keep, go on
//   @B    nothing     >= durable  never written                      the log ends here
//   @C    bad         >= durable  torn by the crash                  the log ends here
//   @D    bad header  < durable   damage, its length unknown         gap; go on where the
//                                                                    next good frame is
//   @E    bad body    < durable   damage of one record               gap; go on behind it
//   @F    nothing     < durable   damage: it was there once          as @D
//   @G    valid, batch incomplete at the end                         the log ends before
//                                                                    its first record
// `durable` is the highest that is known: the control block's, the clean marker's, and
// the watermark in every valid frame of this and of later segments. Valid frames beyond
// a @B or @C prove nothing, because pages reach the disk in any order: they are dropped
// and reported.
//
// Where the control block cannot be believed, records may have been published, read and
// then lost, so the log goes on at an offset that was never given to anyone: a new
// segment begins at the offset_limit of the last one found (rule 23).
//
// Thread and process safety: RecoverPartition runs in the first opener only, before
// anyone else is there; with read_only it stores nothing and may run beside anyone.

#ifndef CORDWOOD_LOG_RECOVERY_H_
#define CORDWOOD_LOG_RECOVERY_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "cordwood/describe.h"
#include "cordwood/log/context.h"
#include "cordwood/log/control.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

enum class FrameDecision { kKeep, kEnd, kGapOfOne, kGapToNextGood };

// Rows @A to @F.
FrameDecision DecideFrame(segment::FrameState state, Offset expected, Offset durable);

// How far a writer that died may have written to the active segment; 0: not behind the tail.
std::uint64_t WrittenTo(const ControlBlock& block);

struct RecoveryInput {
  segment::PartitionFiles files;
  std::uint64_t segment_bytes = 128 << 20;  // of the new segment, if there is one
  bool read_only = false;
  // What the control file says; none: it is missing or not one of ours.
  std::optional<Watermarks> control;
  // The control file was written in this boot, by its own inode.
  bool worth_trying = false;
  std::uint64_t written_to = 0;  // see WrittenTo()
  bool sync_standing = false;    // somebody died inside a sync, in this boot
  bool is_repeated = false;      // an earlier recovery died, or failed: so may have its syncs
};

struct RecoveredPartition {
  Watermarks watermarks;
  bool believed = false;  // the control block was right: nothing can have been lost
  // What was found and what was dropped; empty where all is well.
  std::vector<RecoveryReport::Item> items;
};

absl::StatusOr<RecoveredPartition> RecoverPartition(const Context& context,
                                                    const RecoveryInput& input);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_RECOVERY_H_
