// The words that the bridges leave behind.

#include "kafka/marks.h"

#include "cordwood/kafka/cluster.h"
#include "tests/catch.h"

namespace cordwood::kafka {

using internal::Ends;
using internal::FormatEnds;
using internal::FormatReached;
using internal::FormatSource;
using internal::ParseEnds;
using internal::ParseReached;
using internal::ParseSource;
using internal::Reached;
using internal::Source;

TEST_CASE("Kafka marks: a source is read as it was written") {
  const Source source{"cluster/topic.of-it", 3, 9'000'000'000};
  CHECK(FormatSource(source) == "cluster/topic.of-it/3/9000000000");
  CHECK(ParseSource(FormatSource(source)) == source);
}

TEST_CASE("Kafka marks: what is no source is none") {
  for (const char* text : {"", "/", "//", "a", "a/1", "a/1/", "a//1", "a/-1/1", "a/1/-1", "a/1/1x",
                           "a/1/99999999999999999999", "a/99999999999/1", " 1/ 1"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseSource(text));
  }
}

TEST_CASE("Kafka marks: ends are read as they were written") {
  const Ends ends = {{0, 0}, {7, 9'000'000'000}};
  CHECK(FormatEnds(ends) == "ends 0:0 7:9000000000");
  CHECK(ParseEnds(FormatEnds(ends)) == ends);
  CHECK(ParseEnds("ends") == Ends());
}

TEST_CASE("Kafka marks: what is no ends is none") {
  for (const char* text : {"", "end", "ends ", "ends 1", "ends 1:", "ends :1", "ends 1:2 ",
                           "ends 1:2  3:4", "ends -1:2", "ends 1:-2", "a user's own note"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseEnds(text));
  }
}

TEST_CASE("Kafka marks: where a forwarder goes is read as it was written, and nothing else is") {
  const Reached reached = {.target = "id/orders", .ends = {{0, 4711}, {1, 13}}};
  CHECK(FormatReached(reached) == "to id/orders ends 0:4711 1:13");
  CHECK(ParseReached(FormatReached(reached)) == reached);
  CHECK(ParseReached(FormatReached({.target = "id/t"})) == Reached{.target = "id/t"});
  // The importer's, and others.
  for (const char* text : {"", "to", "to ", "to id/orders", "to  ends 1:2", "to id/orders ends 1",
                           "id/orders ends 1:2", "ends 1:2"}) {
    CAPTURE(text);
    CHECK_FALSE(ParseReached(text));
  }
}

TEST_CASE("Kafka settings: what both have goes over and comes back") {
  TopicConfig config = {.partitions = 5,
                        .max_message_bytes = 5000,
                        .retention_age = absl::InfiniteDuration(),
                        .retention_bytes = 1 << 20,
                        .cleanup = CleanupPolicy::kCompactAndDelete,
                        .timestamp_type = TimestampType::kAppendTime,
                        .retention_clock = RetentionClock::kRecord,
                        .delete_retention = absl::Hours(1),
                        .compaction_lag_min = absl::Seconds(1),
                        .dirty_ratio_min = 0.25};
  const auto properties = ToClusterProperties(config);
  CHECK(properties.at("retention.ms") == "-1");
  CHECK(properties.at("cleanup.policy") == "compact,delete");
  CHECK(properties.at("max.compaction.lag.ms") == "9223372036854775807");
  CHECK(properties.count("segment.bytes") == 0);
  CHECK(properties.count("retain.for.groups") == 0);
  CHECK(FromClusterTopic({.partitions = 5, .properties = properties}).value() == config);
}

}  // namespace cordwood::kafka
