// The commands of the program: each adds itself to the parser, and sets Session::run when it is
// chosen. One file each.

#ifndef CORDWOOD_TOOL_COMMANDS_H_
#define CORDWOOD_TOOL_COMMANDS_H_

#include "tool/session.h"

namespace CLI {
class App;
}  // namespace CLI

namespace cordwood::tool {

void AddTopics(CLI::App& app, Session& session);
void AddProduce(CLI::App& app, Session& session);
void AddConsume(CLI::App& app, Session& session);
void AddGroups(CLI::App& app, Session& session);
void AddDescribe(CLI::App& app, Session& session);
void AddExplain(CLI::App& app, Session& session);
void AddDump(CLI::App& app, Session& session);
void AddMetrics(CLI::App& app, Session& session);
void AddTop(CLI::App& app, Session& session);
void AddExport(CLI::App& app, Session& session);
void AddImport(CLI::App& app, Session& session);
void AddVerify(CLI::App& app, Session& session);
void AddRepair(CLI::App& app, Session& session);
void AddBench(CLI::App& app, Session& session);
// Where the program is built with the bridge to Apache Kafka; else it says that it is not.
void AddKafka(CLI::App& app, Session& session);
// The man page and the completions, of what the others have added.
void AddManual(CLI::App& app, Session& session);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_COMMANDS_H_
