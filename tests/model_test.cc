// T12 of the reliability plan: random calls, and what plain containers would have answered
// (tests/support/model_script.h).
//
//   CORDWOOD_MODEL_OPERATIONS=100000 cordwood_tests "Model:*"   so many with each seed
//   CORDWOOD_MODEL_SEEDS=100 ...                                so many seeds
//   CORDWOOD_MODEL_FIRST_SEED=101 ...                           from there on

#include <cstdint>
#include <cstdio>
#include <string>

#include "tests/catch.h"
#include "tests/support/environment.h"
#include "tests/support/model_script.h"

namespace cordwood::model_test {
namespace {

using testing::ModelScript;
using testing::NumberFromEnvironment;

TEST_CASE("Model: a broker answers as plain containers would, over opens and kills") {
  const std::uint64_t operations = NumberFromEnvironment("CORDWOOD_MODEL_OPERATIONS", 5'000);
  const std::uint64_t first = NumberFromEnvironment("CORDWOOD_MODEL_FIRST_SEED", 1);
  const std::uint64_t count = NumberFromEnvironment("CORDWOOD_MODEL_SEEDS", 4);
  std::int64_t appended = 0, read = 0, given_up = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    ModelScript script(seed);
    const std::string problem = script.Run(static_cast<int>(operations));
    appended += script.appended();
    read += script.read();
    given_up += script.retained_away();
    CHECK(problem == "");
  }
  std::printf("Model: seeds %llu to %llu: %llu operations, %lld records appended, %lld read\n",
              static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(first + count - 1),
              static_cast<unsigned long long>(operations * count), static_cast<long long>(appended),
              static_cast<long long>(read));
  CHECK(appended > 0);
  if (operations >= 5'000) CHECK(given_up > 0);
}

}  // namespace
}  // namespace cordwood::model_test
