// The assignors: who reads what, whatever the members and topics are.

#include "cordwood/group/assignor.h"

#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/catch.h"

namespace cordwood::group::assignor_test {
namespace {

using Members = std::vector<AssignedMember>;
using Topics = std::vector<AssignedTopic>;
using Assignor =
    std::function<Assignment(std::span<const AssignedMember>, std::span<const AssignedTopic>)>;

// "a-0 a-1 b-0" for each member, in the order of their ids.
std::vector<std::string> Texts(const Assignment& assignment) {
  std::vector<std::string> texts;
  for (const auto& [id, partitions] : assignment) {
    std::string text;
    for (const TopicPartition& where : partitions) {
      absl::StrAppend(&text, text.empty() ? "" : " ", where.topic, "-", where.partition);
    }
    texts.push_back(text);
  }
  return texts;
}
using Lines = std::vector<std::string>;

Members Same(int count, const std::vector<std::string>& topics) {
  Members members;
  for (int i = 0; i < count; ++i) members.push_back({.id = absl::StrCat("m", i), .topics = topics});
  return members;
}

void Own(Members& members, const Assignment& assignment) {
  for (AssignedMember& member : members) {
    const auto found = assignment.find(member.id);
    if (found != assignment.end()) member.owned = found->second;
  }
}

std::map<TopicPartition, std::string> Owners(const Assignment& assignment) {
  std::map<TopicPartition, std::string> owners;
  for (const auto& [id, partitions] : assignment) {
    for (const TopicPartition& where : partitions) owners[where] = id;
  }
  return owners;
}

int Moved(const Members& before, const Assignment& after) {
  const auto owners = Owners(after);
  int moved = 0;
  for (const AssignedMember& member : before) {
    for (const TopicPartition& where : member.owned) moved += owners.at(where) != member.id;
  }
  return moved;
}

std::size_t Squares(const Assignment& assignment) {
  std::size_t sum = 0;
  for (const auto& [id, partitions] : assignment) sum += partitions.size() * partitions.size();
  return sum;
}

// The least sum of squares there is, by trying all.
std::size_t LeastSquares(const Members& members, const Topics& topics) {
  std::vector<std::size_t> counts(members.size());
  std::vector<const AssignedTopic*> all;  // one for each partition
  for (const AssignedTopic& topic : topics) {
    for (int p = 0; p < topic.partitions; ++p) all.push_back(&topic);
  }
  std::size_t least = std::string::npos;
  const std::function<void(std::size_t)> place = [&](std::size_t i) {
    if (i == all.size()) {
      std::size_t sum = 0;
      for (const std::size_t count : counts) sum += count * count;
      least = std::min(least, sum);
      return;
    }
    bool placed = false;
    for (std::size_t m = 0; m < members.size(); ++m) {
      if (std::ranges::find(members[m].topics, all[i]->name) == members[m].topics.end()) continue;
      placed = true;
      ++counts[m];
      place(i + 1);
      --counts[m];
    }
    if (!placed) place(i + 1);
  };
  place(0);
  return least;
}

std::vector<std::pair<std::string, Assignor>> All() {
  return {{"range", AssignRange}, {"roundrobin", AssignRoundRobin}, {"sticky", AssignSticky}};
}

// Some members with some topics each, and what they own from before.
struct Group {
  Members members;
  Topics topics;
};
Group RandomGroup(std::mt19937& random, int members_max, int topics_max, int partitions_max) {
  const auto below = [&](int n) {
    return static_cast<int>(random() % static_cast<std::uint32_t>(n));
  };
  Group group;
  for (int t = below(topics_max) + 1; t > 0; --t) {
    group.topics.push_back({absl::StrCat("t", t), below(partitions_max + 1)});
  }
  for (int m = below(members_max) + 1; m > 0; --m) {
    AssignedMember member = {.id = absl::StrCat("m", m)};
    for (const AssignedTopic& topic : group.topics) {
      if (below(3) != 0) member.topics.push_back(topic.name);
      // Also what is gone, what it has not subscribed to, and what another one says it has.
      for (int p = 0; p < topic.partitions + 1; ++p) {
        if (below(4) == 0) member.owned.push_back({topic.name, p});
      }
    }
    group.members.push_back(member);
  }
  return group;
}

TEST_CASE("Assignors: range gives neighbours, and keys of two topics to one member") {
  const Members members = Same(2, {"a", "b"});
  const Topics topics = {{"b", 3}, {"a", 3}};
  CHECK(Texts(AssignRange(members, topics)) == Lines{"a-0 a-1 b-0 b-1", "a-2 b-2"});
}

TEST_CASE("Assignors: range over more members than partitions leaves the last without") {
  CHECK(Texts(AssignRange(Same(3, {"a"}), Topics{{"a", 2}})) == Lines{"a-0", "a-1", ""});
}

TEST_CASE("Assignors: round robin deals out one by one, over the topics") {
  const Members members = Same(2, {"a", "b"});
  const Topics topics = {{"a", 3}, {"b", 3}};
  CHECK(Texts(AssignRoundRobin(members, topics)) == Lines{"a-0 a-2 b-1", "a-1 b-0 b-2"});
}

TEST_CASE("Assignors: round robin passes over who has not subscribed") {
  // The example of Kafka's documentation of its RoundRobinAssignor.
  const Members members = {{.id = "C0", .topics = {"t0"}},
                           {.id = "C1", .topics = {"t0", "t1"}},
                           {.id = "C2", .topics = {"t0", "t1", "t2"}}};
  const Topics topics = {{"t0", 1}, {"t1", 2}, {"t2", 3}};
  CHECK(Texts(AssignRoundRobin(members, topics)) == Lines{"t0-0", "t1-0", "t1-1 t2-0 t2-1 t2-2"});
}

TEST_CASE("Assignors: sticky is as even as the subscriptions allow where round robin is not") {
  // The example of Kafka's documentation of its StickyAssignor.
  const Members members = {{.id = "C0", .topics = {"t0"}},
                           {.id = "C1", .topics = {"t0", "t1"}},
                           {.id = "C2", .topics = {"t0", "t1", "t2"}}};
  const Topics topics = {{"t0", 1}, {"t1", 2}, {"t2", 3}};
  CHECK(Texts(AssignSticky(members, topics)) == Lines{"t0-0", "t1-0 t1-1", "t2-0 t2-1 t2-2"});
}

TEST_CASE("Assignors: sticky reaches over others who may have what the neediest may not") {
  // C may have only t2, which B has; A, which has too much, may only give B t1 for it.
  const Members members = {{.id = "A", .topics = {"t1"}, .owned = {{"t1", 0}, {"t1", 1}}},
                           {.id = "B", .topics = {"t1", "t2"}, .owned = {{"t2", 0}}},
                           {.id = "C", .topics = {"t2"}}};
  const Assignment after = AssignSticky(members, Topics{{"t1", 2}, {"t2", 1}});
  CHECK(Squares(after) == 3);
  CHECK(Moved(members, after) == 2);
}

TEST_CASE("Assignors: every partition that is wanted has one member, which wants it") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    const Group group = RandomGroup(random, 12, 5, 9);
    for (const auto& [name, assign] : All()) {
      CAPTURE(name, round);
      const Assignment assignment = assign(group.members, group.topics);
      REQUIRE(assignment.size() == group.members.size());
      std::set<TopicPartition> given;
      bool wanted = true, once = true, ordered = true;
      for (const AssignedMember& member : group.members) {
        const auto& list = assignment.at(member.id);
        ordered = ordered && std::ranges::is_sorted(list);
        for (const TopicPartition& where : list) {
          once = given.insert(where).second && once;
          wanted = wanted && std::ranges::find(member.topics, where.topic) != member.topics.end();
        }
      }
      CHECK(wanted);
      CHECK(once);
      CHECK(ordered);
      std::set<TopicPartition> all;
      for (const AssignedTopic& topic : group.topics) {
        const bool has_member = std::ranges::any_of(group.members, [&](const auto& member) {
          return std::ranges::find(member.topics, topic.name) != member.topics.end();
        });
        for (int p = 0; has_member && p < topic.partitions; ++p) all.insert({topic.name, p});
      }
      CHECK((given == all));
    }
  }
}

TEST_CASE("Assignors: the order in which members and topics are named makes no difference") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 100; ++round) {
    Group group = RandomGroup(random, 8, 4, 6);
    for (const auto& [name, assign] : All()) {
      CAPTURE(name, round);
      const Assignment before = assign(group.members, group.topics);
      std::shuffle(group.members.begin(), group.members.end(), random);
      std::shuffle(group.topics.begin(), group.topics.end(), random);
      CHECK((assign(group.members, group.topics) == before));
    }
  }
}

TEST_CASE("Assignors: no assignment is more even than the sticky one") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const Group group = RandomGroup(random, 4, 3, 3);
    CHECK(Squares(AssignSticky(group.members, group.topics)) ==
          LeastSquares(group.members, group.topics));
  }
}

TEST_CASE("Assignors: sticky moves nothing where nothing has changed") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 100; ++round) {
    CAPTURE(round);
    Group group = RandomGroup(random, 8, 4, 9);
    const Assignment before = AssignSticky(group.members, group.topics);
    Own(group.members, before);
    CHECK((AssignSticky(group.members, group.topics) == before));
  }
}

TEST_CASE("Assignors: who joins takes its share and no more, who leaves gives only its own") {
  const int members = GENERATE(1, 2, 3, 7, 20);
  const Topics topics = {{"a", 17}, {"b", 8}, {"c", 0}};
  Members group = Same(members, {"a", "b", "c"});
  Own(group, AssignSticky(group, topics));

  Members more = group;
  more.push_back({.id = "joined", .topics = {"a", "b", "c"}});
  const Assignment joined = AssignSticky(more, topics);
  CHECK(Moved(more, joined) == 25 / (members + 1));

  Own(more, joined);
  Members fewer(more.begin() + 1, more.end());
  const Assignment left = AssignSticky(fewer, topics);
  CHECK(Moved(fewer, left) == 0);
  for (const auto& [id, partitions] : left) {
    CHECK(std::ssize(partitions) >= 25 / members);
    CHECK(std::ssize(partitions) <= 25 / members + 1);
  }
}

TEST_CASE("Assignors: where all have the same topics, no even assignment moves less") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const int partitions = static_cast<int>(random() % 30);
    Members group = Same(static_cast<int>(random() % 6) + 1, {"a"});
    for (int p = 0; p < partitions; ++p) {
      const std::size_t who = random() % (group.size() + 1);  // one of them, or nobody
      if (who < group.size()) group[who].owned.push_back({"a", p});
    }
    // Everybody may keep the even share, and as many as it leaves over one more.
    const int share = partitions / static_cast<int>(group.size());
    int left_over = partitions % static_cast<int>(group.size());
    int must_move = 0;
    for (const AssignedMember& member : group) {
      const int too_many = std::max(static_cast<int>(member.owned.size()) - share, 0);
      const bool one_more = too_many > 0 && left_over > 0;
      left_over -= one_more;
      must_move += too_many - one_more;
    }
    CHECK(Moved(group, AssignSticky(group, Topics{{"a", partitions}})) == must_move);
  }
}

TEST_CASE("Assignors: no members, no topics, and topics that nobody knows are no error") {
  for (const auto& [name, assign] : All()) {
    CAPTURE(name);
    CHECK(assign(Members{}, Topics{{"a", 3}}).empty());
    CHECK(Texts(assign(Same(2, {"a"}), Topics{})) == Lines{"", ""});
    CHECK(Texts(assign(Same(1, {"b", "b"}), Topics{{"a", 3}, {"b", 1}})) == Lines{"b-0"});
  }
}

}  // namespace
}  // namespace cordwood::group::assignor_test
