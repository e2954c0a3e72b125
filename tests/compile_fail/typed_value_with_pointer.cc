// expect: cordwood: this struct has a pointer, a reference or a view in it
// flags: -O0

#include <string>

#include "cordwood/typed.h"

struct Party {
  int id;
  const char* name;
};
struct Trade {
  long price_cents;
  Party parties[2];
};

void Use(const cordwood::TypedProducer<std::string, Trade>& producer) {
  producer.Send("AAPL", Trade{}).IgnoreError();
}
