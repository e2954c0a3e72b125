// expect: temporary .*will be destroyed at the end of the full-expression
// flags: -Wall -Werror
// compiler: clang

// In C++20 the StatusOr and its batch are gone before the first round of the loop.

#include "cordwood/consumer.h"

long CountBytes(cordwood::Consumer& consumer) {
  long bytes = 0;
  for (const cordwood::RecordView& record : consumer.Poll(absl::Seconds(1)).value()) {
    bytes += static_cast<long>(record.value().value_or("").size());
  }
  return bytes;
}
