// A snapshot of metrics as Prometheus sees it: families of samples with labels. One list, of which
// PrometheusText() and the program's JSON are made.
//
// Thread safety: functions of values.

#ifndef CORDWOOD_METRIC_FAMILIES_H_
#define CORDWOOD_METRIC_FAMILIES_H_

#include <string>
#include <utility>
#include <vector>

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

// Those that have a sample.
std::vector<MetricFamily> MetricFamilies(const MetricsSnapshot& metrics);

}  // namespace cordwood::internal

#endif  // CORDWOOD_METRIC_FAMILIES_H_
