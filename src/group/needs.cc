#include "cordwood/group/needs.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "cordwood/log/cursor.h"
#include "cordwood/status_macros.h"

namespace cordwood::group {
namespace {

absl::StatusOr<std::optional<Offset>> Committed(GroupStore& store, const std::string& group,
                                                const os::Bits128& topic_id, int partition,
                                                Group::Wait wait, log::Needs::Commits commits) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<Group> open, store.OpenGroup(group, false, wait));
  CORDWOOD_ASSIGN_OR_RETURN(const int entry, open->EntryOf(topic_id, partition));
  if (entry == Group::kNoEntry) return std::nullopt;
  const std::optional<Offset> committed = open->committed(entry);
  if (commits == log::Needs::Commits::kAll || !committed) return committed;
  const std::optional<Offset> durable = open->durably_committed(entry);
  return durable ? std::min(*committed, *durable) : durable;
}

}  // namespace

absl::StatusOr<GroupNeed> NeedOf(GroupStore& store, const std::string& group,
                                 const std::shared_ptr<log::Log>& log) {
  const auto committed = Committed(store, group, log->files().topic_id, log->partition(),
                                   Group::Wait::kForTurn, log::Needs::Commits::kAll);
  if (!committed.ok() && !absl::IsNotFound(committed.status())) return committed.status();
  GroupNeed need = {.from = log->start_offset(), .is_there = committed.ok()};
  if (committed.ok()) need.from = std::max(need.from, committed->value_or(0));
  need.first_stamp_ns = FirstStampFrom(log, need.from);
  return need;
}

std::optional<std::int64_t> FirstStampFrom(std::shared_ptr<log::Log> log, Offset from) {
  log::Cursor cursor(std::move(log), from);
  segment::CheckedFrame frame;
  for (;;) {
    switch (cursor.Next(frame)) {
      case log::Cursor::Step::kRecord:
        return frame.header.timestamp_ns;
      case log::Cursor::Step::kGap:
        break;
      default:
        return std::nullopt;
    }
  }
}

Offset GroupNeeds::NeededFrom(const os::Bits128& topic_id,
                              const cordwood::internal::PartitionName& name,
                              std::span<const std::string> groups, Commits commits) const {
  const std::shared_ptr<GroupStore> store = groups_.lock();
  if (store == nullptr) return 0;
  Offset from = std::numeric_limits<Offset>::max();
  for (const std::string& group : groups) {
    // Of a group that is not there yet, or that cannot be read now, everything is needed.
    const auto committed =
        Committed(*store, group, topic_id, name.partition, Group::Wait::kNotLong, commits);
    from = std::min(from, committed.ok() ? committed->value_or(0) : 0);
  }
  return from;
}

}  // namespace cordwood::group
