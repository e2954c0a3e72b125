// What the copies of one Producer share: its options, and the topics that it has sent to.
//
// Thread safety: every operation. A Send to a topic that was sent to before takes no lock.

#ifndef CORDWOOD_PRODUCER_STATE_H_
#define CORDWOOD_PRODUCER_STATE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/optimization.h"
#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "broker_state.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/options.h"
#include "cordwood/partitioner.h"
#include "cordwood/record.h"

namespace cordwood::internal {

class ProducerState {
 public:
  ProducerState(std::shared_ptr<BrokerState> broker, const ProducerOptions& options)
      : broker_(std::move(broker)), options_(options) {}

  absl::StatusOr<RecordMetadata> Send(std::string_view topic, const Record& record,
                                      const SendOptions& options);
  std::vector<absl::StatusOr<RecordMetadata>> SendBatch(std::string_view topic,
                                                        std::span<const Record> records,
                                                        const SendOptions& options);
  absl::Status Flush();

 private:
  using Results = std::vector<absl::StatusOr<RecordMetadata>>;

  // A topic that was sent to. It lives as long as the producer, also when the topic is
  // deleted, so that a Send needs no reference count.
  struct Target {
    std::shared_ptr<log::TopicFiles> files;
    // None, and why: the topic names one that this producer has not got. Records that name
    // their partition can be sent all the same.
    std::shared_ptr<Partitioner> partitioner;
    absl::Status no_partitioner;
    BuiltInPartitioner* built_in = nullptr;  // the same, called without a virtual call
  };

  // A name's place among the recent ones: any cheap hash will do, names are compared.
  static constexpr std::size_t kRecent = 16;
  static std::size_t PlaceOf(std::string_view topic) {
    if (topic.empty()) return 0;
    const auto last = static_cast<unsigned char>(topic.back());
    const auto first = static_cast<unsigned char>(topic.front());
    return (topic.size() * 5 + last * 3 + first) % kRecent;
  }

  absl::StatusOr<Target*> Find(std::string_view topic) {
    // Acquire: pairs with the release in FindSlow(); the target is whole.
    Target* target = recent_[PlaceOf(topic)].load(std::memory_order_acquire);
    if (ABSL_PREDICT_TRUE(target != nullptr && target->files->name() == topic)) return target;
    return FindSlow(topic);
  }
  absl::StatusOr<Target*> FindSlow(std::string_view topic);
  // The topic that has the name now, if it was deleted and made anew.
  void Renew(const Target& target);
  absl::StatusOr<std::unique_ptr<Target>> MakeTarget(std::shared_ptr<log::TopicFiles> files) const;
  static absl::StatusOr<int> Choose(Target& target, const Record& record);
  static absl::StatusOr<int> ChooseByUser(Target& target, const Record& record);
  AppendOptions ToAppend(const SendOptions& options) const {
    return {.durability = options.durability.value_or(options_.durability),
            .timeout = options.timeout};
  }

  const std::shared_ptr<BrokerState> broker_;
  const ProducerOptions options_;

  std::array<std::atomic<Target*>, kRecent> recent_ = {};
  absl::Mutex mutex_;
  std::map<std::string, Target*, std::less<>> by_name_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Target>> all_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cordwood::internal

#endif  // CORDWOOD_PRODUCER_STATE_H_
