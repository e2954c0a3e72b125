// Share consumers in a few words.
//
//   ShareWorld world;
//   world.Send(0, "a");
//   ShareConsumer worker = world.Worker();
//   CHECK(Values(worker.Acquire(kLong).value()) == List{"a"});

#ifndef CORDWOOD_TESTS_SUPPORT_SHARE_FIXTURE_H_
#define CORDWOOD_TESTS_SUPPORT_SHARE_FIXTURE_H_

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cordwood/group/share.h"
#include "tests/support/consumer_fixture.h"

namespace cordwood::share_testing {

using namespace cordwood::consumer_testing;

inline List Values(const AcquiredBatch& batch) {
  List values;
  for (const AcquiredRecord& record : batch) values.emplace_back(record->value().value_or("none"));
  return values;
}
inline std::vector<int> Counts(const AcquiredBatch& batch) {
  std::vector<int> counts;
  for (const AcquiredRecord& record : batch) counts.push_back(record.delivery_count());
  return counts;
}

// Of the group "billing"; -1: there is none.
inline std::int64_t LagOf(const Broker& broker) {
  const absl::StatusOr<GroupDescription> group = broker.DescribeGroup("billing");
  if (!group.ok()) return -1;
  std::int64_t lag = 0;
  for (const PartitionProgress& p : group->partitions) lag += p.lag;
  return lag;
}

// A dead letter: what its headers say, without "cordwood.dlq.", and its value.
using Letter = std::map<std::string, std::string>;

class ShareWorld : public World {
 public:
  explicit ShareWorld(const std::map<std::string, int>& topics = {{"orders", 1}, {"dead", 1}},
                      const BrokerOptions& options = {})
      : World(topics, options) {}

  // With a dead-letter topic.
  ShareConsumer Worker(ShareConsumerOptions options = {}) const {
    options.group = "billing";
    if (options.dead_letter_topic.empty()) options.dead_letter_topic = "dead";
    ShareConsumer worker = broker.NewShareConsumer(options).value();
    REQUIRE(worker.Subscribe({"orders"}).ok());
    return worker;
  }
  void SendKey(const std::string& key, const std::string& value) const {
    REQUIRE(Log().Append({.key = key, .value = value}).ok());
  }
  std::vector<Letter> Letters() const {
    constexpr std::string_view kPrefix = "cordwood.dlq.";
    std::vector<Letter> letters;
    PartitionReader reader = Log(0, "dead").Read(0).value();
    for (const RecordView& record : reader) {
      Letter& letter = letters.emplace_back();
      letter["value"] = std::string(record.value().value_or("none"));
      for (const Header& header : record.headers()) {
        std::string_view name = header.key;
        if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
        letter[std::string(name)] = std::string(header.value.bytes());
      }
    }
    return letters;
  }
  std::int64_t Lag() const { return LagOf(broker); }
  std::filesystem::path ShareFile(int partition) const {
    for (const std::filesystem::directory_entry& entry :
         std::filesystem::directory_iterator(dir.path() / "data" / "groups" / "billing")) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("share-") && name.ends_with("-" + std::to_string(partition))) {
        return entry.path();
      }
    }
    return {};
  }
  // As a process leaves the file that is killed there, or stopped.
  void Overwrite(std::uint64_t at, std::uint64_t word, int partition = 0) const {
    std::fstream file(ShareFile(partition), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(at));
    file.write(reinterpret_cast<const char*>(&word), sizeof word);
  }
};

// The one record of an Acquire, with the batch that it lives in.
struct One {
  explicit One(ShareConsumer& worker, absl::Duration timeout = kLong)
      : batch(worker.Acquire(timeout).value()) {
    REQUIRE(batch.size() == 1);
  }
  const AcquiredRecord& operator*() const { return *batch.begin(); }
  AcquiredBatch batch;
};

}  // namespace cordwood::share_testing

#endif  // CORDWOOD_TESTS_SUPPORT_SHARE_FIXTURE_H_
