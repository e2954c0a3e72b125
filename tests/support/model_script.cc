#include "tests/support/model_script.h"

#include <algorithm>
#include <iterator>
#include <span>

namespace cordwood::testing {
namespace {

constexpr std::int64_t kKeepRecords = 40;
constexpr absl::Duration kKeepAge = absl::Hours(6);

}  // namespace

ModelScript::ModelScript(std::uint64_t seed)
    : seed_(seed),
      machine_(seed),
      choices_(seed * 0x9e3779b97f4a7c15),
      now_(absl::FromCivil(absl::CivilDay(2026, 1, 1), absl::UTCTimeZone())) {}

std::string ModelScript::Run(int operations) {
  Reopen();
  for (step_ = 1; step_ <= operations && problem_.empty(); ++step_) OneStep();
  return problem_;
}

void ModelScript::OneStep() {
  const std::uint64_t what = choices_.Below(1000);
  if (what < 15 || topics_.empty()) return MakeTopic();
  if (what < 20) return DeleteTopic();
  if (what < 24) {
    if (const absl::Status status = broker_.Close(); !status.ok()) Wrong(status.ToString());
    return Reopen();
  }
  if (what < 28) {
    machine_.KillProcess();
    return Reopen();
  }
  if (what < 50) {
    const absl::Duration by = absl::Minutes(choices_.Below(60));
    machine_.AdvanceClock(by);
    now_ += by;
    return;
  }
  if (what < 70) return Maintain();
  const std::optional<Place> place = AnyPlace();
  if (what < 500) {
    Append(*place);
  } else if (what < 540) {
    AppendExpecting(*place);
  } else if (what < 660) {
    ReadForward(*place);
  } else if (what < 740) {
    ReadBackward(*place);
  } else if (what < 820) {
    FindTime(*place);
  } else if (what < 840) {
    Trim(*place);
  } else if (what < 920) {
    Consume(*place);
  } else if (what < 950) {
    CommitBack(*place);
  } else {
    if (const absl::Status status = place->partition.Flush(); !status.ok()) {
      Wrong("flush: ", status.ToString());
    }
    if (place->partition.durable_offset() != place->model->end) Wrong("a flush left some");
  }
  CheckEnds(*place);
}

void ModelScript::Reopen() {
  absl::StatusOr<Broker> broker = machine_.Open("/data");
  if (!broker.ok()) return Wrong("open: ", broker.status().ToString());
  broker_ = *std::move(broker);
  std::vector<std::string> names;
  for (auto& [name, model] : topics_) {
    names.push_back(name);
    absl::StatusOr<Topic> topic = broker_.OpenTopic(name);
    if (!topic.ok()) return Wrong("open ", name, ": ", topic.status().ToString());
    model.topic = *std::move(topic);
    if (model.topic.config() != model.config) return Wrong(name, " has another config");
    for (int p = 0; p < model.config.partitions; ++p) {
      const Place place = {&model,
                           &model.partitions[static_cast<std::size_t>(p)],
                           model.topic.partition(p),
                           {name, p}};
      CheckEnds(place);
    }
  }
  if (broker_.TopicNames() != names) Wrong("the topics are others");
}

// ---- Topics

void ModelScript::MakeTopic() {
  const std::string name = absl::StrCat("t", choices_.Below(4));
  TopicConfig config = {.partitions = 1 + static_cast<int>(choices_.Below(3)),
                        .segment_bytes = std::int64_t{4096} << choices_.Below(3),
                        .segment_age = absl::Hours(2),
                        .index_interval_bytes = 512,
                        .retention_age = absl::InfiniteDuration()};
  if (choices_.Chance(1, 3)) config.retention_records = kKeepRecords;
  if (choices_.Chance(1, 3)) config.retention_age = kKeepAge;
  if (choices_.Chance(1, 4)) config.timestamp_type = TimestampType::kAppendTime;
  absl::StatusOr<Topic> topic = broker_.CreateTopic(name, config);
  if (topics_.contains(name)) {
    if (!absl::IsAlreadyExists(topic.status())) Wrong(name, " was made twice");
    return;
  }
  if (!topic.ok()) return Wrong("create: ", topic.status().ToString());
  ModelTopic& model = topics_[name];
  model = {.topic = *std::move(topic), .config = config};
  model.partitions.resize(static_cast<std::size_t>(config.partitions));
}

void ModelScript::DeleteTopic() {
  const std::string name = absl::StrCat("t", choices_.Below(4));
  const absl::Status status = broker_.DeleteTopic(name);
  if (!topics_.contains(name)) {
    if (!absl::IsNotFound(status)) Wrong("deleted what is not there: ", status.ToString());
    return;
  }
  if (!status.ok()) return Wrong("delete: ", status.ToString());
  const Partition partition = topics_[name].topic.partition(0);
  if (!absl::IsNotFound(partition.Append({.value = "x"}).status())) Wrong("it takes records still");
  topics_.erase(name);
}

std::optional<ModelScript::Place> ModelScript::AnyPlace() {
  const auto it =
      std::next(topics_.begin(), static_cast<std::ptrdiff_t>(choices_.Below(topics_.size())));
  ModelTopic& topic = it->second;
  const auto p = choices_.Below(topic.partitions.size());
  return Place{&topic,
               &topic.partitions[p],
               topic.topic.partition(static_cast<int>(p)),
               {it->first, static_cast<int>(p)}};
}

Offset ModelScript::AnyOffset(const ModelPartition& model) {
  if (choices_.Chance(1, 10)) return model.start - 1 - static_cast<Offset>(choices_.Below(3));
  if (choices_.Chance(1, 10)) return model.end + static_cast<Offset>(choices_.Below(3));
  return model.start + static_cast<Offset>(
                           choices_.Below(static_cast<std::uint64_t>(model.end - model.start) + 1));
}

absl::Time ModelScript::AnyTime() {
  return now_ + absl::Minutes(static_cast<std::int64_t>(choices_.Below(1200)) - 1000);
}

// ---- Appending

ModelScript::ModelRecord ModelScript::AnyRecord(const TopicConfig& config) {
  ModelRecord record;
  const std::size_t most = choices_.Chance(1, 50) ? 9000 : choices_.Chance(1, 5) ? 900 : 60;
  if (choices_.Chance(1, 2)) record.key = absl::StrCat("key ", choices_.Below(10));
  if (!choices_.Chance(1, 10)) {
    record.value = absl::StrCat("value ", appended_, " ");
    record.value->resize(choices_.Below(most), static_cast<char>('a' + appended_ % 26));
  }
  for (std::uint64_t i = choices_.Chance(1, 4) ? 1 + choices_.Below(3) : 0; i > 0; --i) {
    std::optional<std::string> value;
    if (choices_.Chance(1, 2)) value = std::string(choices_.Below(20), 'h');
    record.headers.emplace_back(absl::StrCat("h", i), value);
  }
  record.timestamp = choices_.Chance(1, 2) ? AnyTime() : now_;
  if (config.timestamp_type == TimestampType::kAppendTime) record.timestamp = now_;
  record.appended = now_;
  ++appended_;
  return record;
}

void ModelScript::Append(const Place& place) {
  const std::size_t count = choices_.Chance(1, 4) ? 1 + choices_.Below(6) : 1;
  std::vector<ModelRecord> added;
  for (std::size_t i = 0; i < count; ++i) added.push_back(AnyRecord(place.topic->config));
  std::vector<std::vector<Header>> headers(count);
  std::vector<Record> records;
  for (std::size_t i = 0; i < count; ++i) {
    for (const auto& [key, value] : added[i].headers) {
      headers[i].push_back({key, value ? Bytes(*value) : Bytes()});
    }
    records.push_back({.key = added[i].key ? Bytes(*added[i].key) : Bytes(),
                       .value = added[i].value ? Bytes(*added[i].value) : Bytes(),
                       .headers = headers[i],
                       .timestamp = added[i].timestamp});
  }
  const AppendOptions options = {.durability = choices_.Chance(1, 10) ? Durability::kDurable
                                                                      : Durability::kPublished};
  absl::StatusOr<Offset> first;
  if (count > 1) {
    first = place.partition.AppendBatch(records, options);
  } else if (added[0].value && choices_.Chance(1, 4)) {
    const auto fill = [&](std::span<std::byte> to) {
      std::transform(added[0].value->begin(), added[0].value->end(), to.begin(),
                     [](char c) { return static_cast<std::byte>(c); });
      return to.size();
    };
    records[0].value = {};  // it comes from `fill`
    first = place.partition.AppendInPlace(added[0].value->size(), records[0], fill, options);
  } else {
    first = place.partition.Append(records[0], options);
  }
  if (!first.ok()) return Wrong("append: ", first.status().ToString());
  if (*first != place.model->end) return Wrong("appended at ", *first, ", not ", place.model->end);
  for (ModelRecord& record : added) place.model->records[place.model->end++] = std::move(record);
  TakeOverStart(place);
}

void ModelScript::AppendExpecting(const Place& place) {
  const Offset expected = choices_.Chance(1, 2) ? place.model->end : AnyOffset(*place.model);
  ModelRecord record = {.value = "expected", .timestamp = now_, .appended = now_};
  const absl::StatusOr<Offset> at = place.partition.Append(
      {.value = *record.value, .timestamp = now_}, {.expected_offset = expected});
  if (expected != place.model->end) {
    if (!absl::IsAborted(at.status())) Wrong("expected ", expected, ": ", at.status().ToString());
    return;
  }
  if (!at.ok() || *at != expected) return Wrong("expected: ", at.status().ToString());
  place.model->records[place.model->end++] = std::move(record);
  TakeOverStart(place);
}

// ---- Reading

bool ModelScript::Is(const RecordView& record, const ModelPartition& model) {
  ++read_;
  const auto it = model.records.find(record.offset());
  if (it == model.records.end()) return false;
  ModelRecord found;
  if (record.key()) found.key = std::string(*record.key());
  if (record.value()) found.value = std::string(*record.value());
  for (const Header& header : record.headers()) {
    std::optional<std::string> value;
    if (header.value.has_value()) value = std::string(header.value.bytes());
    found.headers.emplace_back(std::string(header.key), value);
  }
  found.timestamp = record.timestamp();
  found.appended = it->second.appended;
  return found == it->second;
}

void ModelScript::ReadForward(const Place& place) {
  const ModelPartition& model = *place.model;
  const Offset from = AnyOffset(model);
  absl::StatusOr<PartitionReader> reader = place.partition.Read(from);
  if (from < model.start || from > model.end) {
    if (!absl::IsOutOfRange(reader.status())) Wrong("a read from ", from, " is not out of range");
    return;
  }
  if (!reader.ok()) return Wrong("read: ", reader.status().ToString());
  std::uint64_t left = choices_.Chance(1, 8) ? ~std::uint64_t{0} : choices_.Below(50);
  Offset next = from;
  for (const RecordView& record : *reader) {
    if (left-- == 0) return;
    if (record.offset() != next || !Is(record, model)) {
      return Wrong(place.name.topic, "/", place.name.partition, ": read ", record.offset(),
                   " where ", next, " was to come, or it differs");
    }
    ++next;
  }
  if (next != model.end || !reader->gaps().empty()) Wrong("a read ended at ", next);
  if (!reader->status().ok()) Wrong("read: ", reader->status().ToString());
}

void ModelScript::ReadBackward(const Place& place) {
  const ModelPartition& model = *place.model;
  const Offset from = AnyOffset(model);
  absl::StatusOr<PartitionReader> reader = place.partition.Read(from, Direction::kBackward);
  if (from < model.start || from > model.end) {
    if (!absl::IsOutOfRange(reader.status())) Wrong("a read from ", from, " is not out of range");
    return;
  }
  if (!reader.ok()) return Wrong("read backward: ", reader.status().ToString());
  std::uint64_t left = choices_.Chance(1, 8) ? ~std::uint64_t{0} : choices_.Below(50);
  Offset next = from;
  for (const RecordView& record : *reader) {
    if (left-- == 0) return;
    if (record.offset() != --next || !Is(record, model)) {
      return Wrong("read backward ", record.offset(), " where ", next, " was to come");
    }
  }
  if (next != model.start || !reader->gaps().empty()) Wrong("a read backward ended at ", next);
}

void ModelScript::FindTime(const Place& place) {
  const ModelPartition& model = *place.model;
  absl::Time time = AnyTime();
  if (choices_.Chance(1, 2) && !model.records.empty()) {
    const auto it = model.records.lower_bound(AnyOffset(model));
    if (it != model.records.end()) time = it->second.timestamp;
  }
  const auto it = std::find_if(model.records.begin(), model.records.end(),
                               [&](const auto& record) { return record.second.timestamp >= time; });
  const Offset expected = it == model.records.end() ? model.end : it->first;
  const absl::StatusOr<Offset> at = place.partition.OffsetForTime(time);
  if (!at.ok() || *at != expected) {
    Wrong("the offset for a time is ", at.ok() ? *at : -1, ", not ", expected, " ",
          at.status().ToString());
  }
}

// ---- Giving up

void ModelScript::Trim(const Place& place) {
  ModelPartition& model = *place.model;
  const Offset to = AnyOffset(model);
  const absl::Status status = place.partition.Trim(to);
  if (to > model.end || to < 0) {
    if (status.ok()) Wrong("a trim to ", to, " said OK");
    return;
  }
  if (!status.ok()) return Wrong("trim to ", to, ": ", status.ToString());
  model.start = std::max(model.start, to);
  model.records.erase(model.records.begin(), model.records.lower_bound(model.start));
  TakeOverStart(place);
}

void ModelScript::TakeOverStart(const Place& place) {
  ModelPartition& model = *place.model;
  const TopicConfig& config = place.topic->config;
  const Offset start = place.partition.start_offset();
  if (start < model.start || start > model.end) return Wrong("the start is ", start);
  for (auto it = model.records.begin(); it != model.records.end() && it->first < start;) {
    const bool is_over =
        config.retention_records != kUnlimited && model.end - it->first > config.retention_records;
    const bool is_old = it->second.appended + config.retention_age <= now_;
    if (!is_over && !is_old) return Wrong("record ", it->first, " was given up too early");
    ++retained_away_;
    it = model.records.erase(it);
  }
  model.start = start;
}

void ModelScript::Maintain() {
  const absl::Status status = broker_.Maintain(absl::Seconds(100));
  if (!status.ok()) return Wrong("maintain: ", status.ToString());
  for (auto& [name, model] : topics_) {
    for (int p = 0; p < model.config.partitions; ++p) {
      ModelPartition& partition = model.partitions[static_cast<std::size_t>(p)];
      const Place place = {&model, &partition, model.topic.partition(p), {name, p}};
      TakeOverStart(place);
      if (model.config.retention_records == kUnlimited) continue;
      // What is kept beyond it lies in one file with a record that has to stay, or in the last.
      const std::int64_t file = model.config.segment_bytes / 48;
      if (partition.end - partition.start > kKeepRecords + 2 * file) {
        Wrong(name, "/", p, " keeps ", partition.end - partition.start, " records");
      }
    }
  }
}

// ---- Groups

void ModelScript::Consume(const Place& place) {
  const std::string group = absl::StrCat("g", choices_.Below(2));
  ModelPartition& model = *place.model;
  std::map<std::pair<std::string, int>, Offset>& commits = place.topic->committed;
  const std::pair<std::string, int> key(group, place.name.partition);
  absl::StatusOr<Consumer> consumer = broker_.NewConsumer({.group = group});
  if (!consumer.ok()) return Wrong("consumer: ", consumer.status().ToString());
  if (const absl::Status status = consumer->Assign({place.name}); !status.ok()) {
    return Wrong("assign: ", status.ToString());
  }
  const auto expected = commits.find(key);
  const absl::StatusOr<std::optional<Offset>> committed = consumer->committed(place.name);
  if (!committed.ok()) return Wrong("committed: ", committed.status().ToString());
  if (*committed != (expected == commits.end() ? std::nullopt : std::optional(expected->second))) {
    return Wrong(group, " has committed ", committed->value_or(-1));
  }
  Offset next = committed->value_or(model.start);
  if (choices_.Chance(1, 3)) {
    next = model.start + static_cast<Offset>(choices_.Below(
                             static_cast<std::uint64_t>(model.end - model.start) + 1));
    if (const absl::Status status = consumer->Seek(place.name, next); !status.ok()) {
      return Wrong("seek: ", status.ToString());
    }
  }
  for (std::uint64_t polls = 1 + choices_.Below(3); polls > 0; --polls) {
    const absl::StatusOr<RecordBatch> batch = consumer->Poll(absl::ZeroDuration());
    if (!batch.ok()) return Wrong("poll: ", batch.status().ToString());
    const bool is_behind = next < model.start;
    if (is_behind != !batch->gaps().empty()) return Wrong("a poll at ", next, " told no gap");
    next = std::max(next, model.start);
    for (const RecordView& record : *batch) {
      if (record.offset() != next || !Is(record, model)) {
        return Wrong("polled ", record.offset(), " where ", next, " was to come");
      }
      ++next;
    }
    if (batch->empty() && !is_behind && next != model.end) return Wrong("a poll gave nothing");
  }
  const absl::StatusOr<Offset> position = consumer->position(place.name);
  if (!position.ok() || *position != next) return Wrong("the position is not ", next);
  const bool is_back = committed->has_value() && next < **committed;
  const CommitOptions options = {
      .durability = choices_.Chance(1, 4) ? Durability::kDurable : Durability::kPublished,
      .force = choices_.Chance(1, 4)};
  const absl::Status status = consumer->Commit(options);
  if (is_back && !options.force) {
    if (!absl::IsFailedPrecondition(status)) Wrong("a commit went back: ", status.ToString());
    return;
  }
  if (!status.ok()) return Wrong("commit: ", status.ToString());
  commits[key] = next;
}

// To an offset of the caller's, and not only where a poll has got.
void ModelScript::CommitBack(const Place& place) {
  const std::string group = absl::StrCat("g", choices_.Below(2));
  const std::pair<std::string, int> key(group, place.name.partition);
  absl::StatusOr<Consumer> consumer = broker_.NewConsumer({.group = group});
  if (!consumer.ok()) return Wrong("consumer: ", consumer.status().ToString());
  if (const absl::Status status = consumer->Assign({place.name}); !status.ok()) {
    return Wrong("assign: ", status.ToString());
  }
  const Offset to = AnyOffset(*place.model);
  const absl::Status status =
      consumer->Commit({{place.name, to}}, {.force = choices_.Chance(1, 2)});
  if (to > place.model->end || to < 0) {
    if (status.ok()) Wrong("a commit of ", to, " said OK");
    return;
  }
  const auto it = place.topic->committed.find(key);
  const bool is_back = it != place.topic->committed.end() && to < it->second;
  if (!status.ok() && !is_back) return Wrong("commit of ", to, ": ", status.ToString());
  if (status.ok()) place.topic->committed[key] = to;
}

void ModelScript::CheckEnds(const Place& place) {
  TakeOverStart(place);
  if (place.partition.end_offset() != place.model->end) {
    Wrong(place.name.topic, "/", place.name.partition, " ends at ", place.partition.end_offset(),
          ", not ", place.model->end);
  }
  if (place.partition.durable_offset() > place.model->end) Wrong("more is durable than is there");
}

}  // namespace cordwood::testing
