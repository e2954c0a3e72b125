// Retention carried out: what retention.h decides.

#include <algorithm>

#include "cordwood/log/log.h"
#include "cordwood/log/maintenance_lock.h"
#include "cordwood/log/pins.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

// How long an append waits for another process that removes files.
constexpr std::int64_t kPatienceNanos = 5'000'000'000;

bool HasRules(const RetentionRules& rules) {
  return rules.age_ns != RetentionRules::kForEver || rules.bytes != kUnlimited ||
         rules.records != kUnlimited;
}

}  // namespace

absl::Status Log::RetainAfterRoll() {
  return has_rolled_.exchange(false, std::memory_order_relaxed) ? Retain() : absl::OkStatus();
}

absl::Status Log::Retain() { return RetainBy(0).status(); }

absl::StatusOr<bool> Log::RetainBy(std::int64_t deadline_ns) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(CheckState());
  const std::shared_ptr<const CleanupConfig> config = cleanup();
  RetentionRules rules = config->rules;
  // What a trim or a drop that died has left goes without a rule as well.
  if (!HasRules(rules) && start_offset() == 0) return true;
  rules.needed_from = NeededFrom(*config, Needs::Commits::kDurable);
  Offset to = 0;
  std::vector<SegmentFacts> facts;
  absl::Status close_error;  // of a full disk, perhaps: what can go goes all the same
  for (bool closed = false;; closed = true) {
    const TailView tail = ReadTail(block());
    CORDWOOD_ASSIGN_OR_RETURN(facts, Facts());
    to = RetainFrom(facts, rules, context_->clock.Now());
    if (to <= tail.base || closed) break;
    // What is pinned need not be closed.
    CORDWOOD_ASSIGN_OR_RETURN(const Offset pinned, PinnedFrom(*context_, files_));
    if (pinned < tail.end()) break;
    close_error = CloseOld(tail);
    if (!close_error.ok()) break;
  }
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::optional<MaintenanceLock> lock,
      MaintenanceLock::Take(*context_, files_, MaintenanceLock::kFiles, deadline_ns));
  if (!lock) return false;
  if (to > start_offset()) {
    // Under the lock: from here on nobody makes a pin below what the start will be.
    CORDWOOD_ASSIGN_OR_RETURN(rules.pinned_from, PinnedFrom(*context_, files_));
    to = std::min(RetainFrom(facts, rules, context_->clock.Now()), ReadTail(block()).base);
  }
  CORDWOOD_RETURN_IF_ERROR(to > start_offset() ? MoveStart(to, GapReason::kRetention)
                                               : RemoveBelowStart());
  CORDWOOD_RETURN_IF_ERROR(close_error);
  return true;
}

// Of the segments that hold something at or above the start; the active one is the last.
// An error where one of them cannot be looked at for the moment: what goes is decided with all.
absl::StatusOr<std::vector<SegmentFacts>> Log::Facts() {
  ControlBlock& b = block();
  const TailView tail = ReadTail(b);
  const Offset start = start_offset();
  const std::int64_t now = context_->clock.Now();
  context_->ages->Observe(now, context_->storage->ElapsedNanos());
  std::vector<SegmentFacts> facts;
  {
    absl::MutexLock lock(&mutex_);
    CORDWOOD_RETURN_IF_ERROR(ListSegments(tail));
    for (auto it = sealed_.begin(); it != sealed_.end(); ++it) {
      Sealed& entry = *it;
      if (const absl::Status known = entry.known ? absl::OkStatus() : OpenSealed(entry).status();
          absl::IsDataLoss(known)) {
        // Its header is damaged: it goes when the next one does.
        const Offset next = std::next(it) != sealed_.end() ? std::next(it)->base : tail.base;
        if (next > start) facts.push_back({.base = entry.base, .next = next});
        continue;
      } else if (!known.ok()) {
        listed_ = false;  // perhaps another process has removed it
        return known;
      }
      if (entry.next <= start || entry.next == entry.base) continue;
      facts.push_back({.base = entry.base,
                       .next = entry.next,
                       .bytes = WithIndex(entry.file_bytes, entry.end_position),
                       .last_append_ns = context_->ages->Moved(entry.last_append_ns),
                       .largest_timestamp_ns = entry.largest_timestamp});
    }
  }
  std::int64_t last_append = b.last_append_ns.load(std::memory_order_relaxed);
  if (last_append < kEarliestClockNs || last_append > now) {
    // Not known, or by a clock that was wrong: it counts from now on. A writer who stores it
    // at the same time is right.
    if (b.last_append_ns.compare_exchange_strong(last_append, now, std::memory_order_relaxed)) {
      last_append = now;
    }
  }
  facts.push_back({.base = tail.base,
                   .next = tail.end(),
                   .bytes = WithIndex(tail.position, tail.position),
                   .last_append_ns = context_->ages->Moved(last_append),
                   .largest_timestamp_ns = b.largest_timestamp.load(std::memory_order_relaxed)});
  return facts;
}

absl::Status Log::CloseActive() { return CloseOld(ReadTail(block())); }

// Begins another segment, if nobody has appended meanwhile. What takes time, making the file,
// is done before a writer could wait for it.
absl::Status Log::CloseOld(const TailView& tail) {
  CORDWOOD_RETURN_IF_ERROR(context_->WithReserve([&] { return PrepareNext(); }));
  Turn turn(*this);
  if (const absl::Status taken = turn.Take(absl::ZeroDuration()); !taken.ok()) {
    return absl::IsDeadlineExceeded(taken) ? absl::OkStatus() : taken;
  }
  ControlBlock& b = block();
  const TailView now = ReadTail(b);
  if (now.salt != tail.salt || now.records != tail.records || now.records == 0) {
    return absl::OkStatus();
  }
  CORDWOOD_RETURN_IF_ERROR(LoadActive());
  if (ReadTail(b).salt != tail.salt) return absl::OkStatus();
  return Roll(0, context_->clock.Now());
}

std::uint64_t Log::WithIndex(std::uint64_t file_bytes, std::uint64_t frames_end) const {
  return file_bytes + segment::Index::FileBytes(
                          segment::Index::EntriesFor(frames_end, files_.index_interval_bytes));
}

// A roll is free if there is room for the next segment, up to two more than the bound. It is said
// once for each segment: what groups need, say, stays all the same.
bool Log::MustRetainFirst(const TailView& tail) {
  const std::int64_t bound = cleanup()->rules.bytes;
  if (bound == kUnlimited) return false;
  const std::uint64_t segment = config_.segment_bytes;
  const std::uint64_t room = static_cast<std::uint64_t>(bound) + 2 * segment;
  absl::MutexLock lock(&mutex_);
  if (may_roll_salt_ == tail.salt) return false;
  // Also what is below the start, if it has not been removed yet.
  const auto is_too_much = [&] {
    mutex_.AssertHeld();
    if (!ListSegments(tail).ok()) return false;
    std::uint64_t bytes = WithIndex(segment, tail.position) + WithIndex(segment, segment);
    for (Sealed& entry : sealed_) {
      if (entry.known || OpenSealed(entry).ok()) {
        bytes += WithIndex(entry.file_bytes, entry.end_position);
      }
    }
    return bytes > room;
  };
  if (!is_too_much()) return false;
  listed_ = false;  // some may have been removed since
  return is_too_much();
}

// Whoever is at it may have been stopped there: it is waited for once, and then the log grows.
void Log::RetainForRoll(std::uint64_t salt, std::int64_t deadline_ns) {
  {
    absl::MutexLock lock(&mutex_);
    if (retainer_is_stuck_) deadline_ns = 0;
  }
  const absl::StatusOr<bool> done =
      RetainBy(std::min(deadline_ns, os::MonotonicNanos() + kPatienceNanos));
  absl::MutexLock lock(&mutex_);
  may_roll_salt_ = salt;  // what has failed is tried again before the next roll
  retainer_is_stuck_ = done.ok() && !*done;
}

}  // namespace cordwood::log
