// Pins of processes that are killed and stopped at any moment, and retention beside them.

#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"
#include "cordwood/log/pins.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/child.h"
#include "tests/support/environment.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

namespace fs = std::filesystem;
using testing::Child;
using testing::FailingStorage;
using testing::OpenQuiet;
using testing::TempDir;

// One open of the directory, and a topic of which retention, once it is bounded, leaves the last
// 60 records or so.
struct Here {
  explicit Here(const fs::path& data, std::shared_ptr<Storage> storage = nullptr)
      : broker(OpenQuiet(data, std::move(storage))),
        log(broker.OpenOrCreateTopic("t", {.segment_bytes = 4096}).value().partition(0)) {}
  void Bound() const { broker.AlterTopic("t", {{"retention.bytes", "8192"}}).IgnoreError(); }
  void Append(int records) const {
    for (int i = 0; i < records; ++i) {
      log.Append({.value = absl::StrCat(i, std::string(100, 'v'))}).value();
    }
  }
  // Where retention puts the start now.
  Offset Retain() const {
    broker.Maintain(absl::Seconds(30)).IgnoreError();
    return log.start_offset();
  }
  std::vector<RetentionHold> Holds() const { return broker.DescribeHolds("t").value(); }

  Broker broker;
  Partition log;
};

TEST_CASE("Pin: that of a stopped process stays, and that of a killed one is gone at once") {
  TempDir dir;
  Child holder([&](Child& parent) {
    parent.Wait();
    const Here here(dir / "data");
    const Pin pin = here.log.Pin(100, "backup").value();
    parent.Tell(1);
    parent.Wait();
  });
  const Here here(dir / "data");
  here.Append(500);
  here.Bound();
  holder.Tell(1);
  REQUIRE(holder.Wait() == 1);
  holder.Stop();
  const Offset start = here.Retain();
  CHECK(start > 0);
  CHECK(start <= 100);
  REQUIRE(here.Holds().size() == 1);
  CHECK(here.Holds()[0].pid == holder.pid());
  CHECK(here.Holds()[0].name == "backup");
  holder.Kill();
  CHECK(here.Holds().empty());
  CHECK(here.Retain() > 400);
}

TEST_CASE("Pin: the slots of a killed process are others', and none of them is lost") {
  TempDir dir;
  Child holder([&](Child& parent) {
    const Here here(dir / "data");
    here.Append(1);
    std::vector<Pin> pins;
    for (std::uint32_t i = 0; i < log::PinsHeader::kSlots; ++i) {
      pins.push_back(here.log.Pin(0).value());
    }
    parent.Tell(1);
    parent.Wait();
  });
  REQUIRE(holder.Wait() == 1);
  const Here here(dir / "data");
  CHECK(absl::IsResourceExhausted(here.log.Pin(0).status()));
  holder.Kill();
  std::vector<Pin> pins;
  for (std::uint32_t i = 0; i < log::PinsHeader::kSlots; ++i) {
    pins.push_back(here.log.Pin(0).value());
  }
  CHECK(here.Holds().size() == pins.size());
  CHECK(absl::IsResourceExhausted(here.log.Pin(0).status()));
}

TEST_CASE("Pin: a process that is killed at any step of making the first one harms nobody") {
  bool is_whole = false;
  int step = 1;
  for (; !is_whole; ++step) {
    INFO("step " << step);
    TempDir dir;
    Child making([&](Child& parent) {
      const auto storage = FailingStorage::Make();
      const Here here(dir / "data", storage);
      here.Append(500);
      here.Bound();
      parent.Tell(1);
      parent.Wait();
      storage->DieBefore(step);
      const absl::StatusOr<Pin> pin = here.log.Pin(0);
      storage->Before(nullptr);
      parent.Tell(pin.ok() ? 2 : 3);
      parent.Wait();
    });
    REQUIRE(making.Wait() == 1);
    const Here here(dir / "data");
    making.Tell(1);
    is_whole = making.Wait() == 2;
    making.Kill();
    const Pin pin = here.log.Pin(200).value();
    CHECK(here.Holds().size() == 1);
    CHECK(here.Retain() > 150);
    CHECK(here.log.start_offset() <= 200);
  }
  CHECK(step > 4);  // made, given its blocks, written, named
}

TEST_CASE("Pin: in a forked child its destructor leaves the parent's alone") {
  TempDir dir;
  Child process([&](Child& parent) {
    const Here here(dir / "data");
    here.Append(500);
    here.Bound();
    std::optional<Pin> pin = here.log.Pin(100).value();
    const pid_t forked = fork();
    if (forked == 0) {
      const bool refuses = absl::IsFailedPrecondition(pin->Move(200));
      pin.reset();
      _exit(refuses ? 0 : 1);
    }
    int status = -1;
    waitpid(forked, &status, 0);
    const bool stays = here.Holds().size() == 1 && here.Retain() <= 100 && pin->offset() == 100;
    parent.Tell(status == 0 && stays ? 1 : 2);
  });
  CHECK(process.Wait() == 1);
}

// Two processes append and retain without a pause. What this one has pinned it reads whole, or
// it was told that it came too late.
TEST_CASE("Pin: against the retention of other processes, a pin that was made holds") {
  TempDir dir(testing::FolderInMemory());
  const auto retain = [&](Child& parent) {
    const Here here(dir / "data");
    here.Bound();
    parent.Tell(1);
    for (;;) {
      here.Append(40);
      here.Retain();
    }
  };
  Child first(retain), second(retain);
  REQUIRE(first.Wait() == 1);
  REQUIRE(second.Wait() == 1);
  const Here here(dir / "data");
  for (int held = 0; held < 40;) {
    const Offset from = here.log.start_offset();
    {
      const absl::StatusOr<Pin> pin = here.log.Pin(from);
      if (!pin.ok()) {
        REQUIRE(absl::IsOutOfRange(pin.status()));
        continue;
      }
      ++held;
      // Some rounds of the others, which would go past it.
      REQUIRE(here.log.WaitForEnd(here.log.end_offset() + 200, absl::Seconds(60)).ok());
      REQUIRE(here.log.start_offset() <= from);
      PartitionReader reader = here.log.Read(from).value();
      Offset next = from;
      bool is_whole = true;
      for (const RecordView& record : reader) is_whole &= record.offset() == next++;
      REQUIRE(is_whole);
      REQUIRE(reader.gaps().empty());
    }
    // And without it they do.
    while (here.log.start_offset() <= from) {
      REQUIRE(here.log.WaitForEnd(here.log.end_offset() + 1, absl::Seconds(60)).ok());
    }
  }
}

// Killed anywhere in a pin's life, again and again: what is left is free.
TEST_CASE("Pin: a process that pins without a pause and is killed leaves nothing that holds") {
  TempDir dir;
  const Here here(dir / "data");
  here.Append(500);
  for (int round = 0; round < 20; ++round) {
    Child pinning([&](Child& parent) {
      const Here own(dir / "data");
      parent.Tell(1);
      for (;;) {
        absl::StatusOr<Pin> pin = own.log.Pin(own.log.start_offset());
        if (pin.ok()) pin->Move(own.log.end_offset()).IgnoreError();
      }
    });
    REQUIRE(pinning.Wait() == 1);
    usleep(static_cast<useconds_t>(100 * round));  // the moment of the kill, another each time
    pinning.Kill();
    CHECK(here.Holds().empty());
  }
  here.Bound();
  CHECK(here.Retain() > 400);
}

}  // namespace
}  // namespace cordwood
