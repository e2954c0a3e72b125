// From the SIGKILL of a group's member to the first record of its partitions at another one.
//
//   usage: failover [KILLS]      (200 by default; about a quarter of a second each)
//   prints: 200 kills: from kill to first record median 55.1 ms, worst 112.3 ms
//
// A topic of two partitions, to each of which a record is appended every millisecond; two members
// in two processes, one of which is killed, again and again.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "cordwood/cordwood.h"

namespace {

using namespace cordwood;

Consumer Join(const Broker& broker) {
  Consumer consumer = broker.NewConsumer({.group = "billing"}).value();
  if (!consumer.Subscribe({"orders"}).ok()) std::abort();
  return consumer;
}

[[noreturn]] void Work(const std::string& directory) {
  const Broker broker = Broker::Open(directory).value();
  Consumer consumer = Join(broker);
  for (;;) {
    if (consumer.Poll(absl::Milliseconds(100)).ok()) consumer.Commit().IgnoreError();
  }
}

pid_t Start(const std::string& directory) {
  const pid_t pid = fork();
  if (pid == 0) {
    execl("/proc/self/exe", "failover", "--member", directory.c_str(), nullptr);
    _exit(1);
  }
  return pid;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--member") Work(argv[2]);
  const int kills = argc > 1 ? std::atoi(argv[1]) : 200;
  if (kills < 1) return 2;

  const benchmarks::BenchmarkDir dir;
  const std::string directory = (dir.path() / "data").string();
  const Broker broker = Broker::Open(directory).value();
  const Topic orders = broker.CreateTopic("orders", {.partitions = 2}).value();
  std::atomic<bool> done{false};
  std::thread producer([&] {
    while (!done) {
      for (int p = 0; p < 2; ++p) orders.partition(p).Append({.value = "x"}).IgnoreError();
      absl::SleepFor(absl::Milliseconds(1));
    }
  });

  Consumer consumer = Join(broker);
  std::vector<absl::Duration> times;
  for (int i = 0; i < kills; ++i) {
    const pid_t other = Start(directory);
    // Until each has its partition.
    while (consumer.assignment().size() != 1 ||
           broker.DescribeGroup("billing").value().state != "Stable") {
      if (consumer.Poll(absl::Milliseconds(1)).ok()) consumer.Commit().IgnoreError();
    }
    const int lost = 1 - consumer.assignment().front().partition;
    const absl::Time began = absl::Now();
    kill(other, SIGKILL);
    for (bool is_there = false; !is_there;) {
      const RecordBatch batch = consumer.Poll(absl::Seconds(1)).value();
      for (const RecordView& record : batch) is_there = is_there || record.partition() == lost;
      consumer.Commit().IgnoreError();
    }
    times.push_back(absl::Now() - began);
    waitpid(other, nullptr, 0);
  }
  done = true;
  producer.join();

  std::sort(times.begin(), times.end());
  std::printf("%d kills: from kill to first record median %.1f ms, worst %.1f ms\n", kills,
              absl::ToDoubleMilliseconds(times[times.size() / 2]),
              absl::ToDoubleMilliseconds(times.back()));
  return 0;
}
