// expect: temporary .*will be destroyed at the end of the full-expression
// flags: -Wall -Werror
// compiler: clang

// The string is gone when the record is sent.

#include <string>

#include "cordwood/record.h"

void Send(const cordwood::Record& record);

void SendNumber(int number) {
  const cordwood::Record record{.key = "number", .value = std::to_string(number)};
  Send(record);
}
