// Opening and closing a directory again and again: clean, after a loss, and after a crash at
// any operation on a file.

#include "cordwood/log/directory.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/log/control.h"
#include "cordwood/log/log.h"
#include "log/clean_marker.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/environment.h"
#include "tests/support/failing_storage.h"
#include "tests/support/files.h"
#include "tests/support/folder_decorator.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::Append;
using testing::FailingStorage;
using testing::NamesIn;
using testing::OpenQuiet;
using testing::ReadAll;
using testing::TellingStorage;
using testing::TempDir;
using testing::ValuesOf;
using testing::WriteAll;
using Values = std::vector<std::string>;

// ---- Closing and opening again

TEST_CASE("Directory: a clean close leaves a marker, and the next open finds all clean") {
  TempDir dir;
  {
    Broker broker = OpenQuiet(dir / "data");
    CHECK(broker.recovery_report().clean);
    Topic topic = broker.CreateTopic("t", {.partitions = 2}).value();
    Append(topic, 0, "a");
    Append(topic, 1, "b");
    CHECK(!fs::exists(dir / "data/CLEAN"));
    CHECK(broker.Close().ToString() == "OK");
  }
  CHECK(fs::exists(dir / "data/CLEAN"));
  Broker broker = OpenQuiet(dir / "data");
  CHECK(!fs::exists(dir / "data/CLEAN"));
  CHECK(broker.recovery_report().clean);
  CHECK(broker.recovery_report().items.empty());
  Topic topic = broker.OpenTopic("t").value();
  CHECK(topic.partition(0).durable_offset() == 1);
  Append(topic, 0, "c");
  CHECK(ValuesOf(topic.partition(0)) == Values{"a", "c"});
  CHECK(ValuesOf(topic.partition(1)) == Values{"b"});
}

TEST_CASE("Directory: a close waits for a trim that another thread is at") {
  TempDir dir;
  const auto storage = FailingStorage::Make();
  Broker broker = OpenQuiet(dir / "data", storage);
  const Partition log = broker.CreateTopic("t").value().partition(0);
  for (int i = 0; i < 10; ++i) REQUIRE(log.Append({.value = "v"}).ok());
  REQUIRE(log.Flush().ok());
  std::optional<std::thread> closer;
  absl::Status how_closed = absl::UnknownError("not closed");
  absl::Notification closed;
  bool closed_too_early = false;
  std::atomic<bool> trimming{false};
  storage->Before([&](const FailingStorage::Operation& operation) {
    if (!absl::StrContains(operation.path, ".start-new") || trimming.exchange(true)) return;
    closer.emplace([&] {
      how_closed = broker.Close();
      closed.Notify();
    });
    closed_too_early = closed.WaitForNotificationWithTimeout(absl::Milliseconds(300));
  });
  REQUIRE(log.Trim(5).ok());
  closer->join();
  CHECK(how_closed == absl::OkStatus());
  CHECK(!closed_too_early);
  storage->Before(nullptr);
  // What the marker says is what was there in the end.
  broker = OpenQuiet(dir / "data", storage);
  CHECK(broker.recovery_report().clean);
  CHECK(broker.OpenTopic("t").value().partition(0).start_offset() == 5);
}

TEST_CASE("Directory: only the last one out leaves the marker") {
  TempDir dir;
  Broker one = OpenQuiet(dir / "data");
  Broker two = OpenQuiet(dir / "data");
  Append(one.CreateTopic("t").value(), 0, "a");
  REQUIRE(one.Close().ok());
  CHECK(!fs::exists(dir / "data/CLEAN"));
  REQUIRE(two.Close().ok());
  CHECK(fs::exists(dir / "data/CLEAN"));
}

TEST_CASE("Directory: without a marker everything is checked, and offsets stay dense") {
  TempDir dir;
  {
    Broker broker = OpenQuiet(dir / "data");
    Topic topic = broker.CreateTopic("t").value();
    for (const char* value : {"a", "b", "c"}) Append(topic, 0, value);
  }
  SECTION("no marker") { fs::remove(dir / "data/CLEAN"); }
  SECTION("a marker that is damaged") {
    std::string bytes = ReadAll(dir / "data/CLEAN");
    bytes[70] = static_cast<char>(bytes[70] ^ 1);
    WriteAll(dir / "data/CLEAN", bytes);
  }
  SECTION("a marker for other control files") {
    fs::copy_file(dir / "data/topics/t/control", dir / "copy");
    fs::rename(dir / "copy", dir / "data/topics/t/control");
  }
  SECTION("no marker and no control file") {
    fs::remove(dir / "data/CLEAN");
    fs::remove(dir / "data/topics/t/control");
  }
  Broker broker = OpenQuiet(dir / "data");
  CHECK(!broker.recovery_report().clean);
  CHECK(!fs::exists(dir / "data/CLEAN"));
  Partition partition = broker.OpenTopic("t").value().partition(0);
  CHECK(ValuesOf(partition) == Values{"a", "b", "c"});
  CHECK(partition.Append({.value = "d"}).ok());
  REQUIRE(broker.Close().ok());
  CHECK(OpenQuiet(dir / "data").recovery_report().clean);
}

TEST_CASE("Rule 21: the control file that an opener replaces is marked, and its doorbell rung") {
  TempDir dir;
  const auto storage = FailingStorage::Make();
  OpenQuiet(dir / "data", storage).CreateTopic("t").value();
  fs::remove(dir / "data/CLEAN");
  storage->PowerCut();  // another boot: the page is not believed
  std::ifstream old(dir / "data/topics/t/control", std::ios::binary);
  const auto word_at = [&](std::size_t position) {
    std::uint32_t word = 0;
    old.seekg(static_cast<std::streamoff>(position));
    old.read(reinterpret_cast<char*>(&word), sizeof word);
    return word;
  };
  const std::uint32_t bell = word_at(offsetof(log::ControlHeader, bell));
  CHECK(word_at(offsetof(log::ControlHeader, state)) ==
        static_cast<std::uint32_t>(log::ControlState::kReady));
  Broker broker = OpenQuiet(dir / "data", storage);
  CHECK(word_at(offsetof(log::ControlHeader, state)) ==
        static_cast<std::uint32_t>(log::ControlState::kReplaced));
  CHECK(word_at(offsetof(log::ControlHeader, bell)) != bell);
}

TEST_CASE("Rule 21: a read-only scan that a writer takes files from is made again") {
  TempDir dir;
  {
    const Topic topic = OpenQuiet(dir / "data").CreateTopic("t", {.segment_bytes = 4096}).value();
    for (int i = 0; i < 20; ++i) Append(topic, 0, std::string(1000, 'r'));
  }
  fs::remove(dir / "data/topics/t/control");
  const auto storage = std::make_shared<TellingStorage>();
  std::optional<Broker> writer;
  storage->before_open = [&](std::string_view path) {
    if (writer || !path.ends_with(".log")) return;
    writer = OpenQuiet(dir / "data");
    REQUIRE(writer->OpenTopic("t").value().partition(0).Trim(15).ok());
  };
  const Broker reader = Broker::Open(dir / "data", {.read_only = true, .storage = storage}).value();
  const Partition partition = reader.OpenTopic("t").value().partition(0);
  CHECK(partition.start_offset() == 15);
  CHECK(ValuesOf(partition).size() == 5);
}

TEST_CASE("Directory: what was left unfinished is swept by the first opener only") {
  TempDir dir;
  { OpenQuiet(dir / "data").CreateTopic("t").value(); }
  const auto litter = [&] {
    fs::create_directories(dir / "data/topics/.new-0123/0");
    WriteAll(dir / "data/topics/.new-0123/0/.next.log", "x");
    fs::create_directories(dir / "data/topics/.deleted-0123");
    WriteAll(dir / "data/.CLEAN-new", "x");
  };
  litter();
  Broker first = OpenQuiet(dir / "data");
  CHECK(NamesIn(dir / "data/topics") == std::set<std::string>{"t"});
  CHECK(!fs::exists(dir / "data/.CLEAN-new"));
  litter();
  Broker second = OpenQuiet(dir / "data");
  CHECK(NamesIn(dir / "data/topics").size() == 3);
  CHECK(first.TopicNames() == Values{"t"});
}

TEST_CASE("Directory: one damaged topic is reported and does not stop the others") {
  TempDir dir;
  {
    Broker broker = OpenQuiet(dir / "data");
    Append(broker.CreateTopic("bad").value(), 0, "a");
    Append(broker.CreateTopic("good").value(), 0, "b");
  }
  std::string config = ReadAll(dir / "data/topics/bad/config");
  SECTION("a setting") { WriteAll(dir / "data/topics/bad/config", config + "colour=red\n"); }
  SECTION("no id") { WriteAll(dir / "data/topics/bad/config", "partitions=1\n"); }
  SECTION("no folder of the partition") {
    fs::remove_all(dir / "data/topics/bad/0");
    fs::remove(dir / "data/CLEAN");
  }
  SECTION("a link in the place of the config") {
    fs::rename(dir / "data/topics/bad/config", dir / "config");
    fs::create_symlink(dir / "config", dir / "data/topics/bad/config");
  }
  Broker broker = OpenQuiet(dir / "data");
  CHECK(!broker.recovery_report().clean);
  REQUIRE(!broker.recovery_report().items.empty());
  CHECK(broker.recovery_report().items[0].where.topic == "bad");
  CHECK(ValuesOf(broker.OpenTopic("good").value().partition(0)) == Values{"b"});
  const absl::Status status = broker.OpenTopic("bad").status();
  CHECK(!status.ok());
  CHECK(!absl::IsNotFound(status));
  CHECK(absl::IsAlreadyExists(broker.CreateTopic("bad").status()));
  Broker other = OpenQuiet(dir / "data");
  CHECK(!other.OpenTopic("bad").ok());
  // The way out that needs no repair.
  CHECK(broker.DeleteTopic("bad").ToString() == "OK");
  Append(broker.CreateTopic("bad").value(), 0, "new");
  CHECK(ValuesOf(other.OpenTopic("bad").value().partition(0)) == Values{"new"});
}

// ---- A crash at any operation

// What a program was promised before it died.
struct Promised {
  std::map<std::string, std::string> topics;  // name to id, of what was made
  std::set<std::string> deleted;              // ids
  Values durable;                             // in partition 0 of "old"
};

// A day in the life of a directory. It stops at the first error, like a process that died.
void LiveThrough(const fs::path& path, const std::shared_ptr<Storage>& storage,
                 Promised& promised) {
  absl::StatusOr<Broker> broker =
      Broker::Open(path, {.background_threads = false, .storage = storage});
  if (!broker.ok()) return;
  for (const char* name : {"old", "new"}) {
    absl::StatusOr<Topic> topic =
        broker->OpenOrCreateTopic(name, {.partitions = 2, .segment_bytes = 4096});
    if (!topic.ok()) return;
    promised.topics[name] = topic->id();
  }
  Partition old = broker->OpenTopic("old").value().partition(0);
  for (int i = 0; i < 30; ++i) {
    const std::string value = absl::StrCat(old.end_offset(), std::string(200, '.'));
    const Durability durability = i % 10 == 9 ? Durability::kDurable : Durability::kPublished;
    if (!old.Append({.value = value}, {.durability = durability}).ok()) return;
    if (durability == Durability::kDurable) promised.durable = ValuesOf(old);
  }
  const std::string id = promised.topics["new"];
  promised.topics.erase("new");  // from here on it may be there or not
  if (!broker->DeleteTopic("new").ok()) return;
  promised.deleted.insert(id);
  const Values all = ValuesOf(old);
  if (broker->Close().ok()) promised.durable = all;
}

void CheckPromises(const Broker& broker, const Promised& promised) {
  const std::vector<std::string> names = broker.TopicNames();
  for (const auto& [name, id] : promised.topics) {
    const absl::StatusOr<Topic> topic = broker.OpenTopic(name);
    REQUIRE(topic.ok());
    CHECK(topic->id() == id);
  }
  for (const std::string& name : names) {
    // What is there is whole.
    const absl::StatusOr<Topic> topic = broker.OpenTopic(name);
    INFO(topic.status().ToString());
    REQUIRE(topic.ok());
    CHECK(promised.deleted.count(topic->id()) == 0);
    CHECK(topic->partition_count() == 2);
    for (int i = 0; i < 2; ++i) CHECK(topic->partition(i).Append({.value = "more"}).ok());
  }
  if (promised.durable.empty()) return;
  const Values values = ValuesOf(broker.OpenTopic("old")->partition(0));
  REQUIRE(values.size() > promised.durable.size());
  CHECK(std::equal(promised.durable.begin(), promised.durable.end(), values.begin()));
}

// Whether a sync has failed in this boot, after which no close is clean.
bool HasRetired(const Broker& broker) {
  for (const std::string& name : broker.TopicNames()) {
    const Topic topic = broker.OpenTopic(name).value();
    for (int i = 0; i < topic.partition_count(); ++i) {
      if (internal::LogOf(topic.partition(i))->block().has_retired != 0) return true;
    }
  }
  return false;
}

TEST_CASE("Directory: dying at any operation, with or without the power, keeps every promise") {
  const bool with_power_cut = GENERATE(false, true);
  const bool is_new = GENERATE(true, false);
  bool was_hit = true;
  for (int dies_at = 1; was_hit; ++dies_at) {
    CAPTURE(with_power_cut, is_new, dies_at);
    // In memory where that can be had: what reaches the disk, the storage keeps track of.
    TempDir dir(testing::FolderInMemory());
    const auto storage = FailingStorage::Make();
    Promised promised;
    if (!is_new) {
      LiveThrough(dir / "data", storage, promised);
      promised.deleted.clear();
    }
    int count = 0;
    storage->Before([&](const FailingStorage::Operation&) {
      if (++count == dies_at) storage->FailEverything();
    });
    LiveThrough(dir / "data", storage, promised);
    was_hit = count >= dies_at;
    storage->Before(nullptr);
    storage->Heal();
    if (with_power_cut) storage->PowerCut();

    absl::StatusOr<Broker> broker =
        Broker::Open(dir / "data", {.background_threads = false, .storage = storage});
    INFO(broker.status().ToString());
    REQUIRE(broker.ok());
    CheckPromises(*broker, promised);
    for (const std::string& name : NamesIn(dir / "data/topics")) CHECK(name.front() != '.');
    for (const std::string& name : NamesIn(dir / "data")) CHECK(name.front() != '.');
    const bool has_retired = HasRetired(*broker);
    CHECK(!(with_power_cut && has_retired));
    CHECK(broker->Close().ToString() == "OK");
    Broker again = OpenQuiet(dir / "data", storage);
    CHECK(again.recovery_report().clean == !has_retired);
  }
}

// ---- The files of a directory

TEST_CASE("Directory: a clean marker that is cut or has a flipped bit anywhere is none") {
  std::vector<log::CleanEntry> entries(3);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    entries[i].topic_id[0] = static_cast<std::uint8_t>(i);
    entries[i].inode = 100 + i;
    entries[i].watermarks = 7;
  }
  const std::string whole = log::EncodeCleanMarker(entries);
  CHECK(whole.size() == 64 * 4);
  CHECK(whole.substr(0, 8) == "CWCLEAN1");
  CHECK(log::DecodeCleanMarker(whole) == entries);
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    CHECK(log::DecodeCleanMarker(std::string_view(whole).substr(0, bytes)).empty());
  }
  for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const bool is_reserved = bit / 8 >= 16 && bit / 8 < 56;
    CHECK(log::DecodeCleanMarker(flipped).empty() != is_reserved);
  }
  CHECK(log::DecodeCleanMarker(log::EncodeCleanMarker({})).empty());
}

TEST_CASE("Directory: the config of a topic reads back equal, id and all") {
  log::TopicIdentity topic;
  for (std::size_t i = 0; i < 16; ++i) topic.id[i] = static_cast<std::uint8_t>(17 * i);
  topic.config = {.partitions = 7, .partitioner = "mine", .retain_for_groups = {"a", "b"}};
  const std::string text = log::FormatTopicConfig(topic);
  CHECK(text.substr(0, 42) == "topic.id=00112233445566778899aabbccddeeff\n");
  CHECK(text.back() == '\n');
  const log::TopicIdentity read = log::ParseTopicConfig(text, "config").value();
  CHECK(read.id == topic.id);
  CHECK(read.config == topic.config);
}

TEST_CASE("Directory: a config that is no good names the file and the line") {
  const std::string id = "topic.id=00112233445566778899aabbccddeeff\n";
  const auto [text, line] = GENERATE_COPY(table<std::string, int>({
      {"", 0},
      {id.substr(0, 41), 0},
      {"partitions=1\n", 1},
      {"topic.id=0011\n", 1},
      {"topic.id=0011223344556677889900112233445Z\n", 1},
      {"topic.id=00112233445566778899AABBCCDDEEFF\n", 1},
      {id + "partitions\n", 2},
      {id + "=1\n", 2},
      {id + "\n", 2},
      {id + "partitions=1\ncolour=red\n", 3},
      {id + "partitions=1\nsegment.bytes=many\n", 3},
      {id + "partitions=0\n", 2},
      {id + "partitions=1\npartitions=2\n", 3},
      {id + "backlog.bytes=5\n", 2},
  }));
  CAPTURE(text);
  const absl::Status status = log::ParseTopicConfig(text, "topics/t/config").status();
  CHECK(absl::IsDataLoss(status));
  INFO(status.ToString());
  CHECK(absl::StrContains(status.message(), "topics/t/config"));
  if (line != 0) CHECK(absl::StrContains(status.message(), absl::StrCat("line ", line, ":")));
}

}  // namespace
}  // namespace cordwood
