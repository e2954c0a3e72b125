// A real web server's log (examples/data/SOURCES.md) as records: the host is the key, the line the
// value, the time of the request the timestamp.
//
//   AppendWebLog(topic, WebLog(1000));
//
// $CORDWOOD_WEB_LOG names a longer one in the same format.

#ifndef CORDWOOD_TESTS_KAFKA_WEB_LOG_H_
#define CORDWOOD_TESTS_KAFKA_WEB_LOG_H_

#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cordwood/cordwood.h"
#include "tests/catch.h"

namespace cordwood::testing {

struct WebLine {
  std::string text = {};
  std::string host() const { return text.substr(0, text.find(' ')); }
  absl::Time time() const {
    absl::Time time;
    std::string error;
    const std::size_t begin = text.find('[') + 1;
    REQUIRE(absl::ParseTime("%d/%b/%Y:%H:%M:%S %z", text.substr(begin, text.find(']') - begin),
                            &time, &error));
    return time;
  }
};

inline std::vector<WebLine> WebLog(
    std::size_t lines_max = std::numeric_limits<std::size_t>::max()) {
  const char* const given = std::getenv("CORDWOOD_WEB_LOG");
  std::ifstream file(given != nullptr ? std::string(given)
                                      : std::string(CORDWOOD_SOURCE_FOLDER) +
                                            "/examples/data/nasa_http_aug95_40k.log");
  std::vector<WebLine> lines;
  for (std::string line; lines.size() < lines_max && std::getline(file, line);) {
    lines.push_back({line});
  }
  REQUIRE(!lines.empty());
  return lines;
}

// With a header that is different for each.
inline void AppendWebLine(const Topic& topic, const WebLine& line) {
  const std::string host = line.host();
  const std::string length = std::to_string(line.text.size());
  const Partition log = topic.partition(topic.PartitionFor(host));
  REQUIRE(log.Append({.key = host,
                      .value = line.text,
                      .headers = {{"length", length}},
                      .timestamp = line.time()})
              .ok());
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_KAFKA_WEB_LOG_H_
