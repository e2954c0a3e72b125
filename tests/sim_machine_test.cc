// testing::Machine with a Broker on it: what the promises of the library are about.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"
#include "cordwood/testing.h"
#include "sim/inside.h"
#include "tests/catch.h"

namespace cordwood {
namespace {

using testing::Machine;

const TopicConfig kKept = {.segment_bytes = 64 << 10, .retention_age = absl::InfiniteDuration()};

// What a partition has, and what is missing in it.
struct Found {
  std::map<Offset, std::string> records = {};
  std::vector<Gap> gaps = {};
  Offset start = 0, end = 0;

  friend bool operator==(const Found& a, const Found& b) {
    return a.records == b.records && a.start == b.start && a.end == b.end;
  }
};

Found ReadAll(const Partition& partition) {
  Found found = {.start = partition.start_offset(), .end = partition.end_offset()};
  PartitionReader reader = partition.Read(found.start).value();
  for (const RecordView& record : reader) {
    found.records[record.offset()] = record.value().value_or("");
  }
  CHECK(reader.status().ok());
  found.gaps.assign(reader.gaps().begin(), reader.gaps().end());
  return found;
}

// A broker on a machine, with one partition that is open.
struct OneMachine {
  explicit OneMachine(std::uint64_t seed = 1) : machine(seed) { Open(); }

  void Open() {
    broker = machine.Open("/data").value();
    topic = broker.OpenOrCreateTopic("t", kKept).value();
    partition = topic.partition(0);
  }
  void Kill() {
    machine.KillProcess();
    Open();
  }
  void CutPower() {
    machine.CutPower();
    Open();
  }
  absl::StatusOr<Offset> Append(const std::string& value,
                                Durability durability = Durability::kPublished) {
    return partition.Append({.value = value}, {.durability = durability});
  }

  Machine machine;
  Broker broker;
  Topic topic;
  Partition partition;
};

// ---- The process

TEST_CASE("Machine: what was published survives its process, without a flush") {
  OneMachine m;
  for (int i = 0; i < 3; ++i) {
    for (int n = 0; n < 1000; ++n) REQUIRE(m.Append(absl::StrCat("r", i * 1000 + n)).ok());
    m.Kill();
  }
  const Found found = ReadAll(m.partition);
  CHECK(found.records.size() == 3000);
  CHECK(found.records.at(2999) == "r2999");
  CHECK(found.gaps.empty());
}

TEST_CASE("Machine: every handle of a killed process is dead") {
  OneMachine m;
  REQUIRE(m.Append("before").ok());
  Producer producer = m.broker.NewProducer().value();
  Consumer consumer = m.broker.NewConsumer({.group = "g"}).value();
  REQUIRE(consumer.Subscribe({"t"}).ok());
  REQUIRE(consumer.Poll(absl::Seconds(1)).value().size() == 1);
  const Broker broker = m.broker;
  const Topic topic = m.topic;
  const Partition partition = m.partition;
  SECTION("killed") { m.Kill(); }
  SECTION("the power was cut") {
    REQUIRE(m.partition.Flush().ok());
    m.CutPower();
  }
  const auto is_dead = [](const absl::Status& status) {
    CAPTURE(status.ToString());
    return absl::IsFailedPrecondition(status) &&
           status.message().find("killed") != absl::string_view::npos;
  };
  CHECK(is_dead(partition.Append({.value = "late"}).status()));
  CHECK(is_dead(partition.Flush()));
  CHECK(is_dead(partition.Trim(1)));
  CHECK(is_dead(partition.Read(0).status()));
  CHECK(is_dead(partition.status()));
  CHECK(is_dead(producer.Send("t", {.value = "late"}).status()));
  CHECK(is_dead(consumer.Poll(absl::ZeroDuration()).status()));
  CHECK(is_dead(consumer.Commit()));
  CHECK(is_dead(broker.OpenTopic("t").status()));
  CHECK(is_dead(broker.CreateTopic("u").status()));
  CHECK(is_dead(broker.Maintain(absl::Seconds(1))));
  CHECK(is_dead(broker.Close()));
  CHECK(ReadAll(m.partition).records.size() == 1);
}

TEST_CASE("Machine: a group goes on where it committed, in the next process") {
  OneMachine m;
  for (int i = 0; i < 10; ++i) REQUIRE(m.Append(absl::StrCat(i)).ok());
  {
    Consumer consumer = m.broker.NewConsumer({.group = "g"}).value();
    REQUIRE(consumer.Subscribe({"t"}).ok());
    REQUIRE(consumer.Poll(absl::Seconds(1)).value().size() == 10);
    REQUIRE(consumer.Commit({{{"t", 0}, 4}}, {.durability = Durability::kDurable}).ok());
    m.machine.KillProcess();
  }
  SECTION("killed") { m.Open(); }
  SECTION("and then the power was cut") { m.CutPower(); }
  Consumer consumer = m.broker.NewConsumer({.group = "g"}).value();
  REQUIRE(consumer.Subscribe({"t"}).ok());
  const RecordBatch batch = consumer.Poll(absl::Seconds(1)).value();
  REQUIRE(!batch.empty());
  CHECK(batch.begin()->offset() == 4);
}

TEST_CASE("Machine: a process that is killed in the middle of an append has published nothing") {
  OneMachine m;
  REQUIRE(m.Append("a").ok());
  for (const std::size_t bytes : {std::size_t{100}, std::size_t{8000}}) {
    CAPTURE(bytes);
    const auto killed = m.partition.AppendInPlace(bytes, {}, [&](std::span<std::byte> value) {
      std::fill(value.begin(), value.end(), std::byte{'x'});
      m.machine.KillProcess();
      return value.size();
    });
    m.Open();
    CHECK(ReadAll(m.partition).records.size() == 1);
  }
  CHECK(m.Append("b").value() == 1);
}

TEST_CASE("Machine: handles may outlive it") {
  auto machine = std::make_unique<Machine>(1);
  Broker broker = machine->Open("/data").value();
  const Topic topic = broker.CreateTopic("t", kKept).value();
  REQUIRE(topic.partition(0).Append({.value = "a"}).ok());
  machine.reset();
  CHECK(absl::IsFailedPrecondition(topic.partition(0).Append({.value = "b"}).status()));
  CHECK(absl::IsFailedPrecondition(broker.Close()));
}

// ---- The power

TEST_CASE("Machine: a power cut takes nothing that was durable, and may take the rest") {
  int lost = 0;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    OneMachine m(seed);
    for (int i = 0; i < 20; ++i) REQUIRE(m.Append(absl::StrCat("d", i)).ok());
    REQUIRE(m.Append("d20", Durability::kDurable).ok());
    for (int i = 0; i < 20; ++i) REQUIRE(m.Append(absl::StrCat("p", i)).ok());
    m.CutPower();
    const Found found = ReadAll(m.partition);
    REQUIRE(found.records.size() >= 21);
    for (int i = 0; i <= 20; ++i) CHECK(found.records.at(i) == absl::StrCat("d", i));
    if (found.records.size() < 41) {
      ++lost;
      REQUIRE(found.gaps.size() == 1);
      CHECK(found.gaps[0].reason == GapReason::kPowerLoss);
      CHECK(m.Append("new").value() >= 41);  // never used again
    }
  }
  CHECK(lost > 10);
}

TEST_CASE("Machine: a batch comes back from a power cut whole or not at all") {
  std::map<std::size_t, int> sizes;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    OneMachine m(seed);
    const std::string value(1000, 'b');
    const std::vector<Record> batch(10, Record{.value = value});
    REQUIRE(m.partition.AppendBatch(batch).ok());
    REQUIRE(m.partition.AppendBatch(batch).ok());
    m.CutPower();
    ++sizes[ReadAll(m.partition).records.size()];
  }
  CHECK(sizes[0] > 10);
  CHECK(sizes[20] > 0);
  CHECK(sizes[0] + sizes[10] + sizes[20] == 100);
}

TEST_CASE("Machine: after a sync that failed, what is confirmed is durable") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    OneMachine m(seed);
    REQUIRE(m.Append("a", Durability::kDurable).ok());
    m.machine.FailNextSync();
    const auto failed = m.Append("b", Durability::kDurable);
    const auto confirmed = m.Append("c", Durability::kDurable);
    REQUIRE(confirmed.ok());
    m.CutPower();
    Found found = ReadAll(m.partition);
    CHECK(found.records[0] == "a");
    CHECK(found.records[*confirmed] == "c");
    if (failed.ok()) CHECK(found.records[*failed] == "b");
  }
}

TEST_CASE("Machine: a trim that said OK stays, also after a sync of it that failed") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    OneMachine m(seed);
    for (int i = 0; i < 10; ++i) REQUIRE(m.Append(absl::StrCat(i), Durability::kDurable).ok());
    REQUIRE(m.partition.Trim(2).ok());
    m.machine.FailNextSync();
    const Offset first = m.partition.Trim(4).ok() ? 4 : 2;
    if (seed % 2 == 0) m.Kill();
    const Offset shown = m.partition.start_offset();
    CHECK(shown >= first);
    if (seed % 3 == 0) REQUIRE(m.partition.Trim(6).ok());
    m.CutPower();
    CHECK(m.partition.start_offset() >= shown);
    if (seed % 3 == 0) CHECK(m.partition.start_offset() == 6);
  }
}

TEST_CASE("Machine: a start that was seen once is never taken back, wherever a trim was killed") {
  const bool has_file = GENERATE(false, true);
  bool got_through = false;
  for (int nth = 1; !got_through; ++nth) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(has_file, nth, seed);
      int left = 0;  // for longer than the machine
      OneMachine m(seed);
      for (int i = 0; i < 10; ++i) REQUIRE(m.Append(absl::StrCat(i), Durability::kDurable).ok());
      if (has_file) REQUIRE(m.partition.Trim(2).ok());
      left = nth;
      testing::Inside::DiskOf(m.machine).Before([&] {
        if (left > 0 && --left == 0) m.machine.KillProcess();
      });
      got_through = m.partition.Trim(4).ok() && left > 0;
      left = 0;
      m.Kill();
      const Offset shown = m.partition.start_offset();
      m.CutPower();
      CHECK(m.partition.start_offset() >= shown);
    }
  }
}

TEST_CASE("Machine: a roll that was cut off loses nothing that was durable") {
  bool got_through = false;
  for (int nth = 1; !got_through; ++nth) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(nth, seed);
      int left = 0;  // for longer than the machine
      OneMachine m(seed);
      const std::string value(1000, 'v');
      Offset end = 0;
      // The next one does not fit.
      for (; end < 61; ++end) REQUIRE(m.Append(value, Durability::kDurable).ok());
      left = nth;
      testing::Inside::DiskOf(m.machine).Before([&] {
        if (left > 0 && --left == 0) m.machine.CutPower();
      });
      const absl::StatusOr<Offset> appended = m.Append(value, Durability::kDurable);
      got_through = appended.ok() && left > 0;
      left = 0;
      if (appended.ok() && got_through) ++end;
      m.CutPower();
      const Found found = ReadAll(m.partition);
      REQUIRE(found.records.size() >= static_cast<std::size_t>(end));
      CHECK(found.records.lower_bound(end - 1)->first == end - 1);
    }
  }
}

TEST_CASE("Machine: what a roll that was killed has left costs no record when the log is trimmed") {
  bool got_through = false;
  for (int nth = 1; !got_through; ++nth) {
    CAPTURE(nth);
    int left = 0;  // for longer than the machine
    OneMachine m;
    const std::string value(1000, 'v');
    Offset end = 0;
    for (; end < 61; ++end) REQUIRE(m.Append(value).ok());  // the next one does not fit
    left = nth;
    testing::Inside::DiskOf(m.machine).Before([&] {
      if (left > 0 && --left == 0) m.machine.KillProcess();
    });
    got_through = m.Append(value).ok() && left > 0;
    left = 0;
    m.Kill();
    end = m.Append("short").value();
    for (int i = 0; i < 3; ++i) REQUIRE(m.Append(value).ok());
    REQUIRE(m.partition.Trim(end).ok());
    const Found found = ReadAll(m.partition);
    CHECK(found.records.size() == 4);
    CHECK(found.gaps.empty());
    // Nor by the recovery after that.
    REQUIRE(m.partition.Flush().ok());
    m.CutPower();
    CHECK(ReadAll(m.partition).records == found.records);
  }
}

// ---- Damage, space, time

TEST_CASE("Machine: a flipped bit costs the record that it hit, and is told") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    OneMachine m(seed);
    for (int i = 0; i < 10; ++i) REQUIRE(m.Append(absl::StrCat("record ", i)).ok());
    REQUIRE(m.partition.Flush().ok());
    // It carries that the others are durable: else, after a power cut, the damage would be taken
    // for the torn end of the log (RELIABILITY 2d).
    REQUIRE(m.Append("record 10", Durability::kDurable).ok());
    REQUIRE(m.machine.FlipBit({"t", 0}, 4).ok());
    if (seed % 2 == 0) m.CutPower();
    const Found found = ReadAll(m.partition);
    CHECK(found.records.size() == 10);
    CHECK(found.records.count(4) == 0);
    REQUIRE(!found.gaps.empty());  // the power cut may add one, behind the records
    CHECK(found.gaps[0].reason == GapReason::kDamage);
    CHECK(found.gaps[0].from == 4);
    CHECK(found.gaps[0].to == 5);
  }
}

TEST_CASE("Machine: a bit of a record that is not there cannot flip") {
  Machine machine(1);
  CHECK(absl::IsNotFound(machine.FlipBit({"t", 0}, 0)));
  OneMachine m;
  REQUIRE(m.Append("a").ok());
  CHECK(absl::IsNotFound(m.machine.FlipBit({"t", 0}, 1)));
  CHECK(absl::IsNotFound(m.machine.FlipBit({"t", 1}, 0)));
  CHECK(absl::IsNotFound(m.machine.FlipBit({"u", 0}, 0)));
  CHECK(m.machine.FlipBit({"t", 0}, 0).ok());
}

TEST_CASE("Machine: a full disk is an error, and loses nothing") {
  OneMachine m;
  m.machine.SetFreeBytes(1 << 20);
  const std::string value(1000, 'v');
  absl::StatusOr<Offset> appended;
  Offset end = 0;
  while ((appended = m.Append(value)).ok()) ++end;
  CHECK(end > 500);
  CHECK(absl::IsResourceExhausted(appended.status()));
  CHECK(ReasonOf(appended.status()) == Reason::kDiskFull);
  m.CutPower();
  CHECK(m.partition.durable_offset() >= 0);
  m.machine.SetFreeBytes(10 << 20);
  REQUIRE(m.broker.Maintain(absl::Seconds(1)).ok());
  CHECK(m.Append(value, Durability::kDurable).ok());
}

TEST_CASE("Machine: its clock is the broker's, and Maintain does the work of the background") {
  Machine machine(1);
  const Broker broker = machine.Open("/data").value();
  const Topic topic =
      broker.CreateTopic("t", {.segment_bytes = 16 << 10, .retention_age = absl::Hours(24)})
          .value();
  const std::string value(1000, 'v');
  for (int i = 0; i < 100; ++i) REQUIRE(topic.partition(0).Append({.value = value}).ok());
  CHECK(topic.partition(0).durable_offset() < 100);
  REQUIRE(broker.Maintain(absl::Seconds(1)).ok());
  CHECK(topic.partition(0).durable_offset() == 100);
  CHECK(topic.partition(0).start_offset() == 0);
  machine.AdvanceClock(absl::Hours(25));
  REQUIRE(broker.Maintain(absl::Seconds(1)).ok());
  CHECK(topic.partition(0).start_offset() > 50);
}

// ---- Seeds

// What is left after a course of everything, with that seed.
std::vector<Found> Course(std::uint64_t seed) {
  OneMachine m(seed);
  std::vector<Found> course;
  for (int life = 0; life < 10; ++life) {
    for (int i = 0; i < 30; ++i) {
      const std::string value(static_cast<std::size_t>(100 + i * 50), 'v');
      if (i == 7 && life % 3 == 1) m.machine.FailNextSync();
      m.Append(value, i % 8 == 0 ? Durability::kDurable : Durability::kPublished)
          .status()
          .IgnoreError();
    }
    m.machine.AdvanceClock(absl::Hours(1));
    if (life % 4 == 3) {
      m.Kill();
    } else {
      m.CutPower();
    }
    course.push_back(ReadAll(m.partition));
  }
  return course;
}

TEST_CASE("Machine: the same seed is the same course, and another one another") {
  CHECK(Machine(4711).seed() == 4711);
  int different = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    const std::vector<Found> course = Course(seed);
    CHECK(course == Course(seed));
    different += course != Course(seed + 100);
  }
  CHECK(different > 5);
}

}  // namespace
}  // namespace cordwood
