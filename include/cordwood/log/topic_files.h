// The files of one topic, as this process has them open: its config, its control file,
// and a Log for each partition that was asked for.
//
//   std::shared_ptr<TopicFiles> orders = directory->OpenTopic("orders").value();
//   std::shared_ptr<Log> log = orders->OpenLog(3).value();
//
//   topics/<topic>/config   "topic.id=<32 hex digits>", then "name=value" lines with
//                           Kafka's names, sorted; every line ends with a newline
//                 /control  log/control.h
//                 /pins     log/pins.h, if something was pinned
//                 /<p>/...  the segments of partition p
//
// Thread safety: every operation.
//
// Lifetime: a Log lives as long as its TopicFiles, so that a handle may keep a plain
// pointer to it beside a shared_ptr to what holds the TopicFiles.

#ifndef CORDWOOD_LOG_TOPIC_FILES_H_
#define CORDWOOD_LOG_TOPIC_FILES_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/log/context.h"
#include "cordwood/log/control.h"
#include "cordwood/log/log.h"
#include "cordwood/options.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

// What the file `config` says.
struct TopicIdentity {
  os::Bits128 id = {};
  TopicConfig config = {};
};

std::string FormatTopicConfig(const TopicIdentity& topic);
// The config with these properties instead. kInvalidArgument names one that is unknown, bad,
// or for ever as the topic was made with; the value that it has is no change.
absl::StatusOr<TopicConfig> AlteredConfig(const TopicConfig& config,
                                          const std::map<std::string, std::string>& properties);
// kDataLoss names `path`, for messages, and the line.
absl::StatusOr<TopicIdentity> ParseTopicConfig(std::string_view text, std::string_view path);

// 32 lower-case digits, as in the config and in the names of unfinished folders.
std::string HexOf(const os::Bits128& id);

// "topics/orders"
std::string TopicFolder(std::string_view topic);
// Where the files of a partition are that lie in `folder`, which need not be the topic's
// own: one that is being made has another name.
segment::PartitionFiles PartitionFilesIn(const Context& context, std::string_view folder,
                                         std::string_view topic, const TopicIdentity& identity,
                                         int partition);

class TopicFiles {
 public:
  // The config of a topic. kNotFound: there is no such topic.
  static absl::StatusOr<TopicIdentity> ReadConfig(os::Folder& root, std::string_view name);

  // `control` is ready: made, believed or recovered.
  TopicFiles(std::shared_ptr<const Context> context, std::string_view name, TopicIdentity identity,
             std::shared_ptr<ControlFile> control);
  TopicFiles(const TopicFiles&) = delete;
  TopicFiles& operator=(const TopicFiles&) = delete;

  const std::string& name() const { return name_; }
  const os::Bits128& id() const { return identity_.id; }
  // As many as there are by now: another process may have added some.
  int partitions() const {
    const int known = partitions_.load(std::memory_order_acquire);
    const ControlHeader& header = *header_.load(std::memory_order_acquire);
    if (ABSL_PREDICT_TRUE(header.partitions.load(std::memory_order_relaxed) ==
                          static_cast<std::uint32_t>(known))) {
      return known;
    }
    return LookForMore();
  }
  // As it is now, in every process: one that was altered elsewhere is read again. Takes a
  // lock, so not for each record; what the append path needs of it, the logs have.
  TopicConfig config() const;
  // Does only the reading again, for who appends and does not ask. One load if nothing has
  // changed. A config that cannot be read is as it was, and is read the next time.
  void RefreshConfig() const;
  // Whether somebody is changing the config, or died over it.
  bool IsConfigChanging() const {
    const ControlHeader& header = *header_.load(std::memory_order_acquire);
    return header.config_version.load(std::memory_order_acquire) % 2 != 0;
  }
  std::shared_ptr<ControlFile> control() const;
  const Context& context() const { return *context_; }

  // The partition's log, made by the first call. kNotFound: it does not exist. Read-only,
  // it may be another one than before: see Refresh().
  absl::StatusOr<std::shared_ptr<Log>> OpenLog(int partition);
  // The same without counting a reference.
  absl::StatusOr<Log*> FindLog(int partition) {
    // Acquire: pairs with the release in LookForMoreLocked(); the slots are there.
    const Slots& slots = *slots_.load(std::memory_order_acquire);
    if (partition >= 0 && partition < slots.count) {
      // Acquire: pairs with the release in OpenSlow(); what it points at is whole.
      Log* log = slots.at(partition).ready.load(std::memory_order_acquire);
      if (ABSL_PREDICT_TRUE(log != nullptr)) return log;
    }
    return OpenSlow(partition);
  }
  // Null if nobody has asked for it yet.
  std::shared_ptr<Log> LogIfOpen(int partition) const;
  std::vector<std::shared_ptr<Log>> OpenLogs() const;

  // OK; kFailedPrecondition: closed, or inherited over a fork; kNotFound: deleted, by
  // whichever process.
  absl::Status status() const;
  bool is_deleted() const;
  void MarkDeleted() { deleted_.store(true, std::memory_order_release); }

  // Read-only: looks whether another process has recovered the topic, or begun to write
  // to it, since its end was found. Then OpenLog gives new logs; true if so. Logs, readers
  // and waits from before stay at the end that they know, so whoever follows a topic asks
  // now and then: it costs an open of one file. Otherwise false.
  bool Refresh();

  // For one maintenance thread at a time: f(Log&) for every open log whose tail has moved
  // since the last call. True if there was one.
  template <class F>
  bool ForEachMoved(F f) {
    bool moved = false;
    const Slots& slots = *slots_.load(std::memory_order_acquire);
    for (int i = 0; i < slots.count; ++i) {
      Slot& slot = slots.at(i);
      Log* log = slot.ready.load(std::memory_order_acquire);
      if (log == nullptr) continue;
      const std::uint64_t tail = log->block().tail.load(std::memory_order_relaxed);
      if (slot.seen.exchange(tail, std::memory_order_relaxed) == tail) continue;
      moved = true;
      f(*log);
    }
    return moved;
  }

 private:
  struct Slot {
    std::atomic<Log*> ready{nullptr};  // never set read-only, where a log may be replaced
    std::atomic<std::uint64_t> seen{0};
    std::shared_ptr<Log> log;
  };
  // Replaced by longer ones, and all are kept: who looks for a log takes no lock.
  struct Slots {
    explicit Slots(int n) : count(n), all(new Slot[static_cast<std::size_t>(n)]) {}
    Slot& at(int partition) const { return all[static_cast<std::size_t>(partition)]; }

    const int count;  // at least as many as there are partitions
    const std::unique_ptr<Slot[]> all;
  };

  int LookForMore() const;
  void LookForMoreLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Log*> OpenSlow(int partition);
  bool RefreshLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RefreshConfigLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<const Context> context_;
  const std::string name_;
  const TopicIdentity identity_;  // the config as it was when this was made
  std::atomic<bool> deleted_{false};

  mutable absl::Mutex mutex_;
  std::shared_ptr<ControlFile> control_ ABSL_GUARDED_BY(mutex_);
  // Its header, for who takes no lock, and the block of partition 0, which says whether the
  // topic is deleted. Or that of one of replaced_.
  std::atomic<const ControlHeader*> header_;
  std::atomic<const ControlBlock*> first_block_;
  mutable TopicConfig config_ ABSL_GUARDED_BY(mutex_);
  // Of config_; kNoVersion: it has to be read. Stored under mutex_.
  static constexpr std::uint64_t kNoVersion = 1;  // odd, so never that of a whole config
  mutable std::atomic<std::uint64_t> config_version_;
  mutable std::atomic<int> partitions_;  // stored under mutex_, after slots_
  // A slot's `log` is stored under mutex_, once unless read-only.
  mutable std::atomic<const Slots*> slots_;
  mutable std::vector<std::unique_ptr<const Slots>> all_slots_ ABSL_GUARDED_BY(mutex_);
  // Read-only: logs and control files that were replaced. Somebody may still point at them.
  std::vector<std::shared_ptr<const void>> replaced_ ABSL_GUARDED_BY(mutex_);
};

// Read-only: the control file as it can be believed, or a private one with what a scan of
// the segments finds. Stores nothing.
absl::StatusOr<std::shared_ptr<ControlFile>> OpenControlReadOnly(
    const std::shared_ptr<const Context>& context, std::string_view name,
    const TopicIdentity& identity);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_TOPIC_FILES_H_
