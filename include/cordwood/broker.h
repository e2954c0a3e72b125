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

class Broker {
 public:
  Broker() = default;

  // Opens the directory, or makes it. The first one in repairs what a crash has left;
  // recovery_report() says what that was.
  //
  // kNotFound: there is none, and create_if_missing is false; kFailedPrecondition: the path
  // is a file, the folder holds something else, a newer cordwood wrote it, its file system is
  // shared between hosts, or it is open elsewhere as exclusive; kPermissionDenied;
  // kUnavailable: somebody has been opening or closing it for all of open_timeout.
  static absl::StatusOr<Broker> Open(const std::filesystem::path& path,
                                     const BrokerOptions& options = {});

  // kAlreadyExists; kInvalidArgument: the name, or a setting.
  absl::StatusOr<Topic> CreateTopic(std::string_view name, const TopicConfig& config = {}) const;
  // kNotFound.
  absl::StatusOr<Topic> OpenTopic(std::string_view name) const;
  // What exists is opened as it is. kFailedPrecondition: with another number of partitions
  // or another partitioner; other settings are left alone.
  absl::StatusOr<Topic> OpenOrCreateTopic(std::string_view name,
                                          const TopicConfig& config = {}) const;
  // Handles on it answer kNotFound from then on, in every process; what batches and readers
  // hold stays readable.
  absl::Status DeleteTopic(std::string_view name) const;
  std::vector<std::string> TopicNames() const;

  absl::StatusOr<Producer> NewProducer(const ProducerOptions& options = {}) const;
  absl::StatusOr<Consumer> NewConsumer(const ConsumerOptions& options = {}) const;
  // kNotFound: there is no such dead-letter topic.
  absl::StatusOr<ShareConsumer> NewShareConsumer(const ShareConsumerOptions& options) const;
  // Of a program's own types: cordwood/typed.h.
  template <class K, class V>
  absl::StatusOr<TypedProducer<K, V>> NewTypedProducer(std::string_view topic,
                                                       const ProducerOptions& options = {}) const;
  template <class K, class V>
  absl::StatusOr<TypedConsumer<K, V>> NewTypedConsumer(const ConsumerOptions& options = {}) const;

  absl::StatusOr<TopicDescription> DescribeTopic(std::string_view name) const;
  absl::StatusOr<GroupDescription> DescribeGroup(std::string_view group) const;
  // Not in this version: kUnimplemented.
  absl::Status AlterTopic(std::string_view name,
                          const std::map<std::string, std::string>& properties) const;
  absl::Status CreatePartitions(std::string_view name, int new_count) const;
  std::vector<std::string> ListGroups() const;
  // kFailedPrecondition: it has a member, living or away.
  absl::Status DeleteGroup(std::string_view group) const;
  // Commits for a group where it is to go on, back too, and says what it changed, in order of
  // topics and partitions: what a dry run says is what the reset does, if no one commits or
  // appends in between. A group that there is not yet is made, if partitions are named. One
  // partition after the other: who is killed half way has reset the first ones.
  // kFailedPrecondition: it has a member, living or away, and then nothing is changed;
  // kNotFound: no such group, topic or partition.
  absl::StatusOr<std::vector<OffsetChange>> ResetOffsets(std::string_view group, const ResetTo& to,
                                                         const ResetOptions& options = {}) const;

  RecoveryReport recovery_report() const;

  // The work of the background threads, once, for about that long: for a program that opens
  // with background_threads = false. What there was no time for is done by the next call.
  absl::Status Maintain(absl::Duration budget) const;

  // Makes everything durable and leaves the directory. From then on every handle of this open
  // answers kFailedPrecondition; batches and readers that exist stay readable. It does not
  // hang: what another process holds for seconds it does without. OK, or what may not be
  // durable. The second call does nothing.
  absl::Status Close() const;

 private:
  explicit Broker(std::shared_ptr<internal::BrokerState> state) : state_(std::move(state)) {}
  absl::Status Check() const;

  std::shared_ptr<internal::BrokerState> state_ = {};
};

}  // namespace cordwood

#endif  // CORDWOOD_BROKER_H_
