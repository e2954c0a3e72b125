// cordwood man, cordwood completion: what --help says, as a page and for shells. Both walk the
// parser, so that nothing has to be said twice.

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cordwood/status_macros.h"
#include "tool/commands.h"

namespace cordwood::tool {
namespace {

// A command with the names of those above it.
struct Command {
  std::string path = {};  // "topics create"; empty: the program itself
  const CLI::App* app = nullptr;
};

void Collect(const CLI::App& app, const std::string& path, std::vector<Command>& commands) {
  commands.push_back({path, &app});
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    Collect(*sub, path.empty() ? sub->get_name() : absl::StrCat(path, " ", sub->get_name()),
            commands);
  }
}

std::vector<const CLI::Option*> OptionsOf(const CLI::App& app, bool positional) {
  return app.get_options([=](const CLI::Option* o) { return o->get_positional() == positional; });
}

std::vector<std::string> SubcommandsOf(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(sub->get_name());
  }
  return names;
}

// "--json -p --partitions"
std::vector<std::string> WordsOf(const CLI::Option& option) {
  std::vector<std::string> words;
  for (const std::string& name : option.get_snames()) words.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) words.push_back("--" + name);
  return words;
}

bool TakesValue(const CLI::Option& option) { return option.get_type_size() > 0; }

// ---- The page

std::string Roff(const std::string& text) {
  std::string escaped = absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}});
  if (!escaped.empty() && (escaped[0] == '.' || escaped[0] == '\'')) escaped.insert(0, "\\&");
  return escaped;
}

std::string Synopsis(const Command& command) {
  std::string line =
      absl::StrCat(".B cordwood", command.path.empty() ? "" : " ", Roff(command.path), "\n");
  if (!OptionsOf(*command.app, false).empty()) line += "[\\fIOPTIONS\\fR]\n";
  for (const CLI::Option* option : OptionsOf(*command.app, true)) {
    const std::string name = Roff(option->get_name(true));
    absl::StrAppend(&line, option->get_required() ? "" : "[", "\\fI", name, "\\fR",
                    option->get_expected_max() > 1 ? "..." : "", option->get_required() ? "" : "]",
                    "\n");
  }
  if (!SubcommandsOf(*command.app).empty()) line += "\\fICOMMAND\\fR\n";
  return line;
}

std::string ManPage(const CLI::App& app) {
  std::vector<Command> commands;
  Collect(app, "", commands);
  std::string page =
      absl::StrCat(".TH CORDWOOD 1\n.SH NAME\ncordwood \\- ", Roff(app.get_description()),
                   "\n.SH SYNOPSIS\n", Synopsis(commands.front()), ".SH DESCRIPTION\n",
                   Roff(app.get_description()), "\n.PP\n", Roff(app.get_footer()), "\n");
  for (const Command& command : commands) {
    if (command.path.empty()) {
      page += ".SH OPTIONS OF ALL COMMANDS\n";
    } else {
      absl::StrAppend(&page, ".SH ", Roff(command.path), "\n", Roff(command.app->get_description()),
                      ".\n.PP\n", Synopsis(command));
    }
    for (const bool positional : {true, false}) {
      for (const CLI::Option* option : OptionsOf(*command.app, positional)) {
        const std::string names =
            positional ? option->get_name(true) : absl::StrJoin(WordsOf(*option), ", ");
        absl::StrAppend(&page, ".TP\n\\fB", Roff(names), "\\fR",
                        positional || !TakesValue(*option)
                            ? ""
                            : absl::StrCat(" \\fI", Roff(option->get_type_name()), "\\fR"),
                        "\n", Roff(option->get_description()), "\n");
      }
    }
  }
  return page;
}

// ---- Shells

// A function that is told the words before the cursor, and says what may come.
std::string BashCompletion(const CLI::App& app) {
  std::vector<Command> commands;
  Collect(app, "", commands);
  std::vector<std::string> global;
  for (const CLI::Option* option : OptionsOf(app, false)) {
    for (const std::string& word : WordsOf(*option)) global.push_back(word);
  }
  std::string script =
      "# Completion of cordwood for bash.\n"
      "_cordwood() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} path= i\n"
      "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
      "    case \"$path ${COMP_WORDS[i]}\" in\n";
  for (const Command& command : commands) {
    if (!command.path.empty()) {
      absl::StrAppend(&script, "      \" ", command.path, "\") path=\" ", command.path, "\" ;;\n");
    }
  }
  script += "    esac\n  done\n  local words=\n  case \"$path\" in\n";
  for (const Command& command : commands) {
    std::vector<std::string> words = SubcommandsOf(*command.app);
    for (const CLI::Option* option : OptionsOf(*command.app, false)) {
      for (const std::string& name : WordsOf(*option)) words.push_back(name);
    }
    absl::StrAppend(&script, "    \"", command.path.empty() ? "" : " ", command.path,
                    "\") words=\"", absl::StrJoin(words, " "), "\" ;;\n");
  }
  absl::StrAppend(&script, "  esac\n  COMPREPLY=($(compgen -W \"$words ",
                  absl::StrJoin(global, " "),
                  "\" -- \"$word\"))\n}\ncomplete -o default -F _cordwood cordwood\n");
  return script;
}

// zsh runs bash's.
std::string ZshCompletion(const CLI::App& app) {
  return absl::StrCat("#compdef cordwood\nautoload -U +X bashcompinit && bashcompinit\n",
                      BashCompletion(app));
}

std::string FishCompletion(const CLI::App& app) {
  std::vector<Command> commands;
  Collect(app, "", commands);
  const auto quoted = [](const std::string& text) {
    return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
  };
  std::string script = "# Completion of cordwood for fish.\n";
  for (const Command& command : commands) {
    const std::string last = command.path.substr(command.path.rfind(' ') + 1);
    const std::string when =
        command.path.empty() ? ""
                             : absl::StrCat(" -n ", quoted("__fish_seen_subcommand_from " + last));
    for (const CLI::App* sub : command.app->get_subcommands([](const CLI::App*) { return true; })) {
      absl::StrAppend(&script, "complete -c cordwood",
                      command.path.empty() ? " -n __fish_use_subcommand" : when, " -f -a ",
                      quoted(sub->get_name()), " -d ", quoted(sub->get_description()), "\n");
    }
    for (const CLI::Option* option : OptionsOf(*command.app, false)) {
      absl::StrAppend(&script, "complete -c cordwood", when);
      for (const std::string& name : option->get_snames()) absl::StrAppend(&script, " -s ", name);
      for (const std::string& name : option->get_lnames()) absl::StrAppend(&script, " -l ", name);
      absl::StrAppend(&script, TakesValue(*option) ? " -r" : "", " -d ",
                      quoted(option->get_description()), "\n");
    }
  }
  return script;
}

// ---- The commands

struct Options {
  std::string shell = {};
  std::string output = {};
};

absl::Status Give(Session& session, const std::string& text, const std::string& output) {
  if (output.empty()) return session.Answer(text);
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(output).parent_path(), error);
  const int fd = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) {
    return absl::NotFoundError(absl::StrCat(output, ": cannot be written: ", strerror(errno)));
  }
  Output out(fd);
  out.Write(text);
  const absl::Status written = out.Flush();
  close(fd);
  return written;
}

}  // namespace

void AddManual(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  CLI::App* const man = app.add_subcommand("man", "This help as a man page");
  man->add_option("-o,--output", options->output, "Where to (standard output)")->type_name("FILE");
  man->callback([&app, &session, options] {
    session.run = [&app, &session, options] {
      return Give(session, ManPage(app), options->output);
    };
  });

  CLI::App* const completion = app.add_subcommand("completion", "Completion for a shell");
  completion->add_option("SHELL", options->shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->add_option("-o,--output", options->output, "Where to (standard output)")
      ->type_name("FILE");
  completion->callback([&app, &session, options] {
    session.run = [&app, &session, options] {
      return Give(session,
                  options->shell == "bash"  ? BashCompletion(app)
                  : options->shell == "zsh" ? ZshCompletion(app)
                                            : FishCompletion(app),
                  options->output);
    };
  });
}

}  // namespace cordwood::tool
