#include "cordwood/table_view.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "cordwood/consumer.h"
#include "cordwood/partitioner.h"
#include "cordwood/status.h"
#include "cordwood/status_macros.h"
#include "table_partition.h"

namespace cordwood {
namespace internal {
namespace {

// The handle is asked for each time: in a read-only directory it may lead to another log than
// before, when another process has begun to write.
class PartitionSource final : public TableSource {
 public:
  PartitionSource(const Topic& topic, int number)
      : topic_(topic), partition_(topic.partition(number)) {}

  absl::StatusOr<Bounds> bounds() override {
    const Bounds now = {.start = partition_.start_offset(), .end = partition_.end_offset()};
    // After the loads: they were true if the topic is still there. A partition that has failed
    // can be read, but one that cannot be opened has no end.
    CORDWOOD_RETURN_IF_ERROR(topic_.status());
    if (now.end == 0) CORDWOOD_RETURN_IF_ERROR(partition_.status());
    return now;
  }

  absl::Status Read(Offset from, absl::FunctionRef<void(const RecordView&)> on_record,
                    absl::FunctionRef<bool(const Gap&)> on_gap) override {
    CORDWOOD_ASSIGN_OR_RETURN(PartitionReader reader, partition_.Read(from));
    std::size_t told = 0;
    const auto tell_gaps = [&] {
      for (; told < reader.gaps().size(); ++told) {
        if (!on_gap(reader.gaps()[told])) return false;
      }
      return true;
    };
    for (const RecordView& record : reader) {
      if (!tell_gaps()) return absl::OkStatus();
      on_record(record);
    }
    if (!tell_gaps()) return absl::OkStatus();
    return reader.status();
  }

  const Partition& partition() const { return partition_; }

 private:
  const Topic& topic_;
  const Partition partition_;
};

// Why a key that nobody writes again may go from the topic; empty: it does not.
std::string WhatForgets(const TopicConfig& config) {
  if (config.backlog_bytes != kUnlimited && config.backlog_policy == BacklogPolicy::kDropOldest) {
    return "its backlog_policy drops the oldest records";
  }
  if (config.cleanup != CleanupPolicy::kDelete) return "";
  if (config.retention_age != absl::InfiniteDuration()) {
    return absl::StrCat("its retention_age is ", absl::FormatDuration(config.retention_age));
  }
  if (config.retention_bytes != kUnlimited) {
    return absl::StrCat("its retention_bytes are ", config.retention_bytes);
  }
  if (config.retention_records != kUnlimited) {
    return absl::StrCat("its retention_records are ", config.retention_records);
  }
  return "";
}

absl::Status CheckConfig(const Topic& topic, const TableViewOptions& options) {
  const TopicConfig config = topic.config();
  const std::string name(topic.name());
  if (config.partitions > 1 && config.partitioner != "xxh3" && config.partitioner != "murmur2") {
    return absl::FailedPreconditionError(absl::StrCat(
        "topic ", name, ": a table needs a partitioner that gives each key one partition that is ",
        "known, \"xxh3\" or \"murmur2\", and not \"", config.partitioner, "\""));
  }
  const std::string forgets = WhatForgets(config);
  if (forgets.empty() || options.keys_may_expire) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("topic ", name, " would forget keys that nobody writes again: ", forgets,
                   ". A table needs a topic with CleanupPolicy::kCompact, or without limits of ",
                   "retention; TableViewOptions::keys_may_expire opens it as it is"));
}

absl::Status Changed(const PartitionName& name, Offset expected, Offset found) {
  const auto text = [](Offset offset) {
    return offset == kNoRecord ? std::string("no record") : absl::StrCat("offset ", offset);
  };
  return At(absl::AbortedError(absl::StrCat(name.topic, "-", name.partition,
                                            ": the newest record of the key is ", text(found),
                                            ", not the expected ", text(expected))),
            name, found);
}

absl::Status Overtaken(const PartitionName& name, absl::Duration timeout) {
  return At(absl::DeadlineExceededError(absl::StrCat(
                name.topic, "-", name.partition, ": others appended all the time, for ",
                absl::FormatDuration(timeout), "; nothing was put")),
            name);
}

}  // namespace

class TableViewState {
 public:
  // A partition and its lock.
  struct Part {
    Part(std::string_view topic, int n) : number(n), table(topic, n) {}
    const int number;
    absl::Mutex mutex;
    TablePartition table ABSL_GUARDED_BY(mutex);
  };

  TableViewState(const Broker& broker, const Topic& topic)
      : broker_(broker),
        topic_(topic),
        kind_(PartitionerKindOf(topic.config().partitioner).value_or(PartitionerKind::kXxh3)) {
    const int partitions = topic_.partition_count();
    for (int i = 0; i < partitions; ++i) {
      parts_.push_back(std::make_unique<Part>(topic_.name(), i));
    }
  }

  // Before any lock: in a forked child a thread of the parent may hold it for ever, and in a
  // callback this thread does.
  absl::Status Check() const {
    if (TableCallbackScope::IsInside()) {
      return absl::FailedPreconditionError(
          "a callback of a TableView must not call a TableView: call it when the callback is over");
    }
    CORDWOOD_RETURN_IF_ERROR(topic_.status());
    if (static_cast<std::size_t>(topic_.partition_count()) != parts_.size()) {
      return absl::FailedPreconditionError(
          absl::StrCat("topic ", std::string(topic_.name()), " has ", topic_.partition_count(),
                       " partitions, and had ", parts_.size(),
                       " when this TableView was opened: its keys may live elsewhere now; open it "
                       "again"));
    }
    return absl::OkStatus();
  }

  const std::vector<std::unique_ptr<Part>>& parts() const { return parts_; }
  // Among the partitions that were there at the open: the topic may get more at any moment.
  Part& PartOf(std::string_view key) const {
    const auto count = static_cast<int>(parts_.size());
    return *parts_[static_cast<std::size_t>(PartitionForKey(kind_, key, count))];
  }

  // Calls f(table, changes) under the part's lock when all that was published before this call
  // has been applied; the lock is a shared one if nothing was.
  template <class F>
  absl::Status WithCurrent(Part& part, F f) const {
    PartitionSource source(topic_, part.number);
    if (const Offset end = source.partition().end_offset(); end != 0) {
      absl::ReaderMutexLock lock(&part.mutex);
      if (end == part.table.position() && source.partition().start_offset() == part.table.start()) {
        f(part.table, std::int64_t{0});
        return absl::OkStatus();
      }
    }
    // No end: there was never a record, or the broker was closed, which the source knows.
    absl::MutexLock lock(&part.mutex);
    CORDWOOD_ASSIGN_OR_RETURN(const std::int64_t changes, part.table.CatchUp(source));
    f(part.table, changes);
    return absl::OkStatus();
  }

  absl::StatusOr<std::int64_t> CatchUpAll() const {
    std::int64_t all = 0;
    for (const std::unique_ptr<Part>& part : parts_) {
      CORDWOOD_RETURN_IF_ERROR(
          WithCurrent(*part, [&](const TablePartition&, std::int64_t changes) { all += changes; }));
    }
    return all;
  }

  // Read-only: whether another process writes now, to another control file than the one that is
  // known. What is opened is the one that there is.
  absl::Status LookForWriter() const { return broker_.OpenTopic(topic_.name()).status(); }

  absl::StatusOr<Offset> Append(std::string_view key, Bytes value, const PutOptions& options) const;
  absl::Status WaitForNews(absl::Duration timeout, std::stop_token stop) const;
  std::uint64_t NextWatchId() { return next_watch_id_.fetch_add(1, std::memory_order_relaxed); }

 private:
  const Broker broker_;
  const Topic topic_;
  const PartitionerKind kind_;  // as Topic::PartitionFor has it
  std::vector<std::unique_ptr<Part>> parts_;
  std::atomic<std::uint64_t> next_watch_id_{1};
};

// The log itself compares and sets: what is appended at the end that the table has been read up
// to comes after no record that the table does not know. Nothing is locked in between, so that an
// append that waits, for the disk or for room, holds up nobody. A record of another key that came
// in between is no reason to give up.
absl::StatusOr<Offset> TableViewState::Append(std::string_view key, Bytes value,
                                              const PutOptions& options) const {
  Part& part = PartOf(key);
  const Partition partition = topic_.partition(part.number);
  const Record record = {.key = key, .value = value};
  if (!options.expected_offset.has_value()) {
    return partition.Append(record, {.durability = options.durability, .timeout = options.timeout});
  }
  const absl::Time deadline = absl::Now() + options.timeout;
  absl::Duration left = options.timeout;
  for (;;) {
    const PartitionName* name = nullptr;
    Offset found = kNoRecord;
    Offset end = 0;
    CORDWOOD_RETURN_IF_ERROR(WithCurrent(part, [&](const TablePartition& table, std::int64_t) {
      name = &table.name();
      const TableRecord* newest = table.Find(key);
      if (newest != nullptr) found = newest->offset();
      end = table.position();
    }));
    if (found != *options.expected_offset) return Changed(*name, *options.expected_offset, found);
    absl::StatusOr<Offset> at = partition.Append(
        record, {.expected_offset = end, .durability = options.durability, .timeout = left});
    // kAborted is that of expected_offset alone: nothing was published.
    if (at.ok() || !absl::IsAborted(at.status())) return at;
    left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return Overtaken(*name, options.timeout);
  }
}

// A Consumer knows how to sleep on many partitions. One for each sleep, so that no idle one keeps
// old segments mapped.
absl::Status TableViewState::WaitForNews(absl::Duration timeout, std::stop_token stop) const {
  CORDWOOD_ASSIGN_OR_RETURN(Consumer consumer, broker_.NewConsumer({.max_poll_records = 1}));
  std::vector<TopicPartition> all;
  for (const std::unique_ptr<Part>& part : parts_) {
    all.push_back({std::string(topic_.name()), part->number});
  }
  CORDWOOD_RETURN_IF_ERROR(consumer.Assign(all));
  for (std::size_t i = 0; i < all.size(); ++i) {
    Offset position;
    {
      absl::ReaderMutexLock lock(&parts_[i]->mutex);
      position = parts_[i]->table.position();
    }
    CORDWOOD_RETURN_IF_ERROR(consumer.Seek(all[i], position));
  }
  return consumer.Poll(timeout, std::move(stop)).status();
}

}  // namespace internal

using internal::TablePartition;
using internal::TableRecord;
using internal::TableViewState;

namespace {

// A start that moves rings nobody, and keys may go with it.
constexpr absl::Duration kLookEvery = absl::Seconds(1);

absl::Status Check(const std::shared_ptr<TableViewState>& state) {
  if (state != nullptr) return state->Check();
  return absl::FailedPreconditionError("this TableView was made by default or moved from");
}

}  // namespace

absl::StatusOr<TableView> TableView::Open(const Broker& broker, std::string_view topic,
                                          const TableViewOptions& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Topic opened, broker.OpenTopic(topic));
  CORDWOOD_RETURN_IF_ERROR(internal::CheckConfig(opened, options));
  auto state = std::make_shared<TableViewState>(broker, opened);
  CORDWOOD_RETURN_IF_ERROR(state->Check());
  CORDWOOD_RETURN_IF_ERROR(state->CatchUpAll().status());
  return TableView(std::move(state));
}

absl::StatusOr<std::optional<OwnedRecord>> TableView::Get(std::string_view key) const {
  CORDWOOD_RETURN_IF_ERROR(Check(state_));
  std::optional<OwnedRecord> found;
  CORDWOOD_RETURN_IF_ERROR(
      state_->WithCurrent(state_->PartOf(key), [&](const TablePartition& table, std::int64_t) {
        const TableRecord* record = table.Find(key);
        if (record != nullptr) found.emplace(record->View(table.name()));
      }));
  return found;
}

absl::StatusOr<Offset> TableView::Put(std::string_view key, std::string_view value,
                                      const PutOptions& options) const {
  CORDWOOD_RETURN_IF_ERROR(Check(state_));
  return state_->Append(key, value, options);
}

absl::StatusOr<Offset> TableView::Delete(std::string_view key, const PutOptions& options) const {
  CORDWOOD_RETURN_IF_ERROR(Check(state_));
  return state_->Append(key, nullptr, options);
}

absl::Status TableView::ForEach(absl::FunctionRef<void(const RecordView&)> f) const {
  CORDWOOD_RETURN_IF_ERROR(Check(state_));
  for (const auto& part : state_->parts()) {
    CORDWOOD_RETURN_IF_ERROR(state_->WithCurrent(
        *part, [&](const TablePartition& table, std::int64_t) { table.ForEach(f); }));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::int64_t> TableView::Size() const {
  CORDWOOD_RETURN_IF_ERROR(Check(state_));
  std::int64_t size = 0;
  for (const auto& part : state_->parts()) {
    CORDWOOD_RETURN_IF_ERROR(state_->WithCurrent(
        *part, [&](const TablePartition& table, std::int64_t) { size += table.size(); }));
  }
  return size;
}

absl::StatusOr<TableView::WatchId> TableView::Watch(
    std::function<void(const RecordView&)> f) const {
  CORDWOOD_RETURN_IF_ERROR(Check(state_));
  if (f == nullptr) return absl::InvalidArgumentError("TableView::Watch: there is nothing to call");
  const auto watcher = std::make_shared<internal::TableWatcher>();
  watcher->id = state_->NextWatchId();
  {
    absl::MutexLock lock(&watcher->mutex);
    watcher->call = std::move(f);
  }
  for (const auto& part : state_->parts()) {
    absl::MutexLock lock(&part->mutex);
    part->table.AddWatcher(watcher);
  }
  return watcher->id;
}

absl::Status TableView::Unwatch(WatchId id) const {
  CORDWOOD_RETURN_IF_ERROR(Check(state_));
  bool found = false;
  for (const auto& part : state_->parts()) {
    absl::MutexLock lock(&part->mutex);
    found = part->table.RemoveWatcher(id) || found;
  }
  if (found) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat("this TableView has no watch ", id));
}

absl::StatusOr<std::int64_t> TableView::Poll(absl::Duration timeout, std::stop_token stop) const {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    CORDWOOD_RETURN_IF_ERROR(Check(state_));
    CORDWOOD_RETURN_IF_ERROR(state_->LookForWriter());
    CORDWOOD_ASSIGN_OR_RETURN(const std::int64_t changes, state_->CatchUpAll());
    const absl::Duration left = deadline - absl::Now();
    if (changes != 0 || left <= absl::ZeroDuration()) return changes;
    CORDWOOD_RETURN_IF_ERROR(state_->WaitForNews(std::min(left, kLookEvery), stop));
  }
}

std::vector<Gap> TableView::gaps() const {
  std::vector<Gap> all;
  if (!Check(state_).ok()) return all;
  for (const auto& part : state_->parts()) {
    absl::ReaderMutexLock lock(&part->mutex);
    const std::vector<Gap>& gaps = part->table.gaps();
    all.insert(all.end(), gaps.begin(), gaps.end());
  }
  return all;
}

std::int64_t TableView::keyless_records() const {
  if (!Check(state_).ok()) return 0;
  std::int64_t count = 0;
  for (const auto& part : state_->parts()) {
    absl::ReaderMutexLock lock(&part->mutex);
    count += part->table.keyless_records();
  }
  return count;
}

}  // namespace cordwood
