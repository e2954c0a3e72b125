// Whether it is time to compact, and which segments: no file is touched here.

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "cordwood/log/compaction.h"

namespace cordwood::log {
namespace {

std::int64_t Nanos(absl::Duration duration) {
  return duration == absl::InfiniteDuration() ? std::numeric_limits<std::int64_t>::max()
                                              : absl::ToInt64Nanoseconds(duration);
}

// Whether that much time has gone by, also where a clock was wrong by centuries.
bool IsOlderThan(std::int64_t then_ns, std::int64_t lag_ns, std::int64_t now_ns) {
  return lag_ns != std::numeric_limits<std::int64_t>::max() &&
         absl::FromUnixNanos(now_ns) - absl::FromUnixNanos(then_ns) >= absl::Nanoseconds(lag_ns);
}

}  // namespace

CompactionSettings CompactionSettings::Of(const TopicConfig& config) {
  return {.dirty_ratio_min = config.dirty_ratio_min,
          .lag_min_ns = Nanos(config.compaction_lag_min),
          .lag_max_ns = Nanos(config.compaction_lag_max),
          .delete_retention_ns = Nanos(config.delete_retention),
          .retention_age_ns = config.cleanup == CleanupPolicy::kCompactAndDelete
                                  ? Nanos(config.retention_age)
                                  : std::numeric_limits<std::int64_t>::max(),
          .segment_bytes = static_cast<std::uint64_t>(config.segment_bytes)};
}

bool IsActiveOverdue(const CompactionSettings& settings, std::int64_t first_append_ns,
                     std::int64_t now_ns) {
  return first_append_ns != 0 && IsOlderThan(first_append_ns, settings.lag_max_ns, now_ns);
}

std::string_view SegmentVerdictText(SegmentVerdict verdict) {
  switch (verdict) {
    case SegmentVerdict::kEligible:
      return "eligible";
    case SegmentVerdict::kNotDurable:
      return "it, or one before it, is not on the disk yet";
    case SegmentVerdict::kTooYoung:
      return "it, or one before it, is younger than min.compaction.lag.ms";
    case SegmentVerdict::kDamaged:
      return "a record in it is damaged; it is left as it is";
    case SegmentVerdict::kNextPass:
      return "one pass has no room for so many keys or segments; the next one does it";
    case SegmentVerdict::kActive:
      return "it is being written to";
  }
  return "unknown";
}

CompactionDecision DecideCompaction(std::span<const CompactionInput> segments,
                                    const CompactionSettings& settings,
                                    const CompactionState& state) {
  CompactionDecision decision;
  decision.dirty_from = std::max(state.compacted_to, state.start);
  decision.end = decision.dirty_from;
  SegmentVerdict range = SegmentVerdict::kEligible;  // else why it has ended
  std::size_t dirty_segments = 0;
  const CompactionInput* oldest_dirty = nullptr;
  for (const CompactionInput& segment : segments) {
    const bool dirty = segment.next > decision.dirty_from;
    if (range == SegmentVerdict::kEligible) {
      if (segment.next > state.durable) {
        range = SegmentVerdict::kNotDurable;
      } else if (dirty && segment.readable && settings.lag_min_ns > 0 &&
                 !IsOlderThan(segment.last_append_ns, settings.lag_min_ns, state.now_ns)) {
        range = SegmentVerdict::kTooYoung;
      } else if (dirty && dirty_segments == settings.dirty_segments_max) {
        range = SegmentVerdict::kNextPass;
      }
    }
    if (range != SegmentVerdict::kEligible) {
      decision.verdicts.push_back(range);
      continue;
    }
    decision.verdicts.push_back(segment.readable ? SegmentVerdict::kEligible
                                                 : SegmentVerdict::kDamaged);
    ++decision.segments;
    decision.end = std::max(decision.end, segment.next);
    if (!segment.readable) continue;
    if (!dirty) {
      decision.clean_bytes += segment.bytes;
      continue;
    }
    decision.dirty_bytes += segment.bytes;
    ++dirty_segments;
    if (oldest_dirty == nullptr) oldest_dirty = &segment;
  }

  if (oldest_dirty == nullptr) {
    decision.why = "nothing that may be compacted has come since the last time";
    return decision;
  }
  const auto dirty = static_cast<double>(decision.dirty_bytes);
  const auto all = static_cast<double>(decision.dirty_bytes + decision.clean_bytes);
  const double ratio = all == 0 ? 1 : dirty / all;
  const bool enough = ratio >= settings.dirty_ratio_min;
  const bool overdue = IsOlderThan(oldest_dirty->created_ns, settings.lag_max_ns, state.now_ns);
  decision.compact = enough || overdue;
  decision.why = absl::StrFormat(
      "%d of %d bytes are not compacted, a ratio of %.2f; min.cleanable.dirty.ratio is %.2f",
      decision.dirty_bytes, decision.dirty_bytes + decision.clean_bytes, ratio,
      settings.dirty_ratio_min);
  if (!enough && overdue) {
    absl::StrAppend(&decision.why, "; the oldest of them is older than max.compaction.lag.ms");
  }
  return decision;
}

}  // namespace cordwood::log
