// expect: cordwood: this enum has to say its type
// flags: -O0

#include <string>

#include "cordwood/typed.h"

enum Color { kRed, kGreen };

void Use(const cordwood::TypedProducer<std::string, Color>& producer) {
  producer.Send("sky", kGreen).IgnoreError();
}
