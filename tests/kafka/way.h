// A local topic "orders", the mock cluster with one of the same name, and the way between them.
//
//   Way way;
//   way.Send("a");
//   REQUIRE(way.Forward().ok());
//   CHECK(way.There() == List{"a"});

#ifndef CORDWOOD_TESTS_KAFKA_WAY_H_
#define CORDWOOD_TESTS_KAFKA_WAY_H_

#include <string>
#include <vector>

#include "cordwood/cordwood.h"
#include "cordwood/kafka/forwarder.h"
#include "tests/catch.h"
#include "tests/kafka/mock_cluster.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

struct Way {
  explicit Way(int partitions = 1) : Way(partitions, partitions) {}
  Way(int here, int there) : topic(broker.CreateTopic("orders", {.partitions = here}).value()) {
    mock.CreateTopic("orders", there);
  }

  void Send(const std::string& value, int partition = 0) const {
    REQUIRE(topic.partition(partition).Append({.key = "k", .value = value}).ok());
  }
  kafka::ForwarderOptions Options() const {
    return {.cluster = mock.cluster(), .group = "to-kafka", .routes = {{.topic = "orders"}}};
  }
  absl::Status Forward(const kafka::ForwarderOptions& options) const {
    return kafka::KafkaForwarder::Open(broker, options).value().RunToEnd();
  }
  absl::Status Forward() const { return Forward(Options()); }
  // The forwarder has left, and is counted as away for a tick of the clock.
  void Reset(const ResetTo& to) const {
    absl::Status status;
    do {
      status = broker.ResetOffsets("to-kafka", to).status();
    } while (absl::IsFailedPrecondition(status));
    REQUIRE(status.ok());
  }
  std::vector<std::string> There(int partition = 0) const {
    return mock.Values("orders", partition);
  }

  TempDir dir;
  Broker broker = Broker::Open(dir / "data").value();
  MockCluster mock;
  Topic topic;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_KAFKA_WAY_H_
