#include "cordwood/log/cursor.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace cordwood::log {

using segment::CheckedFrame;
using segment::FrameState;

void Cursor::Seek(Offset offset) {
  next_ = offset;
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
        return step;
      }
      const Step step = segment_ == nullptr ? Enter() : Advance();
      if (step != Step::kRecord) return step;
      if (position_ >= limit_) continue;
      state = segment::CheckFrame(key_, data_, position_, limit_, verify_, frame);
    }
    looked = false;
    if (state != FrameState::kValid || frame.header.offset < next_) {
      return GoOnPastDamage(state, frame);
    }
    if (frame.header.offset >= end_) return Step::kEnd;
    position_ += frame.frame_bytes;
    next_ = frame.header.offset + 1;
    return Step::kRecord;
  }
}

Cursor::Step Cursor::Enter() {
  absl::StatusOr<Located> located = log_->Locate(next_);
  if (!located.ok()) {
    // The start may have moved past us since we looked; then it is a gap.
    if (next_ < log_->start_offset()) return Step::kRecord;
    return Fail(located.status());
  }
  if (located->segment == nullptr) {
    return GapTo(std::min(located->gap_to, end_), located->reason);
  }
  segment_ = std::move(located->segment);
  active_ = located->active;
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
    if (tail.salt == segment_->salt_tag()) {
      if (tail.position <= position_) return Step::kEnd;
      if (tail.position > segment_->file_bytes()) segment_->RefreshSize().IgnoreError();
      if (tail.position > segment_->file_bytes()) {
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
      limit_ = std::min(seal->end_position, segment_->file_bytes());
      if (position_ < limit_) return Step::kRecord;
    }
  }
  // A segment is left only for the one that holds the next offset, found by offset.
  const std::shared_ptr<segment::Segment> left = std::move(segment_);
  segment_.reset();
  position_ = limit_ = 0;
  const Step step = Enter();
  if (step == Step::kRecord && segment_ == left && position_ >= limit_ && !active_) {
    return Fail(cordwood::internal::At(
        absl::DataLossError(
            absl::StrCat(left->path(), ": says it holds offset ", next_, ", and does not")),
        log_->name(), next_));
  }
  return step;
}

// A damaged byte costs the record that it hit, not the log after it (rule 11).
Cursor::Step Cursor::GoOnPastDamage(FrameState state, const CheckedFrame& frame) {
  if (state == FrameState::kBadBody && frame.header.offset >= next_) {
    position_ += frame.frame_bytes;
    return GapTo(frame.header.offset + 1, GapReason::kDamage);
  }
  // No length to go by: the next multiple of 8 at which a whole frame with a larger
  // offset lies. Never a search for magic bytes: what counts is the checksum, and the
  // salt and position in it, so that a frame inside a value is none.
  CheckedFrame candidate;
  for (std::uint64_t at = position_ + 8; at < limit_; at += 8) {
    if (segment::CheckFrame(key_, data_, at, limit_, true, candidate) == FrameState::kValid &&
        candidate.header.offset > next_) {
      position_ = at;
      return GapTo(std::min(candidate.header.offset, end_), GapReason::kDamage);
    }
  }
  position_ = limit_;
  Offset to = next_ + 1;
  const TailView tail = ReadTail(log_->block());
  if (tail.salt == segment_->salt_tag()) {
    to = tail.end();
  } else if (const auto seal = segment_->ReadSeal()) {
    to = std::max(to, seal->next);
  }
  return GapTo(std::min(to, end_), GapReason::kDamage);
}

}  // namespace cordwood::log
