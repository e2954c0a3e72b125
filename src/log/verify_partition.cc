#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "cordwood/log/maintenance_lock.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/segment/walk.h"
#include "log/verify.h"

namespace cordwood::log {
namespace {

using segment::CheckedFrame;
using segment::FrameState;
using segment::Segment;

// No log gets as far: a commit could not be stored (group/offsets.h).
constexpr Offset kOffsetsEnd = Offset{1} << 48;

std::int64_t Signed(std::uint64_t bytes) { return static_cast<std::int64_t>(bytes); }

class Verifier {
 public:
  Verifier(const PartitionInput& input, Findings& findings)
      : input_(input), files_(input.files), findings_(findings) {}

  VerifiedPartition Run() {
    result_.partition = static_cast<int>(files_.partition);
    TailView tail;
    if (input_.log != nullptr) {
      // The end first: the files that are there then hold what is below it.
      tail = ReadTail(input_.log->block());
      result_.start = input_.log->start_offset();
      result_.end = tail.end();
    } else {
      result_.start = result_.end = input_.start;
    }
    result_.durable = std::min(input_.durable, result_.end);
    ListFiles();
    LookAtHeaders(tail);
    for (Offset next = result_.start; next < result_.end;) {
      // Retention goes on beside us: what it has removed is no part of the log any more.
      const Offset start = input_.log->start_offset();
      next = next < start ? start : Step(next);
    }
    if (input_.is_open) {
      TellInUse(tail);
    } else {
      LookPastEnd(tail);
    }
    return std::move(result_);
  }

 private:
  struct FileFacts {
    std::optional<Segment::Facts> facts;  // none: its header is damaged
    std::string why_not = {};
  };

  std::string LogOf(Offset base) const { return files_.Path(segment::SegmentFileName(base)); }

  void Find(FindingKind kind, VerifiedState state, std::string file, std::uint64_t position,
            std::string what, Offset base = 0, Offset next = 0, std::uint64_t end = 0) {
    findings_.all.push_back({.kind = kind,
                             .problem = {.state = state,
                                         .file = std::move(file),
                                         .position = Signed(position),
                                         .what = std::move(what)},
                             .where = {files_.name->topic, files_.name->partition},
                             .base = base,
                             .next = next,
                             .end = end});
  }

  // ---- The files

  void ListFiles() {
    files_there_.clear();
    const absl::StatusOr<std::vector<os::FolderEntry>> entries = files_.root->List(files_.folder);
    if (!entries.ok()) {
      findings_.IsDamage(entries.status());
      return;
    }
    strays_.clear();
    std::set<Offset> bases;
    for (const os::FolderEntry& entry : *entries) {
      if (const auto base = segment::BaseOfFileName(entry.name)) bases.insert(*base);
    }
    Offset covered_to = 0;
    for (const Offset base : bases) {
      if (base < covered_to) continue;  // a compaction's leftover (rule 26)
      absl::StatusOr<Segment::Facts> facts = Segment::ReadFacts(files_, base);
      if (absl::IsNotFound(facts.status())) continue;  // removed meanwhile
      if (!facts.ok() && !findings_.IsDamage(facts.status())) continue;
      if (!facts.ok() && base > kOffsetsEnd && base > std::max(result_.end, input_.durable)) {
        strays_.push_back(base);
        continue;
      }
      FileFacts& file = files_there_[base];
      if (facts.ok()) {
        covered_to = facts->header.compacted_next;
        file.facts = *std::move(facts);
      } else {
        file.why_not = std::string(facts.status().message());
      }
    }
  }

  // The base of the next file; the largest there can be: it is the last.
  Offset BaseAfter(Offset base) const {
    const auto after = files_there_.upper_bound(base);
    return after == files_there_.end() ? std::numeric_limits<Offset>::max() : after->first;
  }

  void LookAtHeaders(const TailView& tail) {
    for (const Offset base : strays_) {
      Find(FindingKind::kStray, VerifiedState::kDamaged, LogOf(base), 0,
           "no segment of the partition can begin there, and it is none; the next recovery would "
           "go on behind it",
           base);
    }
    if (files_there_.empty()) {
      Find(FindingKind::kPartition, VerifiedState::kMissing, files_.folder, 0,
           "the partition has no segment");
    }
    for (const auto& [base, file] : files_there_) {
      const auto file_end = file.facts ? file.facts->End() : std::nullopt;
      // A killed roll may have left a file inside it, whose base says nothing.
      const bool is_left_over =
          BaseAfter(base) <= result_.start && (!file_end || file_end->next <= result_.start);
      if (is_left_over) {
        const auto opened = files_.root->OpenFile(LogOf(base), os::OpenMode::kRead);
        const auto info = opened.ok() ? (*opened)->Info() : opened.status();
        if (info.ok()) result_.bytes_left_over += Signed(info->size);
        continue;
      }
      if (!file.facts) {
        const Offset after = BaseAfter(base);
        const bool is_last = after == std::numeric_limits<Offset>::max();
        const Offset next = is_last ? std::max(base, input_.durable) : after;
        Find(FindingKind::kHeader, VerifiedState::kDamaged, LogOf(base), 0,
             absl::StrCat(file.why_not, "; no record of its own can be read"), base, next);
      } else if (!file.facts->seal && (!input_.is_open || base < tail.base)) {
        LookAtSeal(base);
      }
    }
  }

  // None, or one that does not hold. It is written in one go, so a kill leaves no half of it.
  void LookAtSeal(Offset base) {
    const auto file = files_.root->OpenFile(LogOf(base), os::OpenMode::kRead);
    if (!file.ok()) return;
    std::array<char, sizeof(segment::Seal)> bytes = {};
    if (!(*file)->ReadAt(bytes.data(), bytes.size(), segment::kSealPosition).ok()) return;
    if (std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; })) return;
    Find(FindingKind::kSeal, VerifiedState::kDamaged, LogOf(base), segment::kSealPosition,
         "the seal does not hold; the segment ends behind its last whole record", base);
  }

  // ---- The records

  void Add(VerifiedState state, Offset from, Offset to, std::string file, std::uint64_t position,
           std::uint64_t bytes, std::string what) {
    result_.ranges.push_back({.state = state,
                              .from = from,
                              .to = to,
                              .file = std::move(file),
                              .position = Signed(position),
                              .bytes = Signed(bytes),
                              .what = std::move(what)});
  }

  void AddRecord(const std::string& file, std::uint64_t position, const CheckedFrame& frame) {
    const auto bytes = std::int64_t{frame.frame_bytes};
    ++result_.records;
    result_.bytes += bytes;
    if (result_.ranges.empty() || result_.ranges.back().state != VerifiedState::kValid ||
        result_.ranges.back().file != file) {
      Add(VerifiedState::kValid, frame.header.offset, 0, file, position, 0, {});
    }
    VerifiedRange& range = result_.ranges.back();
    range.to = frame.header.offset + 1;
    range.bytes += bytes;
    ++range.records;
  }

  // What holds `next`, or the hole that it is in; where to go on.
  Offset Step(Offset next) {
    const absl::StatusOr<Located> located = input_.log->Locate(next);
    if (!located.ok()) {
      if (next < input_.log->start_offset()) return next;  // retention was faster
      if (!IsUnreadable(next) && !findings_.IsDamage(located.status())) return result_.end;
      ListFiles();
      const Offset to = std::min(BaseAfter(next), result_.end);
      Hole(next, to, std::string(located.status().message()));
      return to;
    }
    if (located->segment == nullptr) {
      const Offset to = std::min(located->gap_to, result_.end);
      if (located->reason == GapReason::kPowerLoss) return to;  // the recovery has told
      ListFiles();
      Hole(next, to, "no file has these records");
      return to;
    }
    const Offset to = Walk(*located, next);
    located->segment->Forget();
    return std::max(to, next + 1);
  }

  // The file that should have it; none: there is none.
  const FileFacts* FileOf(Offset offset) const {
    const auto after = files_there_.upper_bound(offset);
    return after == files_there_.begin() ? nullptr : &std::prev(after)->second;
  }
  // Nothing of its own can be read of that file, which is told.
  bool IsUnreadable(Offset offset) const {
    const FileFacts* const file = FileOf(offset);
    return file != nullptr && !file->facts;
  }

  // [from, to) cannot be had, file by file.
  void Hole(Offset from, Offset to, const std::string& why) {
    while (from < to) {
      const auto after = files_there_.upper_bound(from);
      const Offset end = after == files_there_.end() ? to : std::min(to, after->first);
      const FileFacts* file = after == files_there_.begin() ? nullptr : &std::prev(after)->second;
      if (file != nullptr && !file->facts) {
        Add(VerifiedState::kDamaged, from, end, LogOf(std::prev(after)->first), 0, 0,
            file->why_not);
      } else if (file != nullptr && !file->facts->End()) {
        // Without a seal it ends at its first bad frame.
        Add(VerifiedState::kDamaged, from, end, LogOf(std::prev(after)->first), 0, 0,
            "behind the last whole record of a segment without a seal");
      } else {
        Add(VerifiedState::kMissing, from, end, {}, 0, 0, why);
      }
      from = end;
    }
  }

  // The frames of one segment, as log/cursor.h reads them; one past the last offset. What is
  // below `first` another segment has told of, or is no part of the log.
  Offset Walk(const Located& located, Offset first) {
    const Segment& segment = *located.segment;
    const std::string file = LogOf(segment.base());
    const Offset end = std::min(located.next, result_.end);
    const std::optional<segment::Seal> seal = segment.ReadSeal();
    std::optional<IndexCheck> index;
    if (!located.active && seal) index.emplace(files_, segment, *seal, findings_);

    const auto add_wrong = [&](VerifiedState state, Offset from, Offset to, std::uint64_t position,
                               std::uint64_t bytes, const char* what) {
      if (index) index->Damage();
      from = std::max(from, first);
      to = std::min(to, end);
      if (from < to) Add(state, from, to, file, position, bytes, what);
    };
    CheckedFrame frame;
    Offset at = segment.base();
    std::uint64_t position = segment::kFirstFrame;
    while (position < located.limit && at < end) {
      const FrameState state = segment::CheckFrameOf(segment, position, located.limit, true, frame);
      const bool header_holds = state == FrameState::kValid || state == FrameState::kBadBody;
      if (header_holds && frame.header.offset >= at) {
        if (frame.header.offset >= end) break;
        if (frame.header.offset > at && !segment.is_compacted()) {
          add_wrong(VerifiedState::kMissing, at, frame.header.offset, position, 0,
                    "the record behind these has a larger offset than it should");
        }
        at = frame.header.offset + 1;
        if (state == FrameState::kBadBody) {
          add_wrong(VerifiedState::kDamaged, frame.header.offset, at, position, frame.frame_bytes,
                    "the checksum of a record does not hold");
        } else {
          if (index) index->Frame(position, frame.header.offset, frame.header.timestamp_ns);
          if (frame.header.offset >= first) AddRecord(file, position, frame);
        }
        position += frame.frame_bytes;
        continue;
      }
      const std::uint64_t bad = position;
      const Offset from = at;
      at = NextGood(located, position, at).value_or(end);
      add_wrong(VerifiedState::kDamaged, from, at, bad, position - bad,
                "bytes that are no record; the next whole one is behind them");
    }
    const std::uint64_t records_end = located.active ? ReadTail(input_.log->block()).position
                                      : seal         ? seal->end_position
                                                     : located.limit;
    if (records_end > segment.file_bytes() && (!located.active || !input_.is_open)) {
      add_wrong(VerifiedState::kDamaged, at, end, segment.file_bytes(), 0,
                "the file ends before its records do");
      Find(FindingKind::kCut, VerifiedState::kDamaged, file, segment.file_bytes(),
           absl::StrCat("the file was cut off: its records end at ", records_end), segment.base(),
           0, std::min(records_end, segment.capacity()));
    }
    if (index && position >= located.limit) {
      std::optional<FileProblem> problem = std::move(*index).End();
      if (problem && !IsBeingReplaced(segment, located.next)) {
        Find(FindingKind::kIndex, problem->state, problem->file, 0, problem->what, segment.base());
      }
    }
    return end;
  }

  // Retention and compaction take an index away before its segment, or after it: both under the
  // lock of those who change files, and retention after it has moved the start.
  bool IsBeingReplaced(const Segment& segment, Offset next) const {
    if (!input_.is_open) return false;
    const auto control =
        files_.root->OpenFile(TopicFolder(files_.name->topic) + "/control", os::OpenMode::kRead);
    const std::uint64_t byte = MaintenanceLock::ByteOf(files_.partition, MaintenanceLock::kFiles);
    if (!control.ok() || (*control)->IsLocked(os::LockKind::kExclusive, byte).value_or(true)) {
      return true;
    }
    const auto facts = Segment::ReadFacts(files_, segment.base());
    return !facts.ok() || facts->header.salt != segment.header().salt ||
           next <= input_.log->start_offset();
  }

  // Moves `position` to the next whole frame with a larger offset than `at`, or to the limit.
  static std::optional<Offset> NextGood(const Located& located, std::uint64_t& position,
                                        Offset at) {
    const Segment& segment = *located.segment;
    CheckedFrame frame;
    for (position += 8; position < located.limit; position += 8) {
      if (segment::CheckFrameOf(segment, position, located.limit, true, frame) ==
              FrameState::kValid &&
          frame.header.offset > at) {
        return frame.header.offset;
      }
    }
    position = located.limit;
    return std::nullopt;
  }

  // ---- What is behind the end

  void TellInUse(const TailView& tail) {
    if (input_.log == nullptr) return;
    const auto file = files_.root->OpenFile(LogOf(tail.base), os::OpenMode::kRead);
    const auto info = file.ok() ? (*file)->Info() : file.status();
    if (!info.ok() || info->size <= tail.position) return;
    Add(VerifiedState::kInUse, result_.end, result_.end, LogOf(tail.base), tail.position,
        info->size - tail.position, "somebody has the directory open for writing");
  }

  // Where nobody writes.
  void LookPastEnd(const TailView& tail) {
    Offset told = result_.end;
    const bool is_last_there = input_.log != nullptr && !IsUnreadable(tail.base);
    if (is_last_there) TellTorn(tail.base, tail.position);
    for (const auto& [base, file] : files_there_) {
      if (input_.log != nullptr && base <= tail.base) continue;
      if (file.facts) {
        TellTorn(base, segment::kFirstFrame);
        continue;
      }
      // Where nothing can be read, the next file says how far this one went.
      const Offset after = BaseAfter(base);
      const bool is_between = input_.log == nullptr && after != std::numeric_limits<Offset>::max();
      const Offset to = is_between ? after : std::min(after, std::max(base, input_.durable));
      Add(VerifiedState::kDamaged, base, to, LogOf(base), 0, 0,
          "a segment whose header is damaged");
      told = std::max(told, to);
    }
    if (told < input_.durable) {
      Add(VerifiedState::kMissing, told, input_.durable, {}, 0, 0,
          "these records were durable, and no file has them");
    }
  }

  void TellTorn(Offset base, std::uint64_t from) {
    const absl::StatusOr<std::shared_ptr<Segment>> segment =
        Segment::Open(files_, base, os::Access::kRead);
    if (!segment.ok()) return;
    const std::uint64_t end = segment::LookAtRest(**segment, from).end;
    if (end == 0) return;
    Add(VerifiedState::kTorn, result_.end, result_.end, LogOf(base), from, end - from,
        "bytes behind the last record, which the next Broker drops");
  }

  const PartitionInput& input_;
  const segment::PartitionFiles& files_;
  Findings& findings_;
  std::map<Offset, FileFacts> files_there_;
  std::vector<Offset> strays_;  // names that the log has nothing to do with
  VerifiedPartition result_;
};

}  // namespace

VerifiedPartition VerifyPartition(const PartitionInput& input, Findings& findings) {
  return Verifier(input, findings).Run();
}

}  // namespace cordwood::log
