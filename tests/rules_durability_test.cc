// The rules of the protocol about what is on the disk, one test each, on a disk that fails
// when it is told to. The table of all rules is in rules_test.cc.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cordwood/log/cursor.h"
#include "cordwood/log/start_file.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/segment.h"
#include "cordwood/segment/walk.h"
#include "cordwood/status.h"
#include "tests/catch.h"
#include "tests/support/log_machine.h"

namespace cordwood::rules_durability_test {
namespace {

using testing::FailingStorage;
using testing::kDurableAppend;
using testing::LogFixture;
using testing::LogMachine;
using testing::LogOf;
using Op = FailingStorage::Op;
using Values = std::vector<std::string>;

constexpr int kAlways = FailingStorage::kAlways;

// ---- 5

TEST_CASE("Rule 5: all that can fail is done before the first byte is written") {
  LogMachine m;
  LogFixture& log = m.log;
  log.AppendMany(3);
  const std::uint64_t end = log::ReadTail(log.block()).position;
  std::string value(20'000, 'x');
  SECTION("the file cannot grow") { m.disk->Fail({.op = Op::kAllocate, .times = kAlways}); }
  SECTION("no next segment can be made") {
    value.resize(100'000);
    m.disk->Fail({.op = Op::kCreate, .times = kAlways});
  }
  SECTION("the next segment cannot get its name") {
    value.resize(100'000);
    m.disk->Fail({.op = Op::kRename, .times = kAlways});
  }
  const auto failed = log->Append({.value = value}, {});
  CHECK_FALSE(failed.ok());
  CHECK_FALSE(OffsetOf(failed.status()).has_value());
  CHECK(log->end_offset() == 3);
  const std::string bytes = log.Bytes();
  CHECK(bytes.find_first_not_of('\0', end) == std::string::npos);
  m.disk->Heal();
  CHECK(log.Append(value) == 3);
  CHECK(log.Values() == Values{"v0", "v1", "v2", value});
}

TEST_CASE("Rule 5: what a dead writer wrote and did not publish is off the disk, too") {
  LogMachine m;
  LogFixture& log = m.log;
  log.Append("published");
  // As a writer that dies before its store of the tail: the frames are whole and unpublished, how
  // far they go it had said before, and the system writes their page to the disk some time later.
  const log::TailView before = log::ReadTail(log.block());
  const std::size_t ghosts = GENERATE(std::size_t{1}, std::size_t{2});
  const std::vector<Record> batch(ghosts, Record{.value = "ghost"});
  REQUIRE((ghosts == 1 ? log->Append(batch[0], {}) : log->AppendBatch(batch, {})).ok());
  log.block().tail.store(log::Tail{before.slot, before.records, before.position}.Pack());
  m.disk->WriteBack(log.SegmentPath());
  SECTION("by who takes over the lock") {
    auto dead = os::LockOwners::Claim(*log.files().root, 0).value();
    REQUIRE(log.block().lock.TryLock(*dead));
    dead.reset();
    CHECK(log.Append("x") == 1);
  }
  SECTION("by the first opener") {
    REQUIRE(log.KillAndOpen().believed);
    m.disk->SettleNames();
  }
  m.PowerCut();
  CHECK(log.Values() == Values{"published"});
}

// ---- 13

TEST_CASE("Rule 13: the durable offset moves only after a sync that was OK") {
  LogMachine m;
  m.log.AppendMany(10);
  REQUIRE(m.log->Flush().ok());
  CHECK(m.log->durable_offset() == 10);
  m.log.AppendMany(10);
  m.FailEverySync();
  CHECK_FALSE(m.log->Flush().ok());
  CHECK(m.log->durable_offset() == 10);
  CHECK_FALSE(m.log->WaitForDurable(15, absl::Milliseconds(1)).ok());
}

TEST_CASE("Rule 13: the watermark in the records of a later segment counts") {
  LogFixture log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  const std::uint64_t at = log.PositionOf(5);
  while (log.Bases().size() < 3) log.Append(std::string(1000, 'r'));
  const std::size_t all = log.Values().size();
  log.Kill();
  std::filesystem::remove(log.folder().parent_path() / "control");
  // Of the first segment only what is damaged is left: no other record speaks for it.
  log.ZeroFrom(at);
  log.Open();
  CHECK(log.Values().size() > all / 2);
  REQUIRE(log.Gaps().size() >= 1);
  CHECK(log.Gaps()[0].from == 5);
  CHECK(log.Gaps()[0].reason == GapReason::kDamage);
}

TEST_CASE("Rule 13: good records beyond a bad one prove nothing, and are reported as dropped") {
  LogFixture log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  log.AppendMany(20);
  const std::uint64_t at = log.PositionOf(20);
  log.Kill();
  log.FlipBit(at + 4, 3);
  log.Reboot();
  const auto recovered = log.Open();
  CHECK(log.Values().size() == 20);
  REQUIRE_FALSE(recovered.items.empty());
  CHECK(recovered.items.back().bytes_dropped > 9 * 20);
  CHECK(recovered.items.back().what.find("durability unknown") != std::string::npos);
}

TEST_CASE("Rule 13: what a killed roll left does not hide the file that is not durable yet") {
  LogMachine m;
  LogFixture& log = m.log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  log.AppendMany(10);
  // It had its name, and the tail did not move: what came after it fitted the old file.
  REQUIRE(
      segment::Segment::Create(log.files(), segment::SegmentFileName(5, ""), {9}, 64 << 10, 4000, 1)
          .ok());
  m.Roll();
  REQUIRE(log->Flush().ok());
  const Values all = log.Values();
  m.PowerCut();
  CHECK((log.Values() == all));
}

// ---- 15

TEST_CASE("Rule 15: who did not write the records looks at them before they are called durable") {
  LogFixture log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  log.AppendMany(10);
  const Offset bad = GENERATE(10, 15, 19);
  const int where = GENERATE(4, 49);
  // As pages whose write-back failed before the other mapped them: it sees the disk's bytes.
  log.FlipBit(log.PositionOf(bad) + static_cast<std::uint64_t>(where), 1);
  const std::shared_ptr<log::Log> other = log.OpenBeside();
  SECTION("in the active segment") {}
  SECTION("in one that the others rolled away from") {
    REQUIRE(other->Locate(0).ok());
    while (log.Bases().size() == 1) log.Append(std::string(1000, 'r'));
    REQUIRE(other->Locate(log->end_offset()).ok());
  }
  SECTION("in one that it rolled away from itself") {
    while (log.Bases().size() == 1) {
      REQUIRE(other->Append({.value = std::string(1000, 'r')}, {}).ok());
    }
  }
  CHECK(absl::IsDataLoss(other->Flush()));
  CHECK(log->durable_offset() == 10);
}

TEST_CASE("Rule 15: a process keeps a segment mapped until it is durable") {
  LogFixture log;
  const auto mapped = [&](Offset base) {
    std::ifstream maps("/proc/self/maps");
    const std::string text{std::istreambuf_iterator<char>(maps), std::istreambuf_iterator<char>()};
    return text.find(log.SegmentPath(base).string()) != std::string::npos;
  };
  while (log.Bases().size() < 3) log.Append(std::string(1000, 'r'));
  CHECK(mapped(0));
  REQUIRE(log->Flush().ok());
  CHECK_FALSE(mapped(0));
}

// ---- 16

TEST_CASE("Rule 16: durable enters a new file after its name and all older files are durable") {
  LogMachine m;
  LogFixture& log = m.log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  const Offset base = m.Roll();
  CHECK(log->durable_offset() == 10);
  m.disk->Forget();
  SECTION("in that order") {
    REQUIRE(log->Flush().ok());
    const int old = m.disk->Find(Op::kMapSync, LogOf(0));
    const int next = m.disk->Find(Op::kMapSync, LogOf(base));
    CHECK(old >= 0);
    CHECK(old < next);
    CHECK(m.disk->Count(Op::kSyncFolder, log.files().folder) == 1);
  }
  SECTION("not without the name") {
    m.disk->Fail({.op = Op::kSyncFolder, .times = kAlways});
    CHECK_FALSE(log->Flush().ok());
    CHECK(log->durable_offset() <= base);
  }
  SECTION("not without the older file") {
    m.disk->Fail({.op = Op::kMapSync, .times = kAlways, .where = LogOf(0)});
    m.disk->Fail({.op = Op::kMapSync, .times = kAlways, .where = ".next-"});
    CHECK_FALSE(log->Flush().ok());
    CHECK(log->durable_offset() == 10);
  }
}

// ---- 18, 19

TEST_CASE("Rule 18: a record that was published and could not be synced says its offset") {
  LogMachine m;
  LogFixture& log = m.log;
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  m.FailEverySync();
  absl::Status status;
  std::size_t published = 1;
  SECTION("Append") { status = log->Append({.value = "x"}, kDurableAppend).status(); }
  SECTION("AppendBatch") {
    const std::vector<Record> batch = {{.value = "x"}, {.value = "y"}};
    status = log->AppendBatch(batch, kDurableAppend).status();
    published = 2;
  }
  SECTION("AppendInPlace") {
    const auto fill = [](std::span<std::byte> out) { return out.size(); };
    status = log->AppendInPlace(8000, {}, fill, kDurableAppend).status();
  }
  CHECK(absl::IsDataLoss(status));
  CHECK(OffsetOf(status) == 10);
  CHECK(PartitionOf(status) == TopicPartition{"test", 0});
  CHECK(log.Values().size() == 10 + published);
  // The next one was not published, and says so by having none.
  CHECK_FALSE(OffsetOf(log->Append({.value = "z"}, kDurableAppend).status()).has_value());
}

TEST_CASE("Rule 19: one leads and syncs for all, and the next batch fills meanwhile") {
  LogMachine m;
  LogFixture& log = m.log;
  log.Append("first");
  REQUIRE(log->Flush().ok());
  m.disk->Forget();
  std::atomic<bool> in_sync{false}, go_on{false};
  m.disk->Before([&](const FailingStorage::Operation& op) {
    if (op.op != Op::kMapSync || in_sync.exchange(true)) return;
    in_sync.notify_all();
    go_on.wait(false);
  });
  std::atomic<int> durable{0};
  const auto append = [&] {
    const auto at = log->Append({.value = "d"}, kDurableAppend);
    durable += at.ok() && log->durable_offset() > at->offset;
  };
  std::vector<std::thread> threads;
  threads.emplace_back(append);
  in_sync.wait(false);
  for (int i = 0; i < 7; ++i) threads.emplace_back(append);
  CHECK(log->WaitForEnd(9, absl::Seconds(60)).ok());  // published while the leader syncs
  CHECK(log->durable_offset() == 1);
  // They sleep until they are told, and have said so: nobody polls.
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (log->block().durable_attention.load() == 0 && absl::Now() < deadline) {
    std::this_thread::yield();
  }
  CHECK(log->block().durable_attention.load() != 0);
  go_on = true;
  go_on.notify_all();
  for (std::thread& thread : threads) thread.join();
  CHECK(durable == 8);
  CHECK(m.disk->Count(Op::kMapSync, ".log") == 2);  // the leader's own, one for the seven
}

// ---- 23

TEST_CASE("Rule 23: a segment's header is on the disk before a record is published in it") {
  LogMachine m;
  const Offset base = m.Roll();
  const int renamed = m.disk->Find(Op::kRename, ".log");
  REQUIRE(renamed >= 0);
  const auto operations = m.disk->operations();
  CHECK(operations[static_cast<std::size_t>(renamed)].new_path == m.log.files().Path(LogOf(base)));
  const int synced = m.disk->Find(Op::kFileSync, ".next-");
  CHECK(synced >= 0);
  CHECK(synced < renamed);
}

TEST_CASE("Rule 23: whenever the power goes, no offset is given out twice") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  LogMachine m(16 << 10);
  Offset given_out = -1;
  std::set<Offset> durable, published;
  for (int cut = 0; cut < 20; ++cut) {
    CAPTURE(cut);
    for (int n = static_cast<int>(random() % 60); n > 0; --n) {
      const Offset at = m.log.Append(std::string(random() % 2000, 'x'));
      REQUIRE(at > given_out);
      given_out = at;
      published.insert(at);
      if (random() % 20 == 0) {
        REQUIRE(m.log->Flush().ok());
        durable.merge(published);
      }
    }
    if (random() % 3 == 0) m.disk->WriteBack(m.log.SegmentPath(m.log.Bases().back()));
    m.PowerCut();
    published.clear();
    // What was durable is there, and what is missing is told.
    const std::set<Offset> found = m.Offsets();
    REQUIRE(std::includes(found.begin(), found.end(), durable.begin(), durable.end()));
    Offset missing = 0;
    for (const Gap& gap : m.log.Gaps(0)) {
      REQUIRE(gap.reason == GapReason::kPowerLoss);
      missing += gap.to - gap.from;
    }
    REQUIRE(missing + std::ssize(found) == m.log->end_offset());
    durable = found;  // what a recovery keeps, it has made durable
  }
}

TEST_CASE("Rule 23: nor of records as small as can be, over rolls that nobody flushed") {
  LogMachine m(16 << 10);
  Offset last = 0;
  while (m.log.Bases().size() < 6) last = m.log.Append("");
  m.PowerCut();
  CHECK(m.log.Append("") > last);
}

TEST_CASE("Rule 23: nor where a larger segment follows, whose name the power takes") {
  LogMachine m(16 << 10);
  m.log.Append("");
  REQUIRE(m.log->Flush().ok());
  m.log->SetConfig({.segment_bytes = 256 << 10,
                    .segment_age_ns = std::numeric_limits<std::int64_t>::max(),
                    .message_bytes_max = 64 << 10});
  Offset last = 0;
  while (m.log.Bases().size() < 2) last = m.log.Append("");
  for (int i = 0; i < 2000; ++i) last = m.log.Append("");
  REQUIRE(m.log.Bases().size() == 2);
  m.PowerCut();
  CHECK(m.log.Append("") > last);
}

// ---- 24

TEST_CASE("Rule 24: the start is on the disk before it moves, and before a file goes") {
  LogMachine m;
  LogFixture& log = m.log;
  m.Roll();
  const Offset base = m.Roll();
  REQUIRE(log->Flush().ok());
  const std::vector<Offset> bases = log.Bases();
  REQUIRE(log->Trim(1).ok());
  m.disk->Forget();
  SECTION("in that order") {
    REQUIRE(log->Trim(base).ok());
    const int synced = m.disk->Find(Op::kFileSync, "start");
    CHECK(synced >= 0);
    CHECK(synced < m.disk->Find(Op::kUnlink, ".log"));
    CHECK(log.Bases() == std::vector<Offset>{base});
  }
  SECTION("not without it") {
    m.disk->Fail({.op = Op::kFileSync, .times = FailingStorage::kAlways, .where = "start"});
    CHECK_FALSE(log->Trim(base).ok());
    CHECK(log->start_offset() == 1);
    CHECK(log.Bases() == bases);
  }
  SECTION("the newest segment stays") {
    REQUIRE(log->Trim(log->end_offset()).ok());
    CHECK(log.Bases() == std::vector<Offset>{base});
    const Offset end = log->end_offset();
    CHECK(log.Append("next") == end);
  }
}

TEST_CASE("Rule 24: of the two slots one is whole, whatever happens to a write of the other") {
  LogFixture log;
  log.AppendMany(10);
  for (Offset start : {3, 5, 7}) REQUIRE(log->Trim(start).ok());
  const std::filesystem::path path = log.folder() / "start";
  std::string bytes(128, 0);
  std::ifstream(path, std::ios::binary).read(bytes.data(), 128);
  const std::size_t newest = GENERATE(std::size_t{0}, std::size_t{1});
  std::string torn = bytes;
  std::memset(torn.data() + 64 * newest, 0x5a, 32);
  std::ofstream(path, std::ios::binary).write(torn.data(), 128);
  const auto start = log::ReadStartFile(log.files());
  REQUIRE(start.ok());
  CHECK((start->offset == 5 || start->offset == 7));
}

TEST_CASE("Rule 24: whatever a slot's sequence is, the next move of the start counts") {
  LogFixture log;
  log.AppendMany(10);
  REQUIRE(log->Trim(3).ok());
  segment::StartSlot slot;
  std::fstream file(log.folder() / "start", std::ios::binary | std::ios::in | std::ios::out);
  file.read(reinterpret_cast<char*>(&slot), sizeof slot);
  slot.sequence = ~std::uint64_t{0};
  segment::Sign(slot);
  file.seekp(0);
  file.write(reinterpret_cast<const char*>(&slot), sizeof slot);
  file.close();
  for (const Offset start : {5, 7}) {
    REQUIRE(log->Trim(start).ok());
    CHECK(log::ReadStartFile(log.files())->offset == start);
  }
}

TEST_CASE("Rule 24: files below the start that come back with the power are removed") {
  LogMachine m;
  LogFixture& log = m.log;
  m.Roll();
  const Offset base = m.Roll();
  REQUIRE(log->Flush().ok());
  REQUIRE(log->Trim(base + 1).ok());
  CHECK(log.Bases().size() == 1);
  m.PowerCut();  // the folder was not synced after the unlinks
  CHECK(log->start_offset() == base + 1);
  CHECK(log.Bases().front() == base);
}

TEST_CASE("Rule 24: a file that is missing above the start is damage") {
  LogFixture log;
  while (log.Bases().size() < 3) log.Append(std::string(1000, 'r'));
  REQUIRE(log->Flush().ok());
  const std::vector<Offset> bases = log.Bases();
  log.Kill();
  std::filesystem::remove(log.SegmentPath(bases[1]));
  SECTION("in one boot") { log.Open(); }
  SECTION("in another") {
    log.Reboot();
    log.Open();
  }
  const std::vector<Gap> gaps = log.Gaps(0);
  REQUIRE(gaps.size() >= 1);
  CHECK(gaps[0].from == bases[1]);
  CHECK(gaps[0].to == bases[2]);
  CHECK(gaps[0].reason == GapReason::kDamage);
}

}  // namespace
}  // namespace cordwood::rules_durability_test
