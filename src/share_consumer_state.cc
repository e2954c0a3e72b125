// Making a ShareConsumer, what it is subscribed to, and what becomes of what it holds.

#include "share_consumer_state.h"

#include <unistd.h>

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "cordwood/os/clock.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"
#include "log/turn.h"

namespace cordwood::internal {
namespace {

// A lock that a process keeps for longer is named.
constexpr std::int64_t kWaitNanos = 30'000'000'000;
constexpr std::int64_t kOpenWaitNanos = 10'000'000;
constexpr absl::Duration kAckLetterTime = absl::Seconds(1);
// For all partitions of a consumer that is closed: what it could not give back is free by its
// deadline.
constexpr std::int64_t kCloseWaitNanos = 2'000'000'000;

absl::Status NotHeld(const AcquiredRecord& record) {
  return absl::AbortedError(absl::StrCat(
      "offset ", record->offset(), " is not held any more as delivery ", record.delivery_count(),
      ": it was acknowledged, or its lock time was over and it was delivered again"));
}

}  // namespace

ShareConsumerState::ShareConsumerState(std::shared_ptr<BrokerState> broker,
                                       const ShareConsumerOptions& options)
    : broker_(std::move(broker)),
      options_(options),
      pid_(getpid()),
      consumer_(broker_->shares().NewMember()) {}

ShareConsumerState::~ShareConsumerState() {
  if (getpid() == pid_) return;
  // In a forked child the locks of a member are the parent's: they are left where they are.
  for (const auto& topic : topics_) static_cast<void>(topic->member.release());
}

absl::Status ShareConsumerState::CheckUsable() const {
  CORDWOOD_RETURN_IF_ERROR(broker_->status());
  if (closed_.load(std::memory_order_acquire)) {
    return absl::FailedPreconditionError("the share consumer was closed");
  }
  if (broker_->consumers().closing().load(std::memory_order_relaxed) != 0) {
    return absl::FailedPreconditionError("the broker is being closed");
  }
  return log::InFill() ? log::InFillError() : absl::OkStatus();
}

// ---- Subscribing

absl::Status ShareConsumerState::Subscribe(const std::vector<std::string>& topics) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  const std::set<std::string> names(topics.begin(), topics.end());
  if (!options_.dead_letter_topic.empty() && names.contains(options_.dead_letter_topic)) {
    return absl::InvalidArgumentError(absl::StrCat("topic ", options_.dead_letter_topic,
                                                   " is this consumer's dead-letter topic"));
  }
  if (group_ == nullptr || !group_->is_current()) {
    CORDWOOD_ASSIGN_OR_RETURN(group_, broker_->groups().OpenGroup(options_.group, true));
    topics_.clear();  // of a group that was deleted
  }
  // All or none: what is new is opened before anything is changed.
  std::vector<std::unique_ptr<ShareTopic>> all;
  for (const std::string& name : names) {
    const auto known = std::find_if(topics_.begin(), topics_.end(), [&](const auto& topic) {
      return topic->files->name() == name && !topic->files->is_deleted();
    });
    if (known != topics_.end()) continue;
    CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<ShareTopic> topic, OpenTopic(name));
    all.push_back(std::move(topic));
  }
  absl::Status released;
  for (std::unique_ptr<ShareTopic>& topic : topics_) {
    if (names.contains(topic->files->name()) && !topic->files->is_deleted()) {
      all.push_back(std::move(topic));
    } else if (!topic->files->is_deleted()) {
      released.Update(ReleaseAll(*topic, os::MonotonicNanos() + kCloseWaitNanos));
    }
  }
  topics_ = std::move(all);
  return released;
}

absl::StatusOr<std::unique_ptr<ShareConsumerState::ShareTopic>> ShareConsumerState::OpenTopic(
    const std::string& name) {
  auto topic = std::make_unique<ShareTopic>();
  CORDWOOD_ASSIGN_OR_RETURN(topic->files, broker_->directory().OpenTopic(name));
  // The lock comes first: what another consumer commits before it goes is found.
  CORDWOOD_ASSIGN_OR_RETURN(topic->member, group::JoinShare(*group_));
  CORDWOOD_RETURN_IF_ERROR(OpenPartitions(*topic));
  return topic;
}

// Those that are not open yet: all, or what was added to the topic since.
absl::Status ShareConsumerState::OpenPartitions(ShareTopic& topic) {
  topic.watched = std::make_shared<WatchedTopic>(topic.files, false);
  const std::string& name = topic.files->name();
  const group::TopicRef ref = {topic.files->id(), name, topic.watched->partitions};
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<int> entries, group_->Entries(ref, true));
  for (int p = static_cast<int>(topic.partitions.size()); p < ref.partitions; ++p) {
    CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::Log> log, topic.files->OpenLog(p));
    auto partition = std::make_shared<SharePartition>(std::move(log), options_.verify_checksums);
    partition->files = topic.files;
    partition->watched = topic.watched;
    partition->number = p;
    partition->entry = entries[static_cast<std::size_t>(p)];
    partition->consumer = consumer_;
    const bool is_new = !group_->committed(partition->entry).has_value();
    const bool from_end = options_.reset == OffsetReset::kLatest;
    partition->initial = from_end ? partition->log->end_offset() : partition->log->start_offset();
    if (is_new && options_.reset == OffsetReset::kError) {
      return At(absl::OutOfRangeError(absl::StrCat(
                    name, "-", p, ": group ", options_.group,
                    " has committed nothing, and ShareConsumerOptions::reset is kError")),
                partition->log->name());
    }
    // What is appended from now on is news, also if the first Acquire comes later.
    if (is_new && from_end) {
      CORDWOOD_RETURN_IF_ERROR(OpenFile(*partition));
      group::ShareTurn turn(*partition->file);
      CORDWOOD_RETURN_IF_ERROR(turn.Take(kWaitNanos));
    }
    topic.partitions.push_back(std::move(partition));
  }
  return absl::OkStatus();
}

absl::Status ShareConsumerState::OpenFile(SharePartition& partition) {
  group::ShareFile::Place place = {
      .context = broker_->directory().context(),
      .group = group_,
      .topic = {partition.files->id(), partition.files->name(), partition.files->partitions()},
      .partition = partition.number,
      .entry = partition.entry};
  CORDWOOD_ASSIGN_OR_RETURN(partition.file,
                            broker_->shares().Open(std::move(place), partition.initial,
                                                   partition.log->end_offset(), kOpenWaitNanos));
  return absl::OkStatus();
}

// ---- Acknowledging

absl::StatusOr<const SharePartition*> ShareConsumerState::PartitionOfRecord(
    const AcquiredRecord& record) const {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  if (record.partition_ == nullptr || record.partition_->consumer != consumer_) {
    return absl::InvalidArgumentError("the record was not acquired by this share consumer");
  }
  return record.partition_;
}

std::int64_t ShareConsumerState::LockDeadline(std::int64_t now_ns) const {
  constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  const std::int64_t ns = absl::ToInt64Nanoseconds(options_.lock_time);
  return ns > kNever - now_ns ? kNever : now_ns + ns;
}

absl::Status ShareConsumerState::Acknowledge(const AcquiredRecord& record, AckType type) {
  CORDWOOD_ASSIGN_OR_RETURN(const SharePartition* const partition, PartitionOfRecord(record));
  const PartitionName& where = partition->log->name();
  const Offset offset = record->offset();
  const int deliveries = record.delivery_count();
  group::ShareTurn turn(*partition->file);
  CORDWOOD_RETURN_IF_ERROR(turn.Take(kWaitNanos));
  if (!turn.IsLease(offset, deliveries, consumer_)) return At(NotHeld(record), where, offset);
  bool dies = false;
  switch (type) {
    case AckType::kAccept:
      turn.Set(offset, group::ShareState::kAccepted, deliveries);
      // A later record of its key may be free now.
      if (options_.order_by_key) turn.Wake();
      break;
    case AckType::kRelease:
      dies = turn.Release(offset, deliveries, options_.delivery_limit);
      break;
    case AckType::kReject:
      turn.Set(offset, group::ShareState::kRejected, deliveries);
      turn.Wake();
      dies = true;
      break;
    default:
      return absl::InvalidArgumentError("no AckType");
  }
  absl::Status buried = dies ? Bury(*partition, turn, kAckLetterTime) : absl::OkStatus();
  const bool was_full = partition->log->end_offset() - turn.start() > group::kShareSlots;
  // If it fails, the next turn does it: the record is acknowledged.
  if (offset == turn.start()) {
    turn.Advance().IgnoreError();
    if (was_full) turn.Wake();
  }
  return At(std::move(buried), where, offset);
}

absl::Status ShareConsumerState::Renew(const AcquiredRecord& record) {
  CORDWOOD_ASSIGN_OR_RETURN(const SharePartition* const partition, PartitionOfRecord(record));
  group::ShareTurn turn(*partition->file);
  CORDWOOD_RETURN_IF_ERROR(turn.Take(kWaitNanos));
  if (!turn.IsLease(record->offset(), record.delivery_count(), consumer_)) {
    return At(NotHeld(record), partition->log->name(), record->offset());
  }
  turn.Renew(record->offset(), LockDeadline(os::MonotonicNanos()));
  return absl::OkStatus();
}

// ---- Closing

absl::Status ShareConsumerState::ReleaseAll(ShareTopic& topic, std::int64_t deadline_ns) {
  absl::Status first;
  for (const auto& partition : topic.partitions) {
    if (partition->file == nullptr) continue;
    group::ShareTurn turn(*partition->file);
    const std::int64_t wait = std::max<std::int64_t>(0, deadline_ns - os::MonotonicNanos());
    absl::Status taken = turn.Take(wait);
    if (!taken.ok()) {
      first.Update(std::move(taken));
      continue;
    }
    if (turn.ReleaseAll(consumer_, options_.delivery_limit)) {
      const std::int64_t left = std::max<std::int64_t>(0, deadline_ns - os::MonotonicNanos());
      first.Update(Bury(*partition, turn, absl::Nanoseconds(left)));
      first.Update(turn.Advance());
    }
  }
  return first;
}

absl::Status ShareConsumerState::Close() {
  if (getpid() != pid_ || closed_.exchange(true, std::memory_order_acq_rel)) {
    return absl::OkStatus();
  }
  absl::Status released;
  // A broker that was closed has given back all that was held.
  if (broker_->status().ok()) {
    const std::int64_t deadline = os::MonotonicNanos() + kCloseWaitNanos;
    for (const auto& topic : topics_) {
      if (!topic->files->is_deleted()) released.Update(ReleaseAll(*topic, deadline));
    }
  }
  topics_.clear();
  return released;
}

}  // namespace cordwood::internal
