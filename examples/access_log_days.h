// Requests per day, twice: by the time index alone, and by reading every record.
//
// In a partition whose records are in order of time, all records of a day lie side by side: from
// the first offset at or after its midnight to the first at or after the next one. So a day costs
// two lookups in each partition, however many records it has.
#ifndef CORDWOOD_EXAMPLES_ACCESS_LOG_DAYS_H_
#define CORDWOOD_EXAMPLES_ACCESS_LOG_DAYS_H_

#include <cordwood/cordwood.h>
#include <cordwood/status_macros.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"

namespace access_log {

using DayCounts = std::map<absl::CivilDay, std::int64_t>;

// `utc_offset` is the zone in which a day begins at midnight.
inline absl::CivilDay DayOf(absl::Time time, absl::Duration utc_offset) {
  return absl::ToCivilDay(time + utc_offset, absl::UTCTimeZone());
}
inline absl::Time MidnightOf(absl::CivilDay day, absl::Duration utc_offset) {
  return absl::FromCivil(day, absl::UTCTimeZone()) - utc_offset;
}

// The days of the first and the last record of all partitions; none if there is no record.
inline absl::StatusOr<std::optional<std::pair<absl::CivilDay, absl::CivilDay>>> FirstAndLastDay(
    const cordwood::Topic& topic, absl::Duration utc_offset) {
  std::optional<std::pair<absl::CivilDay, absl::CivilDay>> days;
  for (int p = 0; p < topic.partition_count(); ++p) {
    const cordwood::Partition log = topic.partition(p);
    for (const auto& [from, direction] :
         {std::pair(log.start_offset(), cordwood::Direction::kForward),
          std::pair(log.end_offset(), cordwood::Direction::kBackward)}) {
      CORDWOOD_ASSIGN_OR_RETURN(cordwood::PartitionReader reader, log.Read(from, direction));
      for (const cordwood::RecordView& record : reader) {
        const absl::CivilDay day = DayOf(record.timestamp(), utc_offset);
        if (!days) days.emplace(day, day);
        days->first = std::min(days->first, day);
        days->second = std::max(days->second, day);
        break;
      }
      CORDWOOD_RETURN_IF_ERROR(reader.status());
    }
  }
  return days;
}

// The days from `first` to `last`, both included. No record is read.
inline absl::StatusOr<DayCounts> CountDaysByIndex(const cordwood::Topic& topic,
                                                  absl::CivilDay first, absl::CivilDay last,
                                                  absl::Duration utc_offset) {
  DayCounts days;
  for (int p = 0; p < topic.partition_count(); ++p) {
    const cordwood::Partition log = topic.partition(p);
    CORDWOOD_ASSIGN_OR_RETURN(cordwood::Offset begin,
                              log.OffsetForTime(MidnightOf(first, utc_offset)));
    for (absl::CivilDay day = first; day <= last; ++day) {
      CORDWOOD_ASSIGN_OR_RETURN(const cordwood::Offset end,
                                log.OffsetForTime(MidnightOf(day + 1, utc_offset)));
      days[day] += end - begin;
      begin = end;
    }
  }
  return days;
}

struct Scan {
  DayCounts days = {};
  std::int64_t records = 0;
  std::int64_t bytes = 0;            // of the values
  std::int64_t offsets_missing = 0;  // below the end, with no record
  int partitions_out_of_order = 0;   // where the time goes back
};

// Reads every record of the topic, without a group: the proof of what the index says.
inline absl::StatusOr<Scan> ScanTopic(const cordwood::Topic& topic, absl::Duration utc_offset) {
  Scan scan;
  for (int p = 0; p < topic.partition_count(); ++p) {
    const cordwood::Partition log = topic.partition(p);
    CORDWOOD_ASSIGN_OR_RETURN(cordwood::PartitionReader reader, log.Read(log.start_offset()));
    absl::Time latest = absl::InfinitePast();
    bool in_order = true;
    cordwood::Offset next = log.start_offset();
    for (const cordwood::RecordView& record : reader) {
      ++scan.records;
      scan.bytes += static_cast<std::int64_t>(record.value().value_or("").size());
      ++scan.days[DayOf(record.timestamp(), utc_offset)];
      in_order = in_order && record.timestamp() >= latest;
      latest = std::max(latest, record.timestamp());
      scan.offsets_missing += record.offset() - next;
      next = record.offset() + 1;
    }
    CORDWOOD_RETURN_IF_ERROR(reader.status());
    if (!in_order) ++scan.partitions_out_of_order;
  }
  return scan;
}

}  // namespace access_log

#endif  // CORDWOOD_EXAMPLES_ACCESS_LOG_DAYS_H_
