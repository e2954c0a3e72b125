// What is left after a kill or a power cut: the rows of log/recovery.h, and the rules.

#include "cordwood/log/recovery.h"

#include <cstring>
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
    std::string bytes = copy.Bytes();
    std::memset(bytes.data() + cut, 0, bytes.size() - cut);
    copy.SetBytes(bytes);
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
  std::string bytes = log.Bytes();
  std::memset(bytes.data() + at, 0, bytes.size() - at);
  log.SetBytes(bytes);
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
  std::string bytes = log.Bytes();
  std::memset(bytes.data() + at, 0, bytes.size() - at);
  log.SetBytes(bytes);
  const auto recovered = log.Open();
  CHECK_FALSE(recovered.believed);
  CHECK(log.Values().size() == 80);
  CHECK(log.Append("next") > 100);
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
