// T5 of the reliability plan, on a small scale: every bit of the files of a partition flipped, one
// at a time, of a directory that was closed, so that all of it is below the durable point. No
// reader is handed anything wrong, Verify tells whatever changes what can be read, and after a
// Repair the directory opens, and all is there but what the bit has hit.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cordwood/broker.h"
#include "cordwood/log/control.h"
#include "cordwood/repair.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/index.h"
#include "cordwood/verify.h"
#include "tests/catch.h"
#include "tests/support/damage.h"

namespace cordwood {
namespace {

using testing::FlipBit;
using testing::OpenQuiet;
using testing::TempDir;

// All that a user sees of a record, by its offset.
using Records = std::map<Offset, std::string>;

struct WhatIsRead {
  Records records = {};
  absl::Status status = {};  // why there are no more
};

WhatIsRead ReadAllOf(const Partition& partition) {
  Records records;
  absl::StatusOr<PartitionReader> reader = partition.Read(partition.start_offset());
  if (!reader.ok()) return {.status = reader.status()};
  for (const RecordView& record : *reader) {
    std::string seen = std::string(record.key().value_or("none")) + "|" +
                       std::string(record.value().value_or("none"));
    for (const Header& header : record.headers()) {
      seen += "|" + std::string(header.key) + "=" + std::string(header.value.bytes());
    }
    records[record.offset()] = seen;
  }
  return {records, reader->status()};
}

// Two segments, of which the first is closed and has an index of several entries.
struct Small {
  static constexpr char kFolder[] = "topics/t/0/";

  Small() {
    {
      Broker broker = OpenQuiet(path());
      const Topic topic =
          broker.CreateTopic("t", {.segment_bytes = 8 << 10, .index_interval_bytes = 1 << 10})
              .value();
      const Partition partition = topic.partition(0);
      const std::vector<Header> headers = {{.key = "h", .value = "x"}};
      while (std::distance(std::filesystem::directory_iterator(path() / kFolder), {}) < 6) {
        const std::vector<Record> batch = {
            {.key = "key", .value = "a value of some length", .headers = headers},
            {.value = "no key"},
            {.key = "deleted"},
            {.key = "a large one", .value = large}};
        REQUIRE(partition.AppendBatch(batch, {}).ok());
      }
      appended = ReadAllOf(partition).records;
      REQUIRE(partition.Trim(1).ok());
      REQUIRE(partition.Trim(2).ok());
      whole = ReadAllOf(partition).records;
      REQUIRE(broker.Close().ok());
    }
    const VerifyReport report = Verify(path()).value();
    REQUIRE(report.is_clean());
    first_begin = static_cast<std::uint64_t>(report.topics[0].partitions[0].ranges.at(0).position);
    first_end = static_cast<std::uint64_t>(report.topics[0].partitions[0].ranges.at(0).position +
                                           report.topics[0].partitions[0].ranges.at(0).bytes);
    next_base = report.topics[0].partitions[0].ranges.at(1).from;
  }

  std::filesystem::path path() const { return dir / "data"; }
  static std::string First(const char* extension) {
    return std::string(kFolder) + segment::SegmentFileName(0, extension);
  }
  // By a reader that changes nothing.
  WhatIsRead Read() const {
    const absl::StatusOr<Broker> broker = Broker::Open(path(), {.read_only = true});
    if (!broker.ok()) return {.status = broker.status()};
    const absl::StatusOr<Topic> topic = broker->OpenTopic("t");
    if (!topic.ok()) return {.status = topic.status()};
    return ReadAllOf(topic->partition(0));
  }

  TempDir dir;
  const std::string large = std::string(300, 'v');
  Records appended;  // with what was trimmed
  Records whole;
  std::uint64_t first_begin = 0,
                first_end = 0;  // of the first segment's records, from the start on
  Offset next_base = 0;         // of the second
};

struct Place {
  std::string file;
  std::uint64_t from, to;
  bool has_records = false;  // and one of them is lost
  bool is_header = false;    // of the first segment: all that is in it is lost
};

std::vector<Place> PlacesIn(const Small& data) {
  const std::uint64_t entries = (data.first_end - segment::kFirstFrame) / 1024;
  return {
      {Small::First(".log"), 0, sizeof(segment::SegmentHeader), false, true},
      {Small::First(".log"), segment::kSealPosition,
       segment::kSealPosition + sizeof(segment::Seal)},
      // Of the frames some from the start, and the last ones.
      {Small::First(".log"), data.first_begin, data.first_begin + 110, true},
      {Small::First(".log"), data.first_end - 30, data.first_end, true},
      {Small::First(".index"), 0, segment::Index::kHeaderBytes + 8 * entries},
      {Small::First(".timeindex"), 0, segment::Index::kHeaderBytes + 16 * entries},
      {std::string(Small::kFolder) + "start", 0, 128},
      {"topics/t/control", 0, 128},
      {"topics/t/control", 4096, 4096 + 256},
  };
}

bool IsPartOf(const Records& some, const Records& all) {
  return std::includes(all.begin(), all.end(), some.begin(), some.end());
}

Records ValidIn(const VerifyReport& report, const Records& whole) {
  Records valid;
  for (const VerifiedRange& range : report.topics.at(0).partitions.at(0).ranges) {
    if (range.state != VerifiedState::kValid) continue;
    for (Offset o = range.from; o < range.to; ++o) {
      if (whole.count(o) != 0) valid[o] = whole.at(o);
    }
  }
  return valid;
}

TEST_CASE("Flips: of any bit nothing wrong is handed out, and what it costs is told") {
  const Small data;
  int flips = 0, told = 0;
  for (const Place& place : PlacesIn(data)) {
    for (std::uint64_t at = place.from; at < place.to; ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        CAPTURE(place.file, at, bit);
        FlipBit(data.path() / place.file, at, bit);
        const VerifyReport report = Verify(data.path()).value();
        const WhatIsRead read = data.Read();
        FlipBit(data.path() / place.file, at, bit);
        ++flips;
        if (!report.is_clean()) ++told;
        REQUIRE(IsPartOf(read.records, data.appended));
        if (!read.status.ok() || read.records != data.whole) REQUIRE_FALSE(report.is_clean());
        if (place.has_records || place.is_header) REQUIRE_FALSE(report.is_clean());
        if (place.file != "topics/t/control" && !place.file.ends_with("start")) {
          REQUIRE(read.status == absl::OkStatus());
          REQUIRE(read.records == ValidIn(report, data.whole));
        }
      }
    }
  }
  CHECK(flips > 4000);
  CHECK(told > flips / 2);
}

TEST_CASE("Flips: a bit of a closed control page does not delete the topic") {
  const Small data;
  constexpr std::uint64_t kStateAt = 4096 + offsetof(log::ControlBlock, state);
  FlipBit(data.path() / "topics/t/control", kStateAt, 1);  // "deleted"
  REQUIRE(Verify(data.path()).value().problems.size() == 1);
  Broker broker = OpenQuiet(data.path());
  CHECK(ReadAllOf(broker.OpenTopic("t").value().partition(0)).records == data.whole);
  CHECK(broker.OpenTopic("t").value().partition(0).Append({.value = "next"}).ok());
}

TEST_CASE("Flips: after a Repair the directory opens, and all is there that was not hit") {
  const Small data;
  const TempDir copies;
  int repairs = 0;
  for (const Place& place : PlacesIn(data)) {
    // A bit here and there, in words of each kind.
    const std::uint64_t step = std::max<std::uint64_t>(5, (place.to - place.from) / 9);
    for (std::uint64_t at = place.from; at < place.to; at += step) {
      CAPTURE(place.file, at);
      // In place, as a control page that was copied is not believed.
      const std::filesystem::path whole = copies / std::to_string(repairs);
      std::filesystem::copy(data.path(), whole, std::filesystem::copy_options::recursive);
      { REQUIRE(OpenQuiet(whole).Close().ok()); }
      FlipBit(whole / place.file, at, static_cast<int>(at % 8));
      REQUIRE(Repair(whole).status() == absl::OkStatus());
      ++repairs;
      Broker broker = OpenQuiet(whole);
      const absl::StatusOr<Topic> topic = broker.OpenTopic("t");
      REQUIRE(topic.status() == absl::OkStatus());
      const auto [read, status] = ReadAllOf(topic->partition(0));
      REQUIRE(status == absl::OkStatus());
      Records expected = data.whole;
      if (place.is_header) expected.erase(expected.begin(), expected.lower_bound(data.next_base));
      if (place.has_records) {
        // One, or none where a trim was before it.
        REQUIRE(read.size() + 1 >= expected.size());
        for (auto one = expected.begin(); one != expected.end();) {
          one = read.count(one->first) == 0 ? expected.erase(one) : std::next(one);
        }
      }
      REQUIRE(IsPartOf(expected, read));
      REQUIRE(topic->partition(0).Append({.value = "next"}).ok());
      REQUIRE(broker.Close().ok());
    }
  }
  CHECK(repairs > 50);
}

}  // namespace
}  // namespace cordwood
