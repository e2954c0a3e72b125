// A ShareConsumer takes records one by one, as from a queue: any number of them share the
// partitions of a topic, and each record is acknowledged by itself (Kafka's share groups).
//
//   ShareConsumer worker = broker.NewShareConsumer({.group = "mailer",
//                                                   .dead_letter_topic = "mail.dead"}).value();
//   worker.Subscribe({"mail"});
//   for (;;) {
//     absl::StatusOr<AcquiredBatch> batch = worker.Acquire(absl::Seconds(1));
//     if (!batch.ok()) return batch.status();
//     for (const AcquiredRecord& mail : *batch) {
//       worker.Acknowledge(mail, Send(mail.record()) ? AckType::kAccept : AckType::kRelease);
//     }
//   }
//
// A record that was acquired is held for `lock_time`, and nobody else of the group gets it
// meanwhile. Then, or once it is released, or its process is gone, it is delivered again, and
// its delivery count says so. After `delivery_limit` deliveries without kAccept, or with
// kReject, it is written to the dead-letter topic, into the partition of its own partition's
// number modulo theirs, with its key, value, headers and timestamp, and with these headers:
//
//   cordwood.dlq.topic, .partition, .offset   where it lies
//   cordwood.dlq.group                        who gave it up
//   cordwood.dlq.delivery_count               how often it was delivered
//   cordwood.dlq.reason                       "rejected" or "delivery limit reached"
//   cordwood.dlq.omitted                      only if the record was too large for that topic,
//                                             which has it then without all the rest: why
//
// What is promised. A record is delivered until it is accepted, or given up; never is it held
// by two within its lock time. An acknowledgement that returned OK is there when every process
// was killed and begins anew. After a power cut those of about the last
// BrokerOptions::flush_interval may be lost, and these records are delivered again (of a process
// that was killed: those that nobody else of its group has made durable since). A dead
// letter is durable before its record is given up: killed in between, it is written once;
// after a power cut in between it may be there twice.
//
// What is not. Who works longer than the lock time, without Renew, may do what somebody else
// does again: make work that can be repeated. There is no order, but with `order_by_key`:
// then a record waits while an earlier one of its key is held, or waits itself. Within a
// partition at most 2,048 records from the first one on that is not done with are looked at.
//
// A process that is stopped (SIGSTOP) while it has a partition's lock keeps that partition
// until it goes on: Acquire goes on with the others, Acknowledge and Renew wait for up to
// 30 s. The lock is held for microseconds, and while dead letters are written.
//
// How far all is done with is the group's committed offset, so DescribeGroup tells its lag;
// Broker::ResetOffsets begins anew from an offset, while no ShareConsumer is open. All
// that share a group have the same options. A group has ShareConsumers or
// Consumers that subscribe, not both at a time.
//
// Thread safety: Acknowledge, Renew and Wakeup from any thread, the others from one at a time.
// It shares the open directory, so it may outlive its Broker; its batches may outlive it. One
// that was moved from, closed, or inherited over a fork answers kFailedPrecondition.

#ifndef CORDWOOD_SHARE_CONSUMER_H_
#define CORDWOOD_SHARE_CONSUMER_H_

#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

class ShareConsumer;

namespace internal {
class BrokerState;
class ShareConsumerState;
struct SharePartition;
absl::StatusOr<ShareConsumer> MakeShareConsumer(std::shared_ptr<BrokerState> broker,
                                                const ShareConsumerOptions& options);
}  // namespace internal

// What has become of a record.
enum class AckType {
  kAccept,   // it is done
  kRelease,  // it is not: deliver it again
  kReject,   // it never will be: to the dead-letter topic
};

// A record that is held. A small value; valid while its AcquiredBatch lives.
class AcquiredRecord {
 public:
  AcquiredRecord() = default;

  // Its bytes are valid while the AcquiredBatch lives, held or not.
  const RecordView& record() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return record_; }
  const RecordView* operator->() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return &record_; }
  // 1: it was never delivered before.
  int delivery_count() const { return delivery_count_; }
  // Until when it is held, by the clock at the time of Acquire. A Renew does not change this.
  absl::Time lock_deadline() const { return lock_deadline_; }

 private:
  friend class internal::ShareConsumerState;

  RecordView record_ = {};
  int delivery_count_ = 0;
  absl::Time lock_deadline_ = {};
  const internal::SharePartition* partition_ = nullptr;
};

// What one Acquire gave. It may hold gaps and no record.
class AcquiredBatch : public ViewRange<AcquiredRecord> {
 public:
  AcquiredBatch() = default;
  AcquiredBatch(AcquiredBatch&& other) noexcept { Take(other); }
  AcquiredBatch& operator=(AcquiredBatch&& other) noexcept {
    if (this != &other) Take(other);
    return *this;
  }
  ~AcquiredBatch() = default;

  // What is missing; the group goes on past it.
  std::span<const Gap> gaps() const ABSL_ATTRIBUTE_LIFETIME_BOUND { return gaps_; }

 private:
  friend class internal::ShareConsumerState;

  void Take(AcquiredBatch& other) {
    records_ = std::exchange(other.records_, {});
    gaps_ = std::exchange(other.gaps_, {});
    pins_ = std::exchange(other.pins_, {});
    SetRange(records_.data(), records_.data() + records_.size());
    other.SetRange(nullptr, nullptr);
  }

  std::vector<AcquiredRecord> records_ = {};
  std::vector<Gap> gaps_ = {};
  std::vector<std::shared_ptr<const void>> pins_ = {};  // what the records point at
};

class ShareConsumer {
 public:
  ShareConsumer(ShareConsumer&&) noexcept;
  // Closes the one that it replaces.
  ShareConsumer& operator=(ShareConsumer&&) noexcept;
  ~ShareConsumer();

  // Takes the place of what was subscribed before; what is held of other topics is released.
  // kNotFound: no such topic; kInvalidArgument: it is the dead-letter topic;
  // kFailedPrecondition: a Consumer of the group reads it; kOutOfRange: the group has
  // committed nothing there, and `reset` is kError; kUnavailable: a process that is stopped has
  // the lock of a partition.
  absl::Status Subscribe(const std::vector<std::string>& topics);

  // Returns as soon as there is a record, a gap or an error; an empty batch after the timeout.
  // Errors come alone, after what there was. kCancelled: Wakeup, or the token; a Wakeup with
  // no Acquire under way ends the next one. kNotFound: a topic was deleted, and is not read
  // any more. kFailedPrecondition: nothing is subscribed. Any error of a dead letter that could
  // not be written: it is tried again.
  absl::StatusOr<AcquiredBatch> Acquire(absl::Duration timeout, std::stop_token stop = {});

  // Of a record that this ShareConsumer acquired; of another one's, kInvalidArgument.
  //
  // kAborted: it is not held as this record says any more, because it was acknowledged, or
  // the lock time was over and it was given to somebody; nothing changes then. Another error
  // after kReject, or after the last kRelease, is that of writing the dead letter, which is
  // tried again by the next Acquire of anybody; the record is not delivered any more.
  // kUnavailable names a process that is stopped and has the partition's lock.
  absl::Status Acknowledge(const AcquiredRecord& record, AckType type = AckType::kAccept);
  // Holds it for the lock time from now on. kAborted, kInvalidArgument, kUnavailable: as above.
  absl::Status Renew(const AcquiredRecord& record);

  // Ends an Acquire, this one or the next, with kCancelled.
  void Wakeup();
  // Releases what is held; the delivery counts stay. OK, or what could not be released within
  // 2 s, which is free when its lock time is over. The second call does nothing.
  absl::Status Close();

 private:
  friend absl::StatusOr<ShareConsumer> internal::MakeShareConsumer(
      std::shared_ptr<internal::BrokerState>, const ShareConsumerOptions&);
  explicit ShareConsumer(std::unique_ptr<internal::ShareConsumerState> state);

  std::unique_ptr<internal::ShareConsumerState> state_;
};

}  // namespace cordwood

#endif  // CORDWOOD_SHARE_CONSUMER_H_
