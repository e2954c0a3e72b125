// What all handles of one open broker share: the directory, the groups, and the thread
// that does the work nobody should wait for.
//
// Lifetime: every Broker, Topic, Partition, Producer, Consumer and reader holds it; the
// last one that goes closes the directory.
//
// Thread safety: every operation.

#ifndef CORDWOOD_BROKER_STATE_H_
#define CORDWOOD_BROKER_STATE_H_

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cordwood/describe.h"
#include "cordwood/group/offsets.h"
#include "cordwood/group/share.h"
#include "cordwood/log/compaction_round.h"
#include "cordwood/log/directory.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/options.h"
#include "cordwood/partitioner.h"
#include "ready_watcher.h"

namespace cordwood::internal {

// The regular work on a directory, by the background thread or by Maintain.
class Maintenance {
 public:
  Maintenance(std::shared_ptr<log::Directory> directory, std::shared_ptr<group::GroupStore> groups,
              std::shared_ptr<group::ShareStore> shares, const BrokerOptions& options)
      : directory_(std::move(directory)),
        groups_(std::move(groups)),
        shares_(std::move(shares)),
        low_disk_bytes_(options.low_disk_bytes),
        on_low_disk_(options.on_low_disk),
        compaction_(*directory_) {}

  // One flush pass: what is published becomes durable, then what was acknowledged in share
  // groups, then what was committed before the pass began (rule 23 of the protocol), then
  // those who wait are told.
  absl::Status FlushPass(std::int64_t deadline_ns);
  // Room ahead of the writers; true if somebody has appended since the last call.
  bool PrepareAhead(std::int64_t deadline_ns);
  // Gives up what the topics' retention says, and looks how much the disk has left.
  void Retain(std::int64_t deadline_ns);

  void CheckDisk();
  // Goes on with what is to be compacted. True: there is more to do at once.
  bool Compact(std::int64_t deadline_ns);
  // Before the directory is closed: what is half done is taken away.
  void EndCompaction();

  // The thread's work, until Stop().
  void Run(absl::Duration flush_interval);
  void Stop();

 private:
  const std::shared_ptr<log::Directory> directory_;
  const std::shared_ptr<group::GroupStore> groups_;
  const std::shared_ptr<group::ShareStore> shares_;
  const std::int64_t low_disk_bytes_;
  const std::function<void(std::int64_t)> on_low_disk_;
  std::atomic<bool> disk_is_low_{false};
  absl::Mutex compaction_mutex_;  // of the thread or of Maintain, too
  log::CompactionRound compaction_ ABSL_GUARDED_BY(compaction_mutex_);
  bool compaction_has_ended_ ABSL_GUARDED_BY(compaction_mutex_) = false;
  absl::Mutex pass_mutex_;  // one pass at a time, of the thread or of Maintain
  absl::Mutex mutex_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
};

class BrokerState {
 public:
  static absl::StatusOr<std::shared_ptr<BrokerState>> Open(const std::filesystem::path& path,
                                                           const BrokerOptions& options);
  BrokerState(const BrokerState&) = delete;
  BrokerState& operator=(const BrokerState&) = delete;
  ~BrokerState();

  // OK, or why nothing works any more: closed, or inherited over a fork.
  absl::Status status() const { return directory_->context()->live->Check(); }
  log::Directory& directory() const { return *directory_; }
  group::GroupStore& groups() const { return *groups_; }
  group::ShareStore& shares() const { return *shares_; }
  const log::Context& context() const { return *directory_->context(); }
  bool read_only() const { return directory_->read_only(); }
  // What consumers share, and how they hear that the broker is being closed.
  ConsumerHub& consumers() { return consumers_; }
  const BrokerOptions& options() const { return options_; }
  const RecoveryReport& recovery_report() const { return report_; }

  absl::StatusOr<DiskSpace> DescribeDisk() const;

  absl::Status Maintain(absl::Duration budget);
  absl::Status Close();

 private:
  BrokerState(const BrokerOptions& options, std::shared_ptr<log::Directory> directory,
              std::shared_ptr<group::GroupStore> groups, RecoveryReport report);
  absl::Status StartThread();
  void StopThread();

  const BrokerOptions options_;
  const RecoveryReport report_;
  const std::shared_ptr<log::Directory> directory_;
  const std::shared_ptr<group::GroupStore> groups_;
  const std::shared_ptr<group::ShareStore> shares_;
  const std::shared_ptr<Maintenance> maintenance_;
  ConsumerHub consumers_;
  pthread_t thread_ = {};
  std::atomic<bool> has_thread_{false};  // who takes it away joins it
};

// What a Topic is a handle of. Partitions and readers share it too, and with it the broker.
struct TopicState {
  TopicState(std::shared_ptr<BrokerState> b, std::shared_ptr<log::TopicFiles> f)
      : broker(std::move(b)),
        files(std::move(f)),
        kind(PartitionerKindOf(files->config().partitioner).value_or(PartitionerKind::kXxh3)) {}

  const std::shared_ptr<BrokerState> broker;
  const std::shared_ptr<log::TopicFiles> files;
  const PartitionerKind kind;  // of keys; those of a user's own count as xxh3
};

}  // namespace cordwood::internal

#endif  // CORDWOOD_BROKER_STATE_H_
