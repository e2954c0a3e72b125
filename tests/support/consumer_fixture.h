// A directory with topics, and consumers in it, in a few words.
//
//   World world({{"orders", 2}});
//   world.Send(0, "a");
//   Consumer consumer = world.Assigned();
//   CHECK(Values(consumer.Poll(kLong).value()) == List{"a"});

#ifndef CORDWOOD_TESTS_SUPPORT_CONSUMER_FIXTURE_H_
#define CORDWOOD_TESTS_SUPPORT_CONSUMER_FIXTURE_H_

#include <poll.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/says.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace testing {}  // namespace testing

namespace consumer_testing {

using namespace cordwood::testing;
using List = std::vector<std::string>;
using Partitions = std::vector<TopicPartition>;

// Of a Poll that has something to return: it returns at once.
inline constexpr absl::Duration kLong = absl::Seconds(10);
// Of a Poll that has nothing.
inline constexpr absl::Duration kShort = absl::Milliseconds(30);

inline List Values(const RecordBatch& batch) {
  List values;
  for (const RecordView& record : batch) values.emplace_back(record.value().value_or("none"));
  return values;
}

inline bool IsReadable(int fd, absl::Duration timeout = absl::ZeroDuration()) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&entry, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) == 1;
}

class World {
 public:
  explicit World(const std::map<std::string, int>& topics = {{"orders", 1}},
                 const BrokerOptions& options = {})
      : broker(Broker::Open(dir.path() / "data", options).value()) {
    for (const auto& [name, partitions] : topics) {
      broker.CreateTopic(name, {.partitions = partitions}).value();
    }
  }

  Partition Log(int partition = 0, const std::string& topic = "orders") const {
    return broker.OpenTopic(topic).value().partition(partition);
  }
  void Send(int partition, const std::string& value, const std::string& topic = "orders") const {
    REQUIRE(Log(partition, topic).Append({.value = value}).ok());
  }
  void SendMany(int partition, int records) const {
    const Partition log = Log(partition);
    for (int i = 0; i < records; ++i) {
      REQUIRE(log.Append({.value = std::to_string(i)}).ok());
    }
  }
  Partitions All(const std::string& topic = "orders") const {
    Partitions all;
    const int partitions = broker.OpenTopic(topic).value().partition_count();
    for (int p = 0; p < partitions; ++p) all.push_back({topic, p});
    return all;
  }
  Consumer Assigned(const ConsumerOptions& options = {}) const {
    Consumer consumer = broker.NewConsumer(options).value();
    REQUIRE(consumer.Assign(All()).ok());
    return consumer;
  }
  Consumer Subscribed(ConsumerOptions options = {}, const List& topics = {"orders"}) const {
    options.group = "billing";
    Consumer consumer = broker.NewConsumer(options).value();
    REQUIRE(consumer.Subscribe(topics).ok());
    return consumer;
  }
  // The first byte of the first record's value, in the file.
  void DamageFirstRecord(int partition) const {
    const std::filesystem::path file = dir.path() / "data" / "topics" / "orders" /
                                       std::to_string(partition) / "00000000000000000000.log";
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    constexpr std::streamoff kFirstValue = 1024 + 48;
    stream.seekg(kFirstValue);
    const char byte = static_cast<char>(stream.get() ^ 0x5a);
    stream.seekp(kFirstValue);
    stream.put(byte);
  }

  TempDir dir;
  Broker broker;
};

}  // namespace consumer_testing
}  // namespace cordwood

#endif  // CORDWOOD_TESTS_SUPPORT_CONSUMER_FIXTURE_H_
