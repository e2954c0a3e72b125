#include "cordwood/kafka/importer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "kafka/importer_lane.h"
#include "kafka/lanes.h"

namespace cordwood::kafka {
namespace {

absl::Status MovedFrom() { return absl::FailedPreconditionError("the importer was moved from"); }

}  // namespace

namespace internal {

class ImporterState {
 public:
  ImporterState(const Broker& broker, const ImporterOptions& options) {
    for (const ImportRoute& route : options.routes) {
      lanes_.push_back(std::make_unique<ImporterLane>(broker, route, options));
    }
  }

  absl::Status Run(std::stop_token stop, bool to_end) {
    Lanes running;
    for (const auto& lane : lanes_) {
      running.Start([it = lane.get(), to_end](std::stop_token lane_stop) {
        return it->Run(lane_stop, to_end);
      });
    }
    while (!running.Wait(stop, to_end, absl::Hours(1))) {
    }
    return running.Stop();
  }
  std::vector<ImportedTopic> progress() const {
    std::vector<ImportedTopic> all;
    for (const auto& lane : lanes_) all.push_back(lane->progress());
    return all;
  }

 private:
  std::vector<std::unique_ptr<ImporterLane>> lanes_;
};

}  // namespace internal

KafkaImporter::KafkaImporter(std::unique_ptr<internal::ImporterState> state)
    : state_(std::move(state)) {}
KafkaImporter::KafkaImporter(KafkaImporter&&) noexcept = default;
KafkaImporter& KafkaImporter::operator=(KafkaImporter&&) noexcept = default;
KafkaImporter::~KafkaImporter() = default;

absl::StatusOr<KafkaImporter> KafkaImporter::Open(const Broker& broker,
                                                  const ImporterOptions& options) {
  if (options.routes.empty()) {
    return absl::InvalidArgumentError("ImporterOptions::routes: there is none");
  }
  for (const ImportRoute& route : options.routes) {
    if (route.topic.empty()) return absl::InvalidArgumentError("ImportRoute::topic: it is empty");
  }
  CORDWOOD_RETURN_IF_ERROR(cordwood::internal::ValidateName("group", options.group));
  // A handle that reaches nobody says whether the properties are right.
  CORDWOOD_RETURN_IF_ERROR(internal::Client::Open(RD_KAFKA_CONSUMER, options.cluster, {}).status());
  return KafkaImporter(std::make_unique<internal::ImporterState>(broker, options));
}

absl::Status KafkaImporter::Run(std::stop_token stop) {
  return state_ == nullptr ? MovedFrom() : state_->Run(stop, false);
}
absl::Status KafkaImporter::RunToEnd(std::stop_token stop) {
  return state_ == nullptr ? MovedFrom() : state_->Run(stop, true);
}
std::vector<ImportedTopic> KafkaImporter::progress() const {
  return state_ == nullptr ? std::vector<ImportedTopic>() : state_->progress();
}

}  // namespace cordwood::kafka
