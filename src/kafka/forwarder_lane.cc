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

namespace cordwood::kafka::internal {
namespace {

// How long a Poll with nothing open sleeps before other things are looked at.
constexpr absl::Duration kIdle = absl::Milliseconds(250);
// 2000 at a time cost a sixth of the speed. Likely, and not proven, because glibc goes through its
// lists of free memory whenever a block of over 64 KiB is freed, and librdkafka's small ones make
// them long.
constexpr int kPollMax = 500;
constexpr absl::Duration kBehindTime = absl::Seconds(1);
constexpr int kCommitsForAll = 64;

std::int64_t BytesIn(const RecordView& record) {
  return static_cast<std::int64_t>(record.key().value_or("").size() +
                                   record.value().value_or("").size());
}

}  // namespace

absl::Duration TransactionTimeMax(absl::Duration time, bool is_behind, absl::Duration timeout) {
  return is_behind ? std::max(time, std::min(kBehindTime, timeout / 2)) : time;
}

ForwarderLane::ForwarderLane(const Broker& broker, const Topic& topic, const std::string& target,
                             Partitioning partitioning, const ForwarderOptions& options)
    : broker_(broker),
      topic_(topic),
      topic_id_(topic.id()),
      target_(target),
      partitioning_(partitioning),
      options_(options),
      timeout_(TransactionTimeout(options.cluster).value_or(absl::ZeroDuration())),
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
  {
    absl::MutexLock lock(&mutex_);
    progress_.in_flight = 0;
  }
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
           .max_poll_records = kPollMax,
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
    has_held_ = true;
  }
}

// Of a group that never gets anywhere the log would be held for ever.
absl::Status ForwarderLane::ReleaseRetention() {
  if (!std::exchange(has_held_, false)) return absl::OkStatus();
  std::string list;
  for (const std::string& group : topic_.config().retain_for_groups) {
    if (group != options_.group) absl::StrAppend(&list, list.empty() ? "" : ",", group);
  }
  return broker_.AlterTopic(topic_.name(), {{"retain.for.groups", list}});
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
    const absl::Duration wait = TimeLeft();
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
    is_behind_ = batch.size() >= static_cast<std::size_t>(kPollMax);
    if (!batch.empty()) {
      CORDWOOD_RETURN_IF_ERROR(Take(std::move(batch), stop));
    } else if (!batch.gaps().empty() && sent_.empty()) {
      CORDWOOD_RETURN_IF_ERROR(CommitHere());
    }
  }
  // What is sent already arrives, if the cluster answers; else Run gives it up.
  return sent_.empty() ? absl::OkStatus() : FinishTransaction(stop);
}

// ---- A transaction

absl::Status ForwarderLane::Take(RecordBatch batch, std::stop_token stop) {
  if (sent_.empty()) {
    CORDWOOD_RETURN_IF_ERROR(out_->Begin());
    began_ns_ = os::MonotonicNanos();
  }
  sent_.push_back(std::move(batch));
  std::set<int> cut;  // partitions of which the rest waits for the next transaction
  absl::Status status;
  std::string source = topic_id_;  // as SourceOf, with no allocation for each
  for (const RecordView& record : sent_.back()) {
    if (!status.ok() || sent_records_ >= records_max_) {
      if (!cut.insert(record.partition()).second) continue;
      CORDWOOD_RETURN_IF_ERROR(consumer_->Seek(Here(record.partition()), record.offset()));
      continue;
    }
    ++sent_records_;
    sent_bytes_ += BytesIn(record);
    source.resize(topic_id_.size());
    absl::StrAppend(&source, "/", record.partition(), "/", record.offset());
    status = out_->Send(record, TargetOf(record), source, stop);
  }
  out_->Serve();
  CountSent();
  // One that fails is found out about, and told of, at its end.
  return status.ok() || absl::IsCancelled(status) ? status : FinishTransaction(stop);
}

absl::Status ForwarderLane::FinishTransaction(std::stop_token stop) {
  absl::Status status;
  if (out_->failures().empty()) {
    status = out_->Finish(stop);
  }
  CountSent();
  if (status.ok() && out_->failures().empty()) {
    for (const auto& [target, end] : out_->ends()) ends_[target] = std::max(ends_[target], end);
    CORDWOOD_RETURN_IF_ERROR(CommitHere());
    records_max_ = std::min(records_max_ * 2, options_.transaction_records_max);
    absl::MutexLock lock(&mutex_);
    progress_.records += sent_records_;
    progress_.bytes += sent_bytes_;
    ++progress_.transactions;
    progress_.in_flight = 0;
    progress_.last_error.clear();
    IsThere();
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
  {
    absl::MutexLock lock(&mutex_);
    ++progress_.refused;
  }
  CORDWOOD_RETURN_IF_ERROR(SetAside(*sent_.back().begin(), reason));
  sent_records_ = 0;  // it is not tried again
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
        {{where, offset}},
        {.durability = durability, .metadata = FormatReached({.target = place_, .ends = ends})}));
  }
  absl::MutexLock lock(&mutex_);
  reached_ = committed_;
  return absl::OkStatus();
}

absl::Status ForwarderLane::WithdrawMarks() {
  std::map<TopicPartition, Offset> all;
  for (const auto& [partition, offset] : committed_) all.emplace(Here(partition), offset);
  return consumer_->Commit(all, {.durability = Durability::kDurable});
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

absl::Duration ForwarderLane::TimeLeft() const {
  if (sent_.empty()) return kIdle;
  return TransactionTimeMax(options_.transaction_time, is_behind_, timeout_) -
         absl::Nanoseconds(os::MonotonicNanos() - began_ns_);
}

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
  if (away_since_ns_ == 0) away_since_ns_ = os::MonotonicNanos();
}

void ForwarderLane::IsThere() {
  if (away_since_ns_ == 0) return;
  progress_.away += absl::Nanoseconds(os::MonotonicNanos() - std::exchange(away_since_ns_, 0));
}

void ForwarderLane::CountSent() {
  absl::MutexLock lock(&mutex_);
  progress_.in_flight = sent_records_;
  progress_.delivered = delivered_before_ + out_->delivered();
}

bool ForwarderLane::Note(const absl::Status& error) {
  absl::MutexLock lock(&mutex_);
  ++progress_.restarts;
  progress_.last_error = std::string(error.message());
  const bool is_away = absl::IsUnavailable(error) || absl::IsDeadlineExceeded(error);
  if (is_away && !is_narrowing_ && away_since_ns_ == 0) away_since_ns_ = os::MonotonicNanos();
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
    const std::int64_t lag = std::max<std::int64_t>(log.end_offset() - from, 0);
    progress.partitions.push_back({.partition = p, .next = from, .lag = lag});
    progress.lag += lag;
  }
  if (away_since_ns_ != 0) {
    progress.away += absl::Nanoseconds(os::MonotonicNanos() - away_since_ns_);
  }
  return progress;
}

}  // namespace cordwood::kafka::internal
