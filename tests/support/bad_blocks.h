// Storage, the operating system's or another, with bytes of files that cannot be read by a call.
//
//   auto disk = std::make_shared<BadBlocks>();
//   disk->Break(dir / "data" / kFirst, 4096, 8192);
//   Verify(dir / "data", {.storage = disk});
//
// It is the file that is broken, and not its name: one that takes the name is whole. What is done
// to names, and what is mapped, is written down.

#ifndef CORDWOOD_TESTS_SUPPORT_BAD_BLOCKS_H_
#define CORDWOOD_TESTS_SUPPORT_BAD_BLOCKS_H_

#include <errno.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "os/errno_status.h"
#include "tests/support/folder_decorator.h"

namespace cordwood::testing {

class BadBlocks final : public Storage {
 public:
  explicit BadBlocks(std::shared_ptr<Storage> real = Storage::OperatingSystem())
      : real_(std::move(real)) {}

  // Called before each read of a file at a position.
  std::function<void(std::string_view path, std::uint64_t position)> before_read = nullptr;
  // So many reads of broken bytes fail, and then the disk is well.
  int reads_until_well = std::numeric_limits<int>::max();
  // "map topics/t/control", "sync topics/t/0", "exchange damaged/1/FORMAT"
  std::vector<std::string> done = {};

  void Break(const std::filesystem::path& file, std::uint64_t from, std::uint64_t to) {
    struct stat info;
    if (stat(file.c_str(), &info) != 0) throw std::runtime_error("stat");
    Break(info.st_ino, from, to);
  }
  void Break(std::uint64_t inode, std::uint64_t from, std::uint64_t to) {
    broken_.push_back({inode, from, to});
  }

  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) override {
    auto folder = real_->OpenFolder(path, options);
    if (!folder.ok()) return folder.status();
    return std::make_unique<OfFolder>(*std::move(folder), *this);
  }
  std::int64_t NowNanos() override { return real_->NowNanos(); }
  os::Bits128 Random128() override { return real_->Random128(); }
  absl::StatusOr<os::Bits128> BootId() override { return real_->BootId(); }

 private:
  struct Broken {
    std::uint64_t inode, from, to;
  };

  class OfFile final : public FileDecorator {
   public:
    OfFile(std::unique_ptr<os::File> file, std::string path, BadBlocks& disk)
        : FileDecorator(std::move(file)), path_(std::move(path)), disk_(disk) {}
    absl::StatusOr<std::size_t> ReadAt(void* to, std::size_t bytes, std::uint64_t at) override {
      // A copy, as it may take itself away.
      if (const auto tell = disk_.before_read) tell(path_, at);
      const absl::StatusOr<os::FileInfo> info = Info();
      for (const Broken& broken : disk_.broken_) {
        if (info.ok() && info->inode == broken.inode && at < broken.to &&
            broken.from < at + bytes && disk_.reads_until_well > 0) {
          --disk_.reads_until_well;
          return os::ErrnoStatus(EIO, "pread", path_);
        }
      }
      return FileDecorator::ReadAt(to, bytes, at);
    }
    absl::StatusOr<std::unique_ptr<os::Mapping>> Map(std::size_t bytes,
                                                     os::Access access) override {
      disk_.done.push_back("map " + path_);
      return FileDecorator::Map(bytes, access);
    }

   private:
    const std::string path_;
    BadBlocks& disk_;
  };

  class OfFolder final : public FolderDecorator {
   public:
    OfFolder(std::unique_ptr<os::Folder> folder, BadBlocks& disk)
        : FolderDecorator(std::move(folder)), disk_(disk) {}
    absl::StatusOr<std::unique_ptr<os::File>> OpenFile(std::string_view path,
                                                       os::OpenMode mode) override {
      auto file = FolderDecorator::OpenFile(path, mode);
      if (!file.ok()) return file.status();
      if (mode == os::OpenMode::kCreate) disk_.done.push_back("create " + std::string(path));
      return std::make_unique<OfFile>(*std::move(file), std::string(path), disk_);
    }
    absl::Status Exchange(std::string_view a, std::string_view b) override {
      const absl::Status exchanged = FolderDecorator::Exchange(a, b);
      if (exchanged.ok()) disk_.done.push_back("exchange " + std::string(a));
      return exchanged;
    }
    absl::Status SyncFolder(std::string_view path) override {
      disk_.done.push_back("sync " + std::string(path));
      return FolderDecorator::SyncFolder(path);
    }

   private:
    BadBlocks& disk_;
  };

  const std::shared_ptr<Storage> real_;
  std::vector<Broken> broken_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_BAD_BLOCKS_H_
