// Whether a status says certain words.
//
//   CHECK(Says(Broker::Open(dir / "file").status(), "not a folder"));

#ifndef CORDWOOD_TESTS_SUPPORT_SAYS_H_
#define CORDWOOD_TESTS_SUPPORT_SAYS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace cordwood::testing {

inline bool Says(const absl::Status& status, std::string_view words) {
  return std::string(status.message()).find(words) != std::string::npos;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_SAYS_H_
