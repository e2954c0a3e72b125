// cordwood kafka, in a program that is built without the bridge to Apache Kafka: it says so.

#include <CLI/CLI.hpp>

#include "tool/commands.h"

namespace cordwood::tool {

void AddKafka(CLI::App& app, Session& session) {
  CLI::App* const kafka =
      app.add_subcommand("kafka", "To Apache Kafka and back (not in this build)");
  // Whatever is asked of it, with whichever options, has the same answer.
  kafka->fallthrough(false);
  kafka->prefix_command();
  kafka->callback([&session] {
    session.run = [] {
      return absl::UnimplementedError(
          "this program is built without the bridge to Apache Kafka\n"
          "  Build it with -DCORDWOOD_WITH_KAFKA=ON, which needs librdkafka.");
    };
  });
}

}  // namespace cordwood::tool
