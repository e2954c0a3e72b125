// Topics that are carried side by side, a thread each, until one fails or all are stopped.
//
//   Lanes lanes;
//   lanes.Start([](std::stop_token stop) { return absl::OkStatus(); });
//   while (!lanes.Wait(stop, false, absl::Seconds(1))) {}
//   absl::Status first_error = lanes.Stop();
//
// Thread safety: one thread at a time. Its destructor stops and joins.

#ifndef CORDWOOD_KAFKA_LANES_H_
#define CORDWOOD_KAFKA_LANES_H_

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace cordwood::kafka::internal {

// Runs `work` until it is OK, stopped, or has an error that does not pass by itself, and sleeps
// longer and longer between two runs. `note` is told each error that passes; true from it: there
// was progress, so begin with a short sleep again. OK when it was stopped.
absl::Status TryForEver(std::stop_token stop, absl::FunctionRef<absl::Status()> work,
                        absl::FunctionRef<bool(const absl::Status&)> note);

class Lanes {
 public:
  Lanes() = default;
  ~Lanes() { Stop().IgnoreError(); }

  void Start(std::function<absl::Status(std::stop_token)> run);
  // True: it is over, by an error, by `stop`, or, with `to_end`, because all have ended.
  bool Wait(std::stop_token stop, bool to_end, absl::Duration timeout);
  // The first error, or OK.
  absl::Status Stop();

 private:
  std::stop_source stop_;
  std::mutex mutex_;  // a std one: absl's cannot wait for a stop token
  std::condition_variable_any changed_;
  absl::Status first_error_;  // this and the next under mutex_
  std::size_t ended_ = 0;
  std::vector<std::jthread> threads_;
};

}  // namespace cordwood::kafka::internal

#endif  // CORDWOOD_KAFKA_LANES_H_
