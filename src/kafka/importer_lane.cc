#include "kafka/importer_lane.h"

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cordwood/os/clock.h"
#include "cordwood/partitioner.h"
#include "cordwood/status_macros.h"
#include "kafka/lanes.h"

namespace cordwood::kafka::internal {
namespace {

constexpr absl::Duration kIdle = absl::Milliseconds(250);
constexpr absl::Duration kAnswer = absl::Seconds(5);
// How much is appended by one store, and how long the last commit may lie behind while more comes.
constexpr std::size_t kBatchRecords = 2000;
constexpr std::size_t kBatchBytes = 1 << 20;
constexpr absl::Duration kCommitInterval = absl::Seconds(1);

std::int64_t BytesIn(const rd_kafka_message_t& message) {
  return static_cast<std::int64_t>(message.len + message.key_len);
}

using Bytes = std::optional<std::string_view>;
std::size_t DigestOf(Bytes key, Bytes value) { return absl::HashOf(key, value); }

// What a message is here, and the memory that its headers are in.
struct Imported {
  std::string source = {};
  std::vector<Header> headers = {};
  Record record = {};
};

void Fill(Imported& imported, const rd_kafka_message_t& message, const std::string& origin) {
  imported.source = FormatSource({origin, message.partition, message.offset});
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0;
         rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i) {
      imported.headers.push_back({.key = name, .value = BytesOf(value, size)});
    }
  }
  imported.headers.push_back({.key = kImportedHeader, .value = imported.source});
  imported.record.key = BytesOf(message.key, message.key_len);
  imported.record.value = BytesOf(message.payload, message.len);
  imported.record.headers = imported.headers;
  rd_kafka_timestamp_type_t type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
  const std::int64_t millis = rd_kafka_message_timestamp(&message, &type);
  if (type != RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && millis >= 0) {
    imported.record.timestamp = absl::FromUnixMillis(millis);
  }
}

}  // namespace

ImporterLane::ImporterLane(const Broker& broker, const ImportRoute& route,
                           const ImporterOptions& options)
    : broker_(broker),
      route_(route),
      options_(options),
      target_(route.target.empty() ? route.topic : route.target) {
  progress_.topic = route.topic;
  progress_.target = target_;
}

absl::Status ImporterLane::Run(std::stop_token stop, bool to_end) {
  const absl::Status status = TryForEver(
      stop, [&] { return Work(stop, to_end); },
      [&](const absl::Status& error) { return Note(error); });
  reader_.reset();
  return status;
}

absl::Status ImporterLane::Work(std::stop_token stop, bool to_end) {
  CORDWOOD_ASSIGN_OR_RETURN(
      const std::unique_ptr<Client> probe,
      Client::Open(RD_KAFKA_CONSUMER, options_.cluster, {{"isolation.level", "read_committed"}}));
  CORDWOOD_RETURN_IF_ERROR(OpenTopics(*probe, stop));
  CORDWOOD_RETURN_IF_ERROR(ReadMarks());
  CORDWOOD_RETURN_IF_ERROR(StartReading(*probe, stop));
  CountLag();
  Ends ends;
  if (to_end) {
    for (int p = 0; p < partitions_; ++p) {
      CORDWOOD_ASSIGN_OR_RETURN(const Client::Ends now,
                                probe->EndsOf(route_.topic, p, kAnswer, stop));
      ends[p] = now.high;
    }
  }
  absl::Time commit_by = absl::Now() + kCommitInterval;
  while (!stop.stop_requested()) {
    std::vector<Owned<rd_kafka_message_t>> messages;
    std::size_t bytes = 0;
    while (messages.size() < kBatchRecords && bytes < kBatchBytes) {
      Owned<rd_kafka_message_t> message =
          reader_->Next(messages.empty() ? kIdle : absl::ZeroDuration());
      if (message == nullptr) break;
      if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        // Where the records end is behind those that are only on their way to here: not yet.
        messages.push_back(std::move(message));
        break;
      }
      CORDWOOD_RETURN_IF_ERROR(
          StatusOf(message->err, absl::StrCat("reading Kafka topic ", route_.topic)));
      bytes += static_cast<std::size_t>(BytesIn(*message));
      messages.push_back(std::move(message));
    }
    CORDWOOD_RETURN_IF_ERROR(Take(std::move(messages)));
    CountLag();
    const bool is_at_end = to_end && HasReached(ends);
    if (!is_committed_ && (bytes == 0 || is_at_end || absl::Now() >= commit_by)) {
      CORDWOOD_RETURN_IF_ERROR(Commit());
      commit_by = absl::Now() + kCommitInterval;
    }
    if (is_at_end) return absl::OkStatus();
  }
  return is_committed_ ? absl::OkStatus() : Commit();
}

// ---- Where to go on

absl::Status ImporterLane::OpenTopics(const Client& probe, std::stop_token stop) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::string cluster_id, probe.ClusterId(kAnswer, stop));
  CORDWOOD_ASSIGN_OR_RETURN(const auto counts, probe.CountPartitions(route_.topic, kAnswer, stop));
  partitions_ = counts.begin()->second;
  origin_ = absl::StrCat(cluster_id, "/", route_.topic);

  absl::StatusOr<Topic> topic = broker_.OpenTopic(target_);
  if (absl::IsNotFound(topic.status()) && options_.create_topics) {
    CORDWOOD_ASSIGN_OR_RETURN(const ClusterTopic there,
                              DescribeTopic(options_.cluster, route_.topic, kAnswer));
    CORDWOOD_ASSIGN_OR_RETURN(TopicConfig config, FromClusterTopic(there));
    config.timestamp_type = TimestampType::kCreateTime;  // which the record brings along
    topic = broker_.OpenOrCreateTopic(target_, config);
  }
  CORDWOOD_RETURN_IF_ERROR(topic.status());
  topic_ = *std::move(topic);
  if (route_.partitioning == Partitioning::kSame && topic_.partition_count() != partitions_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "Kafka topic ", route_.topic, " has ", partitions_, " partitions, topic ", target_, " has ",
        topic_.partition_count(),
        ": make them equal, or set ImportRoute::partitioning to spread the keys anew"));
  }
  return absl::OkStatus();
}

absl::Status ImporterLane::ReadMarks() {
  here_.assign(static_cast<std::size_t>(topic_.partition_count()), {});
  std::vector<Offset> from(here_.size());
  for (std::size_t q = 0; q < here_.size(); ++q) {
    here_[q].log = topic_.partition(static_cast<int>(q));
    from[q] = here_[q].log.start_offset();
  }
  const absl::StatusOr<GroupDescription> group = broker_.DescribeGroup(options_.group);
  if (!group.ok() && !absl::IsNotFound(group.status())) return group.status();
  for (const PartitionProgress& p :
       group.ok() ? group->partitions : std::vector<PartitionProgress>()) {
    const auto q = static_cast<std::size_t>(p.partition);
    if (p.topic != target_ || q >= here_.size() || !p.committed) continue;
    const std::string before = absl::StrCat(origin_, " ");
    if (!absl::StartsWith(p.metadata, before)) continue;
    const std::optional<Ends> ends = ParseEnds(std::string_view(p.metadata).substr(before.size()));
    // Past the end: the log was put back to an older state, and has not what the text says.
    if (!ends || *p.committed > here_[q].log.end_offset()) continue;
    here_[q].floor = *ends;
    // With the one record before it, for CheckLast.
    from[q] = std::max(from[q], *p.committed - 1);
  }
  last_.clear();
  for (std::size_t q = 0; q < here_.size(); ++q) {
    CORDWOOD_RETURN_IF_ERROR(LookBack(here_[q], from[q]));
  }
  return absl::OkStatus();
}

absl::Status ImporterLane::LookBack(Here& here, Offset from) {
  from = std::max(from, here.log.start_offset());  // retention may have gone past it
  const Offset end = here.log.end_offset();
  CORDWOOD_ASSIGN_OR_RETURN(PartitionReader reader, here.log.Read(from));
  here.end = from;
  for (const RecordView& record : reader) {
    here.end = record.offset() + 1;
    const auto source = ParseSource(record.headers().Last(kImportedHeader).value_or(""));
    if (!source || source->origin != origin_) continue;
    std::int64_t& floor = here.floor[source->partition];
    floor = std::max(floor, source->offset + 1);
    Last& last = last_[source->partition];
    if (source->offset > last.offset) {
      last = {source->offset, DigestOf(record.key(), record.value())};
    }
  }
  // Past what is missing at the end as well.
  here.end = std::max(here.end, end);
  return reader.status();
}

absl::Status ImporterLane::StartReading(const Client& probe, std::stop_token stop) {
  next_.clear();
  seen_.clear();
  CORDWOOD_ASSIGN_OR_RETURN(TopicReader reader, TopicReader::Open(options_.cluster, route_.topic));
  for (int p = 0; p < partitions_; ++p) {
    // The lowest that any local partition that could have records of it may lack.
    std::optional<std::int64_t> lowest;
    for (std::size_t q = 0; q < here_.size(); ++q) {
      if (route_.partitioning == Partitioning::kSame && static_cast<int>(q) != p) continue;
      const auto it = here_[q].floor.find(p);
      const std::int64_t floor = it == here_[q].floor.end() ? 0 : it->second;
      lowest = std::min(lowest.value_or(floor), floor);
    }
    std::int64_t next = lowest.value_or(0);
    CORDWOOD_ASSIGN_OR_RETURN(const Client::Ends now, probe.EndsOf(route_.topic, p, kAnswer, stop));
    seen_[p] = now.high;
    if (next > now.high) {
      return absl::DataLossError(absl::StrCat(
          "Kafka partition ", route_.topic, "-", p, " ends at ", now.high, ", and ", next,
          " records of it are in ", target_, ": it was made anew. Import into a new topic"));
    }
    if (next < now.low) {
      absl::MutexLock lock(&mutex_);
      if (next > 0) progress_.gaps += now.low - next;  // else it begins there
      next = now.low;
      is_committed_ = false;  // so that it is counted once
    }
    next_[p] = next;
    // From the last one that is here already, to see that it still is the same there.
    const auto last = last_.find(p);
    const bool is_there = last != last_.end() && last->second.offset >= now.low;
    const std::int64_t begin = is_there ? std::min(next, last->second.offset) : next;
    CORDWOOD_RETURN_IF_ERROR(reader.Start(p, begin));
  }
  reader_.reset();  // the old one goes first: TopicReader has no assignment
  reader_.emplace(std::move(reader));
  return absl::OkStatus();
}

bool ImporterLane::HasReached(const Ends& ends) const {
  return std::all_of(ends.begin(), ends.end(),
                     [&](const auto& end) { return next_.at(end.first) >= end.second; });
}

// ---- Here

int ImporterLane::TargetOf(const rd_kafka_message_t& message) const {
  if (route_.partitioning == Partitioning::kSame) return message.partition;
  const int count = topic_.partition_count();
  if (const auto key = BytesOf(message.key, message.key_len)) {
    return cordwood::internal::PartitionForKey(cordwood::internal::PartitionerKind::kMurmur2, *key,
                                               count);
  }
  return message.partition % count;
}

absl::Status ImporterLane::CheckLast(const rd_kafka_message_t& message) {
  const auto last = last_.find(message.partition);
  if (last == last_.end() || last->second.offset != message.offset) return absl::OkStatus();
  if (last->second.digest !=
      DigestOf(BytesOf(message.key, message.key_len), BytesOf(message.payload, message.len))) {
    return absl::DataLossError(
        absl::StrCat("Kafka partition ", route_.topic, "-", message.partition, " has at ",
                     message.offset, " another record than the one that is in ", target_,
                     " from there: it was made anew. Import into a new topic"));
  }
  return absl::OkStatus();
}

absl::Status ImporterLane::Take(std::vector<Owned<rd_kafka_message_t>> messages) {
  std::map<int, std::vector<const rd_kafka_message_t*>> by_target;
  for (const auto& message : messages) {
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      CORDWOOD_RETURN_IF_ERROR(CheckLast(*message));
      by_target[TargetOf(*message)].push_back(message.get());
    }
  }
  for (auto& [target, some] : by_target) {
    CORDWOOD_RETURN_IF_ERROR(AppendTo(here_[static_cast<std::size_t>(target)], std::move(some)));
  }
  for (const auto& message : messages) {
    const bool is_end = message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
    std::int64_t& next = next_[message->partition];
    const std::int64_t after = message->offset + (is_end ? 0 : 1);
    if (after > next) {
      next = after;
      is_committed_ = false;
    }
  }
  return absl::OkStatus();
}

absl::Status ImporterLane::AppendTo(Here& here, std::vector<const rd_kafka_message_t*> messages) {
  for (;;) {
    std::erase_if(messages, [&](const rd_kafka_message_t* message) {
      const auto it = here.floor.find(message->partition);
      return it != here.floor.end() && message->offset < it->second;
    });
    if (messages.empty()) return absl::OkStatus();
    std::vector<Imported> imported(messages.size());
    std::vector<Record> records;
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < messages.size(); ++i) {
      Fill(imported[i], *messages[i], origin_);
      records.push_back(imported[i].record);
      bytes += BytesIn(*messages[i]);
    }
    // Only where we have seen all that is below: so nobody can have appended these already.
    const absl::StatusOr<Offset> at = here.log.AppendBatch(records, {.expected_offset = here.end});
    if (absl::IsAborted(at.status())) {
      CORDWOOD_RETURN_IF_ERROR(LookBack(here, here.end));
      continue;
    }
    if (!at.ok()) {
      return absl::Status(
          at.status().code(),
          absl::StrCat("importing Kafka topic ", route_.topic, ", ", records.size(),
                       " records from partition ", messages.front()->partition, " at ",
                       messages.front()->offset, " on: ", at.status().message()));
    }
    here.end = *at + static_cast<Offset>(records.size());
    for (const rd_kafka_message_t* message : messages) {
      here.floor[message->partition] = message->offset + 1;
    }
    absl::MutexLock lock(&mutex_);
    progress_.records += static_cast<std::int64_t>(records.size());
    progress_.bytes += bytes;
    progress_.last_error.clear();
    return absl::OkStatus();
  }
}

absl::Status ImporterLane::Commit() {
  CORDWOOD_ASSIGN_OR_RETURN(Consumer consumer, broker_.NewConsumer({.group = options_.group}));
  std::vector<TopicPartition> all;
  for (std::size_t q = 0; q < here_.size(); ++q) all.push_back({target_, static_cast<int>(q)});
  CORDWOOD_RETURN_IF_ERROR(consumer.Assign(all));
  for (std::size_t q = 0; q < here_.size(); ++q) {
    const int number = static_cast<int>(q);
    const Ends ends =
        route_.partitioning == Partitioning::kSame ? Ends{{number, next_.at(number)}} : next_;
    CORDWOOD_RETURN_IF_ERROR(
        consumer.Commit({{all[q], here_[q].end}},
                        {.metadata = absl::StrCat(origin_, " ", FormatEnds(ends)), .force = true}));
  }
  is_committed_ = true;
  return absl::OkStatus();
}

// ---- Progress

bool ImporterLane::Note(const absl::Status& error) {
  absl::MutexLock lock(&mutex_);
  ++progress_.restarts;
  progress_.last_error = std::string(error.message());
  const bool is_away = absl::IsUnavailable(error) || absl::IsDeadlineExceeded(error);
  if (is_away && away_since_ns_ == 0) away_since_ns_ = os::MonotonicNanos();
  return std::exchange(noted_, progress_.records) != progress_.records;
}

void ImporterLane::CountLag() {
  std::vector<ImportedPartition> partitions;
  std::int64_t all = 0;
  for (const auto& [p, next] : next_) {
    // What came with the last records; it asks nobody.
    std::int64_t low = 0, high = 0;
    if (rd_kafka_get_watermark_offsets(reader_->client().get(), route_.topic.c_str(), p, &low,
                                       &high) == RD_KAFKA_RESP_ERR_NO_ERROR) {
      seen_[p] = std::max(seen_[p], high);
    }
    const std::int64_t lag = std::max<std::int64_t>(seen_[p] - next, 0);
    partitions.push_back({.partition = p, .next = next, .lag = lag});
    all += lag;
  }
  absl::MutexLock lock(&mutex_);
  progress_.partitions = std::move(partitions);
  progress_.lag = all;
  if (away_since_ns_ == 0) return;
  progress_.away += absl::Nanoseconds(os::MonotonicNanos() - std::exchange(away_since_ns_, 0));
}

ImportedTopic ImporterLane::progress() const {
  absl::MutexLock lock(&mutex_);
  ImportedTopic progress = progress_;
  if (away_since_ns_ != 0) {
    progress.away += absl::Nanoseconds(os::MonotonicNanos() - away_since_ns_);
  }
  return progress;
}

}  // namespace cordwood::kafka::internal
