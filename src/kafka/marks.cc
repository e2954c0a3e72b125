#include "kafka/marks.h"

#include <charconv>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace cordwood::kafka::internal {
namespace {

constexpr std::string_view kEndsWord = "ends";
constexpr std::string_view kToWord = "to ";

template <class Number>
std::optional<Number> ParseNumber(std::string_view text) {
  Number number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end || number < 0) return std::nullopt;
  return number;
}

}  // namespace

std::string FormatSource(const Source& source) {
  return absl::StrCat(source.origin, "/", source.partition, "/", source.offset);
}

std::optional<Source> ParseSource(std::string_view text) {
  const std::size_t last = text.rfind('/');
  if (last == std::string_view::npos || last == 0) return std::nullopt;
  const std::size_t middle = text.rfind('/', last - 1);
  if (middle == std::string_view::npos) return std::nullopt;
  const auto partition = ParseNumber<int>(text.substr(middle + 1, last - middle - 1));
  const auto offset = ParseNumber<std::int64_t>(text.substr(last + 1));
  if (!partition || !offset) return std::nullopt;
  return Source{std::string(text.substr(0, middle)), *partition, *offset};
}

std::string FormatEnds(const Ends& ends) {
  std::string text(kEndsWord);
  for (const auto& [partition, end] : ends) absl::StrAppend(&text, " ", partition, ":", end);
  return text;
}

std::optional<Ends> ParseEnds(std::string_view text) {
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(text.data(), text.size()), ' ');
  if (words.front() != kEndsWord) return std::nullopt;
  Ends ends;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const std::size_t colon = word.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const auto partition = ParseNumber<int>(word.substr(0, colon));
    const auto end = ParseNumber<std::int64_t>(word.substr(colon + 1));
    if (!partition || !end) return std::nullopt;
    ends[*partition] = *end;
  }
  return ends;
}

std::string FormatReached(const Reached& reached) {
  return absl::StrCat(absl::string_view(kToWord.data(), kToWord.size()), reached.target, " ",
                      FormatEnds(reached.ends));
}

std::optional<Reached> ParseReached(std::string_view text) {
  if (!text.starts_with(kToWord)) return std::nullopt;
  text.remove_prefix(kToWord.size());
  const std::size_t space = text.find(' ');
  if (space == 0 || space == std::string_view::npos) return std::nullopt;
  std::optional<Ends> ends = ParseEnds(text.substr(space + 1));
  if (!ends) return std::nullopt;
  return Reached{std::string(text.substr(0, space)), *std::move(ends)};
}

}  // namespace cordwood::kafka::internal
