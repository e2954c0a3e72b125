// What every command has: the directory, how to answer, and where to.
//
//   void AddTopics(CLI::App& app, Session& session) {
//     CLI::App* list = app.add_subcommand("topics", "...");
//     list->callback([&session] { session.run = [&session] { return ListTopics(session); }; });
//   }
//
// Errors are Statuses. kInvalidArgument is the caller's mistake and ends the program with 2,
// kCancelled (nobody reads the output) with 0 and without a word, everything else with 1.

#ifndef CORDWOOD_TOOL_SESSION_H_
#define CORDWOOD_TOOL_SESSION_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/broker.h"
#include "cordwood/partition.h"
#include "json_writer.h"
#include "tool/output.h"

namespace cordwood::tool {

struct Session {
  std::string directory = {};
  bool json = false;
  std::string colour = "auto";
  std::function<absl::Status()> run = {};  // of the command that was chosen

  Output out{1};

  Style style() const;
  // A line on standard error.
  void Note(std::string_view text) const;
  // The document and the end of the line.
  absl::Status Answer(internal::JsonWriter json_text);
  absl::Status Answer(std::string_view text);
};

// kInvalidArgument: none was named.
absl::Status CheckDirectory(const Session& session);
// Stores nothing, and needs no permission to write. kNotFound says how a directory is made.
absl::StatusOr<Broker> OpenToRead(const Session& session);
absl::StatusOr<Broker> OpenToWrite(const Session& session, bool create_if_missing = false);
// kNotFound names topics that are written much like it.
absl::StatusOr<Topic> FindTopic(const Broker& broker, std::string_view name);
absl::StatusOr<Partition> FindPartition(const Topic& topic, int partition);
// kNotFound names the groups that there are.
absl::StatusOr<GroupDescription> FindGroup(const Broker& broker, std::string_view name);

// The one that `name` was probably meant to be; empty: none.
std::string Nearest(std::string_view name, const std::vector<std::string>& names);

// RFC 3339 in quotes; null where it is not known.
void WriteTime(internal::JsonWriter& json, absl::Time time);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_SESSION_H_
