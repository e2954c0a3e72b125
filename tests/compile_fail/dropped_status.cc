// expect: (nodiscard|warn_unused_result)
// flags: -Wall -Werror
// compiler: clang

// A send whose result no one looks at.

#include "cordwood/producer.h"

void Send(const cordwood::Producer& producer) { producer.Send("orders", {.value = "book"}); }
