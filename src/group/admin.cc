// What is done to a group from outside: describing, resetting, deleting it.

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/group/needs.h"
#include "cordwood/group/offsets.h"
#include "cordwood/group/share.h"
#include "cordwood/log/directory.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/options.h"
#include "cordwood/status_macros.h"
#include "group/files.h"
#include "group/roster.h"
#include "log/small_files.h"

namespace cordwood::group {
namespace {

constexpr std::int64_t kMakingWaitNanos = 5'000'000'000;

absl::Status NoGroup(std::string_view name) {
  return absl::NotFoundError(absl::StrCat("there is no group ", Piece(name)));
}

// Keeps others from joining until the file is closed. kFailedPrecondition names the members
// that are in the way. `group` is null if it cannot be opened.
absl::StatusOr<std::unique_ptr<os::File>> KeepAlone(const log::Context& context,
                                                    std::string_view name, const Group* group) {
  absl::StatusOr<std::unique_ptr<os::File>> members = context.root->OpenFile(
      absl::StrCat(kGroupsFolder, "/", Piece(name), "/members"), os::OpenMode::kReadWrite);
  if (absl::IsNotFound(members.status())) return NoGroup(name);
  if (!members.ok()) return members.status();
  // From here on nobody can join, and who has joined keeps us out.
  CORDWOOD_ASSIGN_OR_RETURN(const bool alone,
                            (*members)->TryLock(os::LockKind::kExclusive, kMemberByte));
  std::string list;
  for (const int slot : group == nullptr ? std::vector<int>() : group->MemberSlots()) {
    const MemberSlot& member = group->slot(slot);
    const bool is_away = member.state.load(std::memory_order_relaxed) == MemberState::kAway;
    absl::StrAppend(&list, list.empty() ? "" : ", ", MemberId(slot), is_away ? " (away" : " (",
                    is_away ? "" : "process ",
                    is_away ? "" : absl::StrCat(member.pid.load(std::memory_order_relaxed)), ")");
  }
  if (alone && list.empty()) return members;
  return absl::FailedPreconditionError(absl::StrCat(
      "group ", Piece(name), " has members", list.empty() ? "" : ": ", list,
      "; close their consumers first, ShareConsumers too, or wait until the time of those away "
      "is over"));
}

// All there is, where nothing was committed.
PartitionProgress ProgressOf(const std::string& topic, int partition,
                             const std::shared_ptr<log::Log>& log, std::int64_t now_ns,
                             std::optional<Offset> committed) {
  const Offset end = log->end_offset();
  const Offset from = committed.value_or(log->start_offset());
  PartitionProgress progress{.topic = topic,
                             .partition = partition,
                             .committed = committed,
                             .end = end,
                             .lag = std::max<std::int64_t>(0, end - from)};
  if (progress.lag == 0) return progress;
  const std::optional<std::int64_t> stamp = FirstStampFrom(log, from);
  if (stamp && *stamp < now_ns) progress.lag_age = absl::Nanoseconds(now_ns - *stamp);
  progress.lag_bytes =
      static_cast<std::int64_t>(log->BytesFrom(std::max(from, log->start_offset())));
  return progress;
}

// The places of the members in the description, by slot.
absl::StatusOr<std::map<int, std::size_t>> ListMembers(const Group& group,
                                                       GroupDescription& description) {
  std::map<int, std::size_t> places;
  for (const int slot : group.MemberSlots()) {
    absl::StatusOr<MemberFile> file = ReadMember(group, slot);
    if (absl::IsNotFound(file.status())) continue;  // it has left meanwhile
    if (!file.ok()) return file.status();
    const MemberSlot& member = group.slot(slot);
    places[slot] = description.members.size();
    description.members.push_back(
        {.id = MemberId(slot),
         .instance_id = std::move(file->instance_id),
         .is_away = member.state.load(std::memory_order_relaxed) == MemberState::kAway,
         .pid = static_cast<int>(member.pid.load(std::memory_order_relaxed)),
         .since = absl::FromUnixNanos(member.since_ns.load(std::memory_order_relaxed)),
         .topics = std::move(file->topics),
         .assignment = {}});
    if (!file->assignor.empty()) description.assignor = std::move(file->assignor);
  }
  return places;
}

// What lies outside the records is the start or the end, as Kafka's tool has it.
absl::StatusOr<Offset> PlaceOf(const ResetTo& to, log::Log& log, std::optional<Offset> committed) {
  const Offset start = log.start_offset();
  const Offset end = log.end_offset();
  switch (to.kind()) {
    case ResetTo::Kind::kEarliest:
      return start;
    case ResetTo::Kind::kLatest:
      return end;
    case ResetTo::Kind::kOffset:
      return std::clamp(to.number(), start, end);
    case ResetTo::Kind::kTime:
      return log.OffsetForTime(internal::TimeToNanos(to.time()));
    case ResetTo::Kind::kShift:
      break;
  }
  return std::clamp(os::SaturatingAdd(committed.value_or(start), to.number()), start, end);
}

}  // namespace

absl::Status GroupStore::Delete(std::string_view name) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(internal::ValidateName("group", name));
  os::Folder& root = *context_->root;
  const std::string folder = absl::StrCat(kGroupsFolder, "/", Piece(name));
  const absl::StatusOr<std::shared_ptr<Group>> group = OpenGroup(name, false);
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> alone,
                            KeepAlone(*context_, name, group.ok() ? group->get() : nullptr));
  // Nor does anybody make a live page anew meanwhile, which would not have the mark.
  CORDWOOD_ASSIGN_OR_RETURN(const bool is_nobody_making,
                            log::LockByte(*alone, os::LockKind::kExclusive, kMakingLiveByte,
                                          os::MonotonicNanos() + kMakingWaitNanos));
  if (!is_nobody_making) {
    return absl::UnavailableError(
        absl::StrCat("group ", Piece(name), ": another process is opening it and does not get on"));
  }
  // The mark comes before the name goes: who has the group open sees the mark. A damaged
  // group, which cannot be opened, can be deleted all the same.
  const absl::StatusOr<std::unique_ptr<os::File>> live =
      root.OpenFile(folder + "/live", os::OpenMode::kReadWrite);
  if (live.ok()) {
    CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*live)->Info());
    if (info.size >= kHeaderBytes) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::Mapping> map,
                                (*live)->Map(kHeaderBytes, os::Access::kReadWrite));
      // Release: pairs with the acquire in Group::is_current().
      reinterpret_cast<LiveHeader*>(map->data())
          ->state.store(LiveHeader::kReplaced, std::memory_order_release);
    }
  }
  const std::string gone = UniqueFolder(*context_->storage, kDeletedPrefix);
  const absl::Status renamed = root.RenameNew(folder, gone);
  if (absl::IsNotFound(renamed)) return NoGroup(name);
  CORDWOOD_RETURN_IF_ERROR(renamed);
  {
    absl::MutexLock lock(&mutex_);
    groups_.erase(std::string(name));
  }
  CORDWOOD_RETURN_IF_ERROR(root.SyncFolder(kGroupsFolder));
  return RemoveFolderAndFiles(root, gone);
}

absl::StatusOr<GroupDescription> GroupStore::Describe(std::string_view name,
                                                      log::Directory& directory) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<Group> group, OpenGroup(name, false));
  CORDWOOD_ASSIGN_OR_RETURN(std::vector<TopicRef> topics, group->Topics());
  std::sort(topics.begin(), topics.end(),
            [](const TopicRef& a, const TopicRef& b) { return a.name < b.name; });
  GroupDescription description;
  description.name = group->name();
  description.state = group->State();
  CORDWOOD_ASSIGN_OR_RETURN(const auto places, ListMembers(*group, description));
  const std::int64_t now_ns = context_->clock.Now();
  bool has_shared = false;
  for (TopicRef& topic : topics) {
    const absl::StatusOr<std::shared_ptr<log::TopicFiles>> files = directory.OpenTopic(topic.name);
    // Of a topic that was deleted, or whose name another one has now.
    if (absl::IsNotFound(files.status()) || absl::IsInvalidArgument(files.status())) continue;
    if (!files.ok()) return files.status();
    if ((*files)->id() != topic.id) continue;
    topic.partitions = (*files)->partitions();
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<int> entries, group->Entries(topic, false));
    for (int p = 0; p < topic.partitions; ++p) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> log, (*files)->OpenLog(p));
      const int entry = entries[static_cast<std::size_t>(p)];
      const bool is_known = entry != Group::kNoEntry;
      description.partitions.push_back(ProgressOf(
          topic.name, p, log, now_ns, is_known ? group->committed(entry) : std::nullopt));
      if (!is_known) continue;
      PartitionProgress& progress = description.partitions.back();
      CORDWOOD_ASSIGN_OR_RETURN(progress.metadata, group->Metadata(entry));
      CORDWOOD_ASSIGN_OR_RETURN(
          progress.shared,
          CountShared(*group, topic.id, p, progress.committed.value_or(log->start_offset()),
                      progress.end));
      has_shared = has_shared || progress.shared.has_value();
      const auto member = places.find(group->OwnerOf(entry));
      if (member == places.end()) continue;
      progress.member = description.members[member->second].id;
      description.members[member->second].assignment.push_back({topic.name, p});
    }
  }
  for (const PartitionProgress& progress : description.partitions) {
    description.lag += progress.lag;
    description.lag_bytes += progress.lag_bytes;
    description.lag_age = std::max(description.lag_age, progress.lag_age);
  }
  // A group may have members of one kind now, and have had some of the other before.
  description.is_shared = group->HasShareMember() || (has_shared && description.members.empty());
  return description;
}

absl::StatusOr<std::vector<OffsetChange>> GroupStore::Reset(std::string_view name,
                                                            const ResetTo& to,
                                                            const ResetOptions& options,
                                                            log::Directory& directory) {
  // First, so that nothing is made for a topic that there is not.
  for (const TopicPartition& where : options.partitions) {
    CORDWOOD_RETURN_IF_ERROR(directory.OpenTopic(where.topic).status());
  }
  const bool create = !options.partitions.empty() && !options.dry_run;
  absl::StatusOr<std::shared_ptr<Group>> opened = OpenGroup(name, create);
  // Of a group that there is not yet the dry run says the same.
  const bool is_none = absl::IsNotFound(opened.status()) && !options.partitions.empty();
  if (!opened.ok() && !is_none) return opened.status();
  Group* const group = is_none ? nullptr : opened->get();
  std::unique_ptr<os::File> alone;
  if (group != nullptr && !context_->read_only()) {
    CORDWOOD_ASSIGN_OR_RETURN(alone, KeepAlone(*context_, name, group));
  }

  // By topic; an empty set: all of its partitions.
  std::map<std::string, std::set<int>> wanted;
  if (options.partitions.empty()) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<TopicRef> topics, group->Topics());
    for (const TopicRef& topic : topics) {
      const absl::StatusOr<std::shared_ptr<log::TopicFiles>> files =
          directory.OpenTopic(topic.name);
      if (files.ok() && (*files)->id() == topic.id) wanted[topic.name];
    }
  }
  for (const TopicPartition& where : options.partitions) {
    const bool is_new = !wanted.contains(where.topic);
    std::set<int>& numbers = wanted[where.topic];
    if (where.partition == -1) {
      numbers.clear();
    } else if (is_new || !numbers.empty()) {
      numbers.insert(where.partition);
    }
  }

  struct Planned {
    std::shared_ptr<log::Log> log;
    int entry = Group::kNoEntry;
    OffsetChange change;
  };
  std::vector<Planned> plan;
  for (auto& [topic, numbers] : wanted) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::TopicFiles> files,
                              directory.OpenTopic(topic));
    const int partitions = files->partitions();  // some may be added meanwhile
    std::vector<int> entries(static_cast<std::size_t>(partitions), Group::kNoEntry);
    if (group != nullptr) {
      CORDWOOD_ASSIGN_OR_RETURN(entries,
                                group->Entries({files->id(), topic, partitions}, !options.dry_run));
    }
    if (numbers.empty()) {
      for (int p = 0; p < partitions; ++p) numbers.insert(p);
    }
    for (const int p : numbers) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> log, files->OpenLog(p));
      const int entry = entries[static_cast<std::size_t>(p)];
      const std::optional<Offset> from =
          entry == Group::kNoEntry ? std::nullopt : group->committed(entry);
      CORDWOOD_ASSIGN_OR_RETURN(const Offset place, PlaceOf(to, *log, from));
      plan.push_back({log, entry, {.where = {topic, p}, .from = from, .to = place}});
    }
  }
  std::vector<OffsetChange> changes;
  for (const Planned& planned : plan) {
    if (!options.dry_run) {
      CORDWOOD_ASSIGN_OR_RETURN(const Group::Identity what, group->IdentityOf(planned.entry));
      CORDWOOD_RETURN_IF_ERROR(ForgetShareFile(*group, what.topic_id, what.partition));
      CORDWOOD_RETURN_IF_ERROR(group->Commit(planned.entry, planned.change.to, true));
      planned.log->TellOfRoom();
    }
    changes.push_back(planned.change);
  }
  return changes;
}

}  // namespace cordwood::group
