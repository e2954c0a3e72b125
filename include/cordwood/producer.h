// A Producer chooses the partition of each record and appends it.
//
//   Producer producer = broker.NewProducer().value();
//   RecordMetadata at = producer.Send("orders", {.key = "alice", .value = "book"}).value();
//   absl::Status on_disk = producer.Flush();
//
// The partition is the record's own if it names one, else the choice of the partitioner
// that the topic names (cordwood/partitioner.h).
//
// A handle like a shared_ptr: cheap to copy, every operation const and thread-safe. It
// shares the open directory, so it may outlive its Broker.

#ifndef CORDWOOD_PRODUCER_H_
#define CORDWOOD_PRODUCER_H_

#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

namespace internal {
class ProducerState;
}  // namespace internal

class Producer {
 public:
  Producer() = default;

  // Returns once the record is published, with Durability::kDurable once it is durable.
  // kNotFound: no such topic or partition; kFailedPrecondition: the topic has another
  // partitioner; kInvalidArgument: the partitioner chose a partition that does not exist; else
  // as Partition::Append. If OffsetOf(status) says one, the record is published there, only
  // not durable: do not send it again.
  absl::StatusOr<RecordMetadata> Send(std::string_view topic, const Record& record,
                                      const SendOptions& options = {}) const;

  // A result for each record, in order. Those that go to one partition are one batch there:
  // all of them or none, by one store. Between partitions there is no such promise.
  std::vector<absl::StatusOr<RecordMetadata>> SendBatch(std::string_view topic,
                                                        std::span<const Record> records,
                                                        const SendOptions& options = {}) const;

  // Returns once everything is durable that was published, by whomever, in the topics that this
  // producer has sent to. It waits for the disk without a timeout. An error: as Partition::Flush.
  absl::Status Flush() const;

 private:
  friend class Broker;
  explicit Producer(std::shared_ptr<internal::ProducerState> state) : state_(std::move(state)) {}

  std::shared_ptr<internal::ProducerState> state_ = {};
};

}  // namespace cordwood

#endif  // CORDWOOD_PRODUCER_H_
