// What a broker says about its topics, its groups and its last recovery. Plain values, taken at one
// moment: what they describe goes on.
//
//   GroupDescription group = broker.DescribeGroup("billing").value();
//   for (const PartitionProgress& p : group.partitions) lag += p.lag;
//
// Thread safety: these are values; they point at nothing.

#ifndef CORDWOOD_DESCRIBE_H_
#define CORDWOOD_DESCRIBE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

// How far a group is in one partition.
struct PartitionProgress {
  std::string topic = {};
  int partition = 0;
  std::optional<Offset> committed = {};  // the next one to read; none: nothing was committed
  Offset end = 0;
  std::int64_t lag = 0;  // end less committed; of a group that has not begun, all that is there
  // How long ago the first of these records was stamped; zero where there is none.
  absl::Duration lag_age = absl::ZeroDuration();
  std::string metadata = {};  // of the commit that counts
  std::string member = {};    // the id of the one that reads it; empty: nobody does
};

struct GroupMember {
  std::string id = {};           // of this life: "member-0003"
  std::string instance_id = {};  // ConsumerOptions::group_instance_id
  // A static member that has gone, whose partitions are kept for it.
  bool is_away = false;
  int pid = 0;  // of its process, as that one sees itself: containers have numbers of their own
  absl::Time since = absl::InfinitePast();
  std::vector<std::string> topics = {};         // that it has subscribed to
  std::vector<TopicPartition> assignment = {};  // what it reads
};

struct GroupDescription {
  std::string state = {};  // Kafka's words: "Empty", "PreparingRebalance", "Stable"
  std::vector<PartitionProgress> partitions = {};
  std::vector<GroupMember> members = {};
  std::string assignor = {};  // of its members
};

// What a reset did to one partition, or would do.
struct OffsetChange {
  TopicPartition where = {};
  std::optional<Offset> from = {};  // none: nothing was committed
  Offset to = 0;
  friend bool operator==(const OffsetChange&, const OffsetChange&) = default;
};

struct TopicDescription {
  std::string name = {};
  int partitions = 0;
  std::int64_t bytes = 0, records = 0;  // of all partitions; the bytes of files, frames and all
  TopicConfig config = {};
};

// What opening the directory found, and what it did.
struct RecoveryReport {
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
