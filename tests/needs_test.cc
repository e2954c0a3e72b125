// What groups need of the logs: asked by who has not opened the groups yet, while others have
// their locks, and for many partitions.

#include "cordwood/group/needs.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "cordwood/cordwood.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/clock.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using group::GroupNeeds;
using group::GroupStore;
using testing::FailingStorage;
using testing::TempDir;

constexpr std::int64_t kSecond = 1'000'000'000;

// A directory as some process has it open that is stopped in the group's turn. All records of two
// topics are too old; of "events" the group has committed 300 of 500.
struct Stopped {
  Stopped() {
    Broker broker = Open();
    for (const char* name : {"events", "others"}) {
      TopicConfig config = {.segment_bytes = 4096, .retention_age = absl::Hours(1)};
      if (name == std::string("events")) config.retain_for_groups = {"uplink"};
      const Partition log = broker.CreateTopic(name, config).value().partition(0);
      for (int i = 0; i < 500; ++i) {
        REQUIRE(log.Append({.value = std::string(100, 'v')}).ok());
      }
    }
    Consumer consumer = broker.NewConsumer({.group = "uplink"}).value();
    REQUIRE(consumer.Assign({{"events", 0}}).ok());
    REQUIRE(consumer.Commit({{{"events", 0}, 300}}).ok());
    REQUIRE(broker.Maintain(absl::Seconds(30)).ok());  // the commit is durable
    disk->Advance(absl::Hours(24));
    RecoveryReport report;
    directory = log::Directory::Open(path, {.storage = disk}, {}, report).value();
    group = GroupStore::Open(directory->context()).value()->OpenGroup("uplink", false).value();
    REQUIRE(group->live().lock.TryLock(*directory->context()->owners));
  }
  ~Stopped() { group->live().lock.Unlock(); }

  Broker Open() const {
    return Broker::Open(path, {.flush_interval = absl::InfiniteDuration(),
                               .background_threads = false,
                               .storage = disk})
        .value();
  }
  static Offset Retain(const Broker& broker, const char* topic) {
    REQUIRE(broker.Maintain(absl::Seconds(10)).ok());
    return broker.OpenTopic(topic).value().partition(0).start_offset();
  }

  TempDir dir;
  const std::filesystem::path path = dir / "data";
  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  std::shared_ptr<log::Directory> directory;
  std::shared_ptr<group::Group> group;
};

TEST_CASE("Needs: who asks for the first time needs no turn that a stopped process may have") {
  const Stopped stopped;
  const Broker broker = stopped.Open();
  const Offset start = Stopped::Retain(broker, "events");
  CHECK(start > 250);
  CHECK(start <= 300);
}

TEST_CASE("Needs: where the turn is needed, what cannot be told keeps its records and no others") {
  const Stopped stopped;
  // As before an entry that its maker has written is counted.
  stopped.group->live().entries.store(0);
  const Broker broker = stopped.Open();
  const std::int64_t begin = os::MonotonicNanos();
  CHECK(Stopped::Retain(broker, "others") == 500);
  CHECK(os::MonotonicNanos() - begin < 30 * kSecond);  // which is what others wait for a turn
  CHECK(Stopped::Retain(broker, "events") == 0);
  stopped.group->live().lock.Unlock();
  CHECK(Stopped::Retain(broker, "events") > 250);
  REQUIRE(stopped.group->live().lock.TryLock(*stopped.directory->context()->owners));
}

TEST_CASE("Needs: of the last of many partitions it is told as fast as of the first") {
  const TempDir dir;
  RecoveryReport report;
  const auto directory = log::Directory::Open(dir / "data", {}, {}, report).value();
  const auto store = GroupStore::Open(directory->context()).value();
  REQUIRE(store->OpenGroup("uplink", true).ok());
  GroupNeeds needs;
  needs.Bind(store);
  const std::vector<std::string> groups = {"uplink"};
  const auto shortest = [&](int partition) {
    const internal::PartitionName name = {"events", partition};
    std::int64_t best = std::numeric_limits<std::int64_t>::max();
    for (int i = 0; i < 20; ++i) {
      const std::int64_t begin = os::MonotonicNanos();
      CHECK(needs.NeededFrom({}, name, groups, log::Needs::Commits::kAll) == 0);
      best = std::min(best, os::MonotonicNanos() - begin);
    }
    return best;
  };
  CHECK(shortest(99'999) < 100 * shortest(0));
}

}  // namespace
}  // namespace cordwood
