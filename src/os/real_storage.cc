// The real back end of Storage: every system call about files that cordwood makes.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/storage.h"
#include "cordwood/status_macros.h"
#include "os/errno_status.h"

namespace cordwood {
namespace os {
namespace {

// A descriptor that is closed when it goes.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  void Release() { fd_ = -1; }

 private:
  int fd_;
};

// Calls f again while a signal interrupts it.
template <class F>
auto Retry(F f) {
  for (;;) {
    const auto result = f();
    if (result != -1 || errno != EINTR) return result;
  }
}

std::string Join(std::string_view folder, std::string_view path) {
  return absl::StrCat(absl::string_view(folder.data(), folder.size()), "/",
                      absl::string_view(path.data(), path.size()));
}

std::size_t PageBytes() {
  static const std::size_t bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

class RealMapping final : public Mapping {
 public:
  RealMapping(std::byte* data, std::size_t size, std::string path)
      : Mapping(data, size), path_(std::move(path)) {}
  ~RealMapping() override { munmap(data_, size_); }

  absl::Status Sync(std::size_t from, std::size_t to) override {
    from &= ~(PageBytes() - 1);
    if (to <= from) return absl::OkStatus();
    if (Retry([&] { return msync(data_ + from, to - from, MS_SYNC); }) == 0) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, "msync", path_);
  }

  absl::Status Populate(std::size_t from, std::size_t to) override {
    from &= ~(PageBytes() - 1);
    if (to <= from) return absl::OkStatus();
    if (Retry([&] { return madvise(data_ + from, to - from, MADV_POPULATE_WRITE); }) == 0) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, "madvise", path_);
  }

 private:
  const std::string path_;
};

// The open file description lives as long as a map of it: a page that nobody can
// touch and no child inherits (shown: the lock dies with the process, also when a
// forked child lives on).
class RealLockKeeper final : public LockKeeper {
 public:
  RealLockKeeper(void* page, std::size_t size) : page_(page), size_(size), owner_(getpid()) {}
  ~RealLockKeeper() override {
    // In a forked child the page is not there; something else may be at its address.
    if (getpid() == owner_) munmap(page_, size_);
  }

 private:
  void* const page_;
  const std::size_t size_;
  const pid_t owner_;
};

class RealFile final : public File {
 public:
  RealFile(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  absl::StatusOr<FileInfo> Info() override {
    struct stat info;
    if (fstat(fd_.get(), &info) != 0) return ErrnoStatus(errno, "fstat", path_);
    return FileInfo{static_cast<std::uint64_t>(info.st_size), info.st_ino, info.st_dev,
                    static_cast<int>(info.st_mode & 0777)};
  }

  absl::StatusOr<std::size_t> ReadAt(void* to, std::size_t bytes, std::uint64_t position) override {
    std::size_t done = 0;
    while (done < bytes) {
      const ssize_t n = Retry([&] {
        return pread(fd_.get(), static_cast<char*>(to) + done, bytes - done,
                     static_cast<off_t>(position + done));
      });
      if (n < 0) return ErrnoStatus(errno, "pread", path_);
      if (n == 0) break;
      done += static_cast<std::size_t>(n);
    }
    return done;
  }

  absl::Status WriteAt(const void* from, std::size_t bytes, std::uint64_t position) override {
    CORDWOOD_RETURN_IF_ERROR(CheckFileSizeLimit(position + bytes));
    std::size_t done = 0;
    while (done < bytes) {
      const ssize_t n = Retry([&] {
        return pwrite(fd_.get(), static_cast<const char*>(from) + done, bytes - done,
                      static_cast<off_t>(position + done));
      });
      if (n <= 0) return ErrnoStatus(n < 0 ? errno : EIO, "pwrite", path_);
      done += static_cast<std::size_t>(n);
    }
    return absl::OkStatus();
  }

  absl::Status Allocate(std::uint64_t bytes) override {
    CORDWOOD_RETURN_IF_ERROR(CheckFileSizeLimit(bytes));
    // The system call itself, never glibc's emulation: that writes into the file.
    if (Retry([&] { return fallocate(fd_.get(), 0, 0, static_cast<off_t>(bytes)); }) == 0) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, "fallocate", path_);
  }

  absl::Status PunchHole(std::uint64_t from, std::uint64_t to) override {
    if (to <= from) return absl::OkStatus();
    if (Retry([&] {
          return fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           static_cast<off_t>(from), static_cast<off_t>(to - from));
        }) == 0) {
      return absl::OkStatus();
    }
    return ErrnoStatus(errno, "fallocate", path_);
  }

  absl::Status Sync() override {
    if (Retry([&] { return fdatasync(fd_.get()); }) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, "fdatasync", path_);
  }

  absl::StatusOr<std::unique_ptr<Mapping>> Map(std::size_t bytes, Access access) override {
    const int protection = access == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
    void* data = mmap(nullptr, bytes, protection, MAP_SHARED, fd_.get(), 0);
    if (data == MAP_FAILED) return ErrnoStatus(errno, "mmap", path_);
    return std::make_unique<RealMapping>(static_cast<std::byte*>(data), bytes, path_);
  }

  absl::StatusOr<bool> TryLock(LockKind kind, std::uint64_t byte) override {
    return SetLock(kind == LockKind::kShared ? F_RDLCK : F_WRLCK, byte);
  }
  absl::Status Unlock(std::uint64_t byte) override { return SetLock(F_UNLCK, byte).status(); }

  absl::StatusOr<bool> IsLocked(LockKind kind, std::uint64_t byte) override {
    struct flock lock = LockOf(kind == LockKind::kShared ? F_RDLCK : F_WRLCK, byte);
    if (Retry([&] { return fcntl(fd_.get(), F_OFD_GETLK, &lock); }) != 0) {
      return ErrnoStatus(errno, "fcntl(F_OFD_GETLK)", path_);
    }
    return lock.l_type != F_UNLCK;
  }

  absl::StatusOr<std::unique_ptr<LockKeeper>> KeepLocks() override {
    void* page = mmap(nullptr, PageBytes(), PROT_NONE, MAP_SHARED, fd_.get(), 0);
    if (page == MAP_FAILED) return ErrnoStatus(errno, "mmap", path_);
    if (madvise(page, PageBytes(), MADV_DONTFORK) != 0) {
      const int error = errno;
      munmap(page, PageBytes());
      return ErrnoStatus(error, "madvise", path_);
    }
    return std::make_unique<RealLockKeeper>(page, PageBytes());
  }

 private:
  // Past the limit the system would send SIGXFSZ.
  absl::Status CheckFileSizeLimit(std::uint64_t bytes) const {
    rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0) return ErrnoStatus(errno, "getrlimit", path_);
    if (limit.rlim_cur == RLIM_INFINITY || bytes <= limit.rlim_cur) return absl::OkStatus();
    return absl::ResourceExhaustedError(absl::StrCat(path_, ": ", bytes,
                                                     " bytes are more than the file-size limit of ",
                                                     limit.rlim_cur, " (ulimit -f)"));
  }

  static struct flock LockOf(int type, std::uint64_t byte) {
    struct flock lock = {};
    lock.l_type = static_cast<short>(type);
    lock.l_whence = SEEK_SET;
    lock.l_start = static_cast<off_t>(byte);
    lock.l_len = 1;
    return lock;
  }

  absl::StatusOr<bool> SetLock(int type, std::uint64_t byte) {
    struct flock lock = LockOf(type, byte);
    if (Retry([&] { return fcntl(fd_.get(), F_OFD_SETLK, &lock); }) == 0) return true;
    if (errno == EAGAIN || errno == EACCES) return false;
    return ErrnoStatus(errno, "fcntl(F_OFD_SETLK)", path_);
  }

  Fd fd_;
  const std::string path_;
};

int FolderMode(int file_mode) { return file_mode | ((file_mode & 0444) >> 2); }

class RealFolder final : public Folder {
 public:
  RealFolder(Fd fd, std::string path, int file_mode)
      : fd_(std::move(fd)), path_(std::move(path)), file_mode_(file_mode) {}

  const std::string& path() const override { return path_; }

  absl::StatusOr<std::unique_ptr<File>> OpenFile(std::string_view path, OpenMode mode) override {
    int flags = mode == OpenMode::kRead ? O_RDONLY : O_RDWR;
    if (mode == OpenMode::kCreate) flags |= O_CREAT | O_EXCL;
    CORDWOOD_ASSIGN_OR_RETURN(Fd fd, OpenBeneath(path, flags | O_NONBLOCK | O_NOCTTY, "open"));
    const std::string full = Join(path_, path);
    struct stat info;
    if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, "fstat", full);
    if (!S_ISREG(info.st_mode)) {
      return absl::FailedPreconditionError(absl::StrCat(full, ": not a plain file; remove it"));
    }
    if (info.st_nlink == 0) return ErrnoStatus(ENOENT, "open", full);  // unlinked meanwhile
    if (info.st_nlink != 1) {
      return absl::FailedPreconditionError(absl::StrCat(
          full, ": has ", info.st_nlink, " names (hard links); a file of ours has one"));
    }
    if (mode == OpenMode::kCreate) {
      if (absl::Status prepared = PrepareNewFile(fd, full); !prepared.ok()) {
        Unlink(path).IgnoreError();  // so that the next try says the same, and not that it exists
        return prepared;
      }
    }
    return std::make_unique<RealFile>(std::move(fd), full);
  }

  absl::Status CreateFolder(std::string_view path) override {
    CORDWOOD_ASSIGN_OR_RETURN(Place place, PlaceOf(path, "mkdir"));
    const std::string full = Join(path_, path);
    if (mkdirat(place.parent.get(), place.name.c_str(), 0700) != 0) {
      return ErrnoStatus(errno, "mkdir", full);
    }
    // After the umask, which is the host program's.
    const auto mode = static_cast<mode_t>(FolderMode(file_mode_));
    if (fchmodat(place.parent.get(), place.name.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0) {
      return ErrnoStatus(errno, "chmod", full);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<FolderEntry>> List(std::string_view path) override {
    CORDWOOD_ASSIGN_OR_RETURN(Fd fd, OpenBeneath(path, O_RDONLY | O_DIRECTORY, "open"));
    const std::string full = Join(path_, path);
    DIR* stream = fdopendir(fd.get());
    if (stream == nullptr) return ErrnoStatus(errno, "fdopendir", full);
    fd.Release();  // the stream closes it
    std::vector<FolderEntry> entries;
    int error = 0;
    for (;;) {
      errno = 0;
      const dirent* entry = readdir(stream);
      if (entry == nullptr) {
        error = errno;
        break;
      }
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      bool is_folder = entry->d_type == DT_DIR;
      if (entry->d_type == DT_UNKNOWN) {
        struct stat info;
        if (fstatat(dirfd(stream), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
        is_folder = S_ISDIR(info.st_mode);
      }
      entries.push_back({std::string(name), is_folder});
    }
    closedir(stream);
    if (error != 0) return ErrnoStatus(error, "readdir", full);
    return entries;
  }

  absl::Status Rename(std::string_view from, std::string_view to) override {
    return RenameWith(from, to, 0);
  }
  absl::Status RenameNew(std::string_view from, std::string_view to) override {
    return RenameWith(from, to, RENAME_NOREPLACE);
  }
  absl::Status Exchange(std::string_view a, std::string_view b) override {
    return RenameWith(a, b, RENAME_EXCHANGE);
  }

  absl::Status Unlink(std::string_view path) override { return Remove(path, 0, "unlink"); }
  absl::Status RemoveFolder(std::string_view path) override {
    return Remove(path, AT_REMOVEDIR, "rmdir");
  }

  absl::Status SyncFolder(std::string_view path) override {
    CORDWOOD_ASSIGN_OR_RETURN(Fd fd, OpenBeneath(path, O_RDONLY | O_DIRECTORY, "open"));
    if (Retry([&] { return fsync(fd.get()); }) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, "fsync", Join(path_, path));
  }

  absl::Status SyncFileSystem() override {
    if (Retry([&] { return syncfs(fd_.get()); }) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, "syncfs", path_);
  }

  absl::StatusOr<FileSystemInfo> FileSystem() override {
    struct statfs info;
    if (Retry([&] { return fstatfs(fd_.get(), &info); }) != 0) {
      return ErrnoStatus(errno, "fstatfs", path_);
    }
    struct Known {
      std::uint32_t magic;
      const char* name;
      bool shared;
      bool in_memory;
    };
    static constexpr Known kKnown[] = {
        {EXT4_SUPER_MAGIC, "ext4", false, false},
        {XFS_SUPER_MAGIC, "xfs", false, false},
        {BTRFS_SUPER_MAGIC, "btrfs", false, false},
        {OVERLAYFS_SUPER_MAGIC, "overlay", false, false},
        {TMPFS_MAGIC, "tmpfs", false, true},
        {RAMFS_MAGIC, "ramfs", false, true},
        {NFS_SUPER_MAGIC, "nfs", true, false},
        {SMB_SUPER_MAGIC, "smb", true, false},
        {SMB2_SUPER_MAGIC, "smb2", true, false},
        {CIFS_SUPER_MAGIC, "cifs", true, false},
        {V9FS_MAGIC, "9p", true, false},
        {FUSE_SUPER_MAGIC, "fuse", true, false},
        {CEPH_SUPER_MAGIC, "ceph", true, false},
        {AFS_SUPER_MAGIC, "afs", true, false},
        {CODA_SUPER_MAGIC, "coda", true, false},
        {0x0BD00BD0, "lustre", true, false},
        {0x7461636f, "ocfs2", true, false},
        {0x01161970, "gfs2", true, false},
        {0x786f4256, "vboxsf", true, false},
    };
    const auto magic = static_cast<std::uint32_t>(info.f_type);
    FileSystemInfo found = {.name = absl::StrCat("type ", absl::Hex(magic))};
    for (const Known& known : kKnown) {
      if (known.magic == magic) found = {known.name, known.shared, known.in_memory};
    }
    const auto free_blocks = static_cast<std::int64_t>(info.f_bavail);
    const auto block_bytes = static_cast<std::int64_t>(info.f_bsize);
    if (info.f_blocks != 0) found.free_bytes = free_blocks * block_bytes;
    return found;
  }

 private:
  struct Place {
    Fd parent;
    std::string name;
  };

  absl::StatusOr<Fd> OpenBeneath(std::string_view path, int flags, std::string_view verb) const {
    const std::string relative(path.empty() ? "." : path);
    open_how how = {};
    how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | O_NOFOLLOW);
    if ((flags & O_CREAT) != 0) how.mode = 0600;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const long fd =
        Retry([&] { return syscall(SYS_openat2, fd_.get(), relative.c_str(), &how, sizeof how); });
    if (fd < 0) return ErrnoStatus(errno, verb, Join(path_, path));
    return Fd(static_cast<int>(fd));
  }

  absl::StatusOr<Place> PlaceOf(std::string_view path, std::string_view verb) const {
    if (path.starts_with('/')) return ErrnoStatus(EXDEV, verb, path);
    const std::size_t slash = path.rfind('/');
    const std::string_view folder =
        slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
    CORDWOOD_ASSIGN_OR_RETURN(Fd parent, OpenBeneath(folder, O_PATH | O_DIRECTORY, verb));
    return Place{std::move(parent),
                 std::string(slash == std::string_view::npos ? path : path.substr(slash + 1))};
  }

  absl::Status PrepareNewFile(const Fd& fd, const std::string& full) const {
    if (fchmod(fd.get(), static_cast<mode_t>(file_mode_)) != 0) {
      return ErrnoStatus(errno, "fchmod", full);
    }
    struct statfs info;
    if (fstatfs(fd.get(), &info) != 0) return ErrnoStatus(errno, "fstatfs", full);
    if (static_cast<std::uint32_t>(info.f_type) != BTRFS_SUPER_MAGIC) return absl::OkStatus();
    // On a copy-on-write file system an overwrite on a full disk is a SIGBUS.
    int flags = 0;
    if (ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) == 0) {
      flags |= FS_NOCOW_FL;
      if (ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) == 0 &&
          ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_NOCOW_FL) != 0) {
        return absl::OkStatus();
      }
    }
    return absl::FailedPreconditionError(absl::StrCat(
        full, ": copy-on-write cannot be turned off here; choose another file system"));
  }

  absl::Status RenameWith(std::string_view from, std::string_view to, unsigned flags) {
    CORDWOOD_ASSIGN_OR_RETURN(Place source, PlaceOf(from, "rename"));
    CORDWOOD_ASSIGN_OR_RETURN(Place target, PlaceOf(to, "rename"));
    if (renameat2(source.parent.get(), source.name.c_str(), target.parent.get(),
                  target.name.c_str(), flags) == 0) {
      return absl::OkStatus();
    }
    return ErrnoStatus(
        errno, "rename",
        absl::StrCat(Join(path_, from), " to ", absl::string_view(to.data(), to.size())));
  }

  absl::Status Remove(std::string_view path, int flags, std::string_view verb) {
    CORDWOOD_ASSIGN_OR_RETURN(Place place, PlaceOf(path, verb));
    if (unlinkat(place.parent.get(), place.name.c_str(), flags) == 0) return absl::OkStatus();
    return ErrnoStatus(errno, verb, Join(path_, path));
  }

  Fd fd_;
  const std::string path_;
  const int file_mode_;
};

class RealStorage final : public Storage {
 public:
  absl::StatusOr<std::unique_ptr<Folder>> OpenFolder(const std::filesystem::path& path,
                                                     const OpenFolderOptions& options) override {
    if (path.empty()) return absl::InvalidArgumentError("the path of the directory is empty");
    const int mode = FolderMode(options.file_mode);
    bool made = false;
    if (options.create) {
      made = mkdir(path.c_str(), 0700) == 0;
      if (!made && errno != EEXIST) return ErrnoStatus(errno, "mkdir", path.string());
    }
    Fd fd(Retry([&] { return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (fd.get() < 0) return ErrnoStatus(errno, "open", path.string());
    if (made && fchmod(fd.get(), static_cast<mode_t>(mode)) != 0) {
      return ErrnoStatus(errno, "chmod", path.string());
    }
    Fd parent(options.create ? openat(fd.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1);
    auto folder = std::make_unique<RealFolder>(std::move(fd), path.string(), options.file_mode);
    if (parent.get() < 0) return folder;
    // The name in its parent. Of one in which nothing is, the maker may have died before that.
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<FolderEntry> entries, folder->List(""));
    if (entries.empty() && fsync(parent.get()) != 0) {
      return ErrnoStatus(errno, "fsync of the parent of", path.string());
    }
    return folder;
  }

  std::int64_t NowNanos() override { return ReadClock(CLOCK_REALTIME); }

  Bits128 Random128() override {
    Bits128 bits;
    std::size_t done = 0;
    while (done < bits.size()) {
      const ssize_t n = Retry([&] { return getrandom(bits.data() + done, bits.size() - done, 0); });
      if (n > 0) done += static_cast<std::size_t>(n);
    }
    return bits;
  }

  absl::StatusOr<Bits128> BootId() override {
    static constexpr char kPath[] = "/proc/sys/kernel/random/boot_id";
    const Fd fd(open(kPath, O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) return ErrnoStatus(errno, "open", kPath);
    char text[37] = {};
    if (Retry([&] { return read(fd.get(), text, 36); }) != 36) {
      return absl::UnavailableError(absl::StrCat(kPath, ": not 36 characters"));
    }
    Bits128 id = {};
    std::size_t digits = 0;
    for (const char* c = text; *c != 0; ++c) {
      if (*c == '-') continue;
      const int value = *c <= '9' ? *c - '0' : (*c | 0x20) - 'a' + 10;
      if (value < 0 || value > 15 || digits >= 32) {
        return absl::UnavailableError(absl::StrCat(kPath, ": not a boot id"));
      }
      id[digits / 2] = static_cast<std::uint8_t>(id[digits / 2] << 4 | value);
      ++digits;
    }
    return id;
  }

  bool is_operating_system() const override { return true; }
};

}  // namespace
}  // namespace os

std::int64_t Storage::ElapsedNanos() { return os::ReadClock(CLOCK_BOOTTIME); }

std::shared_ptr<Storage> Storage::OperatingSystem() {
  // Stateless, so the one that all share is no hidden state.
  static const std::shared_ptr<Storage> storage = std::make_shared<os::RealStorage>();
  return storage;
}

}  // namespace cordwood
