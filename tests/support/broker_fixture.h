// Brokers without threads, so that nothing happens that a test did not ask for.
//
//   TempDir dir;
//   Broker broker = OpenQuiet(dir / "data");
//
//   TwoBrokers b({.partitions = 2});
//   Append(b.topic, 0, "a");
//   CHECK(ValuesOf(b.elsewhere.partition(0)) == std::vector<std::string>{"a"});

#ifndef CORDWOOD_TESTS_SUPPORT_BROKER_FIXTURE_H_
#define CORDWOOD_TESTS_SUPPORT_BROKER_FIXTURE_H_

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cordwood/broker.h"
#include "cordwood/os/storage.h"
#include "tests/catch.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

inline const BrokerOptions kQuiet = {.background_threads = false};

inline Broker OpenQuiet(const std::filesystem::path& path,
                        std::shared_ptr<Storage> storage = nullptr) {
  return Broker::Open(path, {.background_threads = false, .storage = std::move(storage)}).value();
}

// Two brokers on one directory know as little of each other as two processes.
struct TwoBrokers {
  explicit TwoBrokers(const TopicConfig& config = {}) {
    topic = one.CreateTopic("t", config).value();
    elsewhere = two.OpenTopic("t").value();
  }

  TempDir dir;
  Broker one = OpenQuiet(dir / "data");
  Broker two = OpenQuiet(dir / "data");
  Topic topic, elsewhere;
};

inline void Append(const Topic& topic, int partition, std::string_view value) {
  REQUIRE(topic.partition(partition).Append({.value = value}).ok());
}

inline std::vector<std::string> ValuesOf(const Partition& partition) {
  std::vector<std::string> values;
  PartitionReader reader = partition.Read(partition.start_offset()).value();
  for (const RecordView& record : reader) values.emplace_back(record.value().value());
  CHECK(reader.status().ok());
  return values;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_BROKER_FIXTURE_H_
