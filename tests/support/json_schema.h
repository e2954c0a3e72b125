// Whether a JSON document is as a schema says: type, required, properties, additionalProperties,
// items, enum, oneOf, pattern, minimum. A schema that uses another word is refused.
//
//   CHECK(BreachesOf(ParseJson(document).value(), ParseJson(schema).value()) == "");

#ifndef CORDWOOD_TESTS_SUPPORT_JSON_SCHEMA_H_
#define CORDWOOD_TESTS_SUPPORT_JSON_SCHEMA_H_

#include <regex>
#include <string>

#include "tool/json_reader.h"

namespace cordwood::testing {

// A line for each breach, with its place.
inline std::string BreachesOf(const tool::JsonValue& value, const tool::JsonValue& schema,
                              const std::string& where = "$") {
  using Kind = tool::JsonValue::Kind;
  std::string breaches;
  const auto breach = [&](const std::string& what) { breaches += where + ": " + what + "\n"; };
  const auto is_type = [&](const std::string& type) {
    switch (value.kind) {
      case Kind::kObject:
        return type == "object";
      case Kind::kArray:
        return type == "array";
      case Kind::kString:
        return type == "string";
      case Kind::kBool:
        return type == "boolean";
      case Kind::kNumber:
        return type == "integer" && value.raw.find_first_of(".eE") == std::string_view::npos;
      case Kind::kNull:
        return type == "null";
    }
    return false;
  };
  const tool::JsonValue* const properties = schema.Find("properties");
  for (const auto& [word, rule] : schema.members) {
    if (word == "type") {
      if (!is_type(rule.text)) breach("is no " + rule.text);
    } else if (word == "required") {
      for (const auto& name : rule.items) {
        if (value.Find(name.text) == nullptr) breach("has no " + name.text);
      }
    } else if (word == "properties") {
      for (const auto& [name, of] : rule.members) {
        const tool::JsonValue* const member = value.Find(name);
        if (member != nullptr) breaches += BreachesOf(*member, of, where + "." + name);
      }
    } else if (word == "additionalProperties") {
      for (const auto& [name, member] : value.members) {
        if (properties == nullptr || properties->Find(name) == nullptr) breach("has " + name);
      }
    } else if (word == "items") {
      for (std::size_t i = 0; i < value.items.size(); ++i) {
        breaches += BreachesOf(value.items[i], rule, where + "[" + std::to_string(i) + "]");
      }
    } else if (word == "enum") {
      bool is_one = false;
      for (const auto& choice : rule.items) is_one |= choice.raw == value.raw;
      if (!is_one) breach(std::string(value.raw) + " is none of " + std::string(rule.raw));
    } else if (word == "oneOf") {
      int fits = 0;
      std::string all;
      for (const auto& choice : rule.items) {
        const std::string of_this = BreachesOf(value, choice, where);
        fits += of_this.empty() ? 1 : 0;
        all += of_this;
      }
      if (fits != 1) breach(std::to_string(fits) + " of oneOf fit\n" + all);
    } else if (word == "pattern") {
      if (!std::regex_search(value.text, std::regex(rule.text))) breach("is not " + rule.text);
    } else if (word == "minimum") {
      if (std::stoll(std::string(value.raw)) < std::stoll(std::string(rule.raw))) {
        breach("is less than " + std::string(rule.raw));
      }
    } else {
      breach("the schema has " + word + ", which is not known here");
    }
  }
  return breaches;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_JSON_SCHEMA_H_
