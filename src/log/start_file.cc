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

// The slot that counts: the valid one with the larger sequence.
std::optional<std::size_t> Newest(const Slots& slots, const segment::PartitionFiles& files) {
  std::optional<std::size_t> newest;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (IsOurs(slots[i], files) && (!newest || slots[i].sequence > slots[*newest].sequence)) {
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

}  // namespace

absl::Status WriteStartFile(const segment::PartitionFiles& files, const Start& start) {
  const std::string path = files.Path(kName);
  absl::StatusOr<std::unique_ptr<os::File>> file =
      files.root->OpenFile(path, os::OpenMode::kReadWrite);
  const bool is_new = absl::IsNotFound(file.status());
  // Under another name until a slot is whole, so that a file without one is damage.
  const std::string unfinished = files.Path(".start-new");
  if (is_new) {
    files.root->Unlink(unfinished).IgnoreError();
    file = files.root->OpenFile(unfinished, os::OpenMode::kCreate);
    if (file.ok()) CORDWOOD_RETURN_IF_ERROR((*file)->Allocate(sizeof(Slots)));
  }
  if (!file.ok()) return file.status();
  CORDWOOD_ASSIGN_OR_RETURN(const Slots slots, ReadSlots(**file));
  const std::optional<std::size_t> newest = Newest(slots, files);
  StartSlot slot;
  slot.sequence = newest ? slots[*newest].sequence + 1 : 1;
  slot.start = start.offset;
  slot.reason = static_cast<std::uint32_t>(start.reason);
  slot.topic_id = files.topic_id;
  segment::Sign(slot);
  // Over the other slot: the newest stays whole whatever happens to this write.
  const std::uint64_t at = newest == 0 ? sizeof(StartSlot) : 0;
  CORDWOOD_RETURN_IF_ERROR((*file)->WriteAt(&slot, sizeof slot, at));
  CORDWOOD_RETURN_IF_ERROR((*file)->Sync());
  if (!is_new) return absl::OkStatus();
  CORDWOOD_RETURN_IF_ERROR(files.root->Rename(unfinished, path));
  return files.root->SyncFolder(files.folder);
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
  return Start{slots[*newest].start, static_cast<GapReason>(slots[*newest].reason)};
}

}  // namespace cordwood::log
