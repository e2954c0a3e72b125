// expect: cordwood: this struct has a pointer, a reference or a view in it
// flags: -O0

#include <string>
#include <string_view>

#include "cordwood/typed.h"

struct Note {
  long id;
  std::string_view text;
};

void Use(cordwood::TypedConsumer<std::string, Note>& consumer) {
  consumer.Commit().IgnoreError();
  consumer.Poll(absl::Seconds(1)).IgnoreError();
}
