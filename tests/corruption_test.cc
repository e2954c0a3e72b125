// T5 of the reliability plan: a directory that is damaged in one place, wherever that is. What it
// is held to is in tests/support/damaged_directory.h.
//
//   CORDWOOD_DAMAGE_STRIDE=1 cordwood_tests "Damage:*"        every damage, not one of many
//   CORDWOOD_DAMAGE_FIRST=5 ...                               the 5th, then every STRIDE-th
//   CORDWOOD_DAMAGE_SEGMENT_BYTES=1048576 ...                 in segments of a MiB

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cordwood/log/cursor.h"
#include "cordwood/segment/format.h"
#include "tests/catch.h"
#include "tests/support/damaged_directory.h"
#include "tests/support/environment.h"
#include "tests/support/failing_storage.h"
#include "tests/support/log_fixture.h"

namespace cordwood::corruption_test {
namespace {

using testing::Damage;
using testing::DamagedDirectory;
using testing::LogFixture;
using testing::NumberFromEnvironment;

std::uint64_t First() { return NumberFromEnvironment("CORDWOOD_DAMAGE_FIRST", 0); }
std::int64_t SegmentBytes(std::uint64_t otherwise) {
  return static_cast<std::int64_t>(
      NumberFromEnvironment("CORDWOOD_DAMAGE_SEGMENT_BYTES", otherwise));
}

void CheckEvery(DamagedDirectory::End end, const char* name, std::uint64_t stride) {
  DamagedDirectory directory(end, SegmentBytes(4096));
  stride = NumberFromEnvironment("CORDWOOD_DAMAGE_STRIDE", stride);
  long done = 0;
  std::vector<std::string> problems;
  directory.ForEachDamage(First(), stride, [&](const Damage& damage) {
    INFO(damage.ToString());  // said if this is a crash
    std::string problem = directory.ProblemWith(damage);
    if (!problem.empty() && problems.size() < 20) problems.push_back(std::move(problem));
    ++done;
  });
  std::printf("Damage: %s: %ld damages, every %llu from %llu on\n", name, done,
              static_cast<unsigned long long>(stride), static_cast<unsigned long long>(First()));
  CHECK((problems == std::vector<std::string>()));
  for (const std::string& problem : problems) WARN(problem);
  CHECK(done > 0);
}

TEST_CASE("Damage: anywhere in a directory that was closed, costs what it hit") {
  CheckEvery(DamagedDirectory::End::kClosed, "closed", 1201);
}

TEST_CASE("Damage: anywhere in a directory whose process was killed, costs what it hit") {
  CheckEvery(DamagedDirectory::End::kKilled, "killed", 1201);
}

TEST_CASE("Damage: anywhere in a directory that lost its power, costs what it hit") {
  CheckEvery(DamagedDirectory::End::kPowerCut, "power cut", 1201);
}

// ---- What these have found

TEST_CASE("Damage: a seal costs no record, though the clock was set back before the roll") {
  const auto storage = testing::FailingStorage::Make();
  LogFixture log({.segment_bytes = 4096, .storage = storage});
  for (int i = 0; i < 3; ++i) {
    log.AppendMany(60);
    storage->SetClock(-absl::Hours(1));
  }
  REQUIRE(log.Bases().size() > 2);
  REQUIRE(log->Flush().ok());
  log.Kill();
  log.FlipBit(520, 3);
  log.Reboot();
  log.Open();
  CHECK(log.Values().size() == 180);
  CHECK(log.Gaps().size() == 1);  // from the power cut
}

TEST_CASE("Damage: a read that begins behind a damaged header finds it, sealed or not") {
  LogFixture log({.segment_bytes = 4096});
  log.AppendMany(60);
  REQUIRE(log.Bases().size() == 2);
  for (const Offset hit : {Offset{10}, log.Bases()[1] + 1}) {
    CAPTURE(hit);
    const Offset base = hit < log.Bases()[1] ? 0 : log.Bases()[1];
    const std::uint64_t at = log.PositionOf(hit);
    log.FlipBit(at, 1, base);
    CHECK(log.Values(hit + 1).front() == "v" + std::to_string(hit + 1));
    CHECK(log.Gaps(hit + 1).empty());
    log.FlipBit(at, 1, base);
  }
}

// ---- Without an open in between

// A segment's bytes, as the log itself has them mapped.
class MappedBytes {
 public:
  MappedBytes(const std::filesystem::path& file, std::size_t count) : count_(count) {
    const int fd = open(file.c_str(), O_RDWR);
    void* const at = mmap(nullptr, count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    REQUIRE(at != MAP_FAILED);
    at_ = static_cast<volatile std::uint8_t*>(at);
  }
  MappedBytes(const MappedBytes&) = delete;
  MappedBytes& operator=(const MappedBytes&) = delete;
  ~MappedBytes() { munmap(const_cast<std::uint8_t*>(at_), count_); }

  void Flip(std::uint64_t position, unsigned bit) const {
    at_[position] = static_cast<std::uint8_t>(at_[position] ^ 1U << bit);
  }

 private:
  volatile std::uint8_t* at_ = nullptr;
  std::size_t count_;
};

TEST_CASE("Damage: any bit that flips under a reader costs its record, and is a gap") {
  using Step = log::Cursor::Step;
  const auto segment_bytes = static_cast<std::uint64_t>(SegmentBytes(64 << 10));
  LogFixture log({.segment_bytes = segment_bytes});
  std::uint64_t bytes = segment::kFirstFrame;
  std::vector<std::uint64_t> positions;  // of the frames
  for (;;) {
    const std::string value((positions.size() * 37) % 251, 'v');
    if (bytes + 56 + value.size() > segment_bytes) break;
    log.Append(value);
    positions.push_back(bytes);
    bytes += (segment::kFrameHeaderBytes + value.size() + 7) / 8 * 8;
  }
  REQUIRE(log.PositionOf(std::ssize(positions) - 1) == positions.back());
  REQUIRE(log->Flush().ok());
  const MappedBytes mapped(log.SegmentPath(), bytes);
  positions.push_back(bytes);

  const std::uint64_t stride = NumberFromEnvironment("CORDWOOD_DAMAGE_STRIDE", 3);
  const Offset last = std::ssize(positions) - 2;
  std::uint64_t flips = 0, wrong = 0;
  for (Offset hit = 1; hit < last; ++hit) {
    const auto i = static_cast<std::size_t>(hit);
    for (std::uint64_t bit = 8 * positions[i] + First() % stride; bit < 8 * positions[i + 1];
         bit += stride) {
      mapped.Flip(bit / 8, bit % 8);
      log::Cursor cursor(log.get(), hit - 1);
      segment::CheckedFrame frame;
      const bool before = cursor.Next(frame) == Step::kRecord && frame.header.offset == hit - 1;
      const bool gap = cursor.Next(frame) == Step::kGap && cursor.gap().from == hit &&
                       cursor.gap().to == hit + 1 && cursor.gap().reason == GapReason::kDamage;
      const bool after = cursor.Next(frame) == Step::kRecord && frame.header.offset == hit + 1;
      mapped.Flip(bit / 8, bit % 8);
      ++flips;
      if (!(before && gap && after) && ++wrong < 10) {
        WARN("bit " << bit % 8 << " at " << bit / 8 << ", of record " << hit << ": " << before
                    << gap << after);
      }
    }
  }
  std::printf("Damage: %llu bits flipped under a reader\n", static_cast<unsigned long long>(flips));
  CHECK(wrong == 0);
  CHECK(log.Values().size() == positions.size() - 1);
}

}  // namespace
}  // namespace cordwood::corruption_test
