// One pass of a compaction, step by step; see log/compaction.h for what it does and
// why that is safe.
//
//   kCheck    every record of the range is looked at; a segment with a damaged one is
//             left as it is
//   kIndex    the newest record of every key in the dirty part goes into the map
//   kMeasure  what each segment will be without what the map knows newer ones of; then
//             segments are joined to groups, each of which becomes one file
//   kCopy, kSync, kCommit   for each group
//   kFinish   compacted_to
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_LOG_COMPACTION_PASS_H_
#define CORDWOOD_LOG_COMPACTION_PASS_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/log/compaction.h"
#include "cordwood/log/log.h"
#include "cordwood/log/maintenance_lock.h"
#include "cordwood/segment/copy.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/segment.h"
#include "log/key_map.h"

namespace cordwood::log {

class Compactor::Pass {
 public:
  // Without the lock: a dry run, which ends after kMeasure.
  Pass(std::shared_ptr<Log> log, const CompactionSettings& settings,
       std::optional<MaintenanceLock> lock)
      : log_(std::move(log)), settings_(settings), lock_(std::move(lock)) {}
  ~Pass();

  // Finds the segments, removes what an earlier pass has left, and decides.
  absl::Status Begin();
  absl::StatusOr<bool> Step(std::int64_t deadline_ns);
  // Ignores the decision.
  absl::StatusOr<CompactionPlan> Plan();

  const CompactionDecision& decision() const { return decision_; }
  const CompactionResult& result() const { return result_; }

 private:
  enum class Phase { kCheck, kIndex, kMeasure, kCopy, kSync, kCommit, kFinish, kDone };

  // A sealed segment, and what the phases found out about it.
  struct Input {
    CompactionInput facts;
    os::Bits128 salt = {};
    Offset offset_limit = 0;
    bool recovered = false;
    bool damaged = false;
    std::uint64_t records = 0, records_kept = 0, bytes_kept = 0;
    bool keeps_tombstones = false;
    std::shared_ptr<segment::Segment> dirty = nullptr;  // mapped while the map points into it
  };
  // Inputs [first, last) that become one file.
  struct Group {
    std::size_t first = 0, last = 0;
    std::uint64_t bytes = 0;  // of what is kept
  };
  enum class Fate { kKeep, kSuperseded, kTombstoneOver };

  // Begin.
  absl::Status CheckGoOn() const;
  absl::Status FindInputs();
  absl::Status RemoveLeftovers(const std::vector<std::string>& unfinished,
                               const std::vector<Offset>& covered);
  void RemoveFiles(const std::string& stem) const;

  // A bit of the phase; moves on to the next phase when it is done.
  absl::Status Chunk(std::int64_t deadline_ns);
  absl::Status Check();
  absl::Status Index();
  absl::Status Measure();
  absl::Status Copy();
  absl::Status Sync();
  absl::Status Commit(std::int64_t deadline_ns);
  absl::Status Finish(std::int64_t deadline_ns);

  // Walking one input's frames, some at a time.
  absl::StatusOr<std::shared_ptr<segment::Segment>> Open(Input& input) const;
  absl::Status BeginWalk(std::size_t i);
  void EndWalk() { walk_ = {}; }
  // False: it ends at what is no frame of this segment. Visit returns false to end the walk.
  bool WalkSome(bool verify, absl::FunctionRef<bool(const segment::CheckedFrame&)> visit);

  // The grace time of tombstones in a segment that was last appended to then.
  bool IsOver(std::int64_t last_append_ns) const;
  Fate FateOf(const segment::CheckedFrame& frame, std::size_t i) const;
  bool Same(KeyMap::Place place, std::string_view key) const;
  Offset OffsetAt(KeyMap::Place place) const;
  void PlanGroups();
  bool MayJoin(const Group& group, std::size_t next) const;
  void NextGroup();

  // The group that is being written.
  absl::Status BeginOutput();
  absl::Status Publish(const Group& group);

  const std::shared_ptr<Log> log_;
  const CompactionSettings settings_;
  std::optional<MaintenanceLock> lock_;
  CompactionDecision decision_;
  CompactionResult result_;
  Offset start_ = 0;
  Offset old_compacted_to_ = 0;
  bool has_damage_ = false;  // or a pass before this one had
  std::int64_t now_ns_ = 0;
  std::vector<Input> inputs_;  // all that is sealed; those of the range come first
  // Below it everything of the range has been looked at for the map: records from here on stay.
  Offset end_ = 0;
  std::size_t first_damaged_ = std::numeric_limits<std::size_t>::max();

  Phase phase_ = Phase::kDone;
  std::optional<KeyMap> map_;
  struct Walk {
    std::size_t input = 0;
    std::shared_ptr<segment::Segment> segment = nullptr;  // null: not begun
    std::uint64_t position = 0;
    std::uint64_t limit = 0;
    Offset next = 0;  // offsets are at or above it
  } walk_;
  std::size_t next_input_ = 0;

  std::vector<Group> groups_;
  std::size_t group_ = 0;
  struct Output {
    std::string stem = {};
    std::shared_ptr<segment::Segment> segment = nullptr;
    std::unique_ptr<segment::FrameCopier> copier = nullptr;
    std::uint64_t synced = 0;
    Offset horizon = 0;
    std::uint64_t dropped = 0, tombstones = 0;
  } output_;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_COMPACTION_PASS_H_
