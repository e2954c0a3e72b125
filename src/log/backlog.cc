// The backlog: what the slowest of the groups that a topic names has not committed. When it is
// full, an append waits, fails, or gives up the oldest records.
//
// A writer looks at it once a segment, and when what it was allowed is used up: how much that is
// was found out before, outside of the turn, because groups are above the log and their files
// may have to be read. Several processes that write may so pass the limit by what each of them
// was allowed; all are held at the next look.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cordwood/log/log.h"
#include "cordwood/log/maintenance_lock.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/segment/frame.h"
#include "cordwood/status_macros.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

constexpr char kBytesUrl[] = "cordwood/backlog_bytes";  // how many bytes there was no room for
constexpr char kRetainUrl[] = "cordwood/retain_first";  // the salt of the active segment
// Who commits rings; but it may die before it does.
constexpr std::int64_t kSleepNanos = 100'000'000;

// From Begin() on an append waits, until this goes.
class Blocked {
 public:
  Blocked(const Context& context, BlockedCounters& counters)
      : storage_(*context.storage), counters_(counters) {}
  Blocked(const Blocked&) = delete;
  Blocked& operator=(const Blocked&) = delete;
  ~Blocked() {
    if (began_ns_) counters_.Record(storage_.ElapsedNanos() - *began_ns_);
  }
  void Begin() {
    if (!began_ns_) began_ns_ = storage_.ElapsedNanos();
  }

 private:
  Storage& storage_;
  BlockedCounters& counters_;
  std::optional<std::int64_t> began_ns_;
};

}  // namespace

bool Log::WantsRoom(const absl::Status& status) {
  return status.GetPayload(kBytesUrl).has_value() || status.GetPayload(kRetainUrl).has_value();
}

absl::Status Log::RetainFirst(std::uint64_t salt) {
  absl::Status status = absl::ResourceExhaustedError("more is kept than should be");
  status.SetPayload(kRetainUrl, absl::Cord(absl::StrCat(salt)));
  return status;
}

absl::Status Log::BacklogFull(std::uint64_t bytes) const {
  absl::Status status =
      absl::ResourceExhaustedError(absl::StrCat(name().topic, "-", partition_, ": backlog full"));
  status.SetPayload(kBytesUrl, absl::Cord(absl::StrCat(bytes)));
  return status;
}

absl::StatusOr<Appended> Log::AppendWithRoom(AppendCall& call,
                                             absl::FunctionRef<absl::StatusOr<Appended>()> once,
                                             absl::StatusOr<Appended> appended) {
  while (!appended.ok() && WantsRoom(appended.status())) {
    std::uint64_t number = 0;
    if (const auto bytes = appended.status().GetPayload(kBytesUrl)) {
      if (!absl::SimpleAtoi(std::string(*bytes), &number)) break;
      CORDWOOD_RETURN_IF_ERROR(MakeWay(number, call.deadline_ns()));
    } else if (const auto salt = appended.status().GetPayload(kRetainUrl)) {
      if (!absl::SimpleAtoi(std::string(*salt), &number)) break;
      Blocked blocked(*context_, context_->counts().blocked_by_retention);
      blocked.Begin();
      RetainForRoll(number, call.deadline_ns());
    }
    appended = once();
  }
  return appended;
}

Offset Log::NeededFrom(const CleanupConfig& cleanup, Needs::Commits commits) const {
  if (cleanup.needed_by.empty()) return std::numeric_limits<Offset>::max();
  if (context_->needs == nullptr) return 0;
  return context_->needs->NeededFrom(files_.topic_id, *files_.name, cleanup.needed_by, commits);
}

absl::Status Log::MakeWay(std::uint64_t bytes, std::int64_t deadline_ns) {
  Blocked blocked(*context_, context_->counts().blocked_by_backlog);
  for (bool has_dropped = false;;) {
    CORDWOOD_RETURN_IF_ERROR(status());
    const std::shared_ptr<const CleanupConfig> config = cleanup();
    const std::uint64_t limit = config->backlog_bytes;
    if (limit == CleanupConfig::kNoBacklogLimit) return absl::OkStatus();
    const Offset from = std::max(NeededFrom(*config, Needs::Commits::kAll), start_offset());
    const TailView tail = ReadTail(block());
    const std::uint64_t used = BytesFrom(from);
    // What alone is over the limit has to be let through some time.
    if (used + bytes <= limit || used == 0) {
      absl::MutexLock lock(&mutex_);
      if (cleanup_ != config) continue;  // there are other rules by now
      backlog_salt_ = tail.salt;
      backlog_position_ = tail.position + std::max(bytes, limit - std::min(used, limit));
      return absl::OkStatus();
    }
    const auto full = [&](absl::StatusCode code, absl::string_view what) {
      return Where(cordwood::internal::Because(
          absl::Status(
              code, absl::StrCat(name().topic, "-", partition_, ": ", what,
                                 ": what the groups of retain.for.groups have not committed, "
                                 "from offset ",
                                 from, " on, is ", used, " bytes, and backlog.bytes is ", limit)),
          Reason::kBacklogFull));
    };
    switch (config->backlog_policy) {
      case BacklogPolicy::kFail:
        return full(absl::StatusCode::kResourceExhausted, "the backlog is full");
      case BacklogPolicy::kDropOldest:
        if (std::exchange(has_dropped, true) && os::MonotonicNanos() >= deadline_ns) {
          return full(absl::StatusCode::kDeadlineExceeded, "others fill what is dropped");
        }
        CORDWOOD_RETURN_IF_ERROR(DropOldest(limit - std::min(bytes, limit), deadline_ns));
        break;
      case BacklogPolicy::kBlock:
        if (os::MonotonicNanos() >= deadline_ns) {
          return full(absl::StatusCode::kDeadlineExceeded, "waited for room in a full backlog");
        }
        blocked.Begin();
        CORDWOOD_RETURN_IF_ERROR(WaitForRoom(from, deadline_ns));
        break;
    }
  }
}

// Until the groups need less than what is from `seen` on, or for a while.
absl::Status Log::WaitForRoom(Offset seen, std::int64_t deadline_ns) {
  ControlBlock& b = block();
  const std::uint32_t heard = b.room_bell.load(std::memory_order_acquire);
  // seq_cst: pairs with TellOfRoom(). Who commits after this sees the flag; who has before is
  // seen here.
  b.room_wanted.store(1, std::memory_order_seq_cst);
  if (NeededFrom(*cleanup(), Needs::Commits::kAll) > seen) return absl::OkStatus();
  const std::int64_t left = deadline_ns - os::MonotonicNanos();
  if (left > 0) os::FutexWait(&b.room_bell, heard, std::min(kSleepNanos, left));
  return absl::OkStatus();
}

void Log::RingRoom() {
  if (block().room_wanted.exchange(0, std::memory_order_seq_cst) != 0) os::Ring(block().room_bell);
}

namespace {

// The first frame from `position` on that is wanted, below the limit. Bytes that are no frame
// are passed over, as a reader does. Nothing: there is none.
struct FrameAt {
  Offset offset;
  std::uint64_t position;
};
template <class Wanted>
std::optional<FrameAt> FindFrame(const segment::Segment& segment, std::uint64_t position,
                                 std::uint64_t limit, Wanted wanted) {
  limit = std::min(limit, segment.file_bytes());
  segment::CheckedFrame frame;
  while (position < limit) {
    const segment::FrameState state =
        segment::CheckFrame(segment.key(), segment.data(), position, limit, false, frame);
    if (state != segment::FrameState::kValid && state != segment::FrameState::kBadBody) {
      position += 8;
      continue;
    }
    const FrameAt at = {frame.header.offset, position};
    if (wanted(at)) return at;
    position += frame.frame_bytes;
  }
  return std::nullopt;
}

// Where the index says to begin.
std::uint64_t PositionOf(const segment::Segment& segment, std::optional<std::size_t> i) {
  const auto entry = i ? segment.index()->At(*i) : std::nullopt;
  return entry ? entry->position : segment::kFirstFrame;
}

// Of the frames from that offset on.
std::uint64_t BytesIn(const segment::Segment& segment, Offset from, std::uint64_t limit) {
  if (from <= segment.base()) return limit - segment::kFirstFrame;
  std::uint64_t begin = segment::kFirstFrame;
  if (const segment::Index* index = segment.index(); index != nullptr) {
    const auto delta = static_cast<std::uint32_t>(from - segment.base());
    begin = PositionOf(segment, index->LastAtOrBeforeOffset(delta, index->Count()));
  }
  const auto first =
      FindFrame(segment, begin, limit, [&](const FrameAt& at) { return at.offset >= from; });
  return first ? limit - first->position : 0;
}

// The first offset whose frame begins there or later.
std::optional<Offset> OffsetFrom(const segment::Segment& segment, std::uint64_t position,
                                 std::uint64_t limit) {
  std::uint64_t begin = segment::kFirstFrame;
  if (const segment::Index* index = segment.index(); index != nullptr) {
    begin = PositionOf(segment, index->LastAtOrBeforePosition(position, index->Count()));
  }
  const auto first =
      FindFrame(segment, begin, limit, [&](const FrameAt& at) { return at.position >= position; });
  return first ? std::optional(first->offset) : std::nullopt;
}

}  // namespace

std::uint64_t Log::BytesFrom(Offset from) {
  const TailView tail = ReadTail(block());
  if (from >= tail.end()) return 0;
  if (from > tail.base) {
    const absl::StatusOr<std::shared_ptr<segment::Segment>> active = Active(tail);
    if (!active.ok()) return tail.position;
    if ((*active)->file_bytes() < tail.position) (*active)->RefreshSize().IgnoreError();
    return BytesIn(**active, from, tail.position);
  }
  std::uint64_t bytes = tail.position - segment::kFirstFrame;
  absl::MutexLock lock(&mutex_);
  if (!ListSegments(tail).ok()) return bytes;
  for (auto entry = sealed_.rbegin(); entry != sealed_.rend(); ++entry) {
    std::shared_ptr<segment::Segment> open;
    if (!entry->known || entry->base < from) open = OpenSealed(*entry).value_or(nullptr);
    if (entry->known && entry->next > from) {
      bytes += open == nullptr ? entry->end_position - segment::kFirstFrame
                               : BytesIn(*open, from, entry->end_position);
    }
    if (entry->base <= from) break;
  }
  return bytes;
}

// Moves the start so far that no more than so many bytes are left: over whole segments, and
// only where the active one alone is more, into that, then a quarter further if a record begins
// there, because the new start has to be synced.
absl::Status Log::DropOldest(std::uint64_t bytes_to_keep, std::int64_t deadline_ns) {
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::optional<MaintenanceLock> lock,
      MaintenanceLock::Take(*context_, files_, MaintenanceLock::kFiles, deadline_ns));
  if (!lock) {
    return Where(absl::DeadlineExceededError(
        absl::StrCat(name().topic, "-", partition_,
                     ": the backlog is full, and its oldest records could not be dropped: another "
                     "process removes or compacts files, and may be stopped; ",
                     context_->owners->DescribeHolders(), " have the directory open")));
  }
  const TailView tail = ReadTail(block());
  Offset to = tail.base;
  if (tail.position - segment::kFirstFrame <= bytes_to_keep) {
    std::uint64_t bytes = tail.position - segment::kFirstFrame;
    absl::MutexLock files(&mutex_);
    CORDWOOD_RETURN_IF_ERROR(ListSegments(tail));
    for (auto entry = sealed_.rbegin(); entry != sealed_.rend(); ++entry) {
      const absl::Status opened = OpenSealed(*entry).status();
      if (absl::IsNotFound(opened)) break;  // removed since it was listed, and all before it
      if (!absl::IsDataLoss(opened)) CORDWOOD_RETURN_IF_ERROR(opened);
      if (entry->next == entry->base) continue;
      // As BytesFrom() counts. Of one with a damaged header nothing can be read: it goes when the
      // next one does.
      if (entry->known) bytes += entry->end_position - segment::kFirstFrame;
      if (bytes > bytes_to_keep) break;
      if (opened.ok()) to = entry->base;
    }
  } else {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<segment::Segment> active, Active(tail));
    if (active->file_bytes() < tail.position) CORDWOOD_RETURN_IF_ERROR(active->RefreshSize());
    std::optional<Offset> cut =
        OffsetFrom(*active, tail.position - bytes_to_keep / 4 * 3, tail.position);
    if (!cut) cut = OffsetFrom(*active, tail.position - bytes_to_keep, tail.position);
    to = cut.value_or(tail.end());
  }
  return MoveStart(to, GapReason::kDropped);
}

}  // namespace cordwood::log
