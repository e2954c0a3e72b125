// Which partition a record goes to, when the record itself does not say.
//
//   class ByRegion : public cordwood::Partitioner {
//    public:
//     std::string_view name() const override { return "by-region"; }
//     int Choose(std::string_view, const cordwood::Record& record, int count) override {
//       return record.key.get() == "eu" ? 0 : 1 % count;
//     }
//   };
//   broker.CreateTopic("orders", {.partitions = 2, .partitioner = "by-region"});
//   broker.NewProducer({.partitioner = std::make_shared<ByRegion>()});
//
// The choice belongs to the topic, which keeps the name; a producer with another one is refused.
// Built in are:
//
//   "xxh3"         XXH3-64(key) modulo the count; the default
//   "murmur2"      as Kafka's Java client, byte for byte
//   "round-robin"  the next one for every record, key or not
//
// Without a key the first two are sticky: they stay on one partition for 16,384 bytes.
//
// Thread safety: Choose() is called by every thread that sends, at the same time.
// What outlives what: a Producer shares its Partitioner.

#ifndef CORDWOOD_PARTITIONER_H_
#define CORDWOOD_PARTITIONER_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "cordwood/os/checksum.h"
#include "cordwood/record.h"

namespace cordwood {

// A user's own choice, for ProducerOptions::partitioner.
class Partitioner {
 public:
  virtual ~Partitioner() = default;

  // Kept in the topic's config: letters, digits and . _ - as in every name.
  virtual std::string_view name() const ABSL_ATTRIBUTE_LIFETIME_BOUND = 0;

  // From 0 to partition_count - 1; the send of a record with any other is kInvalidArgument. It is
  // not asked for a record that names its partition.
  virtual int Choose(std::string_view topic, const Record& record, int partition_count) = 0;
};

// MurmurHash2 with the seed of Kafka's Java client (0x9747b28c), and signed as there. Kafka's
// partition of a key is (Murmur2(key) & 0x7fffffff) modulo the count.
std::int32_t Murmur2(std::string_view bytes);

namespace internal {

// How many bytes without a key go to one partition before the next one has its turn: Kafka's
// batch.size. Small enough to spread, large enough that readers get runs of records.
inline constexpr std::uint64_t kStickyBytes = 16'384;

// The partition that records without a key go to. It is one counter of bytes: its high bits count
// the partitions, so that a choice is one atomic addition.
//
// Thread safety: any thread. Relaxed throughout: the choice orders nothing.
class StickyState {
 public:
  StickyState();  // begins at a random partition
  explicit StickyState(std::uint64_t seed) : position_((seed & 0xFFFFFFFF) * kStickyBytes) {}

  // `bytes` counts what is about to go there. A record of any size is at most one whole turn, else
  // records of two turns each would pass over every other partition.
  int Choose(int partition_count, std::size_t bytes) {
    const std::uint64_t step = std::clamp<std::uint64_t>(bytes, 1, kStickyBytes);
    const std::uint64_t position = position_.fetch_add(step, std::memory_order_relaxed);
    return At(position, partition_count);
  }

  // A batch ends: the next record goes to another partition.
  void NextBatch(int partition_count) {
    if (partition_count <= 1) return;
    std::uint64_t position = position_.load(std::memory_order_relaxed);
    while (!position_.compare_exchange_weak(position, (position / kStickyBytes + 1) * kStickyBytes,
                                            std::memory_order_relaxed)) {
    }
  }

 private:
  static int At(std::uint64_t position, int partition_count) {
    if (partition_count <= 1) return 0;
    return static_cast<int>(position / kStickyBytes % static_cast<std::uint64_t>(partition_count));
  }

  std::atomic<std::uint64_t> position_;
};

enum class PartitionerKind { kXxh3, kMurmur2, kRoundRobin };

// None: the name is that of a user's own.
std::optional<PartitionerKind> PartitionerKindOf(std::string_view name);

// Round-robin has no place for a key; it hashes as xxh3.
inline int PartitionForKey(PartitionerKind kind, std::string_view key, int partition_count) {
  if (partition_count <= 1) return 0;
  const auto count = static_cast<std::uint64_t>(partition_count);
  const std::uint64_t hash = kind == PartitionerKind::kMurmur2
                                 ? static_cast<std::uint64_t>(Murmur2(key) & 0x7FFFFFFF)
                                 : os::Hash64(key.data(), key.size());
  return static_cast<int>(hash % count);
}

// For Topic::PartitionFor, which has the name alone. It cannot ask a user's own partitioner; keys
// of such a topic, and of a round-robin one, hash as xxh3.
int PartitionForKey(std::string_view partitioner_name, std::string_view key, int partition_count);

// What a record counts in a sticky partitioner's turn.
inline std::size_t PartitionedBytes(const Record& record) {
  std::size_t bytes = record.value.get().value_or(std::string_view()).size();
  record.headers.ForEach([&bytes](const Header& header) {
    bytes += header.key.size() + header.value.get().value_or(std::string_view()).size();
  });
  return bytes;
}

// The built-in ones. A Producer keeps one per topic, knows its type, and so calls Choose directly.
class BuiltInPartitioner final : public Partitioner {
 public:
  explicit BuiltInPartitioner(PartitionerKind kind) : kind_(kind) {}
  BuiltInPartitioner(PartitionerKind kind, std::uint64_t seed) : kind_(kind), sticky_(seed) {}

  std::string_view name() const override;
  PartitionerKind kind() const { return kind_; }

  int Choose(std::string_view /*topic*/, const Record& record, int partition_count) override {
    // A whole turn per record is round-robin.
    if (kind_ == PartitionerKind::kRoundRobin) return sticky_.Choose(partition_count, kStickyBytes);
    if (const auto key = record.key.get()) return PartitionForKey(kind_, *key, partition_count);
    return sticky_.Choose(partition_count, PartitionedBytes(record));
  }

  // After every SendBatch. Round-robin has no runs that end.
  void NextBatch(int partition_count) {
    if (kind_ != PartitionerKind::kRoundRobin) sticky_.NextBatch(partition_count);
  }

 private:
  const PartitionerKind kind_;
  StickyState sticky_ = {};
};

// A BuiltInPartitioner. kInvalidArgument: none has that name. With a seed, a simulated machine gets
// the same course again; without one, each begins at a random partition.
absl::StatusOr<std::shared_ptr<Partitioner>> MakePartitioner(
    std::string_view name, std::optional<std::uint64_t> seed = {});

}  // namespace internal
}  // namespace cordwood

#endif  // CORDWOOD_PARTITIONER_H_
