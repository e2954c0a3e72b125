// Files that are read into memory instead of being mapped.

#include "os/pread_folder.h"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/support/bad_blocks.h"
#include "tests/support/faulty_storage.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"

namespace cordwood::os {
namespace {

using testing::BadBlocks;
using testing::TempDir;
using testing::WriteAll;

// Any 8 bytes of it say where they are.
std::string Numbers(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::uint64_t at = 0; at < bytes; at += 8) {
    std::memcpy(&text[at], &at, std::min<std::size_t>(8, bytes - at));
  }
  return text;
}

struct World {
  explicit World(std::size_t bytes) : text(Numbers(bytes)) { WriteAll(dir / "file", text); }

  std::unique_ptr<File> Open(const std::string& name = "file") {
    return folder->OpenFile(name, OpenMode::kRead).value();
  }
  std::unique_ptr<Mapping> Map(std::size_t bytes) {
    return Open()->Map(bytes, Access::kRead).value();
  }
  bool Holds(Mapping& map, std::size_t from, std::size_t to) const {
    map.Fetch(from, to);
    return std::memcmp(map.data() + from, text.data() + from, to - from) == 0;
  }

  TempDir dir;
  const std::string text;
  std::shared_ptr<BadBlocks> disk = std::make_shared<BadBlocks>();
  std::vector<Unreadable> told;
  std::shared_ptr<Folder> folder =
      std::make_shared<PreadFolder>(disk->OpenFolder(dir.path(), {}).value(),
                                    [this](const Unreadable& bytes) { told.push_back(bytes); });
};

TEST_CASE("Pread: what was asked for is there, forward, backward and over the end") {
  constexpr std::size_t kBytes = (12 << 20) + 100;
  World world(kBytes);
  const std::unique_ptr<Mapping> map = world.Map(64 << 20);
  for (std::size_t at = 0; at + 3000 < kBytes; at += 2999)
    REQUIRE(world.Holds(*map, at, at + 3000));
  for (std::size_t at = kBytes - 3000; at > 70'000; at -= 69'999) {
    REQUIRE(world.Holds(*map, at, at + 3000));
  }
  CHECK(world.Holds(*map, 0, kBytes));
  // The first page is always there, whatever was asked for since.
  map->Fetch(11 << 20, 12 << 20);
  CHECK(std::memcmp(map->data(), world.text.data(), 4096) == 0);
  map->Fetch(kBytes - 8, kBytes + 5000);
  CHECK(map->data()[kBytes] == std::byte{0});
  map->Fetch(63 << 20, 65 << 20);
  CHECK(map->data()[(63 << 20) + 9] == std::byte{0});
  CHECK(world.told.empty());
}

// Pages of a map that take memory.
std::size_t PagesOf(const Mapping& map) {
  std::vector<unsigned char> pages((map.size() + 4095) / 4096);
  REQUIRE(mincore(map.data(), map.size(), pages.data()) == 0);
  return static_cast<std::size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

TEST_CASE("Pread: of a file that is looked through, and of one that is forgotten, little is held") {
  constexpr std::size_t kBytes = 24 << 20;
  World world(kBytes);
  const std::unique_ptr<Mapping> map = world.Map(kBytes);
  CHECK(PagesOf(*map) == 1);
  for (std::size_t at = 0; at < kBytes; at += 4096) map->Fetch(at, at + 4096);
  CHECK(PagesOf(*map) > 256);
  CHECK(PagesOf(*map) < (6 << 20) / 4096);
  map->Forget();
  CHECK(PagesOf(*map) == 1);
  CHECK(std::memcmp(map->data(), world.text.data(), 4096) == 0);
  CHECK(world.Holds(*map, 5 << 20, 6 << 20));
  CHECK(world.Holds(*map, 0, 8192));
}

TEST_CASE("Pread: what fails and is no fault of the disk is told as trouble") {
  World world(3 << 20);
  const auto storage = testing::FaultyStorage::Over(Storage::OperatingSystem());
  const auto folder =
      std::make_shared<PreadFolder>(storage->OpenFolder(world.dir.path(), {}).value(),
                                    [&](const Unreadable& bytes) { world.told.push_back(bytes); });
  CHECK(absl::IsNotFound(folder->OpenFile("nothing", OpenMode::kRead).status()));
  CHECK(folder->trouble().ok());
  const std::unique_ptr<Mapping> map =
      folder->OpenFile("file", OpenMode::kRead).value()->Map(3 << 20, Access::kRead).value();
  const int error = GENERATE(EMFILE, ENOMEM, EINTR, EIO);
  storage->FailNth(1, error);
  map->Fetch(1 << 20, 2 << 20);
  CHECK(storage->was_hit());
  CHECK(folder->trouble().ok() == (error == EIO));
  CHECK(world.told.empty());  // it is only the first read of the whole that failed
}

TEST_CASE("Pread: a file that is cut off is zero from there, and one that is gone is held") {
  World world(3 << 20);
  const std::unique_ptr<Mapping> map = world.Map(3 << 20);
  std::filesystem::resize_file(world.dir / "file", (1 << 20) + 10);
  map->Fetch(1 << 20, 2 << 20);
  CHECK(std::memcmp(map->data() + (1 << 20), world.text.data() + (1 << 20), 10) == 0);
  CHECK(map->data()[(1 << 20) + 10] == std::byte{0});
  std::filesystem::remove(world.dir / "file");
  CHECK(world.Holds(*map, 500'000, 900'000));
}

TEST_CASE("Pread: a block that cannot be read is told, is zero, and costs no other") {
  World world(64 << 10);
  world.disk->Break(world.dir / "file", 8192, 12'288);
  world.disk->Break(world.dir / "file", 12'288, 16'384);
  world.disk->Break(world.dir / "file", 40'000, 40'001);
  const std::unique_ptr<Mapping> map = world.Map(64 << 10);
  map->Fetch(0, 64 << 10);
  REQUIRE(world.told.size() == 2);
  CHECK(world.told[0].path == "file");
  CHECK(world.told[0].from == 8192);
  CHECK(world.told[0].to == 16'384);
  CHECK_FALSE(world.told[0].why.ok());
  CHECK(world.told[1].from == 36'864);
  CHECK(world.told[1].to == 40'960);
  std::string expected = world.text;
  std::memset(&expected[8192], 0, 8192);
  std::memset(&expected[36'864], 0, 4096);
  CHECK(std::memcmp(map->data(), expected.data(), expected.size()) == 0);
  // By a call, too.
  std::string read(20'000, 'x');
  CHECK(world.Open()->ReadAt(read.data(), read.size(), 1000).value() == read.size());
  CHECK(read == expected.substr(1000, 20'000));
  CHECK(world.told.size() == 3);
}

TEST_CASE("Pread: many files are read at once, and do not take all descriptors") {
  World world(16 << 10);
  std::vector<std::unique_ptr<Mapping>> maps;
  for (int i = 0; i < 2000; ++i) {
    const std::string name = "f" + std::to_string(i);
    WriteAll(world.dir / name, world.text + name);
    maps.push_back(world.Open(name)->Map(1 << 20, Access::kRead).value());
  }
  for (int i = 0; i < 2000; ++i) {
    Mapping& map = *maps[static_cast<std::size_t>(i)];
    REQUIRE(world.Holds(map, 0, 16 << 10));
    const std::string name = "f" + std::to_string(i);
    map.Fetch(16 << 10, (16 << 10) + 100);
    REQUIRE(std::string(reinterpret_cast<const char*>(map.data()) + (16 << 10)) == name);
  }
}

TEST_CASE("Pread: nothing can be changed through it") {
  World world(100);
  Folder& folder = *world.folder;
  const std::unique_ptr<File> file = world.Open();
  for (const absl::Status& status :
       {folder.OpenFile("file", OpenMode::kReadWrite).status(),
        folder.OpenFile("new", OpenMode::kCreate).status(), folder.CreateFolder("new"),
        folder.Rename("file", "new"), folder.RenameNew("file", "new"), folder.Unlink("file"),
        folder.RemoveFolder("new"), folder.SyncFolder(""), folder.SyncFileSystem(),
        file->WriteAt("x", 1, 0), file->Allocate(1000), file->PunchHole(0, 10), file->Sync(),
        file->Map(100, Access::kReadWrite).status()}) {
    CHECK(absl::IsFailedPrecondition(status));
  }
  CHECK(testing::ReadAll(world.dir / "file") == world.text);
}

}  // namespace
}  // namespace cordwood::os
