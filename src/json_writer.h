// JSON, written front to back into a string.
//
//   JsonWriter json;
//   json.BeginObject();
//   json.Key("name").String("orders");
//   json.Key("offsets").BeginArray();
//   json.Number(0);
//   json.EndArray();
//   json.EndObject();
//   std::move(json).Take();   // {"name":"orders","offsets":[0]}
//
// Strings have to be UTF-8; IsUtf8() says whether they are.
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_JSON_WRITER_H_
#define CORDWOOD_JSON_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace cordwood::internal {

// Well-formed as in Unicode 15, table 3-7: nothing overlong, no surrogates.
bool IsUtf8(std::string_view text);

// In quotes, escaped. What is no UTF-8 becomes U+FFFD, byte for byte.
void AppendJsonString(std::string_view text, std::string& out);

class JsonWriter {
 public:
  // Lines with two spaces for each level, for people; else all on one line.
  explicit JsonWriter(bool pretty = false) : pretty_(pretty) {}

  JsonWriter& BeginObject() { return Begin('{'); }
  JsonWriter& EndObject() { return End('}'); }
  JsonWriter& BeginArray() { return Begin('['); }
  JsonWriter& EndArray() { return End(']'); }

  JsonWriter& Key(std::string_view key);
  JsonWriter& String(std::string_view text);
  JsonWriter& Number(std::int64_t number) { return Raw(std::to_string(number)); }
  JsonWriter& Number(double number);
  JsonWriter& Bool(bool value) { return Raw(value ? "true" : "false"); }
  JsonWriter& Null() { return Raw("null"); }
  // A value that is JSON already.
  JsonWriter& Json(std::string_view value) { return Raw(value); }

  const std::string& text() const { return text_; }
  std::string Take() && { return std::move(text_); }

 private:
  JsonWriter& Begin(char bracket);
  JsonWriter& End(char bracket);
  JsonWriter& Raw(std::string_view text);
  void BeforeValue();
  void NewLine();

  const bool pretty_;
  std::string text_;
  std::size_t depth_ = 0;
  bool is_first_ = true;    // in its object or array
  bool after_key_ = false;  // a value comes, not another element
};

}  // namespace cordwood::internal

#endif  // CORDWOOD_JSON_WRITER_H_
