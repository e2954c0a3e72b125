// Reads partitions of one topic of a cluster, from offsets on: only what was committed there.
//
//   TopicReader reader = TopicReader::Open(cluster, "orders").value();
//   reader.Start(0, 4711);
//   Owned<rd_kafka_message_t> message = reader.Next(absl::Seconds(1));
//   if (message != nullptr && message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) ...
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_KAFKA_TOPIC_READER_H_
#define CORDWOOD_KAFKA_TOPIC_READER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kafka/client.h"
#include "kafka/marks.h"

namespace cordwood::kafka::internal {

// What the last header of that name says. None: it has none, or one of somebody else's.
std::optional<Source> SourceIn(const rd_kafka_message_t& message, std::string_view header);
// None: null, which is not the same as empty.
std::optional<std::string_view> BytesOf(const void* data, std::size_t size);

class TopicReader {
 public:
  static absl::StatusOr<TopicReader> Open(const ClusterOptions& cluster, std::string_view topic);
  TopicReader(TopicReader&&) noexcept = default;
  TopicReader& operator=(TopicReader&&) = delete;
  ~TopicReader();

  // Not yet started, or stopped. An offset that is not there any more is an error of Next.
  absl::Status Start(int partition, std::int64_t offset);
  void Stop(int partition);
  // A record, or in `err` the end of a partition (its offset is the next one that there will be)
  // or an error; null after the timeout. It must not outlive the reader.
  Owned<rd_kafka_message_t> Next(absl::Duration timeout);

  const Client& client() const { return *client_; }

 private:
  explicit TopicReader(std::unique_ptr<Client> client) : client_(std::move(client)) {}

  std::unique_ptr<Client> client_;
  Owned<rd_kafka_topic_t> topic_ = {};
  Owned<rd_kafka_queue_t> queue_ = {};
  std::set<int> started_ = {};
  std::vector<Owned<rd_kafka_message_t>> batch_ = {};
  std::size_t next_ = 0;  // of the batch: the first that was not given yet
};

}  // namespace cordwood::kafka::internal

#endif  // CORDWOOD_KAFKA_TOPIC_READER_H_
