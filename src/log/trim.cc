// The start of the log, and finding an offset by time.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "cordwood/log/cursor.h"
#include "cordwood/log/log.h"
#include "cordwood/log/maintenance_lock.h"
#include "cordwood/log/start_file.h"
#include "cordwood/status_macros.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

// For another who moves the start or removes files.
constexpr absl::Duration kTrimTimeout = absl::Seconds(60);

}  // namespace

absl::Status Log::Trim(Offset new_start) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(CheckState());
  if (InFill()) return InFillError();
  // The end only grows: what is not past it now will not be.
  if (const Offset end = end_offset(); new_start < 0 || new_start > end) {
    return Where(
        absl::OutOfRangeError(absl::StrCat(name().topic, "-", partition_, ": Trim(", new_start,
                                           ") is not in [", start_offset(), ", ", end, "]")),
        new_start);
  }
  if (new_start <= start_offset()) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(const std::optional<MaintenanceLock> lock,
                            MaintenanceLock::Take(*context_, files_, MaintenanceLock::kFiles,
                                                  DeadlineAfter(kTrimTimeout)));
  if (!lock) {
    return Where(absl::DeadlineExceededError(absl::StrCat(
        name().topic, "-", partition_, ": Trim(", new_start,
        ") waited for another process that removes or compacts files, and may be stopped; ",
        context_->owners->DescribeHolders(), " have the directory open")));
  }
  return MoveStart(new_start, GapReason::kTrim);
}

// Rule 24: the slot is on the disk before the word in the control page moves, and that
// before any file goes. After a power cut the start is never lower than what was told.
absl::Status Log::MoveStart(Offset new_start, GapReason reason) {
  CORDWOOD_RETURN_IF_ERROR(CheckState());  // of a deleted topic nothing is written any more
  ControlBlock& b = block();
  if (new_start <= start_offset()) return absl::OkStatus();
  CORDWOOD_RETURN_IF_ERROR(context_->WithReserve([&] {
    return UpdateStartFile(files_, [&](Start& start) {
      start.offset = new_start;
      start.reason = reason;
    });
  }));
  context_->counts().removed_by(reason).records.Add(
      static_cast<std::uint64_t>(new_start - start_offset()));
  b.start_reason.store(static_cast<std::uint32_t>(reason), std::memory_order_relaxed);
  // Release: pairs with the acquire in start_offset().
  b.start.store(new_start, std::memory_order_release);
  return RemoveBelowStart();
}

absl::Status Log::RemoveBelowStart() {
  CORDWOOD_RETURN_IF_ERROR(CheckState());  // the files of a deleted topic may be another's
  const TailView tail = ReadTail(block());
  const Offset start = start_offset();
  absl::MutexLock lock(&mutex_);
  CORDWOOD_RETURN_IF_ERROR(ListSegments(tail));
  // Oldest first, so that what is left is always one piece. The newest stays.
  for (auto it = sealed_.begin(); it != sealed_.end(); ++it) {
    const Offset next = std::next(it) != sealed_.end() ? std::next(it)->base : tail.base;
    if (next > start) break;
    // The next may be the leftover of a roll that was cut off, and lie inside this one. Of a
    // damaged one nothing can be read.
    if ((it->known || OpenSealed(*it).ok()) && it->next > start) break;
    std::erase_if(unsynced_, [&](const auto& held) { return held->base() == it->base; });
    RemoveSegmentFiles(segment::SegmentFileName(it->base, ""));
    listed_ = false;
    RemovedCounters& removed = context_->counts().removed_by(start_reason());
    removed.segments.Add();
    if (it->known) removed.bytes.Add(it->end_position);
  }
  return absl::OkStatus();
}

absl::StatusOr<Offset> Log::OffsetForTime(std::int64_t time_ns) {
  CORDWOOD_RETURN_IF_ERROR(context_->live->Check());
  Offset from = start_offset();
  for (;;) {
    const TailView tail = ReadTail(block());
    if (from >= tail.end()) return tail.end();
    const absl::StatusOr<Located> found = Locate(from);
    if (const Offset start = start_offset(); !found.ok() && from < start) {
      from = start;  // it has moved past us
      continue;
    }
    CORDWOOD_RETURN_IF_ERROR(found.status());
    const Located& located = *found;
    if (located.segment == nullptr) {
      from = located.gap_to;
      continue;
    }
    // A sealed segment says the largest timestamp in it: most need not be looked into.
    bool worth_it = true;
    if (!located.active) {
      const auto seal = located.segment->ReadSeal();
      worth_it = !seal || seal->largest_timestamp >= time_ns;
    }
    if (worth_it) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::optional<Offset> at, FindTimeIn(located, time_ns, from));
      if (at) return *at;
    }
    if (located.active) return located.next;
    from = std::max(located.next, from + 1);
  }
}

absl::StatusOr<std::optional<Offset>> Log::FindTimeIn(const Located& located, std::int64_t time_ns,
                                                      Offset from) {
  const segment::Segment& segment = *located.segment;
  Offset at = from;
  segment::CheckedFrame frame;
  if (const segment::Index* index = segment.index(); index != nullptr) {
    // Before the last entry whose timestamps are all earlier there is nothing to find.
    if (const auto i = index->LastBeforeTime(time_ns, index->Count())) {
      const auto entry = index->At(*i);
      // The frame says its own offset: that of an index that is not sealed may be damaged.
      if (entry && entry->position < located.limit &&
          segment::CheckFrame(segment.key(), segment.data(), entry->position, located.limit, false,
                              frame) == segment::FrameState::kValid) {
        at = std::max(at, frame.header.offset);
      }
    }
  }
  Cursor cursor(shared_from_this(), at);
  cursor.set_end(located.next);
  for (;;) {
    switch (cursor.Next(frame)) {
      case Cursor::Step::kRecord:
        if (frame.header.timestamp_ns >= time_ns) return frame.header.offset;
        break;
      case Cursor::Step::kGap:
        break;  // who reads there is told
      case Cursor::Step::kEnd:
        return std::nullopt;
      case Cursor::Step::kError:
        return cursor.status();
    }
  }
}

}  // namespace cordwood::log
