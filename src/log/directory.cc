// The topics of an open directory: finding, making and deleting them.
//
// A topic is there if and only if topics/<topic> is, and that name comes and goes by one
// rename, of a folder that is whole and synced before (rule 27). Whoever dies in between
// leaves a dot name, which the next first opener removes; or a topic that is marked as
// deleted and still has its name, which whoever meets it next finishes deleting.

#include "cordwood/log/directory.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/log/maintenance_lock.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/segment.h"
#include "cordwood/status_macros.h"
#include "log/small_files.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

// Making or deleting a topic waits for another who does, and for writers, for so long.
constexpr absl::Duration kLockTimeout = Directory::kNamesTimeout;
// From here on one sync of the file system is cheaper than one of every folder.
constexpr int kFoldersSyncedOneByOne = 64;

absl::Status WasDeleted(std::string_view name) {
  return absl::NotFoundError(absl::StrCat("topic ", ToAbsl(name), " was deleted"));
}

// Nobody waits any longer for what will not come. Not under a lock: callbacks run here.
void Dismiss(const TopicFiles& topic) {
  for (const std::shared_ptr<Log>& log : topic.OpenLogs()) {
    log->CancelCallbacks(WasDeleted(topic.name()));
    log->WakeAll();
  }
}

}  // namespace

Directory::Directory(std::shared_ptr<const Context> context, DirectoryHooks hooks)
    : context_(std::move(context)), hooks_(std::move(hooks)) {}

absl::Status Directory::NoSuchTopic(std::string_view name) const {
  return absl::NotFoundError(
      absl::StrCat("there is no topic ", ToAbsl(name), " in ", context_->root->path()));
}

// ---- Finding

absl::StatusOr<std::shared_ptr<TopicFiles>> Directory::OpenTopic(std::string_view name) {
  CORDWOOD_RETURN_IF_ERROR(context_->live->Check());
  CORDWOOD_RETURN_IF_ERROR(cordwood::internal::ValidateName("topic", name));
  std::shared_ptr<TopicFiles> gone;
  absl::StatusOr<std::shared_ptr<TopicFiles>> topic = [&] {
    absl::MutexLock lock(&mutex_);
    return OpenTopicLocked(std::string(name), gone);
  }();
  if (gone != nullptr) Dismiss(*gone);
  if (topic.ok() && !read_only() && (*topic)->IsConfigChanging()) FinishChange(**topic);
  if (absl::IsNotFound(topic.status()) && !read_only()) FinishDeletion(std::string(name));
  return topic;
}

absl::StatusOr<std::shared_ptr<TopicFiles>> Directory::OpenTopicLocked(
    const std::string& name, std::shared_ptr<TopicFiles>& gone) {
  if (const auto it = topics_.find(name); it != topics_.end()) {
    TopicFiles& cached = *it->second;
    if (read_only()) {
      // Where the control file is a private one, no mark of a deletion reaches us.
      const absl::StatusOr<TopicIdentity> now = TopicFiles::ReadConfig(*context_->root, name);
      if (absl::IsNotFound(now.status()) || (now.ok() && now->id != cached.id())) {
        cached.MarkDeleted();
      }
      cached.Refresh();
    }
    if (!cached.is_deleted()) {
      cached.RefreshConfig();
      return it->second;
    }
    // Another process has deleted it, and may have made a new one of that name.
    gone = std::move(it->second);
    topics_.erase(it);
  }
  absl::StatusOr<std::shared_ptr<TopicFiles>> topic = LoadTopic(name);
  const auto damaged = damaged_.find(name);
  if (topic.ok()) {
    topics_[name] = *topic;
    if (damaged != damaged_.end()) damaged_.erase(damaged);  // a new one, of that name
  } else if (damaged != damaged_.end() && !absl::IsNotFound(topic.status())) {
    return damaged->second;
  }
  return topic;
}

absl::StatusOr<std::shared_ptr<TopicFiles>> Directory::LoadTopic(const std::string& name) const {
  constexpr int kAttempts = 10;
  for (int attempt = 1;; ++attempt) {
    const absl::StatusOr<TopicIdentity> identity = TopicFiles::ReadConfig(*context_->root, name);
    absl::Status why = identity.status();
    if (identity.ok()) {
      absl::StatusOr<std::shared_ptr<TopicFiles>> topic = LoadTopic(name, *identity);
      if (topic.ok()) return topic;
      why = topic.status();
    }
    // A topic comes and goes whole. So what is missing, or another topic's, is no damage if
    // the name is nobody's any more, or was given to a new one between our looks.
    if (absl::IsNotFound(context_->root->List(TopicFolder(name)).status())) {
      return NoSuchTopic(name);
    }
    const absl::StatusOr<TopicIdentity> now = TopicFiles::ReadConfig(*context_->root, name);
    const bool is_another = now.ok() && !(identity.ok() && identity->id == now->id);
    if (attempt < kAttempts && (is_another || absl::IsNotFound(now.status()))) continue;
    const bool is_missing = absl::IsNotFound(identity.status()) && absl::IsNotFound(now.status());
    if (!is_missing) return why;
    return absl::DataLossError(absl::StrCat("topic ", name, ": ", why.message()));
  }
}

absl::StatusOr<std::shared_ptr<TopicFiles>> Directory::LoadTopic(const std::string& name,
                                                                 TopicIdentity identity) const {
  absl::StatusOr<std::shared_ptr<ControlFile>> control;
  if (read_only()) {
    control = OpenControlReadOnly(context_, name, identity);
  } else {
    control = ControlFile::Open(*context_->root, TopicFolder(name) + "/control", identity.id,
                                os::Access::kReadWrite);
  }
  if (absl::IsNotFound(control.status())) {
    return absl::DataLossError(absl::StrCat("topic ", name, ": ", control.status().message(),
                                            "; close the directory and open it again"));
  }
  if (!control.ok()) return control.status();
  const ControlFile& page = **control;
  if (page.partitions() > identity.config.partitions) {
    // Some were added between our two looks: the config comes first.
    CORDWOOD_ASSIGN_OR_RETURN(identity, TopicFiles::ReadConfig(*context_->root, name));
  }
  // More in the config: they are being added, or who did so died (FinishChange).
  if (page.partitions() > identity.config.partitions || identity.id != page.header().topic_id) {
    return absl::DataLossError(absl::StrCat("topic ", name, ": its control file has ",
                                            page.partitions(), " partitions, its config ",
                                            identity.config.partitions));
  }
  if (page.block(0).state.load(std::memory_order_acquire) ==
      static_cast<std::uint32_t>(PartitionState::kDeleted)) {
    return WasDeleted(name);
  }
  // The first opener has recovered what is believed; what it could not, it has marked so.
  if (!read_only() && !page.IsWorthTrying(context_->boot_id)) {
    return absl::UnavailableError(
        absl::StrCat("topic ", name, ": the process that opened the directory first could not ",
                     "recover it, and says why in its recovery report; close the directory in ",
                     "every process, then open it again"));
  }
  if (!read_only()) CORDWOOD_RETURN_IF_ERROR(EnsureNamed(*context_->root, page));
  return std::make_shared<TopicFiles>(context_, name, std::move(identity), *std::move(control));
}

absl::Status Directory::EnsureNamed(os::Folder& root, const ControlFile& control) {
  std::atomic<std::uint32_t>& is_named = control.header().is_named;
  if (is_named.load(std::memory_order_relaxed) != 0) return absl::OkStatus();
  CORDWOOD_RETURN_IF_ERROR(root.SyncFolder("topics"));
  is_named.store(1, std::memory_order_relaxed);
  return absl::OkStatus();
}

std::vector<std::string> Directory::TopicNames() {
  if (!context_->live->is_open()) return {};
  const absl::StatusOr<std::vector<os::FolderEntry>> entries = context_->root->List("topics");
  std::vector<std::string> names;
  if (!entries.ok()) return names;
  for (const os::FolderEntry& entry : *entries) {
    if (entry.is_folder && cordwood::internal::ValidateName("topic", entry.name).ok()) {
      names.push_back(entry.name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::shared_ptr<TopicFiles>> Directory::Topics() {
  std::vector<std::shared_ptr<TopicFiles>> topics;
  absl::MutexLock lock(&mutex_);
  for (const auto& [name, topic] : topics_) topics.push_back(topic);
  return topics;
}

// ---- Making

absl::StatusOr<std::shared_ptr<TopicFiles>> Directory::CreateTopic(std::string_view name,
                                                                   const TopicConfig& config) {
  CORDWOOD_ASSIGN_OR_RETURN(const Work work, Work::Begin(*context_));
  CORDWOOD_RETURN_IF_ERROR(cordwood::internal::ValidateName("topic", name));
  CORDWOOD_RETURN_IF_ERROR(cordwood::internal::ValidateTopicConfig(config));
  const std::string topic(name);
  // Before ten thousand files are made for nothing; and so that the name of one that is half
  // deleted is free. A damaged one is there, too.
  if (const auto found = OpenTopic(topic); !absl::IsNotFound(found.status())) {
    return absl::AlreadyExistsError(absl::StrCat(
        "topic ", topic, " is there already, in ", context_->root->path(),
        found.ok() ? "" : "; it cannot be opened: ", found.ok() ? "" : found.status().message()));
  }
  const TopicIdentity identity = {.id = context_->storage->Random128(), .config = config};
  const std::string folder = absl::StrCat("topics/.new-", HexOf(identity.id));
  absl::Status made = BuildTopic(folder, topic, identity);
  if (made.ok()) made = context_->root->RenameNew(folder, TopicFolder(topic));
  if (!made.ok()) {
    RemoveTree(*context_->root, folder).IgnoreError();
    if (!absl::IsAlreadyExists(made)) return made;
    return absl::AlreadyExistsError(
        absl::StrCat("topic ", topic, " is there already, in ", context_->root->path()));
  }
  return OpenTopic(topic);  // which makes its name durable
}

// Everything of a topic, in a folder of another name, such that it survives a power cut.
absl::Status Directory::BuildTopic(const std::string& folder, const std::string& name,
                                   const TopicIdentity& identity) const {
  os::Folder& root = *context_->root;
  CORDWOOD_RETURN_IF_ERROR(root.CreateFolder(folder));
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<Watermarks> partitions,
                            BuildPartitions(folder, name, identity, 0));
  CORDWOOD_RETURN_IF_ERROR(
      ControlFile::Create(root, folder + "/control", identity.id, context_->boot_id, partitions));
  CORDWOOD_RETURN_IF_ERROR(WriteNewFile(root, folder + "/config", FormatTopicConfig(identity)));
  return root.SyncFolder(folder);
}

// The partitions from `first` on, as many as the config says, each with an empty segment, all
// synced; their own names are once `folder` is.
absl::StatusOr<std::vector<Watermarks>> Directory::BuildPartitions(const std::string& folder,
                                                                   const std::string& name,
                                                                   const TopicIdentity& identity,
                                                                   int first) const {
  os::Folder& root = *context_->root;
  const std::uint64_t capacity = LogConfig::Of(identity.config).segment_bytes;
  const bool one_by_one = identity.config.partitions - first <= kFoldersSyncedOneByOne;
  std::vector<Watermarks> partitions;
  for (int i = first; i < identity.config.partitions; ++i) {
    const segment::PartitionFiles files = PartitionFilesIn(*context_, folder, name, identity, i);
    CORDWOOD_RETURN_IF_ERROR(root.CreateFolder(files.folder));
    const os::Bits128 salt = context_->storage->Random128();
    CORDWOOD_RETURN_IF_ERROR(segment::Segment::Create(files, segment::SegmentFileName(0, ""), salt,
                                                      capacity, 2 * segment::RecordsMax(capacity),
                                                      context_->clock.Now()));
    if (one_by_one) CORDWOOD_RETURN_IF_ERROR(root.SyncFolder(files.folder));
    partitions.push_back({.salt = segment::SaltTag(salt), .position = segment::kFirstFrame});
  }
  if (!one_by_one) CORDWOOD_RETURN_IF_ERROR(root.SyncFileSystem());
  return partitions;
}

absl::StatusOr<std::shared_ptr<TopicFiles>> Directory::OpenOrCreateTopic(
    std::string_view name, const TopicConfig& config) {
  absl::StatusOr<std::shared_ptr<TopicFiles>> topic = OpenTopic(name);
  // Another process may make or delete it between our two looks.
  for (int attempt = 0; attempt < 10 && absl::IsNotFound(topic.status()); ++attempt) {
    topic = CreateTopic(name, config);
    if (absl::IsAlreadyExists(topic.status())) topic = OpenTopic(name);
  }
  if (!topic.ok()) return topic;
  const TopicConfig there = (*topic)->config();
  if (there.partitions != config.partitions) {
    return absl::FailedPreconditionError(
        absl::StrCat("topic ", ToAbsl(name), " has ", there.partitions, " partitions, not ",
                     config.partitions, "; OpenTopic opens it as it is"));
  }
  if (there.partitioner != config.partitioner) {
    return absl::FailedPreconditionError(
        absl::StrCat("topic ", ToAbsl(name), " has the partitioner \"", there.partitioner,
                     "\", not \"", config.partitioner, "\"; OpenTopic opens it as it is"));
  }
  return topic;
}

// ---- Deleting

// Held while a topic loses its name: between the look at whose folder it is and the rename
// nobody else may delete it and give its name to a new one. And while its config is changed.
absl::StatusOr<std::unique_ptr<os::File>> Directory::LockNames(absl::Duration timeout) const {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            context_->root->OpenFile("locks", os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const bool locked, LockByte(*file, os::LockKind::kExclusive, kNamesByte,
                                                        DeadlineAfter(timeout)));
  if (locked) return file;
  return absl::UnavailableError(absl::StrCat(
      context_->root->path(), ": another process is deleting or altering a topic; it is open in ",
      context_->owners->DescribeHolders()));
}

absl::StatusOr<bool> Directory::IsMarkedDeleted(const std::string& name) const {
  CORDWOOD_ASSIGN_OR_RETURN(const TopicIdentity identity,
                            TopicFiles::ReadConfig(*context_->root, name));
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<ControlFile> control,
                            ControlFile::Open(*context_->root, TopicFolder(name) + "/control",
                                              identity.id, os::Access::kRead));
  return control->block(0).state.load(std::memory_order_acquire) ==
         static_cast<std::uint32_t>(PartitionState::kDeleted);
}

// Of a topic that a process has marked, and died before it took the name away. One that
// lives holds the lock.
void Directory::FinishDeletion(const std::string& name) const {
  if (!IsMarkedDeleted(name).value_or(false)) return;
  const absl::StatusOr<std::unique_ptr<os::File>> names = LockNames(absl::ZeroDuration());
  if (!names.ok() || !IsMarkedDeleted(name).value_or(false)) return;
  const absl::StatusOr<Work> work = Work::Begin(*context_);
  if (!work.ok()) return;
  if (!WaitForRemovers(name, absl::ZeroDuration()).ok()) return;
  const absl::StatusOr<TopicIdentity> identity = TopicFiles::ReadConfig(*context_->root, name);
  if (identity.ok()) {
    RemoveTopicFolder(*context_->root, name, HexOf(identity->id)).IgnoreError();
  }
}

absl::Status Directory::DeleteTopic(std::string_view name) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(cordwood::internal::ValidateName("topic", name));
  const std::string topic(name);
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> names, LockNames(kLockTimeout));
  CORDWOOD_ASSIGN_OR_RETURN(const Work work, Work::Begin(*context_));
  const absl::StatusOr<TopicIdentity> identity = TopicFiles::ReadConfig(*context_->root, topic);
  if (absl::IsNotFound(identity.status()) &&
      absl::IsNotFound(context_->root->List(TopicFolder(topic)).status())) {
    return NoSuchTopic(topic);
  }
  // One that cannot be opened is open nowhere: there is nobody to tell. One that is marked
  // already was left by a process that died over it.
  const absl::StatusOr<std::shared_ptr<TopicFiles>> files = OpenTopic(topic);
  if (files.ok()) CORDWOOD_RETURN_IF_ERROR(MarkDeleted(**files));
  if (absl::Status waited = WaitForRemovers(topic, kLockTimeout); !waited.ok()) {
    if (files.ok()) Dismiss(**files);
    return waited;
  }
  const os::Bits128 id = identity.ok() ? identity->id : context_->storage->Random128();
  CORDWOOD_RETURN_IF_ERROR(RemoveTopicFolder(*context_->root, topic, HexOf(id)));
  {
    absl::MutexLock lock(&mutex_);
    topics_.erase(topic);
    damaged_.erase(topic);
  }
  if (files.ok()) Dismiss(**files);
  return absl::OkStatus();
}

// Under the locks of all partitions, so that who has appended has done so before, and all
// are marked or none: a stopped writer makes this fail, not half of the topic disappear.
// Whoever finds the mark answers kNotFound, in every process.
absl::Status Directory::MarkDeleted(TopicFiles& topic) const {
  const std::shared_ptr<ControlFile> control = topic.control();
  const os::LockOwners& owners = *context_->owners;
  const std::int64_t deadline = DeadlineAfter(kLockTimeout);
  absl::Status status;
  int locked = 0;
  for (; locked < topic.partitions(); ++locked) {
    ControlBlock& block = control->block(locked);
    const os::LockResult result = block.lock.Lock(owners, deadline);
    if (result == os::LockResult::kTakenOver) {
      block.scratch_valid.store(0, std::memory_order_relaxed);
    } else if (result == os::LockResult::kTimedOut) {
      status = absl::UnavailableError(
          absl::StrCat("topic ", topic.name(), " was not deleted: the writer's turn of partition ",
                       locked, " is with ", owners.Describe(block.lock.word())));
      break;
    }
  }
  for (int i = 0; i < locked; ++i) {
    ControlBlock& block = control->block(i);
    if (status.ok()) {
      block.state.store(static_cast<std::uint32_t>(PartitionState::kDeleted),
                        std::memory_order_release);
    }
  }
  for (int i = 0; i < locked; ++i) control->block(i).lock.Unlock();
  CORDWOOD_RETURN_IF_ERROR(status);
  topic.MarkDeleted();
  for (int i = 0; i < topic.partitions(); ++i) {
    os::Ring(control->block(i).bell);
    os::Ring(control->block(i).durable_bell);
  }
  os::Ring(control->header().bell);
  return absl::OkStatus();
}

// Between the mark and the rename. Who removes or replaces files of a partition has looked
// whether the topic is deleted when it had the lock, and goes on by the path: after the
// rename that could be a new topic's. Who takes the lock from now on finds the mark.
absl::Status Directory::WaitForRemovers(const std::string& name, absl::Duration timeout) const {
  absl::StatusOr<std::unique_ptr<os::File>> control =
      context_->root->OpenFile(TopicFolder(name) + "/control", os::OpenMode::kReadWrite);
  if (absl::IsNotFound(control.status())) return absl::OkStatus();  // it is damaged
  CORDWOOD_RETURN_IF_ERROR(control.status());
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*control)->Info());
  const std::int64_t deadline = DeadlineAfter(timeout);
  for (std::uint64_t p = 0; kControlHeaderBytes + p * sizeof(ControlBlock) < info.size; ++p) {
    const std::uint64_t byte = MaintenanceLock::ByteOf(p, MaintenanceLock::kFiles);
    CORDWOOD_ASSIGN_OR_RETURN(const bool locked,
                              LockByte(**control, os::LockKind::kExclusive, byte, deadline));
    if (!locked) {
      return absl::UnavailableError(absl::StrCat(
          "topic ", name, " is deleted, and keeps its name until another process that removes or ",
          "compacts files of partition ", p, " gets on or ends; delete it again to wait for that"));
    }
    CORDWOOD_RETURN_IF_ERROR((*control)->Unlock(byte));
  }
  return absl::OkStatus();
}

absl::Status Directory::RemoveTopicFolder(os::Folder& root, const std::string& name,
                                          const std::string& hex_id) {
  const std::string deleted = absl::StrCat("topics/.deleted-", hex_id);
  CORDWOOD_RETURN_IF_ERROR(root.Rename(TopicFolder(name), deleted));
  // Before anything in it goes: else a power cut could bring back half a topic.
  CORDWOOD_RETURN_IF_ERROR(root.SyncFolder("topics"));
  RemoveTree(root, deleted).IgnoreError();  // what stays, the next first opener removes
  return absl::OkStatus();
}

}  // namespace cordwood::log
