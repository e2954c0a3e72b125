// A process is stopped before anything that it asks of the system, others go on meanwhile, and
// when it goes on itself it misses nothing and gets no error: a stop lasts as long as it likes.
//
//   CORDWOOD_STOP_STRIDE=1 cordwood_tests "A writer that is stopped*,A reader that is stopped*"
//                                                          before each, not every third one

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/cordwood.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/environment.h"
#include "tests/support/faulty_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood::stopped_process_test {
namespace {

using testing::FaultyStorage;
using testing::NumberFromEnvironment;
using testing::OpenQuiet;
using testing::TempDir;

const TopicPartition kEvents = {"events", 0};

// A topic of small segments, the process that writes to it and looks after it, and the one that
// reads and is stopped.
struct World {
  World() : writer(OpenQuiet(dir / "data")) {
    log = writer
              .CreateTopic("events", {.segment_bytes = 64 << 10,
                                      .retention_bytes = 3 * (64 << 10),
                                      .cleanup = CleanupPolicy::kCompactAndDelete})
              .value()
              .partition(0);
  }

  // False: it is the turn of who was stopped.
  bool Append(int records) {
    for (int i = 0; i < records; ++i) {
      const absl::Status status =
          log.Append({.key = absl::StrCat("key-", i % 7), .value = std::string(3000, 'v')},
                     {.timeout = absl::ZeroDuration()})
              .status();
      if (absl::IsDeadlineExceeded(status)) return false;
      REQUIRE(status.ok());
      ++appended;
    }
    return true;
  }
  void Maintain() { REQUIRE(writer.Maintain(absl::InfiniteDuration()).ok()); }

  TempDir dir = TempDir(testing::FolderInMemory());
  std::shared_ptr<FaultyStorage> storage = FaultyStorage::Over(Storage::OperatingSystem());
  Broker writer;
  Partition log;
  std::int64_t appended = 0;
};

struct Meanwhile {
  const char* what;
  void (*happens)(World&);
};

const Meanwhile kMeanwhile[] = {
    {"the segment fills", [](World& world) { world.Append(3); }},
    {"it rolls", [](World& world) { world.Append(25); }},
    {"it is compacted",
     [](World& world) {
       if (world.Append(25)) world.Maintain();
     }},
    {"all that there was is removed, and its files are used again",
     [](World& world) {
       for (int i = 0; i < 8; ++i) {
         if (world.Append(25)) world.Maintain();
       }
     }},
    {"all is deleted",
     [](World& world) {
       if (!world.Append(25)) return;
       REQUIRE(world.log.Trim(world.log.end_offset()).ok());
       world.Append(25);
     }},
};

// What a batch says about each offset from `next` on, or what is wrong with it.
std::string Follow(const RecordBatch& batch, const Partition& log, Offset& next) {
  auto gap = batch.gaps().begin();
  std::string problem;
  const auto pass_over = [&] {
    for (; gap != batch.gaps().end() && gap->from <= next; ++gap) {
      if (gap->reason != GapReason::kRetention && gap->reason != GapReason::kTrim) {
        problem = absl::StrCat("a gap at ", gap->from, ", reason ",
                               std::string(GapReasonName(gap->reason)));
      }
      if (gap->to > log.start_offset()) problem = absl::StrCat("a gap to ", gap->to);
      next = gap->to;
    }
  };
  for (const RecordView& record : batch) {
    pass_over();
    // What a compaction has removed is no gap.
    if (record.offset() < next) problem = absl::StrCat(record.offset(), " again");
    next = record.offset() + 1;
    if (record.value()->size() != 3000) problem = "a wrong value";
  }
  pass_over();
  return problem;
}

// All that a reader asks for: "" or the first thing that went wrong.
std::string Read(World& world, const BrokerOptions& options) {
  const absl::StatusOr<Broker> broker = Broker::Open(world.dir / "data", options);
  if (!broker.ok()) return broker.status().ToString();
  const absl::StatusOr<Topic> topic = broker->OpenTopic("events");
  if (!topic.ok()) return topic.status().ToString();
  const Partition log = topic->partition(0);
  absl::StatusOr<Consumer> consumer =
      broker->NewConsumer({.group = options.read_only ? "" : "g", .max_poll_records = 10});
  if (!consumer.ok()) return consumer.status().ToString();
  if (absl::Status assigned = consumer->Assign({kEvents}); !assigned.ok()) {
    return assigned.ToString();
  }
  Offset next = 0;
  for (int round = 0; round < 7; ++round) {
    if (round < 6) world.Append(6);
    for (;;) {
      const absl::StatusOr<RecordBatch> batch = consumer->Poll(absl::ZeroDuration());
      if (!batch.ok()) return absl::StrCat("Poll: ", batch.status().ToString());
      if (batch->empty() && batch->gaps().empty()) break;
      if (std::string problem = Follow(*batch, world.log, next); !problem.empty()) return problem;
      if (consumer->position(kEvents).value() < next) return "a position before what was read";
      if (options.read_only) continue;
      if (absl::Status status = consumer->Commit(); !status.ok()) {
        return absl::StrCat("Commit: ", status.ToString());
      }
    }
    if (round == 6) break;
    if (const auto lag = consumer->lag(kEvents); !lag.ok()) return lag.status().ToString();
    if (const auto at = log.OffsetForTime(absl::UnixEpoch()); !at.ok()) {
      return absl::StrCat("OffsetForTime: ", at.status().ToString());
    }
    if (const auto described = broker->DescribeTopic("events"); !described.ok()) {
      return absl::StrCat("DescribeTopic: ", described.status().ToString());
    }
  }
  if (next != world.log.end_offset()) {
    return absl::StrCat("read to ", next, " of ", world.log.end_offset());
  }
  return "";
}

// All that a writer does, and who looks after the log: "" or the first thing that went wrong.
std::string Write(World& world, const BrokerOptions& options, bool maintains,
                  std::int64_t& appended) {
  const absl::StatusOr<Broker> broker = Broker::Open(world.dir / "data", options);
  if (!broker.ok()) return broker.status().ToString();
  const absl::StatusOr<Topic> topic = broker->OpenTopic("events");
  if (!topic.ok()) return topic.status().ToString();
  const Partition log = topic->partition(0);
  const std::string value(3000, 'v');
  for (int round = 0; round < 8; ++round) {
    const std::vector<Record> batch(3, Record{.key = "key-1", .value = value});
    if (const auto at = log.AppendBatch(batch); !at.ok()) {
      return absl::StrCat("AppendBatch: ", at.status().ToString());
    }
    appended += 3;
    if (const absl::Status status = log.Flush(); !status.ok()) {
      return absl::StrCat("Flush: ", status.ToString());
    }
    if (const auto at = log.Append({.key = "key-2", .value = value}); !at.ok()) {
      return absl::StrCat("Append: ", at.status().ToString());
    }
    ++appended;
    if (!maintains || round % 4 != 3) continue;
    if (const absl::Status status = broker->Maintain(absl::InfiniteDuration()); !status.ok()) {
      return absl::StrCat("Maintain: ", status.ToString());
    }
    if (const absl::Status status = log.Trim(log.start_offset() + 1); !status.ok()) {
      return absl::StrCat("Trim: ", status.ToString());
    }
  }
  if (const absl::Status status = broker->Close(); !status.ok()) {
    return absl::StrCat("Close: ", status.ToString());
  }
  return "";
}

// The run number that is stopped first, and then every so many-th.
struct Stops {
  explicit Stops(int first)
      : stride(static_cast<int>(NumberFromEnvironment("CORDWOOD_STOP_STRIDE", 3))),
        next(1 + first % stride) {}

  // Runs `script` in a new world, stopped once before one of its operations, until there is none.
  void Run(const Meanwhile& meanwhile,
           const std::function<std::string(World&, const std::shared_ptr<Storage>&)>& script) {
    for (bool was_hit = true; was_hit; next += stride) {
      World world;
      world.Append(40);
      world.storage->BeforeNth(next, [&] { meanwhile.happens(world); });
      const std::string problem = script(world, world.storage);
      was_hit = world.storage->was_hit();
      if (problem.empty()) continue;
      problems.push_back(absl::StrCat(next, ", ", world.storage->hit(), ": ", problem));
    }
  }

  const int stride;
  int next;
  std::vector<std::string> problems;
};

}  // namespace

TEST_CASE("A writer that is stopped anywhere, while others go on, loses nothing") {
  const int which = GENERATE(0, 1, 2, 3, 4);
  INFO(kMeanwhile[which].what);
  const bool maintains = which < 2;  // one at a time: the others wait for who is stopped in it
  Stops stops(which);
  stops.Run(kMeanwhile[which], [&](World& world, const std::shared_ptr<Storage>& storage) {
    std::int64_t appended = 0;
    std::string problem =
        Write(world, {.background_threads = false, .storage = storage}, maintains, appended);
    if (problem.empty() && world.log.end_offset() != appended + world.appended) {
      problem = absl::StrCat("the end is ", world.log.end_offset(), ", ", appended + world.appended,
                             " were appended");
    }
    return problem;
  });
  for (const std::string& problem : stops.problems) WARN(problem);
  CHECK(stops.problems.empty());
}

TEST_CASE("A reader that is stopped anywhere, while others go on, misses nothing") {
  const int which = GENERATE(0, 1, 2, 3, 4);
  const bool read_only = GENERATE(false, true);
  INFO(kMeanwhile[which].what << (read_only ? ", read-only" : ""));
  Stops stops(2 * which + read_only);
  stops.Run(kMeanwhile[which], [&](World& world, const std::shared_ptr<Storage>& storage) {
    return Read(world, {.read_only = read_only, .background_threads = false, .storage = storage});
  });
  for (const std::string& problem : stops.problems) WARN(problem);
  CHECK(stops.problems.empty());
}

}  // namespace cordwood::stopped_process_test
