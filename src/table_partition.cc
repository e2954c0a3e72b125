#include "table_partition.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {
namespace {

// How often the log may be cut or compacted under one CatchUp before it gives up. Each time it
// has to begin again something else has done work of its own, so that a few are enough.
constexpr int kPassesMax = 100;

thread_local int callback_depth = 0;

// In the order in which they were appended.
void SortByOffset(std::vector<const TableRecord*>& records) {
  std::sort(records.begin(), records.end(),
            [](const TableRecord* a, const TableRecord* b) { return a->offset() < b->offset(); });
}

}  // namespace

TableCallbackScope::TableCallbackScope() { ++callback_depth; }
TableCallbackScope::~TableCallbackScope() { --callback_depth; }
bool TableCallbackScope::IsInside() { return callback_depth != 0; }

// ---- One record

TableRecord::Pointer TableRecord::Make(const RecordView& view) {
  const std::string_view value = view.value().value_or(std::string_view());
  const std::string_view key = view.key().value_or(std::string_view());
  const std::string_view headers = view.headers().encoded();
  const std::size_t headers_bytes = headers.empty() ? 0 : kHeadersSizeBytes + headers.size();
  void* const at = ::operator new(sizeof(TableRecord) + value.size() + key.size() + headers_bytes);
  Pointer record(new (at) TableRecord());
  record->offset_ = view.offset();
  record->timestamp_ns_ = TimeToNanos(view.timestamp());
  // Each fits: it was in a frame, whose fields are of 32 bits.
  record->value_bytes_ = static_cast<std::uint32_t>(value.size());
  record->key_bytes_ = static_cast<std::uint32_t>(key.size());
  record->headers_bytes_ = static_cast<std::uint32_t>(headers_bytes);
  char* to = reinterpret_cast<char*>(record.get() + 1);
  const auto put = [&to](const void* bytes, std::size_t count) {
    if (count != 0) std::memcpy(to, bytes, count);
    to += count;
  };
  put(value.data(), value.size());
  put(key.data(), key.size());
  if (headers_bytes != 0) {
    put(&record->headers_bytes_, kHeadersSizeBytes);
    put(headers.data(), headers.size());
  }
  return record;
}

RecordView TableRecord::View(const PartitionName& where) const {
  return RecordView({.body = body(),
                     .value_bytes = value_bytes_,
                     .key_bytes = key_bytes_,
                     .headers_bytes = headers_bytes_,
                     .flags = RecordParts::kHasKey | RecordParts::kHasValue,
                     .offset = offset_,
                     .timestamp_ns = timestamp_ns_,
                     .where = &where});
}

RecordView TableRecord::AsTombstone(const PartitionName& where) const {
  return RecordView({.body = body() + value_bytes_,
                     .value_bytes = 0,
                     .key_bytes = key_bytes_,
                     .headers_bytes = 0,
                     .flags = RecordParts::kHasKey,
                     .offset = offset_,
                     .timestamp_ns = timestamp_ns_,
                     .where = &where});
}

// ---- Asking

TablePartition::TablePartition(std::string_view topic, int number)
    : name_({std::string(topic), number}) {}

const TableRecord* TablePartition::Find(std::string_view key) const {
  const auto it = state_.records.find(key);
  return it == state_.records.end() ? nullptr : it->record.get();
}

void TablePartition::ForEach(absl::FunctionRef<void(const RecordView&)> f) const {
  const TableCallbackScope scope;
  for (const Slot& slot : state_.records) f(slot.record->View(name_));
}

void TablePartition::AddWatcher(std::shared_ptr<TableWatcher> watcher) {
  watchers_.push_back(std::move(watcher));
}

bool TablePartition::RemoveWatcher(std::uint64_t id) {
  return std::erase_if(watchers_, [id](const auto& watcher) { return watcher->id == id; }) != 0;
}

void TablePartition::Tell(const RecordView& record) const {
  const TableCallbackScope scope;
  for (const std::shared_ptr<TableWatcher>& watcher : watchers_) {
    absl::MutexLock lock(&watcher->mutex);
    watcher->call(record);
  }
}

// ---- Following the log

absl::StatusOr<std::int64_t> TablePartition::CatchUp(TableSource& source) {
  std::int64_t changes = 0;
  std::optional<Offset> target;
  bool anew = false;
  for (int pass = 0; pass < kPassesMax; ++pass) {
    CORDWOOD_ASSIGN_OR_RETURN(const TableSource::Bounds now, source.bounds());
    if (!target.has_value()) target = now.end;
    if (now.start > state_.start) changes += MoveStart(now.start);  // @B
    if (now.end < state_.position) anew = true;                     // @E
    absl::StatusOr<Met> met = Met::kEnd;
    if (anew) {
      // Beside what there is, which stays if this fails.
      State fresh;
      fresh.start = fresh.position = now.start;
      std::int64_t ignored = 0;
      met = ReadInto(fresh, source, now.end, ignored);
      if (met.ok() && *met == Met::kEnd) {
        changes += Replace(std::move(fresh));
        anew = false;
        target = std::min(*target, now.end);
      }
    } else {
      if (state_.position >= *target) return changes;
      met = ReadInto(state_, source, now.end, changes);
    }
    // Out of range: the start has passed us since we looked.
    if (!met.ok() && !absl::IsOutOfRange(met.status())) return met.status();
    if (met.ok() && *met == Met::kStale) anew = true;  // @C @E
  }
  return At(absl::UnavailableError(absl::StrCat(
                name_.topic, "-", name_.partition,
                ": was cut or compacted again and again while a TableView read it; try again")),
            name_);
}

absl::StatusOr<TablePartition::Met> TablePartition::ReadInto(State& state, TableSource& source,
                                                             Offset end, std::int64_t& changes) {
  const bool goes_on = &state == &state_;
  const bool tells = goes_on && !watchers_.empty();
  const Offset from = state.position;
  Met met = Met::kEnd;
  CORDWOOD_RETURN_IF_ERROR(source.Read(
      from,
      [&](const RecordView& record) {
        if (!Apply(state, record)) return;
        ++changes;
        if (tells) Tell(record);
      },
      [&](const Gap& gap) {
        switch (gap.reason) {
          case GapReason::kTombstones:
            met = Met::kStale;
            return false;
          case GapReason::kRetention:
          case GapReason::kTrim:
          case GapReason::kDropped:
            break;  // The start has moved: CatchUp sees it when it looks again.
          case GapReason::kPowerLoss:
            // Offsets are never used again, so that the hole may have begun before what we hold.
            if (goes_on && gap.from == from && from > state.start) {
              met = Met::kStale;
              return false;
            }
            [[fallthrough]];
          case GapReason::kDamage:
            state.gaps.push_back(gap);  // @D
            break;
        }
        state.position = std::max(state.position, gap.to);
        return true;
      }));
  // What compaction removed at the end was no record and no gap.
  if (met == Met::kEnd) state.position = std::max(state.position, end);
  return met;
}

// @A. False: nothing changes.
bool TablePartition::Apply(State& state, const RecordView& record) {
  state.position = record.offset() + 1;
  const std::optional<std::string_view> key = record.key();
  if (!key.has_value()) {
    ++state.keyless_records;
    return false;
  }
  if (record.is_tombstone()) return state.records.erase(*key) != 0;
  bool is_new = false;
  const auto it = state.records.lazy_emplace(*key, [&](const Records::constructor& construct) {
    construct(Slot{TableRecord::Make(record)});
    is_new = true;
  });
  if (!is_new) it->record = TableRecord::Make(record);
  return true;
}

// Forgets what is below the log's start.
std::int64_t TablePartition::MoveStart(Offset start) {
  state_.start = start;
  state_.position = std::max(state_.position, start);
  std::erase_if(state_.gaps, [start](const Gap& gap) { return gap.to <= start; });
  std::vector<TableRecord::Pointer> gone;
  for (auto it = state_.records.begin(); it != state_.records.end();) {
    const auto here = it++;
    if (here->record->offset() >= start) continue;
    gone.push_back(std::move(state_.records.extract(here).value().record));
  }
  if (!watchers_.empty()) {
    std::vector<const TableRecord*> told;
    for (const TableRecord::Pointer& record : gone) told.push_back(record.get());
    SortByOffset(told);
    for (const TableRecord* record : told) Tell(record->AsTombstone(name_));
  }
  return static_cast<std::int64_t>(gone.size());
}

// Takes what was read anew, and tells what is different.
std::int64_t TablePartition::Replace(State fresh) {
  std::swap(state_, fresh);
  const Records& before = fresh.records;
  std::vector<const TableRecord*> gone;
  for (const Slot& slot : before) {
    if (!state_.records.contains(slot.record->key())) gone.push_back(slot.record.get());
  }
  std::vector<const TableRecord*> changed;
  for (const Slot& slot : state_.records) {
    const auto it = before.find(slot.record->key());
    if (it == before.end() || it->record->offset() != slot.record->offset()) {
      changed.push_back(slot.record.get());
    }
  }
  if (!watchers_.empty()) {
    SortByOffset(gone);
    SortByOffset(changed);
    for (const TableRecord* record : gone) Tell(record->AsTombstone(name_));
    for (const TableRecord* record : changed) Tell(record->View(name_));
  }
  return static_cast<std::int64_t>(gone.size() + changed.size());
}

}  // namespace cordwood::internal
