// Groups over processes that are stopped and killed at any moment.

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cordwood/consumer.h"
#include "cordwood/group/membership.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/clock.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/consumer_fixture.h"
#include "tests/support/shared_by_forks.h"
#include "tests/support/soak.h"

namespace cordwood {
namespace {

using namespace consumer_testing;
using group::Group;
using group::GroupStore;
using group::Member;

constexpr std::int64_t kSecond = 1'000'000'000;

// The group "billing" of the topic "orders", below the consumers.
struct Below {
  explicit Below(const std::filesystem::path& path) {
    RecoveryReport report;
    directory = log::Directory::Open(path, {}, {}, report).value();
    store = GroupStore::Open(directory->context()).value();
    group = store->OpenGroup("billing", true).value();
  }
  std::shared_ptr<Member> Join(std::int64_t poll_interval_max_ns = 0) const {
    return Member::Join(group, *directory,
                        {.topics = {"orders"}, .poll_interval_max_ns = poll_interval_max_ns},
                        group::BuiltInAssignor("sticky"))
        .value();
  }

  std::shared_ptr<log::Directory> directory;
  std::shared_ptr<GroupStore> store;
  std::shared_ptr<Group> group;
};

void CreateOrders(const std::filesystem::path& path, int partitions) {
  const Broker broker = Broker::Open(path).value();
  broker.CreateTopic("orders", {.partitions = partitions}).value();
  broker.Close().IgnoreError();
}

}  // namespace

// The owner commits without a pause, so that it is stopped anywhere in a commit, between its
// look at the word and its store, too. Then it is thrown out, and its partition given away.
TEST_CASE("Rule 36: an owner that is stopped in a commit and woken too late commits nothing") {
  constexpr int kRounds = 200;
  constexpr Offset kOfTheNewOwner = 1'000'000'000;
  TempDir dir;
  CreateOrders(dir.path() / "data", 1);
  testing::Child owner([&](testing::Child& parent) {
    const Below below(dir.path() / "data");
    for (int round = 0; round < kRounds; ++round) {
      if (parent.Wait() != 1) return;
      std::shared_ptr<Member> member = below.Join(kSecond);
      while (member->owned().empty()) member->Take();
      const std::uint16_t epoch = member->owned().begin()->second;
      parent.Tell(2);
      absl::Status status;
      for (Offset next = 0; status.ok(); next = (next + 1) % 1000) {
        status = below.group->Commit(0, next, true, epoch);
      }
      member.reset();
      parent.Tell(absl::IsAborted(status) ? 3 : 4);
    }
  });
  const Below below(dir.path() / "data");
  for (int round = 0; round < kRounds; ++round) {
    owner.Tell(1);
    REQUIRE(owner.Wait() == 2);
    const std::shared_ptr<Member> member = below.Join();
    owner.Stop();
    // By a clock that says that the owner has not polled for ten seconds.
    REQUIRE(member->Look(os::MonotonicNanos() + 10 * kSecond).ok());
    REQUIRE(member->Take().size() == 1);
    const std::uint16_t epoch = member->owned().begin()->second;
    REQUIRE(below.group->Commit(0, kOfTheNewOwner + round, true, epoch).ok());
    owner.Continue();
    REQUIRE(owner.Wait() == 3);
    REQUIRE(below.group->committed(0) == kOfTheNewOwner + round);
  }
}

TEST_CASE("Rule 37: one that sleeps on its eventfd hears of the death of another member") {
  TempDir dir;
  CreateOrders(dir.path() / "data", 2);
  testing::Child other([&](testing::Child& parent) {
    const Broker broker = Broker::Open(dir.path() / "data").value();
    Consumer consumer = broker.NewConsumer({.group = "billing"}).value();
    if (!consumer.Subscribe({"orders"}).ok()) return;
    parent.Wait();
    while (consumer.assignment().size() != 1) consumer.Poll(absl::Milliseconds(1)).value();
    parent.Tell(1);
    parent.Wait();  // until it is killed: else it might leave before this process has its own
  });
  const Broker broker = Broker::Open(dir.path() / "data").value();
  Consumer consumer = broker.NewConsumer({.group = "billing"}).value();
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  pollfd fd{consumer.ReadyFd().value(), POLLIN, 0};
  other.Tell(1);
  while (consumer.assignment().size() != 1) {
    REQUIRE(poll(&fd, 1, 10'000) == 1);
    REQUIRE(consumer.Poll(absl::ZeroDuration()).ok());
  }
  REQUIRE(other.Wait() == 1);
  other.Kill();
  while (consumer.assignment().size() != 2) {
    REQUIRE(poll(&fd, 1, 10'000) == 1);
    REQUIRE(consumer.Poll(absl::ZeroDuration()).ok());
  }
}

TEST_CASE("Rule 37: a stopped member keeps what it has, and the others go on") {
  TempDir dir;
  CreateOrders(dir.path() / "data", 6);
  const auto work = [&](testing::Child& parent) {
    const Broker broker = Broker::Open(dir.path() / "data").value();
    Consumer consumer = broker.NewConsumer({.group = "billing"}).value();
    if (!consumer.Subscribe({"orders"}).ok()) return;
    parent.Tell(1);
    // Until it is killed.
    for (;;) consumer.Poll(absl::Milliseconds(10)).IgnoreError();
  };
  testing::Child stopped(work), killed(work);
  REQUIRE(stopped.Wait() == 1);
  REQUIRE(killed.Wait() == 1);
  const Broker broker = Broker::Open(dir.path() / "data").value();
  Consumer consumer = broker.NewConsumer({.group = "billing"}).value();
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  while (broker.DescribeGroup("billing").value().state != "Stable" ||
         consumer.assignment().size() != 2) {
    REQUIRE(consumer.Poll(absl::Milliseconds(1)).ok());
  }
  stopped.Stop();
  killed.Kill();
  while (consumer.assignment().size() != 3) REQUIRE(consumer.Poll(absl::Milliseconds(10)).ok());
  // It is not dead: a second later it still has its own.
  const std::int64_t until = os::MonotonicNanos() + kSecond;
  while (os::MonotonicNanos() < until) {
    REQUIRE(consumer.Poll(absl::Milliseconds(50)).ok());
    REQUIRE(consumer.assignment().size() == 3);
  }
  stopped.Continue();
}

// ---- Everything at once

namespace {

constexpr int kPartitions = 64;
constexpr int kProcesses = 4;
constexpr int kMembersEach = 2;
constexpr int kProcessesEver = 4096;
constexpr int kRecordsMax = 1 << 16;  // of a partition
constexpr int kPollRecords = 50;

// What all processes of the soak see.
struct Soak {
  std::atomic<bool> stop_producing, stop;
  std::atomic<std::uint32_t> owner[kPartitions];  // a Worker's id; 0: nobody
  std::atomic<std::uint8_t> delivered[kPartitions][kRecordsMax];
  std::atomic<bool> killed[kProcessesEver];
  // Records that a worker has been given and not committed yet.
  std::atomic<std::uint32_t> in_flight[kProcessesEver][kMembersEach];
  std::atomic<std::uint32_t> two_owners, not_owner, out_of_order, refused;
  std::atomic<std::uint32_t> joins;
};

// A member of the group that leaves and joins again at random.
class Worker {
 public:
  Worker(Soak& soak, const Broker& broker, int process, int number)
      : soak_(soak),
        broker_(broker),
        process_(process),
        number_(number),
        id_(static_cast<std::uint32_t>(process * kMembersEach + number + 1)),
        random_(id_) {}

  void Run() {
    while (!soak_.stop) {
      Consumer consumer = broker_
                              .NewConsumer({.group = "billing",
                                            .on_assigned = [this](const auto& p) { Assigned(p); },
                                            .on_revoked = [this](const auto& p) { Revoked(p); },
                                            .max_poll_records = kPollRecords})
                              .value();
      if (!consumer.Subscribe({"orders"}).ok()) continue;  // who decides may be stopped
      ++soak_.joins;
      const int polls = std::uniform_int_distribution<>(20, 1000)(random_);
      for (int i = 0; i < polls && !soak_.stop; ++i) {
        const RecordBatch batch = consumer.Poll(absl::Milliseconds(20)).value();
        InFlight() = static_cast<std::uint32_t>(batch.size());
        for (const RecordView& record : batch) Deliver(record);
        if (!batch.empty()) absl::SleepFor(absl::Milliseconds(random_() % 3));  // the work
        if (!consumer.Commit().ok()) ++soak_.refused;
        InFlight() = 0;
      }
    }
  }

 private:
  std::atomic<std::uint32_t>& InFlight() { return soak_.in_flight[process_][number_]; }

  void Assigned(const Partitions& partitions) {
    for (const TopicPartition& p : partitions) {
      const std::uint32_t before = soak_.owner[p.partition].exchange(id_);
      const bool is_alive =
          before != 0 && !soak_.killed[static_cast<int>(before - 1) / kMembersEach];
      if (is_alive) ++soak_.two_owners;
      next_.erase(p.partition);
    }
  }
  void Revoked(const Partitions& partitions) {
    for (const TopicPartition& p : partitions) {
      if (soak_.owner[p.partition].exchange(0) != id_) ++soak_.two_owners;
    }
  }
  void Deliver(const RecordView& record) {
    const int p = record.partition();
    if (soak_.owner[p] != id_) ++soak_.not_owner;
    const auto next = next_.find(p);
    if (next != next_.end() && next->second != record.offset()) ++soak_.out_of_order;
    next_[p] = record.offset() + 1;
    ++soak_.delivered[p][record.offset()];
  }

  Soak& soak_;
  const Broker& broker_;
  const int process_, number_;
  const std::uint32_t id_;
  std::mt19937 random_;
  std::map<int, Offset> next_;
};

}  // namespace

TEST_CASE("Groups: 8 members in 4 processes over 64 partitions, stopped and killed at random") {
  const std::int64_t until = os::MonotonicNanos() + testing::SoakSeconds() * kSecond;
  const unsigned seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto any = [&](int from, int to) {
    return std::uniform_int_distribution<>(from, to)(random);
  };

  TempDir dir;
  CreateOrders(dir.path() / "data", kPartitions);
  const SharedByForks<Soak> soak;
  const auto produce = [&](testing::Child& parent) {
    const Broker broker = Broker::Open(dir.path() / "data").value();
    const Topic orders = broker.OpenTopic("orders").value();
    while (!soak->stop_producing) {
      for (int p = 0; p < kPartitions; ++p) {
        if (orders.partition(p).end_offset() >= kRecordsMax - 2) soak->stop_producing = true;
        orders.partition(p).Append({.value = "x"}).value();
      }
      absl::SleepFor(absl::Milliseconds(5));  // the pace
    }
    broker.Close().IgnoreError();
    parent.Tell(1);
  };
  int processes = 0;
  const auto start = [&] {
    const int process = processes++;
    return std::make_unique<testing::Child>([&soak, &dir, process](testing::Child& parent) {
      const Broker broker = Broker::Open(dir.path() / "data").value();
      std::vector<std::thread> threads;
      for (int i = 0; i < kMembersEach; ++i) {
        threads.emplace_back([&, i] { Worker(*soak, broker, process, i).Run(); });
      }
      for (std::thread& thread : threads) thread.join();
      broker.Close().IgnoreError();
      parent.Tell(1);
    });
  };

  testing::Child producers[] = {testing::Child(produce), testing::Child(produce)};
  struct Process {
    std::unique_ptr<testing::Child> child;
    int number = 0;
    bool stopped = false;
  };
  std::vector<Process> running(kProcesses);
  for (Process& process : running) {
    process.number = processes;
    process.child = start();
  }
  std::uint64_t allowed_twice = 0;
  int kills = 0, stops = 0;
  while (os::MonotonicNanos() < until) {
    Process& process = running[static_cast<std::size_t>(any(0, kProcesses - 1))];
    if (process.stopped) {
      process.child->Continue();
      process.stopped = false;
    } else if (any(0, 2) == 0 && processes < kProcessesEver - 1) {
      soak->killed[process.number] = true;
      process.child->Kill();
      for (const auto& in_flight : soak->in_flight[process.number]) allowed_twice += in_flight;
      process.number = processes;
      process.child = start();
      ++kills;
    } else {
      process.child->Stop();
      process.stopped = true;
      ++stops;
    }
    absl::SleepFor(absl::Milliseconds(any(1, 100)));  // the pace
  }
  for (const Process& process : running) process.child->Continue();
  soak->stop_producing = true;
  for (const testing::Child& producer : producers) CHECK(producer.Wait() == 1);

  const Broker broker = Broker::Open(dir.path() / "data").value();
  const auto lag = [&] {
    std::int64_t sum = 0;
    const GroupDescription billing = broker.DescribeGroup("billing").value();
    for (const PartitionProgress& p : billing.partitions) sum += p.lag;
    return sum;
  };
  const std::int64_t drained_by = os::MonotonicNanos() + 60 * kSecond;
  while (lag() != 0 && os::MonotonicNanos() < drained_by) absl::SleepFor(absl::Milliseconds(10));
  CHECK(lag() == 0);
  soak->stop = true;
  for (const Process& process : running) CHECK(process.child->Wait() == 1);

  const Topic orders = broker.OpenTopic("orders").value();
  std::uint64_t records = 0, missing = 0, twice = 0;
  for (int p = 0; p < kPartitions; ++p) {
    const Offset end = orders.partition(p).end_offset();
    records += static_cast<std::uint64_t>(end);
    for (Offset o = 0; o < end; ++o) {
      const std::uint8_t times = soak->delivered[p][o];
      missing += times == 0 ? 1 : 0;
      twice += times > 1 ? times - 1U : 0;
    }
  }
  std::printf("%llu records, %d kills, %d stops, %u joins, %llu read twice of %llu uncommitted\n",
              static_cast<unsigned long long>(records), kills, stops, soak->joins.load(),
              static_cast<unsigned long long>(twice),
              static_cast<unsigned long long>(allowed_twice));
  CHECK(records > 0);
  CHECK(missing == 0);
  CHECK(twice <= allowed_twice);
  CHECK(soak->two_owners == 0);
  CHECK(soak->not_owner == 0);
  CHECK(soak->out_of_order == 0);
  CHECK(soak->refused == 0);
}

}  // namespace cordwood
