// What a segment's header gives as the time of its creation. Recovery and readers tell by it which
// of two files has taken over from the other (rules 14 and 26), so it grows along a partition,
// though a coarse clock lags behind, and any clock can be set back.

#ifndef CORDWOOD_LOG_CREATION_TIME_H_
#define CORDWOOD_LOG_CREATION_TIME_H_

#include <algorithm>
#include <cstdint>

#include "cordwood/os/clock.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

// Of one that comes after `last`.
inline std::int64_t CreationTimeAfter(const segment::Segment& last, std::int64_t now_ns) {
  return std::max(now_ns, os::SaturatingAdd(last.header().created_ns, 1));
}

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_CREATION_TIME_H_
