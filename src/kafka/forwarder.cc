#include "cordwood/kafka/forwarder.h"

#include <map>
#include <regex>
#include <set>
#include <string_view>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/status_macros.h"
#include "kafka/forwarder_lane.h"
#include "kafka/lanes.h"

namespace cordwood::kafka {
namespace {

// How often it looks for new topics that a pattern fits.
constexpr absl::Duration kLookForTopics = absl::Seconds(1);

absl::Status Check(const ForwarderOptions& options) {
  if (options.routes.empty()) {
    return absl::InvalidArgumentError("ForwarderOptions::routes: there is none");
  }
  for (const Route& route : options.routes) {
    if (route.topic.empty() == route.pattern.empty()) {
      return absl::InvalidArgumentError("Route: set either `topic` or `pattern`");
    }
    if (!route.pattern.empty() && !route.target.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("Route: pattern ", route.pattern, " may fit several topics, and target ",
                       route.target, " would get the records of all; set `target_prefix`"));
    }
  }
  if (options.transaction_records_max < 1) {
    return absl::InvalidArgumentError("ForwarderOptions::transaction_records_max: less than 1");
  }
  // Else the cluster would end each of them before it is committed.
  CORDWOOD_ASSIGN_OR_RETURN(const absl::Duration timeout,
                            internal::TransactionTimeout(options.cluster));
  if (options.transaction_time < absl::ZeroDuration() || options.transaction_time > timeout / 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "ForwarderOptions::transaction_time: ", absl::FormatDuration(options.transaction_time),
        " is not from 0 to half of transaction.timeout.ms, which is ",
        absl::FormatDuration(timeout)));
  }
  return cordwood::internal::ValidateName("group", options.group);
}

}  // namespace

namespace internal {

class ForwarderState {
 public:
  ForwarderState(const Broker& broker, const ForwarderOptions& options,
                 std::vector<std::regex> patterns)
      : broker_(broker), options_(options), patterns_(std::move(patterns)) {}

  absl::Status Run(std::stop_token stop, bool to_end);
  std::vector<ForwardedTopic> progress() const;

 private:
  const Route* RouteOf(const std::string& topic) const;
  absl::Status AddLanes();

  const Broker broker_;
  const ForwarderOptions options_;
  const std::vector<std::regex> patterns_;  // of the routes, one each
  mutable absl::Mutex mutex_;
  // By the local topic's name. One that is over gives its place to that of the topic made anew.
  std::map<std::string, std::unique_ptr<ForwarderLane>> lanes_ ABSL_GUARDED_BY(mutex_);
};

const Route* ForwarderState::RouteOf(const std::string& topic) const {
  for (std::size_t i = 0; i < options_.routes.size(); ++i) {
    const Route& route = options_.routes[i];
    if (route.topic.empty() ? std::regex_match(topic, patterns_[i]) : route.topic == topic) {
      return &route;
    }
  }
  return nullptr;
}

absl::Status ForwarderState::AddLanes() {
  for (const std::string& name : broker_.TopicNames()) {
    const Route* const route = RouteOf(name);
    // A dead letter that is forwarded and refused would be a dead letter again.
    if (route == nullptr || name == options_.dead_letter_topic) continue;
    absl::MutexLock lock(&mutex_);
    const auto known = lanes_.find(name);
    if (known != lanes_.end() && !known->second->is_over()) continue;
    const absl::StatusOr<Topic> topic = broker_.OpenTopic(name);
    if (absl::IsNotFound(topic.status())) continue;  // deleted meanwhile
    CORDWOOD_RETURN_IF_ERROR(topic.status());
    const std::string target =
        absl::StrCat(route->target_prefix, route->target.empty() ? name : route->target);
    lanes_[name] =
        std::make_unique<ForwarderLane>(broker_, *topic, target, route->partitioning, options_);
  }
  return absl::OkStatus();
}

absl::Status ForwarderState::Run(std::stop_token stop, bool to_end) {
  Lanes running;
  std::set<std::string> started;  // ids of topics
  do {
    CORDWOOD_RETURN_IF_ERROR(AddLanes());
    absl::MutexLock lock(&mutex_);
    for (const auto& [name, lane] : lanes_) {
      if (!started.insert(lane->topic_id()).second) continue;
      running.Start([it = lane.get(), to_end](std::stop_token lane_stop) {
        return it->Run(lane_stop, to_end);
      });
    }
  } while (!running.Wait(stop, to_end, kLookForTopics));
  return running.Stop();
}

std::vector<ForwardedTopic> ForwarderState::progress() const {
  absl::MutexLock lock(&mutex_);
  std::vector<ForwardedTopic> all;
  for (const auto& [name, lane] : lanes_) all.push_back(lane->progress());
  return all;
}

}  // namespace internal

KafkaForwarder::KafkaForwarder(std::unique_ptr<internal::ForwarderState> state)
    : state_(std::move(state)) {}
KafkaForwarder::KafkaForwarder(KafkaForwarder&&) noexcept = default;
KafkaForwarder& KafkaForwarder::operator=(KafkaForwarder&&) noexcept = default;
KafkaForwarder::~KafkaForwarder() = default;

absl::StatusOr<KafkaForwarder> KafkaForwarder::Open(const Broker& broker,
                                                    const ForwarderOptions& options) {
  CORDWOOD_RETURN_IF_ERROR(Check(options));
  std::vector<std::regex> patterns;
  for (const Route& route : options.routes) {
    if (!route.topic.empty()) CORDWOOD_RETURN_IF_ERROR(broker.OpenTopic(route.topic).status());
    try {
      patterns.emplace_back(route.pattern);
    } catch (const std::regex_error& error) {
      return absl::InvalidArgumentError(
          absl::StrCat("Route: pattern ", route.pattern, ": ", error.what()));
    }
  }
  if (!options.dead_letter_topic.empty()) {
    CORDWOOD_RETURN_IF_ERROR(broker.OpenTopic(options.dead_letter_topic).status());
  }
  // A handle that reaches nobody says whether the properties are right.
  CORDWOOD_RETURN_IF_ERROR(internal::Client::Open(RD_KAFKA_PRODUCER, options.cluster, {}).status());
  return KafkaForwarder(
      std::make_unique<internal::ForwarderState>(broker, options, std::move(patterns)));
}

absl::Status KafkaForwarder::Run(std::stop_token stop) { return state_->Run(stop, false); }
absl::Status KafkaForwarder::RunToEnd(std::stop_token stop) { return state_->Run(stop, true); }
std::vector<ForwardedTopic> KafkaForwarder::progress() const { return state_->progress(); }

}  // namespace cordwood::kafka
