// One partition of a TableView: the newest record of each key, and how it follows its log.
//
//   TablePartition table("prices", 0);
//   table.CatchUp(source).value();                  // reads from where it is to the end
//   const TableRecord* apple = table.Find("apple");
//
// What it meets, and does:
//  case  start      gap ahead              what it means                         decision
//  @A    as it was  none                   records were appended                 apply them
//  @B    has moved  any at the start       what is below is not in the log       forget it
//  @C    any        kTombstones            a deletion was not read, and is gone  read all anew
//  @D    any        kDamage, kPowerLoss    nobody can read it                    note it, go on
//  @E    any        kPowerLoss, at once    a recovery may have kept less         read all anew
//                   (or end below us)
//
// Invariants:
//  (1) It holds the newest record of each key in [start, position), as far as it could be read.
//  (2) A watcher that applies what it is told to what the table held has what the table holds.
//
// Thread safety: none; its owner locks. Callbacks run inside CatchUp and ForEach.

#ifndef CORDWOOD_TABLE_PARTITION_H_
#define CORDWOOD_TABLE_PARTITION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/hash/hash.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/record.h"

namespace cordwood::internal {

// Where a TablePartition reads: a partition of a topic, or a test's script.
class TableSource {
 public:
  struct Bounds {
    Offset start = 0;
    Offset end = 0;
  };
  virtual ~TableSource() = default;

  virtual absl::StatusOr<Bounds> bounds() = 0;
  // From `from` to the end that there is now: at least the one that bounds() said before. Records
  // and gaps in order; `on_gap` answers whether to go on. kOutOfRange: `from` is outside.
  virtual absl::Status Read(Offset from, absl::FunctionRef<void(const RecordView&)> on_record,
                            absl::FunctionRef<bool(const Gap&)> on_gap) = 0;
};

// A record in one allocation: this, and behind it its body, laid out as RecordParts says.
class TableRecord {
 public:
  struct Free {
    void operator()(TableRecord* record) const { ::operator delete(record); }
  };
  using Pointer = std::unique_ptr<TableRecord, Free>;

  // Of a record with a key and a value.
  static Pointer Make(const RecordView& record);

  std::string_view key() const ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return std::string_view(body() + value_bytes_, key_bytes_);
  }
  Offset offset() const { return offset_; }
  RecordView View(const PartitionName& where) const ABSL_ATTRIBUTE_LIFETIME_BOUND;
  // Its key without a value: how its end is told where there is no tombstone to show.
  RecordView AsTombstone(const PartitionName& where) const ABSL_ATTRIBUTE_LIFETIME_BOUND;

 private:
  TableRecord() = default;
  const char* body() const { return reinterpret_cast<const char*>(this + 1); }

  Offset offset_ = 0;
  std::int64_t timestamp_ns_ = 0;
  std::uint32_t value_bytes_ = 0;
  std::uint32_t key_bytes_ = 0;
  std::uint32_t headers_bytes_ = 0;
};

// Who is told of changes. Several partitions share one; its calls take turns.
struct TableWatcher {
  std::uint64_t id = 0;
  absl::Mutex mutex = {};
  std::function<void(const RecordView&)> call ABSL_GUARDED_BY(mutex) = {};
};

// While one is there, this thread runs a callback, which must not call a TableView.
class TableCallbackScope {
 public:
  TableCallbackScope();
  TableCallbackScope(const TableCallbackScope&) = delete;
  TableCallbackScope& operator=(const TableCallbackScope&) = delete;
  ~TableCallbackScope();
  static bool IsInside();
};

class TablePartition {
 public:
  TablePartition(std::string_view topic, int number);

  // Applies at least what was published before the call; how many changes that were. After an
  // error it is as far as it got, and the next call goes on there. kUnavailable: the log has been
  // cut or compacted all the time while it was read.
  absl::StatusOr<std::int64_t> CatchUp(TableSource& source);

  // Null: the key is not there.
  const TableRecord* Find(std::string_view key) const ABSL_ATTRIBUTE_LIFETIME_BOUND;
  void ForEach(absl::FunctionRef<void(const RecordView&)> f) const;
  void AddWatcher(std::shared_ptr<TableWatcher> watcher);
  bool RemoveWatcher(std::uint64_t id);

  const PartitionName& name() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return name_; }
  Offset start() const { return state_.start; }
  Offset position() const { return state_.position; }
  std::int64_t size() const { return static_cast<std::int64_t>(state_.records.size()); }
  std::int64_t keyless_records() const { return state_.keyless_records; }
  const std::vector<Gap>& gaps() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return state_.gaps; }

 private:
  struct Slot {
    // Another record of the same key may take its place.
    mutable TableRecord::Pointer record;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view key) const {
      return absl::Hash<absl::string_view>()(absl::string_view(key.data(), key.size()));
    }
    std::size_t operator()(const Slot& slot) const { return (*this)(slot.record->key()); }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Slot& a, const Slot& b) const {
      return a.record->key() == b.record->key();
    }
    bool operator()(const Slot& a, std::string_view b) const { return a.record->key() == b; }
  };
  using Records = absl::flat_hash_set<Slot, Hash, Equal>;

  struct State {
    Records records;
    Offset start = 0;     // of the log, as far as we know
    Offset position = 0;  // the next offset to read
    std::int64_t keyless_records = 0;
    std::vector<Gap> gaps;
  };
  enum class Met { kEnd, kStale };  // kStale: what was read before may be gone from the log

  // Reads on into `state`, whose log is known to have `end`.
  absl::StatusOr<Met> ReadInto(State& state, TableSource& source, Offset end,
                               std::int64_t& changes);
  bool Apply(State& state, const RecordView& record);
  std::int64_t MoveStart(Offset start);
  std::int64_t Replace(State fresh);
  void Tell(const RecordView& record) const;

  const PartitionName name_;
  State state_;
  std::vector<std::shared_ptr<TableWatcher>> watchers_;
};

}  // namespace cordwood::internal

#endif  // CORDWOOD_TABLE_PARTITION_H_
