// Workers that finish records in random order, in a process that is killed at any moment.

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/shared_by_forks.h"
#include "tests/support/shuffled_workers.h"
#include "tests/support/temp_dir.h"

namespace cordwood::completion_process_test {
namespace {

using testing::Child;
using testing::SharedByForks;
using testing::ShuffledWorkers;
using testing::TempDir;

constexpr int kPartitions = 4;
constexpr Offset kRecords = 4000;  // of each

using PerPartition = std::array<Offset, kPartitions>;

Offset Sum(const PerPartition& offsets) {
  Offset sum = 0;
  for (const Offset offset : offsets) sum += offset;
  return sum;
}

// What parent and children share; it stays when a child is killed.
struct Shared {
  static constexpr std::int64_t kNever = -1;

  std::atomic<std::int64_t> steps = 0;
  std::int64_t die_at = kNever;
  std::array<std::array<std::atomic<bool>, kRecords>, kPartitions> finished = {};

  // A place where the process may die: at its step of that number.
  void Step() {
    if (steps.fetch_add(1) == die_at) kill(getpid(), SIGKILL);
  }
  std::atomic<bool>& Flag(int partition, Offset offset) {
    return finished.at(static_cast<std::size_t>(partition)).at(static_cast<std::size_t>(offset));
  }
};
static_assert(std::atomic<std::int64_t>::is_always_lock_free);
static_assert(std::atomic<bool>::is_always_lock_free);

// ---- What the children do; the parent never opens a broker

void FillLog(const std::filesystem::path& data) {
  const Broker broker = Broker::Open(data).value();
  const Topic orders = broker.CreateTopic("orders", {.partitions = kPartitions}).value();
  for (int p = 0; p < kPartitions; ++p) {
    for (Offset i = 0; i < kRecords; ++i) orders.partition(p).Append({.value = "x"}).value();
  }
}

PerPartition Committed(const Consumer& consumer) {
  PerPartition committed = {};
  for (int p = 0; p < kPartitions; ++p) {
    committed.at(static_cast<std::size_t>(p)) =
        consumer.committed({"orders", p}).value().value_or(0);
  }
  return committed;
}

PerPartition ReadCommitted(const std::filesystem::path& data) {
  const Broker broker = Broker::Open(data).value();
  Consumer consumer = broker.NewConsumer({.group = "billing"}).value();
  std::vector<TopicPartition> all;
  for (int p = 0; p < kPartitions; ++p) all.push_back({"orders", p});
  if (!consumer.Assign(all).ok()) throw std::runtime_error("Assign");
  return Committed(consumer);
}

// Goes on from what is committed until all is. The flag of a record is there before Done.
void WorkUntilAllIsCommitted(const std::filesystem::path& data, Shared& shared,
                             std::uint32_t seed) {
  const Broker broker = Broker::Open(data).value();
  Consumer consumer = broker.NewConsumer({.group = "billing", .max_poll_records = 50}).value();
  if (!consumer.Subscribe({"orders"}).ok()) throw std::runtime_error("Subscribe");
  CompletionTracker tracker;
  ShuffledWorkers workers(8, seed, [&](const RecordView& record) {
    shared.Step();
    shared.Flag(record.partition(), record.offset()) = true;
    shared.Step();
    tracker.Done(record);
    shared.Step();
  });
  do {
    RecordBatch batch = consumer.Poll(absl::Milliseconds(1)).value();
    tracker.Track(batch);
    shared.Step();
    workers.Give(std::move(batch));
    tracker.WaitForRoom(50, absl::Milliseconds(10));
    shared.Step();
    if (!tracker.Commit(consumer).ok()) throw std::runtime_error("Commit");
    shared.Step();
  } while (Sum(Committed(consumer)) < kPartitions * kRecords);
}

}  // namespace

TEST_CASE("Completion: workers killed at random, and no commit passed an unfinished record") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TempDir dir;
  const std::filesystem::path data = dir / "data";
  const SharedByForks<Shared> page;
  Shared& shared = *page;
  REQUIRE(Child([&](Child& parent) {
            FillLog(data);
            parent.Tell(1);
          }).Wait() == 1);

  constexpr int kKills = 20;
  PerPartition committed = {};
  Offset finished_out_of_order = 0;
  for (int round = 0; round <= kKills; ++round) {
    CAPTURE(round);
    shared.steps = 0;
    shared.die_at = round == kKills ? Shared::kNever
                                    : std::uniform_int_distribution<std::int64_t>(0, 3000)(random);
    const auto workers_seed = static_cast<std::uint32_t>(random());
    Child worker([&](Child& parent) {
      WorkUntilAllIsCommitted(data, shared, workers_seed);
      parent.Tell(1);
    });
    const bool is_through = worker.Wait() == 1;
    worker.Kill();
    // It died where it was told to, and of nothing else.
    REQUIRE(is_through == (shared.die_at == Shared::kNever || shared.steps <= shared.die_at));

    const PerPartition before = committed;
    committed =
        Child([&](Child& parent) { parent.Send(ReadCommitted(data)); }).Receive<PerPartition>();
    for (int p = 0; p < kPartitions; ++p) {
      const Offset now = committed.at(static_cast<std::size_t>(p));
      CAPTURE(p, now);
      REQUIRE(now >= before.at(static_cast<std::size_t>(p)));
      for (Offset offset = 0; offset < kRecords; ++offset) {
        const bool finished = shared.Flag(p, offset);
        if (offset < now && !finished) FAIL("offset " << offset << " was not finished");
        finished_out_of_order += offset >= now && finished;
      }
    }
  }
  CHECK(Sum(committed) == kPartitions * kRecords);
  CHECK(finished_out_of_order > 0);
}

}  // namespace cordwood::completion_process_test
