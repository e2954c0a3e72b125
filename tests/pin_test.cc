// Pins, and who holds what of a topic.

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/cordwood.h"
#include "cordwood/log/pins.h"
#include "cordwood/log/retention.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/folder_decorator.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using testing::FailingStorage;
using testing::TellingStorage;
using testing::TempDir;

const TopicConfig kSmall = {.segment_bytes = 4096, .retention_bytes = 8192};

// A directory whose clock the test moves, and a topic with 500 records in partition 0, about
// 30 a segment. Its retention has not begun.
struct World {
  explicit World(const TopicConfig& config = kSmall)
      : broker(Open()), topic(broker.CreateTopic("events", Endless(config)).value()) {
    log = topic.partition(0);
    Append(500);
    REQUIRE(
        broker
            .AlterTopic("events", {{"retention.bytes", absl::StrCat(config.retention_bytes)},
                                   {"retention.records", absl::StrCat(config.retention_records)}})
            .ok());
  }

  static TopicConfig Endless(TopicConfig config) {
    config.retention_bytes = config.retention_records = kUnlimited;
    return config;
  }
  Broker Open(bool read_only = false) const {
    return Broker::Open(dir.path() / "data", {.read_only = read_only,
                                              .flush_interval = absl::InfiniteDuration(),
                                              .background_threads = false,
                                              .storage = disk})
        .value();
  }
  void Append(int records) const {
    for (int i = 0; i < records; ++i) REQUIRE(log.Append({.value = std::string(100, 'v')}).ok());
  }
  void Maintain() const { REQUIRE(broker.Maintain(absl::Seconds(30)).ok()); }
  // Where retention puts the start now.
  Offset Retain() const {
    Maintain();
    return log.start_offset();
  }
  void Commit(Offset next) const {
    Consumer consumer = broker.NewConsumer({.group = "uplink"}).value();
    REQUIRE(consumer.Assign({{"events", 0}}).ok());
    REQUIRE(consumer.Commit({{{"events", 0}, next}}).ok());
  }
  std::vector<RetentionHold> Holds() const { return broker.DescribeHolds("events").value(); }
  std::filesystem::path Path(const char* name) const {
    return dir.path() / "data/topics/events" / name;
  }

  TempDir dir;
  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  Broker broker;
  Topic topic;
  Partition log;
};

// ---- What it holds

TEST_CASE("Pin: retention gives up nothing at or above it, whatever age, bytes and records say") {
  const World world({.segment_bytes = 4096,
                     .retention_age = absl::Hours(1),
                     .retention_bytes = 4096,
                     .retention_records = 1});
  const Pin pin = world.log.Pin(200).value();
  world.disk->Advance(absl::Hours(24));
  const Offset start = world.Retain();
  CHECK(start > 150);  // by whole segments
  CHECK(start <= 200);
  PartitionReader reader = world.log.Read(200).value();
  Offset next = 200;
  for (const RecordView& record : reader) CHECK(record.offset() == next++);
  CHECK(next == 500);
  CHECK(reader.gaps().empty());
}

TEST_CASE("Pin: the active segment stays open where it holds a part of it, however old it is") {
  const World world({.retention_age = absl::Hours(1)});
  std::optional<Pin> pin = world.log.Pin(499).value();
  world.disk->Advance(absl::Hours(24));
  CHECK(world.Retain() == 0);
  CHECK(!std::filesystem::exists(world.Path("0/00000000000000000500.log")));
  pin.reset();
  CHECK(world.Retain() == 500);
}

TEST_CASE("Pin: the lowest one counts, and each lets go when it is destroyed") {
  const World world;
  std::optional<Pin> low = world.log.Pin(0).value();
  std::optional<Pin> high = world.log.Pin(300).value();
  CHECK(world.Retain() == 0);
  low.reset();
  const Offset start = world.Retain();
  CHECK(start > 250);
  CHECK(start <= 300);
  high.reset();
  CHECK(world.Retain() > 400);
}

TEST_CASE("Pin: moved forward it lets go of what is below, and it never goes back") {
  const World world;
  Pin pin = world.log.Pin(0).value();
  REQUIRE(pin.Move(300).ok());
  CHECK(pin.offset() == 300);
  CHECK(absl::IsInvalidArgument(pin.Move(299)));
  CHECK(absl::IsOutOfRange(pin.Move(501)));
  CHECK(pin.Move(300).ok());
  const Offset start = world.Retain();
  CHECK(start > 250);
  CHECK(start <= 300);
  REQUIRE(pin.Move(500).ok());
  CHECK(world.Retain() > 400);
}

TEST_CASE("Pin: at the end it holds what is appended later") {
  const World world;
  const Pin pin = world.log.Pin(500).value();
  world.Append(500);
  CHECK(world.Retain() > 450);
  CHECK(world.log.start_offset() <= 500);
}

TEST_CASE("Pin: one of another partition or topic holds nothing here") {
  const World world({.partitions = 2, .segment_bytes = 4096, .retention_bytes = 8192});
  const Pin beside = world.topic.partition(1).Pin(0).value();
  const Topic other = world.broker.CreateTopic("other").value();
  const Pin elsewhere = other.partition(0).Pin(0).value();
  CHECK(world.Retain() > 400);
}

TEST_CASE("Pin: the limit of what groups hold is not one of what it holds") {
  const World world({.segment_bytes = 4096,
                     .retention_bytes = 4096,
                     .retain_for_groups = {"uplink"},
                     .retain_for_groups_bytes = 8192});
  const Pin pin = world.log.Pin(100).value();
  world.Maintain();
  CHECK(world.log.start_offset() > 60);
  CHECK(world.log.start_offset() <= 100);
}

TEST_CASE("Pin: a trim and a full backlog that drops go past it") {
  const World world({.segment_bytes = 4096,
                     .retain_for_groups = {"uplink"},
                     .backlog_bytes = 128 << 10,
                     .backlog_policy = BacklogPolicy::kDropOldest});
  Pin pin = world.log.Pin(0).value();
  world.Append(1000);
  const Offset dropped_to = world.log.start_offset();
  CHECK(dropped_to > 0);
  REQUIRE(world.log.Trim(1400).ok());
  CHECK(world.log.start_offset() == 1400);
  CHECK(pin.offset() == 0);
  CHECK(pin.Move(1450).ok());
}

TEST_CASE("Pin: where a segment could not be read, the start does not pass it in the hole") {
  const std::vector<log::SegmentFacts> facts = {{.base = 0, .next = 40, .bytes = 100},
                                                {.base = 60, .next = 80, .bytes = 100}};
  CHECK(log::RetainFrom(facts, {.bytes = 1}, 0) == 60);
  CHECK(log::RetainFrom(facts, {.bytes = 1, .pinned_from = 50}, 0) == 50);
  CHECK(log::RetainFrom(facts, {.bytes = 1, .pinned_from = 39}, 0) == 0);
}

// ---- How long

TEST_CASE("Pin: a move takes it along, and lets go of what was there") {
  const World world;
  Pin pin = world.log.Pin(0, "first").value();
  pin = world.log.Pin(300, "second").value();
  REQUIRE(world.Holds().size() == 1);
  CHECK(world.Holds()[0].name == "second");
  const Pin taken = std::move(pin);
  CHECK(taken.status().ok());
  CHECK(taken.offset() == 300);
  CHECK(absl::IsFailedPrecondition(Pin().status()));
  CHECK(absl::IsFailedPrecondition(Pin().Move(1)));
  CHECK(world.Retain() <= 300);
}

TEST_CASE("Pin: it is released by Close, also where the handle stays and others go on") {
  const World world;
  const Broker second = world.Open();
  Pin pin = second.OpenTopic("events").value().partition(0).Pin(0).value();
  CHECK(world.Retain() == 0);
  REQUIRE(second.Close().ok());
  CHECK(world.Retain() > 400);
  CHECK(absl::IsFailedPrecondition(pin.status()));
  CHECK(absl::IsFailedPrecondition(pin.Move(400)));
  CHECK(pin.offset() == 0);
  // Its slot is another's by now, whom the old handle must not harm.
  const Pin next = world.log.Pin(world.log.start_offset()).value();
  pin = Pin();
  CHECK(world.Holds().size() == 1);
}

TEST_CASE("Pin: it keeps the directory open, as every handle") {
  World world;
  const Pin pin = world.log.Pin(0).value();
  world.log = {};
  world.topic = {};
  world.broker = {};
  CHECK(pin.status().ok());
  const Broker second = world.Open();
  REQUIRE(second.Maintain(absl::Seconds(30)).ok());
  CHECK(second.OpenTopic("events").value().partition(0).start_offset() == 0);
}

TEST_CASE("Pin: the first opener removes what a power cut has left of them") {
  World world;
  {
    const Pin pin = world.log.Pin(0).value();
    CHECK(std::filesystem::file_size(world.Path("pins")) == 64 << 10);
  }
  std::filesystem::copy(world.Path("pins"), world.Path("../kept"));
  world.log = {};
  world.topic = {};
  world.broker = {};
  std::filesystem::rename(world.Path("../kept"), world.Path("pins"));
  std::filesystem::copy(world.Path("pins"), world.Path(".pins-new"));
  world.broker = world.Open();
  CHECK(!std::filesystem::exists(world.Path("pins")));
  CHECK(!std::filesystem::exists(world.Path(".pins-new")));
}

TEST_CASE("Pin: a deleted topic takes it along, and a new one of that name is not held") {
  World world;
  const Pin pin = world.log.Pin(0).value();
  REQUIRE(world.broker.DeleteTopic("events").ok());
  CHECK(absl::IsNotFound(pin.status()));
  CHECK(absl::IsNotFound(world.log.Pin(0).status()));
  world.log = world.broker.CreateTopic("events", kSmall).value().partition(0);
  world.Append(500);
  CHECK(world.Holds().empty());
  CHECK(world.Retain() > 400);
}

// ---- What goes wrong

TEST_CASE("Pin: outside of what is there, and what makes no sense, is refused in words") {
  const World world;
  const Offset start = world.Retain();
  REQUIRE(start > 0);
  const absl::Status below = world.log.Pin(start - 1).status();
  CHECK(absl::IsOutOfRange(below));
  CHECK(OffsetOf(below) == start - 1);
  CHECK(absl::IsOutOfRange(world.log.Pin(501).status()));
  CHECK(absl::IsOutOfRange(world.log.Pin(-1).status()));
  CHECK(absl::IsInvalidArgument(world.log.Pin(start, std::string(81, 'w')).status()));
  CHECK(absl::IsInvalidArgument(world.log.Pin(start, std::string_view("a\0b", 3)).status()));
  CHECK(absl::IsFailedPrecondition(Partition().Pin(0).status()));
  CHECK(world.Holds().empty());
  CHECK(world.log.Pin(start, std::string(80, 'w')).ok());
}

TEST_CASE("Pin: a start that moves while it waits for its turn is looked at again") {
  TempDir dir;
  const auto storage = std::make_shared<TellingStorage>();
  const Broker broker =
      Broker::Open(dir / "data", {.background_threads = false, .storage = storage}).value();
  const Partition log = broker.CreateTopic("events").value().partition(0);
  for (int i = 0; i < 10; ++i) REQUIRE(log.Append({.value = "v"}).ok());
  // As the retention of another process would, which has the lock. It is a byte of that file.
  storage->before_open = [&](std::string_view path) {
    if (path == "topics/events/control") internal::LogOf(log)->block().start.store(5);
  };
  CHECK(absl::IsOutOfRange(log.Pin(0).status()));
  storage->before_open = nullptr;
  CHECK(broker.DescribeHolds("events").value().empty());
  CHECK(log.Pin(5).ok());
}

TEST_CASE("Pin: a topic that is deleted while it waits has none, nor has a new one of its name") {
  TempDir dir;
  const auto storage = std::make_shared<TellingStorage>();
  const Broker broker =
      Broker::Open(dir / "data", {.background_threads = false, .storage = storage}).value();
  const Partition log = broker.CreateTopic("events").value().partition(0);
  storage->before_open = [&](std::string_view path) {
    if (path != "topics/events/control") return;  // to take its lock
    storage->before_open = nullptr;
    REQUIRE(broker.DeleteTopic("events").ok());
    REQUIRE(broker.CreateTopic("events").ok());
  };
  CHECK(absl::IsNotFound(log.Pin(0).status()));
  CHECK(!std::filesystem::exists(dir / "data/topics/events/pins"));
  CHECK(broker.OpenTopic("events").value().partition(0).Pin(0).ok());
}

TEST_CASE("Pin: one that is made while retention is at it counts") {
  const World world({.retention_age = absl::Hours(1)});
  world.disk->Advance(absl::Hours(24));
  std::optional<Pin> pin;
  // Retention makes the next segment, as the old one is to go, and has looked at the pins.
  world.disk->Before([&](const FailingStorage::Operation& operation) {
    if (pin || operation.op != FailingStorage::Op::kCreate) return;
    pin.emplace();
    pin = world.log.Pin(100).value();
  });
  CHECK(world.Retain() == 0);
  world.disk->Before(nullptr);
  REQUIRE(pin.has_value());
  pin.reset();
  CHECK(world.Retain() == 500);
}

TEST_CASE("Pin: when all slots are taken it says so, and one that is released is used again") {
  const World world;
  std::vector<Pin> pins;
  for (std::uint32_t i = 0; i < log::PinsHeader::kSlots; ++i) {
    pins.push_back(world.log.Pin(i % 500).value());
  }
  CHECK(absl::IsResourceExhausted(world.log.Pin(0).status()));
  CHECK(world.Holds().size() == pins.size());
  pins[7] = Pin();
  CHECK(world.log.Pin(400, "again").ok());
}

TEST_CASE("Pin: on a full disk it says so, and the next one finds nothing half made") {
  const World world;
  world.disk->Fail({.op = FailingStorage::Op::kAllocate,
                    .status = absl::ResourceExhaustedError("ENOSPC"),
                    .where = "pins"});
  CHECK(absl::IsResourceExhausted(world.log.Pin(0).status()));
  CHECK(!std::filesystem::exists(world.Path("pins")));
  CHECK(world.Retain() > 400);
  CHECK(world.log.Pin(world.log.start_offset()).ok());
}

TEST_CASE("Pin: while the file is damaged, nothing goes") {
  const World world;
  { const Pin pin = world.log.Pin(0).value(); }
  std::filesystem::resize_file(world.Path("pins"), 4096);
  CHECK(world.Retain() == 0);
  CHECK(absl::IsDataLoss(world.log.Pin(0).status()));
  CHECK(absl::IsDataLoss(world.broker.DescribeHolds("events").status()));
}

TEST_CASE("Pin: threads that pin, read and move never miss a record that they hold") {
  const World world;
  std::atomic<int> held{0}, wrong{0};
  std::vector<std::jthread> holders;
  for (int t = 0; t < 3; ++t) {
    holders.emplace_back([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        absl::StatusOr<Pin> pin = world.log.Pin(world.log.start_offset());
        wrong += !pin.ok() && !absl::IsOutOfRange(pin.status());
        if (!pin.ok()) continue;
        ++held;
        for (int step = 0; step < 3; ++step) {
          const Offset from = pin->offset();
          absl::StatusOr<PartitionReader> reader = world.log.Read(from);
          wrong += !reader.ok() || reader->begin()->offset() != from || !reader->gaps().empty();
          wrong += !pin->Move(from + 10).ok();
        }
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    world.Append(50);
    world.Maintain();
  }
  for (std::jthread& holder : holders) holder.request_stop();
  holders.clear();  // joins
  CHECK(held > 0);
  CHECK(wrong == 0);
  CHECK(world.Holds().empty());
  CHECK(world.Retain() > 2500);
}

// ---- Who holds what

TEST_CASE("DescribeHolds: groups and pins, by partition, with bytes, names and times") {
  const World world({.partitions = 2, .segment_bytes = 4096, .retain_for_groups = {"uplink", "x"}});
  world.Commit(300);
  world.disk->Advance(absl::Hours(1));
  const absl::Time made = absl::FromUnixNanos(world.disk->NowNanos());
  const Pin pin = world.log.Pin(400, "backup of tonight").value();
  const Pin beside = world.topic.partition(1).Pin(0).value();
  const std::vector<RetentionHold> holds = world.Holds();
  REQUIRE(holds.size() == 6);

  CHECK(holds[0].name == "x");  // it is not there, so it holds everything
  CHECK(!holds[0].is_there);
  CHECK(holds[0].offset == 0);
  CHECK(holds[1].name == "uplink");
  CHECK(holds[1].kind == RetentionHold::Kind::kGroup);
  CHECK(holds[1].is_there);
  CHECK(holds[1].offset == 300);
  CHECK(holds[1].since == world.log.Read(300).value().begin()->timestamp());
  CHECK(holds[2].kind == RetentionHold::Kind::kPin);
  CHECK(holds[2].name == "backup of tonight");
  CHECK(holds[2].offset == 400);
  CHECK(holds[2].pid == getpid());
  CHECK(holds[2].since >= made);
  CHECK(holds[2].since < made + absl::Minutes(10));
  // Frames of about 150 bytes, to within an index interval.
  CHECK(holds[1].bytes > holds[2].bytes);
  CHECK(holds[2].bytes >= 100 * 132);
  CHECK(holds[2].bytes <= 100 * 152 + 2 * 4096);
  CHECK(holds[3].partition == 1);
  CHECK(holds[5].bytes == 0);
  CHECK(holds[3].since == absl::InfinitePast());
}

TEST_CASE("DescribeHolds: a read-only open sees the pins, and none once nobody is there") {
  World world;
  CHECK(absl::IsNotFound(world.broker.DescribeHolds("none").status()));
  Pin pin = world.log.Pin(400, "bridge").value();
  const Broker reader = world.Open(true);
  REQUIRE(reader.DescribeHolds("events").value().size() == 1);
  CHECK(reader.DescribeHolds("events").value()[0].name == "bridge");
  CHECK(absl::IsFailedPrecondition(
      reader.OpenTopic("events").value().partition(0).Pin(400).status()));
  pin = Pin();
  CHECK(reader.DescribeHolds("events").value().empty());
}

}  // namespace
}  // namespace cordwood
