#include "tool/record_input.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "tool/json_reader.h"
#include "tool/place.h"

namespace cordwood::tool {
namespace {

using Kind = JsonValue::Kind;

absl::Status Bad(std::string_view what) { return absl::InvalidArgumentError(std::string(what)); }

// `name`, or `name`_base64.
absl::Status ReadBytes(const JsonValue& object, const std::string& name,
                       std::optional<std::string>& bytes) {
  if (const JsonValue* plain = object.Find(name); plain != nullptr) {
    if (plain->kind == Kind::kNull) return absl::OkStatus();
    bytes = plain->kind == Kind::kString ? plain->text : std::string(plain->raw);
    return absl::OkStatus();
  }
  const JsonValue* const encoded = object.Find(name + "_base64");
  if (encoded == nullptr || encoded->kind == Kind::kNull) return absl::OkStatus();
  bytes.emplace();
  if (encoded->kind == Kind::kString && absl::Base64Unescape(encoded->text, &*bytes)) {
    return absl::OkStatus();
  }
  return Bad(name + "_base64 is no base64");
}

absl::Status ReadHeaders(const JsonValue& list, InputRecord& record) {
  if (list.kind == Kind::kNull) return absl::OkStatus();
  if (list.kind == Kind::kObject) {
    for (const auto& [name, member] : list.members) {
      std::optional<std::string> bytes;
      CORDWOOD_RETURN_IF_ERROR(ReadBytes(list, name, bytes));
      record.headers.emplace_back(name, std::move(bytes));
    }
    return absl::OkStatus();
  }
  if (list.kind != Kind::kArray) return Bad("headers is no list and no object");
  for (const JsonValue& item : list.items) {
    std::optional<std::string> key, value;
    if (item.kind == Kind::kObject) CORDWOOD_RETURN_IF_ERROR(ReadBytes(item, "key", key));
    if (!key) return Bad("a header has no key");
    CORDWOOD_RETURN_IF_ERROR(ReadBytes(item, "value", value));
    record.headers.emplace_back(*std::move(key), std::move(value));
  }
  return absl::OkStatus();
}

// Whichever unit gives a year that people mean.
absl::Time TimeOfNumber(double number) {
  constexpr double kSecondsMax = 1e11;
  if (number < kSecondsMax) return absl::UnixEpoch() + absl::Seconds(number);
  if (number < kSecondsMax * 1e3) return absl::UnixEpoch() + absl::Milliseconds(number);
  if (number < kSecondsMax * 1e6) return absl::UnixEpoch() + absl::Microseconds(number);
  return absl::UnixEpoch() + absl::Nanoseconds(number);
}

// A record keeps nanoseconds since 1970 in 64 bits: any other time would become the last of these.
absl::StatusOr<absl::Time> InRange(absl::Time time) {
  using Limits = std::numeric_limits<std::int64_t>;
  if (time >= absl::FromUnixNanos(Limits::min()) && time <= absl::FromUnixNanos(Limits::max())) {
    return time;
  }
  return Bad("its time is not from 1677 to 2262, as those of records are");
}

absl::StatusOr<absl::Time> ReadTime(const JsonValue& value) {
  double number = 0;
  const absl::string_view raw(value.raw.data(), value.raw.size());
  if (value.kind == Kind::kNumber && absl::SimpleAtod(raw, &number)) {
    return InRange(TimeOfNumber(number));
  }
  if (value.kind != Kind::kString) return Bad(absl::StrCat("\"", raw, "\" is no time"));
  CORDWOOD_ASSIGN_OR_RETURN(const absl::Time time, ParseTime(value.text));
  return InRange(time);
}

absl::StatusOr<int> ReadPartition(absl::string_view text) {
  int number = 0;
  if (absl::SimpleAtoi(text, &number) && number >= 0) return number;
  return Bad(absl::StrCat("\"", text, "\" is no partition"));
}

absl::StatusOr<JsonValue> ParseObject(std::string_view text) {
  CORDWOOD_ASSIGN_OR_RETURN(JsonValue object, ParseJson(text));
  if (object.kind != Kind::kObject) return Bad("it is no JSON object");
  return object;
}

}  // namespace

Record InputRecord::ToRecord(std::vector<Header>& header_views) const {
  header_views.clear();
  for (const auto& [name, bytes] : headers) {
    header_views.push_back({name, bytes ? Bytes(*bytes) : Bytes()});
  }
  return {.key = key ? Bytes(*key) : Bytes(),
          .value = value ? Bytes(*value) : Bytes(),
          .headers = header_views,
          .timestamp = timestamp,
          .partition = partition};
}

absl::StatusOr<InputRecord> ParseJsonRecord(std::string_view line) {
  CORDWOOD_ASSIGN_OR_RETURN(const JsonValue object, ParseObject(line));
  InputRecord record;
  CORDWOOD_RETURN_IF_ERROR(ReadBytes(object, "key", record.key));
  CORDWOOD_RETURN_IF_ERROR(ReadBytes(object, "value", record.value));
  if (const JsonValue* headers = object.Find("headers"); headers != nullptr) {
    CORDWOOD_RETURN_IF_ERROR(ReadHeaders(*headers, record));
  }
  if (const JsonValue* time = object.Find("timestamp");
      time != nullptr && time->kind != Kind::kNull) {
    CORDWOOD_ASSIGN_OR_RETURN(record.timestamp, ReadTime(*time));
  }
  if (const JsonValue* partition = object.Find("partition");
      partition != nullptr && partition->kind != Kind::kNull) {
    CORDWOOD_ASSIGN_OR_RETURN(record.partition, ReadPartition(absl::string_view(
                                                    partition->raw.data(), partition->raw.size())));
  }
  return record;
}

absl::StatusOr<bool> CsvReader::Add(std::string_view line) {
  // Of a line that ends with "\r\n". Inside quotes it is of the field, which goes on.
  const bool has_return = line.ends_with('\r');
  if (is_quoted_) {
    field_ += '\n';
  } else {
    fields_.clear();
  }
  for (std::size_t at = 0;;) {
    if (!is_quoted_ && at < line.size() && line[at] == '"') {
      is_quoted_ = true;
      field_.clear();
      ++at;
    }
    if (is_quoted_) {
      for (;; ++at) {
        const std::size_t quote = line.find('"', at);
        field_ += line.substr(at, quote - at);
        if (quote == std::string_view::npos) return false;
        at = quote + 1;
        if (at >= line.size() || line[at] != '"') break;
        field_ += '"';
      }
      is_quoted_ = false;
      fields_.push_back(std::move(field_));
      if (has_return && at + 1 == line.size()) return true;
      if (at < line.size() && line[at] != ',') {
        return Bad(absl::StrCat("field ", fields_.size(), " goes on behind its closing quote"));
      }
    } else {
      const std::size_t comma = line.find(',', at);
      std::string_view field = line.substr(at, comma - at);
      if (has_return && comma == std::string_view::npos) field.remove_suffix(1);
      fields_.push_back(field.empty() ? std::nullopt : std::optional<std::string>(field));
      at = comma == std::string_view::npos ? line.size() : comma;
    }
    if (at >= line.size()) return true;
    ++at;
  }
}

absl::StatusOr<InputRecord> ParseCsvRecord(const CsvFields& names, const CsvFields& fields) {
  if (fields.size() != names.size()) {
    return Bad(
        absl::StrCat("it has ", fields.size(), " fields, and the first line names ", names.size()));
  }
  InputRecord record;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::optional<std::string>& field = fields[i];
    if (!field || !names[i]) continue;
    if (*names[i] == "key") record.key = field;
    if (*names[i] == "value") record.value = field;
    if (*names[i] == "timestamp") {
      double number = 0;
      absl::Time time;
      if (absl::SimpleAtod(*field, &number)) {
        time = TimeOfNumber(number);
      } else {
        CORDWOOD_ASSIGN_OR_RETURN(time, ParseTime(*field));
      }
      CORDWOOD_ASSIGN_OR_RETURN(record.timestamp, InRange(time));
    }
    if (*names[i] == "partition") {
      CORDWOOD_ASSIGN_OR_RETURN(record.partition, ReadPartition(*field));
    }
    if (*names[i] == "headers") {
      CORDWOOD_ASSIGN_OR_RETURN(const JsonValue headers, ParseJson(*field));
      CORDWOOD_RETURN_IF_ERROR(ReadHeaders(headers, record));
    }
  }
  return record;
}

absl::StatusOr<absl::Time> TimeInJson(std::string_view value, const std::string& field) {
  CORDWOOD_ASSIGN_OR_RETURN(const JsonValue object, ParseObject(value));
  const JsonValue* const found = object.Find(field);
  if (found == nullptr) return Bad("it has no field \"" + field + "\"");
  return ReadTime(*found);
}

absl::StatusOr<std::string> TextInJson(std::string_view value, const std::string& field) {
  CORDWOOD_ASSIGN_OR_RETURN(const JsonValue object, ParseObject(value));
  const JsonValue* const found = object.Find(field);
  if (found == nullptr) return Bad("it has no field \"" + field + "\"");
  return found->kind == Kind::kString ? found->text : std::string(found->raw);
}

}  // namespace cordwood::tool
