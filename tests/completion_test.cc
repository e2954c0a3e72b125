// Records that are finished out of order, and the safe prefix that is committed of them.

#include "cordwood/completion.h"

#include <malloc.h>

#include <array>
#include <atomic>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cordwood/status.h"
#include "tests/support/consumer_fixture.h"
#include "tests/support/shuffled_workers.h"

namespace cordwood {
namespace {

using namespace consumer_testing;
using SafeMap = std::map<TopicPartition, Offset>;
using Offsets = std::vector<Offset>;

const TopicPartition kFirst{"orders", 0};
const TopicPartition kSecond{"orders", 1};

// A tracker that is given batches made by hand, of orders-0 unless another is named.
class Hand {
 public:
  // Records at these offsets; what is after them in the batch is gone, up to `next`.
  void Track(const Offsets& offsets, std::optional<Offset> next = {}, int partition = 0) {
    RecordBatch batch;
    internal::BatchBuilder builder(batch);
    builder.BeginPartition(&names_.at(static_cast<std::size_t>(partition)));
    for (const Offset offset : offsets) builder.Add(View(offset, partition));
    builder.EndPartition(next.value_or(offsets.back() + 1));
    builder.Finish();
    tracker.Track(batch);
  }
  void TrackRange(Offset from, Offset to) {
    Offsets offsets;
    for (Offset offset = from; offset < to; ++offset) offsets.push_back(offset);
    Track(offsets);
  }
  void TrackGap(Offset from, Offset to) {
    RecordBatch batch;
    internal::BatchBuilder builder(batch);
    builder.AddGap({"orders", 0, from, to, GapReason::kTrim});
    builder.Finish();
    tracker.Track(batch);
  }
  void Done(const Offsets& offsets, int partition = 0) {
    for (const Offset offset : offsets) tracker.Done(View(offset, partition));
  }
  // Of orders-0; -1: nothing new.
  Offset Safe() const {
    const SafeMap safe = tracker.Safe();
    return safe.contains(kFirst) ? safe.at(kFirst) : -1;
  }

  CompletionTracker tracker;

 private:
  RecordView View(Offset offset, int partition) const {
    return RecordView(internal::RecordParts{
        .offset = offset, .where = &names_.at(static_cast<std::size_t>(partition))});
  }

  const std::array<internal::PartitionName, 2> names_ = {{{"orders", 0}, {"orders", 1}}};
};

// A tracker beside a consumer of the group "billing" that has polled `records` of each
// partition.
struct Billing {
  explicit Billing(int records, int partitions = 1, const BrokerOptions& options = {})
      : world({{"orders", partitions}}, options) {
    for (int p = 0; p < partitions; ++p) world.SendMany(p, records);
    consumer = world.Assigned({.group = "billing"});
    Poll();
  }
  void Poll() { tracker.Track(consumer->Poll(kLong).value()); }
  void Done(const Offsets& offsets, const TopicPartition& where = kFirst) {
    for (const Offset offset : offsets) tracker.Done(where, offset);
  }
  absl::Status Commit(const CommitOptions& options = {}) {
    return tracker.Commit(*consumer, options);
  }
  // -1: nothing.
  Offset Committed(int partition = 0) const {
    const Consumer other = world.Assigned({.group = "billing"});
    return other.committed({"orders", partition}).value().value_or(-1);
  }

  World world;
  std::optional<Consumer> consumer;
  CompletionTracker tracker;
};

}  // namespace

// ---- The safe prefix

TEST_CASE("Completion: it is safe up to the first record that is not finished") {
  Hand hand;
  hand.TrackRange(0, 5);
  hand.Done({2, 1, 4});
  CHECK(hand.Safe() == -1);
  hand.Done({0});
  CHECK(hand.Safe() == 3);
  hand.Done({3});
  CHECK(hand.Safe() == 5);
  CHECK(hand.tracker.in_flight() == 0);
}

TEST_CASE("Completion: a second Done, or one of what is not tracked, changes nothing") {
  Hand hand;
  hand.Track({3, 5, 6});
  hand.Done({3, 3, 6, 6, 4, 7, 2, -1, std::numeric_limits<Offset>::max()});
  hand.Done({3, 5}, 1);
  hand.tracker.Done({"users", 0}, 5);
  hand.tracker.Done(RecordView());
  CHECK(hand.Safe() == 5);
  CHECK(hand.tracker.in_flight() == 1);
}

TEST_CASE("Completion: holes between records, and after the last one, count as finished") {
  Hand hand;
  hand.Track({3, 7, 8, 20}, 25);
  hand.Done({3});
  CHECK(hand.Safe() == 7);
  hand.Done({20, 8});
  CHECK(hand.Safe() == 7);
  hand.Done({7});
  CHECK(hand.Safe() == 25);
}

TEST_CASE("Completion: a gap is passed, but no unfinished record before it is") {
  Hand hand;
  hand.TrackGap(0, 5);
  CHECK(hand.Safe() == 5);
  hand.Track({5, 6});
  hand.TrackGap(7, 9);
  CHECK(hand.Safe() == 5);
  hand.Done({5, 6});
  CHECK(hand.Safe() == 9);
}

TEST_CASE("Completion: each partition has a prefix of its own") {
  Hand hand;
  hand.Track({0, 1}, {}, 0);
  hand.Track({0, 1}, {}, 1);
  hand.Done({1}, 0);
  hand.Done({0}, 1);
  CHECK(hand.tracker.Safe() == SafeMap{{kSecond, 1}});
  CHECK(hand.tracker.in_flight() == 2);
}

TEST_CASE("Completion: any order of batches, holes and Dones gives what a set would give") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  const auto below = [&](std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random);
  };
  Hand hand;
  Offsets in_flight;
  Offset began = 0, next = 0;
  for (int round = 0; round < 3000; ++round) {
    Offsets batch;
    const std::size_t records = 1 + below(20);
    while (batch.size() < records) batch.push_back(next += 1 + static_cast<Offset>(below(3)));
    if (round == 0) began = batch.front();
    hand.Track(batch, ++next);
    in_flight.insert(in_flight.end(), batch.begin(), batch.end());
    // At times the first one is very slow.
    const std::size_t slowness = round % 1000 < 500 ? 8 : 3000;
    for (std::size_t dones = below(22); dones > 0 && in_flight.size() > 1; --dones) {
      const std::size_t at = below(slowness) == 0 ? 0 : 1 + below(in_flight.size() - 1);
      hand.Done({in_flight[at]});
      in_flight.erase(in_flight.begin() + static_cast<std::ptrdiff_t>(at));
    }
    const Offset safe = in_flight.empty() ? next : in_flight.front();
    REQUIRE(hand.Safe() == (safe > began ? safe : -1));
    REQUIRE(hand.tracker.in_flight() == in_flight.size());
  }
}

TEST_CASE("Completion: records that are finished behind a slow one take no memory") {
  Hand hand;
  hand.TrackRange(0, 100);
  const std::size_t before = mallinfo2().uordblks;
  for (Offset from = 100; from < 1'000'000; from += 100) {
    hand.TrackRange(from, from + 100);
    for (Offset offset = from; offset < from + 100; ++offset) hand.Done({offset});
  }
  CHECK(mallinfo2().uordblks < before + 100'000);
  CHECK(hand.tracker.in_flight() == 100);
  for (Offset offset = 0; offset < 100; ++offset) hand.Done({offset});
  CHECK(hand.Safe() == 1'000'000);
}

// ---- Seek, Forget

TEST_CASE("Completion: after a Seek back records are tracked anew from there on, not below") {
  Hand hand;
  hand.TrackRange(0, 10);
  hand.Done({0, 1, 2, 4, 5, 6, 7, 8});
  hand.TrackRange(5, 8);
  CHECK(hand.tracker.in_flight() == 4);  // 3, and 5 to 7 again
  hand.Done({3});
  CHECK(hand.Safe() == 5);
  hand.Done({9, 5, 6, 7});  // 9 comes again
  CHECK(hand.Safe() == 8);
  hand.TrackRange(8, 10);
  CHECK(hand.Safe() == 8);
}

TEST_CASE("Completion: what a Seek skips counts as finished, what is in flight does not") {
  Hand hand;
  hand.TrackRange(0, 3);
  hand.TrackRange(100, 103);
  hand.Done({100, 0, 1});
  CHECK(hand.Safe() == 2);
  hand.Done({2});
  CHECK(hand.Safe() == 101);
}

TEST_CASE("Completion: a late Done of a partition that was forgotten does nothing") {
  Hand hand;
  hand.Track({0, 1}, {}, 0);
  hand.Track({0, 1}, {}, 1);
  hand.tracker.Forget(Partitions{kFirst, {"users", 0}});
  hand.Done({0, 1});
  CHECK(hand.tracker.Safe().empty());
  CHECK(hand.tracker.in_flight() == 2);
}

TEST_CASE("Completion: a partition that comes back is tracked anew, and an old Done counts") {
  Hand hand;
  hand.TrackRange(0, 5);
  hand.Done({0, 1});
  hand.tracker.Forget(Partitions{kFirst});
  hand.TrackRange(2, 4);
  CHECK(hand.Safe() == -1);
  hand.Done({2, 4});  // of a worker that began before
  CHECK(hand.Safe() == 3);
  CHECK(hand.tracker.in_flight() == 1);
}

// ---- Commit

TEST_CASE("Completion: Commit stores the safe prefix, and the next member begins there") {
  Billing billing(5);
  billing.Done({4, 0, 1});
  REQUIRE(billing.Commit().ok());
  CHECK(billing.Committed() == 2);
  CHECK(billing.tracker.Safe().empty());
  billing.consumer.reset();
  CHECK(Values(billing.world.Subscribed().Poll(kLong).value()) == List{"2", "3", "4"});
}

TEST_CASE("Completion: with nothing finished, nothing is committed") {
  Billing billing(5);
  billing.Done({3});
  REQUIRE(billing.Commit().ok());
  CHECK(billing.Committed() == -1);
}

TEST_CASE("Completion: a durable Commit makes durable what was committed without") {
  Billing billing(3, 1, {.background_threads = false});
  billing.Done({0, 1});
  REQUIRE(billing.Commit().ok());
  CHECK(billing.world.Log().durable_offset() == 0);
  REQUIRE(billing.Commit({.durability = Durability::kDurable}).ok());
  CHECK(billing.world.Log().durable_offset() >= 2);
}

TEST_CASE("Completion: a batch of gaps alone is committed past them") {
  Billing billing(2);
  billing.Done({0, 1});
  billing.world.SendMany(0, 3);
  REQUIRE(billing.world.Log().Trim(4).ok());
  billing.Poll();
  billing.Done({4});
  REQUIRE(billing.Commit().ok());
  CHECK(billing.Committed() == 5);
  billing.world.SendMany(0, 1);
  REQUIRE(billing.world.Log().Trim(6).ok());
  billing.Poll();
  REQUIRE(billing.Commit().ok());
  CHECK(billing.Committed() == 6);
}

TEST_CASE("Completion: going back over old records takes no commit back, unless it is forced") {
  Billing billing(10);
  billing.Done({0, 1, 2, 3, 4, 5});
  REQUIRE(billing.Commit().ok());
  REQUIRE(billing.consumer->Seek(kFirst, 1).ok());
  billing.Poll();
  billing.Done({1});
  CHECK(billing.tracker.Safe() == SafeMap{{kFirst, 2}});
  REQUIRE(billing.Commit().ok());
  CHECK(billing.Committed() == 6);
  billing.Done({2});
  REQUIRE(billing.Commit({.force = true}).ok());
  CHECK(billing.Committed() == 3);
}

TEST_CASE("Completion: a lost partition is told once, and the others are committed") {
  Billing billing(3, 2);
  billing.Done({0}, kFirst);
  billing.Done({0, 1}, kSecond);
  REQUIRE(billing.consumer->Assign({kSecond}).ok());
  const absl::Status lost = billing.Commit();
  CHECK(lost.code() == absl::StatusCode::kAborted);
  CHECK(Says(lost, "orders-0"));
  CHECK(PartitionOf(lost) == kFirst);
  CHECK(OffsetOf(lost) == 1);
  CHECK(billing.Committed(0) == -1);
  CHECK(billing.Committed(1) == 2);
  CHECK(billing.Commit().ok());
  CHECK(billing.tracker.in_flight() == 1);
}

TEST_CASE("Completion: a partition that is lost with nothing open is no error") {
  Billing billing(1, 2);
  billing.Done({0}, kFirst);
  billing.Done({0}, kSecond);
  REQUIRE(billing.Commit().ok());
  REQUIRE(billing.consumer->Assign({kSecond}).ok());
  CHECK(billing.Commit().ok());
}

TEST_CASE("Completion: a Commit that fails forgets nothing") {
  Billing billing(2);
  billing.Done({0});
  Consumer stranger = billing.world.Assigned();
  CHECK(billing.tracker.Commit(stranger).code() == absl::StatusCode::kFailedPrecondition);
  REQUIRE(stranger.Close().ok());
  CHECK(billing.tracker.Commit(stranger).code() == absl::StatusCode::kFailedPrecondition);
  REQUIRE(billing.Commit().ok());
  CHECK(billing.Committed() == 1);
}

TEST_CASE("Completion: on_revoked may commit what is safe and forget the rest") {
  World world;
  world.SendMany(0, 3);
  CompletionTracker tracker;
  Consumer consumer = world.Subscribed({.on_revoked = [&](Consumer& self, const auto& revoked) {
    CHECK(tracker.Commit(self).ok());
    tracker.Forget(revoked);
  }});
  const RecordBatch batch = consumer.Poll(kLong).value();
  tracker.Track(batch);
  tracker.Done(*batch.begin());
  REQUIRE(consumer.Close().ok());
  tracker.Done(*++batch.begin());
  CHECK(tracker.Safe().empty());
  CHECK(Values(world.Subscribed().Poll(kLong).value()) == List{"1", "2"});
}

// ---- Threads

TEST_CASE("Completion: WaitForRoom returns when enough is finished, or after the timeout") {
  Hand hand;
  hand.TrackRange(0, 3);
  CHECK(hand.tracker.WaitForRoom(3, absl::ZeroDuration()));
  CHECK_FALSE(hand.tracker.WaitForRoom(2, absl::Milliseconds(1)));
  hand.Done({2, 1, 0});
  for (Offset round = 1; round < 100; ++round) {
    hand.TrackRange(3 * round, 3 * round + 3);
    std::thread worker([&] { hand.Done({3 * round + 2, 3 * round + 1, 3 * round}); });
    CHECK(hand.tracker.WaitForRoom(0, absl::InfiniteDuration()));
    worker.join();
  }
}

TEST_CASE("Completion: eight threads in random order, and no commit passes an unfinished record") {
  constexpr int kPartitions = 3, kRecords = 4000;
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  World world({{"orders", kPartitions}});
  for (int p = 0; p < kPartitions; ++p) world.SendMany(p, kRecords);
  Consumer consumer = world.Assigned({.group = "billing", .max_poll_records = 100});
  std::array<std::array<std::atomic<bool>, kRecords>, kPartitions> finished = {};
  const auto flag = [&](int partition, Offset offset) -> std::atomic<bool>& {
    return finished.at(static_cast<std::size_t>(partition)).at(static_cast<std::size_t>(offset));
  };
  std::map<int, Offset> committed;
  CompletionTracker tracker;
  {
    ShuffledWorkers workers(8, seed, [&](const RecordView& record) {
      flag(record.partition(), record.offset()) = true;
      tracker.Done(record);
    });
    Offset sum = 0;
    while (sum < kPartitions * kRecords) {
      RecordBatch batch = consumer.Poll(absl::ZeroDuration()).value();
      tracker.Track(batch);
      workers.Give(std::move(batch));
      REQUIRE(tracker.Commit(consumer).ok());
      sum = 0;
      for (int p = 0; p < kPartitions; ++p) {
        const Offset now = consumer.committed({"orders", p}).value().value_or(0);
        for (Offset& at = committed[p]; at < now; ++at) REQUIRE(flag(p, at));
        sum += now;
      }
      tracker.WaitForRoom(500, absl::Milliseconds(1));
    }
  }
  CHECK(tracker.in_flight() == 0);
  CHECK(tracker.Safe().empty());
}

}  // namespace cordwood
