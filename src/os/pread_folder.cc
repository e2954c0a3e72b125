#include "os/pread_folder.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "os/errno_status.h"

namespace cordwood::os {
namespace {

using Shared = PreadFolder::Shared;

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kAhead = 256 << 10;    // so much is read at once, at least
constexpr std::uint64_t kKeptBytes = 4 << 20;  // so much stays in memory, about
constexpr int kHeldMax = 64;                   // files; a process may have 1,024

absl::Status OnlyRead() { return absl::FailedPreconditionError("opened to be read only"); }

const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <class T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// What is not there is an answer.
template <class Result>
Result Noted(Shared& shared, Result result) {
  if (!absl::IsNotFound(StatusOf(result))) shared.trouble.Update(StatusOf(result));
  return result;
}

// Up to `bytes`, fewer at the end of the file. What the disk cannot read is zero, and told.
absl::StatusOr<std::size_t> ReadWhatCanBe(const Shared& shared, File& file, const std::string& path,
                                          char* to, std::size_t bytes, std::uint64_t position) {
  absl::StatusOr<std::size_t> all = file.ReadAt(to, bytes, position);
  if (!IsUnreadable(all.status())) return all;
  // Block by block, so that a bad one costs no more than itself.
  CORDWOOD_ASSIGN_OR_RETURN(const FileInfo info, file.Info());
  const std::uint64_t end = std::min(position + bytes, std::max(info.size, position));
  Unreadable bad;
  const auto tell = [&] {
    if (bad.from < bad.to) shared.tell(bad);
    bad = Unreadable();
  };
  for (std::uint64_t at = position; at < end;) {
    const std::uint64_t next = std::min(end, (at / kPage + 1) * kPage);
    char* const block = to + (at - position);
    const absl::StatusOr<std::size_t> read = file.ReadAt(block, next - at, at);
    if (read.ok()) {
      tell();
      // Cut off since.
      if (*read < next - at) return static_cast<std::size_t>(at - position) + *read;
    } else if (!IsUnreadable(read.status())) {
      tell();
      return read.status();
    } else {
      memset(block, 0, next - at);
      if (bad.from == bad.to) bad = {.path = path, .from = at, .why = read.status()};
      bad.to = next;
    }
    at = next;
  }
  tell();
  return static_cast<std::size_t>(end - position);
}

class PreadMapping final : public Mapping {
 public:
  static absl::StatusOr<std::unique_ptr<Mapping>> Make(std::shared_ptr<Shared> shared,
                                                       std::shared_ptr<File> file, std::string path,
                                                       std::size_t bytes) {
    CORDWOOD_ASSIGN_OR_RETURN(const FileInfo info, file->Info());
    // Addresses, and no memory before something is read.
    void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return ErrnoStatus(errno, "mmap", path);
    auto map = std::unique_ptr<PreadMapping>(
        new PreadMapping(std::move(shared), std::move(file), std::move(path), info, data, bytes));
    map->loaded_to_ = std::min<std::uint64_t>(kPage, bytes);
    map->Load(0, map->loaded_to_);
    if (map->shared_->held < kHeldMax) {
      ++map->shared_->held;
    } else {
      map->file_.reset();
    }
    return map;
  }
  ~PreadMapping() override {
    if (file_ != nullptr) --shared_->held;
    munmap(data_, size_);
  }

  absl::Status Sync(std::size_t, std::size_t) override { return OnlyRead(); }
  absl::Status Populate(std::size_t, std::size_t) override { return OnlyRead(); }

  void Forget() override {
    Drop(loaded_from_, loaded_to_);
    loaded_from_ = 0;
    loaded_to_ = std::min<std::uint64_t>(kPage, size_);
  }
  void Fetch(std::size_t from, std::size_t to) override {
    to = std::min(to, size_);
    if (from >= to || (from >= loaded_from_ && to <= loaded_to_)) return;
    const std::uint64_t begin = from / kPage * kPage;
    const std::uint64_t end = std::min<std::uint64_t>(size_, std::max(to, from + kAhead));
    const bool goes_on = begin >= loaded_from_ && begin <= loaded_to_;
    if (!goes_on) {
      Drop(loaded_from_, loaded_to_);
      loaded_from_ = loaded_to_ = begin;
    } else if (begin - loaded_from_ > kKeptBytes) {
      Drop(loaded_from_, begin);
      loaded_from_ = begin;
    }
    const std::uint64_t whole = std::min<std::uint64_t>(size_, (end + kPage - 1) / kPage * kPage);
    Load(loaded_to_, whole);
    loaded_to_ = whole;
  }

 private:
  PreadMapping(std::shared_ptr<Shared> shared, std::shared_ptr<File> file, std::string path,
               const FileInfo& info, void* data, std::size_t bytes)
      : Mapping(static_cast<std::byte*>(data), bytes),
        shared_(std::move(shared)),
        file_(std::move(file)),
        path_(std::move(path)),
        info_(info) {}

  // What is behind the end of the file, or in one that has gone, is zero.
  void Load(std::uint64_t from, std::uint64_t to) {
    std::shared_ptr<File> file = file_;
    if (file == nullptr) {
      absl::StatusOr<std::unique_ptr<File>> again =
          shared_->folder->OpenFile(path_, OpenMode::kRead);
      const absl::StatusOr<FileInfo> info = again.ok() ? (*again)->Info() : again.status();
      if (!Noted(*shared_, info.status()).ok()) return;
      if (info->inode != info_.inode || info->device != info_.device) return;
      file = *std::move(again);
    }
    Noted(*shared_, ReadWhatCanBe(*shared_, *file, path_, reinterpret_cast<char*>(data_) + from,
                                  to - from, from))
        .IgnoreError();
  }

  // The memory goes back, but for the first page.
  void Drop(std::uint64_t from, std::uint64_t to) {
    from = std::max(from, kPage);
    if (from < to) madvise(data_ + from, to - from, MADV_DONTNEED);
  }

  const std::shared_ptr<Shared> shared_;
  std::shared_ptr<File> file_;  // null: to be opened again
  const std::string path_;
  const FileInfo info_;
  // [loaded_from_, loaded_to_), multiples of a page, has been read.
  std::uint64_t loaded_from_ = 0;
  std::uint64_t loaded_to_ = 0;
};

class PreadFile final : public File {
 public:
  PreadFile(std::shared_ptr<Shared> shared, std::shared_ptr<File> file, std::string path)
      : shared_(std::move(shared)), file_(std::move(file)), path_(std::move(path)) {}

  absl::StatusOr<FileInfo> Info() override { return Noted(*shared_, file_->Info()); }
  absl::StatusOr<std::size_t> ReadAt(void* to, std::size_t bytes, std::uint64_t position) override {
    return Noted(*shared_,
                 ReadWhatCanBe(*shared_, *file_, path_, static_cast<char*>(to), bytes, position));
  }
  absl::Status WriteAt(const void*, std::size_t, std::uint64_t) override { return OnlyRead(); }
  absl::Status Allocate(std::uint64_t) override { return OnlyRead(); }
  absl::Status PunchHole(std::uint64_t, std::uint64_t) override { return OnlyRead(); }
  absl::Status Sync() override { return OnlyRead(); }
  absl::StatusOr<std::unique_ptr<Mapping>> Map(std::size_t bytes, Access access) override {
    if (access != Access::kRead) return OnlyRead();
    return Noted(*shared_, PreadMapping::Make(shared_, file_, path_, bytes));
  }
  absl::StatusOr<bool> TryLock(LockKind kind, std::uint64_t byte) override {
    return Noted(*shared_, file_->TryLock(kind, byte));
  }
  absl::Status Unlock(std::uint64_t byte) override { return file_->Unlock(byte); }
  absl::StatusOr<bool> IsLocked(LockKind kind, std::uint64_t byte) override {
    return Noted(*shared_, file_->IsLocked(kind, byte));
  }
  absl::StatusOr<std::unique_ptr<LockKeeper>> KeepLocks() override { return file_->KeepLocks(); }

 private:
  const std::shared_ptr<Shared> shared_;
  const std::shared_ptr<File> file_;
  const std::string path_;
};

}  // namespace

PreadFolder::PreadFolder(std::shared_ptr<Folder> folder, Tell tell)
    : shared_(
          std::make_shared<Shared>(Shared{.folder = std::move(folder), .tell = std::move(tell)})) {}

const std::string& PreadFolder::path() const { return shared_->folder->path(); }

const absl::Status& PreadFolder::trouble() const { return shared_->trouble; }

absl::StatusOr<std::unique_ptr<File>> PreadFolder::OpenFile(std::string_view path, OpenMode mode) {
  if (mode != OpenMode::kRead) return OnlyRead();
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                            Noted(*shared_, shared_->folder->OpenFile(path, mode)));
  return std::make_unique<PreadFile>(shared_, std::move(file), std::string(path));
}

absl::StatusOr<std::vector<FolderEntry>> PreadFolder::List(std::string_view path) {
  return Noted(*shared_, shared_->folder->List(path));
}

absl::StatusOr<FileSystemInfo> PreadFolder::FileSystem() { return shared_->folder->FileSystem(); }

absl::Status PreadFolder::CreateFolder(std::string_view) { return OnlyRead(); }
absl::Status PreadFolder::Rename(std::string_view, std::string_view) { return OnlyRead(); }
absl::Status PreadFolder::RenameNew(std::string_view, std::string_view) { return OnlyRead(); }
absl::Status PreadFolder::Exchange(std::string_view, std::string_view) { return OnlyRead(); }
absl::Status PreadFolder::Unlink(std::string_view) { return OnlyRead(); }
absl::Status PreadFolder::RemoveFolder(std::string_view) { return OnlyRead(); }
absl::Status PreadFolder::SyncFolder(std::string_view) { return OnlyRead(); }
absl::Status PreadFolder::SyncFileSystem() { return OnlyRead(); }

}  // namespace cordwood::os
