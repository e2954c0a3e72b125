// Consumers in several processes: following live, and what a killed one leaves.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "cordwood/consumer.h"
#include "tests/support/consumer_fixture.h"

namespace cordwood {
namespace {

using namespace consumer_testing;

// Runs in a process of its own, which opens what it needs itself. Exit code 0: it returned
// true.
class Child {
 public:
  explicit Child(const std::function<bool()>& f) : pid_(fork()) {
    if (pid_ == 0) _exit(f() ? 0 : 1);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { Kill(); }

  bool Succeeds() {
    int status = 0;
    waitpid(std::exchange(pid_, 0), &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  void Kill() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    waitpid(std::exchange(pid_, 0), nullptr, 0);
  }

 private:
  pid_t pid_;
};

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
  // Until the child has got so far: there is a file of that name.
  std::filesystem::path Flag(const std::string& name) const { return dir.path() / name; }
  bool WaitFor(const std::string& name) const {
    for (int i = 0; i < 1000 && !std::filesystem::exists(Flag(name)); ++i) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    return std::filesystem::exists(Flag(name));
  }
  void Tell(const std::string& name) const { std::ofstream(Flag(name)) << "x"; }

  TempDir dir;
};

}  // namespace

TEST_CASE("Processes: a consumer follows live what another process appends") {
  Directory d;
  Child reader([&] {
    Broker broker = d.Open();
    Consumer consumer = d.Billing(broker);
    if (!consumer.Subscribe({"orders"}).ok() || !consumer.Poll(kShort).ok()) return false;
    d.Tell("reading");
    absl::Duration slowest;
    for (int seen = 0; seen < 20;) {
      const absl::Time begin = absl::Now();
      const RecordBatch batch = consumer.Poll(kLong).value();
      slowest = std::max(slowest, absl::Now() - begin);
      if (batch.empty()) return false;
      seen += static_cast<int>(batch.size());
    }
    return slowest < absl::Milliseconds(600) && consumer.Commit().ok();
  });
  REQUIRE(d.WaitFor("reading"));
  Broker broker = d.Open();
  for (int i = 0; i < 20; ++i) {
    d.Send(broker, "x");
    absl::SleepFor(absl::Milliseconds(20));
  }
  CHECK(reader.Succeeds());
  Consumer next = d.Billing(broker);
  REQUIRE(next.Subscribe({"orders"}).ok());
  CHECK(next.Poll(kShort).value().empty());
}

TEST_CASE("Processes: a member that is killed is replaced at once, from its last commit") {
  Directory d;
  Child member([&] {
    Broker broker = d.Open();
    for (const char* value : {"a", "b", "c"}) d.Send(broker, value);
    Consumer consumer = d.Billing(broker);
    if (!consumer.Subscribe({"orders"}).ok()) return false;
    const RecordBatch batch = consumer.Poll(kLong).value();
    if (batch.size() != 3 || !consumer.Commit(*++batch.begin()).ok()) return false;
    d.Tell("committed");
    for (;;) pause();
  });
  REQUIRE(d.WaitFor("committed"));
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
  Child member([&] {
    Broker broker = d.Open();
    d.Send(broker, "a");
    Consumer consumer = d.Billing(broker);
    if (!consumer.Subscribe({"orders"}).ok() || !consumer.Poll(kLong).ok()) return false;
    if (!consumer.Commit().ok()) return false;
    d.Tell("committed");
    for (;;) pause();
  });
  REQUIRE(d.WaitFor("committed"));
  member.Kill();
  Broker broker = d.Open();
  Consumer consumer = d.Billing(broker);
  REQUIRE(consumer.Subscribe({"orders"}).ok());
  CHECK(consumer.Poll(kShort).value().empty());
  CHECK(consumer.committed({"orders", 0}).value() == 1);
}

TEST_CASE("Processes: a consumer that sleeps is not held up by one that was killed asleep") {
  Directory d;
  Child sleeper([&] {
    Broker broker = d.Open();
    Consumer consumer = broker.NewConsumer().value();
    if (!consumer.Assign({{"orders", 0}}).ok() || !consumer.Poll(kShort).ok()) return false;
    d.Tell("asleep");
    return consumer.Poll(absl::InfiniteDuration()).ok();
  });
  REQUIRE(d.WaitFor("asleep"));
  Broker broker = d.Open();
  absl::SleepFor(absl::Milliseconds(50));
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
  Child child([&] {
    const bool refused =
        consumer->Poll(kShort).status().code() == absl::StatusCode::kFailedPrecondition &&
        consumer->Commit().code() == absl::StatusCode::kFailedPrecondition;
    consumer.reset();  // does not hang, and takes nothing from the parent
    return refused;
  });
  CHECK(child.Succeeds());
  CHECK(consumer->Poll(kLong).value().size() == 1);
  CHECK(consumer->assignment().size() == 2);
  CHECK(broker.DescribeGroup("billing").value().state == "Stable");
}

}  // namespace cordwood
