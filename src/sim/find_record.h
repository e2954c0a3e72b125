// Where the bytes of a record are in a directory, found without opening it.
//
// Thread safety: as the folder's.

#ifndef CORDWOOD_SIM_FIND_RECORD_H_
#define CORDWOOD_SIM_FIND_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"

namespace cordwood::sim {

struct RecordPlace {
  std::string path;  // of the file, relative to the directory
  std::uint64_t position = 0;
  std::uint64_t bytes = 0;  // of its frame
};

// kNotFound: there is no such topic, partition or record.
absl::StatusOr<RecordPlace> FindRecord(os::Folder& directory, const TopicPartition& where,
                                       Offset offset);

}  // namespace cordwood::sim

#endif  // CORDWOOD_SIM_FIND_RECORD_H_
