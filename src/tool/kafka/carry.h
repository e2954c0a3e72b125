// Runs a bridge until it has ended or a signal says so, and shows how far it is.
//
//   return Carry(session, CarrierOf(forwarder), {.until_end = true});
//
// On a terminal: a line with a bar and the lag. With --json: a document now and then, and one at
// the end. Otherwise only what somebody has to know: that the cluster is away, and back.

#ifndef CORDWOOD_TOOL_KAFKA_CARRY_H_
#define CORDWOOD_TOOL_KAFKA_CARRY_H_

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "cordwood/kafka/forwarder.h"
#include "cordwood/kafka/importer.h"
#include "tool/session.h"

namespace cordwood::tool {

// A topic under way, for people.
struct Carried {
  std::string topic = {};
  std::int64_t records = 0, bytes = 0, lag = 0;
  absl::Duration away = absl::ZeroDuration();
  std::string last_error = {};
};

struct Carrier {
  std::string done = {};  // "forwarded", "imported"
  std::function<absl::Status(std::stop_token stop, bool until_end)> run = {};
  std::function<std::vector<Carried>()> look = {};
  // The value of the key "topics".
  std::function<void(internal::JsonWriter& json)> write = {};
  std::function<std::string()> prometheus_text = {};
};
Carrier CarrierOf(kafka::KafkaForwarder& forwarder);
Carrier CarrierOf(kafka::KafkaImporter& importer);

struct CarryOptions {
  bool until_end = false;
  double interval_seconds = 1;    // between two documents, and two states of that file:
  std::string metrics_file = {};  // for Prometheus; none: no file
};
// OK: a signal has stopped it, or, `until_end`, all is there. kAborted: stopped before that.
absl::Status Carry(Session& session, const Carrier& carrier, const CarryOptions& options);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_KAFKA_CARRY_H_
