#include "cordwood/log/reserve.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cordwood::log {
namespace {

constexpr char kName[] = "reserve";
constexpr std::uint64_t kPageBytes = 4096;

}  // namespace

std::unique_ptr<Reserve> Reserve::Open(os::Folder& root, std::uint64_t bytes) {
  if (bytes == 0) return nullptr;
  absl::StatusOr<std::unique_ptr<os::File>> file = root.OpenFile(kName, os::OpenMode::kReadWrite);
  if (absl::IsNotFound(file.status())) {
    file = root.OpenFile(kName, os::OpenMode::kCreate);
    if (absl::IsAlreadyExists(file.status())) file = root.OpenFile(kName, os::OpenMode::kReadWrite);
  }
  if (!file.ok()) return nullptr;
  const absl::StatusOr<os::FileInfo> info = (*file)->Info();
  if (!info.ok()) return nullptr;
  // The page has to have its block before it is mapped: else a store on a full disk is a SIGBUS.
  if (info->size < kPageBytes && !(*file)->Allocate(kPageBytes).ok()) return nullptr;
  absl::StatusOr<std::unique_ptr<os::Mapping>> map =
      (*file)->Map(kPageBytes, os::Access::kReadWrite);
  if (!map.ok()) return nullptr;
  // Who made it says how much it is.
  const bool is_new = info->size <= kPageBytes;
  std::unique_ptr<Reserve> reserve(
      new Reserve(root, *std::move(file), *std::move(map),
                  is_new ? std::max(bytes, 2 * kPageBytes) : info->size));
  if (reserve->is_spent()) {
    reserve->Refill();
  } else {
    reserve->TakeBlocks();  // a power cut may have taken them, and what says so
  }
  return reserve;
}

void Reserve::Spend() {
  // Before the blocks are free: nobody may take them for records. And again after it: a Refill
  // that runs beside this has seen another state. Release: pairs with the acquire in is_spent().
  const auto bump = [&](std::uint32_t state) { return state + (IsSpent(state) ? 2 : 1); };
  for (int i = 0; i < 2; ++i) {
    std::uint32_t state = page_->state.load(std::memory_order_relaxed);
    while (!page_->state.compare_exchange_weak(state, bump(state), std::memory_order_release)) {
    }
    if (i == 0) file_->PunchHole(kPageBytes, bytes_).IgnoreError();
  }
}

void Reserve::Refill() {
  const absl::StatusOr<os::FileSystemInfo> info = root_.FileSystem();
  if (!info.ok() || info->free_bytes / 2 < static_cast<std::int64_t>(bytes_)) return;
  TakeBlocks();
}

void Reserve::TakeBlocks() {
  std::uint32_t state = page_->state.load(std::memory_order_acquire);
  const bool has_them = file_->Allocate(bytes_).ok();
  if (has_them == IsSpent(state)) {
    page_->state.compare_exchange_strong(state, state + 1, std::memory_order_release);
  }
}

}  // namespace cordwood::log
