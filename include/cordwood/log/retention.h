// What a log gives up by itself: whole segments, the oldest first, never the newest. A
// pure decision over what the seals say; log.h carries it out.
//
//   const Offset start = RetainFrom(segments, {.bytes = 1 << 30}, now_ns);
//
// By size as Kafka does: a segment goes while what is left is still at least the bound, so
// that a log has its bound, and less than a segment more. Unlike there the indexes count; the room
// that a file has behind its last record does not.
//
// By age: from when a segment was last appended to, by the broker's clock, or from its
// largest timestamp if that is later and not in the future. So events of 1995 that are
// loaded today stay as long as others, and one that is stamped in 2100 keeps nothing.
// Clocks are wrong now and then; what is known is the order of segments. So
//   - a time in the future, or before any cordwood was written, says nothing; then the
//     segment is no younger than the next one that says something, or than now;
//   - a segment is not older than the one before it.
//
// Thread safety: functions of values.

#ifndef CORDWOOD_LOG_RETENTION_H_
#define CORDWOOD_LOG_RETENTION_H_

#include <cstdint>
#include <limits>
#include <span>

#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood::log {

// What a seal says, or of the active segment the control block.
struct SegmentFacts {
  Offset base = 0;
  Offset next = 0;
  std::uint64_t bytes = 0;          // with the index
  std::int64_t last_append_ns = 0;  // 0: not known
  std::int64_t largest_timestamp_ns = std::numeric_limits<std::int64_t>::min();
};

struct RetentionRules {
  static constexpr std::int64_t kForEver = std::numeric_limits<std::int64_t>::max();

  std::int64_t age_ns = kForEver;
  std::int64_t bytes = kUnlimited;
  std::int64_t records = kUnlimited;
  RetentionClock clock = RetentionClock::kAppend;
  // What is at or above is needed by somebody, whatever the three above say ...
  Offset needed_from = std::numeric_limits<Offset>::max();
  // ... as long as that is no more than so many bytes.
  std::int64_t needed_bytes = kUnlimited;
  // What is at or above it is held by a pin, and stays (log/pins.h).
  Offset pinned_from = std::numeric_limits<Offset>::max();
};

// No clock of a program that uses this library has shown an earlier time: 2020-01-01.
inline constexpr std::int64_t kEarliestClockNs = 1'577'836'800'000'000'000;
// As Kafka 4's message.timestamp.after.max.ms: how far ahead of the clock a timestamp may be
// where it decides on a record's age.
inline constexpr std::int64_t kTimestampAheadMaxNs = 3'600'000'000'000;

// Where the log is to start: the base of the first segment that stays. `segments` are all, by
// offset, the last one the active one. Its `next`, the end of the log, if that is too old as
// well: then it has to be closed first. Never above pinned_from, also if `segments` has not all.
Offset RetainFrom(std::span<const SegmentFacts> segments, const RetentionRules& rules,
                  std::int64_t now_ns);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_RETENTION_H_
