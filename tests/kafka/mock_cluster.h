// The cluster that librdkafka plays in memory, with faults on demand. It keeps what an aborted
// transaction has sent, so what a test aborts needs a real broker.
//
//   MockCluster mock;
//   mock.CreateTopic("orders", 3);
//   mock.Fail(MockCluster::kProduce, {RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION});

#ifndef CORDWOOD_TESTS_KAFKA_MOCK_CLUSTER_H_
#define CORDWOOD_TESTS_KAFKA_MOCK_CLUSTER_H_

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cordwood/kafka/cluster.h"
#include "kafka/topic_reader.h"
#include "tests/catch.h"

namespace cordwood::testing {

class MockCluster {
 public:
  // Requests, by Kafka's numbers.
  static constexpr std::int16_t kProduce = 0, kFetch = 1, kInitProducerId = 22,
                                kAddPartitionsToTxn = 24, kEndTxn = 26;

  MockCluster() {
    char reason[256];
    rd_kafka_conf_t* const conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", "127.0.0.1:1", nullptr, 0);  // else it warns
    rd_kafka_conf_set_log_cb(conf, nullptr);
    handle_ = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    REQUIRE(handle_ != nullptr);
    mock_ = rd_kafka_mock_cluster_new(handle_, 1);
    REQUIRE(mock_ != nullptr);
  }
  MockCluster(const MockCluster&) = delete;
  MockCluster& operator=(const MockCluster&) = delete;
  ~MockCluster() {
    rd_kafka_mock_cluster_destroy(mock_);
    rd_kafka_destroy(handle_);
  }

  void CreateTopic(const std::string& name, int partitions) {
    REQUIRE(rd_kafka_mock_topic_create(mock_, name.c_str(), partitions, 1) ==
            RD_KAFKA_RESP_ERR_NO_ERROR);
  }
  // The next requests of that kind fail so, one after the other.
  void Fail(std::int16_t request, const std::vector<rd_kafka_resp_err_t>& errors) {
    rd_kafka_mock_push_request_errors_array(mock_, request, errors.size(), errors.data());
  }
  void SetDown(bool is_down) {
    is_down ? rd_kafka_mock_broker_set_down(mock_, 1) : rd_kafka_mock_broker_set_up(mock_, 1);
  }
  kafka::ClusterOptions cluster() const {
    return {.properties = {{"bootstrap.servers", rd_kafka_mock_cluster_bootstraps(mock_)}}};
  }

  // Of one partition, from its start: values, "(none)" for a tombstone.
  std::vector<std::string> Values(const std::string& topic, int partition) const {
    std::vector<std::string> values;
    auto reader = kafka::internal::TopicReader::Open(cluster(), topic).value();
    const auto ends = reader.client().EndsOf(topic, partition, absl::Seconds(10)).value();
    if (ends.low == ends.high) return values;
    REQUIRE(reader.Start(partition, ends.low).ok());
    // Up to there: it may be long until it says that the partition ends.
    for (std::int64_t next = ends.low; next < ends.high;) {
      const auto message = reader.Next(absl::Seconds(30));
      REQUIRE(message != nullptr);
      REQUIRE(message->err == RD_KAFKA_RESP_ERR_NO_ERROR);
      values.emplace_back(
          kafka::internal::BytesOf(message->payload, message->len).value_or("(none)"));
      next = message->offset + 1;
    }
    return values;
  }

 private:
  rd_kafka_t* handle_ = nullptr;
  rd_kafka_mock_cluster_t* mock_ = nullptr;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_KAFKA_MOCK_CLUSTER_H_
