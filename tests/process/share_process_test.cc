// Share consumers in several processes that are killed at any moment.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/share_fixture.h"
#include "tests/support/shared_by_forks.h"

namespace cordwood {
namespace {

using namespace share_testing;

constexpr int kRecords = 10'000;
constexpr int kPartitions = 4;
constexpr int kTakers = 4;
constexpr int kPoisonEach = 500;  // every so many is one that nobody can handle
constexpr int kDeliveryLimit = 5;

bool IsPoison(int record) { return record % kPoisonEach == 7; }

// What all processes note. A process may be killed between any two of its notes, so each is
// made on the side that cannot flatter: what is claimed is noted after it is certain, what
// would be forbidden is looked for before it can happen.
struct Notes {
  struct OfRecord {
    // The process that works on it, from after its Acquire to before its Acknowledge.
    std::atomic<std::int32_t> holder;
    std::atomic<std::uint32_t> deliveries;
    std::atomic<std::uint32_t> accepting;  // Acknowledge was called
    std::atomic<std::uint32_t> accepted;   // it returned OK
  };
  std::atomic<std::uint32_t> held_by_two;
  std::atomic<std::uint32_t> after_accept;  // delivered though it was accepted
  std::atomic<std::uint32_t> deliveries;
  std::atomic<std::uint32_t> errors;
  std::atomic<std::uint32_t> accepted;
  std::atomic<std::uint32_t> released;
  std::atomic<std::uint32_t> letters_tried_again;
  std::atomic<std::uint32_t> done;  // the group has no lag
  OfRecord records[kRecords];
  char why[256];  // of the last error

  void Fail(const absl::Status& status) {
    ++errors;
    const std::string text = status.ToString();
    std::copy_n(text.c_str(), std::min(text.size(), sizeof why - 1), why);
  }

  // Whether that process works no more. Its locks are dropped, and others have its records,
  // before it is a zombie; but after the kernel has marked it as one that exits.
  static bool IsGone(std::int32_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    if (!std::getline(file, text)) return true;
    std::istringstream fields(text.substr(text.rfind(')') + 1));
    char state = 'X';
    std::int64_t parent, group, session, terminal, terminal_group;
    std::uint64_t flags = 0;
    fields >> state >> parent >> group >> session >> terminal >> terminal_group >> flags;
    constexpr std::uint64_t kExiting = 4;  // PF_EXITING
    return state == 'Z' || state == 'X' || (flags & kExiting) != 0;
  }
};

// A dead letter could not be written: the last one who was at it was killed in a sync of that
// topic, or another one is at it, and the disk takes long.
bool IsToBeTriedAgain(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

// Takes records until there are no more, or it is killed.
void Take(const std::filesystem::path& path, Notes& notes, unsigned seed) {
  std::mt19937 random(seed);
  const auto percent = [&](unsigned n) { return random() % 100 < n; };
  absl::StatusOr<Broker> broker = Broker::Open(path);
  if (!broker.ok()) return notes.Fail(broker.status());
  absl::StatusOr<ShareConsumer> made = broker->NewShareConsumer({.group = "billing",
                                                                 .dead_letter_topic = "dead",
                                                                 .delivery_limit = kDeliveryLimit,
                                                                 .max_poll_records = 20});
  if (!made.ok()) return notes.Fail(made.status());
  ShareConsumer worker = *std::move(made);
  const absl::Status subscribed = worker.Subscribe({"orders"});
  if (!subscribed.ok()) return notes.Fail(subscribed);
  const auto me = static_cast<std::int32_t>(getpid());
  while (notes.done == 0) {
    absl::StatusOr<AcquiredBatch> batch = worker.Acquire(absl::Milliseconds(20));
    if (IsToBeTriedAgain(batch.status())) {
      ++notes.letters_tried_again;
      continue;
    }
    if (!batch.ok()) return notes.Fail(batch.status());
    if (batch->empty() && LagOf(*broker) == 0) notes.done = 1;
    std::vector<std::pair<const AcquiredRecord*, int>> held;
    for (const AcquiredRecord& record : *batch) {
      const int number = std::stoi(std::string(record->value().value()));
      Notes::OfRecord& note = notes.records[number];
      const std::int32_t before = note.holder.exchange(me);
      // The lock time is 30 seconds, which no process keeps a record for.
      if (before != 0 && (before == me || !Notes::IsGone(before))) ++notes.held_by_two;
      if (note.accepted != 0) ++notes.after_accept;
      ++note.deliveries;
      ++notes.deliveries;
      held.emplace_back(&record, number);
    }
    for (const auto& [record, number] : held) {
      Notes::OfRecord& note = notes.records[number];
      const bool release = IsPoison(number) || percent(5);
      note.holder.store(0);
      ++(release ? notes.released : note.accepting);
      const absl::Status status =
          worker.Acknowledge(*record, release ? AckType::kRelease : AckType::kAccept);
      if (status.ok() && !release) {
        ++note.accepted;
        ++notes.accepted;
      }
      // Within the lock time nobody can have taken it away.
      if (release && IsToBeTriedAgain(status)) {
        ++notes.letters_tried_again;
      } else if (!status.ok()) {
        notes.Fail(status);
      }
      // One in a hundred of those who take a record does not live to say so.
      if (percent(1)) kill(getpid(), SIGKILL);
    }
  }
}

pid_t Fork(const std::function<void()>& f) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a test that fails leaves nobody behind
  f();
  _exit(0);
}

}  // namespace

TEST_CASE("Processes: four take 10,000 records, are killed, and each is accepted once or dead") {
  const unsigned seed = std::random_device()();
  INFO("seed " << seed);
  TempDir dir;
  const std::filesystem::path path = dir.path() / "data";
  const testing::SharedByForks<Notes> shared;
  Notes& notes = *shared;
  {
    const Broker broker = Broker::Open(path).value();
    const Topic orders = broker.CreateTopic("orders", {.partitions = kPartitions}).value();
    broker.CreateTopic("dead", {.partitions = 2}).value();
    for (int i = 0; i < kRecords; ++i) {
      const std::string value = std::to_string(i);
      REQUIRE(orders.partition(i % kPartitions).Append({.key = value, .value = value}).ok());
    }
    REQUIRE(broker.Close().ok());
  }
  // The parent has no thread and no broker while it forks.
  std::set<pid_t> takers;
  unsigned next_seed = seed;
  const auto start = [&] {
    const unsigned s = ++next_seed;
    takers.insert(Fork([&] { Take(path, notes, s); }));
  };
  for (int i = 0; i < kTakers; ++i) start();
  int killed = 0, restarts = 0;
  unsigned at_last_kill = 0;
  std::mt19937 random(seed);
  const absl::Time give_up = absl::Now() + absl::Minutes(4);
  while (notes.done == 0 && absl::Now() < give_up) {
    int status = 0;
    const pid_t gone = waitpid(-1, &status, WNOHANG);
    if (gone > 0 && takers.erase(gone) != 0) {
      if (WIFSIGNALED(status)) ++killed;
      start();
      continue;
    }
    // From outside too: in whatever it is doing then, a lock of the library's in its hand. Not
    // before they have done something again: where a disk is slow nobody would come to that.
    if (random() % 30 == 0 && notes.deliveries >= at_last_kill + 20) {
      at_last_kill = notes.deliveries;
      auto taker = takers.begin();
      std::advance(taker, random() % takers.size());
      kill(*taker, SIGKILL);
    }
    // Three times everything restarts: nobody is left who knows.
    if (notes.accepted > static_cast<unsigned>(kRecords / 4 * (restarts + 1)) && restarts < 3) {
      for (const pid_t pid : takers) kill(pid, SIGKILL);
      for (const pid_t pid : takers) waitpid(pid, nullptr, 0);
      killed += kTakers;
      ++restarts;
      takers.clear();
      for (int i = 0; i < kTakers; ++i) start();
    }
    usleep(200);  // the pace
  }
  const bool in_time = notes.done != 0;
  notes.done = 1;
  for (const pid_t pid : takers) waitpid(pid, nullptr, 0);

  // Another restart: nothing of what is done with comes again.
  const Broker broker = Broker::Open(path).value();
  ShareConsumer last = broker.NewShareConsumer({.group = "billing"}).value();
  REQUIRE(last.Subscribe({"orders"}).ok());
  CHECK(last.Acquire(kShort).value().empty());
  // Dead letters, by the record that they are about.
  std::map<int, Letter> letters;
  int letters_twice = 0;
  for (int p = 0; p < 2; ++p) {
    PartitionReader reader = broker.OpenTopic("dead").value().partition(p).Read(0).value();
    for (const RecordView& record : reader) {
      Letter letter;
      for (const Header& header : record.headers()) {
        letter[std::string(header.key)] = std::string(header.value.bytes());
      }
      const int number = std::stoi(std::string(record.value().value()));
      if (!letters.emplace(number, letter).second) ++letters_twice;
    }
  }
  int lost = 0, twice = 0, unsure = 0, wrong_letters = 0, dead_good = 0, most = 0;
  for (int i = 0; i < kRecords; ++i) {
    const Notes::OfRecord& note = notes.records[i];
    const auto letter = letters.find(i);
    const bool is_dead = letter != letters.end();
    const int accepted = static_cast<int>(note.accepted.load());
    most = std::max(most, static_cast<int>(note.deliveries.load()));
    if (accepted + (is_dead ? 1 : 0) > 1) ++twice;
    if (accepted + (is_dead ? 1 : 0) == 0) {
      // Its taker was killed after it had called Acknowledge and before it noted the answer.
      // It is done with and there is no letter, so it was accepted.
      (note.accepting > 0 ? unsure : lost)++;
    }
    if (IsPoison(i) != is_dead) ++(is_dead ? dead_good : lost);
    if (!is_dead) continue;
    const bool right =
        letter->second["cordwood.dlq.topic"] == "orders" &&
        letter->second["cordwood.dlq.partition"] == std::to_string(i % kPartitions) &&
        letter->second["cordwood.dlq.offset"] == std::to_string(i / kPartitions) &&
        letter->second["cordwood.dlq.delivery_count"] == std::to_string(kDeliveryLimit) &&
        letter->second["cordwood.dlq.reason"] == "delivery limit reached";
    if (!right) ++wrong_letters;
  }
  INFO(killed << " killed, " << restarts << " restarts of all, " << notes.released << " released, "
              << letters.size() << " dead letters, " << dead_good << " of them of good records; "
              << unsure << " accepted by takers that were killed in it; at most " << most
              << " deliveries, " << notes.letters_tried_again
              << " letters tried again; last error: " << notes.why);
  CHECK(in_time);
  CHECK(killed > 0);
  CHECK(restarts == 3);
  CHECK(notes.errors == 0);
  CHECK(notes.held_by_two == 0);
  CHECK(notes.after_accept == 0);
  CHECK(lost == 0);
  CHECK(twice == 0);
  CHECK(letters_twice == 0);
  CHECK(wrong_letters == 0);
  CHECK(most <= kDeliveryLimit);
  CHECK(LagOf(broker) == 0);
}

TEST_CASE("Processes: what a killed process held is free at once, not after its lock time") {
  TempDir dir;
  const std::filesystem::path path = dir.path() / "data";
  {
    const Broker broker = Broker::Open(path).value();
    const Topic orders = broker.CreateTopic("orders").value();
    REQUIRE(orders.partition(0).Append({.value = "a"}).ok());
  }
  const pid_t holder = Fork([&] {
    const Broker broker = Broker::Open(path).value();
    ShareConsumer worker = broker.NewShareConsumer({.group = "billing"}).value();
    const bool subscribed = worker.Subscribe({"orders"}).ok();
    const AcquiredBatch batch = worker.Acquire(kLong).value();
    if (subscribed && batch.size() == 1) kill(getpid(), SIGKILL);
  });
  int status = 0;
  waitpid(holder, &status, 0);
  REQUIRE(WIFSIGNALED(status));
  const Broker broker = Broker::Open(path).value();
  ShareConsumer worker = broker.NewShareConsumer({.group = "billing"}).value();
  REQUIRE(worker.Subscribe({"orders"}).ok());
  const AcquiredBatch batch = worker.Acquire(kLong).value();
  REQUIRE(batch.size() == 1);
  CHECK(batch.begin()->delivery_count() == 2);
}

TEST_CASE("Processes: a share consumer that a child inherits answers, and takes nothing away") {
  ShareWorld world;
  world.Send(0, "a");
  std::optional<ShareConsumer> worker = world.Worker();
  const AcquiredBatch batch = worker->Acquire(kLong).value();
  const pid_t child = Fork([&] {
    const bool refused =
        worker->Acquire(kShort).status().code() == absl::StatusCode::kFailedPrecondition &&
        worker->Acknowledge(*batch.begin()).code() == absl::StatusCode::kFailedPrecondition;
    worker.reset();
    _exit(refused ? 0 : 1);
  });
  int status = 0;
  waitpid(child, &status, 0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  CHECK(worker->Acknowledge(*batch.begin()).ok());
}

}  // namespace cordwood
