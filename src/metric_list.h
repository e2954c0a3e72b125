// Metrics as Prometheus sees them: families of samples with labels. One list, of which the text and
// the program's JSON are made.
//
//   MetricList list;
//   list.Counter("segment_rolls_total", "Segments that were closed.");
//   list.Add(7, {{"topic", "orders"}});
//   PrometheusText(std::move(list).Take());
//
// Thread safety: values.

#ifndef CORDWOOD_METRIC_LIST_H_
#define CORDWOOD_METRIC_LIST_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/metrics.h"

namespace cordwood::internal {

struct MetricSample {
  std::string suffix = {};  // of a histogram's: "_bucket", "_sum", "_count"
  std::vector<std::pair<std::string, std::string>> labels = {};
  std::string value = {};  // a number, as it is written
};

struct MetricFamily {
  std::string name = {};
  std::string type = {};  // "counter", "gauge", "histogram"
  std::string help = {};
  std::vector<MetricSample> samples = {};
};

class MetricList {
 public:
  using Labels = std::vector<std::pair<std::string, std::string>>;

  // Exactly: a double has 15 digits, of which a time since 1970 needs 10 for the seconds.
  static std::string Seconds(absl::Duration duration);

  // Each begins a family, to which Add() adds.
  void Counter(std::string name, std::string help) { Begin(std::move(name), "counter", help); }
  void Gauge(std::string name, std::string help) { Begin(std::move(name), "gauge", help); }
  void Histogram(std::string name, std::string help, const LatencyHistogram& histogram);

  template <class Number>
  void Add(Number value, Labels labels = {}) {
    families_.back().samples.push_back({"", std::move(labels), absl::StrCat(value)});
  }
  // The families that have a sample.
  std::vector<MetricFamily> Take() &&;

 private:
  void Begin(std::string name, std::string type, std::string help);

  std::vector<MetricFamily> families_;
};

// In Prometheus's text format 0.0.4.
std::string PrometheusText(const std::vector<MetricFamily>& families);

}  // namespace cordwood::internal

#endif  // CORDWOOD_METRIC_LIST_H_
