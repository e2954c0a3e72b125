// One group: its live page, its entries, its members.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/group/membership.h"
#include "cordwood/group/offsets.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"
#include "group/files.h"
#include "group/roster.h"
#include "group/turn.h"

namespace cordwood::group {
namespace {

constexpr std::size_t kLiveMapBytes = kLiveEntriesAt + kEntriesMax * sizeof(LiveEntry);
constexpr std::uint64_t kLiveStepBytes = 4096;

absl::Status Deleted(const std::string& name) {
  return absl::FailedPreconditionError(
      absl::StrCat("group ", name, " was deleted; subscribe again to begin it anew"));
}

}  // namespace

absl::Status Group::Turn::Take(std::int64_t wait_ns) {
  if (group_.context_->read_only()) {
    return absl::FailedPreconditionError("the directory is open read-only");
  }
  const os::LockOwners& owners = *group_.context_->owners;
  const std::int64_t deadline = os::MonotonicNanos() + wait_ns;
  // A dead owner leaves nothing half done that counts: an entry counts once `entries` is
  // past it, and a sync that was under way still has its mark.
  if (group_.live_->lock.Lock(owners, deadline) == os::LockResult::kTimedOut) {
    return absl::UnavailableError(absl::StrCat(group_.folder_, ": the lock of the group is with ",
                                               owners.Describe(group_.live_->lock.word())));
  }
  held_ = true;
  return group_.is_current() ? absl::OkStatus() : Deleted(group_.name_);
}

Group::Group(std::shared_ptr<const log::Context> context, const std::string& name)
    : context_(std::move(context)), name_(name), folder_(absl::StrCat(kGroupsFolder, "/", name)) {}

// ---- Opening

absl::StatusOr<std::shared_ptr<Group>> Group::Open(std::shared_ptr<const log::Context> context,
                                                   const std::string& name, bool create,
                                                   Wait wait) {
  auto group = std::shared_ptr<Group>(new Group(std::move(context), name));
  os::Folder& root = *group->context_->root;
  absl::StatusOr<std::unique_ptr<os::File>> offsets =
      root.OpenFile(group->Path("offsets"), os::OpenMode::kRead);
  if (absl::IsNotFound(offsets.status())) {
    if (!create) return absl::NotFoundError(absl::StrCat("there is no group ", name));
    CORDWOOD_RETURN_IF_ERROR(CreateGroup(*group->context_, group->folder_));
    offsets = root.OpenFile(group->Path("offsets"), os::OpenMode::kRead);
  }
  if (!offsets.ok()) return offsets.status();
  CORDWOOD_RETURN_IF_ERROR(
      CheckOffsetsHeader(**offsets, absl::StrCat(root.path(), "/", group->Path("offsets"))));

  CORDWOOD_ASSIGN_OR_RETURN(const bool believed, group->MapLive());
  if (group->context_->read_only()) {
    if (!believed) CORDWOOD_RETURN_IF_ERROR(group->ReadImage());
    return group;
  }
  if (!believed) CORDWOOD_RETURN_IF_ERROR(group->MakeLive(wait));
  CORDWOOD_RETURN_IF_ERROR(group->Adopt(wait));
  return group;
}

absl::StatusOr<bool> Group::MapLive() {
  const bool read_only = context_->read_only();
  absl::StatusOr<std::unique_ptr<os::File>> file = context_->root->OpenFile(
      Path("live"), read_only ? os::OpenMode::kRead : os::OpenMode::kReadWrite);
  if (absl::IsNotFound(file.status())) return false;
  if (!file.ok()) return file.status();
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*file)->Info());
  if (info.size < kLiveEntriesAt) return false;
  CORDWOOD_ASSIGN_OR_RETURN(
      std::unique_ptr<os::Mapping> map,
      (*file)->Map(kLiveMapBytes, read_only ? os::Access::kRead : os::Access::kReadWrite));
  auto* header = reinterpret_cast<LiveHeader*>(map->data());
  const auto entries = static_cast<int>(
      std::min<std::uint32_t>(header->entries.load(std::memory_order_acquire), kEntriesMax));
  // After that, for the file was made longer before they were counted.
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo grown, (*file)->Info());
  if (header->magic != LiveHeader::kMagic || header->version != LiveHeader::kVersion ||
      header->state.load(std::memory_order_acquire) != LiveHeader::kReady ||
      header->boot_id != context_->boot_id || header->inode != info.inode ||
      header->device != info.device || LiveEntryAt(entries) > grown.size) {
    return false;
  }
  live_file_ = *std::move(file);
  live_map_ = std::move(map);
  live_ = header;
  slots_ = reinterpret_cast<MemberSlot*>(live_map_->data() + kMembersAt);
  words_ = reinterpret_cast<LiveEntry*>(live_map_->data() + kLiveEntriesAt);
  return true;
}

absl::Status Group::MakeLive(Wait wait) {
  os::Folder& root = *context_->root;
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> members,
                            root.OpenFile(Path("members"), os::OpenMode::kReadWrite));
  const std::int64_t deadline = os::MonotonicNanos() + Turn::NanosOf(wait);
  for (;;) {
    CORDWOOD_ASSIGN_OR_RETURN(const bool locked,
                              members->TryLock(os::LockKind::kExclusive, kMakingLiveByte));
    // Somebody may have made it while we waited, or before we had the lock.
    CORDWOOD_ASSIGN_OR_RETURN(const bool believed, MapLive());
    if (believed) return absl::OkStatus();
    if (locked) {
      // Not of a group that was deleted while we waited, and perhaps made again.
      CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo ours, members->Info());
      CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> there,
                                root.OpenFile(Path("members"), os::OpenMode::kRead));
      CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo now, there->Info());
      if (ours.inode == now.inode) break;
      return absl::UnavailableError(
          absl::StrCat("group ", name_, " was deleted meanwhile; open it again"));
    }
    if (os::MonotonicNanos() >= deadline) {
      return absl::UnavailableError(
          absl::StrCat(root.path(), "/", folder_,
                       ": another process is making the group's live page and does not get on"));
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  const std::string made = Path(".live-new");
  if (absl::Status old = root.Unlink(made); !old.ok() && !absl::IsNotFound(old)) return old;
  {
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                              root.OpenFile(made, os::OpenMode::kCreate));
    CORDWOOD_RETURN_IF_ERROR(file->Allocate(kLiveEntriesAt));
    CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::Mapping> map,
                              file->Map(kLiveEntriesAt, os::Access::kReadWrite));
    auto* header = reinterpret_cast<LiveHeader*>(map->data());
    header->magic = LiveHeader::kMagic;
    header->version = LiveHeader::kVersion;
    header->boot_id = context_->boot_id;
    header->inode = info.inode;
    header->device = info.device;
    header->state.store(LiveHeader::kReady, std::memory_order_release);
  }
  // Before anybody can commit: who made the group need not be alive, and its folder's name is
  // on the disk with this one's only.
  CORDWOOD_RETURN_IF_ERROR(root.SyncFolder(kGroupsFolder));
  // Not synced: after a power cut another boot id is the right one.
  CORDWOOD_RETURN_IF_ERROR(root.Rename(made, Path("live")));
  CORDWOOD_ASSIGN_OR_RETURN(const bool believed, MapLive());
  if (believed) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(root.path(), "/", Path("live"),
                                             ": has just been made and is not as it was made"));
}

// A live page that has just been made knows nothing; one that was there may not know of an
// entry whose maker died, or, on a device that was cut off and mounted again in one boot,
// may have lost words.
absl::Status Group::Adopt(Wait wait) {
  {
    // Most often it knows all. Then nobody has to be waited for, who may be stopped.
    absl::MutexLock lock(&mutex_);
    const int known = EntriesKnown();  // before the file is read: so many are whole in it
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> image, ReadAll());
    bool knows_all = image.size() <= static_cast<std::size_t>(known);
    for (std::size_t i = 0; knows_all && i < image.size(); ++i) {
      knows_all = image[i] == 0 || (words_[i].durable.load(std::memory_order_acquire) != 0 &&
                                    UnpackCommit(words_[i].word.load(std::memory_order_acquire)));
    }
    if (knows_all) {
      identities_.resize(static_cast<std::size_t>(known));
      // After the file was opened: it is not that of another group of the name.
      return is_current() ? absl::OkStatus() : Deleted(name_);
    }
  }
  Turn turn(*this);
  CORDWOOD_RETURN_IF_ERROR(turn.Take(Turn::NanosOf(wait)));
  absl::MutexLock lock(&mutex_);
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> image, ReadAll());
  const int entries = std::max(EntriesKnown(), static_cast<int>(image.size()));
  identities_.resize(static_cast<std::size_t>(entries));
  CORDWOOD_RETURN_IF_ERROR(GrowLive(entries));
  for (std::size_t i = 0; i < image.size(); ++i) {
    if (image[i] == 0) continue;
    if (words_[i].durable.load(std::memory_order_relaxed) == 0) {
      words_[i].durable.store(image[i], std::memory_order_relaxed);
    }
    // Not where somebody has committed meanwhile.
    std::uint64_t word = words_[i].word.load(std::memory_order_acquire);
    while (!UnpackCommit(word) && !words_[i].word.compare_exchange_weak(
                                      word, PackCommit(EpochOf(word), UnpackCommit(image[i])),
                                      std::memory_order_acq_rel)) {
    }
  }
  // Release: pairs with the acquire in EntriesKnown(); the words are there.
  live_->entries.store(static_cast<std::uint32_t>(entries), std::memory_order_release);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::uint64_t>> Group::ReadAll() {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            context_->root->OpenFile(Path("offsets"), os::OpenMode::kRead));
  CORDWOOD_ASSIGN_OR_RETURN(const int in_file, EntriesIn(*file));
  std::vector<std::uint64_t> image;
  image.reserve(static_cast<std::size_t>(in_file));
  std::size_t entries = 0;
  identities_.clear();
  index_.clear();
  CORDWOOD_RETURN_IF_ERROR(ReadEntries(*file, 0, in_file, [&](int, const OffsetEntry& bytes) {
    // The analysis does not see that the call is made here, under the lock.
    mutex_.AssertHeld();
    AddIdentity(bytes);
    const std::optional<OffsetEntry> entry = ReadEntry(bytes);
    const int newest = entry ? NewestSlot(*entry) : -1;
    image.push_back(newest < 0 ? 0 : PackCommit(0, entry->slots[newest].offset));
    if (entry) entries = image.size();
  }));
  image.resize(entries);
  identities_.resize(entries);
  return image;
}

absl::Status Group::ReadImage() {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            context_->root->OpenFile(Path("offsets"), os::OpenMode::kRead));
  CORDWOOD_ASSIGN_OR_RETURN(const int in_file, EntriesIn(*file));
  return ReadEntries(*file, 0, in_file, [&](int, const OffsetEntry& bytes) {
    const std::optional<OffsetEntry> entry = ReadEntry(bytes);
    const int newest = entry ? NewestSlot(*entry) : -1;
    image_.push_back(newest < 0 ? 0 : PackCommit(0, entry->slots[newest].offset));
  });
}

bool Group::is_current() const {
  // Acquire: pairs with the release in GroupStore::Delete(). Without a live page, what was
  // read may be old by now.
  return live_ != nullptr && live_->state.load(std::memory_order_acquire) == LiveHeader::kReady;
}

// ---- Entries

int Group::EntriesKnown() const {
  if (live_ == nullptr) return static_cast<int>(image_.size());
  // Acquire: pairs with the release of who adds entries, after the file was made longer.
  const auto entries = static_cast<int>(
      std::min<std::uint32_t>(live_->entries.load(std::memory_order_acquire), kEntriesMax));
  if (entries <= entries_in_file_.load(std::memory_order_relaxed)) return entries;
  // What the page says is believed as far as the file has it.
  const absl::StatusOr<os::FileInfo> info = live_file_->Info();
  if (info.ok() && info->size >= kLiveEntriesAt) {
    entries_in_file_.store(static_cast<int>(std::min<std::uint64_t>(
                               (info->size - kLiveEntriesAt) / sizeof(LiveEntry), kEntriesMax)),
                           std::memory_order_relaxed);
  }
  return std::min(entries, entries_in_file_.load(std::memory_order_relaxed));
}

void Group::AddIdentity(const OffsetEntry& bytes) {
  const int number = static_cast<int>(identities_.size());
  Identity& identity = identities_.emplace_back();
  const std::optional<OffsetEntry> entry = ReadEntry(bytes);
  if (!entry) return;
  identity = {.topic_id = entry->topic_id,
              .partition = static_cast<int>(entry->partition),
              .topic = std::string(entry->name, entry->name_bytes)};
  index_.try_emplace({identity.topic_id, identity.partition}, number);
}

absl::Status Group::ReadIdentities() {
  const int known = EntriesKnown();
  if (static_cast<int>(identities_.size()) >= known) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            context_->root->OpenFile(Path("offsets"), os::OpenMode::kRead));
  CORDWOOD_RETURN_IF_ERROR(ReadEntries(*file, static_cast<int>(identities_.size()), known,
                                       [&](int, const OffsetEntry& bytes) {
                                         mutex_.AssertHeld();
                                         AddIdentity(bytes);
                                       }));
  identities_.resize(static_cast<std::size_t>(known));
  return absl::OkStatus();
}

absl::Status Group::GrowLive(int entries) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            context_->root->OpenFile(Path("live"), os::OpenMode::kReadWrite));
  const std::uint64_t bytes = LiveEntryAt(entries);
  return file->Allocate((bytes + kLiveStepBytes - 1) / kLiveStepBytes * kLiveStepBytes);
}

absl::Status Group::AddEntries(const TopicRef& topic, std::span<const int> partitions) {
  const int first = EntriesKnown();
  // What is known already must not be written over.
  if (static_cast<std::size_t>(first) < identities_.size()) {
    return absl::DataLossError(absl::StrCat(context_->root->path(), "/", Path("live"), ": says ",
                                            first, " entries, and there are ", identities_.size()));
  }
  const int entries = first + static_cast<int>(partitions.size());
  if (entries > kEntriesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("group ", name_, " has offsets of ", first, " partitions, and of ",
                     kEntriesMax, " at most; delete the group to begin it anew"));
  }
  std::vector<OffsetEntry> bytes;
  bytes.reserve(partitions.size());
  for (const int p : partitions) bytes.push_back(MakeEntry(topic.id, topic.name, p));
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            context_->root->OpenFile(Path("offsets"), os::OpenMode::kReadWrite));
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(EntryAt(entries)));
  CORDWOOD_RETURN_IF_ERROR(
      file->WriteAt(bytes.data(), bytes.size() * sizeof(OffsetEntry), EntryAt(first)));
  CORDWOOD_RETURN_IF_ERROR(GrowLive(entries));
  // Partitions above those that the group knows were added to the topic: the group reads them
  // from their start, whoever of its members finds them, and whatever that one's reset is.
  int known = topic.partitions;
  while (known > 0 && !index_.contains({topic.id, known - 1})) --known;
  for (int i = first; i < entries; ++i) {
    if (known == 0 || partitions[static_cast<std::size_t>(i - first)] < known) continue;
    const std::uint64_t word = words_[i].word.load(std::memory_order_relaxed);
    words_[i].word.store(PackCommit(EpochOf(word), 0), std::memory_order_relaxed);
  }
  for (const OffsetEntry& entry : bytes) AddIdentity(entry);
  // Release: pairs with the acquire in EntriesKnown().
  live_->entries.store(static_cast<std::uint32_t>(entries), std::memory_order_release);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int>> Group::Entries(const TopicRef& topic, bool add, Wait wait) {
  std::vector<int> entries(static_cast<std::size_t>(topic.partitions), kNoEntry);
  std::vector<int> missing;
  const auto look = [&]() -> absl::Status {
    mutex_.AssertHeld();
    CORDWOOD_RETURN_IF_ERROR(ReadIdentities());
    missing.clear();
    for (int p = 0; p < topic.partitions; ++p) {
      const auto found = index_.find({topic.id, p});
      if (found == index_.end()) {
        missing.push_back(p);
      } else {
        entries[static_cast<std::size_t>(p)] = found->second;
      }
    }
    return absl::OkStatus();
  };
  {
    absl::MutexLock lock(&mutex_);
    CORDWOOD_RETURN_IF_ERROR(look());
  }
  if (missing.empty() || !add) return entries;
  Turn turn(*this);
  CORDWOOD_RETURN_IF_ERROR(turn.Take(Turn::NanosOf(wait)));
  absl::MutexLock lock(&mutex_);
  // Once more, as nobody else can add one now.
  CORDWOOD_RETURN_IF_ERROR(look());
  if (!missing.empty()) {
    absl::Status added = AddEntries(topic, missing);
    if (context_->MadeRoom(added)) added = AddEntries(topic, missing);
    CORDWOOD_RETURN_IF_ERROR(added);
  }
  CORDWOOD_RETURN_IF_ERROR(look());
  return entries;
}

absl::StatusOr<int> Group::EntryOf(const os::Bits128& topic_id, int partition) {
  absl::MutexLock lock(&mutex_);
  CORDWOOD_RETURN_IF_ERROR(ReadIdentities());
  const auto found = index_.find({topic_id, partition});
  return found == index_.end() ? kNoEntry : found->second;
}

absl::StatusOr<std::vector<int>> Group::EntriesNamed(std::string_view topic) {
  absl::MutexLock lock(&mutex_);
  CORDWOOD_RETURN_IF_ERROR(ReadIdentities());
  std::vector<int> entries;
  for (std::size_t i = 0; i < identities_.size(); ++i) {
    if (identities_[i].topic == topic) entries.push_back(static_cast<int>(i));
  }
  return entries;
}

absl::StatusOr<std::vector<TopicRef>> Group::Topics() {
  absl::MutexLock lock(&mutex_);
  CORDWOOD_RETURN_IF_ERROR(ReadIdentities());
  std::vector<TopicRef> topics;
  absl::flat_hash_map<os::Bits128, std::size_t> places;
  for (const Identity& identity : identities_) {
    if (identity.partition < 0) continue;
    const auto [place, is_new] = places.try_emplace(identity.topic_id, topics.size());
    if (is_new) topics.push_back({.id = identity.topic_id});
    TopicRef& topic = topics[place->second];
    if (topic.name.empty()) topic.name = identity.topic;
    topic.partitions = std::max(topic.partitions, identity.partition + 1);
  }
  return topics;
}

absl::StatusOr<Group::Identity> Group::IdentityOf(int entry) {
  absl::MutexLock lock(&mutex_);
  CORDWOOD_RETURN_IF_ERROR(ReadIdentities());
  if (static_cast<std::size_t>(entry) >= identities_.size()) {
    return absl::DataLossError(
        absl::StrCat(context_->root->path(), "/", Path("live"), ": entry ", entry, " is gone"));
  }
  return identities_[static_cast<std::size_t>(entry)];
}

// ---- Committing

std::optional<Offset> Group::committed(int entry) const {
  if (live_ == nullptr) return UnpackCommit(image_[static_cast<std::size_t>(entry)]);
  // seq_cst: see Log::WaitForRoom().
  return UnpackCommit(words_[entry].word.load(std::memory_order_seq_cst));
}

std::optional<Offset> Group::durably_committed(int entry) const {
  if (live_ == nullptr) return committed(entry);
  // Acquire: pairs with the release in WriteDurable().
  return UnpackCommit(words_[entry].durable.load(std::memory_order_acquire));
}

absl::Status Group::Commit(int entry, Offset next, bool force, std::optional<std::uint16_t> epoch) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  if (!is_current()) return Deleted(name_);
  if (next < 0 || next > kCommitMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a commit of offset ", next, ": it is in [0, 2^48 - 2]"));
  }
  LiveEntry& live = words_[entry];
  std::uint64_t old = live.word.load(std::memory_order_acquire);
  for (;;) {
    if (epoch && EpochOf(old) != *epoch) {
      return absl::AbortedError(absl::StrCat(
          "group ", name_, " has given the partition away; what its new owner commits counts"));
    }
    // After the word: who becomes the owner later changes the word, and the CAS fails.
    if (!epoch && !IsOwner(entry, epoch)) {
      return absl::FailedPreconditionError(
          absl::StrCat("a member of group ", name_, " owns the partition, and it alone commits"));
    }
    const std::optional<Offset> now = UnpackCommit(old);
    if (now && *now > next && !force) {
      return absl::FailedPreconditionError(absl::StrCat("group ", name_, " has committed ", *now,
                                                        ", which is above ", next,
                                                        "; set CommitOptions::force to go back"));
    }
    // A CAS, so that nobody's commit in between is lost unseen, and who was the owner when
    // it looked, but is not any more, commits nothing (rule 36). seq_cst: see Log::TellOfRoom().
    if (live.word.compare_exchange_weak(old, PackCommit(EpochOf(old), next),
                                        std::memory_order_seq_cst, std::memory_order_acquire)) {
      return absl::OkStatus();
    }
  }
}

int Group::OwnerOf(int entry) const {
  return live_ == nullptr ? -1 : SlotOfRef(words_[entry].owner.load(std::memory_order_relaxed));
}

void Group::Sweep() {
  const absl::StatusOr<std::unique_ptr<os::File>> probe =
      context_->root->OpenFile(Path("members"), os::OpenMode::kReadWrite);
  if (!probe.ok()) return;
  Roster roster(*this, **probe);
  if (roster.TryTake()) roster.Sweep(os::ReadClock(CLOCK_MONOTONIC_COARSE));
}

bool Group::IsOwner(int entry, std::optional<std::uint16_t> epoch) {
  const LiveEntry& live = words_[entry];
  if (epoch) return EpochOf(live.word.load(std::memory_order_acquire)) == *epoch;
  if (live.owner.load(std::memory_order_acquire) == 0) return true;
  // The last member may have died, and nobody noticed.
  Sweep();
  return live.owner.load(std::memory_order_acquire) == 0;
}

// ---- Members

absl::Status Group::LockPresence(os::File& members, Wait wait) const {
  const std::int64_t deadline =
      os::MonotonicNanos() + (wait == Wait::kForTurn ? Turn::kWaitNanos : 0);
  for (;;) {
    CORDWOOD_ASSIGN_OR_RETURN(const bool present,
                              members.TryLock(os::LockKind::kShared, kMemberByte));
    // The lock comes first: a Delete() that ended before it has left its mark.
    if (!is_current()) return Deleted(name_);
    if (present) return absl::OkStatus();
    if (os::MonotonicNanos() >= deadline) {
      return absl::UnavailableError(absl::StrCat(
          "group ", name_, ": another process is deleting or resetting it and does not get on"));
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
}

void Group::Register(const std::shared_ptr<Member>& member) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(members_, [](const std::weak_ptr<Member>& m) { return m.expired(); });
  members_.push_back(member);
}

void Group::ResignMembers() {
  std::vector<std::weak_ptr<Member>> members;
  {
    absl::MutexLock lock(&mutex_);
    members.swap(members_);
  }
  for (const std::weak_ptr<Member>& weak : members) {
    if (const std::shared_ptr<Member> member = weak.lock()) member->Resign();
  }
}

int Group::slots_used() const {
  return static_cast<int>(
      std::min<std::uint32_t>(live_->slots_used.load(std::memory_order_acquire), kMembersMax));
}

bool Group::HasMember() const {
  const absl::StatusOr<std::unique_ptr<os::File>> members =
      context_->root->OpenFile(Path("members"), os::OpenMode::kRead);
  return members.ok() &&
         (*members)->IsLocked(os::LockKind::kExclusive, kMemberByte).value_or(false);
}

bool Group::HasShareMember() const {
  const absl::StatusOr<std::unique_ptr<os::File>> members =
      context_->root->OpenFile(Path("members"), os::OpenMode::kRead);
  return members.ok() && (*members)->IsLocked(os::LockKind::kExclusive, kShareByte).value_or(false);
}

std::vector<int> Group::MemberSlots() const {
  std::vector<int> slots;
  const int used = live_ == nullptr ? 0 : slots_used();
  const absl::StatusOr<std::unique_ptr<os::File>> probe =
      context_->root->OpenFile(Path("members"), os::OpenMode::kRead);
  if (!probe.ok()) return slots;
  const std::int64_t now_ns = os::ReadClock(CLOCK_MONOTONIC_COARSE);
  for (int i = 0; i < used; ++i) {
    if (IsMember(*this, **probe, i, now_ns)) slots.push_back(i);
  }
  return slots;
}

std::string Group::State() const {
  if (!HasMember()) return "Empty";
  if (live_ == nullptr) return "Stable";
  const int known = EntriesKnown();
  for (int i = 0; i < known; ++i) {
    const std::uint32_t owner = words_[i].owner.load(std::memory_order_relaxed);
    const std::uint32_t target = words_[i].target.load(std::memory_order_relaxed);
    const int slot = SlotOfRef(target);
    const bool is_kept = owner == 0 && slot >= 0 &&
                         slots_[slot].state.load(std::memory_order_relaxed) == MemberState::kAway;
    if (owner != target && !is_kept) return "PreparingRebalance";
  }
  return "Stable";
}

}  // namespace cordwood::group
