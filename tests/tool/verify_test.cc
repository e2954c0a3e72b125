// cordwood verify and repair: what is damaged is named, and the rest made usable.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cordwood/broker.h"
#include "tests/catch.h"
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

// Two topics of three records each.
struct World {
  World() {
    for (const char* topic : {"a", "b"}) {
      REQUIRE(Run({"produce", topic, "--create"}, "one\ntwo\nthree\n").code == 0);
    }
  }
  Ran Run(std::vector<std::string> arguments, std::string_view input = "") const {
    arguments.insert(arguments.begin(), {"--dir", path});
    return RunProgram(std::move(arguments), input);
  }
  // A bit of a record's value.
  void FlipBit(const std::string& topic, const std::string& offset) const {
    const std::string text = Run({"explain", topic, "0", offset, "--json"}).out;
    const JsonValue where = ParseJson(text).value();
    const fs::path file = fs::path(path) / where.Find("file")->text;
    const auto position =
        static_cast<std::size_t>(std::stoll(std::string(where.Find("position")->raw)));
    std::string bytes = ReadAll(file);
    bytes[position + 49] = static_cast<char>(bytes[position + 49] ^ 1);
    WriteAll(file, bytes);
  }

  TempDir dir;
  std::string path = dir / "data";
};

}  // namespace

TEST_CASE("Program: verify finds nothing in what is whole, and repair leaves it alone") {
  const World world;
  const Ran verified = world.Run({"verify"});
  CHECK(verified.code == 0);
  CHECK(verified.err == "");
  CHECK(Has(verified.out, "Nothing is damaged."));
  const std::string json = world.Run({"verify", "--json"}).out;
  const JsonValue report = ParseJson(json).value();
  CHECK(report.Find("is_clean")->raw == "true");
  CHECK(report.Find("topics")->items.size() == 2);
  CHECK(world.Run({"repair"}).out == "Nothing is damaged, and nothing was changed.\n");
}

TEST_CASE("Program: verify names a damaged record, with exit code 1") {
  const World world;
  world.FlipBit("a", "1");
  const Ran verified = world.Run({"verify"});
  CHECK(verified.code == 1);
  CHECK(Has(verified.out, "a-0 record 1: damaged"));
  CHECK(Has(verified.err, world.path + ": something in it is damaged or missing"));
  CHECK(Has(verified.err, "`cordwood repair`"));
  const std::string json = world.Run({"verify", "--json"}).out;
  CHECK(ParseJson(json).value().Find("is_clean")->raw == "false");
}

TEST_CASE("Program: verify that nobody reads on fails all the same where something is damaged") {
  const World world;
  world.FlipBit("a", "1");
  const Ran ran = RunShell(
      "(while [ ! -e \"$2/gone\" ]; do :; done; cordwood --dir \"$1\" verify; echo $? > "
      "\"$2/code\") |"
      "(exec <&-; : > \"$2/gone\"); cat \"$2/code\"",
      {world.path, world.dir.path().string()});
  CHECK(ran.out == "1\n");
}

TEST_CASE("Program: export gives what is whole, and fails if that is not all") {
  const World world;
  world.FlipBit("a", "1");
  const Ran ran = world.Run({"export", "a"});
  CHECK(ran.code == 1);
  CHECK(Has(ran.out, "\"one\""));
  CHECK_FALSE(Has(ran.out, "\"two\""));
  CHECK(Has(ran.out, "\"three\""));
  CHECK(Has(ran.err, "left out: 1"));
}

TEST_CASE("Program: repair puts a damaged topic aside, and the others go on") {
  const World world;
  WriteAll(fs::path(world.path) / "topics/b/config", "nonsense");
  CHECK(world.Run({"topics"}).code == 1);
  const Ran verified = world.Run({"verify"});
  CHECK(verified.code == 1);
  CHECK(Has(verified.out, "topics/b/config: damaged"));
  const Ran repaired = world.Run({"repair"});
  CHECK(repaired.code == 0);
  CHECK(Has(repaired.out, "kept aside  topics/b"));
  CHECK(world.Run({"topics"}).code == 0);
  CHECK(world.Run({"verify"}).code == 0);
  CHECK(world.Run({"consume", "a"}).out == "one\ntwo\nthree\n");
}

TEST_CASE("Program: repair does nothing beside a program that has the directory open") {
  const World world;
  const Broker broker = Broker::Open(world.path, {.background_threads = false}).value();
  const Ran repaired = world.Run({"repair"});
  CHECK(repaired.code == 1);
  CHECK(repaired.err.starts_with("cordwood: "));
  const Ran verified = world.Run({"verify"});
  CHECK(verified.code == 0);
  CHECK(Has(verified.out, "has it open for writing"));
}

}  // namespace cordwood::testing
