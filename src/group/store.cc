// The groups of a directory.

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cordwood/group/offsets.h"
#include "cordwood/log/directory.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/options.h"
#include "cordwood/status_macros.h"
#include "group/files.h"

namespace cordwood::group {
namespace {

std::string FolderOf(std::string_view name) {
  return absl::StrCat(kGroupsFolder, "/", Piece(name));
}

absl::Status NoGroup(std::string_view name) {
  return absl::NotFoundError(absl::StrCat("there is no group ", Piece(name)));
}

// All there is, where nothing was committed.
PartitionProgress ProgressOf(const std::string& topic, int partition, const log::Log& log,
                             std::optional<Offset> committed) {
  const Offset end = log.end_offset();
  return {.topic = topic,
          .partition = partition,
          .committed = committed,
          .end = end,
          .lag = std::max<std::int64_t>(0, end - committed.value_or(log.start_offset()))};
}

}  // namespace

absl::StatusOr<std::shared_ptr<GroupStore>> GroupStore::Open(
    std::shared_ptr<const log::Context> context) {
  if (!context->read_only()) {
    const absl::Status made = context->root->CreateFolder(kGroupsFolder);
    if (made.ok()) {
      CORDWOOD_RETURN_IF_ERROR(context->root->SyncFolder(""));
    } else if (!absl::IsAlreadyExists(made)) {
      return made;
    }
  }
  return std::shared_ptr<GroupStore>(new GroupStore(std::move(context)));
}

absl::StatusOr<std::shared_ptr<Group>> GroupStore::OpenGroup(std::string_view name, bool create) {
  CORDWOOD_RETURN_IF_ERROR(internal::ValidateName("group", name));
  const std::string key(name);
  {
    absl::MutexLock lock(&mutex_);
    const auto known = groups_.find(key);
    if (known != groups_.end() && known->second->is_current()) return known->second;
  }
  // Without the lock, as it may have to wait for another process.
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<Group> group, Group::Open(context_, key, create));
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<Group>& known = groups_[key];
  if (known == nullptr || !known->is_current()) known = std::move(group);
  return known;
}

// ---- The durable image

GroupStore::Snapshot GroupStore::Take() {
  Snapshot snapshot;
  absl::MutexLock lock(&mutex_);
  for (const auto& [name, group] : groups_) {
    if (!group->is_current()) continue;
    std::vector<Group::Change> changes = group->Changes();
    if (!changes.empty()) snapshot.groups.push_back({group, std::move(changes)});
  }
  return snapshot;
}

absl::Status GroupStore::WriteDurable(const Snapshot& snapshot) {
  absl::Status first;
  for (const Snapshot::Of& of : snapshot.groups) {
    absl::Status written = of.group->WriteDurable(of.changes, Group::Wait::kNotLong);
    // What was deleted meanwhile is nobody's loss.
    if (of.group->is_current()) first.Update(std::move(written));
  }
  return first;
}

absl::Status GroupStore::WriteAll() {
  absl::Status first;
  for (const std::string& name : List()) {
    absl::Status opened = OpenGroup(name, false).status();
    // A damaged group has nothing that could be written.
    if (!absl::IsDataLoss(opened)) first.Update(std::move(opened));
  }
  first.Update(WriteDurable(Take()));
  return first;
}

// ---- Administration

std::vector<std::string> GroupStore::List() const {
  std::vector<std::string> names;
  const absl::StatusOr<std::vector<os::FolderEntry>> entries = context_->root->List(kGroupsFolder);
  if (!entries.ok()) return names;
  for (const os::FolderEntry& entry : *entries) {
    if (entry.is_folder && internal::ValidateName("group", entry.name).ok()) {
      names.push_back(entry.name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status GroupStore::Delete(std::string_view name) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(internal::ValidateName("group", name));
  os::Folder& root = *context_->root;
  const std::string folder = FolderOf(name);
  absl::StatusOr<std::unique_ptr<os::File>> members =
      root.OpenFile(folder + "/members", os::OpenMode::kReadWrite);
  if (absl::IsNotFound(members.status())) return NoGroup(name);
  if (!members.ok()) return members.status();
  // From here on nobody can join, and who has joined keeps us out.
  CORDWOOD_ASSIGN_OR_RETURN(const bool alone,
                            (*members)->TryLock(os::LockKind::kExclusive, kMemberByte));
  if (!alone) {
    return absl::FailedPreconditionError(
        absl::StrCat("group ", Piece(name), " has a member; close its consumers first"));
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
  description.state = group->State();
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
      description.partitions.push_back(ProgressOf(
          topic.name, p, *log, entry == Group::kNoEntry ? std::nullopt : group->committed(entry)));
    }
  }
  return description;
}

absl::Status GroupStore::Sweep() {
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries,
                            context_->root->List(kGroupsFolder));
  absl::Status first;
  for (const os::FolderEntry& entry : entries) {
    if (entry.is_folder && (absl::StartsWith(entry.name, kNewPrefix) ||
                            absl::StartsWith(entry.name, kDeletedPrefix))) {
      first.Update(
          RemoveFolderAndFiles(*context_->root, absl::StrCat(kGroupsFolder, "/", entry.name)));
    }
  }
  return first;
}

}  // namespace cordwood::group
