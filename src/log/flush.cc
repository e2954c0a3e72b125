// Durability: one leader syncs for all, the next batch fills meanwhile; and what happens
// to a file whose sync failed.

#include <algorithm>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "cordwood/log/cursor.h"
#include "cordwood/log/log.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/segment/copy.h"
#include "cordwood/segment/walk.h"
#include "cordwood/status_macros.h"
#include "log/creation_time.h"
#include "log/timed_sync.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

constexpr std::int64_t kSleepNanos = 10'000'000;
constexpr absl::Duration kRetireTimeout = absl::Seconds(10);

// Gives a sync lock back that it was given, also where an exception passes (std::bad_alloc): a
// range that stands then is a sync that was not finished.
class SyncTurn {
 public:
  explicit SyncTurn(os::SharedLock& lock) : lock_(&lock) {}
  SyncTurn(const SyncTurn&) = delete;
  SyncTurn& operator=(const SyncTurn&) = delete;
  ~SyncTurn() { End(); }

  void End() {
    if (lock_ != nullptr) lock_->Unlock();
    lock_ = nullptr;
  }
  // Somebody else gives it back.
  void HandOn() { lock_ = nullptr; }

 private:
  os::SharedLock* lock_;
};

}  // namespace

absl::Status Log::FlushTo(Offset to, absl::Duration timeout) {
  return FlushBy(to, DeadlineAfter(timeout));
}

absl::Status Log::FlushBy(Offset to, std::int64_t deadline_ns) {
  if (InFill()) return InFillError();
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  if (const Offset end = end_offset(); to > end) {
    return Where(absl::OutOfRangeError(absl::StrCat(name().topic, "-", partition_, ": offset ", to,
                                                    " is past the end ", end)),
                 to);
  }
  ControlBlock& b = block();
  for (;;) {
    const std::uint32_t heard = b.durable_bell.load(std::memory_order_acquire);
    if (durable_offset() >= to) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(status());
    if (b.sync_lock.TryLock(*context_->owners) || b.sync_lock.TakeOverFromDead(*context_->owners)) {
      SyncTurn turn(b.sync_lock);
      absl::Status synced = context_->live->Check();
      if (synced.ok() && durable_offset() < to) {
        // A range that stands: whoever stored it died in its sync, or the sync failed.
        synced = b.sync_to.load(std::memory_order_relaxed) != 0
                     ? Retire(absl::UnavailableError("a sync was not finished"))
                     : SyncPublished();
      }
      turn.End();
      RingDurable();
      RunDurableCallbacks();
      if (!synced.ok()) return Where(std::move(synced));
      continue;
    }
    // Somebody syncs; what we wait for is in it, or we lead the next one. (Group commit.)
    b.durable_attention.fetch_or(kWaiting, std::memory_order_seq_cst);
    if (b.durable.load(std::memory_order_seq_cst) >= to || b.sync_lock.word() == 0) continue;
    const std::int64_t now = os::MonotonicNanos();
    if (now >= deadline_ns) {
      return Where(absl::DeadlineExceededError(absl::StrCat(
          name().topic, "-", partition_, ": durable up to ", durable_offset(), ", not yet ", to,
          "; ", context_->owners->Describe(b.sync_lock.word()), " is syncing")));
    }
    os::FutexWait(&b.durable_bell, heard, std::min(kSleepNanos, deadline_ns - now));
  }
}

absl::Status Log::TryFlush() {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  ControlBlock& b = block();
  if (durable_offset() >= end_offset()) return absl::OkStatus();
  CORDWOOD_RETURN_IF_ERROR(CheckState());
  const std::uint32_t word = b.sync_lock.word();
  if (word != 0 && !context_->owners->IsDead(word)) return absl::OkStatus();
  return FlushTo(end_offset(), absl::ZeroDuration());
}

void Log::RingDurable() {
  ControlBlock& b = block();
  // After the unlock, whose exchange is the fence: whoever set its flag before it looked
  // is seen here, or has seen `durable`.
  if (b.durable_attention.load(std::memory_order_seq_cst) == 0) return;
  const std::uint32_t attention = b.durable_attention.exchange(0, std::memory_order_seq_cst);
  if ((attention & kWaiting) != 0) os::Ring(b.durable_bell);
  if ((attention & kArmed) != 0) control().RingTopic(partition_);
}

absl::Status Log::SyncPublished() {
  ControlBlock& b = block();
  const TailView to = ReadTail(b);
  const Offset from = durable_offset();
  if (to.end() <= from) return absl::OkStatus();
  // Stands while the sync runs: whoever finds it under a dead owner knows that the pages
  // may have been marked clean without having reached the disk.
  b.sync_to.store(to.end(), std::memory_order_release);
  bool sync_failed = false;
  absl::Status synced = TimedSync(*context_, [&] { return SyncRange(from, to, sync_failed); });
  // Release: pairs with the acquire in durable_offset().
  if (synced.ok()) b.durable.store(to.end(), std::memory_order_release);
  // Only a sync that failed leaves pages in doubt; a file that could not be opened, say,
  // can be tried again.
  if (sync_failed) return Retire(synced);
  b.sync_to.store(0, std::memory_order_release);
  return synced;
}

// Makes [from, to) durable: every segment that holds some of it, and their names.
absl::Status Log::SyncRange(Offset from, const TailView& to, bool& sync_failed) {
  const auto sync = [&](segment::Segment& segment, std::uint64_t end) -> absl::Status {
    CORDWOOD_RETURN_IF_ERROR(CheckBeforeSync(segment, from, end, sync_failed));
    absl::Status status = segment.Sync(0, end);
    sync_failed = !status.ok();
    return status;
  };
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> active, Active(to));
  bool new_name = to.base >= from;
  if (to.base > from) {
    std::vector<Offset> bases;
    {
      absl::MutexLock lock(&mutex_);
      CORDWOOD_RETURN_IF_ERROR(ListSegments(to));
      // All from the one that holds `from` on.
      CORDWOOD_ASSIGN_OR_RETURN(const std::optional<Offset> holder, HolderAtOrBelow(from));
      for (const Sealed& sealed : sealed_) {
        // What is durable as a whole may be compacted meanwhile, and need not be looked at.
        const bool durable = sealed.base < from && sealed.known && sealed.next <= from;
        if (sealed.base >= holder.value_or(from) && !durable) bases.push_back(sealed.base);
      }
    }
    for (const Offset base : bases) {
      std::shared_ptr<segment::Segment> segment;
      {
        absl::MutexLock lock(&mutex_);
        for (const auto& held : unsynced_) {
          if (held->base() == base) segment = held;
        }
      }
      if (segment == nullptr) {
        absl::StatusOr<std::shared_ptr<segment::Segment>> opened =
            segment::Segment::Open(files_, base, os::Access::kReadWrite);
        if (absl::IsNotFound(opened.status()) && base < start_offset()) continue;
        if (!opened.ok()) return opened.status();
        segment = *std::move(opened);
      }
      const std::optional<segment::Seal> seal = segment->ReadSeal();
      if (!seal) continue;  // a roll's leftover
      if (base >= from) new_name = true;
      if (seal->end_position > segment->file_bytes()) {
        CORDWOOD_RETURN_IF_ERROR(segment->RefreshSize());
      }
      CORDWOOD_RETURN_IF_ERROR(sync(*segment, seal->end_position));
    }
  }
  if (to.position > active->file_bytes()) CORDWOOD_RETURN_IF_ERROR(active->RefreshSize());
  CORDWOOD_RETURN_IF_ERROR(sync(*active, to.position));
  // Rule 16: `durable` enters a file only once its name is in the folder for good.
  if (new_name) {
    absl::Status status = files_.root->SyncFolder(files_.folder);
    sync_failed = !status.ok();
    CORDWOOD_RETURN_IF_ERROR(status);
  }
  ForgetSynced(to);
  return absl::OkStatus();
}

// What another process has synced, or given up, is forgotten here: ours may never get to sync.
void Log::HoldUntilDurable(std::shared_ptr<segment::Segment> segment) {
  const Offset needless = std::max(durable_offset(), start_offset());
  std::erase_if(unsynced_, [&](const std::shared_ptr<segment::Segment>& held) {
    mutex_.AssertHeld();
    const std::optional<segment::Seal> seal = held->ReadSeal();
    if (!seal || seal->next > needless) return false;
    std::erase(checked_salts_, held->salt_tag());
    return true;
  });
  unsynced_.push_back(std::move(segment));
}

void Log::ForgetSynced(const TailView& to) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(unsynced_, [&](const std::shared_ptr<segment::Segment>& held) {
    return held->base() < to.base;
  });
  std::erase_if(checked_salts_, [&](std::uint64_t salt) { return salt != to.salt; });
}

// ---- One sync for many logs (rule 17)

absl::StatusOr<std::optional<TailView>> Log::BeginSharedSync() {
  CORDWOOD_RETURN_IF_ERROR(status());
  ControlBlock& b = block();
  if (!b.sync_lock.TryLock(*context_->owners)) return std::nullopt;
  SyncTurn turn(b.sync_lock);
  const TailView to = ReadTail(b);
  const Offset from = durable_offset();
  bool ready = from < to.end() && from >= to.base && context_->live->is_open() &&
               b.sync_to.load(std::memory_order_relaxed) == 0;
  if (ready) {
    const absl::StatusOr<std::shared_ptr<segment::Segment>> active = Active(to);
    bool lost = false;
    ready = active.ok() && CheckBeforeSync(**active, from, to.position, lost).ok();
  }
  if (!ready) return std::nullopt;
  b.sync_to.store(to.end(), std::memory_order_release);
  turn.HandOn();
  return to;
}

absl::Status Log::EndSharedSync(const TailView& to, const absl::Status& synced) {
  ControlBlock& b = block();
  SyncTurn turn(b.sync_lock);
  absl::Status status;
  if (synced.ok()) {
    // Release: pairs with the acquire in durable_offset().
    b.durable.store(to.end(), std::memory_order_release);
    b.sync_to.store(0, std::memory_order_release);
    ForgetSynced(to);
  } else {
    status = Retire(synced);
  }
  turn.End();
  RingDurable();
  return status.ok() ? status : Where(std::move(status));
}

// Rule 15: a process that maps a segment late would not hear of a write-back that failed
// before; such pages have been dropped and show what the disk has. So it looks whether
// the records are there before it calls them durable.
absl::Status Log::CheckBeforeSync(segment::Segment& segment, Offset from, std::uint64_t limit,
                                  bool& lost) {
  {
    absl::MutexLock lock(&mutex_);
    for (const std::uint64_t salt : checked_salts_) {
      if (salt == segment.salt_tag()) return absl::OkStatus();
    }
  }
  if (limit > segment.file_bytes()) {
    return absl::DataLossError(absl::StrCat(segment.path(), ": shorter than its records"));
  }
  segment::CheckedFrame frame;
  std::uint64_t position = segment::kFirstFrame;
  while (position < limit) {
    const segment::FrameState state =
        segment::CheckFrame(segment.key(), segment.data(), position, limit, true, frame);
    const bool below =
        (state == segment::FrameState::kValid || state == segment::FrameState::kBadBody) &&
        frame.header.offset < from;
    if (state != segment::FrameState::kValid && !below) {
      lost = true;
      return absl::DataLossError(absl::StrCat(segment.path(), ", position ", position,
                                              ": a published record is not there any more; it "
                                              "cannot be made durable"));
    }
    position += frame.frame_bytes;
  }
  absl::MutexLock lock(&mutex_);
  checked_salts_.push_back(segment.salt_tag());
  return absl::OkStatus();
}

// Rule 14. The file is never synced again: a second sync would say OK with nothing on
// the disk. What is published and not durable goes to a fresh file, each record checked,
// and the log goes on there. If that fails as well, the partition is failed.
absl::Status Log::Retire(const absl::Status& cause) {
  ControlBlock& b = block();
  b.has_retired.store(1, std::memory_order_relaxed);
  absl::Status moved;
  {
    Turn turn(*this);
    moved = turn.Take(kRetireTimeout);
    // What a dead owner of the turn left, first: it may have been retiring, too. If that cannot
    // be found out now, the mark of the sync stands, and the next one retires the file.
    if (moved.ok() && b.scratch_valid.load(std::memory_order_relaxed) == 0) {
      CORDWOOD_RETURN_IF_ERROR(FinishRetirement(ReadTail(b)));
    }
    if (moved.ok()) {
      const TailView to = ReadTail(b);
      Offset from = 0;
      do {  // again if the start has passed what was to be copied
        from = std::max(durable_offset(), start_offset());
        moved = CopyToFresh(from, to);
      } while (!moved.ok() && start_offset() > from);
      // Release: pairs with the acquire in durable_offset().
      if (moved.ok()) b.durable.store(to.end(), std::memory_order_release);
    }
    if (!moved.ok()) {
      // Not over a deletion, after which a sync fails for want of the files.
      auto open = static_cast<std::uint32_t>(PartitionState::kOpen);
      b.state.compare_exchange_strong(open, static_cast<std::uint32_t>(PartitionState::kFailed),
                                      std::memory_order_acq_rel);
      if (open == static_cast<std::uint32_t>(PartitionState::kDeleted)) return StateError();
    }
  }
  if (moved.ok()) {
    context_->counts().retired_files.Add();
    b.sync_to.store(0, std::memory_order_release);
    return moved;
  }
  return absl::DataLossError(absl::StrCat(cause.message(),
                                          "; moving the records to a fresh file "
                                          "failed as well: ",
                                          moved.message()));
}

absl::Status Log::CopyToFresh(Offset from, const TailView& to) {
  ControlBlock& b = block();
  // How much there is, each record checked.
  Cursor cursor(shared_from_this(), from);
  cursor.set_end(to.end());
  segment::CheckedFrame frame;
  std::uint64_t bytes = 0;
  for (Offset next = from; next < to.end();) {
    if (cursor.Next(frame) != Cursor::Step::kRecord || frame.header.offset != next) {
      return absl::DataLossError(absl::StrCat("the record at offset ", next, " is damaged"));
    }
    ++next;
    bytes += frame.frame_bytes;
  }
  const std::uint64_t needed = segment::kFirstFrame + bytes;
  if (needed > segment::kSegmentBytesMax) {
    return absl::ResourceExhaustedError("more than a segment of 2 GiB is not durable");
  }
  const std::uint64_t capacity =
      std::max<std::uint64_t>(config_.segment_bytes, (needed + 7) & ~std::uint64_t{7});
  std::int64_t now = context_->clock.Now();
  if (cursor.segment() != nullptr) now = CreationTimeAfter(*cursor.segment(), now);
  b.prepared.store(0, std::memory_order_relaxed);  // its header may be among what failed
  CORDWOOD_ASSIGN_OR_RETURN(const std::string stem, MakeNext(capacity, now));
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> fresh,
                            segment::Segment::Open(files_, from, os::Access::kReadWrite, stem));
  CORDWOOD_RETURN_IF_ERROR(fresh->Grow(needed));

  cursor.Seek(from);
  segment::FrameCopier copier(*fresh, config_.index_interval_bytes);
  while (from + copier.records() < to.end()) {
    if (cursor.Next(frame) != Cursor::Step::kRecord) {
      return absl::DataLossError("a record changed while it was copied");
    }
    copier.Copy(frame, frame.header.batch_remaining, from);
  }
  CORDWOOD_RETURN_IF_ERROR(fresh->Sync(0, copier.position()));
  // All that the folder has: whoever was killed in here left some above the tail's base. Before
  // the rename, because it can fail.
  CORDWOOD_ASSIGN_OR_RETURN(std::vector<Offset> covered, BasesInFolder());
  covered.erase(covered.begin(), std::upper_bound(covered.begin(), covered.end(), from));
  // As in Roll(): nobody goes on in a file without a name, should an exception pass from here on.
  b.scratch_valid.store(0, std::memory_order_relaxed);
  CORDWOOD_RETURN_IF_ERROR(RenameSegment(stem, from));
  CORDWOOD_RETURN_IF_ERROR(files_.root->SyncFolder(files_.folder));
  // The same file under its own name now.
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> named,
                            segment::Segment::Open(files_, from, os::Access::kReadWrite));
  {
    absl::MutexLock lock(&mutex_);
    CORDWOOD_RETURN_IF_ERROR(ListSegments(to));
    CORDWOOD_RETURN_IF_ERROR(SealForRetirement(from, to));
    checked_salts_.assign(1, named->salt_tag());
    unsynced_.clear();
    unsynced_.push_back(std::move(fresh));
    active_ = named;
    listed_ = false;
  }
  FlipTail(*named, copier.records(), copier.position());
  b.intent.store(0, std::memory_order_relaxed);
  writer_ = {};
  // Before `durable` moves: after a power cut their names must not be back beside it.
  for (const Offset base : covered) RemoveSegmentFiles(segment::SegmentFileName(base, ""));
  return covered.empty() ? absl::OkStatus() : files_.root->SyncFolder(files_.folder);
}

// Ends the file that holds `from` there, in the page cache at least: who reads it now
// leaves it for the fresh one. Not synced: a power cut may bring back an earlier seal, or
// none, and the recovery after it sees by the fresh file where this one ends (has_retired).
absl::Status Log::SealForRetirement(Offset from, const TailView& to) {
  std::optional<Offset> base = to.base;
  if (to.base >= from) {
    absl::StatusOr<std::optional<Offset>> holder = HolderAtOrBelow(from - 1);
    if (absl::IsDataLoss(holder.status())) return absl::OkStatus();  // of that none can be read
    CORDWOOD_ASSIGN_OR_RETURN(base, std::move(holder));
  }
  if (!base) return absl::OkStatus();  // the fresh file takes the old one's name
  absl::StatusOr<std::shared_ptr<segment::Segment>> opened =
      segment::Segment::Open(files_, *base, os::Access::kReadWrite);
  // Compacted away meanwhile, which is done only to what is durable as a whole.
  if (absl::IsNotFound(opened.status()) && to.base >= from) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<segment::Segment> old, std::move(opened));
  // It ends there already; it may be a compaction's, or about to be replaced by one.
  if (const auto seal = old->ReadSeal(); seal && seal->next <= from) return absl::OkStatus();
  segment::FramesEnd end = {.next = from};
  segment::CheckedFrame frame;
  while (end.position < old->file_bytes()) {
    const segment::FrameState state =
        segment::CheckFrame(old->key(), old->data(), end.position, old->file_bytes(), false, frame);
    if (state == segment::FrameState::kValid || state == segment::FrameState::kBadBody) {
      if (frame.header.offset >= from) break;
      end.largest_timestamp = std::max(end.largest_timestamp, frame.header.timestamp_ns);
      end.position += frame.frame_bytes;
    } else {
      end.position += 8;  // damage, which readers report
    }
  }
  old->WriteSeal(end.ToSeal(segment::SealReason::kRetired,
                            block().last_append_ns.load(std::memory_order_relaxed)));
  return absl::OkStatus();
}

// ---- Waiting for durability

absl::Status Log::WaitForDurable(Offset offset, absl::Duration timeout) {
  if (InFill()) return InFillError();
  const std::int64_t deadline = DeadlineAfter(timeout);
  ControlBlock& b = block();
  for (;;) {
    const std::uint32_t heard = b.durable_bell.load(std::memory_order_acquire);
    if (durable_offset() > offset) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(status());
    std::int64_t sleep = kSleepNanos;
    if (!context_->read_only()) {
      b.durable_attention.fetch_or(kWaiting, std::memory_order_seq_cst);
      if (b.durable.load(std::memory_order_seq_cst) > offset) return absl::OkStatus();
      sleep *= 10;
    }
    const std::int64_t now = os::MonotonicNanos();
    if (now >= deadline) {
      return Where(absl::DeadlineExceededError(
                       absl::StrCat(name().topic, "-", partition_, ": offset ", offset,
                                    " is not durable yet; durable up to ", durable_offset())),
                   offset);
    }
    os::FutexWait(&b.durable_bell, heard, std::min(sleep, deadline - now));
  }
}

absl::Status Log::OnDurable(Offset offset, std::function<void(const absl::Status&)> callback) {
  if (InFill()) return InFillError();
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  if (callback == nullptr) return absl::InvalidArgumentError("OnDurable: no callback");
  if (offset < 0 || offset >= end_offset()) {
    return Where(absl::OutOfRangeError(absl::StrCat(
                     "OnDurable: offset ", offset, " is not published; the end is ", end_offset())),
                 offset);
  }
  {
    absl::MutexLock lock(&callbacks_mutex_);
    if (durable_offset() <= offset) {
      callbacks_.emplace_back(offset, std::move(callback));
      callback = nullptr;
    }
  }
  if (callback != nullptr) callback(absl::OkStatus());
  return absl::OkStatus();
}

void Log::RunDurableCallbacks() {
  std::vector<std::pair<Offset, std::function<void(const absl::Status&)>>> due;
  const absl::Status failed = CheckState();
  {
    absl::MutexLock lock(&callbacks_mutex_);
    if (callbacks_.empty()) return;
    const Offset durable = durable_offset();
    const auto first_due =
        std::stable_partition(callbacks_.begin(), callbacks_.end(),
                              [&](const auto& c) { return failed.ok() && c.first >= durable; });
    due.assign(std::make_move_iterator(first_due), std::make_move_iterator(callbacks_.end()));
    callbacks_.erase(first_due, callbacks_.end());
  }
  const Offset durable = durable_offset();
  for (const auto& [offset, callback] : due) {
    callback(offset < durable ? absl::OkStatus() : failed);
  }
}

void Log::CancelCallbacks(const absl::Status& why) {
  std::vector<std::pair<Offset, std::function<void(const absl::Status&)>>> all;
  {
    absl::MutexLock lock(&callbacks_mutex_);
    all.swap(callbacks_);
  }
  for (const auto& [offset, callback] : all) callback(why);
}

}  // namespace cordwood::log
