// Records as people write them: a line of JSON, or of CSV; and what a field of a JSON value says.
//
//   InputRecord record = ParseJsonRecord(R"({"key":"k","value":"v"})").value();
//   record.ToRecord();   // points into it
//
// Thread safety: functions of values.

#ifndef CORDWOOD_TOOL_RECORD_INPUT_H_
#define CORDWOOD_TOOL_RECORD_INPUT_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/record.h"

namespace cordwood::tool {

struct InputRecord {
  std::optional<std::string> key = {}, value = {};
  std::vector<std::pair<std::string, std::optional<std::string>>> headers = {};
  std::optional<absl::Time> timestamp = {};
  std::optional<int> partition = {};

  // Points into this; `header_views` holds the list that the headers are in.
  Record ToRecord(std::vector<Header>& header_views) const;
};

// As AppendJsonRecord() writes it; every member may be missing. A value that is no string is taken
// as it is written. "headers" may be an object, too. "topic" and "offset" are not looked at.
absl::StatusOr<InputRecord> ParseJsonRecord(std::string_view line);

// Fields of CSV; none: nothing stood there.
using CsvFields = std::vector<std::optional<std::string>>;

// The records of CSV, whose quoted fields may go on over many lines.
class CsvReader {
 public:
  // The next line, without its "\n". False: it ends within a quoted field.
  absl::StatusOr<bool> Add(std::string_view line);
  // Of the record that has ended with the last line.
  const CsvFields& fields() const { return fields_; }
  bool is_within() const { return is_quoted_; }

 private:
  CsvFields fields_;
  std::string field_;  // that is_quoted_ speaks of
  bool is_quoted_ = false;
};

// `names` are those of the first line; what is not known is not looked at.
absl::StatusOr<InputRecord> ParseCsvRecord(const CsvFields& names, const CsvFields& fields);

// A member of a JSON object as a time: RFC 3339, or a number of seconds, milliseconds, microseconds
// or nanoseconds since 1970, whichever gives a year from 1973 to 5138. Records can have times from
// 1677 to 2262.
absl::StatusOr<absl::Time> TimeInJson(std::string_view value, const std::string& field);
// As text.
absl::StatusOr<std::string> TextInJson(std::string_view value, const std::string& field);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_RECORD_INPUT_H_
