// One topic on its way from the cluster: what a thread of a KafkaImporter does.
//
// Thread safety: Run on one thread at a time, progress() from any.

#ifndef CORDWOOD_KAFKA_IMPORTER_LANE_H_
#define CORDWOOD_KAFKA_IMPORTER_LANE_H_

#include <cstddef>
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
#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/kafka/importer.h"
#include "cordwood/topic.h"
#include "kafka/client.h"
#include "kafka/marks.h"
#include "kafka/topic_reader.h"

namespace cordwood::kafka::internal {

class ImporterLane {
 public:
  ImporterLane(const Broker& broker, const ImportRoute& route, const ImporterOptions& options);

  absl::Status Run(std::stop_token stop, bool to_end);
  ImportedTopic progress() const;

 private:
  // A local partition. What is below floor[p] of the cluster's partition p, and belongs here, is
  // here, below `end`.
  struct Here {
    Partition log = {};
    Offset end = 0;
    Ends floor = {};
  };

  // Until stopped, caught up, or an error; those that pass are for Run to try again.
  absl::Status Work(std::stop_token stop, bool to_end);
  absl::Status OpenTopics(const Client& probe, std::stop_token stop);
  absl::Status ReadMarks();
  // Looks at what was appended since `from`, by whomever.
  absl::Status LookBack(Here& here, Offset from);
  absl::Status StartReading(const Client& probe, std::stop_token stop);
  // kDataLoss: the cluster's record is not the one that was imported from its place.
  absl::Status CheckLast(const rd_kafka_message_t& message);
  bool HasReached(const Ends& ends) const;

  absl::Status Take(std::vector<Owned<rd_kafka_message_t>> messages);
  absl::Status AppendTo(Here& here, std::vector<const rd_kafka_message_t*> messages);
  absl::Status Commit();
  int TargetOf(const rd_kafka_message_t& message) const;
  // True: there was progress since the last one, so the next try need not wait for long.
  bool Note(const absl::Status& error);
  void CountLag();

  const Broker broker_;
  const ImportRoute route_;
  const ImporterOptions options_;
  const std::string target_;

  Topic topic_ = {};
  std::string origin_ = {};  // "<cluster id>/<topic>"
  int partitions_ = 0;       // of the cluster's topic
  std::vector<Here> here_ = {};
  // The last record here of each of the cluster's partitions, as far as LookBack has met it.
  struct Last {
    std::int64_t offset = -1;
    std::size_t digest = 0;
  };
  std::map<int, Last> last_ = {};
  std::optional<TopicReader> reader_ = {};
  Ends next_ = {};            // to be read, of each of the cluster's partitions
  Ends seen_ = {};            // their ends, as the cluster told of them last
  bool is_committed_ = true;  // what is here

  mutable absl::Mutex mutex_;
  ImportedTopic progress_ ABSL_GUARDED_BY(mutex_);
  std::int64_t noted_ ABSL_GUARDED_BY(mutex_) = 0;          // records, at the last error
  std::int64_t away_since_ns_ ABSL_GUARDED_BY(mutex_) = 0;  // 0: it is there
};

}  // namespace cordwood::kafka::internal

#endif  // CORDWOOD_KAFKA_IMPORTER_LANE_H_
