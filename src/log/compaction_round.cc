#include "cordwood/log/compaction_round.h"

#include <vector>

#include "cordwood/os/clock.h"

namespace cordwood::log {

bool CompactionRound::Step(std::int64_t deadline_ns) {
  if (!directory_.context()->CheckWritable().ok()) return false;
  const absl::StatusOr<std::vector<std::shared_ptr<TopicFiles>>> topics = directory_.AllTopics();
  if (!topics.ok()) return false;
  bool has_begun = false;  // one at least in each call
  for (std::size_t looked_at = 0; looked_at <= topics->size();) {
    if (running_ != nullptr) {
      const absl::StatusOr<bool> more = running_->Step(deadline_ns);
      if (more.ok() && *more) return true;
      running_.reset();
    }
    if (has_begun && os::MonotonicNanos() >= deadline_ns) return false;
    if (topic_ >= topics->size()) {
      topic_ = 0;
      partition_ = 0;
    }
    if (topics->empty()) return false;
    TopicFiles& topic = *(*topics)[topic_];
    if (partition_ >= topic.partitions() || topic.config().cleanup == CleanupPolicy::kDelete) {
      ++topic_;
      partition_ = 0;
      ++looked_at;
      continue;
    }
    Begin(topic, partition_++);
    has_begun = true;
  }
  return running_ != nullptr;
}

void CompactionRound::Begin(TopicFiles& topic, int partition) {
  const ControlBlock& block = topic.control()->block(partition);
  if (ReadTail(block).end() == block.start.load(std::memory_order_relaxed)) return;  // empty
  const absl::StatusOr<std::shared_ptr<Log>> log = topic.OpenLog(partition);
  if (!log.ok()) return;
  const CompactionSettings settings = CompactionSettings::Of(topic.config());
  const std::int64_t first_append = block.first_append_ns.load(std::memory_order_relaxed);
  if (IsActiveOverdue(settings, first_append, (*log)->context().clock.Now())) {
    (*log)->CloseActive().IgnoreError();
  }
  absl::StatusOr<std::unique_ptr<Compactor>> compactor = Compactor::Begin(*log, settings);
  if (compactor.ok() && *compactor != nullptr && (*compactor)->decision().compact) {
    running_ = *std::move(compactor);
  }
}

}  // namespace cordwood::log
