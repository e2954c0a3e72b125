#include "cordwood/partitioner.h"

#include <unistd.h>

#include <array>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"

namespace cordwood {
namespace {

struct KindName {
  internal::PartitionerKind kind;
  std::string_view name;
};
constexpr KindName kKindNames[] = {
    {internal::PartitionerKind::kXxh3, "xxh3"},
    {internal::PartitionerKind::kMurmur2, "murmur2"},
    {internal::PartitionerKind::kRoundRobin, "round-robin"},
};

// Different for every producer of every process: many short-lived ones spread evenly.
std::uint64_t RandomSeed() {
  static std::atomic<std::uint64_t> made{0};
  const std::array<std::uint64_t, 3> from = {
      made.fetch_add(1, std::memory_order_relaxed),
      static_cast<std::uint64_t>(absl::GetCurrentTimeNanos()),
      static_cast<std::uint64_t>(getpid()),
  };
  return os::Hash64(from.data(), sizeof(from));
}

}  // namespace

// After apache/kafka, clients/src/main/java/org/apache/kafka/common/utils/Utils.java, murmur2(),
// which is Austin Appleby's MurmurHash2 (public domain).
std::int32_t Murmur2(std::string_view bytes) {
  constexpr std::uint32_t kSeed = 0x9747b28c;
  constexpr std::uint32_t kMultiplier = 0x5bd1e995;
  constexpr int kShift = 24;

  std::uint32_t hash = kSeed ^ static_cast<std::uint32_t>(bytes.size());
  while (bytes.size() >= 4) {
    std::uint32_t word = internal::LoadU32(bytes.data());
    word *= kMultiplier;
    word ^= word >> kShift;
    word *= kMultiplier;
    hash *= kMultiplier;
    hash ^= word;
    bytes.remove_prefix(4);
  }
  if (!bytes.empty()) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      hash ^= std::uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    }
    hash *= kMultiplier;
  }
  hash ^= hash >> 13;
  hash *= kMultiplier;
  hash ^= hash >> 15;
  return static_cast<std::int32_t>(hash);
}

namespace internal {

StickyState::StickyState() : StickyState(RandomSeed()) {}

std::optional<PartitionerKind> PartitionerKindOf(std::string_view name) {
  for (const KindName& entry : kKindNames) {
    if (entry.name == name) return entry.kind;
  }
  return std::nullopt;
}

int PartitionForKey(std::string_view partitioner_name, std::string_view key, int partition_count) {
  const auto kind = PartitionerKindOf(partitioner_name);
  return PartitionForKey(kind.value_or(PartitionerKind::kXxh3), key, partition_count);
}

std::string_view BuiltInPartitioner::name() const {
  for (const KindName& entry : kKindNames) {
    if (entry.kind == kind_) return entry.name;
  }
  return "";
}

absl::StatusOr<std::shared_ptr<Partitioner>> MakePartitioner(std::string_view name,
                                                             std::optional<std::uint64_t> seed) {
  const std::optional<PartitionerKind> kind = PartitionerKindOf(name);
  if (!kind) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no partitioner \"", absl::CHexEscape(absl::string_view(name.data(), name.size())),
        "\" is built in, only \"xxh3\", \"murmur2\" and \"round-robin\"; for a topic with "
        "another, ProducerOptions::partitioner has to have it"));
  }
  if (seed) return std::make_shared<BuiltInPartitioner>(*kind, *seed);
  return std::make_shared<BuiltInPartitioner>(*kind);
}

}  // namespace internal
}  // namespace cordwood
