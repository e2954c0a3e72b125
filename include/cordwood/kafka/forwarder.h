// A KafkaForwarder carries local topics to an Apache Kafka cluster: each record once, in the order
// of its partition, also when either side is killed at any moment. While the cluster is away the
// local log goes on, and keeps what is not there yet.
//
//   kafka::KafkaForwarder forwarder = kafka::KafkaForwarder::Open(broker, {
//       .cluster = {.properties = {{"bootstrap.servers", "kafka-1:9092"}}},
//       .group = "to-kafka",
//       .routes = {{.topic = "orders", .target = "shop.orders"}, {.pattern = "sensor\\..*"}},
//       .dead_letter_topic = "refused"}).value();
//   std::jthread thread([&](std::stop_token stop) { status = forwarder.Run(stop); });
//
// Key, value (none: a tombstone), headers and timestamp (in milliseconds, as Kafka has it) are
// kept; one header is added, the last one: "cordwood.source", "<topic id>/<partition>/<offset>".
// A timestamp that is not after 1970-01-01 becomes the first millisecond after it: Kafka has none
// before.
//
// How a record arrives once: what is forwarded together is one transaction of the cluster, under
// an id that belongs to the group and to the topic's id. After it is committed the group's offset
// is, durably, with the place where the target partitions ended. Whoever begins, after whatever
// end, first shuts out everybody who had the id before (what such a one still has under way is
// refused by the cluster), then reads what stands behind that place, finds there the
// last source offset, and goes on after it. So:
//
//  * Readers in the cluster must read with isolation.level=read_committed, which is librdkafka's
//    default and not that of Kafka's Java client; others see what was taken back, too.
//  * Progress is an ordinary group. A reset (Broker::ResetOffsets) is obeyed: what it goes back
//    over is forwarded a second time.
//  * The log must not go back. If the target has a record under an offset where the log has
//    another one, or none (it was restored from a backup), Run fails with kDataLoss, and nothing
//    is forwarded until somebody decides, by a reset. The same where the target partition ends
//    before the place where it has ended before (it was made anew, or the cluster lost records).
//  * In a compacted target topic to which others write the same keys, the last records of the
//    forwarder may be gone by the time it begins again; those would be forwarded twice.
//
// Only what is durable is read: the cluster never has what a power cut takes away here. A record
// that the cluster refuses for good (too large, say) goes to the dead-letter topic, a local one,
// with the headers "cordwood.source", "cordwood.target" and "cordwood.reason"; without one Run
// ends with that error. Everything else is tried again for ever. What is too large is for the
// cluster to say, unless librdkafka's message.max.bytes is set.
//
// A local topic that is deleted ends nothing; one that is made anew under its name is another one,
// and is forwarded from its start. How many partitions the target has is asked when work on a topic
// begins, and after each error.
//
// One forwarder at a time works for a group and topic: it is a static member of the group. And one
// group at a time forwards a topic to a target: with two of them each record would be there twice,
// so a second group is refused, until the first one is deleted (Broker::DeleteGroup). It is known
// by its commits, in this directory: whoever has a copy of the log elsewhere is not seen.
//
// Thread safety: Run on one thread at a time, progress() from any. It shares the open directory,
// so it may outlive its Broker.

#ifndef CORDWOOD_KAFKA_FORWARDER_H_
#define CORDWOOD_KAFKA_FORWARDER_H_

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/kafka/cluster.h"

namespace cordwood::kafka {

namespace internal {
class ForwarderState;
}  // namespace internal

// Which topics go, and where to. The first route that fits counts.
struct Route {
  std::string topic = {};          // one, by its name, which has to be there ...
  std::string pattern = {};        // ... or all whose whole name matches, now and later; ECMAScript
  std::string target = {};         // none: the same name; not with a pattern
  std::string target_prefix = {};  // before that
  Partitioning partitioning = Partitioning::kSame;
};

// Of KafkaForwarder::Open.
struct ForwarderOptions {
  ClusterOptions cluster = {};
  std::string group = "kafka-forwarder";
  std::vector<Route> routes = {};
  // Local, and it must be there. None: a record that the cluster refuses ends Run.
  std::string dead_letter_topic = {};
  // Makes the target topics that are not there, as the local ones are (CreateTopic), with the
  // records' own timestamps, and 1,024 bytes more for the header that is added.
  bool create_topics = false;
  int replication_factor = -1;  // of those; -1: the cluster's default
  // Adds the group to the topics' retain_for_groups, for good, so that retention takes nothing that
  // is not forwarded yet. What the disk may hold then is bounded by retain_for_groups_bytes and by
  // backlog_bytes.
  bool retain = true;
  // A transaction is committed so long after its first record, or when it has so many. Longer:
  // fewer of them, and what arrives, arrives later. At most half of the property
  // transaction.timeout.ms, which is a minute. While the forwarder is behind (there is more to send
  // than one poll brings) it lets a transaction grow for up to a second: each end of one costs it
  // the time of some ten thousand records.
  absl::Duration transaction_time = absl::Milliseconds(100);
  int transaction_records_max = 100'000;
};

// How far it is with one partition.
struct ForwardedPartition {
  int partition = 0;
  Offset next = 0;       // the first that is not committed in the cluster
  std::int64_t lag = 0;  // records that are durable or about to be, and not forwarded
};

// How far it is with one topic: plain numbers, for people and for whoever collects metrics. What
// only grows is counted from the Open.
struct ForwardedTopic {
  std::string topic = {}, target = {};
  std::int64_t records = 0, bytes = 0;  // keys and values, committed in the cluster
  std::int64_t transactions = 0;
  std::int64_t in_flight = 0;     // records of the transaction that is open now
  std::int64_t delivered = 0;     // records that the cluster has taken, committed or not
  std::int64_t retried = 0;       // of transactions that failed: they are sent again, unless the
                                  // cluster turns out to have them
  std::int64_t refused = 0;       // for good, by the cluster
  std::int64_t dead_letters = 0;  // those of them that were set aside
  std::int64_t gaps = 0;          // offsets that were gone before they could be forwarded
  std::int64_t restarts = 0;      // after an error that passes
  std::int64_t lag = 0;           // of all partitions
  std::vector<ForwardedPartition> partitions = {};
  // How long it had to wait for the cluster, in all; now as well if that is so now.
  absl::Duration away = absl::ZeroDuration();
  std::string last_error = {};  // none once a transaction has gone well
};

class KafkaForwarder {
 public:
  KafkaForwarder(KafkaForwarder&&) noexcept;
  KafkaForwarder& operator=(KafkaForwarder&&) noexcept;
  ~KafkaForwarder();

  // kInvalidArgument: a setting, or a property of librdkafka's; kNotFound: a route's topic, or the
  // dead-letter topic. It does not ask the cluster, which may be away.
  static absl::StatusOr<KafkaForwarder> Open(const Broker& broker, const ForwarderOptions& options);

  // Forwards until it is stopped (OK), with one thread for each topic beside librdkafka's own. Then
  // it ends the transaction that is open, while the cluster takes what is sent, for some seconds at
  // most; one that is away is waited for no longer than a moment.
  // kNotFound: a target topic is not there; kFailedPrecondition: it has another number of
  // partitions, another forwarder is at work for the group, or another group forwards the topic to
  // the same target; kDataLoss: as above; kInvalidArgument: the cluster refuses a record, and there
  // is no dead-letter topic; kPermissionDenied. The cluster's absence is no error.
  absl::Status Run(std::stop_token stop);
  // The same, and OK once everything that was published when it was called is in the cluster.
  absl::Status RunToEnd(std::stop_token stop = {});

  // Of every topic that a Run has begun with, by its local name.
  std::vector<ForwardedTopic> progress() const;

 private:
  explicit KafkaForwarder(std::unique_ptr<internal::ForwarderState> state);

  std::unique_ptr<internal::ForwarderState> state_;
};

}  // namespace cordwood::kafka

#endif  // CORDWOOD_KAFKA_FORWARDER_H_
