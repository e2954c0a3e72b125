// Verify and Repair of files that are larger, shorter or of another kind than any of ours, and when
// this process has no descriptors or no memory: bounded, and never taken for damage.

#include <errno.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "cordwood/log/control.h"
#include "cordwood/repair.h"
#include "cordwood/verify.h"
#include "tests/catch.h"
#include "tests/support/damage.h"
#include "tests/support/environment.h"
#include "tests/support/faulty_storage.h"
#include "verify_directory.h"

namespace cordwood::verify_bounds_test {
namespace {

namespace fs = std::filesystem;
using testing::Bad;
using testing::Data;
using testing::FaultyStorage;
using testing::FileOf;
using testing::FlipBit;
using testing::kFirst;
using testing::kFolder;
using testing::kRecords;
using testing::OpenQuiet;
using testing::StateOf;

constexpr std::uint64_t kHuge = std::uint64_t{1} << 40;  // 1 TiB, without blocks

std::size_t ReadableRecords(const Data& data) {
  const Broker broker = OpenQuiet(data.path());
  return testing::ValuesOf(broker.OpenTopic("t").value().partition(0)).size();
}

// ---- What is no fault of a file

TEST_CASE("Verify: what fails in this process is an error of the call, and no damage") {
  const bool close = GENERATE(true, false);
  const int damage = GENERATE(0, 1);
  const Data data(close);
  if (damage == 1) FlipBit(data / FileOf(data.Bases()[1]), 40);
  const auto storage = FaultyStorage::Over(Storage::OperatingSystem());
  const auto look = [&](std::vector<FileProblem>& problems) -> absl::StatusOr<VerifyReport> {
    const auto root = internal::OpenToVerify(*storage, data.path());
    if (!root.ok()) return root.status();
    log::Findings findings;
    auto report = internal::VerifyDirectory(storage, *root, !close, findings);
    if (report.ok()) problems = report->problems;
    return report;
  };
  std::vector<FileProblem> problems;
  const VerifyReport whole = look(problems).value();
  CHECK(whole.is_clean() == (damage == 0));
  constexpr int kErrors[] = {EMFILE, ENOMEM, EINTR, ENFILE};
  const auto stride = static_cast<int>(testing::NumberFromEnvironment("CORDWOOD_FAULT_STRIDE", 1));
  int errors = 0, maps = 0;
  bool was_hit = true;
  for (int nth = 1; was_hit; nth += stride) {
    storage->FailNth(nth, kErrors[static_cast<std::size_t>(nth) % std::size(kErrors)]);
    const absl::StatusOr<VerifyReport> report = look(problems);
    was_hit = storage->was_hit();
    CAPTURE(close, damage, nth, storage->hit());
    if (storage->hit().find("mmap") == 0) ++maps;
    if (!report.ok()) {
      ++errors;
      REQUIRE((absl::IsResourceExhausted(report.status()) || absl::IsUnavailable(report.status())));
    } else {
      REQUIRE(*report == whole);
    }
  }
  CHECK(errors > 50);
  CHECK(maps == (close ? 0 : 1));  // the page that writers have
}

TEST_CASE("Verify: while there are no descriptors it is an error, and Repair does nothing") {
  const Data data;
  const testing::DirectoryState before = StateOf(data.path());
  const auto storage = FaultyStorage::Over(Storage::OperatingSystem());
  std::string what;
  for (int nth = 1;; nth += 7) {
    storage->FailNth(nth, EMFILE);
    const absl::Status status = Verify(data.path(), {.storage = storage}).status();
    if (!storage->was_hit()) break;
    CAPTURE(nth, storage->hit());
    if (!status.ok()) what = std::string(status.message());
  }
  CHECK(what.find("EMFILE") != std::string::npos);
  CHECK((StateOf(data.path()) == before));
}

TEST_CASE("Verify: a file with a second name, or that is a link, is an error and no damage") {
  const Data data;
  const std::string file =
      GENERATE(as<std::string>{}, kFirst, "the last", kFolder + "00000000000000000000.index",
               "topics/t/control", "FORMAT", "topics/t/config", "groups/g/offsets");
  const std::string path = file == "the last" ? FileOf(data.Bases().back()) : file;
  const bool is_hard = GENERATE(true, false);
  CAPTURE(file, is_hard);
  if (is_hard) {
    fs::create_hard_link(data / path, data.dir / "backup");
  } else {
    fs::rename(data / path, data.dir / "elsewhere");
    fs::create_symlink(data.dir / "elsewhere", data / path);
  }
  const auto names = testing::NamesIn(data.path());
  const absl::Status verified = Verify(data.path()).status();
  CHECK(absl::IsFailedPrecondition(verified));
  CHECK(verified.message().find(is_hard ? "hard links" : "symbolic link") != std::string::npos);
  CHECK(Repair(data.path()).status() == verified);
  CHECK(testing::NamesIn(data.path()) == names);
  // Without the other name all is there.
  if (is_hard) {
    fs::remove(data.dir / "backup");
    CHECK(data.Look().is_clean());
    CHECK(ReadableRecords(data) == kRecords);
  }
}

// ---- Sizes that are none of ours

TEST_CASE("Verify: a control page that is cut off at any length is damage, and no signal") {
  const auto bytes = GENERATE(std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4095},
                              std::uint64_t{4096}, std::uint64_t{4100}, std::uint64_t{4351});
  const Data data;
  const Offset last = data.Bases().back();
  fs::resize_file(data / "topics/t/control", bytes);
  FlipBit(data / FileOf(last), 40);
  const VerifyReport report = data.Look();
  CHECK(std::any_of(report.problems.begin(), report.problems.end(),
                    [](const FileProblem& problem) { return problem.file == "topics/t/control"; }));
  REQUIRE(Repair(data.path()).status() == absl::OkStatus());
  CHECK(ReadableRecords(data) == static_cast<std::size_t>(last));
}

TEST_CASE("Verify: a control page of any size is looked at as far as one can go") {
  const Data data;
  const bool is_believed = GENERATE(true, false);
  fs::resize_file(data / "topics/t/control", kHuge);
  if (!is_believed) {
    std::fstream file(data / "topics/t/control", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(offsetof(log::ControlHeader, partitions));
    file.write("\xff\xff\xff\x7f", 4);
  }
  const VerifyReport report = data.Look();
  CHECK(report.is_clean() == is_believed);
  CHECK(report.topics.at(0).partitions.at(0).records == kRecords);
  REQUIRE(Repair(data.path()).status() == absl::OkStatus());
  CHECK(ReadableRecords(data) == kRecords);
}

TEST_CASE("Verify: files of a group of any size are looked at as far as one can go") {
  const Data data;
  const std::string file = GENERATE(as<std::string>{}, "offsets", "live");
  CAPTURE(file);
  const fs::path path = data / ("groups/g/" + file);
  fs::resize_file(path, kHuge);
  if (file == "offsets") FlipBit(path, 0);
  const VerifyReport report = data.Look();
  const bool is_told =
      std::any_of(report.problems.begin(), report.problems.end(), [&](const FileProblem& problem) {
        return problem.file == "groups/g/" + file && problem.what.find("longer") == 0;
      });
  CHECK(is_told == (file != "live"));
  REQUIRE(Repair(data.path()).status() == absl::OkStatus());
  if (file == "offsets") CHECK(fs::file_size(path) < 1 << 20);
  const Broker broker = OpenQuiet(data.path());
  CHECK(broker.DescribeGroup("g").value().partitions.at(0).committed == 7);
}

TEST_CASE("Verify: small files of any size are damage, and are not copied") {
  const Data data;
  const std::string file =
      GENERATE(as<std::string>{}, kFolder + "start", "FORMAT", "topics/t/config", "CLEAN");
  CAPTURE(file);
  if (!fs::exists(data / file)) testing::WriteAll(data / file, "");
  fs::resize_file(data / file, kHuge);
  CHECK(data.Look().is_clean() == (file == "CLEAN"));
  const RepairReport report = Repair(data.path()).value();
  CHECK(report.kept_aside.size() == (file == "CLEAN" ? 0 : 1));
  if (file == "topics/t/config") return;  // the topic went aside
  CHECK(ReadableRecords(data) == kRecords);
}

}  // namespace
}  // namespace cordwood::verify_bounds_test
