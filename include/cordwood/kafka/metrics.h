// How far a bridge is, for Prometheus, beside what cordwood/metrics.h says of the directory.
//
//   Serve("/metrics", PrometheusText(*broker.Metrics()) +
//                         kafka::PrometheusText(forwarder.progress()));
//
// Counters begin at zero with each Open, which Prometheus takes for a restart. Thread safety:
// functions of values.

#ifndef CORDWOOD_KAFKA_METRICS_H_
#define CORDWOOD_KAFKA_METRICS_H_

#include <string>
#include <vector>

#include "cordwood/kafka/forwarder.h"
#include "cordwood/kafka/importer.h"

namespace cordwood::kafka {

// In Prometheus's text format 0.0.4: cordwood_kafka_forwarder_..., with the labels topic, target
// and, of a lag, partition.
std::string PrometheusText(const std::vector<ForwardedTopic>& topics);
// As above: cordwood_kafka_importer_...
std::string PrometheusText(const std::vector<ImportedTopic>& topics);

}  // namespace cordwood::kafka

#endif  // CORDWOOD_KAFKA_METRICS_H_
