// Nothing of it carries over to the next run: each begins with what Verify finds, and each step is
// one rename, before which the directory is as it was and after which that step is done. So it
// may end anywhere, with any Broker and any other Repair after it.
//   1. What cannot be read is made readable, and then all is looked at again: what depends on it
//      may be well.
//   2. A control page that is damaged goes first: it might say that its topic was deleted, or that
//      it starts behind its records. All that is kept of it is what it says was durable.
//   3. Who is told of a clean close is told that there was none, where that matters.
//   4. What is damaged is kept in a folder of this run, of which no Broker sweeps or reads
//   anything,
//      in a place that nothing had before. What a Broker does without is moved there. What it must
//      not find missing changes names with what takes its place, which is made there, and is synced
//      before, with its name.

#include "cordwood/repair.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/status_macros.h"
#include "group/repair.h"
#include "log/clean_marker.h"
#include "log/repair.h"
#include "log/small_files.h"
#include "log/turn.h"
#include "log/write_again.h"
#include "os/pread_folder.h"
#include "verify_directory.h"

namespace cordwood {
namespace {

using log::Finding;
using log::FindingKind;

constexpr char kDamaged[] = "damaged";
constexpr std::size_t kChunkBytes = 1 << 20;
// Numbers of folders in damaged/ that count; others are somebody else's.
constexpr int kNumberMax = 1'000'000'000;
// What took the place of a file can itself lie on bad blocks.
constexpr int kRoundsMax = 3;

// Of what lies in the directory itself: "".
std::string FolderOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

// Whether something is to be done about it. A seal, or a commit, that is damaged is lost as it
// is; a mark of a clean close that does not hold is none; a control page that is missing, or that
// the records do not bear out, the next Broker makes.
bool IsRepairable(const Finding& finding) {
  switch (finding.kind) {
    case FindingKind::kClean:
    case FindingKind::kSeal:
    case FindingKind::kEntry:
      return false;
    case FindingKind::kControl:
      return finding.problem.state == VerifiedState::kDamaged;
    default:
      return true;
  }
}

bool IsUnreadable(const Finding& finding) { return finding.kind == FindingKind::kUnreadable; }

bool IsOfControl(const Finding& finding) { return finding.kind == FindingKind::kControl; }

class Repairer {
 public:
  Repairer(std::shared_ptr<Storage> storage, std::shared_ptr<os::Folder> root)
      : storage_(std::move(storage)),
        root_(std::move(root)),
        reading_(std::make_shared<os::PreadFolder>(root_, [](const os::Unreadable&) {})),
        context_(storage_, root_) {}

  absl::StatusOr<RepairReport> Run() {
    CORDWOOD_ASSIGN_OR_RETURN(is_repeated_, IsThere(log::kRecoveringName));
    CORDWOOD_ASSIGN_OR_RETURN(internal::Looked looked, Look());
    for (int round = 0; HasUnreadable(looked.findings); ++round) {
      if (round == kRoundsMax) {
        return absl::UnavailableError(
            absl::StrCat(root_->path(),
                         ": what was copied from bad places of the disk cannot be read either; "
                         "copy the directory to another disk"));
      }
      CORDWOOD_RETURN_IF_ERROR(NoteRepair());
      for (const Finding& finding : looked.findings.all) {
        if (IsUnreadable(finding)) CORDWOOD_RETURN_IF_ERROR(RepairUnreadable(finding.problem));
      }
      readable_.clear();
      CORDWOOD_ASSIGN_OR_RETURN(looked, Look());
    }
    GiveUp(looked.report);
    std::vector<Finding>& findings = looked.findings.all;
    std::erase_if(findings, [](const Finding& finding) { return !IsRepairable(finding); });
    const auto others = std::stable_partition(findings.begin(), findings.end(), IsOfControl);
    if (!findings.empty()) CORDWOOD_RETURN_IF_ERROR(NoteRepair());
    for (auto it = findings.begin(); it != others; ++it) {
      CORDWOOD_RETURN_IF_ERROR(RepairOne(*it));
    }
    CORDWOOD_RETURN_IF_ERROR(ForgetCleanClose(findings));
    for (auto it = others; it != findings.end(); ++it) {
      if (topics_aside_.count(it->where.topic) == 0) CORDWOOD_RETURN_IF_ERROR(RepairOne(*it));
    }
    // Who was cut off before may have renamed something and not synced it.
    if (is_repeated_) CORDWOOD_RETURN_IF_ERROR(root_->SyncFileSystem());
    // Not synced: who finds it back after a power cut does more than it must.
    if (is_noted_) log::UnlinkIfThere(*root_, log::kRecoveringName).IgnoreError();
    return std::move(report_);
  }

 private:
  // What is found the same twice: a read that fails once, or gives something else, costs nothing.
  absl::StatusOr<internal::Looked> Look() {
    CORDWOOD_ASSIGN_OR_RETURN(internal::Looked looked,
                              internal::LookUntilAlike(storage_, root_, /*is_alone=*/true));
    if (looked.is_settled) return looked;
    return absl::UnavailableError(absl::StrCat(
        root_->path(),
        ": the disk gives something else each time it is read; nothing can be repaired there, copy "
        "the directory to another disk"));
  }

  static bool HasUnreadable(const log::Findings& findings) {
    return std::any_of(findings.all.begin(), findings.all.end(), IsUnreadable);
  }

  absl::StatusOr<bool> IsThere(const std::string& path) const {
    const absl::Status opened = root_->OpenFile(path, os::OpenMode::kRead).status();
    if (absl::IsNotFound(opened)) return false;
    CORDWOOD_RETURN_IF_ERROR(opened);
    return true;
  }

  // For the syncs from here on, as of a recovery (rule 14). If it was there before, a recovery, or
  // a repair, was cut off or failed, and the next Broker is to know of that.
  absl::Status NoteRepair() {
    if (is_repeated_ || is_noted_) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(root_->OpenFile(log::kRecoveringName, os::OpenMode::kCreate).status());
    is_noted_ = true;
    return absl::OkStatus();
  }

  void GiveUp(const VerifyReport& found) {
    for (const VerifiedTopic& topic : found.topics) {
      for (const VerifiedPartition& partition : topic.partitions) {
        for (const VerifiedRange& range : partition.ranges) {
          if (range.state == VerifiedState::kValid) continue;
          const std::string where =
              range.file.empty() ? ""
                                 : absl::StrCat(range.file, ", position ", range.position, ": ");
          report_.given_up.push_back({.where = {topic.name, partition.partition},
                                      .from = range.from,
                                      .to = range.to,
                                      .bytes = range.bytes,
                                      .why = absl::StrCat(where, range.what)});
        }
      }
    }
  }

  absl::Status RepairOne(const Finding& finding) {
    const FileProblem& problem = finding.problem;
    switch (finding.kind) {
      case FindingKind::kFormat:
        return MakeFile(problem, "cordwood 1\n");
      case FindingKind::kConfig:
        return MoveTopicAside(finding.where.topic, problem.what);
      case FindingKind::kControl:
        return RepairControl(finding);
      case FindingKind::kPage:
        CORDWOOD_RETURN_IF_ERROR(MoveAsideIfThere(problem.file, problem.what));
        return root_->SyncFolder(FolderOf(problem.file));
      case FindingKind::kStart: {
        CORDWOOD_ASSIGN_OR_RETURN(const segment::PartitionFiles files, FilesOf(finding.where));
        CORDWOOD_ASSIGN_OR_RETURN(const std::optional<log::Watermarks> known, Known(files));
        CORDWOOD_ASSIGN_OR_RETURN(const std::string folder, FolderAside({problem.file}));
        CORDWOOD_RETURN_IF_ERROR(log::MakeStart(files, In(folder, files), known));
        CORDWOOD_RETURN_IF_ERROR(ChangeNames(folder, problem.file, problem.what));
        return Rebuilt(problem.file);
      }
      case FindingKind::kPartition:
        return RepairPartition(finding);
      case FindingKind::kHeader: {
        CORDWOOD_ASSIGN_OR_RETURN(const segment::PartitionFiles files, FilesOf(finding.where));
        CORDWOOD_RETURN_IF_ERROR(PutStandIn(files, finding.base, finding.next, problem.what));
        return Rebuilt(problem.file + ", without records");
      }
      case FindingKind::kStray: {
        CORDWOOD_ASSIGN_OR_RETURN(const segment::PartitionFiles files, FilesOf(finding.where));
        CORDWOOD_RETURN_IF_ERROR(MoveAsideIfThere(problem.file, problem.what));
        return MoveIndexAside(files, finding.base, problem.what);
      }
      case FindingKind::kCut: {
        CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                                  root_->OpenFile(problem.file, os::OpenMode::kReadWrite));
        CORDWOOD_RETURN_IF_ERROR(file->Allocate(finding.end));
        CORDWOOD_RETURN_IF_ERROR(file->Sync());
        return Rebuilt(problem.file + ", its length");
      }
      case FindingKind::kIndex: {
        CORDWOOD_ASSIGN_OR_RETURN(const segment::PartitionFiles files, FilesOf(finding.where));
        CORDWOOD_RETURN_IF_ERROR(MoveIndexAside(files, finding.base, problem.what));
        CORDWOOD_RETURN_IF_ERROR(log::MakeIndex(files, finding.base));
        return Rebuilt(problem.file);
      }
      case FindingKind::kOffsets:
        return RepairOffsets(problem);
      case FindingKind::kMembers:
        return MakeFile(problem, "");
      case FindingKind::kUnreadable:
      case FindingKind::kClean:
      case FindingKind::kSeal:
      case FindingKind::kEntry:
        break;
    }
    return absl::OkStatus();
  }

  // Who maps it and looks there gets a signal. What can be read takes its name, with zeros for
  // the rest; all that the disk still gives of the other is in both.
  absl::Status RepairUnreadable(const FileProblem& problem) {
    if (!readable_.insert(problem.file).second) return absl::OkStatus();  // another place in it
    CORDWOOD_ASSIGN_OR_RETURN(const std::string folder, FolderAside({problem.file}));
    CORDWOOD_RETURN_IF_ERROR(CopyReadable(problem.file, absl::StrCat(folder, "/", problem.file)));
    CORDWOOD_RETURN_IF_ERROR(ChangeNames(folder, problem.file, problem.what));
    return Rebuilt(problem.file + ", as far as it can be read");
  }

  absl::Status MakeFile(const FileProblem& problem, std::string_view bytes) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::string folder, FolderAside({problem.file}));
    CORDWOOD_RETURN_IF_ERROR(
        log::WriteNewFile(*root_, absl::StrCat(folder, "/", problem.file), bytes));
    CORDWOOD_RETURN_IF_ERROR(ChangeNames(folder, problem.file, problem.what));
    return Rebuilt(problem.file);
  }

  absl::Status RepairControl(const Finding& finding) {
    const FileProblem& problem = finding.problem;
    CORDWOOD_ASSIGN_OR_RETURN(const log::TopicIdentity identity,
                              log::TopicFiles::ReadConfig(*root_, finding.where.topic));
    const auto page =
        log::ControlFile::Open(*reading_, problem.file, identity.id, os::Access::kRead);
    CORDWOOD_RETURN_IF_ERROR(reading_->trouble());
    if (absl::IsNotFound(page.status()) || absl::IsDataLoss(page.status())) {
      CORDWOOD_RETURN_IF_ERROR(MoveAsideIfThere(problem.file, problem.what));
      return root_->SyncFolder(FolderOf(problem.file));
    }
    CORDWOOD_RETURN_IF_ERROR(page.status());
    std::vector<segment::PartitionFiles> partitions;
    for (int p = 0; p < identity.config.partitions; ++p) {
      CORDWOOD_ASSIGN_OR_RETURN(partitions.emplace_back(), FilesOf({finding.where.topic, p}));
    }
    CORDWOOD_ASSIGN_OR_RETURN(const std::string folder, FolderAside({problem.file}));
    CORDWOOD_RETURN_IF_ERROR(
        log::MakeControl(*root_, absl::StrCat(folder, "/", problem.file), **page, partitions));
    CORDWOOD_RETURN_IF_ERROR(ChangeNames(folder, problem.file, problem.what));
    return Rebuilt(problem.file);
  }

  // Its folder, or all of its segments, are gone. Where it goes on must be behind every offset
  // that was ever given out.
  absl::Status RepairPartition(const Finding& finding) {
    CORDWOOD_ASSIGN_OR_RETURN(const segment::PartitionFiles files, FilesOf(finding.where));
    CORDWOOD_ASSIGN_OR_RETURN(const std::optional<log::Watermarks> known, Known(files));
    if (!known) {
      return MoveTopicAside(finding.where.topic,
                            absl::StrCat("partition ", finding.where.partition,
                                         " has no segment, and where it ended is not known"));
    }
    CORDWOOD_RETURN_IF_ERROR(log::CreateFolderIfMissing(*root_, files.folder));
    CORDWOOD_RETURN_IF_ERROR(root_->SyncFolder(FolderOf(files.folder)));
    const Offset end = std::max({known->end(), known->durable, known->start});
    CORDWOOD_RETURN_IF_ERROR(PutStandIn(files, end, end, finding.problem.what));
    return Rebuilt(files.folder + ", without records");
  }

  // The log last, so that its indexes are there when it is.
  absl::Status PutStandIn(const segment::PartitionFiles& files, Offset base, Offset next,
                          const std::string& why) {
    std::vector<std::string> paths;
    for (const char* extension :
         {segment::Index::kOffsetExtension, segment::Index::kTimeExtension, ".log"}) {
      paths.push_back(files.Path(segment::SegmentFileName(base, extension)));
    }
    CORDWOOD_ASSIGN_OR_RETURN(const std::string folder, FolderAside(paths));
    CORDWOOD_RETURN_IF_ERROR(log::MakeStandIn(files, In(folder, files), *storage_, base, next));
    for (const std::string& path : paths) {
      CORDWOOD_RETURN_IF_ERROR(ChangeNames(folder, path, why));
    }
    return absl::OkStatus();
  }

  absl::Status RepairOffsets(const FileProblem& problem) {
    if (problem.state == VerifiedState::kMissing) {
      // The live page goes by the places of entries, which begin anew.
      CORDWOOD_RETURN_IF_ERROR(MoveAsideIfThere(FolderOf(problem.file) + "/live", problem.what));
    }
    CORDWOOD_ASSIGN_OR_RETURN(const std::string folder, FolderAside({problem.file}));
    CORDWOOD_RETURN_IF_ERROR(
        group::WriteOffsetsAnew(*root_, problem.file, absl::StrCat(folder, "/", problem.file)));
    CORDWOOD_RETURN_IF_ERROR(ChangeNames(folder, problem.file, problem.what));
    return Rebuilt(problem.file);
  }

  absl::Status Rebuilt(std::string what) {
    report_.rebuilt.push_back(std::move(what));
    return absl::OkStatus();
  }

  // ---- What is known of a partition

  absl::StatusOr<segment::PartitionFiles> FilesOf(const TopicPartition& where) const {
    CORDWOOD_ASSIGN_OR_RETURN(const log::TopicIdentity identity,
                              log::TopicFiles::ReadConfig(*root_, where.topic));
    return log::PartitionFilesIn(context_, log::TopicFolder(where.topic), where.topic, identity,
                                 where.partition);
  }

  // The same partition in a folder of damaged/.
  static segment::PartitionFiles In(const std::string& folder, segment::PartitionFiles files) {
    files.folder = absl::StrCat(folder, "/", files.folder);
    return files;
  }

  // Nothing: there is no control page that says it.
  absl::StatusOr<std::optional<log::Watermarks>> Known(const segment::PartitionFiles& files) const {
    // Read, not mapped: it may be cut off, or lie on a bad block.
    const auto control =
        log::ControlFile::Open(*reading_, log::TopicFolder(files.name->topic) + "/control",
                               files.topic_id, os::Access::kRead);
    CORDWOOD_RETURN_IF_ERROR(reading_->trouble());
    if (absl::IsNotFound(control.status()) || absl::IsDataLoss(control.status())) {
      return std::optional<log::Watermarks>();
    }
    CORDWOOD_RETURN_IF_ERROR(control.status());
    const auto partition = static_cast<int>(files.partition);
    if (partition >= (*control)->partitions()) return std::optional<log::Watermarks>();
    const log::Watermarks known = log::WatermarksOf((*control)->block(partition));
    if (known.start > known.end()) return std::optional<log::Watermarks>();
    return std::optional<log::Watermarks>(known);
  }

  // Without the active segment a topic has to be recovered, though it was closed.
  absl::Status ForgetCleanClose(const std::vector<Finding>& findings) {
    std::vector<log::CleanEntry> entries = log::ReadCleanMarker(*reading_);
    CORDWOOD_RETURN_IF_ERROR(reading_->trouble());
    const std::size_t before = entries.size();
    for (const Finding& finding : findings) {
      if (finding.kind != FindingKind::kHeader && finding.kind != FindingKind::kPartition) continue;
      CORDWOOD_ASSIGN_OR_RETURN(const segment::PartitionFiles files, FilesOf(finding.where));
      CORDWOOD_ASSIGN_OR_RETURN(const std::optional<log::Watermarks> known, Known(files));
      if (known && finding.kind == FindingKind::kHeader && finding.base < known->base) continue;
      std::erase_if(entries,
                    [&](const log::CleanEntry& entry) { return entry.topic_id == files.topic_id; });
    }
    return entries.size() == before ? absl::OkStatus() : log::WriteCleanMarker(*root_, entries);
  }

  // ---- Keeping aside

  // A new folder in damaged/.
  absl::Status BeginFolder() {
    CORDWOOD_RETURN_IF_ERROR(log::CreateFolderIfMissing(*root_, kDamaged));
    CORDWOOD_RETURN_IF_ERROR(root_->SyncFolder(""));
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries, root_->List(kDamaged));
    int highest = 0;
    for (const os::FolderEntry& entry : entries) {
      int number = 0;
      if (absl::SimpleAtoi(entry.name, &number) && number < kNumberMax) {
        highest = std::max(highest, number);
      }
    }
    const std::string folder = absl::StrCat(kDamaged, "/", highest + 1);
    CORDWOOD_RETURN_IF_ERROR(root_->CreateFolder(folder));
    CORDWOOD_RETURN_IF_ERROR(root_->SyncFolder(kDamaged));
    aside_ = folder;
    in_aside_.clear();
    return absl::OkStatus();
  }

  // One in which nothing has these names, below it, with the folders that lead there.
  absl::StatusOr<std::string> FolderAside(const std::vector<std::string>& paths) {
    const bool is_taken = std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
      // A file may be there already of a topic that goes as a whole now.
      const auto below = in_aside_.lower_bound(path + "/");
      return in_aside_.contains(path) ||
             (below != in_aside_.end() && below->starts_with(path + "/"));
    });
    if (aside_.empty() || is_taken) CORDWOOD_RETURN_IF_ERROR(BeginFolder());
    for (const std::string& path : paths) {
      std::string folder = aside_;
      for (std::size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1)) {
        const std::string parent =
            std::exchange(folder, absl::StrCat(aside_, "/", path.substr(0, at)));
        CORDWOOD_RETURN_IF_ERROR(log::CreateFolderIfMissing(*root_, folder));
        CORDWOOD_RETURN_IF_ERROR(root_->SyncFolder(parent));
      }
      in_aside_.insert(path);
    }
    return aside_;
  }

  void KeptAside(const std::string& path, const std::string& to, const std::string& why) {
    report_.kept_aside.push_back({.from = path, .to = to, .why = why});
  }

  // What was made in `folder` gets the name `path`, and what had it is kept there, if anything had.
  absl::Status ChangeNames(const std::string& folder, const std::string& path,
                           const std::string& why) {
    const std::string made = absl::StrCat(folder, "/", path);
    CORDWOOD_RETURN_IF_ERROR(root_->SyncFolder(FolderOf(made)));
    absl::Status changed = root_->Exchange(made, path);
    const bool is_missing = absl::IsNotFound(changed);
    if (is_missing) changed = root_->RenameNew(made, path);
    CORDWOOD_RETURN_IF_ERROR(changed);
    if (!is_missing) KeptAside(path, made, why);
    CORDWOOD_RETURN_IF_ERROR(root_->SyncFolder(FolderOf(made)));
    return root_->SyncFolder(FolderOf(path));
  }

  absl::Status MoveAsideIfThere(const std::string& path, const std::string& why) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::string folder, FolderAside({path}));
    const std::string to = absl::StrCat(folder, "/", path);
    const absl::Status moved = root_->RenameNew(path, to);
    if (absl::IsNotFound(moved)) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(moved);
    KeptAside(path, to, why);
    CORDWOOD_RETURN_IF_ERROR(root_->SyncFolder(FolderOf(to)));
    return root_->SyncFolder(FolderOf(path));
  }

  absl::Status MoveIndexAside(const segment::PartitionFiles& files, Offset base,
                              const std::string& why) {
    for (const char* extension :
         {segment::Index::kOffsetExtension, segment::Index::kTimeExtension}) {
      CORDWOOD_RETURN_IF_ERROR(
          MoveAsideIfThere(files.Path(segment::SegmentFileName(base, extension)), why));
    }
    return absl::OkStatus();
  }

  // With zeros for what cannot be read, synced.
  absl::Status CopyReadable(const std::string& path, const std::string& to) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> from,
                              reading_->OpenFile(path, os::OpenMode::kRead));
    CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, from->Info());
    // It may be sparse, and then a copy would fill the disk.
    if (info.size > segment::kSegmentBytesMax) {
      return absl::FailedPreconditionError(absl::StrCat(
          root_->path(), "/", path, ": ", info.size,
          " bytes are more than any file of ours has; move it away, and repair again"));
    }
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> copy,
                              root_->OpenFile(to, os::OpenMode::kCreate));
    const absl::Status copied = CopyBytes(*from, *copy);
    if (!copied.ok()) log::UnlinkIfThere(*root_, to).IgnoreError();  // it may have filled the disk
    return copied;
  }

  static absl::Status CopyBytes(os::File& from, os::File& to) {
    std::string chunk(kChunkBytes, '\0');
    for (std::uint64_t at = 0;;) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::size_t bytes,
                                from.ReadAt(chunk.data(), chunk.size(), at));
      if (bytes == 0) return to.Sync();
      CORDWOOD_RETURN_IF_ERROR(to.WriteAt(chunk.data(), bytes, at));
      at += bytes;
    }
  }

  absl::Status MoveTopicAside(const std::string& topic, const std::string& why) {
    const std::string path = log::TopicFolder(topic);
    std::erase_if(report_.given_up,
                  [&](const RepairReport::GivenUp& lost) { return lost.where.topic == topic; });
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries, root_->List(path));
    for (const os::FolderEntry& entry : entries) {
      int partition = 0;
      if (!entry.is_folder || !absl::SimpleAtoi(entry.name, &partition)) continue;
      report_.given_up.push_back(
          {.where = {topic, partition}, .why = absl::StrCat("the whole topic: ", why)});
    }
    topics_aside_.insert(topic);
    return MoveAsideIfThere(path, why);
  }

  const std::shared_ptr<Storage> storage_;
  const std::shared_ptr<os::Folder> root_;
  const std::shared_ptr<os::PreadFolder> reading_;  // the same
  const log::Context context_;                      // for names only
  bool is_repeated_ = false;  // a recovery or a repair before was cut off, or failed
  bool is_noted_ = false;     // that there is one now
  std::string aside_;         // "damaged/3"; empty: nothing was kept yet
  std::set<std::string> in_aside_;
  std::set<std::string> topics_aside_;
  std::set<std::string> readable_;  // files of RepairUnreadable
  RepairReport report_;
};

// That of the files that are there, so that who could use them still can.
absl::StatusOr<int> FileModeOf(os::Folder& root) {
  for (const char* name : {"locks", "FORMAT"}) {
    const absl::StatusOr<std::unique_ptr<os::File>> file = root.OpenFile(name, os::OpenMode::kRead);
    if (absl::IsNotFound(file.status())) continue;
    CORDWOOD_RETURN_IF_ERROR(file.status());
    CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*file)->Info());
    if ((info.mode & 0600) == 0600) return info.mode;
  }
  return os::OpenFolderOptions().file_mode;
}

}  // namespace

absl::StatusOr<RepairReport> Repair(const std::filesystem::path& directory,
                                    const RepairOptions& options) {
  const std::shared_ptr<Storage> storage =
      options.storage != nullptr ? options.storage : Storage::OperatingSystem();
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<os::Folder> looked_at,
                            internal::OpenToVerify(*storage, directory));
  CORDWOOD_ASSIGN_OR_RETURN(const int file_mode, FileModeOf(*looked_at));
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<os::Folder> root,
                            storage->OpenFolder(directory, {.file_mode = file_mode}));
  absl::StatusOr<std::unique_ptr<os::File>> opening =
      root->OpenFile("locks", os::OpenMode::kReadWrite);
  if (absl::IsNotFound(opening.status())) {
    opening = root->OpenFile("locks", os::OpenMode::kCreate);
  }
  CORDWOOD_RETURN_IF_ERROR(opening.status());
  // As the first opener of log/directory.h: nobody is here, and nobody comes.
  CORDWOOD_ASSIGN_OR_RETURN(
      const bool is_my_turn,
      log::LockByte(**opening, os::LockKind::kExclusive, os::LockOwners::kOpenByte,
                    log::DeadlineAfter(options.open_timeout)));
  if (!is_my_turn) {
    return absl::UnavailableError(absl::StrCat(root->path(),
                                               ": somebody has been opening or closing it for ",
                                               absl::FormatDuration(options.open_timeout)));
  }
  CORDWOOD_ASSIGN_OR_RETURN(
      const bool is_alone,
      (*opening)->TryLock(os::LockKind::kExclusive, os::LockOwners::kPresenceByte));
  if (!is_alone) {
    const auto owners = os::LockOwners::Observe(*root);
    return absl::FailedPreconditionError(absl::StrCat(
        root->path(), ": cannot be repaired while it is open",
        owners.ok() ? " in " + (*owners)->DescribeHolders() : std::string(), "; close it there"));
  }
  return Repairer(storage, root).Run();
}

}  // namespace cordwood
