#include "tests/support/crash_script.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/inside.h"

namespace cordwood::testing {
namespace {

constexpr std::int64_t kMuchSpace = std::int64_t{1} << 40;

}  // namespace

CrashScript::CrashScript(std::uint64_t seed)
    : seed_(seed), machine_(seed), choices_(seed * 0x9e3779b97f4a7c15) {
  Inside::DiskOf(machine_).Before([this] {
    if (operations_left_ == 0 || --operations_left_ > 0) return;
    may_leave_hole_ = true;
    EndProcess(armed_power_);
  });
}

bool CrashScript::Problem(const std::string& what) {
  if (problem_.empty()) problem_ = absl::StrCat("seed ", seed_, ", step ", step_, ": ", what);
  return false;
}

std::string CrashScript::Run(int steps) {
  if (!Reopen()) return problem_;
  for (step_ = 1; step_ <= steps; ++step_) {
    const bool fine = OneStep();
    if (!fine) return problem_;
    if (is_dead_ && !Reopen()) return problem_;
  }
  return problem_;
}

bool CrashScript::OneStep() {
  const int p = static_cast<int>(choices_.Below(kPartitions));
  const Partition& partition = partitions_[static_cast<std::size_t>(p)];
  const std::uint64_t what = choices_.Below(100);
  if (what < 40) {
    Append(p, 1, Durability::kPublished, false);
  } else if (what < 50) {
    Append(p, 1, Durability::kDurable, false);
  } else if (what < 60) {
    const auto durability = choices_.Chance(1, 3) ? Durability::kDurable : Durability::kPublished;
    Append(p, 2 + choices_.Below(5), durability, false);
  } else if (what < 65) {
    Append(p, 1, Durability::kPublished, true);
  } else if (what < 72) {
    partition.Flush().IgnoreError();
  } else if (what < 80) {
    broker_.Maintain(absl::Seconds(10)).IgnoreError();
  } else if (what < 83) {
    Trim(p);
  } else if (what < 85) {
    machine_.AdvanceClock(absl::Hours(1));
  } else if (what < 88) {
    FailSync(p);
  } else if (what < 92) {
    ArmEnd();
  } else if (what < 94) {
    EndProcess(/*power=*/false);
  } else if (what < 96) {
    EndProcess(/*power=*/true);
  } else if (what < 97) {
    broker_.Close().IgnoreError();
    EndProcess(/*power=*/choices_.Chance(1, 2));
  } else if (what < 98) {
    LimitDisk();
  } else {
    for (int i = 0; i < kPartitions && !is_dead_; ++i) {
      if (!Verify(i)) return false;
    }
  }
  if (is_dead_) return true;
  for (std::size_t i = 0; i < kPartitions; ++i) {
    models_[i].durable = std::max(models_[i].durable, partitions_[i].durable_offset());
  }
  return problem_.empty();
}

void CrashScript::Append(int p, std::size_t count, Durability durability, bool in_place) {
  Model& model = models_[static_cast<std::size_t>(p)];
  const Partition& partition = partitions_[static_cast<std::size_t>(p)];
  std::vector<std::string> values;
  std::vector<Record> records;
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(absl::StrCat("record ", ++written_, " "));
    values.back().resize(20 + choices_.Below(in_place ? 8000 : 2000), 'v');
  }
  for (const std::string& value : values) records.push_back({.value = value});
  const AppendOptions options = {.durability = durability};
  absl::StatusOr<Offset> first;
  if (in_place) {
    const bool ends = choices_.Chance(1, 10);
    const auto fill = [&](std::span<std::byte> to) {
      const std::string& value = values[0];
      std::transform(value.begin(), value.end(), to.begin(),
                     [](char c) { return static_cast<std::byte>(c); });
      if (ends) EndProcess(/*power=*/choices_.Chance(1, 2));
      return to.size();
    };
    first = partition.AppendInPlace(values[0].size(), {}, fill, options);
  } else if (count == 1) {
    first = partition.Append(records[0], options);
  } else {
    first = partition.AppendBatch(records, options);
  }
  if (is_dead_) {
    model.under_way = std::move(values);
    return;
  }
  std::optional<Offset> at = OffsetOf(first.status());
  if (first.ok()) at = *first;
  if (!at) return;  // nothing happened
  if (*at < model.given_end) {
    Problem(absl::StrCat("partition ", p, ": offset ", *at, " was given before"));
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    model.published[*at + static_cast<Offset>(i)] = std::move(values[i]);
  }
  if (*at != model.end) {
    Problem(absl::StrCat("partition ", p, ": offset ", *at, " after an end of ", model.end));
    return;
  }
  model.given_end = *at + static_cast<Offset>(count);
  model.end = model.given_end;
  model.batch_ends.insert(model.given_end);
  if (first.ok() && durability == Durability::kDurable) model.durable = model.given_end;
}

void CrashScript::Trim(int p) {
  Model& model = models_[static_cast<std::size_t>(p)];
  const Partition& partition = partitions_[static_cast<std::size_t>(p)];
  const Offset start = partition.start_offset();
  const auto records = static_cast<std::uint64_t>(partition.end_offset() - start);
  const Offset to = start + static_cast<Offset>(choices_.Below(records + 1));
  const absl::Status trimmed = partition.Trim(to);
  if (trimmed.ok() && !is_dead_) {
    model.start = std::max(model.start, to);
  } else {
    model.trims_under_way.insert(to);
  }
}

// Two faults at a time are too many: no end is near, and the disk has room.
void CrashScript::FailSync(int p) {
  if (operations_left_ > 0 || disk_is_small_) return;
  machine_.FailNextSync();
  switch (choices_.Below(4)) {
    case 0:
      Append(p, 1, Durability::kDurable, false);
      break;
    case 1:
      partitions_[static_cast<std::size_t>(p)].Flush().IgnoreError();
      break;
    case 2:
      Trim(p);
      break;
    default:
      broker_.Maintain(absl::Seconds(10)).IgnoreError();
  }
  static_cast<void>(Inside::DiskOf(machine_).TakeFailure());
}

void CrashScript::LimitDisk() {
  disk_is_small_ = choices_.Chance(1, 2);
  const auto little = static_cast<std::int64_t>(choices_.Below(256 << 10));
  machine_.SetFreeBytes(disk_is_small_ ? little : kMuchSpace);
}

void CrashScript::EndProcess(bool power) {
  operations_left_ = 0;
  ++(power ? power_cuts_ : kills_);
  is_dead_ = true;
  power_was_cut_ = power_was_cut_ || power;
  may_leave_hole_ = may_leave_hole_ || power;
  if (power) {
    machine_.CutPower();
  } else {
    machine_.KillProcess();
  }
}

void CrashScript::ArmEnd() {
  operations_left_ = 1 + static_cast<int>(choices_.Below(60));
  armed_power_ = choices_.Chance(1, 2);
}

bool CrashScript::Reopen() {
  int failures = 0;
  for (;;) {
    if (choices_.Chance(1, 8)) {
      ArmEnd();
    } else if (failures == 0 && !disk_is_small_ && choices_.Chance(1, 8)) {
      machine_.FailNextSync();
    }
    is_dead_ = false;
    absl::StatusOr<Broker> broker = machine_.Open("/data");
    absl::StatusOr<Topic> topic;
    if (!broker.ok()) {
      topic = broker.status();
    } else {
      topic = broker->OpenOrCreateTopic("t", {.partitions = kPartitions,
                                              .segment_bytes = 32 << 10,
                                              .segment_age = absl::Hours(5),
                                              .retention_age = absl::InfiniteDuration()});
    }
    static_cast<void>(Inside::DiskOf(machine_).TakeFailure());
    if (!is_dead_ && topic.ok()) {
      broker_ = *std::move(broker);
      for (int i = 0; i < kPartitions; ++i) {
        partitions_[static_cast<std::size_t>(i)] = topic->partition(i);
      }
      bool fine = true;
      for (int i = 0; i < kPartitions && fine && !is_dead_; ++i) fine = Verify(i);
      if (!fine) return false;
    }
    if (!is_dead_ && topic.ok()) {
      power_was_cut_ = false;
      may_leave_hole_ = false;
      return true;
    }
    if (is_dead_) continue;
    // The disk is full, or a sync failed: then it can be opened once that is over.
    may_leave_hole_ = true;
    if (++failures > 3) return Problem(absl::StrCat("open: ", topic.status().ToString()));
    machine_.SetFreeBytes(kMuchSpace);
    disk_is_small_ = false;
    EndProcess(/*power=*/false);
  }
}

bool CrashScript::Verify(int p) {
  Model& model = models_[static_cast<std::size_t>(p)];
  const Partition& partition = partitions_[static_cast<std::size_t>(p)];
  const auto wrong = [&](const auto&... words) {
    return Problem(absl::StrCat("partition ", p, ": ", words...));
  };
  const Offset start = partition.start_offset();
  const Offset end = partition.end_offset();
  // Where a trim put it, or behind a hole there.
  Offset trimmed = model.start;
  for (const Offset to : model.trims_under_way) {
    if (to <= start) trimmed = std::max(trimmed, to);
  }
  const auto passed = model.published.lower_bound(trimmed);
  const bool passes_record = passed != model.published.end() && passed->first < start;
  if (start < trimmed || (passes_record && (!power_was_cut_ || passed->first < model.durable))) {
    return is_dead_ || wrong("the start is ", start, ", not ", trimmed);
  }
  std::map<Offset, std::string> found;
  absl::StatusOr<PartitionReader> reader = partition.Read(start);
  if (!reader.ok()) return is_dead_ || wrong("read: ", reader.status().ToString());
  Offset next = start;
  for (const RecordView& record : *reader) {
    if (record.offset() < next) return wrong("offset ", record.offset(), " out of order");
    next = record.offset() + 1;
    found[record.offset()] = std::string(record.value().value_or(""));
  }
  if (is_dead_) return true;  // it ended in the middle of this; the next one looks
  if (!reader->status().ok()) return wrong("read: ", reader->status().ToString());
  for (Offset offset = start; offset < end; ++offset) {
    const bool is_told =
        std::any_of(reader->gaps().begin(), reader->gaps().end(),
                    [&](const Gap& gap) { return gap.from <= offset && offset < gap.to; });
    if (is_told == found.contains(offset)) {
      return wrong("offset ", offset, is_told ? " is there and a gap" : " is missing in silence");
    }
  }

  if (!may_leave_hole_ && end != model.end &&
      !(model.under_way && end == model.end + std::ssize(*model.under_way))) {
    return wrong("the end is ", end, ", not ", model.end, ", though nothing can be lost");
  }
  model.end = end;

  // The common part of what is there and what was published.
  auto here = found.begin();
  auto published = model.published.lower_bound(start);
  for (; here != found.end() && published != model.published.end(); ++here, ++published) {
    if (*here != *published) break;
  }
  if (published != model.published.end()) {
    const Offset lost = published->first;
    if (!power_was_cut_) return wrong("offset ", lost, " was published and is lost");
    if (lost < model.durable) {
      return wrong("offset ", lost, " was durable (below ", model.durable, ") and is lost");
    }
    if (lost > start && published != model.published.lower_bound(start) &&
        !model.batch_ends.contains(std::prev(published)->first + 1)) {
      return wrong("a batch was torn at ", lost);
    }
    if (here != found.end()) {
      return wrong("offset ", here->first, " is there, but not ", lost, " before it");
    }
    model.published.erase(published, model.published.end());
  }
  // What was under way when the process ended.
  std::vector<std::string> more;
  for (; here != found.end(); ++here) {
    if (here->first < model.given_end) return wrong("offset ", here->first, " is not as given");
    more.push_back(here->second);
    model.published[here->first] = here->second;
    model.given_end = here->first + 1;
  }
  if (!more.empty()) {
    if (more != model.under_way) return wrong(more.size(), " records that nobody published");
    model.batch_ends.insert(model.given_end);
  }
  model.under_way.reset();
  model.start = start;
  model.trims_under_way.clear();
  return true;
}

}  // namespace cordwood::testing
