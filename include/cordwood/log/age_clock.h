// Ages by a clock that may be set: the wall clock, and one that only runs (CLOCK_BOOTTIME), tell
// together when somebody has set the first one forward. A time noted before that is then moved
// along: else a log of today would be a year old because a clock was wrong for a minute.
//
//   clock.Observe(wall_ns, elapsed_ns);              // now and then
//   const std::int64_t age = wall_ns - clock.Moved(noted_ns);
//
// It knows what has happened since it was made. Set back again, a clock takes back what it had
// moved; a time from the future is what others have to deal with (retention.h).
//
// Thread safety: every operation.

#ifndef CORDWOOD_LOG_AGE_CLOCK_H_
#define CORDWOOD_LOG_AGE_CLOCK_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace cordwood::log {

class AgeClock {
 public:
  // elapsed_ns: of a clock that nobody sets, from whenever it counts.
  void Observe(std::int64_t wall_ns, std::int64_t elapsed_ns);
  // A time that was noted by the wall clock, as that clock would note it today.
  std::int64_t Moved(std::int64_t noted_ns) const;

 private:
  struct Jump {
    std::int64_t before_ns;  // what was noted up to here was noted before it
    std::int64_t by_ns;
  };
  struct Reading {
    std::int64_t wall_ns;
    std::int64_t elapsed_ns;
  };

  mutable absl::Mutex mutex_;
  std::optional<Reading> last_ ABSL_GUARDED_BY(mutex_);
  std::vector<Jump> jumps_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_AGE_CLOCK_H_
