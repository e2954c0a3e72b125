// cordwood: looks into a log, and changes it, from a shell.
//
// Exit codes: 0; 1: something is missing, or did not work; 2: the arguments make no sense.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tool/commands.h"
#include "tool/session.h"
#include "tool/terminal.h"

namespace {

using cordwood::tool::Session;

constexpr int kFailed = 1;
constexpr int kBadArguments = 2;

// The command that was being parsed, with its parents: "cordwood topics create".
std::string ChosenCommand(const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  return chosen.empty() ? app.get_name()
                        : absl::StrCat(app.get_name(), " ", ChosenCommand(*chosen.front()));
}

// What could not be placed: a command or an option, mistyped, or one argument too many.
std::string Unexpected(const CLI::App& app) {
  const CLI::App* chosen = &app;
  while (!chosen->get_subcommands().empty()) chosen = chosen->get_subcommands().front();
  const std::vector<std::string> rest = app.remaining(true);
  const std::string word = rest.empty() ? "" : rest.front();
  const bool is_option = word.starts_with('-');
  std::vector<std::string> names;
  for (const CLI::App* from = chosen; from != nullptr; from = from->get_parent()) {
    for (const CLI::Option* option : from->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  if (!is_option) {
    names.clear();
    for (const CLI::App* sub : chosen->get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(sub->get_name());
    }
    if (names.empty()) return absl::StrCat("\"", word, "\" is one argument too many");
  }
  const std::string nearest = cordwood::tool::Nearest(word, names);
  return absl::StrCat("there is no ", is_option ? "option " : "command ", word,
                      nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?"));
}

int BadArguments(const Session& session, const CLI::App& app, std::string_view what) {
  session.Note(
      absl::StrCat(std::string(what), "\n  `", ChosenCommand(app), " --help` says what there is."));
  return kBadArguments;
}

int Run(Session& session, const CLI::App& app) {
  absl::Status status = session.run();
  if (status.ok()) status = session.out.Flush();
  if (status.ok() || absl::IsCancelled(status)) return 0;
  // What there is goes out before why there is no more.
  session.out.Flush().IgnoreError();
  if (absl::IsInvalidArgument(status)) {
    return BadArguments(session, app, std::string(status.message()));
  }
  session.Note(std::string(status.message()));
  return kFailed;
}

// A descriptor that was closed for us would be the next file's that is opened, a segment's perhaps,
// and what is printed would go there. So it is there, and every use of it fails.
void KeepStandardDescriptors() {
  for (const int fd : {0, 1, 2}) {
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
  }
}

}  // namespace

int main(int argc, char** argv) {
  KeepStandardDescriptors();
  // A reader that has gone is an error of write() then.
  signal(SIGPIPE, SIG_IGN);
  Session session;
  CLI::App app("Look into cordwood logs and work with them.", "cordwood");
  app.fallthrough();
  app.require_subcommand(0, 1);
  app.set_version_flag("--version", "cordwood " CORDWOOD_VERSION, "Say the version and end");
  app.set_help_flag("-h,--help", "Say this and end");
  app.add_option("-d,--dir", session.directory, "The directory of the log")
      ->envname("CORDWOOD_DIR")
      ->type_name("DIR");
  app.add_flag("--json", session.json, "Answer in JSON");
  app.add_option("--color", session.colour, "Colours: auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->type_name("WHEN");
  app.footer("Exit codes: 0; 1: something is missing, or did not work; 2: bad arguments.");
  cordwood::tool::AddTopics(app, session);
  cordwood::tool::AddProduce(app, session);
  cordwood::tool::AddConsume(app, session);
  cordwood::tool::AddGroups(app, session);
  cordwood::tool::AddDescribe(app, session);
  cordwood::tool::AddExplain(app, session);
  cordwood::tool::AddDump(app, session);
  cordwood::tool::AddMetrics(app, session);
  cordwood::tool::AddTop(app, session);
  cordwood::tool::AddExport(app, session);
  cordwood::tool::AddImport(app, session);
  cordwood::tool::AddVerify(app, session);
  cordwood::tool::AddRepair(app, session);
  cordwood::tool::AddBench(app, session);
  cordwood::tool::AddKafka(app, session);
  cordwood::tool::AddManual(app, session);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // help, or the version
    return app.exit(wanted);
  } catch (const CLI::ExtrasError&) {
    return BadArguments(session, app, Unexpected(app));
  } catch (const CLI::ParseError& error) {
    return BadArguments(session, app, error.what());
  }
  if (!session.run) return BadArguments(session, app, "which command?");
  return Run(session, app);
}
