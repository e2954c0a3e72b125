#include "cordwood/group/assignor.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"

namespace cordwood::group {
namespace {

// The input with numbers for names: members in the order of their ids, topics of theirs.
struct Input {
  std::vector<const AssignedMember*> members;
  std::vector<const AssignedTopic*> topics;
  std::vector<std::vector<std::size_t>> members_of;  // by topic: who has subscribed to it
  std::vector<std::vector<std::size_t>> topics_of;   // by member
};

Input Sort(std::span<const AssignedMember> members, std::span<const AssignedTopic> topics) {
  Input input;
  for (const AssignedMember& member : members) input.members.push_back(&member);
  for (const AssignedTopic& topic : topics) input.topics.push_back(&topic);
  std::sort(input.members.begin(), input.members.end(),
            [](const auto* a, const auto* b) { return a->id < b->id; });
  std::sort(input.topics.begin(), input.topics.end(),
            [](const auto* a, const auto* b) { return a->name < b->name; });
  absl::flat_hash_map<std::string_view, std::size_t> number;
  for (std::size_t t = 0; t < input.topics.size(); ++t) number[input.topics[t]->name] = t;
  input.members_of.resize(input.topics.size());
  input.topics_of.resize(input.members.size());
  for (std::size_t m = 0; m < input.members.size(); ++m) {
    std::set<std::size_t> wanted;
    for (const std::string& name : input.members[m]->topics) {
      if (const auto found = number.find(name); found != number.end()) wanted.insert(found->second);
    }
    for (const std::size_t t : wanted) input.members_of[t].push_back(m);
    input.topics_of[m].assign(wanted.begin(), wanted.end());
  }
  return input;
}

Assignment Empty(const Input& input) {
  Assignment assignment;
  for (const AssignedMember* member : input.members) assignment[member->id];
  return assignment;
}

// Who has what, while the sticky assignment is being made.
class Balance {
 public:
  explicit Balance(const Input& input)
      : input_(input),
        held_(input.members.size(), std::vector<std::vector<int>>(input.topics.size())),
        counts_(input.members.size(), 0) {}

  // Each keeps what it has and may have. Where two claim one, the first in order has it.
  void Keep() {
    std::vector<std::vector<bool>> taken(input_.topics.size());
    absl::flat_hash_map<std::string_view, std::size_t> number;
    for (std::size_t t = 0; t < input_.topics.size(); ++t) {
      taken[t].resize(static_cast<std::size_t>(std::max(input_.topics[t]->partitions, 0)));
      number[input_.topics[t]->name] = t;
    }
    for (std::size_t m = 0; m < input_.members.size(); ++m) {
      for (const TopicPartition& where : input_.members[m]->owned) {
        const auto found = number.find(where.topic);
        if (found == number.end()) continue;
        const std::size_t t = found->second;
        const auto p = static_cast<std::size_t>(where.partition);
        const auto& mine = input_.topics_of[m];
        if (where.partition < 0 || p >= taken[t].size() || taken[t][p] ||
            !std::binary_search(mine.begin(), mine.end(), t)) {
          continue;
        }
        taken[t][p] = true;
        Give(m, t, where.partition);
      }
    }
    for (std::size_t t = 0; t < taken.size(); ++t) {
      for (std::size_t p = 0; p < taken[t].size(); ++p) {
        if (!taken[t][p]) free_.push_back({t, static_cast<int>(p)});
      }
    }
  }

  // What nobody has goes to whoever has least of those that may have it.
  void DealOut() {
    for (const Free& free : free_) {
      const auto& may = input_.members_of[free.topic];
      if (may.empty()) continue;
      const std::size_t least = *std::min_element(
          may.begin(), may.end(),
          [this](std::size_t a, std::size_t b) { return counts_[a] < counts_[b]; });
      Give(least, free.topic, free.partition);
    }
  }

  // Moves one at a time from who has more to who has at least two less, over others where it
  // has to be, until nobody can. Then no assignment is more even: a semi-matching is best if
  // and only if it has no such path (Harvey, Ladner, Lovasz, Tamir: Semi-matchings for
  // bipartite graphs and load balancing, 2003).
  void Even() {
    for (;;) {
      std::vector<std::size_t> order(counts_.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(),
                       [this](std::size_t a, std::size_t b) { return counts_[a] > counts_[b]; });
      const bool moved =
          std::any_of(order.begin(), order.end(), [this](std::size_t m) { return MoveFrom(m); });
      if (!moved) return;
    }
  }

  Assignment Result() const {
    Assignment assignment = Empty(input_);
    for (std::size_t m = 0; m < held_.size(); ++m) {
      auto& list = assignment[input_.members[m]->id];
      for (std::size_t t = 0; t < held_[m].size(); ++t) {
        const std::size_t before = list.size();
        for (const int partition : held_[m][t]) list.push_back({input_.topics[t]->name, partition});
        std::sort(list.begin() + static_cast<std::ptrdiff_t>(before), list.end());
      }
    }
    return assignment;
  }

 private:
  struct Free {
    std::size_t topic = 0;
    int partition = 0;
  };
  // How a member was reached: who gives it one of which topic.
  struct Step {
    std::size_t from = 0;
    std::size_t topic = 0;
  };

  void Give(std::size_t member, std::size_t topic, int partition) {
    held_[member][topic].push_back(partition);
    ++counts_[member];
  }

  int Take(std::size_t member, std::size_t topic) {
    const int partition = held_[member][topic].back();
    held_[member][topic].pop_back();
    --counts_[member];
    return partition;
  }

  // Breadth first, so over as few others as can be.
  bool MoveFrom(std::size_t most) {
    constexpr std::size_t kNobody = std::numeric_limits<std::size_t>::max();
    std::vector<std::optional<Step>> reached(counts_.size());
    std::vector<bool> topic_done(input_.topics.size());
    std::vector<std::size_t> queue = {most};
    reached[most] = Step{};
    std::size_t least = kNobody;
    for (std::size_t i = 0; i < queue.size(); ++i) {
      const std::size_t from = queue[i];
      for (const std::size_t t : input_.topics_of[from]) {
        if (topic_done[t] || held_[from][t].empty()) continue;
        topic_done[t] = true;
        for (const std::size_t to : input_.members_of[t]) {
          if (reached[to].has_value()) continue;
          reached[to] = Step{from, t};
          queue.push_back(to);
          if (least == kNobody || counts_[to] < counts_[least]) least = to;
        }
      }
    }
    if (least == kNobody || counts_[most] < counts_[least] + 2) return false;
    for (std::size_t to = least; to != most; to = reached[to]->from) {
      Give(to, reached[to]->topic, Take(reached[to]->from, reached[to]->topic));
    }
    return true;
  }

  const Input& input_;
  std::vector<std::vector<std::vector<int>>> held_;  // by member, topic
  std::vector<std::size_t> counts_;                  // by member
  std::vector<Free> free_;
};

}  // namespace

Assignment AssignRange(std::span<const AssignedMember> members,
                       std::span<const AssignedTopic> topics) {
  const Input input = Sort(members, topics);
  Assignment assignment = Empty(input);
  for (std::size_t t = 0; t < input.topics.size(); ++t) {
    const auto among = static_cast<int>(input.members_of[t].size());
    int next = 0;
    for (int i = 0; i < among; ++i) {
      const int partitions = input.topics[t]->partitions;
      const int end = next + partitions / among + (i < partitions % among ? 1 : 0);
      auto& list = assignment[input.members[input.members_of[t][static_cast<std::size_t>(i)]]->id];
      for (; next < end; ++next) list.push_back({input.topics[t]->name, next});
    }
  }
  return assignment;
}

Assignment AssignRoundRobin(std::span<const AssignedMember> members,
                            std::span<const AssignedTopic> topics) {
  const Input input = Sort(members, topics);
  Assignment assignment = Empty(input);
  std::size_t turn = 0;
  for (std::size_t t = 0; t < input.topics.size(); ++t) {
    const auto& may = input.members_of[t];
    if (may.empty()) continue;
    for (int p = 0; p < input.topics[t]->partitions; ++p) {
      while (!std::binary_search(may.begin(), may.end(), turn % input.members.size())) ++turn;
      const AssignedMember& member = *input.members[turn++ % input.members.size()];
      assignment[member.id].push_back({input.topics[t]->name, p});
    }
  }
  return assignment;
}

Assignment AssignSticky(std::span<const AssignedMember> members,
                        std::span<const AssignedTopic> topics) {
  const Input input = Sort(members, topics);
  Balance balance(input);
  balance.Keep();
  balance.DealOut();
  balance.Even();
  return balance.Result();
}

// ---- By name

std::shared_ptr<const Assignor> BuiltInAssignor(std::string_view name) {
  using Function = Assignment (*)(std::span<const AssignedMember>, std::span<const AssignedTopic>);
  class BuiltIn : public Assignor {
   public:
    BuiltIn(std::string_view n, Function f) : name_(n), assign_(f) {}
    std::string_view name() const override { return name_; }
    Assignment Assign(std::span<const AssignedMember> members,
                      std::span<const AssignedTopic> topics) const override {
      return assign_(members, topics);
    }

   private:
    const std::string_view name_;
    const Function assign_;
  };
  static constexpr std::pair<std::string_view, Function> kBuiltIn[] = {
      {"cooperative-sticky", AssignSticky},
      {"sticky", AssignSticky},
      {"range", AssignRange},
      {"roundrobin", AssignRoundRobin},
  };
  for (const auto& [known, function] : kBuiltIn) {
    if (known == name) return std::make_shared<BuiltIn>(known, function);
  }
  return nullptr;
}

absl::Status CheckAssignment(const Assignment& assignment, std::span<const AssignedMember> members,
                             std::span<const AssignedTopic> topics) {
  std::set<std::string_view> ids;
  for (const AssignedMember& member : members) ids.insert(member.id);
  std::map<std::string_view, int> partitions;
  for (const AssignedTopic& topic : topics) partitions[topic.name] = topic.partitions;
  std::set<std::pair<std::string_view, int>> given;
  for (const auto& [id, list] : assignment) {
    if (!ids.contains(id)) {
      return absl::InvalidArgumentError(absl::StrCat("it names a member ", id, ", who is none"));
    }
    for (const TopicPartition& where : list) {
      const auto topic = partitions.find(where.topic);
      if (topic == partitions.end() || where.partition < 0 || where.partition >= topic->second) {
        return absl::InvalidArgumentError(
            absl::StrCat("it gives away ", where.topic, "-", where.partition, ", which is none"));
      }
      if (!given.insert({where.topic, where.partition}).second) {
        return absl::InvalidArgumentError(
            absl::StrCat("it gives ", where.topic, "-", where.partition, " to two members"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace cordwood::group
