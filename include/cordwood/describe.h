// What a broker says about its topics, its groups and its last recovery. Plain values, taken at one
// moment: what they describe goes on.
//
//   GroupDescription group = broker.DescribeGroup("billing").value();
//   for (const PartitionProgress& p : group.partitions) lag += p.lag;
//
//   for (const TopicDescription& topic : broker.DescribeBroker().value().topics) {
//     for (const PartitionDescription& p : topic.by_number) Show(p.start, p.end, p.segments);
//   }
//
// Thread safety: these are values; they point at nothing.

#ifndef CORDWOOD_DESCRIBE_H_
#define CORDWOOD_DESCRIBE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

// What a group whose consumers share records (share_consumer.h) knows of a partition beyond what
// it has committed. Counted while they go on, so the sums are about right.
struct ShareProgress {
  // By somebody who works on it, or who has died and nobody has looked since; for lock_time at
  // most.
  std::int64_t held = 0;
  std::int64_t waiting = 0;  // delivered before, and not done with: to be delivered again
  std::int64_t done = 0;     // while an earlier one is not; the lag counts them, too
  friend bool operator==(const ShareProgress&, const ShareProgress&) = default;
};

// How far a group is in one partition.
struct PartitionProgress {
  std::string topic = {};
  int partition = 0;
  std::optional<Offset> committed = {};  // the next one to read; none: nothing was committed
  Offset end = 0;
  std::int64_t lag = 0;  // end less committed; of a group that has not begun, all that is there
  // How long ago the first of these records was stamped; zero where there is none.
  absl::Duration lag_age = absl::ZeroDuration();
  std::string metadata = {};                 // of the commit that counts
  std::string member = {};                   // the id of the one that reads it; empty: nobody does
  std::int64_t lag_bytes = 0;                // of the frames of these records
  std::optional<ShareProgress> shared = {};  // none: its records are not shared
};

// A Consumer that has subscribed.
struct GroupMember {
  std::string id = {};           // of this life: "member-0003"
  std::string instance_id = {};  // ConsumerOptions::group_instance_id
  // A static member that has gone, whose partitions are kept for it.
  bool is_away = false;
  int pid = 0;  // of its process, as that one sees itself: containers have numbers of their own
  absl::Time since = absl::InfinitePast();      // when it joined
  std::vector<std::string> topics = {};         // that it has subscribed to
  std::vector<TopicPartition> assignment = {};  // what it reads
};

// Broker::DescribeGroup.
struct GroupDescription {
  // Kafka's words: "Empty": no member; "PreparingRebalance": partitions are on their way from one
  // to another, and the others are read; "Stable".
  std::string state = {};
  std::vector<PartitionProgress> partitions = {};
  std::vector<GroupMember> members = {};
  std::string assignor = {};  // of its members
  std::string name = {};
  // Of all partitions: the sums, and the longest.
  std::int64_t lag = 0, lag_bytes = 0;
  absl::Duration lag_age = absl::ZeroDuration();
  // Its consumers are ShareConsumers, or were the last time; `members` has none of them.
  bool is_shared = false;
};

// What a reset did to one partition, or would do.
struct OffsetChange {
  TopicPartition where = {};
  std::optional<Offset> from = {};  // none: nothing was committed
  Offset to = 0;
  friend bool operator==(const OffsetChange&, const OffsetChange&) = default;
};

// One file of a partition, and the index beside it.
struct SegmentDescription {
  Offset base = 0, next = 0;  // it stands for the offsets [base, next)
  std::string file = {};      // relative to the directory
  std::int64_t bytes = 0;     // header and frames; there may be room behind them
  bool is_active = false;     // the one that is appended to
  bool is_compacted = false;  // some of its offsets may be gone
  // InfinitePast: not known.
  absl::Time created = absl::InfinitePast(), last_append = absl::InfinitePast();
  absl::Time largest_timestamp = absl::InfinitePast();  // of its records
  std::string damage = {};                              // in words; empty: its header is whole
};

// One partition of a topic.
struct PartitionDescription {
  int partition = 0;
  Offset start = 0, end = 0, durable = 0;
  std::int64_t bytes = 0;  // of its segments
  // Of the first and the last record that can be read; InfinitePast: there is none.
  absl::Time first_timestamp = absl::InfinitePast(), last_timestamp = absl::InfinitePast();
  std::vector<SegmentDescription> segments = {};  // by offset; those below the start, too
  std::string failure = {};                       // why nothing can be appended; empty: it can
};

// A setting of a topic, by Kafka's name.
struct ConfigEntry {
  // A topic keeps all of its settings from its creation on, so what counts as set is what differs
  // from the library's default.
  enum class Source { kDefault, kSet };

  std::string name = {}, value = {};
  Source source = Source::kDefault;
  friend bool operator==(const ConfigEntry&, const ConfigEntry&) = default;
};

// Broker::DescribeTopic.
struct TopicDescription {
  std::string name = {};
  int partitions = 0;
  // Of all partitions; the bytes of files, frames and all. Records are offsets from start to end:
  // what a compaction or damage has taken from between them counts.
  std::int64_t bytes = 0, records = 0;
  TopicConfig config = {};
  std::string id = {};                               // as Topic::id()
  std::vector<PartitionDescription> by_number = {};  // a partition each
  std::vector<ConfigEntry> settings = {};            // by name
};

// Broker::DescribeDisk: of the file system that the directory is on.
struct DiskSpace {
  std::int64_t free_bytes = 0;  // for this user
  bool is_low = false;          // less than BrokerOptions::low_disk_bytes
  std::int64_t reserve_bytes = 0;
  // The disk was full, and offsets or retention have used the reserve: no record is appended
  // until there is room for it again.
  bool reserve_is_spent = false;
};

// Broker::DescribeBroker: everything in a directory.
struct BrokerDescription {
  // What cannot be described, and why: its files are damaged, say.
  struct Failure {
    std::string name = {};
    absl::Status status = {};
  };

  std::string directory = {};
  std::vector<TopicDescription> topics = {};  // by name
  std::vector<GroupDescription> groups = {};  // by name
  std::vector<Failure> failed_topics = {}, failed_groups = {};
  std::int64_t bytes = 0, records = 0, partitions = 0;  // of all topics
  DiskSpace disk = {};
};

// Broker::DescribeCompaction: what a compaction of a partition would do now, record for record.
struct CompactionPlan {
  // A segment of the partition, by offset; the active one too.
  struct Segment {
    Offset base = 0, next = 0;
    std::string why_not = {};  // in words; empty: it is eligible
    std::int64_t bytes = 0;    // of its records
    // Of an eligible one; what is left of it may be joined with what is left of others.
    std::int64_t records = 0, records_after = 0, bytes_after = 0;
  };

  TopicPartition where = {};
  bool compact = false;  // whether Maintain would compact it now
  std::string why = {};  // in words, either way
  std::vector<Segment> segments = {};
  // Of all segments. What would be won is the difference, whether or not it is time.
  std::int64_t bytes = 0, bytes_after = 0;
};

// Broker::DescribeHolds: who keeps records of a partition from retention.
struct RetentionHold {
  enum class Kind {
    kGroup,  // of TopicConfig::retain_for_groups; all of them together hold no more than
             // retain_for_groups_bytes
    kPin,    // Partition::Pin()
  };

  int partition = 0;
  Kind kind = Kind::kGroup;
  Offset offset = 0;       // what is at or above it is held
  std::int64_t bytes = 0;  // of that, frames and all
  std::string name = {};   // of the group; or what the pin is for
  // A group that is not there holds everything, until it is made and commits.
  bool is_there = true;
  int pid = 0;  // of a pin's process, as that one sees itself
  // When the pin was made, by the broker's clock. Of a group: the timestamp of the first record
  // that it holds; InfinitePast if it holds none.
  absl::Time since = absl::InfinitePast();
};

// Broker::recovery_report: what opening the directory found, and what it did.
struct RecoveryReport {
  // One partition, or a topic as a whole, of which something was dropped or could not be recovered.
  struct Item {
    TopicPartition where = {};
    Offset from = 0, to = 0;  // the records [from, to) that are gone; equal: a torn tail only
    std::int64_t bytes_dropped = 0;
    std::string what = {};  // in words
  };

  bool clean = true;  // it was closed, and nothing had to be repaired
  std::vector<Item> items = {};
};

}  // namespace cordwood

#endif  // CORDWOOD_DESCRIBE_H_
