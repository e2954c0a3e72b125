// Opening a directory: whether it is one of ours, who else is there, and what the first
// one in has to put right before anyone may use it.
//
// What must be true at every instant, as a process may be killed or the power go between
// any two steps:
//   - A folder with the file FORMAT is ours, and FORMAT has its name only when it is whole
//     and synced. What else belongs into a directory is made by every open that misses it.
//   - Only the holder of the open byte recovers, and it holds the presence byte exclusively
//     meanwhile. The kernel drops both when it dies; the next one begins anew, and finds
//     either a control file as it was or one that is whole: it is replaced by rename.
//   - The clean marker is gone, for good, before the first store to what it speaks of.
//   - A topic that could not be recovered has no control file that anyone would believe, so
//     a later opener does not take it for good.

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "cordwood/log/directory.h"
#include "cordwood/log/pins.h"
#include "cordwood/log/recovery.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/status_macros.h"
#include "log/clean_marker.h"
#include "log/small_files.h"
#include "log/turn.h"
#include "log/write_again.h"

namespace cordwood::log {
namespace {

constexpr char kFormatName[] = "FORMAT";
constexpr char kFormatPrefix[] = "cordwood ";
constexpr int kFormatKnown = 1;
constexpr char kUnfinishedFormat[] = ".FORMAT-";

absl::Status CheckOptions(const BrokerOptions& options) {
  if ((options.file_mode & ~0777) != 0 || (options.file_mode & 0600) != 0600) {
    return absl::InvalidArgumentError(
        "file_mode: has to let the owner read and write, and to be 0777 at most");
  }
  if (options.reserve_bytes < 0 || options.low_disk_bytes < 0) {
    return absl::InvalidArgumentError("reserve_bytes, low_disk_bytes: below zero; 0 is none");
  }
  if (options.read_only && options.sharing == Sharing::kExclusive) {
    return absl::InvalidArgumentError(
        "read_only and Sharing::kExclusive: a read-only open takes no lock, so it cannot keep "
        "others out");
  }
  return absl::OkStatus();
}

// OK; kNotFound: no FORMAT, so not one of ours.
absl::Status CheckFormat(os::Folder& root) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(root, kFormatName, 4096));
  absl::string_view rest = text;
  int version = 0;
  if (!absl::ConsumePrefix(&rest, kFormatPrefix) || !absl::SimpleAtoi(rest, &version) ||
      version < 1 || text != absl::StrCat(kFormatPrefix, version, "\n")) {
    return absl::FailedPreconditionError(
        absl::StrCat(root.path(), "/", kFormatName, ": does not say \"", kFormatPrefix,
                     kFormatKnown, "\"; this is not a cordwood directory, or it is damaged"));
  }
  if (version > kFormatKnown) {
    return absl::FailedPreconditionError(
        absl::StrCat(root.path(), ": has format version ", version, "; this library knows version ",
                     kFormatKnown, " and would damage it. Use a newer cordwood"));
  }
  return absl::OkStatus();
}

// A folder that holds other people's files is not littered with ours.
absl::Status CheckIsEmpty(os::Folder& root) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries, root.List(""));
  for (const os::FolderEntry& entry : entries) {
    // Another process's, that is making the directory just now or died over it; and what
    // mkfs puts at the top of a new disk.
    if (absl::StartsWith(entry.name, kUnfinishedFormat) || entry.name == "lost+found") continue;
    return absl::FailedPreconditionError(
        absl::StrCat(root.path(), ": is not a cordwood directory (it has no file ", kFormatName,
                     ") and not empty (it has \"", entry.name, "\"); give an empty or a new one"));
  }
  return absl::OkStatus();
}

absl::Status MakeFormat(os::Folder& root, const os::Bits128& random) {
  // A name of its own: of two that make the directory at once, neither writes into the
  // other's file, and both rename the same bytes.
  const std::string unfinished = kUnfinishedFormat + HexOf(random);
  CORDWOOD_RETURN_IF_ERROR(
      WriteNewFile(root, unfinished, absl::StrCat(kFormatPrefix, kFormatKnown, "\n")));
  return root.Rename(unfinished, kFormatName);
}

absl::Status EnsureFormat(Storage& storage, os::Folder& root, bool create) {
  // More than once, as another process may make it, and sweep our unfinished file away.
  for (int attempt = 0;; ++attempt) {
    absl::Status status = CheckFormat(root);
    if (!absl::IsNotFound(status)) return status;
    if (!create) {
      return absl::NotFoundError(
          absl::StrCat(root.path(), ": is not a cordwood directory: it has no file ", kFormatName));
    }
    status = CheckIsEmpty(root);
    if (status.ok()) status = MakeFormat(root, storage.Random128());
    if (!status.ok() && attempt == 3) return status;
    // Not empty, and yet without FORMAT a moment ago: look at that first.
    if (!status.ok() && !absl::IsNotFound(status) && !absl::IsFailedPrecondition(status)) {
      return status;
    }
  }
}

// What belongs beside FORMAT. A process that died over it left some of this out. The first
// opener makes these names durable, with RemoveCleanMarker.
absl::Status EnsureSkeleton(os::Folder& root) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries, root.List(""));
  const auto is_there = [&](const char* name) {
    return std::any_of(entries.begin(), entries.end(),
                       [&](const os::FolderEntry& entry) { return entry.name == name; });
  };
  if (is_there("locks") && is_there("topics") && is_there("groups")) return absl::OkStatus();
  // FORMAT first: without it these would be somebody else's after a power cut.
  CORDWOOD_RETURN_IF_ERROR(root.SyncFolder(""));
  const absl::Status locks = root.OpenFile("locks", os::OpenMode::kCreate).status();
  if (!locks.ok() && !absl::IsAlreadyExists(locks)) return locks;
  CORDWOOD_RETURN_IF_ERROR(CreateFolderIfMissing(root, "topics"));
  return CreateFolderIfMissing(root, "groups");
}

absl::Status CheckFileSystem(os::Folder& root, const BrokerOptions& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileSystemInfo info, root.FileSystem());
  if (!info.shared || options.read_only || options.sharing == Sharing::kExclusive) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      root.path(), ": lies on ", info.name,
      ", a network or virtual file system, whose hosts do not see each other's memory; use a local "
      "disk, or Sharing::kExclusive from one host"));
}

void RemoveDotNames(os::Folder& root, std::string_view folder) {
  const absl::StatusOr<std::vector<os::FolderEntry>> entries = root.List(folder);
  if (!entries.ok()) return;
  bool is_synced = false;
  for (const os::FolderEntry& entry : *entries) {
    if (entry.name.empty() || entry.name.front() != '.') continue;
    // Who renamed it may have died before that was on the disk: a power cut could bring back the
    // topic, without the files that go here.
    if (!std::exchange(is_synced, true) && !root.SyncFolder(folder).ok()) return;
    // What cannot be removed does no harm: no name of ours begins with a dot.
    RemoveTree(root, folder.empty() ? entry.name : absl::StrCat(ToAbsl(folder), "/", entry.name))
        .IgnoreError();
  }
}

// Where the log goes on is the same. `durable` may have been found to be further on.
bool IsSame(const Watermarks& before, const Watermarks& now) {
  return before.start == now.start && before.start_reason == now.start_reason &&
         before.base == now.base && before.salt == now.salt && before.records == now.records &&
         before.position == now.position && before.durable <= now.durable &&
         before.tombstone_horizon == now.tombstone_horizon &&
         before.compacted_to == now.compacted_to;
}

// Nobody believes it from now on, neither a later opener of this boot nor a reader.
void MarkUnready(const absl::StatusOr<std::shared_ptr<ControlFile>>& control) {
  if (!control.ok()) return;
  (*control)->header().state.store(static_cast<std::uint32_t>(ControlState::kMaking),
                                   std::memory_order_release);
}

absl::StatusOr<std::shared_ptr<ControlFile>> ReplaceControl(
    const Context& context, const std::string& name, const os::Bits128& id,
    const absl::StatusOr<std::shared_ptr<ControlFile>>& old,
    const std::vector<Watermarks>& partitions) {
  const std::string folder = TopicFolder(name);
  const std::string unfinished = folder + "/.control-new";
  const std::string path = folder + "/control";
  CORDWOOD_RETURN_IF_ERROR(UnlinkIfThere(*context.root, unfinished));
  // Whole and synced under another name first: until the rename the old file is there as it
  // was, and a recovery that dies is done again from it.
  CORDWOOD_RETURN_IF_ERROR(
      ControlFile::Create(*context.root, unfinished, id, context.boot_id, partitions));
  CORDWOOD_RETURN_IF_ERROR(context.root->Rename(unfinished, path));
  CORDWOOD_RETURN_IF_ERROR(context.root->SyncFolder(folder));
  if (old.ok()) {
    // After the rename: who is told that it was replaced has to find the new one. Who is not
    // told, because we die here, finds out by the inode (TopicFiles::Refresh).
    ControlHeader& header = (*old)->header();
    header.state.store(static_cast<std::uint32_t>(ControlState::kReplaced),
                       std::memory_order_release);
    os::Ring(header.bell);
  }
  return ControlFile::Open(*context.root, path, id, os::Access::kReadWrite);
}

}  // namespace

class Directory::Opening {
 public:
  Opening(const BrokerOptions& options, RecoveryReport& report)
      : options_(options), report_(report) {}

  absl::StatusOr<std::shared_ptr<Directory>> Run(const std::filesystem::path& path,
                                                 DirectoryHooks hooks) {
    CORDWOOD_RETURN_IF_ERROR(CheckOptions(options_));
    const std::shared_ptr<Storage> storage =
        options_.storage != nullptr ? options_.storage : Storage::OperatingSystem();
    const bool create = options_.create_if_missing && !options_.read_only;
    CORDWOOD_ASSIGN_OR_RETURN(
        std::shared_ptr<os::Folder> root,
        storage->OpenFolder(path, {.create = create, .file_mode = options_.file_mode}));
    CORDWOOD_RETURN_IF_ERROR(CheckFileSystem(*root, options_));
    CORDWOOD_RETURN_IF_ERROR(EnsureFormat(*storage, *root, create));
    auto context = std::make_shared<Context>(storage, root);
    CORDWOOD_ASSIGN_OR_RETURN(context->live, LiveFlag::Create());
    CORDWOOD_ASSIGN_OR_RETURN(context->boot_id, storage->BootId());
    context->needs = hooks.needs;
    context_ = context;
    if (options_.read_only) {
      return std::shared_ptr<Directory>(new Directory(std::move(context), std::move(hooks)));
    }
    CORDWOOD_RETURN_IF_ERROR(EnsureSkeleton(*root));
    context->reserve = Reserve::Open(*root, static_cast<std::uint64_t>(options_.reserve_bytes));
    context->metrics->Share(*root, context->clock.Now());
    CORDWOOD_ASSIGN_OR_RETURN(context->owners, os::LockOwners::Claim(*root, context->clock.Now()));
    auto directory =
        std::shared_ptr<Directory>(new Directory(std::move(context), std::move(hooks)));
    // Not open until Enter says so: an error below must not run a Close.
    directory->closing_.store(true, std::memory_order_seq_cst);
    CORDWOOD_RETURN_IF_ERROR(Enter(*directory));
    directory->closing_.store(false, std::memory_order_seq_cst);
    return directory;
  }

 private:
  // Rule 21.
  absl::Status Enter(Directory& directory) {
    os::Folder& root = *context_->root;
    // Files of their own: a lock belongs to its File, and only the presence is kept.
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> opening,
                              root.OpenFile("locks", os::OpenMode::kReadWrite));
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> presence,
                              root.OpenFile("locks", os::OpenMode::kReadWrite));
    CORDWOOD_ASSIGN_OR_RETURN(
        const bool is_my_turn,
        LockByte(*opening, os::LockKind::kExclusive, os::LockOwners::kOpenByte,
                 DeadlineAfter(options_.open_timeout)));
    if (!is_my_turn) {
      return absl::UnavailableError(
          absl::StrCat(root.path(), ": somebody has been opening or closing it for ",
                       absl::FormatDuration(options_.open_timeout), "; it is open in ",
                       context_->owners->DescribeHolders()));
    }
    CORDWOOD_ASSIGN_OR_RETURN(
        const bool is_first,
        presence->TryLock(os::LockKind::kExclusive, os::LockOwners::kPresenceByte));
    const bool exclusive = options_.sharing == Sharing::kExclusive;
    if (is_first) CORDWOOD_RETURN_IF_ERROR(Recover(directory));
    if (!is_first && exclusive) {
      return absl::FailedPreconditionError(
          absl::StrCat(root.path(), ": cannot be opened as exclusive: it is open in ",
                       context_->owners->DescribeHolders()));
    }
    if (!exclusive) {
      // Of the first one: from exclusive to shared, without a moment in between.
      CORDWOOD_ASSIGN_OR_RETURN(
          const bool shared,
          presence->TryLock(os::LockKind::kShared, os::LockOwners::kPresenceByte));
      if (!shared) {
        return absl::FailedPreconditionError(absl::StrCat(root.path(), ": is open as exclusive in ",
                                                          context_->owners->DescribeHolders()));
      }
    }
    CORDWOOD_ASSIGN_OR_RETURN(directory.presence_, presence->KeepLocks());
    return absl::OkStatus();  // and the open byte goes with its File
  }

  absl::Status Recover(Directory& directory) {
    os::Folder& root = *context_->root;
    clean_ = ReadCleanMarker(root);
    CORDWOOD_RETURN_IF_ERROR(RemoveCleanMarker(root));
    // Nobody else is here, so whoever made them is gone (rule 27).
    RemoveDotNames(root, "");
    RemoveDotNames(root, "topics");
    // Who was cut off, a repair perhaps, may have renamed files that are appended to from now on.
    const bool was_cut_off = root.OpenFile(kRecoveringName, os::OpenMode::kRead).ok();
    if (was_cut_off) CORDWOOD_RETURN_IF_ERROR(root.SyncFileSystem());
    for (const std::string& name : directory.TopicNames()) RecoverTopic(directory, name);
    // Not synced: who finds it back after a power cut does more than it must.
    if ((noted_ || was_cut_off) && !has_failed_) UnlinkIfThere(root, kRecoveringName).IgnoreError();
    if (directory.hooks_.first_open) {
      const absl::Status status = directory.hooks_.first_open(context_);
      if (!status.ok()) Report("", status);
    }
    return absl::OkStatus();
  }

  void Report(std::string topic, const absl::Status& why) {
    report_.clean = false;
    RecoveryReport::Item& item = report_.items.emplace_back();
    item.where.topic = std::move(topic);
    item.what = std::string(why.message());
  }

  void RecoverTopic(Directory& directory, const std::string& name) {
    absl::StatusOr<std::shared_ptr<TopicFiles>> topic = TryRecoverTopic(name);
    absl::MutexLock lock(&directory.mutex_);
    if (topic.ok()) {
      if (*topic != nullptr) directory.topics_.emplace(name, *std::move(topic));
      return;
    }
    // The others are none the worse for it. Of this one nobody knows whether a sync has failed.
    has_failed_ = true;
    Report(name, topic.status());
    directory.damaged_.emplace(name, topic.status());
  }

  // Null: its deletion was half done, and is done now.
  absl::StatusOr<std::shared_ptr<TopicFiles>> TryRecoverTopic(const std::string& name) {
    RemovePins(*context_->root, TopicFolder(name));  // nobody is here who could hold one
    absl::StatusOr<TopicIdentity> read = TopicFiles::ReadConfig(*context_->root, name);
    if (!read.ok()) return Damaged(name, "its config", read.status());
    TopicIdentity identity = *std::move(read);
    absl::StatusOr<std::shared_ptr<ControlFile>> control = ControlFile::Open(
        *context_->root, TopicFolder(name) + "/control", identity.id, os::Access::kReadWrite);
    // No topic that was deleted is closed well: what says so of one that was is a flipped bit.
    if (control.ok() && !IsClean(**control) && IsDeleted(**control)) {
      CORDWOOD_RETURN_IF_ERROR(
          Directory::RemoveTopicFolder(*context_->root, name, HexOf(identity.id)));
      return std::shared_ptr<TopicFiles>();
    }
    if (control.ok()) {
      const absl::Status finished = FinishChange(name, identity, **control);
      if (!finished.ok()) return Damaged(name, "its config", finished);
    }
    if (control.ok() && (*control)->partitions() != identity.config.partitions) {
      control = absl::DataLossError("has another number of partitions than the config");
    }
    if (control.ok() && IsClean(**control)) {
      const bool says_deleted = IsDeleted(**control);
      (*control)->ResetSharedState(context_->boot_id);
      // After a power cut there is no clean close by which to tell that it is not.
      if (says_deleted) CORDWOOD_RETURN_IF_ERROR((*control)->Sync());
    } else {
      report_.clean = false;
      NoteRecovery();
      control = RecoverPartitions(name, identity, control);
      CORDWOOD_RETURN_IF_ERROR(control.status());
    }
    CORDWOOD_RETURN_IF_ERROR(Directory::EnsureNamed(*context_->root, **control));
    return std::make_shared<TopicFiles>(context_, name, std::move(identity), *std::move(control));
  }

  bool IsClean(const ControlFile& control) const {
    return std::find(clean_.begin(), clean_.end(), CleanEntry::Of(control)) != clean_.end();
  }

  // Rule 14, for the syncs of a recovery: this stands while they run, and after one has failed.
  // Whoever finds it does not trust that what looks synced is. If it cannot be made, because the
  // disk is full, say, the open goes on without it.
  void NoteRecovery() {
    if (std::exchange(noted_, true)) return;
    const absl::Status made =
        context_->root->OpenFile(kRecoveringName, os::OpenMode::kCreate).status();
    is_repeated_ = absl::IsAlreadyExists(made);
  }

  // A change of the config that somebody died over (directory_alter.cc). Partitions in the
  // config have had their blocks on the disk before; without them, they are scanned for.
  absl::Status FinishChange(const std::string& name, const TopicIdentity& identity,
                            ControlFile& control) const {
    const int partitions = identity.config.partitions;
    if (partitions <= control.partitions() && control.header().config_version % 2 == 0) {
      return absl::OkStatus();
    }
    const absl::Status written = Directory::WriteConfig(*context_->root, name, identity, control);
    // Else only a change may be lost with the power that nobody was promised.
    if (partitions <= control.partitions()) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(written);
    const absl::Status set =
        control.SetPartitions(*context_->root, TopicFolder(name) + "/control", partitions);
    return absl::IsDataLoss(set) ? absl::OkStatus() : set;
  }

  // Its name is there, so whatever of it is missing, the topic is not.
  static absl::Status Damaged(const std::string& name, std::string_view what,
                              const absl::Status& why) {
    return absl::Status(absl::IsNotFound(why) ? absl::StatusCode::kDataLoss : why.code(),
                        absl::StrCat("topic ", name, ": ", ToAbsl(what),
                                     " could not be recovered: ", why.message()));
  }

  // One is enough: they are all marked under their locks before any is let go.
  static bool IsDeleted(const ControlFile& control) {
    for (int i = 0; i < control.partitions(); ++i) {
      if (control.block(i).state.load(std::memory_order_acquire) ==
          static_cast<std::uint32_t>(PartitionState::kDeleted)) {
        return true;
      }
    }
    return false;
  }

  absl::StatusOr<std::shared_ptr<ControlFile>> RecoverPartitions(
      const std::string& name, const TopicIdentity& identity,
      const absl::StatusOr<std::shared_ptr<ControlFile>>& control) {
    std::vector<Watermarks> found;
    bool in_place = control.ok();
    for (int i = 0; i < identity.config.partitions; ++i) {
      RecoveryInput input;
      input.files = PartitionFilesIn(*context_, TopicFolder(name), name, identity, i);
      input.segment_bytes = LogConfig::Of(identity.config).segment_bytes;
      if (control.ok()) {
        const ControlBlock& block = (*control)->block(i);
        input.control = WatermarksOf(block);
        input.worth_trying = (*control)->IsWorthTrying(context_->boot_id);
        input.written_to = WrittenTo(block);
        input.sync_standing = block.sync_to.load(std::memory_order_relaxed) != 0 &&
                              (*control)->header().boot_id == context_->boot_id;
      }
      input.is_repeated = is_repeated_;
      absl::StatusOr<RecoveredPartition> recovered = RecoverPartition(*context_, input);
      if (context_->MadeRoom(recovered.status())) recovered = RecoverPartition(*context_, input);
      if (!recovered.ok()) {
        MarkUnready(control);
        return Damaged(name, absl::StrCat("partition ", i), recovered.status());
      }
      Count(input, *recovered);
      found.push_back(recovered->watermarks);
      in_place = in_place && recovered->believed && IsSame(*input.control, recovered->watermarks);
      std::move(recovered->items.begin(), recovered->items.end(),
                std::back_inserter(report_.items));
    }
    if (in_place) {
      // The same values over themselves: whoever reads them meanwhile, read-only, sees no
      // other end, and if we die here the next one finds what we found.
      for (std::size_t i = 0; i < found.size(); ++i) {
        StoreWatermarks(found[i], (*control)->block(static_cast<int>(i)));
      }
      (*control)->ResetSharedState(context_->boot_id);
      return *control;
    }
    absl::StatusOr<std::shared_ptr<ControlFile>> made =
        ReplaceControl(*context_, name, identity.id, control, found);
    if (!made.ok()) MarkUnready(control);
    return made;
  }

  void Count(const RecoveryInput& input, RecoveredPartition& recovered) const {
    MetricsPage& counts = context_->counts();
    counts.recovered_partitions.Add();
    for (const RecoveryReport::Item& item : recovered.items) {
      counts.recovery_lost_records.Add(static_cast<std::uint64_t>(item.to - item.from));
      counts.recovery_dropped_bytes.Add(static_cast<std::uint64_t>(item.bytes_dropped));
    }
    if (!input.control) return;
    // What was produced stays so, also what is lost.
    Watermarks& now = recovered.watermarks;
    now.bytes_before = input.control->bytes_before + input.control->position - now.position;
    now.batches = input.control->batches;
    now.batch_records = input.control->batch_records;
  }

  const BrokerOptions& options_;
  RecoveryReport& report_;
  std::shared_ptr<const Context> context_;
  std::vector<CleanEntry> clean_;
  bool noted_ = false;        // kRecoveringName is there
  bool is_repeated_ = false;  // it was there before
  bool has_failed_ = false;   // the recovery of a topic has
};

absl::StatusOr<std::shared_ptr<Directory>> Directory::Open(const std::filesystem::path& path,
                                                           const BrokerOptions& options,
                                                           DirectoryHooks hooks,
                                                           RecoveryReport& report) {
  return Opening(options, report).Run(path, std::move(hooks));
}

}  // namespace cordwood::log
