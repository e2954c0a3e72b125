// How a consumer waits: what ends a Poll, what wakes it, and its eventfd.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "cordwood/consumer.h"
#include "cordwood/os/clock.h"
#include "tests/support/consumer_fixture.h"
#include "tests/support/sleeper.h"
#include "tests/support/stall_meter.h"

namespace cordwood {
namespace {

using namespace consumer_testing;
using testing::OnceCallerSleeps;
using testing::StallMeter;

// Far below the second after which a consumer looks anyway, far above what a wake takes.
constexpr absl::Duration kSoon = absl::Milliseconds(600);

// Does something once the test sleeps.
class Waker {
 public:
  template <class F>
  explicit Waker(F f)
      : thread_(OnceCallerSleeps([this, f] {
          f();
          done_ns_ = os::MonotonicNanos();
        })) {}
  // Whether the test, which goes on now, was woken by that.
  bool WasPrompt() {
    const std::int64_t now = os::MonotonicNanos();
    thread_.join();
    return now - done_ns_ < absl::ToInt64Nanoseconds(kSoon) + meter_.WorstNs();
  }

 private:
  const StallMeter meter_;
  std::int64_t done_ns_ = 0;
  std::jthread thread_;
};

// Appends records in turn to two partitions, with pauses, and notes when each was there.
class Writer {
 public:
  static constexpr int kRecords = 20'000;

  explicit Writer(World& world)
      : thread_([&] {
          std::mt19937 random(1);
          for (int i = 0; i < kRecords; ++i) {
            world.Log(i % 2).Append({.value = "x"}).IgnoreError();
            there_ns_[static_cast<std::size_t>(i)] = os::MonotonicNanos();
            if (random() % 8 == 0) absl::SleepFor(absl::Microseconds(random() % 200));
          }
        }) {}
  // Whether who has seen so many, and waited for the next one in vain, has missed it.
  bool HasMissed(int seen) const {
    const std::int64_t now = os::MonotonicNanos();
    const std::int64_t there = there_ns_[static_cast<std::size_t>(seen)];
    return there != 0 && now - there > absl::ToInt64Nanoseconds(kSoon) + meter_.WorstNs();
  }

 private:
  const StallMeter meter_;
  std::vector<std::atomic<std::int64_t>> there_ns_ =
      std::vector<std::atomic<std::int64_t>>(kRecords);
  const std::jthread thread_;
};

}  // namespace

// ---- What ends a Poll

TEST_CASE("Waiting: a Wakeup ends the Poll under way") {
  World world;
  Consumer consumer = world.Assigned();
  Waker waker([&] { consumer.Wakeup(); });
  CHECK(consumer.Poll(kLong).status().code() == absl::StatusCode::kCancelled);
  CHECK(waker.WasPrompt());
  CHECK(consumer.Poll(kShort).ok());
}

TEST_CASE("Waiting: Wakeups with no Poll under way end the next one, once") {
  World world;
  world.Send(0, "x");
  Consumer consumer = world.Assigned();
  consumer.Wakeup();
  consumer.Wakeup();
  CHECK(consumer.Poll(kLong).status().code() == absl::StatusCode::kCancelled);
  CHECK(Values(consumer.Poll(kLong).value()) == List{"x"});
}

TEST_CASE("Waiting: a stop request ends a Poll, before it and while it sleeps") {
  World world;
  Consumer consumer = world.Assigned();
  std::stop_source stop;
  {
    Waker stopper([&] { stop.request_stop(); });
    CHECK(consumer.Poll(kLong, stop.get_token()).status().code() == absl::StatusCode::kCancelled);
    CHECK(stopper.WasPrompt());
  }
  CHECK(consumer.Poll(kLong, stop.get_token()).status().code() == absl::StatusCode::kCancelled);
  CHECK(consumer.Poll(kShort).ok());
}

TEST_CASE("Waiting: Close of the broker ends a Poll that sleeps") {
  World world;
  Consumer consumer = world.Assigned();
  Waker closer([&] { world.broker.Close().IgnoreError(); });
  CHECK(consumer.Poll(kLong).status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(closer.WasPrompt());
}

// ---- What wakes it

TEST_CASE("Waiting: a record wakes the Poll that sleeps, every time") {
  World world({{"orders", 3}});
  Consumer consumer = world.Assigned();
  for (int i = 0; i < 20; ++i) {
    CAPTURE(i);
    Waker writer([&] { world.Log(i % 3).Append({.value = "x"}).IgnoreError(); });
    CHECK(consumer.Poll(kLong).value().size() == 1);
    CHECK(writer.WasPrompt());
  }
}

TEST_CASE("Waiting: a record of any of many partitions, of any topic, wakes it") {
  World world({{"orders", 200}, {"users", 1}});
  Consumer consumer = world.broker.NewConsumer().value();
  Partitions all = world.All();
  all.push_back({"users", 0});
  REQUIRE(consumer.Assign(all).ok());
  for (const TopicPartition& where : Partitions{{"orders", 137}, {"users", 0}, {"orders", 137}}) {
    Waker writer(
        [&] { world.Log(where.partition, where.topic).Append({.value = "x"}).IgnoreError(); });
    CHECK(consumer.Poll(kLong).value().size() == 1);
    CHECK(writer.WasPrompt());
  }
}

TEST_CASE("Waiting: several consumers of one topic are all woken") {
  World world;
  std::atomic<int> awake{0};
  std::vector<std::jthread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&, consumer = world.Assigned()]() mutable {
      for (int n = 0; n < 5;) {
        const RecordBatch batch = consumer.Poll(kLong).value();
        if (batch.empty()) return;
        n += static_cast<int>(batch.size());
      }
      ++awake;
    });
  }
  const StallMeter meter;
  for (int i = 0; i < 5; ++i) {
    absl::SleepFor(absl::Milliseconds(50));  // they sleep again, or read it together with the next
    world.Send(0, "x");
  }
  const std::int64_t last_ns = os::MonotonicNanos();
  readers.clear();
  CHECK(awake == 3);
  CHECK(os::MonotonicNanos() - last_ns < absl::ToInt64Nanoseconds(kSoon) + meter.WorstNs());
}

TEST_CASE("Waiting: with kDurable it is the flush that wakes it") {
  World world({{"orders", 1}}, {.background_threads = false});
  Consumer consumer = world.Assigned({.read_up_to = ReadUpTo::kDurable});
  world.Send(0, "x");
  Waker flusher([&] { world.Log().Flush().IgnoreError(); });
  CHECK(consumer.Poll(kLong).value().size() == 1);
  CHECK(flusher.WasPrompt());
}

TEST_CASE("Waiting: no record is missed between a look and a sleep") {
  World world({{"orders", 2}});
  Consumer consumer = world.Assigned();
  const Writer writer(world);
  for (int seen = 0; seen < Writer::kRecords;) {
    const RecordBatch batch = consumer.Poll(absl::Milliseconds(900)).value();
    // Else only the look that comes once a second would find it.
    if (batch.empty()) REQUIRE_FALSE(writer.HasMissed(seen));
    seen += static_cast<int>(batch.size());
  }
}

// ---- Read-only

TEST_CASE("Waiting: read-only, Assign works, and what writes is kFailedPrecondition") {
  World world;
  world.Send(0, "x");
  Broker reader = Broker::Open(world.dir.path() / "data", {.read_only = true}).value();
  Consumer consumer = reader.NewConsumer({.group = "billing"}).value();
  CHECK(consumer.Subscribe({"orders"}).code() == absl::StatusCode::kFailedPrecondition);
  REQUIRE(consumer.Assign({{"orders", 0}}).ok());
  CHECK(Values(consumer.Poll(kLong).value()) == List{"x"});
  CHECK(consumer.Commit().code() == absl::StatusCode::kFailedPrecondition);
  CHECK_FALSE(consumer.committed({"orders", 0}).value().has_value());
}

TEST_CASE("Waiting: read-only, a sleeping Poll notices a record soon") {
  World world({{"orders", 2}});
  Broker reader = Broker::Open(world.dir.path() / "data", {.read_only = true}).value();
  Consumer consumer = reader.NewConsumer().value();
  REQUIRE(consumer.Assign(world.All()).ok());
  for (int i = 0; i < 3; ++i) {
    Waker writer([&] { world.Log(1).Append({.value = "x"}).IgnoreError(); });
    CHECK(consumer.Poll(kLong).value().size() == 1);
    CHECK(writer.WasPrompt());
  }
}

TEST_CASE("Waiting: read-only, it follows writers that open the directory after it") {
  World world;
  world.Send(0, "a");
  REQUIRE(world.broker.Close().ok());
  world.broker = Broker();
  Broker reader = Broker::Open(world.dir.path() / "data", {.read_only = true}).value();
  Consumer consumer = reader.NewConsumer().value();
  REQUIRE(consumer.Assign({{"orders", 0}}).ok());
  CHECK(Values(consumer.Poll(kLong).value()) == List{"a"});
  const int fd = consumer.ReadyFd().value();
  CHECK(consumer.Poll(absl::ZeroDuration()).value().empty());
  world.broker = Broker::Open(world.dir.path() / "data").value();
  world.Send(0, "b");
  CHECK(IsReadable(fd, kSoon));
  CHECK(Values(consumer.Poll(kLong).value()) == List{"b"});
}

// ---- The eventfd

TEST_CASE("ReadyFd: readable from a record on until a Poll has taken it") {
  World world({{"orders", 2}});
  Consumer consumer = world.Assigned();
  const int fd = consumer.ReadyFd().value();
  CHECK(consumer.ReadyFd().value() == fd);
  CHECK_FALSE(IsReadable(fd));
  for (int i = 0; i < 5; ++i) {
    world.Send(i % 2, "x");
    CHECK(IsReadable(fd, kSoon));
    CHECK(consumer.Poll(absl::ZeroDuration()).value().size() == 1);
    CHECK_FALSE(IsReadable(fd, kShort));
  }
  CHECK_FALSE(IsReadable(fd, absl::Milliseconds(1500)));  // the look once a second is quiet
}

TEST_CASE("ReadyFd: readable at once where there is something already") {
  World world;
  world.SendMany(0, 3);
  Consumer consumer = world.Assigned({.max_poll_records = 2});
  const int fd = consumer.ReadyFd().value();
  CHECK(IsReadable(fd));
  CHECK(consumer.Poll(absl::ZeroDuration()).value().size() == 2);
  CHECK(IsReadable(fd));  // one is left
  CHECK(consumer.Poll(absl::ZeroDuration()).value().size() == 1);
  CHECK(consumer.Poll(absl::ZeroDuration()).value().empty());
  CHECK_FALSE(IsReadable(fd));
}

TEST_CASE("ReadyFd: a Seek, a Resume, a rebalance and a Wakeup make it readable") {
  World world;
  world.Send(0, "x");
  Consumer consumer = world.Subscribed();
  const int fd = consumer.ReadyFd().value();
  CHECK(IsReadable(fd));  // the assignment waits
  const auto drain = [&] {
    while (!consumer.Poll(absl::ZeroDuration()).value().empty()) {
    }
    return !IsReadable(fd);
  };
  CHECK(drain());
  REQUIRE(consumer.SeekToBeginning().ok());
  CHECK(IsReadable(fd));
  CHECK(drain());
  const TopicPartition where{"orders", 0};
  REQUIRE(consumer.Pause({&where, 1}).ok());
  world.Send(0, "y");
  CHECK_FALSE(IsReadable(fd, kShort));
  REQUIRE(consumer.Resume({&where, 1}).ok());
  CHECK(IsReadable(fd));
  CHECK(drain());
  consumer.Wakeup();
  CHECK(IsReadable(fd));
  CHECK(consumer.Poll(absl::ZeroDuration()).status().code() == absl::StatusCode::kCancelled);
  CHECK(drain());
  REQUIRE(consumer.Subscribe({}).ok());
  CHECK(IsReadable(fd));
}

TEST_CASE("ReadyFd: other consumers of the topic do not take its news away") {
  World world;
  Consumer other = world.Assigned();
  Consumer consumer = world.Assigned();
  const int fd = consumer.ReadyFd().value();
  for (int i = 0; i < 50; ++i) {
    CAPTURE(i);
    CHECK(other.Poll(absl::Milliseconds(1)).value().empty());  // sets its flag
    world.Send(0, "x");
    REQUIRE(IsReadable(fd, kSoon));
    CHECK(other.Poll(kLong).value().size() == 1);
    CHECK(consumer.Poll(absl::ZeroDuration()).value().size() == 1);
  }
}

TEST_CASE("ReadyFd: no record is missed between a Poll and a wait on it") {
  World world({{"orders", 2}});
  Consumer consumer = world.Assigned();
  const int fd = consumer.ReadyFd().value();
  const Writer writer(world);
  for (int seen = 0; seen < Writer::kRecords;) {
    if (!IsReadable(fd, absl::Milliseconds(900))) REQUIRE_FALSE(writer.HasMissed(seen));
    seen += static_cast<int>(consumer.Poll(absl::ZeroDuration()).value().size());
  }
}

TEST_CASE("ReadyFd: several consumers of a broker, which go in any order") {
  World world;
  auto first = std::make_unique<Consumer>(world.Assigned());
  auto second = std::make_unique<Consumer>(world.Assigned());
  REQUIRE(first->ReadyFd().ok());
  const int fd = second->ReadyFd().value();
  first.reset();
  world.Send(0, "x");
  CHECK(IsReadable(fd, kSoon));
  second.reset();
  Consumer third = world.Assigned();
  CHECK(IsReadable(third.ReadyFd().value()));
}

TEST_CASE("ReadyFd: readable when its consumer or the broker was closed") {
  World world;
  Consumer one = world.Assigned();
  Consumer other = world.Assigned();
  const int of_one = one.ReadyFd().value();
  const int of_other = other.ReadyFd().value();
  REQUIRE(one.Close().ok());
  CHECK(IsReadable(of_one));
  CHECK_FALSE(IsReadable(of_other));
  REQUIRE(world.broker.Close().ok());
  CHECK(IsReadable(of_other));
  CHECK(other.Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition);
}

}  // namespace cordwood
