#include "cordwood/log/cursor.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

namespace cordwood::log {

using segment::CheckedFrame;
using segment::FrameState;

void Cursor::Seek(Offset offset) {
  if (offset < tombstones_told_from_) tombstones_told_ = 0;  // what is before that it was not told
  next_ = offset;
  position_ = 0;
  limit_ = 0;
  segment_.reset();
  status_ = absl::OkStatus();
  begun_ = false;
}

void Cursor::SeekOn(Offset offset) {
  Seek(offset);
  tombstones_known_ = 0;
  begun_ = offset > 0;  // before the first record there was none to know of
}

void Cursor::GoOnIn(std::shared_ptr<Log> log) {
  log_ = std::move(log);
  position_ = 0;
  limit_ = 0;
  segment_.reset();
  status_ = absl::OkStatus();
}

Cursor::Step Cursor::Fail(absl::Status status) {
  status_ = std::move(status);
  return Step::kError;
}

Cursor::Step Cursor::GapTo(Offset to, GapReason reason) {
  gap_ = {.topic = log_->name().topic,
          .partition = log_->partition(),
          .from = next_,
          .to = to,
          .reason = reason};
  next_ = to;
  return Step::kGap;
}

Cursor::Step Cursor::NextSlow(FrameState state, CheckedFrame& frame) {
  // The fast path's finding first, if it looked at a frame at all.
  bool looked = position_ < limit_ && next_ < end_;
  for (;;) {
    if (!looked) {
      if (next_ >= end_) return Step::kEnd;
      if (const Offset start = log_->start_offset(); next_ < start) {
        const GapReason reason = log_->start_reason();
        const Step step = GapTo(std::min(start, end_), reason);
        segment_.reset();
        limit_ = position_ = 0;
        // It has read before: what it missed may have been a tombstone, too.
        begun_ = true;
        return step;
      }
      const Step step = segment_ == nullptr ? Enter() : Advance();
      if (step != Step::kRecord) return step;
      if (position_ >= limit_) continue;
      state = segment::CheckFrame(key_, data_, position_, limit_, verify_, frame);
    }
    looked = false;
    if (state != FrameState::kValid || frame.header.offset < next_) {
      const Step step = GoOnPastDamage(state, frame);
      if (step != Step::kRecord) return step;
      // Here, not by Advance(), which would leave a sealed segment and enter it where it began.
      state = segment::CheckFrame(key_, data_, position_, limit_, verify_, frame);
      looked = true;
      continue;
    }
    if (frame.header.offset >= end_) return Step::kEnd;
    position_ += frame.frame_bytes;
    next_ = frame.header.offset + 1;
    return Step::kRecord;
  }
}

// Rule 41, after a segment was found: whether the gap is to be reported first.
bool Cursor::IsToldOfTombstones() {
  // If it is a file without a tombstone that was found, its horizon is seen here.
  const Offset horizon = log_->TombstoneHorizon();
  if (horizon <= std::max(tombstones_known_, tombstones_told_) || next_ >= horizon) return false;
  tombstones_told_ = horizon;
  tombstones_told_from_ = next_;
  gap_ = {.topic = log_->name().topic,
          .partition = log_->partition(),
          .from = next_,
          .to = std::min(horizon, end_),
          .reason = GapReason::kTombstones};
  return true;
}

Cursor::Step Cursor::Enter() {
  if (tell_tombstones_ && !begun_) {
    // Before the segment is found: what is removed from now on is removed behind its back.
    const Offset horizon = log_->TombstoneHorizon();
    tombstones_known_ = next_ == log_->start_offset() ? horizon : 0;
    begun_ = true;
  }
  absl::StatusOr<Located> located = log_->Locate(next_);
  if (!located.ok()) {
    // The start may have moved past us since we looked; then it is a gap.
    if (next_ < log_->start_offset()) return Step::kRecord;
    return Fail(located.status());
  }
  if (located->segment == nullptr) {
    return GapTo(std::min(located->gap_to, end_), located->reason);
  }
  if (tell_tombstones_ && IsToldOfTombstones()) return Step::kGap;
  segment_ = std::move(located->segment);
  active_ = located->active;
  tail_salt_ = located->tail_salt;
  key_ = segment_->key();
  data_ = segment_->data();
  where_ = segment_->name();
  limit_ = located->limit;
  position_ = segment::kFirstFrame;
  if (next_ <= segment_->base()) return Step::kRecord;
  // The index is a hint: what it names must be a frame at or before the offset.
  CheckedFrame frame;
  if (const segment::Index* index = segment_->index(); index != nullptr) {
    const auto delta = static_cast<std::uint32_t>(next_ - segment_->base());
    if (const auto i = index->LastAtOrBeforeOffset(delta, index->Count())) {
      const auto entry = index->At(*i);
      if (entry && entry->position < limit_ &&
          segment::CheckFrame(key_, data_, entry->position, limit_, false, frame) ==
              FrameState::kValid &&
          frame.header.offset <= next_) {
        position_ = entry->position;
      }
    }
  }
  // To the frame itself, over headers that hold; damage on the way is somebody else's.
  while (position_ < limit_) {
    const FrameState state = segment::CheckFrame(key_, data_, position_, limit_, false, frame);
    if (state != FrameState::kValid && state != FrameState::kBadBody) break;
    if (frame.header.offset >= next_) break;
    position_ += frame.frame_bytes;
  }
  return Step::kRecord;
}

Cursor::Step Cursor::Advance() {
  if (active_) {
    const TailView tail = ReadTail(log_->block());
    if (tail.salt == tail_salt_) {
      if (tail.position <= position_) {
        // A log that was found to end in what a compaction wrote may end in a hole.
        if (segment_->is_compacted()) next_ = std::min(tail.end(), end_);
        return Step::kEnd;
      }
      if (tail.position > segment_->file_bytes()) segment_->RefreshSize().IgnoreError();
      if (tail.position > segment_->file_bytes()) {
        // Rolled and removed since our look at the tail.
        if (ReadTail(log_->block()).salt != tail.salt) return Step::kRecord;
        return Fail(cordwood::internal::At(
            absl::DataLossError(absl::StrCat(segment_->path(), ": ends at ", segment_->file_bytes(),
                                             ", its records at ", tail.position)),
            log_->name(), next_));
      }
      limit_ = tail.position;
      return Step::kRecord;
    }
    active_ = false;
    // It was sealed before the tail left it.
    if (const auto seal = segment_->ReadSeal()) {
      if (seal->end_position > segment_->file_bytes()) segment_->RefreshSize().IgnoreError();
      // If a compaction has replaced it since, how far it can be read is not known any more:
      // the rest is in the file that has its name now.
      if (seal->end_position <= segment_->file_bytes()) {
        limit_ = seal->end_position;
        if (position_ < limit_) return Step::kRecord;
      }
    }
  }
  // A segment is left only for the one that holds the next offset, found by offset. Behind the
  // last record of what a compaction wrote there may be a hole, which is no gap.
  const std::shared_ptr<segment::Segment> left = std::move(segment_);
  segment_.reset();
  if (left->is_compacted()) {
    const std::optional<segment::SegmentEnd> end = left->End();
    if (end && position_ == end->position) next_ = std::max(next_, std::min(end->next, end_));
  }
  position_ = limit_ = 0;
  if (next_ >= end_) return Step::kEnd;
  const Step step = Enter();
  if (step == Step::kRecord && segment_ == left && position_ >= limit_ && !active_) {
    return Fail(cordwood::internal::At(
        absl::DataLossError(
            absl::StrCat(left->path(), ": says it holds offset ", next_, ", and does not")),
        log_->name(), next_));
  }
  return step;
}

// A damaged byte costs the record that it hit, not the log after it (rule 11). kRecord: the next
// one is at position_; what is damaged lies before it, on the way from an index entry.
Cursor::Step Cursor::GoOnPastDamage(FrameState state, const CheckedFrame& frame) {
  if (state == FrameState::kBadBody && frame.header.offset >= next_ &&
      frame.header.offset < segment_->offset_limit()) {
    position_ += frame.frame_bytes;
    return GapTo(frame.header.offset + 1, GapReason::kDamage);
  }
  // No length to go by: the next multiple of 8 at which a whole frame lies that is not one of
  // before. Never a search for magic bytes: what counts is the checksum, and the
  // salt and position in it, so that a frame inside a value is none.
  CheckedFrame candidate;
  for (std::uint64_t at = position_ + 8; at < limit_; at += 8) {
    if (segment::CheckFrame(key_, data_, at, limit_, true, candidate) == FrameState::kValid &&
        candidate.header.offset >= next_) {
      position_ = at;
      if (candidate.header.offset == next_) return Step::kRecord;
      return GapTo(std::min(candidate.header.offset, end_), GapReason::kDamage);
    }
  }
  position_ = limit_;
  Offset to = next_ + 1;
  const TailView tail = ReadTail(log_->block());
  if (active_ && tail.salt == tail_salt_) {
    to = tail.end();
  } else if (const auto seal = segment_->ReadSeal()) {
    to = std::max(to, seal->next);
  }
  if (to <= next_) return Step::kEnd;  // a damaged record has said that it is further on
  return GapTo(std::min(to, end_), GapReason::kDamage);
}

}  // namespace cordwood::log
