// cordwood describe: everything in the directory.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "cordwood/catalog.h"
#include "cordwood/status_macros.h"
#include "tool/commands.h"
#include "tool/describe_json.h"

namespace cordwood::tool {
namespace {

std::string BrokerText(const BrokerDescription& broker, const Style& style) {
  std::string text = absl::StrCat(
      style.Bold(broker.directory), "\ntopics: ", broker.topics.size(),
      ", partitions: ", Count(broker.partitions), ", records: ", Count(broker.records),
      ", size: ", BytesText(broker.bytes), "\n", BytesText(broker.disk.free_bytes),
      " free on the disk", broker.disk.is_low ? style.Bad(", which is little") : "",
      broker.disk.reserve_is_spent ? style.Bad("; the reserve is in use: nothing is appended") : "",
      "\n");
  Table topics({{"TOPIC"}, {"RECORDS", Align::kRight}, {"SIZE", Align::kRight}});
  for (const TopicDescription& topic : broker.topics) {
    topics.Row({topic.name, Count(topic.records), BytesText(topic.bytes)});
  }
  if (!topics.empty()) absl::StrAppend(&text, "\n", topics.Text(style));
  Table groups({{"GROUP"}, {"STATE"}, {"LAG", Align::kRight}, {"SIZE", Align::kRight}});
  for (const GroupDescription& group : broker.groups) {
    groups.Row({group.name, group.state, Count(group.lag), BytesText(group.lag_bytes)});
  }
  if (!groups.empty()) absl::StrAppend(&text, "\n", groups.Text(style));
  return text;
}

struct Options {
  bool catalog = false;
  CatalogOptions catalog_options = {};
};

absl::Status Describe(Session& session, const Options& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(const BrokerDescription all, broker.DescribeBroker());
  if (options.catalog) {
    // With --json on one line, for programs.
    CatalogOptions catalog = options.catalog_options;
    catalog.pretty = !session.json;
    CORDWOOD_RETURN_IF_ERROR(session.Answer(CatalogJson(all, catalog) + "\n"));
  } else if (session.json) {
    internal::JsonWriter json(true);
    WriteBroker(json, all);
    CORDWOOD_RETURN_IF_ERROR(session.Answer(std::move(json)));
  } else {
    CORDWOOD_RETURN_IF_ERROR(session.Answer(BrokerText(all, session.style())));
  }
  for (const auto* list : {&all.failed_topics, &all.failed_groups}) {
    for (const BrokerDescription::Failure& failed : *list) {
      session.Note(absl::StrCat(failed.name, ": ", std::string(failed.status.message())));
    }
  }
  const std::size_t failures = all.failed_topics.size() + all.failed_groups.size();
  return failures == 0 ? absl::OkStatus()
                       : absl::DataLossError(absl::StrCat(
                             "topics and groups that cannot be described: ", failures));
}

}  // namespace

void AddDescribe(CLI::App& app, Session& session) {
  CLI::App* const describe = app.add_subcommand("describe", "Everything in the directory");
  const auto options = std::make_shared<Options>();
  CLI::Option* const catalog = describe->add_flag(
      "--catalog", options->catalog, "As entities of Atlan's Kafka model, for data catalogues");
  describe
      ->add_option("--connection", options->catalog_options.connection,
                   "What the qualified names of the catalogue begin with")
      ->needs(catalog)
      ->type_name("NAME");
  describe->callback([&session, options] {
    session.run = [&session, options] { return Describe(session, *options); };
  });
}

}  // namespace cordwood::tool
