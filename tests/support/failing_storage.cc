#include "tests/support/failing_storage.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"
#include "tests/support/files.h"
#include "tests/support/folder_decorator.h"

namespace cordwood::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPage = 4096;

std::uint64_t RoundUpToPage(std::uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// Whole pages of a map, as the kernel does it: while others write there. By way of a file, as
// ThreadSanitizer would call a plain copy a race, and this one is not the library's.
std::string CopyBesideWriters(const std::byte* from, std::size_t bytes) {
  std::string copy(bytes, '\0');
  const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  // Short where the file ends before the map does.
  if (pread(memory, copy.data(), bytes, reinterpret_cast<std::intptr_t>(from)) <= 0) std::abort();
  close(memory);
  return copy;
}

// 0: there is no such file.
std::uint64_t InodeOf(const fs::path& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) ? info.st_ino : 0;
}

std::string FolderOf(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? std::string_view() : path.substr(0, slash));
}

}  // namespace

class FailingStorage::Machine {
 public:
  // Records the operation and says whether it may be done.
  absl::Status Begin(Operation operation) {
    std::function<void(const Operation&)> hook;
    {
      std::lock_guard lock(mutex_);
      hook = hook_;
    }
    if (hook) hook(operation);
    std::lock_guard lock(mutex_);
    absl::Status status;
    for (Failure& failure : failures_) {
      if (failure.op != operation.op || operation.path.find(failure.where) == std::string::npos) {
        continue;
      }
      if (failure.nth > 1) {
        --failure.nth;
      } else if (failure.times > 0) {
        if (failure.times != kAlways) --failure.times;
        status.Update(failure.status);
      }
    }
    operation.ok = status.ok();
    operations_.push_back(std::move(operation));
    return status;
  }

  // ---- The bytes of files.
  void Track(std::uint64_t inode, const fs::path& path, bool is_new) {
    std::lock_guard lock(mutex_);
    if (is_new) files_.erase(inode);
    if (!is_new && files_.contains(inode)) return;
    DiskFile& file = files_[inode];
    if (!is_new) file.bytes = ReadAll(path);
    file.size = file.bytes.size();
  }
  void Resize(std::uint64_t inode, std::uint64_t at_least) {
    std::lock_guard lock(mutex_);
    if (const auto it = files_.find(inode); it != files_.end()) {
      it->second.size = std::max(it->second.size, at_least);
    }
  }
  void Synced(std::uint64_t inode, const char* bytes, std::uint64_t from, std::uint64_t to) {
    std::lock_guard lock(mutex_);
    SyncedLocked(inode, bytes, from, to);
  }
  void SyncedLocked(std::uint64_t inode, const char* bytes, std::uint64_t from, std::uint64_t to) {
    const auto it = files_.find(inode);
    if (it == files_.end()) return;
    DiskFile& file = it->second;
    if (file.bytes.size() < file.size) file.bytes.resize(file.size);
    to = std::min(to, file.size);
    for (std::uint64_t page = from / kPage; page * kPage < to; ++page) {
      if (file.lost.contains(page)) continue;
      const std::uint64_t begin = page * kPage;
      const std::uint64_t count = std::min(kPage, file.size - begin);
      std::copy_n(bytes + begin, count, file.bytes.begin() + static_cast<std::ptrdiff_t>(begin));
    }
  }
  void NotSynced(std::uint64_t inode, std::uint64_t from, std::uint64_t to) {
    std::lock_guard lock(mutex_);
    const auto it = files_.find(inode);
    if (it == files_.end()) return;
    for (std::uint64_t page = from / kPage; page * kPage < to; ++page) it->second.lost.insert(page);
  }
  void WriteBack(const fs::path& path) {
    const std::string bytes = ReadAll(path);
    Synced(InodeOf(path), bytes.data(), 0, bytes.size());
  }

  // ---- Names.
  void Made(const std::string& folder, const fs::path& path) {
    std::lock_guard lock(mutex_);
    names_.push_back({folder, [path] { fs::remove_all(path); }});
  }
  // Before it is gone: what the disk has of it, if it is a file.
  std::optional<std::string> Image(const fs::path& path) {
    std::lock_guard lock(mutex_);
    const std::uint64_t inode = InodeOf(path);
    if (inode == 0) return std::nullopt;
    const auto it = files_.find(inode);
    return it == files_.end() ? ReadAll(path) : it->second.bytes;
  }
  void Gone(const std::string& folder, const fs::path& path, std::uint64_t inode,
            std::optional<std::string> image) {
    std::lock_guard lock(mutex_);
    files_.erase(inode);
    if (!image) return;
    names_.push_back({folder, [path, bytes = *std::move(image)] { WriteAll(path, bytes); }});
  }
  void Moved(const std::string& folder, const fs::path& from, const fs::path& to) {
    std::lock_guard lock(mutex_);
    names_.push_back({folder, [from, to] { fs::rename(to, from); }});
  }
  void FolderSynced(const std::string& folder) {
    std::lock_guard lock(mutex_);
    std::erase_if(names_, [&](const NameChange& change) { return change.folder == folder; });
  }

  void EverythingSynced() {
    std::lock_guard lock(mutex_);
    for (const fs::path& root : roots_) {
      for (const auto& entry : fs::recursive_directory_iterator(root)) {
        if (InodeOf(entry.path()) == 0) continue;
        const std::string bytes = ReadAll(entry.path());
        SyncedLocked(InodeOf(entry.path()), bytes.data(), 0, bytes.size());
      }
    }
    names_.clear();
  }

  void PowerCut() {
    std::lock_guard lock(mutex_);
    for (const fs::path& root : roots_) {
      for (const auto& entry : fs::recursive_directory_iterator(root)) {
        const auto it = files_.find(InodeOf(entry.path()));
        if (it != files_.end()) WriteAll(entry.path(), it->second.bytes);
      }
    }
    for (auto change = names_.rbegin(); change != names_.rend(); ++change) change->undo();
    names_.clear();
    files_.clear();
  }

  void AddRoot(const fs::path& path) {
    std::lock_guard lock(mutex_);
    roots_.insert(path);
  }

 private:
  friend class FailingStorage;
  struct DiskFile {
    std::string bytes;             // on the disk
    std::uint64_t size = 0;        // of the file, once a sync brings that to the disk
    std::set<std::uint64_t> lost;  // pages whose sync failed
  };
  struct NameChange {
    std::string folder;
    std::function<void()> undo;
  };

  std::mutex mutex_;
  std::vector<Failure> failures_;
  std::function<void(const Operation&)> hook_;
  std::vector<Operation> operations_;
  std::map<std::uint64_t, DiskFile> files_;  // by inode
  std::vector<NameChange> names_;            // not synced yet
  std::set<fs::path> roots_;
};

// ---- Maps, files and folders

class FailingStorage::FailingMapping final : public os::Mapping {
 public:
  FailingMapping(std::shared_ptr<Machine> machine, std::unique_ptr<os::Mapping> real,
                 std::string path, std::uint64_t inode)
      : Mapping(real->data(), real->size()),
        machine_(std::move(machine)),
        real_(std::move(real)),
        path_(std::move(path)),
        inode_(inode) {}

  absl::Status Sync(std::size_t from, std::size_t to) override {
    absl::Status status = machine_->Begin(
        {.op = Op::kMapSync, .path = path_, .inode = inode_, .from = from, .to = to});
    if (status.ok()) {
      const std::string bytes = CopyBesideWriters(data(), RoundUpToPage(to));
      machine_->Synced(inode_, bytes.data(), from, to);
    } else {
      machine_->NotSynced(inode_, from, to);
    }
    return status;
  }
  absl::Status Populate(std::size_t from, std::size_t to) override {
    return real_->Populate(from, to);
  }

 private:
  const std::shared_ptr<Machine> machine_;
  const std::unique_ptr<os::Mapping> real_;
  const std::string path_;
  const std::uint64_t inode_;
};

class FailingStorage::FailingFile final : public FileDecorator {
 public:
  FailingFile(std::shared_ptr<Machine> machine, std::unique_ptr<os::File> real, std::string path,
              std::uint64_t inode)
      : FileDecorator(std::move(real)),
        machine_(std::move(machine)),
        path_(std::move(path)),
        inode_(inode) {}

  absl::Status WriteAt(const void* from, std::size_t bytes, std::uint64_t at) override {
    CORDWOOD_RETURN_IF_ERROR(machine_->Begin(
        {.op = Op::kWrite, .path = path_, .inode = inode_, .from = at, .to = at + bytes}));
    CORDWOOD_RETURN_IF_ERROR(FileDecorator::WriteAt(from, bytes, at));
    machine_->Resize(inode_, at + bytes);
    return absl::OkStatus();
  }
  absl::Status Allocate(std::uint64_t bytes) override {
    CORDWOOD_RETURN_IF_ERROR(machine_->Begin(
        {.op = Op::kAllocate, .path = path_, .inode = inode_, .from = 0, .to = bytes}));
    CORDWOOD_RETURN_IF_ERROR(FileDecorator::Allocate(bytes));
    machine_->Resize(inode_, bytes);
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, FileDecorator::Info());
    absl::Status status = machine_->Begin(
        {.op = Op::kFileSync, .path = path_, .inode = inode_, .from = 0, .to = info.size});
    if (!status.ok()) {
      machine_->NotSynced(inode_, 0, info.size);
      return status;
    }
    std::string bytes(info.size, '\0');
    CORDWOOD_RETURN_IF_ERROR(FileDecorator::ReadAt(bytes.data(), bytes.size(), 0).status());
    machine_->Synced(inode_, bytes.data(), 0, bytes.size());
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<os::Mapping>> Map(std::size_t bytes, os::Access access) override {
    CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::Mapping> map, FileDecorator::Map(bytes, access));
    return std::make_unique<FailingMapping>(machine_, std::move(map), path_, inode_);
  }

 private:
  const std::shared_ptr<Machine> machine_;
  const std::string path_;
  const std::uint64_t inode_;
};

class FailingStorage::FailingFolder final : public os::Folder {
 public:
  FailingFolder(std::shared_ptr<Machine> machine, std::unique_ptr<os::Folder> real)
      : machine_(std::move(machine)), real_(std::move(real)) {
    machine_->AddRoot(real_->path());
  }

  const std::string& path() const override { return real_->path(); }

  absl::StatusOr<std::unique_ptr<os::File>> OpenFile(std::string_view path,
                                                     os::OpenMode mode) override {
    const bool is_new = mode == os::OpenMode::kCreate;
    if (is_new) {
      CORDWOOD_RETURN_IF_ERROR(machine_->Begin({.op = Op::kCreate, .path = std::string(path)}));
    }
    CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file, real_->OpenFile(path, mode));
    CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file->Info());
    machine_->Track(info.inode, Full(path), is_new);
    if (is_new) machine_->Made(FolderOf(path), Full(path));
    return std::make_unique<FailingFile>(machine_, std::move(file), std::string(path), info.inode);
  }
  absl::Status CreateFolder(std::string_view path) override {
    CORDWOOD_RETURN_IF_ERROR(machine_->Begin({.op = Op::kCreate, .path = std::string(path)}));
    CORDWOOD_RETURN_IF_ERROR(real_->CreateFolder(path));
    machine_->Made(FolderOf(path), Full(path));
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<os::FolderEntry>> List(std::string_view path) override {
    return real_->List(path);
  }
  absl::Status Rename(std::string_view from, std::string_view to) override {
    return Move(from, to, /*replace=*/true);
  }
  absl::Status RenameNew(std::string_view from, std::string_view to) override {
    return Move(from, to, /*replace=*/false);
  }
  absl::Status Exchange(std::string_view, std::string_view) override {
    return absl::UnimplementedError("not simulated");
  }
  absl::Status Unlink(std::string_view path) override {
    CORDWOOD_RETURN_IF_ERROR(machine_->Begin({.op = Op::kUnlink, .path = std::string(path)}));
    const std::uint64_t inode = InodeOf(Full(path));
    std::optional<std::string> image = machine_->Image(Full(path));
    CORDWOOD_RETURN_IF_ERROR(real_->Unlink(path));
    machine_->Gone(FolderOf(path), Full(path), inode, std::move(image));
    return absl::OkStatus();
  }
  absl::Status RemoveFolder(std::string_view path) override { return real_->RemoveFolder(path); }
  absl::Status SyncFolder(std::string_view path) override {
    CORDWOOD_RETURN_IF_ERROR(machine_->Begin({.op = Op::kSyncFolder, .path = std::string(path)}));
    CORDWOOD_RETURN_IF_ERROR(real_->List(path).status());  // it must be there
    machine_->FolderSynced(std::string(path));
    return absl::OkStatus();
  }
  absl::Status SyncFileSystem() override {
    CORDWOOD_RETURN_IF_ERROR(machine_->Begin({.op = Op::kSyncFileSystem, .path = path()}));
    machine_->EverythingSynced();
    return absl::OkStatus();
  }
  absl::StatusOr<os::FileSystemInfo> FileSystem() override { return real_->FileSystem(); }

 private:
  fs::path Full(std::string_view relative) const { return fs::path(path()) / relative; }

  absl::Status Move(std::string_view from, std::string_view to, bool replace) {
    CORDWOOD_RETURN_IF_ERROR(machine_->Begin(
        {.op = Op::kRename, .path = std::string(from), .new_path = std::string(to)}));
    const std::uint64_t replaced = InodeOf(Full(to));
    std::optional<std::string> image = machine_->Image(Full(to));
    CORDWOOD_RETURN_IF_ERROR(replace ? real_->Rename(from, to) : real_->RenameNew(from, to));
    if (replaced != 0) machine_->Gone(FolderOf(to), Full(to), replaced, std::move(image));
    machine_->Moved(FolderOf(to), Full(from), Full(to));
    return absl::OkStatus();
  }

  const std::shared_ptr<Machine> machine_;
  const std::unique_ptr<os::Folder> real_;
};

// ---- The storage

FailingStorage::FailingStorage()
    : real_(Storage::OperatingSystem()), machine_(std::make_shared<Machine>()) {}
FailingStorage::~FailingStorage() = default;

std::shared_ptr<FailingStorage> FailingStorage::Make() {
  return std::make_shared<FailingStorage>();
}

void FailingStorage::Fail(Failure failure) {
  std::lock_guard lock(machine_->mutex_);
  machine_->failures_.push_back(std::move(failure));
}

void FailingStorage::FailEverything() {
  for (const Op op : {Op::kMapSync, Op::kFileSync, Op::kSyncFolder, Op::kSyncFileSystem,
                      Op::kAllocate, Op::kWrite, Op::kCreate, Op::kRename, Op::kUnlink}) {
    Fail({.op = op, .times = kAlways});
  }
}

void FailingStorage::Heal() {
  std::lock_guard lock(machine_->mutex_);
  machine_->failures_.clear();
}

void FailingStorage::Before(std::function<void(const Operation&)> hook) {
  std::lock_guard lock(machine_->mutex_);
  machine_->hook_ = std::move(hook);
}

void FailingStorage::DieBefore(int nth) {
  // Shared, as the hook is copied for each call.
  Before([left = std::make_shared<std::atomic<int>>(nth)](const Operation&) {
    if (--*left == 0) kill(getpid(), SIGKILL);
  });
}

std::vector<FailingStorage::Operation> FailingStorage::operations() const {
  std::lock_guard lock(machine_->mutex_);
  return machine_->operations_;
}

void FailingStorage::Forget() {
  std::lock_guard lock(machine_->mutex_);
  machine_->operations_.clear();
}

int FailingStorage::Count(Op op, std::string_view where) const {
  std::lock_guard lock(machine_->mutex_);
  return static_cast<int>(std::count_if(
      machine_->operations_.begin(), machine_->operations_.end(), [&](const Operation& operation) {
        return operation.op == op && operation.path.find(where) != std::string::npos;
      }));
}

int FailingStorage::Find(Op op, std::string_view where, int from) const {
  std::lock_guard lock(machine_->mutex_);
  const auto& all = machine_->operations_;
  for (std::size_t i = static_cast<std::size_t>(from); i < all.size(); ++i) {
    if (all[i].op == op && all[i].path.find(where) != std::string::npos) return static_cast<int>(i);
  }
  return -1;
}

void FailingStorage::SettleNames() {
  std::lock_guard lock(machine_->mutex_);
  machine_->names_.clear();
}

void FailingStorage::WriteBack(const fs::path& file) { machine_->WriteBack(file); }

void FailingStorage::PowerCut() {
  machine_->PowerCut();
  ++boots_;
}

void FailingStorage::Advance(absl::Duration by) {
  SetClock(by);
  passed_ns_ += absl::ToInt64Nanoseconds(by);
}

void FailingStorage::SetClock(absl::Duration by) { shift_ns_ += absl::ToInt64Nanoseconds(by); }

absl::StatusOr<std::unique_ptr<os::Folder>> FailingStorage::OpenFolder(
    const fs::path& path, const os::OpenFolderOptions& options) {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::Folder> folder, real_->OpenFolder(path, options));
  return std::make_unique<FailingFolder>(machine_, std::move(folder));
}

std::int64_t FailingStorage::NowNanos() { return real_->NowNanos() + shift_ns_; }
std::int64_t FailingStorage::ElapsedNanos() { return real_->ElapsedNanos() + passed_ns_; }

os::Bits128 FailingStorage::Random128() { return real_->Random128(); }

absl::StatusOr<os::Bits128> FailingStorage::BootId() {
  CORDWOOD_ASSIGN_OR_RETURN(os::Bits128 id, real_->BootId());
  id[0] = static_cast<std::uint8_t>(id[0] + boots_);
  return id;
}

}  // namespace cordwood::testing
