#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/partition.h"
#include "cordwood/status.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::FailingStorage;
using testing::TempDir;
using Offsets = std::vector<Offset>;

// What a reader gave.
struct ReadBack {
  Offsets offsets;
  std::vector<Gap> gaps;
};

// A partition of small segments; the value of a record is its offset and some padding.
class Fixture {
 public:
  explicit Fixture(std::int64_t segment_bytes = 4096, std::int64_t index_interval_bytes = 512)
      : storage_(FailingStorage::Make()) {
    Open();
    broker_
        .CreateTopic("t",
                     {.segment_bytes = segment_bytes, .index_interval_bytes = index_interval_bytes})
        .value();
    Open();
  }

  Partition& operator*() { return partition_; }
  Partition* operator->() { return &partition_; }
  fs::path folder() const { return dir_ / "data/topics/t/0"; }
  FailingStorage& storage() { return *storage_; }

  void Append(int count, std::size_t padding = 100) {
    for (int i = 0; i < count; ++i) {
      const std::string value = absl::StrCat(partition_.end_offset(), std::string(padding, '.'));
      REQUIRE(partition_.Append({.value = value}).ok());
    }
  }
  void Close() {
    partition_ = Partition();
    broker_ = Broker();
  }
  void Open() {
    Close();
    broker_ =
        Broker::Open(dir_ / "data", {.background_threads = false, .storage = storage_}).value();
    const absl::StatusOr<Topic> topic = broker_.OpenTopic("t");
    if (topic.ok()) partition_ = topic->partition(0);
  }

  ReadBack Read(Offset from, Direction direction) {
    PartitionReader reader = partition_.Read(from, direction).value();
    ReadBack back;
    for (const RecordView& record : reader) {
      back.offsets.push_back(record.offset());
      const std::string value(record.value().value());
      REQUIRE(value.substr(0, value.find('.')) == absl::StrCat(record.offset()));
    }
    CHECK(reader.status().ToString() == "OK");
    back.gaps.assign(reader.gaps().begin(), reader.gaps().end());
    return back;
  }

 private:
  TempDir dir_;
  std::shared_ptr<FailingStorage> storage_;
  Broker broker_;
  Partition partition_;
};

Offsets Range(Offset from, Offset to) {
  Offsets offsets;
  for (Offset o = from; o < to; ++o) offsets.push_back(o);
  return offsets;
}

Offsets Reversed(Offsets offsets) {
  std::reverse(offsets.begin(), offsets.end());
  return offsets;
}

TEST_CASE("PartitionReader: a time is found where an index that is not sealed has wrong offsets") {
  Fixture log(/*segment_bytes=*/1 << 20);
  log.Append(100);
  std::vector<absl::Time> times;
  PartitionReader reader = log->Read(0).value();
  for (const RecordView& record : reader) times.push_back(record.timestamp());
  std::fstream index(log.folder() / segment::SegmentFileName(0, ".index"),
                     std::ios::binary | std::ios::in | std::ios::out);
  for (int entry = 0; entry < 10; ++entry) {
    index.seekp(64 + 8 * entry);
    index.put(99);  // the lowest byte of the entry's offset
  }
  index.close();
  for (std::size_t i = 0; i < times.size(); ++i) {
    CAPTURE(i);
    CHECK(log->OffsetForTime(times[i]).value() <= static_cast<Offset>(i));
  }
}

TEST_CASE("PartitionReader: a time is found where an index that is not sealed has wrong times") {
  Fixture log(/*segment_bytes=*/1 << 20);
  log.Append(100);
  std::vector<absl::Time> times;
  PartitionReader reader = log->Read(0).value();
  for (const RecordView& record : reader) times.push_back(record.timestamp());
  std::fstream index(log.folder() / segment::SegmentFileName(0, ".timeindex"),
                     std::ios::binary | std::ios::in | std::ios::out);
  for (int entry = 0; entry < 10; ++entry) {
    index.seekp(64 + 16 * entry + 7);
    index.put(0);  // the highest byte of the largest timestamp before the entry
  }
  index.close();
  for (std::size_t i = 0; i < times.size(); ++i) {
    CAPTURE(i);
    CHECK(log->OffsetForTime(times[i]).value() <= static_cast<Offset>(i));
  }
}

TEST_CASE("PartitionReader: a damaged tail that speaks of billions is one gap, read at once") {
  Fixture log;
  log.Append(20);
  log::ControlBlock& block = internal::LogOf(*log)->block();
  log::Tail tail = log::Tail::Unpack(block.tail.load());
  tail.records = 0x7fffffff - 20;
  tail.position += 64;
  block.tail.store(tail.Pack());
  const Direction direction = GENERATE(Direction::kForward, Direction::kBackward);
  const Offset end = log->end_offset();
  const std::clock_t before = std::clock();
  const ReadBack back = log.Read(direction == Direction::kForward ? 0 : end, direction);
  CHECK(back.offsets.size() == 20);
  REQUIRE(back.gaps.size() == 1);
  CHECK(back.gaps[0].from == 20);
  CHECK(back.gaps[0].to == end);
  // Of this process alone: in blocks of one size it is half a minute under AddressSanitizer.
  CHECK(std::clock() - before < CLOCKS_PER_SEC / 4);
}

TEST_CASE("PartitionReader: from any offset, forward and backward give all there is") {
  const std::int64_t index_interval = GENERATE(64, 512, 1 << 20);
  Fixture log(4096, index_interval);
  log.Append(100);
  for (Offset from = 0; from <= 100; ++from) {
    CAPTURE(from);
    CHECK(log.Read(from, Direction::kForward).offsets == Range(from, 100));
    CHECK(log.Read(from, Direction::kBackward).offsets == Reversed(Range(0, from)));
  }
}

TEST_CASE("PartitionReader: the same without index files") {
  Fixture log;
  log.Append(100);
  log.Close();
  for (const auto& entry : fs::directory_iterator(log.folder())) {
    if (entry.path().extension() != ".log") fs::remove(entry);
  }
  log.Open();
  CHECK(log.Read(0, Direction::kForward).offsets == Range(0, 100));
  CHECK(log.Read(100, Direction::kBackward).offsets == Reversed(Range(0, 100)));
}

TEST_CASE("PartitionReader: one large segment backward, with and without an index") {
  const std::int64_t index_interval = GENERATE(4096, 1 << 30);
  Fixture log(64 << 20, index_interval);
  constexpr int kRecords = 40'000;
  log.Append(kRecords, 10);
  const absl::Time start = absl::Now();
  CHECK(log.Read(kRecords, Direction::kBackward).offsets == Reversed(Range(0, kRecords)));
  CHECK(absl::Now() - start < absl::Seconds(20));
}

TEST_CASE("PartitionReader: an offset that is not there is kOutOfRange and says where") {
  Fixture log;
  log.Append(50);
  REQUIRE(log->Flush().ok());
  REQUIRE(log->Trim(20).ok());
  const Offset from = GENERATE(-1, 0, 19, 51, 1'000'000'000);
  const Direction direction = GENERATE(Direction::kForward, Direction::kBackward);
  const absl::Status status = log->Read(from, direction).status();
  CHECK(absl::IsOutOfRange(status));
  CHECK(OffsetOf(status) == from);
  CHECK(PartitionOf(status) == TopicPartition{"t", 0});
}

TEST_CASE("PartitionReader: it ends at the end of its Read, not at that of now") {
  Fixture log;
  log.Append(10);
  PartitionReader reader = log->Read(0).value();
  PartitionReader none = log->Read(10).value();
  log.Append(10);
  CHECK(std::distance(reader.begin(), reader.end()) == 10);
  CHECK(none.begin() == none.end());
}

TEST_CASE("PartitionReader: begin begins anew, and a moved reader goes on") {
  Fixture log;
  log.Append(100);
  const Direction direction = GENERATE(Direction::kForward, Direction::kBackward);
  const Offset first = direction == Direction::kForward ? 0 : 99;
  PartitionReader reader = log->Read(direction == Direction::kForward ? 0 : 100, direction).value();
  CHECK(reader.begin()->offset() == first);
  auto at = reader.begin();
  CHECK(at->offset() == first);
  PartitionReader moved = std::move(reader);
  int count = 0;
  for (; at != moved.end(); ++at) ++count;
  CHECK(count == 100);
  CHECK(moved.begin()->offset() == first);
  CHECK(reader.begin() == reader.end());
  CHECK(absl::IsFailedPrecondition(reader.status()));
  CHECK(reader.gaps().empty());
}

// Flips a bit in the record's value, in the file.
void Damage(Fixture& log, Offset offset, std::string_view what) {
  log.Close();
  for (const auto& entry : fs::directory_iterator(log.folder())) {
    if (entry.path().extension() != ".log") continue;
    std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
    const std::string bytes((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    const std::size_t value = bytes.find(absl::StrCat(offset, "...."));
    if (value == std::string::npos || bytes[value - 1] >= '0') continue;
    const std::size_t at = what == "header" ? value - 20 : value;
    file.clear();
    file.seekp(static_cast<std::streamoff>(at));
    file.put(static_cast<char>(bytes[at] ^ 1));
    log.Open();
    return;
  }
  FAIL("no such record");
}

TEST_CASE("PartitionReader: damage costs the record that it hit, in both directions") {
  Fixture log;
  log.Append(100);
  const std::string what = GENERATE("header", "value");
  CAPTURE(what);
  const Offset hit = GENERATE(0, 1, 37, 98);
  CAPTURE(hit);
  Damage(log, hit, what);
  Offsets expected = Range(0, 100);
  expected.erase(expected.begin() + hit);
  const std::vector<Gap> gaps = {{"t", 0, hit, hit + 1, GapReason::kDamage}};
  const ReadBack forward = log.Read(0, Direction::kForward);
  CHECK(forward.offsets == expected);
  CHECK(forward.gaps == gaps);
  const ReadBack backward = log.Read(100, Direction::kBackward);
  CHECK(backward.offsets == Reversed(expected));
  CHECK(backward.gaps == gaps);
}

TEST_CASE("PartitionReader: a gap is not there before the reader gets to it") {
  Fixture log;
  log.Append(100);
  Damage(log, 50, "value");
  const Direction direction = GENERATE(Direction::kForward, Direction::kBackward);
  PartitionReader reader = log->Read(direction == Direction::kForward ? 0 : 100, direction).value();
  for (const RecordView& record : reader) {
    const bool is_past =
        direction == Direction::kForward ? record.offset() > 50 : record.offset() < 50;
    CHECK(reader.gaps().size() == (is_past ? 1 : 0));
  }
}

// In the order of their offsets.
std::vector<fs::path> Segments(const Fixture& log) {
  std::vector<fs::path> segments;
  for (const auto& entry : fs::directory_iterator(log.folder())) {
    if (entry.path().extension() == ".log") segments.push_back(entry.path());
  }
  std::sort(segments.begin(), segments.end());
  return segments;
}

Offset BaseOf(const fs::path& segment) { return std::stoll(segment.stem().string()); }

TEST_CASE("PartitionReader: a file that holds another segment's bytes is one gap, both ways") {
  Fixture log;
  log.Append(100);
  log.Close();
  const std::vector<fs::path> segments = Segments(log);
  REQUIRE(segments.size() >= 4);
  const std::size_t with = GENERATE(std::size_t{0}, std::size_t{2}, std::size_t{99});
  CAPTURE(with);  // the last has no seal
  fs::copy_file(segments[std::min(with, segments.size() - 1)], segments[1],
                fs::copy_options::overwrite_existing);
  // Without the marker the log goes on behind a hole.
  const bool is_clean = GENERATE(true, false);
  if (!is_clean) fs::remove(log.folder() / "../../../CLEAN");
  log.Open();
  const Offset from = BaseOf(segments[1]);
  const Offset to = BaseOf(segments[2]);
  Offsets expected = Range(0, 100);
  expected.erase(expected.begin() + from, expected.begin() + to);
  const std::vector<Gap> gaps = {{"t", 0, from, to, GapReason::kDamage}};
  const ReadBack forward = log.Read(0, Direction::kForward);
  CHECK(forward.offsets == expected);
  REQUIRE(forward.gaps.size() == (is_clean ? 1 : 2));
  CHECK(forward.gaps.front() == gaps.front());
  const ReadBack backward = log.Read(100, Direction::kBackward);
  CHECK(backward.offsets == Reversed(expected));
  CHECK(backward.gaps == gaps);
}

TEST_CASE("PartitionReader: a segment that is gone is one gap, in both directions") {
  Fixture log;
  log.Append(100);
  log.Close();
  const std::vector<fs::path> segments = Segments(log);
  REQUIRE(segments.size() >= 3);
  const Offset from = BaseOf(segments[1]);
  const Offset to = BaseOf(segments[2]);
  fs::remove(segments[1]);
  log.Open();
  Offsets expected = Range(0, 100);
  expected.erase(expected.begin() + from, expected.begin() + to);
  const std::vector<Gap> gaps = {{"t", 0, from, to, GapReason::kDamage}};
  const ReadBack forward = log.Read(0, Direction::kForward);
  CHECK(forward.offsets == expected);
  CHECK(forward.gaps == gaps);
  const ReadBack backward = log.Read(100, Direction::kBackward);
  CHECK(backward.offsets == Reversed(expected));
  CHECK(backward.gaps == gaps);
}

TEST_CASE("PartitionReader: a newest segment that is damaged after a clean close is one gap") {
  Fixture log;
  log.Append(100);
  log.Close();
  const fs::path newest = Segments(log).back();
  const std::string what = GENERATE("header", "cut", "gone", "another");
  CAPTURE(what);
  if (what == "header") std::fstream(newest, std::ios::in | std::ios::out).put('x');
  if (what == "cut") fs::resize_file(newest, 512);
  if (what == "gone") fs::remove(newest);
  if (what == "another") {
    fs::copy_file(Segments(log).front(), newest, fs::copy_options::overwrite_existing);
  }
  Offsets expected = Range(0, BaseOf(newest));
  for (int i = 0; i < 3; ++i) {
    log.Open();
    log.Append(50);
    for (Offset offset = 100 + 50 * i; offset < 150 + 50 * i; ++offset) expected.push_back(offset);
    const std::vector<Gap> gaps = {{"t", 0, BaseOf(newest), 100, GapReason::kDamage}};
    const ReadBack forward = log.Read(0, Direction::kForward);
    CHECK(forward.offsets == expected);
    CHECK(forward.gaps == gaps);
    const ReadBack backward = log.Read(log->end_offset(), Direction::kBackward);
    CHECK(backward.offsets == Reversed(expected));
    CHECK(backward.gaps == gaps);
    log.Close();
  }
}

TEST_CASE("PartitionReader: what a power cut took is one gap, in both directions") {
  Fixture log(64 << 10);
  log.Append(50);
  REQUIRE(log->Flush().ok());
  log.Append(20);
  // Dying without a flush: every sync from here on fails.
  for (const auto op :
       {FailingStorage::Op::kMapSync, FailingStorage::Op::kFileSync, FailingStorage::Op::kCreate}) {
    log.storage().Fail({.op = op, .times = FailingStorage::kAlways});
  }
  log.Close();
  log.storage().Heal();
  log.storage().PowerCut();
  log.Open();
  const Offset next = log->end_offset();
  REQUIRE(next >= 70);  // no offset is given out twice
  for (int i = 0; i < 3; ++i) {
    REQUIRE(log->Append({.value = absl::StrCat(next + i, "...")}).value() == next + i);
  }
  Offsets expected = Range(0, 50);
  for (int i = 0; i < 3; ++i) expected.push_back(next + i);
  const std::vector<Gap> gaps = {{"t", 0, 50, next, GapReason::kPowerLoss}};
  const ReadBack forward = log.Read(0, Direction::kForward);
  CHECK(forward.offsets == expected);
  CHECK(forward.gaps == gaps);
  const ReadBack backward = log.Read(next + 3, Direction::kBackward);
  CHECK(backward.offsets == Reversed(expected));
  CHECK(backward.gaps == gaps);
  CHECK(log.Read(60, Direction::kForward).offsets == Range(next, next + 3));
  const ReadBack inside = log.Read(60, Direction::kBackward);
  CHECK(inside.offsets == Reversed(Range(0, 50)));
  CHECK(inside.gaps == std::vector<Gap>{{"t", 0, 50, 60, GapReason::kPowerLoss}});
}

TEST_CASE("PartitionReader: a trim under a reader is a gap, in both directions") {
  Fixture log;
  log.Append(100);
  REQUIRE(log->Flush().ok());
  PartitionReader forward = log->Read(0).value();
  PartitionReader backward = log->Read(40, Direction::kBackward).value();
  REQUIRE(log->Trim(60).ok());
  Offsets offsets;
  for (const RecordView& record : forward) offsets.push_back(record.offset());
  CHECK(offsets == Range(60, 100));
  REQUIRE(forward.gaps().size() == 1);
  CHECK(forward.gaps()[0] == Gap{"t", 0, 0, 60, GapReason::kTrim});
  CHECK(backward.begin() == backward.end());
  CHECK(backward.status().ok());
  REQUIRE(backward.gaps().size() == 1);
  CHECK(backward.gaps()[0] == Gap{"t", 0, 0, 40, GapReason::kTrim});
}

}  // namespace
}  // namespace cordwood
