// cordwood top: what is going on, live.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "cordwood/status_macros.h"
#include "tool/checks.h"
#include "tool/commands.h"
#include "tool/terminal.h"

namespace cordwood::tool {
namespace {

struct Options {
  double interval = 1;
  int rounds = 0;  // 0: until somebody ends it
};

// What has been appended, read and committed so far, at one moment.
struct Moment {
  absl::Time time = {};
  BrokerDescription all = {};
  MetricsSnapshot metrics = {};
};

// Sums of offsets: they only grow, whatever retention takes away.
std::int64_t EndOf(const TopicDescription& topic) {
  std::int64_t end = 0;
  for (const PartitionDescription& p : topic.by_number) end += p.end;
  return end;
}
std::int64_t CommittedOf(const GroupDescription& group) {
  std::int64_t committed = 0;
  for (const PartitionProgress& p : group.partitions) committed += p.committed.value_or(0);
  return committed;
}

// How fast it grew between two moments, by name. What was not there before has no rate yet.
struct Rates {
  std::map<std::string, double> records, bytes;  // of topics
  std::map<std::string, double> committed;       // of groups
  // Of what is counted; zero where nothing is.
  double consumed = 0, consumed_bytes = 0, syncs = 0, errors = 0;
  double blocked = 0;                             // seconds of all producers
  LatencyHistogram append_latency, sync_latency;  // between the two
};

double ErrorsOf(const MetricCounts& counts) {
  double sum = 0;
  for (const ErrorCount& error : counts.errors) sum += static_cast<double>(error.count);
  return sum;
}

absl::Duration BlockedOf(const MetricCounts& counts) {
  return counts.blocked_by_backlog.time + counts.blocked_by_retention.time +
         counts.blocked_by_writers.time;
}

// Frames and all, whatever retention takes away.
std::map<std::string, std::uint64_t> BytesProduced(const MetricsSnapshot& metrics) {
  std::map<std::string, std::uint64_t> bytes;
  for (const PartitionMetrics& p : metrics.partitions) bytes[p.topic] += p.produced_bytes;
  return bytes;
}

LatencyHistogram Between(const LatencyHistogram& before, const LatencyHistogram& now) {
  LatencyHistogram between;
  for (std::size_t i = 0; i < between.counts.size(); ++i) {
    between.counts[i] = now.counts[i] - std::min(before.counts[i], now.counts[i]);
  }
  return between;
}

Rates RatesOf(const Moment& before, const Moment& now) {
  Rates rates;
  const double seconds = std::max(absl::ToDoubleSeconds(now.time - before.time), 1e-6);
  const auto rate = [&](auto from, auto to) {
    return std::max(0.0, (static_cast<double>(to) - static_cast<double>(from)) / seconds);
  };
  const auto bytes_before = BytesProduced(before.metrics), bytes = BytesProduced(now.metrics);
  for (const TopicDescription& topic : now.all.topics) {
    for (const TopicDescription& old : before.all.topics) {
      if (old.id != topic.id) continue;
      rates.records[topic.name] = rate(EndOf(old), EndOf(topic));
      const auto from = bytes_before.find(topic.name), to = bytes.find(topic.name);
      if (from == bytes_before.end() || to == bytes.end()) continue;
      rates.bytes[topic.name] = rate(from->second, to->second);
    }
  }
  for (const GroupDescription& group : now.all.groups) {
    for (const GroupDescription& old : before.all.groups) {
      if (old.name == group.name) {
        rates.committed[group.name] = rate(CommittedOf(old), CommittedOf(group));
      }
    }
  }
  if (!before.metrics.counts || !now.metrics.counts) return rates;
  const MetricCounts& old = *before.metrics.counts;
  const MetricCounts& counts = *now.metrics.counts;
  rates.consumed = rate(old.consumed_records, counts.consumed_records);
  rates.consumed_bytes = rate(old.consumed_bytes, counts.consumed_bytes);
  rates.errors = rate(ErrorsOf(old), ErrorsOf(counts));
  rates.blocked =
      rate(absl::ToDoubleSeconds(BlockedOf(old)), absl::ToDoubleSeconds(BlockedOf(counts)));
  rates.append_latency = Between(old.append_latency, counts.append_latency);
  rates.sync_latency = Between(old.sync_latency, counts.sync_latency);
  rates.syncs = rate(0, rates.sync_latency.count());
  return rates;
}

double Of(const std::map<std::string, double>& rates, const std::string& name) {
  const auto found = rates.find(name);
  return found == rates.end() ? 0 : found->second;
}

// Of one append in 1,024 there may be none.
std::string P99Text(const LatencyHistogram& histogram) {
  const absl::Duration most = histogram.Quantile(0.99);
  const absl::Duration unit = most >= absl::Seconds(1)        ? absl::Milliseconds(100)
                              : most >= absl::Milliseconds(1) ? absl::Microseconds(100)
                                                              : absl::Nanoseconds(100);
  return histogram.count() == 0 ? "-"
                                : absl::StrCat("< ", absl::FormatDuration(absl::Trunc(most, unit)));
}

std::string CountsText(const Moment& now, const Rates& rates, const Style& style) {
  absl::Duration unsynced;
  for (const PartitionMetrics& p : now.metrics.partitions) {
    unsynced = std::max(unsynced, p.unsynced_age);
  }
  std::string text =
      absl::StrCat("read ", RateText(rates.consumed), ", ",
                   BytesText(static_cast<std::int64_t>(rates.consumed_bytes)), "/s; append p99 ",
                   P99Text(rates.append_latency), "; syncs ", RateText(rates.syncs), ", p99 ",
                   P99Text(rates.sync_latency), "; not durable for ", DurationText(unsynced), "\n");
  if (rates.blocked > 0 || rates.errors > 0) {
    absl::StrAppend(
        &text,
        style.Bad(absl::StrCat("producers blocked ", DurationText(absl::Seconds(rates.blocked)),
                               "/s; errors ", RateText(rates.errors))),
        "\n");
  }
  return text;
}

std::string Screen(const Moment& now, const Rates& rates, const Style& style) {
  double records = 0, bytes = 0;
  for (const auto& [name, rate] : rates.records) records += rate;
  for (const auto& [name, rate] : rates.bytes) bytes += rate;
  std::string text = absl::StrCat(
      style.Bold(absl::StrCat("cordwood ", now.all.directory)), "  ",
      absl::FormatTime("%H:%M:%S", now.time, absl::LocalTimeZone()), "\n", Count(now.all.records),
      " records, ", BytesText(now.all.bytes), ", topics: ", now.all.topics.size(), "; ",
      RateText(records), ", ", BytesText(static_cast<std::int64_t>(bytes)), "/s; ",
      BytesText(now.all.disk.free_bytes), " free", now.all.disk.is_low ? style.Bad(" (low)") : "",
      "\n", CountsText(now, rates, style), "\n");
  Table topics({{"TOPIC"},
                {"PARTITIONS", Align::kRight},
                {"RECORDS", Align::kRight},
                {"SIZE", Align::kRight},
                {"IN", Align::kRight},
                {"BYTES IN", Align::kRight},
                {"NOT DURABLE", Align::kRight}});
  for (const TopicDescription& topic : now.all.topics) {
    std::int64_t pending = 0;
    for (const PartitionDescription& p : topic.by_number) {
      pending += std::max<std::int64_t>(0, p.end - p.durable);
    }
    topics.Row({topic.name, Count(topic.partitions), Count(topic.records), BytesText(topic.bytes),
                RateText(Of(rates.records, topic.name)),
                BytesText(static_cast<std::int64_t>(Of(rates.bytes, topic.name))) + "/s",
                Count(pending)});
  }
  text += topics.Text(style);
  Table groups({{"GROUP"},
                {"STATE"},
                {"MEMBERS", Align::kRight},
                {"OUT", Align::kRight},
                {"LAG", Align::kRight},
                {"SIZE", Align::kRight},
                {"BEHIND", Align::kRight}});
  for (const GroupDescription& group : now.all.groups) {
    groups.Row({group.name, group.state, Count(static_cast<std::int64_t>(group.members.size())),
                RateText(Of(rates.committed, group.name)), Count(group.lag),
                BytesText(group.lag_bytes), group.lag == 0 ? "-" : DurationText(group.lag_age)});
  }
  if (!groups.empty()) absl::StrAppend(&text, "\n", groups.Text(style));
  for (const auto* list : {&now.all.failed_topics, &now.all.failed_groups}) {
    for (const BrokerDescription::Failure& failed : *list) {
      absl::StrAppend(&text, style.Bad(absl::StrCat(failed.name, ": damaged")), "\n");
    }
  }
  return text;
}

void WriteJson(internal::JsonWriter& json, const Moment& now, const Rates& rates) {
  json.BeginObject();
  WriteTime(json.Key("time"), now.time);
  json.Key("topics").BeginArray();
  for (const TopicDescription& topic : now.all.topics) {
    json.BeginObject().Key("topic").String(topic.name).Key("records").Number(topic.records);
    json.Key("bytes").Number(topic.bytes);
    json.Key("records_per_second").Number(Of(rates.records, topic.name));
    json.Key("bytes_per_second").Number(Of(rates.bytes, topic.name)).EndObject();
  }
  json.EndArray().Key("groups").BeginArray();
  for (const GroupDescription& group : now.all.groups) {
    json.BeginObject().Key("group").String(group.name).Key("state").String(group.state);
    json.Key("members").Number(static_cast<std::int64_t>(group.members.size()));
    json.Key("lag").Number(group.lag).Key("lag_bytes").Number(group.lag_bytes);
    json.Key("lag_ms").Number(absl::ToInt64Milliseconds(group.lag_age));
    json.Key("committed_per_second").Number(Of(rates.committed, group.name)).EndObject();
  }
  json.EndArray();
  json.Key("consumed_per_second").Number(rates.consumed);
  json.Key("consumed_bytes_per_second").Number(rates.consumed_bytes);
  json.Key("syncs_per_second").Number(rates.syncs);
  json.Key("errors_per_second").Number(rates.errors);
  json.Key("blocked_seconds_per_second").Number(rates.blocked);
  const auto p99 = [&](const char* key, const LatencyHistogram& histogram) {
    json.Key(key).Number(absl::ToInt64Nanoseconds(histogram.Quantile(0.99)));
  };
  p99("append_p99_ns", rates.append_latency);
  p99("sync_p99_ns", rates.sync_latency);
  json.EndObject();
}

// From the top left, each line to its end, and nothing of the last screen below; no more lines
// than there are.
std::string OverTheLast(const std::string& text, int rows) {
  std::string screen = "\033[H";
  int row = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (++row >= rows) break;
    absl::StrAppend(&screen, line, "\033[K\n");
  }
  return screen + "q ends it\033[K\033[J";
}

// The terminal's other screen, without a cursor, and where long lines are cut off instead of going
// on in the next one, for as long as it lives.
class OtherScreen {
 public:
  explicit OtherScreen(Session& session) : session_(session) {
    session_.Answer("\033[?1049h\033[?25l\033[?7l").IgnoreError();
  }
  OtherScreen(const OtherScreen&) = delete;
  OtherScreen& operator=(const OtherScreen&) = delete;
  ~OtherScreen() { session_.Answer("\033[?7h\033[?25h\033[?1049l").IgnoreError(); }

 private:
  Session& session_;
};

absl::StatusOr<Moment> Look(const Broker& broker) {
  Moment moment{.time = absl::Now()};
  CORDWOOD_ASSIGN_OR_RETURN(moment.all, broker.DescribeBroker());
  CORDWOOD_ASSIGN_OR_RETURN(moment.metrics, broker.Metrics());
  return moment;
}

absl::Status Top(Session& session, const Options& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(Moment before, Look(broker));
  StopOnSignals();
  const bool is_screen = isatty(1) != 0 && !session.json && options.rounds == 0;
  std::unique_ptr<OtherScreen> other;
  if (is_screen) other = std::make_unique<OtherScreen>(session);
  const Keys keys(0);
  Rates rates;
  for (int round = 1;; ++round) {
    const std::string text = Screen(before, rates, session.style());
    if (is_screen) {
      CORDWOOD_RETURN_IF_ERROR(session.Answer(OverTheLast(text, SizeOf(1).rows)));
    } else if (round > 1) {  // the first look has no rates
      if (session.json) {
        internal::JsonWriter json;
        WriteJson(json, before, rates);
        CORDWOOD_RETURN_IF_ERROR(session.Answer(std::move(json)));
      } else {
        CORDWOOD_RETURN_IF_ERROR(session.Answer(text + "\n"));
      }
      if (options.rounds > 0 && round > options.rounds) return absl::OkStatus();
    }
    const char key = keys.Wait(absl::Seconds(options.interval));
    if (key == 'q' || IsStopped()) return absl::OkStatus();
    CORDWOOD_ASSIGN_OR_RETURN(Moment now, Look(broker));
    rates = RatesOf(before, now);
    before = std::move(now);
  }
}

}  // namespace

void AddTop(CLI::App& app, Session& session) {
  CLI::App* const top = app.add_subcommand("top", "Rates and lag, live; q ends it");
  const auto options = std::make_shared<Options>();
  top->add_option("-i,--interval", options->interval, "Look again after so long (1)")
      ->check(CLI::Range(0.01, 3600.0))
      ->type_name("SECONDS");
  top->add_option("-n,--rounds", options->rounds, "End after so many, and write them as lines")
      ->check(AtLeast(1))
      ->type_name("N");
  top->callback([&session, options] {
    session.run = [&session, options] { return Top(session, *options); };
  });
}

}  // namespace cordwood::tool
