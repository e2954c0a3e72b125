// Work on every partition of a directory, and leaving it.
//
// The last one out says in the marker CLEAN which topics need no look when the directory
// is opened again. It says so only of what it knows to be on the disk: the steps are in
// LeaveAsLast(). Dying, or failing, at any of them leaves no marker, and the next first
// opener recovers: the marker saves time, and no record depends on it.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/status_macros.h"
#include "log/clean_marker.h"
#include "log/small_files.h"
#include "log/timed_sync.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

// For each of the things that Close may have to wait for, all of them in the hands of
// other processes or other threads.
constexpr absl::Duration kCloseTimeout = absl::Seconds(5);

bool IsOpen(const ControlBlock& block) {
  return block.state.load(std::memory_order_acquire) ==
         static_cast<std::uint32_t>(PartitionState::kOpen);
}

bool IsDurable(const ControlBlock& block, Offset end) {
  return block.durable.load(std::memory_order_acquire) >= end;
}

// More files than this are synced by one sync of the file system: 3,000 took 0.025 s that
// way, and 0.297 s one by one.
constexpr std::size_t kFilesMax = 64;

// Rule 17. What is left out, or fails, is for the caller to flush on its own.
absl::Status SyncTogether(const Context& context,
                          const std::vector<std::shared_ptr<TopicFiles>>& topics) {
  std::vector<std::pair<TopicFiles*, int>> dirty;
  for (const std::shared_ptr<TopicFiles>& topic : topics) {
    const std::shared_ptr<ControlFile> control = topic->control();
    for (int i = 0; i < topic->partitions(); ++i) {
      const ControlBlock& block = control->block(i);
      if (IsOpen(block) && !IsDurable(block, ReadTail(block).end())) {
        dirty.emplace_back(topic.get(), i);
      }
    }
  }
  if (dirty.size() <= kFilesMax) return absl::OkStatus();
  std::vector<std::pair<Log*, TailView>> begun;
  for (const auto& [topic, partition] : dirty) {
    const absl::StatusOr<Log*> log = topic->FindLog(partition);
    if (!log.ok()) continue;
    const absl::StatusOr<std::optional<TailView>> to = (*log)->BeginSharedSync();
    if (to.ok() && to->has_value()) begun.emplace_back(*log, **to);
  }
  if (begun.empty()) return absl::OkStatus();
  const absl::Status synced = TimedSync(context, [&] { return context.root->SyncFileSystem(); });
  absl::Status first;
  for (const auto& [log, to] : begun) first.Update(log->EndSharedSync(to, synced));
  // Not before all of their locks are free: a callback may make another of them durable.
  for (const auto& [log, to] : begun) log->RunDurableCallbacks();
  return first;
}

}  // namespace

// ---- All partitions

absl::StatusOr<std::vector<std::shared_ptr<TopicFiles>>> Directory::AllTopics() {
  std::vector<std::shared_ptr<TopicFiles>> topics;
  for (const std::string& name : TopicNames()) {
    absl::StatusOr<std::shared_ptr<TopicFiles>> topic = OpenTopic(name);
    if (topic.ok()) {
      topics.push_back(*std::move(topic));
    } else if (absl::IsResourceExhausted(topic.status())) {
      return topic.status();  // it may well have records that are not durable
    }
    // Else it was deleted just now, or nobody can have appended to it.
  }
  return topics;
}

absl::Status Directory::FlushAll(absl::Duration timeout) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  const std::int64_t deadline = DeadlineAfter(timeout);
  CORDWOOD_ASSIGN_OR_RETURN(const auto topics, AllTopics());
  absl::Status first = SyncTogether(*context_, topics);
  for (const std::shared_ptr<TopicFiles>& topic : topics) {
    const std::shared_ptr<ControlFile> control = topic->control();
    for (int i = 0; i < topic->partitions(); ++i) {
      const ControlBlock& block = control->block(i);
      const Offset end = ReadTail(block).end();
      if (IsDurable(block, end) || !IsOpen(block)) continue;
      const absl::StatusOr<Log*> log = topic->FindLog(i);
      if (!log.ok()) {
        first.Update(log.status());
        continue;
      }
      const std::int64_t left = std::max<std::int64_t>(deadline - os::MonotonicNanos(), 0);
      const absl::Status flushed = (*log)->FlushTo(end, absl::Nanoseconds(left));
      if (!flushed.ok() && !topic->is_deleted()) first.Update(flushed);
    }
  }
  return first;
}

absl::Status Directory::TryFlushAll(std::int64_t deadline_ns) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_ASSIGN_OR_RETURN(const auto topics, AllTopics());
  const std::size_t turn = flush_turn_.load(std::memory_order_relaxed);
  bool has_begun = false;  // one at least in each call
  absl::Status first = SyncTogether(*context_, topics);
  for (std::size_t n = 0; n < topics.size(); ++n) {
    TopicFiles& topic = *topics[(turn + n) % topics.size()];
    const std::shared_ptr<ControlFile> control = topic.control();
    for (int i = 0; i < topic.partitions(); ++i) {
      const ControlBlock& block = control->block(i);
      const Offset end = ReadTail(block).end();
      if (IsDurable(block, end) || !IsOpen(block)) continue;
      if (std::exchange(has_begun, true) && os::MonotonicNanos() >= deadline_ns) {
        flush_turn_.store((turn + n) % topics.size(), std::memory_order_relaxed);
        return absl::UnavailableError("the time was over before everything was flushed");
      }
      const absl::StatusOr<Log*> log = topic.FindLog(i);
      absl::Status flushed = log.ok() ? (*log)->TryFlush() : log.status();
      if (flushed.ok() && !IsDurable(block, end)) {
        flushed = absl::UnavailableError(
            absl::StrCat(topic.name(), "-", i, ": another process is flushing it"));
      }
      if (!flushed.ok() && !topic.is_deleted()) first.Update(flushed);
    }
  }
  return first;
}

bool Directory::PrepareAheadAll(std::int64_t deadline_ns) {
  if (!context_->CheckWritable().ok()) return false;
  bool moved = false;
  for (const std::shared_ptr<TopicFiles>& topic : Topics()) {
    if (topic->IsConfigChanging()) FinishChange(*topic);
    topic->RefreshConfig();
    moved |= topic->ForEachMoved([&](Log& log) {
      // What fails or is left out here, the append does by itself.
      if (os::MonotonicNanos() >= deadline_ns) return;
      log.PrepareAhead().IgnoreError();
      log.RetainAfterRoll().IgnoreError();
    });
  }
  return moved;
}

void Directory::RetainAll(std::int64_t deadline_ns) {
  if (!context_->CheckWritable().ok()) return;
  const auto topics = AllTopics();
  if (!topics.ok()) return;
  const std::size_t turn = retain_turn_.load(std::memory_order_relaxed);
  bool has_begun = false;  // one at least in each call
  for (std::size_t n = 0; n < topics->size(); ++n) {
    TopicFiles& topic = *(*topics)[(turn + n) % topics->size()];
    const std::shared_ptr<ControlFile> control = topic.control();
    const int first = n == 0 ? retain_partition_.exchange(0, std::memory_order_relaxed) : 0;
    for (int i = first; i < topic.partitions(); ++i) {
      const ControlBlock& block = control->block(i);
      // One that is empty is left in peace: ten thousand of them cost nothing.
      if (ReadTail(block).end() == block.start.load(std::memory_order_relaxed)) continue;
      if (std::exchange(has_begun, true) && os::MonotonicNanos() >= deadline_ns) {
        retain_turn_.store((turn + n) % topics->size(), std::memory_order_relaxed);
        retain_partition_.store(i, std::memory_order_relaxed);
        return;
      }
      // What cannot be done now is tried again with the next pass.
      if (const absl::StatusOr<Log*> log = topic.FindLog(i); log.ok()) {
        (*log)->Retain().IgnoreError();
      }
    }
  }
}

void Directory::RunCallbacks() {
  for (const std::shared_ptr<TopicFiles>& topic : Topics()) {
    for (const std::shared_ptr<Log>& log : topic->OpenLogs()) log->RunDurableCallbacks();
  }
}

// ---- Leaving

Directory::~Directory() { Close().IgnoreError(); }

absl::Status Directory::Close() {
  // In a child of a fork nothing is done, and no lock is touched: another thread of the
  // parent may have held it.
  if (!context_->live->is_open()) {
    return closing_.load(std::memory_order_seq_cst) ? absl::OkStatus() : context_->live->Check();
  }
  if (closing_.exchange(true, std::memory_order_seq_cst)) return absl::OkStatus();
  if (read_only()) {
    context_->live->Shut();
    return absl::OkStatus();
  }
  // What this process has published it does not leave to others, who may have no thread
  // that flushes.
  absl::Status status = FlushAll(kCloseTimeout);
  RunCallbacks();
  // From here on no call of this process begins to change anything. One that holds a lock
  // now ends its work; one that gets a lock later looks at the flag first (seq_cst).
  context_->live->Shut();
  WakeAndCancel();
  if (!WaitForOwnLocks(DeadlineAfter(kCloseTimeout))) {
    // The presence stays until the last handle is gone: a first opener, who makes all locks
    // anew, must not come while one of them is in use.
    status.Update(absl::UnavailableError(
        absl::StrCat(context_->root->path(),
                     ": a call of this process on a partition has not "
                     "returned for seconds; the directory stays marked as in use by it")));
    return status;
  }
  status.Update(Leave());
  return status;
}

void Directory::WakeAndCancel() {
  for (const std::shared_ptr<TopicFiles>& topic : Topics()) {
    for (const std::shared_ptr<Log>& log : topic->OpenLogs()) {
      log->WakeAll();
      log->ReleasePins();
      log->CancelCallbacks(absl::CancelledError("the broker was closed"));
    }
    os::Ring(topic->control()->header().bell);
  }
}

bool Directory::WaitForOwnLocks(std::int64_t deadline_ns) {
  while (context_->works.load(std::memory_order_seq_cst) != 0) {
    if (os::MonotonicNanos() >= deadline_ns) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  for (const std::shared_ptr<TopicFiles>& topic : Topics()) {
    const std::shared_ptr<ControlFile> control = topic->control();
    for (int i = 0; i < topic->partitions(); ++i) {
      const ControlBlock& block = control->block(i);
      while (block.lock.IsHeldBy(*context_->owners) ||
             block.sync_lock.IsHeldBy(*context_->owners)) {
        if (os::MonotonicNanos() >= deadline_ns) return false;
        absl::SleepFor(absl::Milliseconds(1));
      }
    }
  }
  return true;
}

absl::Status Directory::Leave() {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> locks,
                            context_->root->OpenFile("locks", os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const bool is_my_turn,
                            LockByte(*locks, os::LockKind::kExclusive, os::LockOwners::kOpenByte,
                                     DeadlineAfter(kCloseTimeout)));
  // Given up in any case: who leaves without the marker costs the next one a recovery.
  presence_.reset();
  if (!is_my_turn) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(
      const bool is_last, locks->TryLock(os::LockKind::kExclusive, os::LockOwners::kPresenceByte));
  return is_last ? LeaveAsLast() : absl::OkStatus();
}

// Holding the open byte and the presence byte exclusively: nobody is here, and nobody comes.
// Appends that were under way when this process shut, and those of processes that died,
// may not be durable yet, and the logs of this open do nothing any more. So the rest is
// done in an open of its own.
absl::Status Directory::LeaveAsLast() {
  auto context = std::make_shared<Context>(context_->storage, context_->root);
  CORDWOOD_ASSIGN_OR_RETURN(context->live, LiveFlag::Create());
  CORDWOOD_ASSIGN_OR_RETURN(context->owners,
                            os::LockOwners::Claim(*context->root, context->clock.Now()));
  context->boot_id = context_->boot_id;
  context->metrics = context_->metrics;
  Directory last(context, hooks_);
  last.closing_.store(true, std::memory_order_seq_cst);  // it has no presence to give up
  absl::Status status = last.MarkClean();
  context->live->Shut();
  return status;
}

absl::Status Directory::MarkClean() {
  // 1. Every record is durable, as far as the disk will have it.
  const absl::Status flushed = FlushAll(kCloseTimeout);
  // 2. Then the offsets that groups have committed, which must not get ahead of the data.
  if (flushed.ok() && hooks_.last_close) {
    CORDWOOD_RETURN_IF_ERROR(hooks_.last_close(context_));
  }
  // 3. The control files say so, on the disk. A topic with a partition that failed, that
  //    could not be made durable, or that had a failing disk, has no entry: it is recovered.
  std::vector<CleanEntry> entries;
  CORDWOOD_ASSIGN_OR_RETURN(const auto topics, AllTopics());
  for (const std::shared_ptr<TopicFiles>& topic : topics) {
    const std::shared_ptr<ControlFile> control = topic->control();
    bool is_clean = true;
    for (int i = 0; i < topic->partitions(); ++i) {
      const ControlBlock& block = control->block(i);
      if (block.prepared.load(std::memory_order_relaxed) != 0) {
        if (const absl::StatusOr<Log*> log = topic->FindLog(i); log.ok()) (*log)->DropPrepared();
      }
      is_clean = is_clean && IsOpen(block) && IsDurable(block, ReadTail(block).end()) &&
                 block.sync_to.load(std::memory_order_relaxed) == 0 &&
                 block.has_retired.load(std::memory_order_relaxed) == 0;
    }
    if (is_clean && control->Sync().ok()) entries.push_back(CleanEntry::Of(*control));
  }
  // 4. The marker, by rename: it is whole or it is not there.
  CORDWOOD_RETURN_IF_ERROR(WriteCleanMarker(*context_->root, entries));
  return flushed;
}

}  // namespace cordwood::log
