// Subscribe and Assign: which partitions a consumer reads, and where it begins.
//
// Subscribe takes the group's locks and positions at once, and tells of errors; what it
// gives and takes shows in the next Poll, where the callbacks run.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "consumer_state.h"
#include "cordwood/os/clock.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {
namespace {

constexpr std::int64_t kLookForTopicsNanos = 1'000'000'000;

}  // namespace

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
  refused_.clear();
  next_topics_ns_ = os::ReadClock(CLOCK_MONOTONIC_COARSE) + kLookForTopicsNanos;
  return status;
}

absl::Status ConsumerState::SubscribeTo(const std::set<std::string>& topics, Mode mode) {
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
  RemoveDeleted();
  // All or none: the locks of those that are new, before anything is changed.
  std::vector<std::unique_ptr<TopicReading>> arriving;
  for (const std::string& name : topics) {
    const auto waiting = std::find_if(arriving_.begin(), arriving_.end(),
                                      [&](const auto& t) { return t->name() == name; });
    if (topics_.contains(name) || waiting != arriving_.end()) continue;
    CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<TopicReading> topic, JoinTopic(name, options_.reset));
    arriving.push_back(std::move(topic));
  }
  std::erase_if(arriving_, [&](const auto& t) { return !topics.contains(t->name()); });
  std::move(arriving.begin(), arriving.end(), std::back_inserter(arriving_));
  leaving_.clear();
  for (const auto& [name, topic] : topics_) {
    if (!topics.contains(name)) leaving_.push_back(topic.get());
  }
  rejoin_.clear();
  mode_ = mode;
  TellReady();
  return absl::OkStatus();
}

absl::Status ConsumerState::Assign(std::vector<TopicPartition> partitions) {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  CORDWOOD_RETURN_IF_ERROR(CheckOutsideCallback("Assign"));
  if (mode_ == Mode::kSubscribed || mode_ == Mode::kPattern || !leaving_.empty()) {
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
      Drop(*partition);
      SetBusy(*partition);
      partition.reset();
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
      auto& place = known->second->partitions[static_cast<std::size_t>(partition->number)];
      place = std::make_unique<PartitionReading>(known->second.get(), partition->number,
                                                 partition->log, partition->cursor.next_offset(),
                                                 options_.verify_checksums);
      place->entry = partition->entry;
      place->no_position = partition->no_position;
      ++assigned_;
      Enqueue(*place);
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
  if (absl::IsNotFound(opened.status())) return absl::OkStatus();
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
    partition->cursor.Seek(*committed);
    partition->no_position = absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TopicReading>> ConsumerState::OpenTopic(
    const std::string& name) const {
  auto topic = std::make_unique<TopicReading>();
  CORDWOOD_ASSIGN_OR_RETURN(topic->files, broker_->directory().OpenTopic(name));
  topic->watched = std::make_shared<WatchedTopic>(topic->files, durable_only_);
  topic->partitions.resize(static_cast<std::size_t>(topic->files->partitions()));
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
  topic.partitions[static_cast<std::size_t>(partition)] = std::move(reading);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TopicReading>> ConsumerState::JoinTopic(const std::string& name,
                                                                       OffsetReset reset) {
  CORDWOOD_RETURN_IF_ERROR(OpenGroup());
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<TopicReading> topic, OpenTopic(name));
  // The lock comes first: what another member commits before it goes is found.
  CORDWOOD_ASSIGN_OR_RETURN(topic->member, group_->Join(topic->ref()));
  for (int p = 0; p < topic->files->partitions(); ++p) {
    CORDWOOD_RETURN_IF_ERROR(OpenPartition(*topic, p, reset));
  }
  CORDWOOD_RETURN_IF_ERROR(OpenEntries(*topic));
  return topic;
}

// ---- In a Poll

absl::Status ConsumerState::Rebalance(Consumer& self) {
  if (leaving_.empty() && arriving_.empty() && rejoin_.empty()) return absl::OkStatus();
  if (!rejoin_.empty()) {
    CORDWOOD_RETURN_IF_ERROR(SubscribeTo(std::set<std::string>(rejoin_), mode_));
  }
  if (!leaving_.empty()) {
    std::vector<TopicPartition> revoked;
    for (const TopicReading* topic : leaving_) List(*topic, revoked);
    // They are still ours while it runs: nobody else reads them until it has returned.
    Call(self, options_.on_revoked, revoked);
    for (TopicReading* topic : std::vector<TopicReading*>(leaving_)) Remove(topic);
  }
  std::vector<TopicPartition> assigned;
  for (auto& topic : arriving_) {
    List(*topic, assigned);
    Add(std::move(topic));
  }
  arriving_.clear();
  WatchAgain();
  Call(self, options_.on_assigned, assigned);
  return absl::OkStatus();
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

// Those that have appeared since: they are read from their start, whatever the reset is.
absl::Status ConsumerState::LookForTopics() {
  if (mode_ != Mode::kPattern) return absl::OkStatus();
  const std::int64_t now = os::ReadClock(CLOCK_MONOTONIC_COARSE);
  if (now < next_topics_ns_) return absl::OkStatus();
  next_topics_ns_ = now + kLookForTopicsNanos;
  CORDWOOD_ASSIGN_OR_RETURN(const std::set<std::string> names, MatchingTopics());
  for (const std::string& name : names) {
    if (topics_.contains(name)) continue;
    absl::StatusOr<std::unique_ptr<TopicReading>> topic = JoinTopic(name, OffsetReset::kEarliest);
    if (topic.ok()) {
      refused_.erase(name);
      arriving_.push_back(*std::move(topic));
    } else if (!absl::IsNotFound(topic.status()) && refused_.insert(name).second) {
      // Once: the next look tries again without a word.
      return topic.status();
    }
  }
  return absl::OkStatus();
}

absl::Status ConsumerState::CheckPollInterval(Consumer& self) {
  if (options_.max_poll_interval == absl::InfiniteDuration() || last_poll_ns_ == 0 ||
      topics_.empty() || mode_ == Mode::kAssigned) {
    return absl::OkStatus();
  }
  const std::int64_t since = os::ReadClock(CLOCK_MONOTONIC_COARSE) - last_poll_ns_;
  if (absl::Nanoseconds(since) <= options_.max_poll_interval) return absl::OkStatus();
  const std::vector<TopicPartition> lost = Assignment();
  for (const auto& [name, topic] : topics_) rejoin_.insert(name);
  LeaveAll();
  WatchAgain();
  Call(self, options_.on_lost, lost);
  return absl::AbortedError(absl::StrCat(
      "there was no Poll for ", absl::FormatDuration(absl::Nanoseconds(since)),
      ", which is over max_poll_interval: the partitions are given back; the next Poll joins "
      "the group again"));
}

}  // namespace cordwood::internal
