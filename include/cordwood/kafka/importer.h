// A KafkaImporter carries topics of an Apache Kafka cluster to local ones: each record once, in the
// order of its partition, also when it is killed at any moment.
//
//   kafka::KafkaImporter importer = kafka::KafkaImporter::Open(broker, {
//       .cluster = {.properties = {{"bootstrap.servers", "kafka-1:9092"}}},
//       .routes = {{.topic = "prices"}},
//       .create_topics = true}).value();
//   absl::Status status = importer.Run(stop);
//
// Key, value (none: a tombstone), headers and timestamp are kept; one header is added, the last
// one: "kafka.source", "<cluster id>/<topic>/<partition>/<offset>". Only what was committed in the
// cluster is read. Who copies imported records within the target leaves that header out: it says
// which record is the importer's.
//
// How a record arrives once: that header is the position, and is appended with the record, so
// neither is there without the other. Each append says at which offset it is to be, so that what
// somebody else has appended is seen before anything is appended again: two importers at work at
// once, or one that wakes up late, repeat nothing. The group's commits, of the local end with the
// cluster's positions as metadata, only shorten the look back, and keep the position where
// retention has taken the records; after its offsets were reset the whole of what is there is read.
//
// What the cluster gave up before it was imported is counted in progress(). A topic that was made
// anew in the cluster is kDataLoss where that shows: it ends before the position, or has another
// record in the place of the last one that is here.
//
// Thread safety: Run on one thread at a time, progress() from any. It shares the open directory,
// so it may outlive its Broker.

#ifndef CORDWOOD_KAFKA_IMPORTER_H_
#define CORDWOOD_KAFKA_IMPORTER_H_

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
class ImporterState;
}  // namespace internal

// Which topic comes, and where to.
struct ImportRoute {
  std::string topic = {};   // of the cluster
  std::string target = {};  // here; none: the same name
  Partitioning partitioning = Partitioning::kSame;
};

// Of KafkaImporter::Open.
struct ImporterOptions {
  ClusterOptions cluster = {};
  std::string group = "kafka-importer";  // a local one
  std::vector<ImportRoute> routes = {};
  // Makes the local topics that are not there, as FromClusterTopic says.
  bool create_topics = false;
};

// How far it is with one partition.
struct ImportedPartition {
  int partition = 0;      // of the cluster
  std::int64_t next = 0;  // the first that is not here
  std::int64_t lag = 0;  // up to the end that the cluster told of last, transactions' ends included
};

// How far it is with one topic: plain numbers, for people and for whoever collects metrics. What
// only grows is counted from the Open.
struct ImportedTopic {
  std::string topic = {}, target = {};
  std::int64_t records = 0, bytes = 0;  // keys and values
  std::int64_t gaps = 0;                // offsets that were gone before they could be imported
  std::int64_t restarts = 0;            // after an error that passes
  std::int64_t lag = 0;                 // of all partitions
  std::vector<ImportedPartition> partitions = {};  // none before the cluster has answered
  // How long it had to wait for the cluster, in all; now as well if that is so now.
  absl::Duration away = absl::ZeroDuration();
  std::string last_error = {};  // none once something was imported
};

class KafkaImporter {
 public:
  KafkaImporter(KafkaImporter&&) noexcept;
  KafkaImporter& operator=(KafkaImporter&&) noexcept;
  ~KafkaImporter();

  // kInvalidArgument: a setting, or a property of librdkafka's. It does not ask the cluster, which
  // may be away.
  static absl::StatusOr<KafkaImporter> Open(const Broker& broker, const ImporterOptions& options);

  // Imports until it is stopped (OK), with one thread for each topic beside librdkafka's own.
  // kNotFound: a topic, here or there; kFailedPrecondition: another number of partitions;
  // kDataLoss: as above; kInvalidArgument: a record is over the local topic's limit. The cluster's
  // absence is no error.
  absl::Status Run(std::stop_token stop);
  // The same, and OK once everything that was in the cluster when it was called is here.
  absl::Status RunToEnd(std::stop_token stop = {});

  // Of every route, in order.
  std::vector<ImportedTopic> progress() const;

 private:
  explicit KafkaImporter(std::unique_ptr<internal::ImporterState> state);

  std::unique_ptr<internal::ImporterState> state_;
};

}  // namespace cordwood::kafka

#endif  // CORDWOOD_KAFKA_IMPORTER_H_
