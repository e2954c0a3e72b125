// The inside of a testing::Machine, for the tests of this library.
//
//   Inside::DiskOf(machine).Before([&] { if (--operations == 0) machine.KillProcess(); });

#ifndef CORDWOOD_SIM_INSIDE_H_
#define CORDWOOD_SIM_INSIDE_H_

#include "cordwood/testing.h"
#include "sim/disk.h"

namespace cordwood::testing {

class Inside {
 public:
  static sim::Disk& DiskOf(Machine& machine);
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_SIM_INSIDE_H_
