// Apache Kafka: one broker on the loopback, whose address is in $CORDWOOD_KAFKA, a topic of one
// partition, and librdkafka.
//
// As librdkafka's guide says for throughput: records are queued and go out in large batches
// (linger.ms 5, its default, and batches of up to 1 MB), with acks=1, as there is one broker. An
// append is done once the broker has said that it has the record, which Finish() waits for; so the
// broker makes the batches, and there is no other work with them. For latency linger.ms is 0.
// Durable: flush.messages=1 makes the broker sync before it answers, and each record is waited for.
// The consumer checks checksums (check.crcs).

#include <librdkafka/rdkafka.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "benchmarks/peers/latency.h"
#include "benchmarks/peers/peer.h"

namespace cordwood::peers {
namespace {

constexpr int kTimeoutMs = 60'000;

[[noreturn]] void Fail(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

template <auto kDestroy>
struct Destroy {
  template <class T>
  void operator()(T* at) const {
    kDestroy(at);
  }
};
using Client = std::unique_ptr<rd_kafka_t, Destroy<rd_kafka_destroy>>;
using Settings = std::vector<std::pair<const char*, const char*>>;

Client Connect(rd_kafka_type_t type, const Settings& settings) {
  char error[512];
  const char* broker = std::getenv("CORDWOOD_KAFKA");
  if (broker == nullptr) Fail("CORDWOOD_KAFKA has to say where the broker is");
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  const auto set = [&](const char* name, const char* value) {
    if (rd_kafka_conf_set(conf, name, value, error, sizeof error) != RD_KAFKA_CONF_OK) Fail(error);
  };
  set("bootstrap.servers", broker);
  for (const auto& [name, value] : settings) set(name, value);
  if (type == RD_KAFKA_PRODUCER) {
    rd_kafka_conf_set_dr_msg_cb(conf, [](rd_kafka_t*, const rd_kafka_message_t* message, void*) {
      if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) Fail(rd_kafka_err2str(message->err));
    });
  }
  Client client(rd_kafka_new(type, conf, error, sizeof error));
  if (client == nullptr) Fail(error);
  return client;
}

// A topic of one partition; it may be there.
void MakeTopic(rd_kafka_t* client, const std::string& name, bool durable) {
  char error[512];
  rd_kafka_NewTopic_t* topic = rd_kafka_NewTopic_new(name.c_str(), 1, 1, error, sizeof error);
  if (topic == nullptr) Fail(error);
  if (durable) rd_kafka_NewTopic_set_config(topic, "flush.messages", "1");
  rd_kafka_queue_t* queue = rd_kafka_queue_new(client);
  rd_kafka_CreateTopics(client, &topic, 1, nullptr, queue);
  rd_kafka_event_t* event = rd_kafka_queue_poll(queue, kTimeoutMs);
  if (event == nullptr) Fail("the broker does not answer");
  std::size_t count = 0;
  const rd_kafka_CreateTopics_result_t* result = rd_kafka_event_CreateTopics_result(event);
  const rd_kafka_topic_result_t** topics =
      result == nullptr ? nullptr : rd_kafka_CreateTopics_result_topics(result, &count);
  if (count != 1) Fail(rd_kafka_event_error_string(event));
  const rd_kafka_resp_err_t code = rd_kafka_topic_result_error(topics[0]);
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
    Fail(rd_kafka_err2str(code));
  }
  rd_kafka_event_destroy(event);
  rd_kafka_queue_destroy(queue);
  rd_kafka_NewTopic_destroy(topic);
}

// Reads a topic from its start on.
class Reader {
 public:
  explicit Reader(const std::string& topic)
      : client_(Connect(RD_KAFKA_CONSUMER, {{"group.id", "peer"},
                                            {"enable.auto.commit", "false"},
                                            {"enable.partition.eof", "true"},
                                            {"check.crcs", "true"}})) {
    rd_kafka_poll_set_consumer(client_.get());
    rd_kafka_topic_partition_list_t* list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic.c_str(), 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    if (rd_kafka_assign(client_.get(), list) != RD_KAFKA_RESP_ERR_NO_ERROR) Fail("no assignment");
    rd_kafka_topic_partition_list_destroy(list);
    queue_ = rd_kafka_queue_get_consumer(client_.get());
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() {
    rd_kafka_queue_destroy(queue_);
    rd_kafka_consumer_close(client_.get());
  }

  // f(value) for each; true at the end. False: it failed.
  template <class F>
  bool ToEnd(F f) {
    // It waits until there are so many, or the time is over: so the time is short.
    constexpr int kWaitMs = 1;
    std::vector<rd_kafka_message_t*> messages(1'000);
    for (int waits = 0; waits < kTimeoutMs / kWaitMs;) {
      const ssize_t count =
          rd_kafka_consume_batch_queue(queue_, kWaitMs, messages.data(), messages.size());
      if (count < 0) return false;
      waits = count == 0 ? waits + 1 : 0;
      bool at_end = false, failed = false;
      for (ssize_t i = 0; i < count; ++i) {
        rd_kafka_message_t* message = messages[static_cast<std::size_t>(i)];
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
          f(std::string_view(static_cast<const char*>(message->payload), message->len));
        } else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
          at_end = true;
        } else {
          failed = true;
        }
        rd_kafka_message_destroy(message);
      }
      if (failed) return false;
      if (at_end) return true;
    }
    return false;
  }

  std::optional<std::int64_t> Next() {
    for (;;) {
      rd_kafka_message_t* message = rd_kafka_consumer_poll(client_.get(), kTimeoutMs);
      if (message == nullptr) return std::nullopt;
      std::optional<std::int64_t> sent;
      if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        sent = SentAt(std::string_view(static_cast<const char*>(message->payload), message->len));
      }
      const bool at_end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
      rd_kafka_message_destroy(message);
      if (!at_end) return sent;
    }
  }

 private:
  Client client_;
  rd_kafka_queue_t* queue_ = nullptr;
};

class KafkaPeer {
 public:
  static constexpr bool kHasBatches = false;
  static constexpr bool kHasDurable = true;
  static std::string Version() { return std::string("librdkafka ") + rd_kafka_version_str(); }

  // The directory's name is the topic's.
  KafkaPeer(const std::filesystem::path& directory, bool durable, bool at_once = false)
      : topic_name_(directory.filename().string()),
        durable_(durable),
        client_(Connect(RD_KAFKA_PRODUCER, {{"acks", "1"},
                                            {"linger.ms", durable || at_once ? "0" : "5"},
                                            {"batch.size", "1000000"},
                                            {"queue.buffering.max.messages", "1000000"},
                                            {"queue.buffering.max.kbytes", "1048576"}})) {
    MakeTopic(client_.get(), topic_name_, durable);
    topic_.reset(rd_kafka_topic_new(client_.get(), topic_name_.c_str(), nullptr));
  }

  bool Append(std::string_view value) {
    while (rd_kafka_produce(topic_.get(), 0, RD_KAFKA_MSG_F_COPY, const_cast<char*>(value.data()),
                            value.size(), nullptr, 0, nullptr) != 0) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) return false;
      rd_kafka_poll(client_.get(), 10);
    }
    rd_kafka_poll(client_.get(), 0);
    return !durable_ || Finish();
  }
  bool Finish() { return rd_kafka_flush(client_.get(), kTimeoutMs) == RD_KAFKA_RESP_ERR_NO_ERROR; }

  template <class F>
  bool ReadAll(F f) {
    return Reader(topic_name_).ToEnd(f);
  }

  static int MeasureLatency(const Job& job) {
    KafkaPeer peer(job.directory, false, /*at_once=*/true);
    Reader reader(peer.topic_name_);
    const int code = MeasureOneByOne(
        job, [&](std::string_view value) { return peer.Append(value); },
        [&] { return reader.Next(); });
    return peer.Finish() ? code : 1;
  }

 private:
  const std::string topic_name_;
  const bool durable_;
  Client client_;
  std::unique_ptr<rd_kafka_topic_t, Destroy<rd_kafka_topic_destroy>> topic_;
};

}  // namespace
}  // namespace cordwood::peers

int main(int argc, char** argv) {
  return cordwood::peers::Main<cordwood::peers::KafkaPeer>(argc, argv);
}
