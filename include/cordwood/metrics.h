// What a directory has done so far, and how it is: for graphs and alarms.
//
//   absl::StatusOr<MetricsSnapshot> metrics = broker.Metrics();
//   if (metrics.ok()) Serve("/metrics", PrometheusText(*metrics));
//
//   # HELP cordwood_produced_records_total Records appended, as the end offset counts them.
//   # TYPE cordwood_produced_records_total counter
//   cordwood_produced_records_total{topic="orders",partition="0"} 1042
//
// Most of it is not counted at all, but read off what is there: ends, sizes, lags, pins. What
// leaves nothing to be read off is counted in the file `metrics`, a page that all processes that
// have the directory open share (log/metrics.h). So every process, and `cordwood metrics`, sees
// the same numbers, those of processes that have ended among them. The counts outlive a restart;
// after a power cut they may be lower, or begin anew at zero. A killed consumer may have told of
// up to 64 batches less than it has read.
//
// Nothing depends on the page. Without it, because the disk was full, say, each open counts for
// itself (MetricCounts::is_shared); read-only, nothing can be told then (MetricsSnapshot::counts).
// What a read-only open does is not counted.
//
// Thread safety: these are values, and functions of values.

#ifndef CORDWOOD_METRICS_H_
#define CORDWOOD_METRICS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cordwood/describe.h"
#include "cordwood/record.h"

namespace cordwood {

// How long something took, in steps of two.
struct LatencyHistogram {
  static constexpr std::size_t kBuckets = 29;

  // [0] took 64 ns at most, [i] at most UpperBound(i), and more than the one before.
  std::array<std::uint64_t, kBuckets> counts = {};
  absl::Duration sum = absl::ZeroDuration();

  // 64 ns, 128 ns, ... 8.6 s, and infinite for the last.
  static absl::Duration UpperBound(std::size_t bucket);
  std::uint64_t count() const;
  // What that share of them (0.99) took at most; zero if there is none.
  absl::Duration Quantile(double share) const;
};

// How often an append had to wait, and for how long in all.
struct BlockedCount {
  std::uint64_t times = 0;
  absl::Duration time = absl::ZeroDuration();
};

// What was given up of the logs.
struct RemovedCount {
  std::uint64_t segments = 0, bytes = 0;  // files, and what they held
  std::uint64_t records = 0;              // that the start has passed: told before their file goes
};

// Errors that callers were told, by what they asked for and why it failed. kCancelled is none, nor
// is kFailedPrecondition, which says that a handle is closed or misused.
struct ErrorCount {
  std::string operation = {};  // "append", "poll", "commit", "sync"
  std::string kind = {};       // "DISK_FULL", "BACKLOG_FULL", else absl's name: "DATA_LOSS"
  std::uint64_t count = 0;
};

// What is counted. It only grows, until the page is made anew.
struct MetricCounts {
  bool is_shared = true;  // of all processes; false: of this open of the directory
  absl::Time since = absl::InfinitePast();

  // By Consumers and ShareConsumers, and the batches that they came in.
  std::uint64_t consumed_records = 0, consumed_bytes = 0, consumed_batches = 0;

  // Of one record in 1,024, and the batch that it is in: from before the writer's turn until it is
  // published. No sync is in it, nor a wait for room in a full backlog.
  LatencyHistogram append_latency = {};
  LatencyHistogram sync_latency = {};  // of records, each
  // A full backlog; retention that had to come first; another writer's turn, if it was slept for.
  BlockedCount blocked_by_backlog = {}, blocked_by_retention = {}, blocked_by_writers = {};

  std::uint64_t rolls = 0;
  std::uint64_t retired_files = 0;  // whose sync has failed, and whose records were copied
  std::uint64_t recovered_partitions = 0;
  std::uint64_t recovery_lost_records = 0, recovery_dropped_bytes = 0;
  RemovedCount removed_by_retention = {}, removed_by_trim = {}, removed_by_backlog = {};
  std::uint64_t compactions = 0;
  std::uint64_t compaction_read_bytes = 0, compaction_written_bytes = 0;
  std::uint64_t compaction_removed_records = 0;
  std::uint64_t rebalances = 0;
  std::vector<ErrorCount> errors = {};  // those that there were
};

// How a partition is; what only grows, for as long as the topic is there.
struct PartitionMetrics {
  std::string topic = {};
  int partition = 0;
  Offset start = 0, end = 0, durable = 0;
  std::int64_t bytes = 0;  // of its segments
  std::int64_t segments = 0;
  bool is_failed = false;  // nothing can be appended

  // Frames and all, since the topic was made, or since a power cut. The records: `end`.
  std::uint64_t produced_bytes = 0;
  // Of the records, those appended as a batch of AppendBatch or SendBatch, and the batches.
  std::uint64_t batches = 0, batch_records = 0;
  // How long the first record that is not durable has been published, about.
  absl::Duration unsynced_age = absl::ZeroDuration();
  // What the slowest of TopicConfig::retain_for_groups has not committed; none: it names none.
  std::optional<std::int64_t> backlog_bytes = {};
  std::int64_t pins = 0;
};

// All of it, as Broker::Metrics() found it: no moment of the whole directory.
struct MetricsSnapshot {
  std::vector<PartitionMetrics> partitions = {};  // by topic and number
  std::vector<GroupDescription> groups = {};      // by name, with the lags
  DiskSpace disk = {};
  // What could not be looked at, topics and groups: its files are damaged, say.
  std::int64_t failed = 0;
  std::optional<MetricCounts> counts = {};  // none: opened read-only, and there is no page
};

// In Prometheus's text format 0.0.4, by its conventions: base units, `_total` for what only grows.
std::string PrometheusText(const MetricsSnapshot& metrics);

}  // namespace cordwood

#endif  // CORDWOOD_METRICS_H_
