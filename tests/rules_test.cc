// The rules of the protocol, one test each that fails when the rule is taken out: those about
// memory, writers and readers. Where each rule is tested:
//
//    1   process/shared_lock_process_test: "that of a process that was killed is taken over",
//        shared_lock_test
//    2   process/shared_lock_process_test: "a killed owner is dead though a child that it
//        forked lives on"
//    3   process/shared_lock_process_test: "it is never taken from a process that is stopped";
//        process/rules_process_test
//    4   here
//    5   rules_durability_test, process/rules_process_test
//    6   here; recovery_test: "a batch that is not whole is not there at all"
//    7   here, process/rules_process_test; doorbell_test: "no wake is lost"
//    8   with the consumer
//    9   control.h's static_asserts
//   10   frame_test: every flipped bit, every other place
//   11   here; recovery_test: "bad bytes below the durable point are reported"
//   12   here
//   13   rules_durability_test; recovery_test: the rows @A to @F
//   14   rules_retire_test, process/rules_process_test
//   15   rules_durability_test
//   16   rules_durability_test
//   17   tests/sync_together_test.cc
//   18   rules_durability_test
//   19   rules_durability_test
//   20   here; recovery_test: "a page that does not match the files"
//   21   with the directory: directory_test
//   22   rules_files_test
//   23   rules_durability_test; recovery_test: "no offset is used again". Commits: with groups
//   24   rules_durability_test
//   25   rules_files_test; recovery_test: "a leftover of a roll is replaced, never adopted"
//   26   rules_files_test, rules_compaction_test
//   27   segment_test: "that of another topic or partition"; deletion with the directory
//   28   log_test: "four threads append at once", while PrepareAhead populates
//   29   rules_files_test, process/rules_process_test
//   30   rules_files_test; log_test: "a record or batch larger than a segment"
//   31   rules_files_test; segment_test: "one that is about to be reused is unavailable"
//   32   with crash safety
//   33   with the directory; storage_test: the file system's name
//   34   rules_files_test; log_test: "the first record at or after a time"
//   35   with retention
//   36   membership_test, process/group_process_test
//   37   membership_test, process/group_process_test
//   38   here
//   39   here, process/rules_process_test
//   40   process/rules_process_test
//   41   rules_compaction_test
//   42   rules_files_test, process/rules_process_test
//   43   no test: it is about us

#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cordwood/log/cursor.h"
#include "cordwood/segment/format.h"
#include "cordwood/status.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/log_fixture.h"
#include "tests/support/plan_frame.h"

namespace cordwood::rules_test {
namespace {

using testing::LogFixture;
using Step = log::Cursor::Step;
using Values = std::vector<std::string>;

std::string Big() { return std::string(1000, 'b'); }

os::Bits128 SaltOf(LogFixture& log, Offset base) {
  return segment::Segment::Open(log.files(), base, os::Access::kRead).value()->header().salt;
}

// ---- 4

// The block of a writer that is a signal's handler: it is at work between any two instructions of
// the reader, however few there are of a processor.
log::ControlBlock* rolled_by_signal = nullptr;
std::atomic<std::uint64_t> rolls_by_signal{0};

void RollTo(std::uint64_t n, log::ControlBlock& block) {
  const auto slot = static_cast<unsigned>(n % 2);
  block.base[slot].store(static_cast<Offset>(n * 1000), std::memory_order_release);
  block.salt[slot].store(~n, std::memory_order_release);
  block.tail.store(log::Tail{slot, static_cast<std::uint32_t>(n % 997), n % 991 * 8}.Pack(),
                   std::memory_order_release);
}

bool IsOfOneRoll(const log::TailView& tail) {
  const auto n = static_cast<std::uint64_t>(tail.base) / 1000;
  return tail.salt == ~n && tail.records == n % 997 && tail.position == n % 991 * 8;
}

TEST_CASE("Rule 4: an end is read with the base that it counts from, wherever two rolls fall") {
  const auto block = std::make_unique<log::ControlBlock>();
  RollTo(1, *block);
  rolled_by_signal = block.get();
  rolls_by_signal = 1;
  struct sigaction rolls = {};
  rolls.sa_handler = [](int) {
    for (int i = 0; i < 2; ++i) RollTo(++rolls_by_signal, *rolled_by_signal);
  };
  rolls.sa_flags = SA_RESTART;
  REQUIRE(sigaction(SIGALRM, &rolls, nullptr) == 0);
  const itimerval often = {.it_interval = {0, 20}, .it_value = {0, 20}};
  REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  int wrong = 0;
  while (rolls_by_signal < 4000) wrong += !IsOfOneRoll(log::ReadTail(*block));
  const itimerval never = {};
  REQUIRE(setitimer(ITIMER_REAL, &never, nullptr) == 0);
  rolls.sa_handler = SIG_IGN;  // one may be on its way
  REQUIRE(sigaction(SIGALRM, &rolls, nullptr) == 0);
  CHECK(wrong == 0);
}

TEST_CASE("Rule 4: an end is read with the base that it counts from, however fast it rolls") {
  const auto block = std::make_unique<log::ControlBlock>();
  constexpr std::uint64_t kRolls = 1'000'000;
  std::thread writer([&] {
    for (std::uint64_t n = 1; n <= kRolls; ++n) RollTo(n, *block);
  });
  std::uint64_t last = 0;
  int wrong = 0;
  while (last < kRolls) {
    const log::TailView tail = log::ReadTail(*block);
    const auto n = static_cast<std::uint64_t>(tail.base) / 1000;
    if (n == 0) continue;
    wrong += n < last || !IsOfOneRoll(tail);
    last = std::max(last, n);
  }
  writer.join();
  CHECK(wrong == 0);
}

TEST_CASE("Rule 4: a roll stores base and salt before the tail that counts from them") {
  // Every append rolls, and a sync takes no time.
  LogFixture log({.storage = testing::FailingStorage::Make(), .segment_age = absl::Nanoseconds(1)});
  constexpr Offset kRecords = 2000;
  std::thread writer([&] {
    for (Offset n = 0; n < kRecords; ++n) log.Append("x");
  });
  Offset last = 0;
  std::map<Offset, std::uint64_t> salts;
  int wrong = 0;
  while (last < kRecords && wrong == 0) {
    const log::TailView tail = log::ReadTail(log->block());
    wrong += tail.end() < last || tail.end() > kRecords;
    wrong += salts.emplace(tail.base, tail.salt).first->second != tail.salt;
    last = std::max(last, tail.end());
  }
  writer.join();
  CHECK(wrong == 0);
}

// ---- 6

TEST_CASE("Rule 6: a batch lies in one segment") {
  LogFixture log;
  const std::string value = Big();
  const std::vector<Record> batch(24, Record{.value = value});
  log.AppendMany(3);
  for (int i = 0; i < 20; ++i) {
    const Offset first = log->AppendBatch(batch, {}).value().offset;
    const Offset last = first + std::ssize(batch) - 1;
    const auto found = log->Locate(first).value().segment;
    REQUIRE(log->Locate(last).value().segment->base() == found->base());
  }
  CHECK(log.Bases().size() > 5);
}

TEST_CASE("Rule 6: a log ends only behind a record with none of its batch to follow") {
  const Offset cut = GENERATE(1, 2, 5, 8);  // the first that is not on the disk
  LogFixture log;
  log.Append("before");
  const std::vector<Record> batch(8, Record{.value = "in the batch"});
  REQUIRE(log->AppendBatch(batch, {}).ok());
  const std::uint64_t at = log.PositionOf(cut);
  log.Kill();
  log.ZeroFrom(at);
  log.Reboot();
  log.Open();
  CHECK(log.Values() == Values{"before"});
}

// ---- 7

TEST_CASE("Rule 7: a sleeper is woken, also by a writer whose turn had begun before it slept") {
  LogFixture log;
  const std::size_t bytes =
      GENERATE(std::size_t{100}, std::size_t{10'000});  // 10,000: fill runs under the lock
  // Without the ring it sleeps for 100 ms, so that none of them is woken in half of that.
  bool is_quick = false;
  for (int i = 0; i < 20 || !is_quick; ++i) {
    const std::uint32_t bell = log.block().bell.load();
    std::atomic<std::int64_t> woken{0};
    std::jthread sleeper;
    const auto fill = [&](std::span<std::byte> out) {
      sleeper = std::jthread([&] {
        log->WaitForEnd(i + 1, absl::Seconds(60)).IgnoreError();
        woken = os::MonotonicNanos();
      });
      while (log.block().attention.load() == 0) std::this_thread::yield();
      return out.size();
    };
    REQUIRE(log->AppendInPlace(bytes, {}, fill, {}).ok());
    const std::int64_t appended = os::MonotonicNanos();
    sleeper.join();
    REQUIRE(log.block().bell.load() == bell + 1);
    is_quick |= woken - appended < 50'000'000;
  }
}

TEST_CASE("Rule 7: what a dead sleeper left costs one ring, not one for each append") {
  LogFixture log;
  log.block().attention.store(log::kWaiting);
  const std::uint32_t bell = log.block().bell.load();
  log.Append("a");
  CHECK(log.block().bell.load() == bell + 1);
  CHECK(log.block().attention.load() == 0);
  log.AppendMany(10);
  CHECK(log.block().bell.load() == bell + 1);
}

// ---- 11

TEST_CASE("Rule 11: any flipped bit of a frame costs that record and no other") {
  LogFixture log;
  log.AppendMany(3);
  // A value with whole frames in it, of this very file: none of them is in its place.
  const std::string bytes = log.Bytes().substr(segment::kFirstFrame, 3 * 56);
  log.Append(bytes);
  log.AppendMany(3, "w");
  REQUIRE(log->Flush().ok());
  const std::uint64_t at = log.PositionOf(3);
  const Values whole = log.Values();
  Values expected = whole;
  expected.erase(expected.begin() + 3);
  for (std::uint64_t byte = 0; byte < segment::kFrameHeaderBytes + 60; ++byte) {
    const int bit = static_cast<int>(byte % 8);
    CAPTURE(byte, bit);
    log.FlipBit(at + byte, bit);
    REQUIRE((log.Values() == expected));
    const std::vector<Gap> gaps = log.Gaps();
    REQUIRE(gaps.size() == 1);
    REQUIRE(gaps[0].from == 3);
    REQUIRE(gaps[0].to == 4);
    REQUIRE(gaps[0].reason == GapReason::kDamage);
    log.FlipBit(at + byte, bit);
  }
  CHECK((log.Values() == whole));
}

TEST_CASE("Rule 11: who seeks past a damaged header gets what it asked for, without a gap") {
  LogFixture log;
  log.AppendMany(10);
  for (const std::uint64_t at : {log.PositionOf(3), log.PositionOf(4), log.PositionOf(6)}) {
    log.FlipBit(at + 4, 4);  // its length
  }
  if (GENERATE(false, true)) {  // the segment is not the active one any more
    while (log.Bases().size() < 2) log.Append(std::string(1000, 'r'));
  }
  for (const Offset from : {5, 7, 8, 9}) {
    CAPTURE(from);
    CHECK(log.Values(from).front() == "v" + std::to_string(from));
    CHECK(log.Gaps(from).size() == (from < 6 ? 1 : 0));
  }
  REQUIRE(log.Gaps(4).size() == 2);
  CHECK(log.Gaps(4)[0].from == 4);
  CHECK(log.Gaps(4)[0].to == 5);
}

// ---- 12

TEST_CASE("Rule 12: a segment that is not believed is sealed, a new salt begins a new file") {
  LogFixture log;
  std::set<os::Bits128> salts;
  for (int cut = 0; cut < 3; ++cut) {
    const Offset base = log.Bases().back();
    const os::Bits128 salt = SaltOf(log, base);
    CHECK(salts.insert(salt).second);
    log.AppendMany(5);
    log.RebootAndOpen();
    CHECK(SaltOf(log, base) == salt);
    const auto seal =
        segment::Segment::Open(log.files(), base, os::Access::kRead).value()->ReadSeal();
    REQUIRE(seal.has_value());
    CHECK(seal->reason == segment::SealReason::kRecovered);
    CHECK(seal->next == base + 5);
    CHECK(log.Bases().back() > base);
  }
}

TEST_CASE("Rule 12: what an earlier file has left in the same room is none of its records") {
  LogFixture log;
  log.AppendMany(20, "old");
  const std::string old = log.Bytes();
  log.Kill();
  // As a disk shows room that was another file's, and no boot has a page that says otherwise.
  for (const auto& entry : std::filesystem::directory_iterator(log.folder())) {
    std::filesystem::remove(entry);
  }
  std::filesystem::remove(log.folder().parent_path() / "control");
  REQUIRE(
      segment::Segment::Create(log.files(), segment::SegmentFileName(0, ""), {9}, 64 << 10, 4000, 1)
          .ok());
  {
    const auto fresh = segment::Segment::Open(log.files(), 0, os::Access::kReadWrite).value();
    REQUIRE(fresh->Grow(old.size()).ok());
    std::memcpy(fresh->data() + segment::kFirstFrame, old.data() + segment::kFirstFrame,
                old.size() - segment::kFirstFrame);
    segment::FramePlace place = {.position = segment::kFirstFrame, .timestamp_ns = 1};
    for (; place.offset < 10; ++place.offset) {
      const Record record = {.value = "new12"};  // as long as the old ones
      const segment::FramePlan plan = testing::PlanFrame(record);
      segment::WriteFrame(fresh->key(), fresh->data(), plan, place, record);
      place.position += plan.frame_bytes();
    }
  }
  log.Open();
  CHECK(log.Values() == Values(10, "new12"));
}

// ---- 20

TEST_CASE("Rule 20: boot, device and inode are not enough to believe a control page") {
  LogFixture log;
  log.AppendMany(100);
  REQUIRE(log->Flush().ok());
  log.AppendMany(100, "w");
  const std::uint64_t at = log.PositionOf(150);
  const std::filesystem::path control = log.folder().parent_path() / "control";
  log.Kill();
  Offset kept = 150;
  SECTION("a record that is not durable is bad") { log.FlipBit(at + 49, 1); }
  SECTION("zeros under the tail") { log.ZeroFrom(at); }
  SECTION("the file is shorter") { std::filesystem::resize_file(log.SegmentPath(), at); }
  SECTION("it is a copy of the page") {
    std::filesystem::copy_file(control, control.string() + "-copy");
    std::filesystem::rename(control.string() + "-copy", control);
    kept = 200;
  }
  const auto recovered = log.Open();
  CHECK_FALSE(recovered.believed);
  CHECK(log.Values().size() == static_cast<std::size_t>(kept));
  CHECK(log.Append("next") > 200);
}

TEST_CASE("Rule 20: damage of what is durable is no reason not to believe the page") {
  LogFixture log;
  log.AppendMany(100);
  REQUIRE(log->Flush().ok());
  const std::uint64_t at = log.PositionOf(50);
  log.Kill();
  log.FlipBit(at + 49, 1);
  CHECK(log.Open().believed);
  CHECK(log.Append("next") == 100);
}

// ---- 38, 39

TEST_CASE("Rule 38: an append does by itself whatever was not made ready, or is gone again") {
  LogFixture log;
  log.AppendMany(700);
  SECTION("nothing was made ready") {}
  SECTION("it was, and somebody has swept it away") {
    REQUIRE(log->PrepareAhead().ok());
    REQUIRE(log.block().prepared.load() != 0);
    for (const auto& entry : std::filesystem::directory_iterator(log.folder())) {
      if (entry.path().filename().string().front() == '.') std::filesystem::remove(entry);
    }
  }
  SECTION("the page names a file that never was") { log.block().prepared.store(12345); }
  const std::size_t goal = log.Bases().size() + 1;
  while (log.Bases().size() < goal) REQUIRE(log->Append({.value = Big()}, {}).ok());
  CHECK(log.Values().size() == static_cast<std::size_t>(log->end_offset()));
}

TEST_CASE("Rule 38: work ahead waits for nobody") {
  LogFixture log;
  log.AppendMany(700);
  const auto other = os::LockOwners::Claim(*log.files().root, 0).value();
  REQUIRE(log.block().lock.TryLock(*other));
  REQUIRE(log.block().sync_lock.TryLock(*other));
  CHECK(log->PrepareAhead().ok());
  CHECK(log->TryFlush().ok());
  CHECK(log->durable_offset() == 0);
  log.block().sync_lock.Unlock();
  log.block().lock.Unlock();
}

TEST_CASE("Rule 39: inside fill every call on the log is refused, and nothing hangs") {
  LogFixture log;
  log.AppendMany(3);
  const std::size_t bytes = GENERATE(std::size_t{100}, std::size_t{10'000});
  std::vector<absl::Status> inside;
  const auto fill = [&](std::span<std::byte> out) {
    const std::vector<Record> batch(2, Record{.value = "b"});
    const auto nothing = [](std::span<std::byte>) -> std::size_t { return 0; };
    log::Cursor cursor(log.get(), 0);
    segment::CheckedFrame frame;
    inside.push_back(log->Append({.value = "x"}, {}).status());
    inside.push_back(log->AppendBatch(batch, {}).status());
    inside.push_back(log->AppendInPlace(1, {}, nothing, {}).status());
    inside.push_back(log->Trim(1));
    inside.push_back(log->Flush());
    inside.push_back(log->WaitForEnd(1, absl::Seconds(1)));
    inside.push_back(log->WaitForDurable(1, absl::Seconds(1)));
    inside.push_back(log->OffsetForTime(0).status());
    inside.push_back(log->OnDurable(0, [](const absl::Status&) {}));
    inside.push_back(cursor.Next(frame) == Step::kError ? cursor.status() : absl::OkStatus());
    return out.size();
  };
  CHECK(log->AppendInPlace(bytes, {}, fill, {}).ok());
  for (std::size_t i = 0; i < inside.size(); ++i) {
    CAPTURE(i, inside[i]);
    CHECK(absl::IsFailedPrecondition(inside[i]));
  }
  CHECK(log->end_offset() == 4);
  CHECK(log.Append("after") == 4);
}

TEST_CASE("Rule 39: a small value is filled outside the turn, a large one in its place") {
  LogFixture log;
  const bool large = GENERATE(false, true);
  bool others_can_append = false;
  const auto fill = [&](std::span<std::byte> out) {
    std::memset(out.data(), 'f', out.size());
    std::thread other([&] {
      others_can_append = log->Append({.value = "other"}, {.timeout = absl::ZeroDuration()}).ok();
    });
    other.join();
    return out.size();
  };
  CHECK(log->AppendInPlace(large ? 10'000 : 1'000, {}, fill, {}).ok());
  CHECK(others_can_append == !large);
  CHECK(log.Values().back() == std::string(large ? 10'000 : 1'000, 'f'));
}

}  // namespace
}  // namespace cordwood::rules_test
