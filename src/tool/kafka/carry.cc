#include "tool/kafka/carry.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "cordwood/kafka/metrics.h"
#include "cordwood/status_macros.h"
#include "tool/terminal.h"

namespace cordwood::tool {
namespace {

// How often signals and the line on the terminal are looked at.
constexpr absl::Duration kLook = absl::Milliseconds(100);

// What both bridges count.
template <class Topic>
std::vector<Carried> Shorten(const std::vector<Topic>& topics) {
  std::vector<Carried> all;
  for (const Topic& t : topics) {
    all.push_back({.topic = t.topic,
                   .records = t.records,
                   .bytes = t.bytes,
                   .lag = t.lag,
                   .away = t.away,
                   .last_error = t.last_error});
  }
  return all;
}

template <class Topic>
void WriteCommon(internal::JsonWriter& json, const Topic& t) {
  json.Key("topic").String(t.topic).Key("target").String(t.target);
  json.Key("records").Number(t.records).Key("bytes").Number(t.bytes);
  json.Key("gaps").Number(t.gaps).Key("restarts").Number(t.restarts).Key("lag").Number(t.lag);
  json.Key("away_ms").Number(absl::ToInt64Milliseconds(t.away)).Key("last_error");
  if (t.last_error.empty()) {
    json.Null();
  } else {
    json.String(t.last_error);
  }
  json.Key("partitions").BeginArray();
  for (const auto& p : t.partitions) {
    json.BeginObject().Key("partition").Number(std::int64_t{p.partition});
    json.Key("next").Number(p.next).Key("lag").Number(p.lag).EndObject();
  }
  json.EndArray();
}

Carried Sum(const std::vector<Carried>& topics) {
  Carried sum;
  for (const Carried& t : topics) {
    sum.records += t.records;
    sum.bytes += t.bytes;
    sum.lag += t.lag;
  }
  return sum;
}

std::string Records(std::int64_t number) {
  return absl::StrCat(Count(number), number == 1 ? " record" : " records");
}

// Says when a topic stands still, and when it goes on; not what it says meanwhile, again and again.
class Notes {
 public:
  explicit Notes(const Session& session) : session_(session) {}

  void Look(const std::vector<Carried>& topics, Progress& progress) {
    for (const Carried& t : topics) {
      std::string& before = errors_[t.topic];
      if (before.empty() != t.last_error.empty()) {
        progress.Clear();
        session_.Note(absl::StrCat(
            t.topic, ": ",
            t.last_error.empty()
                ? absl::StrCat("goes on; it has waited for ", DurationText(t.away), " in all")
                : t.last_error));
      }
      before = t.last_error;
    }
  }

  // That the file cannot be written is no reason to stand still.
  void TellMetrics(const absl::Status& written, Progress& progress) {
    if (written.ok() == metrics_are_well_) return;
    metrics_are_well_ = written.ok();
    progress.Clear();
    session_.Note(written.ok() ? "the metrics are written again" : std::string(written.message()));
  }

 private:
  const Session& session_;
  std::map<std::string, std::string> errors_;
  bool metrics_are_well_ = true;
};

absl::Status WriteJson(Session& session, const Carrier& carrier, bool is_done) {
  internal::JsonWriter json;
  json.BeginObject();
  WriteTime(json.Key("time"), absl::Now());
  json.Key("done").Bool(is_done).Key("topics");
  carrier.write(json);
  json.EndObject();
  return session.Answer(std::move(json));
}

// All of it or what was there before: who collects such files may read it at any moment.
absl::Status WriteMetrics(const Carrier& carrier, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  const std::string made = path + ".new";
  std::ofstream file(made, std::ios::binary | std::ios::trunc);
  file << carrier.prometheus_text();
  file.close();
  std::error_code error;
  if (file.good()) std::filesystem::rename(made, path, error);
  if (file.good() && !error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": cannot be written", error ? ": " + error.message() : std::string()));
}

}  // namespace

Carrier CarrierOf(kafka::KafkaForwarder& forwarder) {
  return {.done = "forwarded",
          .run =
              [&forwarder](std::stop_token stop, bool until_end) {
                return until_end ? forwarder.RunToEnd(stop) : forwarder.Run(stop);
              },
          .look = [&forwarder] { return Shorten(forwarder.progress()); },
          .write =
              [&forwarder](internal::JsonWriter& json) {
                json.BeginArray();
                for (const kafka::ForwardedTopic& t : forwarder.progress()) {
                  json.BeginObject();
                  WriteCommon(json, t);
                  json.Key("transactions").Number(t.transactions);
                  json.Key("in_flight").Number(t.in_flight).Key("delivered").Number(t.delivered);
                  json.Key("retried").Number(t.retried).Key("refused").Number(t.refused);
                  json.Key("dead_letters").Number(t.dead_letters).EndObject();
                }
                json.EndArray();
              },
          .prometheus_text = [&forwarder] { return kafka::PrometheusText(forwarder.progress()); }};
}

Carrier CarrierOf(kafka::KafkaImporter& importer) {
  return {.done = "imported",
          .run =
              [&importer](std::stop_token stop, bool until_end) {
                return until_end ? importer.RunToEnd(stop) : importer.Run(stop);
              },
          .look = [&importer] { return Shorten(importer.progress()); },
          .write =
              [&importer](internal::JsonWriter& json) {
                json.BeginArray();
                for (const kafka::ImportedTopic& t : importer.progress()) {
                  json.BeginObject();
                  WriteCommon(json, t);
                  json.EndObject();
                }
                json.EndArray();
              },
          .prometheus_text = [&importer] { return kafka::PrometheusText(importer.progress()); }};
}

absl::Status Carry(Session& session, const Carrier& carrier, const CarryOptions& options) {
  StopOnSignals();
  const absl::Time begun = absl::Now();
  Progress progress(carrier.done, -1);
  Notes notes(session);
  absl::Status status, answered;
  absl::Notification ended;
  std::jthread thread([&](std::stop_token stop) {
    status = carrier.run(stop, options.until_end);
    ended.Notify();
  });
  bool is_stopped = false;
  absl::Time write_at = begun + absl::Seconds(options.interval_seconds);
  while (!ended.WaitForNotificationWithTimeout(kLook)) {
    if (!is_stopped && (IsStopped() || !answered.ok())) {
      is_stopped = true;
      thread.request_stop();
    }
    const std::vector<Carried> topics = carrier.look();
    notes.Look(topics, progress);
    const Carried sum = Sum(topics);
    if (!session.json) progress.ShowLag(sum.records, sum.bytes, sum.lag);
    if (answered.ok() && absl::Now() >= write_at) {
      notes.TellMetrics(WriteMetrics(carrier, options.metrics_file), progress);
      if (session.json) answered = WriteJson(session, carrier, false);
      write_at = absl::Now() + absl::Seconds(options.interval_seconds);
    }
  }
  thread.join();
  notes.Look(carrier.look(), progress);
  progress.Clear();
  CORDWOOD_RETURN_IF_ERROR(answered);
  notes.TellMetrics(WriteMetrics(carrier, options.metrics_file), progress);
  if (session.json) CORDWOOD_RETURN_IF_ERROR(WriteJson(session, carrier, true));
  const Carried sum = Sum(carrier.look());
  const std::string what = absl::StrCat(Records(sum.records), " ", carrier.done);
  if (!status.ok()) {
    // What went wrong on the way is no mistake in the arguments, nor the end of a pipe.
    const bool is_ours = absl::IsInvalidArgument(status) || absl::IsCancelled(status);
    return absl::Status(is_ours ? absl::StatusCode::kFailedPrecondition : status.code(),
                        absl::StrCat(status.message(), "\n  ", what, " before that."));
  }
  if (is_stopped && options.until_end) {
    return absl::AbortedError(
        absl::StrCat("stopped before the end\n  ", what, ", lag: ", Count(sum.lag), "."));
  }
  if (progress.is_visible()) {
    const double seconds = std::max(absl::ToDoubleSeconds(absl::Now() - begun), 1e-6);
    session.Note(absl::StrCat(what, ", ", BytesText(sum.bytes), ", ",
                              RateText(static_cast<double>(sum.records) / seconds),
                              ", lag: ", Count(sum.lag)));
  }
  return absl::OkStatus();
}

}  // namespace cordwood::tool
