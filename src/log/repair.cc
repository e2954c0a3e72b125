#include "log/repair.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cordwood/log/start_file.h"
#include "cordwood/segment/walk.h"
#include "cordwood/status_macros.h"

namespace cordwood::log {
namespace {

using segment::Index;
using segment::Segment;

// Of a stand-in's seal: behind its header there are bytes, and no record in them.
constexpr std::uint64_t kStandInEnd = segment::kFirstFrame + 64;

absl::StatusOr<std::vector<Offset>> Bases(const segment::PartitionFiles& files) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries,
                            files.root->List(files.folder));
  std::vector<Offset> bases;
  for (const os::FolderEntry& entry : entries) {
    if (const auto base = segment::BaseOfFileName(entry.name)) bases.push_back(*base);
  }
  std::sort(bases.begin(), bases.end());
  return bases;
}

// What there is to know of a partition without its control page and its start file.
struct FromSegments {
  Offset start = 0;
  Offset tombstone_horizon = 0;
};

absl::StatusOr<FromSegments> LookAtSegments(const segment::PartitionFiles& files) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<Offset> bases, Bases(files));
  FromSegments seen;
  if (!bases.empty()) seen.start = bases.front();
  // A tombstone may be missing anywhere in what a compaction wrote.
  for (const Offset base : bases) {
    const absl::StatusOr<Segment::Facts> facts = Segment::ReadFacts(files, base);
    if (absl::IsDataLoss(facts.status())) continue;
    CORDWOOD_RETURN_IF_ERROR(facts.status());
    seen.tombstone_horizon = std::max(seen.tombstone_horizon, facts->header.compacted_next);
  }
  return seen;
}

}  // namespace

absl::Status MakeStandIn(const segment::PartitionFiles& files, const segment::PartitionFiles& at,
                         Storage& storage, Offset base, Offset next) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<Offset> bases, Bases(files));
  // It is as old as the segment before it: neither takes over from another (rule 26), and
  // retention lets both go together.
  std::int64_t created_ns = 0;
  std::int64_t last_append_ns = 0;
  for (const Offset before : bases) {
    if (before >= base) break;
    const absl::StatusOr<Segment::Facts> facts = Segment::ReadFacts(files, before);
    if (absl::IsDataLoss(facts.status())) continue;
    CORDWOOD_RETURN_IF_ERROR(facts.status());
    created_ns = facts->header.created_ns;
    if (facts->seal) last_append_ns = facts->seal->last_append_ns;
  }
  CORDWOOD_RETURN_IF_ERROR(Segment::Create(at, segment::SegmentFileName(base, ""),
                                           storage.Random128(), Segment::kBytesAtFirst,
                                           segment::kOffsetSpanMax, created_ns));
  if (next == base) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<Segment> segment,
                            Segment::Open(at, base, os::Access::kReadWrite));
  segment->WriteSeal({.next = next,
                      .end_position = kStandInEnd,
                      .largest_timestamp = std::numeric_limits<std::int64_t>::min(),
                      .last_append_ns = last_append_ns,
                      .reason = segment::SealReason::kFull});
  return segment->Sync(0, Segment::kBytesAtFirst);
}

absl::Status MakeIndex(const segment::PartitionFiles& files, Offset base) {
  const std::string stem = files.Path(segment::SegmentFileName(base, ""));
  CORDWOOD_ASSIGN_OR_RETURN(const Segment::Facts facts, Segment::ReadFacts(files, base));
  const std::optional<segment::SegmentEnd> end = facts.End();
  if (!end) return absl::OkStatus();  // who writes to it goes without
  CORDWOOD_RETURN_IF_ERROR(Index::Create(*files.root, stem, facts.header.salt));
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<Segment> segment,
                            Segment::Open(files, base, os::Access::kReadWrite));
  if (Index* const index = segment->index(); index != nullptr) {
    CORDWOOD_RETURN_IF_ERROR(index->Grow(
        *files.root, stem, Index::EntriesFor(end->position, files.index_interval_bytes)));
    segment::RebuildIndex(*segment, std::min(end->position, segment->file_bytes()),
                          files.index_interval_bytes);
    CORDWOOD_RETURN_IF_ERROR(index->Sync());
  }
  return files.root->SyncFolder(files.folder);
}

absl::Status MakeStart(const segment::PartitionFiles& files, const segment::PartitionFiles& at,
                       const std::optional<Watermarks>& known) {
  const absl::StatusOr<Start> whole = ReadStartFile(files);
  if (!whole.ok() && !absl::IsDataLoss(whole.status())) return whole.status();
  Start start = whole.ok() ? *whole : Start{.has_passed_damage = true};
  if (known) {
    if (known->start > start.offset) {
      start.offset = known->start;
      start.reason = static_cast<GapReason>(std::min<std::uint32_t>(known->start_reason, 2));
    }
    start.tombstone_horizon = std::max(start.tombstone_horizon, known->tombstone_horizon);
    start.compacted_to = std::max(start.compacted_to, known->compacted_to);
  } else {
    CORDWOOD_ASSIGN_OR_RETURN(const FromSegments seen, LookAtSegments(files));
    start.offset = std::max(start.offset, seen.start);
    if (!whole.ok()) start.tombstone_horizon = seen.tombstone_horizon;
  }
  return UpdateStartFile(at, [&](Start& now) { now = start; });
}

Watermarks DurableOnly(const ControlBlock& damaged) {
  return {.position = segment::kFirstFrame, .durable = WatermarksOf(damaged).durable};
}

absl::Status MakeControl(os::Folder& root, const std::string& path, const ControlFile& damaged,
                         std::span<const segment::PartitionFiles> partitions) {
  std::vector<Watermarks> all;
  for (const segment::PartitionFiles& files : partitions) {
    const auto partition = static_cast<int>(files.partition);
    Watermarks& made = all.emplace_back(Watermarks{.position = segment::kFirstFrame});
    if (partition < damaged.partitions()) made = DurableOnly(damaged.block(partition));
    const absl::StatusOr<FromSegments> seen = LookAtSegments(files);
    if (absl::IsNotFound(seen.status())) continue;  // its folder is gone
    CORDWOOD_RETURN_IF_ERROR(seen.status());
    made.start = made.base = seen->start;
    made.tombstone_horizon = seen->tombstone_horizon;
  }
  // Of no boot: it is never believed without a recovery.
  return ControlFile::Create(root, path, partitions.front().topic_id, {}, all);
}

}  // namespace cordwood::log
