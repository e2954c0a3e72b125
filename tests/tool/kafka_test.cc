// `cordwood kafka` where the program is built without the bridge; with it see tests/kafka.

#include <string>
#include <vector>

#include "tests/catch.h"
#include "tests/support/program.h"

namespace cordwood::testing {

TEST_CASE("Program: without the bridge `kafka` says so, whatever it is asked") {
  if (RunProgram({"--help"}).out.find("not in this build") == std::string::npos) {
    SUCCEED("the bridge is there");
    return;
  }
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"kafka"},
        {"kafka", "forward", "orders", "-b", "kafka-1:9092", "-X", "a=b", "--until-end"},
        {"kafka", "check", "--json"}}) {
    CAPTURE(arguments.size());
    const Ran ran = RunProgram(arguments);
    CHECK(ran.code == 1);
    CHECK(ran.out == "");
    CHECK(ran.err ==
          "cordwood: this program is built without the bridge to Apache Kafka\n"
          "  Build it with -DCORDWOOD_WITH_KAFKA=ON, which needs librdkafka.\n");
  }
}

}  // namespace cordwood::testing
