// Topics that stay within their bounds for as long as processes write to them at full speed,
// whatever the processes that read do meanwhile.

#include <sys/types.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cordwood/cordwood.h"
#include "cordwood/os/clock.h"
#include "cordwood/segment/format.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/files.h"
#include "tests/support/shared_by_forks.h"
#include "tests/support/soak.h"
#include "tests/support/stall_meter.h"
#include "tests/support/temp_dir.h"

namespace cordwood::retention_process_test {
namespace {

using testing::Child;
using testing::FolderWatch;
using testing::Holds;
using testing::SharedByForks;
using testing::TempDir;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kSegment = 2 << 20;
constexpr int kProducers = 2;
constexpr int kConsumers = 4;
constexpr int kLongLived = 2;  // consumers that are not killed
const TopicPartition kEvents = {"events", 0};

// What all processes note.
struct Notes {
  std::atomic<bool> stop_producing, stop;
  std::atomic<std::int64_t> sent;
  std::atomic<std::int64_t> read, gaps, passed_over, wrong;
  std::atomic<Offset> committed[kConsumers];
  // Of appends that came back at their deadline, how late: up to so many milliseconds, or more.
  static constexpr std::array<std::int64_t, 4> kLate = {1, 2, 5, 10};
  std::atomic<std::int64_t> blocked, early, late[kLate.size() + 1], latest_ns;
  char why[256];  // something was wrong

  void Wrong(const std::string& what) {
    ++wrong;
    std::copy_n(what.c_str(), std::min(what.size() + 1, sizeof why - 1), why);
  }
};

// ---- Producers

// Begins each value; what follows only takes room.
struct Head {
  std::int64_t producer = 0;
  std::int64_t number = 0;
};

// Records of mixed sizes, as fast as can be, until it is told to stop.
void Produce(Notes& notes, const Partition& log, int producer,
             const std::function<AppendOptions()>& options) {
  constexpr std::size_t kSizes[] = {16, 100, 100, 400, 100, 2000, 16, 100, 60'000, 100, 9000};
  std::string value(60'000, 'v');
  Head head{producer, 0};
  for (std::size_t i = 0; !notes.stop_producing; ++i) {
    std::memcpy(value.data(), &head, sizeof head);
    const std::string_view some(value.data(), kSizes[i % std::size(kSizes)]);
    const AppendOptions how = options();
    const std::int64_t before = os::MonotonicNanos();
    const absl::Status status = log.Append({.value = some}, how).status();
    if (status.ok()) {
      ++head.number;
      ++notes.sent;
    } else if (absl::IsDeadlineExceeded(status)) {
      // For room, or for the other producer, who is at it and has lost his processor.
      const std::int64_t late =
          os::MonotonicNanos() - before - absl::ToInt64Nanoseconds(how.timeout);
      notes.blocked += ReasonOf(status) == Reason::kBacklogFull;
      notes.early += late < 0;
      notes.latest_ns = std::max(notes.latest_ns.load(), late);
      std::size_t k = 0;
      while (k < Notes::kLate.size() && late >= Notes::kLate[k] * 1'000'000) ++k;
      ++notes.late[k];
    } else {
      notes.Wrong(status.ToString());
    }
  }
}

// ---- Consumers

// Goes on behind a consumer's position: each offset is that of a record or in a gap, once, in
// order; and of each producer no record is missing where there was no gap.
class Follower {
 public:
  Follower(Notes& notes, const Partition& log, GapReason reason, Offset next)
      : notes_(notes), log_(log), reason_(reason), next_(next) {}

  void Take(const RecordBatch& batch) {
    auto gap = batch.gaps().begin();
    const auto pass_over = [&] {
      for (; gap != batch.gaps().end() && gap->from == next_; ++gap) {
        next_ = gap->to;
        ++gaps_;
        notes_.passed_over += gap->to - gap->from;
        ++notes_.gaps;
        // What is still there is no gap.
        if (gap->reason != reason_ || gap->to > log_.start_offset() || gap->to <= gap->from) {
          notes_.Wrong("a gap that is none");
        }
      }
    };
    for (const RecordView& record : batch) {
      pass_over();
      if (record.offset() != next_) notes_.Wrong("not the next record");
      next_ = record.offset() + 1;
      ++notes_.read;
      TakeHead(*record.value());
    }
    pass_over();
    if (gap != batch.gaps().end()) notes_.Wrong("a gap in the wrong place");
  }
  Offset next() const { return next_; }

 private:
  struct Seen {
    std::int64_t number = -1;
    int gaps = 0;  // that had been there by then
  };

  void TakeHead(std::string_view value) {
    Head head;
    std::memcpy(&head, value.data(), sizeof head);
    const auto [seen, is_first] = seen_.try_emplace(head.producer);
    const std::int64_t more = head.number - seen->second.number;
    if (!is_first && (seen->second.gaps == gaps_ ? more != 1 : more < 1)) {
      notes_.Wrong("not the producer's next record");
    }
    seen->second = {head.number, gaps_};
  }

  Notes& notes_;
  const Partition log_;
  const GapReason reason_;
  Offset next_;
  int gaps_ = 0;
  std::map<std::int64_t, Seen> seen_;
};

// Reads with a group of its own, from where that has committed, until it is told to stop or
// killed; `pause` after each batch. Who is to be killed flushes nothing for others: a process that
// dies in a sync leaves it to the next one to copy what was not durable, into a file beside.
void Consume(Notes& notes, const std::filesystem::path& path, int number, absl::Duration pause) {
  const Broker broker = Broker::Open(path, {.background_threads = number < kLongLived}).value();
  const Partition log = broker.OpenTopic("events").value().partition(0);
  Consumer consumer =
      broker.NewConsumer({.group = "group-" + std::to_string(number), .max_poll_records = 100})
          .value();
  if (const absl::Status assigned = consumer.Assign({kEvents}); !assigned.ok()) {
    return notes.Wrong(assigned.ToString());
  }
  const std::optional<Offset> committed = consumer.committed(kEvents).value();
  if (committed.value_or(0) < notes.committed[number]) notes.Wrong("a commit was lost");
  Follower follower(notes, log, GapReason::kRetention,
                    committed.value_or(consumer.position(kEvents).value()));
  while (!notes.stop) {
    const absl::StatusOr<RecordBatch> batch = consumer.Poll(absl::Milliseconds(20));
    if (!batch.ok()) return notes.Wrong(batch.status().ToString());
    follower.Take(*batch);
    if (consumer.position(kEvents).value() != follower.next()) notes.Wrong("another position");
    if (const absl::Status status = consumer.Commit(); !status.ok()) {
      return notes.Wrong(status.ToString());
    }
    notes.committed[number] = follower.next();
    absl::SleepFor(pause);  // the work
  }
}

// ---- The world

// The most and the least in each third of a soak: the first one is the warm-up.
struct Thirds {
  std::array<std::int64_t, 3> most = {}, least = {INT64_MAX, INT64_MAX, INT64_MAX};

  void Add(std::size_t third, std::int64_t value) {
    most[third] = std::max(most[third], value);
    least[third] = std::min(least[third], value);
  }
  // In the last third it is at times no more than it was in the first: nothing is kept for ever.
  // `once`: so much more may come once and stay. What is held for ever comes with each segment,
  // of which there are hundreds.
  bool IsFlat(std::int64_t once = 0) const { return least[2] <= most[0] + once; }
  void Print(const char* what) const {
    std::printf("  %s: %lld..%lld, %lld..%lld, %lld..%lld\n", what,
                static_cast<long long>(least[0]), static_cast<long long>(most[0]),
                static_cast<long long>(least[1]), static_cast<long long>(most[1]),
                static_cast<long long>(least[2]), static_cast<long long>(most[2]));
  }
};

struct HoldsOverTime {
  Thirds maps, mapped_bytes, descriptors;

  void Add(std::size_t third, const Holds& holds) {
    maps.Add(third, holds.maps);
    mapped_bytes.Add(third, holds.mapped_bytes);
    descriptors.Add(third, holds.descriptors);
  }
  void CheckFlat() const {
    CHECK(maps.IsFlat());
    CHECK(mapped_bytes.IsFlat());
    CHECK(descriptors.IsFlat(4));  // a group's offsets, say, from the first flush on
  }
  void Print(const std::string& who) const {
    std::printf("%s, by thirds of the time:\n", who.c_str());
    maps.Print("maps");
    mapped_bytes.Print("mapped bytes");
    descriptors.Print("descriptors");
  }
};

struct World {
  explicit World(const TopicConfig& config) {
    const Broker broker = Broker::Open(path).value();
    broker.CreateTopic("events", config).value();
    REQUIRE(broker.Close().ok());
  }

  TempDir dir;
  const std::filesystem::path path = dir.path() / "data";
  const std::filesystem::path folder = path / "topics/events/0";
  const SharedByForks<Notes> notes;
};

}  // namespace

TEST_CASE("Retention: a soak stays within 64 MiB and two segments, and holds nothing for ever") {
  constexpr std::int64_t kBound = 64 << 20;
  // What the file system rounds up in two files of an index, and needs to say where blocks are.
  constexpr std::int64_t kBesides = 36 * (16 << 10);
  const unsigned seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto any = [&](int from, int to) {
    return std::uniform_int_distribution<>(from, to)(random);
  };
  const World world({.segment_bytes = kSegment, .retention_bytes = kBound});
  Notes& notes = *world.notes;
  std::vector<std::unique_ptr<Child>> producers;
  for (int i = 0; i < kProducers; ++i) {
    producers.push_back(std::make_unique<Child>([&, i](Child& parent) {
      const Broker broker = Broker::Open(world.path).value();
      Produce(notes, broker.OpenTopic("events").value().partition(0), i,
              [] { return AppendOptions{}; });
      broker.Close().IgnoreError();
      parent.Tell(1);
    }));
  }
  // The first one keeps up, the second one lags and lives as long as the soak, the others are
  // killed now and then; all are stopped now and then.
  struct Process {
    std::unique_ptr<Child> child;
    bool stopped = false;
  };
  std::vector<Process> consumers(kConsumers);
  const auto start = [&](int i) {
    return std::make_unique<Child>([&, i](Child& parent) {
      Consume(notes, world.path, i, i % 2 == 0 ? absl::ZeroDuration() : absl::Milliseconds(30));
      parent.Tell(1);
    });
  };
  for (int i = 0; i < kConsumers; ++i) consumers[static_cast<std::size_t>(i)].child = start(i);

  FolderWatch folder(world.folder);
  std::int64_t most = 0, looks = 0;
  // The thirds begin when it is full.
  while (std::filesystem::exists(world.folder / segment::SegmentFileName(0))) {
    most = std::max(most, folder.Bytes());
    absl::SleepFor(absl::Milliseconds(1));
  }
  const std::int64_t begin = os::MonotonicNanos();
  const std::int64_t length = testing::SoakSeconds() * kSecond;
  std::int64_t next_act = begin, next_look = begin;
  int kills = 0, stops = 0;
  HoldsOverTime of_producers[kProducers], of_consumers[kLongLived];
  // Longer only where the machine is so slow that nobody was overtaken yet.
  for (std::int64_t now = begin; now < begin + length || notes.gaps == 0;
       now = os::MonotonicNanos()) {
    most = std::max(most, folder.Bytes());
    ++looks;
    if (now >= next_look) {
      const auto third =
          std::min<std::size_t>(2, static_cast<std::size_t>((now - begin) * 3 / length));
      for (std::size_t i = 0; i < kProducers; ++i) {
        of_producers[i].Add(third, Holds::Of(producers[i]->pid(), world.path));
      }
      for (std::size_t i = 0; i < kLongLived; ++i) {
        of_consumers[i].Add(third, Holds::Of(consumers[i].child->pid(), world.path));
      }
      next_look = now + kSecond / 20;
    }
    if (now >= next_act) {
      const int i = any(0, kConsumers - 1);
      Process& process = consumers[static_cast<std::size_t>(i)];
      if (process.stopped) {
        process.child->Continue();
        process.stopped = false;
      } else if (i >= kLongLived && any(0, 1) == 0) {
        process.child->Kill();
        process.child = start(i);
        ++kills;
      } else {
        process.child->Stop();
        process.stopped = true;
        ++stops;
      }
      next_act = now + any(1, 200) * (kSecond / 1000);
    }
    absl::SleepFor(absl::Milliseconds(1));  // the pace
  }
  notes.stop_producing = true;
  for (const auto& producer : producers) CHECK(producer->Wait() == 1);
  const double seconds = static_cast<double>(os::MonotonicNanos() - begin) / kSecond;
  notes.stop = true;
  for (const Process& process : consumers) {
    process.child->Continue();
    CHECK(process.child->Wait() == 1);
  }
  consumers.clear();
  producers.clear();

  std::printf(
      "Retention: %.0f s, %lld records (%.0f/s) in %zu segments; the directory at most %lld bytes "
      "(%+.2f segments) in %lld looks; %lld read, %lld in %lld gaps; %d stops, %d kills\n",
      seconds, static_cast<long long>(notes.sent), static_cast<double>(notes.sent) / seconds,
      folder.segments(), static_cast<long long>(most),
      static_cast<double>(most - kBound) / kSegment, static_cast<long long>(looks),
      static_cast<long long>(notes.read), static_cast<long long>(notes.passed_over),
      static_cast<long long>(notes.gaps), stops, kills);
  for (const HoldsOverTime& holds : of_producers) holds.Print("A producer");
  of_consumers[0].Print("The consumer that keeps up");
  of_consumers[1].Print("The consumer that lags");
  for (const HoldsOverTime& holds : of_producers) holds.CheckFlat();
  for (const HoldsOverTime& holds : of_consumers) holds.CheckFlat();
  INFO(notes.why);
  CHECK(notes.wrong == 0);
  CHECK(notes.gaps > 0);
  CHECK(most <= kBound + 2 * kSegment + kBesides);
  const Broker broker = Broker::Open(world.path).value();
  CHECK(broker.OpenTopic("events").value().partition(0).end_offset() == notes.sent);
}

// ---- Backlogs

namespace {

// Two producers at full speed, and the one consumer whose group the topic waits for; that is
// stopped all the time, but for a moment at the beginning and the end.
struct Backlog {
  static constexpr std::int64_t kBound = 16 << 20, kLimit = 16 << 20;

  explicit Backlog(BacklogPolicy policy)
      : world({.segment_bytes = kSegment,
               .retention_bytes = kBound,
               .retain_for_groups = {"uplink"},
               .backlog_bytes = kLimit,
               .backlog_policy = policy}) {}

  // Until it has been stopped for a while and `is_enough`, of the files that were there when it was
  // stopped, says so.
  void Run(const std::function<AppendOptions()>& options,
           const std::function<bool(const std::set<std::string>&)>& is_enough) {
    const Child uplink([&](Child& parent) {
      // Without threads: else it would be stopped in maintenance now and then, and nobody could
      // remove the oldest until it goes on.
      const Broker broker = Broker::Open(world.path, {.background_threads = false}).value();
      const Partition log = broker.OpenTopic("events").value().partition(0);
      Consumer consumer = broker.NewConsumer({.group = "uplink"}).value();
      if (!consumer.Subscribe({"events"}).ok()) return;
      Follower follower(notes, log, GapReason::kDropped, 0);
      bool told = false;
      // Commits all the time, so that it is stopped anywhere in that.
      while (!notes.stop || follower.next() < log.end_offset()) {
        follower.Take(consumer.Poll(absl::Milliseconds(20)).value());
        const absl::Status status = consumer.Commit();
        if (!status.ok()) notes.Wrong(status.ToString());
        if (follower.next() > 1000 && !std::exchange(told, true)) parent.Tell(1);
      }
      parent.Tell(2);
    });
    std::vector<std::unique_ptr<Child>> producers;
    for (int i = 0; i < kProducers; ++i) {
      producers.push_back(std::make_unique<Child>([&, i](Child& parent) {
        const Broker broker = Broker::Open(world.path).value();
        Produce(notes, broker.OpenTopic("events").value().partition(0), i, options);
        broker.Close().IgnoreError();
        parent.Tell(1);
      }));
    }
    const testing::StallMeter meter;
    REQUIRE(uplink.Wait() == 1);
    uplink.Stop();
    const std::set<std::string> there = testing::NamesIn(world.folder);
    FolderWatch folder(world.folder);
    const std::int64_t until = os::MonotonicNanos() + testing::SoakSeconds() * kSecond / 12;
    while (os::MonotonicNanos() < until || !is_enough(there)) {
      most = std::max(most, folder.Bytes());
      absl::SleepFor(absl::Milliseconds(1));  // the pace
    }
    sent_while_stopped = notes.sent;
    uplink.Continue();
    const std::int64_t goes_on_by = os::MonotonicNanos() + 60 * kSecond;
    while (notes.sent < sent_while_stopped + 1000 && os::MonotonicNanos() < goes_on_by) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    notes.stop_producing = true;
    for (const auto& producer : producers) CHECK(producer->Wait() == 1);
    worst_stall_ns = meter.WorstNs();
    notes.stop = true;
    CHECK(uplink.Wait() == 2);
    std::printf(
        "Backlog: %lld records, %lld of them while the consumer was stopped; the directory at most "
        "%lld bytes (bound + limit %+lld); %lld read, %lld in %lld gaps\n",
        static_cast<long long>(notes.sent), static_cast<long long>(sent_while_stopped),
        static_cast<long long>(most), static_cast<long long>(most - kBound - kLimit),
        static_cast<long long>(notes.read), static_cast<long long>(notes.passed_over),
        static_cast<long long>(notes.gaps));
    UNSCOPED_INFO(notes.why);
    CHECK(notes.wrong == 0);
    CHECK(notes.sent > sent_while_stopped);
  }

  World world;
  Notes& notes = *world.notes;
  std::int64_t most = 0, sent_while_stopped = 0, worst_stall_ns = 0;
};

}  // namespace

TEST_CASE("Backlog: while its consumer is stopped, producers come back at their deadlines") {
  Backlog backlog(BacklogPolicy::kBlock);
  std::mt19937 random(std::random_device{}());
  const Notes& notes = backlog.notes;
  backlog.Run([&] { return AppendOptions{.timeout = absl::Milliseconds(1 + random() % 150)}; },
              [&](const std::set<std::string>&) { return notes.blocked > 0; });
  std::printf(
      "Deadlines: %lld; late by < 1 ms %lld, < 2 ms %lld, < 5 ms %lld, < 10 ms %lld, "
      "more %lld; at most %.2f ms\n",
      static_cast<long long>(notes.blocked), static_cast<long long>(notes.late[0]),
      static_cast<long long>(notes.late[1]), static_cast<long long>(notes.late[2]),
      static_cast<long long>(notes.late[3]), static_cast<long long>(notes.late[4]),
      static_cast<double>(notes.latest_ns) / 1e6);
  CHECK(notes.blocked > 0);
  CHECK(notes.early == 0);
  CHECK(notes.latest_ns < kSecond + backlog.worst_stall_ns);
  CHECK(notes.gaps == 0);
  CHECK(notes.read == notes.sent);
  CHECK(backlog.most <= Backlog::kBound + Backlog::kLimit);
}

TEST_CASE("Backlog: while its consumer is stopped the oldest go, and it is told of each") {
  Backlog backlog(BacklogPolicy::kDropOldest);
  // What was there is gone, and with it what it had not read.
  backlog.Run([] { return AppendOptions{}; },
              [&](const std::set<std::string>& there) {
                const std::set<std::string> now = testing::NamesIn(backlog.world.folder);
                return std::none_of(there.begin(), there.end(), [&](const std::string& name) {
                  return name.ends_with(".log") && now.contains(name);
                });
              });
  const Notes& notes = backlog.notes;
  CHECK(notes.gaps > 0);
  CHECK(notes.read + notes.passed_over == notes.sent);
  CHECK(backlog.most <= Backlog::kBound + Backlog::kLimit);
}

}  // namespace cordwood::retention_process_test
