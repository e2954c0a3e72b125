// The program where its input ends too soon, and where its descriptors are not there.

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/catch.h"
#include "tests/support/files.h"
#include "tests/support/program.h"

namespace cordwood::testing {
namespace {

namespace fs = std::filesystem;

bool Has(const std::string& text, std::string_view words) {
  return text.find(words) != std::string::npos;
}

struct World {
  // What the program says, where it must succeed.
  std::string Out(std::vector<std::string> arguments, std::string_view input = "") const {
    arguments.insert(arguments.begin(), {"--dir", path});
    const Ran ran = RunProgram(std::move(arguments), input);
    CHECK(ran.err == "");
    CHECK(ran.code == 0);
    return ran.out;
  }

  TempDir dir;
  std::string path = dir / "data";
};

}  // namespace

TEST_CASE("Program: an input that a signal cuts short is sent as far as it was read, and told") {
  const World world;
  world.Out({"topics", "create", "t"});
  const std::string command = GENERATE("produce t", "import t --format json");
  const Ran ran = RunShell("mkfifo \"$2/in\"; cordwood --dir \"$1\" " + command +
                               " < \"$2/in\" 2> \"$2/err\" & exec 3> \"$2/in\"; printf "
                               "'{\"value\":1}\\n{\"value\":2}\\n' >&3; "
                               "cordwood --dir \"$1\" consume t --follow --count 2 > /dev/null; "
                               "kill -TERM $!; exec 3>&-; "
                               "wait $!; echo $?; cat \"$2/err\"",
                           {world.path, world.dir.path().string()});
  CHECK(ran.out == "1\ncordwood: stopped before the end of the input\n  Sent: 2 records.\n");
}

TEST_CASE("Program: a closed descriptor is no way into the files of the log") {
  const World world;
  world.Out({"produce", "t", "--create"}, "one\ntwo\n");
  const std::string reserve = ReadAll(fs::path(world.path) / "reserve");
  const Ran ran =
      RunShell("cordwood --dir \"$1\" consume t --group g <&- >&-; echo $? >&2", {world.path});
  CHECK(Has(ran.err, "\n1\n"));
  CHECK(ReadAll(fs::path(world.path) / "reserve") == reserve);
  // What could not be written out was not committed.
  CHECK(world.Out({"consume", "t", "--group", "g"}) == "one\ntwo\n");
}

}  // namespace cordwood::testing
