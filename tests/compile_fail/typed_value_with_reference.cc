// expect: cordwood: a struct that is stored as it lies in memory has to have standard layout
// flags: -O0

#include "cordwood/serde.h"

struct Note {
  const int& id;
};

template struct cordwood::Serde<Note>;
