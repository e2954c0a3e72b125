#include "metric_families.h"

#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace cordwood::internal {
namespace {

constexpr auto Seconds = MetricList::Seconds;

void AddPartitions(const std::vector<PartitionMetrics>& partitions, MetricList& list) {
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

void AddGroups(const std::vector<GroupDescription>& groups, MetricList& list) {
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

void AddCounts(const MetricCounts& counts, MetricList& list) {
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

}  // namespace

std::vector<MetricFamily> MetricFamilies(const MetricsSnapshot& metrics) {
  MetricList list;
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
  return internal::PrometheusText(internal::MetricFamilies(metrics));
}

}  // namespace cordwood
