#include "cordwood/kafka/metrics.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "metric_list.h"

namespace cordwood::kafka {
namespace {

using cordwood::internal::MetricList;

template <class Topic>
class TopicList {
 public:
  TopicList(std::string prefix, const std::vector<Topic>& topics)
      : prefix_(std::move(prefix)), topics_(topics) {}

  template <class Value>
  void Counter(const char* name, const char* help, Value value) {
    list_.Counter(prefix_ + name, help);
    Each(value);
  }
  template <class Value>
  void Gauge(const char* name, const char* help, Value value) {
    list_.Gauge(prefix_ + name, help);
    Each(value);
  }
  // What both bridges have.
  void Common() {
    Counter("records_total", "Records carried over for good.",
            [](const Topic& t) { return t.records; });
    Counter("bytes_total", "Bytes of their keys and values.",
            [](const Topic& t) { return t.bytes; });
    Counter("gap_records_total", "Offsets that were gone before they could be carried over.",
            [](const Topic& t) { return t.gaps; });
    Counter("restarts_total", "Times that it began anew after an error that passes.",
            [](const Topic& t) { return t.restarts; });
    Counter("cluster_away_seconds_total", "How long it has waited for the cluster.",
            [](const Topic& t) { return MetricList::Seconds(t.away); });
    Gauge("has_error", "1 while the last thing that it tried has failed.",
          [](const Topic& t) { return t.last_error.empty() ? 0 : 1; });
    list_.Gauge(prefix_ + "lag", "Records that are not carried over yet.");
    for (const Topic& t : topics_) {
      for (const auto& p : t.partitions) {
        MetricList::Labels labels = LabelsOf(t);
        labels.emplace_back("partition", absl::StrCat(p.partition));
        list_.Add(p.lag, std::move(labels));
      }
    }
  }
  std::string Text() && { return cordwood::internal::PrometheusText(std::move(list_).Take()); }

 private:
  static MetricList::Labels LabelsOf(const Topic& t) {
    return {{"topic", t.topic}, {"target", t.target}};
  }
  template <class Value>
  void Each(Value value) {
    for (const Topic& t : topics_) list_.Add(value(t), LabelsOf(t));
  }

  const std::string prefix_;
  const std::vector<Topic>& topics_;
  MetricList list_;
};

}  // namespace

std::string PrometheusText(const std::vector<ForwardedTopic>& topics) {
  TopicList list("kafka_forwarder_", topics);
  list.Common();
  list.Counter("transactions_total", "Transactions of the cluster that were committed.",
               [](const ForwardedTopic& t) { return t.transactions; });
  list.Gauge("in_flight_records", "Records of the transaction that is open now.",
             [](const ForwardedTopic& t) { return t.in_flight; });
  list.Counter("delivered_records_total", "Records that the cluster has taken, committed or not.",
               [](const ForwardedTopic& t) { return t.delivered; });
  list.Counter("retried_records_total", "Records of transactions that failed.",
               [](const ForwardedTopic& t) { return t.retried; });
  list.Counter("refused_records_total", "Records that the cluster refuses for good.",
               [](const ForwardedTopic& t) { return t.refused; });
  list.Counter("dead_letters_total", "Those of them that were set aside.",
               [](const ForwardedTopic& t) { return t.dead_letters; });
  return std::move(list).Text();
}

std::string PrometheusText(const std::vector<ImportedTopic>& topics) {
  TopicList list("kafka_importer_", topics);
  list.Common();
  return std::move(list).Text();
}

}  // namespace cordwood::kafka
