#include "metric_list.h"

#include <cstdint>
#include <utility>

namespace cordwood::internal {
namespace {

// Of a value in quotes.
std::string Escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\n') {
      escaped += "\\n";
    } else {
      if (c == '\\' || c == '"') escaped += '\\';
      escaped += c;
    }
  }
  return escaped;
}

}  // namespace

std::string MetricList::Seconds(absl::Duration duration) {
  std::int64_t ns = absl::ToInt64Nanoseconds(duration);
  std::string text = ns < 0 ? "-" : "";
  if (ns < 0) ns = -(ns + 1);
  absl::StrAppend(&text, ns / 1'000'000'000, ".", absl::Dec(ns % 1'000'000'000, absl::kZeroPad9));
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

void MetricList::Histogram(std::string name, std::string help, const LatencyHistogram& histogram) {
  Begin(std::move(name), "histogram", std::move(help));
  std::vector<MetricSample>& samples = families_.back().samples;
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
    count += histogram.counts[i];
    const absl::Duration bound = LatencyHistogram::UpperBound(i);
    const bool is_last = bound == absl::InfiniteDuration();
    samples.push_back(
        {"_bucket", {{"le", is_last ? "+Inf" : Seconds(bound)}}, absl::StrCat(count)});
  }
  samples.push_back({"_sum", {}, Seconds(histogram.sum)});
  samples.push_back({"_count", {}, absl::StrCat(count)});
}

std::vector<MetricFamily> MetricList::Take() && {
  std::erase_if(families_, [](const MetricFamily& family) { return family.samples.empty(); });
  return std::move(families_);
}

void MetricList::Begin(std::string name, std::string type, std::string help) {
  families_.push_back({"cordwood_" + std::move(name), std::move(type), std::move(help)});
}

std::string PrometheusText(const std::vector<MetricFamily>& families) {
  std::string text;
  for (const MetricFamily& family : families) {
    absl::StrAppend(&text, "# HELP ", family.name, " ", family.help, "\n# TYPE ", family.name, " ",
                    family.type, "\n");
    for (const MetricSample& sample : family.samples) {
      absl::StrAppend(&text, family.name, sample.suffix);
      const char* before = "{";
      for (const auto& [label, value] : sample.labels) {
        absl::StrAppend(&text, before, label, "=\"", Escaped(value), "\"");
        before = ",";
      }
      absl::StrAppend(&text, sample.labels.empty() ? " " : "} ", sample.value, "\n");
    }
  }
  return text;
}

}  // namespace cordwood::internal
