// Members of a group: joining, deciding, handing over, dying, coming back.

#include "cordwood/group/membership.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cordwood/log/directory.h"
#include "cordwood/os/clock.h"
#include "tests/catch.h"
#include "tests/support/temp_dir.h"

namespace cordwood::group {
namespace {

using namespace cordwood::testing;
using Entries = std::vector<int>;

constexpr std::int64_t kSecond = 1'000'000'000;
// So that what the machine lets a test wait makes no difference.
constexpr std::int64_t kHour = 3600 * kSecond;

// A directory with the topic "orders", and a group "billing" in it.
class Fixture {
 public:
  explicit Fixture(int partitions = 6) {
    RecoveryReport report;
    directory = log::Directory::Open(dir.path() / "data", {}, {}, report).value();
    AddTopic("orders", partitions);
    store = GroupStore::Open(directory->context()).value();
    group = store->OpenGroup("billing", true).value();
  }
  void AddTopic(const std::string& name, int partitions) const {
    directory->CreateTopic(name, {.partitions = partitions}).value();
  }
  absl::StatusOr<std::shared_ptr<Member>> TryJoin(const Subscription& subscription = {},
                                                  const std::string& assignor = "sticky") const {
    Subscription with_topics = subscription;
    if (with_topics.topics.empty()) with_topics.topics = {"orders"};
    return Member::Join(group, *directory, with_topics, BuiltInAssignor(assignor));
  }
  std::shared_ptr<Member> Join(const Subscription& subscription = {}) const {
    return TryJoin(subscription).value();
  }
  // What a Poll does; returns whether there was anything to do.
  static bool Poll(Member& member) {
    if (!member.HasNews()) return false;
    member.Hear();
    REQUIRE(member.Look(Now()).ok());
    member.GiveUp(member.ToGiveUp());
    member.Take();
    return true;
  }
  // Until nobody has anything to do.
  static void Settle(const std::vector<std::shared_ptr<Member>>& members) {
    for (bool moved = true; moved;) {
      moved = false;
      for (const auto& member : members) moved = Poll(*member) || moved;
    }
  }
  static std::int64_t Now() { return os::ReadClock(CLOCK_MONOTONIC_COARSE); }

  TempDir dir;
  std::shared_ptr<log::Directory> directory;
  std::shared_ptr<GroupStore> store;
  std::shared_ptr<Group> group;
};

Entries EntriesOf(const Member& member) {
  Entries entries;
  for (const auto& [entry, epoch] : member.owned()) entries.push_back(entry);
  return entries;
}

// What a killed process leaves: its byte is free, its slot says that it has joined, and its
// partitions that they are its own. The others have given up what it had.
class Killed {
 public:
  Killed(const Fixture& f, const Subscription& subscription,
         std::vector<std::shared_ptr<Member>> others) {
    const std::shared_ptr<Member> member = f.Join(subscription);
    others.push_back(member);
    Fixture::Settle(others);
    owned = member->owned();
    slot = &f.group->slot(member->number());
    const std::uint32_t ref = RefOfSlot(member->number());
    LiveHeader& live = f.group->live();
    // A decision would be in the way of what is put back below.
    REQUIRE(live.roster_lock.TryLock(*f.directory->context()->owners));
    member->Leave();
    slot->state = MemberState::kJoined;
    for (const auto& [entry, epoch] : owned) f.group->entry(entry).owner = ref;
    live.wanted = live.decided.load();
    live.roster_lock.Unlock();
    for (const auto& other : others) other->Hear();
  }

  std::map<int, std::uint16_t> owned;  // the epoch by entry
  MemberSlot* slot = nullptr;
};

}  // namespace

// ---- Sharing

TEST_CASE("Members: one has all partitions, and each that joins takes its share") {
  Fixture f;
  const auto first = f.Join();
  Fixture::Settle({first});
  CHECK(EntriesOf(*first) == Entries{0, 1, 2, 3, 4, 5});
  const auto second = f.Join();
  Fixture::Settle({first, second});
  CHECK(EntriesOf(*first).size() == 3);
  CHECK(EntriesOf(*second).size() == 3);
  const auto third = f.Join();
  Fixture::Settle({first, second, third});
  for (const auto& member : {first, second, third}) CHECK(EntriesOf(*member).size() == 2);
}

TEST_CASE("Members: what is to move is its owner's until the owner gives it up") {
  Fixture f;
  const auto first = f.Join();
  Fixture::Settle({first});
  const auto second = f.Join();
  second->Hear();
  CHECK(second->Take().empty());
  CHECK(first->HasNews());
  const Entries moving = first->ToGiveUp();
  CHECK(moving.size() == 3);
  CHECK(second->Take().empty());
  first->GiveUp(moving);
  CHECK(second->HasNews());
  CHECK(second->Take().size() == 3);
}

TEST_CASE("Members: a join waits for nobody whose partitions do not move") {
  Fixture f;
  f.AddTopic("users", 2);
  const auto orders = f.Join();
  Fixture::Settle({orders});
  const auto users = f.Join({.topics = {"users"}});
  CHECK(users->Take().size() == 2);  // though the other one has not polled
  CHECK(orders->ToGiveUp().empty());
}

TEST_CASE("Members: one that leaves frees its partitions at once") {
  Fixture f;
  const auto first = f.Join();
  auto second = f.Join();
  Fixture::Settle({first, second});
  second.reset();
  Fixture::Settle({first});
  CHECK(EntriesOf(*first).size() == 6);
  CHECK(f.group->HasMember());
  first->Leave();
  CHECK_FALSE(f.group->HasMember());
  CHECK(f.group->State() == "Empty");
}

TEST_CASE("Members: one that leaves while the lock is held waits for nobody") {
  Fixture f;
  const auto first = f.Join();
  const auto second = f.Join();
  Fixture::Settle({first, second});
  os::SharedLock& lock = f.group->live().roster_lock;
  REQUIRE(lock.TryLock(*f.directory->context()->owners));
  second->Leave();
  first->Hear();
  REQUIRE(first->Look(Fixture::Now()).ok());
  CHECK(first->Take().empty());  // nobody could decide
  lock.Unlock();
  first->Hear();
  REQUIRE(first->Look(Fixture::Now()).ok());
  CHECK(first->Take().size() == 3);
}

TEST_CASE("Members: another subscription moves what it has to") {
  Fixture f(2);
  f.AddTopic("users", 2);
  const auto first = f.Join();
  const auto second = f.Join();
  Fixture::Settle({first, second});
  REQUIRE(second->Subscribe({"users"}).ok());
  Fixture::Settle({first, second});
  CHECK(EntriesOf(*first) == Entries{0, 1});
  CHECK(EntriesOf(*second) == Entries{2, 3});
}

TEST_CASE("Members: one with another assignor is refused in words") {
  Fixture f;
  const auto first = f.Join();
  const absl::Status status = f.TryJoin({}, "range").status();
  CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(status.message().find("sticky") != absl::string_view::npos);
  CHECK(status.message().find("range") != absl::string_view::npos);
}

TEST_CASE("Members: there are 1,024 at most, and the next one is told so") {
  Fixture f;
  for (int i = 0; i < kMembersMax; ++i) f.group->slot(i).state = MemberState::kEvicted;
  f.group->live().slots_used = 0;  // so that nobody sweeps them
  CHECK(f.TryJoin().status().code() == absl::StatusCode::kResourceExhausted);
}

TEST_CASE("Members: topics that do not exist cannot be joined") {
  Fixture f;
  CHECK(f.TryJoin({.topics = {"nothing"}}).status().code() == absl::StatusCode::kNotFound);
  CHECK_FALSE(f.group->HasMember());
}

// ---- Death

TEST_CASE("Rule 37: a dead member's partitions go to the next who looks, with a new epoch") {
  Fixture f;
  const auto first = f.Join();
  const Killed second(f, {}, {first});
  REQUIRE(second.owned.size() == 3);
  REQUIRE(first->Take().empty());
  CHECK(first->NeedsPoll(Fixture::Now()));
  REQUIRE(first->Look(Fixture::Now() + kSecond).ok());
  CHECK(first->Take().size() == 3);
  CHECK(second.slot->state.load() == MemberState::kFree);
  for (const auto& [entry, epoch] : second.owned) {
    CHECK(first->owned().at(entry) > epoch);
    CHECK(f.group->Commit(entry, 1, false, epoch).code() == absl::StatusCode::kAborted);
  }
}

TEST_CASE("Rule 37: a join that fails loses nobody the partitions of a dead member") {
  Fixture f;
  const auto first = f.Join();
  const Killed second(f, {}, {first});
  REQUIRE_FALSE(f.TryJoin({}, "range").ok());
  REQUIRE(first->Look(Fixture::Now() + kSecond).ok());
  CHECK(first->Take().size() == 3);
}

TEST_CASE("Rule 37: a look is made every 100 ms and not in between") {
  Fixture f;
  const auto first = f.Join();
  const std::int64_t now = Fixture::Now() + kHour;  // the joins below look, too, by now
  const Killed second(f, {}, {first});
  REQUIRE(first->Look(now).ok());
  REQUIRE(second.slot->state.load() == MemberState::kFree);
  const Killed third(f, {}, {first});
  REQUIRE(first->Look(now + Member::kLookNanos - 1).ok());
  CHECK(third.slot->state.load() == MemberState::kJoined);
  REQUIRE(first->Look(now + Member::kLookNanos).ok());
  CHECK(third.slot->state.load() == MemberState::kFree);
}

TEST_CASE("Rule 37: behind a stopped member a dead one is found, too") {
  Fixture f;
  const auto first = f.Join();
  const auto stopped = f.Join();  // which looks after nobody
  const Killed third(f, {}, {first, stopped});
  std::int64_t now = Fixture::Now();
  int looks = 0;
  for (; third.slot->state.load() == MemberState::kJoined && looks < 10; ++looks) {
    REQUIRE(first->Look(now += kSecond).ok());
  }
  CHECK(third.slot->state.load() == MemberState::kFree);
  CHECK(looks <= 3);
  CHECK_FALSE(stopped->IsEvicted());
}

TEST_CASE("Rule 36: the epoch of an owner that was thrown out commits nothing") {
  Fixture f;
  const auto first = f.Join({.poll_interval_max_ns = kHour});
  Fixture::Settle({first});
  const int entry = first->owned().begin()->first;
  const std::uint16_t epoch = first->owned().begin()->second;
  REQUIRE(f.group->Commit(entry, 5, false, epoch).ok());
  const auto second = f.Join();
  // It has not polled for two hours by the clock of the one who looks.
  REQUIRE(second->Look(Fixture::Now() + 2 * kHour).ok());
  CHECK(first->IsEvicted());
  CHECK(f.group->Commit(entry, 6, false, epoch).code() == absl::StatusCode::kAborted);
  const std::vector<Owned> taken = second->Take();
  REQUIRE(taken.size() == 6);
  CHECK(f.group->Commit(entry, 6, false, epoch).code() == absl::StatusCode::kAborted);
  CHECK(f.group->committed(entry) == 5);
  CHECK(f.group->Commit(entry, 7, false, second->owned().at(entry)).ok());
  first->Leave();
  CHECK(EntriesOf(*second).size() == 6);
  CHECK(f.group->entry(entry).owner == RefOfSlot(second->number()));
}

TEST_CASE("Rule 36: one that is evicted takes nothing any more") {
  Fixture f;
  const auto first = f.Join({.poll_interval_max_ns = kHour});
  const auto second = f.Join();
  REQUIRE(second->Look(Fixture::Now() + 2 * kHour).ok());
  REQUIRE(first->IsEvicted());
  // As if it had looked at the target before it was evicted.
  second->GiveUp(second->ToGiveUp());
  f.group->entry(0).target = RefOfSlot(first->number());
  CHECK(first->Take().empty());
  CHECK(f.group->entry(0).owner == 0U);
}

TEST_CASE("Rule 36: an owner that gave it up commits nothing once another has taken it") {
  Fixture f(2);
  const auto first = f.Join();
  Fixture::Settle({first});
  const std::map<int, std::uint16_t> before = first->owned();
  const auto second = f.Join();
  Fixture::Settle({first, second});
  const int moved = second->owned().begin()->first;
  CHECK(f.group->Commit(moved, 1, false, before.at(moved)).code() == absl::StatusCode::kAborted);
  CHECK_FALSE(f.group->committed(moved).has_value());
}

TEST_CASE("Rule 36: who is no member commits only what nobody owns") {
  Fixture f;
  auto member = f.Join();
  Fixture::Settle({member});
  CHECK(f.group->Commit(0, 5, false).code() == absl::StatusCode::kFailedPrecondition);
  member.reset();
  CHECK(f.group->Commit(0, 5, false).ok());
}

TEST_CASE("Members: one that polls in time is not thrown out") {
  Fixture f;
  const auto first = f.Join({.poll_interval_max_ns = kHour});
  const auto second = f.Join();
  const std::int64_t later = Fixture::Now() + 2 * kHour;
  first->Polled(later);
  REQUIRE(second->Look(later).ok());
  CHECK_FALSE(first->IsEvicted());
}

TEST_CASE("Members: a decision that was cut short is made by the next who looks") {
  Fixture f;
  const auto first = f.Join();
  Fixture::Settle({first});
  // As if who decided had died after it had stored a target of nobody's.
  f.group->entry(3).target = 0;
  f.group->live().wanted.fetch_add(1);
  REQUIRE(first->Look(Fixture::Now() + kSecond).ok());
  CHECK(f.group->entry(3).target == RefOfSlot(first->number()));
  CHECK(f.group->live().wanted == f.group->live().decided);
}

TEST_CASE("Members: an entry that was being taken from its owner is freed by the next sweep") {
  Fixture f;
  const auto first = f.Join();
  f.group->entry(3).owner = ~0U;
  const auto second = f.Join();
  Fixture::Settle({first, second});
  CHECK(EntriesOf(*first).size() == 3);
  CHECK(EntriesOf(*second).size() == 3);
}

TEST_CASE("Members: an entry of a slot that is nobody's is freed by the next sweep") {
  Fixture f;
  const auto first = f.Join();
  f.group->entry(3).owner = RefOfSlot(1);
  f.group->live().slots_used = 2;
  Fixture::Settle({first});
  CHECK(EntriesOf(*first).size() == 5);
  first->WantDecision();
  REQUIRE(first->Look(Fixture::Now()).ok());
  CHECK(first->Take().size() == 1);
}

TEST_CASE("Members: a count of entries that is too small costs no entry of the file") {
  Fixture f;
  const auto first = f.Join();
  Fixture::Settle({first});
  f.group->live().entries = 2;
  f.AddTopic("users", 2);
  CHECK(f.TryJoin({.topics = {"users"}}).status().code() == absl::StatusCode::kDataLoss);
  f.group->live().entries = 6;
  CHECK(f.TryJoin({.topics = {"users"}}).ok());
  CHECK(f.group->committed(0) == std::nullopt);
  CHECK(f.group->IdentityOf(0).value().topic == "orders");
}

TEST_CASE("Members: nonsense in the live page gives nobody anything, and no crash") {
  Fixture f;
  const auto first = f.Join();
  Fixture::Settle({first});
  f.group->entry(0).target = 12'345'678;
  f.group->entry(1).owner = 4'000'000;
  f.group->slot(7).state = static_cast<MemberState>(99);
  f.group->live().slots_used = 4'000'000;
  f.group->live().entries = 4'000'000'000;
  const auto second = f.Join();
  first->Hear();
  first->GiveUp(first->ToGiveUp());
  Fixture::Settle({first, second});
  CHECK(EntriesOf(*first).size() + EntriesOf(*second).size() >= 5);
}

// ---- Static members

TEST_CASE("Members: a static one that comes back in time has its partitions again") {
  Fixture f;
  const Subscription worker{.instance_id = "worker-1", .session_timeout_ns = 60 * kSecond};
  const auto first = f.Join();
  auto second = f.Join(worker);
  Fixture::Settle({first, second});
  const Entries had = EntriesOf(*second);
  second.reset();
  Fixture::Settle({first});
  CHECK(EntriesOf(*first).size() == 3);  // nothing moves
  second = f.Join(worker);
  Fixture::Settle({first, second});
  CHECK(EntriesOf(*second) == had);
}

TEST_CASE("Members: a static one that was killed has its time, too") {
  Fixture f;
  const Subscription worker{.instance_id = "worker-1", .session_timeout_ns = 60 * kSecond};
  const auto first = f.Join();
  const Killed second(f, worker, {first});
  const auto state = [&] { return second.slot->state.load(); };
  const std::int64_t now = Fixture::Now() + kSecond;
  REQUIRE(first->Look(now).ok());
  CHECK(state() == MemberState::kAway);
  CHECK(first->Take().empty());
  REQUIRE(first->Look(now + 59 * kSecond).ok());
  CHECK(state() == MemberState::kAway);
  REQUIRE(first->Look(now + 61 * kSecond).ok());
  CHECK(state() == MemberState::kFree);
  CHECK(first->Take().size() == 3);
}

TEST_CASE("Members: a static one may be away for ever") {
  Fixture f;
  const auto first = f.Join();
  const Subscription worker{.instance_id = "worker-1",
                            .session_timeout_ns = std::numeric_limits<std::int64_t>::max()};
  auto second = f.Join(worker);
  Fixture::Settle({first, second});
  second.reset();
  REQUIRE(first->Look(Fixture::Now() + 1'000'000 * kSecond).ok());
  CHECK(f.group->slot(1).state.load() == MemberState::kAway);
}

TEST_CASE("Members: static ones that are killed together keep each its own") {
  Fixture f;
  const auto worker = [](const std::string& id) {
    return Subscription{.instance_id = id, .session_timeout_ns = 60 * kSecond};
  };
  const auto first = f.Join();
  const Killed second(f, worker("worker-1"), {first});
  const Killed third(f, worker("worker-2"), {first});
  second.slot->state = MemberState::kJoined;  // as if nobody had looked in between
  std::map<int, std::uint32_t> before;
  for (int i = 0; i < 6; ++i) before[i] = f.group->entry(i).target;
  f.group->live().wanted.fetch_add(1);
  REQUIRE(first->Look(Fixture::Now() + kSecond).ok());
  REQUIRE(third.slot->state.load() == MemberState::kAway);
  for (int i = 0; i < 6; ++i) CHECK(f.group->entry(i).target == before[i]);
}

TEST_CASE("Members: two with one group_instance_id are refused in words") {
  Fixture f;
  const Subscription worker{.instance_id = "worker-1", .session_timeout_ns = 60 * kSecond};
  const auto first = f.Join(worker);
  const absl::Status status = f.TryJoin(worker).status();
  CHECK(status.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(status.message().find("worker-1") != absl::string_view::npos);
}

}  // namespace cordwood::group
