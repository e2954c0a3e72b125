// A partition's log as a script: what a TablePartition reads, with every gap that there is.
//
//   TableScript log;
//   log.Put("a", "1");
//   log.Delete("a");
//   log.Compact(log.end());      // the tombstone goes too; who had not read it gets a gap
//   log.Trim(1);
//   CHECK(log.Newest() == Table{});
//
// A reader of it that began at the start gets no gap for a tombstone that was gone before, as
// PartitionReader's does.

#ifndef CORDWOOD_TESTS_SUPPORT_TABLE_SCRIPT_H_
#define CORDWOOD_TESTS_SUPPORT_TABLE_SCRIPT_H_

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "table_partition.h"
#include "tests/catch.h"

namespace cordwood::testing {

// Of each key the value and the offset.
using Table = std::map<std::string, std::pair<std::string, Offset>>;

inline Table TableOf(const internal::TablePartition& partition) {
  Table table;
  partition.ForEach([&](const RecordView& record) {
    table[std::string(record.key().value())] = {std::string(record.value().value()),
                                                record.offset()};
  });
  return table;
}

// Applies what a watcher is told.
inline void ApplyTo(Table& table, const RecordView& record) {
  const std::string key(record.key().value());
  if (record.is_tombstone()) {
    table.erase(key);
  } else {
    table[key] = {std::string(record.value().value()), record.offset()};
  }
}

class TableScript final : public internal::TableSource {
 public:
  using Text = std::optional<std::string>;

  Offset Append(Text key, Text value) {
    log_[end_] = {std::move(key), std::move(value)};
    return end_++;
  }
  Offset Put(const std::string& key, const std::string& value) { return Append(key, value); }
  Offset Delete(const std::string& key) { return Append(key, std::nullopt); }
  void Trim(Offset start) {
    start_ = std::max(start_, start);
    log_.erase(log_.begin(), log_.lower_bound(start_));
  }
  // Below `to` the newest record of each key stays, and no tombstone.
  void Compact(Offset to) {
    std::map<std::string, Offset> newest;
    for (const auto& [offset, record] : log_) newest[record.key.value_or("")] = offset;
    for (auto it = log_.begin(); it != log_.end() && it->first < to;) {
      const auto& [offset, record] = *it;
      const bool is_newest = newest[record.key.value_or("")] == offset;
      if (is_newest && !record.value.has_value()) horizon_ = std::max(horizon_, offset + 1);
      it = is_newest && record.value.has_value() ? std::next(it) : log_.erase(it);
    }
  }
  void Damage(Offset offset) {
    if (log_.count(offset) != 0) damaged_.insert(offset);
  }
  // Another recovery keeps less, as a reader in a read-only directory may find.
  void CutTo(Offset end) {
    end_ = end;
    log_.erase(log_.lower_bound(end), log_.end());
  }
  // The same, when it goes on where no record has been: behind a hole.
  void Lose(Offset from) {
    log_.erase(log_.lower_bound(from), log_.end());
    hole_ = {from, end_ += 5};
  }
  // Before each record that is read.
  void set_on_step(std::function<void()> f) { on_step_ = std::move(f); }
  void set_error(absl::Status error) { error_ = std::move(error); }

  // What a table of it has to hold.
  Table Newest() const {
    Table table;
    for (const auto& [offset, record] : log_) {
      if (!record.key.has_value() || damaged_.count(offset) != 0) continue;
      if (record.value.has_value()) {
        table[*record.key] = {*record.value, offset};
      } else {
        table.erase(*record.key);
      }
    }
    return table;
  }
  Offset start() const { return start_; }
  Offset end() const { return end_; }
  int reads() const { return reads_; }

  absl::StatusOr<Bounds> bounds() override { return Bounds{start_, end_}; }

  absl::Status Read(Offset from, absl::FunctionRef<void(const RecordView&)> on_record,
                    absl::FunctionRef<bool(const Gap&)> on_gap) override {
    ++reads_;
    if (from < start_ || from > end_) return absl::OutOfRangeError("outside");
    const Offset end = end_;
    Offset known_horizon = from == start_ ? horizon_ : 0;
    for (Offset next = from; next < end;) {
      if (on_step_) on_step_();
      if (next < start_) {
        if (!on_gap({"t", 0, next, std::min(start_, end), GapReason::kTrim})) break;
        next = start_;
        continue;
      }
      if (next < horizon_ && horizon_ > known_horizon) {
        known_horizon = horizon_;
        if (!on_gap({"t", 0, next, horizon_, GapReason::kTombstones})) break;
        continue;
      }
      const auto it = log_.lower_bound(next);
      if (next < hole_.second && (it == log_.end() || it->first >= hole_.second)) {
        next = std::max(next, hole_.first);
        if (!on_gap({"t", 0, next, hole_.second, GapReason::kPowerLoss})) break;
        next = hole_.second;
        continue;
      }
      if (it == log_.end() || it->first >= end) break;
      if (!error_.ok()) return std::exchange(error_, absl::OkStatus());
      next = it->first + 1;
      if (damaged_.count(it->first) != 0) {
        if (!on_gap({"t", 0, it->first, next, GapReason::kDamage})) break;
        continue;
      }
      // A copy: the log may change while it is read, what was read does not.
      const auto [offset, record] = *it;
      const std::string body = record.value.value_or("") + record.key.value_or("");
      on_record(RecordView({.body = body.data(),
                            .value_bytes = Size(record.value),
                            .key_bytes = Size(record.key),
                            .flags = (record.key ? internal::RecordParts::kHasKey : 0U) |
                                     (record.value ? internal::RecordParts::kHasValue : 0U),
                            .offset = offset,
                            .timestamp_ns = offset}));
    }
    return absl::OkStatus();
  }

 private:
  struct Stored {
    Text key;
    Text value;
  };
  static std::uint32_t Size(const Text& text) {
    return text ? static_cast<std::uint32_t>(text->size()) : 0;
  }

  std::map<Offset, Stored> log_;
  std::set<Offset> damaged_;
  std::pair<Offset, Offset> hole_ = {0, 0};
  Offset start_ = 0;
  Offset end_ = 0;
  Offset horizon_ = 0;  // one past the highest tombstone that was removed
  int reads_ = 0;
  std::function<void()> on_step_;
  absl::Status error_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_TABLE_SCRIPT_H_
