#include "metric_families.h"

#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace cordwood::internal {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

// Seconds, exactly: a double has 15 digits, of which a time since 1970 needs 10 for the seconds.
std::string Seconds(absl::Duration duration) {
  std::int64_t ns = absl::ToInt64Nanoseconds(duration);
  std::string text = ns < 0 ? "-" : "";
  if (ns < 0) ns = -(ns + 1);
  absl::StrAppend(&text, ns / 1'000'000'000, ".", absl::Dec(ns % 1'000'000'000, absl::kZeroPad9));
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

class List {
 public:
  void Counter(std::string name, std::string help) { Begin(std::move(name), "counter", help); }
  void Gauge(std::string name, std::string help) { Begin(std::move(name), "gauge", help); }

  template <class Number>
  List& Add(Number value, Labels labels = {}) {
    families_.back().samples.push_back({"", std::move(labels), absl::StrCat(value)});
    return *this;
  }
  void Histogram(std::string name, std::string help, const LatencyHistogram& histogram) {
    Begin(std::move(name), "histogram", help);
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
  std::vector<MetricFamily> Take() && {
    std::erase_if(families_, [](const MetricFamily& family) { return family.samples.empty(); });
    return std::move(families_);
  }

 private:
  void Begin(std::string name, std::string type, const std::string& help) {
    families_.push_back({"cordwood_" + std::move(name), std::move(type), help});
  }

  std::vector<MetricFamily> families_;
};

void AddPartitions(const std::vector<PartitionMetrics>& partitions, List& list) {
  const auto each = [&](auto value) {
    for (const PartitionMetrics& p : partitions) {
      list.Add(value(p), {{"topic", p.topic}, {"partition", absl::StrCat(p.partition)}});
    }
  };
  list.Counter("produced_records_total", "Records appended, as the end offset counts them.");
  each([](const PartitionMetrics& p) { return p.end; });
  list.Counter("produced_bytes_total", "Bytes appended, frames and all.");
  each([](const PartitionMetrics& p) { return p.produced_bytes; });
  list.Counter("produced_batches_total", "Batches appended by AppendBatch and SendBatch.");
  each([](const PartitionMetrics& p) { return p.batches; });
  list.Counter("produced_batch_records_total", "Records of these batches.");
  each([](const PartitionMetrics& p) { return p.batch_records; });
  list.Gauge("log_start_offset", "First offset that can be read.");
  each([](const PartitionMetrics& p) { return p.start; });
  list.Gauge("log_end_offset", "Offset that the next record gets.");
  each([](const PartitionMetrics& p) { return p.end; });
  list.Gauge("log_durable_offset", "What is below survives a power cut.");
  each([](const PartitionMetrics& p) { return p.durable; });
  list.Gauge("log_size_bytes", "Bytes of the segments.");
  each([](const PartitionMetrics& p) { return p.bytes; });
  list.Gauge("log_segments", "Segments, the active one among them.");
  each([](const PartitionMetrics& p) { return p.segments; });
  list.Gauge("log_failed", "1 where nothing can be appended.");
  each([](const PartitionMetrics& p) { return p.is_failed ? 1 : 0; });
  list.Gauge("oldest_unsynced_record_age_seconds",
             "How long the first record that is not durable has been published.");
  each([](const PartitionMetrics& p) { return Seconds(p.unsynced_age); });
  list.Gauge("retention_pins", "Pins that keep records from retention.");
  each([](const PartitionMetrics& p) { return p.pins; });
  list.Gauge("backlog_bytes", "What the slowest group of retain.for.groups has not committed.");
  for (const PartitionMetrics& p : partitions) {
    if (!p.backlog_bytes) continue;
    list.Add(*p.backlog_bytes, {{"topic", p.topic}, {"partition", absl::StrCat(p.partition)}});
  }
}

void AddGroups(const std::vector<GroupDescription>& groups, List& list) {
  const auto each = [&](auto value) {
    for (const GroupDescription& group : groups) {
      for (const PartitionProgress& p : group.partitions) {
        list.Add(
            value(p),
            {{"group", group.name}, {"topic", p.topic}, {"partition", absl::StrCat(p.partition)}});
      }
    }
  };
  list.Gauge("consumer_group_members", "Members, those away among them.");
  for (const GroupDescription& group : groups) {
    if (!group.is_shared) list.Add(group.members.size(), {{"group", group.name}});
  }
  list.Gauge("consumer_group_lag", "Records that the group has not committed.");
  each([](const PartitionProgress& p) { return p.lag; });
  list.Gauge("consumer_group_lag_bytes", "Bytes of these records.");
  each([](const PartitionProgress& p) { return p.lag_bytes; });
  list.Gauge("consumer_group_lag_seconds", "Age of the first of these records.");
  each([](const PartitionProgress& p) { return Seconds(p.lag_age); });
  list.Gauge("consumer_group_committed_offset", "Next offset that the group reads.");
  for (const GroupDescription& group : groups) {
    for (const PartitionProgress& p : group.partitions) {
      if (!p.committed) continue;
      list.Add(
          *p.committed,
          {{"group", group.name}, {"topic", p.topic}, {"partition", absl::StrCat(p.partition)}});
    }
  }
}

void AddCounts(const MetricCounts& counts, List& list) {
  list.Gauge("counts_shared", "1 if what is counted is of all processes, 0 if of one.");
  list.Add(counts.is_shared ? 1 : 0);
  list.Gauge("counts_created_timestamp_seconds", "When the counts began at zero.");
  list.Add(Seconds(counts.since - absl::UnixEpoch()));
  list.Counter("consumed_records_total", "Records that consumers have read.");
  list.Add(counts.consumed_records);
  list.Counter("consumed_bytes_total", "Bytes of these records, frames and all.");
  list.Add(counts.consumed_bytes);
  list.Counter("consumed_batches_total", "Polls that gave them.");
  list.Add(counts.consumed_batches);
  list.Histogram("append_duration_seconds",
                 "Appends of one record in 1,024, until it is published.", counts.append_latency);
  list.Histogram("sync_duration_seconds", "Syncs of records to the disk.", counts.sync_latency);
  const auto blocked = [&](auto value) {
    list.Add(value(counts.blocked_by_backlog), {{"reason", "backlog"}});
    list.Add(value(counts.blocked_by_retention), {{"reason", "retention"}});
    list.Add(value(counts.blocked_by_writers), {{"reason", "writers"}});
  };
  list.Counter("append_blocked_total", "Times that an append had to sleep.");
  blocked([](const BlockedCount& b) { return b.times; });
  list.Counter("append_blocked_seconds_total", "For how long.");
  blocked([](const BlockedCount& b) { return Seconds(b.time); });
  list.Counter("segment_rolls_total", "Segments that were closed, and followed by another.");
  list.Add(counts.rolls);
  list.Counter("retired_files_total",
               "Files whose sync has failed, and whose records were copied.");
  list.Add(counts.retired_files);
  list.Counter("recovered_partitions_total", "Partitions that were recovered after a crash.");
  list.Add(counts.recovered_partitions);
  list.Counter("recovery_lost_records_total", "Offsets whose records were gone.");
  list.Add(counts.recovery_lost_records);
  list.Counter("recovery_dropped_bytes_total", "Bytes that recovery has dropped.");
  list.Add(counts.recovery_dropped_bytes);
  const auto removed = [&](auto value) {
    list.Add(value(counts.removed_by_retention), {{"reason", "retention"}});
    list.Add(value(counts.removed_by_trim), {{"reason", "trim"}});
    list.Add(value(counts.removed_by_backlog), {{"reason", "backlog"}});
  };
  list.Counter("removed_records_total", "Records that were given up.");
  removed([](const RemovedCount& r) { return r.records; });
  list.Counter("removed_segments_total", "Segments that were removed.");
  removed([](const RemovedCount& r) { return r.segments; });
  list.Counter("removed_bytes_total", "Bytes of these segments.");
  removed([](const RemovedCount& r) { return r.bytes; });
  list.Counter("compactions_total", "Passes of compaction that were finished.");
  list.Add(counts.compactions);
  list.Counter("compaction_read_bytes_total", "Bytes of segments that were replaced.");
  list.Add(counts.compaction_read_bytes);
  list.Counter("compaction_written_bytes_total", "Bytes of those that replaced them.");
  list.Add(counts.compaction_written_bytes);
  list.Counter("compaction_removed_records_total", "Records that were left out.");
  list.Add(counts.compaction_removed_records);
  list.Counter("rebalances_total", "Times that partitions changed hands within a group.");
  list.Add(counts.rebalances);
  list.Counter("errors_total", "Errors that callers were told, by what they did and why.");
  for (const ErrorCount& error : counts.errors) {
    list.Add(error.count, {{"operation", error.operation}, {"kind", error.kind}});
  }
}

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

std::vector<MetricFamily> MetricFamilies(const MetricsSnapshot& metrics) {
  List list;
  AddPartitions(metrics.partitions, list);
  AddGroups(metrics.groups, list);
  list.Gauge("disk_free_bytes", "Bytes free on the disk for this user.");
  list.Add(metrics.disk.free_bytes);
  list.Gauge("disk_reserve_spent", "1 if the reserve is in use, and nothing can be appended.");
  list.Add(metrics.disk.reserve_is_spent ? 1 : 0);
  list.Gauge("undescribed", "Topics and groups that could not be looked at.");
  list.Add(metrics.failed);
  if (metrics.counts) AddCounts(*metrics.counts, list);
  return std::move(list).Take();
}

}  // namespace cordwood::internal

namespace cordwood {

std::string PrometheusText(const MetricsSnapshot& metrics) {
  std::string text;
  for (const internal::MetricFamily& family : internal::MetricFamilies(metrics)) {
    absl::StrAppend(&text, "# HELP ", family.name, " ", family.help, "\n# TYPE ", family.name, " ",
                    family.type, "\n");
    for (const internal::MetricSample& sample : family.samples) {
      absl::StrAppend(&text, family.name, sample.suffix);
      const char* before = "{";
      for (const auto& [label, value] : sample.labels) {
        absl::StrAppend(&text, before, label, "=\"", internal::Escaped(value), "\"");
        before = ",";
      }
      absl::StrAppend(&text, sample.labels.empty() ? " " : "} ", sample.value, "\n");
    }
  }
  return text;
}

}  // namespace cordwood
