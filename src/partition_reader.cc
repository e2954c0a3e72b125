// Reading a partition from one offset to the end that it has now, or back to its start.

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/log/cursor.h"
#include "cordwood/partition.h"
#include "cordwood/segment/frame.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood {
namespace internal {

using log::Cursor;

class PartitionReaderState : public ViewSource<RecordView> {
 public:
  virtual ~PartitionReaderState() = default;

  // Begins anew.
  virtual void Restart() = 0;
  const absl::Status& status() const { return status_; }
  std::span<const Gap> gaps() const { return gaps_; }

 protected:
  explicit PartitionReaderState(std::shared_ptr<log::Log> log) : log_(std::move(log)) {}

  const std::shared_ptr<log::Log> log_;
  absl::Status status_;
  std::vector<Gap> gaps_;
};

namespace {

// Checks some records at a time, so that a step from one to the next is a step in memory. A
// run ends before a gap or an error, which so are not there before the reader gets to them.
class ForwardReader final : public PartitionReaderState {
 public:
  ForwardReader(std::shared_ptr<log::Log> log, Offset from, Offset end)
      : PartitionReaderState(std::move(log)), from_(from), end_(end), cursor_(NewCursor()) {}

  void Restart() override {
    cursor_ = NewCursor();  // which has told nobody anything
    pending_ = Cursor::Step::kRecord;
    gaps_.clear();
    status_ = absl::OkStatus();
  }

  Run NextRun() override {
    for (;;) {
      const Cursor::Step met = std::exchange(pending_, Cursor::Step::kRecord);
      if (met == Cursor::Step::kGap) gaps_.push_back(cursor_.gap());
      if (met == Cursor::Step::kError) status_ = cursor_.status();
      if (met == Cursor::Step::kEnd || met == Cursor::Step::kError) {
        pending_ = Cursor::Step::kEnd;
        return {};
      }
      const std::size_t count = Fill();
      if (count != 0) return {run_.data(), run_.data() + count};
    }
  }

 private:
  std::size_t Fill() {
    // The run's views point into this one, and into the cursor's, which may be the next.
    segment_ = cursor_.segment();
    segment::CheckedFrame frame;
    std::size_t count = 0;
    while (count < run_.size()) {
      const Cursor::Step step = cursor_.Next(frame);
      if (step != Cursor::Step::kRecord) {
        pending_ = step;
        break;
      }
      run_[count++] = cursor_.View(frame);
      if (cursor_.segment() != segment_) break;
    }
    return count;
  }

  Cursor NewCursor() const {
    Cursor cursor(log_, from_);
    cursor.set_end(end_);
    cursor.set_tell_tombstones(true);
    return cursor;
  }

  const Offset from_;
  const Offset end_;
  Cursor cursor_;
  // What the cursor met after the run; kRecord: nothing.
  Cursor::Step pending_ = Cursor::Step::kRecord;
  std::shared_ptr<segment::Segment> segment_;
  std::array<RecordView, 32> run_ = {};
};

// Frames can only be walked forward: so block by block, from a frame that the index names,
// and the records of each block in reverse.
class BackwardReader final : public PartitionReaderState {
 public:
  BackwardReader(std::shared_ptr<log::Log> log, Offset from, Offset start)
      : PartitionReaderState(std::move(log)),
        from_(from),
        start_(start),
        next_(from),
        cursor_(log_) {}

  void Restart() override {
    next_ = from_;
    gaps_.clear();
    status_ = absl::OkStatus();
  }

  Run NextRun() override {
    block_.clear();
    while (block_.empty() && status_.ok() && next_ > start_) {
      const Offset start = log_->start_offset();
      if (next_ <= start) {  // trimmed, or retained away, while we were reading
        AddGap(start_, log_->start_reason());
        break;
      }
      const absl::StatusOr<log::Located> place = log_->Locate(next_ - 1);
      if (!place.ok()) {
        if (next_ - 1 < log_->start_offset()) continue;
        status_ = place.status();
      } else if (place->segment == nullptr) {
        AddGap(std::max(StartOfHole(next_ - 1, start, place->gap_to), start_), place->reason);
      } else {
        ReadBlock(std::max(StartOfBlock(*place, next_ - 1), std::max(start, start_)));
        block_records_ =
            block_.empty() ? std::min(2 * block_records_, kBlockRecordsLimit) : kBlockRecordsMax;
      }
    }
    if (block_.empty()) return {};
    std::reverse(block_.begin(), block_.end());
    return {block_.data(), block_.data() + block_.size()};
  }

 private:
  static constexpr Offset kBlockRecordsMax = 16'384;  // where there is no index
  static constexpr Offset kBlockRecordsLimit = Offset{1} << 40;
  static constexpr std::size_t kBlockEntries = 8;  // of the index, in one block

  // [from, next_) holds no record; next_ moves.
  void AddGap(Offset from, GapReason reason) {
    if (!gaps_.empty() && gaps_.back().from == next_ && gaps_.back().reason == reason) {
      gaps_.back().from = from;
    } else {
      gaps_.push_back({.topic = log_->name().topic,
                       .partition = log_->partition(),
                       .from = from,
                       .to = next_,
                       .reason = reason});
    }
    next_ = from;
  }

  // The lowest offset in the hole that ends at gap_to and that `inside` is in. A hole is met
  // after a power cut only; so by halving, without asking how the log finds its segments.
  Offset StartOfHole(Offset inside, Offset start, Offset gap_to) const {
    Offset low = start;
    Offset high = inside;
    while (low < high) {
      const Offset middle = low + (high - low) / 2;
      const absl::StatusOr<log::Located> place = log_->Locate(middle);
      if (place.ok() && place->segment == nullptr && place->gap_to == gap_to) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return high;
  }

  Offset StartOfBlock(const log::Located& place, Offset last) const {
    const Offset base = place.segment->base();
    const Offset lowest = std::max(base, last - (block_records_ - 1));
    const segment::Index* index = place.segment->index();
    if (index == nullptr) return lowest;
    const auto i =
        index->LastAtOrBeforeOffset(static_cast<std::uint32_t>(last - base), index->Count());
    if (!i) return lowest;
    const auto entry = index->At(*i - std::min(*i, kBlockEntries - 1));
    if (!entry || base + Offset{entry->offset_delta} > last) return lowest;
    return std::max(lowest, base + Offset{entry->offset_delta});
  }

  // Reads [from, next_) into block_, or its end, above the last gap in it; next_ moves.
  void ReadBlock(Offset from) {
    cursor_.Seek(from);
    cursor_.set_end(next_);
    std::vector<Gap> gaps_above;  // above the last record so far
    segment::CheckedFrame frame;
    for (;;) {
      switch (cursor_.Next(frame)) {
        case Cursor::Step::kRecord:
          if (!gaps_above.empty()) {
            // What is below a gap is for the next block, which begins with the gap.
            from = gaps_above.back().to;
            gaps_above.clear();
            block_.clear();
          }
          if (block_.size() == 2 * std::size_t{kBlockRecordsMax}) {
            // A long block after all is not one of damage: its lower half is for the next.
            block_.erase(block_.begin(), block_.begin() + kBlockRecordsMax);
            from = block_.front().offset();
          }
          block_.push_back(cursor_.View(frame));
          continue;
        case Cursor::Step::kGap:
          gaps_above.push_back(cursor_.gap());
          continue;
        case Cursor::Step::kError:
          // Records above it cannot be had, so those below it are not handed out.
          block_.clear();
          status_ = cursor_.status();
          return;
        case Cursor::Step::kEnd:
          break;
      }
      break;
    }
    for (auto gap = gaps_above.rbegin(); gap != gaps_above.rend(); ++gap) {
      AddGap(std::max(gap->from, from), gap->reason);
    }
    next_ = from;
  }

  const Offset from_;
  const Offset start_;  // as it was when the reading began
  Offset next_;         // everything from here on has been handed out
  Cursor cursor_;
  // Twice as many after a block without a record: a damaged tail may speak of billions.
  Offset block_records_ = kBlockRecordsMax;
  std::vector<RecordView> block_;
};

}  // namespace
}  // namespace internal

PartitionReader::PartitionReader(std::unique_ptr<internal::PartitionReaderState> state)
    : state_(std::move(state)) {}
PartitionReader::PartitionReader(PartitionReader&&) noexcept = default;
PartitionReader& PartitionReader::operator=(PartitionReader&&) noexcept = default;
PartitionReader::~PartitionReader() = default;

PartitionReader::iterator PartitionReader::begin() {
  if (state_ == nullptr) return iterator();
  state_->Restart();
  const auto run = state_->NextRun();
  return iterator(run.begin, run.end, state_.get());
}

absl::Status PartitionReader::status() const {
  if (state_ != nullptr) return state_->status();
  return absl::FailedPreconditionError("this PartitionReader was moved from");
}

std::span<const Gap> PartitionReader::gaps() const {
  return state_ == nullptr ? std::span<const Gap>() : state_->gaps();
}

// ---- Partition

absl::Status Partition::status() const {
  if (log_ != nullptr) return log_->status();
  if (why_not_ != nullptr) return *why_not_;
  return absl::FailedPreconditionError("this Partition was made by default or moved from");
}

absl::StatusOr<PartitionReader> Partition::Read(Offset from, Direction direction) const {
  if (!CanBeRead()) return status();
  const Offset start = log_->start_offset();
  const Offset end = log_->end_offset();
  if (from < start || from > end) {
    return internal::At(
        absl::OutOfRangeError(absl::StrCat(log_->name().topic, "-", log_->partition(), ": offset ",
                                           from, " is not in [", start, ", ", end, "]")),
        log_->name(), from);
  }
  if (direction == Direction::kForward) {
    return PartitionReader(std::make_unique<internal::ForwardReader>(log_, from, end));
  }
  return PartitionReader(std::make_unique<internal::BackwardReader>(log_, from, start));
}

absl::StatusOr<Offset> Partition::OffsetForTime(absl::Time time) const {
  if (!CanBeRead()) return status();
  return log_->OffsetForTime(internal::TimeToNanos(time));
}

}  // namespace cordwood
