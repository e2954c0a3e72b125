#include "cordwood/log/pins.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/log/log.h"
#include "cordwood/log/maintenance_lock.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"
#include "log/small_files.h"
#include "log/turn.h"

namespace cordwood::log {
namespace {

constexpr char kName[] = "pins";
constexpr char kUnfinished[] = ".pins-new";
// For another who moves the start, removes files, or makes the file of pins.
constexpr absl::Duration kPinTimeout = absl::Seconds(60);

std::uint32_t OwnerOf(std::uint64_t holder) { return static_cast<std::uint32_t>(holder); }
std::uint64_t HolderOf(std::uint64_t taken, std::uint32_t owner) { return taken << 32 | owner; }

std::string TopicPath(const segment::PartitionFiles& files, const char* name) {
  return absl::StrCat(files.folder.substr(0, files.folder.rfind('/') + 1), name);
}

// kNotFound: nothing was pinned.
absl::StatusOr<std::unique_ptr<os::Mapping>> MapPins(const segment::PartitionFiles& files,
                                                     os::Access access) {
  const std::string path = TopicPath(files, kName);
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::unique_ptr<os::File> file,
      files.root->OpenFile(
          path, access == os::Access::kRead ? os::OpenMode::kRead : os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
  const auto bad = [&](const char* what) {
    return absl::DataLossError(absl::StrCat(files.root->path(), "/", path, ": ", what,
                                            "; close the directory in every process, and the next "
                                            "open removes it"));
  };
  if (info.size < kPinsFileBytes) return bad("shorter than its slots");
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::Mapping> map, file->Map(kPinsFileBytes, access));
  // Whole before it had its name, and never changed.
  const auto& header = *reinterpret_cast<const PinsHeader*>(map->data());
  if (header.magic != PinsHeader::kMagic || header.version != PinsHeader::kVersion ||
      header.slots != PinsHeader::kSlots) {
    return bad("not a file of pins that this version knows");
  }
  return map;
}

PinSlot* SlotsOf(const os::Mapping& map) {
  return reinterpret_cast<PinSlot*>(map.data() + sizeof(PinsHeader));
}

// Under another name first: who finds the file finds it whole, with all its blocks.
absl::Status MakePins(const Context& context, const segment::PartitionFiles& files) {
  segment::PartitionFiles first = files;
  first.partition = 0;
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::optional<MaintenanceLock> lock,
      MaintenanceLock::Take(context, first, MaintenanceLock::kPins, DeadlineAfter(kPinTimeout)));
  if (!lock) {
    return absl::DeadlineExceededError(
        absl::StrCat(files.root->path(), "/", TopicPath(files, kName),
                     ": another process is making it, and may be stopped"));
  }
  if (files.root->OpenFile(TopicPath(files, kName), os::OpenMode::kRead).ok()) {
    return absl::OkStatus();
  }
  const std::string unfinished = TopicPath(files, kUnfinished);
  CORDWOOD_RETURN_IF_ERROR(UnlinkIfThere(*files.root, unfinished));
  {
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                              files.root->OpenFile(unfinished, os::OpenMode::kCreate));
    absl::Status made = file->Allocate(kPinsFileBytes);
    const PinsHeader header;
    if (made.ok()) made = file->WriteAt(&header, sizeof header, 0);
    if (!made.ok()) {
      files.root->Unlink(unfinished).IgnoreError();
      return made;
    }
  }
  return files.root->Rename(unfinished, TopicPath(files, kName));
}

// Nothing: it is free, not made yet, or not of this partition.
std::optional<PinView> ReadSlot(const PinSlot& slot, const segment::PartitionFiles& files,
                                const os::LockOwners& owners) {
  // Acquire, all of them: pairs with the releases in PinHold::Make(). Who sees a part of a later
  // pin sees that the slot was taken once more, too.
  const std::uint64_t holder = slot.holder.load(std::memory_order_acquire);
  const std::uint32_t owner = OwnerOf(holder);
  if (owner == 0 || (owner & PinSlot::kMaking) != 0) return std::nullopt;
  if (slot.partition.load(std::memory_order_acquire) != files.partition) return std::nullopt;
  std::uint64_t id[2];
  char why[kPinWhyBytesMax + 1] = {};
  for (int i = 0; i < 2; ++i) id[i] = slot.topic_id[i].load(std::memory_order_acquire);
  for (std::size_t i = 0; i < std::size(slot.why); ++i) {
    const std::uint64_t part = slot.why[i].load(std::memory_order_acquire);
    std::memcpy(why + 8 * i, &part, 8);
  }
  PinView view = {
      .offset = std::max<Offset>(0, slot.offset.load(std::memory_order_acquire)),
      .pid = static_cast<int>(slot.pid.load(std::memory_order_acquire)),
      .since_ns = slot.since_ns.load(std::memory_order_acquire),
      .why = why,
  };
  if (slot.holder.load(std::memory_order_relaxed) != holder) return std::nullopt;
  if (std::memcmp(id, files.topic_id.data(), sizeof id) != 0) return std::nullopt;
  if (owners.IsDead(owner)) return std::nullopt;
  return view;
}

}  // namespace

absl::StatusOr<std::vector<PinView>> ReadPins(const Context& context,
                                              const segment::PartitionFiles& files) {
  std::vector<PinView> pins;
  const absl::StatusOr<std::unique_ptr<os::Mapping>> map = MapPins(files, os::Access::kRead);
  if (absl::IsNotFound(map.status())) return pins;
  if (!map.ok()) return map.status();
  std::unique_ptr<os::LockOwners> observer;
  if (context.owners == nullptr) {
    CORDWOOD_ASSIGN_OR_RETURN(observer, os::LockOwners::Observe(*context.root));
  }
  const os::LockOwners& owners = observer == nullptr ? *context.owners : *observer;
  const PinSlot* slots = SlotsOf(**map);
  for (std::uint32_t i = 0; i < PinsHeader::kSlots; ++i) {
    if (std::optional<PinView> pin = ReadSlot(slots[i], files, owners)) {
      pins.push_back(*std::move(pin));
    }
  }
  return pins;
}

absl::StatusOr<Offset> PinnedFrom(const Context& context, const segment::PartitionFiles& files) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<PinView> pins, ReadPins(context, files));
  Offset from = std::numeric_limits<Offset>::max();
  for (const PinView& pin : pins) from = std::min(from, pin.offset);
  return from;
}

void RemovePins(os::Folder& root, const std::string& topic_folder) {
  // One that cannot be removed has slots of the dead.
  UnlinkIfThere(root, absl::StrCat(topic_folder, "/", kName)).IgnoreError();
  UnlinkIfThere(root, absl::StrCat(topic_folder, "/", kUnfinished)).IgnoreError();
}

// ---- One pin

absl::StatusOr<std::shared_ptr<PinHold>> PinHold::Make(const Context& context,
                                                       const segment::PartitionFiles& files,
                                                       Offset offset, std::string_view why) {
  absl::StatusOr<std::unique_ptr<os::Mapping>> map = MapPins(files, os::Access::kReadWrite);
  if (absl::IsNotFound(map.status())) {
    CORDWOOD_RETURN_IF_ERROR(MakePins(context, files));
    map = MapPins(files, os::Access::kReadWrite);
  }
  if (!map.ok()) return map.status();
  const os::LockOwners& owners = *context.owners;
  PinSlot* const slots = SlotsOf(**map);
  for (std::uint32_t i = 0; i < PinsHeader::kSlots; ++i) {
    PinSlot& slot = slots[i];
    std::uint64_t holder = slot.holder.load(std::memory_order_acquire);
    const std::uint32_t owner = OwnerOf(holder);
    if (owner != 0 && !owners.IsDead(owner & ~PinSlot::kMaking)) continue;
    const std::uint64_t taken = (holder >> 32) + 1;
    // seq_cst, as a store before those below; makers of other partitions are at it, too.
    if (!slot.holder.compare_exchange_strong(
            holder, HolderOf(taken, owners.me() | PinSlot::kMaking), std::memory_order_seq_cst)) {
      continue;
    }
    // Release, all of them: pairs with the acquires in ReadSlot().
    slot.offset.store(offset, std::memory_order_release);
    slot.partition.store(files.partition, std::memory_order_release);
    slot.pid.store(static_cast<std::uint32_t>(getpid()), std::memory_order_release);
    slot.since_ns.store(context.clock.Now(), std::memory_order_release);
    std::uint64_t id[2];
    std::memcpy(id, files.topic_id.data(), sizeof id);
    for (int part = 0; part < 2; ++part) {
      slot.topic_id[part].store(id[part], std::memory_order_release);
    }
    std::uint64_t text[kPinWhyBytesMax / 8] = {};
    std::memcpy(text, why.data(), std::min(why.size(), sizeof text));
    for (std::size_t part = 0; part < std::size(text); ++part) {
      slot.why[part].store(text[part], std::memory_order_release);
    }
    // Release: who finds it so finds the rest.
    slot.holder.store(HolderOf(taken, owners.me()), std::memory_order_release);
    return std::shared_ptr<PinHold>(new PinHold(*std::move(map), &slot));
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("all ", PinsHeader::kSlots,
                   " pins of the topic are held; Broker::DescribeHolds says by whom"));
}

bool PinHold::Move(Offset to) {
  absl::MutexLock lock(&mutex_);
  if (slot_ == nullptr || to < slot_->offset.load(std::memory_order_relaxed)) return false;
  // Release: pairs with the acquire in ReadSlot().
  slot_->offset.store(to, std::memory_order_release);
  return true;
}

Offset PinHold::offset() const {
  absl::MutexLock lock(&mutex_);
  return slot_ == nullptr ? 0 : slot_->offset.load(std::memory_order_relaxed);
}

void PinHold::Release() {
  absl::MutexLock lock(&mutex_);
  if (slot_ == nullptr) return;
  const std::uint64_t holder = slot_->holder.load(std::memory_order_relaxed);
  // Release: pairs with the acquires of who takes the slot next.
  slot_->holder.store(HolderOf(holder >> 32, 0), std::memory_order_release);
  slot_ = nullptr;
}

// ---- Of a partition

absl::StatusOr<std::shared_ptr<PinHold>> Log::Pin(Offset from, std::string_view why) {
  CORDWOOD_RETURN_IF_ERROR(context_->CheckWritable());
  CORDWOOD_RETURN_IF_ERROR(CheckState());
  if (InFill()) return InFillError();
  if (why.size() > kPinWhyBytesMax || why.find('\0') != std::string_view::npos) {
    return Where(absl::InvalidArgumentError(
        absl::StrCat(name().topic, "-", partition_, ": what the pin is for has ", why.size(),
                     " bytes; it may have up to ", kPinWhyBytesMax, ", and none of them zero")));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const std::optional<MaintenanceLock> lock,
                            MaintenanceLock::Take(*context_, files_, MaintenanceLock::kFiles,
                                                  DeadlineAfter(kPinTimeout)));
  if (!lock) {
    return Where(absl::DeadlineExceededError(absl::StrCat(
        name().topic, "-", partition_, ": Pin(", from,
        ") waited for another process that removes or compacts files, and may be stopped; ",
        context_->owners->DescribeHolders(), " have the directory open")));
  }
  CORDWOOD_RETURN_IF_ERROR(CheckState());  // else the folder of that name may be another topic's
  if (const Offset start = start_offset(), end = end_offset(); from < start || from > end) {
    return Where(absl::OutOfRangeError(absl::StrCat(name().topic, "-", partition_, ": Pin(", from,
                                                    ") is not in [", start, ", ", end, "]")),
                 from);
  }
  absl::StatusOr<std::shared_ptr<PinHold>> hold = PinHold::Make(*context_, files_, from, why);
  if (!hold.ok()) {
    CORDWOOD_RETURN_IF_ERROR(CheckState());  // its folder is gone
    return Where(hold.status());
  }
  {
    absl::MutexLock pins(&mutex_);
    pins_.push_back(*hold);
  }
  // After it is in pins_: a Close that has not found it there has shut the flag before.
  if (absl::Status status = this->status(); !status.ok()) {
    (*hold)->Release();
    return status;
  }
  return hold;
}

void Log::Unpin(const std::shared_ptr<PinHold>& hold) {
  // After a Close there is nothing left to do, and in a forked child the pin is the parent's.
  if (!context_->live->is_open()) return;
  hold->Release();
  absl::MutexLock lock(&mutex_);
  std::erase(pins_, hold);
}

void Log::ReleasePins() {
  std::vector<std::shared_ptr<PinHold>> pins;
  {
    absl::MutexLock lock(&mutex_);
    pins.swap(pins_);
  }
  for (const std::shared_ptr<PinHold>& pin : pins) pin->Release();
}

}  // namespace cordwood::log
