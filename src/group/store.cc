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

absl::StatusOr<std::shared_ptr<Group>> GroupStore::OpenGroup(std::string_view name, bool create,
                                                             Group::Wait wait) {
  CORDWOOD_RETURN_IF_ERROR(internal::ValidateName("group", name));
  const std::string key(name);
  {
    absl::MutexLock lock(&mutex_);
    const auto known = groups_.find(key);
    if (known != groups_.end() && known->second->is_current()) return known->second;
  }
  // Without the lock, as it may have to wait for another process.
  absl::StatusOr<std::shared_ptr<Group>> made = Group::Open(context_, key, create, wait);
  if (context_->MadeRoom(made.status())) made = Group::Open(context_, key, create, wait);
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<Group> group, std::move(made));
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

void GroupStore::ResignMembers() {
  std::vector<std::shared_ptr<Group>> groups;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [name, group] : groups_) groups.push_back(group);
  }
  for (const auto& group : groups) group->ResignMembers();
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
