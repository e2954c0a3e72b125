// How a ForwarderLane begins, and begins anew after an error: who may write, what has arrived.

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/status_macros.h"
#include "kafka/forwarder_lane.h"
#include "kafka/topic_reader.h"

namespace cordwood::kafka::internal {
namespace {

constexpr absl::Duration kIdle = absl::Milliseconds(250);
// For one question to the cluster; who asks tries again.
constexpr absl::Duration kAnswer = absl::Seconds(5);
// How often a topic that is not there is asked for.
constexpr int kLooks = 5;
// Kafka's limit counts what it stores with a record, and the header that is added.
constexpr std::int64_t kRoomBytes = 1024;

constexpr char kWasMadeAnew[] =
    " committed last: it was made anew, or the cluster has lost records. Reset the group's "
    "offsets to what is to be forwarded (again)";

}  // namespace

absl::Status ForwarderLane::Restart(std::stop_token stop) {
  if (out_ != nullptr) delivered_before_ += out_->delivered();
  out_.reset();
  {
    absl::MutexLock lock(&mutex_);
    progress_.retried += sent_records_;
    progress_.in_flight = 0;
  }
  sent_.clear();
  sent_records_ = 0;
  sent_bytes_ = 0;
  assignment_changed_ = false;
  is_behind_ = false;
  // Is the target there? Asked by a handle that makes no topic by asking.
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::unique_ptr<Client> probe,
      Client::Open(RD_KAFKA_CONSUMER, options_.cluster, {{"isolation.level", "read_uncommitted"}}));
  CORDWOOD_ASSIGN_OR_RETURN(const std::string cluster_id, probe->ClusterId(kAnswer, stop));
  place_ = absl::StrCat(cluster_id, "/", target_);
  CORDWOOD_RETURN_IF_ERROR(CheckTarget(*probe, stop));
  if (const absl::Status alone = CheckAlone(); !alone.ok()) {
    CORDWOOD_RETURN_IF_ERROR(ReleaseRetention());
    return alone;
  }
  // From here on nobody else adds to the target: what is read back stays true.
  const std::string id = absl::StrCat("cordwood.", options_.group, ".", topic_id_);
  CORDWOOD_ASSIGN_OR_RETURN(out_, Transactions::Open(
                                      options_.cluster, id, target_,
                                      [this](const std::string& error) { OnError(error); }, stop));
  CORDWOOD_ASSIGN_OR_RETURN(auto marks, ReadMarks());
  CORDWOOD_RETURN_IF_ERROR(ReadBack(*probe, marks, stop));
  committed_.clear();
  for (const auto& [partition, mark] : marks) {
    CORDWOOD_RETURN_IF_ERROR(consumer_->Seek(Here(partition), mark.next));
  }
  CORDWOOD_RETURN_IF_ERROR(CommitHere());
  // Once more, now that others can see us: of two that begin at the same time one at least is seen.
  if (const absl::Status alone = CheckAlone(); !alone.ok()) {
    CORDWOOD_RETURN_IF_ERROR(WithdrawMarks());
    CORDWOOD_RETURN_IF_ERROR(ReleaseRetention());
    return alone;
  }
  absl::MutexLock lock(&mutex_);
  IsThere();
  return absl::OkStatus();
}

absl::Status ForwarderLane::CheckAlone() {
  for (const std::string& name : broker_.ListGroups()) {
    if (name == options_.group) continue;
    const absl::StatusOr<GroupDescription> group = broker_.DescribeGroup(name);
    if (!group.ok())
      continue;  // deleted meanwhile, or damaged: who has no offsets forwards nothing
    for (const PartitionProgress& progress : group->partitions) {
      if (progress.topic != topic_.name()) continue;
      const std::optional<Reached> reached = ParseReached(progress.metadata);
      if (!reached || reached->target != place_) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("group ", name, " forwards topic ", ToAbsl(topic_.name()),
                       " to Kafka topic ", target_, " already, and by group ", options_.group,
                       " each record would be there twice. Go on with that group, or delete it"));
    }
  }
  return absl::OkStatus();
}

absl::Status ForwarderLane::CheckTarget(const Client& probe, std::stop_token stop) {
  absl::StatusOr<std::map<std::string, int>> count = probe.CountPartitions(target_, kAnswer, stop);
  if (absl::IsNotFound(count.status()) && options_.create_topics) {
    TopicConfig config = topic_.config();
    config.timestamp_type = TimestampType::kCreateTime;  // which the record brings along
    config.max_message_bytes += kRoomBytes;
    const absl::Status made =
        CreateTopic(options_.cluster, target_, config, options_.replication_factor, kAnswer);
    if (!made.ok() && !absl::IsAlreadyExists(made)) return made;
  }
  // Its making is known to one server of the cluster earlier than to another.
  for (int i = 0; i < kLooks && absl::IsNotFound(count.status()); ++i) {
    if (i > 0) probe.Poll(kIdle);
    count = probe.CountPartitions(target_, kAnswer, stop);
  }
  CORDWOOD_RETURN_IF_ERROR(count.status());
  target_partitions_ = count->begin()->second;
  if (partitioning_ == Partitioning::kSame && target_partitions_ != topic_.partition_count()) {
    return absl::FailedPreconditionError(
        absl::StrCat("topic ", ToAbsl(topic_.name()), " has ", topic_.partition_count(),
                     " partitions, Kafka topic ", target_, " has ", target_partitions_,
                     ": make them equal, or set Route::partitioning to spread the keys anew"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<int, ForwarderLane::Mark>> ForwarderLane::ReadMarks() const {
  std::map<int, Mark> marks;
  for (const int p : Partitions()) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::optional<Offset> committed, consumer_->committed(Here(p)));
    // Not the position: the Poll that brought the partitions has given records already.
    marks[p].next = committed.value_or(topic_.partition(p).start_offset());
  }
  const absl::StatusOr<GroupDescription> group = broker_.DescribeGroup(options_.group);
  CORDWOOD_RETURN_IF_ERROR(group.status());
  for (const PartitionProgress& progress : group->partitions) {
    const auto mark = marks.find(progress.partition);
    if (progress.topic != topic_.name() || mark == marks.end()) continue;
    if (progress.committed != mark->second.next) continue;
    if (auto reached = ParseReached(progress.metadata)) {
      mark->second.ends = std::move(reached->ends);
    }
  }
  return marks;
}

absl::Status ForwarderLane::ReadBack(const Client& probe, std::map<int, Mark>& marks,
                                     std::stop_token stop) {
  // From where on each target partition is to be read: the lowest place that a mark names.
  Ends from;
  for (const auto& [partition, mark] : marks) {
    if (!mark.ends) continue;
    for (const auto& [target, end] : *mark.ends) {
      const auto [it, is_new] = from.emplace(target, end);
      if (!is_new) it->second = std::min(it->second, end);
    }
  }
  if (!from.empty() && from.rbegin()->first >= target_partitions_) {
    return absl::DataLossError(absl::StrCat("Kafka topic ", target_, " has ", target_partitions_,
                                            " partitions, and had more than ", from.rbegin()->first,
                                            " when group ", options_.group, kWasMadeAnew));
  }
  ends_.clear();
  Ends unread;
  CORDWOOD_ASSIGN_OR_RETURN(TopicReader reader, TopicReader::Open(options_.cluster, target_));
  for (int target = 0; target < target_partitions_; ++target) {
    CORDWOOD_ASSIGN_OR_RETURN(const Client::Ends now, probe.EndsOf(target_, target, kAnswer, stop));
    ends_[target] = now.high;
    const auto it = from.find(target);
    if (it == from.end()) continue;
    if (it->second > now.high) {
      return absl::DataLossError(absl::StrCat("Kafka partition ", target_, "-", target, " ends at ",
                                              now.high, ", and ended at ", it->second,
                                              " when group ", options_.group, kWasMadeAnew));
    }
    const std::int64_t begin = std::max(it->second, now.low);
    if (begin >= now.high) continue;
    unread[target] = now.high;
    CORDWOOD_RETURN_IF_ERROR(reader.Start(target, begin));
  }
  std::map<int, Offset> arrived;  // the last of each source partition
  while (!unread.empty()) {
    if (stop.stop_requested()) return absl::CancelledError(target_);
    const Owned<rd_kafka_message_t> message = reader.Next(kIdle);
    if (message == nullptr) continue;
    const bool is_end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
    if (!is_end) {
      CORDWOOD_RETURN_IF_ERROR(StatusOf(message->err, absl::StrCat("reading back ", target_)));
    }
    // An end that comes earlier than `unread` says has an open transaction of somebody else's
    // behind it: wait for that.
    const auto last = unread.find(message->partition);
    if (last != unread.end() && message->offset + (is_end ? 0 : 1) >= last->second) {
      reader.Stop(message->partition);
      unread.erase(last);
    }
    if (is_end) continue;
    const std::optional<Source> source = SourceIn(*message, kForwardedHeader);
    if (!source || source->origin != topic_id_) continue;
    const auto mark = marks.find(source->partition);
    if (mark == marks.end() || !mark->second.ends || source->offset < mark->second.next) continue;
    CORDWOOD_RETURN_IF_ERROR(CheckArrived(*message, *source));
    const auto [it, is_new] = arrived.emplace(source->partition, source->offset);
    if (!is_new) it->second = std::max(it->second, source->offset);
  }
  // A transaction arrives whole: what is below its last record is in the cluster as well.
  for (const auto& [partition, last] : arrived) marks[partition].next = last + 1;
  return absl::OkStatus();
}

// A record under an offset of ours is the one that we have there. It is another one if the log was
// put back to an older state, and went on from there.
absl::Status ForwarderLane::CheckArrived(const rd_kafka_message_t& message,
                                         const Source& source) const {
  const Partition log = topic_.partition(source.partition);
  const std::string what = absl::StrCat(
      "Kafka partition ", target_, "-", message.partition, " has at ", message.offset,
      " a record of ", ToAbsl(topic_.name()), "-", source.partition, " at offset ", source.offset);
  const std::string way_out =
      ": the log was put back to an older state. Reset the offsets of the group to what is to be "
      "forwarded, or begin with a new topic";
  if (source.offset >= log.end_offset()) {
    return absl::DataLossError(
        absl::StrCat(what, ", where the log ends at ", log.end_offset(), way_out));
  }
  if (source.offset < log.start_offset()) return absl::OkStatus();
  CORDWOOD_ASSIGN_OR_RETURN(PartitionReader reader, log.Read(source.offset));
  for (const RecordView& record : reader) {
    if (record.offset() != source.offset) break;  // compaction has taken it
    if (record.key() != BytesOf(message.key, message.key_len) ||
        record.value() != BytesOf(message.payload, message.len)) {
      return absl::DataLossError(
          absl::StrCat(what, ", and the log has another one there", way_out));
    }
    break;
  }
  return reader.status();
}

}  // namespace cordwood::kafka::internal
