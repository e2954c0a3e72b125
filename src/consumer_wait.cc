// How a consumer knows what has news, and sleeps while nothing has.

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "consumer_state.h"
#include "cordwood/os/clock.h"
#include "cordwood/status_macros.h"

namespace cordwood::internal {
namespace {

// Who rings may die between its store and its ring: all are looked at so often anyway.
constexpr std::int64_t kLookNanos = 1'000'000'000;
// A page that cannot be written cannot say that somebody sleeps on it.
constexpr std::int64_t kReadOnlyLookNanos = 10'000'000;

}  // namespace

// ---- The queue

void ConsumerState::SetBusy(PartitionReading& partition) {
  partition.topic->watched->idle[static_cast<std::size_t>(partition.number)].store(
      WatchedTopic::kBusy, std::memory_order_release);
}

void ConsumerState::Enqueue(PartitionReading& partition) {
  SetBusy(partition);
  partition.seen = WatchedTopic::kBusy;
  if (partition.queued || partition.paused || partition.failed) return;
  partition.queued = true;
  partition.next = nullptr;
  (last_ == nullptr ? first_ : last_->next) = &partition;
  last_ = &partition;
  ++queued_;
}

PartitionReading* ConsumerState::Dequeue() {
  PartitionReading* partition = first_;
  first_ = partition->next;
  if (first_ == nullptr) last_ = nullptr;
  partition->queued = false;
  --queued_;
  return partition;
}

// Leaves a partition that had nothing more when its word was `word`. False: it has by now.
bool ConsumerState::MakeIdle(PartitionReading& partition, std::uint64_t word) {
  const WatchedTopic& watched = *partition.topic->watched;
  // Before the flag: who is rung because of the flag finds it here (ReadyWatcher).
  watched.idle[static_cast<std::size_t>(partition.number)].store(word, std::memory_order_release);
  if (watched.Arm(partition.number, word)) return true;
  SetBusy(partition);
  return false;
}

// Before a sleep: what has news stays queued.
void ConsumerState::MakeAllIdle() {
  for (std::size_t n = queued_; n > 0; --n) {
    PartitionReading& partition = *Dequeue();
    if (partition.paused || partition.failed) continue;
    std::uint64_t word = partition.seen;
    bool at_end = true;
    if (word == WatchedTopic::kBusy) {
      // It has had no turn. The word first: what comes after the look at the end changes it.
      word = partition.topic->watched->Word(partition.number);
      at_end = IsAtEnd(partition);
    }
    if (!at_end || !MakeIdle(partition, word)) Enqueue(partition);
  }
}

void ConsumerState::TakeNews(std::int64_t now_ns) {
  for (const auto& entry : topics_) {
    TopicReading& topic = *entry.second;
    const log::ControlHeader& header = topic.watched->control->header();
    const bool whole = ReadRing(header, topic.ring_next, [&](std::uint32_t number) {
      // A number from a shared page: ours only if it is one of ours. Or one that was added.
      if (number >= topic.partitions.size()) next_topics_ns_ = 0;
      if (number >= topic.partitions.size() || topic.partitions[number] == nullptr) return;
      if (topic.watched->LookAgain(static_cast<int>(number))) Enqueue(*topic.partitions[number]);
    });
    if (!whole) next_look_ns_ = 0;
  }
  if (now_ns < next_look_ns_) return;
  next_look_ns_ = now_ns + (broker_->read_only() ? kReadOnlyLookNanos : kLookNanos);
  LookAtAll();
}

void ConsumerState::LookAtAll() {
  for (const auto& [name, topic] : topics_) {
    if (broker_->read_only()) RefreshReadOnly(*topic);
    for (const auto& partition : topic->partitions) {
      if (partition != nullptr && topic->watched->LookAgain(partition->number)) {
        Enqueue(*partition);
      }
    }
  }
}

// Another process has begun to write to the topic, or has recovered it: its control file
// is another one now.
void ConsumerState::RefreshReadOnly(TopicReading& topic) {
  topic.files->Refresh();
  if (topic.files->control() == topic.watched->control) return;
  topic.watched = std::make_shared<WatchedTopic>(topic.files, durable_only_);
  topic.ring_next = 0;
  for (const auto& partition : topic.partitions) {
    if (partition == nullptr) continue;
    absl::StatusOr<std::shared_ptr<log::Log>> log = topic.files->OpenLog(partition->number);
    if (!log.ok()) {
      Fail(*partition, log.status());
      continue;
    }
    partition->log = *log;
    partition->cursor.GoOnIn(*std::move(log));
    Enqueue(*partition);
  }
  WatchAgain();
}

// ---- Sleeping

// `heard` is what wake_ was before the last look at what could end the Poll.
void ConsumerState::Sleep(std::int64_t until_ns, std::uint32_t heard) {
  words_.clear();
  words_.push_back({&wake_, heard});
  words_.push_back({&broker_->consumers().closing(), 0});
  if (member_ != nullptr) words_.push_back({&member_->bell(), member_->heard()});
  const bool read_only = broker_->read_only();
  if (!read_only) {
    for (const auto& [name, topic] : topics_) {
      log::ControlHeader& header = topic->watched->control->header();
      const std::uint32_t bell = header.bell.load(std::memory_order_acquire);
      // An exchange, so that a ringer that has looked before is one that we see below:
      // pairs with the exchange in ControlFile::RingTopic() (rule 7).
      header.sleepers.exchange(1, std::memory_order_seq_cst);
      if (header.ring_head.load(std::memory_order_seq_cst) != topic->ring_next) return;
      words_.push_back({&header.bell, bell});
    }
  }
  const std::int64_t look_ns = read_only            ? kReadOnlyLookNanos
                               : member_ != nullptr ? group::Member::kLookNanos
                                                    : kLookNanos;
  // Asleep in Poll it is not overdue.
  const std::int64_t interval_ns = absl::ToInt64Nanoseconds(options_.max_poll_interval);
  os::FutexWaitAny(words_, std::min({until_ns - os::MonotonicNanos(), look_ns, interval_ns / 2}));
}

void ConsumerState::Wakeup() {
  wakeup_.store(true, std::memory_order_seq_cst);
  wake_.fetch_add(1, std::memory_order_seq_cst);
  os::FutexWake(&wake_, os::kWakeAll);
  const int event_fd = event_fd_.load(std::memory_order_acquire);
  if (event_fd >= 0) ReadyWatcher::Tell(event_fd);
}

absl::Status ConsumerState::Cancelled(const std::stop_token& stop) {
  if (wakeup_.load(std::memory_order_seq_cst) &&
      wakeup_.exchange(false, std::memory_order_seq_cst)) {
    return absl::CancelledError("Poll was ended by Wakeup");
  }
  if (stop.stop_requested()) return absl::CancelledError("Poll was ended by its stop token");
  return absl::OkStatus();
}

// ---- The eventfd
//
// It is readable from the news on until a Poll looks: the Poll empties it first, then it
// looks, so that news that come while it looks make it readable again. What the Poll
// leaves makes it readable too. In between every partition is idle with its flag set, so
// the watcher hears of what comes.

absl::StatusOr<int> ConsumerState::ReadyFd() {
  CORDWOOD_RETURN_IF_ERROR(CheckUsable());
  if (event_fd_ >= 0) return event_fd_.load();
  CORDWOOD_ASSIGN_OR_RETURN(watcher_, broker_->consumers().Watcher(broker_->directory().context()));
  const int event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event_fd < 0) {
    return absl::ResourceExhaustedError(absl::StrCat("eventfd: ", strerror(errno)));
  }
  event_fd_.store(event_fd, std::memory_order_release);
  WatchAgain();
  TellReady();
  return event_fd;
}

bool ConsumerState::HasSomething() const {
  return queued_ != 0 || !errors_.empty() || IsToLookForTopics() || arriving_ != 0 ||
         (rejoin_ && next_rejoin_ns_ == 0) || (member_ != nullptr && member_->HasNews()) ||
         wakeup_.load(std::memory_order_seq_cst);
}

void ConsumerState::TellReady() {
  if (event_fd_ < 0) return;
  MakeAllIdle();
  if (HasSomething()) ReadyWatcher::Tell(event_fd_);
}

void ConsumerState::WatchAgain() {
  if (event_fd_ < 0) return;
  std::vector<std::shared_ptr<WatchedTopic>> topics;
  topics.reserve(topics_.size());
  for (const auto& [name, topic] : topics_) topics.push_back(topic->watched);
  const bool looks_for_topics =
      mode_ == Mode::kPattern || is_missing_one_ || !unopened_.empty() || rejoin_;
  watcher_->Watch(event_fd_, std::move(topics), member_, looks_for_topics);
}

}  // namespace cordwood::internal
