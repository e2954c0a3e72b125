// Long because it has a test for each promise of storage.h.
//
// The real back end of Storage: what it makes, what it refuses and with which words, its locks, and
// that a full disk or a file-size limit is a Status and never a signal.

#include "cordwood/os/storage.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/clock.h"
#include "tests/catch.h"
#include "tests/support/files.h"
#include "tests/support/says.h"
#include "tests/support/temp_dir.h"

namespace cordwood::os::storage_test {
namespace {

namespace fs = std::filesystem;
using testing::Says;

// A folder of a test's own, with a small language for what lies in it.
class Disk {
 public:
  explicit Disk(int file_mode = 0600)
      : folder_(
            Storage::OperatingSystem()->OpenFolder(dir_.path(), {.file_mode = file_mode}).value()) {
  }

  Folder& folder() { return *folder_; }
  fs::path Path(std::string_view name) const { return dir_.path() / name; }
  std::unique_ptr<File> Create(std::string_view name) {
    return folder_->OpenFile(name, OpenMode::kCreate).value();
  }
  std::unique_ptr<File> Open(std::string_view name, OpenMode mode = OpenMode::kReadWrite) {
    return folder_->OpenFile(name, mode).value();
  }
  absl::Status WhyNot(std::string_view name, OpenMode mode = OpenMode::kReadWrite) {
    return folder_->OpenFile(name, mode).status();
  }
  void Write(std::string_view name, std::string_view text) { testing::WriteAll(Path(name), text); }
  std::string Read(std::string_view name) const { return testing::ReadAll(Path(name)); }
  struct stat Stat(std::string_view name) const {
    struct stat info = {};
    if (lstat(Path(name).c_str(), &info) != 0) FAIL("lstat " << name);
    return info;
  }
  unsigned Mode(std::string_view name) const { return Stat(name).st_mode & 07777; }

 private:
  testing::TempDir dir_;
  std::unique_ptr<Folder> folder_;
};

// Sets the umask for as long as it lives.
class Umask {
 public:
  explicit Umask(mode_t mask) : before_(umask(mask)) {}
  ~Umask() { umask(before_); }

 private:
  const mode_t before_;
};

volatile std::sig_atomic_t g_signals = 0;

// Limits the size of files for as long as it lives, and counts the signals that this brings.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    g_signals = 0;
    handler_ = std::signal(SIGXFSZ, [](int) { g_signals = 1; });
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_ = {};
  void (*handler_)(int) = SIG_DFL;
};

// Runs f in a forked child and returns what it returned, or how it died.
std::string InChild(const std::function<std::string()>& f) {
  int ends[2];
  if (pipe(ends) != 0) return "pipe";
  const pid_t child = fork();
  if (child == 0) {
    // A crash is the child's own matter, and not one of the test program's handlers.
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGBUS, SIG_DFL);
    const std::string text = f();
    const bool written = write(ends[1], text.data(), text.size()) >= 0;
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char buffer[256];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(n));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) return std::string("killed: ") + strsignal(WTERMSIG(status));
  return text;
}

// A forked child that lives, and does nothing, until this is gone.
class IdleChild {
 public:
  IdleChild() {
    int ends[2];
    if (pipe(ends) != 0) FAIL("pipe");
    child_ = fork();
    if (child_ == 0) {
      close(ends[1]);
      char byte;
      while (read(ends[0], &byte, 1) > 0) {
      }
      _exit(0);
    }
    close(ends[0]);
    end_ = ends[1];
  }
  IdleChild(const IdleChild&) = delete;
  IdleChild& operator=(const IdleChild&) = delete;
  ~IdleChild() {
    close(end_);
    waitpid(child_, nullptr, 0);
  }

 private:
  pid_t child_ = -1;
  int end_ = -1;
};

constexpr char kSkip[] = "skipped: ";

// Calls f(a folder on a file system of 256 KiB in memory), in a child with mounts of its own.
std::string OnTinyDisk(const std::function<std::string(Folder&)>& f) {
  const testing::TempDir dir;
  return InChild([&]() -> std::string {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=256k,mode=700") != 0) {
      return std::string(kSkip) + "no small tmpfs can be mounted: " + std::strerror(errno);
    }
    auto folder = Storage::OperatingSystem()->OpenFolder(dir.path(), {});
    return folder.ok() ? f(**folder) : folder.status().ToString();
  });
}

void CheckOnTinyDisk(const std::function<std::string(Folder&)>& f) {
  const std::string result = OnTinyDisk(f);
  if (result.starts_with(kSkip)) {
    WARN(result);
  } else {
    CHECK(result == "");
  }
}

}  // namespace

// ---- Making -----------------------------------------------------------------------------------

TEST_CASE("Storage: new files are 0600 and new folders 0700, whatever the umask") {
  Disk disk;
  const Umask umask_of_the_host(GENERATE(0000U, 0022U, 0077U, 0277U));
  disk.Create("file");
  REQUIRE(disk.folder().CreateFolder("folder").ok());
  REQUIRE(Storage::OperatingSystem()->OpenFolder(disk.Path("root"), {.create = true}).ok());
  CHECK(disk.Mode("file") == 0600);
  CHECK(disk.Mode("folder") == 0700);
  CHECK(disk.Mode("root") == 0700);
}

TEST_CASE("Storage: with another mode of files, folders can be entered where files can be read") {
  Disk disk(0640);
  const Umask umask_of_the_host(0077);
  disk.Create("file");
  REQUIRE(disk.folder().CreateFolder("folder").ok());
  CHECK(disk.Mode("file") == 0640);
  CHECK(disk.Mode("folder") == 0750);
}

TEST_CASE("Storage: a folder is opened, or made where its parent is") {
  Disk disk;
  const auto storage = Storage::OperatingSystem();
  CHECK(absl::IsNotFound(storage->OpenFolder(disk.Path("a"), {}).status()));
  CHECK(absl::IsNotFound(storage->OpenFolder(disk.Path("a/b"), {.create = true}).status()));
  CHECK(storage->OpenFolder(disk.Path("a"), {.create = true}).ok());
  CHECK(storage->OpenFolder(disk.Path("a"), {.create = true}).ok());
  CHECK(storage->OpenFolder(disk.Path("a"), {}).value()->path() == disk.Path("a").string());
  CHECK(absl::IsInvalidArgument(storage->OpenFolder("", {.create = true}).status()));
  disk.Write("file", "");
  CHECK(absl::IsFailedPrecondition(storage->OpenFolder(disk.Path("file"), {}).status()));
}

TEST_CASE("Storage: a name that is taken, or not there, is told by operation, path and errno") {
  Disk disk;
  disk.Create("file");
  const absl::Status taken = disk.WhyNot("file", OpenMode::kCreate);
  CHECK(absl::IsAlreadyExists(taken));
  CHECK(Says(taken, "open " + disk.Path("file").string() + ": EEXIST"));
  const absl::Status missing = disk.WhyNot("other");
  CHECK(absl::IsNotFound(missing));
  CHECK(Says(missing, "open " + disk.Path("other").string() + ": ENOENT"));
  CHECK(absl::IsAlreadyExists(disk.folder().CreateFolder("file")));
  CHECK(absl::IsNotFound(disk.folder().CreateFolder("no/folder")));
}

// ---- Refusing ---------------------------------------------------------------------------------

TEST_CASE("Storage: a symbolic link is not followed, at the end of a path or on the way") {
  Disk disk;
  disk.Write("file", "secret");
  fs::create_directory(disk.Path("folder"));
  disk.Write("folder/file", "");
  fs::create_symlink("file", disk.Path("link"));
  fs::create_symlink("folder", disk.Path("way"));
  fs::create_symlink("nowhere", disk.Path("dangling"));
  for (const char* path : {"link", "way/file"}) {
    for (const OpenMode mode : {OpenMode::kRead, OpenMode::kReadWrite}) {
      CHECK(absl::IsFailedPrecondition(disk.WhyNot(path, mode)));
      CHECK(Says(disk.WhyNot(path, mode), "symbolic link"));
    }
  }
  CHECK_FALSE(disk.WhyNot("dangling", OpenMode::kCreate).ok());
  CHECK_FALSE(fs::exists(disk.Path("nowhere")));
  CHECK(absl::IsFailedPrecondition(disk.WhyNot("way/new", OpenMode::kCreate)));
  CHECK(absl::IsFailedPrecondition(disk.folder().Unlink("way/file")));
  CHECK(absl::IsFailedPrecondition(disk.folder().CreateFolder("way/new")));
  CHECK(absl::IsFailedPrecondition(disk.folder().List("way").status()));
  CHECK(absl::IsFailedPrecondition(disk.folder().Rename("file", "way/new")));
  CHECK(fs::exists(disk.Path("folder/file")));
}

TEST_CASE("Storage: a file with a second name is refused, in words") {
  Disk disk;
  disk.Write("file", "");
  fs::create_hard_link(disk.Path("file"), disk.Path("second"));
  for (const char* path : {"file", "second"}) {
    CHECK(absl::IsFailedPrecondition(disk.WhyNot(path)));
    CHECK(Says(disk.WhyNot(path), "2 names (hard links)"));
  }
  fs::remove(disk.Path("second"));
  CHECK(disk.WhyNot("file").ok());
}

TEST_CASE("Storage: a FIFO, a socket and a folder are no plain files, and do not block") {
  Disk disk;
  REQUIRE(mkfifo(disk.Path("fifo").c_str(), 0600) == 0);
  const int end = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  disk.Path("socket").string().copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(bind(end, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  close(end);
  fs::create_directory(disk.Path("folder"));
  for (const char* path : {"fifo", "socket", "folder", "", "."}) {
    for (const OpenMode mode : {OpenMode::kRead, OpenMode::kReadWrite}) {
      const absl::Status status = disk.WhyNot(path, mode);
      CAPTURE(path, status.ToString());
      CHECK(absl::IsFailedPrecondition(status));
      CHECK((Says(status, "not a plain file") || Says(status, "it is a folder")));
    }
  }
}

TEST_CASE("Storage: no path leads out of its folder") {
  Disk disk;
  disk.Write("file", "");
  fs::create_directory(disk.Path("folder"));
  const std::string outside = disk.Path("outside").string();
  std::ofstream(outside) << "stays";
  auto inner = Storage::OperatingSystem()->OpenFolder(disk.Path("folder"), {}).value();
  for (const std::string& path :
       {std::string("../outside"), outside, std::string("x/../../outside"), std::string("/"),
        std::string("..")}) {
    CAPTURE(path);
    CHECK_FALSE(inner->OpenFile(path, OpenMode::kRead).ok());
    CHECK_FALSE(inner->OpenFile(path, OpenMode::kCreate).ok());
    CHECK_FALSE(inner->Unlink(path).ok());
    CHECK_FALSE(inner->CreateFolder(path).ok());
    CHECK_FALSE(inner->Rename(path, "taken").ok());
    CHECK_FALSE(inner->RenameNew("../file", path).ok());
    CHECK_FALSE(inner->RemoveFolder(path).ok());
  }
  CHECK(absl::IsFailedPrecondition(inner->OpenFile("../outside", OpenMode::kRead).status()));
  CHECK(Says(inner->OpenFile(outside, OpenMode::kRead).status(), "leads out of the directory"));
  CHECK(absl::IsFailedPrecondition(inner->List("..").status()));
  CHECK(absl::IsFailedPrecondition(inner->List("/").status()));
  CHECK(disk.Read("outside") == "stays");
}

TEST_CASE("Storage: a path that begins with a slash is not taken for one without") {
  Disk disk;
  disk.Write("file", "stays");
  CHECK(absl::IsFailedPrecondition(disk.WhyNot("/file")));
  CHECK(absl::IsFailedPrecondition(disk.folder().Unlink("/file")));
  CHECK(absl::IsFailedPrecondition(disk.folder().Rename("/file", "other")));
  CHECK(absl::IsFailedPrecondition(disk.folder().Rename("file", "/other")));
  CHECK(absl::IsFailedPrecondition(disk.folder().CreateFolder("/folder")));
  CHECK(disk.Read("file") == "stays");
}

TEST_CASE("Storage: a file that is unlinked while it is opened is not found") {
  Disk disk;
  std::atomic<bool> done{false};
  std::thread comes_and_goes([&] {
    while (!done.load()) {
      close(open(disk.Path("file").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
      unlink(disk.Path("file").c_str());
    }
  });
  absl::Status other;
  for (int round = 0; round < 20'000 && other.ok(); ++round) {
    const absl::Status status = disk.WhyNot("file", OpenMode::kRead);
    if (!absl::IsNotFound(status)) other = status;
  }
  done.store(true);
  comes_and_goes.join();
  CHECK(other.ToString() == "OK");
}

// ---- Names ------------------------------------------------------------------------------------

TEST_CASE("Storage: Rename replaces, and RenameNew does not") {
  Disk disk;
  disk.Write("a", "a");
  disk.Write("b", "b");
  CHECK(absl::IsAlreadyExists(disk.folder().RenameNew("a", "b")));
  CHECK(disk.Read("a") == "a");
  CHECK(disk.Read("b") == "b");
  CHECK(disk.folder().RenameNew("a", "c").ok());
  CHECK(disk.folder().Rename("c", "b").ok());
  CHECK(disk.Read("b") == "a");
  CHECK(absl::IsNotFound(disk.folder().Rename("a", "d")));
  CHECK(absl::IsNotFound(disk.folder().RenameNew("a", "d")));
}

TEST_CASE("Storage: Exchange gives each file the name of the other, in whatever folder") {
  Disk disk;
  REQUIRE(disk.folder().CreateFolder("folder").ok());
  disk.Write("a", "a");
  disk.Write("folder/b", "b");
  CHECK(disk.folder().Exchange("a", "folder/b").ok());
  CHECK(disk.Read("a") == "b");
  CHECK(disk.Read("folder/b") == "a");
  CHECK(absl::IsNotFound(disk.folder().Exchange("a", "nothing")));
  CHECK(absl::IsNotFound(disk.folder().Exchange("nothing", "a")));
  CHECK_FALSE(disk.folder().Exchange("a", "../outside").ok());
  CHECK(disk.Read("a") == "b");
}

TEST_CASE("Storage: files and folders are listed, moved between folders and removed") {
  Disk disk;
  REQUIRE(disk.folder().CreateFolder("folder").ok());
  disk.Write("file", "");
  disk.Write(".hidden", "");
  fs::create_symlink("folder", disk.Path("link"));
  std::vector<std::string> names;
  const std::vector<FolderEntry> entries = disk.folder().List("").value();
  for (const FolderEntry& entry : entries) {
    names.push_back(entry.name + (entry.is_folder ? "/" : ""));
  }
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{".hidden", "file", "folder/", "link"});
  CHECK(disk.folder().Rename("file", "folder/file").ok());
  CHECK(disk.folder().List("folder").value().size() == 1);
  CHECK(absl::IsAlreadyExists(disk.folder().RemoveFolder("folder")));
  CHECK(disk.folder().Unlink("folder/file").ok());
  CHECK(disk.folder().SyncFolder("folder").ok());
  CHECK(disk.folder().RemoveFolder("folder").ok());
  CHECK(absl::IsNotFound(disk.folder().List("folder").status()));
  CHECK(absl::IsNotFound(disk.folder().Unlink("file")));
  CHECK(disk.folder().SyncFolder("").ok());
}

// ---- Bytes ------------------------------------------------------------------------------------

TEST_CASE("Storage: what is written is read, through the file and through its map") {
  Disk disk;
  const auto file = disk.Create("file");
  REQUIRE(file->Allocate(8192).ok());
  REQUIRE(file->WriteAt("hello", 5, 4090).ok());
  const auto map = file->Map(1 << 20, Access::kReadWrite).value();  // may reach past the end
  CHECK(map->size() == 1 << 20);
  CHECK(std::memcmp(map->data() + 4090, "hello", 5) == 0);
  std::memcpy(map->data() + 4095, " you", 4);
  CHECK(map->Sync(4090, 4099).ok());
  CHECK(file->Sync().ok());
  char text[10] = {};
  CHECK(file->ReadAt(text, 9, 4090).value() == 9);
  CHECK(std::string(text) == "hello you");
  CHECK(file->ReadAt(text, 9, 8190).value() == 2);
  CHECK(file->ReadAt(text, 9, 10'000).value() == 0);
  CHECK_FALSE(disk.Open("file", OpenMode::kRead)->WriteAt("x", 1, 0).ok());
}

TEST_CASE("Storage: Allocate gives blocks, keeps the bytes, and never shortens") {
  Disk disk;
  const auto file = disk.Create("file");
  REQUIRE(file->WriteAt("bytes", 5, 0).ok());
  REQUIRE(file->Allocate(1 << 20).ok());
  CHECK(file->Info()->size == 1 << 20);
  CHECK(disk.Stat("file").st_blocks * 512 >= 1 << 20);
  REQUIRE(file->Allocate(4096).ok());
  CHECK(file->Info()->size == 1 << 20);
  CHECK(disk.Read("file") == "bytes" + std::string((1 << 20) - 5, '\0'));
  CHECK(file->Info()->inode == disk.Stat("file").st_ino);
  CHECK(file->Info()->device == disk.Stat("file").st_dev);
}

TEST_CASE("Storage: a hole gives blocks back, reads as zero, and the size stays") {
  Disk disk;
  const auto file = disk.Create("file");
  const std::string bytes(256 << 10, 'x');
  REQUIRE(file->WriteAt(bytes.data(), bytes.size(), 0).ok());
  REQUIRE(file->Sync().ok());
  const auto blocks = disk.Stat("file").st_blocks;
  REQUIRE(file->PunchHole(64 << 10, 192 << 10).ok());
  REQUIRE(file->PunchHole(100, 100).ok());
  CHECK((disk.Read("file") ==
         bytes.substr(0, 64 << 10) + std::string(128 << 10, '\0') + bytes.substr(192 << 10)));
  CHECK(disk.Stat("file").st_blocks < blocks);
}

TEST_CASE("Storage: a file-size limit is a resource that is exhausted, and no signal") {
  Disk disk;
  const auto file = disk.Create("file");
  absl::Status allocated, written, fits;
  {
    const FileSizeLimit limit(16 << 10);
    allocated = file->Allocate((16 << 10) + 1);
    written = file->WriteAt("12345678", 8, (16 << 10) - 4);
    fits = file->Allocate(16 << 10);
    if (fits.ok()) fits = file->WriteAt("12345678", 8, (16 << 10) - 8);
  }
  CHECK(g_signals == 0);
  CHECK(absl::IsResourceExhausted(allocated));
  CHECK(Says(allocated, "ulimit -f"));
  CHECK(Says(allocated, disk.Path("file").string()));
  CHECK(absl::IsResourceExhausted(written));
  CHECK(fits.ok());
}

TEST_CASE("Storage: on a full disk allocated bytes can be written, and no more are given") {
  CheckOnTinyDisk([](Folder& folder) -> std::string {
    auto file = folder.OpenFile("file", OpenMode::kCreate).value();
    if (!file->Allocate(64 << 10).ok()) return "no room for the first 64 KiB";
    auto filler = folder.OpenFile("filler", OpenMode::kCreate).value();
    std::uint64_t filled = 0;
    while (filled < 1 << 20 && filler->Allocate(filled + 4096).ok()) filled += 4096;
    if (filled < 64 << 10) return "the disk was full at once";
    if (filled > 256 << 10) return "the disk was never full";
    const absl::Status full = file->Allocate(128 << 10);
    if (!absl::IsResourceExhausted(full)) return full.ToString();
    if (!Says(full, "the disk is full")) return full.ToString();
    const char byte = 1;
    if (!absl::IsResourceExhausted(filler->WriteAt(&byte, 1, filled + (64 << 10))))
      return "WriteAt";
    auto map = file->Map(1 << 20, Access::kReadWrite).value();
    std::memset(map->data(), 1, 64 << 10);  // a SIGBUS if these had no blocks
    return map->Sync(0, 64 << 10).ok() ? "" : "msync";
  });
}

TEST_CASE("Storage: a file system in memory says that durable means nothing there") {
  CheckOnTinyDisk([](Folder& folder) -> std::string {
    const FileSystemInfo info = folder.FileSystem().value();
    return info.name == "tmpfs" && info.volatile_ && !info.shared ? "" : info.name;
  });
  Disk disk;
  CHECK_FALSE(disk.folder().FileSystem().value().name.empty());
}

// ---- Populate ---------------------------------------------------------------------------------

TEST_CASE("Storage: Populate changes no byte, and past the end it is an error and no signal") {
  Disk disk;
  std::string bytes(64 << 10, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(1 + i * 7);
  disk.Write("file", bytes);
  const auto map = disk.Open("file")->Map(1 << 20, Access::kReadWrite).value();
  CHECK(map->Populate(100, bytes.size() - 100).ok());
  CHECK(map->Populate(5, 5).ok());
  CHECK((disk.Read("file") == bytes));
  CHECK_FALSE(map->Populate(0, 1 << 20).ok());
  CHECK((disk.Read("file") == bytes));
}

TEST_CASE("Storage: Populate loses no store of a writer that is at work") {
  Disk disk;
  constexpr std::size_t kPages = 64;
  constexpr std::uint64_t kRounds = 2'000;
  const auto file = disk.Create("file");
  REQUIRE(file->Allocate(kPages * 4096).ok());
  const auto map = file->Map(kPages * 4096, Access::kReadWrite).value();
  const auto word = [&](std::size_t page) {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(map->data() + page * 4096);
  };
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      for (std::size_t page = 0; page < kPages; ++page) {
        word(page)->store(word(page)->load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
      }
    }
    done.store(true);
  });
  bool populated = true;
  while (!done.load()) populated = map->Populate(0, kPages * 4096).ok() && populated;
  writer.join();
  CHECK(populated);
  for (std::size_t page = 0; page < kPages; ++page) CHECK(word(page)->load() == kRounds);
}

// ---- Locks ------------------------------------------------------------------------------------

TEST_CASE("Storage: a byte is locked by many, or by one alone") {
  Disk disk;
  const auto a = disk.Create("file");
  const auto b = disk.Open("file");
  const auto c = disk.Open("file");
  CHECK(a->TryLock(LockKind::kShared, 5).value());
  CHECK(b->TryLock(LockKind::kShared, 5).value());
  CHECK_FALSE(c->TryLock(LockKind::kExclusive, 5).value());
  CHECK(c->IsLocked(LockKind::kExclusive, 5).value());
  CHECK_FALSE(c->IsLocked(LockKind::kShared, 5).value());
  CHECK_FALSE(a->TryLock(LockKind::kExclusive, 5).value());
  REQUIRE(b->Unlock(5).ok());
  CHECK_FALSE(a->IsLocked(LockKind::kExclusive, 5).value());  // its own does not exclude itself
  CHECK(a->TryLock(LockKind::kExclusive, 5).value());
  CHECK_FALSE(c->TryLock(LockKind::kShared, 5).value());
  CHECK(c->IsLocked(LockKind::kShared, 5).value());
  CHECK(a->TryLock(LockKind::kShared, 5).value());  // and down again
  CHECK(c->TryLock(LockKind::kShared, 5).value());
}

TEST_CASE("Storage: locks of different bytes know nothing of each other, past the end as well") {
  Disk disk;
  const auto a = disk.Create("file");
  const auto b = disk.Open("file");
  CHECK(a->TryLock(LockKind::kExclusive, 0).value());
  CHECK(b->TryLock(LockKind::kExclusive, 1).value());
  CHECK(b->TryLock(LockKind::kExclusive, std::uint64_t{1} << 40).value());
  CHECK_FALSE(a->TryLock(LockKind::kShared, std::uint64_t{1} << 40).value());
  REQUIRE(b->Unlock(1).ok());
  CHECK(a->IsLocked(LockKind::kShared, std::uint64_t{1} << 40).value());
}

TEST_CASE("Storage: a reader's file can be locked shared, and exclusively it is an error") {
  Disk disk;
  disk.Create("file");
  const auto file = disk.Open("file", OpenMode::kRead);
  CHECK(file->TryLock(LockKind::kShared, 0).value());
  CHECK_FALSE(file->TryLock(LockKind::kExclusive, 0).ok());
}

TEST_CASE("Storage: a lock goes with its File, and stays with a map of it") {
  Disk disk;
  auto file = disk.Create("file");
  REQUIRE(file->Allocate(4096).ok());
  const auto other = disk.Open("file");
  REQUIRE(file->TryLock(LockKind::kExclusive, 0).value());
  auto map = file->Map(4096, Access::kRead).value();
  file.reset();
  CHECK(other->IsLocked(LockKind::kShared, 0).value());
  map.reset();
  CHECK_FALSE(other->IsLocked(LockKind::kShared, 0).value());
}

TEST_CASE("Storage: a stray open and close of the same file drops no lock") {
  Disk disk;
  const auto file = disk.Create("file");
  const auto other = disk.Open("file");
  REQUIRE(file->TryLock(LockKind::kExclusive, 0).value());
  close(open(disk.Path("file").c_str(), O_RDWR | O_CLOEXEC));
  disk.Open("file");
  disk.Read("file");
  CHECK(other->IsLocked(LockKind::kShared, 0).value());
}

TEST_CASE("Storage: kept locks stay when the File is gone, and go with their keeper") {
  Disk disk;
  auto file = disk.Create("file");
  const auto other = disk.Open("file");
  REQUIRE(file->TryLock(LockKind::kExclusive, 3).value());
  auto keeper = file->KeepLocks().value();
  file.reset();
  CHECK(other->IsLocked(LockKind::kShared, 3).value());
  CHECK_FALSE(other->TryLock(LockKind::kShared, 3).value());
  keeper.reset();
  CHECK(other->TryLock(LockKind::kExclusive, 3).value());
}

TEST_CASE("Storage: a forked child does not inherit kept locks") {
  Disk disk;
  auto file = disk.Create("file");
  const auto other = disk.Open("file");
  REQUIRE(file->TryLock(LockKind::kExclusive, 3).value());
  auto keeper = file->KeepLocks().value();
  file.reset();
  const IdleChild child;
  CHECK(other->IsLocked(LockKind::kShared, 3).value());
  keeper.reset();
  CHECK_FALSE(other->IsLocked(LockKind::kShared, 3).value());
}

TEST_CASE("Storage: a child that destroys its copy of a keeper unmaps nothing of its own") {
  Disk disk;
  auto file = disk.Create("kept");
  auto keeper = file->KeepLocks().value();
  // Where the keeper's page is: "7f01...-7f02... ---s ... /.../kept".
  std::ifstream maps("/proc/self/maps");
  std::uintptr_t page = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.ends_with("/kept")) page = std::stoull(line, nullptr, 16);
  }
  REQUIRE(page != 0);
  CHECK(InChild([&]() -> std::string {
          void* const own = mmap(reinterpret_cast<void*>(page), 4096, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
          if (own == MAP_FAILED) return "the page was inherited";
          keeper.reset();
          *static_cast<char*>(own) = 1;
          return "";
        }) == "");
}

// ---- Clock, chance, boot ----------------------------------------------------------------------

TEST_CASE("Storage: random bits differ each time") {
  const auto storage = Storage::OperatingSystem();
  const Bits128 a = storage->Random128(), b = storage->Random128();
  CHECK(a != b);
  CHECK(a != Bits128{});
  CHECK(std::memcmp(a.data(), a.data() + 8, 8) != 0);
}

TEST_CASE("Storage: the boot id stays the same, in a child too, and is not zero") {
  const auto storage = Storage::OperatingSystem();
  const Bits128 id = storage->BootId().value();
  CHECK(id != Bits128{});
  CHECK(storage->BootId().value() == id);
  CHECK(InChild([&] { return storage->BootId().value() == id ? "" : "another"; }) == "");
}

TEST_CASE("Storage: its clock is the system's, and the coarse one is close behind") {
  const auto storage = Storage::OperatingSystem();
  CHECK(storage->is_operating_system());
  const Clock clock(storage.get());
  const std::int64_t first = clock.Now(), coarse = clock.NowCoarse(), before = clock.Now();
  const std::int64_t own = storage->NowNanos(), after = clock.Now();
  CHECK(coarse <= before);
  CHECK(before <= own);
  CHECK(own <= after);
  CHECK(first - coarse < 1'000'000'000);
  CHECK(before > 1'600'000'000'000'000'000);
}

}  // namespace cordwood::os::storage_test
