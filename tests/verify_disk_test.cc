// What a disk does to files, as Verify tells it and Repair mends it: blocks that cannot be read,
// files that are cut off while they are looked at, and blocks in the wrong place.

#include <filesystem>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "cordwood/repair.h"
#include "cordwood/verify.h"
#include "tests/catch.h"
#include "tests/support/bad_blocks.h"
#include "tests/support/damage.h"

namespace cordwood {
namespace {

using testing::Bad;
using testing::BadBlocks;
using testing::Data;
using testing::FileOf;
using testing::kFirst;
using testing::kFolder;
using testing::kFrameBytes;
using testing::kRecords;
using testing::OpenQuiet;
using testing::PositionOf;
using testing::ReadAll;
using testing::WriteAll;
using State = VerifiedState;

std::size_t ReadableRecords(const Data& data) {
  const Broker broker = OpenQuiet(data.path());
  return testing::ValuesOf(broker.OpenTopic("t").value().partition(0)).size();
}

TEST_CASE("Verify: a block that the disk cannot read costs the records in it, and no signal") {
  Data data;
  auto disk = std::make_shared<BadBlocks>();
  disk->Break(data / kFirst, 8192, 12'288);
  const VerifyReport report = Verify(data.path(), {.storage = disk}).value();
  const VerifiedPartition& partition = report.topics.at(0).partitions.at(0);
  // Frames of 1,048 bytes: those that reach into [8192, 12288).
  const std::vector<VerifiedRange> bad = Bad(partition);
  REQUIRE_FALSE(bad.empty());
  CHECK(bad.front().from == 6);
  CHECK(bad.back().to == 11);
  CHECK(partition.records == kRecords - 5);
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == kFirst);
  CHECK(report.problems[0].position == 8192);
  CHECK(report.problems[0].what.find("4096 bytes") != std::string::npos);
  CHECK(report.problems[0].what.find("EIO") != std::string::npos);
}

TEST_CASE("Repair: of a file that cannot be read everywhere, what can be takes its place") {
  Data data;
  const Offset last = data.Bases().back();
  const auto [file, from, lost] = GENERATE_COPY(table<std::string, std::uint64_t, int>({
      {kFirst, 8192, 5},
      {FileOf(last), 0, static_cast<int>(kRecords - last)},
      {kFolder + "00000000000000000000.index", 0, 0},
      {"topics/t/control", 0, 0},
      {"groups/g/offsets", 0, 0},
      {"FORMAT", 0, 0},
  }));
  CAPTURE(file, from);
  const std::string before = ReadAll(data / file);
  auto disk = std::make_shared<BadBlocks>();
  disk->Break(data / file, from, from + 1);
  CHECK_FALSE(Verify(data.path(), {.storage = disk}).value().is_clean());
  const RepairReport report = Repair(data.path(), {.storage = disk}).value();
  REQUIRE_FALSE(report.kept_aside.empty());
  CHECK(report.kept_aside[0].from == file);
  CHECK(ReadAll(data / report.kept_aside[0].to) == before);
  // All that is left can be read, by a map too, and nothing is left to do.
  CHECK(Repair(data.path(), {.storage = disk}).value().kept_aside.empty());
  const VerifyReport after = Verify(data.path(), {.storage = disk}).value();
  for (const FileProblem& problem : after.problems) {
    CHECK(problem.what.find("EIO") == std::string::npos);
  }
  CHECK(static_cast<int>(ReadableRecords(data)) == kRecords - lost);
  CHECK_FALSE(std::filesystem::exists(data / "recovering"));
}

TEST_CASE("Verify: a file that is cut off while it is looked at is damage, and no signal") {
  const bool close = GENERATE(true, false);
  Data data(close);
  const Offset last = data.Bases().back();
  const std::string file = GENERATE_COPY(values({kFirst, FileOf(last)}));
  CAPTURE(close, file);
  int told = 0;
  for (int look = 1;; ++look) {
    const std::string whole = ReadAll(data / file);
    auto disk = std::make_shared<BadBlocks>();
    int left = look;
    disk->before_read = [&](std::string_view path, std::uint64_t) {
      if (path != file || --left != 0) return;
      std::filesystem::resize_file(data / file, 4096);
    };
    const absl::StatusOr<VerifyReport> report = Verify(data.path(), {.storage = disk});
    REQUIRE(report.status() == absl::OkStatus());
    if (left > 0) break;
    if (!report->is_clean()) ++told;  // else nothing was left to be looked at
    WriteAll(data / file, whole);
  }
  CHECK(told > 2);
}

TEST_CASE("Verify: what somebody has changed who came and went while it looked is no damage") {
  Data data;
  auto disk = std::make_shared<BadBlocks>();
  // Between its look at the mark of a clean close, and that at what was closed.
  disk->before_read = [&](std::string_view path, std::uint64_t) {
    if (path != "topics/t/config") return;
    disk->before_read = nullptr;
    Broker broker = OpenQuiet(data.path());
    REQUIRE(broker.OpenTopic("t").value().partition(0).Append({.value = "meanwhile"}).ok());
    REQUIRE(broker.Close().ok());
  };
  const VerifyReport report = Verify(data.path(), {.storage = disk}).value();
  CHECK(disk->before_read == nullptr);
  CHECK(report.problems == std::vector<FileProblem>{});
  CHECK(report.is_clean());
  CHECK(report.topics.at(0).partitions.at(0).end == kRecords + 1);
}

// ---- Blocks in the wrong place

TEST_CASE(
    "Verify: a file that holds another segment's bytes is told, and Repair makes a gap of it") {
  Data data;
  const std::vector<Offset> bases = data.Bases();
  REQUIRE(bases.size() > 3);
  // The file, and whose bytes it gets: those of one before, of one behind, of the active one;
  // and the active file, of which a Broker finds it at the first append.
  const auto [wrong, owner] = GENERATE_COPY(table<Offset, Offset>({
      {bases[1], bases[0]},
      {bases[1], bases[2]},
      {bases[0], bases[2]},
      {bases[1], bases.back()},
      {bases.back(), bases[1]},
  }));
  const bool whole_file = GENERATE(true, false);
  CAPTURE(wrong, owner, whole_file);
  // Or the first block alone: the header is a good one, and of another salt than the rest.
  std::string bytes = ReadAll(data / FileOf(wrong));
  const std::string others = ReadAll(data / FileOf(owner));
  bytes = whole_file ? others : others.substr(0, 4096) + bytes.substr(4096);
  WriteAll(data / FileOf(wrong), bytes);

  const Offset next =
      wrong == bases.back() ? kRecords : *std::upper_bound(bases.begin(), bases.end(), wrong);
  const VerifyReport report = data.Look();
  bool is_told = false;
  for (const FileProblem& problem : report.problems) {
    is_told = is_told || (problem.file == FileOf(wrong) && problem.state == State::kDamaged &&
                          (problem.what.find("it is the segment of") != std::string::npos ||
                           problem.what.find("it is another segment") != std::string::npos));
  }
  CHECK(is_told);
  for (const VerifiedRange& range : Bad(report.topics.at(0).partitions.at(0))) {
    CHECK(range.state == State::kDamaged);
    CHECK(range.from == wrong);
    CHECK(range.to == next);
  }

  // Each of its own records is given up, and no other.
  const RepairReport repaired = Repair(data.path()).value();
  REQUIRE(repaired.given_up.size() == 1);
  CHECK(repaired.given_up[0].from == wrong);
  CHECK(repaired.given_up[0].to == next);
  CHECK(ReadAll(data / ("damaged/1/" + FileOf(wrong))) == bytes);
  CHECK(static_cast<Offset>(ReadableRecords(data)) == kRecords - (next - wrong));
  Broker broker = OpenQuiet(data.path());
  CHECK(broker.OpenTopic("t").value().partition(0).Append({.value = "next"}).value() >= kRecords);
}

TEST_CASE("Verify: a segment under another's name is told, and kept aside as it is") {
  Data data;
  const std::vector<Offset> bases = data.Bases();
  std::filesystem::rename(data / FileOf(bases[2]), data / FileOf(bases[1]));
  const std::string bytes = ReadAll(data / FileOf(bases[1]));
  const VerifyReport report = data.Look();
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == FileOf(bases[1]));
  CHECK(Repair(data.path()).ok());
  CHECK(ReadAll(data / ("damaged/1/" + FileOf(bases[1]))) == bytes);
  CHECK(ReadableRecords(data) == static_cast<std::size_t>(kRecords - (bases[3] - bases[1])));
}

TEST_CASE("Verify: a segment of another partition, or of another topic, is damage") {
  Data data;
  std::string others;
  {
    Broker broker = OpenQuiet(data.path());
    const Topic other = broker.CreateTopic("other", {.partitions = 2}).value();
    const int partition = GENERATE(0, 1);
    REQUIRE(other.partition(partition).Append({.value = "theirs"}).ok());
    REQUIRE(broker.Close().ok());
    others =
        ReadAll(data / ("topics/other/" + std::to_string(partition) + "/00000000000000000000.log"));
  }
  WriteAll(data / kFirst, others);
  const VerifyReport report = data.Look();
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == kFirst);
  CHECK(report.problems[0].what.find("belongs to another topic") != std::string::npos);
  const std::vector<VerifiedRange> bad = Bad(report.topics.at(1).partitions.at(0));
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].from == 0);
  CHECK(bad[0].to == data.Bases()[1]);
}

TEST_CASE("Verify: a block of another segment in the middle costs the records that it hit") {
  Data data;
  const std::string others = ReadAll(data / FileOf(data.Bases()[1]));
  std::string bytes = ReadAll(data / kFirst);
  bytes.replace(8192, 4096, others, 8192, 4096);
  WriteAll(data / kFirst, bytes);
  const VerifiedPartition partition = data.LookAtPartition();
  // Of the first one it hit the value only, which is the same in all records.
  CHECK(partition.records == kRecords - 4);
  const std::vector<VerifiedRange> bad = Bad(partition);
  REQUIRE_FALSE(bad.empty());
  CHECK(bad.front().from == 7);
  CHECK(bad.back().to == 11);
}

}  // namespace
}  // namespace cordwood
