// The changes of a repository, file by file, and the tree that they end in (tests/data).

#ifndef CORDWOOD_TESTS_SUPPORT_GIT_CHANGES_H_
#define CORDWOOD_TESTS_SUPPORT_GIT_CHANGES_H_

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace cordwood::testing {

struct GitChange {
  std::string path = {};
  std::optional<std::string> file = {};  // mode TAB blob; none: it was deleted
  std::int64_t time_ms = 0;
};

// The string or number behind "name": in a line of flat JSON; no value there has an escape.
inline std::string JsonField(const std::string& line, const std::string& name) {
  std::size_t at = line.find("\"" + name + "\":");
  if (at == std::string::npos) throw std::runtime_error("no " + name + " in " + line);
  at += name.size() + 3;
  if (line[at] == '"') return line.substr(at + 1, line.find('"', at + 1) - at - 1);
  return line.substr(at, line.find_first_of(",}", at) - at);
}

inline std::vector<GitChange> GitChanges(const std::filesystem::path& data) {
  std::ifstream file(data / "librdkafka_git_changes.jsonl");
  std::vector<GitChange> changes;
  for (std::string line; std::getline(file, line);) {
    GitChange change = {.path = JsonField(line, "path"),
                        .time_ms = std::stoll(JsonField(line, "ts_ms"))};
    if (JsonField(line, "op") != "D") {
      change.file = JsonField(line, "mode") + '\t' + JsonField(line, "after");
    }
    changes.push_back(std::move(change));
  }
  return changes;
}

inline std::map<std::string, std::string> GitTree(const std::filesystem::path& data) {
  std::ifstream file(data / "librdkafka_final_tree.tsv");
  std::map<std::string, std::string> tree;
  for (std::string line; std::getline(file, line);) {
    const std::size_t tab = line.find('\t');
    tree[line.substr(0, tab)] = line.substr(tab + 1);
  }
  return tree;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_GIT_CHANGES_H_
