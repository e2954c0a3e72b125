// Storage is everything that cordwood asks of an operating system about files:
// open, allocate, map, sync, rename, unlink, sync of a folder, lock, clock, random.
// Nothing in the library goes around it, so a back end that fails on demand or a
// simulated disk sees every operation, stores through a map included.
//
//   std::shared_ptr<Storage> storage = Storage::OperatingSystem();
//   ASSIGN_OR_RETURN(std::unique_ptr<os::Folder> root, storage->OpenFolder("/data/log", {}));
//   ASSIGN_OR_RETURN(std::unique_ptr<os::File> file, root->OpenFile("FORMAT",
//   os::OpenMode::kRead));
//
// Paths given to a Folder are relative to it and stay below it: a symbolic link on
// the way, "..", a file with a second name, a FIFO or a device are refused in words.
//
// Thread safety: Storage and Folder are thread-safe. A File and a Mapping may be used
// by several threads at a time, except that locks belong to the File (its open file
// description), not to a thread.
//
// Errors: kResourceExhausted for a full disk, a quota or a file-size limit;
// kNotFound, kAlreadyExists, kPermissionDenied as their names say;
// kFailedPrecondition for what is not a plain file of ours; else kUnavailable with
// the name of the errno. Each says the operation and the path.

#ifndef CORDWOOD_OS_STORAGE_H_
#define CORDWOOD_OS_STORAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cordwood {
namespace os {

using Bits128 = std::array<std::uint8_t, 16>;

// A Status of a full disk, or a full quota, has this payload.
inline constexpr char kReasonUrl[] = "cordwood/reason";
inline constexpr char kDiskFull[] = "disk full";
// And one of bytes that the disk does not give back. Any other failure of a read is the process's
// or the machine's, and says nothing of the bytes.
inline constexpr char kUnreadable[] = "unreadable";
bool IsUnreadable(const absl::Status& status);

// A file mapped into memory. The address stays the same for its whole life. It may
// reach past the end of the file: what lies there must not be touched.
class Mapping {
 public:
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  virtual ~Mapping() = default;

  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

  // Makes the bytes [from, to) survive a power cut. A failure is final for these
  // bytes: the system forgets that they were dirty, and a second Sync would say OK
  // with nothing on the disk (RELIABILITY: 0 of 8192 pages).
  virtual absl::Status Sync(std::size_t from, std::size_t to) = 0;

  // Faults pages in for writing without storing to them: a store, even of what is
  // there already, could overwrite what another writer has just published.
  virtual absl::Status Populate(std::size_t from, std::size_t to) = 0;

  // Before a look at [from, to) by who reads whole files. A map of a file has its bytes as they
  // are; memory that files are read into (os/pread_folder.h) may have other bytes of it by now.
  virtual void Fetch(std::size_t /*from*/, std::size_t /*to*/) {}
  // What was fetched is not looked at any more until it is fetched again.
  virtual void Forget() {}

 protected:
  Mapping(std::byte* data, std::size_t size) : data_(data), size_(size) {}

  std::byte* const data_;
  const std::size_t size_;
};

// Keeps the locks of a File after the File is gone, until it is destroyed or the
// process dies. A forked child does not inherit it.
class LockKeeper {
 public:
  LockKeeper() = default;
  LockKeeper(const LockKeeper&) = delete;
  LockKeeper& operator=(const LockKeeper&) = delete;
  virtual ~LockKeeper() = default;
};

struct FileInfo {
  std::uint64_t size = 0;
  std::uint64_t inode = 0;
  std::uint64_t device = 0;
  int mode = 0600;
};

enum class LockKind { kShared, kExclusive };
enum class Access { kRead, kReadWrite };

class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  virtual ~File() = default;

  virtual absl::StatusOr<FileInfo> Info() = 0;
  // Reads up to `bytes`; fewer only at the end of the file.
  virtual absl::StatusOr<std::size_t> ReadAt(void* to, std::size_t bytes,
                                             std::uint64_t position) = 0;
  virtual absl::Status WriteAt(const void* from, std::size_t bytes, std::uint64_t position) = 0;
  // Gives the file real blocks for [0, bytes), which read as zero where nothing was
  // written. The file grows to `bytes` if it is shorter. If it fails, the file may have grown,
  // too, to less.
  //
  // Only who was told OK may store through a map up to `bytes`. A size that Info() shows may be
  // that of a growth under way, which on ext4 zeroes the rest of what was the last page after
  // the new size can be seen (Linux 6.13 and later): 97 of 100 stores there were lost. A call of
  // one's own waits for it.
  virtual absl::Status Allocate(std::uint64_t bytes) = 0;
  // Gives the blocks of [from, to) back; the size stays.
  virtual absl::Status PunchHole(std::uint64_t from, std::uint64_t to) = 0;
  virtual absl::Status Sync() = 0;
  virtual absl::StatusOr<std::unique_ptr<Mapping>> Map(std::size_t bytes, Access access) = 0;

  // Locks one byte; it need not exist. Returns false when somebody else holds it.
  virtual absl::StatusOr<bool> TryLock(LockKind kind, std::uint64_t byte) = 0;
  virtual absl::Status Unlock(std::uint64_t byte) = 0;
  // True when another File holds a lock on that byte which excludes a lock of `kind`.
  virtual absl::StatusOr<bool> IsLocked(LockKind kind, std::uint64_t byte) = 0;
  virtual absl::StatusOr<std::unique_ptr<LockKeeper>> KeepLocks() = 0;
};

// kCreate makes a new file and fails with kAlreadyExists if the name is taken.
enum class OpenMode { kRead, kReadWrite, kCreate };

struct FolderEntry {
  std::string name;
  bool is_folder = false;
};

// What the file system under a folder can promise.
struct FileSystemInfo {
  std::string name;        // "ext4", "tmpfs", ...
  bool shared = false;     // network or virtual: maps of two hosts do not agree
  bool volatile_ = false;  // in memory: durable means nothing here
  std::int64_t free_bytes = std::numeric_limits<std::int64_t>::max();  // for this user
};

class Folder {
 public:
  Folder() = default;
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  virtual ~Folder() = default;

  virtual const std::string& path() const = 0;  // for messages
  virtual absl::StatusOr<std::unique_ptr<File>> OpenFile(std::string_view path, OpenMode mode) = 0;
  virtual absl::Status CreateFolder(std::string_view path) = 0;
  // In no particular order, without "." and "..".
  virtual absl::StatusOr<std::vector<FolderEntry>> List(std::string_view path) = 0;
  // Replaces `to` if it is there.
  virtual absl::Status Rename(std::string_view from, std::string_view to) = 0;
  // kAlreadyExists if `to` is there.
  virtual absl::Status RenameNew(std::string_view from, std::string_view to) = 0;
  // Each gets the other's name, at once. kNotFound if one of them is not there.
  virtual absl::Status Exchange(std::string_view a, std::string_view b) = 0;
  virtual absl::Status Unlink(std::string_view path) = 0;
  virtual absl::Status RemoveFolder(std::string_view path) = 0;
  // Makes the names in a folder survive a power cut.
  virtual absl::Status SyncFolder(std::string_view path) = 0;
  // Makes everything on the file system survive a power cut.
  virtual absl::Status SyncFileSystem() = 0;
  virtual absl::StatusOr<FileSystemInfo> FileSystem() = 0;
};

struct OpenFolderOptions {
  bool create = false;   // the folder itself; its parent must be there
  int file_mode = 0600;  // of new files; folders get x where r
};

}  // namespace os

class Storage {
 public:
  Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  virtual ~Storage() = default;

  // The real thing.
  static std::shared_ptr<Storage> OperatingSystem();

  virtual absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) = 0;
  // Nanoseconds since the Unix epoch. The real back end's clock is read inline
  // (os/clock.h); this is asked only where is_operating_system() is false.
  virtual std::int64_t NowNanos() = 0;
  // Nanoseconds of a clock that nobody sets, and that runs while the machine sleeps.
  virtual std::int64_t ElapsedNanos();
  virtual os::Bits128 Random128() = 0;
  // Another value after every boot of the machine; the same for all its processes.
  virtual absl::StatusOr<os::Bits128> BootId() = 0;
  virtual bool is_operating_system() const { return false; }
};

}  // namespace cordwood

#endif  // CORDWOOD_OS_STORAGE_H_
