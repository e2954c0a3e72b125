// A Consumer reads the partitions that it was given, from its positions on, and commits
// how far it got.
//
//   Consumer billing = broker.NewConsumer({.group = "billing"}).value();
//   billing.Subscribe({"orders"});
//   for (;;) {
//     absl::StatusOr<RecordBatch> batch = billing.Poll(absl::Seconds(1));
//     if (!batch.ok()) return batch.status();
//     for (const RecordView& record : *batch) Handle(record);
//     billing.Commit();
//   }
//
// Subscribe makes it a member of its group: each partition of the topics that the group's
// members have subscribed to is read by one of them, in whichever threads and processes they
// are. One that joins, leaves or dies moves as few partitions as can be (or as
// ConsumerOptions::assignor says), and holds up nobody whose partitions do not move: what it
// is to have comes with its next Poll, once the owner until now has given it up in a Poll of
// its own. A member is dead when its process is, which the others notice in some 100 ms; one
// that is slow or stopped keeps what it has, unless max_poll_interval says otherwise. A commit
// by one that has lost the partition is kAborted.
//
// Assign takes partitions without asking anybody; with a group it reads the group's offsets,
// and commits them where no member owns the partition.
//
// Where a partition is begun: at the committed offset, else as ConsumerOptions::reset says; a
// member with OffsetReset::kLatest commits that at once, so that the next owner skips nothing.
// A topic that a pattern finds later, or that was deleted and made again, is read from its
// start.
// A position past the end, to which only a Seek can lead, is put back as `reset` says; with
// OutOfRange::kError, or OffsetReset::kError, it is kOutOfRange.
//
// Errors of Poll come alone, once per cause, after what other partitions had; PartitionOf
// and OffsetOf say where, and positions stay. The partition is left out until a Seek or a
// Resume. Those that are about the Consumer (kCancelled, kFailedPrecondition) pause nothing.
//
// Callbacks run inside Poll, Close and the destructor. In them Commit, Seek and what only
// asks are allowed, Poll, Subscribe, Assign and Close are kFailedPrecondition.
//
// Thread safety: one thread at a time, but for Wakeup. It shares the open directory, so it
// may outlive its Broker; its batches may outlive it. One that was moved from, closed, or
// inherited over a fork answers kFailedPrecondition.

#ifndef CORDWOOD_CONSUMER_H_
#define CORDWOOD_CONSUMER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

class Consumer;

namespace internal {
class BrokerState;
class ConsumerState;
absl::StatusOr<Consumer> MakeConsumer(std::shared_ptr<BrokerState> broker,
                                      const ConsumerOptions& options);
}  // namespace internal

class Consumer {
 public:
  Consumer(Consumer&&) noexcept;
  // Closes the one that it replaces.
  Consumer& operator=(Consumer&&) noexcept;
  ~Consumer();

  // Takes the place of what was subscribed before; an empty list gives all back. The
  // partitions are there from the next Poll on, which calls on_revoked and on_assigned.
  // kNotFound: no such topic; kInvalidArgument: no group; kFailedPrecondition: the group uses
  // another assignor, a member with the same group_instance_id is there, the directory is
  // read-only, or Assign was used.
  absl::Status Subscribe(std::vector<std::string> topics);
  // Every topic whose whole name matches, now and later: Poll looks for new ones once a
  // second. ECMAScript's grammar. kInvalidArgument: it is no regular expression; else as
  // Subscribe.
  absl::Status SubscribePattern(std::string_view regex);
  // Takes the place of what was assigned before, all or none; what stays keeps its position.
  // kNotFound: no such topic or partition; kFailedPrecondition: Subscribe was used.
  absl::Status Assign(std::vector<TopicPartition> partitions);

  // Returns as soon as there is a record, a gap or an error; an empty batch after the
  // timeout, of which zero does not wait. In a directory that is open read-only it may notice
  // a record 10 ms late.
  //
  // Of the Consumer: kCancelled: Wakeup, or the token; a Wakeup with no Poll under way ends
  // the next one; kAborted: max_poll_interval has passed, and the next Poll joins the group
  // again; kFailedPrecondition: nothing is subscribed or assigned. Of a partition, which is
  // left out from then on: kOutOfRange: as ConsumerOptions::reset or out_of_range say;
  // kDataLoss: damage, or what a power cut took, with OutOfRange::kError; kNotFound: the topic
  // was deleted.
  absl::StatusOr<RecordBatch> Poll(absl::Duration timeout, std::stop_token stop = {});
  // The same, into the memory of a batch, whose records are gone: nothing is allocated.
  absl::Status PollInto(RecordBatch& batch, absl::Duration timeout, std::stop_token stop = {});
  // An eventfd of the Consumer's own, readable while a Poll would return something; only
  // to wait for, never to read or close; it lives as long as the Consumer. The first one
  // starts a thread of the Broker's. With SubscribePattern it is readable once a second, for
  // the Poll that looks for topics. kResourceExhausted: no descriptor or no thread.
  absl::StatusOr<int> ReadyFd();

  // The position of every partition, past gaps too: what the last Poll gave counts as done.
  // kFailedPrecondition: no group, read-only, or something is behind what was committed and
  // `force` is not set: then nothing is committed. kAborted names the partitions that this
  // consumer has lost; the others are committed.
  absl::Status Commit(const CommitOptions& options = {});
  // The offset after that of the record.
  absl::Status Commit(const RecordView& record, const CommitOptions& options = {});
  // The next offset to read of each. kFailedPrecondition names what is not assigned;
  // kOutOfRange: past the end; kInvalidArgument: below zero. Then nothing is committed.
  absl::Status Commit(const std::map<TopicPartition, Offset>& offsets,
                      const CommitOptions& options = {});

  // The next Poll reads from there. As from a commit, the caller counts as having read what is
  // below; who begins anew calls SeekToBeginning. kFailedPrecondition: not assigned; kAborted: it
  // was, and the group has given it away; kInvalidArgument: a negative offset.
  absl::Status Seek(const TopicPartition& where, Offset offset);
  // To the start, and to the end, as they are now. Without partitions: all that are assigned.
  absl::Status SeekToBeginning(std::span<const TopicPartition> partitions = {});
  absl::Status SeekToEnd(std::span<const TopicPartition> partitions = {});
  // To the first record whose timestamp is at or after the time, else to the end.
  absl::Status SeekToTime(absl::Time time, std::span<const TopicPartition> partitions = {});

  // The next offset to read. Errors of these three: kFailedPrecondition: not assigned; kAborted:
  // given away.
  absl::StatusOr<Offset> position(const TopicPartition& where) const;
  // The group's; none: nothing was committed. kFailedPrecondition: no group.
  absl::StatusOr<std::optional<Offset>> committed(const TopicPartition& where) const;
  // In records: the end less what is committed, all that is there where nothing is; without a
  // group, the end less the position.
  absl::StatusOr<std::int64_t> lag(const TopicPartition& where) const;

  // Poll leaves these out; their positions stay.
  absl::Status Pause(std::span<const TopicPartition> partitions);
  // Also after an error, which comes again if its cause is still there.
  absl::Status Resume(std::span<const TopicPartition> partitions);
  // What it reads now; what Subscribe gave is in it after the next Poll.
  std::vector<TopicPartition> assignment() const;

  // Ends a Poll, this one or the next, with kCancelled. From any thread.
  void Wakeup();
  // Commits what auto_commit owes, calls on_revoked, leaves the group (a static member's
  // partitions are kept for it). OK, or why the commit failed; it is closed all the same. The
  // second call does nothing.
  absl::Status Close();

 private:
  friend absl::StatusOr<Consumer> internal::MakeConsumer(std::shared_ptr<internal::BrokerState>,
                                                         const ConsumerOptions&);
  explicit Consumer(std::unique_ptr<internal::ConsumerState> state);

  std::unique_ptr<internal::ConsumerState> state_;
};

}  // namespace cordwood

#endif  // CORDWOOD_CONSUMER_H_
