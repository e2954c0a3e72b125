#include "cordwood/options.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "tests/catch.h"

namespace cordwood::options_test {
namespace {

using Properties = std::map<std::string, std::string>;

bool Names(const absl::Status& status, const std::string& word) {
  INFO(status.ToString());
  return absl::IsInvalidArgument(status) && absl::StrContains(status.message(), word);
}

absl::Status Parse(const Properties& properties) {
  return TopicConfig::FromProperties(properties).status();
}

// --- Properties -----------------------------------------------------------------------------

TEST_CASE("TopicConfig: the defaults under Kafka's names") {
  const Properties expected = {
      {"backlog.bytes", "-1"},
      {"backlog.policy", "block"},
      {"cleanup.policy", "delete"},
      {"delete.retention.ms", "86400000"},
      {"index.interval.bytes", "4096"},
      {"max.compaction.lag.ms", "-1"},
      {"max.message.bytes", "1048588"},
      {"message.timestamp.type", "CreateTime"},
      {"min.cleanable.dirty.ratio", "0.5"},
      {"min.compaction.lag.ms", "0"},
      {"partitioner", "xxh3"},
      {"partitions", "1"},
      {"retain.for.groups", ""},
      {"retain.for.groups.bytes", "-1"},
      {"retention.bytes", "-1"},
      {"retention.clock", "append"},
      {"retention.ms", "604800000"},
      {"retention.records", "-1"},
      {"segment.bytes", "134217728"},
      {"segment.ms", "604800000"},
  };
  CHECK(TopicConfig().ToProperties() == expected);
}

TEST_CASE("TopicConfig: properties and back is the same config") {
  TopicConfig config;
  SECTION("the defaults") {}
  SECTION("nothing as by default") {
    config = {.partitions = 12,
              .segment_bytes = 4096,
              .segment_age = absl::Milliseconds(1),
              .index_interval_bytes = 64,
              .max_message_bytes = 1 << 30,
              .retention_age = absl::Milliseconds(1'234'567),
              .retention_bytes = 0,
              .cleanup = CleanupPolicy::kCompact,
              .timestamp_type = TimestampType::kAppendTime,
              .partitioner = "by-region",
              .retain_for_groups = {"uplink", "audit_2"},
              .retain_for_groups_bytes = 1,
              .backlog_bytes = 64 << 20,
              .backlog_policy = BacklogPolicy::kDropOldest,
              .retention_records = 1000,
              .retention_clock = RetentionClock::kRecord,
              .delete_retention = absl::ZeroDuration(),
              .compaction_lag_min = absl::Seconds(5),
              .compaction_lag_max = absl::Hours(5),
              .dirty_ratio_min = 0.1 + 0.2};
  }
  SECTION("for ever") {
    config = {.segment_age = absl::InfiniteDuration(),
              .retention_age = absl::InfiniteDuration(),
              .cleanup = CleanupPolicy::kCompactAndDelete,
              .backlog_policy = BacklogPolicy::kFail,
              .delete_retention = absl::InfiniteDuration(),
              .compaction_lag_min = absl::InfiniteDuration()};
  }
  SECTION("the longest that is not for ever") {
    config.retention_age = absl::Milliseconds(std::numeric_limits<std::int64_t>::max() - 1);
  }
  REQUIRE(internal::ValidateTopicConfig(config).ok());
  const auto back = TopicConfig::FromProperties(config.ToProperties());
  REQUIRE(back.status() == absl::OkStatus());
  CHECK(*back == config);
}

TEST_CASE("TopicConfig: what is not given has its default") {
  const auto config = TopicConfig::FromProperties({{"partitions", "3"}});
  REQUIRE(config.ok());
  CHECK(*config == TopicConfig{.partitions = 3});
}

TEST_CASE(
    "TopicConfig: blanks, the order of cleanup.policy and Kafka's largest number do not matter") {
  const auto config = TopicConfig::FromProperties({{"cleanup.policy", "delete, compact"},
                                                   {"retention.ms", " 9223372036854775807 "},
                                                   {"retention.bytes", "9223372036854775807"},
                                                   {"retain.for.groups", "a , b"}});
  REQUIRE(config.status() == absl::OkStatus());
  CHECK(config->cleanup == CleanupPolicy::kCompactAndDelete);
  CHECK(config->retention_age == absl::InfiniteDuration());
  CHECK(config->retention_bytes == kUnlimited);
  CHECK(config->retain_for_groups == std::vector<std::string>{"a", "b"});
}

TEST_CASE("TopicConfig: an unknown property is named, with those that there are") {
  const absl::Status status = Parse({{"retention.msec", "1"}});
  CHECK(Names(status, "retention.msec"));
  CHECK(Names(status, "retention.ms"));
}

TEST_CASE("TopicConfig: a value that makes no sense is refused by the property's name") {
  const Properties bad = {
      {"partitions", "many"},
      {"segment.bytes", "1e6"},
      {"segment.ms", "-2"},
      {"retention.ms", "7d"},
      {"retention.bytes", "99999999999999999999"},
      {"retention.records", ""},
      {"cleanup.policy", "compact;delete"},
      {"message.timestamp.type", "createtime"},
      {"retention.clock", "wall"},
      {"backlog.policy", "dropOldest"},
      {"min.cleanable.dirty.ratio", "half"},
      {"retain.for.groups", "a,,b"},
      {"partitioner", ""},
      {"max.message.bytes", "10 20"},
  };
  for (const auto& [name, value] : bad) {
    CAPTURE(name, value);
    CHECK(Names(Parse({{name, value}}), name));
  }
}

TEST_CASE("TopicConfig: a value out of bounds is refused by the property's name") {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"partitions", "0"},
      {"partitions", "100001"},
      {"partitions", "-1"},
      {"segment.bytes", "4095"},
      {"segment.bytes", "2147483649"},
      {"segment.ms", "0"},
      {"index.interval.bytes", "63"},
      {"max.message.bytes", "0"},
      {"max.message.bytes", "1073741825"},
      {"min.cleanable.dirty.ratio", "1.01"},
      {"min.cleanable.dirty.ratio", "-0.1"},
      {"min.cleanable.dirty.ratio", "nan"},
      {"partitioner", "../mine"},
      {"retain.for.groups", "../a"},
  };
  for (const auto& [name, value] : bad) {
    CAPTURE(name, value);
    CHECK(Names(Parse({{name, value}}), name));
  }
}

TEST_CASE("TopicConfig: bounds themselves are allowed") {
  CHECK(Parse({{"partitions", "100000"}, {"segment.bytes", "2147483648"}}).ok());
  CHECK(Parse({{"partitions", "1"}, {"segment.bytes", "4096"}}).ok());
  CHECK(Parse({{"max.message.bytes", "1"}, {"index.interval.bytes", "64"}}).ok());
  CHECK(Parse({{"min.cleanable.dirty.ratio", "0"}, {"retention.ms", "0"}}).ok());
  CHECK(Parse({{"min.cleanable.dirty.ratio", "1"}, {"retention.bytes", "0"}}).ok());
}

// --- What cannot be written as a property ---------------------------------------------------

TEST_CASE("ValidateTopicConfig: a duration of less than whole milliseconds is refused in words") {
  const absl::Status status =
      internal::ValidateTopicConfig({.retention_age = absl::Microseconds(1500)});
  CHECK(Names(status, "retention.ms"));
  CHECK(Names(status, "1.5ms"));
  CHECK(Names(status, "whole milliseconds"));
}

TEST_CASE("ValidateTopicConfig: negative and too large durations are refused") {
  CHECK(Names(internal::ValidateTopicConfig({.retention_age = -absl::Seconds(1)}), "retention.ms"));
  CHECK(Names(internal::ValidateTopicConfig({.delete_retention = -absl::InfiniteDuration()}),
              "delete.retention.ms"));
  CHECK(Names(internal::ValidateTopicConfig(
                  {.segment_age = absl::Seconds(std::numeric_limits<std::int64_t>::max())}),
              "segment.ms"));
}

TEST_CASE("ValidateTopicConfig: negative limits and numbers that are no enumerator are refused") {
  CHECK(Names(internal::ValidateTopicConfig({.retention_bytes = -1}), "retention.bytes"));
  CHECK(Names(internal::ValidateTopicConfig({.retention_records = -5}), "retention.records"));
  CHECK(Names(internal::ValidateTopicConfig({.cleanup = static_cast<CleanupPolicy>(9)}),
              "cleanup.policy"));
  CHECK(Names(internal::ValidateTopicConfig({.dirty_ratio_min = std::nan("")}),
              "min.cleanable.dirty.ratio"));
}

TEST_CASE("ValidateTopicConfig: settings that do not fit together are refused") {
  CHECK(Names(internal::ValidateTopicConfig(
                  {.compaction_lag_min = absl::Hours(2), .compaction_lag_max = absl::Hours(1)}),
              "max.compaction.lag.ms"));
  CHECK(Names(internal::ValidateTopicConfig({.backlog_bytes = 1 << 20}), "retain.for.groups"));
  CHECK(internal::ValidateTopicConfig({.retain_for_groups = {"uplink"}, .backlog_bytes = 1 << 20})
            .ok());
}

// --- Names ----------------------------------------------------------------------------------

TEST_CASE("ValidateName: letters, digits, dot, underline and minus, up to 249 of them") {
  CHECK(internal::ValidateName("topic", "orders").ok());
  CHECK(internal::ValidateName("topic", "Orders_2.eu-west").ok());
  CHECK(internal::ValidateName("topic", "-").ok());
  CHECK(internal::ValidateName("topic", std::string(249, 'a')).ok());
}

TEST_CASE("ValidateName: no name can lead out of the directory or be hidden in it") {
  const auto name = GENERATE(as<std::string>(), "", ".", "..", ".hidden", "../etc", "a/b", "a\\b",
                             "a b", "a\n", "caf\xC3\xA9", "a:b", "a*");
  CAPTURE(name);
  CHECK(Names(internal::ValidateName("topic", name), "topic name"));
  CHECK(Names(internal::ValidateName("topic", name), "does not begin with a dot"));
}

TEST_CASE("ValidateName: a NUL byte does not end the check") {
  CHECK(Names(internal::ValidateName("group", std::string("a\0b", 3)), "a\\x00"));
}

TEST_CASE("ValidateName: the message shows a name escaped and shortened") {
  CHECK(Names(internal::ValidateName("topic", "a\nb"), "\"a\\nb\""));
  const absl::Status status = internal::ValidateName("topic", std::string(100'000, 'x'));
  CHECK(Names(status, "100000 bytes"));
  CHECK(status.message().size() < 300);
}

// --- Callbacks ------------------------------------------------------------------------------

TEST_CASE("RebalanceCallback: takes a function with or without the Consumer, or none") {
  // A callback passes it on and does not look at it.
  int place = 0;
  Consumer& consumer = *reinterpret_cast<Consumer*>(&place);
  const RebalanceCallback::Partitions partitions = {{"orders", 1}, {"orders", 2}};
  std::size_t count = 0;
  const Consumer* called_with = nullptr;
  const RebalanceCallback without = [&](const auto& p) { count += p.size(); };
  const RebalanceCallback with = [&](Consumer& c, const auto& p) {
    called_with = &c;
    count += p.size();
  };
  without(consumer, partitions);
  with(consumer, partitions);
  CHECK(count == 4);
  CHECK(called_with == &consumer);
  CHECK(static_cast<bool>(with));
  CHECK_FALSE(static_cast<bool>(RebalanceCallback()));
  RebalanceCallback()(consumer, partitions);  // does nothing
}

}  // namespace
}  // namespace cordwood::options_test
