// T1 of the reliability plan: writers that are killed at any time, and nothing lost that one of
// them was told is there.
//
//   CORDWOOD_KILLS=100000 cordwood_process_tests "Kills:*"      so many kill -9

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/shared_by_forks.h"
#include "tests/support/temp_dir.h"

namespace cordwood::kill_process_test {
namespace {

using testing::Child;
using testing::SharedByForks;
using testing::TempDir;

constexpr std::size_t kWriters = 3;
// Of one process: who reads, with sanitizers, is slower than those who write.
constexpr int kAppendsMax = 2'000;

// Of each writer, over all its processes: how many records it was told are published.
struct Told {
  std::array<std::atomic<std::int64_t>, kWriters> published = {};
  std::atomic<int> failed{0};
  char why[400] = {};  // of one that failed
};

int KillsToDo() {
  const char* const kills = std::getenv("CORDWOOD_KILLS");
  return kills != nullptr ? std::atoi(kills) : 500;
}

// "writer number size vvvv", of that size.
std::string ValueOf(std::size_t writer, std::int64_t number, std::size_t size) {
  std::string value = absl::StrCat(writer, " ", number, " ", size, " ");
  value.resize(std::max(size, value.size()), 'v');
  return value;
}

absl::Status AppendSome(const Partition& partition, std::size_t writer, std::int64_t& number,
                        std::mt19937& random) {
  const std::size_t size = 40 + random() % (random() % 8 == 0 ? 9'000 : 400);
  const AppendOptions options = {.durability = random() % 16 == 0 ? Durability::kDurable
                                                                  : Durability::kPublished};
  std::vector<std::string> values;
  const std::size_t count = random() % 3 == 0 ? 2 + random() % 5 : 1;
  for (std::size_t i = 0; i < count; ++i) values.push_back(ValueOf(writer, number++, size));
  if (count == 1 && random() % 2 == 0) {
    const auto fill = [&](std::span<std::byte> to) {
      std::transform(values[0].begin(), values[0].end(), to.begin(),
                     [](char c) { return static_cast<std::byte>(c); });
      return to.size();
    };
    return partition.AppendInPlace(values[0].size(), {}, fill, options).status();
  }
  std::vector<Record> records;
  for (const std::string& value : values) records.push_back({.value = value});
  return partition.AppendBatch(records, options).status();
}

// Until it is killed.
void Write(const std::filesystem::path& path, std::size_t writer, std::int64_t number,
           unsigned seed, Told& told) {
  std::mt19937 random(seed);
  const absl::StatusOr<Broker> broker =
      Broker::Open(path, {.background_threads = random() % 2 == 0});
  absl::Status status = broker.status();
  for (int appends = 0; status.ok(); ++appends) {
    if (appends == kAppendsMax) pause();  // until it is killed
    const absl::StatusOr<Topic> topic = broker->OpenTopic("t");
    status = topic.status();
    if (status.ok()) status = AppendSome(topic->partition(0), writer, number, random);
    if (status.ok()) told.published[writer].store(number, std::memory_order_release);
  }
  if (told.failed.fetch_add(1) == 0)
    std::snprintf(told.why, sizeof told.why, "%s", status.ToString().c_str());
}

// What has been read so far.
struct Found {
  Offset next = 0;
  std::array<std::int64_t, kWriters> numbers = {};
};

void ReadOn(const Partition& partition, Found& found) {
  const Offset end = partition.end_offset();
  PartitionReader reader = partition.Read(found.next).value();
  for (const RecordView& record : reader) {
    const std::string value(record.value().value_or(""));
    const std::vector<std::string> words = absl::StrSplit(value, ' ');
    REQUIRE(words.size() == 4);
    std::size_t writer = 0, size = 0;
    std::int64_t number = 0;
    REQUIRE((absl::SimpleAtoi(words[0], &writer) && absl::SimpleAtoi(words[1], &number) &&
             absl::SimpleAtoi(words[2], &size)));
    REQUIRE(writer < kWriters);
    const bool is_next = record.offset() == found.next && number == found.numbers[writer] &&
                         value == ValueOf(writer, number, size);
    if (!is_next) {
      FAIL("offset " << record.offset() << ", not " << found.next << ": " << value.substr(0, 40)
                     << ", not " << found.numbers[writer]);
    }
    ++found.next;
    ++found.numbers[writer];
    if (found.next >= end) break;  // the writers go on, and may be faster
  }
  CHECK(reader.gaps().empty());
  CHECK(reader.status() == absl::OkStatus());
  CHECK(found.next >= end);
}

TEST_CASE("Kills: whenever a writer is killed, what it was told is there, once and in order") {
  const unsigned seed = std::random_device()();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TempDir dir;
  const std::filesystem::path path = dir / "log";
  {
    const Broker broker = Broker::Open(path, {.background_threads = false}).value();
    broker.CreateTopic("t", {.segment_bytes = 256 << 10}).value();
  }
  const SharedByForks<Told> told;
  Found found;
  std::array<std::unique_ptr<Child>, kWriters> writers;
  const auto kill = [&](std::size_t i) {
    if (writers[i] == nullptr) return 0;
    writers[i] = nullptr;
    return 1;
  };
  for (int kills = 0, cycle = 0; kills < KillsToDo(); ++cycle) {
    for (std::size_t i = 0; i < kWriters; ++i) {
      if (writers[i] != nullptr) continue;
      const std::int64_t number = found.numbers[i];
      const auto its_seed = static_cast<unsigned>(random());
      writers[i] = std::make_unique<Child>(
          [&, i, number, its_seed](Child&) { Write(path, i, number, its_seed, *told); });
    }
    // The moment of the kill is the test's choice.
    absl::SleepFor(absl::Microseconds(random() % 4'000));
    // Most often one of them, and the others go on.
    const bool all = random() % 4 == 0;
    for (std::size_t i = 0; i < kWriters; ++i) {
      if (all || i == static_cast<std::size_t>(cycle) % kWriters) kills += kill(i);
    }
    std::array<std::int64_t, kWriters> least = {};
    for (std::size_t i = 0; i < kWriters; ++i) least[i] = told->published[i].load();
    // Now and then by one who leaves it clean, and without what was read.
    const bool is_writer = all && random() % 2 == 0;
    const Broker broker =
        Broker::Open(path, {.read_only = !is_writer, .background_threads = false}).value();
    const Partition partition = broker.OpenTopic("t").value().partition(0);
    ReadOn(partition, found);
    for (std::size_t i = 0; i < kWriters; ++i) CHECK(found.numbers[i] >= least[i]);
    if (is_writer) REQUIRE(partition.Trim(found.next).ok());
  }
  std::printf("Kills: %d, of which it was told of %lld records; %lld found\n", KillsToDo(),
              static_cast<long long>(told->published[0] + told->published[1] + told->published[2]),
              static_cast<long long>(found.next));
  INFO(told->why);
  CHECK(told->failed == 0);
  CHECK(found.next > 0);
}

}  // namespace
}  // namespace cordwood::kill_process_test
