// Random lives of a directory on simulated machines (tests/support/crash_script.h).
//
//   CORDWOOD_SIM_SEEDS=10000 cordwood_tests "Random crashes*"      so many
//   CORDWOOD_SIM_FIRST_SEED=10001 ...                              from there on
//   CORDWOOD_SIM_SEED=4711 cordwood_tests "Random crashes*"        this one alone

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/catch.h"
#include "tests/support/crash_script.h"

namespace cordwood {
namespace {

std::uint64_t NumberFromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST_CASE("Random crashes: nothing durable is lost, nothing comes back, no offset is used twice") {
  const std::uint64_t one = NumberFromEnvironment("CORDWOOD_SIM_SEED", 0);
  const std::uint64_t first = one != 0 ? one : NumberFromEnvironment("CORDWOOD_SIM_FIRST_SEED", 1);
  const std::uint64_t count = one != 0 ? 1 : NumberFromEnvironment("CORDWOOD_SIM_SEEDS", 60);
  long kills = 0, power_cuts = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    testing::CrashScript script(seed);
    const std::string problem = script.Run(200);
    kills += script.kills();
    power_cuts += script.power_cuts();
    CHECK(problem == "");
  }
  std::printf("Random crashes: seeds %llu to %llu: %ld kills, %ld power cuts\n",
              static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(first + count - 1), kills, power_cuts);
  CHECK(kills + power_cuts > 0);
}

}  // namespace
}  // namespace cordwood
