// Consumers in several processes: following live, and what a killed one leaves.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "cordwood/consumer.h"
#include "cordwood/os/clock.h"
#include "tests/support/child.h"
#include "tests/support/consumer_fixture.h"
#include "tests/support/sleeper.h"
#include "tests/support/stall_meter.h"

namespace cordwood {
namespace {

using namespace consumer_testing;
using testing::StallMeter;
using testing::WaitUntilItSleeps;

// What a child tells: that it has got so far; that it is through, and whether all was well.
constexpr std::uint32_t kSoFar = 1, kWell = 2, kNotWell = 3;

// The child's last word comes when what `f` has opened is closed.
template <class F>
auto ToldAtItsEnd(F f) {
  return [f](Child& parent) { parent.Tell(f(parent) ? kWell : kNotWell); };
}

// Forks before the broker is open, so that the child has no thread of ours.
struct Directory {
  Directory() {
    Broker broker = Open();
    broker.CreateTopic("orders", {.partitions = 2}).value();
    broker.Close().IgnoreError();
  }
  Broker Open() const { return Broker::Open(dir.path() / "data").value(); }
  static void Send(const Broker& broker, const std::string& value) {
    broker.OpenTopic("orders").value().partition(0).Append({.value = value}).value();
  }
  static Consumer Billing(const Broker& broker) {
    return broker.NewConsumer({.group = "billing"}).value();
  }

  TempDir dir;
};

}  // namespace

TEST_CASE("Processes: a consumer follows live what another process appends") {
  constexpr std::size_t kRecords = 20;
  using Times = std::array<std::int64_t, kRecords>;  // by offset
  Directory d;
  Child reader(ToldAtItsEnd([&](Child& parent) {
    Broker broker = d.Open();
    Consumer consumer = d.Billing(broker);
    if (!consumer.Subscribe({"orders"}).ok() || !consumer.Poll(kShort).ok()) return false;
    parent.Tell(kSoFar);
    const StallMeter meter;
    Times read = {};
    for (std::size_t seen = 0; seen < kRecords;) {
      const RecordBatch batch = consumer.Poll(kLong).value();
      const std::int64_t now = os::MonotonicNanos();
      if (batch.empty()) return false;
      for (const RecordView& record : batch) {
        read.at(static_cast<std::size_t>(record.offset())) = now;
      }
      seen += batch.size();
    }
    if (!consumer.Commit().ok()) return false;
    parent.Tell(kSoFar);
    parent.Send(read);
    parent.Send(meter.WorstNs());
    return true;
  }));
  REQUIRE(reader.Wait() == kSoFar);
  Broker broker = d.Open();
  Times appended = {};
  for (std::int64_t& time : appended) {
    REQUIRE(WaitUntilItSleeps(reader.pid()));
    d.Send(broker, "x");
    time = os::MonotonicNanos();
  }
  REQUIRE(reader.Wait() == kSoFar);
  const auto read = reader.Receive<Times>();
  const auto stalled = reader.Receive<std::int64_t>();
  // One who is not rung looks once a second.
  for (std::size_t i = 0; i < kRecords; ++i) CHECK(read[i] - appended[i] < 600'000'000 + stalled);
  CHECK(reader.Wait() == kWell);
  Consumer next = d.Billing(broker);
  REQUIRE(next.Subscribe({"orders"}).ok());
  CHECK(next.Poll(kShort).value().empty());
}

TEST_CASE("Processes: a member that is killed is replaced at once, from its last commit") {
  Directory d;
  Child member([&](Child& parent) {
    Broker broker = d.Open();
    for (const char* value : {"a", "b", "c"}) d.Send(broker, value);
    Consumer consumer = d.Billing(broker);
    if (!consumer.Subscribe({"orders"}).ok()) return;
    const RecordBatch batch = consumer.Poll(kLong).value();
    if (batch.size() != 3 || !consumer.Commit(*++batch.begin()).ok()) return;
    parent.Tell(kSoFar);
    parent.Wait();
  });
  REQUIRE(member.Wait() == kSoFar);
  Broker broker = d.Open();
  Consumer consumer = d.Billing(broker);
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  CHECK(consumer.Poll(kShort).value().empty());  // the other one lives, and has not polled
  CHECK(broker.DescribeGroup("billing").value().state == "PreparingRebalance");
  member.Kill();
  CHECK(Values(consumer.Poll(kLong).value()) == List{"c"});
}

TEST_CASE("Processes: a commit is there after its process, the last one, was killed") {
  Directory d;
  Child member([&](Child& parent) {
    Broker broker = d.Open();
    d.Send(broker, "a");
    Consumer consumer = d.Billing(broker);
    if (!consumer.Subscribe({"orders"}).ok() || !consumer.Poll(kLong).ok()) return;
    if (!consumer.Commit().ok()) return;
    parent.Tell(kSoFar);
    parent.Wait();
  });
  REQUIRE(member.Wait() == kSoFar);
  member.Kill();
  Broker broker = d.Open();
  Consumer consumer = d.Billing(broker);
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  CHECK(consumer.Poll(kShort).value().empty());
  CHECK(consumer.committed({"orders", 0}).value() == 1);
}

TEST_CASE("Processes: a consumer that sleeps is not held up by one that was killed asleep") {
  Directory d;
  Child sleeper([&](Child& parent) {
    Broker broker = d.Open();
    Consumer consumer = broker.NewConsumer().value();
    if (!consumer.Assign({{"orders", 0}}).ok() || !consumer.Poll(kShort).ok()) return;
    parent.Tell(kSoFar);
    consumer.Poll(absl::InfiniteDuration()).IgnoreError();
  });
  REQUIRE(sleeper.Wait() == kSoFar);
  Broker broker = d.Open();
  REQUIRE(WaitUntilItSleeps(sleeper.pid()));
  sleeper.Kill();
  Consumer consumer = broker.NewConsumer().value();
  REQUIRE(consumer.Assign({{"orders", 0}}).ok());
  for (int i = 0; i < 5; ++i) {
    CHECK(consumer.Poll(absl::Milliseconds(1)).value().empty());
    d.Send(broker, "x");
    CHECK(consumer.Poll(absl::Milliseconds(600)).value().size() == 1);
  }
}

TEST_CASE("Processes: a consumer that a child inherits answers kFailedPrecondition, and goes") {
  Directory d;
  Broker broker = d.Open();
  d.Send(broker, "x");
  std::optional<Consumer> consumer = d.Billing(broker);
  REQUIRE(consumer->Subscribe({"orders"}).ok());
  REQUIRE(consumer->ReadyFd().ok());
  Child child(ToldAtItsEnd([&](Child&) {
    const bool refused =
        consumer->Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition &&
        consumer->Commit().code() == absl::StatusCode::kFailedPrecondition;
    consumer.reset();  // does not hang, and takes nothing from the parent
    return refused;
  }));
  CHECK(child.Wait() == kWell);
  child.Kill();
  CHECK(consumer->Poll(kLong).value().size() == 1);
  CHECK(consumer->assignment().size() == 2);
  CHECK(broker.DescribeGroup("billing").value().state == "Stable");
}

}  // namespace cordwood
