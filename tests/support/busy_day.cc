#include "tests/support/busy_day.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <map>
#include <new>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "cordwood/consumer.h"

namespace cordwood::testing {
namespace {

constexpr int kShortKeeps = 20;
constexpr std::int64_t kAlteredMax = 500'000;
constexpr char kOfNextMorning[] = "0 v";  // what ProblemAfterDay appends: number 0

BrokerOptions OptionsWith(const std::shared_ptr<Storage>& storage) {
  return {.background_threads = false, .storage = storage, .reserve_bytes = 4096};
}

// "number vvv"
std::string ValueOf(std::int64_t number, std::size_t size) {
  std::string value = absl::StrCat(number, " ");
  value.resize(size, 'v');
  return value;
}

std::optional<std::int64_t> NumberOf(const RecordView& record) {
  const std::string_view value = record.value().value_or("");
  std::int64_t number = 0;
  const std::size_t end = value.find_first_not_of("0123456789");
  if (end == 0 || end == std::string_view::npos ||
      !absl::SimpleAtoi(std::string(value.substr(0, end)), &number)) {
    return std::nullopt;
  }
  if (value != ValueOf(number, value.size())) return std::nullopt;
  return number;
}

class Day {
 public:
  Day(const std::shared_ptr<Storage>& storage, DayNotes& notes)
      : options_(OptionsWith(storage)), notes_(notes) {}

  void Run(const std::filesystem::path& path) {
    // Twice, as the first time may be what fails.
    for (int i = 0; i < 2 && !broker_; ++i) {
      Try([&] { broker_ = Value(Broker::Open(path, options_)); });
    }
    if (!broker_) return;
    MakeTopic("log", {.segment_bytes = 4096});
    MakeTopic("short", {.segment_bytes = 4096, .retention_records = kShortKeeps});
    MakeTopic("table",
              {.segment_bytes = 4096, .cleanup = CleanupPolicy::kCompact, .dirty_ratio_min = 0.01});
    MakeTopic("gone", {});
    Append("gone", 1, 100, Durability::kPublished);
    FillLog();
    FillShortAndTable();
    Commit();
    Try([&] { notes_.deleted = Ok(broker_->DeleteTopic("gone")); });
    Try([&] { Ok(broker_->Maintain(absl::Seconds(10))); });
    Try([&] { Ok(broker_->Close()); });
  }

 private:
  bool Ok(const absl::Status& status) {
    if (status.ok()) return true;
    ++notes_.errors;
    if (status.message().find(':') == absl::string_view::npos || status.message().size() < 12) {
      std::snprintf(notes_.wordless, sizeof notes_.wordless, "%s", status.ToString().c_str());
    }
    return false;
  }
  template <class T>
  std::optional<T> Value(absl::StatusOr<T> value) {
    if (!Ok(value.status())) return std::nullopt;
    return *std::move(value);
  }
  template <class F>
  void Try(F f) {
    try {
      f();
    } catch (const std::bad_alloc&) {
      ++notes_.exceptions;
    }
  }

  void MakeTopic(const std::string& name, const TopicConfig& config) {
    for (int i = 0; i < 2 && !topics_.contains(name); ++i) {
      Try([&] {
        if (std::optional<Topic> topic = Value(broker_->OpenOrCreateTopic(name, config))) {
          topics_[name] = *std::move(topic);
        }
      });
    }
  }
  Partition LogOf(const std::string& topic) const {
    const auto it = topics_.find(topic);
    return it == topics_.end() ? Partition() : it->second.partition(0);
  }

  // The offset of the first of them, published if there is one.
  std::optional<Offset> Append(const std::string& topic, std::int64_t count, std::size_t size,
                               Durability durability, bool in_place = false) {
    DayNotes::InDoubt& doubt = notes_.in_doubt[notes_.doubts];
    doubt = {.first = notes_.numbers + 1, .count = count};
    notes_.numbers += count;
    ++notes_.doubts;
    std::optional<Offset> at;
    Try([&] {
      std::vector<std::string> values;
      std::vector<Record> records;
      for (std::int64_t i = 0; i < count; ++i) values.push_back(ValueOf(doubt.first + i, size));
      const std::string key = absl::StrCat("key ", doubt.first % DayNotes::kKeys);
      for (const std::string& value : values) records.push_back({.key = key, .value = value});
      const AppendOptions options = {.durability = durability};
      absl::StatusOr<Offset> first;
      if (in_place) {
        const auto fill = [&](std::span<std::byte> to) {
          std::transform(values[0].begin(), values[0].end(), to.begin(),
                         [](char c) { return static_cast<std::byte>(c); });
          return to.size();
        };
        first = LogOf(topic).AppendInPlace(size, {.key = key}, fill, options);
      } else if (count == 1) {
        first = LogOf(topic).Append(records[0], options);
      } else {
        first = LogOf(topic).AppendBatch(records, options);
      }
      at = OffsetOf(first.status());
      if (Ok(first.status())) at = *first;
      if (at && topic == "log") {
        for (std::int64_t i = 0; i < count; ++i) {
          notes_.told[notes_.count + i] = {
              .number = doubt.first + i,
              .offset = *at + i,
              .durable = first.ok() && durability == Durability::kDurable};
        }
        notes_.count += static_cast<int>(count);
      }
      --notes_.doubts;  // last, as somebody may look at the notes at any moment
    });
    return at;
  }

  void FillLog() {
    for (int i = 0; i < 40; ++i) {
      const auto durability = i % 10 == 9 ? Durability::kDurable : Durability::kPublished;
      Append("log", 1, 200, durability, /*in_place=*/i % 7 == 3);
      if (i == 15) Append("log", 5, 150, Durability::kPublished);
      if (i == 20) Append("log", 1, 6000, Durability::kPublished, /*in_place=*/true);
      if (i == 30) Append("log", 3, 700, Durability::kDurable);
    }
    Try([&] {
      const Offset end = LogOf("log").end_offset();
      if (Ok(LogOf("log").Flush())) notes_.durable = end;
    });
    Try([&] {
      notes_.trim_begun = 12;
      if (Ok(LogOf("log").Trim(12))) notes_.trimmed = 12;
    });
    Append("log", 1, 100, Durability::kPublished);
    Try([&] {
      notes_.altered =
          Ok(broker_->AlterTopic("log", {{"max.message.bytes", absl::StrCat(kAlteredMax)}}));
    });
  }

  void FillShortAndTable() {
    for (int i = 0; i < 50; ++i) {
      if (Append("short", 1, 200, Durability::kPublished)) ++notes_.short_told;
      const std::int64_t number = notes_.numbers + 1;
      if (Append("table", 1, 200, Durability::kPublished)) {
        notes_.last_of_key[number % DayNotes::kKeys] = number;
      }
    }
    Try([&] { notes_.table_is_durable = Ok(LogOf("table").Flush()); });
    for (int i = 0; i < 2; ++i) Try([&] { Ok(broker_->Maintain(absl::Seconds(10))); });
  }

  void Commit() {
    Try([&] {
      std::optional<Consumer> consumer = Value(broker_->NewConsumer({.group = "g"}));
      if (!consumer || !Ok(consumer->Assign({{"log", 0}}))) return;
      for (const Offset to : {20, 30}) {
        Try([&] { Ok(consumer->Poll(absl::ZeroDuration()).status()); });
        Try([&] {
          const CommitOptions durably = {.durability = Durability::kDurable};
          notes_.commit_begun = to;
          if (Ok(consumer->Commit({{{"log", 0}, to}}, durably))) notes_.committed = to;
        });
      }
      Try([&] { Ok(consumer->Close()); });
    });
  }

  const BrokerOptions options_;
  DayNotes& notes_;
  std::optional<Broker> broker_;
  std::map<std::string, Topic> topics_;
};

// ---- The next morning

struct Found {
  std::map<Offset, std::int64_t> numbers = {};
  std::vector<Gap> gaps = {};
  std::map<std::string, std::int64_t> last_of_key = {};
};

// What is there, or in `why` what is wrong with it.
Found ReadAllOf(const Partition& partition, std::string& why) {
  Found found;
  absl::StatusOr<PartitionReader> reader = partition.Read(partition.start_offset());
  if (!reader.ok()) {
    why = reader.status().ToString();
    return found;
  }
  for (const RecordView& record : *reader) {
    const std::optional<std::int64_t> number = NumberOf(record);
    if (!number) {
      why = absl::StrCat("a record that nobody wrote, at ", record.offset());
      return found;
    }
    if (*number == 0) continue;
    found.numbers[record.offset()] = *number;
    found.last_of_key[std::string(record.key().value_or(""))] = *number;
  }
  found.gaps.assign(reader->gaps().begin(), reader->gaps().end());
  if (!reader->status().ok()) why = reader->status().ToString();
  return found;
}

bool IsInGap(const Found& found, Offset offset) {
  return std::any_of(found.gaps.begin(), found.gaps.end(),
                     [&](const Gap& gap) { return gap.from <= offset && offset < gap.to; });
}

std::string ProblemOfLog(const Partition& partition, const DayNotes& notes, DayEnd end) {
  std::string why;
  const Found found = ReadAllOf(partition, why);
  if (!why.empty()) return why;
  const Offset start = partition.start_offset();
  if (start != notes.trimmed && start != notes.trim_begun) {
    return absl::StrCat("it starts at ", start, ", and was trimmed to ", notes.trimmed);
  }
  std::map<Offset, std::int64_t> others = found.numbers;
  bool is_lost = false;
  for (const DayNotes::Told& told :
       std::span(notes.told).first(static_cast<std::size_t>(notes.count))) {
    if (told.offset < start) continue;
    const auto it = found.numbers.find(told.offset);
    if (it == found.numbers.end()) {
      if (end == DayEnd::kProcess || told.durable || told.offset < notes.durable) {
        return absl::StrCat("record ", told.number, " at ", told.offset, " is lost");
      }
      if (told.offset < partition.end_offset() && !IsInGap(found, told.offset)) {
        return absl::StrCat("offset ", told.offset, " is missing in silence");
      }
      is_lost = true;
      continue;
    }
    if (it->second != told.number) {
      return absl::StrCat("at ", told.offset, " is ", it->second, ", not ", told.number);
    }
    if (is_lost) return absl::StrCat("offset ", told.offset, " is there, and some before it not");
    others.erase(told.offset);
  }
  for (const auto& doubt :
       std::span(notes.in_doubt).first(static_cast<std::size_t>(notes.doubts))) {
    const auto erased = std::erase_if(others, [&](const auto& other) {
      return doubt.first <= other.second && other.second < doubt.first + doubt.count;
    });
    const bool is_whole = erased == 0 || static_cast<std::int64_t>(erased) == doubt.count;
    if (!is_whole) return absl::StrCat("of a batch of ", doubt.count, " are there ", erased);
  }
  if (!others.empty()) {
    return absl::StrCat("record ", others.begin()->second, " at ", others.begin()->first,
                        " is there, and its append failed");
  }
  return "";
}

std::string ProblemOfTable(const Partition& partition, const DayNotes& notes) {
  std::string why;
  const Found found = ReadAllOf(partition, why);
  if (!why.empty()) return why;
  for (std::int64_t key = 0; key < DayNotes::kKeys; ++key) {
    const auto it = found.last_of_key.find(absl::StrCat("key ", key));
    const std::int64_t last = it == found.last_of_key.end() ? 0 : it->second;
    if (last < notes.last_of_key[key]) {
      return absl::StrCat("key ", key, " has ", last, ", not ", notes.last_of_key[key]);
    }
  }
  return "";
}

std::string ProblemOfGroup(const Broker& broker, const DayNotes& notes) {
  absl::StatusOr<Consumer> consumer = broker.NewConsumer({.group = "g"});
  if (!consumer.ok()) return consumer.status().ToString();
  if (const absl::Status status = consumer->Assign({{"log", 0}}); !status.ok()) {
    return status.ToString();
  }
  const absl::StatusOr<std::optional<Offset>> at = consumer->committed({"log", 0});
  if (!at.ok()) return at.status().ToString();
  const Offset committed = at->value_or(0);
  if (committed < notes.committed || committed > notes.commit_begun) {
    return absl::StrCat(committed, " is committed, not ", notes.committed);
  }
  return "";
}

}  // namespace

void LiveThroughDay(const std::filesystem::path& path, const std::shared_ptr<Storage>& storage,
                    DayNotes& notes) {
  Day(storage, notes).Run(path);
}

std::string ProblemAfterDay(const std::filesystem::path& path,
                            const std::shared_ptr<Storage>& storage, const DayNotes& notes,
                            DayEnd end) {
  if (notes.wordless[0] != 0) return absl::StrCat("an error without words: ", notes.wordless);
  const absl::StatusOr<Broker> broker = Broker::Open(path, OptionsWith(storage));
  if (!broker.ok()) return absl::StrCat("open: ", broker.status().ToString());
  const std::vector<std::string> names = broker->TopicNames();
  const auto is_there = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (notes.deleted && is_there("gone")) return "a topic that was deleted is there";
  for (const std::string& name : names) {
    const absl::StatusOr<Topic> topic = broker->OpenTopic(name);
    if (!topic.ok()) return absl::StrCat(name, ": ", topic.status().ToString());
    std::string why;
    if (name == "log") {
      why = ProblemOfLog(topic->partition(0), notes, end);
      if (notes.altered && topic->config().max_message_bytes != kAlteredMax) why = "not altered";
    } else if (name == "table" && (end == DayEnd::kProcess || notes.table_is_durable)) {
      why = ProblemOfTable(topic->partition(0), notes);
    } else if (name == "short" && end == DayEnd::kProcess) {
      const Found found = ReadAllOf(topic->partition(0), why);
      if (std::ssize(found.numbers) < std::min(notes.short_told, kShortKeeps)) why = "too short";
    }
    if (!why.empty()) return absl::StrCat(name, ": ", why);
    const absl::StatusOr<Offset> more =
        topic->partition(0).Append({.key = "k", .value = kOfNextMorning});
    if (!more.ok()) return absl::StrCat(name, ": append: ", more.status().ToString());
  }
  if (notes.count > 0 && !is_there("log")) return "the topic \"log\" is gone";
  if (notes.committed > 0) {
    if (const std::string why = ProblemOfGroup(*broker, notes); !why.empty()) {
      return absl::StrCat("group: ", why);
    }
  }
  const absl::Status closed = broker->Close();
  return closed.ok() || end == DayEnd::kPower ? "" : absl::StrCat("close: ", closed.ToString());
}

}  // namespace cordwood::testing
