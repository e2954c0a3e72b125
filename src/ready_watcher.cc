#include "ready_watcher.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "cordwood/os/clock.h"
#include "cordwood/os/doorbell.h"

namespace cordwood::internal {
namespace {

// Who rings may die between its store and its ring.
constexpr std::int64_t kLookNanos = 1'000'000'000;
// A page that cannot be written cannot say that somebody sleeps on it.
constexpr std::int64_t kReadOnlyLookNanos = 10'000'000;

}  // namespace

WatchedTopic::WatchedTopic(std::shared_ptr<log::TopicFiles> f, bool until_durable)
    : files(std::move(f)),
      control(files->control()),
      durable(until_durable),
      writable(!files->context().read_only()),
      partitions(control->partitions()),
      idle(new std::atomic<std::uint64_t>[static_cast<std::size_t>(partitions)]) {
  for (int i = 0; i < partitions; ++i) {
    idle[static_cast<std::size_t>(i)].store(kBusy, std::memory_order_relaxed);
  }
}

ReadyWatcher::ReadyWatcher(std::shared_ptr<const log::Context> context)
    : context_(std::move(context)), thread_([this] { Run(); }) {}

ReadyWatcher::~ReadyWatcher() { Stop(); }

void ReadyWatcher::Tell(int event_fd) {
  const std::uint64_t one = 1;
  // It fails only where it is readable already.
  [[maybe_unused]] const ssize_t written = write(event_fd, &one, sizeof one);
}

void ReadyWatcher::Watch(int event_fd, std::vector<std::shared_ptr<WatchedTopic>> topics,
                         std::shared_ptr<const group::Member> member, bool every_second) {
  Watched watched{.event_fd = event_fd,
                  .every_second = every_second,
                  .topics = std::move(topics),
                  .ring_next = {},
                  .member = std::move(member)};
  for (const auto& topic : watched.topics) {
    watched.ring_next.push_back(topic->control->header().ring_head.load(std::memory_order_acquire));
  }
  {
    absl::MutexLock lock(&mutex_);
    std::erase_if(watched_, [&](const Watched& w) { return w.event_fd == event_fd; });
    watched_.push_back(std::move(watched));
    // What was rung before is seen here.
    Look(true);
  }
  changed_.fetch_add(1, std::memory_order_release);
  os::FutexWake(&changed_, os::kWakeAll);
}

void ReadyWatcher::Forget(int event_fd) {
  absl::MutexLock lock(&mutex_);
  std::erase_if(watched_, [&](const Watched& w) { return w.event_fd == event_fd; });
}

void ReadyWatcher::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    for (const Watched& watched : watched_) Tell(watched.event_fd);
  }
  changed_.fetch_add(1, std::memory_order_release);
  os::FutexWake(&changed_, os::kWakeAll);
  absl::MutexLock lock(&thread_mutex_);
  if (thread_.joinable()) thread_.join();
}

void ReadyWatcher::Run() {
  std::int64_t next_look = 0;
  for (;;) {
    const std::uint32_t heard = changed_.load(std::memory_order_acquire);
    const std::int64_t now = os::MonotonicNanos();
    const bool all = context_->read_only() || now >= next_look;
    if (all) next_look = now + kLookNanos;
    {
      absl::MutexLock lock(&mutex_);
      if (stop_) return;
      Look(all);
    }
    Sleep(heard);
  }
}

void ReadyWatcher::Look(bool all) {
  for (Watched& watched : watched_) {
    // Before the look: what is rung later ends the next sleep.
    if (watched.member != nullptr) {
      watched.rung = watched.member->bell().load(std::memory_order_acquire);
    }
    if (HasNews(watched, all)) Tell(watched.event_fd);
  }
}

bool ReadyWatcher::HasNews(Watched& watched, bool all) const {
  bool news = all && watched.every_second;
  if (watched.member != nullptr && watched.member->NeedsPoll(os::MonotonicNanos())) news = true;
  for (std::size_t t = 0; t < watched.topics.size(); ++t) {
    const WatchedTopic& topic = *watched.topics[t];
    const int partitions = topic.partitions;
    // Read-only, another file may have become the topic's control file meanwhile.
    if (context_->read_only() && topic.files->Refresh()) news = true;
    if (topic.files->control() != topic.control) news = true;
    const bool whole =
        ReadRing(topic.control->header(), watched.ring_next[t], [&](std::uint32_t partition) {
          // One that was added, else: a Poll looks for it.
          news = partition >= static_cast<std::uint32_t>(partitions) ||
                 topic.LookAgain(static_cast<int>(partition)) || news;
        });
    if (whole && !all) continue;
    for (int p = 0; p < partitions && !news; ++p) news = topic.LookAgain(p);
  }
  return news;
}

void ReadyWatcher::Sleep(std::uint32_t heard) {
  std::vector<std::shared_ptr<WatchedTopic>> kept;  // what the words below lie in
  std::vector<std::shared_ptr<const group::Member>> kept_too;
  std::vector<os::FutexWaiter> words = {{&changed_, heard}};
  std::int64_t longest_ns = context_->read_only() ? kReadOnlyLookNanos : kLookNanos;
  if (!context_->read_only()) {
    absl::MutexLock lock(&mutex_);
    for (const Watched& watched : watched_) {
      if (watched.member != nullptr) {
        longest_ns = std::min(longest_ns, group::Member::kLookNanos);
        kept_too.push_back(watched.member);
        words.push_back({&watched.member->bell(), watched.rung});
      }
      for (std::size_t t = 0; t < watched.topics.size(); ++t) {
        log::ControlHeader& header = watched.topics[t]->control->header();
        const std::uint32_t bell = header.bell.load(std::memory_order_acquire);
        // An exchange, so that a ringer that has looked before is one that we see below:
        // pairs with the exchange in ControlFile::RingTopic() (rule 7).
        header.sleepers.exchange(1, std::memory_order_seq_cst);
        if (header.ring_head.load(std::memory_order_seq_cst) != watched.ring_next[t]) return;
        kept.push_back(watched.topics[t]);
        words.push_back({&header.bell, bell});
      }
    }
  }
  os::FutexWaitAny(words, longest_ns);
}

absl::StatusOr<std::shared_ptr<ReadyWatcher>> ConsumerHub::Watcher(
    const std::shared_ptr<const log::Context>& context) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<ReadyWatcher> watcher = watcher_.lock();
  if (watcher != nullptr) return watcher;
  try {
    watcher = std::make_shared<ReadyWatcher>(context);
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no thread for the eventfds of consumers: ", error.what()));
  }
  watcher_ = watcher;
  return watcher;
}

void ConsumerHub::Close() {
  closing_.store(1, std::memory_order_seq_cst);
  os::FutexWake(&closing_, os::kWakeAll);
  std::shared_ptr<ReadyWatcher> watcher;
  {
    absl::MutexLock lock(&mutex_);
    watcher = watcher_.lock();
  }
  if (watcher != nullptr) watcher->Stop();
}

}  // namespace cordwood::internal
