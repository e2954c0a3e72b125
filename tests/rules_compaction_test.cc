// The rules of the protocol about compaction (26, 41), and what is left when it is cut off.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/log/start_file.h"
#include "tests/catch.h"
#include "tests/support/compaction_fixture.h"
#include "tests/support/log_machine.h"

namespace cordwood::rules_compaction_test {
namespace {

using log::CompactionSettings;
using log::Cursor;
using testing::Always;
using testing::Compact;
using testing::Delete;
using testing::FailingStorage;
using testing::Kept;
using testing::LogFixture;
using testing::LogMachine;
using testing::OffsetsOf;
using testing::Put;
using testing::ReadBack;
using testing::ReadFrom;
using testing::RollKeyed;
using testing::Table;
using testing::TableOf;
using testing::TryCompact;

// A log that has been compacted once and has much to win again: old tombstones, dead records in
// every segment, several groups.
struct Scene {
  Scene() : machine(4096) {
    for (int round = 0; round < 2; ++round) {
      for (int i = 0; i < 30; ++i) Put(*log, absl::StrCat("k", i), absl::StrCat(round, filler));
      tombstones.push_back(Delete(*log, absl::StrCat("k", round)));
    }
    RollKeyed(log);
    Compact(log.get());
    machine.disk->Advance(absl::Hours(48));
    for (int i = 5; i < 30; i += 3) Put(*log, absl::StrCat("k", i), absl::StrCat("2", filler));
    RollKeyed(log);
    expected = TableOf(log.get());
    end = log->end_offset();
    machine.Settle();
  }

  // A pass in which everything fails from the nth operation on. False: it had fewer.
  bool CompactUntil(int nth) {
    int n = 0;
    bool reached = false;
    machine.disk->Before([&](const FailingStorage::Operation&) {
      if (reached || ++n < nth) return;
      reached = true;
      machine.disk->FailEverything();
    });
    const absl::Status status = TryCompact(log.get(), Always()).status();
    machine.disk->Before(nullptr);
    machine.disk->Heal();
    return reached;
  }

  // Everything that must be so whatever happened.
  void CheckIsWell() {
    const ReadBack read = ReadFrom(log.get(), 0);
    CHECK(read.status.ok());
    CHECK(TableOf(read.records) == expected);
    CHECK(log->end_offset() >= end);
    for (const Gap& gap : read.gaps)
      CHECK((gap.reason == GapReason::kPowerLoss && gap.from == end));
    // A tombstone that is gone is below the horizon, on the disk too.
    for (std::size_t i = 0; i < tombstones.size(); ++i) {
      if (!OffsetsOf(log.get(), absl::StrCat("k", i)).empty()) continue;
      CHECK(log->block().tombstone_horizon > tombstones[i]);
      CHECK(log::ReadStartFile(log.files()).value().tombstone_horizon > tombstones[i]);
    }
  }
  // Nothing is left over, and the next pass has nothing to do but what was cut off.
  void CheckNextPassIsWell() {
    RollKeyed(log);
    Compact(log.get());
    CheckIsWell();
    for (int i = 2; i < 30; ++i) CHECK(OffsetsOf(log.get(), absl::StrCat("k", i)).size() == 1);
    for (const auto& entry : std::filesystem::directory_iterator(log.folder())) {
      CHECK(entry.path().filename().string().find(".clean-") == std::string::npos);
    }
  }

  const std::string filler = std::string(150, 'x');
  LogMachine machine;
  LogFixture& log = machine.log;
  std::vector<Offset> tombstones;
  Table expected;
  Offset end = 0;
};

// Calls it for every operation of a pass.
void AtEveryOperation(const std::function<bool(int)>& run) {
  int nth = 1;
  while (run(nth)) ++nth;
  CHECK(nth > 30);  // several files were written
}

TEST_CASE("Rule 26: a compaction that fails at any point changes nothing for readers") {
  AtEveryOperation([](int nth) {
    CAPTURE(nth);
    Scene scene;
    const bool reached = scene.CompactUntil(nth);
    scene.CheckIsWell();
    scene.CheckNextPassIsWell();
    return reached;
  });
}

TEST_CASE("Rule 26: a compaction is killed at any point, and the log opened again") {
  AtEveryOperation([](int nth) {
    CAPTURE(nth);
    Scene scene;
    const bool reached = scene.CompactUntil(nth);
    CHECK(scene.log.KillAndOpen().items.empty());
    scene.CheckIsWell();
    scene.CheckNextPassIsWell();
    return reached;
  });
}

TEST_CASE("Rule 26: the power goes at any point of a compaction") {
  AtEveryOperation([](int nth) {
    CAPTURE(nth);
    Scene scene;
    const bool reached = scene.CompactUntil(nth);
    scene.machine.PowerCut();
    scene.CheckIsWell();
    scene.CheckNextPassIsWell();
    return reached;
  });
}

TEST_CASE("Rule 26: the power goes, and the disk has everything that was done until then") {
  AtEveryOperation([](int nth) {
    CAPTURE(nth);
    Scene scene;
    const bool reached = scene.CompactUntil(nth);
    for (const auto& entry : std::filesystem::directory_iterator(scene.log.folder())) {
      scene.machine.disk->WriteBack(entry.path());
    }
    scene.machine.disk->SettleNames();
    scene.machine.PowerCut();
    scene.CheckIsWell();
    scene.CheckNextPassIsWell();
    return reached;
  });
}

// ---- What a recovery finds

// As if a compaction had been killed between its rename and its removals: the files that it
// replaced are back.
struct Leftovers {
  Leftovers() {
    for (int i = 0; i < 4; ++i) {
      Put(*log, "a", absl::StrCat(i));
      RollKeyed(log);
    }
    std::vector<std::pair<std::filesystem::path, std::string>> files;
    bases = log.Bases();
    for (std::size_t i = 1; i + 1 < bases.size(); ++i) {
      files.emplace_back(log.SegmentPath(bases[i]), log.Bytes(bases[i]));
    }
    Compact(log.get());
    REQUIRE(log.Bases().size() == 2);
    for (const auto& [path, bytes] : files) std::ofstream(path, std::ios::binary) << bytes;
    expected = TableOf(log.get());
  }

  LogFixture log{{.segment_bytes = 4096}};
  std::vector<Offset> bases;
  Table expected;
};

TEST_CASE("Rule 26: leftovers are not read, and the next pass removes them") {
  Leftovers left;
  const auto beside = left.log.OpenBeside();
  CHECK(OffsetsOf(beside, "a").size() == 1);
  // Nor by who begins inside one.
  const Kept first = ReadFrom(beside, left.bases[1], 1).records.at(0);
  CHECK(first == ReadFrom(beside, 0, 1).records.at(0));
  CHECK(ReadFrom(beside, 0).gaps.empty());
  RollKeyed(left.log);
  Compact(left.log.get());
  CHECK(left.log.Bases().size() == 2);
  CHECK(OffsetsOf(beside, "a").size() == 1);
}

TEST_CASE("Rule 26: leftovers are removed by the first opener, and only looked over by a reader") {
  Leftovers left;
  left.log.Kill();
  left.log.Open(/*read_only=*/true);
  CHECK(TableOf(left.log.get()) == left.expected);
  CHECK(OffsetsOf(left.log.get(), "a").size() == 1);
  CHECK(left.log.Bases().size() == 5);
  left.log.KillAndOpen();
  CHECK(TableOf(left.log.get()) == left.expected);
  CHECK(left.log.Bases().size() == 2);
}

TEST_CASE("Rule 26: a reboot after leftovers loses nothing, and reports no hole but its own") {
  Leftovers left;
  const Offset end = left.log->end_offset();
  left.log.RebootAndOpen();
  CHECK(TableOf(left.log.get()) == left.expected);
  const std::vector<Gap> gaps = ReadFrom(left.log.get(), 0).gaps;
  REQUIRE(gaps.size() == 1);
  CHECK(gaps[0].from == end);
}

TEST_CASE("Rule 26: a start inside what a compaction wrote keeps it, leftovers or not") {
  Leftovers left;
  const Offset start = left.bases[1] + 1;
  // Killed between two removals: without the compacted file nothing has these records.
  if (GENERATE(false, true)) {
    for (std::size_t i = 2; i < 4; ++i)
      std::filesystem::remove(left.log.SegmentPath(left.bases[i]));
  }
  if (GENERATE(false, true)) {
    REQUIRE(left.log.OpenBeside()->Trim(start).ok());
    CHECK(TableOf(left.log.get()) == left.expected);
    left.log.KillAndOpen();
  } else {
    REQUIRE(log::UpdateStartFile(left.log.files(), [&](log::Start& s) { s.offset = start; }).ok());
    left.log.RebootAndOpen();
  }
  CHECK(left.log->start_offset() == start);
  CHECK(TableOf(left.log.get()) == left.expected);
}

TEST_CASE("Rule 26: what a compaction wrote ends where its header says when its seal is damaged") {
  Leftovers left;
  SECTION("with the leftovers") {}
  SECTION("without them") {
    for (std::size_t i = 1; i < 4; ++i)
      std::filesystem::remove(left.log.SegmentPath(left.bases[i]));
  }
  left.log.FlipBit(segment::kSealPosition + 20, 1);
  const Offset end = left.log->end_offset();
  left.log.KillAndOpen();
  CHECK(TableOf(left.log.get()) == left.expected);
  CHECK(ReadFrom(left.log.get(), 0).gaps.empty());
  left.log.RebootAndOpen();
  CHECK(TableOf(left.log.get()) == left.expected);
  const std::vector<Gap> gaps = ReadFrom(left.log.get(), 0).gaps;
  REQUIRE(gaps.size() == 1);
  CHECK(gaps[0].from == end);
}

TEST_CASE("Rule 26: with a damaged header the leftovers are read again, if they are there") {
  Leftovers left;
  const Offset first = left.bases[1];
  left.log.FlipBit(100, 1);
  left.log.RebootAndOpen();
  const ReadBack read = ReadFrom(left.log.get(), 0);
  CHECK(TableOf(read.records) == left.expected);
  REQUIRE(read.gaps.size() == 2);
  CHECK(read.gaps[0].to == first);
}

// ---- Who removes files beside a compaction

TEST_CASE("Rule 24: a trim past what is being compacted ends the pass, and nothing comes back") {
  LogFixture log({.segment_bytes = 4096});
  for (int i = 0; i < 4; ++i) RollKeyed(log);
  const std::vector<Offset> bases = log.Bases();
  // Stopped after each step in turn.
  for (int steps = 0; steps < 100; ++steps) {
    const Offset start = log->start_offset();
    for (int i = 0; i < 4; ++i) RollKeyed(log);
    auto compactor = log::Compactor::Begin(log.get(), Always()).value();
    bool more = true;
    for (int i = 0; more && i < steps; ++i) more = compactor->Step(0).value();
    const std::vector<Offset> there = log.Bases();
    REQUIRE(log->Trim(there[there.size() / 2] + 1).ok());
    const Offset lowest = log.Bases().front();
    absl::StatusOr<bool> rest = more;
    while (rest.ok() && *rest) rest = compactor->Step(0);
    if (!rest.ok()) CHECK(absl::IsAborted(rest.status()));
    CHECK(log->start_offset() > start);
    CHECK(log.Bases().front() == lowest);
    const ReadBack read = ReadFrom(log.get(), log->start_offset());
    CHECK(read.gaps.empty());
    CHECK(read.status.ok());
    compactor.reset();
    log.KillAndOpen();
    CHECK(ReadFrom(log.get(), log->start_offset()).gaps.empty());
    CHECK(log.Bases().front() <= log->start_offset());
    if (!more) break;
  }
}

TEST_CASE("Compaction: of one partition only one at a time") {
  LogFixture log({.segment_bytes = 4096});
  RollKeyed(log);
  auto one = log::Compactor::Begin(log.get(), Always()).value();
  CHECK(one != nullptr);
  CHECK(log::Compactor::Begin(log.OpenBeside(), Always()).value() == nullptr);
  one.reset();
  CHECK(log::Compactor::Begin(log.OpenBeside(), Always()).value() != nullptr);
}

TEST_CASE("Compaction: one that is given up half way leaves no file behind") {
  LogFixture log({.segment_bytes = 4096});
  for (int i = 0; i < 4; ++i) RollKeyed(log);
  const auto files = [&] {
    return std::distance(std::filesystem::directory_iterator(log.folder()), {});
  };
  const auto before = files();
  for (int steps = 1; steps < 100; ++steps) {
    auto compactor = log::Compactor::Begin(log.get(), Always()).value();
    bool more = true;
    for (int i = 0; more && i < steps; ++i) more = compactor->Step(0).value();
    compactor.reset();
    if (log.Bases().size() == 2) break;
    CHECK(files() == before);
  }
  CHECK(log.Bases().size() == 2);
}

// ---- 41

// A key that was put, deleted and forgotten; `a` is read, then the tombstone goes.
struct Forgotten {
  Forgotten() {
    first = Put(*log, "a", "1");
    RollKeyed(log);
    Put(*log, "b", "1");
    tombstone = Delete(*log, "a");
    last = Put(*log, "c", "1");
    RollKeyed(log);
  }
  void Forget() {
    CompactionSettings settings = Always();
    settings.delete_retention_ns = 0;
    settings.segment_bytes = 1;  // files stay apart
    for (int i = 0; i < 2; ++i) {
      Compact(log.get(), settings);
      RollKeyed(log);
    }
    REQUIRE(OffsetsOf(log.get(), "a").empty());
  }
  ReadBack Read(Offset from) {
    return ReadFrom(log.get(), from, testing::kAll, /*tell_tombstones=*/true);
  }

  LogFixture log{{.segment_bytes = 4096}};
  Offset first = 0, tombstone = 0, last = 0;
};

TEST_CASE("Rule 41: who reads on from below the horizon gets one gap, and the records after it") {
  Forgotten f;
  f.Forget();
  const ReadBack read = f.Read(f.first + 1);
  REQUIRE(read.gaps.size() == 1);
  CHECK(read.gaps[0] == Gap{.topic = "test",
                            .partition = 0,
                            .from = f.first + 1,
                            .to = f.tombstone + 1,
                            .reason = GapReason::kTombstones});
  CHECK(TableOf(read.records) == Table{{"b", "1"}, {"c", "1"}});
}

TEST_CASE("Rule 41: who begins at the start, or above the horizon, is told nothing") {
  Forgotten f;
  f.Forget();
  CHECK(f.Read(0).gaps.empty());
  CHECK(f.Read(f.tombstone + 1).gaps.empty());
  CHECK(ReadFrom(f.log.get(), f.first + 1).gaps.empty());  // nor who does not want to know
}

TEST_CASE("Rule 41: a reader that a compaction overtakes is told, though it began at the start") {
  Forgotten f;
  Cursor cursor(f.log.get(), 0);
  cursor.set_tell_tombstones(true);
  segment::CheckedFrame frame;
  REQUIRE(cursor.Next(frame) == Cursor::Step::kRecord);
  REQUIRE(frame.header.offset == f.first);
  f.Forget();
  Offset told_at = -1;
  std::vector<Offset> seen;
  for (Cursor::Step step = cursor.Next(frame); step != Cursor::Step::kEnd;
       step = cursor.Next(frame)) {
    REQUIRE(step != Cursor::Step::kError);
    if (step == Cursor::Step::kGap) {
      CHECK(told_at == -1);  // once
      CHECK(cursor.gap().reason == GapReason::kTombstones);
      CHECK(cursor.gap().to == f.tombstone + 1);
      told_at = cursor.next_offset();
    } else {
      seen.push_back(frame.header.offset);
    }
  }
  CHECK(told_at > f.first);
  CHECK(told_at <= f.tombstone);
  CHECK(std::count(seen.begin(), seen.end(), f.last) == 1);
}

TEST_CASE("Rule 41: the horizon is known after a kill, and after a power cut") {
  Forgotten f;
  f.Forget();
  f.log.KillAndOpen();
  CHECK(f.Read(f.first + 1).gaps.at(0).reason == GapReason::kTombstones);
  f.log.RebootAndOpen();
  CHECK(f.Read(f.first + 1).gaps.at(0).reason == GapReason::kTombstones);
  CHECK(f.log->block().compacted_to > 0);
}

TEST_CASE("Rule 41: who reads on from where the log starts by now is told, who begins there not") {
  Forgotten f;
  const Offset start = GENERATE(0, 1);
  REQUIRE(f.log->Trim(start).ok());
  f.Forget();
  CHECK(f.Read(start).gaps.empty());
  Cursor cursor(f.log.get(), start);
  cursor.set_tell_tombstones(true);
  cursor.SeekOn(start);
  segment::CheckedFrame frame;
  const bool told = cursor.Next(frame) == Cursor::Step::kGap;
  CHECK(told == (start > 0));  // before offset 0 there was nothing to know
}

TEST_CASE("Rule 41: who is open read-only is told of what another process has compacted since") {
  LogFixture log({.segment_bytes = 4096});
  Put(*log, "first", "1");
  RollKeyed(log);
  const Offset tombstone = Delete(*log, "a");
  RollKeyed(log);
  CompactionSettings settings = Always();
  settings.delete_retention_ns = 0;
  settings.segment_bytes = 1;  // files stay apart
  Compact(log.get(), settings);
  RollKeyed(log);
  log.Kill();
  log.Open(/*read_only=*/true);  // with a page of its own
  Cursor cursor(log.get(), 0);
  cursor.set_tell_tombstones(true);
  segment::CheckedFrame frame;
  REQUIRE(cursor.Next(frame) == Cursor::Step::kRecord);
  Compact(log.OpenBeside(), settings);
  REQUIRE(cursor.Next(frame) == Cursor::Step::kGap);
  CHECK(cursor.gap().reason == GapReason::kTombstones);
  CHECK(cursor.gap().to == tombstone + 1);
}

TEST_CASE("Rule 41: when the start file is damaged, any tombstone of what was compacted may go") {
  Forgotten f;
  f.Forget();
  const std::string damage(128, 0x5a);
  std::ofstream(f.log.folder() / "start", std::ios::binary) << damage;
  const auto told = [&] { return f.Read(f.first + 1).gaps.at(0); };
  f.log.Kill();
  SECTION("in the same boot the page knows which") {
    CHECK(f.log.Open().items.size() == 1);
    CHECK(told().to == f.tombstone + 1);
  }
  SECTION("in another boot") {
    f.log.Reboot();
    f.log.Open();
    CHECK(told().to > f.tombstone);
  }
  // Last, as a return hides the sections behind it.
  SECTION("found by a reader") {
    f.log.Reboot();
    CHECK(f.log.Open(/*read_only=*/true).items.size() >= 1);
    CHECK(told().reason == GapReason::kTombstones);
    return;
  }
  // The file is whole again: the log is compacted and trimmed, and the horizon stays known.
  RollKeyed(f.log);
  CHECK(TryCompact(f.log.get(), Always()).ok());
  REQUIRE(f.log->Trim(1).ok());
  f.log.RebootAndOpen();
  CHECK(f.Read(f.first + 1).gaps.at(0).reason != GapReason::kTombstones);  // it is the start
  CHECK(f.Read(f.first + 2).gaps.at(0).reason == GapReason::kTombstones);
}

// ---- Readers that have old files mapped

TEST_CASE("Rule 41: a reader in a file that was replaced reads it to its end, and goes on") {
  LogFixture log({.segment_bytes = 4096});
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 3; ++k) Put(*log, absl::StrCat(k), absl::StrCat(i));
    RollKeyed(log);
  }
  const auto beside = log.OpenBeside();
  const Offset end = log->end_offset();
  for (Offset stop = 1; stop < end; stop += 3) {
    Cursor cursor(beside, 0);
    segment::CheckedFrame frame;
    Offset next = 0;
    while (next < stop && cursor.Next(frame) == Cursor::Step::kRecord)
      next = frame.header.offset + 1;
    for (int k = 0; k < 3; ++k) Put(*log, absl::StrCat(k), "again");
    RollKeyed(log);
    Compact(log.get());
    Cursor::Step step = cursor.Next(frame);
    for (; step == Cursor::Step::kRecord; step = cursor.Next(frame)) {
      CHECK(frame.header.offset >= next);
      next = frame.header.offset + 1;
    }
    CHECK(step == Cursor::Step::kEnd);
    CHECK(cursor.next_offset() == log->end_offset());
    CHECK(TableOf(beside) == TableOf(log.get()));
    CHECK(ReadFrom(beside, 0).gaps.empty());
  }
}

TEST_CASE("Compaction: a process that wrote a segment and kept it mapped finds what replaced it") {
  LogFixture log({.segment_bytes = 4096});
  const auto beside = log.OpenBeside();
  // This one writes and rolls, the other makes it durable and compacts it.
  for (int i = 0; i < 3; ++i) {
    Put(*log, "a", absl::StrCat(i));
    const std::size_t files = log.Bases().size();
    while (log.Bases().size() == files) Put(*log, testing::kFillerKey, std::string(500, 'f'));
  }
  REQUIRE(beside->Flush().ok());
  Compact(beside);
  CHECK(ReadFrom(log.get(), 0).gaps.empty());
  CHECK(OffsetsOf(log.get(), "a").size() == 1);
  REQUIRE(log->Flush().ok());
}

TEST_CASE("Compaction: a read-only reader, whom nobody tells, finds what replaced its files") {
  LogFixture log({.segment_bytes = 4096});
  for (int i = 0; i < 4; ++i) {
    Put(*log, "a", absl::StrCat(i));
    RollKeyed(log);
  }
  const Offset last = OffsetsOf(log.get(), "a").back();
  log.Kill();
  log.Open(/*read_only=*/true);
  Cursor cursor(log.get(), 0);
  segment::CheckedFrame frame;
  REQUIRE(cursor.Next(frame) == Cursor::Step::kRecord);
  Compact(log.OpenBeside());
  CHECK(log.Bases().size() == 2);
  Cursor::Step step;
  while ((step = cursor.Next(frame)) == Cursor::Step::kRecord) {
  }
  CHECK(step == Cursor::Step::kEnd);
  const ReadBack read = ReadFrom(log.get(), 0);
  CHECK(read.gaps.empty());
  CHECK(TableOf(read.records) == Table{{"a", "3"}});
  CHECK(ReadFrom(log.get(), last, 1).records.at(0).offset == last);
}

TEST_CASE("Compaction: a mapped segment that grew behind a reader's back and was replaced") {
  LogFixture log({.segment_bytes = 64 << 10});
  const auto beside = log.OpenBeside();
  Put(*log, "a", "1");
  Cursor cursor(beside, 0);
  segment::CheckedFrame frame;
  REQUIRE(cursor.Next(frame) == Cursor::Step::kRecord);  // the file is 8 KiB now
  RollKeyed(log);
  Put(*log, "a", "2");
  RollKeyed(log);
  Compact(log.get(), Always(64 << 10));
  std::vector<Offset> seen;
  Cursor::Step step;
  while ((step = cursor.Next(frame)) == Cursor::Step::kRecord) seen.push_back(frame.header.offset);
  CHECK(step == Cursor::Step::kEnd);
  CHECK(seen.back() == log->end_offset() - 1);
}

}  // namespace
}  // namespace cordwood::rules_compaction_test
