// Subscribe and Assign: which partitions a consumer reads, and where it begins.
//
// Subscribe joins the group and takes what is free and its positions at once, and tells of
// errors; what it gives and takes shows in the next Poll, where the callbacks run.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "consumer_state.h"
#include "cordwood/os/clock.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {
absl::Status ConsumerState::Subscribe(std::vector<std::string> topics) {
  const std::set<std::string> names(topics.begin(), topics.end());
  CORDWOOD_RETURN_IF_ERROR(SubscribeTo(names, names.empty() ? Mode::kNone : Mode::kSubscribed));
  pattern_.reset();
  return absl::OkStatus();
}

absl::Status ConsumerState::SubscribePattern(std::string_view pattern) {
  std::optional<std::regex> old = std::move(pattern_);
  try {
    pattern_.emplace(pattern.begin(), pattern.end(), std::regex::ECMAScript);
  } catch (const std::regex_error& error) {
    pattern_ = std::move(old);
    return absl::InvalidArgumentError(
        absl::StrCat("\"", std::string(pattern), "\" is no regular expression: ", error.what()));
  }
  const auto subscribe = [&]() -> absl::Status {
    CORDWOOD_RETURN_IF_ERROR(CheckUsable());
    CORDWOOD_ASSIGN_OR_RETURN(const std::set<std::string> names, MatchingTopics());
    return SubscribeTo(names, Mode::kPattern);
  };
  absl::Status status = subscribe();
  if (!status.ok()) {
    pattern_ = std::move(old);
    return status;
  }
  return status;
}

absl::Status ConsumerState::SubscribeTo(const std::set<std::string>& topics, Mode mode,
                                        group::Group::Wait wait) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_RETURN_IF_ERROR(CheckOutsideCallback("Subscribe"));
  if (options_.group.empty()) {
    return absl::InvalidArgumentError(
        "Subscribe without a group: set ConsumerOptions::group, or use Assign");
  }
  CORDWOOD_RETURN_IF_ERROR(broker_->context().CheckWritable());
  if (mode_ == Mode::kAssigned) {
    return absl::FailedPreconditionError(
        "Subscribe on a consumer that uses Assign: Assign an empty list first");
  }
  CORDWOOD_RETURN_IF_ERROR(CommitAfterPoll());
  CORDWOOD_RETURN_IF_ERROR(OpenGroup());
  std::map<std::string, Subscribed> subscribed;
  for (const std::string& name : topics) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::TopicFiles> topic,
                              broker_->directory().OpenTopic(name));
    subscribed[name] = {topic->id(), topic->partitions()};
  }
  if (member_ != nullptr) {
    CORDWOOD_RETURN_IF_ERROR(member_->Subscribe({topics.begin(), topics.end()}, wait));
  } else if (mode != Mode::kNone) {
    CORDWOOD_ASSIGN_OR_RETURN(member_, Join(topics, wait));
    last_poll_ns_ = 0;
    // The broker may have been closed meanwhile, and not have known of this member.
    if (absl::Status usable = CheckUsable(); !usable.ok()) {
      LeaveAll();
      return usable;
    }
  }
  subscribed_ = std::move(subscribed);
  appeared_.clear();
  std::erase_if(former_, [&](const TopicPartition& p) { return !topics.contains(p.topic); });
  rejoin_ = false;
  mode_ = mode;
  if (member_ != nullptr) TakeWhatIsOurs();
  next_topics_ns_ = os::ReadClock(CLOCK_MONOTONIC_COARSE) + kLookForTopicsNanos;
  WatchAgain();
  TellReady();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<group::Member>> ConsumerState::Join(
    const std::set<std::string>& topics, group::Group::Wait wait) const {
  const bool is_watched = options_.max_poll_interval != absl::InfiniteDuration();
  return group::Member::Join(
      group_, broker_->directory(),
      {.topics = {topics.begin(), topics.end()},
       .instance_id = options_.group_instance_id,
       .session_timeout_ns = absl::ToInt64Nanoseconds(options_.session_timeout),
       .poll_interval_max_ns =
           is_watched ? absl::ToInt64Nanoseconds(options_.max_poll_interval) : 0},
      options_.custom_assignor != nullptr ? options_.custom_assignor
                                          : group::BuiltInAssignor(options_.assignor),
      wait);
}

absl::Status ConsumerState::Assign(std::vector<TopicPartition> partitions) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_RETURN_IF_ERROR(CheckOutsideCallback("Assign"));
  if (mode_ == Mode::kSubscribed || mode_ == Mode::kPattern || member_ != nullptr) {
    return absl::FailedPreconditionError(
        "Assign on a consumer that uses Subscribe: Subscribe to an empty list and Poll first");
  }
  CORDWOOD_RETURN_IF_ERROR(CommitAfterPoll());
  CORDWOOD_RETURN_IF_ERROR(OpenGroup());
  RemoveDeleted();
  std::map<std::string, std::set<int>> wanted;
  for (const TopicPartition& where : partitions) wanted[where.topic].insert(where.partition);
  // Everything that is new is opened before anything is changed.
  std::map<std::string, std::unique_ptr<TopicReading>> opened;
  for (const auto& [name, numbers] : wanted) {
    const auto known = topics_.find(name);
    CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<TopicReading> topic, OpenTopic(name));
    for (const int number : numbers) {
      if (known != topics_.end() && number >= 0 &&
          static_cast<std::size_t>(number) < known->second->partitions.size() &&
          known->second->partitions[static_cast<std::size_t>(number)] != nullptr) {
        continue;
      }
      CORDWOOD_RETURN_IF_ERROR(OpenPartition(*topic, number, options_.reset));
    }
    CORDWOOD_RETURN_IF_ERROR(OpenEntries(*topic));
    opened[name] = std::move(topic);
  }
  std::vector<TopicReading*> gone;
  for (const auto& [name, topic] : topics_) {
    const auto found = wanted.find(name);
    if (found == wanted.end()) {
      gone.push_back(topic.get());
      continue;
    }
    for (auto& partition : topic->partitions) {
      if (partition == nullptr || found->second.contains(partition->number)) continue;
      Close(*topic, partition->number);
    }
  }
  for (TopicReading* topic : gone) Remove(topic);
  for (auto& [name, topic] : opened) {
    const auto known = topics_.find(name);
    if (known == topics_.end()) {
      Add(std::move(topic));
      continue;
    }
    for (auto& partition : topic->partitions) {
      if (partition == nullptr) continue;
      if (static_cast<std::size_t>(partition->number) >= known->second->partitions.size()) {
        Widen(*known->second);
      }
      auto& place = known->second->partitions[static_cast<std::size_t>(partition->number)];
      place = std::make_unique<PartitionReading>(known->second.get(), partition->number,
                                                 partition->log, partition->cursor.next_offset(),
                                                 options_.verify_checksums);
      place->cursor = partition->cursor;
      place->entry = partition->entry;
      place->no_position = partition->no_position;
      Enter(*place);
    }
  }
  mode_ = wanted.empty() ? Mode::kNone : Mode::kAssigned;
  WatchAgain();
  TellReady();
  return absl::OkStatus();
}

// Another topic may have the name by now.
void ConsumerState::RemoveDeleted() {
  std::vector<TopicReading*> deleted;
  for (const auto& [name, topic] : topics_) {
    if (topic->files->is_deleted()) deleted.push_back(topic.get());
  }
  for (TopicReading* topic : deleted) Remove(topic);
}

// ---- Opening

// Null where there is none, which a read-only open cannot make.
absl::Status ConsumerState::OpenGroup() {
  if (options_.group.empty() || (group_ != nullptr && group_->is_current())) {
    return absl::OkStatus();
  }
  absl::StatusOr<std::shared_ptr<group::Group>> opened =
      broker_->groups().OpenGroup(options_.group, !broker_->read_only());
  // Who may write has it made; then what is missing is a file of it.
  if (absl::IsNotFound(opened.status()) && broker_->read_only()) return absl::OkStatus();
  if (!opened.ok()) return opened.status();
  group_ = *std::move(opened);
  // It is another one than before: so are the places of the partitions in it.
  for (const auto& [name, topic] : topics_) CORDWOOD_RETURN_IF_ERROR(OpenEntries(*topic));
  return absl::OkStatus();
}

absl::Status ConsumerState::OpenEntries(TopicReading& topic) {
  if (group_ == nullptr) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<int> entries,
                            group_->Entries(topic.ref(), !broker_->read_only()));
  for (const auto& partition : topic.partitions) {
    if (partition == nullptr) continue;
    const bool is_new = partition->entry == group::Group::kNoEntry;
    partition->entry = entries[static_cast<std::size_t>(partition->number)];
    if (!is_new || partition->entry == group::Group::kNoEntry) continue;
    const std::optional<Offset> committed = group_->committed(partition->entry);
    if (!committed) continue;
    partition->cursor.SeekOn(*committed);
    partition->no_position = absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TopicReading>> ConsumerState::OpenTopic(
    const std::string& name) const {
  auto topic = std::make_unique<TopicReading>();
  CORDWOOD_ASSIGN_OR_RETURN(topic->files, broker_->directory().OpenTopic(name));
  topic->watched = std::make_shared<WatchedTopic>(topic->files, durable_only_);
  topic->partitions.resize(static_cast<std::size_t>(topic->watched->partitions));
  // What is rung before the partitions are looked at for the first time is no news.
  topic->ring_next = topic->watched->control->header().ring_head.load(std::memory_order_acquire);
  return topic;
}

absl::Status ConsumerState::OpenPartition(TopicReading& topic, int partition, OffsetReset reset) {
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<log::Log> log, topic.files->OpenLog(partition));
  const Offset from = reset == OffsetReset::kLatest ? log->end_offset() : log->start_offset();
  auto reading = std::make_unique<PartitionReading>(&topic, partition, std::move(log), from,
                                                    options_.verify_checksums);
  if (reset == OffsetReset::kError) {
    reading->no_position = At(
        absl::OutOfRangeError(absl::StrCat(
            topic.name(), "-", partition, ": ",
            options_.group.empty() ? "there is no group whose offset could count"
                                   : absl::StrCat("group ", options_.group, " has committed none"),
            ", and ConsumerOptions::reset is kError; seek to where to begin")),
        reading->log->name());
  }
  if (static_cast<std::size_t>(partition) >= topic.partitions.size()) Widen(topic);
  topic.partitions[static_cast<std::size_t>(partition)] = std::move(reading);
  return absl::OkStatus();
}

// For partitions that were added. Those that wait for news are looked at once more.
void ConsumerState::Widen(TopicReading& topic) {
  topic.watched = std::make_shared<WatchedTopic>(topic.files, durable_only_);
  topic.partitions.resize(
      std::max(topic.partitions.size(), static_cast<std::size_t>(topic.watched->partitions)));
  for (const auto& partition : topic.partitions) {
    if (partition != nullptr && !partition->arriving) Enqueue(*partition);
  }
}

absl::StatusOr<std::set<std::string>> ConsumerState::MatchingTopics() const {
  std::set<std::string> matching;
  try {
    for (const std::string& name : broker_->directory().TopicNames()) {
      if (std::regex_match(name, *pattern_)) matching.insert(name);
    }
  } catch (const std::regex_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat("the regular expression is too complex to be matched: ", error.what()));
  }
  return matching;
}

}  // namespace cordwood::internal
