// Does one thing so many times, and nothing else: for a tool that counts instructions, which do not
// depend on the machine's mood. instructions.sh runs it twice and takes the difference, so that
// what comes before and after does not count.
//
//   usage: instructions append|batch|in-place|send|read|poll|floor-append|floor-read VALUE_BYTES
//          RECORDS

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "benchmarks/benchmark_dir.h"
#include "cordwood/cordwood.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/clock.h"
#include "cordwood/segment/frame.h"

// Takes the place of the C library's, for this program alone: valgrind 3.19 has no openat2, which
// is what cordwood opens files with. No file of this program's is anybody else's.
extern "C" long syscall(long number, ...) noexcept {
  long arguments[6];
  va_list list;
  va_start(list, number);
  for (long& argument : arguments) argument = va_arg(list, long);
  va_end(list);
  if (number == SYS_openat2) {
    const auto* how = reinterpret_cast<const open_how*>(arguments[2]);
    return openat(static_cast<int>(arguments[0]), reinterpret_cast<const char*>(arguments[1]),
                  static_cast<int>(how->flags), static_cast<mode_t>(how->mode));
  }
  static const auto real = reinterpret_cast<long (*)(long, ...)>(dlsym(RTLD_NEXT, "syscall"));
  return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
              arguments[5]);
}

namespace {

using namespace cordwood;

constexpr std::size_t kBatch = 100;

// So that no loop is taken for one that does nothing.
volatile std::uint64_t sink = 0;
void Keep(std::uint64_t value) { sink = value; }

void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

// The floors of append_benchmark.cc and read_benchmark.cc.
void RunFloor(std::string_view work, std::size_t value_bytes, std::int64_t records) {
  const std::string frame(segment::FrameBytes(value_bytes), 'x');
  std::vector<char> to(64 * frame.size(), 'x');
  for (std::int64_t i = 0; i < records; ++i) {
    char* at = to.data() + static_cast<std::size_t>(i % 64) * frame.size();
    if (work == "floor-append") {
      Keep(static_cast<std::uint64_t>(os::ReadClock(CLOCK_REALTIME)));
      std::memcpy(at, frame.data(), frame.size());
    }
    Keep(os::Hash64(at, frame.size()));
  }
}

void Fill(const Partition& partition, const std::string& value, std::int64_t records) {
  const std::vector<Record> batch(kBatch, Record{.value = value});
  for (std::int64_t i = 0; i < records; i += kBatch) Check(partition.AppendBatch(batch).status());
}

void Run(std::string_view work, std::size_t value_bytes, std::int64_t records) {
  const benchmarks::BenchmarkDir dir;
  // Never closed: closing reads all that was written once more.
  const Broker& broker =
      *new Broker(Broker::Open(dir.path(), {.background_threads = false}).value());
  const TopicConfig config{.segment_bytes = std::int64_t{1} << 30};
  const Partition partition = broker.CreateTopic("events", config).value().partition(0);
  const std::string value(value_bytes, 'x');
  if (work == "append") {
    for (std::int64_t i = 0; i < records; ++i) Check(partition.Append({.value = value}).status());
  } else if (work == "batch") {
    Fill(partition, value, records);
  } else if (work == "in-place") {
    for (std::int64_t i = 0; i < records; ++i) {
      const auto fill = [](std::span<std::byte> to) {
        std::memset(to.data(), 'x', to.size());
        return to.size();
      };
      Check(partition.AppendInPlace(value_bytes, {}, fill).status());
    }
  } else if (work == "send") {
    const Producer producer = broker.NewProducer().value();
    for (std::int64_t i = 0; i < records; ++i) {
      Check(producer.Send("events", {.key = "a key of 16 byte", .value = value}).status());
    }
  } else if (work == "read") {
    // Always as many are written, so that only the reading differs.
    constexpr std::int64_t kWritten = 1'000;
    Fill(partition, value, kWritten);
    for (std::int64_t left = records; left > 0; left -= kWritten) {
      PartitionReader reader = partition.Read(0).value();
      for (const RecordView& record : reader) Keep(record.value()->size());
    }
  } else if (work == "poll") {
    constexpr std::int64_t kWritten = 1'000;
    Fill(partition, value, kWritten);
    Consumer consumer = broker.NewConsumer().value();
    Check(consumer.Assign({{"events", 0}}));
    RecordBatch batch;
    for (std::int64_t left = records; left > 0;) {
      Check(consumer.PollInto(batch, absl::ZeroDuration()));
      for (const RecordView& record : batch) Keep(record.value()->size());
      left -= static_cast<std::int64_t>(batch.size());
      if (batch.empty()) Check(consumer.SeekToBeginning());
    }
  } else {
    std::fprintf(stderr, "no such work\n");
    std::exit(2);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: instructions WORK VALUE_BYTES RECORDS\n");
    return 2;
  }
  const std::string_view work = argv[1];
  const auto value_bytes = static_cast<std::size_t>(std::atoll(argv[2]));
  const std::int64_t records = std::atoll(argv[3]);
  if (work.starts_with("floor-")) {
    RunFloor(work, value_bytes, records);
  } else {
    Run(work, value_bytes, records);
  }
  return 0;
}
