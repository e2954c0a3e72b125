#include "tool/kafka/options.h"

#include <CLI/CLI.hpp>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <regex>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "cordwood/status_macros.h"

namespace cordwood::tool {
namespace {

constexpr char kServers[] = "bootstrap.servers";
constexpr char kServersToo[] = "metadata.broker.list";  // another name of the same

}  // namespace

void AddClusterArguments(CLI::App* command, ClusterArguments& cluster) {
  command
      ->add_option("-b,--brokers", cluster.brokers, "Servers of the cluster, as bootstrap.servers")
      ->type_name("HOST[:PORT],...");
  command
      ->add_option(
          "-X,--property", cluster.properties,
          "A setting of librdkafka, by its own name; others see it in the list of processes")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("-F,--properties", cluster.files,
                   "Settings of librdkafka, NAME=VALUE a line: the place for passwords")
      ->type_name("FILE")
      ->allow_extra_args(false);
}

absl::Status ParseProperties(std::string_view text, std::string_view where,
                             std::map<std::string, std::string>& properties) {
  int number = 0;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line.front() == '#') continue;
    const std::size_t equals = line.find('=');
    const absl::string_view name = absl::StripTrailingAsciiWhitespace(line.substr(0, equals));
    if (equals == absl::string_view::npos || name.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(std::string(where), ", line ", number, ": it is not NAME=VALUE"));
    }
    properties[std::string(name)] =
        std::string(absl::StripLeadingAsciiWhitespace(line.substr(equals + 1)));
  }
  return absl::OkStatus();
}

absl::StatusOr<kafka::ClusterOptions> ReadCluster(const ClusterArguments& cluster) {
  kafka::ClusterOptions options;
  for (const std::string& name : cluster.files) {
    std::ifstream file(name, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file) return absl::NotFoundError(absl::StrCat(name, ": cannot be read"));
    CORDWOOD_RETURN_IF_ERROR(ParseProperties(text, name, options.properties));
  }
  if (!cluster.brokers.empty()) {
    options.properties.erase(kServersToo);
    options.properties[kServers] = cluster.brokers;
  }
  for (const std::string& property : cluster.properties) {
    CORDWOOD_RETURN_IF_ERROR(ParseProperties(property, "-X", options.properties));
  }
  if (!options.properties.contains(kServers) && !options.properties.contains(kServersToo)) {
    return absl::InvalidArgumentError(
        "which cluster?\n  Name it with --brokers, or as bootstrap.servers with -X or in -F.");
  }
  return options;
}

void AddTopicArguments(CLI::App* command, TopicArguments& topics, std::string_view whose) {
  const std::string of(whose);
  command->add_option("TOPIC", topics.names,
                      absl::StrCat("A topic of ", of, "; TOPIC=TARGET: to one of another name"));
  command
      ->add_option("--pattern", topics.patterns,
                   absl::StrCat("All topics of ", of, " whose whole name matches"))
      ->type_name("REGEX")
      ->allow_extra_args(false);
  command->add_option("--prefix", topics.prefix, "Put before the names of the targets")
      ->type_name("TEXT");
  command
      ->add_option("--partitioner", topics.partitioner,
                   "same: by the partition's number (the default); murmur2: by the key, as Kafka's")
      ->check(CLI::IsMember({"same", "murmur2"}))
      ->type_name("HOW");
}

kafka::Partitioning PartitioningOf(const TopicArguments& topics) {
  return topics.partitioner == "same" ? kafka::Partitioning::kSame : kafka::Partitioning::kMurmur2;
}

absl::StatusOr<Names> ParseNames(std::string_view text) {
  const std::size_t equals = text.find('=');
  Names names{.topic = std::string(text.substr(0, equals))};
  if (equals != std::string_view::npos) names.target = text.substr(equals + 1);
  if (names.topic.empty() || (equals != std::string_view::npos && names.target.empty())) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", std::string(text), "\" is no topic: write TOPIC or TOPIC=TARGET"));
  }
  return names;
}

absl::StatusOr<std::vector<std::string>> Matching(const std::vector<std::string>& names,
                                                  const std::string& pattern) {
  std::vector<std::string> found;
  try {
    const std::regex regex(pattern);
    for (const std::string& name : names) {
      if (std::regex_match(name, regex)) found.push_back(name);
    }
  } catch (const std::regex_error& error) {
    return absl::InvalidArgumentError(absl::StrCat("pattern ", pattern, ": ", error.what()));
  }
  return found;
}

absl::Status InWordsOfProgram(const absl::Status& status) {
  if (status.ok()) return status;
  const std::string text = absl::StrReplaceAll(
      status.message(), {{"ForwarderOptions::dead_letter_topic", "--dead-letter"},
                         {"ForwarderOptions::transaction_time", "--time"},
                         {"ImportRoute::partitioning", "--partitioner"},
                         {"Route::partitioning", "--partitioner"}});
  return absl::Status(status.code(), text);
}

}  // namespace cordwood::tool
