#include "consumer_state.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {

ConsumerState::ConsumerState(std::shared_ptr<BrokerState> broker, const ConsumerOptions& options)
    : broker_(std::move(broker)),
      options_(options),
      pid_(getpid()),
      durable_only_(options.read_up_to == ReadUpTo::kDurable) {}

ConsumerState::~ConsumerState() {
  if (IsForked()) {
    Abandon();
    return;
  }
  LeaveAll();
  if (event_fd_ < 0) return;
  watcher_->Forget(event_fd_);
  watcher_.reset();
  close(event_fd_);
}

bool ConsumerState::IsForked() const { return getpid() != pid_; }

// In a forked child the watcher has no thread and perhaps a lock that nobody gives back,
// and the lock of a member belongs to the parent: they are left where they are.
void ConsumerState::Abandon() {
  if (member_ != nullptr) static_cast<void>(new std::shared_ptr<group::Member>(member_));
  if (watcher_ != nullptr) static_cast<void>(new std::shared_ptr<ReadyWatcher>(watcher_));
  if (event_fd_ >= 0) close(event_fd_);
}

absl::Status ConsumerState::CheckUsable() const {
  CORDWOOD_RETURN_IF_ERROR(broker_->status());
  if (closed_) return absl::FailedPreconditionError("the consumer was closed");
  if (broker_->consumers().closing().load(std::memory_order_relaxed) != 0) {
    return absl::FailedPreconditionError("the broker is being closed");
  }
  return absl::OkStatus();
}

absl::Status ConsumerState::CheckOutsideCallback(std::string_view call) const {
  if (!in_callback_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(std::string(call),
                   " inside a callback of the same consumer; call it after "
                   "the Poll or Close that called back has returned"));
}

absl::StatusOr<PartitionReading*> ConsumerState::Find(const std::string& topic,
                                                      int partition) const {
  const auto found = topics_.find(topic);
  if (found != topics_.end() && partition >= 0 &&
      static_cast<std::size_t>(partition) < found->second->partitions.size()) {
    PartitionReading* reading =
        found->second->partitions[static_cast<std::size_t>(partition)].get();
    if (reading != nullptr && !reading->arriving) return reading;
  }
  if (former_.contains({topic, partition})) {
    return At(absl::AbortedError(absl::StrCat(topic, "-", partition,
                                              " is not this consumer's any "
                                              "more: group ",
                                              options_.group, " has given it away")),
              PartitionName{topic, partition});
  }
  return At(absl::FailedPreconditionError(
                absl::StrCat(topic, "-", partition,
                             " is not assigned to this consumer; what Subscribe gives "
                             "is there from the next Poll on")),
            PartitionName{topic, partition});
}

void ConsumerState::List(const TopicReading& topic, std::vector<TopicPartition>& to) {
  for (const auto& partition : topic.partitions) {
    if (partition != nullptr && !partition->arriving) {
      to.push_back({topic.name(), partition->number});
    }
  }
}

std::vector<TopicPartition> ConsumerState::Assignment() const {
  std::vector<TopicPartition> all;
  for (const auto& [name, topic] : topics_) List(*topic, all);
  return all;
}

void ConsumerState::Call(Consumer& self, const RebalanceCallback& callback,
                         const std::vector<TopicPartition>& partitions) {
  if (!callback || partitions.empty()) return;
  struct Inside {
    explicit Inside(bool& f) : flag(f) { flag = true; }
    ~Inside() { flag = false; }
    bool& flag;
  } const inside(in_callback_);
  callback(self, partitions);
}

// ---- What is assigned

void ConsumerState::Add(std::unique_ptr<TopicReading> topic) {
  for (const auto& partition : topic->partitions) {
    if (partition != nullptr) Enter(*partition);
  }
  topics_[topic->name()] = std::move(topic);
}

void ConsumerState::Enter(PartitionReading& partition) {
  ++assigned_;
  Enqueue(partition);
}

// Takes a partition out of everything that points at it.
void ConsumerState::Drop(PartitionReading& partition) {
  for (std::size_t n = queued_; n > 0; --n) {
    PartitionReading& other = *Dequeue();
    if (&other != &partition) Enqueue(other);
  }
  std::erase(unsaid_, &partition);
  std::erase_if(errors_, [&](const Error& e) { return e.partition == &partition; });
  --(partition.arriving ? arriving_ : assigned_);
}

void ConsumerState::Close(TopicReading& topic, int partition) {
  std::unique_ptr<PartitionReading>& place = topic.partitions[static_cast<std::size_t>(partition)];
  Drop(*place);
  SetBusy(*place);
  place.reset();
}

void ConsumerState::Remove(TopicReading* topic) {
  const auto is_of_topic = [&](const PartitionReading* p) { return p->topic == topic; };
  for (std::size_t n = queued_; n > 0; --n) {
    PartitionReading& partition = *Dequeue();
    if (!is_of_topic(&partition)) Enqueue(partition);
  }
  std::erase_if(unsaid_, is_of_topic);
  std::erase_if(errors_, [&](const Error& e) {
    return e.deleted == topic || (e.partition != nullptr && is_of_topic(e.partition));
  });
  for (const auto& partition : topic->partitions) {
    if (partition != nullptr) --(partition->arriving ? arriving_ : assigned_);
  }
  topics_.erase(topics_.find(topic->name()));
}

void ConsumerState::LeaveAll() {
  unopened_.clear();
  while (!topics_.empty()) Remove(topics_.begin()->second.get());
  if (member_ == nullptr) return;
  member_->Leave();
  member_.reset();
}

absl::Status ConsumerState::Close(Consumer& self) {
  CORDWOOD_RETURN_IF_ERROR(CheckOutsideCallback("Close"));
  if (closed_ || IsForked()) return absl::OkStatus();
  const bool is_open = broker_->status().ok();
  if (is_open && consumed_.batches != 0) TellConsumed();
  const bool is_subscribed = mode_ == Mode::kSubscribed || mode_ == Mode::kPattern;
  absl::Status committed = is_open ? CommitAfterPoll() : absl::OkStatus();
  const std::vector<TopicPartition> all = Assignment();
  // Too late to commit where the broker is closed.
  if (is_subscribed) Call(self, is_open ? options_.on_revoked : options_.on_lost, all);
  LeaveAll();
  mode_ = Mode::kNone;
  closed_ = true;
  if (event_fd_ >= 0) {
    watcher_->Forget(event_fd_);
    ReadyWatcher::Tell(event_fd_);  // a Poll would say that it is closed
  }
  return committed;
}

}  // namespace cordwood::internal
