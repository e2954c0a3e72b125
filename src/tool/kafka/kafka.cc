// cordwood kafka: forward, import, check.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "cordwood/kafka/forwarder.h"
#include "cordwood/kafka/importer.h"
#include "cordwood/status_macros.h"
#include "tool/checks.h"
#include "tool/commands.h"
#include "tool/kafka/carry.h"
#include "tool/kafka/check.h"
#include "tool/kafka/options.h"
#include "tool/place.h"

namespace cordwood::tool {
namespace {

struct ForwardArguments {
  ClusterArguments cluster = {};
  TopicArguments topics = {};
  CarryOptions carry = {};
  kafka::ForwarderOptions options = {};
  std::string time = {};
  bool without_retention = false;
};

struct ImportArguments {
  ClusterArguments cluster = {};
  TopicArguments topics = {};
  CarryOptions carry = {};
  kafka::ImporterOptions options = {};
};

absl::Status CheckHasTopics(const TopicArguments& topics) {
  if (!topics.names.empty() || !topics.patterns.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("which topics?\n  Name them, or give a --pattern.");
}

absl::Status Forward(Session& session, const ForwardArguments& arguments) {
  kafka::ForwarderOptions options = arguments.options;
  options.retain = !arguments.without_retention;
  CORDWOOD_RETURN_IF_ERROR(CheckHasTopics(arguments.topics));
  CORDWOOD_ASSIGN_OR_RETURN(options.cluster, ReadCluster(arguments.cluster));
  if (!arguments.time.empty()) {
    CORDWOOD_ASSIGN_OR_RETURN(options.transaction_time, ParseDuration(arguments.time));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session));
  const auto add = [&](kafka::Route route) {
    route.target_prefix = arguments.topics.prefix;
    route.partitioning = PartitioningOf(arguments.topics);
    options.routes.push_back(std::move(route));
  };
  for (const std::string& text : arguments.topics.names) {
    CORDWOOD_ASSIGN_OR_RETURN(Names names, ParseNames(text));
    CORDWOOD_RETURN_IF_ERROR(FindTopic(broker, names.topic).status());
    add({.topic = std::move(names.topic), .target = std::move(names.target)});
  }
  for (const std::string& pattern : arguments.topics.patterns) add({.pattern = pattern});
  absl::StatusOr<kafka::KafkaForwarder> forwarder = kafka::KafkaForwarder::Open(broker, options);
  CORDWOOD_RETURN_IF_ERROR(InWordsOfProgram(forwarder.status()));
  return InWordsOfProgram(Carry(session, CarrierOf(*forwarder), arguments.carry));
}

// Of a pattern, those that the cluster has now; none of its own, "__consumer_offsets" and such.
absl::Status AddMatching(const TopicArguments& topics, kafka::ImporterOptions& options) {
  if (topics.patterns.empty()) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(const auto there, kafka::ListTopics(options.cluster));
  std::vector<std::string> names;
  for (const auto& [name, partitions] : there) {
    if (!absl::StartsWith(name, "__")) names.push_back(name);
  }
  for (const std::string& pattern : topics.patterns) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::vector<std::string> found, Matching(names, pattern));
    for (const std::string& name : found) {
      options.routes.push_back({.topic = name});
      std::erase(names, name);
    }
  }
  if (!options.routes.empty()) return absl::OkStatus();
  return absl::NotFoundError("the Kafka cluster has no topic that matches");
}

absl::Status Import(Session& session, const ImportArguments& arguments) {
  kafka::ImporterOptions options = arguments.options;
  CORDWOOD_RETURN_IF_ERROR(CheckHasTopics(arguments.topics));
  CORDWOOD_ASSIGN_OR_RETURN(options.cluster, ReadCluster(arguments.cluster));
  for (const std::string& text : arguments.topics.names) {
    CORDWOOD_ASSIGN_OR_RETURN(Names names, ParseNames(text));
    options.routes.push_back({.topic = std::move(names.topic), .target = std::move(names.target)});
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session, options.create_topics));
  CORDWOOD_RETURN_IF_ERROR(AddMatching(arguments.topics, options));
  for (kafka::ImportRoute& route : options.routes) {
    route.target = arguments.topics.prefix + (route.target.empty() ? route.topic : route.target);
    route.partitioning = PartitioningOf(arguments.topics);
  }
  absl::StatusOr<kafka::KafkaImporter> importer = kafka::KafkaImporter::Open(broker, options);
  CORDWOOD_RETURN_IF_ERROR(InWordsOfProgram(importer.status()));
  return InWordsOfProgram(Carry(session, CarrierOf(*importer), arguments.carry));
}

void AddCarry(CLI::App* command, CarryOptions& options) {
  command->add_flag("--until-end", options.until_end,
                    "End when all is carried over that is there now; else at Ctrl-C");
  command
      ->add_option("-i,--interval", options.interval_seconds,
                   "With --json or --metrics-file: say how far it is after so long, each time (1)")
      ->check(CLI::Range(0.01, 3600.0))
      ->type_name("SECONDS");
  command
      ->add_option("--metrics-file", options.metrics_file,
                   "Keep how far it is there, in Prometheus's text format")
      ->type_name("FILE");
}

void AddForward(CLI::App* kafka, Session& session) {
  CLI::App* const command =
      kafka->add_subcommand("forward", "Topics of the directory to the cluster, each record once");
  const auto arguments = std::make_shared<ForwardArguments>();
  kafka::ForwarderOptions& options = arguments->options;
  AddTopicArguments(command, arguments->topics, "the directory");
  AddClusterArguments(command, arguments->cluster);
  AddCarry(command, arguments->carry);
  command
      ->add_option("-g,--group", options.group, "Whose offsets say how far it is (kafka-forwarder)")
      ->type_name("GROUP");
  command->add_flag("--create", options.create_topics,
                    "Make the cluster's topics that are missing");
  command
      ->add_option("--replication-factor", options.replication_factor,
                   "Of those (the cluster's default)")
      ->check(AtLeast(1))
      ->type_name("N");
  command
      ->add_option("--dead-letter", options.dead_letter_topic,
                   "Local, for what the cluster refuses for good; without it that is the end")
      ->type_name("TOPIC");
  command->add_flag("--no-retain", arguments->without_retention,
                    "Let retention take what is not forwarded yet");
  command
      ->add_option("--time", arguments->time,
                   "How long records wait for others of the same transaction (100ms)")
      ->type_name("DURATION");
  command
      ->add_option("--records-max", options.transaction_records_max, "Of a transaction (100,000)")
      ->check(AtLeast(1))
      ->type_name("N");
  command->callback([&session, arguments] {
    session.run = [&session, arguments] { return Forward(session, *arguments); };
  });
}

void AddImport(CLI::App* kafka, Session& session) {
  CLI::App* const command =
      kafka->add_subcommand("import", "Topics of the cluster to the directory, each record once");
  const auto arguments = std::make_shared<ImportArguments>();
  AddTopicArguments(command, arguments->topics, "the cluster");
  AddClusterArguments(command, arguments->cluster);
  AddCarry(command, arguments->carry);
  command
      ->add_option("-g,--group", arguments->options.group,
                   "A local one, that says how far it is (kafka-importer)")
      ->type_name("GROUP");
  command->add_flag("--create", arguments->options.create_topics,
                    "Make the topics, and the directory, if missing");
  command->callback([&session, arguments] {
    session.run = [&session, arguments] { return Import(session, *arguments); };
  });
}

void AddCheck(CLI::App* kafka, Session& session) {
  CLI::App* const command = kafka->add_subcommand(
      "check", "Whether topics can be forwarded (all, or those), and how far; changes nothing");
  const auto options = std::make_shared<CheckOptions>();
  AddTopicArguments(command, options->topics, "the directory");
  AddClusterArguments(command, options->cluster);
  command->add_option("-g,--group", options->group, "The forwarder's group (kafka-forwarder)")
      ->type_name("GROUP");
  command->add_option("--timeout", options->timeout_seconds, "For the cluster to answer (10)")
      ->check(CLI::Range(0.1, 3600.0))
      ->type_name("SECONDS");
  command->callback([&session, options] {
    session.run = [&session, options] { return Check(session, *options); };
  });
}

}  // namespace

void AddKafka(CLI::App& app, Session& session) {
  CLI::App* const kafka = app.add_subcommand("kafka", "To Apache Kafka and back");
  kafka->require_subcommand(1);
  AddForward(kafka, session);
  AddImport(kafka, session);
  AddCheck(kafka, session);
}

}  // namespace cordwood::tool
