// The disk of a simulated machine, as the engine meets it: through Storage.

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/storage.h"
#include "cordwood/status.h"
#include "sim/disk.h"
#include "sim/storage.h"
#include "tests/catch.h"

namespace cordwood {
namespace {

using os::Access;
using os::LockKind;
using os::OpenMode;
using sim::Disk;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kSector = 512;

// A machine with one folder on it.
struct OneFolder {
  explicit OneFolder(std::uint64_t seed = 1) : disk(std::make_shared<Disk>(seed)) { Boot(); }

  void Boot() {
    storage = sim::MakeStorage(disk);
    root = storage->OpenFolder("/data", {.create = true}).value();
  }
  void CutPower() {
    disk->CutPower();
    Boot();
  }
  std::unique_ptr<os::File> Create(const std::string& name) {
    return root->OpenFile(name, OpenMode::kCreate).value();
  }
  void Write(const std::string& name, std::string_view text) {
    auto file = Create(name);
    REQUIRE(file->WriteAt(text.data(), text.size(), 0).ok());
    REQUIRE(file->Sync().ok());
  }
  // What is in the file; none: there is no file.
  std::optional<std::string> Read(const std::string& name) {
    auto file = root->OpenFile(name, OpenMode::kRead);
    if (!file.ok()) return std::nullopt;
    std::string bytes((*file)->Info().value().size, '\0');
    CHECK((*file)->ReadAt(bytes.data(), bytes.size(), 0).value() == bytes.size());
    return bytes;
  }
  std::set<std::string> Names() {
    std::set<std::string> names;
    const std::vector<os::FolderEntry> entries = root->List("").value();
    for (const os::FolderEntry& entry : entries) names.insert(entry.name);
    return names;
  }

  std::shared_ptr<Disk> disk;
  std::shared_ptr<Storage> storage;
  std::unique_ptr<os::Folder> root;
};

// A mapped file of that many pages, with its name and size on the disk.
struct OneFile : OneFolder {
  explicit OneFile(std::uint64_t seed = 1, std::size_t pages = 1) : OneFolder(seed) {
    file = Create("file");
    REQUIRE(file->Allocate(pages * kPage).ok());
    REQUIRE(file->Sync().ok());
    REQUIRE(root->SyncFolder("").ok());
    map = file->Map(pages * kPage, Access::kReadWrite).value();
  }
  void Fill(char c, std::size_t from, std::size_t to) {
    std::memset(map->data() + from, c, to - from);
  }
  void CutPower() {
    OneFolder::CutPower();
    after = Read("file").value();
  }

  std::unique_ptr<os::File> file;
  std::unique_ptr<os::Mapping> map;
  std::string after = {};
};

// How often each of these comes of that many seeds.
template <class Outcome>
std::map<std::string, int> Tally(Outcome outcome, std::uint64_t seeds = 100) {
  std::map<std::string, int> counts;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) ++counts[outcome(seed)];
  return counts;
}

// ---- Bytes

TEST_CASE("Simulated disk: all maps of a file, and its reads and writes, show the same bytes") {
  OneFile m;
  auto other = m.root->OpenFile("file", OpenMode::kRead).value();
  auto other_map = other->Map(kPage, Access::kRead).value();
  m.Fill('a', 0, 10);
  CHECK(std::memcmp(other_map->data(), "aaaaaaaaaa", 10) == 0);
  REQUIRE(m.file->WriteAt("bb", 2, 4).ok());
  CHECK(std::memcmp(other_map->data(), "aaaabbaaaa", 10) == 0);
  CHECK(m.Read("file")->substr(0, 10) == "aaaabbaaaa");
  REQUIRE(m.file->PunchHole(0, kPage).ok());
  CHECK(other_map->data()[4] == std::byte{0});
  CHECK(m.file->Info().value().size == kPage);
}

TEST_CASE("Simulated disk: what a sync covered stays, through a map or not") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    OneFile m(seed, 3);
    m.Fill('a', 0, 3 * kPage);
    REQUIRE(m.map->Sync(kPage + 100, kPage + 101).ok());  // its whole page
    m.Fill('b', 0, kPage);
    m.CutPower();
    CHECK(m.after.substr(kPage, kPage) == std::string(kPage, 'a'));
  }
}

TEST_CASE("Simulated disk: what no sync covered is lost or kept, sector by sector") {
  const auto counts = Tally([](std::uint64_t seed) {
    OneFile m(seed);
    m.Fill('a', 0, kPage);
    REQUIRE(m.map->Sync(0, kPage).ok());
    m.Fill('b', 0, kPage);
    m.CutPower();
    std::string sectors;
    for (std::size_t at = 0; at < kPage; at += kSector) {
      const std::string sector = m.after.substr(at, kSector);
      CHECK(sector == std::string(kSector, sector[0]));
      sectors += sector[0];
    }
    return sectors;
  });
  CHECK(counts.at("aaaaaaaa") > 10);
  CHECK(counts.at("bbbbbbbb") > 10);
  CHECK(counts.size() > 20);
}

TEST_CASE(
    "Simulated disk: a size that no sync covered is lost or kept, with its bytes or without") {
  const auto counts = Tally([](std::uint64_t seed) {
    OneFile m(seed);
    REQUIRE(m.file->WriteAt("tail", 4, kPage).ok());
    m.CutPower();
    const std::string tail = m.after.substr(kPage);
    return tail.empty()                ? "short"
           : tail == "tail"            ? "whole"
           : tail == std::string(4, 0) ? "zero"
                                       : "torn";
  });
  CHECK(counts.at("short") > 10);
  CHECK(counts.at("whole") > 5);
  CHECK(counts.at("zero") > 5);
  CHECK(counts.count("torn") == 0);
}

TEST_CASE("Simulated disk: after a sync that failed, later ones say OK and save nothing") {
  const auto counts = Tally([](std::uint64_t seed) {
    OneFile m(seed, 2);
    m.Fill('a', 0, 100);
    m.disk->FailNextSync();
    const absl::Status failed = m.map->Sync(0, 100);
    CHECK(failed.code() == absl::StatusCode::kUnavailable);
    m.Fill('b', 0, 100);
    m.Fill('b', kPage, kPage + 100);
    CHECK(m.map->Sync(0, 2 * kPage).ok());
    CHECK(m.file->Sync().ok());
    CHECK(m.map->data()[0] == std::byte{'b'});
    m.CutPower();
    CHECK(m.after[kPage] == 'b');  // of a page that was clean then
    return std::string(1, m.after[0]);
  });
  CHECK(counts.count("b") == 0);
  CHECK(counts.at("a") > 10);
  CHECK(counts.at(std::string(1, '\0')) > 10);
}

TEST_CASE("Simulated disk: the system writes back what it likes, when it likes") {
  const auto counts = Tally([](std::uint64_t seed) {
    OneFile m(seed);
    m.Fill('a', 0, kPage);
    REQUIRE(m.root->SyncFolder("").ok());  // that has nothing to do with it
    m.Fill('b', 0, kPage);
    m.CutPower();
    return std::string(1, m.after[0]);
  });
  CHECK(counts.at("a") > 0);
}

// ---- Names

TEST_CASE("Simulated disk: a name that its folder's sync did not cover is lost or kept") {
  const auto made = Tally([](std::uint64_t seed) {
    OneFolder m(seed);
    m.Write("a", "1");
    m.CutPower();
    const auto text = m.Read("a");
    CHECK(text.value_or("1") == "1");  // its bytes were synced
    return std::string(text ? "kept" : "lost");
  });
  CHECK(made.at("kept") > 10);
  CHECK(made.at("lost") > 10);

  const auto removed = Tally([](std::uint64_t seed) {
    OneFolder m(seed);
    m.Write("a", "1");
    REQUIRE(m.root->SyncFolder("").ok());
    REQUIRE(m.root->Unlink("a").ok());
    m.CutPower();
    const auto text = m.Read("a");
    CHECK(text.value_or("1") == "1");
    return std::string(text ? "back" : "gone");
  });
  CHECK(removed.at("back") > 10);
  CHECK(removed.at("gone") > 10);
}

TEST_CASE("Simulated disk: a name stays once its folder is synced, or the file system") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    OneFolder m(seed);
    REQUIRE(m.root->CreateFolder("f").ok());
    m.Write("f/a", "1");
    m.Write("b", "2");
    if (seed % 2 == 0) {
      REQUIRE(m.root->SyncFolder("f").ok());
      REQUIRE(m.root->SyncFolder("").ok());
    } else {
      REQUIRE(m.root->SyncFileSystem().ok());
    }
    m.CutPower();
    CHECK(m.Read("f/a") == "1");
    CHECK(m.Read("b") == "2");
  }
}

TEST_CASE("Simulated disk: a rename is whole, and what it replaces is there or the new one is") {
  const auto counts = Tally([](std::uint64_t seed) {
    OneFolder m(seed);
    m.Write("config", "old");
    REQUIRE(m.root->SyncFolder("").ok());
    m.Write("tmp", "new");
    REQUIRE(m.root->Rename("tmp", "config").ok());
    m.CutPower();
    const bool has_tmp = m.Names().contains("tmp");
    return m.Read("config").value_or("nothing") + (has_tmp ? " and tmp" : "");
  });
  CHECK(counts.at("old") > 10);
  CHECK(counts.at("new") > 10);
  CHECK(counts.at("old and tmp") > 5);
  CHECK(counts.size() == 3);
}

TEST_CASE("Simulated disk: two names are exchanged whole, or not at all") {
  const auto counts = Tally([](std::uint64_t seed) {
    OneFolder m(seed);
    REQUIRE(m.root->CreateFolder("f").ok());
    m.Write("a", "1");
    m.Write("f/b", "2");
    REQUIRE(m.root->SyncFileSystem().ok());
    REQUIRE(m.root->Exchange("a", "f/b").ok());
    CHECK(m.Read("a") == "2");
    if (seed % 4 == 0) REQUIRE(m.root->SyncFolder("f").ok());
    m.CutPower();
    const bool is_synced = seed % 4 == 0;
    const std::string names = m.Read("a").value_or("none") + m.Read("f/b").value_or("none");
    CHECK((!is_synced || names == "21"));
    return names;
  });
  CHECK(counts.at("12") > 10);
  CHECK(counts.at("21") > 10);
  CHECK(counts.size() == 2);
}

TEST_CASE("Simulated disk: a file that was not synced before its rename comes empty or torn") {
  const auto counts = Tally([](std::uint64_t seed) {
    OneFolder m(seed);
    m.Write("config", "old");
    auto file = m.Create("tmp");
    REQUIRE(file->WriteAt("new", 3, 0).ok());
    REQUIRE(m.root->Rename("tmp", "config").ok());
    REQUIRE(m.root->SyncFolder("").ok());
    m.CutPower();
    return m.Read("config").value_or("nothing");
  });
  CHECK(counts.at("") > 10);
  CHECK(counts.at("new") > 5);
  CHECK(counts.count("old") == 0);
}

TEST_CASE("Simulated disk: a folder's sync that fails leaves its names as they were") {
  const auto counts = Tally([](std::uint64_t seed) {
    OneFolder m(seed);
    m.Write("a", "1");
    m.disk->FailNextSync();
    CHECK(m.root->SyncFolder("").code() == absl::StatusCode::kUnavailable);
    m.CutPower();
    return std::string(m.Read("a") ? "kept" : "lost");
  });
  CHECK(counts.at("kept") > 10);
  CHECK(counts.at("lost") > 10);
}

TEST_CASE("Simulated disk: names are refused as the operating system refuses them") {
  OneFolder m;
  m.Write("a", "1");
  REQUIRE(m.root->CreateFolder("f").ok());
  m.Write("f/b", "2");
  const auto code = [&](std::string_view path, OpenMode mode) {
    return m.root->OpenFile(path, mode).status().code();
  };
  CHECK(code("c", OpenMode::kRead) == absl::StatusCode::kNotFound);
  CHECK(code("c/d", OpenMode::kCreate) == absl::StatusCode::kNotFound);
  CHECK(code("a", OpenMode::kCreate) == absl::StatusCode::kAlreadyExists);
  CHECK(code("../a", OpenMode::kRead) == absl::StatusCode::kFailedPrecondition);
  CHECK(code("/data/a", OpenMode::kRead) == absl::StatusCode::kFailedPrecondition);
  CHECK(code("a/b", OpenMode::kRead) == absl::StatusCode::kFailedPrecondition);
  CHECK(code("f", OpenMode::kRead) == absl::StatusCode::kFailedPrecondition);
  CHECK(code(std::string(256, 'x'), OpenMode::kCreate) == absl::StatusCode::kInvalidArgument);
  CHECK(absl::IsAlreadyExists(m.root->CreateFolder("f")));
  CHECK(absl::IsAlreadyExists(m.root->RenameNew("a", "f/b")));
  CHECK(absl::IsAlreadyExists(m.root->RemoveFolder("f")));  // not empty
  CHECK(absl::IsFailedPrecondition(m.root->Unlink("f")));
  CHECK(absl::IsFailedPrecondition(m.root->RemoveFolder("a")));
  CHECK(absl::IsNotFound(m.root->Rename("c", "d")));
  CHECK(absl::IsNotFound(m.storage->OpenFolder("/other", {}).status()));
  auto reader = m.root->OpenFile("a", OpenMode::kRead).value();
  CHECK(!reader->WriteAt("x", 1, 0).ok());
  CHECK(absl::IsPermissionDenied(reader->Map(kPage, Access::kReadWrite).status()));
}

// ---- Space

TEST_CASE("Simulated disk: what does not fit a full disk fails, and says so") {
  OneFolder m;
  auto file = m.Create("a");
  m.disk->SetFreeBytes(2 * kPage);
  CHECK(m.root->FileSystem().value().free_bytes == 2 * kPage);
  const absl::Status full = file->Allocate(4 * kPage);
  CHECK(absl::IsResourceExhausted(full));
  CHECK(ReasonOf(full) == Reason::kDiskFull);
  CHECK(file->Info().value().size == 2 * kPage);  // as far as it went
  CHECK(ReasonOf(file->WriteAt("x", 1, 3 * kPage)) == Reason::kDiskFull);
  CHECK(file->WriteAt("x", 1, kPage).ok());  // it has that block
  CHECK(ReasonOf(m.root->OpenFile("b", OpenMode::kCreate).status()) == Reason::kDiskFull);
  CHECK(ReasonOf(m.root->CreateFolder("f")) == Reason::kDiskFull);
}

TEST_CASE("Simulated disk: a file's space is free when it has no name and nobody has it open") {
  OneFolder m;
  auto file = m.Create("a");
  REQUIRE(file->Allocate(10 * kPage).ok());
  auto map = file->Map(kPage, Access::kRead).value();
  m.disk->SetFreeBytes(0);
  const auto free = [&] { return m.root->FileSystem().value().free_bytes / std::int64_t{kPage}; };
  REQUIRE(file->PunchHole(0, 4 * kPage).ok());
  CHECK(free() == 4);
  REQUIRE(m.root->Unlink("a").ok());
  file.reset();
  CHECK(free() == 4);
  map.reset();
  CHECK(free() == 11);  // its own block, too
}

// ---- Locks

TEST_CASE("Simulated disk: locks belong to an open file, and go with it or with its keeper") {
  OneFolder m;
  auto one = m.Create("locks");
  auto two = m.root->OpenFile("locks", OpenMode::kReadWrite).value();
  CHECK(one->TryLock(LockKind::kExclusive, 7).value());
  CHECK(one->TryLock(LockKind::kExclusive, 7).value());  // its own
  CHECK(!two->TryLock(LockKind::kShared, 7).value());
  CHECK(two->TryLock(LockKind::kShared, 8).value());
  CHECK(two->IsLocked(LockKind::kShared, 7).value());
  CHECK(!one->IsLocked(LockKind::kExclusive, 7).value());
  CHECK(one->TryLock(LockKind::kShared, 7).value());  // it gives up the rest
  CHECK(two->TryLock(LockKind::kShared, 7).value());
  CHECK(!two->TryLock(LockKind::kExclusive, 7).value());
  REQUIRE(two->Unlock(7).ok());
  CHECK(one->TryLock(LockKind::kExclusive, 7).value());
  auto keeper = one->KeepLocks().value();
  one.reset();
  CHECK(two->IsLocked(LockKind::kExclusive, 7).value());
  keeper.reset();
  CHECK(two->TryLock(LockKind::kExclusive, 7).value());
}

// ---- Processes and boots

TEST_CASE("Simulated disk: a killed process has lost its locks, and reaches no file any more") {
  OneFile m;
  m.Fill('a', 0, kPage);
  REQUIRE(m.file->TryLock(LockKind::kExclusive, 0).value());
  auto folder = std::move(m.root);
  const os::Bits128 boot = m.storage->BootId().value();
  m.disk->KillProcess();
  m.Boot();
  CHECK(m.storage->BootId().value() == boot);
  auto file = m.root->OpenFile("file", OpenMode::kReadWrite).value();
  CHECK(file->TryLock(LockKind::kExclusive, 0).value());

  m.Fill('b', 0, kPage);  // by the dead one, through its map
  CHECK(m.Read("file") == std::string(kPage, 'a'));
  CHECK(absl::IsUnavailable(m.map->Sync(0, kPage)));
  CHECK(absl::IsUnavailable(m.file->Sync()));
  CHECK(absl::IsUnavailable(m.file->WriteAt("c", 1, 0)));
  CHECK(absl::IsUnavailable(m.file->TryLock(LockKind::kShared, 1).status()));
  CHECK(absl::IsUnavailable(folder->Unlink("file")));
  m.file.reset();
  auto third = m.root->OpenFile("file", OpenMode::kReadWrite).value();
  CHECK(!third->TryLock(LockKind::kExclusive, 0).value());  // of the living
}

TEST_CASE(
    "Simulated disk: a power cut is another boot, and the clock stands still but for Advance") {
  OneFolder m;
  const os::Bits128 boot = m.storage->BootId().value();
  const std::int64_t now = m.storage->NowNanos();
  const std::int64_t elapsed = m.storage->ElapsedNanos();
  m.disk->AdvanceClock(5);
  CHECK(m.storage->NowNanos() == now + 5);
  CHECK(m.storage->ElapsedNanos() == elapsed + 5);
  m.CutPower();
  CHECK(m.storage->BootId().value() != boot);
  CHECK(m.storage->NowNanos() == now + 5);
  CHECK(m.storage->ElapsedNanos() == elapsed);
}

}  // namespace
}  // namespace cordwood
