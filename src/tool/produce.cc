// cordwood produce: records from lines, lines of JSON, or whole files.

#include <string.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "tool/commands.h"
#include "tool/line_reader.h"
#include "tool/record_input.h"
#include "tool/sender.h"

namespace cordwood::tool {
namespace {

struct Options {
  std::string topic = {};
  std::vector<std::string> files = {};
  std::string format = "lines";
  std::string key_delimiter = {};
  std::string key = {};
  std::string key_field = {}, timestamp_field = {};
  std::vector<std::string> headers = {};
  int partition = 0;
  bool empty_is_tombstone = false;
  bool durable = false;
  bool create = false;
};

// What goes into every record, as it was written.
struct Fixed {
  std::optional<int> partition = {};
  std::optional<std::string> key = {};
  std::vector<Header> headers = {};
};

// The records of one input; what they point at stays until Send().
class Lines {
 public:
  Lines(const Options& options, const Fixed& fixed, Sender& sender)
      : options_(options), fixed_(fixed), sender_(sender) {}

  absl::Status Read(int fd) {
    LineReader lines(fd);
    for (;;) {
      // What was read is sent, too.
      if (IsStopped()) return sender_.Stopped();
      CORDWOOD_ASSIGN_OR_RETURN(const bool more, lines.Fill());
      if (!more) return IsStopped() ? sender_.Stopped() : sender_.Send();
      while (const std::optional<std::string_view> line = lines.Next()) {
        const absl::Status added = options_.format == "json" ? AddJson(*line, lines.lines())
                                                             : AddLine(*line, lines.lines());
        CORDWOOD_RETURN_IF_ERROR(added);
        if (++held_ == kHeldMax) CORDWOOD_RETURN_IF_ERROR(SendAll());
      }
      sender_.set_input_bytes(lines.bytes());
      CORDWOOD_RETURN_IF_ERROR(SendAll());
    }
  }

 private:
  static constexpr int kHeldMax = 1000;

  // Only then what the records point at may go.
  absl::Status SendAll() {
    CORDWOOD_RETURN_IF_ERROR(sender_.Send());
    inputs_.clear();
    views_.clear();
    texts_.clear();
    held_ = 0;
    return absl::OkStatus();
  }

  // A line is the value, or key, delimiter and value.
  absl::Status AddLine(std::string_view line, std::int64_t number) {
    Record record{.value = line, .headers = fixed_.headers, .partition = fixed_.partition};
    if (fixed_.key) record.key = *fixed_.key;
    if (!options_.key_delimiter.empty()) {
      const std::size_t at = line.find(options_.key_delimiter);
      if (at == std::string_view::npos) {
        return sender_.Refuse(absl::InvalidArgumentError(absl::StrCat(
                                  "there is no \"", options_.key_delimiter, "\" in it")),
                              number);
      }
      record.key = line.substr(0, at);
      line.remove_prefix(at + options_.key_delimiter.size());
      record.value = line;
    }
    if (!options_.key_field.empty()) {
      absl::StatusOr<std::string> key = TextInJson(line, options_.key_field);
      if (!key.ok()) return sender_.Refuse(key.status(), number);
      record.key = texts_.emplace_back(*std::move(key));
    }
    if (!options_.timestamp_field.empty()) {
      const absl::StatusOr<absl::Time> time = TimeInJson(line, options_.timestamp_field);
      if (!time.ok()) return sender_.Refuse(time.status(), number);
      record.timestamp = *time;
    }
    if (options_.empty_is_tombstone && line.empty()) record.value = nullptr;
    return sender_.Add(record, number);
  }

  // A line says all of the record.
  absl::Status AddJson(std::string_view line, std::int64_t number) {
    absl::StatusOr<InputRecord> input = ParseJsonRecord(line);
    if (!input.ok()) return sender_.Refuse(input.status(), number);
    if (fixed_.partition) input->partition = fixed_.partition;
    if (fixed_.key) input->key = fixed_.key;
    for (const Header& header : fixed_.headers) {
      input->headers.emplace_back(header.key, std::string(header.value.get().value_or("")));
    }
    inputs_.push_back(*std::move(input));
    return sender_.Add(inputs_.back().ToRecord(views_.emplace_back()), number);
  }

  const Options& options_;
  const Fixed& fixed_;
  Sender& sender_;
  int held_ = 0;
  std::deque<InputRecord> inputs_;
  std::deque<std::vector<Header>> views_;
  std::deque<std::string> texts_;
};

constexpr std::size_t kRecordMax = std::size_t{1} << 30;

// Each input is one record.
absl::Status ReadWhole(int fd, const Fixed& fixed, Sender& sender) {
  std::string text;
  char chunk[64 << 10];
  for (;;) {
    const ssize_t got = read(fd, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR && !IsStopped()) continue;
    if (got < 0 && errno == EINTR) return sender.Stopped();
    if (got < 0) return absl::UnavailableError(absl::StrCat("cannot be read: ", strerror(errno)));
    if (got == 0) break;
    text.append(chunk, static_cast<std::size_t>(got));
    if (text.size() > kRecordMax) {
      return absl::FailedPreconditionError("is longer than 1 GiB, which no record may be");
    }
  }
  Record record{.value = text, .headers = fixed.headers, .partition = fixed.partition};
  if (fixed.key) record.key = *fixed.key;
  CORDWOOD_RETURN_IF_ERROR(sender.Add(record, 0));
  return sender.Send();
}

// What would have no effect is a mistake.
absl::Status CheckOptions(const Options& options, const Fixed& fixed) {
  const int keys = (fixed.key ? 1 : 0) + (options.key_delimiter.empty() ? 0 : 1) +
                   (options.key_field.empty() ? 0 : 1);
  if (keys > 1) {
    return absl::InvalidArgumentError(
        "which key? Give one of --key, --key-delimiter and --key-field");
  }
  if (options.format != "lines" &&
      (!options.key_delimiter.empty() || !options.key_field.empty() ||
       !options.timestamp_field.empty() || options.empty_is_tombstone)) {
    return absl::InvalidArgumentError(
        "--key-delimiter, --key-field, --timestamp-field and --empty-is-tombstone are for "
        "--format lines");
  }
  return absl::OkStatus();
}

absl::Status Produce(Session& session, const Options& options, Fixed fixed) {
  CORDWOOD_RETURN_IF_ERROR(CheckOptions(options, fixed));
  for (const std::string& header : options.headers) {
    const std::size_t equals = header.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", header, "\" is no header: write NAME=VALUE"));
    }
    const std::string_view text = header;
    fixed.headers.push_back({text.substr(0, equals), text.substr(equals + 1)});
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session, options.create));
  if (options.create) CORDWOOD_RETURN_IF_ERROR(broker.OpenOrCreateTopic(options.topic).status());
  CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, FindTopic(broker, options.topic));
  if (fixed.partition) {
    CORDWOOD_RETURN_IF_ERROR(FindPartition(topic, *fixed.partition).status());
  }
  CORDWOOD_ASSIGN_OR_RETURN(Producer producer, broker.NewProducer());
  Sender sender(std::move(producer), options.topic, InputBytes(options.files));
  StopOnSignals();
  CORDWOOD_RETURN_IF_ERROR(ForEachInput(options.files, [&](int fd) -> absl::Status {
    if (options.format == "file") return ReadWhole(fd, fixed, sender);
    return Lines(options, fixed, sender).Read(fd);
  }));
  return sender.Finish(session, options.durable);
}

}  // namespace

void AddProduce(CLI::App& app, Session& session) {
  CLI::App* const produce = app.add_subcommand("produce", "Append records to a topic");
  const auto options = std::make_shared<Options>();
  produce->add_option("TOPIC", options->topic, "The topic")->required();
  produce->add_option("FILE", options->files, "What to read; none, or -: standard input");
  produce
      ->add_option("-f,--format", options->format,
                   "lines (the default): a line is a value; json: a line is an object with key, "
                   "value, headers, "
                   "timestamp, partition; file: each input is one value")
      ->check(CLI::IsMember({"lines", "json", "file"}))
      ->type_name("FORMAT");
  produce->add_option("-K,--key-delimiter", options->key_delimiter, "Lines are KEY, this, VALUE")
      ->type_name("TEXT");
  CLI::Option* const key =
      produce->add_option("-k,--key", options->key, "The key of every record")->type_name("KEY");
  produce->add_option("--key-field", options->key_field, "The key is this field of the JSON value")
      ->type_name("FIELD");
  produce
      ->add_option("--timestamp-field", options->timestamp_field,
                   "The time is this field of the JSON value: RFC 3339, or a number since 1970")
      ->type_name("FIELD");
  produce->add_option("-H,--header", options->headers, "A header of every record")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  CLI::Option* const partition =
      produce->add_option("-p,--partition", options->partition, "The partition of every record")
          ->type_name("N");
  produce->add_flag("-Z,--empty-is-tombstone", options->empty_is_tombstone,
                    "An empty value is none: the key is deleted");
  produce->add_flag("--durable", options->durable, "End once a power cut can take nothing of it");
  produce->add_flag("--create", options->create, "Make the topic, and the directory, if missing");
  produce->callback([&session, options, key, partition] {
    Fixed fixed;
    if (key->count() > 0) fixed.key = options->key;
    if (partition->count() > 0) fixed.partition = options->partition;
    session.run = [=, &session] { return Produce(session, *options, fixed); };
  });
}

}  // namespace cordwood::tool
