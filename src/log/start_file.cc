#include "cordwood/log/start_file.h"

#include <array>
#include <optional>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"

namespace cordwood::log {
namespace {

using segment::StartSlot;
using Slots = std::array<StartSlot, 2>;

constexpr const char* kName = "start";

bool IsOurs(const StartSlot& slot, const segment::PartitionFiles& files) {
  return segment::IsValid(slot) && slot.topic_id == files.topic_id;
}

// The slot that counts: the later of the valid ones.
std::optional<std::size_t> Newest(const Slots& slots, const segment::PartitionFiles& files) {
  std::optional<std::size_t> newest;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (IsOurs(slots[i], files) &&
        (!newest || segment::IsLater(slots[i].sequence, slots[*newest].sequence))) {
      newest = i;
    }
  }
  return newest;
}

absl::StatusOr<Slots> ReadSlots(os::File& file) {
  Slots slots = {};
  CORDWOOD_RETURN_IF_ERROR(file.ReadAt(slots.data(), sizeof slots, 0).status());
  return slots;
}

Start ToStart(const StartSlot& slot) {
  return {.offset = slot.start,
          .reason = static_cast<GapReason>(slot.reason),
          .tombstone_horizon = slot.tombstone_horizon,
          .compacted_to = slot.compacted_to,
          .has_passed_damage = slot.has_passed_damage != 0};
}

// Under another name until it is whole and on the disk, so that a file without a whole slot is
// damage.
absl::Status WriteNewFile(const segment::PartitionFiles& files, const StartSlot& slot) {
  const std::string unfinished = files.Path(".start-new");
  files.root->Unlink(unfinished).IgnoreError();
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            files.root->OpenFile(unfinished, os::OpenMode::kCreate));
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(sizeof(Slots)));
  CORDWOOD_RETURN_IF_ERROR(file->WriteAt(&slot, sizeof slot, 0));
  CORDWOOD_RETURN_IF_ERROR(file->Sync());
  CORDWOOD_RETURN_IF_ERROR(files.root->Rename(unfinished, files.Path(kName)));
  return files.root->SyncFolder(files.folder);
}

}  // namespace

absl::Status UpdateStartFile(const segment::PartitionFiles& files,
                             absl::FunctionRef<void(Start&)> change) {
  const absl::StatusOr<std::unique_ptr<os::File>> file =
      files.root->OpenFile(files.Path(kName), os::OpenMode::kReadWrite);
  const bool is_new = absl::IsNotFound(file.status());
  if (!file.ok() && !is_new) return file.status();
  Slots slots = {};
  if (!is_new) {
    CORDWOOD_ASSIGN_OR_RETURN(slots, ReadSlots(**file));
  }
  const std::optional<std::size_t> newest = Newest(slots, files);
  Start start = newest ? ToStart(slots[*newest]) : Start{};
  change(start);
  StartSlot slot;
  slot.sequence = newest ? segment::SequenceAfter(slots[*newest].sequence) : 1;
  slot.start = start.offset;
  slot.reason = static_cast<std::uint32_t>(start.reason);
  slot.tombstone_horizon = start.tombstone_horizon;
  slot.compacted_to = start.compacted_to;
  slot.has_passed_damage = start.has_passed_damage ? 1 : 0;
  slot.topic_id = files.topic_id;
  segment::Sign(slot);
  if (is_new) return WriteNewFile(files, slot);
  // Over the other slot: the newest stays whole whatever happens to this write.
  const std::uint64_t at = newest == 0 ? sizeof(StartSlot) : 0;
  CORDWOOD_RETURN_IF_ERROR((*file)->WriteAt(&slot, sizeof slot, at));
  const absl::Status synced = (*file)->Sync();
  // What a file is told after a sync that failed may never get to the disk, though later syncs
  // say OK: records that were given up would come back with the power. So a new file takes its
  // place, as that of a segment (rule 14).
  if (synced.ok() || WriteNewFile(files, slot).ok()) return absl::OkStatus();
  return synced;
}

absl::Status SyncStartFile(const segment::PartitionFiles& files, bool has_failed) {
  const absl::StatusOr<std::unique_ptr<os::File>> file =
      files.root->OpenFile(files.Path(kName), os::OpenMode::kRead);
  if (absl::IsNotFound(file.status())) return absl::OkStatus();
  if (!file.ok()) return file.status();
  if (!has_failed && (*file)->Sync().ok()) return files.root->SyncFolder(files.folder);
  CORDWOOD_ASSIGN_OR_RETURN(const Slots slots, ReadSlots(**file));
  const std::optional<std::size_t> newest = Newest(slots, files);
  return newest ? WriteNewFile(files, slots[*newest]) : absl::OkStatus();  // damage: no start
}

absl::StatusOr<Start> ReadStartFile(const segment::PartitionFiles& files) {
  absl::StatusOr<std::unique_ptr<os::File>> file =
      files.root->OpenFile(files.Path(kName), os::OpenMode::kRead);
  if (absl::IsNotFound(file.status())) return Start{};
  if (!file.ok()) return file.status();
  CORDWOOD_ASSIGN_OR_RETURN(const Slots slots, ReadSlots(**file));
  const std::optional<std::size_t> newest = Newest(slots, files);
  if (!newest) {
    return absl::DataLossError(
        absl::StrCat(files.root->path(), "/", files.Path(kName), ": neither slot is whole"));
  }
  return ToStart(slots[*newest]);
}

}  // namespace cordwood::log
