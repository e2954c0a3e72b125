// How a TableView's partition follows its log, by case of table_partition.h.

#include "table_partition.h"

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/table_script.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using internal::TableCallbackScope;
using internal::TablePartition;
using internal::TableWatcher;
using testing::ApplyTo;
using testing::Table;
using testing::TableOf;
using testing::TableScript;
using Told = std::vector<std::string>;

// A log, a table of it, and what a watcher was told: "key=value@offset", or "key-@offset".
struct Fixture {
  Fixture() {
    auto watcher = std::make_shared<TableWatcher>();
    {
      absl::MutexLock lock(&watcher->mutex);
      watcher->call = [this](const RecordView& record) {
        ApplyTo(mirror, record);
        const std::string key(record.key().value());
        const auto value = record.value();
        told.push_back(absl::StrCat(key, value ? absl::StrCat("=", std::string(*value)) : "-", "@",
                                    record.offset()));
      };
    }
    table.AddWatcher(std::move(watcher));
  }
  std::int64_t CatchUp() { return table.CatchUp(log).value(); }
  // What the watcher has been told since the last call.
  Told TakeTold() { return std::exchange(told, {}); }

  TableScript log;
  TablePartition table{"t", 0};
  Table mirror;
  Told told;
};

}  // namespace

TEST_CASE("TablePartition @A: records are applied in order, and told") {
  Fixture f;
  f.log.Put("a", "1");
  f.log.Put("b", "2");
  f.log.Put("a", "3");
  f.log.Delete("b");
  f.log.Delete("never there");
  f.log.Append(std::nullopt, "no key");
  CHECK(f.CatchUp() == 4);
  CHECK(TableOf(f.table) == Table{{"a", {"3", 2}}});
  CHECK(f.TakeTold() == Told{"a=1@0", "b=2@1", "a=3@2", "b-@3"});
  CHECK(f.table.position() == 6);
  CHECK(f.table.keyless_records() == 1);
  CHECK(f.CatchUp() == 0);
  CHECK(f.log.reads() == 1);
}

TEST_CASE("TablePartition @A: what compaction left out at the end is not waited for") {
  Fixture f;
  f.log.Put("a", "1");
  f.log.Delete("a");
  f.log.Compact(f.log.end());
  CHECK(f.CatchUp() == 0);
  CHECK(f.table.position() == 2);
}

TEST_CASE("TablePartition @B: what the start has passed is forgotten, and told in order") {
  Fixture f;
  for (const char* key : {"a", "b", "c", "d"}) f.log.Put(key, "1");
  f.log.Put("a", "2");
  f.CatchUp();
  f.TakeTold();
  f.log.Trim(3);
  CHECK(f.CatchUp() == 2);
  CHECK(f.TakeTold() == Told{"b-@1", "c-@2"});
  CHECK(TableOf(f.table) == f.log.Newest());
}

TEST_CASE("TablePartition @B: a start that has passed the position leaves what is there") {
  Fixture f;
  f.log.Put("a", "1");
  f.CatchUp();
  for (int i = 0; i < 10; ++i) f.log.Put("b", std::to_string(i));
  f.log.Trim(8);
  CHECK(f.CatchUp() == 4);
  CHECK(f.told == Told{"a=1@0", "a-@0", "b=7@8", "b=8@9", "b=9@10"});
}

TEST_CASE("TablePartition @B: a start that moves while it is read loses no key that is there") {
  Fixture f;
  for (int i = 0; i < 10; ++i) f.log.Put(std::to_string(i), "1");
  int steps = 0;
  f.log.set_on_step([&] {
    if (++steps == 5) f.log.Trim(7);
  });
  f.CatchUp();
  CHECK(TableOf(f.table) == f.log.Newest());
  CHECK(f.mirror == TableOf(f.table));
  CHECK(f.table.gaps().empty());
}

TEST_CASE("TablePartition @C: a deletion that was compacted away before it was read is seen") {
  Fixture f;
  f.log.Put("a", "1");
  f.log.Put("b", "1");
  f.log.Put("c", "1");
  f.CatchUp();
  f.TakeTold();
  f.log.Delete("a");
  f.log.Put("b", "2");
  f.log.Compact(f.log.end());
  f.log.Put("d", "1");
  CHECK(f.CatchUp() == 3);
  CHECK(f.TakeTold() == Told{"a-@0", "b=2@4", "d=1@5"});
  CHECK(TableOf(f.table) == f.log.Newest());
}

TEST_CASE("TablePartition @C: a deletion compacted away while all is read anew is seen too") {
  Fixture f;
  for (const char* key : {"a", "b", "c"}) f.log.Put(key, "1");
  f.CatchUp();
  f.log.Delete("a");
  f.log.Compact(f.log.end());
  f.log.Delete("b");
  f.log.Put("d", "1");
  int compactions = 0;
  f.log.set_on_step([&] {
    // In the second reading, when it has passed b.
    if (f.log.reads() == 2 && f.table.Find("d") == nullptr && ++compactions == 2) {
      f.log.Compact(f.log.end());
    }
  });
  f.CatchUp();
  CHECK(f.log.reads() == 3);
  CHECK(TableOf(f.table) == f.log.Newest());
  CHECK(f.mirror == TableOf(f.table));
}

TEST_CASE("TablePartition @C: a log that is compacted all the time is kUnavailable, no hang") {
  Fixture f;
  f.log.Put("a", "1");
  f.CatchUp();
  f.log.set_on_step([&] {
    f.log.Delete("b");
    f.log.Compact(f.log.end());
  });
  f.log.Put("c", "1");
  CHECK(absl::IsUnavailable(f.table.CatchUp(f.log).status()));
  f.log.set_on_step(nullptr);
  f.CatchUp();
  CHECK(TableOf(f.table) == f.log.Newest());
}

TEST_CASE("TablePartition @D: damage costs the record that it hit, and is noted") {
  Fixture f;
  f.log.Put("a", "1");
  f.log.Damage(f.log.Put("a", "2"));
  f.log.Put("b", "1");
  f.CatchUp();
  CHECK(TableOf(f.table) == Table{{"a", {"1", 0}}, {"b", {"1", 2}}});
  REQUIRE(f.table.gaps().size() == 1);
  CHECK(f.table.gaps()[0] == Gap{"t", 0, 1, 2, GapReason::kDamage});
  f.log.Trim(2);
  f.CatchUp();
  CHECK(f.table.gaps().empty());
}

TEST_CASE("TablePartition @E: an end before the position means that another recovery kept less") {
  Fixture f;
  f.log.Put("a", "1");
  f.log.Put("a", "2");
  f.log.Put("b", "1");
  f.CatchUp();
  f.TakeTold();
  f.log.CutTo(1);
  CHECK(f.CatchUp() == 2);
  CHECK(f.TakeTold() == Told{"b-@2", "a=1@0"});
  CHECK(f.table.position() == 1);
}

TEST_CASE("TablePartition @E: a hole straight ahead may have begun before the position") {
  Fixture f;
  f.log.Put("a", "1");
  f.log.Put("a", "2");
  f.log.Put("b", "1");
  f.CatchUp();
  f.TakeTold();
  f.log.Lose(1);
  f.log.Put("c", "1");
  CHECK(f.CatchUp() == 3);
  CHECK(f.TakeTold() == Told{"b-@2", "a=1@0", "c=1@8"});
  CHECK(f.table.gaps() == std::vector<Gap>{{"t", 0, 1, 8, GapReason::kPowerLoss}});
}

TEST_CASE("TablePartition @E: what a recovery dropped goes from a view that is open read-only") {
  const testing::TempDir dir;
  const auto open = [&] { return Broker::Open(dir / "data").value(); };
  const auto folder = dir / "data/topics/t";
  std::uint64_t kept_bytes = 0;
  {
    const Broker broker = open();
    broker.CreateTopic("t", {.cleanup = CleanupPolicy::kCompact}).value();
    const Partition log = broker.OpenTopic("t").value().partition(0);
    log.Append({.key = "a", .value = "1"}).value();
    kept_bytes = log::ReadTail(internal::LogOf(log)->block()).position;
    log.Append({.key = "a", .value = "2"}).value();
    log.Append({.key = "b", .value = "1"}).value();
  }
  std::filesystem::remove(folder / "control");
  const Broker reader = Broker::Open(dir / "data", {.read_only = true}).value();
  const TableView view = TableView::Open(reader, "t").value();
  CHECK(view.Get("a").value()->value() == "2");
  std::fstream file(folder / "0/00000000000000000000.log",
                    std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(kept_bytes)) << std::string(1000, 0);
  file.close();
  const Broker writer = open();
  CHECK(view.Poll(absl::Seconds(20)).value() == 2);
  CHECK(view.Get("a").value()->value() == "1");
  CHECK(view.Size().value() == 1);
}

TEST_CASE("TablePartition @D: a hole behind what it has not read yet is noted, and no more") {
  Fixture f;
  f.log.Put("a", "1");
  f.CatchUp();
  f.log.Put("b", "1");
  f.log.Lose(2);
  CHECK(f.CatchUp() == 1);
  CHECK(f.log.reads() == 2);
  CHECK(f.table.gaps() == std::vector<Gap>{{"t", 0, 2, 7, GapReason::kPowerLoss}});
}

TEST_CASE("TablePartition: after an error it is as far as it got, and goes on there") {
  Fixture f;
  const bool anew = GENERATE(false, true);
  f.log.Put("a", "1");
  f.CatchUp();
  if (anew) {
    f.log.Delete("a");
    f.log.Compact(f.log.end());
  }
  f.log.Put("b", "1");
  f.log.set_error(absl::DataLossError("a file is gone"));
  CHECK(absl::IsDataLoss(f.table.CatchUp(f.log).status()));
  CHECK(f.table.Find("a") != nullptr);
  CHECK(f.table.Find("b") == nullptr);
  f.CatchUp();
  CHECK(TableOf(f.table) == f.log.Newest());
  CHECK(f.mirror == TableOf(f.table));
}

TEST_CASE("TablePartition: a record keeps its key, value, headers, time and place") {
  Fixture f;
  const std::string value(100'000, 'v');
  f.log.Put("", "empty key");
  f.log.Put("k", "");
  f.log.Put(std::string(5000, 'k'), value);
  f.CatchUp();
  CHECK(TableOf(f.table) == f.log.Newest());
  f.table.ForEach([](const RecordView& record) {
    CHECK(record.topic() == "t");
    CHECK(internal::TimeToNanos(record.timestamp()) == record.offset());
    CHECK(record.headers().empty());
  });
}

TEST_CASE("TablePartition: callbacks know that they are, a watcher that was removed is not told") {
  Fixture f;
  auto watcher = std::make_shared<TableWatcher>();
  int calls = 0;
  watcher->id = 7;
  {
    absl::MutexLock lock(&watcher->mutex);
    watcher->call = [&](const RecordView&) { calls += TableCallbackScope::IsInside() ? 1 : 100; };
  }
  f.table.AddWatcher(watcher);
  f.log.Put("a", "1");
  f.CatchUp();
  CHECK(calls == 1);
  CHECK_FALSE(TableCallbackScope::IsInside());
  CHECK(f.table.RemoveWatcher(7));
  CHECK_FALSE(f.table.RemoveWatcher(7));
  f.log.Put("a", "2");
  f.CatchUp();
  CHECK(calls == 1);
  CHECK(f.told.size() == 2);
}

TEST_CASE("TablePartition: whatever happens to the log, table and watcher have what it has") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto below = [&](Offset n) {
    return static_cast<Offset>(random() % static_cast<std::uint64_t>(n + 1));
  };
  for (int round = 0; round < 300; ++round) {
    CAPTURE(round);
    Fixture f;
    const auto happen = [&] {
      const std::string key(1, static_cast<char>('a' + below(7)));
      switch (below(19)) {
        case 0:
          f.log.Trim(f.log.start() + below((f.log.end() - f.log.start()) / 4));
          break;
        case 1:
          f.log.Compact(f.log.start() + below(f.log.end() - f.log.start()));
          break;
        case 2:
        case 3:
        case 4:
          f.log.Delete(key);
          break;
        default:
          f.log.Put(key, std::to_string(random() % 100));
      }
    };
    int while_reading = 0;
    f.log.set_on_step([&] {
      if (while_reading > 0 && random() % 4 == 0) {
        --while_reading;
        happen();
      }
    });
    for (int i = 0; i < 20; ++i) {
      if (below(9) == 0) f.log.Lose(f.log.start() + below(f.log.end() - f.log.start()));
      for (Offset n = below(30); n > 0; --n) happen();
      while_reading = 10;
      f.CatchUp();
      CHECK(f.mirror == TableOf(f.table));
      while_reading = 0;
      f.CatchUp();
      REQUIRE(TableOf(f.table) == f.log.Newest());
      REQUIRE(f.mirror == f.log.Newest());
    }
  }
}

}  // namespace cordwood
