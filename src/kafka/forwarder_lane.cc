#include "kafka/forwarder_lane.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/os/clock.h"
#include "cordwood/partitioner.h"
#include "cordwood/status_macros.h"
#include "kafka/lanes.h"
#include "kafka/topic_reader.h"

namespace cordwood::kafka::internal {
namespace {

// How long a Poll with nothing open sleeps before other things are looked at.
constexpr absl::Duration kIdle = absl::Milliseconds(250);
// For one question to the cluster; who asks tries again.
constexpr absl::Duration kAnswer = absl::Seconds(5);
// How often a topic that is not there is asked for.
constexpr int kLooks = 5;
constexpr int kCommitsForAll = 64;
// Kafka's limit counts what it stores with a record, and the header that is added.
constexpr std::int64_t kRoomBytes = 1024;

constexpr char kWasMadeAnew[] =
    " committed last: it was made anew, or the cluster has lost records. Reset the group's "
    "offsets to what is to be forwarded (again)";

std::int64_t BytesIn(const RecordView& record) {
  return static_cast<std::int64_t>(record.key().value_or("").size() +
                                   record.value().value_or("").size());
}

}  // namespace

ForwarderLane::ForwarderLane(const Broker& broker, const Topic& topic, const std::string& target,
                             Partitioning partitioning, const ForwarderOptions& options)
    : broker_(broker),
      topic_(topic),
      topic_id_(topic.id()),
      target_(target),
      partitioning_(partitioning),
      options_(options),
      records_max_(options.transaction_records_max) {
  progress_.topic = std::string(topic.name());
  progress_.target = target;
}

absl::Status ForwarderLane::Run(std::stop_token stop, bool to_end) {
  const absl::Status status = TryForEver(
      stop, [&] { return Work(stop, to_end); },
      [&](const absl::Status& error) { return Note(error); });
  if (out_ != nullptr && !sent_.empty()) out_->Abort();
  out_.reset();
  sent_.clear();
  consumer_.reset();
  if (!absl::IsNotFound(topic_.status())) return status;
  // Release: pairs with is_over(); who sees it may destroy this.
  is_over_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status ForwarderLane::Join() {
  const auto changed = [this](const std::vector<TopicPartition>&) { assignment_changed_ = true; };
  CORDWOOD_ASSIGN_OR_RETURN(
      Consumer consumer,
      broker_.NewConsumer(
          {.group = options_.group,
           .on_assigned = changed,
           .on_revoked = changed,
           .on_lost = changed,
           .max_poll_records = 2000,
           .read_up_to = ReadUpTo::kDurable,
           // Static, as there is only one of it at a time. Its place is not kept.
           .group_instance_id = absl::StrCat("kafka-forwarder.", ToAbsl(topic_.name())),
           .session_timeout = absl::Nanoseconds(1)}));
  CORDWOOD_RETURN_IF_ERROR(consumer.Subscribe({std::string(topic_.name())}));
  consumer_.emplace(std::move(consumer));
  assignment_changed_ = true;
  return absl::OkStatus();
}

absl::Status ForwarderLane::HoldRetention() {
  // Until it is seen there: a forwarder of another group may write its own list over ours.
  for (;;) {
    std::vector<std::string> groups = topic_.config().retain_for_groups;
    if (std::find(groups.begin(), groups.end(), options_.group) != groups.end()) {
      return absl::OkStatus();
    }
    std::string list;
    groups.push_back(options_.group);
    for (const std::string& group : groups) absl::StrAppend(&list, list.empty() ? "" : ",", group);
    CORDWOOD_RETURN_IF_ERROR(broker_.AlterTopic(topic_.name(), {{"retain.for.groups", list}}));
  }
}

absl::Status ForwarderLane::WaitForAssignment(std::stop_token stop) {
  while (Partitions().empty() && !stop.stop_requested()) {
    CORDWOOD_RETURN_IF_ERROR(consumer_->Poll(kIdle, stop).status());
  }
  // For the lag, which is asked for also while the cluster is away.
  for (const int p : Partitions()) {
    CORDWOOD_ASSIGN_OR_RETURN(const std::optional<Offset> committed, consumer_->committed(Here(p)));
    absl::MutexLock lock(&mutex_);
    if (committed) reached_[p] = *committed;
  }
  return absl::OkStatus();
}

absl::Status ForwarderLane::Work(std::stop_token stop, bool to_end) {
  if (!consumer_) CORDWOOD_RETURN_IF_ERROR(Join());
  if (options_.retain) CORDWOOD_RETURN_IF_ERROR(HoldRetention());
  CORDWOOD_RETURN_IF_ERROR(WaitForAssignment(stop));
  std::map<int, Offset> ends;
  if (to_end) {
    for (const int p : Partitions()) {
      CORDWOOD_RETURN_IF_ERROR(topic_.partition(p).Flush());
      ends[p] = topic_.partition(p).end_offset();
    }
  }
  CORDWOOD_RETURN_IF_ERROR(Restart(stop));
  while (!stop.stop_requested()) {
    if (assignment_changed_) return absl::AbortedError("the partitions have changed");
    const absl::Duration wait =
        sent_.empty() ? kIdle : absl::Nanoseconds(finish_by_ns_ - os::MonotonicNanos());
    const bool is_at_end = to_end && HasReached(ends);
    if (sent_.empty() && is_at_end) return absl::OkStatus();
    if (!sent_.empty() &&
        (is_at_end || sent_records_ >= records_max_ || wait <= absl::ZeroDuration())) {
      CORDWOOD_RETURN_IF_ERROR(FinishTransaction(stop));
      continue;
    }
    absl::StatusOr<RecordBatch> polled = consumer_->Poll(wait, stop);
    if (assignment_changed_ || absl::IsCancelled(polled.status())) continue;
    CORDWOOD_ASSIGN_OR_RETURN(RecordBatch batch, std::move(polled));
    for (const Gap& gap : batch.gaps()) {
      absl::MutexLock lock(&mutex_);
      progress_.gaps += gap.to - gap.from;
    }
    if (!batch.empty()) {
      CORDWOOD_RETURN_IF_ERROR(Take(std::move(batch), stop));
    } else if (!batch.gaps().empty() && sent_.empty()) {
      CORDWOOD_RETURN_IF_ERROR(CommitHere());
    }
  }
  // What is sent already arrives, if the cluster answers; else Run gives it up.
  return sent_.empty() ? absl::OkStatus() : FinishTransaction(stop);
}

// ---- Beginning anew

absl::Status ForwarderLane::Restart(std::stop_token stop) {
  out_.reset();
  sent_.clear();
  sent_records_ = 0;
  sent_bytes_ = 0;
  assignment_changed_ = false;
  // Is the target there? Asked by a handle that makes no topic by asking.
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::unique_ptr<Client> probe,
      Client::Open(RD_KAFKA_CONSUMER, options_.cluster, {{"isolation.level", "read_uncommitted"}}));
  CORDWOOD_RETURN_IF_ERROR(CheckTarget(*probe));
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
  return CommitHere();
}

absl::Status ForwarderLane::CheckTarget(const Client& probe) {
  absl::StatusOr<int> count = probe.CountPartitions(target_, kAnswer);
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
    count = probe.CountPartitions(target_, kAnswer);
  }
  CORDWOOD_RETURN_IF_ERROR(count.status());
  target_partitions_ = *count;
  if (partitioning_ == Partitioning::kSame && *count != topic_.partition_count()) {
    return absl::FailedPreconditionError(
        absl::StrCat("topic ", ToAbsl(topic_.name()), " has ", topic_.partition_count(),
                     " partitions, Kafka topic ", target_, " has ", *count,
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
    if (progress.committed == mark->second.next) mark->second.ends = ParseEnds(progress.metadata);
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
    CORDWOOD_ASSIGN_OR_RETURN(const Client::Ends now, probe.EndsOf(target_, target, kAnswer));
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

// ---- A transaction

absl::Status ForwarderLane::Take(RecordBatch batch, std::stop_token stop) {
  if (sent_.empty()) {
    CORDWOOD_RETURN_IF_ERROR(out_->Begin());
    finish_by_ns_ = os::MonotonicNanos() + absl::ToInt64Nanoseconds(options_.transaction_time);
  }
  sent_.push_back(std::move(batch));
  std::set<int> cut;  // partitions of which the rest waits for the next transaction
  absl::Status status;
  for (const RecordView& record : sent_.back()) {
    if (!status.ok() || sent_records_ >= records_max_) {
      if (!cut.insert(record.partition()).second) continue;
      CORDWOOD_RETURN_IF_ERROR(consumer_->Seek(Here(record.partition()), record.offset()));
      continue;
    }
    ++sent_records_;
    sent_bytes_ += BytesIn(record);
    status = out_->Send(record, TargetOf(record), SourceOf(record), stop);
  }
  out_->Serve();
  // One that fails is found out about, and told of, at its end.
  return status.ok() || absl::IsCancelled(status) ? status : FinishTransaction(stop);
}

absl::Status ForwarderLane::FinishTransaction(std::stop_token stop) {
  absl::Status status;
  if (out_->failures().empty()) {
    status = out_->Finish(stop);
  }
  if (status.ok() && out_->failures().empty()) {
    for (const auto& [target, end] : out_->ends()) ends_[target] = std::max(ends_[target], end);
    CORDWOOD_RETURN_IF_ERROR(CommitHere());
    records_max_ = std::min(records_max_ * 2, options_.transaction_records_max);
    absl::MutexLock lock(&mutex_);
    progress_.records += sent_records_;
    progress_.bytes += sent_bytes_;
    ++progress_.transactions;
    progress_.last_error.clear();
    sent_.clear();
    sent_records_ = 0;
    sent_bytes_ = 0;
    return absl::OkStatus();
  }
  // A record that is refused makes the transaction fail at once, its report may come a moment
  // later.
  out_->ServeAll();
  const auto& failures = out_->failures();
  const auto refused = std::find_if(failures.begin(), failures.end(),
                                    [](const auto& failure) { return failure.for_good; });
  if (refused == failures.end()) {
    if (status.ok()) {
      status = StatusOf(failures.front().error, absl::StrCat("Kafka topic ", target_));
    }
    // CheckTarget says whether it is.
    return absl::IsNotFound(status) ? absl::UnavailableError(status.message()) : status;
  }
  const std::string reason =
      absl::StrCat(rd_kafka_err2str(refused->error), " (", rd_kafka_err2name(refused->error), ")");
  if (sent_records_ > 1) {
    records_max_ = sent_records_ / 2;
    is_narrowing_ = true;
    return absl::UnavailableError(absl::StrCat("Kafka topic ", target_, " refuses one of ",
                                               sent_records_, " records: ", reason));
  }
  CORDWOOD_RETURN_IF_ERROR(SetAside(*sent_.back().begin(), reason));
  CORDWOOD_RETURN_IF_ERROR(CommitHere());
  is_narrowing_ = true;
  return absl::AbortedError(
      absl::StrCat("Kafka topic ", target_, " refuses a record, which is set aside: ", reason));
}

absl::Status ForwarderLane::CommitHere() {
  // A partition that stands still has its ends, too, written anew now and then: else all that the
  // others have sent since would be read back.
  const bool is_for_all = partitioning_ != Partitioning::kSame && ++commits_ % kCommitsForAll == 0;
  std::map<TopicPartition, Offset> moved;
  for (const int p : Partitions()) {
    CORDWOOD_ASSIGN_OR_RETURN(const Offset position, consumer_->position(Here(p)));
    const auto [it, is_new] = committed_.emplace(p, position);
    if (!is_new && it->second == position && !is_for_all) continue;
    it->second = position;
    moved.emplace(Here(p), position);
  }
  if (moved.empty()) return absl::OkStatus();
  // First without the ends: see the table at the head of forwarder_lane.h.
  CORDWOOD_RETURN_IF_ERROR(consumer_->Commit(moved, {.durability = Durability::kDurable}));
  std::size_t left = moved.size();
  for (const auto& [where, offset] : moved) {
    const Ends ends = partitioning_ == Partitioning::kSame
                          ? Ends{{where.partition, ends_[where.partition]}}
                          : ends_;
    // The last one makes the texts of all durable.
    const Durability durability = --left == 0 ? Durability::kDurable : Durability::kPublished;
    CORDWOOD_RETURN_IF_ERROR(consumer_->Commit(
        {{where, offset}}, {.durability = durability, .metadata = FormatEnds(ends)}));
  }
  absl::MutexLock lock(&mutex_);
  reached_ = committed_;
  return absl::OkStatus();
}

// Twice in the dead-letter topic only if the process ends between here and the commit, and others
// have set aside records of this partition meanwhile.
absl::Status ForwarderLane::SetAside(const RecordView& record, const std::string& reason) {
  const std::string source = SourceOf(record);
  if (options_.dead_letter_topic.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("Kafka topic ", target_, " refuses ", ToAbsl(topic_.name()), "-",
                     record.partition(), " at offset ", record.offset(), ": ", reason,
                     ". Set ForwarderOptions::dead_letter_topic to have such records set aside"));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const Topic letters, broker_.OpenTopic(options_.dead_letter_topic));
  const Partition log = letters.partition(record.partition() % letters.partition_count());
  CORDWOOD_ASSIGN_OR_RETURN(PartitionReader reader,
                            log.Read(log.end_offset(), Direction::kBackward));
  for (const RecordView& letter : reader) {
    const auto last = ParseSource(letter.headers().Last(kForwardedHeader).value_or(""));
    if (!last || last->origin != topic_id_ || last->partition != record.partition()) continue;
    if (last->offset == record.offset()) return absl::OkStatus();  // by one that was cut off
    break;
  }
  std::vector<Header> headers;
  for (const Header& header : record.headers()) headers.push_back(header);
  headers.push_back({.key = kForwardedHeader, .value = source});
  headers.push_back({.key = "cordwood.target", .value = target_});
  headers.push_back({.key = "cordwood.reason", .value = reason});
  Record letter = record.ToRecord();
  letter.headers = headers;
  CORDWOOD_RETURN_IF_ERROR(log.Append(letter, {.durability = Durability::kDurable}).status());
  absl::MutexLock lock(&mutex_);
  ++progress_.dead_letters;
  return absl::OkStatus();
}

// ---- Small things

bool ForwarderLane::HasReached(const std::map<int, Offset>& ends) const {
  for (const auto& [partition, end] : ends) {
    const absl::StatusOr<Offset> position = consumer_->position(Here(partition));
    if (!position.ok() || *position < end) return false;
  }
  return true;
}

int ForwarderLane::TargetOf(const RecordView& record) const {
  if (partitioning_ == Partitioning::kSame) return record.partition();
  if (const auto key = record.key()) {
    return cordwood::internal::PartitionForKey(cordwood::internal::PartitionerKind::kMurmur2, *key,
                                               target_partitions_);
  }
  return record.partition() % target_partitions_;
}

std::string ForwarderLane::SourceOf(const RecordView& record) const {
  return FormatSource({topic_id_, record.partition(), record.offset()});
}

std::vector<int> ForwarderLane::Partitions() const {
  std::vector<int> partitions;
  for (const TopicPartition& where : consumer_->assignment()) {
    partitions.push_back(where.partition);
  }
  return partitions;
}

// An idle connection may end without that anything is wrong.
void ForwarderLane::OnError(const std::string& error) {
  if (out_ != nullptr && sent_.empty()) return;
  absl::MutexLock lock(&mutex_);
  progress_.last_error = error;
}

bool ForwarderLane::Note(const absl::Status& error) {
  absl::MutexLock lock(&mutex_);
  ++progress_.restarts;
  progress_.last_error = std::string(error.message());
  const bool has_committed =
      std::exchange(noted_, progress_.transactions) != progress_.transactions;
  return std::exchange(is_narrowing_, false) || has_committed;
}

ForwardedTopic ForwarderLane::progress() const {
  absl::MutexLock lock(&mutex_);
  ForwardedTopic progress = progress_;
  for (int p = 0; p < topic_.partition_count(); ++p) {
    const Partition log = topic_.partition(p);
    const auto reached = reached_.find(p);
    const Offset from = reached == reached_.end() ? log.start_offset() : reached->second;
    progress.lag += std::max<std::int64_t>(log.end_offset() - from, 0);
  }
  return progress;
}

}  // namespace cordwood::kafka::internal
