// A TableView is the newest record of every key of a topic: a table in memory, with the topic
// as its log. Any number of processes may have one of the same topic, and change it.
//
//   broker.OpenOrCreateTopic("prices", {.cleanup = CleanupPolicy::kCompact}).value();
//   TableView prices = TableView::Open(broker, "prices").value();
//   prices.Put("apple", "3").value();
//   std::optional<OwnedRecord> apple = prices.Get("apple").value();   // its value() is "3"
//
//   // Only if nobody was faster; else kAborted: get it again.
//   prices.Put("apple", "4", {.expected_offset = apple->offset()}).value();
//
// Reads are current: each call first applies what has been published since the last one. So a
// Put that has returned, in whatever process, is seen by a Get that begins afterwards. No thread
// does that: a view that nobody calls stays as it is, at no cost, and catches up later.
//
// A key lives in the partition that the topic's partitioner gives it (Topic::PartitionFor): Get
// and Put look there. A record that its producer sent to another one is in ForEach, Size and
// Watch, but not in Get. A record without a key is passed over, and counted. A topic that can
// put one key in several partitions by itself ("round-robin", or a user's own partitioner, with
// more than one partition) is refused. When the topic gets more partitions keys move, and every
// call is kFailedPrecondition: open it again.
//
// What the view holds is what the log holds: the newest record of each key between the start
// and the end of its partition. When the start moves (retention, a trim), the records below it go
// from the view as well. When compaction has removed a tombstone that the view had not read, it
// reads the partition anew from its start. Damage, and what a power cut took, is passed over:
// gaps() says where. A key whose newest record was there has an older one, or none.
//
// Deleting and putting again: a key that was deleted counts as one that never was, because the
// tombstone goes in the end. So a Put with kNoRecord does not notice that the key came and went
// in between; nothing that was there is lost by it. An offset is never used again: a Put that
// expects one notices every change. Who has to notice all of them puts a value that means
// "deleted", and does not delete.
//
// A handle like a shared_ptr: cheap to copy, every operation const and thread-safe. It shares the
// open directory, so it may outlive its Broker. Once the broker is closed, or inherited over a
// fork, every call is kFailedPrecondition; once the topic is deleted, kNotFound. In a directory
// that is open read-only Put and Delete are kFailedPrecondition; that a process which writes has
// gone and another one has come is noticed by Poll.
// A log that cannot be read is what a PartitionReader's status() says, and kUnavailable if it was
// cut or compacted all the time while the view read it: the next call goes on.
//
// Callbacks, of ForEach and Watch, run while a partition of the view is locked: others who
// want it wait. A call on any TableView in them is kFailedPrecondition, so that views cannot wait
// for each other; other calls are allowed. They must not wait for a thread that calls the view,
// and a callback of Watch must not throw: watchers after it would miss the change.

#ifndef CORDWOOD_TABLE_VIEW_H_
#define CORDWOOD_TABLE_VIEW_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

namespace internal {
class TableViewState;
}  // namespace internal

class TableView {
 public:
  using WatchId = std::uint64_t;

  TableView() = default;

  // Reads the whole topic. kNotFound: there is no such topic; kFailedPrecondition: it forgets keys
  // (its cleanup does not compact and its retention has a limit, or its backlog drops records),
  // or spreads a key over partitions.
  static absl::StatusOr<TableView> Open(const Broker& broker, std::string_view topic,
                                        const TableViewOptions& options = {});

  // The key's newest record, none if it is not there. Its value is never null.
  absl::StatusOr<std::optional<OwnedRecord>> Get(std::string_view key) const;

  // Appends a record, or a tombstone, and returns its offset. kAborted: the key's newest record is
  // not at expected_offset; OffsetOf(status) says where it is, or kNoRecord. With any other error
  // OffsetOf(status) says that the record is published there, only not durable: do not put it
  // again. kDeadlineExceeded without: nothing was published. kInvalidArgument: over the topic's
  // limit.
  absl::StatusOr<Offset> Put(std::string_view key, std::string_view value,
                             const PutOptions& options = {}) const;
  // A Put of no value: the key goes, also where it was not there.
  absl::StatusOr<Offset> Delete(std::string_view key, const PutOptions& options = {}) const;

  // Calls f for the newest record of every key, in no order. The records of one partition are
  // those of one moment. A view is valid during the call.
  absl::Status ForEach(absl::FunctionRef<void(const RecordView&)> f) const;
  // How many keys there are.
  absl::StatusOr<std::int64_t> Size() const;

  // Calls f for every change that is applied from now on: the key's new record, or a tombstone if
  // it is gone. In order in each partition, one call at a time, inside whichever call applies it:
  // Get, ForEach, Size, Poll, or a Put with an expected offset. So each change is told once, by
  // the thread that applied it. A key that went without a tombstone, because the start moved or
  // the view read its partition anew, is told as a tombstone with the offset and time of the
  // record that is gone. To begin with what is there: Watch, then ForEach.
  // `f` should hold no handle of this view, which would then never go.
  absl::StatusOr<WatchId> Watch(std::function<void(const RecordView&)> f) const;
  // When it has returned, f is not running and will not be called again. kNotFound.
  absl::Status Unwatch(WatchId id) const;

  // Applies what is there, else waits until there is something; returns how many changes that
  // were, 0 after the timeout. kCancelled: the token. Keys that go because the start moves are
  // noticed within a second.
  absl::StatusOr<std::int64_t> Poll(absl::Duration timeout, std::stop_token stop = {}) const;

  // Which records could not be read: kDamage and kPowerLoss, between each partition's start and
  // end, as of the last call that looked.
  std::vector<Gap> gaps() const;
  // How many records had no key.
  std::int64_t keyless_records() const;

 private:
  explicit TableView(std::shared_ptr<internal::TableViewState> state) : state_(std::move(state)) {}

  std::shared_ptr<internal::TableViewState> state_ = {};
};

}  // namespace cordwood

#endif  // CORDWOOD_TABLE_VIEW_H_
