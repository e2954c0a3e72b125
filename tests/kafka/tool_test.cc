// `cordwood kafka`, as a person drives it, against the mock cluster.

#include <signal.h>
#include <unistd.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/kafka/mock_cluster.h"
#include "tests/support/files.h"
#include "tests/support/program.h"
#include "tests/support/temp_dir.h"
#include "tool/json_reader.h"
#include "tool/kafka/check.h"
#include "tool/kafka/options.h"

namespace cordwood {
namespace {

using namespace cordwood::testing;
using List = std::vector<std::string>;
using tool::JsonValue;
using tool::ParseJson;

bool Has(const std::string& text, std::string_view words) {
  return text.find(words) != std::string::npos;
}
std::string LastLine(const std::string& text) {
  const std::size_t end = text.find_last_not_of('\n');
  const std::size_t begin = text.find_last_of('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1, end - begin);
}

// A directory with topic "orders" and a cluster that has it too.
struct World {
  World() { mock.CreateTopic("orders", 2); }

  std::string Brokers() const { return mock.cluster().properties.at("bootstrap.servers"); }
  List Words(List arguments) const {
    // The mock never answers what its settings are.
    if (arguments[0] == "check") arguments.insert(arguments.end(), {"--timeout", "2"});
    arguments.insert(arguments.begin(), {"--dir", path, "kafka"});
    arguments.insert(arguments.end(), {"-b", Brokers()});
    return arguments;
  }
  Ran Run(List arguments) const { return RunProgram(Words(std::move(arguments))); }
  void Send(const std::string& value, int partition = 0) const {
    REQUIRE(topic.partition(partition).Append({.key = "k", .value = value}).ok());
  }

  TempDir dir;
  std::string path = dir / "data";
  Broker broker = Broker::Open(path, {.background_threads = false}).value();
  Topic topic = broker.CreateTopic("orders", {.partitions = 2}).value();
  MockCluster mock;
};

}  // namespace

TEST_CASE("Program kafka: forwards what is there, and says how much that was") {
  World world;
  world.Send("a");
  world.Send("b", 1);
  const Ran quiet = world.Run({"forward", "orders", "--until-end"});
  CHECK(quiet.code == 0);
  CHECK(quiet.out == "");
  CHECK(quiet.err == "");
  CHECK(world.mock.Values("orders", 0) == List{"a"});
  CHECK(world.mock.Values("orders", 1) == List{"b"});

  world.Send("c");
  const Ran json = world.Run({"forward", "orders", "--until-end", "--json"});
  CHECK(json.code == 0);
  const std::string text = LastLine(json.out);
  const JsonValue last = ParseJson(text).value();
  CHECK(last.Find("done")->raw == "true");
  const JsonValue& topic = last.Find("topics")->items.at(0);
  for (const auto& [key, value] : std::map<std::string, std::string>{{"records", "1"},
                                                                     {"bytes", "2"},
                                                                     {"transactions", "1"},
                                                                     {"in_flight", "0"},
                                                                     {"delivered", "1"},
                                                                     {"retried", "0"},
                                                                     {"refused", "0"},
                                                                     {"lag", "0"},
                                                                     {"last_error", "null"}}) {
    CAPTURE(key);
    CHECK(topic.Find(key)->raw == value);
  }
  CHECK(topic.Find("partitions")->items.at(0).Find("next")->raw == "2");
}

TEST_CASE("Program kafka: topics go by name, by pattern, to other names and behind a prefix") {
  World world;
  world.mock.CreateTopic("shop.orders-2", 2);
  world.mock.CreateTopic("shop.sensor-1", 1);
  const Topic sensor = world.broker.CreateTopic("sensor-1").value();
  REQUIRE(sensor.partition(0).Append({.value = "21.5"}).ok());
  world.Send("a");
  const Ran ran = world.Run(
      {"forward", "orders=orders-2", "--pattern", "sensor-.*", "--prefix", "shop.", "--until-end"});
  INFO(ran.err);
  CHECK(ran.code == 0);
  CHECK(world.mock.Values("shop.orders-2", 0) == List{"a"});
  CHECK(world.mock.Values("shop.sensor-1", 0) == List{"21.5"});
}

TEST_CASE("Program kafka: imports what is there, and a pattern finds the cluster's topics") {
  World world;
  world.Send("a");
  world.Send("b", 1);
  REQUIRE(world.Run({"forward", "orders", "--until-end"}).code == 0);
  world.broker.CreateTopic("back.orders", {.partitions = 2}).value();
  const Ran ran =
      world.Run({"import", "--pattern", "ord.*", "--prefix", "back.", "--until-end", "--json"});
  INFO(ran.err);
  CHECK(ran.code == 0);
  const std::string text = LastLine(ran.out);
  const JsonValue last = ParseJson(text).value();
  CHECK(last.Find("topics")->items.at(0).Find("records")->raw == "2");
  CHECK(last.Find("topics")->items.at(0).Find("target")->text == "back.orders");
  CHECK(RunProgram({"--dir", world.path, "consume", "back.orders"}).out == "a\nb\n");
  CHECK(world.Run({"import", "--pattern", "nothing.*", "--until-end"}).code == 1);
}

TEST_CASE("Program kafka: metrics are kept in a file, and one that cannot be stops nothing") {
  World world;
  world.Send("a");
  world.Send("b", 1);
  const std::string file = world.dir / "bridge.prom";
  REQUIRE(world.Run({"forward", "orders", "--until-end", "--metrics-file", file}).code == 0);
  const std::string forwarded = ReadAll(file);
  for (const char* line :
       {"# TYPE cordwood_kafka_forwarder_records_total counter\n"
        "cordwood_kafka_forwarder_records_total{topic=\"orders\",target=\"orders\"} 2\n",
        "cordwood_kafka_forwarder_transactions_total{topic=\"orders\",target=\"orders\"} ",
        "cordwood_kafka_forwarder_lag{topic=\"orders\",target=\"orders\",partition=\"1\"} 0\n",
        "# TYPE cordwood_kafka_forwarder_lag gauge\n"}) {
    INFO(line);
    CHECK(Has(forwarded, line));
  }
  world.broker.CreateTopic("back", {.partitions = 2}).value();
  REQUIRE(world.Run({"import", "orders=back", "--until-end", "--metrics-file", file}).code == 0);
  CHECK(Has(ReadAll(file),
            "cordwood_kafka_importer_bytes_total{topic=\"orders\",target=\"back\"} 4\n"));
  CHECK(!Has(ReadAll(file), "forwarder"));

  world.Send("c");
  const Ran ran =
      world.Run({"forward", "orders", "--until-end", "--metrics-file", "/nowhere/bridge.prom"});
  CHECK(ran.code == 0);
  CHECK(Has(ran.err, "/nowhere/bridge.prom: cannot be written"));
  CHECK(world.mock.Values("orders", 0) == List{"a", "c"});
}

TEST_CASE("Program kafka: a signal ends it, with what was sent in the cluster") {
  World world;
  world.Send("a");
  List words = world.Words({"forward", "orders", "--json", "-i", "0.05"});
  words.insert(words.begin(), "cordwood");
  words.insert(words.begin(), world.dir.path().string());
  // Once it says that the record is there.
  const Ran ran = RunShell(
      "pipe=$1/pipe; shift; mkfifo $pipe; \"$@\" > $pipe & pid=$!; told=; "
      "while read -r line; do case $told$line in '{'*'\"records\":1,'*) kill -TERM $pid; told=1 ;; "
      "*'\"done\":true'*) echo last ;; esac; done < $pipe; wait $pid; echo code $?",
      words);
  CHECK(Has(ran.out, "last\n"));
  CHECK(Has(ran.out, "code 0\n"));
  CHECK(ran.err == "");
  CHECK(world.mock.Values("orders", 0) == List{"a"});
}

TEST_CASE("Program kafka: on a terminal it shows a bar and the lag, and Ctrl-C ends it") {
  World world;
  world.Send("a");
  OnTerminal terminal(world.Words({"forward", "orders"}));
  CHECK(terminal.Sees("forwarded [########################] 100 %  1 records"));
  CHECK(terminal.Sees("lag 0"));
  terminal.Type("\003");
  CHECK(terminal.Wait() == 0);
  CHECK(terminal.Sees("cordwood: 1 record forwarded, 2 B"));
  CHECK(terminal.IsAsItWas());
}

TEST_CASE("Program kafka: while the cluster is away it says so, and is stopped all the same") {
  World world;
  world.Send("a");
  world.mock.SetDown(true);
  OnTerminal terminal(world.Words({"forward", "orders", "--until-end"}));
  CHECK(terminal.Sees("cordwood: orders: "));
  CHECK(terminal.Sees("lag 1"));
  terminal.Type("\003");
  CHECK(terminal.Wait() == 1);
  CHECK(terminal.Sees("stopped before the end"));
  CHECK(terminal.Sees("0 records forwarded, lag: 1."));
}

TEST_CASE("Program kafka: a refused record is an error that names the option for it") {
  World world;
  world.Send(std::string(5000, 'x'));
  const Ran ran = world.Run({"forward", "orders", "--until-end", "-X", "message.max.bytes=2000"});
  CHECK(ran.code == 1);
  CHECK(Has(ran.err, "orders-0 at offset 0"));
  CHECK(Has(ran.err, "Set --dead-letter to"));
  world.broker.CreateTopic("letters").value();
  const Ran again = world.Run({"forward", "orders", "--until-end", "-X", "message.max.bytes=2000",
                               "--dead-letter", "letters", "--json"});
  CHECK(again.code == 0);
  const std::string text = LastLine(again.out);
  const JsonValue last = ParseJson(text).value();
  CHECK(last.Find("topics")->items.at(0).Find("refused")->raw == "1");
  CHECK(last.Find("topics")->items.at(0).Find("dead_letters")->raw == "1");
}

TEST_CASE("Program kafka: check compares, says where the forwarder stands, and changes nothing") {
  World world;
  world.Send("a");
  const Ran before = world.Run({"check", "--json"});
  INFO(before.err);
  CHECK(before.code == 0);
  const JsonValue row = ParseJson(before.out).value().items.at(0);
  CHECK(row.Find("state")->text == "not begun");
  CHECK(row.Find("lag")->raw == "1");
  CHECK(row.Find("partitions_there")->raw == "2");
  CHECK(world.broker.ListGroups().empty());
  CHECK(world.mock.Values("orders", 0).empty());

  REQUIRE(world.Run({"forward", "orders", "--until-end"}).code == 0);
  CHECK(Has(world.Run({"check"}).out, "up to date"));
  world.Send("b");
  CHECK(Has(world.Run({"check", "orders"}).out, "behind"));

  world.broker.CreateTopic("other", {.partitions = 3}).value();
  world.broker.CreateTopic("third").value();
  world.mock.CreateTopic("other", 1);
  const Ran bad = world.Run({"check", "--pattern", "o.*", "third=nowhere"});
  CHECK(bad.code == 1);
  CHECK(Has(bad.err, "other: 3 partitions here, 1 there"));
  CHECK(Has(bad.err, "third: there is no Kafka topic nowhere"));
  CHECK(Has(bad.out, "cannot be forwarded"));
  CHECK(world.Run({"check", "other", "--partitioner", "murmur2"}).code == 0);
  world.mock.SetDown(true);
  const Ran away = world.Run({"check"});
  CHECK(away.code == 1);
  CHECK(Has(away.err, "the Kafka cluster"));
}

TEST_CASE("Program kafka: passwords are in no word of it") {
  World world;
  const std::string file = world.dir / "cluster";
  WriteAll(file, "# of the edge\n\nsasl.username = u\nsasl.password=hunter2\n");
  const std::vector<List> mistakes = {
      {"-F", file, "-X", "no.such.property=hunter2"},
      {"-F", file, "-X", "ssl.key.pem=-----hunter2", "-X", "security.protocol=ssl"},
      {"-X", "hunter2"},
  };
  for (const List& mistake : mistakes) {
    List words = {"forward", "orders", "--until-end"};
    words.insert(words.end(), mistake.begin(), mistake.end());
    const Ran ran = world.Run(words);
    CAPTURE(ran.err);
    CHECK(ran.code == 2);
    CHECK_FALSE(Has(ran.err, "hunter2"));
  }
  // A line that is no property is named by its number alone.
  WriteAll(file, "sasl.username=u\nhunter2\n");
  const Ran ran = world.Run({"forward", "orders", "-F", file});
  CHECK(ran.code == 2);
  CHECK(Has(ran.err, "line 2"));
  CHECK_FALSE(Has(ran.err, "hunter2"));
}

TEST_CASE("Program kafka: arguments that make no sense get a message and exit code 2") {
  World world;
  const std::string b = world.Brokers();
  const std::vector<List> mistakes = {
      {"kafka"},
      {"kafka", "nonsense"},
      {"kafka", "forward", "orders"},
      {"kafka", "forward", "-b", b},
      {"kafka", "forward", "orders=", "-b", b},
      {"kafka", "forward", "--pattern", "(", "-b", b},
      {"kafka", "forward", "orders", "-b", b, "--time", "soon"},
      {"kafka", "forward", "orders", "-b", b, "--time", "1h"},
      {"kafka", "forward", "orders", "-b", b, "--partitioner", "random"},
      {"kafka", "forward", "orders", "-b", b, "-X", "acks=1"},
      {"kafka", "import", "-b", b},
      {"kafka", "check", "--pattern", "(", "-b", b},
  };
  for (List mistake : mistakes) {
    mistake.insert(mistake.begin(), {"--dir", world.path});
    const Ran ran = RunProgram(mistake);
    CAPTURE(ran.err);
    CHECK(ran.code == 2);
    CHECK(Has(ran.err, "--help"));
  }
  const Ran missing = world.Run({"forward", "order", "--until-end"});
  CHECK(missing.code == 1);
  CHECK(Has(missing.err, "Did you mean orders?"));
}

TEST_CASE("Program kafka: help, the man page and the completions have it") {
  CHECK(Has(RunProgram({"kafka", "--help"}).out, "forward"));
  CHECK(Has(RunProgram({"man"}).out, "\n.SH kafka forward\n"));
  CHECK(Has(RunProgram({"completion", "bash"}).out, "\" kafka import\")"));
  CHECK(Has(RunProgram({"completion", "fish"}).out, "-l dead-letter"));
}

TEST_CASE("Program kafka: settings that the forwarder would make otherwise are told") {
  const TopicConfig here = {.retention_age = absl::Hours(1)};
  std::map<std::string, std::string> there = kafka::ToClusterProperties(here);
  there["message.timestamp.type"] = "CreateTime";
  CHECK(tool::Differences(here, there).empty());
  there["max.message.bytes"] = "2000000000";
  CHECK(tool::Differences(here, there).empty());
  there["retention.ms"] = "1";
  there["message.timestamp.type"] = "LogAppendTime";
  const std::vector<tool::Difference> found = tool::Differences(here, there);
  REQUIRE(found.size() == 2);
  CHECK(found[0] == tool::Difference{"message.timestamp.type", "CreateTime", "LogAppendTime"});
  CHECK(found[1] == tool::Difference{"retention.ms", "3600000", "1"});
  there["max.message.bytes"] = "1000";
  CHECK(tool::Differences(here, there).size() == 3);
  // What the cluster does not tell is not compared.
  CHECK(tool::Differences(here, {}).empty());
}

TEST_CASE("Program kafka: a file of properties is read as kcat reads it") {
  std::map<std::string, std::string> properties = {{"a", "old"}};
  REQUIRE(tool::ParseProperties("# c\n\n a = 1 \r\nb=x=y\nc=\n", "f", properties).ok());
  CHECK(properties == std::map<std::string, std::string>{{"a", "1"}, {"b", "x=y"}, {"c", ""}});
  CHECK(absl::IsInvalidArgument(tool::ParseProperties("=1", "f", properties)));
  CHECK(absl::IsInvalidArgument(tool::ParseProperties("word", "f", properties)));
}

}  // namespace cordwood
