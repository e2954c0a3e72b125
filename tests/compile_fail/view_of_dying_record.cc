// expect: (temporary|dangling)
// flags: -Wall -Werror
// compiler: clang

// The record is gone at the end of the line.

#include <string_view>

#include "cordwood/record.h"

cordwood::OwnedRecord Copy();

std::size_t Size() {
  const std::string_view topic = Copy().topic();
  return topic.size();
}
