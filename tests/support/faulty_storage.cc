#include "tests/support/faulty_storage.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cordwood/status_macros.h"
#include "os/errno_status.h"
#include "tests/support/folder_decorator.h"

namespace cordwood::testing {

class FaultyStorage::Faults {
 public:
  absl::Status Begin(const char* operation, std::string_view path) {
    std::function<void()> meanwhile;
    {
      std::lock_guard lock(mutex_);
      if (++done_ != nth_) return absl::OkStatus();
      hit_ = absl::StrCat(operation, " ", absl::string_view(path.data(), path.size()));
      if (error_ != 0) return os::ErrnoStatus(error_, operation, path);
      meanwhile = meanwhile_;
    }
    meanwhile();
    return absl::OkStatus();
  }
  void Set(int nth, int error, std::function<void()> meanwhile = nullptr) {
    std::lock_guard lock(mutex_);
    nth_ = nth;
    error_ = error;
    meanwhile_ = std::move(meanwhile);
    done_ = 0;
    hit_.clear();
  }
  std::string hit() const {
    std::lock_guard lock(mutex_);
    return hit_;
  }
  int done() const {
    std::lock_guard lock(mutex_);
    return done_;
  }

 private:
  mutable std::mutex mutex_;
  int nth_ = 0;
  int error_ = 0;
  std::function<void()> meanwhile_;
  int done_ = 0;
  std::string hit_;
};

class FaultyStorage::FaultyMapping final : public os::Mapping {
 public:
  FaultyMapping(std::shared_ptr<Faults> faults, std::unique_ptr<os::Mapping> map, std::string path)
      : Mapping(map->data(), map->size()),
        faults_(std::move(faults)),
        map_(std::move(map)),
        path_(std::move(path)) {}

  absl::Status Sync(std::size_t from, std::size_t to) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("msync", path_));
    return map_->Sync(from, to);
  }
  absl::Status Populate(std::size_t from, std::size_t to) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("populate", path_));
    return map_->Populate(from, to);
  }

 private:
  const std::shared_ptr<Faults> faults_;
  const std::unique_ptr<os::Mapping> map_;
  const std::string path_;
};

class FaultyStorage::FaultyFile final : public FileDecorator {
 public:
  FaultyFile(std::shared_ptr<Faults> faults, std::unique_ptr<os::File> file, std::string path)
      : FileDecorator(std::move(file)), faults_(std::move(faults)), path_(std::move(path)) {}

  absl::StatusOr<os::FileInfo> Info() override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("fstat", path_));
    return FileDecorator::Info();
  }
  absl::StatusOr<std::size_t> ReadAt(void* to, std::size_t bytes, std::uint64_t at) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("read", path_));
    return FileDecorator::ReadAt(to, bytes, at);
  }
  absl::Status WriteAt(const void* from, std::size_t bytes, std::uint64_t at) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("write", path_));
    return FileDecorator::WriteAt(from, bytes, at);
  }
  absl::Status Allocate(std::uint64_t bytes) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("fallocate", path_));
    return FileDecorator::Allocate(bytes);
  }
  absl::Status PunchHole(std::uint64_t from, std::uint64_t to) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("punch a hole", path_));
    return FileDecorator::PunchHole(from, to);
  }
  absl::Status Sync() override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("fdatasync", path_));
    return FileDecorator::Sync();
  }
  absl::StatusOr<std::unique_ptr<os::Mapping>> Map(std::size_t bytes, os::Access access) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("mmap", path_));
    CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::Mapping> map, FileDecorator::Map(bytes, access));
    return std::make_unique<FaultyMapping>(faults_, std::move(map), path_);
  }
  absl::StatusOr<bool> TryLock(os::LockKind kind, std::uint64_t byte) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("lock", path_));
    return FileDecorator::TryLock(kind, byte);
  }
  absl::StatusOr<bool> IsLocked(os::LockKind kind, std::uint64_t byte) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("look at a lock of", path_));
    return FileDecorator::IsLocked(kind, byte);
  }
  absl::StatusOr<std::unique_ptr<os::LockKeeper>> KeepLocks() override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("keep the locks of", path_));
    return FileDecorator::KeepLocks();
  }

 private:
  const std::shared_ptr<Faults> faults_;
  const std::string path_;
};

class FaultyStorage::FaultyFolder final : public FolderDecorator {
 public:
  FaultyFolder(std::shared_ptr<Faults> faults, std::unique_ptr<os::Folder> folder)
      : FolderDecorator(std::move(folder)), faults_(std::move(faults)) {}

  absl::StatusOr<std::unique_ptr<os::File>> OpenFile(std::string_view path,
                                                     os::OpenMode mode) override {
    CORDWOOD_RETURN_IF_ERROR(
        faults_->Begin(mode == os::OpenMode::kCreate ? "create" : "open", path));
    CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                              FolderDecorator::OpenFile(path, mode));
    return std::make_unique<FaultyFile>(faults_, std::move(file), std::string(path));
  }
  absl::Status CreateFolder(std::string_view path) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("mkdir", path));
    return FolderDecorator::CreateFolder(path);
  }
  absl::StatusOr<std::vector<os::FolderEntry>> List(std::string_view path) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("list", path));
    return FolderDecorator::List(path);
  }
  absl::Status Rename(std::string_view from, std::string_view to) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("rename", from));
    return FolderDecorator::Rename(from, to);
  }
  absl::Status RenameNew(std::string_view from, std::string_view to) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("rename", from));
    return FolderDecorator::RenameNew(from, to);
  }
  absl::Status Exchange(std::string_view a, std::string_view b) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("exchange", a));
    return FolderDecorator::Exchange(a, b);
  }
  absl::Status Unlink(std::string_view path) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("unlink", path));
    return FolderDecorator::Unlink(path);
  }
  absl::Status RemoveFolder(std::string_view path) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("rmdir", path));
    return FolderDecorator::RemoveFolder(path);
  }
  absl::Status SyncFolder(std::string_view path) override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("fsync the folder", path));
    return FolderDecorator::SyncFolder(path);
  }
  absl::Status SyncFileSystem() override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("syncfs", path()));
    return FolderDecorator::SyncFileSystem();
  }
  absl::StatusOr<os::FileSystemInfo> FileSystem() override {
    CORDWOOD_RETURN_IF_ERROR(faults_->Begin("statfs", path()));
    return FolderDecorator::FileSystem();
  }

 private:
  const std::shared_ptr<Faults> faults_;
};

FaultyStorage::FaultyStorage(std::shared_ptr<Storage> storage)
    : storage_(std::move(storage)), faults_(std::make_shared<Faults>()) {}
FaultyStorage::~FaultyStorage() = default;

std::shared_ptr<FaultyStorage> FaultyStorage::Over(std::shared_ptr<Storage> storage) {
  return std::make_shared<FaultyStorage>(std::move(storage));
}

void FaultyStorage::FailNth(int nth, int error) { faults_->Set(nth, error); }
void FaultyStorage::BeforeNth(int nth, std::function<void()> meanwhile) {
  faults_->Set(nth, 0, std::move(meanwhile));
}
bool FaultyStorage::was_hit() const { return !faults_->hit().empty(); }
std::string FaultyStorage::hit() const { return faults_->hit(); }
int FaultyStorage::operations() const { return faults_->done(); }

absl::StatusOr<std::unique_ptr<os::Folder>> FaultyStorage::OpenFolder(
    const std::filesystem::path& path, const os::OpenFolderOptions& options) {
  CORDWOOD_RETURN_IF_ERROR(faults_->Begin("open the folder", path.string()));
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::Folder> folder,
                            storage_->OpenFolder(path, options));
  return std::make_unique<FaultyFolder>(faults_, std::move(folder));
}

absl::StatusOr<os::Bits128> FaultyStorage::BootId() {
  CORDWOOD_RETURN_IF_ERROR(faults_->Begin("read", "boot_id"));
  return storage_->BootId();
}

}  // namespace cordwood::testing
