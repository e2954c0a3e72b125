// cordwood metrics, and its text as a stock parser reads it.

#include "cordwood/metrics.h"

#include <filesystem>
#include <string>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tool/json_reader.h"

namespace cordwood::testing {
namespace {

namespace fs = std::filesystem;
using tool::JsonValue;
using tool::ParseJson;

bool Has(const std::string& text, std::string_view words) {
  return text.find(words) != std::string::npos;
}

// A topic that a group has read half of, and one append that has failed.
struct World {
  World() {
    const Broker broker = OpenQuiet(dir / "data");
    const Topic topic = broker.CreateTopic("orders", {.partitions = 2}).value();
    for (int i = 0; i < 10; ++i) Append(topic, i % 2, "x");
    CHECK(!topic.partition(0).Append({.value = "v"}, {.expected_offset = 99}).ok());
    REQUIRE(broker.ResetOffsets("audit", ResetTo::At(3), {.partitions = {{"orders", -1}}}).ok());
    REQUIRE(broker.Close().ok());
  }
  Ran Run(std::vector<std::string> arguments, As as = As::kSelf) const {
    arguments.insert(arguments.begin(), {"cordwood", "--dir", (dir / "data").string()});
    return RunWords(std::move(arguments), "", as);
  }

  TempDir dir;
};

TEST_CASE(
    "Program: metrics in Prometheus's text format, in JSON, and by somebody who may only look") {
  const World w;
  const Ran ran = w.Run({"metrics"});
  CHECK(ran.code == 0);
  CHECK(ran.err.empty());
  for (const char* line :
       {"cordwood_produced_records_total{topic=\"orders\",partition=\"1\"} 5\n",
        "cordwood_consumer_group_lag{group=\"audit\",topic=\"orders\",partition=\"0\"} 2\n",
        "cordwood_errors_total{operation=\"append\",kind=\"ABORTED\"} 1\n",
        "# TYPE cordwood_sync_duration_seconds histogram\n"}) {
    INFO(line);
    CHECK(Has(ran.out, line));
  }
  const Ran json = w.Run({"--json", "metrics"});
  REQUIRE(json.code == 0);
  const JsonValue families = ParseJson(json.out).value();
  REQUIRE(!families.items.empty());
  const JsonValue& first = families.items[0];
  CHECK(first.Find("name")->text == "cordwood_produced_records_total");
  CHECK(first.Find("type")->text == "counter");
  const JsonValue& sample = first.Find("samples")->items.at(1);
  CHECK(sample.Find("labels")->Find("partition")->text == "1");
  CHECK(sample.Find("value")->raw == "5");
}

TEST_CASE("Program: metrics without a page of counts say so, and give the rest") {
  const World w;
  fs::remove(w.dir / "data/metrics");
  const Ran ran = w.Run({"metrics"});
  CHECK(ran.code == 0);
  CHECK(Has(ran.err, "there is no file `metrics`"));
  CHECK(Has(ran.out, "cordwood_log_end_offset"));
  CHECK(!Has(ran.out, "cordwood_errors_total"));
  CHECK(!fs::exists(w.dir / "data/metrics"));
}

TEST_CASE("Program: the metrics pass the parser of Prometheus's own client") {
  // The system's has Debian's packages, whatever comes first in the path.
  std::string python;
  for (const char* name : {"python3", "/usr/bin/python3"}) {
    if (RunWords({name, "-c", "import prometheus_client.parser"}).code == 0) python = name;
  }
  if (python.empty()) {
    WARN("skipped: python3 has no prometheus_client (Debian: python3-prometheus-client)");
    return;
  }
  const World w;
  const std::string script = R"(
import sys
from prometheus_client.parser import text_string_to_metric_families
families = {f.name: f for f in text_string_to_metric_families(open(sys.argv[1]).read())}
assert all(f.type != 'unknown' and f.documentation for f in families.values()), families
produced = families['cordwood_produced_records']
assert produced.type == 'counter', produced
assert [s.value for s in produced.samples] == [5, 5, 7], produced
odd = 'a"b\\c\nd'
assert produced.samples[2].labels == {'topic': odd, 'partition': '3'}, produced
sync = families['cordwood_sync_duration_seconds']
assert sync.type == 'histogram', sync
buckets = [s for s in sync.samples if s.name.endswith('_bucket')]
assert buckets[-1].labels['le'] == '+Inf', buckets
assert [s.value for s in buckets] == sorted(s.value for s in buckets), buckets
assert [float(s.labels['le']) for s in buckets] == sorted({float(s.labels['le']) for s in buckets})
count = [s.value for s in sync.samples if s.name.endswith('_count')]
assert count == [buckets[-1].value] and count[0] > 0, sync
print(len(families))
)";
  const Broker broker = OpenQuiet(w.dir / "data");
  MetricsSnapshot metrics = broker.Metrics().value();
  metrics.partitions.push_back({.topic = "a\"b\\c\nd", .partition = 3, .end = 7});
  WriteAll(w.dir / "text", PrometheusText(metrics));
  WriteAll(w.dir / "parse.py", script);
  const Ran ran = RunWords({python, w.dir / "parse.py", w.dir / "text"});
  INFO(ran.err);
  CHECK(ran.code == 0);
}

}  // namespace
}  // namespace cordwood::testing
