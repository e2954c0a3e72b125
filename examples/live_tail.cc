// tail -f for a topic, from another process, while others write it. It opens the directory
// read-only: it needs no write permission, joins no group and disturbs nobody.
//
//   usage: live_tail [-n N] DIRECTORY TOPIC
//
//   -n N   begin with the last N records of each partition (default: 10)
//
//   prints a line for each record: partition@offset, its time, key and value between tabs
//
// Ctrl-C (or SIGTERM) ends it. exit codes: 0 ended by a signal; 1 something failed, and stderr
// says what; 2 wrong arguments.
//
// Try: build the examples, then in one terminal
//   access_log --data nasa --rate 100
// and in another
//   live_tail nasa access-log
#include <cordwood/cordwood.h>
#include <cordwood/status_macros.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

namespace {
using namespace cordwood;

constexpr char kUsage[] =
    "usage: live_tail [-n N] DIRECTORY TOPIC\n"
    "\n"
    "Prints the last N records (default: 10) of each partition, then what comes, until Ctrl-C.\n";

struct Options {
  std::int64_t last = 10;
  std::string directory = {};
  std::string topic = {};
};

std::optional<Options> ParseOptions(const std::vector<std::string>& args) {
  Options options;
  std::vector<std::string> words;
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] != "-n") {
      if (args[i].empty() || args[i].front() == '-') return std::nullopt;
      words.push_back(args[i]);
      continue;
    }
    if (++i == args.size()) return std::nullopt;
    const char* const end = args[i].data() + args[i].size();
    const auto [stop, error] = std::from_chars(args[i].data(), end, options.last);
    if (error != std::errc() || stop != end || options.last < 0) return std::nullopt;
  }
  if (words.size() != 2) return std::nullopt;
  options.directory = words[0];
  options.topic = words[1];
  return options;
}

// A record holds any bytes, and a terminal obeys some of them: those are shown as \x1b.
std::string Printable(std::optional<std::string_view> bytes) {
  if (!bytes) return "(none)";
  std::string out;
  for (const char c : *bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", static_cast<unsigned>(byte));
      out += escaped;
    }
  }
  return out;
}

std::string_view InWords(GapReason reason) {
  switch (reason) {
    case GapReason::kRetention:
      return "retention";
    case GapReason::kTrim:
      return "a trim";
    case GapReason::kDropped:
      return "a full backlog";
    case GapReason::kTombstones:
      return "removed tombstones";
    case GapReason::kDamage:
      return "damage";
    case GapReason::kPowerLoss:
      return "a power cut";
  }
  return "an unknown reason";
}

void Print(const RecordBatch& batch) {
  // What is missing is said, not passed over.
  for (const Gap& gap : batch.gaps()) {
    std::printf("%d@%lld\t(no records up to %lld: %s)\n", gap.partition,
                static_cast<long long>(gap.from), static_cast<long long>(gap.to),
                std::string(InWords(gap.reason)).c_str());
  }
  for (const RecordView& record : batch) {
    const std::string time =
        absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", record.timestamp(), absl::UTCTimeZone());
    std::printf("%d@%lld\t%s\t%s\t%s\n", record.partition(),
                static_cast<long long>(record.offset()), time.c_str(),
                Printable(record.key()).c_str(),
                record.is_tombstone() ? "(tombstone)" : Printable(record.value()).c_str());
  }
  std::fflush(stdout);
}

absl::Status Tail(const Options& options, const std::stop_token& stop) {
  CORDWOOD_ASSIGN_OR_RETURN(Broker broker, Broker::Open(options.directory, {.read_only = true}));
  CORDWOOD_ASSIGN_OR_RETURN(Topic topic, broker.OpenTopic(options.topic));
  CORDWOOD_ASSIGN_OR_RETURN(Consumer consumer, broker.NewConsumer());

  std::vector<TopicPartition> all;
  for (int p = 0; p < topic.partition_count(); ++p) all.push_back({options.topic, p});
  CORDWOOD_RETURN_IF_ERROR(consumer.Assign(all));
  for (const TopicPartition& tp : all) {
    const Partition log = topic.partition(tp.partition);
    const Offset end = log.end_offset();
    CORDWOOD_RETURN_IF_ERROR(
        consumer.Seek(tp, std::max(log.start_offset(), end - std::min(end, options.last))));
  }

  RecordBatch batch;
  for (;;) {
    const absl::Status polled = consumer.PollInto(batch, absl::InfiniteDuration(), stop);
    if (absl::IsCancelled(polled)) return consumer.Close();
    CORDWOOD_RETURN_IF_ERROR(polled);
    Print(batch);
  }
}
}  // namespace

int main(int argc, char** argv) {
  const auto options =
      ParseOptions(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  if (!options) {
    std::fputs(kUsage, stderr);
    return 2;
  }

  // A signal handler may do next to nothing. So every thread blocks the two signals, and one of
  // them waits for them and asks for a stop, which ends a sleeping Poll.
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

  const absl::Status status = Tail(*options, stop.get_token());
  kill(getpid(), SIGTERM);  // if no signal has come, the waiter still waits for one
  waiter.join();
  if (!status.ok()) {
    std::fprintf(stderr, "live_tail: %s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
