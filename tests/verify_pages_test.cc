// What Verify says of the pages of groups: the live page of one, what a share group knows of a
// partition, and commits with their texts.

#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cordwood/group/live.h"
#include "cordwood/repair.h"
#include "cordwood/verify.h"
#include "tests/catch.h"
#include "tests/support/damage.h"
#include "tests/support/share_fixture.h"

namespace cordwood {
namespace {

using namespace share_testing;
using testing::FlipBit;
using testing::ReadAll;
using testing::WriteAll;

constexpr char kGroup[] = "groups/billing/";

// Ten records; the first two are done with, the third is held, the fifth has a record behind it
// that is done with; a commit of another group, with a text.
struct GroupData {
  GroupData() {
    ShareWorld world;
    for (int i = 0; i < 10; ++i) world.Send(0, std::to_string(i));
    ShareConsumer worker = world.Worker();
    const AcquiredBatch batch = worker.Acquire(kLong).value();
    REQUIRE(batch.size() == 10);
    int i = 0;
    for (const AcquiredRecord& record : batch) {
      const bool is_done = i < 2 || i == 5;
      if (is_done) REQUIRE(worker.Acknowledge(record, AckType::kAccept).ok());
      ++i;
    }
    Consumer consumer = world.broker.NewConsumer({.group = "reader"}).value();
    REQUIRE(consumer.Assign({{"orders", 0}}).ok());
    REQUIRE(consumer.Commit({{{"orders", 0}, 7}}, {.metadata = "a text"}).ok());
    REQUIRE(world.broker.Maintain(absl::Seconds(1)).ok());
    // As a kill leaves it: the same files, by copies of which nothing is believed; or by a close.
    std::filesystem::copy(world.dir / "data", dir / "killed",
                          std::filesystem::copy_options::recursive);
    share = std::filesystem::relative(world.ShareFile(0), world.dir / "data").string();
    REQUIRE(consumer.Close().ok());
    REQUIRE(worker.Close().ok());
    REQUIRE(world.broker.Close().ok());
    std::filesystem::rename(world.dir / "data", dir / "data");
  }
  VerifyReport Look(const char* name = "data") const { return Verify(dir / name).value(); }
  std::filesystem::path operator/(const std::string& file) const { return dir / "data" / file; }

  TempDir dir;
  std::string share;
};

TEST_CASE("Verify: pages of groups that are whole are nothing to tell of") {
  const GroupData data;
  CHECK(data.Look().problems == std::vector<FileProblem>{});
  CHECK(data.Look("killed").problems == std::vector<FileProblem>{});
}

TEST_CASE("Verify: every flip in the checked part of a share file is told") {
  const GroupData data;
  for (std::uint64_t at = 0; at < 64; ++at) {
    CAPTURE(at);
    FlipBit(data / data.share, at, static_cast<int>(at % 8));
    const VerifyReport report = data.Look();
    FlipBit(data / data.share, at, static_cast<int>(at % 8));
    REQUIRE(report.problems.size() == 1);
    REQUIRE(report.problems[0].file == data.share);
    REQUIRE(report.problems[0].state == VerifiedState::kDamaged);
  }
}

TEST_CASE("Verify: a slot of a share file that says what no slot can is told") {
  const GroupData data;
  const std::uint64_t slot = group::kShareHeaderBytes + 5 * sizeof(group::ShareSlot);
  // The state, which becomes 7; the offset, which is another slot's.
  const auto [byte, bit] = GENERATE(table<std::uint64_t, int>({{1, 7}, {2, 0}, {3, 2}}));
  const std::string whole = ReadAll(data / data.share);
  std::string bytes = whole;
  if (bit == 7) bytes[slot + 1] = static_cast<char>(bytes[slot + 1] | 0xe0);
  WriteAll(data / data.share, bytes);
  if (bit != 7) FlipBit(data / data.share, slot + byte, bit);
  const VerifyReport report = data.Look();
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == data.share);
  CHECK(report.problems[0].position == static_cast<std::int64_t>(slot));
  CHECK(report.problems[0].what.find("1 slots say") != std::string::npos);
  // It is of one record, and no reason to forget the others.
  CHECK(Repair(data.dir / "data").value().kept_aside.empty());
}

TEST_CASE("Verify: a share file that is shorter, or another partition's, is damaged") {
  const GroupData data;
  const bool is_cut = GENERATE(true, false);
  if (is_cut) {
    std::filesystem::resize_file(data / data.share, group::kShareBytes - 1);
  } else {
    std::filesystem::rename(data / data.share, data / (data.share + "1"));
  }
  const VerifyReport report = data.Look();
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].what.find(is_cut ? "shorter" : "another topic or partition") !=
        std::string::npos);
  const RepairReport repaired = Repair(data.dir / "data").value();
  REQUIRE(repaired.kept_aside.size() == 1);
  CHECK(data.Look().is_clean());
}

TEST_CASE("Verify: what is wrong with a live page that would be believed is told") {
  const GroupData data;
  const std::string live = std::string(kGroup) + "live";
  const std::string whole = ReadAll(data / live);
  const auto [at, bit] = GENERATE(table<std::uint64_t, int>({
      {0, 0},                               // magic
      {8, 3},                               // version
      {12, 4},                              // state
      {54, 7},                              // entries
      {group::kLiveEntriesAt + 8 + 7, 0},   // an epoch in what is durable
      {group::kLiveEntriesAt + 16 + 2, 0},  // an owner
      {group::kLiveEntriesAt + 20 + 3, 7},  // a target
  }));
  CAPTURE(at, bit);
  FlipBit(data / live, at, bit);
  const VerifyReport report = data.Look();
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == live);
  CHECK(report.problems[0].state == VerifiedState::kDamaged);
  // A page that nobody would believe goes aside; one that is, is put right by its next member.
  const RepairReport repaired = Repair(data.dir / "data").value();
  CHECK(repaired.kept_aside.size() == (at < group::kLiveEntriesAt ? 1 : 0));
  const Broker broker = Broker::Open(data.dir / "data").value();
  CHECK(broker.DescribeGroup("billing").value().partitions.at(0).committed == 2);
}

TEST_CASE("Verify: a live page of another boot is not looked into, and one that is short is told") {
  const GroupData data;
  const std::string live = std::string(kGroup) + "live";
  FlipBit(data / live, 16);  // the boot
  FlipBit(data / live, 54, 7);
  CHECK(data.Look().is_clean());
  std::filesystem::resize_file(data / live, 5000);
  REQUIRE(data.Look().problems.size() == 1);
  CHECK(data.Look().problems[0].file == live);
}

TEST_CASE("Verify: commits and their texts, with each byte that counts flipped") {
  const GroupData data;
  const std::string offsets = "groups/reader/offsets", texts = "groups/reader/metadata";
  // Header; an entry's identity, name and checksum; the slot that counts; a text.
  std::map<std::string, std::vector<std::uint64_t>> places;
  for (std::uint64_t at = 0; at < 64; ++at) places[offsets].push_back(at);
  for (std::uint64_t at = 0; at < 384 + 64; ++at) places[offsets].push_back(4096 + at);
  for (std::uint64_t at = 0; at < 40; ++at) places[texts].push_back(at);
  for (std::uint64_t at = 64; at < 70; ++at) places[texts].push_back(at);
  for (const auto& [file, all] : places) {
    for (const std::uint64_t at : all) {
      CAPTURE(file, at);
      FlipBit(data / file, at, static_cast<int>(at % 8));
      const VerifyReport report = data.Look();
      FlipBit(data / file, at, static_cast<int>(at % 8));
      REQUIRE(report.problems.size() == 1);
      REQUIRE(report.problems[0].file == file);
    }
  }
}

}  // namespace
}  // namespace cordwood
