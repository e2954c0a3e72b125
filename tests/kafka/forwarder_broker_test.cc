// The forwarder against Apache Kafka itself.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/cordwood.h"
#include "cordwood/kafka/forwarder.h"
#include "cordwood/kafka/importer.h"
#include "kafka/client.h"
#include "tests/catch.h"
#include "tests/kafka/kcat.h"
#include "tests/kafka/real_broker.h"
#include "tests/kafka/web_log.h"
#include "tests/support/child.h"
#include "tests/support/files.h"
#include "tests/support/says.h"
#include "tests/support/temp_dir.h"

namespace cordwood {
namespace {

using namespace cordwood::testing;
using kafka::KafkaForwarder;
using kafka::KafkaImporter;

using Lines = std::vector<std::string>;

// True: the test is to return.
bool IsSkipped() {
  std::optional<std::string> why = RealBroker::WhyNot();
  if (!why && !HasKcat()) why = "there is no kcat";
  if (why) std::printf("\nskipped: %s\n", why->c_str());
  return why.has_value();
}

// What kcat is to print for it.
constexpr char kFormat[] = "%T|%K|%k|%h|%S|%s\\n";
std::string Line(const RecordView& record, const std::string& topic_id) {
  std::string headers;
  for (const Header& header : record.headers()) {
    absl::StrAppend(&headers, std::string(header.key), "=",
                    std::string(header.value.get().value_or("NULL")), ",");
  }
  absl::StrAppend(&headers, "cordwood.source=", topic_id, "/", record.partition(), "/",
                  record.offset());
  const auto bytes = [](std::optional<std::string_view> b) {
    return absl::StrCat(b ? static_cast<int>(b->size()) : -1);
  };
  return absl::StrCat(absl::ToUnixMillis(record.timestamp()), "|", bytes(record.key()), "|",
                      std::string(record.key().value_or("")), "|", headers, "|",
                      bytes(record.value()), "|", std::string(record.value().value_or("")));
}
Lines LinesOf(const Topic& topic, int partition) {
  Lines lines;
  PartitionReader reader = topic.partition(partition).Read(0).value();
  for (const RecordView& record : reader) lines.push_back(Line(record, topic.id()));
  REQUIRE(reader.status().ok());
  return lines;
}

// Of an imported topic: as LinesOf the one that was forwarded, if all is as it was there.
Lines LinesWithoutImport(const Topic& topic, int partition) {
  Lines lines;
  PartitionReader reader = topic.partition(partition).Read(0).value();
  for (const RecordView& record : reader) {
    const std::string line = Line(record, "");
    const std::size_t ours = line.find(",kafka.source=");
    REQUIRE(ours != std::string::npos);
    lines.push_back(line.substr(0, ours) + line.substr(line.find('|', ours)));
  }
  REQUIRE(reader.status().ok());
  return lines;
}

// Equal, or where they differ first.
void CheckEqual(const Lines& got, const Lines& wanted, int partition) {
  const auto [g, w] = std::mismatch(got.begin(), got.end(), wanted.begin(), wanted.end());
  INFO("partition " << partition << ": " << got.size() << " of " << wanted.size()
                    << " lines, differing at " << (g - got.begin()) << ": "
                    << (g == got.end() ? "(end)" : *g) << " for "
                    << (w == wanted.end() ? "(end)" : *w));
  const bool is_equal = got == wanted;  // Catch would print all of both
  CHECK(is_equal);
}

kafka::ForwarderOptions Options(const std::string& topic) {
  return {.cluster = RealBroker::Get().cluster(),
          .group = "to-kafka",
          .routes = {{.topic = topic}},
          .create_topics = true};
}

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
bool IsLong() { return std::getenv("CORDWOOD_KAFKA_LONG") != nullptr; }

void PrintRate(const char* what, std::int64_t records, absl::Duration time) {
  const double seconds = absl::ToDoubleSeconds(time);
  std::printf("%s %lld records in %.2f s, %.0f a second\n", what, static_cast<long long>(records),
              seconds, static_cast<double>(records) / seconds);
}

}  // namespace

TEST_CASE("Kafka forwarder: a real log arrives in order, key, value, headers and time",
          "[broker]") {
  if (IsSkipped()) return;
  TempDir dir;
  const Broker broker = Broker::Open(dir / "data").value();
  const Topic topic =
      broker.CreateTopic("web-log", {.partitions = 8, .retention_age = absl::InfiniteDuration()})
          .value();
  for (const WebLine& line : WebLog()) AppendWebLine(topic, line);
  const Partition log = topic.partition(0);
  REQUIRE(log.Append({.key = "deleted"}).ok());
  REQUIRE(
      log.Append({.value = "no key", .headers = {{"a", ""}, {"a", "2"}, {"none", nullptr}}}).ok());
  REQUIRE(log.Append({.key = "", .value = ""}).ok());
  KafkaForwarder forwarder = KafkaForwarder::Open(broker, Options("web-log")).value();
  const absl::Time begin = absl::Now();
  const absl::Status status = forwarder.RunToEnd();
  INFO(status);
  REQUIRE(status.ok());
  PrintRate("forwarded", forwarder.progress().at(0).records, absl::Now() - begin);
  for (int p = 0; p < 8; ++p) {
    CheckEqual(KcatLines(RealBroker::Get(), "web-log", p, kFormat), LinesOf(topic, p), p);
  }
  CHECK(forwarder.progress().at(0).lag == 0);

  // And back.
  const Broker second = Broker::Open(dir / "second").value();
  KafkaImporter importer = KafkaImporter::Open(second, {.cluster = RealBroker::Get().cluster(),
                                                        .routes = {{.topic = "web-log"}},
                                                        .create_topics = true})
                               .value();
  const absl::Time back_begin = absl::Now();
  const absl::Status imported = importer.RunToEnd();
  INFO(imported);
  REQUIRE(imported.ok());
  PrintRate("imported", importer.progress().at(0).records, absl::Now() - back_begin);
  const Topic back = second.OpenTopic("web-log").value();
  for (int p = 0; p < 8; ++p) CheckEqual(LinesWithoutImport(back, p), LinesOf(topic, p), p);
}

// The one who is killed has always got a little further than the one before, so that it is another
// moment each time: in a transaction, between that and the commit here, between the two commits.
TEST_CASE("Kafka forwarder: killed and the broker stopped, nothing is lost or twice", "[broker]") {
  if (IsSkipped()) return;
  RealBroker& real = RealBroker::Get();
  const int kills = IsLong() ? 50 : 8;
  const int stops = IsLong() ? 5 : 1;
  const std::size_t lines_max = IsLong() ? kAll : 15'000;
  const unsigned seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);

  TempDir dir;
  const auto open = [&] {
    return Broker::Open(dir / "data", {.background_threads = false}).value();
  };
  const auto append = [&] {
    const Broker broker = open();
    // For ever: by default Kafka would give up what has timestamps of 1995.
    const TopicConfig config = {.partitions = 8, .retention_age = absl::InfiniteDuration()};
    const Topic topic = broker.OpenOrCreateTopic("killed", config).value();
    for (const WebLine& line : WebLog(lines_max)) AppendWebLine(topic, line);
    REQUIRE(broker.Close().ok());
  };
  append();
  kafka::ForwarderOptions options = Options("killed");
  options.transaction_records_max = 100;
  const auto run = [&](Child& parent) {
    const Broker broker = Broker::Open(dir / "data").value();
    KafkaForwarder forwarder = KafkaForwarder::Open(broker, options).value();
    const absl::Status status = forwarder.RunToEnd();
    if (!status.ok()) std::printf("%s\n", status.ToString().c_str());
    broker.Close().IgnoreError();
    parent.Tell(status.ok() ? 1 : 2);
  };
  const auto lag = [](const Broker& broker) {
    const auto group = broker.DescribeGroup("to-kafka");
    if (!group.ok() || group->partitions.empty()) return std::int64_t{1'000'000'000};
    std::int64_t sum = 0;
    for (const PartitionProgress& p : group->partitions) sum += p.lag;
    return sum;
  };
  int stopped = 0;
  for (int killed = 0; killed < kills;) {
    Child child(run);
    const Broker broker = open();
    std::int64_t before = lag(broker);
    for (int commits = std::uniform_int_distribution<>(1, 5)(random); commits > 0; --commits) {
      while (lag(broker) == before && before != 0) absl::SleepFor(absl::Milliseconds(1));
      before = lag(broker);
    }
    absl::SleepFor(absl::Microseconds(std::uniform_int_distribution<>(0, 20'000)(random)));
    const bool stop = stopped < stops && killed % (kills / stops) == kills / stops - 1;
    if (stop) real.Stop(stopped % 2 == 0 ? SIGKILL : SIGTERM);
    child.Kill();
    if (stop) real.Start();
    const std::uint32_t said = child.Wait();
    if (said == 1) {
      append();  // it had come to the end
      continue;
    }
    REQUIRE((said == 0 || stop));
    ++killed;  // on the way
    stopped += stop;
  }
  const std::int64_t left = lag(open());
  Child last(run);
  REQUIRE(last.Wait() == 1);
  last.Kill();
  const Broker broker = open();
  const Topic topic = broker.OpenTopic("killed").value();
  std::size_t lines = 0;
  for (int p = 0; p < topic.partition_count(); ++p) {
    const Lines there = KcatLines(real, "killed", p, kFormat);
    CheckEqual(there, LinesOf(topic, p), p);
    lines += there.size();
  }
  std::printf(
      "%d forwarders killed, the broker stopped %d times, %lld lines still to go then; "
      "%zu lines compared\n",
      kills, stopped, static_cast<long long>(left), lines);
}

TEST_CASE("Kafka forwarder: what was aborted in the cluster is sent again, the refused set aside",
          "[broker]") {
  if (IsSkipped()) return;
  TempDir dir;
  const Broker broker = Broker::Open(dir / "data").value();
  const Topic topic = broker.CreateTopic("small").value();
  const absl::Status made =
      kafka::CreateTopic(RealBroker::Get().cluster(), "small", {.max_message_bytes = 2000});
  REQUIRE(made.ok());
  Lines wanted;
  for (int i = 0; i < 10; ++i) {
    const bool is_refused = i == 4 || i == 5;
    const std::string value = is_refused ? std::string(5000, 'x') : std::to_string(i);
    REQUIRE(topic.partition(0).Append({.value = value}).ok());
    if (!is_refused) wanted.push_back(value);
  }
  const Topic letters = broker.CreateTopic("refused").value();
  kafka::ForwarderOptions options = Options("small");
  options.dead_letter_topic = "refused";
  const absl::Status status = KafkaForwarder::Open(broker, options).value().RunToEnd();
  INFO(status);
  REQUIRE(status.ok());
  CHECK(KcatLines(RealBroker::Get(), "small", 0, "%s\\n") == wanted);
  CHECK(letters.partition(0).end_offset() == 2);

  // The same while it runs, where the refusal comes before the transaction's time is over.
  KafkaForwarder forwarder = KafkaForwarder::Open(broker, options).value();
  std::jthread thread([&](std::stop_token stop) { forwarder.Run(stop).IgnoreError(); });
  REQUIRE(topic.partition(0).Append({.value = std::string(5000, 'x')}).ok());
  while (letters.partition(0).end_offset() < 3) std::this_thread::yield();
  REQUIRE(topic.partition(0).Append({.value = "last"}).ok());
  wanted.push_back("last");
  while (forwarder.progress()[0].records == 0) std::this_thread::yield();
  CHECK(KcatLines(RealBroker::Get(), "small", 0, "%s\\n") == wanted);
}

// Else its readers would wait until the cluster ends the transaction, a minute later.
TEST_CASE("Kafka forwarder: stopped in the middle of a transaction it ends it", "[broker]") {
  if (IsSkipped()) return;
  TempDir dir;
  const Broker broker = Broker::Open(dir / "data").value();
  const Topic topic = broker.CreateTopic("stopped").value();
  kafka::ForwarderOptions options = Options("stopped");
  options.transaction_time = absl::Seconds(30);
  REQUIRE(KafkaForwarder::Open(broker, options).value().RunToEnd().ok());
  REQUIRE(topic.partition(0).Append({.value = "a"}).ok());
  {
    KafkaForwarder forwarder = KafkaForwarder::Open(broker, options).value();
    std::jthread thread([&](std::stop_token stop) { forwarder.Run(stop).IgnoreError(); });
    const auto probe = kafka::internal::Client::Open(RD_KAFKA_CONSUMER, options.cluster,
                                                     {{"isolation.level", "read_uncommitted"}})
                           .value();
    while (probe->EndsOf("stopped", 0, absl::Seconds(10)).value().high == 0) {
      std::this_thread::yield();
    }
  }
  CHECK(KcatLines(RealBroker::Get(), "stopped", 0, "%s\\n") == Lines{"a"});
}

namespace {

// As the snapshot of a whole disk does: each file is the same file, and has the bytes of then.
void PutBack(const std::filesystem::path& backup, const std::filesystem::path& data) {
  namespace fs = std::filesystem;
  for (const auto& entry : fs::recursive_directory_iterator(data)) {
    if (entry.is_regular_file() && !fs::exists(backup / fs::relative(entry.path(), data))) {
      fs::remove(entry.path());
    }
  }
  for (const auto& entry : fs::recursive_directory_iterator(backup)) {
    const fs::path to = data / fs::relative(entry.path(), backup);
    if (entry.is_directory()) fs::create_directories(to);
    if (entry.is_regular_file()) WriteAll(to, ReadAll(entry.path()));
  }
}

}  // namespace

TEST_CASE("Kafka forwarder: a log that was put back to an older state is data loss", "[broker]") {
  if (IsSkipped()) return;
  TempDir dir;
  const auto run = [&](const std::string& folder, const std::vector<std::string>& values) {
    const Broker broker = Broker::Open(dir / folder).value();
    const Topic topic = broker.OpenOrCreateTopic("restored").value();
    for (const std::string& value : values) {
      REQUIRE(topic.partition(0).Append({.value = value}).ok());
    }
    const absl::Status status =
        KafkaForwarder::Open(broker, Options("restored")).value().RunToEnd();
    REQUIRE(broker.Close().ok());
    return status;
  };
  REQUIRE(run("data", {"a", "b"}).ok());
  std::filesystem::copy(dir / "data", dir / "backup", std::filesystem::copy_options::recursive);
  REQUIRE(run("data", {"c", "d"}).ok());
  SECTION("it ends before what was forwarded") {
    PutBack(dir / "backup", dir / "data");
    const absl::Status status = run("data", {});
    INFO(status);
    CHECK(absl::IsDataLoss(status));
    CHECK(Says(status, "where the log ends at 2"));
  }
  SECTION("it has other records there by now") {
    PutBack(dir / "backup", dir / "data");
    const absl::Status status = run("data", {"C", "D", "E"});
    INFO(status);
    CHECK(absl::IsDataLoss(status));
    CHECK(Says(status, "has another one there"));
  }
  // A log that finds itself in another file gives none of its offsets a second time.
  SECTION("it was copied elsewhere, and goes on beyond them") {
    REQUIRE(run("backup", {"e"}).ok());
    const Lines all = KcatLines(RealBroker::Get(), "restored", 0, "%s\\n");
    CHECK(Lines(all.end() - 5, all.end()) == Lines{"a", "b", "c", "d", "e"});
  }
}

TEST_CASE("Kafka forwarder: a target topic that is not there is an error, or is made", "[broker]") {
  if (IsSkipped()) return;
  TempDir dir;
  const Broker broker = Broker::Open(dir / "data").value();
  broker.CreateTopic("new", {.partitions = 3, .cleanup = CleanupPolicy::kCompact}).value();
  kafka::ForwarderOptions options = Options("new");
  options.create_topics = false;
  CHECK(absl::IsNotFound(KafkaForwarder::Open(broker, options).value().RunToEnd()));
  options.create_topics = true;
  REQUIRE(KafkaForwarder::Open(broker, options).value().RunToEnd().ok());
  const auto there = kafka::DescribeTopic(RealBroker::Get().cluster(), "new").value();
  CHECK(there.partitions == 3);
  CHECK(there.properties.at("cleanup.policy") == "compact");
}

// As the Java producer's own partitioner has it: ten thousand keys, in one run of a small program
// that is compiled from its source.
TEST_CASE("Kafka forwarder: murmur2 places keys as Kafka's Java producer does", "[broker]") {
  if (IsSkipped()) return;
  TempDir dir;
  WriteAll(dir / "Place.java", R"(
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
public class Place {
  public static void main(String[] args) throws Exception {
    StringBuilder out = new StringBuilder();
    for (String key : Files.readAllLines(Paths.get(args[0]), StandardCharsets.ISO_8859_1)) {
      byte[] bytes = key.getBytes(StandardCharsets.ISO_8859_1);
      out.append(BuiltInPartitioner.partitionForKey(bytes, 12)).append('\n');
    }
    Files.write(Paths.get(args[1]), out.toString().getBytes(StandardCharsets.ISO_8859_1));
  }
})");
  // Hosts, and the paths asked for: 10,000 that differ.
  std::set<std::string> keys;
  for (const WebLine& line : WebLog()) {
    keys.insert(line.host());
    const std::size_t begin = line.text.find('"') + 1;
    keys.insert(line.text.substr(begin, line.text.find_last_of('"') - begin));
    keys.insert(line.text.substr(line.text.find('['), 22));
    if (keys.size() >= 10'000) break;
  }
  REQUIRE(keys.size() >= 10'000);
  std::string text, wanted;
  for (const std::string& key : keys) {
    text += key + "\n";
    wanted += absl::StrCat(cordwood::internal::PartitionForKey("murmur2", key, 12), "\n");
  }
  WriteAll(dir / "keys", text);
  const std::string command =
      absl::StrCat("java -XX:TieredStopAtLevel=1 -cp '", RealBroker::ClassPath(), "' ",
                   (dir / "Place.java").string(), " ", (dir / "keys").string(), " ",
                   (dir / "out").string(), " 2> ", (dir / "errors").string());
  const int result = std::system(command.c_str());
  INFO(ReadAll(dir / "errors"));
  REQUIRE(result == 0);
  const bool is_equal = ReadAll(dir / "out") == wanted;
  CHECK(is_equal);
  std::printf("%zu keys placed as by Kafka's own partitioner\n", keys.size());
}

// Also where two are at work at once: the killed one may not be quite gone.
TEST_CASE("Kafka importer: killed, nothing is lost or twice", "[broker]") {
  if (IsSkipped()) return;
  const int kills = IsLong() ? 50 : 5;
  const std::vector<WebLine> lines = WebLog(IsLong() ? kAll : 20'000);
  TempDir dir;
  const TopicConfig config = {.partitions = 4, .retention_age = absl::InfiniteDuration()};
  {
    const Broker broker = Broker::Open(dir / "from").value();
    const Topic topic = broker.CreateTopic("imported", config).value();
    for (const WebLine& line : lines) AppendWebLine(topic, line);
    REQUIRE(KafkaForwarder::Open(broker, Options("imported")).value().RunToEnd().ok());
    REQUIRE(broker.Close().ok());
  }
  const auto open = [&] { return Broker::Open(dir / "to", {.background_threads = false}).value(); };
  REQUIRE(open().CreateTopic("imported", config).ok());
  const auto run = [&](Child& parent) {
    const Broker broker = Broker::Open(dir / "to").value();
    KafkaImporter importer = KafkaImporter::Open(broker, {.cluster = RealBroker::Get().cluster(),
                                                          .routes = {{.topic = "imported"}}})
                                 .value();
    const absl::Status status = importer.RunToEnd();
    if (!status.ok()) std::printf("%s\n", status.ToString().c_str());
    broker.Close().IgnoreError();
    parent.Tell(status.ok() ? 1 : 2);
  };
  int on_the_way = 0;
  for (int i = 0; i < kills; ++i) {
    Child child(run);
    const Broker broker = open();
    const Topic topic = broker.OpenTopic("imported").value();
    const auto left = [&] {
      auto sum = static_cast<Offset>(lines.size());
      for (int p = 0; p < 4; ++p) sum -= topic.partition(p).end_offset();
      return sum;
    };
    const Offset before = left();
    while (left() == before && before > 0) absl::SleepFor(absl::Microseconds(100));
    child.Kill();
    if (left() > 0) ++on_the_way;
  }
  Child last(run), beside(run);
  REQUIRE(last.Wait() == 1);
  REQUIRE(beside.Wait() == 1);
  const Topic from = Broker::Open(dir / "from").value().OpenTopic("imported").value();
  const Topic to = open().OpenTopic("imported").value();
  for (int p = 0; p < 4; ++p) CheckEqual(LinesWithoutImport(to, p), LinesOf(from, p), p);
  CHECK(to.partition(0).end_offset() > 0);
  std::printf("%d importers killed, %d of them on the way\n", kills, on_the_way);
}

#ifdef CORDWOOD_KAFKA_BUFFER
// Twice, and each run carries only its own.
TEST_CASE("Kafka example: kafka_buffer carries its events", "[broker]") {
  if (IsSkipped()) return;
  TempDir dir;
  const std::string command =
      absl::StrCat(CORDWOOD_KAFKA_BUFFER, " --events 50 --rate 1000 ", (dir / "data").string(), " ",
                   RealBroker::Get().address(), " buffered > /dev/null");
  for (std::size_t run = 1; run <= 2; ++run) {
    REQUIRE(std::system(command.c_str()) == 0);
    std::size_t there = 0;
    for (int p = 0; p < 3; ++p) {
      there += KcatLines(RealBroker::Get(), "buffered", p, "%o\\n").size();
    }
    CHECK(there == 50 * run);
  }
}
#endif

}  // namespace cordwood
