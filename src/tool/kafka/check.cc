#include "tool/kafka/check.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/status_macros.h"

namespace cordwood::tool {
namespace {

constexpr char kSizeMax[] = "max.message.bytes";
constexpr char kTimestampType[] = "message.timestamp.type";
constexpr char kCreateTime[] = "CreateTime";

// What is known of one topic.
struct Row {
  std::string topic = {}, target = {};
  int partitions = 0;
  std::optional<int> partitions_there = {};
  std::vector<Difference> differences = {};
  std::string settings_error = {};  // why they are not known
  bool has_begun = false;
  std::int64_t lag = 0;
  std::string problem = {};  // why it cannot be forwarded
};

absl::StatusOr<std::vector<Names>> NamesOf(const Broker& broker, const TopicArguments& topics) {
  std::vector<Names> all;
  for (const std::string& text : topics.names) {
    CORDWOOD_ASSIGN_OR_RETURN(Names names, ParseNames(text));
    all.push_back(std::move(names));
  }
  std::vector<std::string> patterns = topics.patterns;
  if (all.empty() && patterns.empty()) patterns.push_back(".*");
  for (const std::string& pattern : patterns) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<std::string> found,
                              Matching(broker.TopicNames(), pattern));
    for (const std::string& topic : found) {
      const bool is_known =
          std::any_of(all.begin(), all.end(), [&](const Names& n) { return n.topic == topic; });
      if (!is_known) all.push_back({.topic = topic});
    }
  }
  for (Names& names : all) {
    names.target = absl::StrCat(topics.prefix, names.target.empty() ? names.topic : names.target);
  }
  return all;
}

// How far the group is.
absl::Status AddLag(const Broker& broker, const std::string& group, const Topic& topic, Row& row) {
  const absl::StatusOr<GroupDescription> described = broker.DescribeGroup(group);
  if (!described.ok() && !absl::IsNotFound(described.status())) return described.status();
  for (int p = 0; p < topic.partition_count(); ++p) {
    const Partition log = topic.partition(p);
    std::int64_t lag = log.end_offset() - log.start_offset();
    if (described.ok()) {
      for (const PartitionProgress& progress : described->partitions) {
        if (progress.topic != topic.name() || progress.partition != p) continue;
        row.has_begun = row.has_begun || progress.committed.has_value();
        if (progress.committed) lag = progress.lag;
      }
    }
    row.lag += lag;
  }
  return absl::OkStatus();
}

absl::StatusOr<Row> CheckOne(const Broker& broker, const Names& names, const CheckOptions& options,
                             const kafka::ClusterOptions& cluster,
                             const std::map<std::string, int>& there) {
  CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, FindTopic(broker, names.topic));
  Row row{.topic = names.topic, .target = names.target, .partitions = topic.partition_count()};
  CORDWOOD_RETURN_IF_ERROR(AddLag(broker, options.group, topic, row));
  const auto found = there.find(names.target);
  if (found == there.end()) {
    row.problem = absl::StrCat("there is no Kafka topic ", names.target,
                               "; `cordwood kafka forward --create` makes it");
    return row;
  }
  row.partitions_there = found->second;
  if (options.topics.partitioner == "same" && row.partitions != found->second) {
    row.problem = absl::StrCat(row.partitions, " partitions here, ", found->second,
                               " there; make them equal, or spread the keys anew with "
                               "--partitioner murmur2");
  }
  const auto described =
      kafka::DescribeTopic(cluster, names.target, absl::Seconds(options.timeout_seconds));
  if (described.ok()) {
    row.differences = Differences(topic.config(), described->properties);
  } else {
    row.settings_error = std::string(described.status().message());
  }
  return row;
}

std::string StateOf(const Row& row) {
  if (!row.problem.empty()) return "cannot be forwarded";
  return row.has_begun ? (row.lag == 0 ? "up to date" : "behind") : "not begun";
}

void WriteJson(internal::JsonWriter& json, const Row& row) {
  json.BeginObject().Key("topic").String(row.topic).Key("target").String(row.target);
  json.Key("partitions").Number(std::int64_t{row.partitions}).Key("partitions_there");
  if (row.partitions_there) {
    json.Number(std::int64_t{*row.partitions_there});
  } else {
    json.Null();
  }
  json.Key("differences").BeginArray();
  for (const Difference& d : row.differences) {
    json.BeginObject().Key("name").String(d.name).Key("here").String(d.here);
    json.Key("there").String(d.there).EndObject();
  }
  json.EndArray().Key("settings_error");
  row.settings_error.empty() ? json.Null() : json.String(row.settings_error);
  json.Key("has_begun").Bool(row.has_begun).Key("lag").Number(row.lag);
  json.Key("state").String(StateOf(row)).Key("problem");
  row.problem.empty() ? json.Null() : json.String(row.problem);
  json.EndObject();
}

std::string TextOf(const std::vector<Row>& rows, const Style& style) {
  if (rows.empty()) return "There are no topics yet.\n";
  Table table({{"TOPIC"},
               {"TARGET"},
               {"PARTITIONS", Align::kRight},
               {"THERE", Align::kRight},
               {"SETTINGS"},
               {"LAG", Align::kRight},
               {"STATE"}});
  std::string notes;
  for (const Row& row : rows) {
    const bool is_known = row.partitions_there && row.settings_error.empty();
    const std::int64_t count = static_cast<std::int64_t>(row.differences.size());
    table.Row({row.topic, row.target, Count(row.partitions),
               row.partitions_there ? Count(*row.partitions_there) : "-",
               !is_known    ? "-"
               : count == 0 ? "as here"
                            : absl::StrCat(count, " differ"),
               Count(row.lag), StateOf(row)});
    for (const Difference& d : row.differences) {
      absl::StrAppend(&notes, row.topic, ": ", d.name, " is ", d.here, " here, ", d.there,
                      " there\n");
    }
    if (!row.settings_error.empty()) {
      absl::StrAppend(&notes, row.topic, ": settings not compared: ", row.settings_error, "\n");
    }
  }
  return absl::StrCat(table.Text(style), notes.empty() ? "" : "\n", notes);
}

}  // namespace

std::vector<Difference> Differences(const TopicConfig& here,
                                    const std::map<std::string, std::string>& there) {
  std::map<std::string, std::string> wanted = kafka::ToClusterProperties(here);
  wanted[kTimestampType] = kCreateTime;  // the record brings its own along
  std::vector<Difference> differences;
  for (const auto& [name, value] : wanted) {
    const auto it = there.find(name);
    if (it == there.end() || it->second == value) continue;
    std::int64_t size_here = 0, size_there = 0;
    const bool is_larger = name == kSizeMax && absl::SimpleAtoi(value, &size_here) &&
                           absl::SimpleAtoi(it->second, &size_there) && size_there > size_here;
    if (!is_larger) differences.push_back({.name = name, .here = value, .there = it->second});
  }
  return differences;
}

absl::Status Check(Session& session, const CheckOptions& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const kafka::ClusterOptions cluster, ReadCluster(options.cluster));
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<Names> names, NamesOf(broker, options.topics));
  CORDWOOD_ASSIGN_OR_RETURN(const auto there,
                            kafka::ListTopics(cluster, absl::Seconds(options.timeout_seconds)));
  std::vector<Row> rows;
  for (const Names& one : names) {
    CORDWOOD_ASSIGN_OR_RETURN(Row row, CheckOne(broker, one, options, cluster, there));
    rows.push_back(std::move(row));
  }
  if (session.json) {
    internal::JsonWriter json(true);
    json.BeginArray();
    for (const Row& row : rows) WriteJson(json, row);
    json.EndArray();
    CORDWOOD_RETURN_IF_ERROR(session.Answer(std::move(json)));
  } else {
    CORDWOOD_RETURN_IF_ERROR(session.Answer(TextOf(rows, session.style())));
  }
  std::string problems;
  for (const Row& row : rows) {
    if (row.problem.empty()) continue;
    absl::StrAppend(&problems, problems.empty() ? "" : "\n", row.topic, ": ", row.problem);
  }
  return problems.empty() ? absl::OkStatus() : absl::FailedPreconditionError(problems);
}

}  // namespace cordwood::tool
