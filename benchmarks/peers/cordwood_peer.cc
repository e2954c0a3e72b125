// cordwood as a program has it that changes no option: a topic of one partition, checksums on.

#include <memory>
#include <vector>

#include "benchmarks/peers/latency.h"
#include "benchmarks/peers/peer.h"
#include "cordwood/cordwood.h"

namespace cordwood::peers {
namespace {

class CordwoodPeer {
 public:
  static constexpr bool kHasBatches = true;
  static constexpr bool kHasDurable = true;
  static std::string Version() { return "cordwood " CORDWOOD_PEER_VERSION; }

  CordwoodPeer(const std::filesystem::path& directory, bool durable)
      : broker_(Broker::Open(directory).value()),
        partition_(broker_.OpenOrCreateTopic("events").value().partition(0)),
        options_{.durability = durable ? Durability::kDurable : Durability::kPublished} {}

  bool Append(std::string_view value) { return partition_.Append({.value = value}, options_).ok(); }
  bool AppendBatch(std::span<const std::string_view> values) {
    batch_.clear();
    for (const std::string_view value : values) batch_.push_back({.value = value});
    return partition_.AppendBatch(batch_, options_).ok();
  }
  bool Finish() { return true; }

  template <class F>
  bool ReadAll(F f) {
    PartitionReader reader = partition_.Read(0).value();
    for (const RecordView& record : reader) f(*record.value());
    return reader.status().ok() && reader.gaps().empty();
  }

  static int MeasureLatency(const Job& job) {
    CordwoodPeer peer(job.directory, false);
    Consumer consumer = peer.broker_.NewConsumer().value();
    if (!consumer.Assign({{"events", 0}}).ok()) return 1;
    RecordBatch batch;
    return MeasureOneByOne(
        job, [&](std::string_view value) { return peer.Append(value); },
        [&]() -> std::optional<std::int64_t> {
          do {
            if (!consumer.PollInto(batch, absl::ZeroDuration()).ok()) return std::nullopt;
          } while (batch.empty());
          return SentAt(*batch.begin()->value());
        });
  }

 private:
  Broker broker_;
  Partition partition_;
  const AppendOptions options_;
  std::vector<Record> batch_;
};

}  // namespace
}  // namespace cordwood::peers

int main(int argc, char** argv) {
  return cordwood::peers::Main<cordwood::peers::CordwoodPeer>(argc, argv);
}
