// What is left after a kill or a power cut: the rows of log/recovery.h, and the rules.

#include "cordwood/log/recovery.h"

#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "cordwood/segment/frame.h"
#include "tests/catch.h"
#include "tests/support/log_fixture.h"

namespace cordwood {
namespace {

using log::DecideFrame;
using log::FrameDecision;
using segment::FrameState;
using testing::LogFixture;
using Values = std::vector<std::string>;

TEST_CASE("Recovery: the decision on a frame, row by row") {
  CHECK(DecideFrame(FrameState::kValid, 5, 0) == FrameDecision::kKeep);               // @A
  CHECK(DecideFrame(FrameState::kValid, 5, 9) == FrameDecision::kKeep);               // @A
  CHECK(DecideFrame(FrameState::kNothing, 5, 5) == FrameDecision::kEnd);              // @B
  CHECK(DecideFrame(FrameState::kBadHeader, 5, 5) == FrameDecision::kEnd);            // @C
  CHECK(DecideFrame(FrameState::kBadBody, 5, 5) == FrameDecision::kEnd);              // @C
  CHECK(DecideFrame(FrameState::kPastEnd, 5, 5) == FrameDecision::kEnd);              // @C
  CHECK(DecideFrame(FrameState::kBadHeader, 5, 6) == FrameDecision::kGapToNextGood);  // @D
  CHECK(DecideFrame(FrameState::kPastEnd, 5, 6) == FrameDecision::kGapToNextGood);    // @D
  CHECK(DecideFrame(FrameState::kBadBody, 5, 6) == FrameDecision::kGapOfOne);         // @E
  CHECK(DecideFrame(FrameState::kNothing, 5, 6) == FrameDecision::kGapToNextGood);    // @F
}

TEST_CASE("Recovery: after a kill everything published is there and offsets go on densely") {
  LogFixture log;
  log.AppendMany(3000);
  const auto recovered = log.KillAndOpen();
  CHECK(recovered.believed);
  CHECK(recovered.items.empty());
  CHECK(log.Values().size() == 3000);
  CHECK(log.Append("next") == 3000);
  CHECK(log.Gaps().empty());
}

TEST_CASE("Recovery: after a power cut no offset is used again, and the hole is a gap") {
  LogFixture log;
  log.AppendMany(100);
  REQUIRE(log->Flush().ok());
  const auto recovered = log.RebootAndOpen();
  CHECK_FALSE(recovered.believed);
  CHECK(log.Values().size() == 100);
  const auto limit = static_cast<Offset>(2 * segment::RecordsMax(64 << 10));
  CHECK(log.Append("next") == limit);
  const std::vector<Gap> gaps = log.Gaps();
  REQUIRE(gaps.size() == 1);
  CHECK(gaps[0].from == 100);
  CHECK(gaps[0].to == limit);
  CHECK(gaps[0].reason == GapReason::kPowerLoss);
  CHECK(log.Values().back() == "next");
}

TEST_CASE("Recovery: a segment cut at any byte keeps every whole record before it") {
  LogFixture log;
  log.AppendMany(20);
  const std::uint64_t first = log.PositionOf(15);
  const std::uint64_t end = log.PositionOf(19) + 56;
  const std::string whole = log.Bytes();
  std::vector<std::uint64_t> starts;
  for (Offset o = 15; o < 20; ++o) starts.push_back(log.PositionOf(o));
  for (std::uint64_t cut = first; cut < end; ++cut) {
    LogFixture copy;
    copy.AppendMany(20);
    copy.Kill();
    copy.ZeroFrom(cut);
    copy.Reboot();
    copy.Open();
    std::size_t kept = 15;
    for (std::size_t i = 1; i < starts.size(); ++i) kept += starts[i] <= cut;
    CAPTURE(cut);
    // The value is "v15" to "v19": the last bytes of a frame are padding, zero anyway.
    const std::size_t values = copy.Values().size();
    REQUIRE(values >= kept);
    REQUIRE(values <= kept + 1);
    if (values == kept + 1) REQUIRE(cut >= starts[kept - 15] + 48 + 3);
  }
}

TEST_CASE("Recovery: bad bytes below the durable point are reported, kept, never cut off") {
  LogFixture log;
  log.AppendMany(100);
  REQUIRE(log->Flush().ok());
  log.AppendMany(100);
  const std::uint64_t at = log.PositionOf(50);
  const int where = GENERATE(0, 4, 20, 49);  // check, length, offset, body
  log.Kill();
  log.FlipBit(at + static_cast<std::uint64_t>(where), 1);
  log.Reboot();
  const auto recovered = log.Open();
  REQUIRE_FALSE(recovered.items.empty());
  CHECK(recovered.items[0].from == 50);
  CHECK(recovered.items[0].to == 51);
  const Values values = log.Values();
  CHECK(values.size() == 199);
  const std::vector<Gap> gaps = log.Gaps();
  REQUIRE(gaps.size() >= 1);
  CHECK(gaps[0].from == 50);
  CHECK(gaps[0].to == 51);
  CHECK(gaps[0].reason == GapReason::kDamage);
}

TEST_CASE("Recovery: bad bytes above everything known durable end the log there") {
  LogFixture log;
  log.AppendMany(100);
  REQUIRE(log->Flush().ok());
  log.AppendMany(100);
  const std::uint64_t at = log.PositionOf(150);
  log.Kill();
  log.FlipBit(at + 49, 1);
  log.Reboot();
  const auto recovered = log.Open();
  CHECK(log.Values().size() == 150);
  REQUIRE_FALSE(recovered.items.empty());
  CHECK(recovered.items.back().bytes_dropped > 0);
}

TEST_CASE("Recovery: the watermark in later records tells damage from a torn tail") {
  LogFixture log;
  log.AppendMany(100);
  REQUIRE(log->Flush().ok());
  log.Append("carries durable = 100");
  const std::uint64_t at = log.PositionOf(50);
  log.Kill();
  // The control file, with its durable, is gone.
  std::filesystem::remove(log.folder().parent_path() / "control");
  log.FlipBit(at + 49, 1);
  const auto recovered = log.Open();
  CHECK(log.Values().size() == 100);
  REQUIRE_FALSE(recovered.items.empty());
  CHECK(recovered.items[0].from == 50);
}

TEST_CASE("Recovery: a batch that is not whole is not there at all") {
  LogFixture log;
  log.Append("before");
  std::vector<Record> batch(10);
  for (Record& record : batch) record.value = "in the batch";
  REQUIRE(log->AppendBatch(batch, {}).ok());
  const std::uint64_t at = log.PositionOf(10);
  log.Kill();
  log.ZeroFrom(at);
  log.Reboot();
  log.Open();
  CHECK(log.Values() == Values{"before"});
}

TEST_CASE("Recovery: the power goes again and again, and offsets only grow") {
  LogFixture log;
  Offset last = -1;
  for (int cut = 0; cut < 5; ++cut) {
    for (int i = 0; i < 10; ++i) {
      const Offset at = log.Append("x");
      REQUIRE(at > last);
      last = at;
    }
    REQUIRE(log->Flush().ok());
    log.RebootAndOpen();
    REQUIRE(log.Values().size() == static_cast<std::size_t>(10 * (cut + 1)));
  }
}

TEST_CASE("Recovery: a page that does not match the files is not believed") {
  LogFixture log;
  log.AppendMany(100);
  const std::uint64_t at = log.PositionOf(80);
  log.Kill();
  // As after a device that was cut and mounted again in one boot: zeros under the tail.
  log.ZeroFrom(at);
  const auto recovered = log.Open();
  CHECK_FALSE(recovered.believed);
  CHECK(log.Values().size() == 80);
  CHECK(log.Append("next") > 100);
}

TEST_CASE("Recovery: a page of before the last roll is not believed") {
  LogFixture log;
  log.AppendMany(10);
  const std::uint64_t tail = log.block().tail.load();
  while (log.Bases().size() < 3) log.Append(std::string(1000, 'r'));
  const std::vector<std::string> whole = log.Values();
  log.block().tail.store(tail);
  log.block().base[0].store(0);
  CHECK_FALSE(log.KillAndOpen().believed);
  CHECK(log.Values() == whole);
  CHECK(log.Append("next") > static_cast<Offset>(whole.size()));
}

TEST_CASE("Recovery: a page of before the last appends is not believed") {
  LogFixture log;
  log.AppendMany(10);
  const std::uint64_t tail = log.block().tail.load();
  const std::uint64_t intent = log.block().intent.load();
  const Offset durable = log.block().durable.load();
  log.AppendMany(10, "later");
  REQUIRE(log->Flush().ok());
  // As on a device that was cut, and mounted again in the same boot: no sync has covered the page.
  log.block().tail.store(tail);
  log.block().intent.store(intent);
  log.block().durable.store(durable);
  CHECK_FALSE(log.KillAndOpen().believed);
  CHECK(log.Values().size() == 20);
  CHECK(log.Append("next") >= 20);
}

TEST_CASE("Recovery: a page that says too much is durable hides nothing that is appended") {
  LogFixture log;
  log.AppendMany(10);
  log.block().durable.store(1'000'000);
  log.RebootAndOpen();
  log.Append("after");
  CHECK(log.Values().size() == 11);
  CHECK(log.Values().back() == "after");
  REQUIRE(log->Flush().ok());
  log.RebootAndOpen();
  CHECK(log.Values().back() == "after");
}

TEST_CASE("Recovery: the last segment's header is damaged and what is before it stays") {
  LogFixture log;
  while (log.Bases().size() < 3) log.Append(std::string(1000, 'r'));
  REQUIRE(log->Flush().ok());
  log.Kill();
  log.FlipBit(0, 0, log.Bases().back());
  const auto last = static_cast<std::size_t>(log.Bases().back());
  log.Reboot();
  SECTION("for a reader") { log.Open(/*read_only=*/true); }
  SECTION("for a writer") { log.Open(); }
  CHECK(log.Values().size() == last);
}

TEST_CASE("Recovery: a damaged record with a good header and a wrong offset leads nobody back") {
  LogFixture log;
  log.AppendMany(5);
  REQUIRE(log->Flush().ok());
  const std::uint64_t position = log.PositionOf(1);
  const Offset claimed = GENERATE(Offset{0}, Offset{3}, Offset{50}, Offset{1} << 40);
  std::string bytes = log.Bytes();
  segment::SegmentHeader segment;
  std::memcpy(&segment, bytes.data(), sizeof segment);
  segment::FrameHeader frame;
  std::memcpy(&frame, bytes.data() + position, sizeof frame);
  frame.offset = claimed;
  frame.check = segment::HeaderCheck(segment::MixHeader(
      segment::SegmentKey::Make(segment.salt, segment.topic_id, segment.partition), position,
      frame));
  std::memcpy(bytes.data() + position, &frame, sizeof frame);
  log.Kill();
  log.SetBytes(bytes);
  log.Reboot();
  log.Open();
  log.Append("after");
  CAPTURE(claimed);
  CHECK(log.Values().front() == "v0");
  CHECK(log.Values().back() == "after");
  // What its segment cannot hold is no offset, and the next records are looked for.
  if (claimed > 1'000'000) CHECK(log.Values() == Values{"v0", "v2", "v3", "v4", "after"});
  Offset next = 0;
  for (const Gap& gap : log.Gaps()) {
    CHECK(gap.from >= next);
    CHECK(gap.to > gap.from);
    next = gap.to;
  }
}

TEST_CASE("Recovery: a page of zeros, or whose words are no offsets, is not opened") {
  LogFixture log;
  log.AppendMany(10);
  log::ControlBlock& block = log.block();
  // Chosen by its number: a generator keeps its values from the first round, when the page was
  // mapped elsewhere.
  const std::array words = {&block.start, &block.base[0], &block.durable, &block.compacted_to,
                            &block.tombstone_horizon};
  SECTION("no offsets") {
    words[GENERATE(range(0U, 5U))]->store(GENERATE(Offset{-1}, std::numeric_limits<Offset>::max()));
  }
  SECTION("zeros: an append would write over the segment's header") { block.tail.store(0); }
  const auto opened =
      log::ControlFile::Open(*log.files().root, "control", log.files().topic_id, os::Access::kRead);
  CHECK(absl::IsDataLoss(opened.status()));
}

TEST_CASE("Recovery: what a dead writer wrote and did not publish never comes back") {
  LogFixture log;
  log.Append("published");
  // As a writer that dies before its store of the tail: the frame is whole and unpublished.
  const log::TailView before = log::ReadTail(log.block());
  log.Append("ghost");
  const std::uint64_t intent = log.block().tail.load();
  log.block().tail.store(log::Tail{before.slot, before.records, before.position}.Pack());
  SECTION("the next opener takes it away") {
    log.Kill();
    auto control = log::ControlFile::Open(*log.files().root, "control", log.files().topic_id,
                                          os::Access::kReadWrite)
                       .value();
    control->block(0).intent.store(intent);
    control.reset();
    CHECK(log.Open().believed);
  }
  SECTION("who takes over the lock takes it away") {
    log.block().intent.store(intent);
    log.block().scratch_valid.store(0);  // as Turn does after a dead owner
    REQUIRE(log.OpenBeside()->Append({.value = "x"}, {}).ok());
    CHECK(log.Values() == Values{"published", "x"});
    log.Kill();
    log.Open();
    return;
  }
  const std::string bytes = log.Bytes();
  CHECK(bytes.find("ghost") == std::string::npos);
  log.RebootAndOpen();
  CHECK(log.Values() == Values{"published"});
}

TEST_CASE("Recovery: a read-only opener finds the end by itself and stores nothing") {
  LogFixture log;
  log.AppendMany(2000);
  REQUIRE(log->Flush().ok());
  log.Kill();
  log.Reboot();
  const std::vector<Offset> bases = log.Bases();
  const std::string bytes = log.Bytes(bases.back());
  log.Open(/*read_only=*/true);
  CHECK(log.Values().size() == 2000);
  CHECK(log.Bases() == bases);
  CHECK(log.Bytes(bases.back()) == bytes);
  CHECK(absl::IsFailedPrecondition(log->Append({.value = "x"}, {}).status()));
}

TEST_CASE("Recovery: a leftover of a roll is replaced, never adopted") {
  LogFixture log;
  log.AppendMany(10);
  // A file with the name that the next roll will want, and another salt.
  REQUIRE(segment::Segment::Create(log.files(), segment::SegmentFileName(10, ""), os::Bits128{9},
                                   64 << 10, 100, 1)
              .ok());
  SECTION("by a roll") {
    CHECK(log.Append(std::string(1 << 20, 'x')) == 10);
    CHECK(log.Values().size() == 11);
  }
  SECTION("by readers, who pass it over") {
    log.AppendMany(3000);
    CHECK(log.Values().size() == 3010);
  }
  SECTION("by the next opener") {
    log.AppendMany(3000);
    log.RebootAndOpen();
    CHECK(log.Values().size() == 3010);
  }
}

}  // namespace
}  // namespace cordwood
