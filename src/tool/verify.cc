// cordwood verify, cordwood repair: what of a directory is damaged, and making it usable again.

#include "cordwood/verify.h"

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "cordwood/repair.h"
#include "cordwood/status_macros.h"
#include "tool/commands.h"
#include "tool/output.h"
#include "tool/terminal.h"

namespace cordwood::tool {
namespace {

using internal::JsonWriter;

// Of what breaks a promise. A torn end is what a process left half done, and nobody was told that
// it is there.
bool IsBad(VerifiedState state) {
  return state == VerifiedState::kDamaged || state == VerifiedState::kMissing;
}
bool IsTold(VerifiedState state) { return IsBad(state) || state == VerifiedState::kTorn; }

struct Findings {
  std::int64_t bad = 0, torn = 0;

  void Count(VerifiedState state) {
    bad += IsBad(state) ? 1 : 0;
    torn += state == VerifiedState::kTorn ? 1 : 0;
  }
};

// A file that its topic cannot be told without is among the problems.
bool HasProblem(const VerifyReport& report, const std::string& topic) {
  const std::string folder = absl::StrCat("topics/", topic, "/");
  for (const FileProblem& problem : report.problems) {
    if (IsBad(problem.state) && problem.file.starts_with(folder)) return true;
  }
  return false;
}

Findings CountAll(const VerifyReport& report) {
  Findings findings;
  for (const VerifiedTopic& topic : report.topics) {
    if (!topic.status.ok() && !HasProblem(report, topic.name)) ++findings.bad;
    for (const VerifiedPartition& partition : topic.partitions) {
      for (const VerifiedRange& range : partition.ranges) findings.Count(range.state);
    }
  }
  for (const FileProblem& problem : report.problems) findings.Count(problem.state);
  return findings;
}

// "records 5 to 7", or nothing if none can be named.
std::string OffsetsText(Offset from, Offset to) {
  if (from >= to) return "";
  if (to - from == 1) return absl::StrCat(" record ", from);
  return absl::StrCat(" records ", from, " to ", to - 1);
}

std::string RangeText(const std::string& topic, int partition, const VerifiedRange& range,
                      const Style& style) {
  const std::string state(ToString(range.state));
  return absl::StrCat(topic, "-", partition, OffsetsText(range.from, range.to), ": ",
                      IsBad(range.state) ? style.Bad(state) : state,
                      range.file.empty() ? ""
                                         : absl::StrCat(", ", range.bytes, " bytes at ",
                                                        range.position, " of ", range.file),
                      "\n  ", range.what, "\n");
}

std::string Text(const VerifyReport& report, const Findings& findings, const Style& style) {
  Table table({{"TOPIC"},
               {"PARTITION", Align::kRight},
               {"START", Align::kRight},
               {"END", Align::kRight},
               {"RECORDS", Align::kRight},
               {"SIZE", Align::kRight},
               {"WRONG", Align::kRight}});
  std::string details;
  for (const VerifiedTopic& topic : report.topics) {
    if (!topic.status.ok() && !HasProblem(report, topic.name)) {
      absl::StrAppend(&details, topic.name, ": ", style.Bad(std::string(topic.status.message())),
                      "\n");
    }
    for (const VerifiedPartition& p : topic.partitions) {
      Findings found;
      for (const VerifiedRange& range : p.ranges) {
        found.Count(range.state);
        if (IsTold(range.state)) details += RangeText(topic.name, p.partition, range, style);
      }
      table.Row({topic.name, Count(p.partition), Count(p.start), Count(p.end), Count(p.records),
                 BytesText(p.bytes), found.bad == 0 ? "-" : Count(found.bad)});
    }
  }
  for (const FileProblem& problem : report.problems) {
    const std::string state(ToString(problem.state));
    absl::StrAppend(&details, problem.file, ": ", IsBad(problem.state) ? style.Bad(state) : state,
                    ", at ", problem.position, "\n  ", problem.what, "\n");
  }
  std::string text = table.empty() ? "" : table.Text(style) + "\n";
  absl::StrAppend(&text, details, details.empty() ? "" : "\n");
  if (report.is_open) {
    text += "A program has it open for writing; what it is just writing was not looked at.\n";
  }
  if (findings.torn > 0) {
    text += "What is torn was left half done; the next program that opens it drops that.\n";
  }
  if (findings.bad == 0) absl::StrAppend(&text, style.Good("Nothing is damaged."), "\n");
  return text;
}

void WriteJson(JsonWriter& json, const VerifyReport& report) {
  json.BeginObject().Key("is_clean").Bool(report.is_clean());
  json.Key("is_open").Bool(report.is_open).Key("topics").BeginArray();
  for (const VerifiedTopic& topic : report.topics) {
    json.BeginObject().Key("name").String(topic.name);
    if (!topic.status.ok()) json.Key("failure").String(std::string(topic.status.message()));
    json.Key("partitions").BeginArray();
    for (const VerifiedPartition& p : topic.partitions) {
      json.BeginObject().Key("partition").Number(std::int64_t{p.partition});
      json.Key("start").Number(p.start).Key("end").Number(p.end).Key("durable").Number(p.durable);
      json.Key("records").Number(p.records).Key("bytes").Number(p.bytes);
      json.Key("bytes_left_over").Number(p.bytes_left_over).Key("ranges").BeginArray();
      for (const VerifiedRange& range : p.ranges) {
        json.BeginObject().Key("state").String(ToString(range.state));
        json.Key("from").Number(range.from).Key("to").Number(range.to);
        json.Key("records").Number(range.records).Key("file");
        range.file.empty() ? json.Null() : json.String(range.file);
        json.Key("position").Number(range.position).Key("bytes").Number(range.bytes);
        json.Key("what").String(range.what).EndObject();
      }
      json.EndArray().EndObject();
    }
    json.EndArray().EndObject();
  }
  json.EndArray().Key("problems").BeginArray();
  for (const FileProblem& problem : report.problems) {
    json.BeginObject().Key("state").String(ToString(problem.state));
    json.Key("file").String(problem.file).Key("position").Number(problem.position);
    json.Key("what").String(problem.what).EndObject();
  }
  json.EndArray().EndObject();
}

absl::Status VerifyDirectory(Session& session) {
  CORDWOOD_RETURN_IF_ERROR(CheckDirectory(session));
  CORDWOOD_ASSIGN_OR_RETURN(const VerifyReport report, Verify(session.directory));
  const Findings findings = CountAll(report);
  absl::Status answered;
  if (session.json) {
    JsonWriter json(true);
    WriteJson(json, report);
    answered = session.Answer(std::move(json));
  } else {
    answered = session.Answer(Text(report, findings, session.style()));
  }
  // Also if nobody reads how much it is.
  if (findings.bad == 0) return answered;
  return absl::DataLossError(absl::StrCat(
      session.directory,
      ": something in it is damaged or missing\n  Readers step over damaged records, and say so. "
      "What cannot be opened, `cordwood repair` makes usable, while no program has it open."));
}

std::string Text(const RepairReport& report) {
  std::string text;
  for (const RepairReport::GivenUp& lost : report.given_up) {
    absl::StrAppend(&text, "given up    ", lost.where.topic, "-", lost.where.partition,
                    OffsetsText(lost.from, lost.to), ", ", lost.bytes, " bytes: ", lost.why, "\n");
  }
  for (const RepairReport::KeptAside& kept : report.kept_aside) {
    absl::StrAppend(&text, "kept aside  ", kept.from, " as ", kept.to, ": ", kept.why, "\n");
  }
  for (const std::string& rebuilt : report.rebuilt)
    absl::StrAppend(&text, "made anew   ", rebuilt, "\n");
  return text.empty() ? "Nothing is damaged, and nothing was changed.\n" : text;
}

void WriteJson(JsonWriter& json, const RepairReport& report) {
  json.BeginObject().Key("given_up").BeginArray();
  for (const RepairReport::GivenUp& lost : report.given_up) {
    json.BeginObject().Key("topic").String(lost.where.topic);
    json.Key("partition").Number(std::int64_t{lost.where.partition});
    json.Key("from").Number(lost.from).Key("to").Number(lost.to);
    json.Key("bytes").Number(lost.bytes).Key("why").String(lost.why).EndObject();
  }
  json.EndArray().Key("kept_aside").BeginArray();
  for (const RepairReport::KeptAside& kept : report.kept_aside) {
    json.BeginObject().Key("from").String(kept.from).Key("to").String(kept.to);
    json.Key("why").String(kept.why).EndObject();
  }
  json.EndArray().Key("rebuilt").BeginArray();
  for (const std::string& rebuilt : report.rebuilt) json.String(rebuilt);
  json.EndArray().EndObject();
}

absl::Status RepairDirectory(Session& session) {
  CORDWOOD_RETURN_IF_ERROR(CheckDirectory(session));
  CORDWOOD_ASSIGN_OR_RETURN(const RepairReport report, Repair(session.directory));
  absl::Status answered;
  if (session.json) {
    JsonWriter json(true);
    WriteJson(json, report);
    answered = session.Answer(std::move(json));
  } else {
    answered = session.Answer(Text(report));
  }
  if (answered.ok()) return answered;
  // It was done, and this is said nowhere else.
  session.Note(Text(report));
  return absl::UnavailableError("the report could not be written out: it is above");
}

}  // namespace

void AddVerify(CLI::App& app, Session& session) {
  app.add_subcommand("verify", "Check every byte, and say what is damaged")->callback([&session] {
    session.run = [&session] { return VerifyDirectory(session); };
  });
}

void AddRepair(CLI::App& app, Session& session) {
  app.add_subcommand("repair", "Make a damaged directory usable again; nothing is deleted")
      ->callback([&session] { session.run = [&session] { return RepairDirectory(session); }; });
}

}  // namespace cordwood::tool
