// One partition: what goes in comes out, over rolls, from any offset, by time.

#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "cordwood/log/cursor.h"
#include "tests/catch.h"
#include "tests/support/log_fixture.h"

namespace cordwood {
namespace {

using testing::LogFixture;
using Values = std::vector<std::string>;

TEST_CASE("Log: records come back equal and in order") {
  LogFixture log;
  CHECK(log.Append("a") == 0);
  CHECK(log.Append("b") == 1);
  CHECK(log.Append("") == 2);
  CHECK(log.Values() == Values{"a", "b", ""});
  CHECK(log->end_offset() == 3);
  CHECK(log->start_offset() == 0);
}

TEST_CASE("Log: key, value, headers and timestamp come back as they went in") {
  LogFixture log;
  const absl::Time then = absl::FromUnixNanos(807249600123456789);
  REQUIRE(log->Append({.key = "k",
                       .value = nullptr,
                       .headers = {{"a", "1"}, {"b"}, {"", ""}},
                       .timestamp = then},
                      {})
              .ok());
  log::Cursor cursor(log.get());
  segment::CheckedFrame frame;
  REQUIRE(cursor.Next(frame) == log::Cursor::Step::kRecord);
  const RecordView view = cursor.View(frame);
  CHECK(view.key() == "k");
  CHECK(view.is_tombstone());
  CHECK(view.timestamp() == then);
  CHECK(view.headers().size() == 3);
  CHECK(view.headers().Last("a") == "1");
  CHECK_FALSE(view.headers().Last("b").has_value());
}

TEST_CASE("Log: ten thousand records roll through many segments and are all there") {
  LogFixture log;
  for (int i = 0; i < 10'000; ++i) REQUIRE(log.Append("value " + std::to_string(i)) == i);
  CHECK(log.Bases().size() > 5);
  const Values values = log.Values();
  REQUIRE(values.size() == 10'000);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] != "value " + std::to_string(i)) FAIL("record " << i << " is " << values[i]);
  }
  for (Offset from : {1, 999, 5000, 9999}) {
    CHECK(log.Values(from).front() == "value " + std::to_string(from));
  }
  CHECK(log.Values(10'000).empty());
}

TEST_CASE("Log: another open of the log reads what is appended, and appends after it") {
  LogFixture log;
  std::shared_ptr<log::Log> other = log.OpenBeside();
  log.AppendMany(3000);
  CHECK(other->end_offset() == 3000);
  CHECK(other->Append({.value = "other"}, {}).value().offset == 3000);
  CHECK(log.Append("mine") == 3001);
  CHECK(log.Values(2999) == Values{"v2999", "other", "mine"});
}

TEST_CASE("Log: a batch gets consecutive offsets and is seen whole or not at all") {
  LogFixture log;
  log.Append("before");
  std::vector<Record> batch(100);
  for (Record& record : batch) record.value = "in the batch";
  CHECK(log->AppendBatch(batch, {}).value().offset == 1);
  CHECK(log->end_offset() == 101);
  CHECK(log.Values().size() == 101);
  CHECK(log->AppendBatch({}, {}).value().offset == 101);
}

TEST_CASE("Log: a record or batch larger than a segment gets a segment of its own size") {
  LogFixture log;
  log.Append("small");
  const std::string large(1 << 20, 'x');
  CHECK(log.Append(large) == 1);
  CHECK(log.Append("after") == 2);
  CHECK(log.Values() == Values{"small", large, "after"});
}

TEST_CASE("Log: a record over the limit is refused and nothing is appended") {
  LogFixture log;
  const std::string huge((64 << 20) + 1, 'x');
  const auto at = log->Append({.value = huge}, {});
  CHECK(absl::IsInvalidArgument(at.status()));
  CHECK(PartitionOf(at.status()) == TopicPartition{"test", 0});
  CHECK(log->end_offset() == 0);
}

TEST_CASE("Log: expected_offset appends at that offset or not at all") {
  LogFixture log;
  CHECK(log->Append({.value = "a"}, {.expected_offset = 0}).ok());
  CHECK(absl::IsAborted(log->Append({.value = "b"}, {.expected_offset = 0}).status()));
  CHECK(absl::IsAborted(log->Append({.value = "b"}, {.expected_offset = 2}).status()));
  CHECK(log->Append({.value = "b"}, {.expected_offset = 1}).ok());
  CHECK(log->end_offset() == 2);
}

TEST_CASE("Log: AppendInPlace writes what fill wrote, large or small") {
  const std::size_t bytes = GENERATE(std::size_t{16}, std::size_t{100'000});
  LogFixture log;
  const auto fill = [&](char c) {
    return [c](std::span<std::byte> out) {
      std::memset(out.data(), c, out.size() - 8);
      return out.size() - 8;
    };
  };
  CHECK(log->AppendInPlace(bytes, {.key = "k", .headers = {{"h", "1"}}}, fill('a'), {}).ok());
  CHECK(log->AppendInPlace(bytes, {}, fill('b'), {}).ok());
  CHECK(log.Values() == Values{std::string(bytes - 8, 'a'), std::string(bytes - 8, 'b')});
}

TEST_CASE("Log: AppendInPlace over the limit is refused before fill, however large") {
  // The last one and a key of 100 bytes come to 91 in 64 bits.
  const std::size_t bytes = GENERATE(std::size_t{1} << 31, std::size_t{1} << 33, SIZE_MAX - 8);
  CAPTURE(bytes);
  LogFixture log;
  bool called = false;
  const auto fill = [&](std::span<std::byte>) {
    called = true;
    return std::size_t{0};
  };
  const std::string key(100, 'k');
  CHECK(absl::IsInvalidArgument(log->AppendInPlace(bytes, {.key = key}, fill, {}).status()));
  CHECK_FALSE(called);
  CHECK(log->end_offset() == 0);
}

TEST_CASE("Log: what goes wrong inside fill appends nothing and blocks nobody") {
  const std::size_t bytes = GENERATE(std::size_t{16}, std::size_t{100'000});
  LogFixture log;
  const auto throws = [](std::span<std::byte>) -> std::size_t { throw 1; };
  CHECK_THROWS(log->AppendInPlace(bytes, {}, throws, {}).status());
  const auto too_much = [&](std::span<std::byte>) { return bytes + 1; };
  CHECK(absl::IsInvalidArgument(log->AppendInPlace(bytes, {}, too_much, {}).status()));
  absl::Status inside;
  const auto calls = [&](std::span<std::byte>) -> std::size_t {
    inside = log->Append({.value = "x"}, {}).status();
    return 0;
  };
  CHECK(log->AppendInPlace(bytes, {}, calls, {}).ok());
  CHECK(absl::IsFailedPrecondition(inside));
  CHECK(log->end_offset() == 1);
  CHECK(log.Append("goes on") == 1);
}

TEST_CASE("Log: the first record at or after a time, in order and out of order") {
  LogFixture log;
  for (int i = 0; i < 5000; ++i) {
    const int second = i % 10 == 9 ? i - 100 : i;  // every tenth is late
    REQUIRE(log->Append({.value = "v", .timestamp = absl::FromUnixSeconds(second)}, {}).ok());
  }
  const auto expected = [](int second) {
    for (int i = 0; i < 5000; ++i) {
      if ((i % 10 == 9 ? i - 100 : i) >= second) return Offset{i};
    }
    return Offset{5000};
  };
  for (int second : {-1000, 0, 1, 9, 10, 2499, 2509, 4998, 4999, 9999}) {
    CAPTURE(second);
    CHECK(log->OffsetForTime(std::int64_t{second} * 1'000'000'000).value() == expected(second));
  }
}

TEST_CASE("Log: Trim moves the start for good and takes away whole segments") {
  LogFixture log;
  log.AppendMany(5000);
  const std::size_t files = log.Bases().size();
  REQUIRE(log->Trim(4000).ok());
  CHECK(log->start_offset() == 4000);
  CHECK(log.Bases().size() < files);
  CHECK(log.Values().size() == 1000);
  CHECK(absl::IsOutOfRange(log->Trim(5001)));
  CHECK(log->Trim(100).ok());
  CHECK(log->start_offset() == 4000);
  SECTION("also after a kill") { log.KillAndOpen(); }
  SECTION("also after a power cut") {
    REQUIRE(log->Flush().ok());
    log.RebootAndOpen();
  }
  CHECK(log->start_offset() == 4000);
  CHECK(log.Values().size() == 1000);
}

TEST_CASE("Log: a reader that the start has passed is told so") {
  LogFixture log;
  log.AppendMany(5000);
  log::Cursor cursor(log.get(), 10);
  segment::CheckedFrame frame;
  REQUIRE(cursor.Next(frame) == log::Cursor::Step::kRecord);
  REQUIRE(log->Trim(4000).ok());
  while (cursor.Next(frame) == log::Cursor::Step::kRecord && cursor.next_offset() < 4000) {
  }
  CHECK(cursor.gap().to == 4000);
  CHECK(cursor.gap().reason == GapReason::kTrim);
}

TEST_CASE("Log: Flush makes everything published durable, over segments") {
  LogFixture log;
  log.AppendMany(5000);
  CHECK(log->durable_offset() < 5000);
  REQUIRE(log->Flush().ok());
  CHECK(log->durable_offset() == 5000);
  CHECK(absl::IsOutOfRange(log->FlushTo(5001, absl::Seconds(1))));
}

TEST_CASE("Log: OnDurable calls back once, at once if it already is") {
  LogFixture log;
  log.Append("a");
  int called = 0;
  REQUIRE(log->OnDurable(0, [&](const absl::Status& s) { called += s.ok(); }).ok());
  CHECK(called == 0);
  REQUIRE(log->Flush().ok());
  CHECK(called == 1);
  REQUIRE(log->OnDurable(0, [&](const absl::Status& s) { called += s.ok(); }).ok());
  CHECK(called == 2);
  CHECK(absl::IsOutOfRange(log->OnDurable(1, [](const absl::Status&) {})));
}

TEST_CASE("Log: a waiter wakes when the end is reached, and gives up at its deadline") {
  LogFixture log;
  CHECK(absl::IsDeadlineExceeded(log->WaitForEnd(1, absl::Milliseconds(5))));
  std::thread writer([&] { log.AppendMany(10); });
  CHECK(log->WaitForEnd(10, absl::Seconds(30)).ok());
  writer.join();
  std::thread flusher([&] { log->Flush().IgnoreError(); });
  CHECK(log->WaitForDurable(9, absl::Seconds(30)).ok());
  flusher.join();
}

TEST_CASE(
    "Log: four threads append at once, and every record is there once, in each writer's order") {
  LogFixture log;
  constexpr int kEach = 3000;
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < kEach; ++i) {
        log.Append(std::to_string(w) + " " + std::to_string(i));
      }
    });
  }
  std::thread reader([&] {
    log::Cursor cursor(log.get());
    segment::CheckedFrame frame;
    while (cursor.next_offset() < 4 * kEach) {
      const auto step = cursor.Next(frame);
      if (step == log::Cursor::Step::kEnd) {
        log->WaitForEnd(cursor.next_offset() + 1, absl::Seconds(30)).IgnoreError();
      }
    }
  });
  for (std::thread& writer : writers) writer.join();
  reader.join();
  int next[4] = {};
  for (const std::string& value : log.Values()) {
    const int w = value[0] - '0';
    REQUIRE(value == std::to_string(w) + " " + std::to_string(next[w]));
    ++next[w];
  }
  for (int n : next) CHECK(n == kEach);
}

TEST_CASE("Log: many threads share a sync, and each returns only when its record is durable") {
  LogFixture log;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const auto at = log->Append({.value = "d"}, {.durability = Durability::kDurable});
        if (!at.ok() || log->durable_offset() <= at->offset) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(log->durable_offset() == 400);
}

TEST_CASE("Log: work made ahead is used by the roll and taken away on close") {
  LogFixture log;
  log.AppendMany(700);
  REQUIRE(log->PrepareAhead().ok());
  const std::uint64_t prepared = log.block().prepared.load();
  REQUIRE(prepared != 0);
  log.AppendMany(500);
  CHECK(log.Bases().size() == 2);
  CHECK(log.block().prepared.load() == 0);
  CHECK(segment::SaltTag(segment::Segment::Open(log.files(), log.Bases()[1], os::Access::kRead)
                             .value()
                             ->header()
                             .salt) == prepared);
  log.AppendMany(700);
  REQUIRE(log->PrepareAhead().ok());
  log->DropPrepared();
  for (const auto& entry : std::filesystem::directory_iterator(log.folder())) {
    CHECK(entry.path().filename().string()[0] != '.');
  }
}

TEST_CASE("Log: a segment rolls when it is old, but not while it is empty") {
  LogFixture log({.segment_age = absl::Nanoseconds(1)});
  log.Append("a");
  log.Append("b");
  log.Append("c");
  CHECK(log.Bases().size() == 3);
  CHECK(log.Values() == Values{"a", "b", "c"});
}

}  // namespace
}  // namespace cordwood
