// expect: cordwood: this type has no Serde built in and is not trivially copyable
// flags: -O0

#include <string>
#include <vector>

#include "cordwood/typed.h"

struct Basket {
  std::vector<int> items;
};

void Use(const cordwood::TypedProducer<std::string, Basket>& producer) {
  producer.Send("alice", Basket{}).IgnoreError();
}
