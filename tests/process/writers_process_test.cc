// Processes that write one partition together, while some of them are killed and stopped.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/clock.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/environment.h"
#include "tests/support/million.h"
#include "tests/support/stall_meter.h"
#include "tests/support/temp_dir.h"

namespace cordwood::writers_process_test {
namespace {

using testing::Child;
using testing::kMillion;
using testing::TempDir;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr AppendOptions kSoon = {.timeout = absl::Milliseconds(200)};

Partition OpenPartition(const std::filesystem::path& path) {
  return Broker::Open(path).value().OpenTopic("t").value().partition(0);
}

struct WriterReport {
  std::int64_t appended = 0;
  std::int64_t timed_out = 0;
  std::int64_t failed = 0;  // in any other way
  std::int64_t longest_ns = 0;
};

// Waits for a word. Then appends "<name> 0", "<name> 1" and so on, until the parent says a word;
// then tells how it went. What timed out was not published, and is tried again.
void WriteUntilTold(const std::filesystem::path& path, const Child& parent, int name,
                    const AppendOptions& how) {
  parent.Wait();
  const Partition partition = OpenPartition(path);
  std::atomic<bool> go_on{true};
  std::thread listener([&] {
    parent.Wait();
    go_on = false;
  });
  WriterReport report;
  while (go_on) {
    const std::string value = absl::StrCat(name, " ", report.appended);
    const std::int64_t before = os::MonotonicNanos();
    const absl::Status status = partition.Append({.value = value}, how).status();
    report.longest_ns = std::max(report.longest_ns, os::MonotonicNanos() - before);
    report.appended += status.ok();
    // Not all the time at it: ten seconds of that are a gigabyte.
    if (report.appended % 8 == 0) absl::SleepFor(absl::Microseconds(50));
    report.timed_out += absl::IsDeadlineExceeded(status);
    report.failed += !status.ok() && !absl::IsDeadlineExceeded(status);
  }
  listener.join();
  parent.Send(report);
}

std::unique_ptr<Child> NewWriter(const std::filesystem::path& path, int name,
                                 const AppendOptions& how) {
  return std::make_unique<Child>([=](Child& parent) { WriteUntilTold(path, parent, name, how); });
}

WriterReport Finish(const Child& writer) {
  writer.Tell(1);
  return writer.Receive<WriterReport>();
}

// The number of records of each writer, whose own order and completeness are checked; and
// that the offsets are dense.
std::map<int, std::int64_t> ReadAll(const Partition& partition) {
  std::map<int, std::int64_t> next;
  Offset offset = 0;
  std::int64_t wrong = 0;
  PartitionReader reader = partition.Read(0).value();
  for (const RecordView& record : reader) {
    const std::vector<std::string> parts =
        absl::StrSplit(std::string(record.value().value_or("")), ' ');
    int name = -1;
    std::int64_t number = -1;
    const bool is_one = parts.size() == 2 && absl::SimpleAtoi(parts[0], &name) &&
                        absl::SimpleAtoi(parts[1], &number);
    wrong += !is_one || record.offset() != offset++ || number != next[name]++;
  }
  CAPTURE(reader.status());
  REQUIRE(reader.status().ok());
  REQUIRE(wrong == 0);
  REQUIRE(reader.gaps().empty());
  REQUIRE(offset == partition.end_offset());
  return next;
}

}  // namespace

TEST_CASE("Writers: three processes, of which one is killed and one stopped for ten seconds") {
  constexpr int kKilled = 0, kStopped = 1, kOther = 2, kParent = 3;
  const TempDir dir(testing::FolderInMemory());  // where no roll waits for a disk
  const std::filesystem::path path = dir / "log";
  const auto killed = NewWriter(path, kKilled, kSoon), stopped = NewWriter(path, kStopped, kSoon),
             other = NewWriter(path, kOther, kSoon);
  const testing::StallMeter meter;
  const Broker broker = Broker::Open(path).value();
  const Partition partition =
      broker.CreateTopic("t", {.segment_bytes = 1 << 20}).value().partition(0);
  for (const auto& writer : {&killed, &stopped, &other}) (*writer)->Tell(1);
  REQUIRE(partition.WaitForEnd(10'000, absl::Seconds(60)).ok());
  killed->Kill();
  REQUIRE(partition.WaitForEnd(partition.end_offset() + 10'000, absl::Seconds(60)).ok());

  // Stopped at any moment: with the turn in its hands, then the others are told so in time;
  // or without, then they do not notice.
  std::int64_t own = 0;
  int with_the_turn = 0;
  for (bool without = false; !without;) {
    stopped->Stop();
    const std::int64_t before = os::MonotonicNanos();
    const absl::Status status =
        partition.Append({.value = absl::StrCat(kParent, " ", own)}, kSoon).status();
    CHECK(os::MonotonicNanos() - before < kSecond + meter.WorstNs());
    own += status.ok();
    without = status.ok();
    if (!without) {
      ++with_the_turn;
      REQUIRE(with_the_turn < 100);
      REQUIRE(absl::IsDeadlineExceeded(status));
      // Named, unless the other one had the turn when it was asked for the last time.
      const std::string name = absl::StrCat("process ", stopped->pid());
      const std::string other_name = absl::StrCat("process ", other->pid());
      CAPTURE(status);
      CHECK((status.message().find(name) != std::string::npos ||
             status.message().find(other_name) != std::string::npos));
      stopped->Continue();
      REQUIRE(partition.WaitForEnd(partition.end_offset() + 100, absl::Seconds(60)).ok());
    }
  }
  const Offset at_stop = partition.end_offset();
  absl::SleepFor(absl::Seconds(10));
  CHECK(partition.end_offset() > at_stop + 1'000);
  stopped->Continue();

  const WriterReport of_stopped = Finish(*stopped);
  const WriterReport of_other = Finish(*other);
  CHECK(of_other.longest_ns < kSecond + meter.WorstNs());
  CHECK(of_other.failed == 0);
  CHECK(of_stopped.failed == 0);
  const std::map<int, std::int64_t> found = ReadAll(partition);
  CHECK(found.at(kKilled) > 0);
  CHECK(found.at(kStopped) == of_stopped.appended);
  CHECK(found.at(kOther) == of_other.appended);
  CHECK(found.at(kParent) == own);
  CHECK(broker.Close().ok());
}

TEST_CASE("Writers: processes that are killed at any moment leave a whole log to the others") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  constexpr int kKilled = 20;
  const TempDir dir(testing::FolderInMemory());  // where no roll waits for a disk
  const std::filesystem::path path = dir / "log";
  std::vector<std::unique_ptr<Child>> children;
  // Who waited for a dead one's turn would wait so long.
  const AppendOptions patient = {.timeout = absl::Seconds(30)};
  for (int i = 0; i <= kKilled; ++i) children.push_back(NewWriter(path, i, patient));
  const Broker broker = Broker::Open(path).value();
  const Partition partition =
      broker.CreateTopic("t", {.segment_bytes = 64 << 10}).value().partition(0);
  children[kKilled]->Tell(1);
  for (int i = 0; i < kKilled; ++i) {
    children[static_cast<std::size_t>(i)]->Tell(1);
    const auto more = static_cast<Offset>(100 + random() % 2'000);
    REQUIRE(partition.WaitForEnd(partition.end_offset() + more, absl::Seconds(60)).ok());
    children[static_cast<std::size_t>(i)]->Kill();
  }
  REQUIRE(partition.WaitForEnd(partition.end_offset() + 100, absl::Seconds(60)).ok());
  const WriterReport report = Finish(*children[kKilled]);
  CHECK(report.failed == 0);
  CHECK(report.timed_out == 0);
  CHECK(ReadAll(partition).at(kKilled) == report.appended);
  CHECK(partition.Flush().ok());
  CHECK(broker.Close().ok());
}

TEST_CASE("A million records: every one is read back equal after a kill") {
  const TempDir dir;
  const std::filesystem::path path = dir / "log";
  Child child([&](Child& parent) {
    parent.Wait();
    const Partition partition = OpenPartition(path);
    for (Offset i = 0;; ++i) {
      if (testing::AppendHundred(partition, i).value_or(-1) != i) _exit(1);
      if (i + 1 == kMillion) parent.Tell(1);  // and on, until it is killed
    }
  });
  {
    const Broker broker = Broker::Open(path).value();
    REQUIRE(broker.CreateTopic("t", {.segment_bytes = 16 << 20}).ok());
    REQUIRE(broker.Close().ok());
  }
  child.Tell(1);
  REQUIRE(child.Wait() == 1);
  child.Kill();
  const Broker broker = Broker::Open(path).value();
  CHECK_FALSE(broker.recovery_report().clean);
  const Partition partition = broker.OpenTopic("t").value().partition(0);
  const Offset end = partition.end_offset();
  CHECK(end >= kMillion);
  const absl::Status status = testing::CheckHundreds(partition, end);
  CAPTURE(status);
  CHECK(status.ok());
  // Offsets go on where they were.
  CHECK(testing::AppendHundred(partition, end).value_or(-1) == end);
}

}  // namespace cordwood::writers_process_test
