// A sync of records, timed, or counted as an error.

#ifndef CORDWOOD_LOG_TIMED_SYNC_H_
#define CORDWOOD_LOG_TIMED_SYNC_H_

#include <cstdint>

#include "absl/status/status.h"
#include "cordwood/log/context.h"

namespace cordwood::log {

template <class Sync>
absl::Status TimedSync(const Context& context, Sync sync) {
  const std::int64_t began = context.storage->ElapsedNanos();
  absl::Status synced = context.Counted(Operation::kSync, sync());
  if (synced.ok()) context.counts().sync_latency.Record(context.storage->ElapsedNanos() - began);
  return synced;
}

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_TIMED_SYNC_H_
