// What a compaction writes, and how it gets its name.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cordwood/log/start_file.h"
#include "cordwood/status_macros.h"
#include "log/compaction_pass.h"

namespace cordwood::log {

using segment::CheckedFrame;
using segment::Segment;

namespace {

constexpr std::uint64_t kSyncBytes = 1 << 20;

}  // namespace

void Compactor::Pass::NextGroup() {
  phase_ = group_ < groups_.size() ? Phase::kCopy : Phase::kFinish;
  if (phase_ == Phase::kCopy) next_input_ = groups_[group_].first;
}

absl::Status Compactor::Pass::BeginOutput() {
  const segment::PartitionFiles& files = log_->files();
  const Group& group = groups_[group_];
  const Input& first = inputs_[group.first];
  Offset limit = 0;
  for (std::size_t i = group.first; i < group.last; ++i) {
    limit = std::max(limit, inputs_[i].offset_limit);
  }
  const os::Bits128 salt = log_->context().storage->Random128();
  const std::string stem =
      absl::StrCat(".clean-", absl::Hex(segment::SaltTag(salt), absl::kZeroPad16));
  output_ = {};
  output_.stem = stem;  // from here on the destructor removes it
  const std::uint64_t capacity = segment::kFirstFrame + group.bytes;
  // Its time of creation is that of the first one: recovery takes files for the later, the
  // higher their base is, but where one was retired.
  CORDWOOD_RETURN_IF_ERROR(Segment::Create(
      files, stem, salt, capacity, static_cast<std::uint64_t>(limit - first.facts.base),
      first.facts.created_ns, inputs_[group.last - 1].facts.next));
  CORDWOOD_ASSIGN_OR_RETURN(output_.segment,
                            Segment::Open(files, first.facts.base, os::Access::kReadWrite, stem));
  CORDWOOD_RETURN_IF_ERROR(output_.segment->Grow(capacity));
  output_.copier =
      std::make_unique<segment::FrameCopier>(*output_.segment, files.index_interval_bytes);
  return absl::OkStatus();
}

absl::Status Compactor::Pass::Copy() {
  const Group& group = groups_[group_];
  if (output_.segment == nullptr) return BeginOutput();
  if (next_input_ < group.last) {
    if (walk_.segment == nullptr) CORDWOOD_RETURN_IF_ERROR(BeginWalk(next_input_));
    const std::uint64_t room = segment::kFirstFrame + group.bytes;
    bool fits = true;
    // Checked once more: a record that is damaged by now would be signed as it is.
    const bool whole = WalkSome(true, [&](const CheckedFrame& frame) {
      const Fate fate = FateOf(frame, next_input_);
      if (fate == Fate::kKeep) {
        fits = output_.copier->position() + frame.frame_bytes <= room;
        // Part of no batch any more: it is durable, so that nothing of its batch was ever cut
        // off; and what followed it there may be gone. And all before it is durable.
        if (fits) output_.copier->Copy(frame, 0, frame.header.offset);
        return fits;
      }
      ++output_.dropped;
      if (fate == Fate::kTombstoneOver) {
        ++output_.tombstones;
        output_.horizon = std::max(output_.horizon, frame.header.offset + 1);
      }
      return true;
    });
    if (!whole || !fits) return absl::AbortedError("a segment changed while it was compacted");
    if (walk_.position < walk_.limit) return absl::OkStatus();
    EndWalk();
    ++next_input_;
    return absl::OkStatus();
  }

  Segment& segment = *output_.segment;
  const segment::FrameCopier& copier = *output_.copier;
  if (copier.position() != segment.capacity()) {
    return absl::AbortedError("a segment changed while it was compacted");
  }
  const Input& last = inputs_[group.last - 1];
  std::int64_t last_append_ns = last.facts.last_append_ns;
  for (std::size_t i = group.first; i < group.last; ++i) {
    last_append_ns = std::max(last_append_ns, inputs_[i].facts.last_append_ns);
  }
  segment.WriteSeal({.next = last.facts.next,
                     .end_position = copier.position(),
                     .largest_timestamp = copier.largest_timestamp(),
                     .last_append_ns = last_append_ns,
                     .reason = last.recovered ? segment::SealReason::kRecovered
                                              : segment::SealReason::kCompacted});
  if (segment.index() != nullptr) segment.index()->Seal(copier.index_entries());
  phase_ = Phase::kSync;
  return absl::OkStatus();
}

absl::Status Compactor::Pass::Sync() {
  Segment& segment = *output_.segment;
  if (output_.synced < segment.capacity()) {
    const std::uint64_t to = std::min(output_.synced + kSyncBytes, segment.capacity());
    CORDWOOD_RETURN_IF_ERROR(segment.Sync(output_.synced, to));
    output_.synced = to;
    return absl::OkStatus();
  }
  // A hint only, but one that is not whole after a power cut is none for ever.
  if (segment.index() != nullptr) CORDWOOD_RETURN_IF_ERROR(segment.index()->Sync());
  phase_ = Phase::kCommit;
  return absl::OkStatus();
}

absl::Status Compactor::Pass::Commit(std::int64_t deadline_ns) {
  const Group group = groups_[group_];
  {
    // Against a trim, and retention: between their look at the files and the removal nothing is
    // renamed, nor the other way round.
    CORDWOOD_ASSIGN_OR_RETURN(const std::optional<MaintenanceLock> lock,
                              MaintenanceLock::Take(log_->context(), log_->files(),
                                                    MaintenanceLock::kFiles, deadline_ns));
    if (!lock) return absl::OkStatus();  // in the next step
    CORDWOOD_RETURN_IF_ERROR(CheckGoOn());
    CORDWOOD_RETURN_IF_ERROR(Publish(group));
  }
  MetricsPage& counts = log_->context().counts();
  for (std::size_t i = group.first; i < group.last; ++i) {
    const std::uint64_t bytes = segment::kFirstFrame + inputs_[i].facts.bytes;
    result_.bytes_before += bytes;
    counts.compaction_read_bytes.Add(bytes);
  }
  counts.compaction_written_bytes.Add(output_.segment->capacity());
  counts.compaction_removed_records.Add(output_.dropped);
  result_.files_replaced += group.last - group.first;
  ++result_.files_written;
  result_.bytes_after += output_.segment->capacity();
  result_.records_dropped += output_.dropped;
  result_.tombstones_dropped += output_.tombstones;
  output_ = {};
  ++group_;
  NextGroup();
  return absl::OkStatus();
}

// Under the lock of the files.
absl::Status Compactor::Pass::Publish(const Group& group) {
  const segment::PartitionFiles& files = log_->files();
  ControlBlock& b = log_->block();
  // The inputs are there, and are what was read: else the start of the log has moved past one,
  // and a file with its name would bring back what was given up.
  const Offset start = log_->start_offset();
  bool same = inputs_[group.first].facts.next > start;
  for (std::size_t i = group.first; same && i < group.last; ++i) {
    const absl::StatusOr<Segment::Facts> now = Segment::ReadFacts(files, inputs_[i].facts.base);
    same = now.ok() && now->header.salt == inputs_[i].salt;
  }
  if (!same) {
    return absl::AbortedError(absl::StrCat(log_->name().topic, "-", log_->partition(),
                                           ": the start of the log is ", start,
                                           " now, inside what was being compacted; begin anew"));
  }
  // Rule 41: first what readers must be told, then the file without the tombstones.
  if (output_.horizon > b.tombstone_horizon.load(std::memory_order_relaxed)) {
    CORDWOOD_RETURN_IF_ERROR(UpdateStartFile(files, [&](Start& s) {
      s.tombstone_horizon = std::max(s.tombstone_horizon, output_.horizon);
    }));
    // Release: pairs with the acquire in Log::TombstoneHorizon(), asked after a file was opened.
    b.tombstone_horizon.store(output_.horizon, std::memory_order_release);
  }
  const std::string name = segment::SegmentFileName(inputs_[group.first].facts.base, "");
  // The frames' file last: by its rename all of the group is replaced. An index that is not of
  // its segment is none.
  for (const char* extension :
       {segment::Index::kOffsetExtension, segment::Index::kTimeExtension, ".log"}) {
    CORDWOOD_RETURN_IF_ERROR(
        files.root->Rename(files.Path(output_.stem + extension), files.Path(name + extension)));
  }
  output_.stem.clear();
  // Nothing is removed before the new name is on the disk.
  CORDWOOD_RETURN_IF_ERROR(files.root->SyncFolder(files.folder));
  // Release: pairs with the acquire in Log::ListSegments(); who sees it finds the new file.
  b.files_generation.fetch_add(1, std::memory_order_release);
  for (std::size_t i = group.first + 1; i < group.last; ++i) {
    RemoveFiles(segment::SegmentFileName(inputs_[i].facts.base, ""));
  }
  return absl::OkStatus();
}

absl::Status Compactor::Pass::Finish(std::int64_t deadline_ns) {
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::optional<MaintenanceLock> lock,
      MaintenanceLock::Take(log_->context(), log_->files(), MaintenanceLock::kFiles, deadline_ns));
  if (!lock) return absl::OkStatus();
  CORDWOOD_RETURN_IF_ERROR(CheckGoOn());
  // A pass before this one may have been killed between its rename and the sync: a power cut
  // must not bring back what lies below compacted_to; nor may another process go on with an old
  // map of it.
  CORDWOOD_RETURN_IF_ERROR(log_->files().root->SyncFolder(log_->files().folder));
  log_->block().files_generation.fetch_add(1, std::memory_order_release);
  CORDWOOD_RETURN_IF_ERROR(UpdateStartFile(log_->files(), [&](Start& s) {
    s.compacted_to = std::max(s.compacted_to, end_);
    s.has_passed_damage |= has_damage_ || first_damaged_ < inputs_.size();
  }));
  // Release: pairs with the acquire at the begin of the next pass.
  log_->block().compacted_to.store(end_, std::memory_order_release);
  result_.compacted_to = end_;
  log_->context().counts().compactions.Add();
  phase_ = Phase::kDone;
  inputs_.clear();  // with its maps
  map_.reset();
  lock_.reset();
  return absl::OkStatus();
}

}  // namespace cordwood::log
