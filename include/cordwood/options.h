// The options of every call, and what they mean. All are plain structs with a default for every
// member, to be written with designators, in this order:
//
//   broker.CreateTopic("events", {.partitions = 8, .retention_age = absl::InfiniteDuration()});
//   broker.NewConsumer({.group = "billing", .reset = OffsetReset::kLatest});
//
// A topic keeps its records for seven days, counted from when they were appended, unless its
// retention_age says otherwise.
//
// Thread safety: these are values. Several threads may read one at a time; a change needs a lock.
// What outlives what: an options struct is copied by the call that takes it.

#ifndef CORDWOOD_OPTIONS_H_
#define CORDWOOD_OPTIONS_H_

#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/record.h"

namespace cordwood {

namespace group {
class Assignor;
}  // namespace group

class Consumer;
class Partitioner;
class Storage;

// --- Writing --------------------------------------------------------------------------------

// Of Partition::Append and its kin.
struct AppendOptions {
  // The offset that the first record must get; else kAborted and nothing is appended.
  std::optional<Offset> expected_offset = {};
  // kPublished: a crash of the process loses nothing, a power cut may lose the last flush_interval.
  // kDurable: the call returns after the disk has it.
  Durability durability = Durability::kPublished;
  // For a lock, for room in a full backlog, for the disk. kDeadlineExceeded: nothing was published,
  // unless OffsetOf(status) says that it was, and only its durability is late.
  absl::Duration timeout = absl::Seconds(60);
};

// Of Producer::Send and SendBatch.
struct SendOptions {
  std::optional<Durability> durability = {};   // none: the producer's
  absl::Duration timeout = absl::Seconds(60);  // as in AppendOptions, for each partition
};

// Of Broker::NewProducer.
struct ProducerOptions {
  std::shared_ptr<Partitioner> partitioner = {};  // none: the built-in one that the topic names
  Durability durability = Durability::kPublished;
};

// --- Topics ---------------------------------------------------------------------------------

// What leaves a topic, besides what is trimmed.
enum class CleanupPolicy {
  kDelete,            // whole old segments go, by retention_age, _bytes and _records
  kCompact,           // the last record of every key stays, however old; every record has a key
  kCompactAndDelete,  // both
};

// Whose time a record has: the caller's (now, if it has none), or always that of the append.
enum class TimestampType { kCreateTime, kAppendTime };

// What retention_age counts from: the append, or the record's own timestamp (Kafka's rule; a
// record with a wrong clock can then go too early or never).
enum class RetentionClock { kAppend, kRecord };

// What an append does when the backlog is full: waits for its timeout, fails with
// kResourceExhausted, or lets the oldest records go, which their readers see as a Gap.
enum class BacklogPolicy { kBlock, kFail, kDropOldest };

// What a topic is made with, and is kept in its file `config`. Durations are whole milliseconds;
// absl::InfiniteDuration() and kUnlimited are no limit. Out of bounds: kInvalidArgument.
struct TopicConfig {
  int partitions = 1;  // up to 100,000
  // A file, from 4 KiB to 2 GiB; cleanup takes whole ones. A batch that is larger gets a longer
  // one.
  std::int64_t segment_bytes = 128 << 20;
  // A segment whose first record is older is closed by the next append.
  absl::Duration segment_age = absl::Hours(7 * 24);
  std::int64_t index_interval_bytes = 4096;            // from 64 to 1 GiB; for ever as it was made
  std::int64_t max_message_bytes = 1'048'588;          // key, value and headers; up to 1 GiB
  absl::Duration retention_age = absl::Hours(7 * 24);  // counted as retention_clock says
  std::int64_t retention_bytes = kUnlimited;  // of a partition's segments and their indexes
  CleanupPolicy cleanup = CleanupPolicy::kDelete;
  TimestampType timestamp_type = TimestampType::kCreateTime;
  // "xxh3", "murmur2" (as Kafka's Java client), "round-robin", or a user's own name().
  std::string partitioner = "xxh3";
  // Keep what these groups have not committed, whatever age, bytes and records say ...
  std::vector<std::string> retain_for_groups = {};
  std::int64_t retain_for_groups_bytes = kUnlimited;  // ... up to this
  // What the slowest of those groups may lag in a partition; then:
  std::int64_t backlog_bytes = kUnlimited;
  BacklogPolicy backlog_policy = BacklogPolicy::kBlock;
  std::int64_t retention_records = kUnlimited;  // of a partition
  RetentionClock retention_clock = RetentionClock::kAppend;
  absl::Duration delete_retention = absl::Hours(24);             // how long a tombstone stays
  absl::Duration compaction_lag_min = absl::ZeroDuration();      // younger records are left alone
  absl::Duration compaction_lag_max = absl::InfiniteDuration();  // older ones are compacted soon
  double dirty_ratio_min = 0.5;  // how much of a log is not compacted before it is worth it

  // All of it under Kafka's property names ("retention.ms" = "604800000"), and names in Kafka's
  // style for what Kafka has not got. -1 is no limit. What FromProperties makes of it is equal to
  // this config, if this config is within its bounds.
  std::map<std::string, std::string> ToProperties() const;

  // A property that is not there has its default. kInvalidArgument names the property that is
  // unknown, whose value makes no sense, or is out of its bounds.
  static absl::StatusOr<TopicConfig> FromProperties(const std::map<std::string, std::string>&);

  friend bool operator==(const TopicConfig&, const TopicConfig&) = default;
};

// --- Reading --------------------------------------------------------------------------------

// Where a partition is begun that has neither position nor committed offset. kError: Poll answers
// kOutOfRange, until a Seek.
enum class OffsetReset { kEarliest, kLatest, kError };

// What Poll does at a position whose records are gone: goes on at the next one and says what is
// missing in RecordBatch::gaps(), or answers kOutOfRange (kDataLoss for damage and a power cut).
enum class OutOfRange { kGap, kError };

// kDurable: records that a power cut could take back are not read.
enum class ReadUpTo { kPublished, kDurable };

// kAfterPoll: the next Poll commits what the last one gave.
enum class AutoCommit { kOff, kAfterPoll };

// What a Consumer calls when it gets partitions or loses them, inside its Poll, Close or
// destructor, on that thread. Made from a function of (Consumer&, const Partitions&), or of the
// partitions alone. The list holds only what was added or taken.
class RebalanceCallback {
 public:
  using Partitions = std::vector<TopicPartition>;

  RebalanceCallback() = default;
  template <class F>
  requires(std::is_invocable_v<F&, Consumer&, const Partitions&> &&
           !std::is_same_v<std::decay_t<F>, RebalanceCallback>) RebalanceCallback(F f)
      : call_(std::move(f)) {}
  template <class F>
  requires(std::is_invocable_v<F&, const Partitions&> &&
           !std::is_same_v<std::decay_t<F>, RebalanceCallback>) RebalanceCallback(F f)
      : call_([f = std::move(f)](Consumer&, const Partitions& p) mutable { f(p); }) {}

  // For the Consumer: is there anything to call, and calling it.
  explicit operator bool() const { return static_cast<bool>(call_); }
  void operator()(Consumer& consumer, const Partitions& partitions) const {
    if (call_) call_(consumer, partitions);
  }

 private:
  std::function<void(Consumer&, const Partitions&)> call_ = {};
};

// Of Broker::NewConsumer.
struct ConsumerOptions {
  std::string group = {};              // none: Assign works, Subscribe and Commit do not
  RebalanceCallback on_assigned = {};  // seek here
  RebalanceCallback on_revoked = {};   // commit here: no one else reads them until it returns
  RebalanceCallback on_lost = {};      // it is too late to commit
  OffsetReset reset = OffsetReset::kEarliest;
  OutOfRange out_of_range = OutOfRange::kGap;
  int max_poll_records = 500;  // in a batch; at least 1
  ReadUpTo read_up_to = ReadUpTo::kPublished;
  AutoCommit auto_commit = AutoCommit::kOff;
  // Without, only what places a record is checked: damaged keys and values go unnoticed.
  bool verify_checksums = true;
  // A member that does not poll for so long loses its partitions; its next Poll is kAborted.
  absl::Duration max_poll_interval = absl::InfiniteDuration();
  // A static member: when it has gone, its partitions are kept for it for session_timeout.
  std::string group_instance_id = {};
  std::string assignor = "cooperative-sticky";  // "sticky", "range", "roundrobin"; one in a group
  absl::Duration session_timeout = absl::Seconds(45);  // of a static member only
  // In place of a built-in one: cordwood/group/assignor.h. Its name counts, not `assignor`.
  std::shared_ptr<const group::Assignor> custom_assignor = {};
};

// What shares a group has the same of these (share_consumer.h).
struct ShareConsumerOptions {
  std::string group = {};
  std::string dead_letter_topic = {};  // it must be there; none: records are given up without
  absl::Duration lock_time = absl::Seconds(30);  // for how long a record is held
  int delivery_limit = 5;                        // then it is given up; from 1 to 1,000
  int max_poll_records = 500;                    // in a batch; at least 1
  bool order_by_key = false;  // a record waits while an earlier one of its key is not done with
  OffsetReset reset = OffsetReset::kEarliest;
  bool verify_checksums = true;
};

// Of Consumer::Commit.
struct CommitOptions {
  // kPublished: survives every process; a power cut may take what was committed in about the last
  // flush_interval. kDurable: so do the records below it, and the call waits for the disk.
  Durability durability = Durability::kPublished;
  std::string metadata = {};  // kept with the offset, up to 4,096 bytes; DescribeGroup shows it
  bool force = false;         // the offsets may be before those committed, which else is refused
};

// Where a group is to go on. What lies outside a partition's records is its start or its end.
class ResetTo {
 public:
  static ResetTo Earliest() { return ResetTo(Kind::kEarliest); }
  static ResetTo Latest() { return ResetTo(Kind::kLatest); }
  static ResetTo At(Offset offset) { return ResetTo(Kind::kOffset, offset); }
  // The first record stamped then or later, else the end.
  static ResetTo Time(absl::Time time) { return ResetTo(Kind::kTime, 0, time); }
  // Back to the time that is so long ago.
  static ResetTo Ago(absl::Duration duration) {
    return ResetTo(Kind::kTime, 0, absl::Now() - duration);
  }
  // By so many from what is committed, or from the start where nothing is; below 0: back.
  static ResetTo Shift(std::int64_t by) { return ResetTo(Kind::kShift, by); }

  // For the library: which of them it is.
  enum class Kind { kEarliest, kLatest, kOffset, kTime, kShift };
  Kind kind() const { return kind_; }
  std::int64_t number() const { return number_; }  // the offset, or the shift
  absl::Time time() const { return time_; }

 private:
  explicit ResetTo(Kind kind, std::int64_t number = 0, absl::Time time = {})
      : kind_(kind), number_(number), time_(time) {}

  Kind kind_;
  std::int64_t number_;
  absl::Time time_;
};

// Of Broker::ResetOffsets.
struct ResetOptions {
  // None: all that the group has. Partition -1: every partition of the topic.
  std::vector<TopicPartition> partitions = {};
  bool dry_run = false;  // says what it would do, and does nothing
};

// --- Tables ---------------------------------------------------------------------------------

// Of TableView::Open.
struct TableViewOptions {
  // Open a topic too whose retention, or dropped backlog, forgets keys that nobody writes again.
  bool keys_may_expire = false;
};

// For PutOptions::expected_offset: the key is not there, for it never was or was deleted.
inline constexpr Offset kNoRecord = -1;

// Of TableView::Put and Delete.
struct PutOptions {
  // The offset of the key's newest record, as Get gave it, or kNoRecord; else kAborted and nothing
  // is appended. None: whatever is there.
  std::optional<Offset> expected_offset = {};
  Durability durability = Durability::kPublished;
  absl::Duration timeout = absl::Seconds(60);  // as in AppendOptions
};

// --- The directory --------------------------------------------------------------------------

// Who may have the directory open at the same time.
enum class Sharing {
  kProcesses,  // any number of processes at a time
  kExclusive,  // this process alone; the others get kFailedPrecondition
};

// Of Broker::Open.
struct BrokerOptions {
  bool create_if_missing = true;
  // Needs no permission to write, changes nothing, and takes no lock: whoever writes goes on. What
  // would write is kFailedPrecondition.
  bool read_only = false;
  Sharing sharing = Sharing::kProcesses;
  // Published becomes durable within about this time: what a power cut may lose. An aim, no bound.
  absl::Duration flush_interval = absl::Milliseconds(100);
  // Without them Maintain, Flush and durable calls do the work.
  bool background_threads = true;
  int file_mode = 0600;  // of what is made, whatever the umask is; folders get x where r
  absl::Duration open_timeout = absl::Seconds(30);  // for others who are opening or closing it
  std::shared_ptr<Storage> storage = {};            // none: the operating system
  // Kept on the disk, so that offsets can be committed and old records be given up when it is
  // full. Whoever makes the directory decides. 0: none.
  std::int64_t reserve_bytes = 1 << 20;
  // With less than that free, CheckDisk() is an error, and on_low_disk is called once with what
  // is free: by the background thread, or in Maintain. It must not block. 0: never.
  std::int64_t low_disk_bytes = 64 << 20;
  std::function<void(std::int64_t free_bytes)> on_low_disk = {};
};

namespace internal {

// kInvalidArgument in words unless `name` is 1 to 249 of A-Z a-z 0-9 . _ - and does not begin with
// a dot. Every name that becomes one of a file has to pass here. `kind` says of what it is a name,
// "topic" or "group".
absl::Status ValidateName(std::string_view kind, std::string_view name);

// kInvalidArgument in words unless every setting is within its bounds. FromProperties does this.
absl::Status ValidateTopicConfig(const TopicConfig& config);

}  // namespace internal
}  // namespace cordwood

#endif  // CORDWOOD_OPTIONS_H_
