// Which member of a group reads which partition: pure functions from the members and their
// topics to an assignment. The same input gives the same assignment in every process, in
// whatever order it comes, so anyone in the group may be the one who computes it.
//
//   const Assignment assignment = AssignSticky(members, topics);
//   for (const TopicPartition& where : assignment.at("member-1")) ...
//
// Of a topic that nobody has subscribed to nothing is assigned; every other partition has one
// member, which has subscribed to its topic.
//
// Thread safety: any thread.

#ifndef CORDWOOD_GROUP_ASSIGNOR_H_
#define CORDWOOD_GROUP_ASSIGNOR_H_

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "cordwood/record.h"

namespace cordwood::group {

// A member of the group, as an assignor sees it.
struct AssignedMember {
  std::string id = {};  // unique in the group; members take turns in its order
  std::vector<std::string> topics = {};
  std::vector<TopicPartition> owned = {};  // what it reads now
  std::string instance_id = {};            // of a static member
};

// A topic that somebody has subscribed to.
struct AssignedTopic {
  std::string name = {};
  int partitions = 0;
};

// By the member's id; each member has an entry, and its partitions are in order.
using Assignment = std::map<std::string, std::vector<TopicPartition>>;

// Topic by topic, each member a run of neighbours, the first members one more where it does
// not come out even. Topics with as many partitions and the same subscribers are cut
// alike, so that what has one key in both is with one member. Kafka's "range".
Assignment AssignRange(std::span<const AssignedMember> members,
                       std::span<const AssignedTopic> topics);

// All partitions in order, dealt out one by one. Kafka's "roundrobin".
Assignment AssignRoundRobin(std::span<const AssignedMember> members,
                            std::span<const AssignedTopic> topics);

// As even as the subscriptions allow: the sum of the squares of the members' counts is the
// least that there is. Members keep what they have as far as that leaves it to them; where all
// have the same topics, no assignment as even as it moves fewer partitions. Kafka's "sticky";
// also the goal of "cooperative-sticky", which differs in how it gets there.
Assignment AssignSticky(std::span<const AssignedMember> members,
                        std::span<const AssignedTopic> topics);

// A user's own assignor, for ConsumerOptions::custom_assignor. Every member of a group has
// to bring one of the same name: whichever of them notices a change computes the assignment.
//
// Thread safety: Assign() may be called by several threads at a time; each call is made under
// the group's roster lock, so others who join or leave wait for it.
class Assignor {
 public:
  virtual ~Assignor() = default;
  // Letters, digits and . _ - as in every name; none of the built-in ones.
  virtual std::string_view name() const ABSL_ATTRIBUTE_LIFETIME_BOUND = 0;
  // A pure function of its arguments. Partitions that it leaves out are read by nobody. A
  // member or a partition that does not exist, or a partition for two members, is an error
  // that Subscribe or Poll returns; then nobody's partitions change.
  virtual Assignment Assign(std::span<const AssignedMember> members,
                            std::span<const AssignedTopic> topics) const = 0;
};

// The built-in one of that name; null: there is none. "sticky" and "cooperative-sticky" are
// the same: whatever the assignor, only what moves is given up.
std::shared_ptr<const Assignor> BuiltInAssignor(std::string_view name);

// OK, or in words what is wrong with an assignment.
absl::Status CheckAssignment(const Assignment& assignment, std::span<const AssignedMember> members,
                             std::span<const AssignedTopic> topics);

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_ASSIGNOR_H_
