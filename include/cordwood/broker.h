// A Broker owns one directory with its topics and groups. There is no server: it is opened
// in the process, and other processes may have it open at the same time.
//
//   Broker broker = Broker::Open("/var/lib/app/log").value();
//   Topic orders = broker.OpenOrCreateTopic("orders", {.partitions = 3}).value();
//   Producer producer = broker.NewProducer().value();
//   Consumer billing = broker.NewConsumer({.group = "billing"}).value();
//
// A handle like a shared_ptr: cheap to copy, every operation const and thread-safe. The
// directory is closed when Close() is called or the last handle of any kind is gone. It may
// be opened any number of times in one process, except as exclusive.

#ifndef CORDWOOD_BROKER_H_
#define CORDWOOD_BROKER_H_

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/describe.h"
#include "cordwood/metrics.h"
#include "cordwood/options.h"
#include "cordwood/producer.h"
#include "cordwood/topic.h"

namespace cordwood {

class Consumer;
class ShareConsumer;
template <class K, class V>
class TypedConsumer;
template <class K, class V>
class TypedProducer;

namespace internal {
class BrokerState;
}  // namespace internal
namespace testing {
class Machine;
}  // namespace testing

class Broker {
 public:
  Broker() = default;

  // Opens the directory, or makes it. The first one in repairs what a crash has left;
  // recovery_report() says what that was. A topic that is damaged beyond that keeps nobody
  // from the others: it says so when it is opened.
  //
  // kNotFound: there is none, and create_if_missing is false; kInvalidArgument: an option;
  // kFailedPrecondition: the path is a file, the folder holds something else, a newer cordwood
  // wrote it, its file system is shared between hosts, or it is open elsewhere as exclusive;
  // kPermissionDenied; kUnavailable: somebody has been opening or closing it for all of
  // open_timeout; kResourceExhausted: no descriptors, no thread or no room on the disk.
  static absl::StatusOr<Broker> Open(const std::filesystem::path& path,
                                     const BrokerOptions& options = {});

  // OK: it survives a power cut, with its settings. kAlreadyExists; kInvalidArgument: the name
  // (1 to 249 of A-Z a-z 0-9 . _ -, no dot first), or a setting; kFailedPrecondition: read-only.
  absl::StatusOr<Topic> CreateTopic(std::string_view name, const TopicConfig& config = {}) const;
  // kNotFound; kDataLoss: its files are damaged (cordwood/repair.h); kUnavailable: whoever opened
  // the directory first could not recover it, and says why in its recovery_report().
  absl::StatusOr<Topic> OpenTopic(std::string_view name) const;
  // What exists is opened as it is. kFailedPrecondition: it has another number of partitions
  // or another partitioner; other settings are left alone. Else as the two above.
  absl::StatusOr<Topic> OpenOrCreateTopic(std::string_view name,
                                          const TopicConfig& config = {}) const;
  // Handles on it answer kNotFound from then on, in every process; what batches and readers
  // hold stays readable. OK: survives a power cut. kNotFound; kUnavailable names a process that
  // is in the way, stopped perhaps; call it again.
  absl::Status DeleteTopic(std::string_view name) const;
  // In order; none if the broker is closed.
  std::vector<std::string> TopicNames() const;

  // kFailedPrecondition: the directory is open read-only.
  absl::StatusOr<Producer> NewProducer(const ProducerOptions& options = {}) const;
  // It reads nothing, and is no member of its group, before Assign or Subscribe.
  // kInvalidArgument: an option.
  absl::StatusOr<Consumer> NewConsumer(const ConsumerOptions& options = {}) const;
  // kInvalidArgument: an option; kNotFound: there is no such dead-letter topic;
  // kFailedPrecondition: the directory is open read-only.
  absl::StatusOr<ShareConsumer> NewShareConsumer(const ShareConsumerOptions& options) const;
  // Of a program's own types: cordwood/typed.h.
  template <class K, class V>
  absl::StatusOr<TypedProducer<K, V>> NewTypedProducer(std::string_view topic,
                                                       const ProducerOptions& options = {}) const;
  template <class K, class V>
  absl::StatusOr<TypedConsumer<K, V>> NewTypedConsumer(const ConsumerOptions& options = {}) const;

  // Sizes, offsets, times, segments and settings. It looks at every segment's header, and reads
  // the first and the last record of each partition. kNotFound.
  absl::StatusOr<TopicDescription> DescribeTopic(std::string_view name) const;
  // All topics and groups, and the disk. What cannot be described is no error: it is named.
  absl::StatusOr<BrokerDescription> DescribeBroker() const;
  // What a compaction would do now, whatever the topic's cleanup is. It reads all that there is to
  // compact, so it can take long, and changes nothing. kAborted: files changed meanwhile; try
  // again.
  absl::StatusOr<CompactionPlan> DescribeCompaction(const TopicPartition& where) const;
  // State, members, and the lag of each partition in records, bytes and time. It reads the first
  // record of each lag. kNotFound.
  absl::StatusOr<GroupDescription> DescribeGroup(std::string_view group) const;
  // Who holds records of the topic that retention could give up otherwise, by partition, the
  // lowest offset first. kNotFound: there is no such topic.
  absl::StatusOr<std::vector<RetentionHold>> DescribeHolds(std::string_view topic) const;
  // What has been done here by all processes, and how it is now: metrics.h. It looks at every
  // segment's header, and of partitions that are not durable at a record.
  absl::StatusOr<MetricsSnapshot> Metrics() const;
  // Changes these of its settings, by Kafka's names as in TopicConfig::ToProperties(), and no
  // others, while it is written to and read. OK: survives a power cut. Every process that has
  // the topic open goes by them from its next maintenance on (0.1 s; without background threads
  // the next Maintain), or when it asks for the config.
  //
  // segment.bytes: a longer segment ends with the next append, a shorter one keeps its size.
  // kInvalidArgument names a property that is unknown, has a bad value, or is for ever as the
  // topic was made with (partitioner, index.interval.bytes, topic.id; partitions are for
  // CreatePartitions), and nothing is changed. kNotFound; kUnavailable: another process is
  // changing topics, and does not get on. Any other error: it may have been changed, but for
  // good only if a second call says OK.
  absl::Status AlterTopic(std::string_view name,
                          const std::map<std::string, std::string>& properties) const;
  // Adds partitions, so that there are new_count, while it is written to and read. OK: they
  // survive a power cut. Producers send to them from then on, in every process, and groups
  // that have subscribed read them from their start.
  //
  // What it does to keys: a key whose hash moves goes to another partition from then on, and
  // its older records stay where they are. So the order of a key's records holds within each
  // partition, and not over the moment of the change; a consumer may read a new record of a
  // key before an older one. Who needs more makes a new topic.
  //
  // kInvalidArgument: not more than there are, or more than 100,000; kFailedPrecondition: the
  // topic is compacted, where a key in two partitions would have two last values; kNotFound,
  // kUnavailable and other errors: as AlterTopic().
  absl::Status CreatePartitions(std::string_view name, int new_count) const;
  // In order; none if the broker is closed.
  std::vector<std::string> ListGroups() const;
  // Forgets what it has committed. kNotFound; kFailedPrecondition names its members, living or
  // away; kUnavailable: another process is opening it, and does not get on.
  absl::Status DeleteGroup(std::string_view group) const;
  // Commits for a group where it is to go on, back too, and says what it changed, in order of
  // topics and partitions: what a dry run says is what the reset does, if no one commits or
  // appends in between. A group that there is not yet is made, if partitions are named. One
  // partition after the other: who is killed half way has reset the first ones.
  // kFailedPrecondition: it has a member, living or away, and then nothing is changed;
  // kNotFound: no such group, topic or partition.
  absl::StatusOr<std::vector<OffsetChange>> ResetOffsets(std::string_view group, const ResetTo& to,
                                                         const ResetOptions& options = {}) const;

  // What is free on the disk of the directory, and the reserve. kUnavailable: the system does not
  // say.
  absl::StatusOr<DiskSpace> DescribeDisk() const;
  // kResourceExhausted with Reason::kDiskLow: less than low_disk_bytes are free; with
  // Reason::kDiskFull: the reserve is in use.
  absl::Status CheckDisk() const;

  // What this Open found and did. Who was not the first one in did nothing, and reports nothing.
  RecoveryReport recovery_report() const;

  // The work of the background threads, once, for about that long: for a program that opens
  // with background_threads = false. What there was no time for is done by the next call. An
  // error is that of making something durable. Read-only there is nothing to do.
  absl::Status Maintain(absl::Duration budget) const;

  // Makes everything durable and leaves the directory. From then on every handle of this open
  // answers kFailedPrecondition; batches and readers that exist stay readable. It does not
  // hang: what another process holds for 5 s it does without. OK, or what may not be
  // durable. The second call does nothing.
  absl::Status Close() const;

 private:
  friend class testing::Machine;  // kills it
  explicit Broker(std::shared_ptr<internal::BrokerState> state) : state_(std::move(state)) {}
  absl::Status Check() const;

  std::shared_ptr<internal::BrokerState> state_ = {};
};

}  // namespace cordwood

#endif  // CORDWOOD_BROKER_H_
