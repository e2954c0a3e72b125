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
#include <span>
#include <string>
#include <vector>

#include "cordwood/record.h"

namespace cordwood::group {

struct AssignedMember {
  std::string id = {};  // unique in the group; members take turns in its order
  std::vector<std::string> topics = {};
  std::vector<TopicPartition> owned = {};  // what it reads now
};

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

}  // namespace cordwood::group

#endif  // CORDWOOD_GROUP_ASSIGNOR_H_
