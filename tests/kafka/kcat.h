// What a stock consumer reads: kcat, of Debian's packages.
//
//   CHECK(KcatLines(kafka, "orders", 3, "%o %T %k %h %s\n") == ...);

#ifndef CORDWOOD_TESTS_KAFKA_KCAT_H_
#define CORDWOOD_TESTS_KAFKA_KCAT_H_

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/kafka/real_broker.h"

namespace cordwood::testing {

inline bool HasKcat() { return std::system("kcat -V > /dev/null 2>&1") == 0; }

// All of a partition, a line each; only what was committed, as librdkafka does by default.
inline std::vector<std::string> KcatLines(const RealBroker& kafka, const std::string& topic,
                                          int partition, const std::string& format) {
  const std::string command =
      absl::StrCat("kcat -C -q -e -o beginning -b ", kafka.address(), " -t ", topic, " -p ",
                   partition, " -f '", format, "' 2>/dev/null");
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("popen kcat");
  std::vector<std::string> lines;
  char* line = nullptr;
  std::size_t room = 0;
  for (ssize_t n; (n = getline(&line, &room, pipe)) > 0;) {
    lines.emplace_back(line, static_cast<std::size_t>(n - (line[n - 1] == '\n' ? 1 : 0)));
  }
  std::free(line);
  if (pclose(pipe) != 0) throw std::runtime_error("kcat failed: " + command);
  return lines;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_KAFKA_KCAT_H_
