// The sending side of access_log: a file's lines become records of the topic.
//
// The record of a line: its key is the host, so all requests of one host lie in one partition, in
// order; its value is the line as it stands in the file; its timestamp is the line's own.
#ifndef CORDWOOD_EXAMPLES_ACCESS_LOG_SENDER_H_
#define CORDWOOD_EXAMPLES_ACCESS_LOG_SENDER_H_

#include <cordwood/cordwood.h>
#include <cordwood/status_macros.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "access_log_parser.h"

namespace access_log {

inline constexpr char kTopic[] = "access-log";
inline constexpr char kGroup[] = "reader";

// Which lines of the file are in the topic already, found by comparing, with no notes kept beside
// the log. Each partition is read once, from its start, while the file goes by: a line is there if
// it is found behind the one before it. So a second run sends nothing, a run after a kill -9 or a
// power cut sends what is missing, and of a file that has grown goes what is new. (Where a trim or
// damage has taken a line, that line and those after it in its partition are sent again.)
class AlreadySent {
 public:
  static absl::StatusOr<AlreadySent> Open(const cordwood::Topic& topic) {
    AlreadySent already;
    for (int p = 0; p < topic.partition_count(); ++p) {
      const cordwood::Partition log = topic.partition(p);
      CORDWOOD_ASSIGN_OR_RETURN(cordwood::PartitionReader reader, log.Read(log.start_offset()));
      already.readers_.push_back(std::move(reader));
    }
    for (cordwood::PartitionReader& reader : already.readers_) {
      already.next_.push_back(reader.begin());
    }
    return already;
  }

  // Asked for every line once, in the order of the file.
  bool Contains(int partition, std::string_view line) {
    const auto p = static_cast<std::size_t>(partition);
    cordwood::PartitionReader::iterator& next = next_[p];
    const cordwood::PartitionReader::iterator end = readers_[p].end();
    while (next != end) {
      const bool found = next->value() == line;
      ++next;
      if (found) return true;
    }
    return false;
  }

  absl::Status status() const {
    for (const cordwood::PartitionReader& reader : readers_) {
      CORDWOOD_RETURN_IF_ERROR(reader.status());
    }
    return absl::OkStatus();
  }

 private:
  AlreadySent() = default;

  std::vector<cordwood::PartitionReader> readers_ = {};
  std::vector<cordwood::PartitionReader::iterator> next_ = {};  // into the reader beside it
};

// What became of a file's lines: sent + already + rejected is how many there are.
struct SendReport {
  std::int64_t sent = 0;
  std::int64_t sent_bytes = 0;  // of the lines, without their newlines
  std::int64_t already = 0;     // in the topic before this run
  std::int64_t rejected = 0;    // do not parse; kept out of the topic
  struct Rejected {
    std::int64_t line_number = 0;
    std::string why = {};
    std::string line = {};
  };
  std::vector<Rejected> first_rejected = {};  // at most kRejectedShownMax of them
  std::vector<std::int64_t> sent_to = {};     // by partition
  absl::Duration utc_offset = {};             // that of the first line which parses
  absl::Duration took = {};                   // from the first line sent to the last
};
inline constexpr std::size_t kRejectedShownMax = 5;

// A file of lines that is there and can be read, with its size.
struct LogFile {
  std::ifstream in = {};
  std::int64_t bytes = 0;
};

inline absl::StatusOr<LogFile> OpenLogFile(const std::string& path) {
  // A folder opens and then cannot be read, a terminal or FIFO waits for ever: neither is a log.
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError("there is no file '" + path + "'");
  }
  if (!std::filesystem::is_regular_file(status)) {
    return absl::InvalidArgumentError("'" + path + "' is not a regular file");
  }
  LogFile file;
  file.in.open(path, std::ios::binary);
  if (!file.in) {
    return absl::UnavailableError("cannot open '" + path + "': " + std::strerror(errno));
  }
  file.bytes = static_cast<std::int64_t>(std::filesystem::file_size(path, error));
  return file;
}

struct SendOptions {
  bool again = false;                 // also what the topic holds already
  std::int64_t lines_per_second = 0;  // 0: as fast as it goes
  std::function<void(std::int64_t bytes_done, const SendReport&)> on_progress = {};
};

// Sends the lines of `file` in order. Every line that it counts as sent is published: readers see
// it, and it survives the death of this process. Durable it is after Producer::Flush().
inline absl::StatusOr<SendReport> SendFile(LogFile& file, const cordwood::Topic& topic,
                                           const cordwood::Producer& producer,
                                           const SendOptions& options) {
  std::optional<AlreadySent> already;
  if (!options.again) {
    CORDWOOD_ASSIGN_OR_RETURN(already, AlreadySent::Open(topic));
  }

  SendReport report;
  report.sent_to.resize(static_cast<std::size_t>(topic.partition_count()));
  absl::Time start;
  std::int64_t line_number = 0;
  std::int64_t bytes_done = 0;
  std::string line;
  while (std::getline(file.in, line)) {
    ++line_number;
    bytes_done += static_cast<std::int64_t>(line.size()) + 1;
    const absl::StatusOr<AccessLogLine> parsed = ParseAccessLogLine(line);
    if (!parsed.ok()) {
      ++report.rejected;
      if (report.first_rejected.size() < kRejectedShownMax) {
        report.first_rejected.push_back(
            {line_number, std::string(parsed.status().message()), line.substr(0, 200)});
      }
      continue;
    }
    if (report.sent + report.already == 0) report.utc_offset = parsed->utc_offset;

    if (already && already->Contains(topic.PartitionFor(parsed->host), line)) {
      ++report.already;
    } else {
      if (report.sent == 0) start = absl::Now();
      CORDWOOD_ASSIGN_OR_RETURN(
          const cordwood::RecordMetadata at,
          producer.Send(kTopic, {.key = parsed->host, .value = line, .timestamp = parsed->time}));
      ++report.sent;
      report.sent_bytes += static_cast<std::int64_t>(line.size());
      ++report.sent_to[static_cast<std::size_t>(at.partition)];
      if (options.lines_per_second > 0) {
        const double due =
            static_cast<double>(report.sent) / static_cast<double>(options.lines_per_second);
        absl::SleepFor(start + absl::Seconds(due) - absl::Now());  // returns at once if it is past
      }
    }
    if (options.on_progress) options.on_progress(bytes_done, report);
  }
  if (file.in.bad()) return absl::UnavailableError("the log file could not be read to its end");
  if (already) CORDWOOD_RETURN_IF_ERROR(already->status());
  if (report.sent > 0) report.took = absl::Now() - start;
  return report;
}

}  // namespace access_log

#endif  // CORDWOOD_EXAMPLES_ACCESS_LOG_SENDER_H_
