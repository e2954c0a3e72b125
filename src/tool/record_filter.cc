#include "tool/record_filter.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace cordwood::tool {
namespace {

bool HasHeader(const RecordView& record, const std::string& name,
               const std::optional<std::string>& value) {
  for (const Header& header : record.headers()) {
    if (header.key == name && (!value || header.value.get() == *value)) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<RecordFilter> RecordFilter::Make(const FilterOptions& options) {
  RecordFilter filter;
  filter.key_ = options.key;
  for (const std::string& header : options.headers) {
    const std::size_t equals = header.find('=');
    filter.headers_.emplace_back(
        header.substr(0, equals),
        equals == std::string::npos ? std::nullopt : std::optional(header.substr(equals + 1)));
  }
  if (options.pattern.empty()) return filter;
  auto regex = std::make_unique<regex_t>();
  if (const int error = regcomp(regex.get(), options.pattern.c_str(), REG_EXTENDED | REG_NOSUB);
      error != 0) {
    char why[128] = {};
    regerror(error, regex.get(), why, sizeof why);
    return absl::InvalidArgumentError(
        absl::StrCat("\"", options.pattern, "\" is no regular expression: ", why));
  }
  filter.regex_.reset(regex.release());
  return filter;
}

bool RecordFilter::Matches(const RecordView& record) const {
  if (key_ && record.key() != *key_) return false;
  for (const auto& [name, value] : headers_) {
    if (!HasHeader(record, name, value)) return false;
  }
  if (regex_ == nullptr) return true;
  const std::string_view value = record.value().value_or("");
  // With REG_STARTEND the bytes need no zero behind them, and may have some among them.
  regmatch_t range = {.rm_so = 0, .rm_eo = static_cast<regoff_t>(value.size())};
  return regexec(regex_.get(), value.data(), 0, &range, REG_STARTEND) == 0;
}

}  // namespace cordwood::tool
