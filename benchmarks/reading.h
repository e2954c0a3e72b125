// A topic of one partition with records in it, and a consumer of it, as a member of a group or with
// its partition taken by hand. For the benchmarks of polls and commits; for one thread.

#ifndef CORDWOOD_BENCHMARKS_READING_H_
#define CORDWOOD_BENCHMARKS_READING_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "benchmarks/quick.h"
#include "cordwood/cordwood.h"
#include "cordwood/segment/frame.h"

namespace cordwood::benchmarks {

// As many of that size, but no more than 192 MiB of them.
inline std::int64_t RecordsToPoll(std::uint64_t frame_bytes) {
  constexpr std::uint64_t kBytesMax = 192 << 20;
  return static_cast<std::int64_t>(
      std::min(FullOrQuick<std::uint64_t>(200'000, 2'000), kBytesMax / frame_bytes / 100 * 100));
}

class Reading {
 public:
  Reading(bool in_group, std::size_t value_bytes)
      : broker_(Broker::Open(dir_.path(), {.background_threads = false}).value()),
        consumer_(broker_.NewConsumer({.group = "billing"}).value()),
        records_(RecordsToPoll(segment::FrameBytes(value_bytes))) {
    const Partition partition = broker_.CreateTopic("orders").value().partition(0);
    const std::string value(value_bytes, 'x');
    const std::vector<Record> batch(100, Record{.value = value});
    for (std::int64_t i = 0; i < records_; i += 100) partition.AppendBatch(batch).IgnoreError();
    if (in_group) {
      consumer_.Subscribe({"orders"}).IgnoreError();
    } else {
      consumer_.Assign({{"orders", 0}}).IgnoreError();
    }
    dir_.Settle();
  }

  const Broker& broker() const { return broker_; }
  Consumer& consumer() { return consumer_; }
  std::int64_t records() const { return records_; }

 private:
  BenchmarkDir dir_;
  Broker broker_;
  Consumer consumer_;
  const std::int64_t records_;
};

}  // namespace cordwood::benchmarks

#endif  // CORDWOOD_BENCHMARKS_READING_H_
