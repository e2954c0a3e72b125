#include "tool/record_format.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "json_writer.h"
#include "tool/output.h"

namespace cordwood::tool {
namespace {

using internal::AppendJsonString;
using internal::IsUtf8;

absl::Status Unknown(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("the format has \"", std::string(what),
                   "\", which means nothing\n  There are %s %S %R %k %K %T %h %t %p %o %% and "
                   "\\n \\r \\t \\\\ \\0 \\xNN."));
}

// The character that an escape means; `at` is behind the backslash, and then behind it all.
absl::StatusOr<char> Escaped(std::string_view format, std::size_t& at) {
  constexpr std::string_view kLetters = "nrt\\0";
  constexpr std::string_view kMeant{"\n\r\t\\\0", 5};
  const char letter = at < format.size() ? format[at] : '\0';
  if (at < format.size() && letter == 'x' && at + 2 < format.size()) {
    std::uint32_t code = 0;
    if (absl::SimpleHexAtoi(absl::string_view(format.data() + at + 1, 2), &code)) {
      at += 3;
      return static_cast<char>(code);
    }
  }
  const std::size_t known = kLetters.find(letter);
  if (at >= format.size() || known == std::string_view::npos) {
    return Unknown(format.substr(at - 1, 2));
  }
  ++at;
  return kMeant[known];
}

void AppendLength(const std::optional<std::string_view>& bytes, std::string& out) {
  absl::StrAppend(&out, bytes ? static_cast<std::int64_t>(bytes->size()) : -1);
}

void AppendBigEndianLength(const std::optional<std::string_view>& bytes, std::string& out) {
  const auto length = static_cast<std::uint32_t>(bytes ? bytes->size() : ~std::size_t{0});
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(length >> shift);
}

void AppendHeaders(const RecordView& record, std::string& out) {
  bool is_first = true;
  for (const Header& header : record.headers()) {
    if (!is_first) out += ',';
    is_first = false;
    out += header.key;
    out += '=';
    out += header.value.get().value_or("");
  }
}

// "name":"text", "name_base64":"..." or "name":null
void AppendJsonBytes(std::string_view name, const std::optional<std::string_view>& bytes,
                     std::string& out) {
  out += '"';
  out += name;
  if (!bytes) {
    out += "\":null";
  } else if (IsUtf8(*bytes)) {
    out += "\":";
    AppendJsonString(*bytes, out);
  } else {
    absl::StrAppend(&out, "_base64\":\"",
                    absl::Base64Escape(absl::string_view(bytes->data(), bytes->size())), "\"");
  }
}

void AppendCsvField(const std::optional<std::string_view>& bytes, std::string& out) {
  if (!bytes) return;
  if (!bytes->empty() && bytes->find_first_of(",\"\r\n") == std::string_view::npos) {
    out += *bytes;
    return;
  }
  out += '"';
  for (const char c : *bytes) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

}  // namespace

absl::StatusOr<RecordFormat> RecordFormat::Parse(std::string_view format) {
  constexpr std::string_view kLetters = "sSRkKThtpo";
  RecordFormat parsed;
  std::string text;
  for (std::size_t at = 0; at < format.size();) {
    if (format[at] == '\\') {
      ++at;
      absl::StatusOr<char> c = Escaped(format, at);
      if (!c.ok()) return c.status();
      text += *c;
    } else if (format[at] == '%') {
      const char letter = at + 1 < format.size() ? format[at + 1] : '\0';
      if (letter == '%') {
        text += '%';
      } else if (letter != '\0' && kLetters.find(letter) != std::string_view::npos) {
        if (!text.empty()) parsed.parts_.push_back({.text = std::move(text)});
        text.clear();
        parsed.parts_.push_back({.letter = letter});
      } else {
        return Unknown(format.substr(at, 2));
      }
      at += 2;
    } else {
      text += format[at++];
    }
  }
  if (!text.empty()) parsed.parts_.push_back({.text = std::move(text)});
  return parsed;
}

void RecordFormat::Append(const RecordView& record, std::string& out) const {
  for (const Part& part : parts_) {
    switch (part.letter) {
      case 0:
        out += part.text;
        break;
      case 's':
        out += record.value().value_or("");
        break;
      case 'S':
        AppendLength(record.value(), out);
        break;
      case 'R':
        AppendBigEndianLength(record.value(), out);
        break;
      case 'k':
        out += record.key().value_or("");
        break;
      case 'K':
        AppendLength(record.key(), out);
        break;
      case 'T':
        absl::StrAppend(&out, absl::ToUnixMillis(record.timestamp()));
        break;
      case 'h':
        AppendHeaders(record, out);
        break;
      case 't':
        out += record.topic();
        break;
      case 'p':
        absl::StrAppend(&out, record.partition());
        break;
      default:  // 'o', as Parse() lets no other through
        absl::StrAppend(&out, record.offset());
        break;
    }
  }
}

void AppendJsonHeaders(const RecordView& record, std::string& out) {
  out += '[';
  bool is_first = true;
  for (const Header& header : record.headers()) {
    out += is_first ? "{" : ",{";
    is_first = false;
    AppendJsonBytes("key", header.key, out);
    out += ',';
    AppendJsonBytes("value", header.value.get(), out);
    out += '}';
  }
  out += ']';
}

void AppendJsonRecord(const RecordView& record, std::string& out) {
  out += "{\"topic\":";
  AppendJsonString(record.topic(), out);
  absl::StrAppend(&out, ",\"partition\":", record.partition(), ",\"offset\":", record.offset(),
                  ",\"timestamp\":\"");
  out += ExactTimeText(record.timestamp());
  out += "\",";
  AppendJsonBytes("key", record.key(), out);
  out += ',';
  AppendJsonBytes("value", record.value(), out);
  out += ",\"headers\":";
  AppendJsonHeaders(record, out);
  out += "}\n";
}

void AppendCsvRecord(const RecordView& record, std::string& out) {
  absl::StrAppend(&out, record.partition(), ",", record.offset(), ",");
  out += ExactTimeText(record.timestamp());
  out += ',';
  AppendCsvField(record.key(), out);
  out += ',';
  AppendCsvField(record.value(), out);
  out += ',';
  if (!record.headers().empty()) {
    std::string headers;
    AppendJsonHeaders(record, headers);
    AppendCsvField(headers, out);
  }
  out += '\n';
}

}  // namespace cordwood::tool
