// In a Poll: what the group gives and takes, and topics that come and go.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "consumer_state.h"
#include "cordwood/os/clock.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {

// ---- Partitions

absl::Status ConsumerState::Rebalance(Consumer& self, std::int64_t now_ns) {
  if (rejoin_) CORDWOOD_RETURN_IF_ERROR(Rejoin(now_ns));
  if (member_ == nullptr) return absl::OkStatus();
  if (member_->IsTimeToLook(now_ns)) TellLook(member_->Look(now_ns));
  if (!member_->HasNews() && arriving_ == 0) return absl::OkStatus();
  // First, then the look: what comes later is heard next time. What cannot be decided holds
  // up nothing that is.
  member_->Hear();
  TellLook(member_->Look(now_ns));
  if (member_->IsEvicted()) {
    return Lose(
        self, absl::AbortedError(absl::StrCat(
                  "this consumer did not poll within max_poll_interval, and group ", options_.group,
                  " has given its partitions away; the next Poll joins the group again")));
  }
  GiveUp(self);
  if (mode_ == Mode::kNone) {
    LeaveAll();
  } else {
    TakeWhatIsOurs();
  }
  Welcome(self);
  WatchAgain();
  return absl::OkStatus();
}

// Once for each cause, however often it is met.
void ConsumerState::TellLook(const absl::Status& status) {
  if (!status.ok() && status.message() != look_error_) {
    errors_.push_back({status, nullptr, nullptr});
  }
  look_error_ = std::string(status.message());
}

// After max_poll_interval. Once a second, without waiting for anybody who is stopped.
absl::Status ConsumerState::Rejoin(std::int64_t now_ns) {
  if (now_ns < next_rejoin_ns_) return absl::OkStatus();
  next_rejoin_ns_ = now_ns + kLookForTopicsNanos;
  const auto rejoin = [&]() -> absl::Status {
    std::set<std::string> names;
    for (const auto& [name, id] : subscribed_) {
      const absl::Status opened = broker_->directory().OpenTopic(name).status();
      if (opened.ok()) names.insert(name);
      if (!opened.ok() && !absl::IsNotFound(opened)) return opened;
    }
    const std::map<std::string, Subscribed> before = subscribed_;
    const std::set<std::string> appeared = appeared_;
    CORDWOOD_RETURN_IF_ERROR(SubscribeTo(names, mode_, group::Group::Wait::kNotLong));
    subscribed_.insert(before.begin(), before.end());  // what is gone may come back
    appeared_ = appeared;
    return absl::OkStatus();
  };
  const absl::Status status = rejoin();
  const bool is_new = !status.ok() && status.message() != look_error_;
  look_error_ = std::string(status.message());
  return is_new ? status : absl::OkStatus();
}

// What another member is to have. It is still ours while on_revoked runs: nobody else reads
// it until that has returned.
void ConsumerState::GiveUp(Consumer& self) {
  const std::vector<int> entries = member_->ToGiveUp();
  if (entries.empty()) return;
  const auto is_given_up = [&](int entry) {
    return std::binary_search(entries.begin(), entries.end(), entry);
  };
  std::vector<TopicPartition> revoked;
  for (const auto& [name, topic] : topics_) {
    // Of a topic that was deleted the next error tells, and then on_lost.
    if (topic->files->is_deleted()) continue;
    for (const auto& partition : topic->partitions) {
      if (partition != nullptr && !partition->arriving && is_given_up(partition->entry)) {
        revoked.push_back({name, partition->number});
      }
    }
  }
  Call(self, options_.on_revoked, revoked);
  former_.insert(revoked.begin(), revoked.end());
  std::vector<TopicReading*> empty;
  for (const auto& [name, topic] : topics_) {
    if (topic->files->is_deleted()) {
      TellDeleted(*topic);
      continue;
    }
    bool has_partition = false;
    for (const auto& partition : topic->partitions) {
      if (partition == nullptr) continue;
      if (is_given_up(partition->entry)) {
        Close(*topic, partition->number);
      } else {
        has_partition = true;
      }
    }
    if (!has_partition) empty.push_back(topic.get());
  }
  for (TopicReading* topic : empty) Remove(topic);
  std::erase_if(unopened_, [&](const Unopened& u) { return is_given_up(u.owned.entry); });
  member_->GiveUp(entries);
}

void ConsumerState::TakeWhatIsOurs() {
  for (const group::Owned& owned : member_->Take()) unopened_.push_back({owned, false});
  std::vector<Unopened> failed;
  for (Unopened& unopened : std::exchange(unopened_, {})) {
    const absl::Status status = OpenOwned(unopened.owned);
    // kAborted: evicted just now, which the next look tells.
    if (status.ok() || absl::IsAborted(status)) continue;
    if (absl::IsNotFound(status)) {
      member_->WantDecision();  // the topic is gone: nobody is to have it
    } else if (!std::exchange(unopened.told, true)) {
      errors_.push_back({status, nullptr, nullptr});
    }
    failed.push_back(unopened);
  }
  unopened_ = std::move(failed);
}

absl::Status ConsumerState::OpenOwned(const group::Owned& owned) {
  CORDWOOD_ASSIGN_OR_RETURN(const group::Group::Identity what, group_->IdentityOf(owned.entry));
  auto known = topics_.find(what.topic);
  if (known == topics_.end()) {
    CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<TopicReading> opened, OpenTopic(what.topic));
    if (opened->files->id() != what.topic_id) {
      return absl::NotFoundError(absl::StrCat("topic ", what.topic, " is another one now"));
    }
    known = topics_.emplace(what.topic, std::move(opened)).first;
  }
  TopicReading& topic = *known->second;
  if (static_cast<std::size_t>(what.partition) >= topic.partitions.size()) Widen(topic);
  if (topic.files->id() != what.topic_id || what.partition >= topic.files->partitions()) {
    return absl::NotFoundError(absl::StrCat("topic ", what.topic, " is another one now"));
  }
  const OffsetReset reset =
      appeared_.contains(what.topic) ? OffsetReset::kEarliest : options_.reset;
  const std::optional<Offset> committed = group_->committed(owned.entry);
  if (!committed && options_.reset == OffsetReset::kLatest) {
    // Else the next owner would begin at a later end, and skip what lies between.
    CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<log::Log> log,
                              topic.files->OpenLog(what.partition));
    const Offset from = reset == OffsetReset::kLatest ? log->end_offset() : log->start_offset();
    CORDWOOD_RETURN_IF_ERROR(group_->Commit(owned.entry, from, false, owned.epoch));
  }
  CORDWOOD_RETURN_IF_ERROR(OpenPartition(topic, what.partition, reset));
  PartitionReading& partition = *topic.partitions[static_cast<std::size_t>(what.partition)];
  partition.entry = owned.entry;
  partition.epoch = owned.epoch;
  partition.arriving = true;
  ++arriving_;
  if (const std::optional<Offset> begin = group_->committed(owned.entry)) {
    partition.cursor.SeekOn(*begin);
    partition.no_position = absl::OkStatus();
  }
  return absl::OkStatus();
}

void ConsumerState::Welcome(Consumer& self) {
  if (arriving_ == 0) return;
  std::vector<TopicPartition> assigned;
  for (const auto& [name, topic] : topics_) {
    for (const auto& partition : topic->partitions) {
      if (partition == nullptr || !partition->arriving) continue;
      partition->arriving = false;
      --arriving_;
      Enter(*partition);
      assigned.push_back({name, partition->number});
      former_.erase(assigned.back());
    }
  }
  Call(self, options_.on_assigned, assigned);
}

// The next Poll joins again.
absl::Status ConsumerState::Lose(Consumer& self, absl::Status why) {
  const std::vector<TopicPartition> lost = Assignment();
  LeaveAll();
  former_.insert(lost.begin(), lost.end());
  rejoin_ = true;
  next_rejoin_ns_ = 0;
  WatchAgain();
  Call(self, options_.on_lost, lost);
  return why;
}

absl::Status ConsumerState::CheckPollInterval(Consumer& self, std::int64_t now_ns) {
  if (options_.max_poll_interval == absl::InfiniteDuration() || member_ == nullptr) {
    return absl::OkStatus();
  }
  const std::int64_t since = last_poll_ns_ == 0 ? 0 : now_ns - last_poll_ns_;
  if (absl::Nanoseconds(since) <= options_.max_poll_interval) {
    member_->Polled(now_ns);
    return absl::OkStatus();
  }
  return Lose(self, absl::AbortedError(absl::StrCat(
                        "there was no Poll for ", absl::FormatDuration(absl::Nanoseconds(since)),
                        ", which is over max_poll_interval: the partitions are given back; the "
                        "next Poll joins the group again")));
}

// ---- Topics

// Once a second: those that a pattern matches now, what was deleted and made again, and
// partitions that were added. What has appeared since is read from its start, whatever the
// reset is.
absl::Status ConsumerState::LookForTopics(std::int64_t now_ns) {
  if (member_ == nullptr || mode_ == Mode::kNone || now_ns < next_topics_ns_) {
    return absl::OkStatus();
  }
  next_topics_ns_ = now_ns + kLookForTopicsNanos;
  std::set<std::string> names;
  for (const auto& [name, id] : subscribed_) names.insert(name);
  if (mode_ == Mode::kPattern) {
    CORDWOOD_ASSIGN_OR_RETURN(names, MatchingTopics());
  }
  std::map<std::string, Subscribed> now;
  std::vector<std::string> there;
  for (const std::string& name : names) {
    const absl::StatusOr<std::shared_ptr<log::TopicFiles>> topic =
        broker_->directory().OpenTopic(name);
    const auto known = subscribed_.find(name);
    if (topic.ok()) {
      refused_.erase(name);
      if (known == subscribed_.end() || known->second.id != (*topic)->id()) appeared_.insert(name);
      now[name] = {(*topic)->id(), (*topic)->partitions()};
      there.push_back(name);
    } else if (known != subscribed_.end()) {
      now[name] = known->second;  // deleted, it may come back under its name
      if (!absl::IsNotFound(topic.status())) there.push_back(name);
    } else if (!absl::IsNotFound(topic.status()) && refused_.insert(name).second) {
      errors_.push_back({topic.status(), nullptr, nullptr});  // once, till it could be opened
    }
  }
  is_missing_one_ = there.size() < now.size();
  if (now != subscribed_) {
    const absl::Status status = member_->Subscribe(there, group::Group::Wait::kNotLong);
    // Who decides may be stopped: the others' reading goes on, and the next look tries again.
    if (!absl::IsUnavailable(status)) TellLook(status);
    if (status.ok()) {
      subscribed_ = std::move(now);
      std::erase_if(former_,
                    [&](const TopicPartition& p) { return !subscribed_.contains(p.topic); });
    }
  }
  // A bell may have been lost with who rang it.
  TakeWhatIsOurs();
  WatchAgain();
  return absl::OkStatus();
}

}  // namespace cordwood::internal
