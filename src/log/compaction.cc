#include "cordwood/log/compaction.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cordwood/log/start_file.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"
#include "log/compaction_pass.h"

namespace cordwood::log {

using segment::CheckedFrame;
using segment::FrameState;
using segment::Segment;

namespace {

constexpr std::uint64_t kChunkBytes = 256 << 10;
// A joined file spans so much of the grace time at most, where there are tombstones in it: its
// age is that of its youngest input, and joining again and again would keep them for ever.
constexpr std::int64_t kSpansOfGrace = 8;
constexpr const char* kUnfinished = ".clean-";

std::string_view KeyOf(const CheckedFrame& frame) {
  return {frame.body + frame.header.value_bytes, frame.header.key_bytes};
}
bool HasKey(const CheckedFrame& frame) {
  return (frame.header.bytes_and_flags & segment::kHasKey) != 0;
}
bool IsTombstone(const CheckedFrame& frame) {
  return (frame.header.bytes_and_flags & segment::kHasValue) == 0;
}
std::uint64_t HashOf(std::string_view key) { return os::Hash64(key.data(), key.size()); }

}  // namespace

// ---- The public face

absl::StatusOr<std::unique_ptr<Compactor>> Compactor::Begin(std::shared_ptr<Log> log,
                                                            const CompactionSettings& settings) {
  CORDWOOD_RETURN_IF_ERROR(log->context().CheckWritable());
  CORDWOOD_ASSIGN_OR_RETURN(
      std::optional<MaintenanceLock> lock,
      MaintenanceLock::TryTake(log->context(), log->files(), MaintenanceLock::kCompaction));
  if (!lock) return nullptr;
  auto pass = std::make_unique<Pass>(std::move(log), settings, std::move(lock));
  CORDWOOD_RETURN_IF_ERROR(pass->Begin());
  return std::unique_ptr<Compactor>(new Compactor(std::move(pass)));
}

absl::StatusOr<CompactionPlan> Compactor::DryRun(std::shared_ptr<Log> log,
                                                 const CompactionSettings& settings) {
  Pass pass(std::move(log), settings, std::nullopt);
  CORDWOOD_RETURN_IF_ERROR(pass.Begin());
  return pass.Plan();
}

Compactor::Compactor(std::unique_ptr<Pass> pass) : pass_(std::move(pass)) {}
Compactor::~Compactor() = default;
const CompactionDecision& Compactor::decision() const { return pass_->decision(); }
const CompactionResult& Compactor::result() const { return pass_->result(); }
absl::StatusOr<bool> Compactor::Step(std::int64_t deadline_ns) { return pass_->Step(deadline_ns); }

// ---- Beginning

Compactor::Pass::~Pass() {
  // Not after a fork, where the file is the parent's. What stays the next pass removes.
  if (!output_.stem.empty() && log_->context().live->is_open()) RemoveFiles(output_.stem);
}

absl::Status Compactor::Pass::CheckGoOn() const { return log_->status(); }

absl::Status Compactor::Pass::Begin() {
  CORDWOOD_RETURN_IF_ERROR(CheckGoOn());
  const ControlBlock& b = log_->block();
  start_ = log_->start_offset();
  // Acquire: pairs with the release at the end of the pass before, perhaps another process's.
  old_compacted_to_ = b.compacted_to.load(std::memory_order_acquire);
  now_ns_ = log_->context().clock.Now();
  result_.compacted_to = old_compacted_to_;
  if (lock_ && ReadTail(b).base <= old_compacted_to_) {
    decision_.why = "no segment was sealed since the last time";  // without a look at the folder
    return absl::OkStatus();
  }
  // Before the folder is looked at: what is durable now has its seal.
  const Offset durable = log_->durable_offset();
  CORDWOOD_RETURN_IF_ERROR(FindInputs());
  std::vector<CompactionInput> facts;
  facts.reserve(inputs_.size());
  for (const Input& input : inputs_) facts.push_back(input.facts);
  decision_ = DecideCompaction(
      facts, settings_,
      {.now_ns = now_ns_, .start = start_, .durable = durable, .compacted_to = old_compacted_to_});
  end_ = decision_.end;
  // One that cannot be read now may be read again later, with what its tombstones stand for.
  CORDWOOD_ASSIGN_OR_RETURN(const Start start, ReadStartFile(log_->files()));
  has_damage_ = start.has_passed_damage;
  for (const Input& input : inputs_) has_damage_ |= !input.facts.readable;
  if (decision_.compact) phase_ = Phase::kCheck;
  return absl::OkStatus();
}

absl::Status Compactor::Pass::FindInputs() {
  const segment::PartitionFiles& files = log_->files();
  const TailView tail = ReadTail(log_->block());
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries,
                            files.root->List(files.folder));
  std::vector<Offset> bases;
  std::vector<std::string> unfinished;
  for (const os::FolderEntry& entry : entries) {
    if (absl::StartsWith(entry.name, kUnfinished)) unfinished.push_back(entry.name);
    const auto base = segment::BaseOfFileName(entry.name);
    if (base && *base < tail.base) bases.push_back(*base);
  }
  std::sort(bases.begin(), bases.end());
  std::vector<Offset> covered;
  Offset covered_to = 0;
  for (const Offset base : bases) {
    if (base < covered_to) {
      covered.push_back(base);
      continue;
    }
    Input input;
    input.facts.base = base;
    const absl::StatusOr<Segment::Facts> found = Segment::ReadFacts(files, base);
    if (absl::IsNotFound(found.status())) continue;  // removed meanwhile
    if (!found.ok() && !absl::IsDataLoss(found.status())) return found.status();
    const auto end = found.ok() ? found->End() : std::nullopt;
    // Given up, and not removed yet.
    if (end && end->next <= start_) continue;
    // Without a seal inside what another holds: a roll's leftover, which holds nothing.
    if (found.ok() && !end && !inputs_.empty() && base < inputs_.back().facts.next) continue;
    input.facts.readable = found.ok() && found->seal.has_value();
    if (found.ok()) {
      covered_to = found->header.compacted_next;
      input.salt = found->header.salt;
      input.offset_limit = base + static_cast<Offset>(found->header.offset_span);
      input.facts.created_ns = found->header.created_ns;
    }
    if (end) {
      input.facts.next = end->next;
      input.facts.bytes = end->position - segment::kFirstFrame;
    }
    if (found.ok() && found->seal) {
      input.facts.last_append_ns = found->seal->last_append_ns;
      input.recovered = found->seal->reason == segment::SealReason::kRecovered;
    }
    inputs_.push_back(std::move(input));
  }
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    CompactionInput& facts = inputs_[i].facts;
    const Offset next_base = i + 1 < inputs_.size() ? inputs_[i + 1].facts.base : tail.base;
    // It does not say where it ends, or is wrong about it.
    if (facts.next == 0 || facts.next > next_base ||
        (facts.readable && facts.next > inputs_[i].offset_limit)) {
      facts.next = next_base;
      facts.readable = false;
    }
  }
  if (!lock_ || (unfinished.empty() && covered.empty())) return absl::OkStatus();
  return RemoveLeftovers(unfinished, covered);
}

absl::Status Compactor::Pass::RemoveLeftovers(const std::vector<std::string>& unfinished,
                                              const std::vector<Offset>& covered) {
  const segment::PartitionFiles& files = log_->files();
  for (const std::string& name : unfinished) files.root->Unlink(files.Path(name)).IgnoreError();
  if (covered.empty()) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::optional<MaintenanceLock> lock,
      MaintenanceLock::TryTake(log_->context(), files, MaintenanceLock::kFiles));
  if (!lock) return absl::OkStatus();  // another time
  CORDWOOD_RETURN_IF_ERROR(CheckGoOn());
  // Whoever replaced them may have died before the new name was on the disk, and before it
  // said that files have been replaced.
  CORDWOOD_RETURN_IF_ERROR(files.root->SyncFolder(files.folder));
  log_->block().files_generation.fetch_add(1, std::memory_order_release);
  for (const Offset base : covered) RemoveFiles(segment::SegmentFileName(base, ""));
  return absl::OkStatus();
}

// The frames last: while they are there, the next pass finds that there is something to remove.
void Compactor::Pass::RemoveFiles(const std::string& stem) const {
  const segment::PartitionFiles& files = log_->files();
  for (const char* extension :
       {segment::Index::kOffsetExtension, segment::Index::kTimeExtension, ".log"}) {
    files.root->Unlink(files.Path(stem + extension)).IgnoreError();
  }
}

// ---- Steps

absl::StatusOr<bool> Compactor::Pass::Step(std::int64_t deadline_ns) {
  while (phase_ != Phase::kDone) {
    CORDWOOD_RETURN_IF_ERROR(CheckGoOn());
    CORDWOOD_RETURN_IF_ERROR(Chunk(deadline_ns));
    if (os::MonotonicNanos() >= deadline_ns) break;
  }
  return phase_ != Phase::kDone;
}

absl::Status Compactor::Pass::Chunk(std::int64_t deadline_ns) {
  switch (phase_) {
    case Phase::kCheck:
      return Check();
    case Phase::kIndex:
      return Index();
    case Phase::kMeasure:
      return Measure();
    case Phase::kCopy:
      return Copy();
    case Phase::kSync:
      return Sync();
    case Phase::kCommit:
      return Commit(deadline_ns);
    case Phase::kFinish:
      return Finish(deadline_ns);
    case Phase::kDone:
      break;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Segment>> Compactor::Pass::Open(Input& input) const {
  absl::StatusOr<std::shared_ptr<Segment>> opened =
      Segment::Open(log_->files(), input.facts.base, os::Access::kRead);
  if (absl::IsNotFound(opened.status()) ||
      (opened.ok() && (*opened)->header().salt != input.salt)) {
    return absl::AbortedError(absl::StrCat(log_->name().topic, "-", log_->partition(),
                                           ": the segment at ", input.facts.base,
                                           " is gone or another since the compaction began"));
  }
  return opened;
}

absl::Status Compactor::Pass::BeginWalk(std::size_t i) {
  Input& input = inputs_[i];
  walk_.input = i;
  walk_.segment = input.dirty;
  if (walk_.segment == nullptr) {
    CORDWOOD_ASSIGN_OR_RETURN(walk_.segment, Open(input));
  }
  walk_.position = segment::kFirstFrame;
  walk_.limit = segment::kFirstFrame + input.facts.bytes;
  walk_.next = input.facts.base;
  return absl::OkStatus();
}

bool Compactor::Pass::WalkSome(bool verify, absl::FunctionRef<bool(const CheckedFrame&)> visit) {
  if (walk_.limit > walk_.segment->file_bytes()) return false;
  const std::uint64_t stop = std::min(walk_.limit, walk_.position + kChunkBytes);
  CheckedFrame frame;
  while (walk_.position < stop) {
    if (segment::CheckFrame(walk_.segment->key(), walk_.segment->data(), walk_.position,
                            walk_.limit, verify, frame) != FrameState::kValid ||
        frame.header.offset < walk_.next ||
        frame.header.offset >= inputs_[walk_.input].facts.next) {
      return false;
    }
    if (!visit(frame)) {
      walk_.position = walk_.limit;
      return true;
    }
    walk_.next = frame.header.offset + 1;
    walk_.position += frame.frame_bytes;
  }
  return true;
}

absl::Status Compactor::Pass::Check() {
  if (next_input_ == decision_.segments) {
    for (std::size_t i = decision_.segments; i-- > 0;) {
      if (inputs_[i].damaged) first_damaged_ = i;
    }
    std::uint64_t dirty_bytes = 0;
    for (std::size_t i = 0; i < decision_.segments; ++i) {
      const Input& input = inputs_[i];
      if (!input.damaged && input.facts.next > decision_.dirty_from)
        dirty_bytes += input.facts.bytes;
    }
    map_.emplace(settings_.key_map_bytes, dirty_bytes / segment::kFrameHeaderBytes);
    next_input_ = 0;
    phase_ = Phase::kIndex;
    return absl::OkStatus();
  }
  Input& input = inputs_[next_input_];
  if (walk_.segment == nullptr) {
    const absl::Status opened =
        input.facts.readable ? BeginWalk(next_input_) : absl::DataLossError("known");
    if (absl::IsDataLoss(opened)) {
      input.damaged = true;
      decision_.verdicts[next_input_++] = SegmentVerdict::kDamaged;
      return absl::OkStatus();
    }
    CORDWOOD_RETURN_IF_ERROR(opened);
  }
  const bool whole = WalkSome(true, [](const CheckedFrame&) { return true; });
  if (whole && walk_.position < walk_.limit) return absl::OkStatus();
  if (!whole) {
    input.damaged = true;
    decision_.verdicts[next_input_] = SegmentVerdict::kDamaged;
  }
  EndWalk();
  ++next_input_;
  return absl::OkStatus();
}

bool Compactor::Pass::Same(KeyMap::Place place, std::string_view key) const {
  CheckedFrame frame;
  const Segment& segment = *inputs_[place.segment].dirty;
  return segment::CheckFrame(segment.key(), segment.data(), place.position, segment.file_bytes(),
                             false, frame) == FrameState::kValid &&
         KeyOf(frame) == key;
}

Offset Compactor::Pass::OffsetAt(KeyMap::Place place) const {
  segment::FrameHeader header;
  std::memcpy(&header, inputs_[place.segment].dirty->data() + place.position, sizeof header);
  return header.offset;
}

absl::Status Compactor::Pass::Index() {
  if (next_input_ == decision_.segments) {
    next_input_ = 0;
    phase_ = Phase::kMeasure;
    return absl::OkStatus();
  }
  Input& input = inputs_[next_input_];
  if (input.damaged || input.facts.next <= decision_.dirty_from) {
    ++next_input_;
    return absl::OkStatus();
  }
  if (walk_.segment == nullptr) {
    CORDWOOD_RETURN_IF_ERROR(BeginWalk(next_input_));
    input.dirty = walk_.segment;
  }
  bool full = false;
  const bool whole = WalkSome(false, [&](const CheckedFrame& frame) {
    if (frame.header.offset < decision_.dirty_from || !HasKey(frame)) return true;
    const std::string_view key = KeyOf(frame);
    const auto same = [&](KeyMap::Place place) { return Same(place, key); };
    const KeyMap::Place here = {static_cast<std::uint32_t>(next_input_), walk_.position};
    if (map_->Put(HashOf(key), here, same)) return true;
    // Not one more key: what comes from here on is for the next pass.
    full = true;
    end_ = frame.header.offset;
    return false;
  });
  if (!whole) return absl::AbortedError("a segment was damaged while it was compacted");
  if (full) {
    for (std::size_t i = next_input_ + 1; i < decision_.segments; ++i) {
      decision_.verdicts[i] = SegmentVerdict::kNextPass;
    }
    decision_.segments = next_input_ + 1;
  } else if (walk_.position < walk_.limit) {
    return absl::OkStatus();
  }
  EndWalk();
  ++next_input_;
  return absl::OkStatus();
}

Compactor::Pass::Fate Compactor::Pass::FateOf(const CheckedFrame& frame, std::size_t i) const {
  const Offset offset = frame.header.offset;
  if (!HasKey(frame) || offset >= end_) return Fate::kKeep;
  const std::string_view key = KeyOf(frame);
  const auto newest =
      map_->Find(HashOf(key), [&](KeyMap::Place place) { return Same(place, key); });
  if (newest && OffsetAt(*newest) > offset) return Fate::kSuperseded;
  // Older records of its key would be back without it: there is none left below where an earlier
  // pass has come to, but for those in a damaged segment before it, which stay.
  if (IsTombstone(frame) && offset < old_compacted_to_ && !has_damage_ && i < first_damaged_ &&
      IsOver(inputs_[i].facts.last_append_ns)) {
    return Fate::kTombstoneOver;
  }
  return Fate::kKeep;
}

bool Compactor::Pass::IsOver(std::int64_t last_append_ns) const {
  return settings_.delete_retention_ns != std::numeric_limits<std::int64_t>::max() &&
         absl::FromUnixNanos(now_ns_) - absl::FromUnixNanos(last_append_ns) >=
             absl::Nanoseconds(settings_.delete_retention_ns);
}

absl::Status Compactor::Pass::Measure() {
  if (next_input_ == decision_.segments) {
    if (!lock_) {
      phase_ = Phase::kDone;
      return absl::OkStatus();
    }
    PlanGroups();
    NextGroup();
    return absl::OkStatus();
  }
  Input& input = inputs_[next_input_];
  if (input.damaged) {
    ++next_input_;
    return absl::OkStatus();
  }
  if (walk_.segment == nullptr) CORDWOOD_RETURN_IF_ERROR(BeginWalk(next_input_));
  const bool whole = WalkSome(false, [&](const CheckedFrame& frame) {
    ++input.records;
    if (FateOf(frame, next_input_) != Fate::kKeep) return true;
    ++input.records_kept;
    input.bytes_kept += frame.frame_bytes;
    input.keeps_tombstones |= HasKey(frame) && IsTombstone(frame);
    return true;
  });
  if (!whole) return absl::AbortedError("a segment was damaged while it was compacted");
  if (walk_.position < walk_.limit) return absl::OkStatus();
  EndWalk();
  ++next_input_;
  return absl::OkStatus();
}

bool Compactor::Pass::MayJoin(const Group& group, std::size_t next) const {
  const Input& first = inputs_[group.first];
  const Input& last = inputs_[group.last - 1];
  const Input& joined = inputs_[next];
  // A hole between two is something that readers are told of.
  if (joined.damaged || last.facts.next != joined.facts.base) return false;
  if (segment::kFirstFrame + group.bytes + joined.bytes_kept > settings_.segment_bytes)
    return false;
  Offset limit = 0;
  bool tombstones = false;
  std::int64_t youngest = std::numeric_limits<std::int64_t>::min();
  for (std::size_t i = group.first; i <= next; ++i) {
    limit = std::max(limit, inputs_[i].offset_limit);
    tombstones |= inputs_[i].keeps_tombstones;
    youngest = std::max(youngest, inputs_[i].facts.last_append_ns);
  }
  if (static_cast<std::uint64_t>(limit - first.facts.base) > segment::kOffsetSpanMax) return false;
  const absl::Duration span =
      absl::FromUnixNanos(youngest) - absl::FromUnixNanos(first.facts.created_ns);
  if (settings_.retention_age_ns != std::numeric_limits<std::int64_t>::max() &&
      span > absl::Nanoseconds(settings_.retention_age_ns / kSpansOfGrace)) {
    return false;
  }
  return !tombstones || settings_.delete_retention_ns <= 0 ||
         span <= absl::Nanoseconds(settings_.delete_retention_ns / kSpansOfGrace);
}

void Compactor::Pass::PlanGroups() {
  const auto keep = [&](const Group& group) {
    // What would be written again as it is, is left as it is.
    const Input& only = inputs_[group.first];
    if (group.last - group.first > 1 || only.records != only.records_kept) groups_.push_back(group);
  };
  std::optional<Group> group;
  for (std::size_t i = 0; i < decision_.segments; ++i) {
    if (group && !MayJoin(*group, i)) {
      keep(*group);
      group.reset();
    }
    if (inputs_[i].damaged) continue;
    if (!group) group = Group{.first = i, .last = i};
    group->last = i + 1;
    group->bytes += inputs_[i].bytes_kept;
  }
  if (group) keep(*group);
}

absl::StatusOr<CompactionPlan> Compactor::Pass::Plan() {
  CompactionPlan plan;
  plan.where = {log_->name().topic, log_->partition()};
  plan.compact = decision_.compact;
  plan.why = decision_.why;
  if (decision_.segments != 0) phase_ = Phase::kCheck;
  CORDWOOD_RETURN_IF_ERROR(Step(std::numeric_limits<std::int64_t>::max()).status());
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    const Input& input = inputs_[i];
    CompactionPlan::Segment segment = {.base = input.facts.base,
                                       .next = input.facts.next,
                                       .bytes = static_cast<std::int64_t>(input.facts.bytes)};
    segment.bytes_after = segment.bytes;
    if (decision_.verdicts[i] == SegmentVerdict::kEligible) {
      segment.records = static_cast<std::int64_t>(input.records);
      segment.records_after = static_cast<std::int64_t>(input.records_kept);
      segment.bytes_after = static_cast<std::int64_t>(input.bytes_kept);
    } else {
      segment.why_not = std::string(SegmentVerdictText(decision_.verdicts[i]));
    }
    plan.bytes += segment.bytes;
    plan.bytes_after += segment.bytes_after;
    plan.segments.push_back(std::move(segment));
  }
  const TailView tail = ReadTail(log_->block());
  const auto active_bytes = static_cast<std::int64_t>(tail.position - segment::kFirstFrame);
  plan.segments.push_back({.base = tail.base,
                           .next = tail.end(),
                           .why_not = std::string(SegmentVerdictText(SegmentVerdict::kActive)),
                           .bytes = active_bytes,
                           .bytes_after = active_bytes});
  plan.bytes += active_bytes;
  plan.bytes_after += active_bytes;
  return plan;
}

}  // namespace cordwood::log
