// Compaction by key: what it keeps, what it removes, and how the log is read afterwards.
// Crashes and failures are in rules_compaction_test.cc.

#include "cordwood/log/compaction.h"

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "log/key_map.h"
#include "tests/catch.h"
#include "tests/support/compaction_fixture.h"
#include "tests/support/failing_storage.h"
#include "tests/support/log_fixture.h"

namespace cordwood::compaction_test {
namespace {

using log::CompactionDecision;
using log::CompactionInput;
using log::CompactionResult;
using log::CompactionSettings;
using log::Compactor;
using log::DecideCompaction;
using log::KeyMap;
using log::SegmentVerdict;
using testing::Always;
using testing::Compact;
using testing::Delete;
using testing::FailingStorage;
using testing::Kept;
using testing::LogFixture;
using testing::OffsetsOf;
using testing::Put;
using testing::ReadBack;
using testing::ReadFrom;
using testing::RollKeyed;
using testing::Table;
using testing::TableOf;
using Verdicts = std::vector<SegmentVerdict>;

LogFixture::Options Small(std::shared_ptr<Storage> storage = Storage::OperatingSystem()) {
  return {.segment_bytes = 4096, .storage = std::move(storage)};
}

// ---- The decision

// Three segments of 100 records and 1,000 bytes, appended to at 1, 2 and 3 seconds.
std::vector<CompactionInput> Three() {
  std::vector<CompactionInput> segments;
  for (Offset i = 0; i < 3; ++i) {
    segments.push_back({.base = i * 100,
                        .next = (i + 1) * 100,
                        .bytes = 1000,
                        .created_ns = i * 1'000'000'000,
                        .last_append_ns = (i + 1) * 1'000'000'000});
  }
  return segments;
}
constexpr std::int64_t Seconds(std::int64_t n) { return n * 1'000'000'000; }

TEST_CASE("Compaction: the ratio of what was not compacted decides") {
  CompactionSettings settings = {.dirty_ratio_min = 0.5};
  CHECK(DecideCompaction(Three(), settings, {.durable = 300, .compacted_to = 100}).compact);
  CHECK_FALSE(DecideCompaction(Three(), settings, {.durable = 300, .compacted_to = 200}).compact);
  settings.dirty_ratio_min = 0.3;
  CHECK(DecideCompaction(Three(), settings, {.durable = 300, .compacted_to = 200}).compact);
  CHECK_FALSE(DecideCompaction(Three(), settings, {.durable = 300, .compacted_to = 300}).compact);
  CHECK_FALSE(DecideCompaction({}, settings, {}).compact);
}

TEST_CASE("Compaction: what is not durable is not touched, nor what comes after it") {
  const CompactionDecision decision = DecideCompaction(Three(), {}, {.durable = 250});
  CHECK(decision.verdicts == Verdicts{SegmentVerdict::kEligible, SegmentVerdict::kEligible,
                                      SegmentVerdict::kNotDurable});
  CHECK(decision.segments == 2);
  CHECK(decision.end == 200);
}

TEST_CASE("Compaction: what is younger than the least lag is not touched") {
  const CompactionSettings settings = {.lag_min_ns = Seconds(5)};
  const auto at = [&](std::int64_t now) {
    return DecideCompaction(Three(), settings, {.now_ns = Seconds(now), .durable = 300}).verdicts;
  };
  CHECK(at(5) == Verdicts(3, SegmentVerdict::kTooYoung));
  CHECK(at(6) ==
        Verdicts{SegmentVerdict::kEligible, SegmentVerdict::kTooYoung, SegmentVerdict::kTooYoung});
  CHECK(at(8) == Verdicts(3, SegmentVerdict::kEligible));
}

TEST_CASE("Compaction: without a least lag a clock that goes back keeps nothing") {
  CHECK(DecideCompaction(Three(), {}, {.now_ns = -Seconds(9), .durable = 300}).segments == 3);
}

TEST_CASE("Compaction: what is older than the greatest lag is compacted whatever the ratio") {
  const CompactionSettings settings = {.dirty_ratio_min = 0.9, .lag_max_ns = Seconds(10)};
  const auto at = [&](std::int64_t now) {
    return DecideCompaction(Three(), settings,
                            {.now_ns = Seconds(now), .durable = 300, .compacted_to = 200});
  };
  CHECK_FALSE(at(11).compact);
  CHECK(at(12).compact);
  CHECK(at(12).why.find("max.compaction.lag.ms") != std::string::npos);
}

TEST_CASE("Compaction: the active segment is overdue when its first record is, not when empty") {
  const CompactionSettings settings = {.lag_max_ns = Seconds(10)};
  CHECK(log::IsActiveOverdue(settings, Seconds(1), Seconds(11)));
  CHECK_FALSE(log::IsActiveOverdue(settings, Seconds(2), Seconds(11)));
  CHECK_FALSE(log::IsActiveOverdue(settings, 0, Seconds(11)));
  CHECK_FALSE(log::IsActiveOverdue({}, 1, std::numeric_limits<std::int64_t>::max()));
}

TEST_CASE("Compaction: a segment that cannot be read ends nothing and counts for nothing") {
  std::vector<CompactionInput> segments = Three();
  segments[1].readable = false;
  const CompactionDecision decision = DecideCompaction(segments, {}, {.durable = 300});
  CHECK(decision.verdicts[1] == SegmentVerdict::kDamaged);
  CHECK(decision.segments == 3);
  CHECK(decision.dirty_bytes == 2000);
}

TEST_CASE("Compaction: no more segments are mapped than was said") {
  const CompactionSettings settings = {.dirty_segments_max = 2};
  const CompactionDecision decision = DecideCompaction(Three(), settings, {.durable = 300});
  CHECK(decision.verdicts[2] == SegmentVerdict::kNextPass);
  CHECK(decision.end == 200);
}

// ---- The key map

TEST_CASE("Key map: keys with the same hash are told apart") {
  KeyMap map(1024, 10);
  const auto is = [](std::uint64_t position) {
    return [=](KeyMap::Place place) { return place.position == position; };
  };
  CHECK(map.Put(7, {.segment = 1, .position = 1024}, is(1024)));
  CHECK(map.Put(7, {.segment = 2, .position = 2048}, is(2048)));
  CHECK(map.keys() == 2);
  CHECK(map.Find(7, is(1024))->segment == 1);
  CHECK(map.Find(7, is(2048))->segment == 2);
  CHECK_FALSE(map.Find(7, is(4096)));
}

TEST_CASE("Key map: a full one takes what it has and nothing new") {
  KeyMap map(64, 1'000'000);
  CHECK(map.bytes() == 64);
  const auto any = [](KeyMap::Place) { return true; };
  std::uint64_t hash = 0;
  while (map.Put(hash, {.position = 1024}, any)) ++hash;
  CHECK(hash == 3);
  CHECK(map.Put(0, {.position = 2048}, any));
  CHECK(map.Find(0, any)->position == 2048);
}

// ---- What it keeps

TEST_CASE("Compaction: the last value of every key stays, with its offset and timestamp") {
  LogFixture log(Small());
  Put(*log, "a", "old");
  const Offset at = log->Append({.key = "a",
                                 .value = "new",
                                 .headers = {{"h", "1"}},
                                 .timestamp = absl::FromUnixNanos(5)},
                                {})
                        .value()
                        .offset;
  RollKeyed(log);
  const CompactionResult result = Compact(log.get());
  CHECK(result.records_dropped >= 1);
  const ReadBack read = ReadFrom(log.get(), 0, 1);
  CHECK(read.records == std::vector<Kept>{{at, "a", "new", 5}});
  CHECK(read.gaps.empty());
  log::Cursor cursor(log.get(), at);
  segment::CheckedFrame frame;
  REQUIRE(cursor.Next(frame) == log::Cursor::Step::kRecord);
  CHECK(cursor.View(frame).headers().Last("h") == "1");
}

TEST_CASE("Compaction: the segment that is written to is left alone") {
  LogFixture log(Small());
  Put(*log, "a", "1");
  Put(*log, "a", "2");
  REQUIRE(log->Flush().ok());
  Compact(log.get());
  CHECK(OffsetsOf(log.get(), "a").size() == 2);
}

TEST_CASE("Compaction: a record without a key stays") {
  LogFixture log(Small());
  log.AppendMany(3);
  RollKeyed(log);
  Put(*log, testing::kFillerKey, "");
  RollKeyed(log);
  Compact(log.get());
  CHECK(log.Values(0).at(0) == "v0");
  CHECK(log.Values(0).at(2) == "v2");
}

TEST_CASE("Compaction: small segments are joined, one with nothing to drop is left as it is") {
  LogFixture log(Small());
  for (int i = 0; i < 5; ++i) RollKeyed(log);
  REQUIRE(log.Bases().size() == 6);
  CHECK(Compact(log.get()).files_written == 1);
  CHECK(log.Bases().size() == 2);
  const std::string before = log.Bytes(0);
  for (int i = 0; i < 6; ++i) Put(*log, absl::StrCat(i), std::string(500, 'x'));
  RollKeyed(log);
  const std::string full = log.Bytes(log.Bases().at(1));
  Compact(log.get());
  CHECK(log.Bytes(log.Bases().at(1)).size() < full.size());       // without fillers
  CHECK(Compact(log.get(), Always(1 << 20)).files_written == 0);  // nothing new
}

// A log beside what it must be: every record that was ever put, and the last of every key.
class Model {
 public:
  explicit Model(unsigned seed) : random_(seed), log_(Small()) {}

  void Append() {
    const bool batch = Chance(10);
    std::vector<Kept> kept;
    for (auto n = batch ? 1 + random_() % 8 : 1; n > 0; --n) {
      Kept record = {.offset = log_->end_offset() + static_cast<Offset>(kept.size()),
                     .key = absl::StrCat("k", random_() % 40),
                     .timestamp_ns = static_cast<std::int64_t>(random_() % 1000)};
      if (Chance(5)) record.key = "";
      if (!Chance(20)) record.value = std::string(random_() % (Chance(10) ? 2000 : 50), 'v');
      if (record.value) absl::StrAppend(&*record.value, record.offset);
      kept.push_back(std::move(record));
    }
    std::vector<Record> records;
    for (const Kept& k : kept) {
      Record record = {.key = k.key, .timestamp = absl::FromUnixNanos(k.timestamp_ns)};
      if (k.value) record.value = *k.value;
      records.push_back(record);
    }
    REQUIRE(log_->AppendBatch(records, {}).ok());
    all_.insert(all_.end(), kept.begin(), kept.end());
    for (const Kept& k : kept) last_[k.key] = k.offset;
  }

  void Some() {
    for (auto n = random_() % 200; n > 0; --n) Append();
    REQUIRE(log_->Flush().ok());
    if (Chance(20)) log_.KillAndOpen();
    if (Chance(20)) AfterReboot();
  }

  void CompactOnce(const CompactionSettings& settings) { Compact(log_.get(), settings); }

  void Check() {
    const ReadBack read = ReadFrom(log_.get(), 0);
    CHECK(read.status.ok());
    CHECK(read.gaps == holes_);
    std::size_t lost = 0, changed = 0;
    std::map<Offset, const Kept*> there;
    for (const Kept& record : read.records) there[record.offset] = &record;
    CHECK(there.size() == read.records.size());
    for (const Kept& record : all_) {
      const auto found = there.find(record.offset);
      if (found != there.end()) {
        changed += *found->second != record;
      } else {
        lost += last_[record.key] == record.offset && record.value.has_value();
      }
    }
    CHECK(lost == 0);
    CHECK(changed == 0);
    CHECK(TableOf(read.records) == TableOf(all_));
    // From every offset: the next record that is there.
    std::size_t wrong = 0;
    for (Offset from = 0; from <= log_->end_offset(); ++from) {
      const ReadBack one = ReadFrom(log_.get(), from, 1);
      const auto next = there.lower_bound(from);
      const bool none = next == there.end();
      wrong +=
          none ? !one.records.empty() : one.records.size() != 1 || one.records[0] != *next->second;
    }
    CHECK(wrong == 0);
  }

  LogFixture& log() { return log_; }
  std::size_t records_there() { return ReadFrom(log_.get(), 0).records.size(); }
  std::size_t keys() const { return last_.size(); }

 private:
  bool Chance(unsigned percent) { return random_() % 100 < percent; }
  // All of it was durable; but offsets are not given out again, and that is told.
  void AfterReboot() {
    const Offset end = log_->end_offset();
    log_.RebootAndOpen();
    holes_.push_back({.topic = "test",
                      .partition = 0,
                      .from = end,
                      .to = log_->end_offset(),
                      .reason = GapReason::kPowerLoss});
  }

  std::mt19937 random_;
  LogFixture log_;
  std::vector<Kept> all_;
  std::map<std::string, Offset> last_;
  std::vector<Gap> holes_;
};

TEST_CASE("Compaction: whatever is put and deleted, every pass leaves the last of every key") {
  const unsigned seed = GENERATE(range(1U, 9U));
  CAPTURE(seed);
  Model model(seed);
  const bool tiny_map = seed % 2 == 0;
  for (int pass = 0; pass < 6; ++pass) {
    model.Some();
    CompactionSettings settings = Always();
    settings.delete_retention_ns = 0;
    if (tiny_map) settings.key_map_bytes = 256;
    model.CompactOnce(settings);
    model.Check();
  }
}

TEST_CASE("Compaction: with a map of a few keys many passes get there, and each stays small") {
  LogFixture log(Small());
  constexpr int kKeys = 500;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < kKeys; ++i) Put(*log, absl::StrCat("key", i), absl::StrCat(round));
  }
  RollKeyed(log);
  CompactionSettings settings = Always();
  settings.key_map_bytes = 1024;  // 48 keys
  int passes = 0;
  for (Offset to = -1; Compact(log.get(), settings).compacted_to != to; ++passes) {
    to = log->block().compacted_to.load();
  }
  CHECK(passes > 3 * kKeys / 48);
  CHECK(TableOf(log.get()).size() == kKeys);
  CHECK(OffsetsOf(log.get(), "key7").size() == 1);
  CHECK(OffsetsOf(log.get(), "key499").size() == 1);
}

// ---- Tombstones

struct Graveyard {
  Graveyard() : disk(FailingStorage::Make()), log(Small(disk)) {
    Put(*log, "a", "1");
    tombstone = Delete(*log, "a");
    RollKeyed(log);
  }
  // A pass over it and something new.
  CompactionResult Pass() {
    RollKeyed(log);
    return Compact(log.get());
  }
  bool Stands() { return OffsetsOf(log.get(), "a") == std::vector<Offset>{tombstone}; }

  std::shared_ptr<FailingStorage> disk;
  LogFixture log;
  Offset tombstone = 0;
};

TEST_CASE("Compaction: a tombstone stays for its grace time, and then goes with the next pass") {
  Graveyard yard;
  yard.Pass();
  CHECK(yard.Stands());
  yard.disk->Advance(absl::Hours(23));
  yard.Pass();
  CHECK(yard.Stands());
  CHECK(yard.log->block().tombstone_horizon == 0);
  yard.disk->Advance(absl::Hours(2));
  CHECK(yard.Pass().tombstones_dropped == 1);
  CHECK(OffsetsOf(yard.log.get(), "a").empty());
  CHECK(yard.log->block().tombstone_horizon == yard.tombstone + 1);
}

TEST_CASE("Compaction: a tombstone is not removed by the first pass that sees it") {
  Graveyard yard;
  yard.disk->Advance(absl::Hours(100));
  yard.Pass();
  CHECK(yard.Stands());
  yard.disk->Advance(absl::Hours(100));
  yard.Pass();
  CHECK_FALSE(yard.Stands());
}

TEST_CASE("Compaction: joining with what is younger does not keep a tombstone for ever") {
  Graveyard yard;
  yard.Pass();
  int hours = 0;
  for (; hours < 100 && yard.Stands(); ++hours) {
    yard.disk->Advance(absl::Hours(1));
    yard.Pass();
  }
  CHECK(hours >= 24);
  CHECK(hours <= 30);
}

TEST_CASE("Compaction: a tombstone behind a damaged segment stays, whose records do, too") {
  LogFixture log(Small());
  const Offset old = Put(*log, "a", "1");
  RollKeyed(log);
  const Offset tombstone = Delete(*log, "a");
  RollKeyed(log);
  log.FlipBit(log.PositionOf(old + 1) + 60, 0);
  CompactionSettings settings = Always();
  settings.delete_retention_ns = 0;
  for (int i = 0; i < 3; ++i) {
    Compact(log.get(), settings);
    RollKeyed(log);
  }
  CHECK(OffsetsOf(log.get(), "a") == std::vector<Offset>{old, tombstone});
}

// ---- Damage

TEST_CASE("Compaction: a damaged record makes its segment ineligible, the others go on") {
  LogFixture log(Small());
  Put(*log, "a", "1");
  RollKeyed(log);
  Put(*log, "a", "2");
  const Offset second = log.Bases().at(1);
  RollKeyed(log);
  Put(*log, "a", "3");
  RollKeyed(log);
  const std::string before = log.Bytes(second);
  log.FlipBit(log.PositionOf(second + 1) + 70, 3, second);
  const std::string damaged = log.Bytes(second);
  Compact(log.get());
  CHECK(log.Bytes(second) == damaged);
  CHECK(TableOf(log.get()) == Table{{"a", "3"}});
  CHECK(ReadFrom(log.get(), 0).gaps.size() == 1);
  CHECK(OffsetsOf(log.get(), "a").size() == 2);
}

}  // namespace
}  // namespace cordwood::compaction_test
