#include "cordwood/log/retention.h"

#include <vector>

#include "absl/time/time.h"
#include "tests/catch.h"

namespace cordwood::log {
namespace {

const std::int64_t kNow =
    absl::ToUnixNanos(absl::FromCivil(absl::CivilDay(2026, 6, 15), absl::UTCTimeZone()));
const std::int64_t kWeek = absl::ToInt64Nanoseconds(absl::Hours(7 * 24));

std::int64_t DaysAgo(int days) { return kNow - absl::ToInt64Nanoseconds(absl::Hours(24 * days)); }

// Segments of 100 records and 1,000 bytes, last appended to when it says; the last is active.
std::vector<SegmentFacts> Segments(const std::vector<std::int64_t>& last_appends,
                                   std::int64_t largest_timestamp = DaysAgo(10'000)) {
  std::vector<SegmentFacts> segments;
  for (const std::int64_t at : last_appends) {
    const auto base = static_cast<Offset>(100 * segments.size());
    segments.push_back({.base = base,
                        .next = base + 100,
                        .bytes = 1000,
                        .last_append_ns = at,
                        .largest_timestamp_ns = largest_timestamp});
  }
  return segments;
}

TEST_CASE("Retention: without a rule everything stays") {
  CHECK(RetainFrom(Segments({DaysAgo(9000), DaysAgo(8000), DaysAgo(7000)}), {}, kNow) == 0);
  CHECK(RetainFrom({}, {.age_ns = 1}, kNow) == 0);
}

TEST_CASE("Retention: by bytes a segment goes while the rest is still at least the bound") {
  const auto segments = Segments({kNow, kNow, kNow, kNow});
  CHECK(RetainFrom(segments, {.bytes = 4000}, kNow) == 0);
  CHECK(RetainFrom(segments, {.bytes = 3001}, kNow) == 0);
  CHECK(RetainFrom(segments, {.bytes = 3000}, kNow) == 100);
  CHECK(RetainFrom(segments, {.bytes = 1999}, kNow) == 200);
  CHECK(RetainFrom(segments, {.bytes = 0}, kNow) == 300);  // never the newest
}

TEST_CASE("Retention: by records a segment goes while the rest is still at least the bound") {
  const auto segments = Segments({kNow, kNow, kNow, kNow});
  CHECK(RetainFrom(segments, {.records = 301}, kNow) == 0);
  CHECK(RetainFrom(segments, {.records = 300}, kNow) == 100);
  CHECK(RetainFrom(segments, {.records = 0}, kNow) == 300);
}

TEST_CASE("Retention: by age the old ones go, from the oldest on, and the newest as well") {
  const RetentionRules week = {.age_ns = kWeek};
  CHECK(RetainFrom(Segments({DaysAgo(20), DaysAgo(8), DaysAgo(6), kNow}), week, kNow) == 200);
  CHECK(RetainFrom(Segments({DaysAgo(20), DaysAgo(7)}), week, kNow) == 100);  // not yet over
  CHECK(RetainFrom(Segments({DaysAgo(20), DaysAgo(8)}), week, kNow) == 200);
}

TEST_CASE("Retention: records of 1995 that came today are kept for the whole age") {
  const std::int64_t of_1995 = DaysAgo(31 * 365);
  CHECK(RetainFrom(Segments({kNow, kNow}, of_1995), {.age_ns = kWeek}, kNow) == 0);
  CHECK(RetainFrom(Segments({DaysAgo(8), DaysAgo(8)}, of_1995), {.age_ns = kWeek}, kNow) == 200);
}

TEST_CASE("Retention: a record from the future keeps nothing") {
  const std::int64_t of_2100 = DaysAgo(-74 * 365);
  CHECK(RetainFrom(Segments({DaysAgo(8), DaysAgo(8)}, of_2100), {.age_ns = kWeek}, kNow) == 200);
}

TEST_CASE("Retention: a timestamp later than the append counts once it is past") {
  const auto segments = Segments({DaysAgo(8), DaysAgo(8)}, DaysAgo(2));
  CHECK(RetainFrom(segments, {.age_ns = kWeek}, kNow) == 0);
}

TEST_CASE(
    "Retention: a clock that was ahead at an append keeps a segment no longer than the next") {
  const std::int64_t ahead = DaysAgo(-365);
  CHECK(RetainFrom(Segments({ahead, DaysAgo(8), kNow}), {.age_ns = kWeek}, kNow) == 200);
  // Nothing after it says when it was: it counts as new, for as long as that is so.
  CHECK(RetainFrom(Segments({DaysAgo(8), ahead}), {.age_ns = kWeek}, kNow) == 100);
}

TEST_CASE("Retention: a clock that was behind at an append, or not set, removes nothing early") {
  const std::int64_t of_1970 = 5'000'000'000;
  CHECK(RetainFrom(Segments({of_1970, kNow}), {.age_ns = kWeek}, kNow) == 0);
  CHECK(RetainFrom(Segments({DaysAgo(1), DaysAgo(400), kNow}), {.age_ns = kWeek}, kNow) == 0);
  CHECK(RetainFrom(Segments({of_1970, of_1970, DaysAgo(8)}), {.age_ns = kWeek}, kNow) == 300);
}

TEST_CASE("Retention: by the records' clock it is Kafka's rule, with a bound on the future") {
  const RetentionRules rules = {.age_ns = kWeek, .clock = RetentionClock::kRecord};
  CHECK(RetainFrom(Segments({kNow, kNow}, DaysAgo(8)), rules, kNow) == 200);
  CHECK(RetainFrom(Segments({DaysAgo(8), DaysAgo(8)}, DaysAgo(2)), rules, kNow) == 200);
  CHECK(RetainFrom(Segments({DaysAgo(6), kNow}, DaysAgo(-365)), rules, kNow) == 0);
  CHECK(RetainFrom(Segments({DaysAgo(8), kNow}, DaysAgo(-365)), rules, kNow) == 100);
}

TEST_CASE("Retention: what is needed stays, whatever age and bytes say, up to its own bound") {
  const auto segments = Segments({DaysAgo(8), DaysAgo(8), DaysAgo(8), DaysAgo(8)});
  const auto from = [&](Offset needed, std::int64_t bytes) {
    return RetainFrom(segments,
                      {.age_ns = kWeek, .bytes = 0, .needed_from = needed, .needed_bytes = bytes},
                      kNow);
  };
  CHECK(from(0, kUnlimited) == 0);
  CHECK(from(99, kUnlimited) == 0);
  CHECK(from(100, kUnlimited) == 100);
  CHECK(from(250, kUnlimited) == 200);
  CHECK(from(400, kUnlimited) == 400);
  CHECK(from(0, 2000) == 200);
  CHECK(from(0, 2999) == 200);
  CHECK(from(0, 0) == 400);
}

}  // namespace
}  // namespace cordwood::log
