#include "cordwood/producer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cordwood/log/control.h"
#include "cordwood/log/log.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"
#include "producer_state.h"

namespace cordwood {
namespace internal {
namespace {

constexpr int kNoPartition = -1;

// The records of a batch that go to one partition, in order.
struct Share {
  int partition = 0;
  std::span<const Record> records;
  std::span<const std::size_t> places;  // of each in the batch
};

void AppendShare(log::TopicFiles& files, const Share& share, const AppendOptions& options,
                 std::vector<absl::StatusOr<RecordMetadata>>& results) {
  const absl::StatusOr<log::Log*> log = files.FindLog(share.partition);
  if (!log.ok()) {
    for (const std::size_t place : share.places) results[place] = log.status();
    return;
  }
  const absl::StatusOr<log::Appended> first = (*log)->AppendBatch(share.records, options);
  // Published and not durable: each one's own offset.
  const std::optional<Offset> published = OffsetOf(first.status());
  for (std::size_t i = 0; i < share.places.size(); ++i) {
    auto& result = results[share.places[i]];
    const auto delta = static_cast<Offset>(i);
    if (!first.ok()) {
      result = published ? At(first.status(), (*log)->name(), *published + delta) : first.status();
      continue;
    }
    const std::optional<absl::Time>& own = share.records[i].timestamp;
    const std::int64_t timestamp_ns =
        own.has_value() && !first->append_time ? TimeToNanos(*own) : first->timestamp_ns;
    result = RecordMetadata{.topic = files.name(),
                            .partition = share.partition,
                            .offset = first->offset + delta,
                            .timestamp = NanosToTime(timestamp_ns)};
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProducerState::Target>> ProducerState::MakeTarget(
    std::shared_ptr<log::TopicFiles> files) const {
  auto target = std::make_unique<Target>();
  target->files = std::move(files);
  const std::string& name = target->files->name();
  const std::string wanted = target->files->config().partitioner;
  if (options_.partitioner != nullptr) {
    const std::string own(options_.partitioner->name());
    if (own != wanted) {
      return absl::FailedPreconditionError(absl::StrCat(
          "topic ", name, " has the partitioner \"", wanted, "\", this producer has \"", own,
          "\": keys would go to other partitions than before"));
    }
    target->partitioner = options_.partitioner;
    return target;
  }
  // A simulated machine runs the same course again from the same seed.
  std::optional<std::uint64_t> seed;
  Storage& storage = *broker_->context().storage;
  if (!storage.is_operating_system()) {
    const os::Bits128 random = storage.Random128();
    seed.emplace();
    std::memcpy(&*seed, random.data(), sizeof *seed);
  }
  if (const auto kind = PartitionerKindOf(wanted)) {
    auto built_in = seed ? std::make_shared<BuiltInPartitioner>(*kind, *seed)
                         : std::make_shared<BuiltInPartitioner>(*kind);
    target->built_in = built_in.get();
    target->partitioner = std::move(built_in);
  } else {
    target->no_partitioner = absl::FailedPreconditionError(absl::StrCat(
        "topic ", name, " has the partitioner \"", wanted,
        "\", which is not built in, and ProducerOptions::partitioner has none; a record can only "
        "be sent if it names its partition"));
  }
  return target;
}

absl::StatusOr<ProducerState::Target*> ProducerState::FindSlow(std::string_view topic) {
  // Before the mutex: in a forked child, a thread of the parent may hold it for ever.
  CORDWOOD_RETURN_IF_ERROR(broker_->status());
  auto& recent = recent_[PlaceOf(topic)];
  {
    absl::ReaderMutexLock lock(&mutex_);
    if (const auto it = by_name_.find(topic); it != by_name_.end()) {
      recent.store(it->second, std::memory_order_release);
      return it->second;
    }
  }
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::TopicFiles> files,
                            broker_->directory().OpenTopic(topic));
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<Target> target, MakeTarget(std::move(files)));
  absl::MutexLock lock(&mutex_);
  const auto [it, is_new] = by_name_.emplace(topic, target.get());
  if (is_new) all_.push_back(std::move(target));
  // Release: pairs with the acquire in Find().
  recent.store(it->second, std::memory_order_release);
  return it->second;
}

void ProducerState::Renew(const Target& target) {
  absl::MutexLock lock(&mutex_);
  const std::string& name = target.files->name();
  if (const auto it = by_name_.find(name); it != by_name_.end() && it->second == &target) {
    by_name_.erase(it);
    recent_[PlaceOf(name)].store(nullptr, std::memory_order_release);
  }
}

inline absl::StatusOr<int> ProducerState::Choose(Target& target, const Record& record) {
  if (record.partition.has_value()) return *record.partition;
  if (ABSL_PREDICT_TRUE(target.built_in != nullptr)) {
    return target.built_in->Choose(target.files->name(), record, target.files->partitions());
  }
  return ChooseByUser(target, record);
}

absl::StatusOr<int> ProducerState::ChooseByUser(Target& target, const Record& record) {
  if (target.partitioner == nullptr) return target.no_partitioner;
  const int count = target.files->partitions();
  const int chosen = target.partitioner->Choose(target.files->name(), record, count);
  if (chosen >= 0 && chosen < count) return chosen;
  const std::string_view name = target.partitioner->name();
  return absl::InvalidArgumentError(absl::StrCat(
      "the partitioner \"", absl::string_view(name.data(), name.size()), "\" chose partition ",
      chosen, " of topic ", target.files->name(), ", which has ", count, ", from 0"));
}

absl::StatusOr<RecordMetadata> ProducerState::Send(std::string_view topic, const Record& record,
                                                   const SendOptions& options) {
  for (int attempt = 0;; ++attempt) {
    CORDWOOD_ASSIGN_OR_RETURN(Target * target, Find(topic));
    CORDWOOD_ASSIGN_OR_RETURN(const int partition, Choose(*target, record));
    CORDWOOD_ASSIGN_OR_RETURN(log::Log * log, target->files->FindLog(partition));
    absl::StatusOr<log::Appended> at = log->Append(record, ToAppend(options));
    if (ABSL_PREDICT_TRUE(at.ok())) {
      return RecordMetadata{.topic = target->files->name(),
                            .partition = partition,
                            .offset = at->offset,
                            .timestamp = NanosToTime(at->timestamp_ns)};
    }
    if (attempt > 0 || !absl::IsNotFound(at.status()) || !target->files->is_deleted()) {
      return std::move(at).status();
    }
    // Nothing was appended. There may be a new topic of that name.
    Renew(*target);
  }
}

std::vector<absl::StatusOr<RecordMetadata>> ProducerState::SendBatch(
    std::string_view topic, std::span<const Record> records, const SendOptions& options) {
  Results results(records.size());
  absl::StatusOr<Target*> found = Find(topic);
  if (found.ok() && (*found)->files->is_deleted()) {
    Renew(**found);
    found = Find(topic);
  }
  if (!found.ok()) {
    std::fill(results.begin(), results.end(), found.status());
    return results;
  }
  Target& target = **found;

  std::vector<int> partitions(records.size(), kNoPartition);
  std::vector<std::size_t> places;
  places.reserve(records.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    const absl::StatusOr<int> chosen = Choose(target, records[i]);
    if (!chosen.ok()) {
      results[i] = chosen.status();
      continue;
    }
    partitions[i] = *chosen;
    places.push_back(i);
  }
  if (target.built_in != nullptr) target.built_in->NextBatch(target.files->partitions());
  if (places.empty()) return results;

  const bool in_one = places.size() == records.size() &&
                      std::all_of(partitions.begin(), partitions.end(),
                                  [&](int partition) { return partition == partitions.front(); });
  if (in_one) {
    AppendShare(*target.files, {partitions.front(), records, places}, ToAppend(options), results);
    return results;
  }
  // Side by side what goes to one partition; a Record is a view, so copying one is cheap.
  std::stable_sort(places.begin(), places.end(),
                   [&](std::size_t a, std::size_t b) { return partitions[a] < partitions[b]; });
  std::vector<Record> sorted;
  sorted.reserve(places.size());
  for (const std::size_t place : places) sorted.push_back(records[place]);
  for (std::size_t from = 0; from < places.size();) {
    const int partition = partitions[places[from]];
    std::size_t to = from + 1;
    while (to < places.size() && partitions[places[to]] == partition) ++to;
    AppendShare(*target.files,
                {partition, std::span(sorted).subspan(from, to - from),
                 std::span(places).subspan(from, to - from)},
                ToAppend(options), results);
    from = to;
  }
  return results;
}

absl::Status ProducerState::Flush() {
  CORDWOOD_RETURN_IF_ERROR(broker_->status());
  std::vector<std::shared_ptr<log::TopicFiles>> topics;
  {
    absl::ReaderMutexLock lock(&mutex_);
    for (const auto& [name, target] : by_name_) topics.push_back(target->files);
  }
  absl::Status first;
  for (const std::shared_ptr<log::TopicFiles>& topic : topics) {
    const std::shared_ptr<log::ControlFile> control = topic->control();
    for (int i = 0; i < topic->partitions(); ++i) {
      const log::ControlBlock& block = control->block(i);
      const Offset end = log::ReadTail(block).end();
      // Acquire: pairs with the release after the sync.
      if (block.durable.load(std::memory_order_acquire) >= end) continue;
      const absl::StatusOr<log::Log*> log = topic->FindLog(i);
      const absl::Status flushed =
          log.ok() ? (*log)->FlushTo(end, absl::InfiniteDuration()) : log.status();
      // A deleted topic has no records that could be lost.
      if (!flushed.ok() && !topic->is_deleted()) first.Update(flushed);
    }
  }
  return first;
}

}  // namespace internal

namespace {

absl::Status NoProducer() {
  return absl::FailedPreconditionError("this Producer was made by default or moved from");
}

}  // namespace

absl::StatusOr<RecordMetadata> Producer::Send(std::string_view topic, const Record& record,
                                              const SendOptions& options) const {
  if (ABSL_PREDICT_FALSE(state_ == nullptr)) return NoProducer();
  return state_->Send(topic, record, options);
}

std::vector<absl::StatusOr<RecordMetadata>> Producer::SendBatch(std::string_view topic,
                                                                std::span<const Record> records,
                                                                const SendOptions& options) const {
  if (state_ == nullptr) {
    return std::vector<absl::StatusOr<RecordMetadata>>(records.size(), NoProducer());
  }
  return state_->SendBatch(topic, records, options);
}

absl::Status Producer::Flush() const { return state_ == nullptr ? NoProducer() : state_->Flush(); }

}  // namespace cordwood
