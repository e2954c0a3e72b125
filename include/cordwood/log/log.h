// A Log is one partition: an ordered, immutable sequence of records in segment files,
// which any thread of any process may append to and read at the same time.
//
//   std::shared_ptr<Log> log = Log::Open(context, files, config, control, 3).value();
//   log->Append({.key = "a", .value = "b"}, {});
//   Cursor cursor(log, /*from=*/0);                    // log/cursor.h
//
// Thread and process safety: every operation. Writers take turns under the lock in the
// control block; readers take no lock.
//
// Invariants (PROTOCOL.md has the reasons):
//  (1) start <= durable and committed positions may be anywhere; durable <= end, but for
//      a trim past the durable offset.
//  (2) Bytes below the tail are whole frames, stored before the tail was (release).
//  (3) `durable` moves only after a sync that returned OK, under the sync lock.
//  (4) A file whose sync failed is never appended to or synced again.

#ifndef CORDWOOD_LOG_LOG_H_
#define CORDWOOD_LOG_LOG_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cordwood/log/context.h"
#include "cordwood/log/control.h"
#include "cordwood/options.h"
#include "cordwood/record.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/segment.h"
#include "cordwood/status.h"

namespace cordwood::log {

// What of a topic's config the log needs on its paths.
struct LogConfig {
  std::uint64_t segment_bytes = 128 << 20;
  std::int64_t segment_age_ns = 0;
  std::int64_t index_interval_bytes = 4096;
  std::uint64_t message_bytes_max = 1'048'588;
  bool append_time = false;

  static LogConfig Of(const TopicConfig& config);
};

// What an append gave the record, or the first one of a batch.
struct Appended {
  Offset offset = 0;
  std::int64_t timestamp_ns = 0;  // the clock's, for records that came without one
};

// Where an offset is: in a segment, or in a hole up to gap_to.
struct Located {
  std::shared_ptr<segment::Segment> segment;  // null: no record before gap_to
  bool active = false;                        // the segment may still grow
  std::uint64_t limit = 0;                    // end of the published frames in it
  Offset gap_to = 0;
  GapReason reason = GapReason::kPowerLoss;
};

class Log : public std::enable_shared_from_this<Log> {
 public:
  static absl::StatusOr<std::shared_ptr<Log>> Open(std::shared_ptr<const Context> context,
                                                   segment::PartitionFiles files,
                                                   const LogConfig& config,
                                                   std::shared_ptr<ControlFile> control,
                                                   int partition);
  ~Log();

  // ---- Writing. Errors carry the partition; see AppendOptions for the deadline.
  absl::StatusOr<Appended> Append(const Record& record, const AppendOptions& options);
  absl::StatusOr<Appended> AppendBatch(std::span<const Record> records,
                                       const AppendOptions& options);
  absl::StatusOr<Appended> AppendInPlace(std::size_t value_bytes, const Record& record,
                                         absl::FunctionRef<std::size_t(std::span<std::byte>)> fill,
                                         const AppendOptions& options);
  absl::Status Trim(Offset new_start);

  // ---- Durability.
  absl::Status Flush() { return FlushTo(end_offset(), absl::InfiniteDuration()); }
  // Returns once everything below `to` is durable. kOutOfRange: past the end.
  absl::Status FlushTo(Offset to, absl::Duration timeout);
  absl::Status OnDurable(Offset offset, std::function<void(const absl::Status&)> callback);
  // For a caller who makes many logs durable by one sync of the file system: begins a sync
  // of this log up to the tail that it returns, which EndSharedSync must end. Nothing:
  // there is nothing to do, somebody is at it, or this log has to be flushed on its own.
  absl::StatusOr<std::optional<TailView>> BeginSharedSync();
  absl::Status EndSharedSync(const TailView& to, const absl::Status& synced);
  // Calls back whose offset is durable by now. Any thread.
  void RunDurableCallbacks();
  void CancelCallbacks(const absl::Status& why);

  // ---- Waiting.
  absl::Status WaitForEnd(Offset end, absl::Duration timeout);
  absl::Status WaitForDurable(Offset offset, absl::Duration timeout);
  // Wakes everything in this process that waits on this log (Close).
  void WakeAll();

  // ---- Reading.
  Offset start_offset() const { return block().start.load(std::memory_order_acquire); }
  GapReason start_reason() const {
    return static_cast<GapReason>(block().start_reason.load(std::memory_order_relaxed));
  }
  Offset end_offset() const { return ReadTail(block()).end(); }
  Offset durable_offset() const { return block().durable.load(std::memory_order_acquire); }
  // Where `offset`, which is in [start, end], is. kOutOfRange otherwise.
  absl::StatusOr<Located> Locate(Offset offset);
  // The lowest offset whose timestamp is at or after the time; the end if there is none.
  absl::StatusOr<Offset> OffsetForTime(std::int64_t time_ns);

  // ---- Work ahead, by a background thread or Broker::Maintain.
  // Makes room ahead of the writer and the next segment ready. Never waits for a lock.
  absl::Status PrepareAhead();
  // Syncs if nobody else does; never waits.
  absl::Status TryFlush();
  // Takes away what was made ready and not used.
  void DropPrepared();
  // Blocks and page tables for [0, bytes) of the active segment (benchmarks).
  absl::Status Populate(std::uint64_t bytes);

  // ---- What it is.
  absl::Status status() const;
  ControlBlock& block() const { return *block_.load(std::memory_order_acquire); }
  ControlFile& control() const;
  int partition() const { return partition_; }
  const cordwood::internal::PartitionName& name() const { return *files_.name; }
  const std::shared_ptr<const cordwood::internal::PartitionName>& shared_name() const {
    return files_.name;
  }
  const Context& context() const { return *context_; }
  // Bytes of all segment files, as far as their ends go.
  std::int64_t TotalBytes();

 private:
  class Turn;
  friend class Turn;
  // A segment that is not the active one; what its seal says, once looked at.
  struct Sealed {
    Offset base = 0;
    std::weak_ptr<segment::Segment> segment = {};
    bool known = false;
    bool recovered = false;  // sealed by a recovery: what followed is gone with the power
    Offset next = 0;
    std::uint64_t end_position = 0;
  };

  Log(std::shared_ptr<const Context> context, segment::PartitionFiles files,
      const LogConfig& config, std::shared_ptr<ControlFile> control, int partition);

  absl::Status CheckState() const {
    return ABSL_PREDICT_TRUE(block().state.load(std::memory_order_relaxed) == 0) ? absl::OkStatus()
                                                                                 : StateError();
  }
  absl::Status StateError() const;
  absl::Status TooLarge(std::uint64_t bytes) const;
  absl::Status Where(absl::Status status, std::optional<Offset> offset = std::nullopt) const {
    return cordwood::internal::At(std::move(status), *files_.name, offset);
  }

  std::int64_t TimestampOf(const Record& record, std::int64_t now_ns) const;

  // The writer's side, all under the turn.
  absl::Status CheckExpected(const AppendOptions& options) const;
  absl::Status CheckExpectedIs(Offset expected) const;
  void Publish(const Tail& old, const Tail& tail, std::int64_t largest_timestamp,
               std::int64_t now_ns);
  void IndexRecord(const Tail& at, std::int64_t largest_before);
  absl::Status MakeRoom(std::uint64_t bytes, std::int64_t now_ns);
  absl::Status MakeRoomSlow(std::uint64_t bytes, std::int64_t now_ns);
  absl::Status LoadActive();
  absl::Status CountScratch(const TailView& tail);
  absl::Status FinishRetirement(const TailView& tail);
  absl::Status Roll(std::uint64_t needed_bytes, std::int64_t now_ns);
  absl::StatusOr<std::string> StemForNext(std::uint64_t capacity, std::int64_t now_ns);
  absl::Status FinishDurable(Offset first, Offset end, const AppendOptions& options);
  absl::Status RenameSegment(const std::string& stem, Offset base);
  void FlipTail(const segment::Segment& to, std::uint32_t records, std::uint64_t position);
  void AddIndexEntry(const segment::IndexEntry& entry);
  absl::Status PrepareNext();
  void RemoveSegmentFiles(const std::string& stem);

  // Syncing, all under the sync lock.
  absl::Status SyncPublished();
  absl::Status SyncRange(Offset from, const TailView& to, bool& sync_failed);
  void ForgetSynced(const TailView& to);
  absl::Status Retire(const absl::Status& cause);
  absl::Status CopyToFresh(Offset from, const TailView& to);
  absl::Status CheckBeforeSync(segment::Segment& segment, Offset from, std::uint64_t limit,
                               bool& lost);
  absl::Status SealForRetirement(Offset from, const TailView& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RingDurable();

  // Finding segments.
  absl::StatusOr<std::shared_ptr<segment::Segment>> Active(const TailView& tail);
  absl::StatusOr<std::vector<Offset>> BasesInFolder() const;  // in order
  absl::Status ListSegments(const TailView& tail) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<segment::Segment>> OpenSealed(Sealed& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The base of the last listed segment that begins at or below the offset and holds records.
  absl::StatusOr<std::optional<Offset>> HolderAtOrBelow(Offset offset)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::optional<Offset>> FindTimeIn(segment::Segment& segment, std::uint64_t limit,
                                                   std::int64_t time_ns, Offset from);
  absl::Status RemoveBelowStart();

  const std::shared_ptr<const Context> context_;
  const segment::PartitionFiles files_;
  const LogConfig config_;
  const int partition_;
  std::atomic<ControlBlock*> block_;
  std::shared_ptr<ControlFile> control_;

  // Guarded by the partition's lock, of which only one thread of one process has a turn.
  struct Writer {
    std::shared_ptr<segment::Segment> segment;
    std::byte* data = nullptr;
    std::uint64_t salt = 0;
    std::uint64_t room = 0;  // file bytes that are known to be there
  } writer_;

  mutable absl::Mutex mutex_;
  std::shared_ptr<segment::Segment> active_ ABSL_GUARDED_BY(mutex_);
  bool listed_ ABSL_GUARDED_BY(mutex_) = false;
  std::uint64_t listed_salt_ ABSL_GUARDED_BY(mutex_) = 0;  // of the active one then
  std::vector<Sealed> sealed_ ABSL_GUARDED_BY(mutex_);     // by base
  std::shared_ptr<segment::Segment> recent_ ABSL_GUARDED_BY(mutex_);
  // Mapped until they are durable: their map is what reports a failed write-back.
  std::vector<std::shared_ptr<segment::Segment>> unsynced_ ABSL_GUARDED_BY(mutex_);
  // Segments whose undurable records this process wrote, or has checked (rule 15).
  std::vector<std::uint64_t> checked_salts_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t populated_salt_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t populated_ ABSL_GUARDED_BY(mutex_) = 0;

  absl::Mutex callbacks_mutex_;
  std::vector<std::pair<Offset, std::function<void(const absl::Status&)>>> callbacks_
      ABSL_GUARDED_BY(callbacks_mutex_);
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_LOG_H_
