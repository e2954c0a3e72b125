// The state of a partition's records in a share group: what words mean, and how they change.

#include "cordwood/group/share.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/status_macros.h"

namespace cordwood::group {

// ---- Decisions

ShareWord ReadShareWord(std::uint64_t word, Offset offset) {
  if (word >> 16 != static_cast<std::uint64_t>(offset)) return {};
  const auto state = static_cast<unsigned>(word >> 13 & 7);
  if (state == 0 || state > static_cast<unsigned>(ShareState::kWornOut)) return {};
  return {.state = static_cast<ShareState>(state),
          .deliveries = static_cast<int>(word & kDeliveriesMax)};
}

Offset StartAfterBoot(std::optional<Offset> committed, Offset start, Offset newest, Offset end) {
  // What is past the end was never true.
  if (start < 0 || start > end) start = -1;
  if (newest >= 0 && newest < end) start = std::max(start, newest - kShareSlots + 1);
  return std::max(start, committed.value_or(-1));
}

StartCase CaseOfStart(std::optional<Offset> committed, Offset start, Offset next_start) {
  if (!committed) return start < 0 ? StartCase::kFirst : StartCase::kCommitAgain;
  if (start < 0) return StartCase::kNew;
  // Only an end of a move counts that was begun.
  if (next_start > start && *committed == next_start) return StartCase::kMoved;
  return *committed == start ? StartCase::kAgreed : StartCase::kReset;
}

std::uint64_t ShareKeyOf(const RecordView& record) {
  const std::optional<std::string_view> key = record.key();
  if (!key) return kNoKey;
  const std::uint64_t hash = os::Hash64(key->data(), key->size());
  return hash <= kNoKey ? hash + 2 : hash;
}

// ---- A turn

ShareTurn::~ShareTurn() {
  if (mapped_ == nullptr) return;
  ShareHeader& header = *mapped_->header;
  // Release: pairs with the acquire in ShareFile::Sync(); the words are there.
  if (changed_) header.changes.fetch_add(1, std::memory_order_release);
  if (wake_) header.bell.fetch_add(1, std::memory_order_seq_cst);
  header.lock.Unlock();
  // After the bell was changed: who has set the flag since will find another value there.
  if (wake_ && header.sleepers.load(std::memory_order_seq_cst) != 0 &&
      header.sleepers.exchange(0, std::memory_order_seq_cst) != 0) {
    os::FutexWake(&header.bell, os::kWakeAll);
  }
}

absl::Status ShareTurn::Take(std::int64_t wait_ns) {
  const log::Context& context = *file_.place_.context;
  CORDWOOD_RETURN_IF_ERROR(context.CheckWritable());
  const std::int64_t deadline = os::MonotonicNanos() + wait_ns;
  for (;;) {
    std::shared_ptr<ShareFile::Mapped> mapped = file_.mapped();
    ShareHeader& header = *mapped->header;
    const os::LockResult result = header.lock.Lock(*context.owners, deadline);
    if (result == os::LockResult::kTimedOut) {
      return absl::UnavailableError(absl::StrCat(file_.Path(), ": its lock is with ",
                                                 context.owners->Describe(header.lock.word())));
    }
    // Acquire: pairs with the release in ShareFile::Replace().
    if (header.state.load(std::memory_order_acquire) == ShareHeader::kReady) {
      mapped_ = std::move(mapped);
      // What a dead owner has changed it may not have counted.
      changed_ = result == os::LockResult::kTakenOver;
      break;
    }
    header.lock.Unlock();
    CORDWOOD_RETURN_IF_ERROR(
        file_.MapOrMake(std::max<std::int64_t>(0, deadline - os::MonotonicNanos())));
  }
  CORDWOOD_RETURN_IF_ERROR(context.CheckWritable());
  if (!file_.place_.group->is_current()) {
    return absl::FailedPreconditionError(absl::StrCat("group ", file_.place_.group->name(),
                                                      " was deleted; make another ShareConsumer"));
  }
  return Reconcile();
}

// The table at the head of share.h.
absl::Status ShareTurn::Reconcile() {
  ShareHeader& header = *mapped_->header;
  Group& group = *file_.place_.group;
  const int entry = file_.place_.entry;
  const std::optional<Offset> committed = group.committed(entry);
  const Offset next = header.next_start.load(std::memory_order_relaxed);
  start_ = header.start.load(std::memory_order_relaxed);
  const auto begin = [&](Offset start) {
    header.next_start.store(start, std::memory_order_relaxed);
    header.start.store(start, std::memory_order_release);
    start_ = start;
    changed_ = true;
  };
  switch (CaseOfStart(committed, start_, next)) {
    case StartCase::kFirst:  // @A
      begin(file_.initial_);
      return group.Commit(entry, start_, false);
    case StartCase::kCommitAgain:  // @B
      return group.Commit(entry, start_, false);
    case StartCase::kNew:    // @C
    case StartCase::kMoved:  // @D
      begin(*committed);
      return absl::OkStatus();
    case StartCase::kAgreed:  // @E
      // What no move leads to was never begun.
      return next > start_ && next <= kCommitMax ? MoveStart(next) : absl::OkStatus();
    case StartCase::kReset:  // @F
      for (Offset i = 0; i < kShareSlots; ++i) slot(i).word.store(0, std::memory_order_relaxed);
      header.letters_from.store(0, std::memory_order_relaxed);
      begin(*committed);  // last: cut off before, it is done again
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status ShareTurn::MoveStart(Offset to) {
  ShareHeader& header = *mapped_->header;
  header.next_start.store(to, std::memory_order_release);
  changed_ = true;
  const absl::Status committed = file_.place_.group->Commit(file_.place_.entry, to, false);
  // Somebody has just committed more: that is a reset, which the next turn finds.
  if (!committed.ok()) return committed;
  // Release: before any slot is used again by the lap that this lets in.
  header.start.store(to, std::memory_order_release);
  start_ = to;
  return absl::OkStatus();
}

absl::Status ShareTurn::Advance() {
  Offset to = start_;
  while (to < start_ + kShareSlots && IsDone(Look(to).state)) ++to;
  return to == start_ ? absl::OkStatus() : MoveStart(to);
}

absl::StatusOr<Offset> ShareTurn::PassGap(Offset from, Offset to, Offset end, std::int64_t now_ns) {
  const Offset stop = std::min(to, limit(end));
  for (Offset o = from; o < stop; ++o) {
    const ShareWord word = Look(o);
    if (IsDone(word.state) || (word.state == ShareState::kAcquired && IsHeld(o, now_ns))) continue;
    Set(o, ShareState::kArchived, word.deliveries);
  }
  CORDWOOD_RETURN_IF_ERROR(Advance());
  if (start_ < from || start_ < stop || start_ >= to) return stop;
  // Everything up to the gap's end is done with, however long it is.
  CORDWOOD_RETURN_IF_ERROR(MoveStart(to));
  return to;
}

bool ShareTurn::IsGone(std::uint32_t holder) {
  const os::LockOwners& owners = *file_.place_.context->owners;
  if (holder == owners.me()) return false;
  for (const auto& [word, gone] : gone_) {
    if (word == holder) return gone;
  }
  gone_.emplace_back(holder, owners.IsDead(holder));
  return gone_.back().second;
}

bool ShareTurn::IsHeld(Offset offset, std::int64_t now_ns) {
  return deadline_ns(offset) > now_ns &&
         !IsGone(slot(offset).holder.load(std::memory_order_relaxed));
}

bool ShareTurn::IsLease(Offset offset, int deliveries, std::uint32_t member) const {
  if (offset < start_ || offset - start_ >= kShareSlots) return false;
  const ShareSlot& at = slot(offset);
  return Look(offset) == ShareWord{ShareState::kAcquired, deliveries} &&
         at.holder.load(std::memory_order_relaxed) == file_.place_.context->owners->me() &&
         at.member.load(std::memory_order_relaxed) == member;
}

void ShareTurn::Store(Offset offset, ShareWord word) {
  // Release: what else is in the slot is there before the word speaks of it.
  slot(offset).word.store(PackShareWord(offset, word), std::memory_order_release);
  changed_ = true;
}

void ShareTurn::Hold(Offset offset, const Lease& lease) {
  ShareSlot& at = slot(offset);
  at.deadline_ns.store(lease.deadline_ns, std::memory_order_relaxed);
  at.holder.store(file_.place_.context->owners->me(), std::memory_order_relaxed);
  at.member.store(lease.member, std::memory_order_relaxed);
  at.key.store(lease.key, std::memory_order_relaxed);
  Store(offset, {ShareState::kAcquired, std::min(lease.deliveries, kDeliveriesMax)});
}

void ShareTurn::Set(Offset offset, ShareState state, int deliveries) {
  Store(offset, {state, deliveries});
}

void ShareTurn::NoteKey(Offset offset, std::uint64_t key) {
  slot(offset).key.store(key, std::memory_order_relaxed);
}

void ShareTurn::Renew(Offset offset, std::int64_t deadline_ns) {
  slot(offset).deadline_ns.store(deadline_ns, std::memory_order_relaxed);
}

bool ShareTurn::Release(Offset offset, int deliveries, int delivery_limit) {
  const bool worn_out = deliveries >= delivery_limit;
  Set(offset, worn_out ? ShareState::kWornOut : ShareState::kAvailable, deliveries);
  wake_ = true;
  return worn_out;
}

bool ShareTurn::ReleaseAll(std::uint32_t member, int delivery_limit) {
  bool worn_out = false;
  for (Offset o = start_; o < start_ + kShareSlots; ++o) {
    const ShareWord word = Look(o);
    const std::uint32_t holder = slot(o).member.load(std::memory_order_relaxed);
    if (!IsLease(o, word.deliveries, member == 0 ? holder : member)) continue;
    worn_out |= Release(o, word.deliveries, delivery_limit);
  }
  return worn_out;
}

std::optional<Offset> ShareTurn::letters_from() const {
  const Offset from = mapped_->header->letters_from.load(std::memory_order_acquire);
  if (from <= 0) return std::nullopt;
  return from - 1;
}

void ShareTurn::SetLettersFrom(std::optional<Offset> from) {
  mapped_->header->letters_from.store(from ? *from + 1 : 0, std::memory_order_release);
}

}  // namespace cordwood::group
