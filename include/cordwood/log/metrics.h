// What is counted: the file `metrics`, one page that all processes share. Public names of the same
// are in cordwood/metrics.h.
//
//   context.counts().rolls.Add();
//
//   position  bytes
//          0      8  magic "CWMETR_1"; 0: nobody has counted yet
//          8      8  when the first one did, by the broker's clock, since the Unix epoch
//         64      .  the counts, in the order of MetricsPage, 8 bytes each
//
// All integers are little-endian, all times nanoseconds. A page of zeros is a good one, so whoever
// misses it makes it, whatever others do meanwhile. It has no checksum and is never synced: after a
// power cut it is what the disk has of it. A page that says it is something else, or of another
// version, is replaced by a new one. Nothing depends on it: what cannot be shared is
// counted in the memory of this open.
//
// What is counted there is slow, or comes once for many records: an atomic addition costs it
// nothing. What a writer has to count for every record or batch is in the control block of the
// partition, under the writer's lock.
//
// Thread and process safety: adding and reading. Who reads may see one count without another that
// belongs to it.

#ifndef CORDWOOD_LOG_METRICS_H_
#define CORDWOOD_LOG_METRICS_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "cordwood/metrics.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"

namespace cordwood::log {

class Counter {
 public:
  void Add(std::uint64_t n = 1) { count_.fetch_add(n, std::memory_order_relaxed); }
  std::uint64_t value() const { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> count_;
};
static_assert(sizeof(Counter) == 8);

struct LatencyCounters {
  Counter buckets[LatencyHistogram::kBuckets];
  Counter sum_ns;

  static std::size_t BucketOf(std::int64_t ns) {
    constexpr int kFirstBits = 6;  // 64 ns
    const auto most = static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 1) - 1);
    const auto bits = static_cast<int>(std::bit_width(most));
    return std::min(static_cast<std::size_t>(std::max(bits - kFirstBits, 0)),
                    LatencyHistogram::kBuckets - 1);
  }
  void Record(std::int64_t ns) {
    buckets[BucketOf(ns)].Add();
    sum_ns.Add(static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0)));
  }
};

struct BlockedCounters {
  Counter times, time_ns;
  void Record(std::int64_t ns) {
    times.Add();
    time_ns.Add(static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0)));
  }
};

struct RemovedCounters {
  Counter segments, bytes, records;
};

// Of which there are errors.
enum class Operation { kAppend = 0, kPoll = 1, kCommit = 2, kSync = 3 };
inline constexpr std::size_t kOperations = 4;
// Absl's codes, then kDiskFull and kBacklogFull.
inline constexpr std::size_t kErrorKinds = 20;

struct MetricsPage {
  static constexpr std::uint64_t kMagic = 0x315f5254454d5743;  // "CWMETR_1"

  std::atomic<std::uint64_t> magic;
  std::atomic<std::int64_t> since_ns;

  alignas(64) Counter consumed_records;
  Counter consumed_bytes, consumed_batches;

  alignas(64) LatencyCounters append_latency;
  LatencyCounters sync_latency;
  BlockedCounters blocked_by_backlog, blocked_by_retention, blocked_by_writers;
  Counter rolls, retired_files;
  Counter recovered_partitions, recovery_lost_records, recovery_dropped_bytes;
  RemovedCounters removed[3];  // by kRetention, kTrim, kDropped
  Counter compactions, compaction_read_bytes, compaction_written_bytes, compaction_removed_records;
  Counter rebalances;
  Counter errors[kOperations][kErrorKinds];

  // Another reason than these three does not move a start; a damaged page may say so.
  RemovedCounters& removed_by(GapReason reason) {
    const auto i = static_cast<std::size_t>(reason);
    return removed[i < std::size(removed) ? i : 0];
  }
  void CountError(Operation operation, const absl::Status& status);
};
static_assert(sizeof(MetricsPage) <= 4096);
static_assert(offsetof(MetricsPage, consumed_records) == 64);
static_assert(offsetof(MetricsPage, append_latency) == 128);
static_assert(offsetof(MetricsPage, blocked_by_backlog) == 128 + 2 * 30 * 8);
static_assert(offsetof(MetricsPage, errors) == 808);

class Metrics {
 public:
  static constexpr std::size_t kFileBytes = 4096;

  // From here on what is counted is in the file. Before another thread has this. If that fails,
  // it is counted in memory.
  void Share(os::Folder& root, std::int64_t now_ns);

  MetricsPage& page() { return map_ == nullptr ? own_ : PageOf(*map_); }
  MetricCounts Counts() { return CountsOf(page(), map_ != nullptr); }
  // For who has the directory open read-only. Nothing: there is no page, or another version's.
  static std::optional<MetricCounts> CountsIn(os::Folder& root);

 private:
  static MetricsPage& PageOf(const os::Mapping& map) {
    return *reinterpret_cast<MetricsPage*>(map.data());
  }
  static MetricCounts CountsOf(const MetricsPage& page, bool is_shared);

  MetricsPage own_ = {};
  std::unique_ptr<os::Mapping> map_;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_METRICS_H_
