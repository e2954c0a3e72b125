// A Topic is a named stream, split in partitions. Their number is fixed, unless
// Broker::CreatePartitions adds some.
//
//   Topic orders = broker.OpenOrCreateTopic("orders", {.partitions = 3}).value();
//   Partition log = orders.partition(orders.PartitionFor("alice"));
//
// A handle like a shared_ptr: cheap to copy, every operation const and thread-safe. It
// shares the open directory, so it may outlive its Broker. One that is default-made,
// moved-from, closed, deleted or inherited over a fork says so in status().

#ifndef CORDWOOD_TOPIC_H_
#define CORDWOOD_TOPIC_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "cordwood/options.h"
#include "cordwood/partition.h"

namespace cordwood {

namespace internal {
struct TopicState;
}  // namespace internal

class Topic {
 public:
  Topic() = default;

  std::string_view name() const ABSL_ATTRIBUTE_LIFETIME_BOUND;
  // 0: it is a bad handle. It grows when partitions are added, in whichever process.
  int partition_count() const;
  // 32 hexadecimal digits, random, the topic's from its creation on: one that is deleted and
  // created anew has another.
  std::string id() const;
  // Any number: one that does not exist answers kNotFound.
  Partition partition(int number) const;
  // As it is now, with what Broker::AlterTopic has changed, in whichever process.
  TopicConfig config() const;
  // OK, or why nothing works on it: kFailedPrecondition: default-made, moved-from, closed or
  // inherited; kNotFound: deleted.
  absl::Status status() const;
  // Where a producer sends records with that key: a topic with a partitioner of a user's own
  // answers as one with "xxh3".
  int PartitionFor(std::string_view key) const;

 private:
  friend class Broker;
  explicit Topic(std::shared_ptr<const internal::TopicState> state) : state_(std::move(state)) {}

  std::shared_ptr<const internal::TopicState> state_ = {};
};

}  // namespace cordwood

#endif  // CORDWOOD_TOPIC_H_
