// Acquire: partitions take turns; what is missing comes as gaps; errors come alone.

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/os/clock.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"
#include "share_consumer_state.h"

namespace cordwood::internal {
namespace {

// Nothing announces that a holder died, nor that a lock time is over: so often is looked.
constexpr std::int64_t kLookNanos = 100'000'000;
// A partition whose lock is with a process that is stopped does not hold up the others.
constexpr std::int64_t kVisitWaitNanos = 10'000'000;
// Of dead letters, in which the partition's lock is held.
constexpr absl::Duration kVisitLetterTime = absl::Milliseconds(50);
// Somebody had a partition's lock for all that time.
constexpr std::int64_t kBusyNanos = 1'000'000;
constexpr std::int64_t kLettersAgainNanos = 100'000'000;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// What a sleep can watch (os/doorbell.h); what is more is looked at in time.
constexpr std::size_t kWordsMax = 128;

}  // namespace

absl::StatusOr<std::optional<RecordView>> ReadAt(log::Cursor& cursor, Offset offset) {
  cursor.Seek(offset);
  segment::CheckedFrame frame;
  switch (cursor.Next(frame)) {
    case log::Cursor::Step::kRecord:
      if (frame.header.offset == offset) return cursor.View(frame);
      return std::optional<RecordView>();
    case log::Cursor::Step::kError:
      return cursor.status();
    default:
      return std::optional<RecordView>();
  }
}

absl::StatusOr<AcquiredBatch> ShareConsumerState::Acquire(absl::Duration timeout,
                                                          const std::stop_token& stop) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  Found found;
  log::MetricsPage& counts = broker_->context().counts();
  if (absl::Status status = AcquireOnce(found, timeout, stop); !status.ok()) {
    counts.CountError(log::Operation::kPoll, status);
    return status;
  }
  AcquiredBatch& batch = found.batch;
  if (!batch.records_.empty()) {
    counts.consumed_records.Add(batch.records_.size());
    counts.consumed_bytes.Add(found.bytes);
    counts.consumed_batches.Add();
  }
  batch.SetRange(batch.records_.data(), batch.records_.data() + batch.records_.size());
  return std::move(batch);
}

absl::Status ShareConsumerState::AcquireOnce(Found& found, absl::Duration timeout,
                                             const std::stop_token& stop) {
  CORDWOOD_RETURN_IF_ERROR(Cancelled(stop));
  const std::int64_t begin = os::MonotonicNanos();
  const std::int64_t ns = absl::ToInt64Nanoseconds(std::max(timeout, absl::ZeroDuration()));
  const std::int64_t deadline = ns > kNever - begin ? kNever : begin + ns;
  for (;;) {
    // Before anything that could end the call is looked at: what comes later bumps it.
    const std::uint32_t heard = wake_.load(std::memory_order_seq_cst);
    CORDWOOD_RETURN_IF_ERROR(DropDeleted());
    if (topics_.empty()) {
      return absl::FailedPreconditionError(
          "the share consumer has nothing to take: call Subscribe first");
    }
    for (const auto& topic : topics_) {
      if (static_cast<std::size_t>(topic->files->partitions()) > topic->partitions.size()) {
        CORDWOOD_RETURN_IF_ERROR(OpenPartitions(*topic));
      }
    }
    found.busy = false;
    VisitAll(found);
    if (!found.batch.records_.empty() || !found.batch.gaps_.empty()) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(found.error);
    if (os::MonotonicNanos() >= deadline) return absl::OkStatus();
    if (found.busy) {
      os::FutexWait(&wake_, heard, kBusyNanos);
    } else {
      const std::stop_callback end_sleep(stop, [this] {
        wake_.fetch_add(1, std::memory_order_seq_cst);
        os::FutexWake(&wake_, os::kWakeAll);
      });
      Sleep(deadline, heard);
    }
    CORDWOOD_RETURN_IF_ERROR(CheckUsable());
    CORDWOOD_RETURN_IF_ERROR(Cancelled(stop));
  }
}

// Another topic may have the name by now.
absl::Status ShareConsumerState::DropDeleted() {
  for (auto topic = topics_.begin(); topic != topics_.end(); ++topic) {
    if (!(*topic)->files->is_deleted()) continue;
    absl::Status deleted = At(absl::NotFoundError(absl::StrCat("topic ", (*topic)->files->name(),
                                                               " was deleted; it is not read any "
                                                               "more")),
                              (*topic)->partitions.front()->log->name());
    topics_.erase(topic);
    return deleted;
  }
  return absl::OkStatus();
}

void ShareConsumerState::VisitAll(Found& found) {
  std::vector<const std::shared_ptr<SharePartition>*> all;
  for (const auto& topic : topics_) {
    topic->heard = topic->watched->control->header().bell.load(std::memory_order_acquire);
    for (const auto& partition : topic->partitions) all.push_back(&partition);
  }
  const std::size_t first = turn_++ % all.size();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::shared_ptr<SharePartition>& partition = *all[(first + i) % all.size()];
    found.error.Update(At(Visit(partition, found), partition->log->name()));
    if (found.batch.records_.size() >= static_cast<std::size_t>(options_.max_poll_records)) return;
  }
}

absl::Status ShareConsumerState::Visit(const std::shared_ptr<SharePartition>& partition,
                                       Found& found) {
  SharePartition& p = *partition;
  // First: what comes after the look changes it.
  p.word = p.watched->Word(p.number);
  p.next_expiry_ns = kNever;
  if (p.file == nullptr) {
    // Without anything to take there is no file.
    if (group_->committed(p.entry).value_or(p.initial) >= p.log->end_offset()) {
      return absl::OkStatus();
    }
    if (absl::Status opened = OpenFile(p); !opened.ok()) {
      if (!absl::IsUnavailable(opened)) return opened;
      found.busy = true;
      return absl::OkStatus();
    }
  }
  group::ShareTurn turn(*p.file);
  if (absl::Status taken = turn.Take(kVisitWaitNanos); !taken.ok()) {
    if (!absl::IsUnavailable(taken)) return taken;
    found.busy = true;
    return absl::OkStatus();
  }
  // With the lock: a Close of the broker that gives back what is held comes before, and is
  // seen here, or after.
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  p.mapped = turn.mapped();
  p.heard = p.mapped->header->bell.load(std::memory_order_seq_cst);
  CORDWOOD_RETURN_IF_ERROR(turn.Advance());
  CORDWOOD_ASSIGN_OR_RETURN(const bool dying, TakeFrom(partition, turn, found));
  if (dying && os::MonotonicNanos() >= p.next_letters_ns) {
    if (absl::Status buried = Bury(p, turn, kVisitLetterTime); !buried.ok()) {
      p.next_letters_ns = os::MonotonicNanos() + kLettersAgainNanos;
      return buried;
    }
    return turn.Advance();
  }
  return absl::OkStatus();
}

// True: there are records to be given up. For each record of the window, in order:
//
//   its word                      held  what is done
//   accepted, archived            -     nothing
//   rejected, worn out            -     a dead letter, after the others
//   acquired                      yes   nothing; its key waits
//   other, delivered enough       no    it is worn out
//   other                         no    taken, unless an earlier one of its key waits
absl::StatusOr<bool> ShareConsumerState::TakeFrom(const std::shared_ptr<SharePartition>& partition,
                                                  group::ShareTurn& turn, Found& found) {
  using group::ShareState;
  SharePartition& p = *partition;
  const bool ordered = options_.order_by_key;
  const auto room = static_cast<std::size_t>(options_.max_poll_records);
  const Offset log_start = p.log->start_offset();
  const Offset end = p.log->end_offset();
  const std::int64_t now = os::MonotonicNanos();
  const absl::Time deadline = absl::Now() + options_.lock_time;
  absl::flat_hash_set<std::uint64_t> waiting;  // keys
  segment::CheckedFrame frame;
  bool dying = false;
  found.pinned = nullptr;
  Offset o = turn.start();
  while (o < turn.limit(end) && found.batch.records_.size() < room) {
    const group::ShareWord word = turn.Look(o);
    if (group::IsDone(word.state)) {
      ++o;
      continue;
    }
    const bool held = word.state == ShareState::kAcquired && turn.IsHeld(o, now);
    const bool worn_out = !held && word.deliveries >= options_.delivery_limit;
    if (group::IsDying(word.state) || worn_out) {
      if (!group::IsDying(word.state)) turn.Set(o, ShareState::kWornOut, word.deliveries);
      dying = true;
      ++o;
      continue;
    }
    std::uint64_t key = word.state == ShareState::kNone ? group::kKeyUnknown : turn.key(o);
    if (held) {
      p.next_expiry_ns = std::min(p.next_expiry_ns, turn.deadline_ns(o));
      if (ordered && key == group::kKeyUnknown) {
        // Taken by somebody who does not order by key.
        log::Cursor cursor(p.log, o, options_.verify_checksums);
        CORDWOOD_ASSIGN_OR_RETURN(const std::optional<RecordView> record, ReadAt(cursor, o));
        key = record ? group::ShareKeyOf(*record) : group::kNoKey;
        turn.NoteKey(o, key);
      }
      if (ordered && key != group::kNoKey) waiting.insert(key);
      ++o;
      continue;
    }
    if (ordered && key != group::kKeyUnknown && waiting.contains(key)) {
      ++o;
      continue;
    }
    // A cursor that has seen a record goes on to it after a trim, too.
    if (p.cursor.next_offset() != o || o < log_start) p.cursor.Seek(o);
    const log::Cursor::Step step = p.cursor.Next(frame);
    const bool is_end = step == log::Cursor::Step::kEnd;
    if (is_end && p.cursor.next_offset() <= o) break;
    if (step == log::Cursor::Step::kError) {
      absl::Status status = p.cursor.status();
      p.cursor.Seek(o);  // opens what failed anew
      return status;
    }
    const bool is_gap = step == log::Cursor::Step::kGap;
    if (is_gap && p.cursor.gap().reason == GapReason::kTombstones) {
      found.batch.gaps_.push_back(p.cursor.gap());  // the records that are left there follow
      continue;
    }
    if (is_gap || is_end || frame.header.offset != o) {
      // What compaction removed is passed over without a word.
      const Offset to = is_gap   ? p.cursor.gap().to
                        : is_end ? p.cursor.next_offset()
                                 : frame.header.offset;
      CORDWOOD_ASSIGN_OR_RETURN(const Offset passed, turn.PassGap(o, to, end, now));
      if (is_gap) {
        Gap gap = p.cursor.gap();
        gap.to = passed;
        found.batch.gaps_.push_back(std::move(gap));
      }
      o = std::max(passed, turn.start());
      continue;
    }
    const RecordView record = p.cursor.View(frame);
    if (ordered) {
      key = group::ShareKeyOf(record);
      if (key != group::kNoKey && !waiting.insert(key).second) {
        turn.NoteKey(o, key);
        turn.Set(o, ShareState::kAvailable, word.deliveries);
        ++o;
        continue;
      }
    }
    const int deliveries = word.deliveries + 1;
    turn.Hold(o, {.deliveries = deliveries,
                  .deadline_ns = LockDeadline(now),
                  .member = consumer_,
                  .key = ordered ? key : group::kKeyUnknown});
    Add(partition, record, deliveries, deadline, found);
    found.bytes += frame.frame_bytes;
    ++o;
  }
  return dying;
}

void ShareConsumerState::Add(const std::shared_ptr<SharePartition>& partition,
                             const RecordView& record, int deliveries, absl::Time deadline,
                             Found& found) {
  const std::shared_ptr<segment::Segment>& segment = partition->cursor.segment();
  if (found.pinned == nullptr) found.batch.pins_.push_back(partition);
  if (segment.get() != found.pinned) {
    found.pinned = segment.get();
    found.batch.pins_.push_back(segment);
  }
  AcquiredRecord acquired;
  acquired.record_ = record;
  acquired.delivery_count_ = deliveries;
  acquired.lock_deadline_ = deadline;
  acquired.partition_ = partition.get();
  found.batch.records_.push_back(acquired);
}

// ---- Sleeping

// `heard` is what wake_ was before the last look at what could end the Acquire.
void ShareConsumerState::Sleep(std::int64_t until_ns, std::uint32_t heard) {
  words_.clear();
  words_.push_back({&wake_, heard});
  words_.push_back({&broker_->consumers().closing(), 0});
  for (const auto& topic : topics_) {
    log::ControlHeader& header = topic->watched->control->header();
    // Before the flags of the partitions, so that who finds one of those finds this one, or
    // has changed the bell: pairs with the exchange in ControlFile::RingTopic().
    header.sleepers.exchange(1, std::memory_order_seq_cst);
    if (words_.size() < kWordsMax) words_.push_back({&header.bell, topic->heard});
    for (const auto& partition : topic->partitions) {
      SharePartition& p = *partition;
      if (!topic->watched->Arm(p.number, p.word)) return;
      until_ns = std::min(until_ns, p.next_expiry_ns);
      if (p.mapped == nullptr) continue;
      group::ShareHeader& share = *p.mapped->header;
      // Before the sleep looks at the bell: pairs with the load in ~ShareTurn().
      share.sleepers.store(1, std::memory_order_seq_cst);
      if (words_.size() < kWordsMax) words_.push_back({&share.bell, p.heard});
    }
  }
  os::FutexWaitAny(words_, std::min(until_ns - os::MonotonicNanos(), kLookNanos));
}

void ShareConsumerState::Wakeup() {
  wakeup_.store(true, std::memory_order_seq_cst);
  wake_.fetch_add(1, std::memory_order_seq_cst);
  os::FutexWake(&wake_, os::kWakeAll);
}

absl::Status ShareConsumerState::Cancelled(const std::stop_token& stop) {
  if (wakeup_.load(std::memory_order_seq_cst) &&
      wakeup_.exchange(false, std::memory_order_seq_cst)) {
    return absl::CancelledError("Acquire was ended by Wakeup");
  }
  if (stop.stop_requested()) return absl::CancelledError("Acquire was ended by its stop token");
  return absl::OkStatus();
}

}  // namespace cordwood::internal
