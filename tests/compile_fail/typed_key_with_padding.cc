// expect: cordwood: this key has padding
// flags: -O0

#include <cstdint>
#include <string>

#include "cordwood/typed.h"

struct Account {
  std::int64_t number;
  std::int32_t branch;  // and four bytes of nothing
};

void Use(const cordwood::TypedProducer<Account, std::string>& producer) {
  producer.Send(Account{1, 2}, "opened").IgnoreError();
}
