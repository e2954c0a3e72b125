// Threads that finish the records that they are given in random order.
//
//   ShuffledWorkers workers(8, seed, [&](const RecordView& record) { tracker.Done(record); });
//   workers.Give(std::move(batch));
//
// The destructor waits until all that was given is finished.

#ifndef CORDWOOD_TESTS_SUPPORT_SHUFFLED_WORKERS_H_
#define CORDWOOD_TESTS_SUPPORT_SHUFFLED_WORKERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/record.h"

namespace cordwood::testing {

class ShuffledWorkers {
 public:
  ShuffledWorkers(int threads, std::uint32_t seed, std::function<void(const RecordView&)> finish)
      : finish_(std::move(finish)) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back(
          [this, random = std::mt19937(seed + static_cast<std::uint32_t>(i))]() mutable {
            Work(random);
          });
    }
  }
  ShuffledWorkers(const ShuffledWorkers&) = delete;
  ShuffledWorkers& operator=(const ShuffledWorkers&) = delete;
  ~ShuffledWorkers() {
    {
      absl::MutexLock lock(&mutex_);
      is_closed_ = true;
      news_.SignalAll();
    }
    for (std::thread& thread : threads_) thread.join();
  }

  void Give(RecordBatch given) {
    const auto batch = std::make_shared<RecordBatch>(std::move(given));
    absl::MutexLock lock(&mutex_);
    for (const RecordView& record : *batch) jobs_.push_back({batch, record});
    news_.SignalAll();
  }

 private:
  struct Job {
    std::shared_ptr<const RecordBatch> batch;  // of the record
    RecordView record = {};
  };

  void Work(std::mt19937& random) {
    while (const std::optional<Job> job = Take(random)) finish_(job->record);
  }
  std::optional<Job> Take(std::mt19937& random) {
    absl::MutexLock lock(&mutex_);
    while (!is_closed_ && jobs_.empty()) news_.Wait(&mutex_);
    if (jobs_.empty()) return std::nullopt;
    const std::size_t at = std::uniform_int_distribution<std::size_t>(0, jobs_.size() - 1)(random);
    std::swap(jobs_[at], jobs_.back());
    Job job = std::move(jobs_.back());
    jobs_.pop_back();
    return job;
  }

  const std::function<void(const RecordView&)> finish_;
  absl::Mutex mutex_;
  absl::CondVar news_;  // there are jobs, or there will be none
  std::vector<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_SHUFFLED_WORKERS_H_
