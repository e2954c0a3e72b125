// JSON, read into a tree.
//
//   JsonValue line = ParseJson(R"({"key": "a", "value": {"n": 1}})").value();
//   line.Find("key")->text;     // "a"
//   line.Find("value")->raw;    // {"n": 1}, as it was written
//
// Thread safety: these are values. `raw` points into what was parsed.

#ifndef CORDWOOD_TOOL_JSON_READER_H_
#define CORDWOOD_TOOL_JSON_READER_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace cordwood::tool {

struct JsonValue {
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  std::string text = {};      // of a string, unescaped
  std::string_view raw = {};  // of anything, as it was written
  std::vector<JsonValue> items = {};
  std::vector<std::pair<std::string, JsonValue>> members = {};  // in the order of the text

  // The last member of that name; null: there is none.
  const JsonValue* Find(std::string_view name) const;
};

// RFC 8259, all of `text`, nested at most 100 deep. kInvalidArgument says what is wrong at which
// byte, counted from 1.
absl::StatusOr<JsonValue> ParseJson(std::string_view text);

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_JSON_READER_H_
