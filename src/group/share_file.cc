// The files of share groups: making them, believing them, getting them to the disk.

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cordwood/group/share.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"
#include "group/files.h"
#include "log/small_files.h"

namespace cordwood::group {
namespace {

// Of the file `members`. Without bit 1, as no topic's byte is.
constexpr std::uint64_t kMakingShareByte = 4;
constexpr std::int64_t kForgetWaitNanos = 5'000'000'000;
// Of a flush pass, and of a close.
constexpr std::int64_t kPassWaitNanos = 100'000'000;

std::uint64_t ChecksumOf(const ShareHeader& header) {
  return os::Hash64(&header, offsetof(ShareHeader, checksum));
}

bool IsAbout(const ShareHeader& header, const os::Bits128& topic_id, int partition) {
  return header.magic == ShareHeader::kMagic && header.version == kShareVersion &&
         header.slots == kShareSlots && header.topic_id == topic_id &&
         header.partition == static_cast<std::uint32_t>(partition) &&
         header.checksum == ChecksumOf(header);
}

// Whether there is something that the disk may not have.
bool IsDirty(const ShareHeader& header) {
  return header.syncing.load(std::memory_order_acquire) != 0 ||
         header.changes.load(std::memory_order_acquire) !=
             header.synced.load(std::memory_order_acquire);
}

void CopySlots(const ShareFile::Mapped& from, bool is_believed, ShareSlot* to) {
  for (Offset i = 0; i < kShareSlots; ++i) {
    const ShareSlot& old = from.slots[i];
    to[i].word.store(old.word.load(std::memory_order_acquire), std::memory_order_relaxed);
    if (!is_believed) continue;  // of another boot: nobody holds anything
    to[i].deadline_ns.store(old.deadline_ns.load(std::memory_order_relaxed),
                            std::memory_order_relaxed);
    to[i].holder.store(old.holder.load(std::memory_order_relaxed), std::memory_order_relaxed);
    to[i].member.store(old.member.load(std::memory_order_relaxed), std::memory_order_relaxed);
    to[i].key.store(old.key.load(std::memory_order_relaxed), std::memory_order_relaxed);
  }
}

// The largest offset in [0, end) that a word of the file is about.
Offset NewestWord(const ShareFile::Mapped& file, Offset end) {
  Offset newest = -1;
  for (Offset i = 0; i < kShareSlots; ++i) {
    const std::uint64_t word = file.slots[i].word.load(std::memory_order_relaxed);
    const auto offset = static_cast<Offset>(word >> 16);
    const bool counts = offset % kShareSlots == i && offset < end &&
                        ReadShareWord(word, offset).state != ShareState::kNone;
    if (counts) newest = std::max(newest, offset);
  }
  return newest;
}

}  // namespace

ShareFile::ShareFile(Place place, Offset initial, Offset end)
    : place_(std::move(place)),
      folder_(absl::StrCat(kGroupsFolder, "/", place_.group->name())),
      name_(ShareFileName(place_.topic.id, place_.partition)),
      initial_(initial),
      end_(end) {}

absl::StatusOr<std::shared_ptr<ShareFile>> ShareFile::Open(Place place, Offset initial, Offset end,
                                                           std::int64_t wait_ns) {
  auto file = std::shared_ptr<ShareFile>(new ShareFile(std::move(place), initial, end));
  CORDWOOD_RETURN_IF_ERROR(file->MapOrMake(wait_ns));
  return file;
}

std::shared_ptr<ShareFile::Mapped> ShareFile::mapped() const {
  absl::MutexLock lock(&mutex_);
  return mapped_;
}

// Null: it is none of this topic and partition, or its header is damaged.
absl::StatusOr<std::unique_ptr<ShareFile::Mapped>> ShareFile::MapValid(os::File& file) const {
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file.Info());
  if (info.size < kShareBytes) return nullptr;
  auto mapped = std::make_unique<Mapped>();
  CORDWOOD_ASSIGN_OR_RETURN(mapped->map, file.Map(kShareBytes, os::Access::kReadWrite));
  mapped->header = reinterpret_cast<ShareHeader*>(mapped->map->data());
  mapped->slots = reinterpret_cast<ShareSlot*>(mapped->map->data() + kShareHeaderBytes);
  if (!IsAbout(*mapped->header, place_.topic.id, place_.partition)) return nullptr;
  return mapped;
}

absl::StatusOr<bool> ShareFile::Map() {
  absl::StatusOr<std::unique_ptr<os::File>> file =
      place_.context->root->OpenFile(Path(), os::OpenMode::kReadWrite);
  if (absl::IsNotFound(file.status())) return false;
  if (!file.ok()) return file.status();
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*file)->Info());
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<Mapped> mapped, MapValid(**file));
  if (mapped == nullptr || !IsOfThisBoot(*mapped->header, info) ||
      mapped->header->state.load(std::memory_order_acquire) != ShareHeader::kReady) {
    return false;
  }
  absl::MutexLock lock(&mutex_);
  mapped_ = std::move(mapped);
  return true;
}

// Who holds what it returns makes the file, and nobody else.
absl::StatusOr<std::unique_ptr<os::File>> ShareFile::LockMaking(std::int64_t wait_ns) const {
  os::Folder& root = *place_.context->root;
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> members,
                            root.OpenFile(folder_ + "/members", os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const bool alone,
                            log::LockByte(*members, os::LockKind::kExclusive, kMakingShareByte,
                                          os::MonotonicNanos() + wait_ns));
  if (alone) return members;
  return absl::UnavailableError(
      absl::StrCat(root.path(), "/", Path(), ": another process is making it and does not get on"));
}

absl::Status ShareFile::MapOrMake(std::int64_t wait_ns) {
  CORDWOOD_ASSIGN_OR_RETURN(const bool believed, Map());
  if (believed) return absl::OkStatus();
  os::Folder& root = *place_.context->root;
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> making, LockMaking(wait_ns));
  // Somebody may have been faster.
  CORDWOOD_ASSIGN_OR_RETURN(const bool made, Map());
  if (made) return absl::OkStatus();
  std::unique_ptr<Mapped> old;
  bool of_this_boot = false;
  if (const absl::StatusOr<std::unique_ptr<os::File>> file =
          root.OpenFile(Path(), os::OpenMode::kReadWrite);
      file.ok()) {
    CORDWOOD_ASSIGN_OR_RETURN(old, MapValid(**file));
    CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*file)->Info());
    // Replaced, and who was about to rename the new one died.
    of_this_boot = old != nullptr && IsOfThisBoot(*old->header, info);
  }
  CORDWOOD_RETURN_IF_ERROR(Build(old.get(), of_this_boot));
  CORDWOOD_RETURN_IF_ERROR(Publish());
  CORDWOOD_ASSIGN_OR_RETURN(const bool is_there, Map());
  if (is_there) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(root.path(), "/", Path(), ": has just been made and is not as it was made"));
}

absl::Status ShareFile::Build(const Mapped* old, bool is_believed) const {
  os::Folder& root = *place_.context->root;
  const std::string made = NewPath();
  if (absl::Status gone = root.Unlink(made); !gone.ok() && !absl::IsNotFound(gone)) return gone;
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            root.OpenFile(made, os::OpenMode::kCreate));
  // Blocks first: a store to a hole on a full disk would be a signal.
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(kShareBytes));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::Mapping> map,
                            file->Map(kShareBytes, os::Access::kReadWrite));
  auto& header = *reinterpret_cast<ShareHeader*>(map->data());
  auto* slots = reinterpret_cast<ShareSlot*>(map->data() + kShareHeaderBytes);
  header.magic = ShareHeader::kMagic;
  header.version = kShareVersion;
  header.slots = static_cast<std::uint32_t>(kShareSlots);
  header.topic_id = place_.topic.id;
  header.partition = static_cast<std::uint32_t>(place_.partition);
  header.inode = info.inode;
  header.device = info.device;
  header.checksum = ChecksumOf(header);
  header.boot_id = place_.context->boot_id;
  header.start.store(-1, std::memory_order_relaxed);
  header.next_start.store(-1, std::memory_order_relaxed);
  if (old != nullptr) {
    const ShareHeader& from = *old->header;
    header.letters_from.store(from.letters_from.load(std::memory_order_relaxed));
    if (is_believed) {
      CopySlots(*old, true, slots);
      header.start.store(from.start.load());
      header.next_start.store(from.next_start.load());
    } else {
      const std::optional<Offset> committed = place_.group->committed(place_.entry);
      const Offset at = StartAfterBoot(committed, from.start.load(), NewestWord(*old, end_), end_);
      CopySlots(*old, false, slots);
      header.next_start.store(at);
      // From what is committed the first turn moves on: case @E.
      header.start.store(committed.value_or(at));
    }
  }
  header.state.store(ShareHeader::kReady, std::memory_order_release);
  return file->Sync();
}

absl::Status ShareFile::Publish() const {
  os::Folder& root = *place_.context->root;
  CORDWOOD_RETURN_IF_ERROR(root.Rename(NewPath(), Path()));
  return root.SyncFolder(folder_);
}

bool ShareFile::IsOfThisBoot(const ShareHeader& header, const os::FileInfo& info) const {
  return header.boot_id == place_.context->boot_id && header.inode == info.inode &&
         header.device == info.device;
}

// ---- The disk

absl::Status ShareFile::Sync() {
  std::shared_ptr<Mapped> now = mapped();
  if (now->header->state.load(std::memory_order_acquire) == ShareHeader::kReplaced) {
    // Others may have acknowledged in the new one, and died.
    CORDWOOD_ASSIGN_OR_RETURN(const bool is_there, Map());
    if (!is_there) return absl::OkStatus();
    now = mapped();
  }
  ShareHeader& header = *now->header;
  if (!IsDirty(header)) return absl::OkStatus();
  if (header.sync_lock.Lock(*place_.context->owners, os::MonotonicNanos() + kPassWaitNanos) ==
      os::LockResult::kTimedOut) {
    return absl::UnavailableError(absl::StrCat(Path(), ": another process is syncing it"));
  }
  absl::Status status;
  if (header.state.load(std::memory_order_acquire) == ShareHeader::kReady && IsDirty(header)) {
    // The mark stands while the sync runs. Who finds it later, under a dead owner or after an
    // error, cannot know whether the pages reached the disk: a second sync would say OK.
    const bool in_doubt = header.syncing.exchange(1, std::memory_order_acq_rel) != 0;
    const std::uint64_t changes = header.changes.load(std::memory_order_acquire);
    if (in_doubt || !now->map->Sync(0, kShareBytes).ok()) {
      status = Replace();
    } else {
      header.synced.store(changes, std::memory_order_release);
      header.syncing.store(0, std::memory_order_release);
    }
  }
  header.sync_lock.Unlock();
  return status;
}

// Under the sync lock, so nobody else does; and with a turn, so nothing changes meanwhile.
absl::Status ShareFile::Replace() {
  ShareTurn turn(*this);
  CORDWOOD_RETURN_IF_ERROR(turn.Take(kPassWaitNanos));
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> making, LockMaking(kPassWaitNanos));
  CORDWOOD_RETURN_IF_ERROR(Build(turn.mapped().get(), true));
  // Before the rename: killed in between, nobody goes on with the old file while others have
  // the new one. Release: pairs with the acquire in ShareTurn::Take().
  turn.mapped()->header->state.store(ShareHeader::kReplaced, std::memory_order_release);
  turn.Wake();
  return Publish();
}

absl::Status SyncShareFiles(const log::Context& context) {
  os::Folder& root = *context.root;
  absl::Status first;
  absl::StatusOr<std::vector<os::FolderEntry>> groups = root.List(kGroupsFolder);
  if (!groups.ok()) return absl::OkStatus();
  for (const os::FolderEntry& group : *groups) {
    const std::string folder = absl::StrCat(kGroupsFolder, "/", group.name);
    absl::StatusOr<std::vector<os::FolderEntry>> files = root.List(folder);
    if (!files.ok()) continue;
    for (const os::FolderEntry& entry : *files) {
      if (!absl::StartsWith(entry.name, kSharePrefix)) continue;
      const absl::StatusOr<std::unique_ptr<os::File>> file =
          root.OpenFile(folder + "/" + entry.name, os::OpenMode::kReadWrite);
      if (!file.ok()) continue;
      const absl::StatusOr<os::FileInfo> info = (*file)->Info();
      if (!info.ok() || info->size < kShareBytes) continue;
      const absl::StatusOr<std::unique_ptr<os::Mapping>> map =
          (*file)->Map(kShareHeaderBytes, os::Access::kReadWrite);
      if (!map.ok()) {
        first.Update(map.status());
        continue;
      }
      auto& header = *reinterpret_cast<ShareHeader*>((*map)->data());
      if (!IsDirty(header)) continue;
      const std::uint64_t changes = header.changes.load(std::memory_order_acquire);
      // In doubt, or with an error, the mark is left: who uses it next makes a new file.
      const bool in_doubt = header.syncing.exchange(1, std::memory_order_acq_rel) != 0;
      absl::Status synced = (*file)->Sync();
      if (synced.ok() && !in_doubt) {
        header.synced.store(changes, std::memory_order_release);
        header.syncing.store(0, std::memory_order_release);
      }
      first.Update(std::move(synced));
    }
  }
  return first;
}

absl::StatusOr<std::optional<ShareProgress>> CountShared(const Group& group,
                                                         const os::Bits128& topic_id, int partition,
                                                         Offset from, Offset end) {
  const absl::StatusOr<std::unique_ptr<os::File>> file = group.context().root->OpenFile(
      group.Path(absl::StrCat(kSharePrefix, log::HexOf(topic_id), "-", partition)),
      os::OpenMode::kRead);
  if (absl::IsNotFound(file.status())) return std::nullopt;
  if (!file.ok()) return file.status();
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*file)->Info());
  // A damaged one is made anew by who shares next.
  if (info.size < kShareBytes) return std::nullopt;
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::Mapping> map,
                            (*file)->Map(kShareBytes, os::Access::kRead));
  const auto& header = *reinterpret_cast<const ShareHeader*>(map->data());
  const auto* const slots = reinterpret_cast<const ShareSlot*>(map->data() + kShareHeaderBytes);
  if (!IsAbout(header, topic_id, partition)) return std::nullopt;
  // Of another boot: nobody holds anything.
  const bool is_of_this_boot = header.boot_id == group.context().boot_id;
  const auto now_ns = static_cast<std::int64_t>(os::MonotonicNanos());
  ShareProgress progress;
  for (Offset offset = from; offset < end && offset - from < kShareSlots; ++offset) {
    const ShareSlot& slot = slots[offset % kShareSlots];
    const ShareState state = ReadShareWord(slot.word.load(std::memory_order_acquire), offset).state;
    if (state == ShareState::kNone) continue;
    if (IsDone(state)) {
      ++progress.done;
    } else if (state == ShareState::kAcquired && is_of_this_boot &&
               slot.deadline_ns.load(std::memory_order_relaxed) > now_ns) {
      ++progress.held;
    } else {
      ++progress.waiting;
    }
  }
  return progress;
}

// Marked first: who has it mapped makes a new one. Killed in between, the next one who opens
// it does the same, and finds the words; the reset was not done then.
absl::Status ForgetShareFile(const Group& group, const os::Bits128& topic_id, int partition) {
  os::Folder& root = *group.context().root;
  // Nobody makes it anew meanwhile, from the words that are to go.
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> members,
                            root.OpenFile(group.Path("members"), os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const bool alone,
                            log::LockByte(*members, os::LockKind::kExclusive, kMakingShareByte,
                                          os::MonotonicNanos() + kForgetWaitNanos));
  if (!alone) {
    return absl::UnavailableError(absl::StrCat(
        "group ", group.name(), ": another process is making a share file and does not get on"));
  }
  const std::string path = group.Path(ShareFileName(topic_id, partition));
  {
    const absl::StatusOr<std::unique_ptr<os::File>> file =
        root.OpenFile(path, os::OpenMode::kReadWrite);
    if (absl::IsNotFound(file.status())) return absl::OkStatus();
    if (!file.ok()) return file.status();
    CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*file)->Info());
    if (info.size >= kShareBytes) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::Mapping> map,
                                (*file)->Map(kShareHeaderBytes, os::Access::kReadWrite));
      // Release: pairs with the acquire in ShareTurn::Take().
      reinterpret_cast<ShareHeader*>(map->data())
          ->state.store(ShareHeader::kReplaced, std::memory_order_release);
    }
  }
  CORDWOOD_RETURN_IF_ERROR(root.Unlink(path));
  return root.SyncFolder(absl::StrCat(kGroupsFolder, "/", group.name()));
}

// ---- Members

absl::StatusOr<std::unique_ptr<os::LockKeeper>> JoinShare(const Group& group) {
  const log::Context& context = group.context();
  CORDWOOD_RETURN_IF_ERROR(context.CheckWritable());
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::unique_ptr<os::File> members,
      context.root->OpenFile(group.Path("members"), os::OpenMode::kReadWrite));
  CORDWOOD_RETURN_IF_ERROR(group.LockPresence(*members, Group::Wait::kForTurn));
  CORDWOOD_ASSIGN_OR_RETURN(const bool shared, members->TryLock(os::LockKind::kShared, kShareByte));
  // The lock comes first: a Consumer that joins looks at it after it has become a member.
  if (!shared || !group.MemberSlots().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("group ", group.name(),
                     " has a Consumer that has subscribed; close it, or use another group"));
  }
  return members->KeepLocks();
}

// ---- The files of a directory

absl::StatusOr<std::shared_ptr<ShareFile>> ShareStore::Open(ShareFile::Place place, Offset initial,
                                                            Offset end, std::int64_t wait_ns) {
  const Key key(place.group->name(), place.topic.id, place.partition);
  const std::shared_ptr<Group> group = place.group;
  {
    absl::MutexLock lock(&mutex_);
    const auto known = files_.find(key);
    if (known != files_.end() && known->second->place().group == group) return known->second;
  }
  // Without the lock, as it may have to wait for another process.
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<ShareFile> file,
                            ShareFile::Open(std::move(place), initial, end, wait_ns));
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<ShareFile>& known = files_[key];
  if (known == nullptr || known->place().group != group) known = std::move(file);
  return known;
}

std::vector<std::shared_ptr<ShareFile>> ShareStore::All() {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<ShareFile>> all;
  all.reserve(files_.size());
  for (const auto& [key, file] : files_) all.push_back(file);
  return all;
}

absl::Status ShareStore::SyncAll() {
  absl::Status first;
  for (const std::shared_ptr<ShareFile>& file : All()) {
    if (!file->place().group->is_current()) continue;
    absl::Status synced = file->Sync();
    if (file->place().group->is_current()) first.Update(std::move(synced));
  }
  return first;
}

void ShareStore::ReleaseAll() {
  for (const std::shared_ptr<ShareFile>& file : All()) {
    ShareTurn turn(*file);
    // Whom the wait is too long for is free by its deadline, or with the end of this open.
    if (turn.Take(kPassWaitNanos).ok()) turn.ReleaseAll(0, kDeliveriesMax);
  }
}

}  // namespace cordwood::group
