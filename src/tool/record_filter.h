// Which records are wanted: by key, by header, by what the value has.
//
//   RecordFilter filter = RecordFilter::Make({.pattern = " 404 "}).value();
//   if (filter.Matches(record)) ...
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_TOOL_RECORD_FILTER_H_
#define CORDWOOD_TOOL_RECORD_FILTER_H_

#include <regex.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "cordwood/record.h"

namespace cordwood::tool {

struct FilterOptions {
  std::optional<std::string> key = {};
  std::vector<std::string> headers = {};  // "name", or "name=value"
  std::string pattern = {};               // POSIX, extended; empty: any value
};

class RecordFilter {
 public:
  RecordFilter() = default;
  // kInvalidArgument: the pattern is none.
  static absl::StatusOr<RecordFilter> Make(const FilterOptions& options);

  bool Matches(const RecordView& record) const;

 private:
  // regexec takes time, but unlike std::regex no stack for each byte of a value.
  struct Free {
    void operator()(regex_t* regex) const {
      regfree(regex);
      delete regex;
    }
  };

  std::optional<std::string> key_;
  std::vector<std::pair<std::string, std::optional<std::string>>> headers_;
  std::unique_ptr<regex_t, Free> regex_;
};

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_RECORD_FILTER_H_
