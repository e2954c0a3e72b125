// cordwood topics: list, describe, create, alter, delete.

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cordwood/status_macros.h"
#include "tool/commands.h"
#include "tool/describe_json.h"

namespace cordwood::tool {
namespace {

struct Options {
  std::string topic = {};
  int partitions = 1;
  std::vector<std::string> settings = {};
  bool segments = false;
  bool if_not_exists = false;
  bool yes = false;
};

// {"retention.ms": "1000"} of "retention.ms=1000"
absl::StatusOr<std::map<std::string, std::string>> PropertiesOf(
    const std::vector<std::string>& settings) {
  std::map<std::string, std::string> properties;
  for (const std::string& setting : settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", setting, "\" is no setting: write NAME=VALUE, as retention.ms=1000"));
    }
    properties[setting.substr(0, equals)] = setting.substr(equals + 1);
  }
  return properties;
}

absl::Status List(Session& session) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(const BrokerDescription all, broker.DescribeBroker());
  if (session.json) {
    internal::JsonWriter json(true);
    json.BeginArray();
    for (const TopicDescription& topic : all.topics) WriteTopic(json, topic, false);
    json.EndArray();
    CORDWOOD_RETURN_IF_ERROR(session.Answer(std::move(json)));
  } else {
    Table table({{"TOPIC"},
                 {"PARTITIONS", Align::kRight},
                 {"RECORDS", Align::kRight},
                 {"SIZE", Align::kRight},
                 {"CLEANUP"},
                 {"LAST RECORD"}});
    for (const TopicDescription& topic : all.topics) {
      absl::Time last = absl::InfinitePast();
      for (const PartitionDescription& p : topic.by_number) last = std::max(last, p.last_timestamp);
      table.Row({topic.name, Count(topic.partitions), Count(topic.records), BytesText(topic.bytes),
                 topic.config.ToProperties()["cleanup.policy"], TimeText(last)});
    }
    CORDWOOD_RETURN_IF_ERROR(session.Answer(!table.empty() ? table.Text(session.style())
                                            : all.failed_topics.empty()
                                                ? "There are no topics yet.\n"
                                                : ""));
  }
  for (const BrokerDescription::Failure& failed : all.failed_topics) {
    session.Note(absl::StrCat("topic ", failed.name, ": ", std::string(failed.status.message())));
  }
  return all.failed_topics.empty()
             ? absl::OkStatus()
             : absl::DataLossError(
                   absl::StrCat("topics that cannot be described: ", all.failed_topics.size()));
}

std::string TopicText(const TopicDescription& topic, bool segments, const Style& style) {
  std::string text =
      absl::StrCat(style.Bold(topic.name), "  ", style.Dim(topic.id), "\n", Count(topic.partitions),
                   topic.partitions == 1 ? " partition, " : " partitions, ", Count(topic.records),
                   " records, ", BytesText(topic.bytes), "\n\n");
  Table partitions({{"PARTITION", Align::kRight},
                    {"START", Align::kRight},
                    {"END", Align::kRight},
                    {"DURABLE", Align::kRight},
                    {"SIZE", Align::kRight},
                    {"SEGMENTS", Align::kRight},
                    {"FIRST RECORD"},
                    {"LAST RECORD"}});
  for (const PartitionDescription& p : topic.by_number) {
    partitions.Row({Count(p.partition), Count(p.start), Count(p.end), Count(p.durable),
                    BytesText(p.bytes), Count(static_cast<std::int64_t>(p.segments.size())),
                    TimeText(p.first_timestamp), TimeText(p.last_timestamp)});
  }
  text += partitions.Text(style);
  for (const PartitionDescription& p : topic.by_number) {
    if (!p.failure.empty()) absl::StrAppend(&text, style.Bad(p.failure), "\n");
  }
  if (segments) {
    Table table({{"SEGMENT"},
                 {"FROM", Align::kRight},
                 {"TO", Align::kRight},
                 {"SIZE", Align::kRight},
                 {"LAST APPEND"},
                 {"STATE"}});
    for (const PartitionDescription& p : topic.by_number) {
      for (const SegmentDescription& s : p.segments) {
        table.Row({s.file, Count(s.base), Count(s.next), BytesText(s.bytes),
                   TimeText(s.last_append),
                   !s.damage.empty() ? "damaged"
                   : s.is_active     ? "active"
                   : s.is_compacted  ? "compacted"
                                     : "closed"});
      }
    }
    absl::StrAppend(&text, "\n", table.Text(style));
  }
  Table settings({{"SETTING"}, {"VALUE"}, {"SOURCE"}});
  for (const ConfigEntry& entry : topic.settings) {
    settings.Row(
        {entry.name, entry.value, entry.source == ConfigEntry::Source::kSet ? "set" : "default"});
  }
  absl::StrAppend(&text, "\n", settings.Text(style));
  return text;
}

absl::Status Describe(Session& session, const Options& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_RETURN_IF_ERROR(FindTopic(broker, options.topic).status());
  CORDWOOD_ASSIGN_OR_RETURN(const TopicDescription topic, broker.DescribeTopic(options.topic));
  if (!session.json) return session.Answer(TopicText(topic, options.segments, session.style()));
  internal::JsonWriter json(true);
  WriteTopic(json, topic, true);
  return session.Answer(std::move(json));
}

// What was done, for people or for programs.
absl::Status Done(Session& session, std::string_view verb, const std::string& topic) {
  if (!session.json) return session.Answer(absl::StrCat(std::string(verb), " ", topic, "\n"));
  internal::JsonWriter json;
  json.BeginObject().Key("topic").String(topic).Key("done").String(verb).EndObject();
  return session.Answer(std::move(json));
}

absl::Status Create(Session& session, const Options& options, bool has_partitions) {
  CORDWOOD_ASSIGN_OR_RETURN(auto properties, PropertiesOf(options.settings));
  if (!properties.emplace("partitions", std::to_string(options.partitions)).second &&
      has_partitions) {
    return absl::InvalidArgumentError("how many partitions? Give either --partitions or --set");
  }
  CORDWOOD_ASSIGN_OR_RETURN(const TopicConfig config, TopicConfig::FromProperties(properties));
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session, true));
  const absl::Status created = broker.CreateTopic(options.topic, config).status();
  if (absl::IsAlreadyExists(created) && options.if_not_exists) {
    return Done(session, "exists", options.topic);
  }
  CORDWOOD_RETURN_IF_ERROR(created);
  return Done(session, "created", options.topic);
}

absl::Status Alter(Session& session, const Options& options, bool has_partitions) {
  CORDWOOD_ASSIGN_OR_RETURN(const auto properties, PropertiesOf(options.settings));
  if (properties.empty() && !has_partitions) {
    return absl::InvalidArgumentError("nothing to alter: give --set NAME=VALUE or --partitions N");
  }
  if (properties.contains("partitions")) {
    return absl::InvalidArgumentError("partitions are added by --partitions, not by --set");
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session));
  CORDWOOD_RETURN_IF_ERROR(FindTopic(broker, options.topic).status());
  // First what is refused more often: it is both or, if it can be had, nothing.
  if (has_partitions) {
    CORDWOOD_RETURN_IF_ERROR(broker.CreatePartitions(options.topic, options.partitions));
  }
  if (!properties.empty()) {
    CORDWOOD_RETURN_IF_ERROR(broker.AlterTopic(options.topic, properties));
  }
  return Done(session, "altered", options.topic);
}

absl::Status Delete(Session& session, const Options& options) {
  if (!options.yes) {
    return absl::InvalidArgumentError(absl::StrCat("this would delete topic ", options.topic,
                                                   " with all its records; say so with --yes"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session));
  CORDWOOD_RETURN_IF_ERROR(FindTopic(broker, options.topic).status());
  CORDWOOD_RETURN_IF_ERROR(broker.DeleteTopic(options.topic));
  return Done(session, "deleted", options.topic);
}

}  // namespace

void AddTopics(CLI::App& app, Session& session) {
  CLI::App* const topics = app.add_subcommand("topics", "List, describe, create, alter topics");
  topics->require_subcommand(0, 1);
  topics->callback([&session, topics] {
    if (topics->get_subcommands().empty()) session.run = [&session] { return List(session); };
  });
  const auto options = std::make_shared<Options>();
  topics->add_subcommand("list", "All topics (as without a command)")->callback([&session] {
    session.run = [&session] { return List(session); };
  });

  CLI::App* const describe =
      topics->add_subcommand("describe", "Offsets, sizes, times and settings of a topic");
  describe->add_option("TOPIC", options->topic, "The topic")->required();
  describe->add_flag("--segments", options->segments, "Its files, too");
  describe->callback([&session, options] {
    session.run = [&session, options] { return Describe(session, *options); };
  });

  CLI::App* const create = topics->add_subcommand("create", "Make a topic, and the directory");
  create->add_option("TOPIC", options->topic, "The topic")->required();
  CLI::Option* const number =
      create->add_option("-p,--partitions", options->partitions, "How many (1)")->type_name("N");
  create->add_option("-s,--set", options->settings, "A setting, by Kafka's name: retention.ms=1000")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  create->add_flag("--if-not-exists", options->if_not_exists, "One that is there is all right");
  create->callback([&session, options, number] {
    const bool has_partitions = number->count() > 0;
    session.run = [=, &session] { return Create(session, *options, has_partitions); };
  });

  CLI::App* const alter = topics->add_subcommand("alter", "Change settings, or add partitions");
  alter->add_option("TOPIC", options->topic, "The topic")->required();
  alter->add_option("-s,--set", options->settings, "A setting: retention.ms=1000")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  CLI::Option* const count =
      alter->add_option("-p,--partitions", options->partitions, "How many there are to be")
          ->type_name("N");
  alter->callback([&session, options, count] {
    const bool has_partitions = count->count() > 0;
    session.run = [=, &session] { return Alter(session, *options, has_partitions); };
  });

  CLI::App* const erase = topics->add_subcommand("delete", "Delete a topic with all its records");
  erase->add_option("TOPIC", options->topic, "The topic")->required();
  erase->add_flag("--yes", options->yes, "Yes, all its records");
  erase->callback([&session, options] {
    session.run = [&session, options] { return Delete(session, *options); };
  });
}

}  // namespace cordwood::tool
