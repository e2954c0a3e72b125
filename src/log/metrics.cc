#include "cordwood/log/metrics.h"

#include <limits>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood::log {
namespace {

constexpr char kName[] = "metrics";
// After absl's codes, which are 0 to 16.
constexpr std::size_t kDiskFullKind = 17;
constexpr std::size_t kBacklogFullKind = 18;
static_assert(kBacklogFullKind < kErrorKinds);

constexpr const char* kOperationNames[kOperations] = {"append", "poll", "commit", "sync"};

std::string KindName(std::size_t kind) {
  if (kind == kDiskFullKind) return "DISK_FULL";
  if (kind == kBacklogFullKind) return "BACKLOG_FULL";
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(kind));
}

std::size_t KindOf(const absl::Status& status) {
  switch (ReasonOf(status)) {
    case Reason::kDiskFull:
      return kDiskFullKind;
    case Reason::kBacklogFull:
      return kBacklogFullKind;
    case Reason::kDiskLow:
    case Reason::kOther:
      break;
  }
  return static_cast<std::size_t>(status.code());
}

absl::StatusOr<std::unique_ptr<os::File>> OpenOrMake(os::Folder& root) {
  absl::StatusOr<std::unique_ptr<os::File>> file = root.OpenFile(kName, os::OpenMode::kReadWrite);
  if (!absl::IsNotFound(file.status())) return file;
  file = root.OpenFile(kName, os::OpenMode::kCreate);
  return absl::IsAlreadyExists(file.status()) ? root.OpenFile(kName, os::OpenMode::kReadWrite)
                                              : std::move(file);
}

absl::StatusOr<std::unique_ptr<os::Mapping>> MapPage(os::Folder& root) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file, OpenOrMake(root));
  // It has to have its block before it is mapped: else a store on a full disk is a SIGBUS.
  CORDWOOD_RETURN_IF_ERROR(file->Allocate(Metrics::kFileBytes));
  return file->Map(Metrics::kFileBytes, os::Access::kReadWrite);
}

// What somebody has written into the page may be any number.
absl::Duration DurationOf(const Counter& ns) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  return absl::Nanoseconds(static_cast<std::int64_t>(std::min(ns.value(), kMost)));
}

LatencyHistogram HistogramOf(const LatencyCounters& from) {
  LatencyHistogram histogram = {.sum = DurationOf(from.sum_ns)};
  for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
    histogram.counts[i] = from.buckets[i].value();
  }
  return histogram;
}

BlockedCount BlockedOf(const BlockedCounters& from) {
  return {.times = from.times.value(), .time = DurationOf(from.time_ns)};
}

RemovedCount RemovedOf(const RemovedCounters& from) {
  return {.segments = from.segments.value(),
          .bytes = from.bytes.value(),
          .records = from.records.value()};
}

}  // namespace

void MetricsPage::CountError(Operation operation, const absl::Status& status) {
  // What a handle answers that is closed, dead or misused says nothing about the log. (And a dead
  // process stores nothing any more.)
  if (absl::IsFailedPrecondition(status) || absl::IsCancelled(status)) return;
  const std::size_t kind = KindOf(status);
  if (kind < kErrorKinds) errors[static_cast<std::size_t>(operation)][kind].Add();
}

void Metrics::Share(os::Folder& root, std::int64_t now_ns) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    absl::StatusOr<std::unique_ptr<os::Mapping>> map = MapPage(root);
    if (!map.ok()) return;
    MetricsPage& page = PageOf(**map);
    std::uint64_t magic = 0;
    if (page.magic.compare_exchange_strong(magic, MetricsPage::kMagic) ||
        magic == MetricsPage::kMagic) {
      std::int64_t never = 0;
      page.since_ns.compare_exchange_strong(never, now_ns, std::memory_order_relaxed);
      map_ = *std::move(map);
      return;
    }
    // Of another version, or damaged. Who has it mapped goes on counting in it, unseen.
    if (!root.Unlink(kName).ok()) return;
  }
}

MetricCounts Metrics::CountsOf(const MetricsPage& page, bool is_shared) {
  MetricCounts counts = {
      .is_shared = is_shared,
      .since = absl::FromUnixNanos(page.since_ns.load(std::memory_order_relaxed)),
      .consumed_records = page.consumed_records.value(),
      .consumed_bytes = page.consumed_bytes.value(),
      .consumed_batches = page.consumed_batches.value(),
      .append_latency = HistogramOf(page.append_latency),
      .sync_latency = HistogramOf(page.sync_latency),
      .blocked_by_backlog = BlockedOf(page.blocked_by_backlog),
      .blocked_by_retention = BlockedOf(page.blocked_by_retention),
      .blocked_by_writers = BlockedOf(page.blocked_by_writers),
      .rolls = page.rolls.value(),
      .retired_files = page.retired_files.value(),
      .recovered_partitions = page.recovered_partitions.value(),
      .recovery_lost_records = page.recovery_lost_records.value(),
      .recovery_dropped_bytes = page.recovery_dropped_bytes.value(),
      .removed_by_retention = RemovedOf(page.removed[0]),
      .removed_by_trim = RemovedOf(page.removed[1]),
      .removed_by_backlog = RemovedOf(page.removed[2]),
      .compactions = page.compactions.value(),
      .compaction_read_bytes = page.compaction_read_bytes.value(),
      .compaction_written_bytes = page.compaction_written_bytes.value(),
      .compaction_removed_records = page.compaction_removed_records.value(),
      .rebalances = page.rebalances.value(),
  };
  for (std::size_t operation = 0; operation < kOperations; ++operation) {
    for (std::size_t kind = 0; kind < kErrorKinds; ++kind) {
      const std::uint64_t count = page.errors[operation][kind].value();
      if (count != 0) {
        counts.errors.push_back({kOperationNames[operation], KindName(kind), count});
      }
    }
  }
  return counts;
}

std::optional<MetricCounts> Metrics::CountsIn(os::Folder& root) {
  const absl::StatusOr<std::unique_ptr<os::File>> file = root.OpenFile(kName, os::OpenMode::kRead);
  if (!file.ok()) return std::nullopt;
  const absl::StatusOr<os::FileInfo> info = (*file)->Info();
  if (!info.ok() || info->size < kFileBytes) return std::nullopt;
  const absl::StatusOr<std::unique_ptr<os::Mapping>> map =
      (*file)->Map(kFileBytes, os::Access::kRead);
  if (!map.ok()) return std::nullopt;
  const MetricsPage& page = PageOf(**map);
  if (page.magic.load(std::memory_order_relaxed) != MetricsPage::kMagic) return std::nullopt;
  return CountsOf(page, true);
}

}  // namespace cordwood::log
