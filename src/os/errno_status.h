// Turns an errno into a Status with words: the operation, the path, the name of the
// errno, and where it helps what to do.

#ifndef CORDWOOD_OS_ERRNO_STATUS_H_
#define CORDWOOD_OS_ERRNO_STATUS_H_

#include <string_view>

#include "absl/status/status.h"

namespace cordwood::os {

absl::Status ErrnoStatus(int error, std::string_view operation, std::string_view path);

}  // namespace cordwood::os

#endif  // CORDWOOD_OS_ERRNO_STATUS_H_
