// What Repair makes of a damaged directory: usable again, with nothing deleted and every record
// that is given up named; also when it is killed, or the power goes, at any of its steps.

#include "cordwood/repair.h"

#include <cstddef>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cordwood/log/control.h"
#include "cordwood/verify.h"
#include "sim/disk.h"
#include "sim/storage.h"
#include "tests/catch.h"
#include "tests/support/damage.h"
#include "tests/support/environment.h"

namespace cordwood {
namespace {

using testing::Bad;
using testing::Data;
using testing::FileOf;
using testing::FlipBit;
using testing::kFirst;
using testing::kFolder;
using testing::kFrameBytes;
using testing::kRecords;
using testing::OpenQuiet;
using testing::PositionOf;
using testing::StateOf;
using testing::TempDir;

using Offsets = std::set<Offset>;

// Of the first partition.
constexpr std::uint64_t kStartInControl =
    log::kControlHeaderBytes + offsetof(log::ControlBlock, start);
constexpr std::uint64_t kStateInControl =
    log::kControlHeaderBytes + offsetof(log::ControlBlock, state);

Offsets ValidIn(const VerifiedPartition& partition) {
  Offsets offsets;
  for (const VerifiedRange& range : partition.ranges) {
    if (range.state != VerifiedState::kValid) continue;
    for (Offset offset = range.from; offset < range.to; ++offset) offsets.insert(offset);
  }
  return offsets;
}

// Every offset of the partition that a reader gets a record of; what lies between is in its gaps.
Offsets ReadFrom(const Partition& partition) {
  Offsets offsets;
  std::int64_t in_gaps = 0;
  PartitionReader reader = partition.Read(partition.start_offset()).value();
  for (const RecordView& record : reader) offsets.insert(record.offset());
  CHECK(reader.status() == absl::OkStatus());
  for (const Gap& gap : reader.gaps()) in_gaps += gap.to - gap.from;
  CHECK(in_gaps + static_cast<std::int64_t>(offsets.size()) ==
        partition.end_offset() - partition.start_offset());
  return offsets;
}

// Opens it, reads what was valid, and goes on.
void CheckIsUsable(const std::filesystem::path& path, const Offsets& valid,
                   const std::shared_ptr<Storage>& storage = nullptr) {
  const absl::StatusOr<Broker> broker =
      Broker::Open(path, {.background_threads = false, .storage = storage});
  REQUIRE(broker.status() == absl::OkStatus());
  const absl::StatusOr<Topic> topic = broker->OpenTopic("t");
  REQUIRE(topic.status() == absl::OkStatus());
  const Partition partition = topic->partition(0);
  CHECK(ReadFrom(partition) == valid);
  const absl::StatusOr<Offset> next = partition.Append({.value = "next"});
  REQUIRE(next.status() == absl::OkStatus());
  CHECK(*next >= kRecords);  // never one that was given out
  CHECK(broker->DescribeGroup("g").status() == absl::OkStatus());
  CHECK(broker->Close() == absl::OkStatus());
}

// Of each range that was not valid one that was given up, and nothing else.
void CheckGivenUp(const RepairReport& report, const std::vector<VerifiedRange>& bad) {
  REQUIRE(report.given_up.size() == bad.size());
  for (std::size_t i = 0; i < bad.size(); ++i) {
    CHECK(report.given_up[i].where == TopicPartition{"t", 0});
    CHECK(report.given_up[i].from == bad[i].from);
    CHECK(report.given_up[i].to == bad[i].to);
    CHECK_FALSE(report.given_up[i].why.empty());
  }
}

struct Damage {
  const char* name;
  std::function<void(const Data&)> make;
  // What is kept aside, of which the first is what was damaged; of the index one name is enough.
  std::vector<std::string> kept = {};
};

std::vector<std::string> SegmentFiles(Offset base) {
  const std::string stem = kFolder + segment::SegmentFileName(base, "");
  return {stem + ".log", stem + ".index", stem + ".timeindex"};
}

std::vector<Damage> AllDamage() {
  const Data whole;
  const std::vector<Offset> bases = whole.Bases();
  const Offset middle = bases[1], last = bases.back();
  const std::string index = kFolder + segment::SegmentFileName(middle, ".index");
  const std::string times = kFolder + segment::SegmentFileName(middle, ".timeindex");
  std::vector<std::string> all = {"topics/t/control"};
  for (const Offset base : bases) {
    for (const std::string& file : SegmentFiles(base)) all.push_back(file);
  }
  const auto flip = [](std::string file, std::uint64_t at) {
    return [=](const Data& data) { FlipBit(data / file, at); };
  };
  return {
      {"nothing", [](const Data&) {}},
      {"a record's header", flip(kFirst, PositionOf(5, 0) + 16)},
      {"a record's value", flip(FileOf(last), PositionOf(last + 1, last) + 70)},
      {"the header of the first segment", flip(kFirst, 40), SegmentFiles(0)},
      {"the header of a segment", flip(FileOf(middle), 40), SegmentFiles(middle)},
      {"the header of the active segment", flip(FileOf(last), 40), SegmentFiles(last)},
      {"two headers that are neighbours",
       [=](const Data& data) {
         FlipBit(data / FileOf(0), 3);
         FlipBit(data / FileOf(middle), 3);
       },
       {SegmentFiles(0)[0], SegmentFiles(0)[1], SegmentFiles(0)[2], SegmentFiles(middle)[0],
        SegmentFiles(middle)[1], SegmentFiles(middle)[2]}},
      {"a segment is cut off",
       [=](const Data& data) {
         std::filesystem::resize_file(data / FileOf(middle), PositionOf(middle + 2, middle) + 9);
       }},
      {"the active segment is cut off",
       [=](const Data& data) {
         std::filesystem::resize_file(data / FileOf(last), PositionOf(last + 2, last) + 9);
       }},
      {"a segment is missing",
       [=](const Data& data) { std::filesystem::remove(data / FileOf(middle)); }},
      {"a seal", flip(FileOf(middle), 530)},
      {"an index", flip(index, 64), {index, times}},
      {"a time index", flip(times, 3), {index, times}},
      {"the control page", flip("topics/t/control", 0), {"topics/t/control"}},
      {"the control page, and a header",
       [=](const Data& data) {
         FlipBit(data / "topics/t/control", 0);
         FlipBit(data / FileOf(middle), 40);
       },
       {SegmentFiles(middle)[0], SegmentFiles(middle)[1], SegmentFiles(middle)[2],
        "topics/t/control"}},
      // What it says was durable still is: nothing behind the damage is dropped.
      {"the control page says deleted, and a record",
       [=](const Data& data) {
         FlipBit(data / "topics/t/control", kStateInControl, 1);
         FlipBit(data / kFirst, PositionOf(5, 0) + 16);
       },
       {"topics/t/control"}},
      {"the control page says another start, and the header of the first segment",
       [=](const Data& data) {
         FlipBit(data / "topics/t/control", kStartInControl + 5);
         FlipBit(data / kFirst, 40);
       },
       {SegmentFiles(0)[0], SegmentFiles(0)[1], SegmentFiles(0)[2], "topics/t/control"}},
      {"all headers, and the control page",
       [=](const Data& data) {
         for (const Offset base : data.Bases()) FlipBit(data / FileOf(base), 40);
         FlipBit(data / "topics/t/control", 0);
       },
       all},
      {"FORMAT", flip("FORMAT", 3), {"FORMAT"}},
      {"the locks of a group are missing",
       [](const Data& data) { std::filesystem::remove(data / "groups/g/members"); }},
      {"the offsets of a group", flip("groups/g/offsets", 0), {"groups/g/offsets"}},
      {"all segments are missing",
       [=](const Data& data) {
         for (const Offset base : data.Bases()) std::filesystem::remove(data / FileOf(base));
       }},
      {"the partition is missing",
       [=](const Data& data) { std::filesystem::remove_all(data / kFolder); }},
  };
}

TEST_CASE("Repair: after any damage what was valid can be read, and the rest is named") {
  for (const Damage& damage : AllDamage()) {
    INFO(damage.name);
    CAPTURE(damage.name);
    const Data data;
    damage.make(data);
    const testing::DirectoryState before = StateOf(data.path());
    const VerifyReport found = data.Look();
    const VerifiedPartition partition = found.topics.at(0).partitions.at(0);

    const absl::StatusOr<RepairReport> report = Repair(data.path());
    REQUIRE(report.status() == absl::OkStatus());
    CheckGivenUp(*report, Bad(partition));
    std::set<std::string> kept;
    for (const RepairReport::KeptAside& one : report->kept_aside) {
      kept.insert(one.from);
      CHECK(one.to == "damaged/1/" + one.from);
      CHECK(testing::ReadAll(data / one.to) == before.at(one.from).bytes);
    }
    CHECK(kept == std::set<std::string>(damage.kept.begin(), damage.kept.end()));

    // A second one finds nothing left to do, and changes nothing.
    const testing::DirectoryState after = StateOf(data.path());
    CHECK(Repair(data.path()).value().kept_aside.empty());
    CHECK(Repair(data.path()).value().rebuilt.empty());
    CHECK((StateOf(data.path()) == after));
    if (report->kept_aside.empty() && report->rebuilt.empty()) CHECK((after == before));

    const Offsets valid = ValidIn(partition);
    CheckIsUsable(data.path(), valid);
    // And by those who come later; nothing of what was kept has gone.
    Offsets with_next = ValidIn(data.LookAtPartition());
    CHECK(with_next.size() == valid.size() + 1);
    with_next.erase(std::prev(with_next.end()));
    CHECK(with_next == valid);
    for (const RepairReport::KeptAside& one : report->kept_aside) {
      CHECK(testing::ReadAll(data / one.to) == before.at(one.from).bytes);
    }
  }
}

TEST_CASE("Repair: what a damaged control page says was durable stays, behind other damage, too") {
  const Data data;
  const bool in_record = GENERATE(true, false);
  if (in_record) FlipBit(data / kFirst, PositionOf(5, 0) + 16);
  if (!in_record) FlipBit(data / kFirst, 40);
  const bool says_deleted = GENERATE(true, false);
  if (says_deleted) FlipBit(data / "topics/t/control", kStateInControl, 1);
  if (!says_deleted) FlipBit(data / "topics/t/control", kStartInControl + 5);
  const std::size_t left = in_record ? 99 : 70;
  CHECK(ValidIn(data.LookAtPartition()).size() == left);
  REQUIRE(Repair(data.path()).ok());
  CHECK(ValidIn(data.LookAtPartition()).size() == left);
  const Broker broker = OpenQuiet(data.path());
  CHECK(ReadFrom(broker.OpenTopic("t").value().partition(0)).size() == left);
}

TEST_CASE("Repair: a committed offset survives the damage of its file's header") {
  const Data data;
  FlipBit(data / "groups/g/offsets", 0);
  REQUIRE(Repair(data.path()).ok());
  const Broker broker = OpenQuiet(data.path());
  const GroupDescription group = broker.DescribeGroup("g").value();
  REQUIRE(group.partitions.size() == 1);
  CHECK(group.partitions[0].committed == 7);
}

TEST_CASE("Repair: a start of which no slot is whole is made anew from the control page") {
  const Data data;
  {
    Broker broker = OpenQuiet(data.path());
    REQUIRE(broker.OpenTopic("t").value().partition(0).Trim(40).ok());
    REQUIRE(broker.Close().ok());
  }
  const bool with_control = GENERATE(true, false);
  FlipBit(data / (kFolder + "start"), 8);
  FlipBit(data / (kFolder + "start"), 64 + 8);
  if (!with_control) FlipBit(data / "topics/t/control", 0);
  const std::string damaged = testing::ReadAll(data / (kFolder + "start"));
  REQUIRE(Repair(data.path()).ok());
  CHECK(testing::ReadAll(data / ("damaged/1/" + kFolder + "start")) == damaged);
  const Broker broker = OpenQuiet(data.path());
  const Partition partition = broker.OpenTopic("t").value().partition(0);
  CHECK(partition.start_offset() == (with_control ? 40 : 30));
  CHECK(ReadFrom(partition).size() == static_cast<std::size_t>(with_control ? 60 : 70));
}

TEST_CASE("Repair: a control page that is damaged, too, is not asked where a log starts") {
  const Data data;
  {
    Broker broker = OpenQuiet(data.path());
    const Partition partition = broker.OpenTopic("t").value().partition(0);
    REQUIRE(partition.Trim(35).ok());
    REQUIRE(partition.Trim(40).ok());
    REQUIRE(broker.Close().ok());
  }
  FlipBit(data / (kFolder + "start"), 8);
  FlipBit(data / (kFolder + "start"), 64 + 8);
  // 2^40 more.
  FlipBit(data / "topics/t/control", kStartInControl + 5);
  REQUIRE(Repair(data.path()).ok());
  const Broker broker = OpenQuiet(data.path());
  const Partition partition = broker.OpenTopic("t").value().partition(0);
  CHECK(partition.start_offset() == 30);
  CHECK(ReadFrom(partition).size() == 70);
}

TEST_CASE("Repair: a topic without its config goes aside as a whole, and the others stay") {
  const Data data;
  {
    Broker broker = OpenQuiet(data.path());
    REQUIRE(broker.CreateTopic("other").value().partition(0).Append({.value = "here"}).ok());
    REQUIRE(broker.Close().ok());
  }
  testing::WriteAll(data / "topics/t/config", "topic.id=");
  const testing::DirectoryState before = StateOf(data / "topics/t");
  const RepairReport report = Repair(data.path()).value();
  REQUIRE(report.kept_aside.size() == 1);
  CHECK(report.kept_aside[0].from == "topics/t");
  CHECK((StateOf(data / report.kept_aside[0].to) == before));
  REQUIRE(report.given_up.size() == 1);
  CHECK(report.given_up[0].where == TopicPartition{"t", 0});
  const Broker broker = OpenQuiet(data.path());
  CHECK(broker.TopicNames() == std::vector<std::string>{"other"});
  CHECK(testing::ValuesOf(broker.OpenTopic("other").value().partition(0)) ==
        std::vector<std::string>{"here"});
  CHECK(broker.CreateTopic("t").ok());
}

TEST_CASE("Repair: while the directory is open it is an error, and nothing is touched") {
  const Data data(/*close=*/false);
  FlipBit(data / FileOf(data.Bases()[1]), 40);
  const auto names = testing::NamesIn(data.path());
  const absl::Status status = Repair(data.path()).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(status.message().find("while it is open") != std::string::npos);
  CHECK(testing::NamesIn(data.path()) == names);
}

// A simulated machine with the directory of Data, damaged in five places.
struct DamagedMachine {
  DamagedMachine() {
    storage = sim::MakeStorage(disk);
    Broker broker = testing::MakeData("/data", storage);
    REQUIRE(broker.Close().ok());
    // Indexes, too, which nobody waits for.
    REQUIRE(storage->OpenFolder("/data", {}).value()->SyncFileSystem().ok());
    Flip(FileOf(0), 40);
    Flip(kFolder + segment::SegmentFileName(30, ".index"), 64);
    Flip("FORMAT", 0);
    Flip("groups/g/offsets", 0);
    Flip("topics/t/control", kStateInControl);  // it says that the topic was deleted
  }
  void Flip(const std::string& file, std::uint64_t position) {
    REQUIRE(disk->FlipBit("/data", file, position, 1).ok());
    damaged.emplace_back(file, Read(file));
  }
  std::string Read(const std::string& file) const {
    const auto folder = storage->OpenFolder("/data", {}).value();
    const auto opened = folder->OpenFile(file, os::OpenMode::kRead);
    if (!opened.ok()) return "(none)";
    std::string bytes(opened.value()->Info().value().size, '\0');
    REQUIRE(opened.value()->ReadAt(bytes.data(), bytes.size(), 0).ok());
    return bytes;
  }
  // False: it came to its end before that operation.
  bool RepairAndEndAt(int operation, bool power) {
    int left = operation;
    disk->Before([&] {
      if (left == 0 || --left > 0) return;
      if (power) disk->CutPower();
      if (!power) disk->KillProcess();
    });
    Repair("/data", {.storage = storage}).IgnoreError();
    disk->Before(nullptr);
    if (left > 0) return false;
    storage = sim::MakeStorage(disk);
    return true;
  }

  std::shared_ptr<sim::Disk> disk = std::make_shared<sim::Disk>(1);
  std::shared_ptr<Storage> storage;
  std::vector<std::pair<std::string, std::string>> damaged;
};

TEST_CASE("Repair: killed, or without power, at any operation, it is run again") {
  const bool power = GENERATE(false, true);
  // Or a Broker comes first, and what that has confirmed stays, whatever happens then.
  const bool with_broker = GENERATE(false, true);
  const int stride = static_cast<int>(
      testing::NumberFromEnvironment("CORDWOOD_FAULT_STRIDE", with_broker ? 13 : 7));
  int ends = 0, opened = 0;
  for (int operation = 1;; operation += stride) {
    CAPTURE(power, with_broker, operation);
    DamagedMachine machine;
    const VerifyReport found = Verify("/data", {.storage = machine.storage}).value();
    const Offsets valid = ValidIn(found.topics.at(0).partitions.at(0));
    REQUIRE(found.problems.size() == 5);
    REQUIRE_FALSE(valid.empty());
    REQUIRE(valid.size() < static_cast<std::size_t>(kRecords));
    if (!machine.RepairAndEndAt(operation, power)) break;
    ++ends;
    Offsets all = valid;
    absl::StatusOr<Broker> broker = absl::UnknownError("not opened");
    if (with_broker) {
      broker = Broker::Open("/data", {.background_threads = false, .storage = machine.storage});
    }
    if (broker.ok()) {
      ++opened;
      const Partition partition = broker->OpenTopic("t").value().partition(0);
      const absl::StatusOr<Offset> next =
          partition.Append({.value = "between"}, {.durability = Durability::kDurable});
      REQUIRE(next.status() == absl::OkStatus());
      REQUIRE(*next >= kRecords);
      all.insert(*next);
      if (power) machine.disk->CutPower();
      if (!power) REQUIRE(broker->Close().ok());
      broker = absl::UnknownError("gone");
      machine.storage = sim::MakeStorage(machine.disk);
    }
    const absl::StatusOr<RepairReport> report = Repair("/data", {.storage = machine.storage});
    REQUIRE(report.status() == absl::OkStatus());
    for (const auto& [file, bytes] : machine.damaged) {
      CAPTURE(file);
      // In the folder of the first one, or of the second; or the Broker has made it anew, or well.
      const bool is_kept = machine.Read("damaged/1/" + file) == bytes ||
                           machine.Read("damaged/2/" + file) == bytes ||
                           (file.find("index") != std::string::npos && with_broker) ||
                           (file.find("control") != std::string::npos && with_broker);
      REQUIRE(is_kept);
    }
    // Something stands in for the segment, so that its offsets are never given out again.
    REQUIRE(machine.Read(FileOf(0)) != "(none)");
    CheckIsUsable("/data", all, machine.storage);
  }
  CHECK(ends > 150 / stride);
  CHECK((!with_broker || opened > 5));
}

}  // namespace
}  // namespace cordwood
