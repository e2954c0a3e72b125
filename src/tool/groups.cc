// cordwood groups: list, describe, reset, delete.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/status_macros.h"
#include "tool/commands.h"
#include "tool/describe_json.h"
#include "tool/place.h"

namespace cordwood::tool {
namespace {

struct Options {
  std::string group = {};
  std::string to = {};
  std::int64_t shift = 0;
  std::vector<std::string> topics = {};
  bool dry_run = false;
  bool yes = false;
};

std::string AgeText(const GroupDescription& group) {
  return group.lag == 0 ? "-" : DurationText(group.lag_age);
}

absl::Status List(Session& session) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  std::vector<GroupDescription> groups;
  int failures = 0;
  for (const std::string& name : broker.ListGroups()) {
    absl::StatusOr<GroupDescription> group = broker.DescribeGroup(name);
    if (group.ok()) {
      groups.push_back(*std::move(group));
    } else if (!absl::IsNotFound(group.status())) {  // it was not deleted meanwhile
      ++failures;
      session.Note(absl::StrCat("group ", name, ": ", std::string(group.status().message())));
    }
  }
  const absl::Status end =
      failures == 0
          ? absl::OkStatus()
          : absl::DataLossError(absl::StrCat("groups that cannot be described: ", failures));
  if (session.json) {
    internal::JsonWriter json(true);
    json.BeginArray();
    for (const GroupDescription& group : groups) WriteGroup(json, group);
    json.EndArray();
    CORDWOOD_RETURN_IF_ERROR(session.Answer(std::move(json)));
    return end;
  }
  Table table({{"GROUP"},
               {"TYPE"},
               {"STATE"},
               {"MEMBERS", Align::kRight},
               {"LAG", Align::kRight},
               {"SIZE", Align::kRight},
               {"BEHIND", Align::kRight}});
  for (const GroupDescription& group : groups) {
    table.Row({group.name, group.is_shared ? "share" : "consumer", group.state,
               // Those who share have no list.
               group.is_shared ? "-" : Count(static_cast<std::int64_t>(group.members.size())),
               Count(group.lag), BytesText(group.lag_bytes), AgeText(group)});
  }
  CORDWOOD_RETURN_IF_ERROR(session.Answer(!table.empty()  ? table.Text(session.style())
                                          : failures == 0 ? "There are no groups yet.\n"
                                                          : ""));
  return end;
}

absl::Status Describe(Session& session, const Options& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(const GroupDescription group, FindGroup(broker, options.group));
  if (session.json) {
    internal::JsonWriter json(true);
    WriteGroup(json, group);
    return session.Answer(std::move(json));
  }
  const Style style = session.style();
  std::string text =
      absl::StrCat(style.Bold(group.name), "  ", group.state, ", ",
                   group.is_shared             ? std::string("shared record by record")
                   : group.members.size() == 1 ? std::string("1 member")
                                               : absl::StrCat(group.members.size(), " members"),
                   group.assignor.empty() ? "" : ", " + group.assignor, "\nlag: ", Count(group.lag),
                   " records, ", BytesText(group.lag_bytes), ", ", AgeText(group), "\n\n");
  std::vector<Table::Column> columns = {{"TOPIC"},
                                        {"PARTITION", Align::kRight},
                                        {"COMMITTED", Align::kRight},
                                        {"END", Align::kRight},
                                        {"LAG", Align::kRight},
                                        {"SIZE", Align::kRight},
                                        {"BEHIND", Align::kRight}};
  if (group.is_shared) {
    for (const char* title : {"HELD", "WAITING", "DONE"}) columns.push_back({title, Align::kRight});
  } else {
    columns.push_back({"MEMBER"});
  }
  Table partitions(columns);
  for (const PartitionProgress& p : group.partitions) {
    std::vector<std::string> row = {p.topic,
                                    Count(p.partition),
                                    p.committed ? Count(*p.committed) : "-",
                                    Count(p.end),
                                    Count(p.lag),
                                    BytesText(p.lag_bytes),
                                    p.lag == 0 ? "-" : DurationText(p.lag_age)};
    if (group.is_shared) {
      const ShareProgress shared = p.shared.value_or(ShareProgress());
      for (const std::int64_t number : {shared.held, shared.waiting, shared.done}) {
        row.push_back(Count(number));
      }
    } else {
      row.push_back(p.member.empty() ? "-" : p.member);
    }
    partitions.Row(std::move(row));
  }
  text += partitions.Text(style);
  if (!group.members.empty()) {
    Table members({{"MEMBER"},
                   {"PROCESS", Align::kRight},
                   {"PARTITIONS", Align::kRight},
                   {"SINCE"},
                   {"STATE"}});
    for (const GroupMember& member : group.members) {
      members.Row({member.instance_id.empty() ? member.id
                                              : absl::StrCat(member.id, " ", member.instance_id),
                   absl::StrCat(member.pid),
                   Count(static_cast<std::int64_t>(member.assignment.size())),
                   TimeText(member.since), member.is_away ? "away" : "there"});
    }
    absl::StrAppend(&text, "\n", members.Text(style));
  }
  return session.Answer(text);
}

// "orders", or "orders:3"
absl::StatusOr<TopicPartition> ParseWhere(const std::string& text) {
  const std::size_t colon = text.find(':');
  TopicPartition where{.topic = text.substr(0, colon), .partition = -1};
  if (colon == std::string::npos) return where;
  if (absl::SimpleAtoi(text.substr(colon + 1), &where.partition) && where.partition >= 0) {
    return where;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is no topic: write TOPIC or TOPIC:PARTITION"));
}

absl::Status Reset(Session& session, const Options& options, bool has_shift) {
  if (has_shift == !options.to.empty()) {
    return absl::InvalidArgumentError("where to? Give either --to or --shift");
  }
  ResetTo to = ResetTo::Shift(options.shift);
  if (!has_shift) {
    CORDWOOD_ASSIGN_OR_RETURN(const Place place, ParsePlace(options.to, absl::Now()));
    if (place.kind == Place::Kind::kBeforeEnd) {
      return absl::InvalidArgumentError("--to takes no -N; --shift moves from what is committed");
    }
    to = ResetToPlace(place);
  }
  ResetOptions reset{.dry_run = options.dry_run};
  for (const std::string& text : options.topics) {
    CORDWOOD_ASSIGN_OR_RETURN(reset.partitions.emplace_back(), ParseWhere(text));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker,
                            options.dry_run ? OpenToRead(session) : OpenToWrite(session));
  if (reset.partitions.empty()) {
    CORDWOOD_RETURN_IF_ERROR(FindGroup(broker, options.group).status());
  }
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<OffsetChange> changes,
                            broker.ResetOffsets(options.group, to, reset));
  if (session.json) {
    internal::JsonWriter json(true);
    json.BeginObject().Key("group").String(options.group);
    json.Key("dry_run").Bool(options.dry_run).Key("changes").BeginArray();
    for (const OffsetChange& change : changes) {
      json.BeginObject().Key("topic").String(change.where.topic);
      json.Key("partition").Number(std::int64_t{change.where.partition}).Key("from");
      change.from ? json.Number(*change.from) : json.Null();
      json.Key("to").Number(change.to).EndObject();
    }
    json.EndArray().EndObject();
    return session.Answer(std::move(json));
  }
  Table table(
      {{"TOPIC"}, {"PARTITION", Align::kRight}, {"FROM", Align::kRight}, {"TO", Align::kRight}});
  for (const OffsetChange& change : changes) {
    table.Row({change.where.topic, Count(change.where.partition),
               change.from ? Count(*change.from) : "-", Count(change.to)});
  }
  return session.Answer(absl::StrCat(
      table.Text(session.style()),
      options.dry_run ? "Nothing was changed; without --dry-run this would be.\n" : ""));
}

absl::Status Delete(Session& session, const Options& options) {
  if (!options.yes) {
    return absl::InvalidArgumentError(absl::StrCat("this would delete group ", options.group,
                                                   " with all its offsets; say so with --yes"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToWrite(session));
  CORDWOOD_RETURN_IF_ERROR(FindGroup(broker, options.group).status());
  CORDWOOD_RETURN_IF_ERROR(broker.DeleteGroup(options.group));
  if (!session.json) return session.Answer(absl::StrCat("deleted ", options.group, "\n"));
  internal::JsonWriter json;
  json.BeginObject().Key("group").String(options.group).Key("done").String("deleted").EndObject();
  return session.Answer(std::move(json));
}

}  // namespace

void AddGroups(CLI::App& app, Session& session) {
  CLI::App* const groups = app.add_subcommand("groups", "List, describe, reset, delete groups");
  groups->require_subcommand(0, 1);
  groups->callback([&session, groups] {
    if (groups->get_subcommands().empty()) session.run = [&session] { return List(session); };
  });
  const auto options = std::make_shared<Options>();
  groups->add_subcommand("list", "All groups (as without a command)")->callback([&session] {
    session.run = [&session] { return List(session); };
  });

  CLI::App* const describe =
      groups->add_subcommand("describe", "Members, and the lag of each partition");
  describe->add_option("GROUP", options->group, "The group")->required();
  describe->callback([&session, options] {
    session.run = [&session, options] { return Describe(session, *options); };
  });

  CLI::App* const reset = groups->add_subcommand("reset", "Say where a group is to go on");
  reset->add_option("GROUP", options->group, "The group; it may have no members")->required();
  reset->add_option("--to", options->to, absl::StrCat("Where: ", kPlaceHelp))->type_name("PLACE");
  CLI::Option* const shift =
      reset->add_option("--shift", options->shift, "By so many from what is committed")
          ->type_name("N");
  reset->add_option("-t,--topic", options->topics, "Only this topic, or partition")
      ->type_name("TOPIC[:PARTITION]")
      ->allow_extra_args(false);
  reset->add_flag("--dry-run", options->dry_run, "Say what it would do, and change nothing");
  reset->callback([&session, options, shift] {
    const bool has_shift = shift->count() > 0;
    session.run = [=, &session] { return Reset(session, *options, has_shift); };
  });

  CLI::App* const erase = groups->add_subcommand("delete", "Delete a group and its offsets");
  erase->add_option("GROUP", options->group, "The group; it may have no members")->required();
  erase->add_flag("--yes", options->yes, "Yes, all its offsets");
  erase->callback([&session, options] {
    session.run = [&session, options] { return Delete(session, *options); };
  });
}

}  // namespace cordwood::tool
