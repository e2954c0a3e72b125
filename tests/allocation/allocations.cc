// T8 of the reliability plan: the nth allocation of a day in the life of a directory fails
// (tests/support/busy_day.h). A program of its own, as it replaces operator new.
//
//   CORDWOOD_ALLOCATION_STRIDE=1 cordwood_allocation_tests      every one, not one of many
//   CORDWOOD_ALLOCATION_FIRST=2 ...                             the 2nd, then every STRIDE-th
//
// What is promised. std::bad_alloc goes through the library to its caller, who may go on; where it
// meets a function that must not throw, a destructor for one, the process ends, as by any signal.
// Why not a Status: absl's containers and strings cannot give one. In both cases the directory is
// whole for everybody else, at once: no lock stays taken, what was published is there, the append
// that it hit is there as a whole or not at all, and every later append works.

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/broker.h"
#include "tests/catch.h"
#include "tests/support/busy_day.h"
#include "tests/support/child.h"
#include "tests/support/environment.h"
#include "tests/support/shared_by_forks.h"
#include "tests/support/temp_dir.h"

namespace {

std::atomic<std::int64_t> allocations{0};
std::atomic<std::int64_t> fails_at{0};  // 0: none

void* Allocate(std::size_t bytes, std::size_t alignment) {
  if (allocations.fetch_add(1) + 1 == fails_at.load()) throw std::bad_alloc();
  void* const at = alignment == 0
                       ? std::malloc(bytes == 0 ? 1 : bytes)
                       : std::aligned_alloc(alignment, (bytes + alignment - 1) & ~(alignment - 1));
  if (at == nullptr) throw std::bad_alloc();
  return at;
}

}  // namespace

// The forms that do not throw, and those of arrays, call these.
void* operator new(std::size_t bytes) { return Allocate(bytes, 0); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return Allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }
void operator delete(void* at, std::align_val_t) noexcept { std::free(at); }
void operator delete(void* at, std::size_t, std::align_val_t) noexcept { std::free(at); }

namespace cordwood {
namespace {

using testing::Child;
using testing::DayEnd;
using testing::DayNotes;
using testing::NumberFromEnvironment;
using testing::SharedByForks;
using testing::TempDir;

struct Outcome {
  bool was_hit = false;
  char problem[400] = {};  // that the neighbour found
};

TEST_CASE("Allocations: whichever fails, the directory is whole for the others") {
  const std::uint64_t stride = NumberFromEnvironment("CORDWOOD_ALLOCATION_STRIDE", 41);
  const std::uint64_t first = NumberFromEnvironment("CORDWOOD_ALLOCATION_FIRST", 0) % stride;
  const auto system = Storage::OperatingSystem();
  int failed = 0, ended = 0;
  std::vector<std::string> problems;
  bool was_hit = true;
  for (std::uint64_t nth = 1 + first; was_hit; nth += stride) {
    const TempDir dir(testing::FolderInMemory());
    const SharedByForks<DayNotes> notes;
    const SharedByForks<Outcome> outcome;
    // Has the directory open all the time, and finds no other first opener's recovery.
    Child neighbour([&](Child& parent) {
      const Broker broker =
          Broker::Open(dir / "data", {.background_threads = false, .reserve_bytes = 4096}).value();
      parent.Tell(1);
      parent.Wait();
      const std::string problem =
          testing::ProblemAfterDay(dir / "data", system, *notes, DayEnd::kProcess);
      std::snprintf(outcome->problem, sizeof outcome->problem, "%s", problem.c_str());
      parent.Tell(2);
    });
    REQUIRE(neighbour.Wait() == 1);
    Child unlucky([&](Child& parent) {
      // One that goes on may wait for a mutex that its own exception has left locked. That is its
      // end, too: whenever it is killed, the others have to go on.
      alarm(10);
      allocations = 0;
      fails_at = static_cast<std::int64_t>(nth);
      testing::LiveThroughDay(dir / "data", system, *notes);
      outcome->was_hit = allocations >= fails_at;
      parent.Tell(1);
    });
    const bool has_ended = unlucky.Wait() != 1;
    was_hit = has_ended || outcome->was_hit;
    ++failed;
    if (has_ended) ++ended;
    neighbour.Tell(1);
    std::string problem = neighbour.Wait() == 2 ? outcome->problem : "the neighbour has died";
    unlucky.Kill();
    neighbour.Kill();
    // And for the next first opener.
    if (problem.empty()) {
      problem = testing::ProblemAfterDay(dir / "data", system, *notes, DayEnd::kProcess);
    }
    if (!problem.empty() && problems.size() < 20) {
      problems.push_back(
          absl::StrCat("allocation ", nth, has_ended ? " (it ended): " : ": ", problem));
    }
  }
  std::printf("Allocations: %d failed, of which %d ended the process, every %llu from %llu on\n",
              failed, ended, static_cast<unsigned long long>(stride),
              static_cast<unsigned long long>(first));
  for (const std::string& problem : problems) WARN(problem);
  CHECK(problems.empty());
}

}  // namespace
}  // namespace cordwood
