#include "cordwood/topic.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/log/control.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"
#include "cordwood/partitioner.h"
#include "cordwood/status.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/files.h"
#include "tests/support/says.h"
#include "tests/support/sleeper.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::NamesIn;
using testing::OpenQuiet;
using testing::Says;
using testing::Sleeper;
using testing::TempDir;
using testing::ValuesOf;
using Values = std::vector<std::string>;

// The control file of a topic, as another process maps it.
std::shared_ptr<log::ControlFile> ControlOf(const fs::path& data, const std::string& topic) {
  const auto root = Storage::OperatingSystem()->OpenFolder(data, {}).value();
  const auto identity = log::TopicFiles::ReadConfig(*root, topic).value();
  return log::ControlFile::Open(*root, "topics/" + topic + "/control", identity.id,
                                os::Access::kReadWrite)
      .value();
}

// ---- Making

TEST_CASE("Topic: a name that would not do is refused and makes nothing") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  const std::string name =
      GENERATE(std::string(), std::string(250, 'a'), std::string("."), std::string(".hidden"),
               std::string("../up"), std::string("a/b"), std::string("a b"),
               std::string("\xc3\xa4"), std::string("a\0b", 3));
  CHECK(absl::IsInvalidArgument(broker.CreateTopic(name).status()));
  CHECK(absl::IsInvalidArgument(broker.OpenOrCreateTopic(name).status()));
  CHECK(absl::IsInvalidArgument(broker.OpenTopic(name).status()));
  CHECK(absl::IsInvalidArgument(broker.DeleteTopic(name)));
  CHECK(absl::IsInvalidArgument(broker.DescribeTopic(name).status()));
  CHECK(NamesIn(dir / "data/topics").empty());
  CHECK(broker.CreateTopic(std::string(249, 'a')).ok());
}

TEST_CASE("Topic: settings out of bounds are refused and make nothing") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  CHECK(absl::IsInvalidArgument(broker.CreateTopic("t", {.partitions = 0}).status()));
  CHECK(absl::IsInvalidArgument(broker.CreateTopic("t", {.segment_bytes = 1}).status()));
  CHECK(absl::IsInvalidArgument(broker.CreateTopic("t", {.partitioner = "a b"}).status()));
  CHECK(NamesIn(dir / "data/topics").empty());
}

TEST_CASE("Topic: it has a random id and keeps its config") {
  TempDir dir;
  const TopicConfig config = {.partitions = 2,
                              .retention_age = absl::InfiniteDuration(),
                              .cleanup = CleanupPolicy::kCompact,
                              .partitioner = "murmur2",
                              .retain_for_groups = {"billing", "audit"}};
  std::string id;
  {
    Broker broker = OpenQuiet(dir / "data");
    Topic topic = broker.CreateTopic("t", config).value();
    id = topic.id();
    CHECK(id.size() == 32);
    CHECK(id.find_first_not_of("0123456789abcdef") == std::string::npos);
    CHECK(broker.CreateTopic("u").value().id() != id);
    CHECK(absl::IsAlreadyExists(broker.CreateTopic("t").status()));
  }
  Topic topic = OpenQuiet(dir / "data").OpenTopic("t").value();
  CHECK(topic.id() == id);
  CHECK(topic.name() == "t");
  CHECK(topic.config() == config);
  CHECK(topic.partition_count() == 2);
  CHECK(topic.PartitionFor("key") == (Murmur2("key") & 0x7fffffff) % 2);
}

TEST_CASE("Topic: OpenOrCreate opens what is there as it is, if partitions and partitioner agree") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  const std::string id = broker.OpenOrCreateTopic("t", {.partitions = 3}).value().id();
  Topic same = broker.OpenOrCreateTopic("t", {.partitions = 3, .segment_bytes = 1 << 20}).value();
  CHECK(same.id() == id);
  CHECK(same.config().segment_bytes == 128 << 20);
  const absl::Status other = broker.OpenOrCreateTopic("t", {.partitions = 4}).status();
  CHECK(absl::IsFailedPrecondition(other));
  CHECK(Says(other, "3"));
  CHECK(Says(other, "4"));
  const absl::Status murmur =
      broker.OpenOrCreateTopic("t", {.partitions = 3, .partitioner = "murmur2"}).status();
  CHECK(absl::IsFailedPrecondition(murmur));
  CHECK(Says(murmur, "xxh3"));
  CHECK(Says(murmur, "murmur2"));
}

TEST_CASE("Topic: names come sorted, and those of other opens are found") {
  TempDir dir;
  Broker one = OpenQuiet(dir / "data");
  Broker two = OpenQuiet(dir / "data");
  for (const char* name : {"b", "c", "a"}) REQUIRE(one.CreateTopic(name).ok());
  CHECK(two.TopicNames() == Values{"a", "b", "c"});
  REQUIRE(one.OpenTopic("a").value().partition(0).Append({.value = "1"}).ok());
  REQUIRE(two.OpenTopic("a").value().partition(0).Append({.value = "2"}).ok());
  CHECK(ValuesOf(one.OpenTopic("a").value().partition(0)) == Values{"1", "2"});
  CHECK(absl::IsNotFound(one.OpenTopic("d").status()));
}

TEST_CASE("Topic: of many who make one at once, one does and the others are told") {
  TempDir dir;
  std::vector<absl::Status> made(4);
  std::vector<std::thread> threads;
  for (absl::Status& status : made) {
    threads.emplace_back([&dir, &status] {
      status = OpenQuiet(dir / "data").CreateTopic("t", {.partitions = 3}).status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(std::count_if(made.begin(), made.end(), [](const auto& s) { return s.ok(); }) == 1);
  CHECK(std::count_if(made.begin(), made.end(),
                      [](const auto& s) { return absl::IsAlreadyExists(s); }) == 3);
  CHECK(NamesIn(dir / "data/topics") == std::set<std::string>{"t"});
}

TEST_CASE("Topic: a description counts records and bytes") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Topic topic = broker.CreateTopic("t", {.partitions = 2, .segment_bytes = 4096}).value();
  for (int i = 0; i < 100; ++i) {
    REQUIRE(topic.partition(i % 2).Append({.value = std::string(100, 'x')}).ok());
  }
  const TopicDescription described = broker.DescribeTopic("t").value();
  CHECK(described.name == "t");
  CHECK(described.partitions == 2);
  CHECK(described.records == 100);
  CHECK(described.bytes >= 100 * 152);
  CHECK(described.config == topic.config());
  CHECK(absl::IsNotFound(broker.DescribeTopic("u").status()));
}

// ---- Deleting

TEST_CASE("Topic: one that is deleted answers kNotFound in every open, and its name is free") {
  TempDir dir;
  Broker one = OpenQuiet(dir / "data");
  Broker two = OpenQuiet(dir / "data");
  Topic topic = one.CreateTopic("t", {.partitions = 2}).value();
  Partition partition = topic.partition(1);
  REQUIRE(partition.Append({.value = "old"}).ok());
  Partition elsewhere = two.OpenTopic("t").value().partition(1);
  Producer producer = two.NewProducer().value();
  REQUIRE(producer.Send("t", {.value = "old", .partition = 1}).ok());
  PartitionReader reader = elsewhere.Read(0).value();
  auto first = reader.begin();
  std::vector<absl::Status> told;
  REQUIRE(partition.OnDurable(0, [&](const absl::Status& s) { told.push_back(s); }).ok());

  REQUIRE(one.DeleteTopic("t").ToString() == "OK");
  CHECK(absl::IsNotFound(topic.status()));
  CHECK(absl::IsNotFound(partition.status()));
  CHECK(absl::IsNotFound(partition.Append({.value = "a"}).status()));
  CHECK(absl::IsNotFound(elsewhere.status()));
  CHECK(absl::IsNotFound(elsewhere.Append({.value = "a"}).status()));
  CHECK(absl::IsNotFound(elsewhere.Read(0).status()));
  CHECK(elsewhere.end_offset() == 0);
  CHECK(absl::IsNotFound(two.OpenTopic("t").status()));
  CHECK(absl::IsNotFound(producer.Send("t", {.value = "a"}).status()));
  CHECK(absl::IsNotFound(one.DeleteTopic("t")));
  REQUIRE(told.size() == 1);
  CHECK(absl::IsNotFound(told[0]));
  CHECK(NamesIn(dir / "data/topics").empty());
  CHECK(first->value() == "old");  // the bytes are there while somebody reads them

  Topic anew = one.CreateTopic("t", {.partitions = 2}).value();
  CHECK(anew.id() != topic.id());
  CHECK(absl::IsNotFound(topic.status()));
  CHECK(producer.Send("t", {.value = "new", .partition = 1}).value().offset == 0);
  const std::vector<Record> batch = {{.value = "newer", .partition = 1}};
  CHECK(producer.SendBatch("t", batch).at(0).value().offset == 1);
  CHECK(ValuesOf(two.OpenTopic("t").value().partition(1)) == Values{"new", "newer"});
}

TEST_CASE("Topic: who waits on one that is deleted is told at once") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Partition partition = broker.CreateTopic("t").value().partition(0);
  absl::Status waited;
  Sleeper waiter([&] { waited = partition.WaitForEnd(1, absl::Seconds(60)); });
  const absl::Time start = absl::Now();
  REQUIRE(broker.DeleteTopic("t").ok());
  waiter.Join();
  CHECK(absl::IsNotFound(waited));
  CHECK(absl::Now() - start < absl::Seconds(30));
}

TEST_CASE("Topic: a deletion that was only marked is finished by whoever meets it") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  REQUIRE(broker.CreateTopic("t", {.partitions = 2}).ok());
  {
    const auto control = ControlOf(dir / "data", "t");
    for (int i = 0; i < 2; ++i) {
      control->block(i).state.store(static_cast<std::uint32_t>(log::PartitionState::kDeleted));
    }
  }
  SECTION("opening it") {
    CHECK(absl::IsNotFound(broker.OpenTopic("t").status()));
    CHECK(broker.TopicNames().empty());
  }
  SECTION("a new one of its name") {
    Partition anew = broker.CreateTopic("t").value().partition(0);
    CHECK(anew.Append({.value = "a"}).ok());
  }
  SECTION("deleting it again") { CHECK(broker.DeleteTopic("t").ok()); }
  SECTION("the next first opener") {
    REQUIRE(broker.Close().ok());
    CHECK(OpenQuiet(dir / "data").TopicNames().empty());
  }
}

TEST_CASE("Topic: one whose writer is stopped in its turn is not deleted by halves") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Topic topic = broker.CreateTopic("t", {.partitions = 3}).value();
  const auto root = Storage::OperatingSystem()->OpenFolder(dir / "data", {}).value();
  const auto stopped = os::LockOwners::Claim(*root, 0).value();
  const auto control = ControlOf(dir / "data", "t");
  REQUIRE(control->block(1).lock.TryLock(*stopped));
  const absl::Status status = broker.DeleteTopic("t");
  CHECK(absl::IsUnavailable(status));
  CHECK(Says(status, "partition 1"));
  CHECK(topic.partition(0).Append({.value = "a"}).ok());
  control->block(1).lock.Unlock();
  CHECK(topic.partition(1).Append({.value = "a"}).ok());
  CHECK(broker.DeleteTopic("t").ok());
}

// ---- What does not belong there

TEST_CASE("Topic: a link or a FIFO in the place of a segment is refused and not followed") {
  TempDir dir;
  const fs::path segment = dir / "data/topics/t/0/00000000000000000000.log";
  {
    Broker broker = OpenQuiet(dir / "data");
    REQUIRE(broker.CreateTopic("t").value().partition(0).Append({.value = "a"}).ok());
    REQUIRE(broker.CreateTopic("u").value().partition(0).Append({.value = "b"}).ok());
  }
  const bool is_clean = GENERATE(true, false);
  if (!is_clean) fs::remove(dir / "data/CLEAN");
  fs::rename(segment, dir / "elsewhere");
  SECTION("symbolic link") { fs::create_symlink(dir / "elsewhere", segment); }
  SECTION("hard link") { fs::create_hard_link(dir / "elsewhere", segment); }
  SECTION("FIFO") { REQUIRE(mkfifo(segment.c_str(), 0600) == 0); }
  SECTION("folder") { fs::create_directory(segment); }
  Broker broker = OpenQuiet(dir / "data");
  absl::StatusOr<Topic> topic = broker.OpenTopic("t");
  if (topic.ok()) {
    const absl::Status refused = topic->partition(0).Append({.value = "b"}).status();
    CHECK(!refused.ok());
    CHECK(Says(refused, "00000000000000000000.log"));
  } else {
    CHECK(Says(topic.status(), "00000000000000000000.log"));
  }
  CHECK(ValuesOf(broker.OpenTopic("u").value().partition(0)) == Values{"b"});
}

class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before_) == 0);
    rlimit now = before_;
    now.rlim_cur = bytes;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &now) == 0);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_ = {};
};

TEST_CASE("Topic: a file-size limit is a Status and no signal, and costs nothing published") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Partition partition = broker.CreateTopic("t").value().partition(0);
  const std::string value(1000, 'x');
  Offset sent = 0;
  {
    const FileSizeLimit limit(64 << 10);
    absl::Status status;
    while (status.ok()) {
      status = partition.Append({.value = value}).status();
      sent += status.ok();
    }
    CHECK(absl::IsResourceExhausted(status));
    CHECK(Says(status, "file-size limit"));
    CHECK(sent > 30);
    CHECK(partition.end_offset() == sent);
    CHECK(ValuesOf(partition).size() == static_cast<std::size_t>(sent));
    CHECK(partition.Flush().ok());
  }
  CHECK(partition.Append({.value = value}).value() == sent);
}

TEST_CASE("Topic: one that cannot be made leaves nothing behind") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  {
    const FileSizeLimit limit(4096);
    CHECK(absl::IsResourceExhausted(broker.CreateTopic("t", {.partitions = 3}).status()));
  }
  CHECK(NamesIn(dir / "data/topics").empty());
  CHECK(broker.CreateTopic("t", {.partitions = 3}).ok());
}

// ---- Read-only

TEST_CASE("Topic: read-only sees what is there and changes nothing") {
  TempDir dir;
  {
    Broker broker = OpenQuiet(dir / "data");
    REQUIRE(broker.CreateTopic("t").value().partition(0).Append({.value = "a"}).ok());
  }
  SECTION("closed cleanly") {}
  SECTION("the marker is gone") { fs::remove(dir / "data/CLEAN"); }
  SECTION("the control file is gone") { fs::remove(dir / "data/topics/t/control"); }
  std::map<std::string, fs::file_time_type> before;
  for (const auto& entry : fs::recursive_directory_iterator(dir / "data")) {
    before[entry.path()] = entry.last_write_time();
  }
  {
    Broker broker = Broker::Open(dir / "data", {.read_only = true}).value();
    Topic topic = broker.OpenTopic("t").value();
    CHECK(ValuesOf(topic.partition(0)) == Values{"a"});
    CHECK(absl::IsFailedPrecondition(topic.partition(0).Append({.value = "b"}).status()));
    CHECK(absl::IsFailedPrecondition(topic.partition(0).Trim(1)));
    CHECK(absl::IsFailedPrecondition(broker.CreateTopic("u").status()));
    CHECK(absl::IsFailedPrecondition(broker.DeleteTopic("t")));
    CHECK(absl::IsFailedPrecondition(broker.NewProducer().status()));
    CHECK(absl::IsNotFound(broker.OpenTopic("u").status()));
    CHECK(broker.TopicNames() == Values{"t"});
    CHECK(broker.DescribeTopic("t").value().records == 1);
    CHECK(broker.Maintain(absl::Seconds(1)).ok());
    CHECK(broker.Close().ok());
  }
  std::map<std::string, fs::file_time_type> after;
  for (const auto& entry : fs::recursive_directory_iterator(dir / "data")) {
    after[entry.path()] = entry.last_write_time();
  }
  CHECK(before == after);
}

TEST_CASE("Topic: read-only follows a writer, also one that comes later and has to recover") {
  TempDir dir;
  {
    Broker broker = OpenQuiet(dir / "data");
    REQUIRE(broker.CreateTopic("t").value().partition(0).Append({.value = "a"}).ok());
  }
  const bool was_clean = GENERATE(true, false);
  if (!was_clean) {
    fs::remove(dir / "data/CLEAN");
    fs::remove(dir / "data/topics/t/control");
  }
  Broker reader = Broker::Open(dir / "data", {.read_only = true}).value();
  REQUIRE(ValuesOf(reader.OpenTopic("t").value().partition(0)) == Values{"a"});
  Broker writer = OpenQuiet(dir / "data");
  REQUIRE(writer.OpenTopic("t").value().partition(0).Append({.value = "b"}).ok());
  CHECK(ValuesOf(reader.OpenTopic("t").value().partition(0)) == Values{"a", "b"});
  REQUIRE(writer.CreateTopic("u").ok());
  CHECK(reader.OpenTopic("u").ok());
  REQUIRE(writer.DeleteTopic("t").ok());
  CHECK(absl::IsNotFound(reader.OpenTopic("t").status()));
  REQUIRE(writer.CreateTopic("t").value().partition(0).Append({.value = "c"}).ok());
  CHECK(ValuesOf(reader.OpenTopic("t").value().partition(0)) == Values{"c"});
}

}  // namespace
}  // namespace cordwood
