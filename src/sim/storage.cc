#include "sim/storage.h"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "os/errno_status.h"

namespace cordwood::sim {
namespace {

using Place = Names::Place;

// The process of a machine that something belongs to.
struct Process {
  std::shared_ptr<Disk> disk;
  std::uint64_t number = 0;
};

// A file as one open of it has it. Its locks go with it.
struct Description {
  Description(Process p, std::uint64_t n, std::shared_ptr<Inode> i, bool w, std::string name)
      : process(std::move(p)),
        number(n),
        inode(std::move(i)),
        window(inode->bytes.window()),
        is_writable(w),
        path(std::move(name)) {}
  ~Description() {
    const Disk::Turn turn(*process.disk, process.number);
    if (!turn.status().ok()) return;
    for (auto& [byte, holders] : inode->locks) holders.erase(number);
    window.reset();
  }

  const Process process;
  const std::uint64_t number;
  const std::shared_ptr<Inode> inode;
  std::shared_ptr<Window> window;  // so that the file counts as open
  const bool is_writable;
  const std::string path;
};

class SimLockKeeper final : public os::LockKeeper {
 public:
  explicit SimLockKeeper(std::shared_ptr<Description> description)
      : description_(std::move(description)) {}

 private:
  const std::shared_ptr<Description> description_;
};

class SimMapping final : public os::Mapping {
 public:
  SimMapping(Process process, std::shared_ptr<Inode> inode, std::byte* data, std::size_t bytes,
             std::string path)
      : Mapping(data, bytes),
        process_(std::move(process)),
        inode_(std::move(inode)),
        window_(inode_->bytes.window()),
        path_(std::move(path)) {}
  ~SimMapping() override {
    munmap(data_, size_);
    const Disk::Turn turn(*process_.disk, process_.number);
    window_.reset();
  }

  absl::Status Sync(std::size_t from, std::size_t to) override {
    const Disk::Turn turn(*process_.disk, process_.number);
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    if (to <= from) return absl::OkStatus();
    return process_.disk->SyncFile(*inode_, from, to, "msync", path_);
  }

  absl::Status Populate(std::size_t from, std::size_t to) override {
    const Disk::Turn turn(*process_.disk, process_.number);
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    const std::uint64_t end =
        (inode_->bytes.size() + FileBytes::kPage - 1) & ~(FileBytes::kPage - 1);
    return to <= from || to <= end ? absl::OkStatus() : os::ErrnoStatus(EFAULT, "madvise", path_);
  }

 private:
  const Process process_;
  const std::shared_ptr<Inode> inode_;
  std::shared_ptr<Window> window_;
  const std::string path_;
};

class SimFile final : public os::File {
 public:
  explicit SimFile(std::shared_ptr<Description> description)
      : description_(std::move(description)),
        disk_(*description_->process.disk),
        inode_(*description_->inode),
        path_(description_->path) {}

  absl::StatusOr<os::FileInfo> Info() override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    return os::FileInfo{.size = bytes().size(), .inode = inode_.number, .device = 1};
  }

  absl::StatusOr<std::size_t> ReadAt(void* to, std::size_t count, std::uint64_t at) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    if (at >= bytes().size()) return std::size_t{0};
    count = std::min<std::uint64_t>(count, bytes().size() - at);
    CORDWOOD_RETURN_IF_ERROR(bytes().window()->Read(to, count, at));
    return count;
  }

  absl::Status WriteAt(const void* from, std::size_t count, std::uint64_t at) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_RETURN_IF_ERROR(CheckWritable("pwrite"));
    CORDWOOD_RETURN_IF_ERROR(CheckSize(at, count, "pwrite"));
    if (count == 0) return absl::OkStatus();
    const std::uint64_t end = disk_.AddBlocks(inode_, at, at + count);
    if (end > at) CORDWOOD_RETURN_IF_ERROR(bytes().Write(from, end - at, at));
    return end == at + count ? absl::OkStatus() : os::ErrnoStatus(ENOSPC, "pwrite", path_);
  }

  absl::Status Allocate(std::uint64_t count) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_RETURN_IF_ERROR(CheckWritable("fallocate"));
    CORDWOOD_RETURN_IF_ERROR(CheckSize(0, count, "fallocate"));
    if (count == 0) return os::ErrnoStatus(EINVAL, "fallocate", path_);
    const std::uint64_t end = disk_.AddBlocks(inode_, 0, count);
    bytes().GrowTo(end);
    return end == count ? absl::OkStatus() : os::ErrnoStatus(ENOSPC, "fallocate", path_);
  }

  absl::Status PunchHole(std::uint64_t from, std::uint64_t to) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_RETURN_IF_ERROR(CheckWritable("fallocate"));
    return to <= from ? absl::OkStatus() : bytes().PunchHole(from, to);
  }

  absl::Status Sync() override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    return disk_.SyncFile(inode_, 0, bytes().size(), "fdatasync", path_);
  }

  absl::StatusOr<std::unique_ptr<os::Mapping>> Map(std::size_t count, os::Access access) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    if (count == 0) return os::ErrnoStatus(EINVAL, "mmap", path_);
    if (access == os::Access::kReadWrite && !description_->is_writable) {
      return os::ErrnoStatus(EACCES, "mmap", path_);
    }
    CORDWOOD_RETURN_IF_ERROR(CheckSize(0, count, "mmap"));
    CORDWOOD_ASSIGN_OR_RETURN(std::byte * data, bytes().window()->Map(count, access));
    return std::make_unique<SimMapping>(description_->process, description_->inode, data, count,
                                        path_);
  }

  absl::StatusOr<bool> TryLock(os::LockKind kind, std::uint64_t byte) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    if (kind == os::LockKind::kExclusive && !description_->is_writable) {
      return os::ErrnoStatus(EBADF, "fcntl(F_OFD_SETLK)", path_);
    }
    if (IsExcluded(kind, byte)) return false;
    inode_.locks[byte][description_->number] = kind;
    return true;
  }

  absl::Status Unlock(std::uint64_t byte) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    inode_.locks[byte].erase(description_->number);
    return absl::OkStatus();
  }

  absl::StatusOr<bool> IsLocked(os::LockKind kind, std::uint64_t byte) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    return IsExcluded(kind, byte);
  }

  absl::StatusOr<std::unique_ptr<os::LockKeeper>> KeepLocks() override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    return std::make_unique<SimLockKeeper>(description_);
  }

 private:
  FileBytes& bytes() const { return inode_.bytes; }
  Disk::Turn Begin() const { return Disk::Turn(disk_, description_->process.number); }

  absl::Status CheckWritable(std::string_view verb) const {
    return description_->is_writable ? absl::OkStatus() : os::ErrnoStatus(EBADF, verb, path_);
  }
  absl::Status CheckSize(std::uint64_t at, std::uint64_t count, std::string_view verb) const {
    if (count <= PageCache::kWindowBytes && at <= PageCache::kWindowBytes - count) {
      return absl::OkStatus();
    }
    return os::ErrnoStatus(EFBIG, verb, path_);
  }

  bool IsExcluded(os::LockKind kind, std::uint64_t byte) const {
    const auto held = inode_.locks.find(byte);
    if (held == inode_.locks.end()) return false;
    return std::any_of(held->second.begin(), held->second.end(), [&](const auto& holder) {
      return holder.first != description_->number &&
             (kind == os::LockKind::kExclusive || holder.second == os::LockKind::kExclusive);
    });
  }

  const std::shared_ptr<Description> description_;
  Disk& disk_;
  Inode& inode_;
  const std::string& path_;
};

class SimFolder final : public os::Folder {
 public:
  SimFolder(Process process, std::shared_ptr<Inode> inode, std::string path)
      : process_(std::move(process)),
        disk_(*process_.disk),
        inode_(std::move(inode)),
        path_(std::move(path)) {}

  const std::string& path() const override { return path_; }

  absl::StatusOr<std::unique_ptr<os::File>> OpenFile(std::string_view path,
                                                     os::OpenMode mode) override {
    std::shared_ptr<Description> description;
    {
      const Disk::Turn turn = Begin();
      CORDWOOD_RETURN_IF_ERROR(turn.status());
      CORDWOOD_ASSIGN_OR_RETURN(Place place, PlaceOf(path, "open"));
      if (mode == os::OpenMode::kCreate) {
        if (place.inode != nullptr) return os::ErrnoStatus(EEXIST, "open", Full(path));
        CORDWOOD_RETURN_IF_ERROR(disk_.CheckRoom("open", Full(path)));
        place.inode = disk_.NewInode(/*is_folder=*/false);
        disk_.names().Set(place, place.inode);
      }
      if (place.inode == nullptr) return os::ErrnoStatus(ENOENT, "open", Full(path));
      if (place.inode->is_folder) return os::ErrnoStatus(EISDIR, "open", Full(path));
      description = std::make_shared<Description>(process_, disk_.NextDescription(), place.inode,
                                                  mode != os::OpenMode::kRead, Full(path));
    }
    return std::make_unique<SimFile>(std::move(description));
  }

  absl::Status CreateFolder(std::string_view path) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_ASSIGN_OR_RETURN(const Place place, PlaceOf(path, "mkdir"));
    if (place.inode != nullptr) return os::ErrnoStatus(EEXIST, "mkdir", Full(path));
    CORDWOOD_RETURN_IF_ERROR(disk_.CheckRoom("mkdir", Full(path)));
    disk_.names().Set(place, disk_.NewInode(/*is_folder=*/true));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<os::FolderEntry>> List(std::string_view path) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<Inode> folder, FolderAt(path));
    std::vector<os::FolderEntry> entries;
    for (const auto& [name, inode] : folder->seen) entries.push_back({name, inode->is_folder});
    return entries;
  }

  absl::Status Rename(std::string_view from, std::string_view to) override {
    return Move(from, to, /*replaces=*/true);
  }
  absl::Status RenameNew(std::string_view from, std::string_view to) override {
    return Move(from, to, /*replaces=*/false);
  }
  absl::Status Exchange(std::string_view a, std::string_view b) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_ASSIGN_OR_RETURN(const Place one, PlaceOf(a, "rename"));
    CORDWOOD_ASSIGN_OR_RETURN(const Place other, PlaceOf(b, "rename"));
    if (one.inode == nullptr || other.inode == nullptr) {
      return os::ErrnoStatus(ENOENT, "rename", Full(one.inode == nullptr ? a : b));
    }
    if (one.name.empty() || other.name.empty()) return os::ErrnoStatus(EBUSY, "rename", Full(a));
    disk_.names().Exchange(one, other);
    return absl::OkStatus();
  }

  absl::Status Unlink(std::string_view path) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_ASSIGN_OR_RETURN(const Place place, PlaceOf(path, "unlink"));
    if (place.inode == nullptr) return os::ErrnoStatus(ENOENT, "unlink", Full(path));
    if (place.inode->is_folder) return os::ErrnoStatus(EISDIR, "unlink", Full(path));
    disk_.names().Set(place, nullptr);
    return absl::OkStatus();
  }

  absl::Status RemoveFolder(std::string_view path) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_ASSIGN_OR_RETURN(const Place place, PlaceOf(path, "rmdir"));
    if (place.inode == nullptr) return os::ErrnoStatus(ENOENT, "rmdir", Full(path));
    if (!place.inode->is_folder) return os::ErrnoStatus(ENOTDIR, "rmdir", Full(path));
    if (place.name.empty()) return os::ErrnoStatus(EINVAL, "rmdir", Full(path));
    if (!place.inode->seen.empty()) return os::ErrnoStatus(ENOTEMPTY, "rmdir", Full(path));
    disk_.names().Set(place, nullptr);
    return absl::OkStatus();
  }

  absl::Status SyncFolder(std::string_view path) override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<Inode> folder, FolderAt(path));
    return disk_.SyncFolder(*folder, "fsync", Full(path));
  }

  absl::Status SyncFileSystem() override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    return disk_.SyncEverything(path_);
  }

  absl::StatusOr<os::FileSystemInfo> FileSystem() override {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    return os::FileSystemInfo{.name = "simulated",
                              .free_bytes = std::max<std::int64_t>(disk_.FreeBytes(), 0)};
  }

 private:
  Disk::Turn Begin() const { return Disk::Turn(disk_, process_.number); }
  std::string Full(std::string_view path) const {
    return absl::StrCat(path_, "/", absl::string_view(path.data(), path.size()));
  }

  absl::StatusOr<Place> PlaceOf(std::string_view path, std::string_view verb) const {
    return Names::PlaceOf(inode_, path, verb, path_);
  }
  absl::StatusOr<std::shared_ptr<Inode>> FolderAt(std::string_view path) const {
    CORDWOOD_ASSIGN_OR_RETURN(Place place, PlaceOf(path, "open"));
    if (place.inode == nullptr) return os::ErrnoStatus(ENOENT, "open", Full(path));
    if (!place.inode->is_folder) return os::ErrnoStatus(ENOTDIR, "open", Full(path));
    return place.inode;
  }

  absl::Status Move(std::string_view from, std::string_view to, bool replaces) {
    const Disk::Turn turn = Begin();
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    CORDWOOD_ASSIGN_OR_RETURN(const Place source, PlaceOf(from, "rename"));
    CORDWOOD_ASSIGN_OR_RETURN(const Place target, PlaceOf(to, "rename"));
    if (const int error = WhyNot(source, target, replaces); error != 0) {
      return os::ErrnoStatus(
          error, "rename",
          absl::StrCat(Full(from), " to ", absl::string_view(to.data(), to.size())));
    }
    if (source.inode != target.inode) disk_.names().Move(source, target);
    return absl::OkStatus();
  }
  // The errno of a rename; 0: it can be done.
  static int WhyNot(const Place& source, const Place& target, bool replaces) {
    if (source.inode == nullptr) return ENOENT;
    if (source.name.empty() || target.name.empty()) return EBUSY;
    if (target.inode == nullptr) return 0;
    if (!replaces) return EEXIST;
    if (source.inode->is_folder && !target.inode->is_folder) return ENOTDIR;
    if (!source.inode->is_folder && target.inode->is_folder) return EISDIR;
    return target.inode->seen.empty() ? 0 : ENOTEMPTY;
  }

  const Process process_;
  Disk& disk_;
  const std::shared_ptr<Inode> inode_;
  const std::string path_;
};

class SimStorage final : public Storage {
 public:
  explicit SimStorage(std::shared_ptr<Disk> disk) : process_{disk, disk->process()} {}

  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) override {
    if (path.empty()) return absl::InvalidArgumentError("the path of the directory is empty");
    Disk& disk = *process_.disk;
    const Disk::Turn turn(disk, process_.number);
    CORDWOOD_RETURN_IF_ERROR(turn.status());
    const std::string name = Disk::RootName(path);
    std::shared_ptr<Inode> folder = disk.names().FindRoot(name);
    if (folder == nullptr) {
      if (!options.create) return os::ErrnoStatus(ENOENT, "open", path.string());
      CORDWOOD_RETURN_IF_ERROR(disk.CheckRoom("mkdir", path.string()));
      folder = disk.NewInode(/*is_folder=*/true);
      disk.names().AddRoot(name, folder);
      if (disk.TakeFailure()) {
        return os::ErrnoStatus(EIO, "fsync of the parent of", path.string());
      }
    }
    return std::make_unique<SimFolder>(process_, std::move(folder), path.string());
  }

  std::int64_t NowNanos() override { return process_.disk->now_ns(); }
  std::int64_t ElapsedNanos() override { return process_.disk->elapsed_ns(); }
  os::Bits128 Random128() override { return process_.disk->RandomBits(); }
  absl::StatusOr<os::Bits128> BootId() override { return process_.disk->boot_id(); }

 private:
  const Process process_;
};

}  // namespace

std::shared_ptr<Storage> MakeStorage(std::shared_ptr<Disk> disk) {
  return std::make_shared<SimStorage>(std::move(disk));
}

}  // namespace cordwood::sim
