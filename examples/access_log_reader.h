// The reading side of access_log: another process, which follows the topic as it grows.
//
//   parent                                    child: the same program, with --reader
//   ReaderProcess::Start  ---- spawns ---->   FollowTopic: joins the group "reader"
//   WaitUntilReady        <--- its stdout --  where the group resumes, for each partition
//   (sends records)       ==== the topic ==>  polls, counts, commits
//   records_read()        <--- its stdout --  how many so far
//   NoMoreIsComing        ---- end of stdin   reads what is left and ends
//   Finish                <--- its stdout --  its report
//
// The records go through the topic's files alone; the pipe carries what the parent shows. If the
// parent dies, its end of the pipe closes, and the child ends too.
#ifndef CORDWOOD_EXAMPLES_ACCESS_LOG_READER_H_
#define CORDWOOD_EXAMPLES_ACCESS_LOG_READER_H_

#include <cordwood/cordwood.h>
#include <cordwood/status_macros.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "access_log_parser.h"
#include "access_log_report.h"
#include "access_log_sender.h"

namespace access_log {

// What the reader has to say in the end.
struct ReadReport {
  struct PartitionRead {
    std::optional<cordwood::Offset> resumed =
        {};                     // the group's committed offset; none: a new group
    cordwood::Offset next = 0;  // committed at the end
    std::int64_t records = 0;
    std::int64_t bytes = 0;
    std::int64_t skipped = 0;  // offsets that came as a gap
  };
  struct Host {
    std::int64_t requests = 0;
    std::string name = {};
    std::string last_request = {};
  };
  std::map<int, PartitionRead> partitions = {};
  std::vector<Host> busiest = {};  // at most kBusiestMax, the busiest first
};
inline constexpr std::size_t kBusiestMax = 10;

// ---------------------------------------------------------------- in the child

namespace internal {

struct HostCount {
  std::int64_t requests = 0;
  std::string last_request = {};
};
using HostCounts = std::map<std::string, HostCount, std::less<>>;

inline void CountHost(const cordwood::RecordView& record, HostCounts& hosts) {
  const std::string_view host = record.key().value_or("");
  auto found = hosts.find(host);
  if (found == hosts.end()) found = hosts.emplace(host, HostCount{}).first;
  ++found->second.requests;
  // A host's requests are in one partition, so the last one that is seen is the last one made.
  const absl::StatusOr<AccessLogLine> line = ParseAccessLogLine(record.value().value_or(""));
  if (line.ok()) found->second.last_request = line->request;
}

inline std::vector<ReadReport::Host> Busiest(const HostCounts& hosts) {
  std::vector<ReadReport::Host> all;
  all.reserve(hosts.size());
  for (const auto& [name, count] : hosts) {
    all.push_back({count.requests, name, count.last_request});
  }
  const std::size_t top = std::min(kBusiestMax, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(top), all.end(),
                    [](const ReadReport::Host& a, const ReadReport::Host& b) {
                      return a.requests != b.requests ? a.requests > b.requests : a.name < b.name;
                    });
  all.resize(top);
  return all;
}

// One line for each fact, its fields between tabs; ReaderProcess::TakeLine() is the other half.
inline void PrintReport(const std::map<int, ReadReport::PartitionRead>& partitions,
                        const HostCounts& hosts) {
  for (const auto& [p, read] : partitions) {
    std::printf("partition\t%d\t%lld\t%lld\t%lld\t%lld\n", p, static_cast<long long>(read.next),
                static_cast<long long>(read.records), static_cast<long long>(read.bytes),
                static_cast<long long>(read.skipped));
  }
  for (const ReadReport::Host& host : Busiest(hosts)) {
    std::printf("host\t%lld\t%s\t%s\n", static_cast<long long>(host.requests),
                Printable(host.name, 200).c_str(), Printable(host.last_request, 200).c_str());
  }
  std::printf("done\n");
  std::fflush(stdout);
}

}  // namespace internal

// Follows the topic as the only member of the group until stdin ends; then reads what is left,
// commits it durably and reports on stdout.
inline absl::Status FollowTopic(const std::string& directory) {
  CORDWOOD_ASSIGN_OR_RETURN(cordwood::Broker broker,
                            cordwood::Broker::Open(directory, {.create_if_missing = false}));
  std::map<int, ReadReport::PartitionRead> partitions;
  absl::Status joined;
  const auto on_assigned = [&](cordwood::Consumer& self, const auto& assigned) {
    for (const cordwood::TopicPartition& tp : assigned) {
      const absl::StatusOr<std::optional<cordwood::Offset>> committed = self.committed(tp);
      joined.Update(committed.status());
      if (!committed.ok()) return;
      partitions[tp.partition].next = committed->value_or(0);
      std::printf("resume\t%d\t%lld\n", tp.partition,
                  static_cast<long long>(committed->value_or(-1)));
    }
    std::printf("ready\n");
    std::fflush(stdout);
  };
  CORDWOOD_ASSIGN_OR_RETURN(cordwood::Consumer consumer,
                            broker.NewConsumer({.group = kGroup, .on_assigned = on_assigned}));
  CORDWOOD_RETURN_IF_ERROR(consumer.Subscribe({kTopic}));

  // A sleeping Poll ends when stdin does. The thread shares nothing but the stop state, which it
  // owns a part of, so it may outlive this function.
  std::stop_source no_more;
  std::thread([no_more]() mutable {
    char ignored[64];
    while (read(STDIN_FILENO, ignored, sizeof ignored) > 0) {
    }
    no_more.request_stop();
  }).detach();

  internal::HostCounts hosts;
  std::int64_t total = 0;
  cordwood::RecordBatch batch;  // its memory is used again by every poll
  for (;;) {
    // Asked before the poll: what was sent before stdin ended, this poll or a later one sees.
    const bool ending = no_more.stop_requested();
    const absl::Status polled =
        ending ? consumer.PollInto(batch, absl::ZeroDuration())
               : consumer.PollInto(batch, absl::Seconds(10), no_more.get_token());
    CORDWOOD_RETURN_IF_ERROR(joined);
    if (absl::IsCancelled(polled)) continue;
    CORDWOOD_RETURN_IF_ERROR(polled);
    if (batch.empty() && batch.gaps().empty()) {
      if (ending) break;
      continue;
    }
    for (const cordwood::Gap& gap : batch.gaps()) {
      partitions[gap.partition].skipped += gap.to - gap.from;
      partitions[gap.partition].next = std::max(partitions[gap.partition].next, gap.to);
    }
    for (const cordwood::PartitionRecords& records : batch.partitions()) {
      ReadReport::PartitionRead& read = partitions[records.partition()];
      for (const cordwood::RecordView& record : records) {
        ++read.records;
        read.bytes += static_cast<std::int64_t>(record.value().value_or("").size());
        internal::CountHost(record, hosts);
      }
      read.next = records.next_offset();
    }
    total += static_cast<std::int64_t>(batch.size());
    CORDWOOD_RETURN_IF_ERROR(consumer.Commit());  // after the work: at least once
    std::printf("read\t%lld\n", static_cast<long long>(total));
    std::fflush(stdout);
  }
  CORDWOOD_RETURN_IF_ERROR(consumer.Commit({.durability = cordwood::Durability::kDurable}));
  internal::PrintReport(partitions, hosts);
  return consumer.Close();
}

// ---------------------------------------------------------------- in the parent

class ReaderProcess {
 public:
  // Runs this program once more, as `program --reader --data directory`.
  static absl::StatusOr<std::unique_ptr<ReaderProcess>> Start(const std::string& directory) {
    int to_child[2];
    int from_child[2];
    if (pipe2(to_child, O_CLOEXEC) != 0) return ErrnoStatus("pipe");
    if (pipe2(from_child, O_CLOEXEC) != 0) {
      const absl::Status status = ErrnoStatus("pipe");
      close(to_child[0]);
      close(to_child[1]);
      return status;
    }
    std::vector<std::string> words = {"access_log", "--reader", "--data", directory};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to_child[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, from_child[1], STDOUT_FILENO);
    pid_t pid = -1;
    const int error = posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(to_child[0]);
    close(from_child[1]);
    if (error != 0) {
      close(to_child[1]);
      close(from_child[0]);
      errno = error;
      return ErrnoStatus("posix_spawn of /proc/self/exe");
    }
    return std::unique_ptr<ReaderProcess>(new ReaderProcess(pid, to_child[1], from_child[0]));
  }

  ReaderProcess(const ReaderProcess&) = delete;
  ReaderProcess& operator=(const ReaderProcess&) = delete;
  ~ReaderProcess() { WaitForEnd(); }

  pid_t pid() const { return pid_; }

  // Until it owns its partitions; from then on resumed() says where the group resumes.
  absl::Status WaitUntilReady() {
    if (ready_.get_future().get()) return absl::OkStatus();
    return absl::UnavailableError("the reader ended before it was ready");
  }

  // Where the group resumes. After WaitUntilReady() and before NoMoreIsComing().
  const std::map<int, std::optional<cordwood::Offset>>& resumed() const { return resumed_; }

  std::int64_t records_read() const { return records_read_.load(std::memory_order_relaxed); }

  void NoMoreIsComing() {
    if (to_child_ >= 0) close(to_child_);
    to_child_ = -1;
  }

  // Waits until it has read all and is gone; then the report, or what went wrong.
  absl::StatusOr<ReadReport> Finish() {
    const int status = WaitForEnd();
    if (!done_ || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      return absl::UnavailableError("the reader (process " + std::to_string(pid_) +
                                    ") ended before it had read all");
    }
    for (const auto& [p, offset] : resumed_) report_.partitions[p].resumed = offset;
    return std::move(report_);
  }

 private:
  ReaderProcess(pid_t pid, int to_child, int from_child)
      : pid_(pid), to_child_(to_child), listener_([this, from_child] { Listen(from_child); }) {}

  static absl::Status ErrnoStatus(const std::string& what) {
    return absl::UnavailableError(what + ": " + std::strerror(errno));
  }

  // Everything that the child prints, until it closes its stdout, at its death at the latest.
  void Listen(int fd) {
    if (std::FILE* const in = fdopen(fd, "r"); in != nullptr) {
      char* line = nullptr;
      std::size_t capacity = 0;
      ssize_t size = 0;
      while ((size = getline(&line, &capacity, in)) > 0) {
        TakeLine(std::string_view(line, static_cast<std::size_t>(size) - 1));
      }
      std::free(line);
      std::fclose(in);
    }
    if (!was_ready_) ready_.set_value(false);
  }

  static std::string_view TakeField(std::string_view& line) {
    const std::string_view field = line.substr(0, line.find('\t'));
    line.remove_prefix(std::min(field.size() + 1, line.size()));
    return field;
  }
  static std::int64_t TakeNumber(std::string_view& line) {
    return std::atoll(std::string(TakeField(line)).c_str());
  }

  void TakeLine(std::string_view line) {
    const std::string_view what = TakeField(line);
    if (what == "read") {
      records_read_.store(TakeNumber(line), std::memory_order_relaxed);
    } else if (what == "resume" && !was_ready_) {
      const int p = static_cast<int>(TakeNumber(line));
      const std::int64_t offset = TakeNumber(line);
      resumed_[p] = offset < 0 ? std::nullopt : std::optional<cordwood::Offset>(offset);
    } else if (what == "ready" && !was_ready_) {
      was_ready_ = true;
      ready_.set_value(true);
    } else if (what == "partition") {
      ReadReport::PartitionRead& read = report_.partitions[static_cast<int>(TakeNumber(line))];
      read.next = TakeNumber(line);
      read.records = TakeNumber(line);
      read.bytes = TakeNumber(line);
      read.skipped = TakeNumber(line);
    } else if (what == "host") {
      ReadReport::Host host;
      host.requests = TakeNumber(line);
      host.name = TakeField(line);
      host.last_request = line;
      report_.busiest.push_back(std::move(host));
    } else if (what == "done") {
      done_ = true;
    }
  }

  // Lets the child end, and returns how it did.
  int WaitForEnd() {
    NoMoreIsComing();
    if (listener_.joinable()) {
      listener_.join();
      while (waitpid(pid_, &wait_status_, 0) < 0 && errno == EINTR) {
      }
    }
    return wait_status_;
  }

  const pid_t pid_;
  int to_child_;
  int wait_status_ = 0;
  std::atomic<std::int64_t> records_read_{0};
  std::promise<bool> ready_ = {};

  // Written by the listener. resumed_ may be read once ready_ is set, the others once it is joined.
  std::map<int, std::optional<cordwood::Offset>> resumed_ = {};
  bool was_ready_ = false;
  bool done_ = false;
  ReadReport report_ = {};

  std::thread listener_;  // the last member: it starts when the others are there
};

}  // namespace access_log

#endif  // CORDWOOD_EXAMPLES_ACCESS_LOG_READER_H_
