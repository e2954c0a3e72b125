// Metrics: what is counted, and what is read off.

#include "cordwood/metrics.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <numeric>
#include <utility>

#include "broker_state.h"
#include "cordwood/broker.h"
#include "cordwood/log/cursor.h"
#include "cordwood/status_macros.h"

namespace cordwood {
namespace {

// By the timestamp of the first record that is not durable. That may be anybody's; but it was
// appended after its segment was made, and not after the last one was.
absl::Duration UnsyncedAge(const std::shared_ptr<log::Log>& log) {
  const log::ControlBlock& block = log->block();
  const Offset durable = log->durable_offset();
  if (durable >= log->end_offset()) return absl::ZeroDuration();
  log::Cursor cursor(log, std::max(durable, log->start_offset()));
  segment::CheckedFrame frame;
  if (cursor.Next(frame) != log::Cursor::Step::kRecord) return absl::ZeroDuration();
  const std::int64_t now = log->context().clock.Now();
  const std::int64_t last = block.last_append_ns.load(std::memory_order_relaxed);
  const std::int64_t appended =
      std::max(std::min(frame.header.timestamp_ns, last), cursor.segment()->header().created_ns);
  return absl::Nanoseconds(std::max<std::int64_t>(0, now - appended));
}

absl::StatusOr<PartitionMetrics> MetricsOf(const std::shared_ptr<log::Log>& log) {
  const log::ControlBlock& block = log->block();
  PartitionMetrics metrics = {.topic = log->name().topic,
                              .partition = log->partition(),
                              .start = log->start_offset(),
                              .end = log->end_offset(),
                              .durable = log->durable_offset(),
                              .is_failed = absl::IsDataLoss(log->status()),
                              .produced_bytes = BytesProduced(block),
                              .batches = block.batches.load(std::memory_order_relaxed),
                              .batch_records = block.batch_records.load(std::memory_order_relaxed),
                              .unsynced_age = UnsyncedAge(log)};
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<SegmentDescription> segments,
                            log->DescribeSegments());
  metrics.segments = static_cast<std::int64_t>(segments.size());
  for (const SegmentDescription& segment : segments) metrics.bytes += segment.bytes;
  return metrics;
}

}  // namespace

absl::Duration LatencyHistogram::UpperBound(std::size_t bucket) {
  return bucket + 1 < kBuckets ? absl::Nanoseconds(std::int64_t{64} << bucket)
                               : absl::InfiniteDuration();
}

std::uint64_t LatencyHistogram::count() const {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

absl::Duration LatencyHistogram::Quantile(double share) const {
  const double wanted = share * static_cast<double>(count());
  std::uint64_t so_far = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    so_far += counts[i];
    if (so_far != 0 && static_cast<double>(so_far) >= wanted) return UpperBound(i);
  }
  return absl::ZeroDuration();
}

absl::StatusOr<MetricsSnapshot> Broker::Metrics() const {
  CORDWOOD_RETURN_IF_ERROR(Check());
  MetricsSnapshot snapshot;
  const log::Context& context = state_->context();
  snapshot.counts =
      state_->read_only() ? log::Metrics::CountsIn(*context.root) : context.metrics->Counts();
  CORDWOOD_ASSIGN_OR_RETURN(snapshot.disk, DescribeDisk());
  const auto add_topic = [&](const std::string& name) -> absl::Status {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::TopicFiles> files,
                              state_->directory().OpenTopic(name));
    std::vector<PartitionMetrics> partitions;
    const bool has_backlog = !files->config().retain_for_groups.empty();
    for (int p = 0; p < files->partitions(); ++p) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> log, files->OpenLog(p));
      CORDWOOD_ASSIGN_OR_RETURN(PartitionMetrics metrics, MetricsOf(log));
      if (has_backlog) metrics.backlog_bytes = 0;
      partitions.push_back(std::move(metrics));
    }
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<RetentionHold> holds, DescribeHolds(name));
    for (const RetentionHold& hold : holds) {
      if (static_cast<std::size_t>(hold.partition) >= partitions.size()) continue;  // added since
      PartitionMetrics& metrics = partitions[static_cast<std::size_t>(hold.partition)];
      if (hold.kind == RetentionHold::Kind::kPin) {
        ++metrics.pins;
      } else if (metrics.backlog_bytes) {
        metrics.backlog_bytes = std::max(*metrics.backlog_bytes, hold.bytes);
      }
    }
    std::move(partitions.begin(), partitions.end(), std::back_inserter(snapshot.partitions));
    return absl::OkStatus();
  };
  // What was deleted meanwhile is none.
  for (const std::string& name : TopicNames()) {
    const absl::Status added = add_topic(name);
    snapshot.failed += !added.ok() && !absl::IsNotFound(added);
  }
  for (const std::string& name : ListGroups()) {
    absl::StatusOr<GroupDescription> group = DescribeGroup(name);
    snapshot.failed += !group.ok() && !absl::IsNotFound(group.status());
    if (group.ok()) snapshot.groups.push_back(*std::move(group));
  }
  return snapshot;
}

}  // namespace cordwood
