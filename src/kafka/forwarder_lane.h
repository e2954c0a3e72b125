// One topic on its way to the cluster: what a thread of a KafkaForwarder does.
//
// The order of steps, which makes that a record arrives once, wherever it is cut off:
//
//   1. a transaction is committed in the cluster
//   2. the group's offsets C, behind its records, are committed here, durably
//   3. the ends T of the target partitions are, as the metadata of the same commit, durably
//   4. the next transaction begins
//
//   cut off    C    T           what stands behind T in the target     so
//   before 1   old  of old C    nothing of ours                        it is sent
//   after 1    old  of old C    the transaction: its last offset is W  goes on at W + 1
//   after 2    new  none of C   nothing of ours yet                    goes on at C
//   after 3    new  of new C    nothing of ours                        goes on at C
//
// A commit that is not ours (a reset) has no T either: the forwarder goes on where it says.
//
// Thread safety: Run on one thread at a time, progress() from any.

#ifndef CORDWOOD_KAFKA_FORWARDER_LANE_H_
#define CORDWOOD_KAFKA_FORWARDER_LANE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/kafka/forwarder.h"
#include "cordwood/topic.h"
#include "kafka/client.h"
#include "kafka/marks.h"
#include "kafka/transactions.h"

namespace cordwood::kafka::internal {

// How long a transaction may last: `time`, or longer while the forwarder is behind, but never so
// long that the cluster would end it.
absl::Duration TransactionTimeMax(absl::Duration time, bool is_behind, absl::Duration timeout);

class ForwarderLane {
 public:
  // The target's name, not the route's.
  ForwarderLane(const Broker& broker, const Topic& topic, const std::string& target,
                Partitioning partitioning, const ForwarderOptions& options);

  // OK as well: the topic was deleted.
  absl::Status Run(std::stop_token stop, bool to_end);
  // Run has ended, and will not work again, as the topic is no more.
  bool is_over() const { return is_over_.load(std::memory_order_acquire); }
  const std::string& topic_id() const { return topic_id_; }
  ForwardedTopic progress() const;

 private:
  // What the group has committed of a partition.
  struct Mark {
    Offset next = 0;
    std::optional<Ends> ends = {};
  };

  absl::Status Join();
  absl::Status HoldRetention();
  absl::Status ReleaseRetention();
  // Until stopped, caught up, or an error; those that pass are for Run to try again.
  absl::Status Work(std::stop_token stop, bool to_end);
  absl::Status WaitForAssignment(std::stop_token stop);
  void OnError(const std::string& error);

  // Begin anew: shut out who was before, find out what has arrived. In forwarder_begin.cc.
  absl::Status Restart(std::stop_token stop);
  absl::Status CheckTarget(const Client& probe, std::stop_token stop);
  // kFailedPrecondition: another group has forwarded the topic to there.
  absl::Status CheckAlone();
  absl::StatusOr<std::map<int, Mark>> ReadMarks() const;
  absl::Status ReadBack(const Client& probe, std::map<int, Mark>& marks, std::stop_token stop);
  absl::Status CheckArrived(const rd_kafka_message_t& message, const Source& source) const;

  // One transaction.
  absl::Status Take(RecordBatch batch, std::stop_token stop);
  absl::Status FinishTransaction(std::stop_token stop);
  absl::Status CommitHere();
  // Takes the marks of our commits back: nobody is to take us for the one who forwards.
  absl::Status WithdrawMarks();
  absl::Status SetAside(const RecordView& record, const std::string& reason);

  // Until the transaction is to be committed; with none, how long it may sleep.
  absl::Duration TimeLeft() const;
  bool HasReached(const std::map<int, Offset>& ends) const;
  int TargetOf(const RecordView& record) const;
  std::string SourceOf(const RecordView& record) const {
    return FormatSource({topic_id_, record.partition(), record.offset()});
  }
  TopicPartition Here(int partition) const { return {std::string(topic_.name()), partition}; }
  std::vector<int> Partitions() const;
  // True: there was progress since the last one, so the next try need not wait for long.
  bool Note(const absl::Status& error);
  void CountSent();
  void IsThere() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Broker broker_;
  const Topic topic_;
  const std::string topic_id_;
  const std::string target_;
  const Partitioning partitioning_;
  const ForwarderOptions options_;
  const absl::Duration timeout_;  // of the cluster for a transaction

  std::optional<Consumer> consumer_ = {};
  bool assignment_changed_ = false;
  bool has_held_ = false;  // retention, and it was not held for the group before

  // What the open transaction points into; declared before the producer, which goes first.
  std::vector<RecordBatch> sent_ = {};
  int sent_records_ = 0;
  std::int64_t sent_bytes_ = 0;
  std::int64_t began_ns_ = 0;  // by the clock that does not jump
  bool is_behind_ = false;     // the last poll brought as much as it may
  // Halved each time that the cluster refuses something for good, until it is one record, and
  // doubled with each that went well: so the one is found that is at fault.
  int records_max_ = 1;
  bool is_narrowing_ = false;  // the last error was one of that search, or its end
  std::unique_ptr<Transactions> out_ = {};
  std::int64_t delivered_before_ = 0;  // by those before out_
  int target_partitions_ = 0;
  std::string place_ = {};                // "<cluster id>/<target>"
  Ends ends_ = {};                        // of the target partitions, after our last record
  std::map<int, Offset> committed_ = {};  // here, by partition
  int commits_ = 0;

  std::atomic<bool> is_over_ = false;
  mutable absl::Mutex mutex_;
  ForwardedTopic progress_ ABSL_GUARDED_BY(mutex_);
  std::int64_t away_since_ns_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: it is there
  std::int64_t noted_ ABSL_GUARDED_BY(mutex_) = 0;          // transactions, at the last Note
  std::map<int, Offset> reached_ ABSL_GUARDED_BY(mutex_);   // committed_, for others
};

}  // namespace cordwood::kafka::internal

#endif  // CORDWOOD_KAFKA_FORWARDER_LANE_H_
