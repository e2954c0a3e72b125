// Compaction by key: the last record of every key stays, with its offset and timestamp;
// earlier ones go, and so do tombstones after a grace time. Records never change places.
//
//   ASSIGN_OR_RETURN(auto compactor, Compactor::Begin(log, settings));
//   if (compactor == nullptr) return ...;        // another is at it
//   while (more) ASSIGN_OR_RETURN(more, compactor->Step(deadline_ns));
//
// A pass has a map of the newest record of every key in the part that has not been
// compacted yet (`dirty`, from `compacted_to` on). Each sealed segment from the log's
// start on is looked through, and what the map knows a newer record of is left out of a
// new file. When the map is full the pass ends at the offset where it became so, and the
// next one goes on from there: memory is bounded however many keys there are.
//
// The new file takes the name of the first that it stands for, by a rename, when it is
// whole and synced. The others lie inside what it covers from then on: ignored, and
// removed (rule 26). A process may be killed, or the power go, at any point:
//
//   before the rename      `.clean-*` files, which the next pass or opener removes
//   after it               leftovers, which the next pass or unclean opener removes
//   before compacted_to    the next pass does some of it again, with nothing to win
//
// A tombstone goes when it has been through an earlier pass, so that nothing older of its
// key is left, and its segment was last appended to delete_retention ago. The tombstone
// horizon is on the disk before the file without it has its name (rule 41).
//
// Thread and process safety: one thread at a time; one compaction of a partition at a
// time in all processes (MaintenanceLock). It takes no writer's turn. Readers, writers,
// trims and deletions of the topic go on beside it.

#ifndef CORDWOOD_LOG_COMPACTION_H_
#define CORDWOOD_LOG_COMPACTION_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "cordwood/describe.h"
#include "cordwood/log/log.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood::log {

struct CompactionSettings {
  double dirty_ratio_min = 0.5;
  std::int64_t lag_min_ns = 0;
  std::int64_t lag_max_ns = std::numeric_limits<std::int64_t>::max();
  std::int64_t delete_retention_ns = 86'400'000'000'000;
  // Of a log that retention cuts by age as well: what is joined has the age of its youngest part.
  std::int64_t retention_age_ns = std::numeric_limits<std::int64_t>::max();
  std::uint64_t segment_bytes = 128 << 20;  // the most that small ones are joined to
  std::size_t key_map_bytes = 16 << 20;     // 49,152 keys a MiB
  std::size_t dirty_segments_max = 512;     // mapped at a time

  static CompactionSettings Of(const TopicConfig& config);
};

// ---- Whether to compact: a pure function.

// What is known of a sealed segment without a look at its records.
struct CompactionInput {
  Offset base = 0;
  Offset next = 0;
  std::uint64_t bytes = 0;  // of its frames
  std::int64_t created_ns = 0;
  std::int64_t last_append_ns = 0;
  bool readable = true;  // has a header and a seal, and no other begins inside it
};

struct CompactionState {
  std::int64_t now_ns = 0;
  Offset start = 0;
  Offset durable = 0;
  Offset compacted_to = 0;
};

enum class SegmentVerdict {
  kEligible,
  kNotDurable,  // some of it, or of one before it, is not on the disk yet
  kTooYoung,    // compaction_lag_min, of it or of one before it
  kDamaged,     // left as it is
  kNextPass,    // the key map, or the number of segments mapped, ends before it
  kActive,      // is being written to
};
std::string_view SegmentVerdictText(SegmentVerdict verdict);

struct CompactionDecision {
  bool compact = false;
  std::string why = {};  // in words, either way
  // Of the segments given, in order. Those not eligible for a reason that ends the range, and all
  // after them, are not touched.
  std::vector<SegmentVerdict> verdicts = {};
  std::size_t segments = 0;  // the range: so many, from the first
  Offset dirty_from = 0;     // what is below has been compacted
  Offset end = 0;            // of the range
  std::uint64_t clean_bytes = 0, dirty_bytes = 0;
};
CompactionDecision DecideCompaction(std::span<const CompactionInput> segments,
                                    const CompactionSettings& settings,
                                    const CompactionState& state);

// Whether the active segment is to be closed, so that compaction_lag_max holds for what is in it.
// first_append_ns: of the control block; 0 where it is empty.
bool IsActiveOverdue(const CompactionSettings& settings, std::int64_t first_append_ns,
                     std::int64_t now_ns);

// ---- Doing it.

struct CompactionResult {
  std::uint64_t bytes_before = 0, bytes_after = 0;  // of files that were replaced
  std::uint64_t records_dropped = 0, tombstones_dropped = 0;
  std::size_t files_replaced = 0, files_written = 0;
  Offset compacted_to = 0;
};

class Compactor {
 public:
  // Null: another thread or process compacts the partition. Removes what an earlier one
  // that was killed has left. The decision says whether there is anything to do.
  static absl::StatusOr<std::unique_ptr<Compactor>> Begin(std::shared_ptr<Log> log,
                                                          const CompactionSettings& settings);
  // What a pass would do now, record for record; changes nothing and takes no lock.
  // kAborted: the files changed meanwhile. Reads all of the range: it can take long.
  static absl::StatusOr<CompactionPlan> DryRun(std::shared_ptr<Log> log,
                                               const CompactionSettings& settings);

  Compactor(const Compactor&) = delete;
  Compactor& operator=(const Compactor&) = delete;
  // Half way: removes what has no name yet. What has been replaced stays so.
  ~Compactor();

  const CompactionDecision& decision() const;
  const CompactionResult& result() const;

  // Goes on until the monotonic time is past the deadline; a little at least. False: done.
  // kAborted: the start of the log has moved into what was compacted; begin anew. After
  // any error only the destructor is of use.
  absl::StatusOr<bool> Step(std::int64_t deadline_ns);

 private:
  class Pass;
  explicit Compactor(std::unique_ptr<Pass> pass);
  std::unique_ptr<Pass> pass_;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_COMPACTION_H_
