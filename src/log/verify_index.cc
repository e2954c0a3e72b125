#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "log/verify.h"

namespace cordwood::log {

IndexCheck::IndexCheck(const segment::PartitionFiles& files, const segment::Segment& segment,
                       const segment::Seal& seal, Findings& findings)
    : files_(files), base_(segment.base()), largest_(std::numeric_limits<std::int64_t>::min()) {
  const std::string stem = files.Path(segment::SegmentFileName(base_, ""));
  absl::StatusOr<std::unique_ptr<segment::Index>> index = segment::Index::Open(
      *files.root, stem, segment.header().salt,
      segment::Index::EntriesFor(segment.capacity(), files.index_interval_bytes),
      os::Access::kRead);
  if (!index.ok()) {
    if (!findings.IsDamage(index.status())) return;
    const bool is_missing = absl::IsNotFound(index.status());
    Wrong(is_missing ? VerifiedState::kMissing : VerifiedState::kDamaged,
          std::string(index.status().message()));
    return;
  }
  (*index)->Fetch();
  if (!(*index)->IsSealedAndWhole()) {
    // A file that was retired was closed in a hurry; its index counts as none.
    if (seal.reason == segment::SealReason::kRetired) return;
    Wrong(VerifiedState::kTorn, "its checksum does not hold, or was never written");
    return;
  }
  index_ = *std::move(index);
  count_ = index_->Count();
}

void IndexCheck::Wrong(VerifiedState state, std::string what) {
  if (problem_) return;
  problem_ = FileProblem{
      .state = state,
      .file = files_.Path(segment::SegmentFileName(base_, segment::Index::kOffsetExtension)),
      .what = absl::StrCat("the index, or the time index beside it: ", what,
                           "; reads look through the segment instead")};
}

void IndexCheck::Frame(std::uint64_t position, Offset offset, std::int64_t timestamp_ns) {
  for (; index_ != nullptr && next_ < count_; ++next_) {
    const std::optional<segment::IndexEntry> entry = index_->At(next_);
    if (!entry) {
      Wrong(VerifiedState::kDamaged, absl::StrCat("entry ", next_, " is none"));
      continue;
    }
    if (entry->position > position) break;
    // One before this frame is of bytes that are damaged.
    if (entry->position < position) continue;
    if (base_ + Offset{entry->offset_delta} != offset) {
      Wrong(VerifiedState::kDamaged,
            absl::StrCat("entry ", next_, " says offset ", base_ + Offset{entry->offset_delta},
                         ", the record there is ", offset));
    } else if (knows_times_ && entry->time_before != largest_) {
      Wrong(VerifiedState::kDamaged,
            absl::StrCat("entry ", next_, " has another time than the records before it"));
    }
  }
  largest_ = std::max(largest_, timestamp_ns);
  has_frames_ = true;
}

std::optional<FileProblem> IndexCheck::End() && {
  if (index_ != nullptr && next_ < count_ && knows_times_) {
    // Whoever was about to publish that record died, and it did not fit for the next one.
    Wrong(VerifiedState::kTorn, absl::StrCat("entry ", next_, " names no record"));
  }
  return has_frames_ ? std::move(problem_) : std::nullopt;  // of no record there is no entry
}

}  // namespace cordwood::log
