#include "kafka/lanes.h"

#include <algorithm>
#include <utility>

namespace cordwood::kafka::internal {
namespace {

constexpr absl::Duration kRetryMin = absl::Milliseconds(100);
constexpr absl::Duration kRetryMax = absl::Seconds(10);

bool Passes(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    // A disk that is full, or a backlog: others make room.
    case absl::StatusCode::kResourceExhausted:
    // Shut out, as by the end of a transaction's time: if this is not the one to go on, the local
    // group says so.
    case absl::StatusCode::kAborted:
      return true;
    default:
      return false;
  }
}

void SleepOrStop(absl::Duration duration, std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, absl::ToChronoMilliseconds(duration), [] { return false; });
}

}  // namespace

absl::Status TryForEver(std::stop_token stop, absl::FunctionRef<absl::Status()> work,
                        absl::FunctionRef<bool(const absl::Status&)> note) {
  absl::Duration sleep = kRetryMin;
  for (;;) {
    const absl::Status status = work();
    if (stop.stop_requested()) return absl::OkStatus();
    if (status.ok() || !Passes(status)) return status;
    if (note(status)) sleep = kRetryMin;
    SleepOrStop(sleep, stop);
    sleep = std::min(sleep * 2, kRetryMax);
  }
}

void Lanes::Start(std::function<absl::Status(std::stop_token)> run) {
  threads_.emplace_back([this, run = std::move(run)] {
    const absl::Status status = run(stop_.get_token());
    const std::lock_guard<std::mutex> lock(mutex_);
    if (first_error_.ok()) first_error_ = status;
    ++ended_;
    changed_.notify_all();
  });
}

bool Lanes::Wait(std::stop_token stop, bool to_end, absl::Duration timeout) {
  const auto is_over = [&] { return !first_error_.ok() || (to_end && ended_ == threads_.size()); };
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_for(lock, stop, absl::ToChronoMilliseconds(timeout), is_over);
  return is_over() || stop.stop_requested();
}

absl::Status Lanes::Stop() {
  stop_.request_stop();
  threads_.clear();  // joins
  return first_error_;
}

}  // namespace cordwood::kafka::internal
