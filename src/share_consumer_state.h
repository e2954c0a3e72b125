// What is behind a ShareConsumer: the partitions that it takes from, and how it waits. What
// is held by whom is in the share files (group/share.h); nothing of it is kept here.
//
//   share_consumer_state.cc  making, Subscribe, Acknowledge, Close
//   share_acquire.cc         Acquire: taking records, gaps, errors, sleeping
//   share_dead_letter.cc     what has become of those that were given up
//
// Thread safety: Acknowledge, Renew and Wakeup from any thread, the others from one at a time.

#ifndef CORDWOOD_SHARE_CONSUMER_STATE_H_
#define CORDWOOD_SHARE_CONSUMER_STATE_H_

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "broker_state.h"
#include "cordwood/group/share.h"
#include "cordwood/log/cursor.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/doorbell.h"
#include "cordwood/record.h"
#include "cordwood/share_consumer.h"
#include "ready_watcher.h"

namespace cordwood::internal {

// One partition that a ShareConsumer takes from. Its records point at it.
struct SharePartition {
  SharePartition(std::shared_ptr<log::Log> l, bool verify_checksums)
      : log(std::move(l)), cursor(log, 0, verify_checksums) {
    cursor.set_tell_tombstones(true);
  }

  std::shared_ptr<log::TopicFiles> files;
  std::shared_ptr<WatchedTopic> watched;
  int number = 0;
  const std::shared_ptr<log::Log> log;
  int entry = 0;               // in the group's files
  Offset initial = 0;          // where a group begins that has committed nothing
  std::uint32_t consumer = 0;  // whose it is
  // Opened when there is something to take, and then never another one.
  std::shared_ptr<group::ShareFile> file;

  // Of Acquire.
  log::Cursor cursor;
  std::uint64_t word = 0;  // the log's, before the last look
  std::shared_ptr<group::ShareFile::Mapped> mapped;
  std::uint32_t heard = 0;  // its bell, then
  std::int64_t next_expiry_ns = 0;
  std::int64_t next_letters_ns = 0;  // after letters that could not be written
};

class ShareConsumerState {
 public:
  ShareConsumerState(std::shared_ptr<BrokerState> broker, const ShareConsumerOptions& options);
  ShareConsumerState(const ShareConsumerState&) = delete;
  ShareConsumerState& operator=(const ShareConsumerState&) = delete;
  ~ShareConsumerState();

  absl::Status Subscribe(const std::vector<std::string>& topics);
  absl::StatusOr<AcquiredBatch> Acquire(absl::Duration timeout, const std::stop_token& stop);
  absl::Status Acknowledge(const AcquiredRecord& record, AckType type);
  absl::Status Renew(const AcquiredRecord& record);
  void Wakeup();
  absl::Status Close();

 private:
  struct ShareTopic {
    std::shared_ptr<log::TopicFiles> files;
    std::shared_ptr<WatchedTopic> watched;
    std::unique_ptr<os::LockKeeper> member;
    std::vector<std::shared_ptr<SharePartition>> partitions;
    std::uint32_t heard = 0;  // its bell, before the last look
  };
  // What one Acquire has found so far.
  struct Found {
    AcquiredBatch batch = {};
    absl::Status error;
    bool busy = false;  // somebody else had a partition for all the time that we waited
    const segment::Segment* pinned = nullptr;
    std::uint64_t bytes = 0;  // of the frames of the batch
  };

  // share_consumer_state.cc
  absl::Status CheckUsable() const;
  absl::StatusOr<std::unique_ptr<ShareTopic>> OpenTopic(const std::string& name);
  absl::Status OpenPartitions(ShareTopic& topic);
  absl::Status OpenFile(SharePartition& partition);
  absl::Status ReleaseAll(ShareTopic& topic, std::int64_t deadline_ns);
  absl::StatusOr<const SharePartition*> PartitionOfRecord(const AcquiredRecord& record) const;
  std::int64_t LockDeadline(std::int64_t now_ns) const;

  // share_acquire.cc
  absl::Status AcquireOnce(Found& found, absl::Duration timeout, const std::stop_token& stop);
  void VisitAll(Found& found);
  absl::Status Visit(const std::shared_ptr<SharePartition>& partition, Found& found);
  absl::StatusOr<bool> TakeFrom(const std::shared_ptr<SharePartition>& partition,
                                group::ShareTurn& turn, Found& found);
  void Add(const std::shared_ptr<SharePartition>& partition, const RecordView& record,
           int deliveries, absl::Time deadline, Found& found);
  absl::Status DropDeleted();
  void Sleep(std::int64_t until_ns, std::uint32_t heard);
  absl::Status Cancelled(const std::stop_token& stop);

  // share_dead_letter.cc
  // For as long as the timeout; what is left the next one does.
  absl::Status Bury(const SharePartition& partition, group::ShareTurn& turn,
                    absl::Duration timeout) const;
  absl::Status WriteLetter(const SharePartition& partition, const RecordView& record,
                           group::ShareWord word, log::Log& letters, absl::Time deadline) const;
  absl::StatusOr<absl::flat_hash_set<Offset>> LettersWritten(const SharePartition& partition,
                                                             const std::shared_ptr<log::Log>& log,
                                                             Offset from) const;

  const std::shared_ptr<BrokerState> broker_;
  const ShareConsumerOptions options_;
  const pid_t pid_;
  const std::uint32_t consumer_;  // among those of this open
  std::atomic<bool> closed_{false};
  std::shared_ptr<group::Group> group_;
  std::vector<std::unique_ptr<ShareTopic>> topics_;
  std::size_t turn_ = 0;  // which partition is the first one, next time

  std::vector<os::FutexWaiter> words_;
  std::atomic<std::uint32_t> wake_{0};  // bumped to end a sleep
  std::atomic<bool> wakeup_{false};
};

// The record at that offset, which stays where it is as long as the cursor; none: it is gone.
absl::StatusOr<std::optional<RecordView>> ReadAt(log::Cursor& cursor, Offset offset);

}  // namespace cordwood::internal

#endif  // CORDWOOD_SHARE_CONSUMER_STATE_H_
