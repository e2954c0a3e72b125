// JSON as keys and values, for programs that have nlohmann::json. Not included by
// cordwood/cordwood.h, and empty where <nlohmann/json.hpp> cannot be found.
//
//   auto events = broker.NewTypedProducer<std::string, nlohmann::json>("events").value();
//   events.Send("alice", {{"item", "book"}, {"count", 1}}).value();
//
// A type of one's own that has to_json and from_json, in one line:
//
//   struct Order { std::string item; int count; };
//   NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Order, item, count)
//   template <>
//   struct cordwood::Serde<Order> : cordwood::JsonSerde<Order> {};
//
// Bytes that are not JSON, or not such a type, are kInvalidArgument; so is a string that is not
// UTF-8, which JSON cannot write. As a key, an object is written in the order of its names.
//
// Thread safety: the functions keep no state. What they give points at nothing.

#ifndef CORDWOOD_SERDE_JSON_H_
#define CORDWOOD_SERDE_JSON_H_

#if __has_include(<nlohmann/json.hpp>)

#include <exception>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/serde.h"

namespace cordwood {
namespace internal {

// The library of JSON throws, cordwood does not.
template <class F>
absl::Status WithoutThrowing(F f) {
#if defined(__cpp_exceptions)
  try {
    f();
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(error.what());
  }
#else
  f();
#endif
  return absl::OkStatus();
}

}  // namespace internal

// What a Serde of a type that has to_json and from_json inherits.
template <class T>
struct JsonSerde {
  static absl::Status Serialize(const T& value, std::string& out) {
    return internal::WithoutThrowing([&] { out += nlohmann::json(value).dump(); });
  }

  static absl::StatusOr<T> Deserialize(std::string_view bytes) {
    constexpr bool kMayThrow = false;
    const nlohmann::json json =
        nlohmann::json::parse(bytes.begin(), bytes.end(), nullptr, kMayThrow);
    if (json.is_discarded()) return absl::InvalidArgumentError("the bytes are not JSON");
    std::optional<T> value;
    absl::Status status = internal::WithoutThrowing([&] { value.emplace(json.template get<T>()); });
    if (!status.ok()) return status;
    return *std::move(value);
  }
};

// JSON of whatever kind.
template <>
struct Serde<nlohmann::json> : JsonSerde<nlohmann::json> {};

}  // namespace cordwood

#endif  // __has_include(<nlohmann/json.hpp>)

#endif  // CORDWOOD_SERDE_JSON_H_
