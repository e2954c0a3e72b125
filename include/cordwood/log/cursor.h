// A Cursor walks a Log forward, frame by frame, over rolls and gaps.
//
//   Cursor cursor(log, from);
//   segment::CheckedFrame frame;
//   for (;;) {
//     switch (cursor.Next(frame)) {
//       case Cursor::Step::kRecord: Use(cursor.View(frame)); break;
//       case Cursor::Step::kEnd:    return;            // nothing more now; ask again later
//       case Cursor::Step::kGap:    Report(cursor.gap()); break;
//       case Cursor::Step::kError:  return cursor.status();
//     }
//   }
//
// Offsets that a compaction has left out are passed over without a word. But a reader that
// began in the middle, or is overtaken, may miss a tombstone; with tell_tombstones it gets
// one gap up to the tombstone horizon, from a position that stays: the records that are
// left in that range follow (rule 41).
//
// Views point into segment(), which must be held as long as they are used; it changes
// only in a call of Next that does not return kRecord from the same segment.
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_LOG_CURSOR_H_
#define CORDWOOD_LOG_CURSOR_H_

#include <limits>
#include <memory>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/status/status.h"
#include "cordwood/log/log.h"
#include "cordwood/record.h"
#include "cordwood/segment/frame.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

class Cursor {
 public:
  enum class Step { kRecord, kEnd, kGap, kError };

  explicit Cursor(std::shared_ptr<Log> log, Offset from = 0, bool verify_checksums = true)
      : log_(std::move(log)), next_(from), verify_(verify_checksums) {}

  // Goes on at `offset`. Whether there is something shows in the next call of Next.
  void Seek(Offset offset);
  // The same for a reader that has read what was below `offset`, and knows keys from there: the
  // start of the log, if that is where it is by now, is no beginning for it.
  void SeekOn(Offset offset);
  // Goes on where it is, in another open of its log.
  void GoOnIn(std::shared_ptr<Log> log);
  // For a reader that keeps what it has read, and goes forward.
  void set_tell_tombstones(bool tell) { tell_tombstones_ = tell; }
  // No record at or above this offset is handed out.
  void set_end(Offset end) { end_ = end; }

  Step Next(segment::CheckedFrame& frame) {
    if (ABSL_PREDICT_TRUE(position_ < limit_ && next_ < end_)) {
      const segment::FrameState state =
          segment::CheckFrame(key_, data_, position_, limit_, verify_, frame);
      if (ABSL_PREDICT_TRUE(state == segment::FrameState::kValid && frame.header.offset >= next_ &&
                            frame.header.offset < end_)) {
        position_ += frame.frame_bytes;
        next_ = frame.header.offset + 1;
        return Step::kRecord;
      }
      return NextSlow(state, frame);
    }
    return NextSlow(segment::FrameState::kValid, frame);
  }

  RecordView View(const segment::CheckedFrame& frame) const {
    return segment::ViewOf(frame, where_);
  }

  // What the last Next went over without a record: [from, to). Of kTombstones: where deletions
  // are missing; next_offset() is still `from`.
  const Gap& gap() const { return gap_; }
  const absl::Status& status() const { return status_; }
  // Where the next record is looked for.
  Offset next_offset() const { return next_; }
  const std::shared_ptr<segment::Segment>& segment() const { return segment_; }
  const std::shared_ptr<Log>& log() const { return log_; }

 private:
  Step NextSlow(segment::FrameState state, segment::CheckedFrame& frame);
  // Sets segment, position and limit for next_; kRecord means: look again.
  Step Enter();
  // Looks whether the segment has grown, or what comes after it; kRecord: look again.
  Step Advance();
  Step GoOnPastDamage(segment::FrameState state, const segment::CheckedFrame& frame);
  Step GapTo(Offset to, GapReason reason);
  bool IsToldOfTombstones();
  Step Fail(absl::Status status);

  std::shared_ptr<Log> log_;
  std::shared_ptr<segment::Segment> segment_;
  segment::SegmentKey key_ = {};
  const std::byte* data_ = nullptr;
  const cordwood::internal::PartitionName* where_ = nullptr;
  std::uint64_t position_ = 0;
  std::uint64_t limit_ = 0;  // published frames end here, as far as is known
  Offset next_;
  Offset end_ = std::numeric_limits<Offset>::max();
  bool verify_;
  bool active_ = false;
  std::uint64_t tail_salt_ = 0;  // of the tail by which segment_ is the active one
  bool tell_tombstones_ = false;
  bool begun_ = false;               // since the last Seek
  Offset tombstones_known_ = 0;      // the horizon where it began at the start of the log
  Offset tombstones_told_ = 0;       // the horizon that it was last told of
  Offset tombstones_told_from_ = 0;  // and where it was then
  Gap gap_ = {};
  absl::Status status_;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_CURSOR_H_
