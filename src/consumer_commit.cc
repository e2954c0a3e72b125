// Where a consumer is, and what of it is committed.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "consumer_state.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {

// ---- Commit

absl::Status ConsumerState::CommitPositions(const CommitOptions& options) {
  std::vector<Wanted> wanted;
  ForEachPartition([&](PartitionReading& partition) {
    if (partition.no_position.ok()) {
      wanted.push_back({&partition, partition.cursor.next_offset()});
    }
  });
  return Commit(wanted, options);
}

absl::Status ConsumerState::CommitOffset(std::string_view topic, int partition, Offset next,
                                         const CommitOptions& options) {
  CORDWOOD_ASSIGN_OR_RETURN(PartitionReading* const found, Find(std::string(topic), partition));
  const Wanted wanted{found, next};
  return Commit({&wanted, 1}, options);
}

absl::Status ConsumerState::CommitOffsets(const std::map<TopicPartition, Offset>& offsets,
                                          const CommitOptions& options) {
  std::vector<Wanted> wanted;
  wanted.reserve(offsets.size());
  std::vector<TopicPartition> lost;
  for (const auto& [where, next] : offsets) {
    const absl::StatusOr<PartitionReading*> found = Find(where.topic, where.partition);
    if (found.ok()) {
      wanted.push_back({*found, next});
    } else if (absl::IsAborted(found.status())) {
      lost.push_back(where);
    } else {
      return found.status();
    }
  }
  return Commit(wanted, options, std::move(lost));
}

absl::Status ConsumerState::CommitEach(std::span<const Wanted> wanted, const CommitOptions& options,
                                       std::vector<TopicPartition> lost) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  if (options_.group.empty()) {
    return absl::FailedPreconditionError(
        "Commit without a group: set ConsumerOptions::group, or keep the positions yourself");
  }
  CORDWOOD_RETURN_IF_ERROR(broker_->context().CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(OpenGroup());
  // Everything that can be wrong first: then nothing is committed.
  for (const Wanted& w : wanted) {
    const PartitionName& name = w.partition->log->name();
    const auto wrong = [&](absl::Status status) { return At(std::move(status), name, w.next); };
    if (w.next < 0) {
      return wrong(absl::InvalidArgumentError(
          absl::StrCat(name.topic, "-", name.partition, ": a commit of offset ", w.next)));
    }
    if (const Offset end = w.partition->log->end_offset(); w.next > end) {
      return wrong(absl::OutOfRangeError(absl::StrCat(name.topic, "-", name.partition,
                                                      ": a commit of offset ", w.next,
                                                      ", which is past the end ", end)));
    }
    if (!group_->IsOwner(w.partition->entry, w.partition->epoch)) {
      if (w.partition->epoch) continue;  // told below
      return wrong(absl::FailedPreconditionError(
          absl::StrCat(name.topic, "-", name.partition, ": a member of group ", options_.group,
                       " owns it, and it alone commits")));
    }
    const std::optional<Offset> now = group_->committed(w.partition->entry);
    if (now && *now > w.next && !options.force) {
      return wrong(absl::FailedPreconditionError(absl::StrCat(
          name.topic, "-", name.partition, ": group ", options_.group, " has committed ", *now,
          ", which is above ", w.next, "; set CommitOptions::force to go back")));
    }
  }
  if (!wanted.empty() && !wanted.front().partition->epoch && group_->HasShareMember()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "group ", options_.group, " has a ShareConsumer, and it alone commits; close it first"));
  }
  // What this consumer has lost meanwhile is told of, and the rest committed all the same.
  std::vector<Wanted> committed;
  for (const Wanted& w : wanted) {
    const absl::Status status = CommitOne(w, options);
    if (absl::IsAborted(status)) {
      lost.push_back({w.partition->topic->name(), w.partition->number});
      continue;
    }
    CORDWOOD_RETURN_IF_ERROR(status);
    if (options.durability == Durability::kDurable) committed.push_back(w);
  }
  if (!committed.empty()) CORDWOOD_RETURN_IF_ERROR(MakeDurable(committed));
  if (lost.empty()) return absl::OkStatus();
  std::string names;
  for (const TopicPartition& where : lost) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", where.topic, "-", where.partition);
  }
  return At(absl::AbortedError(absl::StrCat(names, ": group ", options_.group,
                                            " has given them away; the others are committed")),
            PartitionName{lost.front().topic, lost.front().partition});
}

absl::Status ConsumerState::CommitOne(const Wanted& wanted, const CommitOptions& options) {
  const PartitionReading& partition = *wanted.partition;
  const auto told = [&](absl::Status status) {
    if (status.ok()) return status;
    const PartitionName& name = partition.log->name();
    const absl::Status named(status.code(),
                             absl::StrCat(name.topic, "-", name.partition, ": ", status.message()));
    return At(named, name, wanted.next);
  };
  if (!options.metadata.empty()) {
    CORDWOOD_RETURN_IF_ERROR(told(
        group_->WriteMetadata(partition.entry, wanted.next, options.metadata, partition.epoch)));
  }
  const absl::Status status =
      group_->Commit(partition.entry, wanted.next, options.force, partition.epoch);
  if (status.ok()) partition.log->TellOfRoom();
  return told(status);
}

// Rule 23: no commit gets ahead of the data on the disk.
absl::Status ConsumerState::MakeDurable(std::span<const Wanted> wanted) {
  std::vector<group::Group::Change> changes;
  changes.reserve(wanted.size());
  for (const Wanted& w : wanted) {
    changes.push_back({w.partition->entry, w.next});
    CORDWOOD_RETURN_IF_ERROR(w.partition->log->FlushTo(w.next, absl::InfiniteDuration()));
  }
  return group_->WriteDurable(changes, group::Group::Wait::kForTurn);
}

// What the last Poll gave. Going back over old records does not take a commit back.
absl::Status ConsumerState::CommitAfterPoll() {
  if (unsaid_.empty()) return absl::OkStatus();
  std::vector<Wanted> wanted;
  CORDWOOD_RETURN_IF_ERROR(OpenGroup());
  for (PartitionReading* partition : unsaid_) {
    partition->unsaid = false;
    const std::optional<Offset> now = group_->committed(partition->entry);
    if (!now || *now < partition->given) wanted.push_back({partition, partition->given});
  }
  unsaid_.clear();
  absl::Status status = Commit(wanted, {});
  // The Poll tells of what was lost, or Close of nothing any more.
  return absl::IsAborted(status) ? absl::OkStatus() : status;
}

// ---- Positions

absl::StatusOr<std::vector<PartitionReading*>> ConsumerState::FindAll(
    std::span<const TopicPartition> partitions) const {
  std::vector<PartitionReading*> all;
  for (const TopicPartition& where : partitions) {
    CORDWOOD_ASSIGN_OR_RETURN(PartitionReading* const found, Find(where.topic, where.partition));
    all.push_back(found);
  }
  return all;
}

void ConsumerState::SeekTo(PartitionReading& partition, Offset offset) {
  partition.cursor.Seek(offset);
  partition.check_position = true;
  partition.no_position = absl::OkStatus();
  partition.failed = false;
  // An error that was not told yet is about a position that nobody has any more.
  std::erase_if(errors_, [&](const Error& e) { return e.partition == &partition; });
  Enqueue(partition);
}

absl::Status ConsumerState::Seek(const TopicPartition& where, Offset offset) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_ASSIGN_OR_RETURN(PartitionReading* const partition, Find(where.topic, where.partition));
  if (offset < 0) {
    return At(absl::InvalidArgumentError(
                  absl::StrCat(where.topic, "-", where.partition, ": a seek to offset ", offset)),
              partition->log->name(), offset);
  }
  SeekTo(*partition, offset);
  partition->cursor.SeekOn(offset);  // perhaps a position that the caller has kept
  TellReady();
  return absl::OkStatus();
}

template <class F>
absl::Status ConsumerState::SeekEach(std::span<const TopicPartition> partitions, F position) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_ASSIGN_OR_RETURN(std::vector<PartitionReading*> all, FindAll(partitions));
  if (partitions.empty()) {
    ForEachPartition([&](PartitionReading& partition) { all.push_back(&partition); });
  }
  for (PartitionReading* partition : all) {
    const absl::StatusOr<Offset> offset = position(*partition->log);
    if (!offset.ok()) return At(offset.status(), partition->log->name());
    SeekTo(*partition, *offset);
  }
  TellReady();
  return absl::OkStatus();
}

absl::Status ConsumerState::SeekToBeginning(std::span<const TopicPartition> partitions) {
  return SeekEach(partitions,
                  [](log::Log& log) -> absl::StatusOr<Offset> { return log.start_offset(); });
}

absl::Status ConsumerState::SeekToEnd(std::span<const TopicPartition> partitions) {
  return SeekEach(partitions,
                  [](log::Log& log) -> absl::StatusOr<Offset> { return log.end_offset(); });
}

absl::Status ConsumerState::SeekToTime(absl::Time time,
                                       std::span<const TopicPartition> partitions) {
  return SeekEach(partitions, [&](log::Log& log) { return log.OffsetForTime(TimeToNanos(time)); });
}

absl::StatusOr<Offset> ConsumerState::Position(const TopicPartition& where) const {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_ASSIGN_OR_RETURN(const PartitionReading* const partition,
                            Find(where.topic, where.partition));
  if (!partition->no_position.ok()) return partition->no_position;
  return partition->cursor.next_offset();
}

absl::StatusOr<std::optional<Offset>> ConsumerState::Committed(const TopicPartition& where) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_ASSIGN_OR_RETURN(const PartitionReading* const partition,
                            Find(where.topic, where.partition));
  if (options_.group.empty()) {
    return absl::FailedPreconditionError(
        "what is committed is a group's: set "
        "ConsumerOptions::group");
  }
  CORDWOOD_RETURN_IF_ERROR(OpenGroup());
  if (partition->entry == group::Group::kNoEntry) return std::optional<Offset>();
  return group_->committed(partition->entry);
}

absl::StatusOr<std::int64_t> ConsumerState::Lag(const TopicPartition& where) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_ASSIGN_OR_RETURN(const PartitionReading* const partition,
                            Find(where.topic, where.partition));
  const log::Log& log = *partition->log;
  Offset from = partition->cursor.next_offset();
  if (!options_.group.empty()) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::optional<Offset> committed, Committed(where));
    from = committed.value_or(log.start_offset());
  }
  return std::max<std::int64_t>(0, log.end_offset() - from);
}

absl::Status ConsumerState::SetPaused(std::span<const TopicPartition> partitions, bool paused) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<PartitionReading*> all, FindAll(partitions));
  for (PartitionReading* partition : all) {
    partition->paused = paused;
    if (paused) {
      SetBusy(*partition);  // its news are none
      continue;
    }
    if (partition->failed) {
      partition->failed = false;
      partition->cursor.Seek(partition->cursor.next_offset());  // opens what failed anew
      std::erase_if(errors_, [&](const Error& e) { return e.partition == partition; });
    }
    Enqueue(*partition);
  }
  TellReady();
  return absl::OkStatus();
}

}  // namespace cordwood::internal
