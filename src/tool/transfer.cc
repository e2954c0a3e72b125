// cordwood export, cordwood import: a topic as lines of JSON, or as CSV, and back.

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "tool/commands.h"
#include "tool/line_reader.h"
#include "tool/record_format.h"
#include "tool/record_input.h"
#include "tool/sender.h"

namespace cordwood::tool {
namespace {

struct ExportOptions {
  std::string topic = {};
  std::string format = "json";
  std::string output = {};
};

struct ImportOptions {
  std::string topic = {};
  std::vector<std::string> files = {};
  std::string format = "json";
  bool by_key = false;
  bool create = false;
  bool durable = false;
};

// Partition by partition, up to the end that there was.
absl::Status WriteAll(const Topic& topic, const std::string& format, Output& out,
                      Progress& progress) {
  std::int64_t records = 0, bytes = 0, gone = 0;
  if (format == "csv") out.Write(kCsvHeader);
  for (int p = 0; p < topic.partition_count(); ++p) {
    const Partition partition = topic.partition(p);
    CORDWOOD_ASSIGN_OR_RETURN(PartitionReader reader, partition.Read(partition.start_offset()));
    for (const RecordView& record : reader) {
      if (format == "csv") {
        AppendCsvRecord(record, out.buffer());
      } else {
        AppendJsonRecord(record, out.buffer());
      }
      bytes += static_cast<std::int64_t>(record.value().value_or("").size());
      out.Write();
      CORDWOOD_RETURN_IF_ERROR(out.status());
      if (++records % 1000 == 0) progress.Show(records, bytes);
    }
    CORDWOOD_RETURN_IF_ERROR(reader.status());
    for (const Gap& gap : reader.gaps()) {
      const bool is_lost = gap.reason == GapReason::kDamage || gap.reason == GapReason::kPowerLoss;
      if (is_lost) gone += gap.to - gap.from;
    }
  }
  CORDWOOD_RETURN_IF_ERROR(out.Flush());
  progress.Clear();
  if (gone == 0) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("records that are damaged or lost, and left out: ", gone));
}

absl::Status Export(Session& session, const ExportOptions& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, FindTopic(broker, options.topic));
  Progress progress(options.topic, -1);
  if (options.output.empty()) {
    return WriteAll(topic, options.format, session.out, progress);
  }
  const int fd = open(options.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) {
    return absl::NotFoundError(
        absl::StrCat(options.output, ": cannot be written: ", strerror(errno)));
  }
  Output out(fd);
  const absl::Status written = WriteAll(topic, options.format, out, progress);
  if (close(fd) != 0 && written.ok()) {
    return absl::UnavailableError(absl::StrCat(options.output, ": ", strerror(errno)));
  }
  return written;
}

class Importer {
 public:
  Importer(const ImportOptions& options, int partitions, Sender& sender)
      : options_(options), partitions_(partitions), sender_(sender) {}

  absl::Status Read(int fd) {
    LineReader lines(fd);
    csv_ = CsvReader();
    names_.reset();
    for (;;) {
      // What was read is sent, too.
      if (IsStopped()) return sender_.Stopped();
      CORDWOOD_ASSIGN_OR_RETURN(const bool more, lines.Fill());
      if (!more && IsStopped()) return sender_.Stopped();
      if (!more) break;
      while (const std::optional<std::string_view> line = lines.Next()) {
        if (!csv_.is_within()) line_ = lines.lines();
        const absl::Status added =
            options_.format == "csv" ? AddCsv(*line) : Add(ParseJsonRecord(*line));
        if (!added.ok()) return Refuse(added);
        if (held_.size() >= kHeldMax) CORDWOOD_RETURN_IF_ERROR(SendAll());
      }
      sender_.set_input_bytes(lines.bytes());
      CORDWOOD_RETURN_IF_ERROR(SendAll());
    }
    if (!csv_.is_within()) return absl::OkStatus();
    return Refuse(absl::InvalidArgumentError("a quoted field has no end"));
  }

 private:
  static constexpr std::size_t kHeldMax = 1000;
  struct Held {
    InputRecord input = {};
    std::int64_t line = 0;
    std::vector<Header> views = {};
  };

  absl::Status SendAll() {
    for (Held& held : held_) {
      CORDWOOD_RETURN_IF_ERROR(sender_.Add(held.input.ToRecord(held.views), held.line));
    }
    CORDWOOD_RETURN_IF_ERROR(sender_.Send());
    held_.clear();
    return absl::OkStatus();
  }

  absl::Status Refuse(const absl::Status& why) {
    CORDWOOD_RETURN_IF_ERROR(SendAll());
    return sender_.Refuse(why, line_);
  }

  absl::Status Add(absl::StatusOr<InputRecord> input) {
    CORDWOOD_RETURN_IF_ERROR(input.status());
    if (options_.by_key) {
      input->partition.reset();
    } else if (input->partition && *input->partition >= partitions_) {
      return absl::NotFoundError(absl::StrCat("the topic has no partition ", *input->partition,
                                              "; with --by-key the keys say which one it is"));
    }
    held_.push_back({.input = *std::move(input), .line = line_});
    return absl::OkStatus();
  }

  absl::Status AddCsv(std::string_view line) {
    CORDWOOD_ASSIGN_OR_RETURN(const bool is_whole, csv_.Add(line));
    if (!is_whole) return absl::OkStatus();
    if (names_) return Add(ParseCsvRecord(*names_, csv_.fields()));
    names_ = csv_.fields();
    for (const auto& name : *names_) {
      if (name == "value") return absl::OkStatus();
    }
    return absl::InvalidArgumentError("it has to name the columns, and one of them is value");
  }

  const ImportOptions& options_;
  const int partitions_;
  Sender& sender_;
  CsvReader csv_;
  std::optional<CsvFields> names_;
  std::int64_t line_ = 0;  // that the record began with
  std::deque<Held> held_;
};

absl::Status Import(Session& session, const ImportOptions& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session, options.create));
  if (options.create) CORDWOOD_RETURN_IF_ERROR(broker.OpenOrCreateTopic(options.topic).status());
  CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, FindTopic(broker, options.topic));
  CORDWOOD_ASSIGN_OR_RETURN(Producer producer, broker.NewProducer());
  Sender sender(std::move(producer), options.topic, InputBytes(options.files));
  StopOnSignals();
  Importer importer(options, topic.partition_count(), sender);
  CORDWOOD_RETURN_IF_ERROR(ForEachInput(options.files, [&](int fd) { return importer.Read(fd); }));
  return sender.Finish(session, options.durable);
}

void AddFormat(CLI::App* command, std::string& format) {
  command->add_option("-f,--format", format, "json: an object a line (the default); csv")
      ->check(CLI::IsMember({"json", "csv"}))
      ->type_name("FORMAT");
}

}  // namespace

void AddExport(CLI::App& app, Session& session) {
  CLI::App* const command = app.add_subcommand("export", "A topic as JSON lines or CSV");
  const auto options = std::make_shared<ExportOptions>();
  command->add_option("TOPIC", options->topic, "The topic")->required();
  AddFormat(command, options->format);
  command->add_option("-o,--output", options->output, "Where to (standard output)")
      ->type_name("FILE");
  command->callback([&session, options] {
    session.run = [&session, options] { return Export(session, *options); };
  });
}

void AddImport(CLI::App& app, Session& session) {
  CLI::App* const command = app.add_subcommand("import", "JSON lines or CSV into a topic");
  const auto options = std::make_shared<ImportOptions>();
  command->add_option("TOPIC", options->topic, "The topic")->required();
  command->add_option("FILE", options->files, "What to read; none, or -: standard input");
  AddFormat(command, options->format);
  command->add_flag("--by-key", options->by_key, "The keys say the partition, not the input");
  command->add_flag("--create", options->create, "Make the topic, and the directory, if missing");
  command->add_flag("--durable", options->durable, "End once a power cut can take nothing of it");
  command->callback([&session, options] {
    session.run = [&session, options] { return Import(session, *options); };
  });
}

}  // namespace cordwood::tool
