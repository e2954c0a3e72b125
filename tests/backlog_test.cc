// The backlog of one log, without a broker around it: what its owner is asked and told meanwhile.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "cordwood/log/log.h"
#include "cordwood/log/needs.h"
#include "cordwood/os/clock.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/log_fixture.h"
#include "tests/support/sleeper.h"

namespace cordwood {
namespace {

using testing::FailingStorage;
using testing::LogFixture;

constexpr int kFrameBytes = 448;  // of a record of 400 bytes

// A group that has committed `from`; what it is asked may have consequences, once.
class Group final : public log::Needs {
 public:
  Offset NeededFrom(const os::Bits128&, const internal::PartitionName&,
                    std::span<const std::string>, Commits) const override {
    if (const auto then = std::exchange(when_asked, nullptr)) then();
    return from;
  }

  mutable std::function<void()> when_asked;
  Offset from = 0;
};

log::LogConfig Bounded(std::uint64_t bytes, BacklogPolicy policy) {
  return {.segment_bytes = 1 << 20,
          .segment_age_ns = std::numeric_limits<std::int64_t>::max(),
          .cleanup = {.needed_by = {"uplink"}, .backlog_bytes = bytes, .backlog_policy = policy}};
}

struct World {
  World(std::uint64_t bytes, BacklogPolicy policy) {
    log.context()->needs = group;
    log->SetConfig(Bounded(bytes, policy));
  }

  absl::Status Append(std::size_t bytes = 400, absl::Duration timeout = absl::ZeroDuration()) {
    return log->Append({.value = std::string(bytes, 'v')}, {.timeout = timeout}).status();
  }
  // Appends until it does not go on.
  int Fill() {
    int records = 0;
    while (records < 10'000 && Append().ok()) ++records;
    return records;
  }

  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  std::shared_ptr<Group> group = std::make_shared<Group>();
  LogFixture log{{.segment_bytes = 1 << 20, .storage = disk}};
};

TEST_CASE("Backlog: a limit that changes while the groups are asked is the one that counts") {
  World world(64 << 10, BacklogPolicy::kFail);
  world.group->when_asked = [&] { world.log->SetConfig(Bounded(8 << 10, BacklogPolicy::kFail)); };
  CHECK(world.Fill() == (8 << 10) / kFrameBytes);
}

TEST_CASE("Backlog: a limit that changes while the file grows is the one that counts") {
  World world(512 << 10, BacklogPolicy::kFail);
  std::atomic<bool> changed{false};
  // From 64 to 128 KiB.
  world.disk->Before([&](const FailingStorage::Operation& operation) {
    if (operation.op != FailingStorage::Op::kAllocate || world.log->end_offset() < 100) return;
    if (!changed.exchange(true)) world.log->SetConfig(Bounded(72 << 10, BacklogPolicy::kFail));
  });
  CHECK(world.Fill() == (72 << 10) / kFrameBytes);
  CHECK(changed);
}

TEST_CASE("Backlog: dropped is no more of the active segment than has to be, and a quarter") {
  constexpr std::uint64_t kLimit = 8 << 10;  // two index intervals
  World world(kLimit, BacklogPolicy::kDropOldest);
  for (Offset end = 1; end <= 500; ++end) {
    REQUIRE(world.Append().ok());
    const Offset start = world.log->start_offset();
    CHECK(world.log->BytesFrom(start) == static_cast<std::uint64_t>(end - start) * kFrameBytes);
    CHECK(world.log->BytesFrom(start) <= kLimit);
    if (start == 0) continue;
    CHECK(world.log->BytesFrom(start) + kFrameBytes > (kLimit - kFrameBytes) / 4 * 3);
  }
  CHECK(world.log->start_offset() > 480);
}

TEST_CASE("Backlog: a record larger than a quarter of the limit is kept as long as there is room") {
  // Of 3,048 bytes with its frame: two have room, three have not.
  World world(6200, BacklogPolicy::kDropOldest);
  for (Offset end = 1; end <= 50; ++end) {
    REQUIRE(world.Append(3000).ok());
    CHECK(world.log->start_offset() == std::max<Offset>(end - 2, 0));
  }
}

TEST_CASE("Backlog: dropping the oldest goes over a segment whose header is damaged") {
  World world(70 << 10, BacklogPolicy::kFail);
  log::LogConfig small = Bounded(70 << 10, BacklogPolicy::kFail);
  small.segment_bytes = 32 << 10;
  world.log->SetConfig(small);
  while (world.log.Bases().size() < 3) REQUIRE(world.Append().ok());
  const std::vector<Offset> bases = world.log.Bases();
  REQUIRE(world.log->Flush().ok());
  world.log.FlipBit(40, 0, bases[1]);
  world.log.KillAndOpen();
  REQUIRE(world.log.Gaps().front().reason == GapReason::kDamage);
  world.log.context()->needs = world.group;
  small.cleanup.backlog_policy = BacklogPolicy::kDropOldest;
  world.log->SetConfig(small);
  for (int i = 0; i < 500; ++i) REQUIRE(world.Append().ok());
  CHECK(world.log->start_offset() > bases[2]);
  CHECK(world.log->BytesFrom(world.log->start_offset()) <= 70 << 10);
}

TEST_CASE("Backlog: whoever drops for others that fill it again stops at the deadline") {
  World world(8 << 10, BacklogPolicy::kDropOldest);
  const std::shared_ptr<log::Log> beside = world.log.OpenBeside();
  for (int i = 0; i < 30; ++i) REQUIRE(world.Append().ok());
  // Each time that this one has dropped, the other fills what there is room for.
  int asked = 0;
  std::function<void()> refill = [&] {
    world.group->when_asked = nullptr;
    for (int i = 0; i < 30; ++i) REQUIRE(beside->Append({.value = std::string(400, 'v')}, {}).ok());
    if (++asked < 100) world.group->when_asked = refill;
  };
  world.group->when_asked = refill;
  const absl::Status status = world.Append(400, absl::ZeroDuration());
  CHECK(asked < 100);
  if (!status.ok()) CHECK(absl::IsDeadlineExceeded(status));
}

TEST_CASE("Append: its timeout is for all that it waits for, together") {
  constexpr absl::Duration kTimeout = absl::Milliseconds(500);
  World world(8 << 10, BacklogPolicy::kBlock);
  world.Fill();
  const std::shared_ptr<log::Log> beside = world.log.OpenBeside();
  std::jthread other;
  // There is room, but late, and then another has the writer's turn until somebody waits for it.
  world.group->when_asked = [&] {
    REQUIRE(beside->block().lock.TryLock(*beside->context().owners));
    absl::SleepFor(kTimeout);  // the time that is allowed is over
    world.group->from = world.log->end_offset();
    other = testing::OnceCallerSleeps([&] { beside->block().lock.Unlock(); });
  };
  const absl::Status status = world.Append(400, kTimeout);
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK(absl::StrContains(status.message(), "the writer's turn"));
  other.join();  // asleep here
  CHECK(world.Append().ok());
}

}  // namespace
}  // namespace cordwood
