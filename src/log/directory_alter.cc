// Changing a topic that is there, while it is written to and read in any process.
//
// The file `config` is replaced by rename, so it is one whole config or the other, after a
// kill and after a power cut too. Who has the topic open keeps a copy, and the version in
// the control file's header says whether it is old. The steps, under the names lock:
//
//   step                                    who dies after it leaves
//   only where partitions are added:
//     their folders and segments, synced    leftovers, which the next one to add removes
//     the folder of the topic is synced     the same
//     their control blocks, synced          the same; nobody looks past the number
//   the new config under a dot name, synced a dot name, which the next change removes
//   the version becomes odd                 the old config, read again at each look
//   rename                                  the new config, read again at each look
//   the folder is synced                    the same
//   the number of partitions                the same, with them
//   the version becomes even                all of it
//   the topic is rung                       consumers that hear of it within a second
//
// An odd version with the lock free is of one who died, or whose sync failed. Whoever gets
// the lock next goes on from there: opening the topic and every maintenance try to. The
// config is replaced by a file with the same in it, as the old rename may not be on the
// disk and a second sync of it proves nothing; then come the other steps. The next first
// opener does the same (directory_open.cc). So a partition that a record can be appended to
// is in a config that is on the disk.

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/log/directory.h"
#include "cordwood/status_macros.h"
#include "log/small_files.h"

namespace cordwood::log {

absl::Status Directory::AlterTopic(std::string_view name,
                                   const std::map<std::string, std::string>& properties) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(cordwood::internal::ValidateName("topic", name));
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> names, LockNames(kNamesTimeout));
  CORDWOOD_ASSIGN_OR_RETURN(const Work work, Work::Begin(*context_));
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<TopicFiles> topic, OpenTopic(name));
  CORDWOOD_ASSIGN_OR_RETURN(const TopicConfig now, SettledConfig(*topic));
  CORDWOOD_ASSIGN_OR_RETURN(const TopicConfig next, AlteredConfig(now, properties));
  const absl::Status replaced = ReplaceConfig(*topic, next);
  topic->RefreshConfig();
  return replaced;
}

absl::Status Directory::CreatePartitions(std::string_view name, int count) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(cordwood::internal::ValidateName("topic", name));
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> names, LockNames(kNamesTimeout));
  CORDWOOD_ASSIGN_OR_RETURN(const Work work, Work::Begin(*context_));
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<TopicFiles> topic, OpenTopic(name));
  CORDWOOD_ASSIGN_OR_RETURN(TopicConfig config, SettledConfig(*topic));
  const int before = config.partitions;
  if (count <= before || count > ControlFile::kPartitionsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("topic ", topic->name(), " has ", before, " partitions; it can get more, up ",
                     "to ", ControlFile::kPartitionsMax, ", and not ", count));
  }
  if (config.cleanup != CleanupPolicy::kDelete) {
    return absl::FailedPreconditionError(absl::StrCat(
        "topic ", topic->name(), " is compacted: with more partitions a key's records would go to ",
        "another one, its last value so far would stay where it is for ever, and both would ",
        "count; make a new topic with ", count, " partitions and copy the records"));
  }
  config.partitions = count;
  const std::string folder = TopicFolder(topic->name());
  const TopicIdentity identity = {.id = topic->id(), .config = config};
  const std::shared_ptr<ControlFile> control = topic->control();
  const auto remove_new = [&]() -> absl::Status {
    for (int i = before; i < count; ++i) {
      absl::Status removed = RemoveTree(*context_->root, absl::StrCat(folder, "/", i));
      if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
    }
    return absl::OkStatus();
  };
  const auto make_new = [&]() -> absl::Status {
    // Who died over it has left some, which nobody can have appended to.
    CORDWOOD_RETURN_IF_ERROR(remove_new());
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<Watermarks> added,
                              BuildPartitions(folder, topic->name(), identity, before));
    CORDWOOD_RETURN_IF_ERROR(context_->root->SyncFolder(folder));
    return control->AddBlocks(*context_->root, folder + "/control", before, added);
  };
  if (absl::Status made = make_new(); !made.ok()) {
    remove_new().IgnoreError();
    return made;
  }
  const absl::Status replaced = ReplaceConfig(*topic, config);
  topic->RefreshConfig();
  return replaced;
}

// ---- Under the names lock

// What fails after the change has begun leaves it so: whoever comes next goes on from what
// the file says then.
absl::Status Directory::WriteConfig(os::Folder& root, const std::string& name,
                                    const TopicIdentity& identity, const ControlFile& control) {
  const std::string folder = TopicFolder(name);
  const std::string unfinished = folder + "/.config-new";
  CORDWOOD_RETURN_IF_ERROR(UnlinkIfThere(root, unfinished));
  CORDWOOD_RETURN_IF_ERROR(WriteNewFile(root, unfinished, FormatTopicConfig(identity)));
  control.BeginConfigChange();
  CORDWOOD_RETURN_IF_ERROR(root.Rename(unfinished, folder + "/config"));
  const absl::Status synced = root.SyncFolder(folder);
  if (synced.ok()) return synced;
  return absl::Status(synced.code(),
                      absl::StrCat("topic ", name, ": its config was changed, and a power cut may ",
                                   "undo that: ", synced.message()));
}

// From `topic`'s own to `config`.
absl::Status Directory::ReplaceConfig(const TopicFiles& topic, const TopicConfig& config) const {
  os::Folder& root = *context_->root;
  const std::shared_ptr<ControlFile> control = topic.control();
  const bool adds = config.partitions > control->partitions();
  CORDWOOD_RETURN_IF_ERROR(
      WriteConfig(root, topic.name(), {.id = topic.id(), .config = config}, *control));
  if (adds) {
    CORDWOOD_RETURN_IF_ERROR(
        control->SetPartitions(root, TopicFolder(topic.name()) + "/control", config.partitions));
  }
  control->EndConfigChange();
  if (adds) control->RingTopic(config.partitions - 1);
  return absl::OkStatus();
}

// The config of the file, once what somebody began and did not end is ended.
absl::StatusOr<TopicConfig> Directory::SettledConfig(const TopicFiles& topic) const {
  CORDWOOD_ASSIGN_OR_RETURN(TopicIdentity now,
                            TopicFiles::ReadConfig(*context_->root, topic.name()));
  if (now.id != topic.id()) return NoSuchTopic(topic.name());
  if (topic.IsConfigChanging()) CORDWOOD_RETURN_IF_ERROR(ReplaceConfig(topic, now.config));
  return std::move(now.config);
}

// ---- What somebody left

void Directory::FinishChange(const TopicFiles& topic) const {
  // Who is at it has the lock.
  const absl::StatusOr<std::unique_ptr<os::File>> names = LockNames(absl::ZeroDuration());
  if (!names.ok() || topic.is_deleted()) return;
  const absl::StatusOr<Work> work = Work::Begin(*context_);
  if (!work.ok()) return;
  // What fails is tried again.
  SettledConfig(topic).status().IgnoreError();
}

}  // namespace cordwood::log
