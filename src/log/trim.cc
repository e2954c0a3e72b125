// The start of the log, and finding an offset by time.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "cordwood/log/cursor.h"
#include "cordwood/log/log.h"
#include "cordwood/log/start_file.h"
#include "cordwood/status_macros.h"
#include "log/turn.h"

namespace cordwood::log {

// Rule 24: the slot is on the disk before the word in the control page moves, and that
// before any file goes. After a power cut the start is never lower than what was told.
absl::Status Log::Trim(Offset new_start) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  {
    Turn turn(*this);
    CORDWOOD_RETURN_IF_ERROR(turn.Take(absl::Seconds(60)));
    ControlBlock& b = block();
    const Offset end = ReadTail(b).end();
    if (new_start < 0 || new_start > end) {
      return Where(
          absl::OutOfRangeError(absl::StrCat(name().topic, "-", partition_, ": Trim(", new_start,
                                             ") is not in [", start_offset(), ", ", end, "]")),
          new_start);
    }
    if (new_start <= start_offset()) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(WriteStartFile(files_, {new_start, GapReason::kTrim}));
    b.start_reason.store(static_cast<std::uint32_t>(GapReason::kTrim), std::memory_order_relaxed);
    // Release: pairs with the acquire in start_offset().
    b.start.store(new_start, std::memory_order_release);
  }
  return RemoveBelowStart();
}

absl::Status Log::RemoveBelowStart() {
  const TailView tail = ReadTail(block());
  const Offset start = start_offset();
  absl::MutexLock lock(&mutex_);
  CORDWOOD_RETURN_IF_ERROR(ListSegments(tail));
  // Oldest first, so that what is left is always one piece. The newest stays.
  for (auto it = sealed_.begin(); it != sealed_.end(); ++it) {
    const Offset next = std::next(it) != sealed_.end() ? std::next(it)->base : tail.base;
    if (next > start) break;
    std::erase_if(unsynced_, [&](const auto& held) { return held->base() == it->base; });
    RemoveSegmentFiles(segment::SegmentFileName(it->base, ""));
    listed_ = false;
  }
  return absl::OkStatus();
}

absl::StatusOr<Offset> Log::OffsetForTime(std::int64_t time_ns) {
  CORDWOOD_RETURN_IF_ERROR(context_->live->Check());
  Offset from = start_offset();
  for (;;) {
    const TailView tail = ReadTail(block());
    if (from >= tail.end()) return tail.end();
    CORDWOOD_ASSIGN_OR_RETURN(const Located located, Locate(from));
    if (located.segment == nullptr) {
      from = located.gap_to;
      continue;
    }
    // A sealed segment says the largest timestamp in it: most need not be looked into.
    Offset next = tail.end();
    bool worth_it = true;
    if (!located.active) {
      const auto seal = located.segment->ReadSeal();
      next = seal ? seal->next : next;
      worth_it = !seal || seal->largest_timestamp >= time_ns;
    }
    if (worth_it) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::optional<Offset> found,
                                FindTimeIn(*located.segment, located.limit, time_ns, from));
      if (found) return *found;
    }
    if (located.active) return next;
    from = std::max(next, from + 1);
  }
}

absl::StatusOr<std::optional<Offset>> Log::FindTimeIn(segment::Segment& segment,
                                                      std::uint64_t limit, std::int64_t time_ns,
                                                      Offset from) {
  Offset at = from;
  if (const segment::Index* index = segment.index(); index != nullptr) {
    // Before the last entry whose timestamps are all earlier there is nothing to find.
    if (const auto i = index->LastBeforeTime(time_ns, index->Count())) {
      const auto entry = index->At(*i);
      if (entry && entry->position < limit) at = std::max(at, segment.base() + entry->offset_delta);
    }
  }
  const TailView tail = ReadTail(block());
  const auto seal = segment.ReadSeal();
  const Offset end = segment.salt_tag() == tail.salt ? tail.end() : seal ? seal->next : tail.end();
  Cursor cursor(shared_from_this(), at);
  cursor.set_end(end);
  segment::CheckedFrame frame;
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
