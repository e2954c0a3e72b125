// The program, as a person drives it: on real data, in pipes, with mistakes.

#include "tests/support/program.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/share_consumer.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/files.h"
#include "tool/json_reader.h"

namespace cordwood::testing {
namespace {

namespace fs = std::filesystem;
using tool::JsonValue;
using tool::ParseJson;

const std::string kNasa = CORDWOOD_SOURCE_FOLDER "/examples/data/nasa_http_aug95_40k.log";
constexpr std::int64_t kLines = 40'000;

bool Has(const std::string& text, std::string_view words) {
  return text.find(words) != std::string::npos;
}
std::int64_t LinesOf(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

// A directory, and the program in it.
struct World {
  Ran Run(std::vector<std::string> arguments, std::string_view input = "",
          As as = As::kSelf) const {
    arguments.insert(arguments.begin(), {"--dir", path});
    return RunProgram(std::move(arguments), input, as);
  }
  // What it says, where it must succeed.
  std::string Out(std::vector<std::string> arguments, std::string_view input = "") const {
    const Ran ran = Run(std::move(arguments), input);
    CHECK(ran.err == "");
    CHECK(ran.code == 0);
    return ran.out;
  }
  JsonValue Json(std::vector<std::string> arguments) {
    arguments.push_back("--json");
    text = Out(std::move(arguments));
    return ParseJson(text).value();
  }
  Broker Open() const {
    return Broker::Open(path, {.read_only = true, .background_threads = false}).value();
  }

  TempDir dir;
  std::string path = dir / "data";
  std::string text;  // that the last Json() points into
};

// The web log, by host.
struct WebLog : World {
  WebLog() {
    Out({"topics", "create", "access", "--partitions", "4"});
    Out({"produce", "access", "-K", " ", kNasa});
  }
};

// Every file with its bytes.
std::map<std::string, std::string> Everything(const fs::path& path) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) files[entry.path().string()] = ReadAll(entry.path());
  }
  return files;
}

}  // namespace

// ---- The web log

TEST_CASE("Program: a web log goes in and comes out, line for line") {
  WebLog log;
  CHECK(log.Json({"topics"}).items.at(0).Find("records")->raw == std::to_string(kLines));
  // By partition the order of the input is kept; sorted it is the input.
  const Ran sorted = RunShell(
      "cordwood --dir \"$1\" consume access -f '%k %s\\n' | LC_ALL=C sort > \"$2/out\"; "
      "LC_ALL=C sort \"$3\" | cmp - \"$2/out\" && echo same",
      {log.path, log.dir.path().string(), kNasa});
  CHECK(sorted.out == "same\n");
  CHECK(sorted.err == "");
}

TEST_CASE("Program: what is read is chosen by key, by pattern, by place and by number") {
  WebLog log;
  const auto lines = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"consume", "access"});
    return LinesOf(log.Out(std::move(arguments)));
  };
  const auto greps = [&](const std::string& grep) {
    return std::stoll(RunShell("grep -c " + grep + " \"$1\"", {kNasa}).out);
  };
  CHECK(lines({}) == kLines);
  CHECK(lines({"--grep", " 404 "}) == greps("' 404 '"));
  CHECK(lines({"--key", "uplherc.upl.com"}) == greps("'^uplherc.upl.com '"));
  CHECK(lines({"--last", "7"}) == 7);
  // Of those that are wanted, however long ago.
  CHECK(lines({"--last", "7", "--grep", " 404 "}) == 7);
  CHECK(log.Out({"consume", "access", "--last", "1", "--key", "uplherc.upl.com", "--json"}) ==
        RunShell("cordwood --dir \"$1\" consume access -k uplherc.upl.com --json | tail -n 1",
                 {log.path})
            .out);
  CHECK(lines({"--count", "5"}) == 5);
  CHECK(lines({"--from", "end"}) == 0);
  CHECK(lines({"--partition", "0", "--from", "-3"}) == 3);
  CHECK(lines({"--partition", "0", "--from", "10", "--until", "30"}) == 20);
  CHECK(lines({"--from", "1h"}) == kLines);  // they were appended just now
  CHECK(lines({"--from", "2100-01-01"}) == 0);
  CHECK(log.Out({"consume", "access", "-p", "1", "--from", "5", "-c", "1", "-f", "%p:%o"}) ==
        "1:5");
  CHECK(log.Out({"consume", "access", "--header", "none"}) == "");
}

TEST_CASE("Program: consume ends quietly when nobody reads on") {
  WebLog log;
  const Ran head = RunShell(
      "{ cordwood --dir \"$1\" consume access; echo \"code $?\" >&2; } | head -n 3", {log.path});
  CHECK(LinesOf(head.out) == 3);
  CHECK(head.err == "code 0\n");
}

TEST_CASE("Program: a group goes on where it was, and is reset as the dry run says") {
  WebLog log;
  CHECK(LinesOf(log.Out({"consume", "access", "--group", "g", "--count", "1000"})) == 1000);
  CHECK(log.Json({"groups", "describe", "g"}).Find("lag")->raw == std::to_string(kLines - 1000));
  CHECK(LinesOf(log.Out({"consume", "access", "--group", "g"})) == kLines - 1000);
  CHECK(log.Json({"groups"}).items.at(0).Find("lag")->raw == "0");
  CHECK(Has(log.Out({"groups", "describe", "g"}), "Empty"));

  const std::string plan = log.Out({"groups", "reset", "g", "--to", "start", "--dry-run"});
  CHECK(Has(plan, "Nothing was changed"));
  CHECK(log.Json({"groups", "describe", "g"}).Find("lag")->raw == "0");
  const std::string done = log.Out({"groups", "reset", "g", "--to", "start"});
  CHECK(plan.starts_with(done));
  CHECK(log.Json({"groups", "describe", "g"}).Find("lag")->raw == std::to_string(kLines));
  log.Out({"groups", "reset", "g", "--to", "7", "--topic", "access:2"});
  CHECK(log.Json({"groups", "describe", "g"})
            .Find("partitions")
            ->items.at(2)
            .Find("committed")
            ->raw == "7");
  CHECK(log.Run({"groups", "delete", "g"}).code == 2);
  CHECK(log.Out({"groups", "delete", "g", "--yes"}) == "deleted g\n");
  CHECK(log.Run({"groups", "describe", "g"}).code == 1);
}

TEST_CASE("Program: a group that shares records says what is held, waits and is done with") {
  World world;
  world.Out({"produce", "t", "--create"}, "a\nb\nc\n");
  CHECK(LinesOf(world.Out({"consume", "t", "--group", "plain"})) == 3);
  const Broker broker = Broker::Open(world.path, {.background_threads = false}).value();
  ShareConsumer worker = broker.NewShareConsumer({.group = "g"}).value();
  REQUIRE(worker.Subscribe({"t"}).ok());
  const AcquiredBatch batch = worker.Acquire(absl::Seconds(10)).value();
  REQUIRE(batch.size() == 3);
  REQUIRE(worker.Acknowledge(*std::next(batch.begin())).ok());
  const JsonValue group = world.Json({"groups", "describe", "g"});
  CHECK(group.Find("type")->text == "share");
  CHECK(group.Find("partitions")->items.at(0).Find("shared")->raw ==
        "{\n        \"held\": 2,\n        \"waiting\": 0,\n        \"done\": 1\n      }");
  CHECK(Has(world.Out({"groups", "describe", "g"}), "HELD  WAITING  DONE"));
  const std::string list = world.Out({"groups"});
  CHECK(Has(list, "g      share "));
  CHECK(Has(list, "plain  consumer "));
  CHECK(
      !world.Json({"groups", "describe", "plain"}).Find("partitions")->items.at(0).Find("shared"));
}

TEST_CASE("Program: explain and dump find the record where it lies") {
  WebLog log;
  log.Out({"consume", "access", "--group", "g", "--count", "100"});
  const JsonValue where = log.Json({"explain", "access", "1", "500"});
  CHECK(where.Find("state")->text == "good");
  CHECK(where.Find("is_durable")->raw == "true");
  CHECK(where.Find("groups")->items.at(0).Find("has_read")->raw == "false");
  // The value is there, in that file, behind the frame's header.
  const std::string bytes = ReadAll(fs::path(log.path) / where.Find("file")->text);
  const std::string value =
      log.Out({"consume", "access", "-p", "1", "--from", "500", "-c", "1", "-f", "%s"});
  const auto position =
      static_cast<std::size_t>(std::stoll(std::string(where.Find("position")->raw)));
  CHECK(bytes.substr(position + 48, value.size()) == value);
  CHECK(Has(log.Out({"explain", "access", "1", "500"}), "not yet, committed"));

  const std::string frames = log.Out({"dump", "access", "1", "--frames", "--json"});
  const Offset end = log.Open().OpenTopic("access").value().partition(1).end_offset();
  CHECK(LinesOf(frames) == end + 1);
  const std::string hex = log.Out({"dump", "access", "1", "--hex", "--count", "1"});
  CHECK(Has(hex, "00000400  "));
  CHECK(Has(log.Out({"dump", "access", "1", "--index"}), "position 1024"));
}

TEST_CASE("Program: dump ends after so many records, of however many segments") {
  World world;
  world.Out({"topics", "create", "t", "--set", "segment.bytes=4096"});
  CHECK(Has(world.Out({"dump", "t", "0"}), "none yet, from 0"));
  std::string lines;
  for (int i = 0; i < 100; ++i) lines += "a line\n";
  // A batch is in one segment.
  for (int i = 0; i < 3; ++i) world.Out({"produce", "t", "-H", "a=b"}, lines);
  const std::string text =
      world.Out({"dump", "t", "0", "--headers", "--hex", "--count", "5", "--json"});
  CHECK(world.Open().DescribeTopic("t").value().by_number[0].segments.size() > 2);
  std::int64_t frames = 0;
  for (std::size_t at = 0; (at = text.find("\"hex\":\"", at)) != std::string::npos; ++at) ++frames;
  CHECK(frames == 5);
  CHECK(Has(text, "\"headers\":[{\"key\":\"a\",\"value\":\"b\"}]}"));
}

TEST_CASE("Program: export and import give the same records, as JSON and as CSV") {
  WebLog log;
  const auto all = [&](const std::string& topic) {
    return log.Out({"consume", topic, "-p", "0", "-f", "%T %k %K %s %S %h\\n"});
  };
  // Bytes that neither format has a place for, and none.
  log.Out({"produce", "access", "-p", "0", "-k", "a\xff,\"\n", "-H", "h=\xfe", "-f", "file"},
          std::string("\0\xff\r\n\",", 7));
  log.Out({"produce", "access", "-p", "0", "-k", "gone", "-Z"}, "\n");
  for (const std::string format : {"json", "csv"}) {
    const std::string copy = "copy-" + format, file = log.dir / format;
    log.Out({"export", "access", "-f", format, "-o", file});
    log.Out({"topics", "create", copy, "-p", "4"});
    log.Out({"import", copy, file, "-f", format});
    CHECK(all(copy) == all("access"));
    CHECK(log.Json({"topics", "describe", copy}).Find("records")->raw ==
          std::to_string(kLines + 2));
  }
}

TEST_CASE("Program: lines of JSON bring their key and their time") {
  World world;
  const std::string input =
      "{\"user\": \"ann\", \"at\": \"2020-01-02T03:04:05Z\"}\n"
      "{\"user\": 7, \"at\": 1577934245}\n";
  world.Out({"produce", "events", "--create", "--key-field", "user", "--timestamp-field", "at"},
            input);
  CHECK(world.Out({"consume", "events", "-f", "%k %T\\n"}) ==
        "ann 1577934245000\n7 1577934245000\n");
  const Ran bad =
      world.Run({"produce", "events", "--key-field", "user"}, "{\"user\": 1}\nnonsense\n");
  CHECK(bad.code == 1);
  CHECK(Has(bad.err, "line 2 of the input: no JSON"));
}

TEST_CASE("Program: what comes before a line that is wrong is sent, and how much is told") {
  World world;
  world.Out({"topics", "create", "t"});
  const auto refused = [&](std::vector<std::string> arguments, std::string_view input) {
    const Ran ran = world.Run(std::move(arguments), input);
    CHECK(ran.code == 1);
    return ran.err;
  };
  CHECK(Has(refused({"produce", "t", "-K", ":"}, "a:1\nb:2\nbad\nc:3\n"),
            "line 3 of the input: there is no \":\" in it\n  Sent before it: 2 records;"));
  CHECK(Has(refused({"produce", "t", "-f", "json"}, "{\"value\":\"3\"}\n{bad}\n"), "line 2 of"));
  CHECK(Has(refused({"import", "t"}, "{\"value\":\"4\"}\n{\"partition\":1}\n"), "line 2 of"));
  CHECK(Has(refused({"import", "t", "-f", "csv"}, "value\n\"5\n\"\n\"6\n"),
            "line 4 of the input: a quoted field has no end\n  Sent before it: 1 record;"));
  CHECK(Has(refused({"import", "t", "-f", "csv"}, "key\n1\n"), "line 1 of"));
  CHECK(Has(refused({"produce", "t", "-f", "json"}, "{\"timestamp\":\"2262-04-12\"}\n"), "1677"));
  CHECK(world.Out({"consume", "t", "-f", "%s|"}) == "1|2|3|4|5\n|");
}

TEST_CASE("Program: an alteration of which one half is refused changes nothing") {
  const World world;
  world.Out({"topics", "create", "t"});
  CHECK(
      world.Run({"topics", "alter", "t", "--set", "retention.ms=1000", "--partitions", "1"}).code !=
      0);
  CHECK(world.Open().OpenTopic("t").value().config() == TopicConfig());
}

TEST_CASE("Program: what is quoted of an input moves no cursor") {
  const World world;
  world.Out({"topics", "create", "t"});
  const Ran ran = world.Run({"produce", "t", "--timestamp-field", "t"},
                            "{\"t\":\"\\u001b]0;pwn\\u0007\\u009b\"}\n");
  CHECK(ran.code == 1);
  CHECK(Has(ran.err, "\\x1b]0;pwn\\x07\\x9b"));
}

TEST_CASE("Program: a record that the topic refuses is named by its line") {
  World world;
  world.Out({"topics", "create", "t", "--set", "max.message.bytes=100"});
  const std::string large(200, 'x');
  const Ran lines = world.Run({"produce", "t"}, "1\n2\n" + large + "\n4\n");
  CHECK(lines.code == 1);
  CHECK(Has(lines.err, "line 3 of the input"));
  CHECK(Has(lines.err, "Sent before it: 2 records."));
  CHECK(Has(lines.err, "max.message.bytes of 100"));
  const Ran imported =
      world.Run({"import", "t"}, "{\"value\":\"1\"}\n{\"value\":\"" + large + "\"}\n");
  CHECK(Has(imported.err, "line 2 of the input"));
  CHECK(world.Out({"consume", "t"}) == "1\n2\n1\n");
  // A file has no lines that it could be.
  CHECK(world.Run({"produce", "t", "-f", "file"}, large).err.starts_with("cordwood: t-0: "));
}

TEST_CASE("Program: a value of a megabyte with many lines goes through CSV") {
  World world;
  world.Out({"topics", "create", "t"});
  std::string value;
  while (value.size() < 1'000'000) value += "a \"line\",\n";
  world.Out({"produce", "t", "-f", "file"}, value);
  const std::string csv = world.Out({"export", "t", "-f", "csv"});
  world.Out({"import", "t", "-f", "csv"}, csv);
  CHECK(world.Out({"consume", "t", "-p", "0", "--from", "1", "-f", "%s"}) == value);
}

TEST_CASE("Program: topics are made, altered, described and deleted") {
  World world;
  CHECK(world.Out({"topics", "create", "t", "-p", "2", "--set", "retention.ms=1000"}) ==
        "created t\n");
  CHECK(world.Run({"topics", "create", "t"}).code == 1);
  CHECK(world.Out({"topics", "create", "t", "--if-not-exists"}) == "exists t\n");
  CHECK(world.Out({"topics", "alter", "t", "-p", "3", "--set", "segment.ms=5000"}) ==
        "altered t\n");
  const JsonValue topic = world.Json({"topics", "describe", "t"});
  CHECK(topic.Find("partitions")->raw == "3");
  CHECK(topic.Find("settings")->Find("retention.ms")->Find("source")->text == "set");
  CHECK(topic.Find("settings")->Find("segment.bytes")->Find("source")->text == "default");
  const Ran unknown = world.Run({"topics", "alter", "t", "--set", "retention=1"});
  CHECK(unknown.code == 2);
  CHECK(Has(unknown.err, "unknown property"));
  CHECK(world.Run({"topics", "delete", "t"}).code == 2);
  CHECK(world.Out({"topics", "delete", "t", "--yes"}) == "deleted t\n");
  CHECK(world.Out({"topics"}) == "There are no topics yet.\n");
}

TEST_CASE("Program: describe says all of it") {
  WebLog log;
  const JsonValue all = log.Json({"describe"});
  CHECK(all.Find("records")->raw == std::to_string(kLines));
  CHECK(all.Find("topics")->items.at(0).Find("by_number")->items.size() == 4);
  CHECK(Has(log.Out({"describe"}), "topics: 1, partitions: 4, records: 40,000"));
}

TEST_CASE("Program: bench leaves nothing behind") {
  World world;
  const JsonValue rows =
      world.Json({"bench", "--records", "1000", "--durable", "2", "--batch", "10"});
  REQUIRE(rows.items.size() == 4);
  CHECK(rows.items[3].Find("records")->raw == "2002");
  CHECK(world.Open().TopicNames().empty());
}

// ---- Mistakes

TEST_CASE("Program: arguments that make no sense get a message and exit code 2") {
  WebLog log;
  const std::vector<std::vector<std::string>> mistakes = {
      {},
      {"nonsense"},
      {"topics", "nonsense"},
      {"topics", "describe"},
      {"topics", "create", "../x"},
      {"topics", "create", "x", "-p", "many"},
      {"topics", "create", "x", "-p", "0"},
      {"topics", "create", "x", "--set", "retention.ms"},
      {"topics", "create", "x", "--set", "partitions=2", "-p", "3"},
      {"topics", "alter", "access", "--set", "partitions=9"},
      {"topics", "alter", "access"},
      {"topics", "list", "--no-such-option"},
      {"consume", "access", "--from", "soon"},
      {"consume", "access", "--grep", "("},
      {"consume", "access", "-f", "%z"},
      {"consume", "access", "--last", "-1"},
      {"consume", "access", "--count", "99999999999999999999"},
      {"consume", "access", "--json", "-f", "%s"},
      {"consume", "access", "--follow", "--until", "end"},
      {"consume", "access", "--group", "g", "--until", "end"},
      {"consume", "access", "--group", "g", "--from", "start"},
      {"produce", "access", "--header", "novalue"},
      {"produce", "access", "--format", "xml"},
      {"produce", "access", "--format", "json", "--key-delimiter", " "},
      {"produce", "access", "--key", "k", "--key-delimiter", " "},
      {"groups", "reset", "g"},
      {"groups", "reset", "g", "--to", "start", "--shift", "1"},
      {"groups", "reset", "g", "--to", "start", "-t", "access:x"},
      {"explain", "access", "0"},
      {"explain", "access", "0", "x"},
      {"explain", "access", "0", "-1"},
      {"explain", "access", "0", "99999999999999999999"},
      {"completion", "powershell"},
      {"--color", "sometimes", "topics"},
      {"top", "--interval", "0"},
  };
  for (const std::vector<std::string>& mistake : mistakes) {
    std::string line;
    for (const std::string& word : mistake) line += word + " ";
    CAPTURE(line);
    const Ran ran = log.Run(mistake);
    CHECK(ran.code == 2);
    CHECK(ran.out == "");
    CHECK(ran.err.starts_with("cordwood: "));
    CHECK(Has(ran.err, "--help"));
  }
  CHECK(Has(log.Run({"nonsense"}).err, "there is no command nonsense\n"));
  CHECK(Has(log.Run({"topcis"}).err, "did you mean topics?"));
  CHECK(Has(log.Run({"groups", "rest", "g"}).err, "did you mean reset?"));
  CHECK(Has(log.Run({"consume", "access", "--folow"}).err, "did you mean --follow?"));
  CHECK(Has(log.Run({"topics", "--jsno"}).err, "did you mean --json?"));
  CHECK(Has(log.Run({"topics", "list", "x"}).err, "\"x\" is one argument too many"));
  const Ran nowhere = RunProgram({"topics"});
  CHECK(nowhere.code == 2);
  CHECK(Has(nowhere.err, "CORDWOOD_DIR"));
}

TEST_CASE("Program: what is missing gets a message that says what to do, and exit code 1") {
  WebLog log;
  struct Missing {
    std::vector<std::string> arguments;
    std::string_view advice;
  };
  const std::vector<Missing> missing = {
      {{"topics", "describe", "acess"}, "Did you mean access?"},
      {{"consume", "nothing-like-it"}, "`cordwood topics` lists"},
      {{"consume", "access", "-p", "4"}, "from 0 to 3"},
      {{"produce", "access", "/no/such/file"}, "/no/such/file"},
      {{"produce", "access", "-p", "9"}, "from 0 to 3"},
      {{"explain", "access", "0", "99999999"}, "go from 0 to"},
      {{"dump", "access", "0", "-s", "99999999"}, "no segment"},
      {{"groups", "describe", "g"}, "There are no groups yet"},
      {{"export", "access", "-o", "/no/such/file"}, "/no/such/file"},
  };
  for (const Missing& m : missing) {
    CAPTURE(m.advice);
    const Ran ran = log.Run(m.arguments);
    CHECK(ran.code == 1);
    CHECK(ran.err.starts_with("cordwood: "));
    CHECK(Has(ran.err, m.advice));
  }
}

TEST_CASE("Program: a directory that is not there, or is no log, is not made one by a look") {
  World world;
  for (const bool is_there : {false, true}) {
    if (is_there) fs::create_directory(world.path);
    CHECK(world.Run({"verify"}).code == 1);
    CHECK(world.Run({"repair"}).code == 1);
    for (const std::vector<std::string>& command : {std::vector<std::string>{"topics"},
                                                    {"describe"},
                                                    {"consume", "t"},
                                                    {"top", "-n", "1"},
                                                    {"metrics"},
                                                    {"groups"},
                                                    {"dump", "t", "0"},
                                                    {"produce", "t"}}) {
      CAPTURE(is_there, command[0]);
      const Ran ran = world.Run(command);
      CHECK(ran.code == 1);
      CHECK(Has(ran.err, "topics create"));
      CHECK(ran.out == "");
    }
    CHECK(fs::exists(world.path) == is_there);
  }
  CHECK(fs::is_empty(world.path));
  // Where something else is, none can be made, and nobody is told to.
  CHECK(!Has(RunProgram({"--dir", world.dir.path().string(), "topics"}).err, "topics create"));
  CHECK(world.Out({"produce", "t", "--create"}, "a\nb") == "");
  CHECK(world.Out({"consume", "t"}) == "a\nb\n");
}

// ---- Other states of a directory

TEST_CASE("Program: commands that look change nothing, and need no permission to write") {
  WebLog log;
  log.Out({"consume", "access", "--group", "g", "--count", "10"});
  for (const auto& entry : fs::recursive_directory_iterator(log.dir.path())) {
    fs::permissions(entry, entry.is_directory() ? fs::perms(0555) : fs::perms(0444));
  }
  fs::permissions(log.dir.path(), fs::perms(0555));
  const auto before = Everything(log.path);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"topics"},
        {"topics", "describe", "access", "--segments"},
        {"groups", "describe", "g"},
        {"describe"},
        {"consume", "access"},
        {"explain", "access", "0", "0"},
        {"dump", "access", "0", "--frames", "--index"},
        {"export", "access"},
        {"verify"},
        {"top", "-n", "1", "-i", "0.01"},
        {"metrics"},
        {"groups", "reset", "g", "--to", "end", "--dry-run"}}) {
    CAPTURE(command[0]);
    const Ran ran = log.Run(command, "", As::kNobody);
    CHECK(ran.code == 0);
    CHECK(ran.err == "");
    CHECK(ran.out != "");
  }
  const Ran produce = log.Run({"produce", "access"}, "x\n", As::kNobody);
  CHECK(produce.code == 1);
  CHECK(produce.err.starts_with("cordwood: "));
  CHECK(Everything(log.path) == before);
  for (const auto& entry : fs::recursive_directory_iterator(log.dir.path())) {
    if (entry.is_directory()) fs::permissions(entry, fs::perms(0755));
  }
  fs::permissions(log.dir.path(), fs::perms(0755));
}

TEST_CASE("Program: a damaged record costs itself, and is named") {
  WebLog log;
  const JsonValue where = log.Json({"explain", "access", "2", "50"});
  const fs::path file = fs::path(log.path) / where.Find("file")->text;
  const auto position =
      static_cast<std::size_t>(std::stoll(std::string(where.Find("position")->raw)));
  std::string bytes = ReadAll(file);
  bytes[position + 50] = static_cast<char>(bytes[position + 50] ^ 1);
  WriteAll(file, bytes);

  const Ran consumed = log.Run({"consume", "access"});
  CHECK(consumed.code == 0);
  CHECK(LinesOf(consumed.out) == kLines - 1);
  CHECK(consumed.err == "cordwood: access-2: record 50 is gone: damaged\n");
  CHECK(log.Json({"explain", "access", "2", "50"}).Find("state")->text == "damaged");
  const Ran dumped = log.Run({"dump", "access", "2", "--frames"});
  CHECK(dumped.code == 1);
  CHECK(Has(dumped.err, "damaged segments or records: 1"));
  const Ran exported = log.Run({"export", "access"});
  CHECK(LinesOf(exported.out) == kLines - 1);
  CHECK(Has(exported.err, "damaged or lost, and left out: 1"));

  // Without its header nothing can be said of it, and the next one is found all the same.
  bytes[position + 16] = static_cast<char>(bytes[position + 16] ^ 1);
  WriteAll(file, bytes);
  const Ran explained = log.Run({"explain", "access", "2", "50"});
  CHECK(explained.code == 1);
  CHECK(Has(explained.err, "access-2 offset 50 is damaged, or was never there"));
  CHECK(log.Json({"explain", "access", "2", "51"}).Find("state")->text == "good");
}

TEST_CASE("Program: a damaged topic is named, and the others are told of") {
  WebLog log;
  log.Out({"topics", "create", "bad"});
  WriteAll(fs::path(log.path) / "topics/bad/config", "nonsense");
  const Ran topics = log.Run({"topics"});
  CHECK(topics.code == 1);
  CHECK(Has(topics.err, "cannot be described: 1"));
  CHECK(Has(topics.out, "access"));
  CHECK(Has(topics.err, "topics/bad/config"));
  CHECK(log.Run({"topics", "describe", "bad"}).code == 1);
  CHECK(log.Run({"describe"}).code == 1);
  CHECK(log.Run({"consume", "access", "-c", "1"}).code == 0);
}

// ---- The manual

TEST_CASE("Program: the man page and the completions know every command and option") {
  const std::string man = RunProgram({"man"}).out;
  const std::string bash = RunProgram({"completion", "bash"}).out;
  const std::string fish = RunProgram({"completion", "fish"}).out;
  for (const std::string command :
       {"topics", "produce", "consume", "groups", "describe", "explain", "dump", "top", "metrics",
        "export", "import", "verify", "repair", "bench", "completion"}) {
    CAPTURE(command);
    CHECK(Has(RunProgram({"--help"}).out, command));
    CHECK(Has(man, "\n.SH " + command + "\n"));
    CHECK(Has(bash, "\" " + command + "\")"));
    CHECK(Has(fish, "-a '" + command + "'"));
  }
  CHECK(Has(man, "\\-\\-key\\-delimiter"));
  CHECK(Has(man, ".SH topics create\n"));
  CHECK(Has(fish, "-l key-delimiter"));
}

TEST_CASE("Program: bash completes commands and options") {
  const auto complete = [](const std::string& words, const std::string& count) {
    return RunShell("source <(cordwood completion bash); COMP_WORDS=(" + words +
                        "); COMP_CWORD=" + count + "; _cordwood; echo \"${COMPREPLY[@]}\"",
                    {}, "bash")
        .out;
  };
  CHECK(complete("cordwood pro", "1") == "produce\n");
  CHECK(complete("cordwood topics de", "2") == "describe delete\n");
  CHECK(complete("cordwood topics create --part", "3") == "--partitions\n");
  CHECK(complete("cordwood consume --fol", "2") == "--follow\n");
}

}  // namespace cordwood::testing
