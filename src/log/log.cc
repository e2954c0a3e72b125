#include "cordwood/log/log.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "cordwood/log/start_file.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/segment/walk.h"
#include "cordwood/status_macros.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// How long one sleep on a doorbell lasts at most: whoever rings may die before it does.
constexpr std::int64_t kSleepNanos = 100'000'000;
// A page that cannot be written cannot say that somebody sleeps on it.
constexpr std::int64_t kReadOnlySleepNanos = 10'000'000;

std::int64_t NanosOf(absl::Duration duration) {
  return duration == absl::InfiniteDuration() ? kNever : absl::ToInt64Nanoseconds(duration);
}

CleanupConfig CleanupOf(const TopicConfig& config) {
  CleanupConfig cleanup;
  if (config.cleanup != CleanupPolicy::kCompact) {
    cleanup.rules = {.age_ns = NanosOf(config.retention_age),
                     .bytes = config.retention_bytes,
                     .records = config.retention_records,
                     .clock = config.retention_clock,
                     .needed_bytes = config.retain_for_groups_bytes};
  }
  cleanup.needed_by = config.retain_for_groups;
  if (config.backlog_bytes != kUnlimited) {
    cleanup.backlog_bytes = static_cast<std::uint64_t>(config.backlog_bytes);
  }
  cleanup.backlog_policy = config.backlog_policy;
  return cleanup;
}

}  // namespace

LogConfig LogConfig::Of(const TopicConfig& config) {
  // What is in the active segment is not compacted.
  const bool compacts = config.cleanup != CleanupPolicy::kDelete;
  const std::int64_t age = NanosOf(
      compacts ? std::min(config.segment_age, config.compaction_lag_max) : config.segment_age);
  return {
      .segment_bytes = (static_cast<std::uint64_t>(config.segment_bytes) + 7) & ~std::uint64_t{7},
      .segment_age_ns = age,
      .index_interval_bytes = config.index_interval_bytes,
      .message_bytes_max = static_cast<std::uint64_t>(config.max_message_bytes),
      .append_time = config.timestamp_type == TimestampType::kAppendTime,
      .needs_key = config.cleanup != CleanupPolicy::kDelete,
      .timestamp_ahead_max_ns = config.retention_clock == RetentionClock::kRecord
                                    ? kTimestampAheadMaxNs
                                    : std::numeric_limits<std::int64_t>::max(),
      .cleanup = CleanupOf(config)};
}

Log::Log(std::shared_ptr<const Context> context, segment::PartitionFiles files,
         const LogConfig& config, std::shared_ptr<ControlFile> control, int partition)
    : context_(std::move(context)),
      files_(std::move(files)),
      config_(config),
      partition_(partition),
      block_(&control->block(partition)),
      control_(std::move(control)),
      cleanup_(std::make_shared<const CleanupConfig>(config.cleanup)) {}

Log::~Log() { CancelCallbacks(absl::CancelledError("the broker was closed")); }

absl::StatusOr<std::shared_ptr<Log>> Log::Open(std::shared_ptr<const Context> context,
                                               segment::PartitionFiles files,
                                               const LogConfig& config,
                                               std::shared_ptr<ControlFile> control,
                                               int partition) {
  if (partition < 0 || partition >= control->partitions()) {
    return absl::NotFoundError(absl::StrCat("partition ", partition, " of topic ",
                                            files.name->topic, " does not exist: it has ",
                                            control->partitions()));
  }
  return std::shared_ptr<Log>(
      new Log(std::move(context), std::move(files), config, std::move(control), partition));
}

absl::Status Log::StateError() const {
  const auto state = static_cast<PartitionState>(block().state.load(std::memory_order_relaxed));
  if (state == PartitionState::kDeleted) {
    return Where(absl::NotFoundError(absl::StrCat("topic ", name().topic, " was deleted")));
  }
  return Where(absl::DataLossError(absl::StrCat(
      name().topic, "-", partition_,
      ": failed after a sync that failed; nothing more can be appended. Close the directory and "
      "open it again: it is recovered from the disk")));
}

absl::Status Log::status() const {
  CORDWOOD_RETURN_IF_ERROR(context_->live->Check());
  return CheckState();
}

// ---- Waiting

absl::Status Log::WaitForEnd(Offset end, absl::Duration timeout) {
  if (InFill()) return InFillError();
  const std::int64_t deadline = DeadlineAfter(timeout);
  ControlBlock& b = block();
  for (;;) {
    const std::uint32_t heard = b.bell.load(std::memory_order_acquire);
    if (end_offset() >= end) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(context_->live->Check());
    if (b.state.load(std::memory_order_relaxed) ==
        static_cast<std::uint32_t>(PartitionState::kDeleted)) {
      return CheckState();
    }
    std::int64_t sleep = kReadOnlySleepNanos;
    if (!context_->read_only()) {
      sleep = kSleepNanos;
      b.attention.fetch_or(kWaiting, std::memory_order_seq_cst);
      // Once more, after the flag is there: seq_cst pairs with the look at the flag after
      // a writer's unlock.
      b.tail.load(std::memory_order_seq_cst);
      if (end_offset() >= end) return absl::OkStatus();
    }
    const std::int64_t now = os::MonotonicNanos();
    if (now >= deadline) {
      return Where(absl::DeadlineExceededError(absl::StrCat(
          name().topic, "-", partition_, ": the end is ", end_offset(), ", not yet ", end)));
    }
    os::FutexWait(&b.bell, heard, std::min(sleep, deadline - now));
  }
}

void Log::WakeAll() {
  if (context_->read_only()) return;
  os::Ring(block().bell);
  os::Ring(block().durable_bell);
}

// ---- Finding segments

ControlFile& Log::control() const { return *control_; }

absl::StatusOr<std::shared_ptr<segment::Segment>> Log::Active(const TailView& tail) {
  absl::MutexLock lock(&mutex_);
  if (active_ != nullptr && active_->salt_tag() == tail.salt) return active_;
  for (const std::shared_ptr<segment::Segment>& held : unsynced_) {
    if (held->salt_tag() == tail.salt) return held;
  }
  const os::Access access = context_->read_only() ? os::Access::kRead : os::Access::kReadWrite;
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> opened,
                            segment::Segment::Open(files_, tail.base, access));
  if (opened->salt_tag() != tail.salt) {
    return absl::UnavailableError(absl::StrCat(opened->path(), ": has been replaced meanwhile"));
  }
  // A roll may have overtaken the caller: the one that is written to now stays the active one.
  if (active_ != nullptr && ReadTail(block()).salt != tail.salt) return opened;
  // The old one stays mapped until it is durable: a failed write-back of what this
  // process stored is reported to a map that was there then.
  if (active_ != nullptr && active_->writable()) HoldUntilDurable(active_);
  active_ = opened;
  listed_ = false;
  return opened;
}

// A retirement has given a fresh file the name of the one that the tail is of, and has not flipped
// the tail yet, or has died before that (rule 14). All that is published is in the fresh one.
absl::StatusOr<std::shared_ptr<segment::Segment>> Log::CopyOfActive(
    const TailView& tail, const absl::Status& otherwise) const {
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> copy,
                            segment::Segment::Open(files_, tail.base, os::Access::kRead));
  if (copy->file_bytes() < tail.position) return otherwise;
  const segment::FramesEnd end = segment::WalkFrames(*copy, tail.position);
  const bool is_whole = end.position == tail.position && end.next == tail.end();
  return is_whole ? absl::StatusOr<std::shared_ptr<segment::Segment>>(copy) : otherwise;
}

absl::StatusOr<std::vector<Offset>> Log::BasesInFolder() const {
  CORDWOOD_ASSIGN_OR_RETURN(std::vector<os::FolderEntry> entries, files_.root->List(files_.folder));
  std::vector<Offset> bases;
  for (const os::FolderEntry& entry : entries) {
    if (const auto base = segment::BaseOfFileName(entry.name)) bases.push_back(*base);
  }
  std::sort(bases.begin(), bases.end());
  return bases;
}

void Log::ForgetSegments() {
  sealed_.clear();
  recent_.reset();
  listed_ = false;
}

absl::Status Log::ListSegments(const TailView& tail) {
  // Acquire: pairs with the release when a compaction has given files other content; the
  // folder that is looked at from here on has them.
  const std::uint64_t generation = block().files_generation.load(std::memory_order_acquire);
  if (listed_ && listed_salt_ == tail.salt && listed_generation_ == generation) {
    return absl::OkStatus();
  }
  if (listed_generation_ != generation) {
    ForgetSegments();
    // What is durable may have been replaced, and its map is not needed any more.
    std::erase_if(unsynced_, [&](const std::shared_ptr<segment::Segment>& held) {
      const auto seal = held->ReadSeal();
      return seal && seal->next <= durable_offset();
    });
  }
  CORDWOOD_ASSIGN_OR_RETURN(std::vector<Offset> bases, BasesInFolder());
  // A file at or above the tail's base is that one, or a roll's leftover.
  bases.erase(std::lower_bound(bases.begin(), bases.end(), tail.base), bases.end());
  std::vector<Sealed> now;
  now.reserve(bases.size());
  Offset covered_to = 0;
  for (const Offset base : bases) {
    if (base < covered_to) continue;  // a compaction's leftover (rule 26)
    const auto known = std::lower_bound(sealed_.begin(), sealed_.end(), base,
                                        [](const Sealed& s, Offset b) { return s.base < b; });
    if (known != sealed_.end() && known->base == base) {
      now.push_back(*known);
      now.back().known &= now.back().is_final;  // one that was retired has another end since
    } else {
      const auto facts = segment::Segment::ReadFacts(files_, base);
      if (absl::IsNotFound(facts.status())) continue;  // removed meanwhile
      // Of a damaged one whoever opens it tells. Without an answer its leftovers would count.
      if (!facts.ok() && !absl::IsDataLoss(facts.status())) return facts.status();
      now.push_back({.base = base});
      if (facts.ok()) now.back().compacted_next = facts->header.compacted_next;
    }
    covered_to = now.back().compacted_next;
  }
  sealed_ = std::move(now);
  listed_ = true;
  listed_salt_ = tail.salt;
  listed_generation_ = generation;
  return absl::OkStatus();
}

// Fills in what the seal says. A file without one is a roll's leftover, which holds
// nothing, or lost its seal with the power: then its frames say where it ends.
absl::StatusOr<std::shared_ptr<segment::Segment>> Log::OpenSealed(Sealed& entry) {
  if (std::shared_ptr<segment::Segment> open = entry.segment.lock(); open != nullptr) {
    if (entry.known && entry.end_position <= open->file_bytes()) return open;
  }
  for (const std::shared_ptr<segment::Segment>& held : unsynced_) {
    if (held->base() == entry.base && held->ReadSeal()) entry.segment = held;
  }
  std::shared_ptr<segment::Segment> open = entry.segment.lock();
  const bool was_open = open != nullptr;  // and may have grown since
  const auto open_by_name = [&]() -> absl::Status {
    CORDWOOD_ASSIGN_OR_RETURN(open, segment::Segment::Open(files_, entry.base, os::Access::kRead));
    entry.segment = open;
    entry.known = false;
    open->DropDamagedIndex();
    return absl::OkStatus();
  };
  if (open == nullptr) CORDWOOD_RETURN_IF_ERROR(open_by_name());
  const auto fill_in = [&] {
    if (entry.known) return;
    const Offset durable = durable_offset();  // before the seal is read: a retirement moves both
    const std::optional<segment::Seal> seal = open->ReadSeal();
    entry.last_append_ns = seal ? seal->last_append_ns : 0;
    entry.recovered = seal && seal->reason == segment::SealReason::kRecovered;
    if (const std::optional<segment::SegmentEnd> end = open->End(); end && seal) {
      entry.next = end->next;
      entry.end_position = end->position;
      entry.largest_timestamp = seal->largest_timestamp;
    } else {
      const segment::FramesEnd walked = segment::WalkFrames(*open, open->file_bytes());
      entry.next = end ? end->next : walked.next;
      entry.end_position = end ? end->position : walked.position;
      entry.largest_timestamp = walked.largest_timestamp;
    }
    if (was_open) open->RefreshSize().IgnoreError();  // of one that is gone it does not matter
    entry.file_bytes = open->file_bytes();
    entry.known = true;
    entry.is_final = entry.next <= durable;
  };
  fill_in();
  // Mapped while it was written to, and grown since by another process; and replaced since
  // by a compaction: then its size cannot be learned any more.
  if (entry.end_position > open->file_bytes() && absl::IsNotFound(open->RefreshSize())) {
    CORDWOOD_RETURN_IF_ERROR(open_by_name());
    fill_in();
  }
  return open;
}

absl::StatusOr<std::optional<Offset>> Log::HolderAtOrBelow(Offset offset) {
  for (auto entry = sealed_.rbegin(); entry != sealed_.rend(); ++entry) {
    if (entry->base > offset) continue;
    const absl::Status opened = OpenSealed(*entry).status();
    if (absl::IsNotFound(opened)) continue;  // removed meanwhile
    CORDWOOD_RETURN_IF_ERROR(opened);
    if (entry->next > entry->base) return entry->base;  // else a roll's leftover
  }
  return std::nullopt;
}

namespace {

// Of a file that is gone or damaged the records are a hole; any other trouble with it, such as
// a want of descriptors, is this process's own.
bool MayBeOverSoon(const absl::Status& opened) {
  return !opened.ok() && !absl::IsNotFound(opened) && !absl::IsDataLoss(opened) &&
         !absl::IsFailedPrecondition(opened);
}

}  // namespace

Offset Log::TombstoneHorizon() const {
  // Acquire: pairs with the release before a file without a tombstone gets its name.
  const Offset horizon = block().tombstone_horizon.load(std::memory_order_acquire);
  if (!context_->read_only()) return horizon;
  // Whoever compacts may have another control file than this one; the disk has it by then, too.
  const absl::StatusOr<Start> start = ReadStartFile(files_);
  return start.ok() ? std::max(horizon, start->tombstone_horizon) : horizon;
}

absl::StatusOr<Located> Log::Locate(Offset offset) {
  if (InFill()) return InFillError();
  for (int attempt = 0;; ++attempt) {
    const TailView tail = ReadTail(block());
    if (offset < start_offset() || offset > tail.end()) {
      return Where(absl::OutOfRangeError(absl::StrCat(name().topic, "-", partition_, ": offset ",
                                                      offset, " is not in [", start_offset(), ", ",
                                                      tail.end(), "]")),
                   offset);
    }
    if (offset >= tail.base) {
      absl::StatusOr<std::shared_ptr<segment::Segment>> active = Active(tail);
      if (absl::IsUnavailable(active.status())) active = CopyOfActive(tail, active.status());
      if (!active.ok()) {
        // A roll, or a trim, between our look at the tail and the open.
        if (attempt < 10 && ReadTail(block()).salt != tail.salt) continue;
        return Where(active.status(), offset);
      }
      if ((*active)->file_bytes() < tail.position) {
        (*active)->RefreshSize().IgnoreError();
        if ((*active)->file_bytes() < tail.position && ReadTail(block()).salt != tail.salt) {
          continue;
        }
      }
      const std::uint64_t limit = std::min(tail.position, (*active)->file_bytes());
      return Located{.segment = *std::move(active),
                     .active = true,
                     .tail_salt = tail.salt,
                     .limit = limit,
                     .next = tail.end()};
    }
    absl::MutexLock lock(&mutex_);
    CORDWOOD_RETURN_IF_ERROR(ListSegments(tail));
    // The last one with base <= offset that holds records; leftovers are passed over.
    auto after = std::upper_bound(sealed_.begin(), sealed_.end(), offset,
                                  [](Offset o, const Sealed& s) { return o < s.base; });
    const auto in_sealed = [&](const Sealed& entry, std::shared_ptr<segment::Segment> open) {
      mutex_.AssertHeld();
      recent_ = open;
      const std::uint64_t limit = std::min(entry.end_position, open->file_bytes());
      return Located{.segment = std::move(open), .limit = limit, .next = entry.next};
    };
    bool again = false;
    // A hole is what a power cut left, if the segment before it was sealed by a recovery;
    // else a file is missing or cannot be read.
    GapReason reason = GapReason::kDamage;
    for (auto it = after; it != sealed_.begin();) {
      --it;
      absl::StatusOr<std::shared_ptr<segment::Segment>> open = OpenSealed(*it);
      if (absl::IsNotFound(open.status()) && attempt < 10) {
        ForgetSegments();  // retention, a trim or a compaction has removed it meanwhile
        again = true;
        break;
      }
      if (MayBeOverSoon(open.status())) return Where(open.status(), offset);
      if (!open.ok()) break;
      if (it->next == it->base && !it->recovered) continue;
      if (offset < it->next) {
        // Inside what a newer file has taken over: a retired one's leftover (rule 26).
        if (it != sealed_.begin()) {
          const auto before = std::prev(it);
          absl::StatusOr<std::shared_ptr<segment::Segment>> newer = OpenSealed(*before);
          if (newer.ok() && before->next > offset &&
              (*newer)->header().created_ns > (*open)->header().created_ns) {
            it = before;
            open = std::move(newer);
          }
        }
        return in_sealed(*it, *std::move(open));
      }
      // A retirement that was cut off has left a copy inside the file that it copied, and that
      // one goes further.
      for (auto before = it; before != sealed_.begin();) {
        --before;
        absl::StatusOr<std::shared_ptr<segment::Segment>> longer = OpenSealed(*before);
        if (!longer.ok() || before->next <= it->base) break;
        if (offset < before->next) return in_sealed(*before, *std::move(longer));
      }
      if (it->recovered) reason = GapReason::kPowerLoss;
      break;
    }
    if (again) continue;
    // Nothing holds it. That is told from a fresh look only: who is open read-only does not
    // hear of a compaction.
    if (attempt == 0) {
      ForgetSegments();
      continue;
    }
    // A hole up to the next file that holds records.
    Offset to = tail.base;
    for (auto it = after; it != sealed_.end(); ++it) {
      const absl::Status opened = OpenSealed(*it).status();
      if (MayBeOverSoon(opened)) return Where(opened, offset);
      if (opened.ok() && it->next > it->base) {
        to = it->base;
        break;
      }
    }
    // Retention or a trim has removed it between our look at the start and the list: then it is
    // no hole, and what is missing is said by the start. Files go after the start has moved.
    if (offset < start_offset()) continue;
    Located hole;
    hole.gap_to = to;
    hole.reason = reason;
    return hole;
  }
}

std::int64_t Log::TotalBytes() {
  const TailView tail = ReadTail(block());
  auto bytes = static_cast<std::int64_t>(tail.position);
  absl::MutexLock lock(&mutex_);
  if (!ListSegments(tail).ok()) return bytes;
  for (Sealed& entry : sealed_) {
    if (OpenSealed(entry).ok()) bytes += static_cast<std::int64_t>(entry.end_position);
  }
  return bytes;
}

}  // namespace cordwood::log
