// The main job: a web server's access log goes through a topic of eight partitions, and another
// process reads it back through a consumer group while it is being written.
//
//   usage: access_log [options] [FILE]
//
//   FILE          an access log in the Common Log Format, or one that begins like it
//                 (default: examples/data/nasa_http_aug95_40k.log)
//   --data DIR    where the topic lives; made if missing (default: access-log-data)
//   --again       send the lines that the topic holds already once more
//   --rate N      send N lines a second, to see the reader follow (default: as fast as it goes)
//   --help
//
// Run it twice: the second run finds every line in the topic, sends nothing, and says where the
// group resumed. Stop it in the middle (--rate 5000, then Ctrl-C, or kill -9): the next run sends
// what is missing, and the group goes on where it was.
//
// exit codes: 0 all was sent, read back and found equal; 1 something failed, and stderr says what;
// 2 wrong arguments.
#include <cordwood/cordwood.h>
#include <cordwood/status_macros.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "access_log_days.h"
#include "access_log_parser.h"
#include "access_log_reader.h"
#include "access_log_report.h"
#include "access_log_sender.h"

namespace access_log {
namespace {

using cordwood::Broker;
using cordwood::Offset;
using cordwood::Partition;
using cordwood::Producer;
using cordwood::Topic;

constexpr char kUsage[] =
    "usage: access_log [--data DIR] [--again] [--rate N] [FILE]\n"
    "\n"
    "Sends each line of the web access log FILE into the topic 'access-log', reads it back in\n"
    "another process, and prints what it found.\n"
    "\n"
    "  FILE        default: examples/data/nasa_http_aug95_40k.log\n"
    "  --data DIR  where the topic lives; made if missing (default: access-log-data)\n"
    "  --again     send the lines that the topic holds already once more\n"
    "  --rate N    send N lines a second (default: as fast as it goes)\n"
    "  --help      this text\n";
constexpr int kPartitions = 8;
constexpr std::size_t kDaysShownMax = 31;

struct Options {
  std::string file = "examples/data/nasa_http_aug95_40k.log";
  std::string directory = "access-log-data";
  bool again = false;
  bool help = false;
  bool reader = false;  // this process is the reader; the program itself sets it
  std::int64_t lines_per_second = 0;
};

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& args) {
  Options options;
  bool file_given = false;
  for (std::size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    const bool last = i + 1 == args.size();
    if (arg == "--help" || arg == "-h") {
      options.help = true;
    } else if (arg == "--again") {
      options.again = true;
    } else if (arg == "--reader") {
      options.reader = true;
    } else if (arg == "--data" || arg == "--rate") {
      if (last || args[i + 1].empty()) return absl::InvalidArgumentError(arg + " needs a value");
      const std::string& value = args[++i];
      if (arg == "--data") {
        options.directory = value;
        continue;
      }
      const char* const end = value.data() + value.size();
      const auto [stop, error] = std::from_chars(value.data(), end, options.lines_per_second);
      if (error != std::errc() || stop != end || options.lines_per_second < 1) {
        return absl::InvalidArgumentError("--rate needs a number above 0, not '" + value + "'");
      }
    } else if (arg.size() > 1 && arg.front() == '-') {
      return absl::InvalidArgumentError("no such option: " + arg);
    } else if (file_given || arg.empty()) {
      return absl::InvalidArgumentError("one FILE is expected");
    } else {
      options.file = arg;
      file_given = true;
    }
  }
  return options;
}

std::vector<Offset> EndOffsets(const Topic& topic) {
  std::vector<Offset> ends;
  for (int p = 0; p < topic.partition_count(); ++p) {
    ends.push_back(topic.partition(p).end_offset());
  }
  return ends;
}

std::int64_t Sum(const std::vector<Offset>& offsets) {
  std::int64_t sum = 0;
  for (const Offset offset : offsets) sum += offset;
  return sum;
}

// ---------------------------------------------------------------- what is printed

void PrintGroup(const ReaderProcess& reader, const std::vector<Offset>& ends) {
  std::int64_t committed = 0;
  std::int64_t left = 0;
  bool is_new = true;
  for (const auto& [p, offset] : reader.resumed()) {
    if (offset) is_new = false;
    committed += offset.value_or(0);
    left += ends[static_cast<std::size_t>(p)] - offset.value_or(0);
  }
  std::printf("group      '%s', in process %d: ", kGroup, static_cast<int>(reader.pid()));
  if (is_new) {
    std::printf("new, begins at the first record\n\n");
  } else {
    std::printf(
        "resumes where it had committed, after %s records;\n"
        "           %s left to read\n\n",
        WithCommas(committed).c_str(), left == 0 ? "nothing" : WithCommas(left).c_str());
  }
}

double PerSecond(std::int64_t count, absl::Duration took) {
  const double seconds = absl::ToDoubleSeconds(took);
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

void PrintTotals(const SendReport& sent, const ReadReport& read, absl::Duration behind) {
  std::int64_t records = 0;
  std::int64_t bytes = 0;
  for (const auto& [p, partition] : read.partitions) {
    records += partition.records;
    bytes += partition.bytes;
  }
  if (sent.sent > 0) {
    std::printf("sent       %s records, %s, in %.2f s: %s a second\n",
                WithCommas(sent.sent).c_str(), Megabytes(sent.sent_bytes).c_str(),
                absl::ToDoubleSeconds(sent.took),
                WithCommas(static_cast<std::int64_t>(PerSecond(sent.sent, sent.took))).c_str());
  } else {
    std::printf("sent       nothing\n");
  }
  if (sent.already > 0) {
    std::printf("not sent   %s lines that the topic holds already, equal byte for byte\n",
                WithCommas(sent.already).c_str());
  }
  std::printf("kept out   %s lines that do not parse\n", WithCommas(sent.rejected).c_str());
  for (const SendReport::Rejected& one : sent.first_rejected) {
    std::printf("             line %s, %s: %s\n", WithCommas(one.line_number).c_str(),
                one.why.c_str(), Printable(one.line, 60).c_str());
  }
  if (sent.rejected > static_cast<std::int64_t>(sent.first_rejected.size())) {
    std::printf("             and so on\n");
  }
  if (records > 0) {
    std::printf(
        "read back  %s records, %s; all read and committed %.0f ms after the last was sent\n",
        WithCommas(records).c_str(), Megabytes(bytes).c_str(), absl::ToDoubleMilliseconds(behind));
  } else {
    std::printf("read back  nothing: there was nothing new\n");
  }
}

void PrintPartitions(const Topic& topic, const SendReport& sent, const ReadReport& read) {
  static const ReadReport::PartitionRead kNothing;
  Table table({{"partition"},
               {"start"},
               {"end"},
               {"durable"},
               {"sent"},
               {"group resumed at"},
               {"read"},
               {"committed"}});
  for (int p = 0; p < topic.partition_count(); ++p) {
    const Partition log = topic.partition(p);
    const auto found = read.partitions.find(p);
    const ReadReport::PartitionRead& one =
        found == read.partitions.end() ? kNothing : found->second;
    table.AddRow({std::to_string(p), WithCommas(log.start_offset()), WithCommas(log.end_offset()),
                  WithCommas(log.durable_offset()),
                  WithCommas(sent.sent_to[static_cast<std::size_t>(p)]),
                  one.resumed ? WithCommas(*one.resumed) : "new", WithCommas(one.records),
                  WithCommas(one.next)});
  }
  std::printf("\n%s", table.ToString().c_str());
}

void PrintBusiest(const ReadReport& read) {
  if (read.busiest.empty()) {
    std::printf("\nthe busiest hosts are counted by the reader, which had nothing new to read\n");
    return;
  }
  Table table({{"requests"},
               {"busiest host", Table::Align::kLeft},
               {"its last request", Table::Align::kLeft}});
  for (const ReadReport::Host& host : read.busiest) {
    table.AddRow(
        {WithCommas(host.requests), Printable(host.name, 30), Printable(host.last_request, 38)});
  }
  std::printf("\n%s", table.ToString().c_str());
}

void PrintDays(const DayCounts& days) {
  Table table({{"day", Table::Align::kLeft}, {"requests"}, {"", Table::Align::kLeft}});
  std::size_t left_out = days.size() > kDaysShownMax ? days.size() - kDaysShownMax : 0;
  if (left_out > 0) std::printf("\n  (the last %zu of %zu days)", kDaysShownMax, days.size());
  for (const auto& [day, requests] : days) {
    if (left_out > 0) {
      --left_out;
      continue;
    }
    table.AddRow({absl::FormatCivilTime(day), WithCommas(requests),
                  requests == 0 ? "no request: was the server down?" : ""});
  }
  std::printf("\n%s", table.ToString().c_str());
}

// Requests per day by the time index, and whether a reading of everything says the same.
absl::Status ReportDays(const Topic& topic, absl::Duration utc_offset) {
  CORDWOOD_ASSIGN_OR_RETURN(const auto days, FirstAndLastDay(topic, utc_offset));
  if (!days) return absl::OkStatus();
  // One stray timestamp must not ask for a million lookups: the last ten years will do.
  const auto [first, last] = *days;
  const absl::CivilDay begin = std::max(first, last - 3650);

  const absl::Time start = absl::Now();
  CORDWOOD_ASSIGN_OR_RETURN(const DayCounts by_index,
                            CountDaysByIndex(topic, begin, last, utc_offset));
  const absl::Duration took = absl::Now() - start;
  const std::int64_t lookups =
      topic.partition_count() * (static_cast<std::int64_t>(by_index.size()) + 1);
  CORDWOOD_ASSIGN_OR_RETURN(const Scan scan, ScanTopic(topic, utc_offset));

  DayCounts by_reading = scan.days;
  for (const auto& [day, requests] : by_index) by_reading.try_emplace(day, 0);
  by_reading.erase(by_reading.begin(), by_reading.lower_bound(begin));
  if (by_index == by_reading) {
    PrintDays(by_index);
    std::printf(
        "  by %s lookups in the time index, in %.2f ms;\n  reading all %s records (%s) gives "
        "the same\n",
        WithCommas(lookups).c_str(), absl::ToDoubleMilliseconds(took),
        WithCommas(scan.records).c_str(), Megabytes(scan.bytes).c_str());
    return absl::OkStatus();
  }
  if (scan.partitions_out_of_order == 0 && scan.offsets_missing == 0) {
    return absl::InternalError("the time index and the records disagree on the requests of a day");
  }
  PrintDays(by_reading);
  std::printf("  by reading every record: the difference of two offsets is no count here, as\n");
  if (scan.partitions_out_of_order > 0) {
    std::printf(
        "  the time goes back in %d partitions (lines were sent again, or after later ones)\n",
        scan.partitions_out_of_order);
  }
  if (scan.offsets_missing > 0) {
    std::printf("  %s offsets have no record (damage, or a power cut)\n",
                WithCommas(scan.offsets_missing).c_str());
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------- the work

// Everything that was sent is in the topic, and the group has read everything in the topic.
absl::Status CheckOwnWork(const Topic& topic, const std::vector<Offset>& ends_before,
                          const SendReport& sent, const ReadReport& read) {
  for (int p = 0; p < topic.partition_count(); ++p) {
    const auto i = static_cast<std::size_t>(p);
    const std::string where = "partition " + std::to_string(p) + ": ";
    const Offset end = topic.partition(p).end_offset();
    if (end - ends_before[i] != sent.sent_to[i]) {
      return absl::DataLossError(where + std::to_string(sent.sent_to[i]) +
                                 " records were sent, but the end went from " +
                                 std::to_string(ends_before[i]) + " to " + std::to_string(end) +
                                 " (is another program writing?)");
    }
    const auto found = read.partitions.find(p);
    if (found == read.partitions.end()) {
      return absl::DataLossError(where + "the reader did not get it");
    }
    const ReadReport::PartitionRead& got = found->second;
    const Offset begin = got.resumed.value_or(0);
    if (got.next != end || got.records + got.skipped != end - begin) {
      return absl::DataLossError(where + "the group was to read [" + std::to_string(begin) + ", " +
                                 std::to_string(end) + ") and read " + std::to_string(got.records) +
                                 " records up to " + std::to_string(got.next) + ", " +
                                 std::to_string(got.skipped) + " skipped by gaps");
    }
  }
  if (sent.sent + sent.already == 0 && sent.rejected > 0) {
    return absl::InvalidArgumentError("no line of the file parses: is it a web access log?");
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  CORDWOOD_ASSIGN_OR_RETURN(LogFile file, OpenLogFile(options.file));
  CORDWOOD_ASSIGN_OR_RETURN(Broker broker, Broker::Open(options.directory));
  // Kept for ever, so that the data is there whenever you run this again. (That the events are of
  // 1995 would be no reason: age counts from the append, not from the timestamp.)
  CORDWOOD_ASSIGN_OR_RETURN(
      Topic topic, broker.OpenOrCreateTopic(kTopic, {.partitions = kPartitions,
                                                     .retention_age = absl::InfiniteDuration()}));
  CORDWOOD_ASSIGN_OR_RETURN(Producer producer, broker.NewProducer());

  const std::vector<Offset> ends_before = EndOffsets(topic);
  std::printf("file       %s, %s\n", options.file.c_str(), Megabytes(file.bytes).c_str());
  std::printf("topic      '%s' in %s: %d partitions, %s records\n", kTopic,
              options.directory.c_str(), topic.partition_count(),
              WithCommas(Sum(ends_before)).c_str());
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<ReaderProcess> reader,
                            ReaderProcess::Start(options.directory));
  CORDWOOD_RETURN_IF_ERROR(reader->WaitUntilReady());
  PrintGroup(*reader, ends_before);

  ProgressBar bar(stdout);
  const auto counts = [&](const SendReport& sent) {
    return (sent.already == 0 ? "" : WithCommas(sent.already) + " there already, ") +
           WithCommas(sent.sent) + " sent, " + WithCommas(reader->records_read()) + " read";
  };
  SendOptions how{.again = options.again, .lines_per_second = options.lines_per_second};
  how.on_progress = [&](std::int64_t bytes_done, const SendReport& sent) {
    const double done = static_cast<double>(bytes_done) / static_cast<double>(file.bytes);
    if (bar.IsDue(done)) bar.Show(done, counts(sent));
  };
  CORDWOOD_ASSIGN_OR_RETURN(const SendReport sent, SendFile(file, topic, producer, how));
  const absl::Time last_sent = absl::Now();
  reader->NoMoreIsComing();
  CORDWOOD_RETURN_IF_ERROR(producer.Flush());  // from here on no power cut can take them
  CORDWOOD_ASSIGN_OR_RETURN(const ReadReport read, reader->Finish());
  const absl::Duration behind = absl::Now() - last_sent;
  bar.Finish(counts(sent));

  std::printf("\n");
  PrintTotals(sent, read, behind);
  PrintPartitions(topic, sent, read);
  PrintBusiest(read);
  CORDWOOD_RETURN_IF_ERROR(ReportDays(topic, sent.utc_offset));
  CORDWOOD_RETURN_IF_ERROR(CheckOwnWork(topic, ends_before, sent, read));
  std::printf(
      "\nchecked    what was sent is there, and the group has read and committed all of it\n");
  return broker.Close();
}

}  // namespace
}  // namespace access_log

int main(int argc, char** argv) {
  using namespace access_log;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // who reads along in a file sees whole lines
  const absl::StatusOr<Options> options =
      ParseOptions(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  if (!options.ok()) {
    std::fprintf(stderr, "access_log: %s\n%s", InWords(options.status()).c_str(), kUsage);
    return 2;
  }
  if (options->help) {
    std::fputs(kUsage, stdout);
    return 0;
  }
  const absl::Status status = options->reader ? FollowTopic(options->directory) : Run(*options);
  if (!status.ok()) {
    std::fflush(stdout);
    std::fprintf(stderr, "access_log%s: %s\n", options->reader ? " (reader)" : "",
                 InWords(status).c_str());
    return 1;
  }
  return 0;
}
