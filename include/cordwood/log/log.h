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
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cordwood/describe.h"
#include "cordwood/log/context.h"
#include "cordwood/log/control.h"
#include "cordwood/log/retention.h"
#include "cordwood/options.h"
#include "cordwood/record.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/segment.h"
#include "cordwood/status.h"

namespace cordwood::log {

// What of a topic's config says what a log gives up, and how much may be in it.
struct CleanupConfig {
  RetentionRules rules = {};                      // but for needed_from and pinned_from
  std::vector<std::string> needed_by = {};        // groups
  std::uint64_t backlog_bytes = kNoBacklogLimit;  // what these may lag
  BacklogPolicy backlog_policy = BacklogPolicy::kBlock;

  static constexpr std::uint64_t kNoBacklogLimit = std::numeric_limits<std::uint64_t>::max();
};

// What of a topic's config the log needs on its paths.
struct LogConfig {
  std::uint64_t segment_bytes = 128 << 20;
  std::int64_t segment_age_ns = 0;
  std::int64_t index_interval_bytes = 4096;
  std::uint64_t message_bytes_max = 1'048'588;
  bool append_time = false;
  bool needs_key = false;  // the topic compacts
  // How far ahead of the clock a record's own timestamp may be.
  std::int64_t timestamp_ahead_max_ns = std::numeric_limits<std::int64_t>::max();
  CleanupConfig cleanup = {};

  static LogConfig Of(const TopicConfig& config);
};

// What an append gave the record, or the first one of a batch.
struct Appended {
  Offset offset = 0;
  std::int64_t timestamp_ns = 0;  // the clock's, for records that came without one
  bool append_time = false;       // for all of them: the times that they came with do not count
};

// Where an offset is: in a segment, or in a hole up to gap_to.
struct Located {
  std::shared_ptr<segment::Segment> segment;  // null: no record before gap_to
  bool active = false;                        // the segment may still grow
  std::uint64_t tail_salt = 0;                // of the tail by which it is the active one
  std::uint64_t limit = 0;                    // end of the published frames in it
  Offset next = 0;                            // one past the last offset that it stands for
  Offset gap_to = 0;
  GapReason reason = GapReason::kPowerLoss;
};

class AppendCall;
class PinHold;

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
  // Gives up what the topic's retention says. Waits for nobody: OK, too, when another is at it,
  // or a writer has his turn; the next one does it.
  absl::Status Retain();
  // Begins another segment, if nobody appends at the moment. Waits for nobody.
  absl::Status CloseActive();
  // Retain(), if this process has closed a segment since the last time. Who only reads leaves
  // that to the writers: were it stopped at it, they would wait for it.
  absl::Status RetainAfterRoll();
  // Keeps what is at or above `from` from Retain(), until the hold is given up (log/pins.h).
  // Errors as Partition::Pin().
  absl::StatusOr<std::shared_ptr<PinHold>> Pin(Offset from, std::string_view why);
  void Unpin(const std::shared_ptr<PinHold>& hold);
  // All of this open. For Close, once the live flag is shut: none is made from then on.
  void ReleasePins();
  // Of the frames from there to the end.
  std::uint64_t BytesFrom(Offset from);
  // Wakes appends that wait for a full backlog: a group has committed.
  void TellOfRoom() {
    // seq_cst: pairs with the flag's store in WaitForRoom(). The commit before this is one, too.
    if (ABSL_PREDICT_FALSE(block().room_wanted.load(std::memory_order_seq_cst) != 0)) RingRoom();
  }

  // ---- Durability.
  absl::Status Flush() { return FlushTo(end_offset(), absl::InfiniteDuration()); }
  // Returns once everything below `to` is durable. kOutOfRange: past the end.
  absl::Status FlushTo(Offset to, absl::Duration timeout);
  absl::Status OnDurable(Offset offset, std::function<void(const absl::Status&)> callback);
  // For a caller who makes many logs durable by one sync of the file system: begins a sync
  // of this log up to the tail that it returns, which EndSharedSync must end, and then
  // RunDurableCallbacks, once all of them have ended. Nothing: there is nothing to do,
  // somebody is at it, or this log has to be flushed on its own.
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
  // As Start's. Who asks after it has found a file that a tombstone was removed from, is told.
  Offset TombstoneHorizon() const;
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

  // ---- A live config.
  // From here on; index_interval_bytes stays. A segment that is longer than the new
  // segment_bytes ends with the next append, a shorter one keeps its size.
  void SetConfig(const LogConfig& config);

  // ---- What it is.
  absl::Status status() const;
  ControlBlock& block() const { return *block_.load(std::memory_order_acquire); }
  ControlFile& control() const;
  int partition() const { return partition_; }
  const segment::PartitionFiles& files() const { return files_; }
  const cordwood::internal::PartitionName& name() const { return *files_.name; }
  const std::shared_ptr<const cordwood::internal::PartitionName>& shared_name() const {
    return files_.name;
  }
  const Context& context() const { return *context_; }
  // Bytes of all segment files, as far as their ends go.
  std::int64_t TotalBytes();
  // The segments by offset, the active one last. Changes nothing.
  absl::StatusOr<std::vector<SegmentDescription>> DescribeSegments();

 private:
  class Turn;
  friend class Turn;
  // A setting that may change at any time; each is read by itself (relaxed).
  template <class T>
  class Live {
   public:
    explicit Live(T value) : value_(value) {}
    operator T() const { return value_.load(std::memory_order_relaxed); }
    void Set(T value) { value_.store(value, std::memory_order_relaxed); }

   private:
    std::atomic<T> value_;
  };
  struct LiveConfig {
    explicit LiveConfig(const LogConfig& config)
        : segment_bytes(config.segment_bytes),
          segment_age_ns(config.segment_age_ns),
          index_interval_bytes(config.index_interval_bytes),
          message_bytes_max(config.message_bytes_max),
          append_time(config.append_time),
          needs_key(config.needs_key),
          timestamp_ahead_max_ns(config.timestamp_ahead_max_ns),
          backlog_bytes(config.cleanup.backlog_bytes) {}

    Live<std::uint64_t> segment_bytes;
    Live<std::int64_t> segment_age_ns;
    const std::int64_t index_interval_bytes;  // maps are made for it
    Live<std::uint64_t> message_bytes_max;
    Live<bool> append_time;
    Live<bool> needs_key;
    Live<std::int64_t> timestamp_ahead_max_ns;
    Live<std::uint64_t> backlog_bytes;
  };
  // A segment that is not the active one; what its seal says, once looked at.
  struct Sealed {
    Offset base = 0;
    Offset compacted_next = 0;  // as its header says
    std::weak_ptr<segment::Segment> segment = {};
    bool known = false;
    bool is_final = false;   // it was durable before its seal was read: no sync of it can fail
    bool recovered = false;  // sealed by a recovery: what followed is gone with the power
    Offset next = 0;
    std::uint64_t end_position = 0;
    std::uint64_t file_bytes = 0;  // there may be room behind the last record
    std::int64_t last_append_ns = 0;
    std::int64_t largest_timestamp = 0;
  };

  Log(std::shared_ptr<const Context> context, segment::PartitionFiles files,
      const LogConfig& config, std::shared_ptr<ControlFile> control, int partition);

  absl::Status CheckState() const {
    return ABSL_PREDICT_TRUE(block().state.load(std::memory_order_relaxed) == 0) ? absl::OkStatus()
                                                                                 : StateError();
  }
  absl::Status StateError() const;
  absl::Status TooLarge(std::uint64_t bytes) const;
  absl::Status CheckKey(const Record& record) const {
    return ABSL_PREDICT_TRUE(record.key.has_value() || !config_.needs_key) ? absl::OkStatus()
                                                                           : NoKeyError();
  }
  absl::Status NoKeyError() const;
  absl::Status Where(absl::Status status, std::optional<Offset> offset = std::nullopt) const {
    return cordwood::internal::At(std::move(status), *files_.name, offset);
  }

  absl::Status TooFarAhead(std::int64_t timestamp_ns) const;
  bool IsTooFarAhead(std::int64_t timestamp_ns, std::int64_t now_ns) const {
    return timestamp_ns > now_ns && timestamp_ns - now_ns > config_.timestamp_ahead_max_ns;
  }

  // `once` again for as long as it has to be retained first, or the backlog is full and that can
  // be helped.
  template <class Once>
  ABSL_ATTRIBUTE_ALWAYS_INLINE absl::StatusOr<Appended> WithRoom(AppendCall& call, Once once) {
    absl::StatusOr<Appended> appended = once();
    if (ABSL_PREDICT_FALSE(!appended.ok())) {
      appended = AppendWithRoom(call, once, std::move(appended));
      context_->Counted(Operation::kAppend, appended.status()).IgnoreError();
    }
    return appended;  // always this, so that it is made in its place
  }
  absl::StatusOr<Appended> AppendWithRoom(AppendCall& call,
                                          absl::FunctionRef<absl::StatusOr<Appended>()> once,
                                          absl::StatusOr<Appended> appended);
  absl::StatusOr<Appended> AppendOnce(const Record& record, AppendCall& call);
  absl::StatusOr<Appended> AppendBatchOnce(std::span<const Record> records, AppendCall& call);
  absl::Status CheckFill(const Record& record) const;
  absl::Status FilledTooMuch(std::size_t written, std::size_t room) const;
  absl::StatusOr<Appended> AppendInPlaceOnce(
      std::size_t value_bytes, const Record& record,
      absl::FunctionRef<std::size_t(std::span<std::byte>)> fill, AppendCall& call);

  // The backlog of the groups that the topic names (backlog.cc). Not under the turn.
  static bool WantsRoom(const absl::Status& status);
  absl::Status BacklogFull(std::uint64_t bytes) const;
  absl::Status MakeWay(std::uint64_t bytes, std::int64_t deadline_ns);
  absl::Status WaitForRoom(Offset seen, std::int64_t deadline_ns);
  absl::Status DropOldest(std::uint64_t bytes_to_keep, std::int64_t deadline_ns);
  void RingRoom();
  Offset NeededFrom(const CleanupConfig& cleanup, Needs::Commits commits) const;

  // The writer's side, all under the turn.
  absl::Status CheckExpected(const AppendOptions& options) const;
  absl::Status CheckExpectedIs(Offset expected) const;
  void Publish(const Tail& old, const Tail& tail, std::int64_t largest_timestamp,
               std::int64_t now_ns);
  void IndexRecord(const Tail& at, std::int64_t largest_before);
  absl::Status MakeRoom(std::uint64_t bytes, std::int64_t now_ns);
  absl::Status MakeRoomSlow(std::uint64_t bytes, std::int64_t now_ns);
  void SetRoom(std::uint64_t at_least, std::uint64_t allowed);
  absl::Status CheckReserve() const;
  absl::Status LoadActive();
  absl::Status TryLoadActive();
  absl::Status LeaveDamaged(const TailView& tail);
  absl::Status CountScratch(const TailView& tail);
  absl::Status FinishRetirement(const TailView& tail);
  absl::Status Roll(std::uint64_t needed_bytes, std::int64_t now_ns);
  absl::StatusOr<std::string> StemForNext(std::uint64_t capacity, std::int64_t now_ns);
  absl::StatusOr<std::string> MakeNext(std::uint64_t capacity, std::int64_t now_ns);
  absl::Status FinishDurable(Offset first, Offset end, AppendCall& call);
  absl::StatusOr<std::shared_ptr<segment::Segment>> MakeSegment(Offset base, std::uint64_t capacity,
                                                                std::int64_t now_ns);
  absl::Status RenameSegment(const std::string& stem, Offset base);
  void FlipTail(const segment::Segment& to, std::uint32_t records, std::uint64_t position);
  void AddIndexEntry(const segment::IndexEntry& entry);
  absl::Status PrepareNext();
  void RemoveSegmentFiles(const std::string& stem);

  // FlushTo() with a deadline of the monotonic clock.
  absl::Status FlushBy(Offset to, std::int64_t deadline_ns);

  // Syncing, all under the sync lock.
  absl::Status SyncPublished();
  absl::Status SyncRange(Offset from, const TailView& to, bool& sync_failed);
  void ForgetSynced(const TailView& to);
  void HoldUntilDurable(std::shared_ptr<segment::Segment> segment)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Retire(const absl::Status& cause);
  absl::Status CopyToFresh(Offset from, const TailView& to);
  absl::Status CheckBeforeSync(segment::Segment& segment, Offset from, std::uint64_t limit,
                               bool& lost);
  absl::Status SealForRetirement(Offset from, const TailView& to)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RingDurable();

  // Finding segments.
  absl::StatusOr<std::shared_ptr<segment::Segment>> Active(const TailView& tail);
  absl::StatusOr<std::shared_ptr<segment::Segment>> CopyOfActive(
      const TailView& tail, const absl::Status& otherwise) const;
  absl::StatusOr<std::vector<Offset>> BasesInFolder() const;  // in order
  absl::Status ListSegments(const TailView& tail) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The next look at the segments is at the folder, and at the files that have their names now.
  void ForgetSegments() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::shared_ptr<segment::Segment>> OpenSealed(Sealed& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The base of the last listed segment that begins at or below the offset and holds records.
  absl::StatusOr<std::optional<Offset>> HolderAtOrBelow(Offset offset)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<std::optional<Offset>> FindTimeIn(const Located& located, std::int64_t time_ns,
                                                   Offset from);

  // Where the log starts. Under the MaintenanceLock of kFiles.
  absl::Status MoveStart(Offset new_start, GapReason reason);
  absl::Status RemoveBelowStart();
  absl::StatusOr<std::vector<SegmentFacts>> Facts();
  // OK without anything done: another is at it until the deadline. False then.
  absl::StatusOr<bool> RetainBy(std::int64_t deadline_ns);
  // By retention_bytes what is too much goes before a roll: the first two under the turn, the
  // third, which may wait, after it.
  bool MustRetainFirst(const TailView& tail);
  static absl::Status RetainFirst(std::uint64_t salt);
  void RetainForRoll(std::uint64_t salt, std::int64_t deadline_ns);
  // The bytes of a segment's file and of its index, if its frames end there.
  std::uint64_t WithIndex(std::uint64_t file_bytes, std::uint64_t frames_end) const;
  std::shared_ptr<const CleanupConfig> cleanup() const {
    absl::MutexLock lock(&mutex_);
    return cleanup_;
  }
  absl::Status CloseOld(const TailView& tail);

  const std::shared_ptr<const Context> context_;
  const segment::PartitionFiles files_;
  LiveConfig config_;
  const int partition_;
  std::atomic<ControlBlock*> block_;
  std::shared_ptr<ControlFile> control_;

  // Guarded by the partition's lock, of which only one thread of one process has a turn.
  struct Writer {
    std::shared_ptr<segment::Segment> segment;
    std::byte* data = nullptr;
    std::uint64_t salt = 0;
  } writer_;
  // How far the writer goes without asking: file bytes that are known to be there, up to
  // segment_bytes. Stored under the lock, too, but for the 0 of SetConfig().
  std::atomic<std::uint64_t> room_{0};
  std::atomic<std::uint64_t> config_changes_{0};  // calls of SetConfig()

  mutable absl::Mutex mutex_;
  std::shared_ptr<const CleanupConfig> cleanup_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<segment::Segment> active_ ABSL_GUARDED_BY(mutex_);
  bool listed_ ABSL_GUARDED_BY(mutex_) = false;
  std::uint64_t listed_salt_ ABSL_GUARDED_BY(mutex_) = 0;  // of the active one then
  std::uint64_t listed_generation_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Sealed> sealed_ ABSL_GUARDED_BY(mutex_);  // by base
  std::shared_ptr<segment::Segment> recent_ ABSL_GUARDED_BY(mutex_);
  // Mapped until they are durable: their map is what reports a failed write-back.
  std::vector<std::shared_ptr<segment::Segment>> unsynced_ ABSL_GUARDED_BY(mutex_);
  // Segments whose undurable records this process wrote, or has checked (rule 15).
  std::vector<std::uint64_t> checked_salts_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t populated_salt_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t populated_ ABSL_GUARDED_BY(mutex_) = 0;
  // How far the active segment may be filled before the backlog has to be looked at again.
  std::uint64_t backlog_salt_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t backlog_position_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<bool> has_rolled_{false};  // since the last RetainAfterRoll()
  std::vector<std::shared_ptr<PinHold>> pins_ ABSL_GUARDED_BY(mutex_);
  // The active segment that may be left whatever is kept; and somebody was waited for in vain.
  std::uint64_t may_roll_salt_ ABSL_GUARDED_BY(mutex_) = 0;
  bool retainer_is_stuck_ ABSL_GUARDED_BY(mutex_) = false;

  absl::Mutex callbacks_mutex_;
  std::vector<std::pair<Offset, std::function<void(const absl::Status&)>>> callbacks_
      ABSL_GUARDED_BY(callbacks_mutex_);
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_LOG_H_
