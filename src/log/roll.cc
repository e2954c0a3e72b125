// Making room for the next record: growing the active segment, rolling to the next
// one, and making both ready before they are needed.

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "cordwood/log/cursor.h"
#include "cordwood/log/log.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/status_macros.h"
#include "log/creation_time.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

constexpr std::int64_t kNoTimestamp = std::numeric_limits<std::int64_t>::min();
// How far ahead of the writer blocks are allocated and pages faulted in.
constexpr std::uint64_t kAheadBytesMax = 8 << 20;

std::string PreparedStem(std::uint64_t salt) {
  return absl::StrCat(".next-", absl::Hex(salt, absl::kZeroPad16));
}

}  // namespace

absl::Status Log::MakeRoomSlow(std::uint64_t bytes, std::int64_t now_ns) {
  ControlBlock& b = block();
  for (;;) {
    // Acquire: pairs with the count in SetConfig(); the settings are those of then, or later.
    const std::uint64_t changes = config_changes_.load(std::memory_order_acquire);
    const TailView tail = ReadTail(b);
    if (writer_.salt != tail.salt || b.scratch_valid.load(std::memory_order_relaxed) == 0) {
      CORDWOOD_RETURN_IF_ERROR(LoadActive());
    }
    segment::Segment& segment = *writer_.segment;
    const std::int64_t first_append = b.first_append_ns.load(std::memory_order_relaxed);
    const bool old =
        tail.records != 0 && first_append != 0 && now_ns - first_append >= config_.segment_age_ns;
    const std::uint64_t end = tail.position + bytes;
    // The capacity is as the config was when the file was made; one record or batch may be
    // longer than either.
    const bool full =
        end > segment.capacity() || (tail.records != 0 && end > config_.segment_bytes);
    // A seal under a standing tail: the last writer died between the two steps of a roll.
    const bool rolls = old || full || segment.ReadSeal().has_value();
    if (rolls && MustRetainFirst(tail)) return RetainFirst(tail.salt);
    if (rolls || end > segment.file_bytes()) CORDWOOD_RETURN_IF_ERROR(CheckReserve());
    if (rolls) {
      if (absl::Status rolled = Roll(bytes, now_ns); !rolled.ok()) {
        absl::MutexLock lock(&mutex_);
        may_roll_salt_ = 0;  // what is kept by then is looked at again
        return rolled;
      }
      continue;
    }
    std::uint64_t allowed = segment.capacity();
    if (ABSL_PREDICT_FALSE(config_.backlog_bytes != CleanupConfig::kNoBacklogLimit)) {
      absl::MutexLock lock(&mutex_);
      allowed = backlog_salt_ == tail.salt ? std::min(allowed, backlog_position_) : 0;
      if (end > allowed) {
        room_.store(0, std::memory_order_relaxed);  // nobody passes here until that has moved
        return BacklogFull(bytes);
      }
    }
    CORDWOOD_RETURN_IF_ERROR(segment.Grow(end));
    SetRoom(end, allowed);
    // seq_cst, as the store of the room before it: pairs with SetConfig(), which counts and then
    // takes the room away. One of us sees the other.
    if (config_changes_.load(std::memory_order_seq_cst) == changes) return absl::OkStatus();
  }
}

// While the reserve is spent, what is free on the disk is not for records.
absl::Status Log::CheckReserve() const {
  Reserve* const reserve = context_->reserve.get();
  if (reserve == nullptr || !reserve->is_spent()) return absl::OkStatus();
  reserve->Refill();
  if (!reserve->is_spent()) return absl::OkStatus();
  return cordwood::internal::Because(
      absl::ResourceExhaustedError(absl::StrCat(
          context_->root->path(), ": the disk is full; what is left, up to ", reserve->bytes(),
          " bytes, is kept for offsets and for giving up old records. Make room")),
      Reason::kDiskFull);
}

// Up to `at_least` in any case, which is what the caller is about to write.
void Log::SetRoom(std::uint64_t at_least, std::uint64_t allowed) {
  const segment::Segment& segment = *writer_.segment;
  const std::uint64_t file = std::min(segment.writable_bytes(), segment.capacity());
  const std::uint64_t limit = config_.segment_bytes;
  room_.store(std::min({file, allowed, std::max(limit, at_least)}), std::memory_order_seq_cst);
}

void Log::SetConfig(const LogConfig& config) {
  const bool other_size = config_.segment_bytes != config.segment_bytes;
  config_.segment_bytes.Set(config.segment_bytes);
  config_.segment_age_ns.Set(config.segment_age_ns);
  config_.message_bytes_max.Set(config.message_bytes_max);
  config_.append_time.Set(config.append_time);
  config_.needs_key.Set(config.needs_key);
  config_.timestamp_ahead_max_ns.Set(config.timestamp_ahead_max_ns);
  config_.backlog_bytes.Set(config.cleanup.backlog_bytes);
  {
    absl::MutexLock lock(&mutex_);
    cleanup_ = std::make_shared<const CleanupConfig>(config.cleanup);
    backlog_salt_ = 0;  // it was allowed by other rules
  }
  if (context_->read_only()) return;
  // After the limits: see MakeRoomSlow().
  config_changes_.fetch_add(1, std::memory_order_seq_cst);
  room_.store(0, std::memory_order_seq_cst);
  if (!other_size) return;
  // Of the old size. A process that does not know of the new one yet may make another: who
  // rolls to that finds out what fits it, as with any segment.
  if (context_->live->is_open()) DropPrepared();
}

absl::Status Log::LoadActive() {
  absl::Status loaded = TryLoadActive();
  if (!absl::IsDataLoss(loaded) && !absl::IsNotFound(loaded)) return loaded;
  // Its file is gone or damaged, which a clean close does not look for. What was durable is a gap
  // then, and the log goes on behind it. What was not is what whoever has it mapped may still make
  // durable, or a recovery find.
  const TailView tail = ReadTail(block());
  if (durable_offset() < tail.end()) return loaded;
  CORDWOOD_RETURN_IF_ERROR(LeaveDamaged(tail));
  return TryLoadActive();
}

absl::Status Log::LeaveDamaged(const TailView& tail) {
  // First, as in Roll(): the new file may take the name of one that others have mapped.
  block().scratch_valid.store(0, std::memory_order_relaxed);
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<segment::Segment> next,
                            MakeSegment(tail.end(), config_.segment_bytes, context_->clock.Now()));
  CORDWOOD_RETURN_IF_ERROR(files_.root->SyncFolder(files_.folder));  // rule 16
  FlipTail(*next, 0, segment::kFirstFrame);
  block().intent.store(0, std::memory_order_relaxed);
  return absl::OkStatus();
}

absl::Status Log::TryLoadActive() {
  ControlBlock& b = block();
  if (b.scratch_valid.load(std::memory_order_relaxed) == 0) {
    CORDWOOD_RETURN_IF_ERROR(FinishRetirement(ReadTail(b)));
  }
  const TailView tail = ReadTail(b);
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> active, Active(tail));
  if (active->file_bytes() < tail.position) CORDWOOD_RETURN_IF_ERROR(active->RefreshSize());
  if (active->file_bytes() < tail.position) {
    return absl::DataLossError(absl::StrCat(active->path(), ": the file has ", active->file_bytes(),
                                            " bytes, its end is at ", tail.position));
  }
  writer_ = {};
  room_.store(0, std::memory_order_relaxed);  // until the caller sets it
  writer_.data = active->data();
  writer_.segment = std::move(active);
  if (b.scratch_valid.load(std::memory_order_relaxed) == 0) {
    CORDWOOD_RETURN_IF_ERROR(CountScratch(tail));
  }
  writer_.salt = tail.salt;
  return absl::OkStatus();
}

// A fresh file may have the name of the one that it replaces (rule 14), and its maker may
// have died before it flipped the tail: then whoever has no map of the old file finds
// another one in its place, and who has one would go on in a file without a name. The fresh
// file was whole and synced before it got its name, and nobody has appended since.
absl::Status Log::FinishRetirement(const TailView& tail) {
  absl::StatusOr<std::shared_ptr<segment::Segment>> named =
      segment::Segment::Open(files_, tail.base, os::Access::kReadWrite);
  // Of a file that is gone or damaged the caller tells; any other trouble may be over soon.
  if (absl::IsNotFound(named.status()) || absl::IsDataLoss(named.status())) {
    return absl::OkStatus();
  }
  if (!named.ok()) return named.status();
  if ((*named)->salt_tag() == tail.salt) return absl::OkStatus();
  const segment::Segment& fresh = **named;
  segment::CheckedFrame frame;
  std::uint64_t position = segment::kFirstFrame;
  for (std::uint32_t records = 0; records < tail.records; ++records) {
    const segment::FrameState state =
        segment::CheckFrame(fresh.key(), fresh.data(), position, fresh.file_bytes(), true, frame);
    if (state != segment::FrameState::kValid || frame.header.offset != tail.base + records) {
      return absl::DataLossError(absl::StrCat(fresh.path(), ", position ", position,
                                              ": it has replaced another file, and the record at "
                                              "offset ",
                                              tail.base + records, " is not in it"));
    }
    position += frame.frame_bytes;
  }
  FlipTail(fresh, tail.records, position);
  block().intent.store(0, std::memory_order_relaxed);
  return absl::OkStatus();
}

// Everything that a writer keeps beside the tail, computed anew from the files; and what
// a dead writer wrote and did not publish is taken away, before anything is published
// over it: without that, such records came back after a kill and a power cut (rule 5).
absl::Status Log::CountScratch(const TailView& tail) {
  ControlBlock& b = block();
  segment::Segment& segment = *writer_.segment;
  const Tail intent = Tail::Unpack(b.intent.load(std::memory_order_relaxed));
  if (intent.slot == tail.slot && intent.position > tail.position) {
    if (intent.position > segment.file_bytes()) CORDWOOD_RETURN_IF_ERROR(segment.RefreshSize());
    const std::uint64_t to = std::min(intent.position, segment.file_bytes());
    std::memset(segment.data() + tail.position, 0, to - tail.position);
    if (absl::Status synced = segment.Sync(tail.position, to); !synced.ok()) {
      // A second sync would say OK with nothing on the disk.
      b.state.store(static_cast<std::uint32_t>(PartitionState::kFailed), std::memory_order_release);
      return synced;
    }
  }
  b.intent.store(Tail{tail.slot, tail.records, tail.position}.Pack(), std::memory_order_relaxed);

  std::size_t count = 0;
  std::uint64_t position = segment::kFirstFrame;
  std::int64_t largest = kNoTimestamp;
  std::uint64_t next_index_position = segment::kFirstFrame;
  if (segment::Index* index = segment.index(); index != nullptr) {
    count = index->Count();
    while (count > 0) {
      const auto last = index->At(count - 1);
      segment::CheckedFrame frame;
      if (last && last->position < tail.position &&
          segment::CheckFrame(segment.key(), segment.data(), last->position, tail.position, false,
                              frame) == segment::FrameState::kValid) {
        position = last->position;
        largest = last->time_before;
        next_index_position = position + static_cast<std::uint64_t>(config_.index_interval_bytes);
        break;
      }
      --count;
    }
    index->Clear(count);
  }
  segment::CheckedFrame frame;
  while (position < tail.position &&
         segment::CheckFrame(segment.key(), segment.data(), position, tail.position, false,
                             frame) == segment::FrameState::kValid) {
    largest = std::max(largest, frame.header.timestamp_ns);
    position += frame.frame_bytes;
  }
  b.largest_timestamp.store(largest, std::memory_order_relaxed);
  b.index_count.store(count, std::memory_order_relaxed);
  b.next_index_position.store(next_index_position, std::memory_order_relaxed);
  // Not later than now: the time of creation only grows, whatever the clock said once. And no
  // number of a damaged header with which a difference would overflow; 0: not known.
  const std::int64_t created = std::min(segment.header().created_ns, context_->clock.Now());
  b.first_append_ns.store(tail.records == 0 ? 0 : std::max<std::int64_t>(created, 0),
                          std::memory_order_relaxed);
  b.scratch_valid.store(1, std::memory_order_relaxed);
  return absl::OkStatus();
}

// The files of the next segment under a name of their own, with a synced header: those
// that were made ready if they fit, else made now.
absl::StatusOr<std::string> Log::StemForNext(std::uint64_t capacity, std::int64_t now_ns) {
  ControlBlock& b = block();
  const std::uint64_t prepared = b.prepared.exchange(0, std::memory_order_relaxed);
  if (prepared != 0 && capacity == config_.segment_bytes) return PreparedStem(prepared);
  return MakeNext(capacity, now_ns);
}

absl::StatusOr<std::string> Log::MakeNext(std::uint64_t capacity, std::int64_t now_ns) {
  const os::Bits128 salt = context_->storage->Random128();
  const std::string stem = PreparedStem(segment::SaltTag(salt));
  CORDWOOD_RETURN_IF_ERROR(segment::Segment::Create(files_, stem, salt, capacity,
                                                    2 * segment::RecordsMax(capacity), now_ns));
  return stem;
}

absl::Status Log::RenameSegment(const std::string& stem, Offset base) {
  // The frames' file last: with its name the segment exists. A leftover of that name is
  // replaced, never adopted (rule 25).
  const std::string to = segment::SegmentFileName(base, "");
  for (const char* extension :
       {segment::Index::kOffsetExtension, segment::Index::kTimeExtension, ".log"}) {
    CORDWOOD_RETURN_IF_ERROR(
        files_.root->Rename(files_.Path(stem + extension), files_.Path(to + extension)));
  }
  return absl::OkStatus();
}

// The segment of that base, in place of whatever has its name.
absl::StatusOr<std::shared_ptr<segment::Segment>> Log::MakeSegment(Offset base,
                                                                   std::uint64_t capacity,
                                                                   std::int64_t now_ns) {
  const segment::Segment* const last = writer_.segment.get();  // null: it cannot be opened
  const std::int64_t created_ns = last == nullptr ? now_ns : CreationTimeAfter(*last, now_ns);
  CORDWOOD_ASSIGN_OR_RETURN(std::string stem, StemForNext(capacity, created_ns));
  absl::Status renamed = RenameSegment(stem, base);
  if (absl::IsNotFound(renamed)) {
    // What was made ready has been swept away; make it now.
    CORDWOOD_ASSIGN_OR_RETURN(stem, StemForNext(capacity, created_ns));
    renamed = RenameSegment(stem, base);
  }
  CORDWOOD_RETURN_IF_ERROR(renamed);
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> made,
                            segment::Segment::Open(files_, base, os::Access::kReadWrite));
  if (last == nullptr || made->header().created_ns > last->header().created_ns) return made;
  // The clock was set back before it was made ready.
  CORDWOOD_ASSIGN_OR_RETURN(stem, MakeNext(capacity, created_ns));
  CORDWOOD_RETURN_IF_ERROR(RenameSegment(stem, base));
  return segment::Segment::Open(files_, base, os::Access::kReadWrite);
}

absl::Status Log::Roll(std::uint64_t needed_bytes, std::int64_t now_ns) {
  ControlBlock& b = block();
  const TailView tail = ReadTail(b);
  const std::shared_ptr<segment::Segment> old = writer_.segment;
  const std::uint64_t capacity = std::max<std::uint64_t>(
      config_.segment_bytes, (segment::kFirstFrame + needed_bytes + 7) & ~std::uint64_t{7});
  if (capacity > segment::kSegmentBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(needed_bytes, " bytes do not fit a segment of 2 GiB"));
  }
  const Offset base = tail.end();
  // The new file takes the old one's name where that is empty. Should anything fail before the
  // tail is flipped, the next append must not go on in a file without a name: it finds the
  // scratch invalid, and the tail is flipped then (FinishRetirement).
  if (tail.records == 0) b.scratch_valid.store(0, std::memory_order_relaxed);
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> next,
                            MakeSegment(base, capacity, now_ns));
  CORDWOOD_RETURN_IF_ERROR(
      next->Grow(std::min(segment::kFirstFrame + needed_bytes, next->capacity())));
  // Rule 23: should the new name be lost with the power, the old segment's offset_limit
  // lies above every offset given out in the new one; and the old name itself is durable
  // once `durable` has entered it (rule 16).
  const bool old_name_durable = durable_offset() > old->base();
  const Offset highest = base + static_cast<Offset>(segment::RecordsMax(next->capacity()));
  if (!old_name_durable || highest > old->offset_limit()) {
    CORDWOOD_RETURN_IF_ERROR(files_.root->SyncFolder(files_.folder));
  }
  // Nothing fails from here on.
  old->WriteSeal({.next = base,
                  .end_position = tail.position,
                  .largest_timestamp = b.largest_timestamp.load(std::memory_order_relaxed),
                  .last_append_ns = b.last_append_ns.load(std::memory_order_relaxed),
                  .reason = segment::SealReason::kFull});
  if (old->index() != nullptr) {
    old->index()->Seal(b.index_count.load(std::memory_order_relaxed));
  }
  {
    absl::MutexLock lock(&mutex_);
    HoldUntilDurable(old);
    checked_salts_.push_back(next->salt_tag());  // nothing is in it that we did not write
    active_ = next;
    listed_ = false;
  }
  FlipTail(*next, 0, segment::kFirstFrame);
  b.largest_timestamp.store(kNoTimestamp, std::memory_order_relaxed);
  b.index_count.store(0, std::memory_order_relaxed);
  b.next_index_position.store(segment::kFirstFrame, std::memory_order_relaxed);
  b.first_append_ns.store(0, std::memory_order_relaxed);
  b.scratch_valid.store(1, std::memory_order_relaxed);
  writer_.data = next->data();
  writer_.salt = next->salt_tag();
  writer_.segment = std::move(next);
  room_.store(0, std::memory_order_relaxed);  // until the caller sets it
  has_rolled_.store(true, std::memory_order_relaxed);
  context_->counts().rolls.Add();
  return absl::OkStatus();
}

// Rule 4: base and salt of the other slot, and what goes with them, then the tail once.
void Log::FlipTail(const segment::Segment& to, std::uint32_t records, std::uint64_t position) {
  ControlBlock& b = block();
  const Tail old = Tail::Unpack(b.tail.load(std::memory_order_relaxed));
  const unsigned slot = 1 - old.slot;
  b.bytes_before[slot].store(
      b.bytes_before[old.slot].load(std::memory_order_relaxed) + old.position - position,
      std::memory_order_release);
  b.base[slot].store(to.base(), std::memory_order_release);
  b.salt[slot].store(to.salt_tag(), std::memory_order_release);
  // Release: pairs with the acquire in ReadTail().
  b.tail.store(Tail{slot, records, position}.Pack(), std::memory_order_release);
}

absl::Status Log::PrepareAhead() {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(CheckState());
  ControlBlock& b = block();
  const TailView tail = ReadTail(b);
  if (tail.records == 0) return absl::OkStatus();  // quiet: it costs nothing yet
  CORDWOOD_RETURN_IF_ERROR(CheckReserve());
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<segment::Segment> active, Active(tail));
  // As far ahead as has been written since the base, 8 MiB at most.
  const std::uint64_t ahead = std::min(tail.position, kAheadBytesMax);
  const std::uint64_t target = std::min(tail.position + ahead, active->capacity());
  if (tail.position + ahead / 2 > active->writable_bytes() &&
      active->writable_bytes() < active->capacity()) {
    CORDWOOD_RETURN_IF_ERROR(active->Grow(target));
  }
  const std::uint64_t until = std::min(target, active->writable_bytes());
  {
    absl::MutexLock lock(&mutex_);
    if (populated_salt_ != tail.salt) {
      populated_salt_ = tail.salt;
      populated_ = tail.position;
    }
    if (until <= populated_ + ahead / 4) return absl::OkStatus();
  }
  CORDWOOD_RETURN_IF_ERROR(active->Populate(tail.position, until));
  {
    absl::MutexLock lock(&mutex_);
    populated_ = until;
  }
  if (tail.position < config_.segment_bytes / 2) return absl::OkStatus();
  return PrepareNext();
}

absl::Status Log::PrepareNext() {
  ControlBlock& b = block();
  if (b.prepared.load(std::memory_order_relaxed) != 0) return absl::OkStatus();
  const os::Bits128 salt = context_->storage->Random128();
  const std::uint64_t tag = segment::SaltTag(salt);
  const std::uint64_t capacity = config_.segment_bytes;
  CORDWOOD_RETURN_IF_ERROR(segment::Segment::Create(files_, PreparedStem(tag), salt, capacity,
                                                    2 * segment::RecordsMax(capacity),
                                                    context_->clock.Now()));
  std::uint64_t none = 0;
  if (!b.prepared.compare_exchange_strong(none, tag, std::memory_order_acq_rel)) {
    RemoveSegmentFiles(PreparedStem(tag));  // another process was faster
  }
  return absl::OkStatus();
}

void Log::DropPrepared() {
  const std::uint64_t tag = block().prepared.exchange(0, std::memory_order_acq_rel);
  if (tag != 0) RemoveSegmentFiles(PreparedStem(tag));
}

void Log::RemoveSegmentFiles(const std::string& stem) {
  // Best effort: whatever stays is removed by the next first opener.
  for (const char* extension :
       {".log", segment::Index::kOffsetExtension, segment::Index::kTimeExtension}) {
    files_.root->Unlink(files_.Path(stem + extension)).IgnoreError();
  }
}

absl::Status Log::Populate(std::uint64_t bytes) {
  Turn turn(*this);
  CORDWOOD_RETURN_IF_ERROR(turn.Take(absl::Seconds(10)));
  CORDWOOD_RETURN_IF_ERROR(LoadActive());
  segment::Segment& segment = *writer_.segment;
  bytes = std::min(bytes, segment.capacity());
  CORDWOOD_RETURN_IF_ERROR(segment.Grow(bytes));
  SetRoom(0, segment.capacity());
  return segment.Populate(0, bytes);
}

}  // namespace cordwood::log
