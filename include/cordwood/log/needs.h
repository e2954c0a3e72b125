// What those above the log still need of it: a log does not know of groups.
//
// Thread and process safety: every operation, in every implementation.

#ifndef CORDWOOD_LOG_NEEDS_H_
#define CORDWOOD_LOG_NEEDS_H_

#include <span>
#include <string>

#include "cordwood/os/storage.h"
#include "cordwood/record.h"

namespace cordwood::log {

class Needs {
 public:
  Needs() = default;
  Needs(const Needs&) = delete;
  Needs& operator=(const Needs&) = delete;
  virtual ~Needs() = default;

  // A commit that is not durable yet may be gone with the power, and with it what says that the
  // records before it are needed no more.
  enum class Commits { kAll, kDurable };

  // The lowest offset of the partition that one of the groups has not committed. 0 if that
  // cannot be told: nothing may go then.
  virtual Offset NeededFrom(const os::Bits128& topic_id,
                            const cordwood::internal::PartitionName& name,
                            std::span<const std::string> groups, Commits commits) const = 0;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_NEEDS_H_
