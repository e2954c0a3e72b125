#include "cordwood/partitioner.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "cordwood/os/checksum.h"
#include "tests/catch.h"

namespace cordwood::partitioner_test {
namespace {

using internal::BuiltInPartitioner;
using internal::kStickyBytes;
using internal::MakePartitioner;
using internal::PartitionerKind;
using internal::PartitionForKey;
using internal::StickyState;

struct Vector {
  std::string_view key;
  std::uint32_t hash;
};

TEST_CASE("Murmur2: as Kafka's Java client") {
  // apache/kafka, UtilsTest.java, testMurmur2.
  constexpr std::pair<std::string_view, std::int32_t> kVectors[] = {
      {"21", -973932308},
      {"foobar", -790332482},
      {"a-little-bit-long-string", -985981536},
      {"a-little-bit-longer-string", -1486304829},
      {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
      {"abc", 479470107},
  };
  for (const auto& [key, hash] : kVectors) {
    CAPTURE(key);
    CHECK(Murmur2(key) == hash);
  }
}

TEST_CASE("Murmur2: as librdkafka, for every length of the tail") {
  // confluentinc/librdkafka, src/rdmurmur2.c, unittest_murmur2.
  constexpr Vector kVectors[] = {
      {"kafka", 0xd067cf64},
      {"giberish123456789", 0x8f552b0c},
      {"1234", 0x9fc97b14},
      {"234", 0xe7c009ca},
      {"34", 0x873930da},
      {"4", 0x5a4b5ca1},
      {"PreAmbleWillBeRemoved,ThePrePartThatIs", 0x78424f1c},
      {"reAmbleWillBeRemoved,ThePrePartThatIs", 0x4a62b377},
      {"eAmbleWillBeRemoved,ThePrePartThatIs", 0xe0e4e09e},
      {"AmbleWillBeRemoved,ThePrePartThatIs", 0x62b8b43f},
      {"", 0x106e08d9},
  };
  for (const Vector& vector : kVectors) {
    CAPTURE(vector.key);
    CHECK(static_cast<std::uint32_t>(Murmur2(vector.key)) == vector.hash);
  }
}

TEST_CASE("PartitionForKey: murmur2 without its sign, modulo the count") {
  CHECK(PartitionForKey("murmur2", "foobar", 1000) == (-790332482 & 0x7FFFFFFF) % 1000);
  CHECK(PartitionForKey("murmur2", "abc", 7) == 479470107 % 7);
}

TEST_CASE("PartitionForKey: xxh3 is the 64-bit hash modulo the count, and stands in for the rest") {
  const auto expected = static_cast<int>(os::Hash64("alice", 5) % 12);
  CHECK(PartitionForKey("xxh3", "alice", 12) == expected);
  CHECK(PartitionForKey("round-robin", "alice", 12) == expected);
  CHECK(PartitionForKey("by-region", "alice", 12) == expected);
}

TEST_CASE("PartitionForKey: a hash is for ever: these places never change") {
  // XXH3_64bits of nothing is 0x2D06800538D394C2, from xxHash's own sanity check.
  CHECK(PartitionForKey("xxh3", "", 1'000'000) ==
        static_cast<int>(0x2D06800538D394C2ull % 1'000'000));
  CHECK(PartitionForKey("murmur2", "", 1'000'000) == 0x106e08d9 % 1'000'000);
}

TEST_CASE("PartitionForKey: without partitions it is 0") {
  const auto name = GENERATE(as<std::string>(), "xxh3", "murmur2", "round-robin");
  CHECK(PartitionForKey(name, "alice", 0) == 0);
  CHECK(PartitionForKey(name, "alice", -1) == 0);
  CHECK(PartitionForKey(name, "alice", 1) == 0);
}

// --- Making one -----------------------------------------------------------------------------

TEST_CASE("MakePartitioner: makes what it is asked for") {
  const auto name = GENERATE(as<std::string>(), "xxh3", "murmur2", "round-robin");
  const auto made = MakePartitioner(name);
  REQUIRE(made.ok());
  CHECK((*made)->name() == name);
}

TEST_CASE("MakePartitioner: an unknown name is refused with those that there are") {
  const absl::Status status = MakePartitioner("by-\nregion").status();
  CHECK(absl::IsInvalidArgument(status));
  CHECK(absl::StrContains(status.message(), "by-\\nregion"));
  CHECK(absl::StrContains(status.message(), "round-robin"));
}

// --- Choosing -------------------------------------------------------------------------------

// The partitions that `count` records of `bytes` bytes and no key go to.
std::vector<int> Choices(Partitioner& partitioner, int count, std::size_t bytes, int partitions) {
  const std::string value(bytes, 'v');
  std::vector<int> choices;
  for (int i = 0; i < count; ++i) {
    choices.push_back(partitioner.Choose("orders", {.value = value}, partitions));
  }
  return choices;
}

TEST_CASE("BuiltInPartitioner: a key has one place, an empty key too") {
  const auto kind = GENERATE(PartitionerKind::kXxh3, PartitionerKind::kMurmur2);
  BuiltInPartitioner partitioner(kind);
  for (const std::string_view key : {"alice", "bob", ""}) {
    const int place = PartitionForKey(partitioner.name(), key, 12);
    for (int i = 0; i < 100; ++i) {
      CHECK(partitioner.Choose("orders", {.key = key, .value = "a book"}, 12) == place);
    }
  }
}

TEST_CASE("BuiltInPartitioner: many keys go to every partition alike") {
  const auto kind = GENERATE(PartitionerKind::kXxh3, PartitionerKind::kMurmur2);
  std::array<int, 8> counts = {};
  for (int i = 0; i < 80'000; ++i) {
    ++counts[static_cast<std::size_t>(PartitionForKey(kind, "key-" + std::to_string(i), 8))];
  }
  // 10,000 each is expected, with a standard deviation of 94.
  for (const int count : counts) CHECK((count > 9'500 && count < 10'500));
}

TEST_CASE("Round-robin: the next partition for every record, with a key or without") {
  BuiltInPartitioner partitioner(PartitionerKind::kRoundRobin, 0);
  std::vector<int> choices;
  for (int i = 0; i < 6; ++i) {
    choices.push_back(partitioner.Choose("orders", {.key = i % 2 ? "alice" : nullptr}, 3));
    partitioner.NextBatch(3);  // is nothing to it
  }
  CHECK(choices == std::vector<int>{0, 1, 2, 0, 1, 2});
}

TEST_CASE("Sticky: records without a key stay for 16,384 bytes, then go to the next partition") {
  BuiltInPartitioner partitioner(PartitionerKind::kXxh3, 0);
  std::map<int, int> counts;
  for (const int choice : Choices(partitioner, 3 * 16, 1024, 3)) ++counts[choice];
  CHECK(counts == std::map<int, int>{{0, 16}, {1, 16}, {2, 16}});
  CHECK(Choices(partitioner, 17, 1024, 3).back() == 1);
}

TEST_CASE("Sticky: every batch moves on, an unused turn is not passed over") {
  BuiltInPartitioner partitioner(PartitionerKind::kMurmur2, 0);
  CHECK(Choices(partitioner, 3, 10, 4) == std::vector<int>{0, 0, 0});
  partitioner.NextBatch(4);
  CHECK(Choices(partitioner, 3, 10, 4) == std::vector<int>{1, 1, 1});
  partitioner.NextBatch(4);
  CHECK(Choices(partitioner, 1, 10, 4) == std::vector<int>{2});
}

TEST_CASE("Sticky: records of more than a turn still go to every partition") {
  BuiltInPartitioner partitioner(PartitionerKind::kXxh3, 0);
  CHECK(Choices(partitioner, 4, 2 * kStickyBytes, 2) == std::vector<int>{0, 1, 0, 1});
}

TEST_CASE("Sticky: records of no bytes move on too") {
  BuiltInPartitioner partitioner(PartitionerKind::kXxh3, 0);
  CHECK(Choices(partitioner, static_cast<int>(kStickyBytes) + 1, 0, 2).back() == 1);
}

TEST_CASE("Sticky: headers count") {
  BuiltInPartitioner partitioner(PartitionerKind::kXxh3, 0);
  const std::string large(kStickyBytes, 'h');
  CHECK(partitioner.Choose("orders", {.headers = {{"trace", large}}}, 2) == 0);
  CHECK(partitioner.Choose("orders", {.headers = {{"trace", large}}}, 2) == 1);
}

TEST_CASE("Sticky: begins anywhere, so that many short producers spread") {
  std::set<int> firsts;
  for (int i = 0; i < 200; ++i) firsts.insert(StickyState().Choose(4, 1));
  CHECK(firsts.size() == 4);
}

TEST_CASE("Sticky: one seed, one course") {
  const std::uint64_t seed = GENERATE(0u, 1u, 77u);
  CHECK(StickyState(seed).Choose(10, 1) == static_cast<int>(seed % 10));
  CHECK(StickyState(~std::uint64_t{0}).Choose(3, 1) < 3);
}

TEST_CASE("Sticky: threads share the turns") {
  StickyState sticky(0);
  std::array<std::atomic<int>, 4> counts = {};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 4'096; ++i) ++counts[static_cast<std::size_t>(sticky.Choose(4, 1024))];
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& count : counts) CHECK(count == 4'096);
}

TEST_CASE("Sticky: threads that end batches lose no choice out of range") {
  StickyState sticky(0);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1'000; ++i) {
        const int choice = sticky.Choose(5, 100);
        wrong += choice < 0 || choice >= 5;
        sticky.NextBatch(5);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace cordwood::partitioner_test
