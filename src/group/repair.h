// What can be made anew of a group's files.
//
// Thread and process safety: one thread, while nobody has the directory open.

#ifndef CORDWOOD_GROUP_REPAIR_H_
#define CORDWOOD_GROUP_REPAIR_H_

#include <string>

#include "absl/status/status.h"
#include "cordwood/os/storage.h"

namespace cordwood::group {

// A new file `made`, synced, with a header that holds and the entries of the group's offsets at
// `path`, each in its place; of a file that is not there, none.
absl::Status WriteOffsetsAnew(os::Folder& root, const std::string& path, const std::string& made);

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_REPAIR_H_
