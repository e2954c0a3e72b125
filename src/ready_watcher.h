// What tells the eventfds of consumers that there is news: one thread for all consumers
// of a broker that asked for one.
//
// The thread sleeps on the bells of their topics. It never says that there is nothing:
// a Poll does that, before it looks (consumer_wait.cc). So an eventfd is readable from
// the news on until a Poll has looked.
//
// Thread safety: every operation, but for Watched, which says it itself.
//
// Lifetime: a consumer holds the watcher; the last one that goes ends the thread. In a
// forked child there is no thread, and a ReadyWatcher must not be touched.

#ifndef CORDWOOD_READY_WATCHER_H_
#define CORDWOOD_READY_WATCHER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/group/membership.h"
#include "cordwood/log/context.h"
#include "cordwood/log/control.h"
#include "cordwood/log/topic_files.h"

namespace cordwood::internal {

// A topic as a consumer waits for it. Shared by the consumer, which stores, and the
// watcher, which reads.
struct WatchedTopic {
  // The partition does not wait for news: it is read, paused or not assigned.
  static constexpr std::uint64_t kBusy = ~std::uint64_t{0};

  WatchedTopic(std::shared_ptr<log::TopicFiles> f, bool until_durable);

  // What of a partition changes when there is news.
  std::uint64_t Word(int partition) const {
    const log::ControlBlock& block = control->block(partition);
    // seq_cst: pairs with the look at the attention flags after a writer's unlock, or
    // after a sync. Who has set its flag before this load is seen there, or sees here.
    return durable ? static_cast<std::uint64_t>(block.durable.load(std::memory_order_seq_cst))
                   : block.tail.load(std::memory_order_seq_cst);
  }
  std::atomic<std::uint32_t>& attention(int partition) const {
    log::ControlBlock& block = control->block(partition);
    return durable ? block.durable_attention : block.attention;
  }
  bool IsDeleted(int partition) const {
    return control->block(partition).state.load(std::memory_order_relaxed) ==
           static_cast<std::uint32_t>(log::PartitionState::kDeleted);
  }
  // Whether a partition that waits has news; if not, its flag is set again, for whoever
  // rings takes it away: for another consumer, or and then died before it rang.
  bool LookAgain(int partition) const {
    const std::uint64_t seen =
        idle[static_cast<std::size_t>(partition)].load(std::memory_order_acquire);
    return seen != kBusy && !Arm(partition, seen);
  }
  // Rule 8: the flag, then the look. False: the word is not `word` any more.
  bool Arm(int partition, std::uint64_t word) const {
    // seq_cst, as in Word(). A page that cannot be written is looked at every 10 ms.
    if (writable) attention(partition).fetch_or(log::kArmed, std::memory_order_seq_cst);
    return Word(partition) == word && !IsDeleted(partition);
  }

  const std::shared_ptr<log::TopicFiles> files;
  const std::shared_ptr<log::ControlFile> control;
  const bool durable;  // only what is durable is news
  const bool writable;
  const int partitions;  // those that were there when this was made
  // By partition: the word with which it was left for want of news, or kBusy.
  const std::unique_ptr<std::atomic<std::uint64_t>[]> idle;
};

// Calls f(partition) for what the topic's ring names from `next` on; false: it has
// overflowed or an entry is not written yet, so that all have to be looked at.
template <class F>
bool ReadRing(const log::ControlHeader& header, std::uint64_t& next, F f) {
  const std::uint64_t head = header.ring_head.load(std::memory_order_acquire);
  if (head == next) return true;
  const std::uint64_t from = std::exchange(next, head);
  if (head - from > log::ControlHeader::kRingSize) return false;
  for (std::uint64_t i = from; i != head; ++i) {
    // Acquire: pairs with the release in ControlFile::RingTopic().
    const std::uint64_t entry =
        header.ring[i % log::ControlHeader::kRingSize].load(std::memory_order_acquire);
    if (entry >> 32 != static_cast<std::uint32_t>(i + 1)) return false;
    f(static_cast<std::uint32_t>(entry));
  }
  return true;
}

class ReadyWatcher {
 public:
  explicit ReadyWatcher(std::shared_ptr<const log::Context> context);
  ReadyWatcher(const ReadyWatcher&) = delete;
  ReadyWatcher& operator=(const ReadyWatcher&) = delete;
  ~ReadyWatcher();

  // Tells event_fd of news in these topics from now on, and of what there is to do for the
  // member, if there is one; `every_second`: and once a second.
  void Watch(int event_fd, std::vector<std::shared_ptr<WatchedTopic>> topics,
             std::shared_ptr<const group::Member> member, bool every_second);
  // After this the watcher does not use event_fd any more.
  void Forget(int event_fd);
  // Tells all, and ends the thread. Also when it has ended.
  void Stop();

  static void Tell(int event_fd);

 private:
  struct Watched {
    int event_fd = -1;
    bool every_second = false;
    std::vector<std::shared_ptr<WatchedTopic>> topics;
    std::vector<std::uint64_t> ring_next;  // by topic
    std::shared_ptr<const group::Member> member;
    std::uint32_t rung = 0;  // what its group's bell was before the last look
  };

  void Run();
  // Tells who has news. `all`: looks at every partition, not only at the rings.
  void Look(bool all) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasNews(Watched& watched, bool all) const;
  void Sleep(std::uint32_t heard);

  const std::shared_ptr<const log::Context> context_;
  std::atomic<std::uint32_t> changed_{0};  // bumped by whoever wants the thread to look
  absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<Watched> watched_ ABSL_GUARDED_BY(mutex_);
  absl::Mutex thread_mutex_;
  std::thread thread_ ABSL_GUARDED_BY(thread_mutex_);
};

// What the consumers of one broker share.
class ConsumerHub {
 public:
  // Nonzero once the broker is being closed. A Poll that sleeps does so on this too.
  const std::atomic<std::uint32_t>& closing() const { return closing_; }
  // kResourceExhausted: no thread can be had.
  absl::StatusOr<std::shared_ptr<ReadyWatcher>> Watcher(
      const std::shared_ptr<const log::Context>& context);
  // Ends every Poll that sleeps, and the watcher. By the broker, before it closes.
  void Close();

 private:
  std::atomic<std::uint32_t> closing_{0};
  absl::Mutex mutex_;
  std::weak_ptr<ReadyWatcher> watcher_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cordwood::internal

#endif  // CORDWOOD_READY_WATCHER_H_
