// What every peer's program does: the same records, the same clock, the same line of output.
//
//   peer_NAME version
//   peer_NAME append|batch100|batch10000|read|durable|latency VALUE_BYTES RECORDS DIRECTORY
//
//   prints "SECONDS BYTES_ON_DISK", for latency "P50 P99 P99.9 MAX" in nanoseconds; 3: it has no
//   such work; 1: something failed
//
// A Peer is a class with these members, of which none is virtual, so that a call costs what it
// costs in a program of its own:
//
//   static std::string Version();
//   Peer(const std::filesystem::path& directory, bool durable);   // opens it, or makes it
//   bool Append(std::string_view value);                          // one record, as the guide says
//   bool AppendBatch(std::span<const std::string_view> values);   // kHasBatches
//   bool Finish();                            // within the clock: until all is where Append says
//   template <class F> bool ReadAll(F f);     // from the first on, f(value) for each
//   static int MeasureLatency(const Job&);    // if it has readers that follow: latency.h
//
// Values are of bytes that do not compress, and differ.

#ifndef CORDWOOD_BENCHMARKS_PEERS_PEER_H_
#define CORDWOOD_BENCHMARKS_PEERS_PEER_H_

#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cordwood::peers {

inline constexpr int kNoSuchWork = 3;

inline std::int64_t NowNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

class Values {
 public:
  explicit Values(std::size_t value_bytes) : value_bytes_(value_bytes) {
    std::mt19937_64 random(1);
    bytes_.resize(kPoolBytes + value_bytes);
    for (char& byte : bytes_) byte = static_cast<char>(random());
  }

  std::string_view operator[](std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i) * kStep % kPoolBytes;
    return std::string_view(bytes_).substr(at, value_bytes_);
  }

 private:
  static constexpr std::size_t kPoolBytes = 64 << 10;  // stays in the cache
  static constexpr std::size_t kStep = 24;

  const std::size_t value_bytes_;
  std::string bytes_;
};

inline std::int64_t BytesOnDisk(const std::filesystem::path& directory) {
  std::int64_t bytes = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory, ignored)) {
    struct stat info;
    if (lstat(entry.path().c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      bytes += std::int64_t{info.st_blocks} * 512;
    }
  }
  return bytes;
}

// So that no loop is taken for one that does nothing.
inline volatile std::uint64_t read_sink = 0;

struct Job {
  std::string work;
  std::size_t value_bytes = 0;
  std::int64_t records = 0;
  std::filesystem::path directory;
};

template <class Peer>
bool AppendAll(Peer& peer, const Job& job) {
  const Values values(job.value_bytes);
  for (std::int64_t i = 0; i < job.records; ++i) {
    if (!peer.Append(values[i])) return false;
  }
  return peer.Finish();
}

template <class Peer>
bool AppendBatches(Peer& peer, const Job& job, std::int64_t batch_records) {
  const Values values(job.value_bytes);
  std::vector<std::string_view> batch;
  for (std::int64_t i = 0; i < job.records; i += batch_records) {
    batch.clear();
    const std::int64_t end = std::min(i + batch_records, job.records);
    for (std::int64_t n = i; n < end; ++n) batch.push_back(values[n]);
    if (!peer.AppendBatch(batch)) return false;
  }
  return peer.Finish();
}

// Every value's first bytes are looked at, as a program would that reads them. The nanoseconds from
// the first record on: what a client takes to find its server is no reading.
template <class Peer>
std::optional<std::int64_t> TimeOneReading(Peer& peer, const Job& job) {
  std::int64_t records = 0;
  std::int64_t began = 0;
  std::uint64_t sum = 0;
  const bool went_well = peer.ReadAll([&](std::string_view value) {
    if (records == 0) began = NowNanos();
    if (value.size() != job.value_bytes) return;
    std::uint64_t first = 0;
    std::memcpy(&first, value.data(), std::min(value.size(), sizeof first));
    sum += first;
    ++records;
  });
  read_sink = sum;
  if (went_well && records == job.records) return NowNanos() - began;
  std::fprintf(stderr, "%lld records were read, and %lld written\n",
               static_cast<long long>(records), static_cast<long long>(job.records));
  return std::nullopt;
}

// Written, closed and opened again; read once for the caches, and once for the clock.
template <class Peer>
std::optional<std::int64_t> TimeReading(const Job& job) {
  {
    Peer peer(job.directory, /*durable=*/false);
    if constexpr (Peer::kHasBatches) {
      if (!AppendBatches(peer, job, 1'000)) return std::nullopt;
    } else {
      if (!AppendAll(peer, job)) return std::nullopt;
    }
  }
  Peer peer(job.directory, /*durable=*/false);
  if (!TimeOneReading(peer, job).has_value()) return std::nullopt;
  return TimeOneReading(peer, job);
}

template <class Peer>
std::optional<std::int64_t> TimeAppending(const Job& job) {
  Peer peer(job.directory, job.work == "durable");
  const std::int64_t began = NowNanos();
  bool went_well = false;
  if constexpr (Peer::kHasBatches) {
    if (job.work == "batch100") went_well = AppendBatches(peer, job, 100);
    if (job.work == "batch10000") went_well = AppendBatches(peer, job, 10'000);
  }
  if (job.work == "append" || job.work == "durable") went_well = AppendAll(peer, job);
  if (!went_well) return std::nullopt;
  return NowNanos() - began;
}

template <class Peer>
bool HasWork(std::string_view work) {
  if (work == "batch100" || work == "batch10000") return Peer::kHasBatches;
  if (work == "durable") return Peer::kHasDurable;
  return work == "append" || work == "read";
}

template <class Peer>
int RunJob(const Job& job) {
  if (!HasWork<Peer>(job.work)) return kNoSuchWork;
  const std::optional<std::int64_t> took =
      job.work == "read" ? TimeReading<Peer>(job) : TimeAppending<Peer>(job);
  if (!took.has_value()) return 1;
  std::printf("%.6f %lld\n", static_cast<double>(*took) * 1e-9,
              static_cast<long long>(BytesOnDisk(job.directory)));
  return 0;
}

// Nothing: that is no job.
inline std::optional<Job> ParseJob(int argc, char** argv) {
  if (argc != 5) return std::nullopt;
  return Job{.work = argv[1],
             .value_bytes = static_cast<std::size_t>(std::atoll(argv[2])),
             .records = std::atoll(argv[3]),
             .directory = argv[4]};
}

template <class Peer>
int Main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "version") {
    std::puts(Peer::Version().c_str());
    return 0;
  }
  const std::optional<Job> job = ParseJob(argc, argv);
  if (!job.has_value()) {
    std::fprintf(stderr, "usage: %s version | WORK VALUE_BYTES RECORDS DIRECTORY\n", argv[0]);
    return 2;
  }
  if constexpr (requires { Peer::MeasureLatency(*job); }) {
    if (job->work == "latency") return Peer::MeasureLatency(*job);
  }
  return RunJob<Peer>(*job);
}

}  // namespace cordwood::peers

#endif  // CORDWOOD_BENCHMARKS_PEERS_PEER_H_
