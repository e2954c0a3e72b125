// A snapshot of metrics as Prometheus sees it.
//
// Thread safety: a function of values.

#ifndef CORDWOOD_METRIC_FAMILIES_H_
#define CORDWOOD_METRIC_FAMILIES_H_

#include <vector>

#include "cordwood/metrics.h"
#include "metric_list.h"

namespace cordwood::internal {

// Those that have a sample.
std::vector<MetricFamily> MetricFamilies(const MetricsSnapshot& metrics);

}  // namespace cordwood::internal

#endif  // CORDWOOD_METRIC_FAMILIES_H_
