// Rule 14 of the protocol: what becomes of a file whose sync failed. The table of all rules is in
// rules_test.cc.

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "cordwood/segment/format.h"
#include "cordwood/segment/segment.h"
#include "cordwood/segment/walk.h"
#include "cordwood/status.h"
#include "tests/catch.h"
#include "tests/support/log_machine.h"

namespace cordwood::rules_retire_test {
namespace {

using testing::FailingStorage;
using testing::kDurableAppend;
using testing::LogFixture;
using testing::LogMachine;
using testing::LogOf;
using Op = FailingStorage::Op;
using Values = std::vector<std::string>;

constexpr int kAlways = FailingStorage::kAlways;

TEST_CASE("Rule 14: after a failed sync the records go to a fresh file, the old is let alone") {
  LogMachine m;
  LogFixture& log = m.log;
  const int durable = GENERATE(0, 10);
  log.AppendMany(durable);
  REQUIRE(log->Flush().ok());
  log.AppendMany(10, "w");
  const std::uint64_t old = m.InodeOf(0);
  m.disk->Forget();
  m.disk->Fail({.op = Op::kMapSync, .where = LogOf(0)});
  const auto at = log->Append({.value = "durable"}, kDurableAppend);
  CAPTURE(at.status());
  REQUIRE(at.ok());
  CHECK(at->offset == durable + 10);
  CHECK(log->durable_offset() == durable + 11);
  CHECK(log.Bases().back() == durable);
  CHECK(m.InodeOf(durable) != old);
  // The frames are on the disk before the file has its name, and that before it counts.
  const int renamed = m.disk->Find(Op::kRename, ".log");
  const int synced = m.disk->Find(Op::kMapSync, ".next-");
  CHECK(synced >= 0);
  CHECK(synced < renamed);
  CHECK(m.disk->Find(Op::kSyncFolder, "", renamed) > renamed);
  log.AppendMany(10, "x");
  REQUIRE(log->Flush().ok());
  CHECK(m.SyncsOf(old) == 1);  // the one that failed
  const Values before = log.Values();
  CHECK(before.size() == static_cast<std::size_t>(durable + 21));
  CHECK(log.Gaps().empty());
  m.PowerCut();
  CHECK((log.Values() == before));
}

TEST_CASE("Rule 14: a sync that somebody died in counts as failed") {
  LogMachine m;
  LogFixture& log = m.log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  log.AppendMany(10, "w");
  const std::uint64_t old = m.InodeOf(0);
  m.disk->Forget();
  auto dead = os::LockOwners::Claim(*log.files().root, 0).value();
  REQUIRE(log.block().sync_lock.TryLock(*dead));
  log.block().sync_to.store(20);
  dead.reset();
  SECTION("found by who takes over") {}
  SECTION("found by the first opener") { REQUIRE(log.KillAndOpen().believed); }
  REQUIRE(log->Flush().ok());
  CHECK(log->durable_offset() == 20);
  CHECK(m.SyncsOf(old) == 0);
  CHECK(log.Bases() == std::vector<Offset>{0, 10});
  CHECK(log.Values().size() == 20);
}

TEST_CASE("Rule 14: when the fresh file fails as well, appends fail in words and reads go on") {
  LogMachine m;
  LogFixture& log = m.log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  log.AppendMany(10, "w");
  m.disk->Fail({.op = Op::kMapSync, .where = LogOf(0)});
  SECTION("it cannot be synced") {
    m.disk->Fail({.op = Op::kMapSync, .times = kAlways, .where = ".next-"});
  }
  SECTION("it cannot be made") { m.disk->Fail({.op = Op::kCreate, .times = kAlways}); }
  SECTION("it cannot get its name for good") {
    m.disk->Fail({.op = Op::kSyncFolder, .times = kAlways});
  }
  SECTION("a record is damaged, which a copy must not make good") {
    log.FlipBit(log.PositionOf(15) + 49, 1);
  }
  CHECK(absl::IsDataLoss(log->Flush()));
  m.disk->Heal();
  CHECK(log->durable_offset() == 10);
  const absl::Status append = log->Append({.value = "more"}, {}).status();
  CHECK(absl::IsDataLoss(append));
  CHECK(append.message().find("sync that failed") != std::string::npos);
  CHECK_FALSE(log->Flush().ok());
  CHECK(log->durable_offset() == 10);
  CHECK(log.Values().size() >= 19);
  CHECK(log->end_offset() == 20);
}

TEST_CASE("Rule 14: what a retired file held is read from the fresh one, over rolls and cuts") {
  LogMachine m;
  LogFixture& log = m.log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  log.AppendMany(10, "w");
  const std::uint64_t at = log.PositionOf(15);
  m.Roll();
  const Offset second = m.Roll();
  const bool by_the_writer = GENERATE(true, false);
  const bool in_the_first = GENERATE(true, false);
  // What a roll left whose process was killed is not the file that holds the records.
  const bool beside_a_leftover = GENERATE(false, true);
  if (beside_a_leftover) {
    REQUIRE(segment::Segment::Create(log.files(), segment::SegmentFileName(5, ""), {9}, 64 << 10,
                                     4000, 1)
                .ok());
  }
  const std::shared_ptr<log::Log> leader = by_the_writer ? log.get() : log.OpenBeside();
  const Values before = log.Values();
  m.disk->Fail({.op = Op::kMapSync, .where = LogOf(in_the_first ? 0 : second)});
  REQUIRE(leader->Flush().ok());
  CHECK(log->durable_offset() == std::ssize(before));
  // The old file's pages are read from the disk again, which does not have them.
  log.FlipBit(at + 49, 1);
  SECTION("at once") { CHECK((log.Values() == before)); }
  SECTION("after more was written") {
    m.Roll();
    REQUIRE(log->Flush().ok());
  }
  SECTION("after a kill") { CHECK(log.KillAndOpen().believed); }
  CHECK(log.Gaps(0).empty());
  const Values all = log.Values();
  m.PowerCut();
  CHECK((log.Values() == all));
  for (const Gap& gap : log.Gaps(0)) CHECK(gap.reason == GapReason::kPowerLoss);
}

// An empty file that is too small is replaced by a larger one of its own name.
TEST_CASE("Rule 5: a roll over an empty file that fails half way leaves no file without a name") {
  LogMachine m;
  LogFixture& log = m.log;
  const std::string large(100'000, 'x');
  SECTION("when the new one is made larger") {
    m.disk->Fail({.op = Op::kAllocate, .nth = GENERATE(1, 2, 3)});
  }
  SECTION("when its name is made durable") {
    m.disk->Fail({.op = Op::kSyncFolder, .nth = GENERATE(1, 2)});
  }
  const bool failed = !log->Append({.value = large}, {}).ok();
  CAPTURE(failed);
  m.disk->Heal();
  log.Append("small");
  REQUIRE(log->Flush().ok());
  const std::size_t records = failed ? 1 : 2;
  CHECK(log.Values().size() == records);
  const std::shared_ptr<log::Log> beside = log.OpenBeside();
  REQUIRE(beside->Append({.value = "from beside"}, kDurableAppend).ok());
  m.PowerCut();
  CHECK(log.Values().size() == records + 1);
}

}  // namespace
}  // namespace cordwood::rules_retire_test
