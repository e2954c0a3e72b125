// cordwood metrics: for Prometheus and other programs.

#include "cordwood/metrics.h"

#include <CLI/CLI.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "metric_families.h"
#include "tool/commands.h"

namespace cordwood::tool {
namespace {

void WriteJson(internal::JsonWriter& json, const MetricsSnapshot& metrics) {
  json.BeginArray();
  for (const internal::MetricFamily& family : internal::MetricFamilies(metrics)) {
    json.BeginObject().Key("name").String(family.name).Key("type").String(family.type);
    json.Key("help").String(family.help).Key("samples").BeginArray();
    for (const internal::MetricSample& sample : family.samples) {
      json.BeginObject();
      if (!sample.suffix.empty()) json.Key("suffix").String(sample.suffix);
      json.Key("labels").BeginObject();
      for (const auto& [label, value] : sample.labels) json.Key(label).String(value);
      json.EndObject().Key("value").Json(sample.value).EndObject();
    }
    json.EndArray().EndObject();
  }
  json.EndArray();
}

absl::Status Metrics(Session& session) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(const MetricsSnapshot metrics, broker.Metrics());
  if (session.json) {
    internal::JsonWriter json(true);
    WriteJson(json, metrics);
    CORDWOOD_RETURN_IF_ERROR(session.Answer(std::move(json)));
  } else {
    CORDWOOD_RETURN_IF_ERROR(session.Answer(PrometheusText(metrics)));
  }
  if (!metrics.counts) {
    session.Note(
        "there is no file `metrics`, so what it counts is left out; the next program that opens "
        "the directory to write makes one");
  }
  return metrics.failed == 0 ? absl::OkStatus()
                             : absl::DataLossError(absl::StrCat(
                                   "topics and groups that cannot be looked at: ", metrics.failed,
                                   "; `cordwood describe` names them"));
}

}  // namespace

void AddMetrics(CLI::App& app, Session& session) {
  CLI::App* const metrics =
      app.add_subcommand("metrics", "What has been done so far, in Prometheus's text format");
  metrics->callback([&session] { session.run = [&session] { return Metrics(session); }; });
}

}  // namespace cordwood::tool
