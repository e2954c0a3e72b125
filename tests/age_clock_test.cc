#include "cordwood/log/age_clock.h"

#include "tests/catch.h"

namespace cordwood::log {
namespace {

constexpr std::int64_t kHour = 3'600'000'000'000;
constexpr std::int64_t kYear = 365 * 24 * kHour;
constexpr std::int64_t kNow = 50 * kYear;

TEST_CASE("AgeClock: while nobody sets the clock a time stays what it is") {
  AgeClock clock;
  clock.Observe(kNow, 0);
  clock.Observe(kNow + 8 * 24 * kHour, 8 * 24 * kHour);
  CHECK(clock.Moved(kNow - kHour) == kNow - kHour);
}

TEST_CASE(
    "AgeClock: what was noted before a clock was set forward is moved along, later notes are not") {
  AgeClock clock;
  clock.Observe(kNow, 0);
  clock.Observe(kNow + kYear + kHour, kHour);
  CHECK(clock.Moved(kNow - kHour) == kNow - kHour + kYear);
  CHECK(clock.Moved(kNow + kYear + kHour) == kNow + kYear + kHour);
}

TEST_CASE("AgeClock: twice forward counts twice for what came before both") {
  AgeClock clock;
  clock.Observe(kNow, 0);
  clock.Observe(kNow + kYear, 0);
  clock.Observe(kNow + 3 * kYear, 0);
  CHECK(clock.Moved(kNow) == kNow + 3 * kYear);
  CHECK(clock.Moved(kNow + kYear) == kNow + 3 * kYear);
  CHECK(clock.Moved(kNow + 3 * kYear + 1) == kNow + 3 * kYear + 1);
}

TEST_CASE("AgeClock: set back, a clock takes back what it had moved") {
  AgeClock clock;
  clock.Observe(kNow, 0);
  clock.Observe(kNow + kYear, 0);
  clock.Observe(kNow + kYear / 4, 0);
  CHECK(clock.Moved(kNow) == kNow + kYear / 4);
  clock.Observe(kNow - kYear, 0);
  CHECK(clock.Moved(kNow) == kNow);
}

TEST_CASE("AgeClock: what a clock is slewed by is no jump") {
  AgeClock clock;
  clock.Observe(kNow, 0);
  clock.Observe(kNow + kHour + 59'000'000'000, kHour);
  CHECK(clock.Moved(kNow) == kNow);
}

}  // namespace
}  // namespace cordwood::log
