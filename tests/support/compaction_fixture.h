// Words for tests of compaction, on a LogFixture or any log:
//
//   LogFixture log({.segment_bytes = 4096});
//   Put(*log, "a", "1");
//   Delete(*log, "a");
//   RollKeyed(log);                         // what was put is sealed and durable
//   Compact(log.get());
//   CHECK(TableOf(log.get()) == Table{});

#ifndef CORDWOOD_TESTS_SUPPORT_COMPACTION_FIXTURE_H_
#define CORDWOOD_TESTS_SUPPORT_COMPACTION_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cordwood/log/compaction.h"
#include "cordwood/log/cursor.h"
#include "tests/support/log_fixture.h"

namespace cordwood::testing {

using Table = std::map<std::string, std::string>;

// What a record was, without its place.
struct Kept {
  Offset offset = 0;
  std::string key = {};
  std::optional<std::string> value = {};
  std::int64_t timestamp_ns = 0;
  friend bool operator==(const Kept&, const Kept&) = default;
};

inline constexpr const char* kFillerKey = "~filler";

inline Offset Put(log::Log& log, const std::string& key, const std::string& value) {
  return log.Append({.key = key, .value = value}, {}).value().offset;
}
inline Offset Delete(log::Log& log, const std::string& key) {
  return log.Append({.key = key}, {}).value().offset;
}

// Fills the active segment, and makes all before it durable.
inline void RollKeyed(LogFixture& log) {
  const Offset base = log->block().base[log::ReadTail(log->block()).slot].load();
  while (log::ReadTail(log->block()).base == base) Put(*log, kFillerKey, std::string(500, 'f'));
  log->Flush().IgnoreError();
}

// Whatever the ratio says.
inline log::CompactionSettings Always(std::uint64_t segment_bytes = 4096) {
  return {.dirty_ratio_min = 0, .segment_bytes = segment_bytes};
}

inline absl::StatusOr<log::CompactionResult> TryCompact(const std::shared_ptr<log::Log>& log,
                                                        const log::CompactionSettings& settings) {
  auto compactor = log::Compactor::Begin(log, settings);
  if (!compactor.ok()) return compactor.status();
  if (*compactor == nullptr) return absl::UnavailableError("another compacts");
  for (;;) {
    const absl::StatusOr<bool> more = (*compactor)->Step(0);
    if (!more.ok()) return more.status();
    if (!*more) return (*compactor)->result();
  }
}
inline log::CompactionResult Compact(const std::shared_ptr<log::Log>& log,
                                     const log::CompactionSettings& settings = Always()) {
  return TryCompact(log, settings).value();
}

struct ReadBack {
  std::vector<Kept> records = {};
  std::vector<Gap> gaps = {};
  absl::Status status = absl::OkStatus();
};
inline constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
inline ReadBack ReadFrom(const std::shared_ptr<log::Log>& log, Offset from, std::size_t most = kAll,
                         bool tell_tombstones = false) {
  log::Cursor cursor(log, from);
  cursor.set_tell_tombstones(tell_tombstones);
  segment::CheckedFrame frame;
  ReadBack read;
  while (read.records.size() < most) {
    const log::Cursor::Step step = cursor.Next(frame);
    if (step == log::Cursor::Step::kEnd) break;
    if (step == log::Cursor::Step::kGap) {
      read.gaps.push_back(cursor.gap());
      continue;
    }
    if (step == log::Cursor::Step::kError) {
      read.status = cursor.status();
      break;
    }
    const RecordView view = cursor.View(frame);
    Kept kept = {.offset = view.offset(), .timestamp_ns = frame.header.timestamp_ns};
    kept.key = view.key().value_or("(none)");
    if (view.value()) kept.value = *view.value();
    read.records.push_back(std::move(kept));
  }
  return read;
}

// The last value of every key, without the filler; what was deleted is not in it.
inline Table TableOf(const std::vector<Kept>& records) {
  Table table;
  for (const Kept& record : records) {
    if (record.key == kFillerKey) continue;
    if (record.value) {
      table[record.key] = *record.value;
    } else {
      table.erase(record.key);
    }
  }
  return table;
}
inline Table TableOf(const std::shared_ptr<log::Log>& log) {
  return TableOf(ReadFrom(log, log->start_offset()).records);
}

// The offsets of the records that are there, of one key.
inline std::vector<Offset> OffsetsOf(const std::shared_ptr<log::Log>& log, const std::string& key) {
  std::vector<Offset> offsets;
  for (const Kept& record : ReadFrom(log, log->start_offset()).records) {
    if (record.key == key) offsets.push_back(record.offset);
  }
  return offsets;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_COMPACTION_FIXTURE_H_
