// Poll: partitions take turns; what is missing comes as gaps; errors come alone.

#include <unistd.h>

#include <algorithm>
#include <limits>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"
#include "consumer_state.h"
#include "cordwood/os/clock.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"
#include "log/turn.h"

namespace cordwood::internal {
namespace {

// A batch that is made anew gets room for so many records at once.
constexpr std::size_t kRecordsAtFirst = 512;
// So many batches are told of together, as an addition on a page of all processes costs more than a
// Poll of one record can bear.
constexpr std::uint64_t kBatchesUntold = 64;

absl::Status GapError(const Gap& gap) {
  if (gap.reason == GapReason::kTombstones) {
    return absl::OutOfRangeError(absl::StrCat(
        gap.topic, "-", gap.partition, ": deletions among [", gap.from, ", ", gap.to,
        ") have been compacted away, and keys that were read before may be gone since; read from "
        "the start to be sure, or go on"));
  }
  const std::string text =
      absl::StrCat(gap.topic, "-", gap.partition, ": records [", gap.from, ", ", gap.to,
                   ") are gone: ", std::string(GapReasonName(gap.reason)),
                   "; seek past them, or read with OutOfRange::kGap");
  const bool is_damage = gap.reason == GapReason::kDamage || gap.reason == GapReason::kPowerLoss;
  return is_damage ? absl::DataLossError(text) : absl::OutOfRangeError(text);
}

}  // namespace

absl::Status ConsumerState::Poll(Consumer& self, RecordBatch& batch, absl::Duration timeout,
                                 const std::stop_token& stop) {
  BatchBuilder builder(batch);
  builder.Clear();
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_RETURN_IF_ERROR(CheckOutsideCallback("Poll"));
  if (log::InFill()) return log::InFillError();
  absl::Status status = PollOnce(self, batch, builder, timeout, stop);
  builder.Finish();
  if (builder.size() != 0) {
    consumed_.records += builder.size();
    if (++consumed_.batches >= kBatchesUntold) TellConsumed();
  } else if (ABSL_PREDICT_FALSE(!status.ok())) {
    broker_->context().counts().CountError(log::Operation::kPoll, status);
  }
  if (options_.max_poll_interval != absl::InfiniteDuration()) {
    last_poll_ns_ = os::ReadClock(CLOCK_MONOTONIC_COARSE);
    if (member_ != nullptr) member_->Polled(last_poll_ns_);
  }
  if (event_fd_ >= 0 && HasSomething()) ReadyWatcher::Tell(event_fd_);
  return status;
}

absl::Status ConsumerState::PollOnce(Consumer& self, RecordBatch& batch, BatchBuilder& builder,
                                     absl::Duration timeout, const std::stop_token& stop) {
  CORDWOOD_RETURN_IF_ERROR(Cancelled(stop));
  std::int64_t now_ns = os::ReadClock(CLOCK_MONOTONIC_COARSE);
  CORDWOOD_RETURN_IF_ERROR(CheckPollInterval(self, now_ns));
  CORDWOOD_RETURN_IF_ERROR(CommitAfterPoll());
  std::int64_t deadline = 0;  // not known yet
  for (;;) {
    // Before anything that could end the Poll is looked at: what comes later bumps it.
    const std::uint32_t heard = wake_.load(std::memory_order_seq_cst);
    if (event_fd_ >= 0) {
      // Before the look: what comes after it makes it readable again.
      std::uint64_t count;
      [[maybe_unused]] const ssize_t n = read(event_fd_, &count, sizeof count);
    }
    CORDWOOD_RETURN_IF_ERROR(LookForTopics(now_ns));
    CORDWOOD_RETURN_IF_ERROR(Rebalance(self, now_ns));
    if (mode_ == Mode::kNone) {
      return absl::FailedPreconditionError(
          "the consumer has nothing to read: call Subscribe or Assign first");
    }
    if (!errors_.empty()) return TakeError(self);
    TakeNews(now_ns);
    TakeTurns(builder);
    if (builder.size() != 0 || !batch.gaps().empty()) return absl::OkStatus();
    if (!errors_.empty()) return TakeError(self);

    if (consumed_.batches != 0) TellConsumed();  // there is time for it
    if (timeout <= absl::ZeroDuration()) return absl::OkStatus();
    const std::int64_t now = os::MonotonicNanos();
    if (deadline == 0) {
      const std::int64_t ns = absl::ToInt64Nanoseconds(timeout);
      constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
      deadline = ns > kNever - now ? kNever : now + ns;
    }
    if (now >= deadline) return absl::OkStatus();
    MakeAllIdle();
    if (queued_ != 0 || IsToLookForTopics()) continue;
    {
      // Registered only around a sleep; a request from before it calls back at once.
      const std::stop_callback end_sleep(stop, [this] {
        wake_.fetch_add(1, std::memory_order_seq_cst);
        os::FutexWake(&wake_, os::kWakeAll);
      });
      Sleep(deadline, heard);
    }
    CORDWOOD_RETURN_IF_ERROR(CheckUsable());
    CORDWOOD_RETURN_IF_ERROR(Cancelled(stop));
    now_ns = os::ReadClock(CLOCK_MONOTONIC_COARSE);
    if (member_ != nullptr && options_.max_poll_interval != absl::InfiniteDuration()) {
      member_->Polled(now_ns);
    }
  }
}

void ConsumerState::TellConsumed() {
  log::MetricsPage& counts = broker_->context().counts();
  counts.consumed_records.Add(consumed_.records);
  counts.consumed_bytes.Add(consumed_.bytes);
  counts.consumed_batches.Add(consumed_.batches);
  consumed_ = {};
}

// Nothing for a turn: no record to read, and nothing to be told.
bool ConsumerState::IsAtEnd(const PartitionReading& partition) const {
  const Offset end = durable_only_ ? partition.log->durable_offset() : partition.log->end_offset();
  const Offset position = partition.cursor.next_offset();
  return (position == end || (position > end && !partition.check_position)) &&
         partition.no_position.ok() && !partition.topic->watched->IsDeleted(partition.number);
}

void ConsumerState::TakeTurns(BatchBuilder& builder) {
  std::size_t room = static_cast<std::size_t>(options_.max_poll_records);
  // Who has something, as many as can have a record each. The others go to sleep, or stay
  // queued as long as they are few.
  turns_.clear();
  for (std::size_t n = queued_; n > 0 && turns_.size() < room; --n) {
    PartitionReading& partition = *Dequeue();
    if (partition.paused || partition.failed || partition.topic->deleted) continue;
    // The word first: what comes after the look at the end changes it.
    const std::uint64_t word = partition.topic->watched->Word(partition.number);
    if (!IsAtEnd(partition) || (IsEager() && !MakeIdle(partition, word))) {
      turns_.push_back(&partition);
    } else if (!IsEager()) {
      Enqueue(partition);
      partition.seen = word;
    }
  }
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    PartitionReading& partition = *turns_[i];
    if (partition.topic->deleted) continue;
    // What one does not use is for those after it.
    const std::size_t left = turns_.size() - i;
    const std::size_t quota = (room + left - 1) / left;
    const std::uint64_t word = partition.topic->watched->Word(partition.number);
    const std::size_t before = builder.size();
    switch (quota == 0 ? Visit::kMore : Read(partition, quota, builder)) {
      case Visit::kCaughtUp:
        if (IsEager() && MakeIdle(partition, word)) break;
        Enqueue(partition);
        if (!IsEager()) partition.seen = word;
        break;
      case Visit::kMore:
        Enqueue(partition);  // behind those that have had no turn
        break;
      case Visit::kOut:
        break;
    }
    room -= builder.size() - before;
  }
}

ConsumerState::Visit ConsumerState::Read(PartitionReading& partition, std::size_t quota,
                                         BatchBuilder& builder) {
  if (!partition.no_position.ok()) {
    Fail(partition, partition.no_position);
    return Visit::kOut;
  }
  if (partition.topic->watched->IsDeleted(partition.number)) {
    TellDeleted(*partition.topic);
    return Visit::kOut;
  }
  if (partition.check_position && !CheckPosition(partition)) return Visit::kOut;
  log::Cursor& cursor = partition.cursor;
  if (durable_only_) cursor.set_end(partition.log->durable_offset());
  if (builder.size() == 0) {
    builder.records().reserve(
        std::min(static_cast<std::size_t>(options_.max_poll_records), kRecordsAtFirst));
  }
  builder.BeginPartition(&partition.log->name());
  const std::size_t before = builder.size();
  const segment::Segment* pinned = nullptr;
  segment::CheckedFrame frame;
  Visit result = Visit::kMore;
  std::size_t gaps = 0;
  std::uint64_t bytes = 0;
  while (builder.size() - before + gaps < quota) {
    const log::Cursor::Step step = cursor.Next(frame);
    if (ABSL_PREDICT_TRUE(step == log::Cursor::Step::kRecord)) {
      if (ABSL_PREDICT_FALSE(cursor.segment().get() != pinned)) {
        pinned = cursor.segment().get();
        builder.Pin(cursor.segment());
      }
      builder.Add(cursor.View(frame));
      bytes += frame.frame_bytes;
      continue;
    }
    if (step == log::Cursor::Step::kEnd) {
      result = Visit::kCaughtUp;
      break;
    }
    if (step == log::Cursor::Step::kGap && options_.out_of_range == OutOfRange::kGap) {
      builder.AddGap(cursor.gap());
      ++gaps;
      continue;
    }
    if (step == log::Cursor::Step::kGap) {
      const Gap gap = cursor.gap();
      cursor.Seek(gap.from);  // positions stay
      Fail(partition, GapError(gap));
    } else {
      Fail(partition, cursor.status());
    }
    result = Visit::kOut;
    break;
  }
  builder.EndPartition(cursor.next_offset());
  consumed_.bytes += bytes;
  if (options_.auto_commit == AutoCommit::kAfterPoll && (builder.size() != before || gaps != 0)) {
    partition.given = cursor.next_offset();
    if (!partition.unsaid) unsaid_.push_back(&partition);
    partition.unsaid = true;
  }
  return result;
}

// Once.
void ConsumerState::TellDeleted(TopicReading& topic) {
  if (std::exchange(topic.deleted, true)) return;
  const auto any = std::find_if(topic.partitions.begin(), topic.partitions.end(),
                                [](const auto& p) { return p != nullptr; });
  const PartitionName where =
      any != topic.partitions.end() ? (*any)->log->name() : PartitionName{topic.name(), 0};
  errors_.push_back({At(absl::NotFoundError(absl::StrCat("topic ", topic.name(),
                                                         " was deleted; it is not read any more")),
                        where),
                     nullptr, &topic});
}

// A position past the end, where only a Seek leads. False: it is an error.
bool ConsumerState::CheckPosition(PartitionReading& partition) {
  partition.check_position = false;
  const Offset position = partition.cursor.next_offset();
  const Offset end = partition.log->end_offset();
  if (position <= end) return true;
  if (options_.out_of_range == OutOfRange::kError || options_.reset == OffsetReset::kError) {
    partition.check_position = true;  // again after a Resume
    Fail(partition,
         absl::OutOfRangeError(absl::StrCat(partition.topic->name(), "-", partition.number,
                                            ": position ", position, " is past the end ", end)));
    return false;
  }
  partition.cursor.Seek(options_.reset == OffsetReset::kLatest ? end
                                                               : partition.log->start_offset());
  return true;
}

void ConsumerState::Fail(PartitionReading& partition, absl::Status status) {
  partition.failed = true;
  errors_.push_back({At(std::move(status), partition.log->name(), partition.cursor.next_offset()),
                     &partition, nullptr});
}

absl::Status ConsumerState::TakeError(Consumer& self) {
  Error error = std::move(errors_.front());
  errors_.pop_front();
  if (error.deleted != nullptr) {
    std::vector<TopicPartition> lost;
    List(*error.deleted, lost);
    Remove(error.deleted);
    former_.insert(lost.begin(), lost.end());
    is_missing_one_ = true;
    if (member_ != nullptr) member_->WantDecision();
    WatchAgain();
    Call(self, options_.on_lost, lost);
  }
  return std::move(error.status);
}

}  // namespace cordwood::internal
