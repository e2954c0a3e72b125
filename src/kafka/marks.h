// The few words that the bridges leave behind, to know later how far they were: a header in each
// record, and the metadata of a commit. Pure functions; what they parse may be anybody's bytes.

#ifndef CORDWOOD_KAFKA_MARKS_H_
#define CORDWOOD_KAFKA_MARKS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace cordwood::kafka::internal {

// The header of a record that was carried over, and what its value says: "<origin>/3/4711". The
// origin is a topic's id, or "<cluster id>/<topic>".
inline constexpr std::string_view kForwardedHeader = "cordwood.source";
inline constexpr std::string_view kImportedHeader = "kafka.source";

struct Source {
  std::string origin = {};
  int partition = 0;
  std::int64_t offset = 0;

  friend bool operator==(const Source&, const Source&) = default;
};
std::string FormatSource(const Source& source);
// None: it is not one.
std::optional<Source> ParseSource(std::string_view text);

// Where the partitions of the other side ended, by their numbers: "ends 0:4711 1:13".
using Ends = std::map<int, std::int64_t>;
std::string FormatEnds(const Ends& ends);
std::optional<Ends> ParseEnds(std::string_view text);

// What a forwarder's commit says beside the offset: where to, and where that ended.
// "to <cluster id>/orders ends 0:4711 1:13"
struct Reached {
  std::string target = {};  // "<cluster id>/<topic>"
  Ends ends = {};

  friend bool operator==(const Reached&, const Reached&) = default;
};
std::string FormatReached(const Reached& reached);
std::optional<Reached> ParseReached(std::string_view text);

}  // namespace cordwood::kafka::internal

#endif  // CORDWOOD_KAFKA_MARKS_H_
