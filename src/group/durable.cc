// How commits get to the disk, and the texts that come with them.

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "cordwood/group/offsets.h"
#include "cordwood/os/checksum.h"
#include "cordwood/status_macros.h"
#include "group/files.h"
#include "group/turn.h"

namespace cordwood::group {
namespace {

constexpr int kEntriesAtOnce = 128;

std::uint64_t ChecksumOf(const MetadataBlock& block) {
  const os::BytesPiece pieces[] = {{&block, offsetof(MetadataBlock, checksum)},
                                   {block.text, block.text_bytes}};
  return os::Hash64(pieces, 2);
}

// Whether a change that was taken some time ago is still worth writing. The image never
// gets ahead of what is committed, so a commit that went back since forbids it; and it
// goes back only where a commit did.
//
//   committed now  in the image           write `taken`
//   < taken        -                      no: it went back, another pass will see that
//   >= taken       none, or > committed   yes
//   >= taken       in [taken, committed]  no: another pass has written more
//   >= taken       < taken                yes
bool IsWorthWriting(Offset taken, Offset committed, std::optional<Offset> in_image) {
  if (committed < taken) return false;
  return !in_image || *in_image > committed || *in_image < taken;
}

}  // namespace

std::vector<Group::Change> Group::Changes() const {
  std::vector<Change> changes;
  if (live_ == nullptr) return changes;
  const int entries = EntriesKnown();
  for (int i = 0; i < entries; ++i) {
    const std::uint64_t word = words_[i].word.load(std::memory_order_acquire) & kOffsetMask;
    const std::optional<Offset> next = UnpackCommit(word);
    if (next && word != words_[i].durable.load(std::memory_order_relaxed)) {
      changes.push_back({i, *next});
    }
  }
  return changes;
}

absl::Status Group::WriteDurable(std::span<const Change> changes, Wait wait) {
  Turn turn(*this);
  CORDWOOD_RETURN_IF_ERROR(turn.Take(Turn::NanosOf(wait)));
  std::vector<Change> worth;
  for (const Change& change : changes) {
    const LiveEntry& live = words_[change.entry];
    const std::optional<Offset> now = UnpackCommit(live.word.load(std::memory_order_acquire));
    if (now && IsWorthWriting(change.next, *now,
                              UnpackCommit(live.durable.load(std::memory_order_relaxed)))) {
      worth.push_back(change);
    }
  }
  // The mark stands while the files are written and synced. Whoever finds it under an
  // owner that is dead, or after an error, knows that the pages may have been marked clean
  // without having reached the disk: that file is given up, and a new one made.
  const bool given_up = live_->syncing.load(std::memory_order_acquire) != 0;
  if (given_up || !worth.empty()) {
    live_->syncing.store(1, std::memory_order_release);
    if (given_up || !WriteInPlace(worth).ok()) {
      CORDWOOD_RETURN_IF_ERROR(context_->WithReserve([&] { return WriteWhole(worth); }));
    }
    for (const Change& change : worth) {
      words_[change.entry].durable.store(PackCommit(0, change.next), std::memory_order_release);
    }
    live_->syncing.store(0, std::memory_order_release);
  }
  if (live_->metadata_written.exchange(0, std::memory_order_acq_rel) == 0) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> metadata,
                            context_->root->OpenFile(Path("metadata"), os::OpenMode::kReadWrite));
  return metadata->Sync();
}

// Kept open: asking for a file's times, as an open does, makes the next write to it cost a
// write of its inode as well (where the kernel has multigrain timestamps, Linux 6.13).
absl::StatusOr<os::File*> Group::Image() {
  const std::uint32_t number = live_->image.load(std::memory_order_acquire);
  if (image_file_ == nullptr || image_number_ != number) {
    CORDWOOD_ASSIGN_OR_RETURN(image_file_,
                              context_->root->OpenFile(Path("offsets"), os::OpenMode::kReadWrite));
    image_number_ = number;
  }
  return image_file_.get();
}

absl::Status Group::WriteInPlace(std::span<const Change> changes) {
  std::vector<Change> sorted(changes.begin(), changes.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const Change& a, const Change& b) { return a.entry < b.entry; });
  CORDWOOD_ASSIGN_OR_RETURN(os::File* const file, Image());
  std::vector<OffsetEntry> chunk;
  for (std::size_t i = 0; i < sorted.size();) {
    const int from = sorted[i].entry;
    std::size_t end = i;
    while (end < sorted.size() && sorted[end].entry < from + kEntriesAtOnce) ++end;
    const int to = sorted[end - 1].entry + 1;
    chunk.clear();
    CORDWOOD_RETURN_IF_ERROR(ReadEntries(
        *file, from, to, [&](int, const OffsetEntry& bytes) { chunk.push_back(bytes); }));
    for (; i < end; ++i) {
      const auto at = static_cast<std::size_t>(sorted[i].entry - from);
      const std::optional<OffsetEntry> entry =
          at < chunk.size() ? ReadEntry(chunk[at]) : std::nullopt;
      if (!entry) {
        return absl::DataLossError(absl::StrCat(context_->root->path(), "/", Path("offsets"),
                                                ": entry ", sorted[i].entry, " is damaged"));
      }
      chunk[at] = *entry;
      WriteSlot(chunk[at], sorted[i].next);
    }
    // What lies between is written as it was read, which nobody else changes.
    CORDWOOD_RETURN_IF_ERROR(
        file->WriteAt(chunk.data(), chunk.size() * sizeof(OffsetEntry), EntryAt(from)));
  }
  return file->Sync();
}

// From what is in memory: the old file's pages are not to be believed any more.
absl::Status Group::WriteWhole(std::span<const Change> changes) {
  std::vector<Identity> identities;
  {
    absl::MutexLock lock(&mutex_);
    CORDWOOD_RETURN_IF_ERROR(ReadIdentities());
    identities = identities_;
  }
  std::vector<std::uint64_t> words(identities.size());
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = words_[i].durable.load(std::memory_order_relaxed);
  }
  for (const Change& change : changes) {
    const auto at = static_cast<std::size_t>(change.entry);
    if (at < words.size()) words[at] = PackCommit(0, change.next);
  }
  os::Folder& root = *context_->root;
  const std::string made = Path(".offsets-new");
  if (absl::Status old = root.Unlink(made); !old.ok() && !absl::IsNotFound(old)) return old;
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            root.OpenFile(made, os::OpenMode::kCreate));
  CORDWOOD_RETURN_IF_ERROR(
      WriteImage(*file, static_cast<int>(words.size()), [&](int i) -> OffsetEntry {
        const Identity& identity = identities[static_cast<std::size_t>(i)];
        if (identity.partition < 0) return OffsetEntry();
        OffsetEntry entry = MakeEntry(identity.topic_id, identity.topic, identity.partition);
        const std::optional<Offset> offset = UnpackCommit(words[static_cast<std::size_t>(i)]);
        if (offset) WriteSlot(entry, *offset);
        return entry;
      }));
  // Before the rename: nobody must go on in the old file, whoever dies in between.
  image_file_.reset();
  live_->image.fetch_add(1, std::memory_order_acq_rel);
  CORDWOOD_RETURN_IF_ERROR(root.Rename(made, Path("offsets")));
  return root.SyncFolder(folder_);
}

// ---- Texts

absl::Status Group::WriteMetadata(int entry, Offset next, std::string_view text,
                                  std::optional<std::uint16_t> epoch) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  if (text.size() > kMetadataBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a commit's metadata of ", text.size(),
                                                   " bytes: ", kMetadataBytesMax, " at most"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Identity identity, IdentityOf(entry));
  Turn turn(*this);
  CORDWOOD_RETURN_IF_ERROR(turn.Take());
  // Whose partition it is not any more must not write over the text of who has it now.
  if (!IsOwner(entry, epoch)) return absl::OkStatus();
  MetadataBlock block;
  block.offset = next;
  block.text_bytes = static_cast<std::uint32_t>(text.size());
  block.partition = static_cast<std::uint32_t>(identity.partition);
  block.topic_id = identity.topic_id;
  std::memcpy(block.text, text.data(), text.size());
  block.checksum = ChecksumOf(block);
  os::Folder& root = *context_->root;
  absl::StatusOr<std::unique_ptr<os::File>> file =
      root.OpenFile(Path("metadata"), os::OpenMode::kReadWrite);
  if (absl::IsNotFound(file.status())) {
    file = root.OpenFile(Path("metadata"), os::OpenMode::kCreate);
    if (file.ok()) CORDWOOD_RETURN_IF_ERROR(root.SyncFolder(folder_));
  }
  if (!file.ok()) return file.status();
  CORDWOOD_RETURN_IF_ERROR((*file)->WriteAt(
      &block, sizeof block, static_cast<std::uint64_t>(entry) * sizeof(MetadataBlock)));
  live_->metadata_written.store(1, std::memory_order_release);
  return absl::OkStatus();
}

absl::StatusOr<std::string> Group::Metadata(int entry) const {
  const std::optional<Offset> now = committed(entry);
  absl::StatusOr<std::unique_ptr<os::File>> file =
      context_->root->OpenFile(Path("metadata"), os::OpenMode::kRead);
  if (!now || absl::IsNotFound(file.status())) return std::string();
  if (!file.ok()) return file.status();
  MetadataBlock block;
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::size_t bytes,
      (*file)->ReadAt(&block, sizeof block,
                      static_cast<std::uint64_t>(entry) * sizeof(MetadataBlock)));
  if (bytes < sizeof block || block.text_bytes > kMetadataBytesMax || block.offset != *now ||
      block.checksum != ChecksumOf(block)) {
    return std::string();
  }
  return std::string(block.text, block.text_bytes);
}

}  // namespace cordwood::group
