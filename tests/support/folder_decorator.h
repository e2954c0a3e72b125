// Storage whose folders claim to lie on another file system than they do.
//
//   options.storage = std::make_shared<StorageWithFileSystem>(os::FileSystemInfo{.name = "nfs"});

#ifndef CORDWOOD_TESTS_SUPPORT_FOLDER_DECORATOR_H_
#define CORDWOOD_TESTS_SUPPORT_FOLDER_DECORATOR_H_

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cordwood/os/storage.h"

namespace cordwood::testing {

// Hands everything on; a test overrides what it is about.
class FolderDecorator : public os::Folder {
 public:
  explicit FolderDecorator(std::unique_ptr<os::Folder> folder) : folder_(std::move(folder)) {}

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
  absl::Status Unlink(std::string_view path) override { return folder_->Unlink(path); }
  absl::Status RemoveFolder(std::string_view path) override { return folder_->RemoveFolder(path); }
  absl::Status SyncFolder(std::string_view path) override { return folder_->SyncFolder(path); }
  absl::Status SyncFileSystem() override { return folder_->SyncFileSystem(); }
  absl::StatusOr<os::FileSystemInfo> FileSystem() override { return folder_->FileSystem(); }

 private:
  const std::unique_ptr<os::Folder> folder_;
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

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_FOLDER_DECORATOR_H_
