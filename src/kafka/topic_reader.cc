#include "kafka/topic_reader.h"

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"

namespace cordwood::kafka::internal {
namespace {
constexpr std::size_t kBatch = 1000;
}  // namespace

std::optional<Source> SourceIn(const rd_kafka_message_t& message, std::string_view header) {
  rd_kafka_headers_t* headers = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
      rd_kafka_header_get_last(headers, std::string(header).c_str(), &value, &size) !=
          RD_KAFKA_RESP_ERR_NO_ERROR) {
    return std::nullopt;
  }
  return ParseSource(BytesOf(value, size).value_or(""));
}

std::optional<std::string_view> BytesOf(const void* data, std::size_t size) {
  if (data == nullptr) return std::nullopt;
  return std::string_view(static_cast<const char*>(data), size);
}

absl::StatusOr<TopicReader> TopicReader::Open(const ClusterOptions& cluster,
                                              std::string_view topic) {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<Client> client,
                            Client::Open(RD_KAFKA_CONSUMER, cluster,
                                         {{"auto.commit.enable", "false"},
                                          {"isolation.level", "read_committed"},
                                          {"enable.partition.eof", "true"},
                                          // No silent jump where records are gone.
                                          {"auto.offset.reset", "error"}}));
  TopicReader reader(std::move(client));
  CORDWOOD_ASSIGN_OR_RETURN(reader.topic_, reader.client_->OpenTopic(topic));
  reader.queue_.reset(rd_kafka_queue_new(reader.client_->get()));
  return reader;
}

TopicReader::~TopicReader() {
  while (!started_.empty()) Stop(*started_.begin());
}

absl::Status TopicReader::Start(int partition, std::int64_t offset) {
  if (rd_kafka_consume_start_queue(topic_.get(), partition, offset, queue_.get()) != 0) {
    return StatusOf(rd_kafka_last_error(),
                    absl::StrCat("reading Kafka partition ", rd_kafka_topic_name(topic_.get()), "-",
                                 partition, " from ", offset));
  }
  started_.insert(partition);
  return absl::OkStatus();
}

void TopicReader::Stop(int partition) {
  rd_kafka_consume_stop(topic_.get(), partition);
  started_.erase(partition);
}

Owned<rd_kafka_message_t> TopicReader::Next(absl::Duration timeout) {
  if (next_ == batch_.size()) {
    client_->Poll(absl::ZeroDuration());
    batch_.clear();
    next_ = 0;
    // The first alone: for a batch librdkafka waits until it is full.
    rd_kafka_message_t* const first = rd_kafka_consume_queue(queue_.get(), ToMillis(timeout));
    if (first == nullptr) return nullptr;
    batch_.emplace_back(first);
    rd_kafka_message_t* messages[kBatch];
    const ssize_t got = rd_kafka_consume_batch_queue(queue_.get(), 0, messages, kBatch);
    for (ssize_t i = 0; i < got; ++i) batch_.emplace_back(messages[i]);
  }
  return std::move(batch_[next_++]);
}

}  // namespace cordwood::kafka::internal
