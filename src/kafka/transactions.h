// A producer of one target topic whose records count together or not at all.
//
//   Transactions out = Transactions::Open(cluster, "cordwood.to-kafka.<topic id>", "orders");
//   out.Begin();
//   for (...) out.Send(record, 3, source);   // the record's bytes must stay until Finish
//   out.Finish(stop);
//
// After any error of Begin, Send or Finish the only way on is another one, opened with the same id:
// it ends what this one has left open. Who opens no other calls Abort.
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_KAFKA_TRANSACTIONS_H_
#define CORDWOOD_KAFKA_TRANSACTIONS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/record.h"
#include "kafka/client.h"
#include "kafka/marks.h"

namespace cordwood::kafka::internal {

// The property transaction.timeout.ms, or librdkafka's default for it. kInvalidArgument.
absl::StatusOr<absl::Duration> TransactionTimeout(const ClusterOptions& cluster);

// Whether one who is to stop waits no longer for what is under way: nothing of it has arrived for
// half a second, or it is all too long.
bool GivesUp(absl::Duration since_stop, absl::Duration since_progress);

class Transactions {
 public:
  // Why a record did not arrive. `for_good`: the cluster refuses it, or another one of the same
  // batch, and will do so again.
  struct Failure {
    rd_kafka_resp_err_t error = RD_KAFKA_RESP_ERR_NO_ERROR;
    bool for_good = false;
  };

  // Ends what anybody before has left open under this id, and shuts him out; waits for the cluster
  // as long as it takes. kCancelled: it was stopped. `on_error` is told what librdkafka complains
  // of, inside the calls below.
  static absl::StatusOr<std::unique_ptr<Transactions>> Open(
      const ClusterOptions& cluster, const std::string& id, std::string_view target,
      std::function<void(const std::string&)> on_error, std::stop_token stop);

  absl::Status Begin();
  // Waits while librdkafka's queue is full. kCancelled: it was stopped.
  absl::Status Send(const RecordView& record, int partition, std::string_view source,
                    std::stop_token stop);
  // Waits for the outcome as long as it takes. kAborted: somebody else has opened with the id, or
  // it took so long that the cluster gave it up; kCancelled: it was stopped, and the cluster takes
  // nothing any more (GivesUp). After an error it may be committed all the same: read it back.
  absl::Status Finish(std::stop_token stop);

  // Gives up what is under way, and asks the cluster once to let go at once of what it has got:
  // else its readers wait for the end of the transaction's time.
  void Abort() const;

  // Reports of what was sent, those that are there.
  void Serve() const { client_->Poll(absl::ZeroDuration()); }
  // All of them, after an error; nothing is under way any more.
  void ServeAll() const;

  // Records that the cluster has taken, whether their transaction was committed or not.
  std::int64_t delivered() const { return delivered_; }
  // Of the target partitions sent to: the end that they had after our last record.
  const Ends& ends() const { return ends_; }
  // In order of time; whole after ServeAll.
  const std::vector<Failure>& failures() const { return failures_; }

 private:
  Transactions() = default;
  absl::Status WaitForDelivery(std::stop_token stop);
  void OnDelivery(const rd_kafka_message_t& message);
  absl::Status Failed(const rd_kafka_error_t& error) const;

  std::string what_ = {};  // for errors
  std::unique_ptr<Client> client_ = {};
  Owned<rd_kafka_topic_t> topic_ = {};
  Ends ends_ = {};
  std::int64_t delivered_ = 0;
  std::vector<Failure> failures_ = {};
};

}  // namespace cordwood::kafka::internal

#endif  // CORDWOOD_KAFKA_TRANSACTIONS_H_
