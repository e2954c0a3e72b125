// The program on a terminal, and beside a process that writes.

#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cordwood/broker.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/child.h"
#include "tests/support/program.h"
#include "tool/json_reader.h"

namespace cordwood::testing {
namespace {

using tool::JsonValue;
using tool::ParseJson;

const std::string kNasa = CORDWOOD_SOURCE_FOLDER "/examples/data/nasa_http_aug95_40k.log";

bool Has(const std::string& text, std::string_view words) {
  return text.find(words) != std::string::npos;
}

// Another process that appends one record after the other, until it is told to stop.
class Writer {
 public:
  explicit Writer(const std::string& path)
      : child_([path](Child& parent) {
          const Broker broker = Broker::Open(path).value();
          const Topic topic = broker.CreateTopic("live").value();
          const Partition log = topic.partition(0);
          std::uint32_t appended = 0;
          const auto append = [&] {
            if (!log.Append({.value = std::to_string(appended)}).ok()) _exit(1);
            ++appended;
          };
          append();
          parent.Tell(1);
          // A word is waiting: enough.
          for (pollfd wait = {.fd = parent.in(), .events = POLLIN, .revents = 0};
               poll(&wait, 1, 0) == 0;) {
            append();
            usleep(100);
          }
          parent.Tell(appended);
        }) {
    REQUIRE(child_.Wait() == 1);
  }
  // How many it has appended in all.
  std::uint32_t Stop() {
    child_.Tell(1);
    return child_.Wait();
  }

 private:
  Child child_;
};

}  // namespace

TEST_CASE("Program: beside a process that writes it sees what comes, and disturbs nobody") {
  const TempDir dir;
  const std::string path = dir / "data";
  Writer writer(path);
  const auto run = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"--dir", path});
    const Ran ran = RunProgram(std::move(arguments));
    CHECK(ran.err == "");
    CHECK(ran.code == 0);
    return ran.out;
  };
  // Three hundred that were not there when it began to look.
  std::string expected;
  const std::string followed = run({"consume", "live", "--follow", "--count", "300"});
  for (int i = 0; i < 300; ++i) expected += std::to_string(i) + "\n";
  CHECK(followed == expected);
  CHECK(Has(run({"topics"}), "live"));
  CHECK(run({"consume", "live", "--last", "1"}) != "");
  run({"describe"});
  run({"dump", "live", "0", "--frames"});
  run({"explain", "live", "0", "0"});
  CHECK(Has(run({"metrics"}), "cordwood_sync_duration_seconds_count"));

  // Two looks at a log that grows: the rate is not zero, once the writer had a turn between them.
  for (double rate = 0; rate <= 0;) {
    const std::string line = run({"top", "-n", "1", "-i", "0.2", "--json"});
    const JsonValue top = ParseJson(std::string_view(line).substr(0, line.size() - 1)).value();
    rate = std::stod(std::string(top.Find("topics")->items.at(0).Find("records_per_second")->raw));
    CHECK(top.Find("append_p99_ns") != nullptr);
    CHECK(top.Find("syncs_per_second") != nullptr);
  }

  const std::uint32_t appended = writer.Stop();
  CHECK(appended >= 300);
  const Broker after = Broker::Open(path, {.background_threads = false}).value();
  CHECK(after.OpenTopic("live").value().partition(0).end_offset() == appended);
}

TEST_CASE("Program: a follower is woken by what another process produces, and Ctrl-C ends it") {
  const TempDir dir;
  const std::string path = dir / "data";
  REQUIRE(RunProgram({"--dir", path, "topics", "create", "t"}).code == 0);
  OnTerminal follower({"--dir", path, "consume", "t", "--follow"});
  const Broker broker = Broker::Open(path).value();
  const Topic topic = broker.OpenTopic("t").value();
  Append(topic, 0, "first");
  REQUIRE(follower.Sees("first\r\n"));
  Append(topic, 0, "second");
  REQUIRE(follower.Sees("second\r\n"));
  follower.Type("\x03");
  CHECK(follower.Wait() == 0);
}

TEST_CASE("Program: top shows topics and groups on a terminal until q") {
  const TempDir dir;
  const std::string path = dir / "data";
  REQUIRE(RunProgram({"--dir", path, "produce", "access", "--create", "-K", " ", kNasa}).code == 0);
  REQUIRE(RunProgram({"--dir", path, "consume", "access", "-g", "audit", "-c", "9000"}).code == 0);
  OnTerminal top({"--dir", path, "top", "--interval", "0.1"});
  REQUIRE(top.Sees("\033[?1049h"));
  REQUIRE(top.Sees("append p99 "));
  REQUIRE(top.Sees("not durable for 0 ms"));
  REQUIRE(top.Sees("TOPIC"));
  REQUIRE(top.Sees("access"));
  REQUIRE(top.Sees("40,000"));
  REQUIRE(top.Sees("audit"));
  REQUIRE(top.Sees("31,000"));
  REQUIRE(top.Sees("\r\n"));   // and not in steps
  REQUIRE(top.Sees("TOPIC"));  // it looks again
  CHECK(!top.IsAsItWas());     // keys come at once, and without an echo
  top.Type("q");
  CHECK(top.Sees("\033[?1049l"));  // the screen is as it was
  CHECK(top.IsAsItWas());          // and so is the terminal
  CHECK(top.Wait() == 0);
}

TEST_CASE("Program: colours and progress are for a terminal only") {
  const TempDir dir;
  const std::string path = dir / "data";
  OnTerminal produce({"--dir", path, "produce", "access", "--create", kNasa});
  CHECK(produce.Wait() == 0);
  CHECK(produce.Has(" % "));
  CHECK(produce.Has("40,000 records into access"));

  OnTerminal topics({"--dir", path, "topics"});
  CHECK(topics.Wait() == 0);
  CHECK(topics.Has("\033[1m"));
  OnTerminal plain({"--dir", path, "--color", "never", "topics"});
  CHECK(plain.Wait() == 0);
  CHECK(!plain.Has("\033["));
  CHECK(!Has(RunProgram({"--dir", path, "topics"}).out, "\033"));
  CHECK(Has(RunProgram({"--dir", path, "--color", "always", "topics"}).out, "\033[1m"));
  const Ran piped = RunProgram({"--dir", path, "produce", "access", kNasa});
  CHECK(piped.out == "");
  CHECK(piped.err == "");
}

}  // namespace cordwood::testing
