// Folders and files that hand everything on, for a test to override what it is about; and storage
// whose folders claim to lie on another file system than they do, or tell what is opened.
//
//   options.storage = std::make_shared<StorageWithFileSystem>(os::FileSystemInfo{.name = "nfs"});
//   telling_storage->before_open = [&](std::string_view path) { ... };

#ifndef CORDWOOD_TESTS_SUPPORT_FOLDER_DECORATOR_H_
#define CORDWOOD_TESTS_SUPPORT_FOLDER_DECORATOR_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cordwood/os/storage.h"

namespace cordwood::testing {

class FolderDecorator : public os::Folder {
 public:
  explicit FolderDecorator(std::shared_ptr<os::Folder> folder) : folder_(std::move(folder)) {}

  const std::string& path() const override { return folder_->path(); }
  absl::StatusOr<std::unique_ptr<os::File>> OpenFile(std::string_view path,
                                                     os::OpenMode mode) override {
    return folder_->OpenFile(path, mode);
  }
  absl::Status CreateFolder(std::string_view path) override { return folder_->CreateFolder(path); }
  absl::StatusOr<std::vector<os::FolderEntry>> List(std::string_view path) override {
    return folder_->List(path);
  }
  absl::Status Rename(std::string_view from, std::string_view to) override {
    return folder_->Rename(from, to);
  }
  absl::Status RenameNew(std::string_view from, std::string_view to) override {
    return folder_->RenameNew(from, to);
  }
  absl::Status Exchange(std::string_view a, std::string_view b) override {
    return folder_->Exchange(a, b);
  }
  absl::Status Unlink(std::string_view path) override { return folder_->Unlink(path); }
  absl::Status RemoveFolder(std::string_view path) override { return folder_->RemoveFolder(path); }
  absl::Status SyncFolder(std::string_view path) override { return folder_->SyncFolder(path); }
  absl::Status SyncFileSystem() override { return folder_->SyncFileSystem(); }
  absl::StatusOr<os::FileSystemInfo> FileSystem() override { return folder_->FileSystem(); }

 private:
  const std::shared_ptr<os::Folder> folder_;
};

class FileDecorator : public os::File {
 public:
  explicit FileDecorator(std::unique_ptr<os::File> file) : file_(std::move(file)) {}

  absl::StatusOr<os::FileInfo> Info() override { return file_->Info(); }
  absl::StatusOr<std::size_t> ReadAt(void* to, std::size_t bytes, std::uint64_t at) override {
    return file_->ReadAt(to, bytes, at);
  }
  absl::Status WriteAt(const void* from, std::size_t bytes, std::uint64_t at) override {
    return file_->WriteAt(from, bytes, at);
  }
  absl::Status Allocate(std::uint64_t bytes) override { return file_->Allocate(bytes); }
  absl::Status PunchHole(std::uint64_t from, std::uint64_t to) override {
    return file_->PunchHole(from, to);
  }
  absl::Status Sync() override { return file_->Sync(); }
  absl::StatusOr<std::unique_ptr<os::Mapping>> Map(std::size_t bytes, os::Access access) override {
    return file_->Map(bytes, access);
  }
  absl::StatusOr<bool> TryLock(os::LockKind kind, std::uint64_t byte) override {
    return file_->TryLock(kind, byte);
  }
  absl::Status Unlock(std::uint64_t byte) override { return file_->Unlock(byte); }
  absl::StatusOr<bool> IsLocked(os::LockKind kind, std::uint64_t byte) override {
    return file_->IsLocked(kind, byte);
  }
  absl::StatusOr<std::unique_ptr<os::LockKeeper>> KeepLocks() override {
    return file_->KeepLocks();
  }

 private:
  const std::unique_ptr<os::File> file_;
};

class StorageWithFileSystem : public Storage {
 public:
  explicit StorageWithFileSystem(os::FileSystemInfo info) : info_(std::move(info)) {}

  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) override {
    auto folder = real_->OpenFolder(path, options);
    if (!folder.ok()) return folder.status();
    return std::make_unique<Pretender>(*std::move(folder), info_);
  }
  std::int64_t NowNanos() override { return real_->NowNanos(); }
  os::Bits128 Random128() override { return real_->Random128(); }
  absl::StatusOr<os::Bits128> BootId() override { return real_->BootId(); }

 private:
  class Pretender : public FolderDecorator {
   public:
    Pretender(std::unique_ptr<os::Folder> folder, os::FileSystemInfo info)
        : FolderDecorator(std::move(folder)), info_(std::move(info)) {}
    absl::StatusOr<os::FileSystemInfo> FileSystem() override { return info_; }

   private:
    const os::FileSystemInfo info_;
  };

  const std::shared_ptr<Storage> real_ = Storage::OperatingSystem();
  const os::FileSystemInfo info_;
};

// The operating system's, and tells before it opens a file.
class TellingStorage final : public Storage {
 public:
  std::function<void(std::string_view path)> before_open = nullptr;

  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) override {
    auto folder = real_->OpenFolder(path, options);
    if (!folder.ok()) return folder.status();
    return std::make_unique<Telling>(*std::move(folder), *this);
  }
  std::int64_t NowNanos() override { return real_->NowNanos(); }
  os::Bits128 Random128() override { return real_->Random128(); }
  absl::StatusOr<os::Bits128> BootId() override { return real_->BootId(); }

 private:
  class Telling final : public FolderDecorator {
   public:
    Telling(std::unique_ptr<os::Folder> folder, TellingStorage& storage)
        : FolderDecorator(std::move(folder)), storage_(storage) {}
    absl::StatusOr<std::unique_ptr<os::File>> OpenFile(std::string_view path,
                                                       os::OpenMode mode) override {
      // A copy, as it may take itself away.
      if (const auto tell = storage_.before_open) tell(path);
      return FolderDecorator::OpenFile(path, mode);
    }

   private:
    TellingStorage& storage_;
  };

  const std::shared_ptr<Storage> real_ = Storage::OperatingSystem();
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_FOLDER_DECORATOR_H_
