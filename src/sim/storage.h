// What a process on a simulated machine has of it.

#ifndef CORDWOOD_SIM_STORAGE_H_
#define CORDWOOD_SIM_STORAGE_H_

#include <memory>

#include "cordwood/os/storage.h"
#include "sim/disk.h"

namespace cordwood::sim {

// For the process that runs now. Once it is killed, everything that came from this storage
// answers kUnavailable, and what is still stored through its maps reaches no file.
//
// As Storage::OperatingSystem() in its errors and their words, but: a directory may lie
// anywhere, no directory in another, and there are no links, owners and modes. A map may be
// touched past the end of its file, and where the file has no blocks: no signal comes of it.
std::shared_ptr<Storage> MakeStorage(std::shared_ptr<Disk> disk);

}  // namespace cordwood::sim

#endif  // CORDWOOD_SIM_STORAGE_H_
