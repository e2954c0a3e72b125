// A Partition is one ordered log of records; offsets 0, 1, 2, ... are dense as appended.
//
//   Partition log = topic.partition(0);
//   Offset at = log.Append({.key = "sensor-1", .value = "21.5"}).value();
//
//   PartitionReader reader = log.Read(at).value();   // name it, then loop over it
//   for (const RecordView& record : reader) Use(record);
//   if (!reader.status().ok()) ...
//
// Three watermarks, which anyone may read and wait for, from any process: end_offset()
// (published: readers see it, and it survives a crash of the process), durable_offset()
// (it survives a power cut), and what groups have committed (cordwood/consumer.h).
//
// Thread safety: a Partition is for any number of threads, a PartitionReader for one at a
// time. Both share the open directory, so they may outlive their Broker and Topic.
//
// A Partition that is default-made, moved-from, closed, deleted, out of range or inherited
// over a fork answers every call with status(); its offsets are 0.

#ifndef CORDWOOD_PARTITION_H_
#define CORDWOOD_PARTITION_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/log/log.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

class Partition;
namespace internal {
class PartitionReaderState;
// The log behind a handle, for the benchmarks, which have its pages populated first. Null:
// the handle is a bad one.
log::Log* LogOf(const Partition& partition);
}  // namespace internal

// The records from where Read() was told to begin, to the end that the partition had then,
// or backward to its start. begin() begins anew, with no gaps and no error.
class PartitionReader {
 public:
  using iterator = ViewRange<RecordView>::iterator;

  PartitionReader(PartitionReader&&) noexcept;
  PartitionReader& operator=(PartitionReader&&) noexcept;
  ~PartitionReader();

  // A record is valid until the next ++.
  iterator begin() ABSL_ATTRIBUTE_LIFETIME_BOUND;
  iterator end() ABSL_ATTRIBUTE_LIFETIME_BOUND { return iterator(); }

  // Why it ended before its end: a file could not be opened (kResourceExhausted: too many open
  // files; kUnavailable: any other errno) or was cut off (kDataLoss); kFailedPrecondition: moved
  // from. OK while it goes on, and at the end. Damage is no error: it costs the record that it hit.
  absl::Status status() const;
  // What it has passed over so far, in the order of reading.
  std::span<const Gap> gaps() const ABSL_ATTRIBUTE_LIFETIME_BOUND;

 private:
  friend class Partition;
  explicit PartitionReader(std::unique_ptr<internal::PartitionReaderState> state);

  std::unique_ptr<internal::PartitionReaderState> state_;
};

// Keeps the records at and above an offset from retention, for a backup, a bridge or a reader of
// a snapshot: Partition::Pin() makes it. It is released by its destructor, by the broker's Close,
// and by the end of its process, however that comes. It keeps the directory open, as every handle.
//
// Thread safety: Move, offset and status from any thread. In a forked child it does nothing.
class Pin {
 public:
  Pin() = default;
  Pin(Pin&&) noexcept = default;
  Pin& operator=(Pin&& other) noexcept;
  ~Pin() { Release(); }

  // Lets go what is below. kInvalidArgument: lower than offset(); kOutOfRange: past the end.
  absl::Status Move(Offset to);
  // What is at or above it stays; 0 if it was released.
  Offset offset() const;
  // OK while it holds; kFailedPrecondition: made by default, moved from, or the broker is closed;
  // kNotFound: the topic was deleted.
  absl::Status status() const;

 private:
  friend class Partition;
  Pin(std::shared_ptr<log::Log> log, std::shared_ptr<log::PinHold> hold)
      : log_(std::move(log)), hold_(std::move(hold)) {}
  void Release();

  // As Partition has it.
  std::shared_ptr<log::Log> log_ = {};
  std::shared_ptr<log::PinHold> hold_ = {};
};

class Partition {
 public:
  Partition() = default;

  // The offset that the record got. What key, value and headers point at is read until it returns.
  //
  // kInvalidArgument: over the topic's limit; without a key, in a compacted topic; stamped more
  // than an hour ahead of the clock, with RetentionClock::kRecord. kAborted: expected_offset did
  // not hold, and OffsetOf(status) says what the next offset is. kResourceExhausted: the disk or
  // the backlog is full (ReasonOf). kDeadlineExceeded: the timeout is over, and nothing was
  // published. kDataLoss: the partition has failed (status()). kFailedPrecondition: read-only.
  //
  // With Durability::kDurable: if OffsetOf(status) says one, and it is not kAborted, the record
  // is published there, only not durable: do not send it again.
  absl::StatusOr<Offset> Append(const Record& record, const AppendOptions& options = {}) const {
    if (ABSL_PREDICT_FALSE(log_ == nullptr)) return status();
    return OffsetIn(log_->Append(record, options));
  }
  // All or none: published by one store, also after a crash or a power cut. The offset of
  // the first; of an empty batch, the end. kInvalidArgument: it does not fit a segment of 2 GiB;
  // else as Append.
  absl::StatusOr<Offset> AppendBatch(std::span<const Record> records,
                                     const AppendOptions& options = {}) const {
    if (ABSL_PREDICT_FALSE(log_ == nullptr)) return status();
    return OffsetIn(log_->AppendBatch(records, options));
  }
  // The value is written in place: `fill` writes at most value_bytes, aligned to 8, and returns
  // how many. It is called once at most, must not call cordwood (kFailedPrecondition), and from
  // 4,096 bytes on has the writers' lock: others who append wait for it. If it throws, nothing was
  // appended. kInvalidArgument: `record` has a value of its own, or `fill` says that it wrote
  // more; else as Append.
  absl::StatusOr<Offset> AppendInPlace(std::size_t value_bytes, const Record& record,
                                       absl::FunctionRef<std::size_t(std::span<std::byte>)> fill,
                                       const AppendOptions& options = {}) const {
    if (ABSL_PREDICT_FALSE(log_ == nullptr)) return status();
    return OffsetIn(log_->AppendInPlace(value_bytes, record, fill, options));
  }

  // Forward from `from`, or backward from `from` - 1, with every checksum checked. kOutOfRange: it
  // is not in [start_offset(), end_offset()]. What compaction removed is passed over without a gap.
  absl::StatusOr<PartitionReader> Read(Offset from,
                                       Direction direction = Direction::kForward) const;
  // The lowest offset whose timestamp is at or after the time; the end if there is none.
  absl::StatusOr<Offset> OffsetForTime(absl::Time time) const;

  // The lowest offset that is kept. [start, end) may have holes: gaps, and what was compacted.
  Offset start_offset() const { return CanBeRead() ? log_->start_offset() : 0; }
  // What the next record gets: everything below is published.
  Offset end_offset() const { return CanBeRead() ? log_->end_offset() : 0; }
  // Everything below is durable, as far as it is known.
  Offset durable_offset() const { return CanBeRead() ? log_->durable_offset() : 0; }

  // Returns once end_offset() is at least `end`. kDeadlineExceeded.
  absl::Status WaitForEnd(Offset end, absl::Duration timeout) const {
    return log_ == nullptr ? status() : log_->WaitForEnd(end, timeout);
  }
  // Returns once the record at `offset` is durable. It does not flush: the background
  // thread does, or Flush(). kDeadlineExceeded; kDataLoss: the partition has failed.
  absl::Status WaitForDurable(Offset offset, absl::Duration timeout) const {
    return log_ == nullptr ? status() : log_->WaitForDurable(offset, timeout);
  }
  // Calls back once, when the record at `offset` is durable: on the thread that flushes, or
  // at once on this one. It must not block. With an error it will never be durable, or nobody
  // can tell: kDataLoss: the partition has failed; kCancelled: the broker was closed; kNotFound:
  // the topic was deleted.
  //
  // Not OK: it will not be called. kOutOfRange: the offset is not published; kFailedPrecondition:
  // read-only.
  absl::Status OnDurable(Offset offset, std::function<void(const absl::Status&)> callback) const {
    return log_ == nullptr ? status() : log_->OnDurable(offset, std::move(callback));
  }
  // Returns once everything that was published before the call is durable. It waits for the disk
  // without a timeout; an append that is durable has one. kDataLoss: a sync has failed, and so has
  // moving the records to another file: the partition has failed, and what is not durable may be
  // lost; close the directory in every process and open it again. kFailedPrecondition: read-only.
  absl::Status Flush() const { return log_ == nullptr ? status() : log_->Flush(); }
  // Gives up what is below; the offsets are never used again. OK: survives a power cut; below the
  // start there is nothing to do. Whole segments leave the disk, the rest with its segment.
  // kOutOfRange: not in [0, end_offset()]; kDeadlineExceeded: a process that removes files has not
  // let go for a minute; kFailedPrecondition: read-only.
  absl::Status Trim(Offset new_start) const {
    return log_ == nullptr ? status() : log_->Trim(new_start);
  }

  // From when it returns until the Pin goes, retention gives up nothing at or above `from`, in
  // whichever process, whatever age, bytes, records and retain_for_groups_bytes say. There is no
  // bound: a pin that is forgotten fills the disk. Broker::DescribeHolds says who holds what, and
  // since when. It holds against retention only: not against Trim, BacklogPolicy::kDropOldest,
  // compaction, or the topic's deletion.
  //
  // `why` says so to people; up to 80 bytes, else kInvalidArgument. kOutOfRange: `from` is not in
  // [start_offset(), end_offset()]; kResourceExhausted: the topic has 511 pins already, or the
  // disk is full; kDeadlineExceeded: a process that removes files has not let go for a minute;
  // kFailedPrecondition: read-only.
  absl::StatusOr<cordwood::Pin> Pin(Offset from, std::string_view why = "") const;

  // OK, or why nothing works on it: kNotFound: no such partition, or deleted;
  // kFailedPrecondition: default-made, moved-from, closed or inherited; kDataLoss: it has failed,
  // can still be read, and is recovered by the next Open.
  absl::Status status() const;

 private:
  friend class Topic;
  friend log::Log* internal::LogOf(const Partition& partition);
  explicit Partition(std::shared_ptr<log::Log> log) : log_(std::move(log)) {}
  explicit Partition(const absl::Status& why_not)
      : why_not_(std::make_shared<const absl::Status>(why_not)) {}

  static absl::StatusOr<Offset> OffsetIn(absl::StatusOr<log::Appended> appended) {
    if (ABSL_PREDICT_FALSE(!appended.ok())) return std::move(appended).status();
    return appended->offset;
  }
  // Open and not deleted. A failed partition can still be read.
  bool CanBeRead() const {
    return log_ != nullptr && log_->context().live->is_open() &&
           log_->block().state.load(std::memory_order_relaxed) !=
               static_cast<std::uint32_t>(log::PartitionState::kDeleted);
  }

  // Shares the broker, and points at the log in it; null: there is no such partition.
  std::shared_ptr<log::Log> log_ = {};
  std::shared_ptr<const absl::Status> why_not_ = {};
};

namespace internal {
inline log::Log* LogOf(const Partition& partition) { return partition.log_.get(); }
}  // namespace internal

}  // namespace cordwood

#endif  // CORDWOOD_PARTITION_H_
