// A TableView in several processes: increments by compare and set, none lost and none twice.

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/shared_by_forks.h"
#include "tests/support/temp_dir.h"

namespace cordwood::table_view_process_test {
namespace {

using testing::Child;
using testing::SharedByForks;
using testing::TempDir;

constexpr int kKeys = 16;

std::string KeyOf(int i) { return absl::StrCat("counter ", i); }

std::int64_t CountIn(const std::optional<OwnedRecord>& record) {
  std::int64_t count = 0;
  if (record.has_value()) {
    const std::string text(record->value().value());
    if (!absl::SimpleAtoi(text, &count)) throw std::runtime_error("not a number: " + text);
  }
  return count;
}

// Adds one by compare and set, until nobody was faster. What the counter was before.
std::int64_t Increment(const TableView& view, const std::string& key) {
  for (;;) {
    const std::optional<OwnedRecord> found = view.Get(key).value();
    const std::int64_t count = CountIn(found);
    const absl::StatusOr<Offset> put =
        view.Put(key, absl::StrCat(count + 1),
                 {.expected_offset = found.has_value() ? found->offset() : kNoRecord});
    if (put.ok()) return count;
    if (!absl::IsAborted(put.status())) throw std::runtime_error(put.status().ToString());
  }
}

std::int64_t Sum(const TableView& view) {
  std::int64_t sum = 0;
  for (int i = 0; i < kKeys; ++i) sum += CountIn(view.Get(KeyOf(i)).value());
  return sum;
}

// By a plain reading of the log, where every increment is to be found: each of a key is one more
// than the one before. -1: it is not.
std::int64_t SumOfLog(const Topic& topic) {
  std::int64_t sum = 0;
  std::array<std::int64_t, kKeys> counts = {};
  for (int p = 0; p < topic.partition_count(); ++p) {
    PartitionReader reader = topic.partition(p).Read(0).value();
    for (const RecordView& record : reader) {
      int key = 0;
      const std::string name(record.key().value());
      if (!absl::SimpleAtoi(name.substr(name.find(' ') + 1), &key)) return -1;
      if (CountIn(record.Copy()) != ++counts.at(static_cast<std::size_t>(key))) return -1;
      ++sum;
    }
    if (!reader.status().ok()) return -1;
  }
  return sum;
}

// Without compaction, so that SumOfLog finds every increment.
void MakeTopic(const std::filesystem::path& data, int partitions) {
  const Broker broker = Broker::Open(data).value();
  broker
      .CreateTopic("counters",
                   {.partitions = partitions, .retention_age = absl::InfiniteDuration()})
      .value();
}

void IncrementInFourProcesses(int partitions) {
  constexpr int kProcesses = 4;
  constexpr std::int64_t kIncrements = 100'000;
  const TempDir dir;
  const std::filesystem::path data = dir / "data";
  std::array<std::unique_ptr<Child>, kProcesses> children;
  for (int p = 0; p < kProcesses; ++p) {
    children.at(static_cast<std::size_t>(p)) = std::make_unique<Child>([&, p](Child& parent) {
      parent.Wait();
      const Broker broker = Broker::Open(data).value();
      const TableView view = TableView::Open(broker, "counters").value();
      for (std::int64_t i = 0; i < kIncrements; ++i) {
        Increment(view, KeyOf(static_cast<int>((i + p) % kKeys)));
      }
      parent.Tell(1);
    });
  }
  MakeTopic(data, partitions);
  for (const auto& child : children) child->Tell(1);
  for (const auto& child : children) REQUIRE(child->Wait() == 1);

  const Broker broker = Broker::Open(data).value();
  const TableView view = TableView::Open(broker, "counters").value();
  CHECK(Sum(view) == kProcesses * kIncrements);
  CHECK(view.Size().value() == kKeys);
  CHECK(SumOfLog(broker.OpenTopic("counters").value()) == kProcesses * kIncrements);
}

}  // namespace

// A test case each, so that each has the time limit for itself.
TEST_CASE("TableView: four processes, 100,000 increments each on 16 keys give 400,000") {
  IncrementInFourProcesses(1);
}
TEST_CASE("TableView: the same on keys that are in four partitions") {
  IncrementInFourProcesses(4);
}

TEST_CASE("TableView: of a process that is killed at random only the increment in flight may be") {
  constexpr int kRounds = 20;
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TempDir dir;
  const std::filesystem::path data = dir / "data";
  const SharedByForks<std::atomic<std::int64_t>> acknowledged;
  MakeTopic(data, 2);
  const auto work = [&](Child& parent, int of_them) {
    const Broker broker = Broker::Open(data).value();
    const TableView view = TableView::Open(broker, "counters").value();
    parent.Tell(1);
    for (int i = 0; i != of_them; ++i) {
      Increment(view, KeyOf(i % kKeys));
      ++*acknowledged;
    }
    parent.Tell(1);
  };
  for (int round = 1; round <= kRounds; ++round) {
    CAPTURE(round);
    Child victim([&](Child& parent) { work(parent, -1); });
    Child other([&](Child& parent) { work(parent, 2000); });
    REQUIRE(victim.Wait() == 1);
    REQUIRE(other.Wait() == 1);
    const std::int64_t at = *acknowledged + static_cast<std::int64_t>(random() % 3000);
    while (*acknowledged < at) usleep(10);
    victim.Kill();
    // The other one is not held up by the dead one.
    REQUIRE(other.Wait() == 1);
    other.Kill();

    const Broker broker = Broker::Open(data).value();
    const TableView view = TableView::Open(broker, "counters").value();
    const std::int64_t sum = Sum(view);
    const std::int64_t in_flight = sum - *acknowledged;
    CAPTURE(sum, in_flight);
    REQUIRE(in_flight >= 0);
    REQUIRE(in_flight <= round);
    REQUIRE(SumOfLog(broker.OpenTopic("counters").value()) == sum);
    REQUIRE(broker.Close().ok());
  }
}

TEST_CASE("TableView: a forked child's calls are kFailedPrecondition, also under a held lock") {
  const TempDir dir;
  const Broker broker = Broker::Open(dir / "data").value();
  broker.CreateTopic("counters", {.cleanup = CleanupPolicy::kCompact}).value();
  const TableView view = TableView::Open(broker, "counters").value();
  view.Put("a", "1").value();
  std::uint32_t answers = 0;
  // While the callback runs the view is locked, and stays so in the child of another thread.
  REQUIRE(view.ForEach([&](const RecordView&) {
                std::thread([&] {
                  const Child child([&](Child& parent) {
                    const bool failed =
                        view.Get("a").status().code() == absl::StatusCode::kFailedPrecondition;
                    parent.Tell(failed && view.gaps().empty() ? 2 : 1);
                  });
                  answers = child.Wait();
                }).join();
              })
              .ok());
  CHECK(answers == 2);
  CHECK(view.Get("a").ok());
}

}  // namespace cordwood::table_view_process_test
