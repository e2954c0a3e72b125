#include "log/turn.h"

#include "absl/strings/str_cat.h"
#include "cordwood/os/doorbell.h"

namespace cordwood::log {

absl::Status InFillError() {
  return absl::FailedPreconditionError(
      "a call on cordwood from inside AppendInPlace's fill; make it after fill has returned");
}

absl::Status Log::Turn::WaitForIt(Log& log, std::int64_t deadline_ns) {
  ControlBlock& block = log.block();
  const os::LockOwners& owners = *log.context_->owners;
  std::int64_t slept_ns = 0;
  const os::LockResult result = block.lock.Lock(owners, deadline_ns, &slept_ns);
  if (slept_ns > 0) log.context_->counts().blocked_by_writers.Record(slept_ns);
  switch (result) {
    case os::LockResult::kAcquired:
      return absl::OkStatus();
    case os::LockResult::kTakenOver:
      // Whatever the dead owner left half done is put right before the next byte is
      // written (CountScratch), by us or, if that fails, by the next one.
      block.scratch_valid.store(0, std::memory_order_relaxed);
      return absl::OkStatus();
    case os::LockResult::kTimedOut:
      break;
  }
  return log.Where(absl::DeadlineExceededError(
      absl::StrCat(log.name().topic, "-", log.name().partition, ": the writer's turn is with ",
                   owners.Describe(block.lock.word()), "; nothing was appended")));
}

void Log::Turn::RingNews(Log& log) {
  ControlBlock& block = log.block();
  const std::uint32_t attention = block.attention.exchange(0, std::memory_order_seq_cst);
  if ((attention & kWaiting) != 0) os::Ring(block.bell);
  if ((attention & kArmed) != 0) log.control().RingTopic(log.partition());
}

}  // namespace cordwood::log
