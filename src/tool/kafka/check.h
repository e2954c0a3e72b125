// cordwood kafka check: whether topics can be forwarded, and how far they are, without changing
// anything here or there. The comparison is a pure function.

#ifndef CORDWOOD_TOOL_KAFKA_CHECK_H_
#define CORDWOOD_TOOL_KAFKA_CHECK_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cordwood/kafka/cluster.h"
#include "cordwood/options.h"
#include "tool/kafka/options.h"
#include "tool/session.h"

namespace cordwood::tool {

struct Difference {
  std::string name = {}, here = {}, there = {};
  friend bool operator==(const Difference&, const Difference&) = default;
};
// Settings that the forwarder would give the target and that it has not, as far as it says its own.
// Left out: what is better there, a larger record and a record's own timestamp.
std::vector<Difference> Differences(const TopicConfig& here,
                                    const std::map<std::string, std::string>& there);

struct CheckOptions {
  ClusterArguments cluster = {};
  TopicArguments topics = {};
  std::string group = "kafka-forwarder";
  double timeout_seconds = 10;
};
// kFailedPrecondition: there is something that cannot be forwarded. Settings that differ, and lag,
// are told of and no error.
absl::Status Check(Session& session, const CheckOptions& options);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_KAFKA_CHECK_H_
