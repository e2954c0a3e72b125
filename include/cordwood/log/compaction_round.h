// Compacts the partitions of a directory, one after the other, a step at a time.
//
//   CompactionRound round(directory);
//   while (round.Step(deadline_ns)) ...          // true: there is more to do at once
//
// Thread safety: one thread at a time. Process safety: each partition is compacted by one
// process at a time; the others pass it over.

#ifndef CORDWOOD_LOG_COMPACTION_ROUND_H_
#define CORDWOOD_LOG_COMPACTION_ROUND_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cordwood/log/compaction.h"
#include "cordwood/log/directory.h"

namespace cordwood::log {

class CompactionRound {
 public:
  explicit CompactionRound(Directory& directory) : directory_(directory) {}

  // Goes on until the monotonic time is past the deadline, or every partition had its turn.
  // True: a compaction is under way. What fails is begun anew in its next turn.
  bool Step(std::int64_t deadline_ns);
  // What is under way is given up.
  void End() { running_.reset(); }

 private:
  void Begin(TopicFiles& topic, int partition);

  Directory& directory_;
  std::unique_ptr<Compactor> running_;
  // Whose turn is next.
  std::size_t topic_ = 0;
  int partition_ = 0;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_COMPACTION_ROUND_H_
