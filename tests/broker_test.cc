#include "cordwood/broker.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/consumer.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/os/storage.h"
#include "cordwood/status.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/files.h"
#include "tests/support/folder_decorator.h"
#include "tests/support/says.h"
#include "tests/support/sleeper.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::Append;
using testing::kQuiet;
using testing::NamesIn;
using testing::OpenQuiet;
using testing::ReadAll;
using testing::Says;
using testing::Sleeper;
using testing::StorageWithFileSystem;
using testing::TempDir;
using testing::ValuesOf;
using testing::WriteAll;
using Values = std::vector<std::string>;

// ---- What cannot be opened

TEST_CASE("Broker: an empty path is refused") {
  CHECK(absl::IsInvalidArgument(Broker::Open("").status()));
}

TEST_CASE("Broker: a path that is a file is refused") {
  TempDir dir;
  WriteAll(dir / "file", "text");
  const absl::Status status = Broker::Open(dir / "file").status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "not a folder"));
  CHECK(ReadAll(dir / "file") == "text");
}

TEST_CASE("Broker: a folder that is missing is made only if it may be") {
  TempDir dir;
  CHECK(absl::IsNotFound(Broker::Open(dir / "a", {.create_if_missing = false}).status()));
  CHECK(absl::IsNotFound(Broker::Open(dir / "a", {.read_only = true}).status()));
  CHECK(!fs::exists(dir / "a"));
  CHECK(absl::IsNotFound(Broker::Open(dir / "a" / "b").status()));
  CHECK(Broker::Open(dir / "a").ok());
}

TEST_CASE("Broker: a folder with other files in it is refused and not littered") {
  TempDir dir;
  WriteAll(dir / "thesis.tex", "text");
  const absl::Status status = Broker::Open(dir.path()).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "thesis.tex"));
  CHECK(NamesIn(dir.path()) == std::set<std::string>{"thesis.tex"});
}

TEST_CASE("Broker: an empty folder is taken, and a new disk with its lost+found") {
  TempDir dir;
  fs::create_directory(dir / "lost+found");
  CHECK(Broker::Open(dir.path()).ok());
}

TEST_CASE("Broker: a directory of a newer format is refused and names both versions") {
  TempDir dir;
  { Broker broker = OpenQuiet(dir / "data"); }
  CHECK(ReadAll(dir / "data/FORMAT") == "cordwood 1\n");
  const std::set<std::string> before = NamesIn(dir / "data");
  WriteAll(dir / "data/FORMAT", "cordwood 2\n");
  const absl::Status status = Broker::Open(dir / "data").status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "version 2"));
  CHECK(Says(status, "version 1"));
  CHECK(absl::IsFailedPrecondition(Broker::Open(dir / "data", {.read_only = true}).status()));
  CHECK(NamesIn(dir / "data") == before);
}

TEST_CASE("Broker: a FORMAT that says something else is refused") {
  TempDir dir;
  { Broker broker = OpenQuiet(dir / "data"); }
  const std::string text =
      GENERATE("", "cordwood", "cordwood 1", "cordwood x\n", "cordwood 0\n", "cordwood -1\n",
               "cordwood 1\n\n", "kafka 1\n", "cordwood 99999999999\n");
  CAPTURE(text);
  WriteAll(dir / "data/FORMAT", text);
  const absl::Status status = Broker::Open(dir / "data").status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "FORMAT"));
}

TEST_CASE("Broker: a planted FORMAT that is a link or a FIFO is not followed and does not hang") {
  TempDir dir;
  fs::create_directory(dir / "data");
  WriteAll(dir / "elsewhere", "cordwood 1\n");
  SECTION("symbolic link") { fs::create_symlink(dir / "elsewhere", dir / "data/FORMAT"); }
  SECTION("hard link") { fs::create_hard_link(dir / "elsewhere", dir / "data/FORMAT"); }
  SECTION("FIFO") { REQUIRE(mkfifo((dir / "data/FORMAT").c_str(), 0600) == 0); }
  const absl::Status status = Broker::Open(dir / "data").status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "FORMAT"));
}

// Root may write everywhere, so a test as root is somebody else for a while.
class AsNobody {
 public:
  AsNobody() : was_root_(geteuid() == 0) {
    if (was_root_) REQUIRE(seteuid(65534) == 0);
  }
  ~AsNobody() {
    if (was_root_) CHECK(seteuid(0) == 0);
  }

 private:
  const bool was_root_;
};

TEST_CASE("Broker: a directory that may not be written is refused, but can be opened read-only") {
  TempDir dir;
  REQUIRE(chmod(dir.path().c_str(), 0755) == 0);
  BrokerOptions options = kQuiet;
  options.file_mode = 0644;
  {
    Broker broker = Broker::Open(dir / "data", options).value();
    Append(broker.CreateTopic("t").value(), 0, "a");
  }
  for (const auto& entry : fs::recursive_directory_iterator(dir / "data")) {
    fs::permissions(entry, entry.is_directory() ? fs::perms(0555) : fs::perms(0444));
  }
  fs::permissions(dir / "data", fs::perms(0555));
  {
    AsNobody nobody;
    CHECK(absl::IsPermissionDenied(Broker::Open(dir / "data").status()));
    CHECK(absl::IsPermissionDenied(Broker::Open(dir / "other").status()));
    Broker reader = Broker::Open(dir / "data", {.read_only = true}).value();
    CHECK(ValuesOf(reader.OpenTopic("t").value().partition(0)) == Values{"a"});
  }
  for (const auto& entry : fs::recursive_directory_iterator(dir / "data")) {
    if (entry.is_directory()) fs::permissions(entry, fs::perms(0755));
  }
  fs::permissions(dir / "data", fs::perms(0755));
}

TEST_CASE("Broker: options that make no sense are refused") {
  TempDir dir;
  CHECK(absl::IsInvalidArgument(Broker::Open(dir / "a", {.file_mode = 0}).status()));
  CHECK(absl::IsInvalidArgument(Broker::Open(dir / "a", {.file_mode = 010600}).status()));
  CHECK(absl::IsInvalidArgument(
      Broker::Open(dir / "a", {.read_only = true, .sharing = Sharing::kExclusive}).status()));
  CHECK(!fs::exists(dir / "a"));
}

TEST_CASE("Broker: a network file system is refused for sharing and named") {
  TempDir dir;
  const auto nfs = std::make_shared<StorageWithFileSystem>(
      os::FileSystemInfo{.name = "nfs", .shared = true, .volatile_ = false});
  BrokerOptions options = kQuiet;
  options.storage = nfs;
  const absl::Status status = Broker::Open(dir / "data", options).status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(Says(status, "nfs"));
  options.sharing = Sharing::kExclusive;
  CHECK(Broker::Open(dir / "data", options).ok());
  options.sharing = Sharing::kProcesses;
  options.read_only = true;
  CHECK(Broker::Open(dir / "data", options).ok());
}

// ---- Who else is there

TEST_CASE("Broker: a directory opens any number of times, but not beside an exclusive open") {
  TempDir dir;
  Broker one = OpenQuiet(dir / "data");
  Broker two = OpenQuiet(dir / "data");
  BrokerOptions exclusive = kQuiet;
  exclusive.sharing = Sharing::kExclusive;
  const absl::Status refused = Broker::Open(dir / "data", exclusive).status();
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK(Says(refused, std::to_string(getpid())));
  REQUIRE(one.Close().ok());
  CHECK(absl::IsFailedPrecondition(Broker::Open(dir / "data", exclusive).status()));
  REQUIRE(two.Close().ok());

  Broker alone = Broker::Open(dir / "data", exclusive).value();
  const absl::Status shut_out = Broker::Open(dir / "data", kQuiet).status();
  CHECK(absl::IsFailedPrecondition(shut_out));
  CHECK(Says(shut_out, "exclusive"));
  CHECK(Says(shut_out, std::to_string(getpid())));
  CHECK(absl::IsFailedPrecondition(Broker::Open(dir / "data", exclusive).status()));
  REQUIRE(alone.Close().ok());
  CHECK(Broker::Open(dir / "data", kQuiet).ok());
}

// Somebody who is stopped in the middle of an open.
class Opener {
 public:
  explicit Opener(const fs::path& path) {
    root_ = Storage::OperatingSystem()->OpenFolder(path, {}).value();
    file_ = root_->OpenFile("locks", os::OpenMode::kReadWrite).value();
    REQUIRE(file_->TryLock(os::LockKind::kExclusive, os::LockOwners::kOpenByte).value());
  }

 private:
  std::unique_ptr<os::Folder> root_;
  std::unique_ptr<os::File> file_;
};

TEST_CASE("Broker: an open waits for another one until open_timeout, then names the holder") {
  TempDir dir;
  Broker there = OpenQuiet(dir / "data");
  BrokerOptions options = kQuiet;
  options.open_timeout = absl::Milliseconds(50);
  Opener stopped(dir / "data");
  const std::int64_t start = os::MonotonicNanos();
  const absl::Status status = Broker::Open(dir / "data", options).status();
  const absl::Duration waited = absl::Nanoseconds(os::MonotonicNanos() - start);
  CHECK(absl::IsUnavailable(status));
  CHECK(Says(status, std::to_string(getpid())));
  CHECK(waited >= options.open_timeout);
  CHECK(waited < BrokerOptions().open_timeout);
}

TEST_CASE("Broker: many that make one directory at once all succeed") {
  TempDir dir;
  std::vector<std::thread> threads;
  std::vector<absl::Status> opened(4);
  std::vector<absl::Status> made(4);
  for (std::size_t i = 0; i < opened.size(); ++i) {
    threads.emplace_back([&, i] {
      absl::StatusOr<Broker> broker = Broker::Open(dir / "data", kQuiet);
      opened[i] = broker.status();
      if (broker.ok()) made[i] = broker->OpenOrCreateTopic("t", {.partitions = 2}).status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : opened) CHECK(status.ToString() == "OK");
  for (const absl::Status& status : made) CHECK(status.ToString() == "OK");
  CHECK(NamesIn(dir / "data") == std::set<std::string>{"CLEAN", "FORMAT", "groups", "locks",
                                                       "metrics", "reserve", "topics"});
  CHECK(NamesIn(dir / "data/topics") == std::set<std::string>{"t"});
}

// ---- Handles

TEST_CASE("Broker: handles that are default-made or moved-from answer and never crash") {
  TempDir dir;
  Broker broker;
  Topic topic;
  Partition partition;
  Producer producer;
  SECTION("default-made") {}
  SECTION("moved-from") {
    broker = OpenQuiet(dir / "data");
    topic = broker.CreateTopic("t").value();
    partition = topic.partition(0);
    producer = broker.NewProducer().value();
    Broker b = std::move(broker);
    Topic t = std::move(topic);
    Partition p = std::move(partition);
    Producer r = std::move(producer);
    CHECK(p.Append({.value = "a"}).ok());
    CHECK(r.Send("t", {.value = "b"}).ok());
  }
  CHECK(absl::IsFailedPrecondition(broker.OpenTopic("t").status()));
  CHECK(absl::IsFailedPrecondition(broker.CreateTopic("t").status()));
  CHECK(absl::IsFailedPrecondition(broker.OpenOrCreateTopic("t").status()));
  CHECK(absl::IsFailedPrecondition(broker.DeleteTopic("t")));
  CHECK(absl::IsFailedPrecondition(broker.NewProducer().status()));
  CHECK(absl::IsFailedPrecondition(broker.NewConsumer().status()));
  CHECK(absl::IsFailedPrecondition(broker.DescribeTopic("t").status()));
  CHECK(absl::IsFailedPrecondition(broker.DescribeGroup("g").status()));
  CHECK(absl::IsFailedPrecondition(broker.DeleteGroup("g")));
  CHECK(absl::IsFailedPrecondition(broker.AlterTopic("t", {})));
  CHECK(absl::IsFailedPrecondition(broker.CreatePartitions("t", 2)));
  CHECK(absl::IsFailedPrecondition(broker.Maintain(absl::Seconds(1))));
  CHECK(absl::IsFailedPrecondition(broker.Close()));
  CHECK(broker.TopicNames().empty());
  CHECK(broker.ListGroups().empty());
  CHECK(broker.recovery_report().items.empty());

  CHECK(absl::IsFailedPrecondition(topic.status()));
  CHECK(topic.name().empty());
  CHECK(topic.id().empty());
  CHECK(topic.partition_count() == 0);
  CHECK(topic.PartitionFor("key") == 0);
  CHECK(topic.config() == TopicConfig());
  CHECK(absl::IsFailedPrecondition(topic.partition(0).status()));

  CHECK(absl::IsFailedPrecondition(partition.status()));
  CHECK(absl::IsFailedPrecondition(partition.Append({.value = "a"}).status()));
  CHECK(absl::IsFailedPrecondition(partition.AppendBatch({}).status()));
  CHECK(absl::IsFailedPrecondition(
      partition.AppendInPlace(1, {}, [](auto) { return std::size_t{0}; }).status()));
  CHECK(absl::IsFailedPrecondition(partition.Read(0).status()));
  CHECK(absl::IsFailedPrecondition(partition.OffsetForTime(absl::Now()).status()));
  CHECK(absl::IsFailedPrecondition(partition.WaitForEnd(1, absl::Seconds(1))));
  CHECK(absl::IsFailedPrecondition(partition.WaitForDurable(1, absl::Seconds(1))));
  CHECK(absl::IsFailedPrecondition(partition.OnDurable(0, [](const absl::Status&) {})));
  CHECK(absl::IsFailedPrecondition(partition.Flush()));
  CHECK(absl::IsFailedPrecondition(partition.Trim(0)));
  CHECK(partition.start_offset() == 0);
  CHECK(partition.end_offset() == 0);
  CHECK(partition.durable_offset() == 0);

  CHECK(absl::IsFailedPrecondition(producer.Send("t", {.value = "a"}).status()));
  CHECK(absl::IsFailedPrecondition(producer.Flush()));
  const std::vector<Record> two(2);
  const auto results = producer.SendBatch("t", two);
  REQUIRE(results.size() == 2);
  for (const auto& result : results) CHECK(absl::IsFailedPrecondition(result.status()));
}

TEST_CASE("Broker: handles of a closed broker answer kFailedPrecondition, and offsets are 0") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Topic topic = broker.CreateTopic("t").value();
  Partition partition = topic.partition(0);
  Producer producer = broker.NewProducer().value();
  Append(topic, 0, "a");
  CHECK(partition.end_offset() == 1);
  Broker same = broker;
  REQUIRE(broker.Close().ok());
  CHECK(broker.Close().ok());

  CHECK(absl::IsFailedPrecondition(same.OpenTopic("t").status()));
  CHECK(absl::IsFailedPrecondition(same.CreateTopic("u").status()));
  CHECK(absl::IsFailedPrecondition(same.DeleteTopic("t")));
  CHECK(absl::IsFailedPrecondition(same.NewProducer().status()));
  CHECK(absl::IsFailedPrecondition(same.NewConsumer().status()));
  CHECK(absl::IsFailedPrecondition(same.Maintain(absl::Seconds(1))));
  CHECK(same.TopicNames().empty());
  CHECK(absl::IsFailedPrecondition(topic.status()));
  CHECK(absl::IsFailedPrecondition(topic.partition(0).status()));
  CHECK(absl::IsFailedPrecondition(partition.status()));
  CHECK(absl::IsFailedPrecondition(partition.Append({.value = "b"}).status()));
  CHECK(absl::IsFailedPrecondition(partition.Read(0).status()));
  CHECK(absl::IsFailedPrecondition(partition.OffsetForTime(absl::Now()).status()));
  CHECK(absl::IsFailedPrecondition(partition.Flush()));
  CHECK(absl::IsFailedPrecondition(partition.WaitForEnd(9, absl::Seconds(9))));
  CHECK(partition.end_offset() == 0);
  CHECK(partition.durable_offset() == 0);
  CHECK(absl::IsFailedPrecondition(producer.Send("t", {.value = "b"}).status()));
  CHECK(absl::IsFailedPrecondition(producer.Send("new", {.value = "b"}).status()));
  CHECK(absl::IsFailedPrecondition(producer.Flush()));
}

TEST_CASE("Broker: any handle keeps the directory open, in any order of their ends") {
  TempDir dir;
  Partition partition = OpenQuiet(dir / "data").CreateTopic("t").value().partition(0);
  CHECK(partition.Append({.value = "a"}).ok());
  Producer producer = OpenQuiet(dir / "data").NewProducer().value();
  CHECK(producer.Send("t", {.value = "b"}).value().offset == 1);
  PartitionReader reader = partition.Read(0).value();
  partition = Partition();
  producer = Producer();
  Values values;
  for (const RecordView& record : reader) values.emplace_back(record.value().value());
  CHECK(values == Values{"a", "b"});
}

TEST_CASE("Broker: a reader goes on after Close") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Topic topic = broker.CreateTopic("t", {.segment_bytes = 4096}).value();
  for (int i = 0; i < 200; ++i) Append(topic, 0, std::to_string(i));
  PartitionReader reader = topic.partition(0).Read(0).value();
  auto record = reader.begin();
  REQUIRE(broker.Close().ok());
  int count = 0;
  for (; record != reader.end(); ++record) {
    if (record->value() == std::to_string(count)) ++count;
  }
  CHECK(reader.status().ToString() == "OK");
  CHECK(count == 200);
}

TEST_CASE("Broker: a partition that does not exist says so") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Topic topic = broker.CreateTopic("t", {.partitions = 3}).value();
  const int number = GENERATE(-1, 3, 99, 1 << 30);
  const Partition partition = topic.partition(number);
  CHECK(absl::IsNotFound(partition.status()));
  CHECK(Says(partition.status(), "it has 3"));
  CHECK(absl::IsNotFound(partition.Append({.value = "a"}).status()));
  CHECK(absl::IsNotFound(partition.Read(0).status()));
  CHECK(partition.end_offset() == 0);
}

// ---- The work in the background

TEST_CASE("Broker: published becomes durable by itself") {
  TempDir dir;
  Broker broker = Broker::Open(dir / "data", {.flush_interval = absl::Milliseconds(2)}).value();
  Partition partition = broker.CreateTopic("t").value().partition(0);
  const Offset offset = partition.Append({.value = "a"}).value();
  CHECK(partition.WaitForDurable(offset, absl::Seconds(30)).ToString() == "OK");
}

TEST_CASE("Broker: without a thread Maintain does the work") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Partition partition = broker.CreateTopic("t").value().partition(0);
  const Offset offset = partition.Append({.value = "a"}).value();
  int calls = 0;
  REQUIRE(
      partition.OnDurable(offset, [&](const absl::Status& status) { calls += status.ok(); }).ok());
  CHECK(partition.durable_offset() == 0);
  CHECK(calls == 0);
  CHECK(broker.Maintain(absl::Seconds(1)).ToString() == "OK");
  CHECK(partition.durable_offset() == 1);
  CHECK(calls == 1);
}

TEST_CASE("Broker: Close makes durable, wakes who waits, and cancels what cannot be waited for") {
  TempDir dir;
  Broker broker = OpenQuiet(dir / "data");
  Partition partition = broker.CreateTopic("t").value().partition(0);
  const Offset offset = partition.Append({.value = "a"}).value();
  std::vector<absl::Status> told;
  REQUIRE(partition.OnDurable(offset, [&](const absl::Status& s) { told.push_back(s); }).ok());
  absl::Status waited;
  Sleeper waiter([&] { waited = partition.WaitForEnd(99, absl::Seconds(60)); });
  const absl::Time start = absl::Now();
  CHECK(broker.Close().ToString() == "OK");
  waiter.Join();
  CHECK(absl::Now() - start < absl::Seconds(30));
  CHECK(absl::IsFailedPrecondition(waited));
  REQUIRE(told.size() == 1);
  CHECK(told[0].ok());
}

TEST_CASE("Broker: the last handle may go in a callback of the thread that flushes") {
  TempDir dir;
  absl::Notification called;
  std::atomic<bool> closed{false};
  {
    auto broker = std::make_shared<Broker>(
        Broker::Open(dir / "data", {.flush_interval = absl::Milliseconds(1)}).value());
    Partition partition = broker->CreateTopic("t").value().partition(0);
    const Offset offset = partition.Append({.value = "a"}).value();
    REQUIRE(partition
                .OnDurable(offset,
                           [&called, &closed, broker](const absl::Status&) mutable {
                             closed = broker->Close().ok();
                             broker.reset();
                             called.Notify();
                           })
                .ok());
    broker.reset();
    REQUIRE(called.WaitForNotificationWithTimeout(absl::Seconds(30)));
  }
  CHECK(closed);
  CHECK(OpenQuiet(dir / "data").TopicNames() == Values{"t"});
}

}  // namespace
}  // namespace cordwood
