// A full disk, and one that is nearly full.

#include "cordwood/log/reserve.h"

#include <filesystem>
#include <string>
#include <vector>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/folder_decorator.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using testing::FailingStorage;
using testing::StorageWithFileSystem;
using testing::TempDir;

absl::Status DiskFull() {
  absl::Status full = absl::ResourceExhaustedError("made to be full");
  full.SetPayload(os::kReasonUrl, absl::Cord(os::kDiskFull));
  return full;
}

struct World {
  World() : broker(Open()), log(broker.CreateTopic("events").value().partition(0)) {
    REQUIRE(log.Append({.value = "first"}).ok());
  }
  Broker Open() const {
    return Broker::Open(dir.path() / "data",
                        {.background_threads = false, .storage = disk, .reserve_bytes = 64 << 10})
        .value();
  }
  std::uintmax_t ReserveBytes() const {
    return std::filesystem::file_size(dir.path() / "data/reserve");
  }
  // The next so many times that a file needs blocks there are none.
  void FillDisk(int times) const {
    disk->Fail({.op = FailingStorage::Op::kAllocate, .status = DiskFull(), .times = times});
  }
  DiskSpace Disk() const { return broker.DescribeDisk().value(); }

  TempDir dir;
  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  Broker broker;
  Partition log;
};

TEST_CASE("Reserve: a directory keeps some room on its disk") {
  const World world;
  CHECK(world.ReserveBytes() == 64 << 10);
  CHECK(world.Disk().reserve_bytes == 64 << 10);
  CHECK(!world.Disk().reserve_is_spent);
  CHECK(world.broker.CheckDisk().ok());
}

TEST_CASE("Reserve: who opens it later leaves it as large as it is, or does without") {
  const World world;
  const Broker larger = Broker::Open(world.dir.path() / "data", {.storage = world.disk}).value();
  CHECK(larger.DescribeDisk().value().reserve_bytes == 64 << 10);
  const Broker none =
      Broker::Open(world.dir.path() / "data", {.storage = world.disk, .reserve_bytes = 0}).value();
  CHECK(none.DescribeDisk().value().reserve_bytes == 0);
  CHECK(absl::IsInvalidArgument(
      Broker::Open(world.dir.path() / "data", {.reserve_bytes = -1}).status()));
}

TEST_CASE("Reserve: on a full disk a new group still commits, and a log is still trimmed") {
  const World world;
  world.FillDisk(1);
  SECTION("commits") {
    Consumer consumer = world.broker.NewConsumer({.group = "billing"}).value();
    REQUIRE(consumer.Assign({{"events", 0}}).ok());
    REQUIRE(consumer.Commit({{{"events", 0}, 1}}, {.durability = Durability::kDurable}).ok());
    CHECK(consumer.committed({"events", 0}).value() == 1);
  }
  SECTION("trims") {
    REQUIRE(world.log.Trim(1).ok());
    CHECK(world.log.start_offset() == 1);
  }
  CHECK(world.Disk().reserve_is_spent);
}

TEST_CASE("Reserve: what it gave up is not for records, and with room again all goes on") {
  const World world;
  world.FillDisk(1);
  REQUIRE(world.log.Trim(1).ok());
  REQUIRE(world.Disk().reserve_is_spent);
  world.disk->Fail({.op = FailingStorage::Op::kAllocate,
                    .status = DiskFull(),
                    .times = FailingStorage::kAlways,
                    .where = "reserve"});
  const absl::Status full = world.log.Append({.value = std::string(100'000, 'v')}).status();
  CHECK(absl::IsResourceExhausted(full));
  CHECK(ReasonOf(full) == Reason::kDiskFull);
  CHECK(ReasonOf(world.broker.CheckDisk()) == Reason::kDiskFull);
  // In another process, too.
  const Broker other = world.Open();
  CHECK(ReasonOf(other.CheckDisk()) == Reason::kDiskFull);
  world.disk->Heal();
  CHECK(world.log.Append({.value = std::string(100'000, 'v')}).value() == 1);
  CHECK(!world.Disk().reserve_is_spent);
  CHECK(other.CheckDisk().ok());
}

TEST_CASE("Reserve: retention makes room on a full disk") {
  TempDir dir;
  const std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  const Broker broker =
      Broker::Open(dir.path() / "data", {.background_threads = false, .storage = disk}).value();
  const Partition log = broker.CreateTopic("events").value().partition(0);
  for (int i = 0; i < 100; ++i) REQUIRE(log.Append({.value = "v"}).ok());
  disk->Advance(absl::Hours(8 * 24));
  disk->Fail({.op = FailingStorage::Op::kAllocate, .status = DiskFull(), .times = 1});
  REQUIRE(broker.Maintain(absl::Seconds(10)).ok());
  CHECK(log.start_offset() == 100);
}

TEST_CASE("Retention: on a full disk without a reserve what is sealed goes all the same") {
  TempDir dir;
  const std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  const Broker broker =
      Broker::Open(dir.path() / "data",
                   {.background_threads = false, .storage = disk, .reserve_bytes = 0})
          .value();
  const Partition log =
      broker.CreateTopic("events", {.segment_bytes = 1 << 20}).value().partition(0);
  const std::string value(100'000, 'v');
  for (int i = 0; i < 15; ++i) REQUIRE(log.Append({.value = value}).ok());
  const Offset sealed_to = 10;  // ten are in the first segment
  disk->Advance(absl::Hours(8 * 24));
  // Too full for a segment.
  disk->Fail({.op = FailingStorage::Op::kAllocate,
              .status = DiskFull(),
              .times = FailingStorage::kAlways,
              .where = ".log"});
  CHECK(ReasonOf(internal::LogOf(log)->Retain()) == Reason::kDiskFull);
  CHECK(log.start_offset() == sealed_to);
  disk->Heal();
  REQUIRE(broker.Maintain(absl::Seconds(10)).ok());
  CHECK(log.start_offset() == 15);
}

TEST_CASE("Reserve: a disk that has no room for it is opened without") {
  TempDir dir;
  const std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  disk->Fail({.op = FailingStorage::Op::kAllocate,
              .status = DiskFull(),
              .times = FailingStorage::kAlways,
              .where = "reserve"});
  const absl::StatusOr<Broker> broker = Broker::Open(dir.path() / "data", {.storage = disk});
  REQUIRE(broker.ok());
  CHECK(broker->DescribeDisk().value().reserve_bytes == 0);
}

TEST_CASE("Reserve: a nearly full disk is told of, once, before it is full") {
  TempDir dir;
  std::vector<std::int64_t> told;
  const Broker broker =
      Broker::Open(dir.path() / "data",
                   {.background_threads = false,
                    .storage = std::make_shared<StorageWithFileSystem>(
                        os::FileSystemInfo{.name = "ext4", .free_bytes = 50 << 20}),
                    .on_low_disk = [&](std::int64_t free_bytes) { told.push_back(free_bytes); }})
          .value();
  REQUIRE(broker.Maintain(absl::Seconds(10)).ok());
  REQUIRE(broker.Maintain(absl::Seconds(10)).ok());
  CHECK(told == std::vector<std::int64_t>{50 << 20});
  CHECK(ReasonOf(broker.CheckDisk()) == Reason::kDiskLow);
  CHECK(broker.DescribeDisk().value().is_low);
}

}  // namespace
}  // namespace cordwood
