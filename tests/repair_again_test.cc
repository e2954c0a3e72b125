// Repair on a disk that is not to be trusted, cut off, failing at any of its operations, with a
// Broker in between: nothing that could be read is lost, nothing that was put aside is touched
// again, and nothing that the Broker has written.

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/repair.h"
#include "cordwood/verify.h"
#include "sim/disk.h"
#include "sim/storage.h"
#include "tests/catch.h"
#include "tests/support/bad_blocks.h"
#include "tests/support/damage.h"
#include "tests/support/environment.h"
#include "tests/support/faulty_storage.h"

namespace cordwood::repair_again_test {
namespace {

using testing::BadBlocks;
using testing::Data;
using testing::FaultyStorage;
using testing::FileOf;
using testing::FlipBit;
using testing::kFirst;
using testing::kFolder;
using testing::kRecords;
using testing::OpenQuiet;
using testing::PositionOf;
using testing::ReadAll;
using testing::StateOf;
using testing::TempDir;
using testing::WriteAll;

using Values = std::vector<std::string>;

Values ValuesIn(const std::filesystem::path& path, const char* topic = "t") {
  Broker broker = OpenQuiet(path);
  Values values = testing::ValuesOf(broker.OpenTopic(topic).value().partition(0));
  CHECK(broker.Close().ok());
  return values;
}

// Every file below damaged/, by its path in the directory.
testing::DirectoryState KeptIn(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path / "damaged")) return {};
  testing::DirectoryState kept = StateOf(path / "damaged");
  for (auto& [name, state] : kept) state.written = {};  // a rename changes it
  return kept;
}

bool Holds(const testing::DirectoryState& state, const std::string& bytes) {
  return std::any_of(state.begin(), state.end(),
                     [&](const auto& file) { return file.second.bytes == bytes; });
}

// ---- A disk that gives something else the next time

TEST_CASE("Repair: what cannot be read, and then can, costs no record") {
  const auto [file, from] = GENERATE(table<std::string, std::uint64_t>({
      {kFirst, 8192},
      {kFirst, 0},
      {"topics/t/config", 0},
      {"topics/t/control", 0},
      {"FORMAT", 0},
  }));
  for (int reads = 1;; ++reads) {
    CAPTURE(file, from, reads);
    const Data data;
    auto disk = std::make_shared<BadBlocks>();
    disk->Break(data / file, from, from + 1);
    disk->reads_until_well = reads;
    const absl::StatusOr<RepairReport> report = Repair(data.path(), {.storage = disk});
    REQUIRE(report.status() == absl::OkStatus());
    // What it cost is named.
    std::size_t lost = 0;
    bool has_topic = true;
    for (const RepairReport::GivenUp& one : report->given_up) {
      lost += static_cast<std::size_t>(one.to - one.from);
      has_topic = has_topic && one.why.find("the whole topic") == std::string::npos;
    }
    if (has_topic) CHECK(ValuesIn(data.path()).size() + lost == kRecords);
    if (report->kept_aside.empty()) CHECK(lost == 0);
    if (disk->reads_until_well > 0) break;  // it was never well
    REQUIRE(reads < 100);
  }
}

TEST_CASE("Repair: a bad read that is over when it looks again changes nothing") {
  const Data data;
  const std::string file = GENERATE(as<std::string>{}, kFirst, "topics/t/config",
                                    "topics/t/control", "FORMAT", "groups/g/offsets");
  const testing::DirectoryState before = StateOf(data.path());
  auto disk = std::make_shared<BadBlocks>();
  disk->Break(data / file, 0, 1);
  disk->reads_until_well = 2;  // of the whole, and of the block
  const RepairReport report = Repair(data.path(), {.storage = disk}).value();
  CHECK(disk->reads_until_well == 0);
  CHECK(report.given_up.empty());
  CHECK(report.kept_aside.empty());
  CHECK(report.rebuilt.empty());
  CHECK((StateOf(data.path()) == before));
}

TEST_CASE("Repair: a disk that gives something else each time is an error, and nothing is done") {
  const Data data;
  const testing::DirectoryState before = StateOf(data.path());
  auto disk = std::make_shared<BadBlocks>();
  int looks = 0;
  disk->before_read = [&](std::string_view path, std::uint64_t) {
    if (path == "FORMAT") FlipBit(data / kFirst, PositionOf(++looks % 20, 0) + 60);
  };
  const absl::Status status = Repair(data.path(), {.storage = disk}).status();
  CHECK(absl::IsUnavailable(status));
  CHECK(status.message().find("something else each time") != std::string::npos);
  CHECK(KeptIn(data.path()).empty());
}

TEST_CASE("Repair: what takes a file's place is on the disk before, where no Broker sweeps it") {
  const Data data;
  auto disk = std::make_shared<BadBlocks>();
  disk->Break(data / kFirst, 8192, 8193);
  FlipBit(data / FileOf(data.Bases()[1]), 40);
  FlipBit(data / "groups/g/offsets", 0);
  REQUIRE(Repair(data.path(), {.storage = disk}).status() == absl::OkStatus());
  int exchanges = 0;
  for (std::size_t i = 0; i < disk->done.size(); ++i) {
    const std::string& done = disk->done[i];
    CAPTURE(done);
    // A map of a page that was cut off, or lies on a bad block, would be a signal.
    CHECK(done.find("map topics/t/control") == std::string::npos);
    if (done.find("exchange ") != 0) continue;
    ++exchanges;
    const std::string made = done.substr(9);
    CHECK(made.find("damaged/") == 0);
    CHECK(disk->done[i - 1] == "sync " + made.substr(0, made.rfind('/')));
    CHECK(disk->done[i + 1] == disk->done[i - 1]);
  }
  CHECK(exchanges == 5);
}

// ---- Names

TEST_CASE("Repair: topics whose names are alike are kept aside side by side") {
  const Data data;
  {
    Broker broker = OpenQuiet(data.path());
    for (const char* name : {"t.2", "t-2", "t2"}) {
      REQUIRE(broker.CreateTopic(name).value().partition(0).Append({.value = name}).ok());
    }
    REQUIRE(broker.Close().ok());
  }
  // A file of t goes aside before t does as a whole.
  auto disk = std::make_shared<BadBlocks>();
  disk->Break(data / "topics/t/config", 0, 1);
  WriteAll(data / "topics/t.2/config", "topic.id=");
  const RepairReport report = Repair(data.path(), {.storage = disk}).value();
  std::set<std::string> kept;
  for (const RepairReport::KeptAside& one : report.kept_aside) {
    CHECK(kept.insert(one.to).second);
    CHECK(std::filesystem::exists(data / one.to));
  }
  CHECK(kept == std::set<std::string>{"damaged/1/topics/t/config", "damaged/2/topics/t",
                                      "damaged/2/topics/t.2"});
  CHECK(ValuesIn(data.path(), "t-2") == Values{"t-2"});
  CHECK(ValuesIn(data.path(), "t2") == Values{"t2"});
  CHECK(ReadAll(data / "damaged/2/topics/t.2/config") == "topic.id=");
}

TEST_CASE("Repair: what else is in damaged is left alone, whatever its name") {
  const Data data;
  FlipBit(data / FileOf(data.Bases()[1]), 40);
  std::filesystem::create_directories(data / "damaged/2147483647");
  std::filesystem::create_directories(data / "damaged/99999999999999999999");
  std::filesystem::create_directories(data / "damaged/-3");
  WriteAll(data / "damaged/2147483647/unfinished", "");
  WriteAll(data / "damaged/7", "a file");
  const testing::DirectoryState before = KeptIn(data.path());
  const RepairReport report = Repair(data.path()).value();
  REQUIRE(report.kept_aside.size() == 3);
  CHECK(report.kept_aside[2].to == "damaged/8/" + FileOf(data.Bases()[1]));
  testing::DirectoryState after = KeptIn(data.path());
  std::erase_if(after, [](const auto& file) { return file.first.find("8") == 0; });
  CHECK((after == before));
}

TEST_CASE("Repair: a stray file whose name is a huge number does not move the end there") {
  const Data data;
  const std::string stray = kFolder + "09000000000000000000.log";
  const std::string larger = kFolder + "99999999999999999999.log";
  WriteAll(data / stray, "not a segment");
  WriteAll(data / larger, "nor this");
  FlipBit(data / "topics/t/control", 0);
  const RepairReport report = Repair(data.path()).value();
  CHECK(report.given_up.empty());
  CHECK(ReadAll(data / ("damaged/1/" + stray)) == "not a segment");
  CHECK(ReadAll(data / larger) == "nor this");
  Broker broker = OpenQuiet(data.path());
  const Partition partition = broker.OpenTopic("t").value().partition(0);
  CHECK(testing::ValuesOf(partition).size() == kRecords);
  CHECK(partition.Append({.value = "next"}).value() < Offset{1} << 40);
}

TEST_CASE("Repair: what it writes has the mode of what was there") {
  const int mode = GENERATE(0600, 0640);
  TempDir dir;
  const std::filesystem::path path = dir / "data";
  const auto mode_of = [](const std::filesystem::path& file) {
    struct stat info;
    REQUIRE(stat(file.c_str(), &info) == 0);
    return static_cast<int>(info.st_mode & 0777);
  };
  {
    Broker broker = Broker::Open(path, {.background_threads = false, .file_mode = mode}).value();
    const Partition partition = broker.CreateTopic("t").value().partition(0);
    REQUIRE(partition.Append({.value = "v"}).ok());
    REQUIRE(broker.Close().ok());
  }
  FlipBit(path / kFirst, 40);
  FlipBit(path / "FORMAT", 0);
  REQUIRE(Repair(path).status() == absl::OkStatus());
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    CAPTURE(entry.path());
    CHECK(mode_of(entry.path()) == (entry.is_directory() ? mode | (mode & 0444) >> 2 : mode));
  }
}

// ---- Failures, and a Broker in between

TEST_CASE("Repair: of a whole directory, whatever fails, nothing is changed") {
  const Data data;
  const testing::DirectoryState before = StateOf(data.path());
  const auto storage = FaultyStorage::Over(Storage::OperatingSystem());
  const int stride = static_cast<int>(testing::NumberFromEnvironment("CORDWOOD_FAULT_STRIDE", 3));
  constexpr int kErrors[] = {EMFILE, ENOMEM, EINTR, ENFILE, EACCES};
  bool was_hit = true;
  for (int nth = 1; was_hit; nth += stride) {
    storage->FailNth(nth, kErrors[static_cast<std::size_t>(nth) % std::size(kErrors)]);
    const absl::StatusOr<RepairReport> report = Repair(data.path(), {.storage = storage});
    was_hit = storage->was_hit();
    CAPTURE(nth, storage->hit());
    if (report.ok()) CHECK((report->kept_aside.empty() && report->rebuilt.empty()));
    REQUIRE((StateOf(data.path()) == before));
  }
}

TEST_CASE("Repair: fails at any operation, then a Broker runs, then it is repaired again") {
  const auto stride = static_cast<int>(testing::NumberFromEnvironment("CORDWOOD_FAULT_STRIDE", 13));
  constexpr int kErrors[] = {EIO, ENOSPC, EMFILE, EINTR, ENOMEM};
  int failed = 0, opened = 0;
  bool was_hit = true;
  for (int nth = 1; was_hit; nth += stride) {
    // A Repair, or a Broker, that comes after one that failed syncs the whole file system.
    const Data data(/*close=*/true, testing::FolderInMemory());
    const Offset middle = data.Bases()[1];
    std::vector<std::pair<std::string, std::string>> damaged;
    std::set<std::string> all = {FileOf(middle), kFolder + "00000000000000000000.index",
                                 "groups/g/offsets"};
    if (nth % 2 == 0) all.insert("FORMAT");
    if (nth % 3 == 0) all.insert("topics/t/control");
    for (const std::string& file : all) {
      FlipBit(data / file, file == "groups/g/offsets" || file[0] == 'F' ? 0 : 40);
      damaged.emplace_back(file, ReadAll(data / file));
    }
    const VerifiedPartition before = data.LookAtPartition();
    const auto storage = FaultyStorage::Over(Storage::OperatingSystem());
    storage->FailNth(nth, kErrors[static_cast<std::size_t>(nth / stride) % std::size(kErrors)]);
    const absl::Status status = Repair(data.path(), {.storage = storage}).status();
    was_hit = storage->was_hit();
    CAPTURE(nth, storage->hit());
    if (!status.ok()) {
      ++failed;
      REQUIRE(was_hit);
      REQUIRE(status.message().size() > 10);
    }
    // What was put aside is never touched again.
    const testing::DirectoryState kept = KeptIn(data.path());
    Offset appended = -1;
    if (absl::StatusOr<Broker> broker = Broker::Open(data.path(), {.background_threads = false});
        broker.ok()) {
      ++opened;
      const Partition partition = broker->OpenTopic("t").value().partition(0);
      const absl::StatusOr<Offset> next = partition.Append({.value = "between"});
      REQUIRE(next.status() == absl::OkStatus());
      appended = *next;
      REQUIRE(appended >= kRecords);
      REQUIRE(broker->Close().ok());
    }
    REQUIRE(Repair(data.path()).status() == absl::OkStatus());
    const testing::DirectoryState kept_then = KeptIn(data.path());
    for (const auto& [name, state] : kept) {
      CAPTURE(name);
      REQUIRE(kept_then.count(name) == 1);
      REQUIRE(kept_then.at(name).bytes == state.bytes);
    }
    for (const auto& [file, bytes] : damaged) {
      CAPTURE(file);
      // What the Broker has made anew by itself is no loss.
      const bool is_rebuilt_by_broker =
          file.find("control") != std::string::npos || file.find("index") != std::string::npos;
      REQUIRE((is_rebuilt_by_broker || Holds(kept_then, bytes)));
    }
    Broker broker = OpenQuiet(data.path());
    const Partition partition = broker.OpenTopic("t").value().partition(0);
    PartitionReader reader = partition.Read(partition.start_offset()).value();
    Offset valid = 0;
    bool has_appended = appended < 0;
    for (const RecordView& record : reader) {
      if (record.offset() < kRecords) ++valid;
      if (record.offset() == appended) has_appended = record.value() == "between";
    }
    REQUIRE(valid == before.records);
    REQUIRE(has_appended);
    REQUIRE(partition.Append({.value = "last"}).value() > appended);
    REQUIRE(broker.DescribeGroup("g").value().partitions.at(0).committed == 7);
    REQUIRE(broker.Close().ok());
  }
  CHECK(failed > 10);
  CHECK(opened > 5);
}

TEST_CASE(
    "Repair: killed, what a Broker then appends to a file that it replaced outlives the power") {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    const auto disk = std::make_shared<sim::Disk>(seed);
    auto storage = std::make_shared<BadBlocks>(sim::MakeStorage(disk));
    REQUIRE(testing::MakeData("/data", storage).Close().ok());
    const auto folder = storage->OpenFolder("/data", {}).value();
    REQUIRE(folder->SyncFileSystem().ok());
    std::string active;
    const std::vector<os::FolderEntry> entries = folder->List("topics/t/0").value();
    for (const os::FolderEntry& entry : entries) {
      if (segment::BaseOfFileName(entry.name)) active = std::max(active, entry.name);
    }
    const std::uint64_t inode =
        folder->OpenFile(kFolder + active, os::OpenMode::kRead).value()->Info().value().inode;
    const auto after_kill = [&] {
      storage = std::make_shared<BadBlocks>(sim::MakeStorage(disk));
      storage->Break(inode, 12'288, 16'384);  // behind the last record
    };
    after_kill();
    // Before the names are synced.
    disk->Before([&] {
      const bool is_exchanged = std::any_of(storage->done.begin(), storage->done.end(),
                                            [](const auto& done) { return done[0] == 'e'; });
      if (is_exchanged) disk->KillProcess();
    });
    REQUIRE_FALSE(Repair("/data", {.storage = storage}).ok());
    disk->Before(nullptr);
    after_kill();
    Offset appended = 0;
    {
      const Broker broker =
          Broker::Open("/data", {.background_threads = false, .storage = storage}).value();
      const Partition partition = broker.OpenTopic("t").value().partition(0);
      appended =
          partition.Append({.value = "between"}, {.durability = Durability::kDurable}).value();
      disk->CutPower();
    }
    after_kill();
    REQUIRE(Repair("/data", {.storage = storage}).status() == absl::OkStatus());
    after_kill();
    const Broker broker =
        Broker::Open("/data", {.background_threads = false, .storage = storage}).value();
    PartitionReader reader = broker.OpenTopic("t").value().partition(0).Read(appended).value();
    bool is_there = false;
    for (const RecordView& record : reader) {
      is_there = is_there || (record.offset() == appended && record.value() == "between");
    }
    REQUIRE(is_there);
  }
}

TEST_CASE("Repair: a file that is larger than any of ours is not copied from a bad disk") {
  const Data data;
  auto disk = std::make_shared<BadBlocks>();
  disk->Break(data / kFirst, 8192, 8193);
  std::filesystem::resize_file(data / kFirst, std::uint64_t{1} << 40);
  const absl::Status status = Repair(data.path(), {.storage = disk}).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(status.message().find("move it away") != std::string::npos);
  CHECK(std::filesystem::file_size(data / kFirst) == std::uint64_t{1} << 40);
}

}  // namespace
}  // namespace cordwood::repair_again_test
