// cordwood bench: how fast this disk and this machine are, in a topic that goes afterwards.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/status_macros.h"
#include "tool/checks.h"
#include "tool/commands.h"
#include "tool/terminal.h"

namespace cordwood::tool {
namespace {

struct Options {
  std::int64_t records = 1'000'000;
  std::int64_t bytes = 100;
  std::int64_t batch = 100;
  std::int64_t durable = 100;
};

struct Result {
  std::string name = {};
  std::int64_t records = 0;
  absl::Duration took = absl::ZeroDuration();

  double seconds() const { return std::max(absl::ToDoubleSeconds(took), 1e-9); }
  double rate() const { return static_cast<double>(records) / seconds(); }
};

// Runs `once` until it has done so many records; it returns how many it did.
template <class Once>
absl::StatusOr<Result> Measure(const std::string& name, std::int64_t records, Once once) {
  Progress progress(name, -1);
  Result result{.name = name};
  const absl::Time begin = absl::Now();
  while (result.records < records && !IsStopped()) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::int64_t done, once());
    if (done == 0) break;
    result.records += done;
    if (result.records % 10'000 == 0) progress.Show(result.records, 0);
  }
  result.took = absl::Now() - begin;
  return result;
}

absl::StatusOr<std::vector<Result>> RunAll(const Options& options, const Partition& log) {
  const std::string value(static_cast<std::size_t>(options.bytes), 'x');
  std::vector<Result> results;
  CORDWOOD_ASSIGN_OR_RETURN(
      results.emplace_back(),
      Measure("append", options.records, [&]() -> absl::StatusOr<std::int64_t> {
        CORDWOOD_RETURN_IF_ERROR(log.Append({.value = value}).status());
        return 1;
      }));
  const std::vector<Record> batch(static_cast<std::size_t>(options.batch), {.value = value});
  CORDWOOD_ASSIGN_OR_RETURN(results.emplace_back(),
                            Measure(absl::StrCat("append, ", options.batch, " a batch"),
                                    options.records, [&]() -> absl::StatusOr<std::int64_t> {
                                      CORDWOOD_RETURN_IF_ERROR(log.AppendBatch(batch).status());
                                      return options.batch;
                                    }));
  CORDWOOD_ASSIGN_OR_RETURN(
      results.emplace_back(),
      Measure("append, durable", options.durable, [&]() -> absl::StatusOr<std::int64_t> {
        CORDWOOD_RETURN_IF_ERROR(
            log.Append({.value = value}, {.durability = Durability::kDurable}).status());
        return 1;
      }));
  CORDWOOD_ASSIGN_OR_RETURN(
      results.emplace_back(), Measure("read", 1, [&]() -> absl::StatusOr<std::int64_t> {
        CORDWOOD_ASSIGN_OR_RETURN(PartitionReader reader, log.Read(log.start_offset()));
        std::int64_t records = 0;
        for (const RecordView& record : reader) records += record.value().has_value() ? 1 : 0;
        CORDWOOD_RETURN_IF_ERROR(reader.status());
        return records;
      }));
  return results;
}

absl::Status Bench(Session& session, const Options& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session, true));
  const std::string name = absl::StrCat("cordwood-bench-", absl::ToUnixNanos(absl::Now()));
  CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, broker.CreateTopic(name));
  StopOnSignals();
  const absl::StatusOr<std::vector<Result>> results = RunAll(options, topic.partition(0));
  CORDWOOD_RETURN_IF_ERROR(broker.DeleteTopic(name));
  CORDWOOD_RETURN_IF_ERROR(results.status());
  if (session.json) {
    internal::JsonWriter json(true);
    json.BeginArray();
    for (const Result& result : *results) {
      json.BeginObject().Key("what").String(result.name).Key("records").Number(result.records);
      json.Key("seconds").Number(result.seconds());
      json.Key("records_per_second").Number(result.rate()).EndObject();
    }
    json.EndArray();
    return session.Answer(std::move(json));
  }
  Table table({{"WHAT"},
               {"RECORDS", Align::kRight},
               {"RATE", Align::kRight},
               {"BYTES", Align::kRight},
               {"A RECORD", Align::kRight}});
  for (const Result& result : *results) {
    table.Row(
        {result.name, Count(result.records), RateText(result.rate()),
         BytesText(static_cast<std::int64_t>(result.rate() * static_cast<double>(options.bytes))) +
             "/s",
         absl::StrCat(static_cast<std::int64_t>(1e9 / std::max(result.rate(), 1e-9)), " ns")});
  }
  return session.Answer(table.Text(session.style()));
}

}  // namespace

void AddBench(CLI::App& app, Session& session) {
  CLI::App* const bench = app.add_subcommand("bench", "How fast it is here, in a topic of its own");
  const auto options = std::make_shared<Options>();
  bench->add_option("-r,--records", options->records, "How many, of each kind (1,000,000)")
      ->check(AtLeast(1))
      ->type_name("N");
  bench->add_option("-b,--bytes", options->bytes, "The value of a record (100)")
      ->check(CLI::Range(0, 1 << 20))
      ->type_name("N");
  bench->add_option("--batch", options->batch, "Records in a batch (100)")
      ->check(CLI::Range(1, 100'000))
      ->type_name("N");
  bench->add_option("--durable", options->durable, "How many durable ones (100)")
      ->check(AtLeast(1))
      ->type_name("N");
  bench->callback([&session, options] {
    session.run = [&session, options] { return Bench(session, *options); };
  });
}

}  // namespace cordwood::tool
