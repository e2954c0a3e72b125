#include "cordwood/options.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace cordwood {
namespace {

absl::string_view ToAbsl(std::string_view s) { return absl::string_view(s.data(), s.size()); }

// What a caller handed in, fit for a message: printable, in quotes, at most 64 characters of it.
std::string Quoted(std::string_view text) {
  constexpr std::size_t kShown = 64;
  const std::string shown = absl::CHexEscape(ToAbsl(text.substr(0, kShown)));
  if (text.size() <= kShown) return absl::StrCat("\"", shown, "\"");
  return absl::StrCat("\"", shown, "...\" (", text.size(), " bytes)");
}

absl::Status Bad(std::string_view property, std::string_view value, std::string_view wanted) {
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(property), ": ", Quoted(value), " is not ", ToAbsl(wanted)));
}

// --- Values ---------------------------------------------------------------------------------

constexpr std::int64_t kMillisMax = std::numeric_limits<std::int64_t>::max();

std::string_view Strip(std::string_view s) {
  const absl::string_view stripped = absl::StripAsciiWhitespace(ToAbsl(s));
  return std::string_view(stripped.data(), stripped.size());
}

// All of `text` has to be the number.
template <class Number>
bool ParseNumber(std::string_view text, Number* out) {
  Number number = {};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) return false;
  *out = number;
  return true;
}

absl::Status ParseCount(std::string_view property, std::string_view value, int* out) {
  if (ParseNumber(value, out)) return absl::OkStatus();
  return Bad(property, value, "a whole number");
}

absl::Status ParseBytes(std::string_view property, std::string_view value, std::int64_t* out) {
  if (ParseNumber(value, out)) return absl::OkStatus();
  return Bad(property, value, "a whole number of bytes");
}

// -1, or as in Kafka the largest number there is: no limit.
absl::Status ParseLimit(std::string_view property, std::string_view value, std::int64_t* out) {
  std::int64_t limit = 0;
  if (!ParseNumber(value, &limit) || limit < -1) {
    return Bad(property, value, "a whole number, or -1 for no limit");
  }
  *out = limit == -1 ? kUnlimited : limit;
  return absl::OkStatus();
}

absl::Status ParseMillis(std::string_view property, std::string_view value, absl::Duration* out) {
  std::int64_t millis = 0;
  if (!ParseNumber(value, &millis) || millis < -1) {
    return Bad(property, value, "a whole number of milliseconds, or -1 for no limit");
  }
  const bool infinite = millis == -1 || millis == kMillisMax;
  *out = infinite ? absl::InfiniteDuration() : absl::Milliseconds(millis);
  return absl::OkStatus();
}

absl::Status ParseRatio(std::string_view property, std::string_view value, double* out) {
  if (ParseNumber(value, out)) return absl::OkStatus();
  return Bad(property, value, "a number from 0 to 1");
}

std::string FormatLimit(std::int64_t limit) {
  return limit == kUnlimited ? "-1" : std::to_string(limit);
}

std::string FormatMillis(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return "-1";
  return std::to_string(absl::ToInt64Milliseconds(duration));
}

// The shortest text that reads back as the same double, whatever the locale.
std::string FormatRatio(double ratio) {
  std::array<char, 32> text;
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), ratio);
  return error == std::errc() ? std::string(text.data(), end) : "0.5";
}

// --- Words for enumerators ------------------------------------------------------------------

template <class Enum>
struct Word {
  Enum value;
  std::string_view word;
};

constexpr Word<CleanupPolicy> kCleanupWords[] = {
    {CleanupPolicy::kDelete, "delete"},
    {CleanupPolicy::kCompact, "compact"},
    {CleanupPolicy::kCompactAndDelete, "compact,delete"},
};
constexpr Word<TimestampType> kTimestampWords[] = {
    {TimestampType::kCreateTime, "CreateTime"},
    {TimestampType::kAppendTime, "LogAppendTime"},
};
constexpr Word<RetentionClock> kClockWords[] = {
    {RetentionClock::kAppend, "append"},
    {RetentionClock::kRecord, "record"},
};
constexpr Word<BacklogPolicy> kBacklogWords[] = {
    {BacklogPolicy::kBlock, "block"},
    {BacklogPolicy::kFail, "fail"},
    {BacklogPolicy::kDropOldest, "drop-oldest"},
};

template <class Enum, std::size_t kCount>
std::string FormatWord(const Word<Enum> (&words)[kCount], Enum value) {
  for (const auto& entry : words) {
    if (entry.value == value) return std::string(entry.word);
  }
  return std::to_string(static_cast<int>(value));  // not an enumerator: Validate refuses it
}

template <class Enum, std::size_t kCount>
bool IsKnown(const Word<Enum> (&words)[kCount], Enum value) {
  for (const auto& entry : words) {
    if (entry.value == value) return true;
  }
  return false;
}

template <class Enum, std::size_t kCount>
absl::Status ParseWord(const Word<Enum> (&words)[kCount], std::string_view property,
                       std::string_view value, Enum* out) {
  for (const auto& entry : words) {
    if (entry.word == value) {
      *out = entry.value;
      return absl::OkStatus();
    }
  }
  std::string wanted = "one of";
  for (const auto& entry : words) {
    absl::StrAppend(&wanted, " \"", ToAbsl(entry.word), "\"");
  }
  return Bad(property, value, wanted);
}

// Kafka takes the two words in any order.
absl::Status ParseCleanup(std::string_view property, std::string_view value, CleanupPolicy* out) {
  bool compacts = false, deletes = false;
  for (absl::string_view part : absl::StrSplit(ToAbsl(value), ',')) {
    const absl::string_view word = absl::StripAsciiWhitespace(part);
    if (word == "compact") {
      compacts = true;
    } else if (word == "delete") {
      deletes = true;
    } else {
      return Bad(property, value, "\"delete\", \"compact\" or \"compact,delete\"");
    }
  }
  *out = !compacts ? CleanupPolicy::kDelete
         : deletes ? CleanupPolicy::kCompactAndDelete
                   : CleanupPolicy::kCompact;
  return absl::OkStatus();
}

std::vector<std::string> ParseList(std::string_view value) {
  if (value.empty()) return {};
  std::vector<std::string> list;
  for (absl::string_view part : absl::StrSplit(ToAbsl(value), ',')) {
    list.emplace_back(absl::StripAsciiWhitespace(part));
  }
  return list;
}

// --- The table of properties ----------------------------------------------------------------

struct Property {
  std::string_view name;
  std::string (*format)(const TopicConfig&);
  absl::Status (*parse)(std::string_view name, std::string_view value, TopicConfig*);
};

// One row: how `member` is written, and how it is read.
#define CORDWOOD_PROPERTY(name, member, format, parse)                               \
  {                                                                                  \
    name, [](const TopicConfig& c) -> std::string { return format(c.member); },      \
        [](std::string_view n, std::string_view v, TopicConfig* c) -> absl::Status { \
          return parse(n, v, &c->member);                                            \
        }                                                                            \
  }
#define CORDWOOD_WORD(name, member, words)                                                 \
  {                                                                                        \
    name, [](const TopicConfig& c) -> std::string { return FormatWord(words, c.member); }, \
        [](std::string_view n, std::string_view v, TopicConfig* c) -> absl::Status {       \
          return ParseWord(words, n, v, &c->member);                                       \
        }                                                                                  \
  }

std::string FormatNumber(std::int64_t number) { return std::to_string(number); }
std::string FormatCleanup(CleanupPolicy policy) { return FormatWord(kCleanupWords, policy); }
std::string FormatText(const std::string& text) { return text; }
std::string FormatList(const std::vector<std::string>& list) { return absl::StrJoin(list, ","); }
absl::Status ParseText(std::string_view, std::string_view value, std::string* out) {
  *out = std::string(value);
  return absl::OkStatus();
}
absl::Status ParseGroups(std::string_view, std::string_view value, std::vector<std::string>* out) {
  *out = ParseList(value);
  return absl::OkStatus();
}

// The first rows are Kafka's names; those after the gap are ours, in its style.
constexpr Property kProperties[] = {
    CORDWOOD_PROPERTY("cleanup.policy", cleanup, FormatCleanup, ParseCleanup),
    CORDWOOD_PROPERTY("delete.retention.ms", delete_retention, FormatMillis, ParseMillis),
    CORDWOOD_PROPERTY("index.interval.bytes", index_interval_bytes, FormatNumber, ParseBytes),
    CORDWOOD_PROPERTY("max.compaction.lag.ms", compaction_lag_max, FormatMillis, ParseMillis),
    CORDWOOD_PROPERTY("max.message.bytes", max_message_bytes, FormatNumber, ParseBytes),
    CORDWOOD_WORD("message.timestamp.type", timestamp_type, kTimestampWords),
    CORDWOOD_PROPERTY("min.cleanable.dirty.ratio", dirty_ratio_min, FormatRatio, ParseRatio),
    CORDWOOD_PROPERTY("min.compaction.lag.ms", compaction_lag_min, FormatMillis, ParseMillis),
    CORDWOOD_PROPERTY("retention.bytes", retention_bytes, FormatLimit, ParseLimit),
    CORDWOOD_PROPERTY("retention.ms", retention_age, FormatMillis, ParseMillis),
    CORDWOOD_PROPERTY("segment.bytes", segment_bytes, FormatNumber, ParseBytes),
    CORDWOOD_PROPERTY("segment.ms", segment_age, FormatMillis, ParseMillis),

    CORDWOOD_PROPERTY("backlog.bytes", backlog_bytes, FormatLimit, ParseLimit),
    CORDWOOD_WORD("backlog.policy", backlog_policy, kBacklogWords),
    CORDWOOD_PROPERTY("partitioner", partitioner, FormatText, ParseText),
    CORDWOOD_PROPERTY("partitions", partitions, FormatNumber, ParseCount),
    CORDWOOD_PROPERTY("retain.for.groups", retain_for_groups, FormatList, ParseGroups),
    CORDWOOD_PROPERTY("retain.for.groups.bytes", retain_for_groups_bytes, FormatLimit, ParseLimit),
    CORDWOOD_WORD("retention.clock", retention_clock, kClockWords),
    CORDWOOD_PROPERTY("retention.records", retention_records, FormatLimit, ParseLimit),
};

#undef CORDWOOD_PROPERTY
#undef CORDWOOD_WORD

const Property* FindProperty(std::string_view name) {
  for (const Property& property : kProperties) {
    if (property.name == name) return &property;
  }
  return nullptr;
}

// --- Bounds ---------------------------------------------------------------------------------

absl::Status CheckRange(std::string_view property, std::int64_t value, std::int64_t min,
                        std::int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(property), ": ", value, " is not from ", min, " to ", max));
}

absl::Status CheckLimit(std::string_view property, std::int64_t value) {
  if (value >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(property), ": ", value, " is negative; kUnlimited is no limit"));
}

absl::Status CheckDuration(std::string_view property, absl::Duration value, absl::Duration min) {
  const std::string shown = absl::FormatDuration(value);
  if (value < min) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(property), ": ", shown, " is less than ", absl::FormatDuration(min)));
  }
  if (value == absl::InfiniteDuration()) return absl::OkStatus();
  if (value >= absl::Milliseconds(kMillisMax)) {
    return absl::InvalidArgumentError(absl::StrCat(
        ToAbsl(property), ": ", shown, " is too long; absl::InfiniteDuration() is no limit"));
  }
  if (absl::Trunc(value, absl::Milliseconds(1)) != value) {
    return absl::InvalidArgumentError(absl::StrCat(
        ToAbsl(property), ": ", shown, " is kept in whole milliseconds, which this is not"));
  }
  return absl::OkStatus();
}

template <class Enum, std::size_t kCount>
absl::Status CheckWord(std::string_view property, const Word<Enum> (&words)[kCount], Enum value) {
  if (IsKnown(words, value)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(property), ": ", static_cast<int>(value),
                                                 " is not one of its enumerators"));
}

absl::Status CheckGroups(const std::vector<std::string>& groups) {
  for (const std::string& group : groups) {
    const absl::Status status = internal::ValidateName("group", group);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("retain.for.groups: ", status.message()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPartitioner(const std::string& name) {
  const absl::Status status = internal::ValidateName("partitioner", name);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat("partitioner: ", status.message()));
}

// Settings that only make sense beside each other.
absl::Status CheckTogether(const TopicConfig& config) {
  if (config.compaction_lag_min > config.compaction_lag_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "min.compaction.lag.ms: ", absl::FormatDuration(config.compaction_lag_min),
        " is more than max.compaction.lag.ms, ", absl::FormatDuration(config.compaction_lag_max)));
  }
  if (config.backlog_bytes != kUnlimited && config.retain_for_groups.empty()) {
    return absl::InvalidArgumentError(
        "backlog.bytes: is what the slowest of retain.for.groups may lag, and that names no group");
  }
  return absl::OkStatus();
}

}  // namespace

namespace internal {

absl::Status ValidateName(std::string_view kind, std::string_view name) {
  constexpr std::size_t kNameBytesMax = 249;  // Kafka's: with what is added it fits a file's name
  bool good = !name.empty() && name.size() <= kNameBytesMax && name.front() != '.';
  for (const char c : name) {
    good = good &&
           (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-');
  }
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(kind), " name ", Quoted(name), ": a name is 1 to ", kNameBytesMax,
                   " of the characters A-Z a-z 0-9 . _ - and does not begin with a dot"));
}

absl::Status ValidateTopicConfig(const TopicConfig& config) {
  constexpr std::int64_t kGiB = std::int64_t{1} << 30;
  const absl::Duration zero = absl::ZeroDuration();
  absl::Status status;
  status.Update(CheckRange("partitions", config.partitions, 1, 100'000));
  status.Update(CheckRange("segment.bytes", config.segment_bytes, 4096, 2 * kGiB));
  status.Update(CheckDuration("segment.ms", config.segment_age, absl::Milliseconds(1)));
  status.Update(CheckRange("index.interval.bytes", config.index_interval_bytes, 64, kGiB));
  status.Update(CheckRange("max.message.bytes", config.max_message_bytes, 1, kGiB));
  status.Update(CheckDuration("retention.ms", config.retention_age, zero));
  status.Update(CheckLimit("retention.bytes", config.retention_bytes));
  status.Update(CheckWord("cleanup.policy", kCleanupWords, config.cleanup));
  status.Update(CheckWord("message.timestamp.type", kTimestampWords, config.timestamp_type));
  status.Update(CheckPartitioner(config.partitioner));
  status.Update(CheckGroups(config.retain_for_groups));
  status.Update(CheckLimit("retain.for.groups.bytes", config.retain_for_groups_bytes));
  status.Update(CheckLimit("backlog.bytes", config.backlog_bytes));
  status.Update(CheckWord("backlog.policy", kBacklogWords, config.backlog_policy));
  status.Update(CheckLimit("retention.records", config.retention_records));
  status.Update(CheckWord("retention.clock", kClockWords, config.retention_clock));
  status.Update(CheckDuration("delete.retention.ms", config.delete_retention, zero));
  status.Update(CheckDuration("min.compaction.lag.ms", config.compaction_lag_min, zero));
  status.Update(CheckDuration("max.compaction.lag.ms", config.compaction_lag_max, zero));
  if (!(config.dirty_ratio_min >= 0 && config.dirty_ratio_min <= 1)) {  // so that a NaN fails too
    status.Update(absl::InvalidArgumentError(absl::StrCat(
        "min.cleanable.dirty.ratio: ", config.dirty_ratio_min, " is not from 0 to 1")));
  }
  status.Update(CheckTogether(config));
  return status;  // Update keeps the first
}

}  // namespace internal

std::map<std::string, std::string> TopicConfig::ToProperties() const {
  std::map<std::string, std::string> properties;
  for (const Property& property : kProperties) {
    properties.emplace(property.name, property.format(*this));
  }
  return properties;
}

absl::StatusOr<TopicConfig> TopicConfig::FromProperties(
    const std::map<std::string, std::string>& properties) {
  TopicConfig config;
  for (const auto& [name, value] : properties) {
    const Property* property = FindProperty(name);
    if (property == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown property ", Quoted(name), "; there are ",
                       absl::StrJoin(kProperties, ", ", [](std::string* out, const Property& p) {
                         absl::StrAppend(out, ToAbsl(p.name));
                       })));
    }
    absl::Status status = property->parse(property->name, Strip(value), &config);
    if (!status.ok()) return status;
  }
  absl::Status status = internal::ValidateTopicConfig(config);
  if (!status.ok()) return status;
  return config;
}

}  // namespace cordwood
