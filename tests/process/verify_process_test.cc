// Verify beside processes that open a directory, write to it, close it, are stopped and are
// killed: what they are just doing is no damage, and what is behind the end of a log is not torn
// while somebody is there.

#include <random>
#include <string>
#include <vector>

#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/verify.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/temp_dir.h"

namespace cordwood::verify_process_test {
namespace {

using testing::Child;
using testing::TempDir;

// Opens, changes and closes the directory until it is killed.
void Write(const std::filesystem::path& path, std::uint32_t seed, Child& parent) {
  std::mt19937 random(seed);
  for (bool is_told = false;;) {
    Broker broker = Broker::Open(path, {.flush_interval = absl::Milliseconds(5)}).value();
    const Topic topic = broker.OpenTopic("t").value();
    Consumer consumer = broker.NewConsumer({.group = "g"}).value();
    if (!consumer.Assign({{"t", 0}, {"t", 1}}).ok()) return;
    const int turns = 20 + static_cast<int>(random() % 400);
    for (int i = 0; i < turns; ++i) {
      const Partition partition = topic.partition(static_cast<int>(random() % 2));
      const std::string value(random() % 3000, 'v');
      if (!partition.Append({.key = "k", .value = value}).ok()) return;
      if (i % 32 == 7 && !partition.Flush().ok()) return;
      if (i % 64 == 9 && !consumer.Commit({{{"t", 0}, i}, {{"t", 1}, i}}, {.metadata = "m"}).ok())
        return;
      if (i % 64 == 11 && !partition.Trim(partition.start_offset() + 3).ok()) return;
      if (!is_told) parent.Tell(1);
      is_told = true;
    }
    if (!consumer.Close().ok() || !broker.Close().ok()) return;
  }
}

std::vector<std::string> FalseAlarms(const VerifyReport& report) {
  std::vector<std::string> alarms;
  for (const FileProblem& problem : report.problems) {
    // An index that a killed writer had not finished stays so.
    if (problem.state == VerifiedState::kTorn) continue;
    alarms.push_back(problem.file + ": " + problem.what);
  }
  for (const VerifiedTopic& topic : report.topics) {
    for (const VerifiedPartition& partition : topic.partitions) {
      for (const VerifiedRange& range : partition.ranges) {
        const bool is_well = range.state == VerifiedState::kValid ||
                             range.state == VerifiedState::kInUse ||
                             (range.state == VerifiedState::kTorn && !report.is_open);
        if (!is_well) {
          alarms.push_back(range.file + ": " + std::string(ToString(range.state)) + ", " +
                           range.what + (report.is_open ? "; open" : "; not open"));
        }
      }
    }
  }
  return alarms;
}

TEST_CASE("Verify: beside processes that write, are stopped and are killed there is no alarm") {
  const TempDir dir;
  const std::filesystem::path path = dir / "data";
  {
    Broker broker = Broker::Open(path, {.background_threads = false}).value();
    REQUIRE(broker
                .CreateTopic(
                    "t", {.partitions = 2, .segment_bytes = 32 << 10, .retention_bytes = 200 << 10})
                .ok());
    REQUIRE(broker.Close().ok());
  }
  int in_use = 0, closed = 0;
  std::mt19937 random(7);
  const auto look = [&](const char* when) {
    const VerifyReport report = Verify(path).value();
    CAPTURE(when);
    REQUIRE(FalseAlarms(report) == std::vector<std::string>{});
    ++(report.is_open ? in_use : closed);
    return report;
  };
  for (std::uint32_t round = 0; round < 25; ++round) {
    CAPTURE(round);
    Child one([&](Child& parent) { Write(path, 2 * round, parent); });
    Child two([&](Child& parent) { Write(path, 2 * round + 1, parent); });
    REQUIRE(one.Wait() == 1);
    REQUIRE(two.Wait() == 1);
    for (int i = 0; i < 3; ++i) look("beside both");
    one.Stop();
    look("one is stopped");
    two.Stop();
    look("both are stopped");
    one.Continue();
    two.Continue();
    // The other one opens and closes it alone from here on.
    one.Kill();
    for (int i = 0; i < 4; ++i) look("beside one");
    if (round % 2 == 0) two.Stop();
    two.Kill();
    CHECK_FALSE(look("both are dead").is_open);
  }
  CHECK(in_use > 0);  // how often it was open, is the scheduler's choice
  CHECK(closed >= 25);
}

}  // namespace
}  // namespace cordwood::verify_process_test
