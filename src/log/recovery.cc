// Long because where a log ends is one decision over all its segments, and what is kept and dropped
// follows from it.

#include "cordwood/log/recovery.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/log/start_file.h"
#include "cordwood/segment/walk.h"
#include "cordwood/status_macros.h"
#include "log/creation_time.h"
#include "log/write_again.h"

namespace cordwood::log {

using segment::CheckedFrame;
using segment::FrameState;
using segment::Segment;

FrameDecision DecideFrame(FrameState state, Offset expected, Offset durable) {
  if (state == FrameState::kValid) return FrameDecision::kKeep;        // @A
  if (expected >= durable) return FrameDecision::kEnd;                 // @B @C
  if (state == FrameState::kBadBody) return FrameDecision::kGapOfOne;  // @E
  return FrameDecision::kGapToNextGood;                                // @D @F
}

namespace {

struct Found {
  Offset base = 0;
  std::shared_ptr<Segment> segment = {};  // null: its header is damaged
  std::optional<segment::Seal> seal = {};
  std::optional<segment::SegmentEnd> end = {};  // what it says of itself
  bool has_records = false;                     // or stands for some that a compaction has left out

  std::uint64_t limit() const {
    return end ? std::min(end->position, segment->file_bytes()) : segment->file_bytes();
  }
  Offset compacted_next() const {
    return segment == nullptr ? 0 : segment->header().compacted_next;
  }
};

// The good end of a segment, as a log that ends here may have it.
struct GoodEnd {
  std::size_t index = 0;  // into the segments found
  segment::FramesEnd at;
  std::uint64_t dropped_bytes = 0;  // not zero and beyond, in this segment
};

class Recovery {
 public:
  Recovery(const Context& context, const RecoveryInput& input)
      : context_(context), input_(input), files_(input.files) {}

  absl::StatusOr<RecoveredPartition> Run() {
    CORDWOOD_RETURN_IF_ERROR(ReadStart());
    CORDWOOD_RETURN_IF_ERROR(FindSegments());
    if (input_.control && input_.worth_trying && IsBelieved(*input_.control)) {
      CORDWOOD_RETURN_IF_ERROR(Believe());
    } else {
      // A tombstone may be missing anywhere in what a compaction wrote.
      if (start_is_lost_) start_.tombstone_horizon = HighestCompacted();
      const Offset durable = HighestDurable();
      const GoodEnd end = FindEnd(durable);
      ReportDropped(end, durable);
      CORDWOOD_RETURN_IF_ERROR(input_.read_only ? ShowEnd(end, durable) : BeginAnew(end));
    }
    if (start_is_lost_ && !input_.read_only) CORDWOOD_RETURN_IF_ERROR(WriteStart());
    return std::move(result_);
  }

 private:
  void Report(Offset from, Offset to, std::uint64_t bytes, std::string what) {
    result_.items.push_back({.where = {files_.name->topic, files_.name->partition},
                             .from = from,
                             .to = to,
                             .bytes_dropped = static_cast<std::int64_t>(bytes),
                             .what = std::move(what)});
  }

  absl::Status ReadStart() {
    // Rule 24: it is on the disk before the start is seen, and before a file goes.
    if (!input_.read_only) CORDWOOD_RETURN_IF_ERROR(SyncStartFile(files_, input_.is_repeated));
    absl::StatusOr<Start> start = ReadStartFile(files_);
    if (absl::IsDataLoss(start.status())) {
      Report(0, 0, 0, std::string(start.status().message()));
      start_is_lost_ = true;
      return absl::OkStatus();
    }
    CORDWOOD_RETURN_IF_ERROR(start.status());
    start_ = *start;
    return absl::OkStatus();
  }

  // What is known now, in place of a file of which neither slot is whole: else nothing would be
  // compacted any more, and the next trim would write that no tombstone ever went.
  absl::Status WriteStart() const {
    const Watermarks& now = result_.watermarks;
    return UpdateStartFile(files_, [&](Start& start) {
      start = {.offset = now.start,
               .reason = static_cast<GapReason>(now.start_reason),
               .tombstone_horizon = now.tombstone_horizon,
               .compacted_to = now.compacted_to,
               .has_passed_damage = true};  // perhaps
    });
  }

  absl::Status FindSegments() {
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries,
                              files_.root->List(files_.folder));
    std::vector<Offset> bases;
    for (const os::FolderEntry& entry : entries) {
      if (entry.name.front() == '.' && !entry.is_folder && !input_.read_only) {
        CORDWOOD_RETURN_IF_ERROR(files_.root->Unlink(files_.Path(entry.name)));  // unfinished
      }
      if (const auto base = segment::BaseOfFileName(entry.name)) bases.push_back(*base);
    }
    std::sort(bases.begin(), bases.end());
    if (IsSyncInDoubt() && !input_.worth_trying) CORDWOOD_RETURN_IF_ERROR(MakeDirtyAgain(bases));
    std::vector<std::pair<Offset, std::string>> damaged;
    for (const Offset base : bases) {
      absl::StatusOr<std::shared_ptr<Segment>> opened = Segment::Open(
          files_, base, input_.read_only ? os::Access::kRead : os::Access::kReadWrite);
      Found found = {.base = base};
      if (opened.ok()) {
        found.segment = *std::move(opened);
        found.seal = found.segment->ReadSeal();
        found.end = found.segment->End();
        CheckedFrame frame;
        found.has_records =
            found.segment->is_compacted() ||
            (found.limit() > segment::kFirstFrame &&
             segment::CheckFrameOf(*found.segment, segment::kFirstFrame, found.limit(), false,
                                   frame) == FrameState::kValid);
        found.segment->Forget();
      } else if (!absl::IsDataLoss(opened.status())) {
        return opened.status();
      } else {
        damaged.emplace_back(base, std::string(opened.status().message()));
      }
      segments_.push_back(std::move(found));
    }
    CORDWOOD_RETURN_IF_ERROR(RemoveCovered());
    // What a trim had given up may have come back with the power (rule 24).
    while (IsFirstBelowStart()) {
      CORDWOOD_RETURN_IF_ERROR(Remove(segments_[0].base));
      segments_.erase(segments_.begin());
    }
    for (auto& [base, what] : damaged) {
      if (base >= segments_.front().base) Report(base, base, 0, std::move(what));
    }
    return absl::OkStatus();
  }

  // Where the first segment does not say where it ends, the next one with records says it: what a
  // killed roll has left holds none, and lies inside the first.
  bool IsFirstBelowStart() const {
    if (segments_.size() < 2 || segments_[1].base > start_.offset) return false;
    // The one that the control block goes on in stays, with a fresh one's name behind it or not.
    if (input_.worth_trying && segments_[0].base == input_.control->base) return false;
    if (segments_[0].end) return segments_[0].end->next <= start_.offset;
    const auto next = std::find_if(segments_.begin() + 1, segments_.end(), [](const Found& found) {
      return found.segment == nullptr || found.has_records;
    });
    return next != segments_.end() && next->base <= start_.offset;
  }

  // Rule 14: pages of which a sync has failed are taken for clean, and no later sync writes
  // them. If the control block is believed, the first flush retires their file. Else they are
  // made dirty, before anybody looks at what is in them: all from where the records begin that
  // were not known to be durable, and of every segment the one with the seal.
  bool IsSyncInDoubt() const {
    return !input_.read_only && (input_.is_repeated || input_.sync_standing);
  }

  absl::Status MakeDirtyAgain(const std::vector<Offset>& bases) const {
    constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();
    const Offset durable = input_.control ? input_.control->durable : 0;
    for (std::size_t i = 0; i < bases.size(); ++i) {
      const bool is_durable = i + 1 < bases.size() && bases[i + 1] <= durable;
      CORDWOOD_RETURN_IF_ERROR(WriteAgain(*files_.root,
                                          files_.Path(segment::SegmentFileName(bases[i], ".log")),
                                          is_durable ? segment::kFirstFrame : kAll));
    }
    return absl::OkStatus();
  }

  // Rule 26, before anything else looks at where segments begin: a compaction was cut off before
  // it had removed what it replaced.
  absl::Status RemoveCovered() {
    bool synced = input_.read_only;
    Offset covered_to = 0;
    for (auto found = segments_.begin(); found != segments_.end();) {
      if (found->base >= covered_to) {
        covered_to = found->compacted_next();
        ++found;
        continue;
      }
      // The name of what replaced it may not be on the disk yet.
      if (!std::exchange(synced, true)) {
        CORDWOOD_RETURN_IF_ERROR(files_.root->SyncFolder(files_.folder));
      }
      CORDWOOD_RETURN_IF_ERROR(Remove(found->base));
      found = segments_.erase(found);
    }
    return absl::OkStatus();
  }

  absl::Status Remove(Offset base) {
    if (input_.read_only) return absl::OkStatus();
    for (const char* extension :
         {segment::Index::kOffsetExtension, segment::Index::kTimeExtension, ".log"}) {
      absl::Status status =
          files_.root->Unlink(files_.Path(segment::SegmentFileName(base, extension)));
      if (!status.ok() && !absl::IsNotFound(status)) return status;
    }
    return absl::OkStatus();
  }

  // Rule 20: every record from `durable` to the tail is looked at before the page is
  // believed. A device can be cut and mounted again in one boot, with the same inode. A file with
  // another salt is a retired one's fresh copy (rule 14), if the same records end at the same
  // place.
  bool IsBelieved(const Watermarks& control) const {
    if (control.start > control.end()) return false;
    // A page of before: nothing was ever written above the end. (Below it there may be the copy of
    // a retirement that was cut off.)
    if (std::any_of(segments_.begin(), segments_.end(), [&](const Found& found) {
          return found.base > control.base && found.base >= control.end() && found.has_records;
        })) {
      return false;
    }
    Offset next = -1;
    for (const Found& found : segments_) {
      if (found.base > control.base) break;
      const bool is_active = found.base == control.base;
      if (found.segment == nullptr) return false;
      if (!is_active && (!found.end || found.end->next <= control.durable)) continue;
      if (!is_active && found.base < next) continue;  // the copy of a retirement that was cut off
      const std::uint64_t limit = is_active ? control.position : found.limit();
      if (limit > found.segment->file_bytes()) return false;
      if (next >= 0 && found.base != next && found.base > control.durable) return false;
      CheckedFrame frame;
      std::uint64_t position = segment::kFirstFrame;
      next = found.base;
      while (position < limit) {
        const FrameState state =
            segment::CheckFrameOf(*found.segment, position, limit, true, frame);
        const bool header_holds = state == FrameState::kValid || state == FrameState::kBadBody;
        // Damage of what is durable is no reason to doubt the page: readers report it.
        if (!header_holds || frame.header.offset < next) return false;
        if (state != FrameState::kValid && frame.header.offset >= control.durable) return false;
        next = frame.header.offset + 1;
        position += frame.frame_bytes;
      }
      if (!is_active) found.segment->Forget();
      if (is_active) {
        return next == control.end() && control.durable <= control.end() &&
               !HasMore(*found.segment, control);
      }
    }
    return false;
  }

  // Whether the page is of before the last appends: nobody has died that wrote so much.
  bool HasMore(const Segment& segment, const Watermarks& control) const {
    std::uint64_t position = control.position;
    CheckedFrame frame;
    while (position < segment.file_bytes() &&
           segment::CheckFrameOf(segment, position, segment.file_bytes(), true, frame) ==
               FrameState::kValid) {
      position += frame.frame_bytes;
    }
    return position > std::max(control.position, input_.written_to);
  }

  absl::Status Believe() {
    const Watermarks& control = *input_.control;
    result_.believed = true;
    result_.watermarks = control;
    result_.watermarks.start = std::max(control.start, start_.offset);
    result_.watermarks.tombstone_horizon =
        std::max(control.tombstone_horizon, start_.tombstone_horizon);
    result_.watermarks.compacted_to = std::max(control.compacted_to, start_.compacted_to);
    const bool must_retire = IsSyncInDoubt() && control.durable < control.end();
    result_.watermarks.sync_to = must_retire ? control.end() : 0;
    // Rule 5: what was written and never published would come back after a power cut.
    for (const Found& found : segments_) {
      if (found.base != control.base) continue;
      result_.watermarks.salt = found.segment->salt_tag();
      if (input_.read_only || input_.written_to <= control.position) continue;
      const std::uint64_t to = std::min(input_.written_to, found.segment->file_bytes());
      std::memset(found.segment->data() + control.position, 0, to - control.position);
      CORDWOOD_RETURN_IF_ERROR(found.segment->Sync(control.position, to));
    }
    return absl::OkStatus();
  }

  Offset HighestCompacted() const {
    Offset highest = 0;
    for (const Found& found : segments_) highest = std::max(highest, found.compacted_next());
    return highest;
  }

  // Rule 13. Frames beyond a bad one count here: that they were written at all says
  // what was durable before.
  Offset HighestDurable() const {
    // The page has no checksum. What nobody was given is not durable; if it were taken for that,
    // the last segment would be sealed past the base of the new one, and hide what is appended
    // there.
    const Offset said = input_.control ? std::min(input_.control->durable, NeverGivenOut()) : 0;
    // Only what is durable is compacted, and a file has its name only when it is.
    Offset durable = std::max(said, HighestCompacted());
    for (std::size_t i = FirstInDoubt(); i < segments_.size(); ++i) {
      const Found& found = segments_[i];
      if (found.segment == nullptr) continue;
      CheckedFrame frame;
      for (std::uint64_t position = segment::kFirstFrame; position < found.limit();) {
        const FrameState state =
            segment::CheckFrameOf(*found.segment, position, found.limit(), true, frame);
        if (state != FrameState::kValid) {
          position += 8;
          continue;
        }
        if (frame.header.durable_lag != segment::kDurableLagUnknown) {
          durable = std::max(durable,
                             frame.header.offset - static_cast<Offset>(frame.header.durable_lag));
        }
        position += frame.frame_bytes;
      }
      found.segment->Forget();
    }
    return durable;
  }

  // Segments before this one lie wholly below the control block's `durable`, and say where they
  // end. One that does not is looked through: what comes after it may be a roll's leftover, which
  // has no records to show where they end. One whose header is damaged is not the first: the log
  // may have to end in the one before it.
  std::size_t FirstInDoubt() const {
    std::size_t first = 0;
    for (std::size_t i = 0; input_.control && i < segments_.size(); ++i) {
      if (segments_[i].base > input_.control->durable) break;
      if (segments_[i].segment == nullptr) continue;
      first = i;
      if (!segments_[i].end) break;
    }
    return first;
  }

  // Where the segment `i` can reach at most: where one with records begins that was made
  // after it. One that was made before it and begins inside it has been taken over by it,
  // when a file was retired (rule 14), and is ignored (rule 26).
  Offset Ceiling(std::size_t i) const {
    for (std::size_t j = i + 1; j < segments_.size(); ++j) {
      if (segments_[j].segment == nullptr) return segments_[j].base;
      const bool newer =
          segments_[i].segment == nullptr ||
          segments_[j].segment->header().created_ns >= segments_[i].segment->header().created_ns;
      if (segments_[j].has_records && newer) return segments_[j].base;
    }
    return std::numeric_limits<Offset>::max();
  }

  // Whether a later segment with records goes on at that offset.
  bool GoesOnAt(std::size_t i, Offset next) const {
    for (std::size_t j = i + 1; j < segments_.size(); ++j) {
      if (segments_[j].base == next && segments_[j].has_records) return true;
    }
    return false;
  }

  GoodEnd FindEnd(Offset durable) {
    GoodEnd end;
    Offset reached = 0;
    if (!segments_.empty() && segments_[0].base > start_.offset) {
      Report(start_.offset, segments_[0].base, 0, "the files of these records are missing");
    }
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      const Found& found = segments_[i];
      if (i < FirstInDoubt()) {
        if (found.base < reached) continue;
        reached = found.end ? std::min(found.end->next, Ceiling(i)) : Ceiling(i);
        after_recovered_ = found.seal && found.seal->reason == segment::SealReason::kRecovered;
        continue;
      }
      if (found.segment == nullptr) {
        // Its header is damaged: its records cannot be read. Below `durable` that is
        // damage, and the log goes on behind it; else the log ends before it.
        if (found.base >= durable) break;
        reached = std::min(Ceiling(i), std::max(durable, found.base));
        Report(found.base, reached, 0, "a segment whose header is damaged");
        continue;
      }
      // A roll's leftover, or what a fresh file has taken over, is inside an earlier one.
      if (found.base < reached) continue;
      // Records between two segments that are gone, and were not known to be durable.
      const bool hole = found.base > reached && reached > 0;
      if (hole && !after_recovered_ && reached >= durable && found.has_records) break;
      bool ended = false;
      end = WalkOne(i, durable, ended);
      reached = end.at.next;
      after_recovered_ = found.seal && found.seal->reason == segment::SealReason::kRecovered;
      if (ended && !IsSealedWhole(found, end.at) && !GoesOnAt(i, reached)) break;
    }
    return end;
  }

  static bool IsSealedWhole(const Found& found, const segment::FramesEnd& at) {
    return found.end && at.position == found.end->position;
  }

  GoodEnd WalkOne(std::size_t i, Offset durable, bool& ended) {
    const Found& found = segments_[i];
    const Segment& segment = *found.segment;
    // Beyond its limit no offset was given out in it, whatever a frame says.
    const Offset ceiling = std::min(Ceiling(i), segment.offset_limit());
    const std::uint64_t limit = found.limit();
    segment::FramesEnd at = {.next = found.base};  // behind every frame that is kept
    segment::FramesEnd complete = at;              // behind the last whole batch
    CheckedFrame frame;
    while (at.position < limit && at.next < ceiling) {
      FrameState state = segment::CheckFrameOf(segment, at.position, limit, true, frame);
      if (state == FrameState::kValid && frame.header.offset < at.next) {
        state = FrameState::kBadHeader;
      }
      // A frame whose header holds and is out of place.
      if (state == FrameState::kBadBody &&
          (frame.header.offset < at.next || frame.header.offset >= ceiling)) {
        state = FrameState::kBadHeader;
      }
      if (state == FrameState::kValid && frame.header.offset >= ceiling) break;
      switch (DecideFrame(state, at.next, durable)) {
        case FrameDecision::kKeep:
          Take(frame, at);
          if (frame.header.batch_remaining == 0 || at.next <= durable) complete = at;
          continue;
        case FrameDecision::kEnd:
          ended = true;
          break;
        case FrameDecision::kGapOfOne:
          Report(frame.header.offset, frame.header.offset + 1, frame.frame_bytes,
                 absl::StrCat(segment.path(), ", position ", at.position,
                              ": a damaged record; kept in the file"));
          Take(frame, at);
          complete = at;
          continue;
        case FrameDecision::kGapToNextGood: {
          const segment::FramesEnd next = NextGood(found, at, limit, durable, ceiling);
          Report(at.next, next.next, next.position - at.position,
                 absl::StrCat(segment.path(), ", position ", at.position,
                              ": damaged bytes; kept in the file"));
          at = next;
          complete = at;
          continue;
        }
      }
      break;
    }
    if (segment.is_compacted() && found.end && at.position == found.end->position) {
      at.next = std::max(at.next, found.end->next);
      complete = at;
    }
    // The end of a batch that is not whole is no end (rule 6), unless more follows: then
    // the batch was whole when that was written.
    GoodEnd end = {.index = i, .at = complete};
    if (at.next != complete.next) ended = true;
    end.dropped_bytes = segment::LookAtRest(segment, complete.position).bytes;
    segment.Forget();
    return end;
  }

  static void Take(const CheckedFrame& frame, segment::FramesEnd& at) {
    at.position += frame.frame_bytes;
    at.next = frame.header.offset + 1;
    at.largest_timestamp = std::max(at.largest_timestamp, frame.header.timestamp_ns);
  }

  // The next whole frame behind damage; without one, the segment's end.
  segment::FramesEnd NextGood(const Found& found, segment::FramesEnd from, std::uint64_t limit,
                              Offset durable, Offset ceiling) const {
    CheckedFrame frame;
    for (std::uint64_t at = from.position + 8; at < limit; at += 8) {
      if (segment::CheckFrameOf(*found.segment, at, limit, true, frame) == FrameState::kValid &&
          frame.header.offset > from.next && frame.header.offset < ceiling) {
        from.position = at;
        from.next = frame.header.offset;
        return from;
      }
    }
    from.position = limit;
    from.next = std::max(from.next, found.end ? found.end->next : std::min(durable, ceiling));
    return from;
  }

  void ReportDropped(const GoodEnd& end, Offset durable) {
    if (segments_.empty()) return;
    std::uint64_t bytes = end.dropped_bytes;
    for (std::size_t i = end.index + 1; i < segments_.size(); ++i) {
      if (segments_[i].segment != nullptr && segments_[i].has_records) {
        bytes += segments_[i].limit() - segment::kFirstFrame;
      }
    }
    const bool kept_unknown = end.at.next > durable;
    if (bytes == 0 && !kept_unknown) return;
    Report(end.at.next, end.at.next, bytes,
           kept_unknown
               ? absl::StrCat("records [", durable, ", ", end.at.next,
                              ") are whole and kept, though they were not known to be durable; "
                              "what came after them is dropped, durability unknown")
               : std::string("what came after the last durable record is dropped"));
  }

  absl::Status ShowEnd(const GoodEnd& end, Offset durable) {
    if (segments_.empty() || segments_[end.index].segment == nullptr) {
      return absl::DataLossError(
          absl::StrCat(files_.root->path(), "/", files_.folder, ": no segment of it can be read"));
    }
    const Found& last = segments_[end.index];
    result_.watermarks = {.start = std::min(start_.offset, end.at.next),
                          .start_reason = static_cast<std::uint32_t>(start_.reason),
                          .base = last.base,
                          .salt = last.segment->salt_tag(),
                          .records = static_cast<std::uint32_t>(end.at.next - last.base),
                          .position = end.at.position,
                          .durable = std::min(durable, end.at.next),
                          .tombstone_horizon = start_.tombstone_horizon,
                          .compacted_to = start_.compacted_to};
    return absl::OkStatus();
  }

  // Rule 23: no offset that may have been given out.
  Offset NeverGivenOut() const {
    Offset limit = input_.control ? input_.control->end() : 0;
    for (const Found& found : segments_) {
      limit = std::max(limit, found.segment != nullptr
                                  ? found.segment->offset_limit()
                                  : found.base + static_cast<Offset>(segment::kOffsetSpanMax));
    }
    return std::max(limit, start_.offset);
  }

  // The order matters, because the power may go again at any point: first the new
  // segment is there for good, so that the highest offset_limit is never forgotten; then
  // what is dropped goes; then the good end is sealed. Each step done alone leaves a
  // directory from which this same recovery comes to the same end.
  absl::Status BeginAnew(const GoodEnd& end) {
    const Offset base = NeverGivenOut();
    const os::Bits128 salt = context_.storage->Random128();
    const std::string stem = ".next-recovery";
    std::int64_t created_ns = context_.clock.Now();
    for (const Found& found : segments_) {
      if (found.segment != nullptr) created_ns = CreationTimeAfter(*found.segment, created_ns);
    }
    CORDWOOD_RETURN_IF_ERROR(Segment::Create(files_, stem, salt, input_.segment_bytes,
                                             2 * segment::RecordsMax(input_.segment_bytes),
                                             created_ns));
    const std::string name = segment::SegmentFileName(base, "");
    for (const char* extension :
         {segment::Index::kOffsetExtension, segment::Index::kTimeExtension, ".log"}) {
      CORDWOOD_RETURN_IF_ERROR(
          files_.root->Rename(files_.Path(stem + extension), files_.Path(name + extension)));
    }
    CORDWOOD_RETURN_IF_ERROR(files_.root->SyncFolder(files_.folder));

    Offset reached = 0;
    for (std::size_t i = segments_.size(); i-- > 0;) {
      const bool dropped = i > end.index && segments_[i].base != base &&
                           (segments_[i].segment != nullptr || segments_[i].base >= end.at.next);
      if (dropped) CORDWOOD_RETURN_IF_ERROR(Remove(segments_[i].base));
    }
    CORDWOOD_RETURN_IF_ERROR(files_.root->SyncFolder(files_.folder));

    for (std::size_t i = 0; i <= end.index && i < segments_.size(); ++i) {
      Found& found = segments_[i];
      if (found.segment == nullptr) continue;
      if (found.base < reached) {
        CORDWOOD_RETURN_IF_ERROR(Remove(found.base));
        continue;
      }
      const bool seal_holds = found.seal && found.seal->next <= Ceiling(i) &&
                              (i != end.index || IsSealedWhole(found, end.at));
      segment::FramesEnd at = i == end.index ? end.at
                              : seal_holds
                                  ? segment::FramesEnd{.next = found.seal->next}
                                  : segment::WalkFrames(*found.segment, found.limit(), Ceiling(i));
      if (!seal_holds && i != end.index && found.segment->is_compacted()) {
        at.next = found.end->next;  // its header says where it ends
        at.position = found.limit();
      }
      reached = at.next;
      if (seal_holds) {
        if (i == end.index && found.seal->reason != segment::SealReason::kRecovered) {
          // The hole behind it is not damage.
          segment::Seal seal = *found.seal;
          seal.reason = segment::SealReason::kRecovered;
          found.segment->WriteSeal(seal);
        }
        CORDWOOD_RETURN_IF_ERROR(found.segment->Sync(0, found.limit()));
        continue;
      }
      const std::int64_t now = context_.clock.Now();
      found.segment->WriteSeal(at.ToSeal(segment::SealReason::kRecovered, now));
      segment::RebuildIndex(*found.segment, at.position, files_.index_interval_bytes);
      CORDWOOD_RETURN_IF_ERROR(found.segment->Sync(0, at.position));
    }
    result_.watermarks = {.start = start_.offset,
                          .start_reason = static_cast<std::uint32_t>(start_.reason),
                          .base = base,
                          .salt = segment::SaltTag(salt),
                          .records = 0,
                          .position = segment::kFirstFrame,
                          .durable = base,
                          .tombstone_horizon = start_.tombstone_horizon,
                          .compacted_to = start_.compacted_to};
    return absl::OkStatus();
  }

  const Context& context_;
  const RecoveryInput& input_;
  const segment::PartitionFiles& files_;
  Start start_;
  bool start_is_lost_ = false;  // the file is damaged
  std::vector<Found> segments_;
  bool after_recovered_ = false;  // a hole behind the last segment walked is known
  RecoveredPartition result_;
};

}  // namespace

std::uint64_t WrittenTo(const ControlBlock& block) {
  const Tail tail = Tail::Unpack(block.tail.load(std::memory_order_relaxed));
  const Tail intent = Tail::Unpack(block.intent.load(std::memory_order_relaxed));
  return intent.slot == tail.slot ? intent.position : 0;  // else it is of before a roll
}

absl::StatusOr<RecoveredPartition> RecoverPartition(const Context& context,
                                                    const RecoveryInput& input) {
  return Recovery(context, input).Run();
}

}  // namespace cordwood::log
