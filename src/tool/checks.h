// What the values of options have to be, in words that fit on a line.
//
//   command->add_option("-n,--last", options->last, "...")->check(AtLeast(1))->type_name("N");

#ifndef CORDWOOD_TOOL_CHECKS_H_
#define CORDWOOD_TOOL_CHECKS_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace cordwood::tool {

// A whole number; one that 64 bits cannot hold is none.
inline CLI::Validator AtLeast(std::int64_t least) {
  return CLI::Validator(
      [least](const std::string& text) {
        std::int64_t number = 0;
        if (absl::SimpleAtoi(text, &number) && number >= least) return std::string();
        return absl::StrCat(text, " is not a whole number from ", least, " on");
      },
      "");
}

}  // namespace cordwood::tool

#endif  // CORDWOOD_TOOL_CHECKS_H_
