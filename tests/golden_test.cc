// T16 of the reliability plan: directories as released versions have written them, in tests/golden.
// A library of today reads them, and appends to a copy.
//
//   CORDWOOD_WRITE_GOLDEN=tests/golden/v1.txt cordwood_tests "Golden: a directory*"
//
// Where this fails after a change, the change cannot read what users have on their disks: read the
// old bytes as well. If the format itself has to change, FORMAT gets the next number, the page at
// the head of segment/format.h says what differs, and the new version's directory is added as
// v2.txt beside v1.txt, which stays: it is never written again. (The file is not byte for byte the
// same each time, as salts and ids are random; a test of its own holds the format's bytes.)

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "tests/catch.h"
#include "tests/support/environment.h"
#include "tests/support/files.h"
#include "tests/support/folder_picture.h"
#include "tests/support/temp_dir.h"

namespace cordwood::golden_test {
namespace {

using testing::FolderPicture;
using testing::NumberFromEnvironment;
using testing::TempDir;

constexpr Offset kRecords = 60, kTrimmed = 5, kCommitted = 17;
const absl::Time kFirstTime = absl::FromUnixSeconds(1'767'225'600);

struct Expected {
  std::optional<std::string> key, value;
  std::optional<std::string> header;  // of the name "h"
};

// Every shape of a record, by its offset.
Expected RecordAt(Offset offset) {
  Expected record;
  if (offset % 3 != 0) record.key = absl::StrCat("key ", offset % 5);
  if (offset % 11 != 7)
    record.value = std::string(static_cast<std::size_t>(offset * 29 % 200), 'v');
  if (offset % 4 == 1) record.header = absl::StrCat("header ", offset);
  return record;
}

Broker Open(const std::filesystem::path& path) {
  return Broker::Open(path, {.background_threads = false, .reserve_bytes = 0}).value();
}

// Two topics, one with a start that was moved; several segments; a batch; a group; closed.
void Write(const std::filesystem::path& path) {
  const Broker broker = Open(path);
  const TopicConfig config = {
      .partitions = 2, .segment_bytes = 4096, .retention_age = absl::InfiniteDuration()};
  const Topic topic = broker.CreateTopic("events", config).value();
  broker.CreateTopic("empty", {.segment_bytes = 4096}).value();
  std::vector<Record> batch;
  std::vector<Expected> records;
  std::vector<std::vector<Header>> headers(kRecords);
  for (Offset i = 0; i < kRecords; ++i) records.push_back(RecordAt(i));
  for (Offset i = 0; i < kRecords; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const Expected& record = records[at];
    if (record.header) headers[at] = {{"h", *record.header}};
    batch.push_back({.key = record.key ? Bytes(*record.key) : Bytes(),
                     .value = record.value ? Bytes(*record.value) : Bytes(),
                     .headers = headers[at],
                     .timestamp = kFirstTime + absl::Seconds(i)});
    // The records 20 to 24 are one batch.
    if (i >= 20 && i < 24) continue;
    REQUIRE(topic.partition(0).AppendBatch(batch).ok());
    batch.clear();
  }
  REQUIRE(topic.partition(1).Append({.value = "alone", .timestamp = kFirstTime}).ok());
  REQUIRE(topic.partition(0).Trim(kTrimmed).ok());
  Consumer consumer = broker.NewConsumer({.group = "readers"}).value();
  REQUIRE(consumer.Assign({{"events", 0}}).ok());
  REQUIRE(consumer
              .Commit({{{"events", 0}, kCommitted}},
                      {.durability = Durability::kDurable, .metadata = "note"})
              .ok());
  REQUIRE(consumer.Close().ok());
  REQUIRE(broker.Close().ok());
}

FolderPicture Golden() {
  const std::filesystem::path file =
      std::filesystem::path(CORDWOOD_SOURCE_FOLDER) / "tests/golden/v1.txt";
  FolderPicture picture = FolderPicture::FromText(testing::ReadAll(file));
  REQUIRE(picture.files.count("FORMAT") == 1);
  return picture;
}

// How many records are there and as they were written, none else is, and what is missing is told.
Offset CheckRecords(const Partition& partition) {
  absl::StatusOr<PartitionReader> reader = partition.Read(partition.start_offset());
  if (!reader.ok()) return 0;
  Offset count = 0, next = partition.start_offset();
  bool same = true;
  for (const RecordView& record : *reader) {
    if (record.offset() >= kRecords) break;
    const Expected expected = RecordAt(record.offset());
    const std::optional<std::string_view> header = record.headers().Last("h");
    same = same && record.offset() >= next && record.key() == expected.key &&
           record.value() == expected.value && header == expected.header &&
           record.timestamp() == kFirstTime + absl::Seconds(record.offset());
    next = record.offset() + 1;
    ++count;
  }
  CHECK(same);
  Offset in_gaps = 0;
  for (const Gap& gap : reader->gaps()) {
    in_gaps += std::min(gap.to, kRecords) - std::min(gap.from, kRecords);
  }
  CHECK((partition.start_offset() + count + in_gaps >= std::min(kRecords, partition.end_offset())));
  return count;
}

TEST_CASE("Golden: a directory with every shape of a record reads back as it was written") {
  const TempDir dir;
  Write(dir / "data");
  CHECK(CheckRecords(Open(dir / "data").OpenTopic("events").value().partition(0)) ==
        kRecords - kTrimmed);
  if (const char* const file = std::getenv("CORDWOOD_WRITE_GOLDEN")) {
    const TempDir other;
    Write(other / "data");
    testing::WriteAll(file, FolderPicture::Of(other / "data").ToText());
  }
}

TEST_CASE("Golden: a picture as text is the same picture") {
  const TempDir dir;
  Write(dir / "data");
  const FolderPicture picture = FolderPicture::Of(dir / "data");
  CHECK((FolderPicture::FromText(picture.ToText()) == picture));
}

TEST_CASE("Golden: what version 1 has written is read, appended to, and read again") {
  const TempDir dir;
  Golden().WriteTo(dir / "data");
  Offset more = 0;
  for (int open = 0; open < 2; ++open) {
    CAPTURE(open);
    const Broker broker = Open(dir / "data");
    for (const RecoveryReport::Item& item : broker.recovery_report().items) WARN(item.what);
    CHECK(broker.recovery_report().items.empty());
    CHECK(broker.TopicNames() == std::vector<std::string>{"empty", "events"});
    const Topic topic = broker.OpenTopic("events").value();
    CHECK(topic.partition_count() == 2);
    CHECK(topic.config().segment_bytes == 4096);
    const Partition partition = topic.partition(0);
    CHECK(partition.start_offset() == kTrimmed);
    CHECK(CheckRecords(partition) == kRecords - kTrimmed);
    CHECK(partition.OffsetForTime(kFirstTime + absl::Seconds(33)).value() == 33);
    CHECK(partition.Read(41).value().begin()->offset() == 41);
    CHECK(topic.partition(1).Read(0).value().begin()->value() == "alone");
    Consumer consumer = broker.NewConsumer({.group = "readers"}).value();
    REQUIRE(consumer.Assign({{"events", 0}}).ok());
    CHECK(consumer.committed({"events", 0}).value() == kCommitted);
    CHECK(broker.DescribeGroup("readers").value().partitions.at(0).metadata == "note");
    if (open == 1) {
      CHECK(partition.Read(more).value().begin()->value() == "more");
    } else {
      more = partition.Append({.value = "more"}).value();
      CHECK(more >= kRecords);
      CHECK(consumer.Commit({{{"events", 0}, kCommitted}}).ok());
    }
    CHECK(consumer.Close().ok());
    CHECK(broker.Close().ok());
  }
}

TEST_CASE("Golden: a damaged copy of version 1 costs what was hit, and is told") {
  const FolderPicture whole = Golden();
  const std::uint64_t stride = NumberFromEnvironment("CORDWOOD_DAMAGE_STRIDE", 97);
  const TempDir dir(testing::FolderInMemory());
  const std::uint64_t first = NumberFromEnvironment("CORDWOOD_DAMAGE_FIRST", 0) % stride;
  for (const auto& [name, bytes] : whole.files) {
    if (!name.ends_with(".log")) continue;
    for (std::uint64_t at = first; at < bytes.size(); at += stride) {
      CAPTURE(name, at);
      FolderPicture damaged = whole;
      char& byte = damaged.files.at(name)[at];
      byte = static_cast<char>(byte ^ (1 << at % 8));
      damaged.WriteTo(dir / "data");
      const Broker broker = Open(dir / "data");
      const Partition partition = broker.OpenTopic("events").value().partition(0);
      const Offset count = CheckRecords(partition);
      // A header costs its segment, which has some 25 records.
      CHECK(count >= kRecords - kTrimmed - (at < 512 ? 30 : 1));
      CHECK(partition.Append({.value = "more"}).ok());
    }
  }
}

}  // namespace
}  // namespace cordwood::golden_test
