// The records of a partition that are in flight, and the first one that is.

#include "cordwood/completion.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood {
namespace {

// So many finished slots more than unfinished ones may lie behind an unfinished one before
// they are swept out. A sweep looks at no more than twice as many slots as were finished
// since the last one.
constexpr std::size_t kFinishedSlotsMax = 1024;

}  // namespace

// ---- One partition

CompletionTracker::Slot* CompletionTracker::Progress::Find(Offset offset) {
  if (slots.empty() || offset < slots.front().offset) return nullptr;
  // Offsets rise by one at least, so it lies no further back than this; without holes, here.
  const auto back_max = static_cast<std::size_t>(offset - slots.front().offset);
  const std::size_t at = std::min(back_max, slots.size() - 1);
  if (slots[at].offset == offset) return &slots[at];
  const auto last = slots.begin() + static_cast<std::ptrdiff_t>(at);
  const auto found =
      std::lower_bound(slots.begin(), last, offset,
                       [](const Slot& slot, Offset wanted) { return slot.offset < wanted; });
  return found != last && found->offset == offset ? &*found : nullptr;
}

// False: there is nothing to finish.
bool CompletionTracker::Progress::Finish(Offset offset) {
  Slot* const slot = Find(offset);
  if (slot == nullptr || slot->is_done) return false;
  slot->is_done = true;
  --unfinished;
  while (!slots.empty() && slots.front().is_done) slots.pop_front();
  if (slots.size() - unfinished > unfinished + kFinishedSlotsMax) {
    std::erase_if(slots, [](const Slot& s) { return s.is_done; });
  }
  return true;
}

void CompletionTracker::Progress::DropFrom(Offset offset) {
  while (!slots.empty() && slots.back().offset >= offset) {
    unfinished -= slots.back().is_done ? 0 : 1;
    slots.pop_back();
  }
}

// ---- All of them

CompletionTracker::Progress& CompletionTracker::FindOrBegin(std::string_view topic, int partition,
                                                            Offset from) {
  const auto found = partitions_.find(ByName::Name(topic, partition));
  if (found != partitions_.end()) return found->second;
  Progress& made = partitions_[TopicPartition{std::string(topic), partition}];
  made.end = made.committed = made.durable = from;
  return made;
}

void CompletionTracker::Track(const RecordBatch& batch) {
  absl::MutexLock lock(&mutex_);
  // Gaps first: in a partition with records too, these say where it ends.
  for (const Gap& gap : batch.gaps()) {
    Progress& progress = FindOrBegin(gap.topic, gap.partition, gap.from);
    progress.end = std::max(progress.end, gap.to);
  }
  for (const PartitionRecords& records : batch.partitions()) {
    const Offset first = records.begin()->offset();
    Progress& progress = FindOrBegin(records.topic(), records.partition(), first);
    in_flight_ -= progress.unfinished;
    // There is something to drop only after a Seek back.
    progress.DropFrom(first);
    for (const RecordView& record : records) progress.slots.push_back({record.offset()});
    progress.unfinished += records.size();
    progress.end = records.next_offset();
    progress.committed = std::min(progress.committed, first);
    progress.durable = std::min(progress.durable, first);
    in_flight_ += progress.unfinished;
  }
}

void CompletionTracker::Done(const RecordView& record) {
  Finish({record.topic(), record.partition()}, record.offset());
}

void CompletionTracker::Done(const TopicPartition& where, Offset offset) {
  Finish(ByName::Of(where), offset);
}

void CompletionTracker::Finish(ByName::Name where, Offset offset) {
  absl::MutexLock lock(&mutex_);
  const auto found = partitions_.find(where);
  if (found != partitions_.end() && found->second.Finish(offset)) Land(1);
}

std::map<TopicPartition, Offset> CompletionTracker::Safe() const {
  return SafeBeyond(&Progress::committed);
}

std::map<TopicPartition, Offset> CompletionTracker::SafeBeyond(Offset Progress::*known) const {
  absl::MutexLock lock(&mutex_);
  std::map<TopicPartition, Offset> safe;
  for (const auto& [where, progress] : partitions_) {
    if (progress.safe() > progress.*known) safe[where] = progress.safe();
  }
  return safe;
}

absl::Status CompletionTracker::Commit(Consumer& consumer, const CommitOptions& options) {
  const std::vector<TopicPartition> assigned = consumer.assignment();
  const std::set<TopicPartition> owned(assigned.begin(), assigned.end());
  const bool durable = options.durability == Durability::kDurable;
  const std::map<TopicPartition, Offset> safe =
      SafeBeyond(durable ? &Progress::durable : &Progress::committed);
  std::map<TopicPartition, Offset> wanted;
  for (const auto& [where, offset] : safe) {
    if (!owned.contains(where)) continue;
    const absl::StatusOr<std::optional<Offset>> now = consumer.committed(where);
    const bool is_behind = now.ok() && *now && **now > offset;
    if (!is_behind || options.force) wanted[where] = offset;
  }
  // With nothing to commit too: a consumer that is closed says so, and nothing is forgotten.
  CORDWOOD_RETURN_IF_ERROR(consumer.Commit(wanted, options));

  absl::MutexLock lock(&mutex_);
  std::optional<internal::PartitionName> lost;
  Offset lost_at = 0;
  std::string names;
  for (auto it = partitions_.begin(); it != partitions_.end();) {
    auto& [where, progress] = *it;
    if (owned.contains(where)) {
      if (const auto said = safe.find(where); said != safe.end()) {
        progress.committed = said->second;
        if (durable) progress.durable = said->second;
      }
      ++it;
      continue;
    }
    if (progress.is_open()) {
      absl::StrAppend(&names, names.empty() ? "" : ", ", where.topic, "-", where.partition);
      if (!lost) {
        lost = {where.topic, where.partition};
        lost_at = progress.safe();
      }
    }
    Land(progress.unfinished);
    it = partitions_.erase(it);
  }
  if (!lost) return absl::OkStatus();
  return internal::At(
      absl::AbortedError(absl::StrCat(names,
                                      ": not committed and forgotten, as not assigned to "
                                      "this consumer any more; the others are committed")),
      *lost, lost_at);
}

void CompletionTracker::Forget(std::span<const TopicPartition> partitions) {
  absl::MutexLock lock(&mutex_);
  for (const TopicPartition& where : partitions) {
    const auto found = partitions_.find(where);
    if (found == partitions_.end()) continue;
    Land(found->second.unfinished);
    partitions_.erase(found);
  }
}

std::size_t CompletionTracker::in_flight() const {
  absl::MutexLock lock(&mutex_);
  return in_flight_;
}

void CompletionTracker::Land(std::size_t records) {
  in_flight_ -= records;
  // Not for every record: whoever waits for room waits for many.
  if (in_flight_ <= room_awaited_) room_.SignalAll();
}

bool CompletionTracker::WaitForRoom(std::size_t in_flight_max, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  absl::MutexLock lock(&mutex_);
  ++sleepers_;
  room_awaited_ = std::max(room_awaited_, in_flight_max);
  while (in_flight_ > in_flight_max && !room_.WaitWithDeadline(&mutex_, deadline)) {
  }
  if (--sleepers_ == 0) room_awaited_ = 0;
  return in_flight_ <= in_flight_max;
}

}  // namespace cordwood
