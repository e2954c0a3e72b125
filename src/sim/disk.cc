#include "sim/disk.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"
#include "os/errno_status.h"

namespace cordwood::sim {
namespace {

constexpr std::int64_t kFirstDay = 1'767'225'600'000'000'000;  // 2026-01-01 00:00 UTC
constexpr std::int64_t kSinceBoot = 60'000'000'000;            // when a process first runs
constexpr std::uint64_t kFirstInode = 12;                      // as on ext4
constexpr std::uint64_t kPage = FileBytes::kPage;

}  // namespace

Disk::Disk(std::uint64_t seed)
    : fate_(seed),
      bits_(~seed),
      now_ns_(kFirstDay),
      elapsed_ns_(kSinceBoot),
      boot_id_(bits_.Bits()) {
  absl::StatusOr<std::shared_ptr<PageCache>> cache = PageCache::Create();
  if (cache.ok()) {
    cache_ = *std::move(cache);
  } else {
    broken_ = cache.status();
  }
}

// ---- What happens to it

void Disk::KillProcess() {
  absl::MutexLock lock(&mutex_);
  Kill();
}

void Disk::Kill() {
  ++process_;
  fail_next_sync_ = false;
  ForEachInode([&](Inode& inode) {
    inode.locks.clear();
    broken_.Update(inode.bytes.LeaveToTheDead());
  });
}

void Disk::CutPower() {
  absl::MutexLock lock(&mutex_);
  Kill();
  names_.CutPower(fate_);
  names_.ForEach([&](Inode& inode) {
    if (!inode.is_folder) broken_.Update(inode.bytes.CutPower(fate_));
  });
  boot_id_ = bits_.Bits();
  elapsed_ns_ = kSinceBoot;
}

void Disk::AdvanceClock(std::int64_t ns) {
  absl::MutexLock lock(&mutex_);
  now_ns_ = os::SaturatingAdd(now_ns_, ns);
  elapsed_ns_ = os::SaturatingAdd(elapsed_ns_, std::max<std::int64_t>(ns, 0));
}

void Disk::SetFreeBytes(std::int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  total_bytes_ = 0;
  const std::int64_t used = -FreeBytes();
  total_bytes_ = os::SaturatingAdd(used, std::max<std::int64_t>(bytes, 0));
}

void Disk::FailNextSync() {
  absl::MutexLock lock(&mutex_);
  fail_next_sync_ = true;
}

absl::Status Disk::FlipBit(const std::filesystem::path& directory, std::string_view path,
                           std::uint64_t position, int bit) {
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<Inode> root = names_.FindRoot(RootName(directory));
  if (root == nullptr) return os::ErrnoStatus(ENOENT, "open", directory.string());
  CORDWOOD_ASSIGN_OR_RETURN(const Names::Place place,
                            Names::PlaceOf(root, path, "open", directory.string()));
  if (place.inode == nullptr) return os::ErrnoStatus(ENOENT, "open", path);
  return place.inode->bytes.FlipBit(position, bit);
}

std::uint64_t Disk::Below(std::uint64_t limit) {
  absl::MutexLock lock(&mutex_);
  return fate_.Below(limit);
}

std::uint64_t Disk::process() const {
  absl::MutexLock lock(&mutex_);
  return process_;
}

std::int64_t Disk::now_ns() const {
  absl::MutexLock lock(&mutex_);
  return now_ns_;
}

std::int64_t Disk::elapsed_ns() const {
  absl::MutexLock lock(&mutex_);
  return elapsed_ns_;
}

os::Bits128 Disk::boot_id() const {
  absl::MutexLock lock(&mutex_);
  return boot_id_;
}

os::Bits128 Disk::RandomBits() {
  absl::MutexLock lock(&mutex_);
  return bits_.Bits();
}

// ---- One operation

Disk::Turn::Turn(Disk& disk, std::uint64_t process) : disk_(disk), process_(process) {
  if (disk_.hook_) disk_.hook_();
  lock_.emplace(&disk_.mutex_);
}

absl::Status Disk::Turn::status() const {
  if (process_ == disk_.process_) return disk_.broken_;
  return absl::UnavailableError("this process of a simulated machine is dead");
}

std::shared_ptr<Inode> Disk::NewInode(bool is_folder) {
  // The lowest number that is free, as file systems have it: it was another file's before.
  std::uint64_t number = kFirstInode;
  auto it = inodes_.begin();
  while (it != inodes_.end() && it->first == number && !it->second.expired()) {
    ++it;
    ++number;
  }
  auto inode = std::make_shared<Inode>(number, is_folder, cache_);
  inodes_[number] = inode;
  return inode;
}

void Disk::ForEachInode(absl::FunctionRef<void(Inode&)> f) {
  for (const auto& [number, weak] : inodes_) {
    if (const std::shared_ptr<Inode> inode = weak.lock()) f(*inode);
  }
}

// A file or folder takes a block, and its bytes take theirs, until it has no name and nobody
// has it open.
std::int64_t Disk::FreeBytes() const {
  if (total_bytes_ == kUnlimited) return kUnlimited;
  std::map<std::uint64_t, std::uint64_t> blocks;
  names_.ForEach([&](Inode& inode) { blocks[inode.number] = 1 + inode.bytes.blocks(); });
  for (const auto& [number, weak] : inodes_) {
    const std::shared_ptr<Inode> inode = weak.lock();
    if (inode != nullptr && inode->bytes.is_open()) blocks[number] = 1 + inode->bytes.blocks();
  }
  std::uint64_t used = 0;
  for (const auto& [number, count] : blocks) used += count;
  return total_bytes_ - static_cast<std::int64_t>(used * kPage);
}

absl::Status Disk::CheckRoom(std::string_view verb, const std::string& path) const {
  if (FreeBytes() >= static_cast<std::int64_t>(kPage)) return absl::OkStatus();
  return os::ErrnoStatus(ENOSPC, verb, path);
}

std::uint64_t Disk::AddBlocks(Inode& file, std::uint64_t from, std::uint64_t to) {
  if (file.bytes.BlocksMissing(from, to) == 0) return to;
  const std::int64_t free = std::max<std::int64_t>(FreeBytes(), 0);
  return file.bytes.AddBlocks(from, to, static_cast<std::uint64_t>(free) / kPage);
}

absl::Status Disk::SyncFile(Inode& file, std::uint64_t from, std::uint64_t to,
                            std::string_view verb, const std::string& path) {
  if (TakeFailure()) {
    CORDWOOD_RETURN_IF_ERROR(file.bytes.FailSync(from, to, fate_));
    return os::ErrnoStatus(EIO, verb, path);
  }
  WriteBackSomething();
  return file.bytes.Sync(from, to);
}

absl::Status Disk::SyncFolder(Inode& folder, std::string_view verb, const std::string& path) {
  WriteBackSomething();
  if (TakeFailure()) return os::ErrnoStatus(EIO, verb, path);
  names_.Sync(folder);
  return absl::OkStatus();
}

absl::Status Disk::SyncEverything(const std::string& path) {
  const bool fails = TakeFailure();
  absl::Status status = fails ? os::ErrnoStatus(EIO, "syncfs", path) : absl::OkStatus();
  ForEachInode([&](Inode& inode) {
    FileBytes& bytes = inode.bytes;
    status.Update(fails ? bytes.FailSync(0, bytes.size(), fate_) : bytes.Sync(0, bytes.size()));
  });
  if (!fails) names_.SyncAll();
  return status;
}

// The system writes back what it likes, when it likes.
void Disk::WriteBackSomething() {
  if (inodes_.empty() || !fate_.Chance(1, 4)) return;
  const auto it = inodes_.lower_bound(kFirstInode + fate_.Below(inodes_.size()));
  if (it == inodes_.end()) return;
  if (const std::shared_ptr<Inode> inode = it->second.lock()) {
    broken_.Update(inode->bytes.WriteBackSomePage(fate_));
  }
}

}  // namespace cordwood::sim
