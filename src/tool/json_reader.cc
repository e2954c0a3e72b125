#include "tool/json_reader.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"

namespace cordwood::tool {
namespace {

constexpr int kDepthMax = 100;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void AppendUtf8(std::uint32_t code, std::string& out) {
  const auto put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  absl::StatusOr<JsonValue> ParseAll() {
    JsonValue value;
    CORDWOOD_RETURN_IF_ERROR(Value(value, 0));
    SkipSpace();
    if (at_ != text_.size()) return Wrong("something comes after the value");
    return value;
  }

 private:
  absl::Status Wrong(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("no JSON: ", std::string(what), ", at byte ", at_ + 1));
  }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void SkipSpace() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }
  bool Take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  absl::Status Value(JsonValue& value, int depth) {
    if (depth > kDepthMax) return Wrong("it is nested too deep");
    SkipSpace();
    const std::size_t begin = at_;
    absl::Status status;
    if (Peek() == '{') {
      status = Object(value, depth);
    } else if (Peek() == '[') {
      status = Array(value, depth);
    } else if (Peek() == '"') {
      value.kind = JsonValue::Kind::kString;
      status = String(value.text);
    } else if (Take("null")) {
      value.kind = JsonValue::Kind::kNull;
    } else if (Take("true") || Take("false")) {
      value.kind = JsonValue::Kind::kBool;
    } else {
      value.kind = JsonValue::Kind::kNumber;
      status = Number();
    }
    value.raw = text_.substr(begin, at_ - begin);
    return status;
  }

  absl::Status Object(JsonValue& value, int depth) {
    value.kind = JsonValue::Kind::kObject;
    ++at_;
    SkipSpace();
    if (Take("}")) return absl::OkStatus();
    for (;;) {
      SkipSpace();
      if (Peek() != '"') return Wrong("a name in quotes is missing");
      auto& [name, member] = value.members.emplace_back(std::string(), JsonValue());
      CORDWOOD_RETURN_IF_ERROR(String(name));
      SkipSpace();
      if (!Take(":")) return Wrong("a colon is missing");
      CORDWOOD_RETURN_IF_ERROR(Value(member, depth + 1));
      SkipSpace();
      if (Take("}")) return absl::OkStatus();
      if (!Take(",")) return Wrong("a comma or a brace is missing");
    }
  }

  absl::Status Array(JsonValue& value, int depth) {
    value.kind = JsonValue::Kind::kArray;
    ++at_;
    SkipSpace();
    if (Take("]")) return absl::OkStatus();
    for (;;) {
      CORDWOOD_RETURN_IF_ERROR(Value(value.items.emplace_back(), depth + 1));
      SkipSpace();
      if (Take("]")) return absl::OkStatus();
      if (!Take(",")) return Wrong("a comma or a bracket is missing");
    }
  }

  absl::Status Number() {
    Take("-");
    if (!Take("0") && !Digits()) return Wrong("there is no value");
    if (Take(".") && !Digits()) return Wrong("a digit is missing");
    if (Take("e") || Take("E")) {
      if (!Take("+")) Take("-");
      if (!Digits()) return Wrong("a digit is missing");
    }
    return absl::OkStatus();
  }
  bool Digits() {
    const std::size_t begin = at_;
    while (IsDigit(Peek())) ++at_;
    return at_ != begin;
  }

  absl::Status String(std::string& out) {
    ++at_;
    for (;;) {
      const std::size_t plain = text_.find_first_of("\"\\", at_);
      if (plain == std::string_view::npos) return Wrong("a string has no end");
      for (std::size_t i = at_; i < plain; ++i) {
        if (static_cast<unsigned char>(text_[i]) < 0x20) {
          at_ = i;
          return Wrong("a control character in a string is not escaped");
        }
      }
      out.append(text_.substr(at_, plain - at_));
      at_ = plain;
      if (Take("\"")) return absl::OkStatus();
      CORDWOOD_RETURN_IF_ERROR(Escape(out));
    }
  }

  absl::Status Escape(std::string& out) {
    ++at_;
    constexpr std::string_view kLetters = "\"\\/bfnrt";
    constexpr std::string_view kMeant = "\"\\/\b\f\n\r\t";
    if (const std::size_t known = kLetters.find(Peek());
        at_ < text_.size() && known != std::string_view::npos) {
      out += kMeant[known];
      ++at_;
      return absl::OkStatus();
    }
    std::uint32_t code = 0;
    if (!Hex(code)) return Wrong("an escape is unknown");
    if (code >= 0xdc00 && code <= 0xdfff) return Wrong("half of a surrogate pair is missing");
    if (code >= 0xd800 && code <= 0xdbff) {
      std::uint32_t low = 0;
      if (!Take("\\") || !Hex(low) || low < 0xdc00 || low > 0xdfff) {
        return Wrong("half of a surrogate pair is missing");
      }
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    AppendUtf8(code, out);
    return absl::OkStatus();
  }
  // "u00e9"
  bool Hex(std::uint32_t& code) {
    if (Peek() != 'u' || text_.size() - at_ < 5) return false;
    code = 0;
    for (std::size_t i = at_ + 1; i < at_ + 5; ++i) {
      constexpr std::string_view kDigits = "0123456789abcdef0123456789ABCDEF";
      const std::size_t digit = kDigits.find(text_[i]);
      if (digit == std::string_view::npos) return false;
      code = code << 4 | static_cast<std::uint32_t>(digit % 16);
    }
    at_ += 5;
    return true;
  }

  const std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

const JsonValue* JsonValue::Find(std::string_view name) const {
  for (auto it = members.rbegin(); it != members.rend(); ++it) {
    if (it->first == name) return &it->second;
  }
  return nullptr;
}

absl::StatusOr<JsonValue> ParseJson(std::string_view text) { return Parser(text).ParseAll(); }

}  // namespace cordwood::tool
