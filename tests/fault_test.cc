// T6 of the reliability plan: everything that is asked of the storage fails once, with each errno,
// in a day in the life of a directory (tests/support/busy_day.h).
//
//   CORDWOOD_FAULT_STRIDE=1 cordwood_tests "Faults:*"      every one, not one of many
//   CORDWOOD_FAULT_FIRST=2 ...                             the 2nd, then every STRIDE-th

#include <errno.h>

#include <cstdint>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/catch.h"
#include "tests/support/busy_day.h"
#include "tests/support/environment.h"
#include "tests/support/failing_storage.h"
#include "tests/support/faulty_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood::fault_test {
namespace {

using testing::DayEnd;
using testing::DayNotes;
using testing::FailingStorage;
using testing::FaultyStorage;
using testing::NumberFromEnvironment;
using testing::TempDir;

constexpr int kErrors[] = {EIO, ENOSPC, EINTR, EMFILE, ENOMEM};

TEST_CASE("Faults: on a day without any there is no error") {
  const TempDir dir(testing::FolderInMemory());
  const auto notes = std::make_unique<DayNotes>();
  testing::LiveThroughDay(dir / "data", Storage::OperatingSystem(), *notes);
  CHECK(notes->errors == 0);
  CHECK(notes->count == 50);
  CHECK(notes->deleted);
  CHECK(notes->committed == 30);
  CHECK(testing::ProblemAfterDay(dir / "data", Storage::OperatingSystem(), *notes,
                                 DayEnd::kProcess) == "");
}

TEST_CASE("Faults: whatever fails once, what was said stays, and the next open works") {
  const bool with_power_cut = GENERATE(false, true);
  const std::uint64_t stride = NumberFromEnvironment("CORDWOOD_FAULT_STRIDE", 17);
  const std::uint64_t first = NumberFromEnvironment("CORDWOOD_FAULT_FIRST", 0) % stride;
  int faults = 0;
  std::vector<std::string> problems;
  bool was_hit = true;
  for (std::uint64_t number = first; was_hit; number += stride) {
    const auto nth = static_cast<int>(1 + number / std::size(kErrors));
    const int error = kErrors[number % std::size(kErrors)];
    const TempDir dir(testing::FolderInMemory());
    const auto disk = FailingStorage::Make();
    const auto storage = FaultyStorage::Over(disk);
    storage->FailNth(nth, error);
    const auto notes = std::make_unique<DayNotes>();
    testing::LiveThroughDay(dir / "data", storage, *notes);
    was_hit = storage->was_hit();
    INFO(nth << " with " << strerrorname_np(error) << ", " << storage->hit());
    if (with_power_cut) disk->PowerCut();
    const std::string problem = testing::ProblemAfterDay(
        dir / "data", disk, *notes, with_power_cut ? DayEnd::kPower : DayEnd::kProcess);
    if (!problem.empty() && problems.size() < 20) {
      problems.push_back(absl::StrCat("operation ", nth, ", ", storage->hit(), ", ",
                                      strerrorname_np(error), ": ", problem));
    }
    ++faults;
  }
  std::printf("Faults: %d operations failed, every %llu from %llu on\n", faults,
              static_cast<unsigned long long>(stride), static_cast<unsigned long long>(first));
  for (const std::string& problem : problems) WARN(problem);
  CHECK(problems.empty());
}

}  // namespace
}  // namespace cordwood::fault_test
