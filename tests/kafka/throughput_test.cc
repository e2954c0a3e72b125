// How fast records go to a real broker on this machine and come back. Hidden, as its figures are of
// use on a quiet machine only:
//
//   build/release/tests/kafka/cordwood_kafka_tests "[throughput]"
//
// With $CORDWOOD_RDKAFKA_PERFORMANCE, the program of librdkafka's examples, as many records of the
// same mean size are sent by it as well, with headers of the same size and without, by turns.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/cordwood.h"
#include "cordwood/kafka/forwarder.h"
#include "cordwood/kafka/importer.h"
#include "tests/catch.h"
#include "tests/kafka/real_broker.h"
#include "tests/kafka/web_log.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using namespace cordwood::testing;
using kafka::KafkaForwarder;
using kafka::KafkaImporter;

constexpr int kPartitions = 8;
constexpr std::int64_t kRecords = 1'000'000;

// Records a second.
double PrintRate(const char* what, absl::Duration time) {
  const double seconds = absl::ToDoubleSeconds(time);
  std::printf("%s %lld records in %.2f s: %.0f a second\n", what, static_cast<long long>(kRecords),
              seconds, static_cast<double>(kRecords) / seconds);
  std::fflush(stdout);
  return static_cast<double>(kRecords) / seconds;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// With as many bytes of key and value, in the value alone as it has no keys that differ, and with
// `headers`, as options of it. 0: there is no such program.
double RunExample(const std::string& address, std::int64_t bytes, const std::string& headers) {
  const char* const program = std::getenv("CORDWOOD_RDKAFKA_PERFORMANCE");
  if (program == nullptr) return 0;
  const std::string command =
      absl::StrCat(program, " -P -t example -X enable.idempotence=true -b ", address, " -s ", bytes,
                   " -c ", kRecords, headers, " 2>&1 | grep -q '", kRecords, " delivered'");
  const absl::Time begin = absl::Now();
  REQUIRE(std::system(command.c_str()) == 0);
  return PrintRate(
      headers.empty() ? "librdkafka's example sent, without headers," : "librdkafka's example sent",
      absl::Now() - begin);
}

}  // namespace

TEST_CASE("Kafka throughput: to a broker and back", "[.throughput]") {
  if (const auto why = RealBroker::WhyNot()) {
    std::printf("skipped: %s\n", why->c_str());
    return;
  }
  RealBroker& real = RealBroker::Get();
  TempDir dir;
  const Broker from = Broker::Open(dir / "from").value();
  const TopicConfig config = {.partitions = kPartitions, .retention_age = absl::InfiniteDuration()};
  const Topic topic = from.CreateTopic("throughput", config).value();
  REQUIRE(kafka::CreateTopic(real.cluster(), "example", config).ok());
  const std::vector<WebLine> lines = WebLog();
  std::int64_t bytes = 0;
  for (std::int64_t i = 0; i < kRecords; ++i) {
    const WebLine& line = lines[static_cast<std::size_t>(i) % lines.size()];
    bytes += static_cast<std::int64_t>(line.host().size() + line.text.size());
    AppendWebLine(topic, line);
  }

  // The forwarder's own header is of the records that it sends, so the example has one like it.
  const std::string headers =
      absl::StrCat(" -H length=100 -H cordwood.source=", topic.id(), "/3/100000");
  constexpr int kRounds = 3;
  std::vector<double> forwarded, example, bare;
  absl::Time begin;
  for (int round = 0; round < kRounds; ++round) {
    example.push_back(RunExample(real.address(), bytes / kRecords, headers));
    const std::string group = absl::StrCat("to-kafka-", round);
    KafkaForwarder forwarder =
        KafkaForwarder::Open(from, {.cluster = real.cluster(),
                                    .group = group,
                                    .routes = {{.topic = "throughput", .target = group}},
                                    .create_topics = true})
            .value();
    begin = absl::Now();
    REQUIRE(forwarder.RunToEnd().ok());
    forwarded.push_back(PrintRate("forwarded", absl::Now() - begin));
    bare.push_back(RunExample(real.address(), bytes / kRecords, ""));
  }
  std::printf("medians: forwarded %.0f; the example with headers %.0f, without %.0f\n",
              Median(forwarded), Median(example), Median(bare));

  const Broker to = Broker::Open(dir / "to").value();
  KafkaImporter importer = KafkaImporter::Open(to, {.cluster = real.cluster(),
                                                    .routes = {{.topic = "to-kafka-0"}},
                                                    .create_topics = true})
                               .value();
  begin = absl::Now();
  REQUIRE(importer.RunToEnd().ok());
  PrintRate("imported", absl::Now() - begin);
}

}  // namespace cordwood
