// A program whose events go to Apache Kafka, and which does not mind when the cluster is away: it
// logs locally, and a KafkaForwarder carries the log over.
//
//   usage: kafka_buffer [--events N] [--rate PER_SECOND] DIRECTORY BOOTSTRAP_SERVERS TOPIC
//
//   --events N   how many events are logged (default: 1,000); 0: only what is there is carried
//   --rate N     how many a second (default: 100)
//
//   prints a line a second: what was logged, what has arrived, the lag, and what is wrong. It ends
//   when all has arrived, or at Ctrl-C; run again, it goes on where it was. The topic is made.
//
// exit codes: 0 all has arrived, or ended by a signal; 1 something failed, and stderr says what;
// 2 wrong arguments.
//
// Try: start it, stop the broker, start the broker again, and watch the lag.
#include <cordwood/cordwood.h>
#include <cordwood/kafka/forwarder.h>
#include <cordwood/status_macros.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace {
using namespace cordwood;

struct Options {
  std::int64_t events = 1000;
  std::int64_t rate = 100;
  std::string directory = {}, servers = {}, topic = {};
};

std::optional<Options> ParseOptions(const std::vector<std::string>& args) {
  Options options;
  std::vector<std::string> words;
  for (std::size_t i = 0; i < args.size(); ++i) {
    std::int64_t* number = nullptr;
    if (args[i] == "--events") number = &options.events;
    if (args[i] == "--rate") number = &options.rate;
    if (number == nullptr) {
      if (args[i].empty() || args[i].front() == '-') return std::nullopt;
      words.push_back(args[i]);
      continue;
    }
    if (++i == args.size()) return std::nullopt;
    const char* const end = args[i].data() + args[i].size();
    const auto [stop, error] = std::from_chars(args[i].data(), end, *number);
    if (error != std::errc() || stop != end || *number < 0) return std::nullopt;
  }
  if (words.size() != 3 || options.rate == 0) return std::nullopt;
  options.directory = words[0];
  options.servers = words[1];
  options.topic = words[2];
  return options;
}

// Logs the events, whether or not there is a cluster.
absl::Status LogEvents(const Topic& topic, const Options& options, std::stop_token stop) {
  for (std::int64_t i = 0; i < options.events && !stop.stop_requested(); ++i) {
    const std::string sensor = "sensor-" + std::to_string(i % 10);
    const std::string value = std::to_string(20 + i % 7);
    const Partition log = topic.partition(topic.PartitionFor(sensor));
    CORDWOOD_RETURN_IF_ERROR(log.Append({.key = sensor, .value = value}).status());
    absl::SleepFor(absl::Seconds(1) / options.rate);
  }
  return absl::OkStatus();
}

void Print(const kafka::KafkaForwarder& forwarder) {
  for (const kafka::ForwardedTopic& topic : forwarder.progress()) {
    std::printf("arrived %lld, lag %lld%s%s\n", static_cast<long long>(topic.records),
                static_cast<long long>(topic.lag), topic.last_error.empty() ? "" : ", ",
                topic.last_error.c_str());
    std::fflush(stdout);
  }
}

absl::Status Run(const Options& options, std::stop_token stop) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, Broker::Open(options.directory));
  // murmur2: in the cluster a key is where every other producer would put it.
  CORDWOOD_ASSIGN_OR_RETURN(
      const Topic topic,
      broker.OpenOrCreateTopic(options.topic, {.partitions = 3, .partitioner = "murmur2"}));
  CORDWOOD_ASSIGN_OR_RETURN(
      kafka::KafkaForwarder forwarder,
      kafka::KafkaForwarder::Open(
          broker, {.cluster = {.properties = {{"bootstrap.servers", options.servers}}},
                   .group = "to-kafka",
                   .routes = {{.topic = options.topic}},
                   .create_topics = true}));

  std::jthread reporter([&](std::stop_token done) {
    while (!done.stop_requested()) {
      Print(forwarder);
      absl::SleepFor(absl::Seconds(1));
    }
  });
  absl::Status forwarded;
  {
    // Beside the events ...
    std::jthread thread(
        [&](std::stop_token stop_forwarder) { forwarded = forwarder.Run(stop_forwarder); });
    CORDWOOD_RETURN_IF_ERROR(LogEvents(topic, options, stop));
  }
  // ... and what is left.
  if (forwarded.ok()) forwarded = forwarder.RunToEnd(stop);
  reporter.request_stop();
  reporter.join();
  Print(forwarder);
  CORDWOOD_RETURN_IF_ERROR(forwarded);
  return broker.Close();
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Options> options = ParseOptions({argv + 1, argv + argc});
  if (!options) {
    std::fputs(
        "usage: kafka_buffer [--events N] [--rate PER_SECOND] DIRECTORY BOOTSTRAP_SERVERS TOPIC\n",
        stderr);
    return 2;
  }
  // A thread of its own waits for the signals; all others have them blocked.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::stop_source stop;
  std::thread waiter([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    stop.request_stop();
  });

  const absl::Status status = Run(*options, stop.get_token());
  kill(getpid(), SIGTERM);  // if no signal has come, the waiter still waits for one
  waiter.join();
  if (!status.ok()) std::fprintf(stderr, "kafka_buffer: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
