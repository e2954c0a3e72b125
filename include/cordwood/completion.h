// A CompletionTracker lets workers finish records in any order, while the group commits
// only the safe prefix: up to the first record that is not finished.
//
//   CompletionTracker tracker;  // outlives the last Done
//   while (going_on) {
//     auto batch = std::make_shared<RecordBatch>(billing.Poll(absl::Seconds(1)).value());
//     tracker.Track(*batch);  // before a worker has any of it
//     for (const RecordView& record : *batch) {
//       pool.Schedule([&tracker, batch, record] {  // the record lives while its batch does
//         Handle(record);
//         tracker.Done(record);
//       });
//     }
//     CORDWOOD_RETURN_IF_ERROR(tracker.Commit(billing));
//     tracker.WaitForRoom(10'000, absl::Seconds(1));  // not too far ahead of the workers
//   }
//
// A member of a group commits once more, and forgets, when partitions are taken from it:
//
//   .on_revoked = [&](Consumer& consumer, const std::vector<TopicPartition>& revoked) {
//     tracker.Commit(consumer).IgnoreError();
//     tracker.Forget(revoked);
//   }
//
// After a crash the records from the safe prefix on are read again, those that were
// finished among them too: at least once, as with any commit. Leave auto_commit off; it
// would commit what no worker has finished.
//
// What is not tracked counts as finished: gaps, the holes that compaction leaves, and what
// a Seek skips. After a Seek back, the records from the first one that comes again on are
// tracked anew, finished or not; those before it stay as they are.
//
// A Done counts for its offset, whoever calls it: one that comes late, from before a Seek
// back or a Forget, finishes the record if that is tracked again by then, for it was
// processed. Only a topic that was deleted and made again has other records at the same
// offsets: there, let the workers end before it is read.
//
// Memory: it grows with the records in flight, not with those finished behind a slow one.
//
// Thread safety: Done, Safe, in_flight and WaitForRoom from any thread; Track, Commit and
// Forget on the thread that polls the Consumer, also in its callbacks.

#ifndef CORDWOOD_COMPLETION_H_
#define CORDWOOD_COMPLETION_H_

#include <cstddef>
#include <deque>
#include <map>
#include <span>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "cordwood/consumer.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

class CompletionTracker {
 public:
  CompletionTracker() = default;
  CompletionTracker(const CompletionTracker&) = delete;
  CompletionTracker& operator=(const CompletionTracker&) = delete;

  // What a Poll gave: its records are unfinished from now on, its gaps are passed.
  void Track(const RecordBatch& batch);

  // The record is finished. What is finished already, or not tracked, changes nothing. The
  // first form reads the record's topic: its batch must still live.
  void Done(const RecordView& record);
  void Done(const TopicPartition& where, Offset offset);

  // The next offset to read of each partition: everything tracked below is finished. Only
  // of those where it is further than the last Commit, or than where the tracking began.
  std::map<TopicPartition, Offset> Safe() const;
  // Commits what is safe; with Durability::kDurable also what was committed without. Where
  // the group has committed more, as it may after a Seek back, that stays, unless `force` is
  // set.
  //
  // Partitions that are not the consumer's any more are forgotten; the others are committed
  // all the same. If something of theirs was open, it is kAborted, once: PartitionOf is the
  // first of them, OffsetOf what was safe. Any other error is that of Consumer::Commit, and
  // the next Commit tries again.
  absl::Status Commit(Consumer& consumer, const CommitOptions& options = {});
  // For on_revoked, after a last Commit, and on_lost. They may come back: Track begins anew.
  void Forget(std::span<const TopicPartition> partitions);

  // Tracked and unfinished, of all partitions.
  std::size_t in_flight() const;
  // Sleeps until at most so many are in flight; 0 waits for all. False: the timeout came
  // first. While it sleeps nobody polls: mind ConsumerOptions::max_poll_interval.
  bool WaitForRoom(std::size_t in_flight_max, absl::Duration timeout);

 private:
  // A record that is tracked.
  struct Slot {
    Offset offset = 0;
    bool is_done = false;
  };
  // Invariants:
  //  (1) The offsets of the slots rise, and are below `end`.
  //  (2) The first slot is not done.
  //  (3) Every tracked record that has no slot is finished.
  struct Progress {
    std::deque<Slot> slots = {};
    std::size_t unfinished = 0;  // slots that are not done
    Offset end = 0;              // after all that was tracked, gaps too
    Offset committed = 0;        // the safe offset that needs no commit any more
    Offset durable = 0;          // the one that needs no durable commit any more

    Offset safe() const { return slots.empty() ? end : slots.front().offset; }
    bool is_open() const { return unfinished != 0 || safe() > committed; }
    Slot* Find(Offset offset);
    bool Finish(Offset offset);
    void DropFrom(Offset offset);
  };
  // So that a RecordView finds its partition without a copy of the topic's name.
  struct ByName {
    using is_transparent = void;
    using Name = std::pair<std::string_view, int>;

    static Name Of(const Name& name) { return name; }
    static Name Of(const TopicPartition& where) { return {where.topic, where.partition}; }
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      return Of(a) < Of(b);
    }
  };

  std::map<TopicPartition, Offset> SafeBeyond(Offset Progress::*known) const;
  Progress& FindOrBegin(std::string_view topic, int partition, Offset from)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Finish(ByName::Name where, Offset offset);
  // Takes so many out of flight, and wakes who waits for that.
  void Land(std::size_t records) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::map<TopicPartition, Progress, ByName> partitions_ ABSL_GUARDED_BY(mutex_);
  std::size_t in_flight_ ABSL_GUARDED_BY(mutex_) = 0;     // the sum of all `unfinished`
  absl::CondVar room_;                                    // for those in WaitForRoom
  std::size_t sleepers_ ABSL_GUARDED_BY(mutex_) = 0;      // how many they are
  std::size_t room_awaited_ ABSL_GUARDED_BY(mutex_) = 0;  // the largest that one waits for
};

}  // namespace cordwood

#endif  // CORDWOOD_COMPLETION_H_
