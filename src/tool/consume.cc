// cordwood consume: reads records from anywhere to anywhere, filters them, and writes them.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cordwood/consumer.h"
#include "cordwood/status_macros.h"
#include "tool/checks.h"
#include "tool/commands.h"
#include "tool/place.h"
#include "tool/record_filter.h"
#include "tool/record_format.h"
#include "tool/terminal.h"

namespace cordwood::tool {
namespace {

struct Options {
  std::string topic = {};
  std::vector<int> partitions = {};
  std::string from = {}, until = {};
  std::int64_t last = 0;
  std::int64_t count = 0;  // 0: all
  bool follow = false;
  std::string group = {};
  std::string format = {};
  FilterOptions filter = {};
};

constexpr absl::Duration kPoll = absl::Milliseconds(100);
constexpr int kPollRecords = 5000;
constexpr int kIdlePolls = 20;  // where nothing is left to come

std::string_view NameOf(GapReason reason) {
  switch (reason) {
    case GapReason::kRetention:
      return "retention";
    case GapReason::kTrim:
      return "trimmed";
    case GapReason::kDropped:
      return "dropped, as the backlog was full";
    case GapReason::kTombstones:
      return "deletions may be missing, as compaction has removed tombstones";
    case GapReason::kDamage:
      return "damaged";
    case GapReason::kPowerLoss:
      return "lost in a power cut";
  }
  return "gone";
}

class Run {
 public:
  Run(Session& session, const Options& options) : session_(session), options_(options) {}

  absl::Status Do() {
    CORDWOOD_RETURN_IF_ERROR(Prepare());
    CORDWOOD_ASSIGN_OR_RETURN(
        const Broker broker, options_.group.empty() ? OpenToRead(session_) : OpenToWrite(session_));
    CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, FindTopic(broker, options_.topic));
    CORDWOOD_RETURN_IF_ERROR(SetEnds(topic));
    CORDWOOD_ASSIGN_OR_RETURN(
        Consumer consumer,
        broker.NewConsumer({.group = options_.group, .max_poll_records = kPollRecords}));
    CORDWOOD_RETURN_IF_ERROR(Begin(topic, consumer));
    StopOnSignals();
    const absl::Status read = options_.last > 0 ? ReadLast(topic, consumer) : Read(consumer);
    // What was written out, and only that, is committed.
    const absl::Status closed = consumer.Close();
    return read.ok() ? closed : read;
  }

 private:
  absl::Status Prepare() {
    CORDWOOD_ASSIGN_OR_RETURN(filter_, RecordFilter::Make(options_.filter));
    CORDWOOD_ASSIGN_OR_RETURN(format_, RecordFormat::Parse(options_.format));
    const bool has_from = !options_.from.empty(), has_until = !options_.until.empty();
    if (!options_.group.empty() &&
        (has_from || has_until || options_.last > 0 || !options_.partitions.empty())) {
      return absl::InvalidArgumentError(
          "a group says itself where it goes on: leave out --from, --until, --last and "
          "--partition, or change it with `cordwood groups reset`");
    }
    if (has_from && options_.last > 0) {
      return absl::InvalidArgumentError("give either --from or --last");
    }
    if (has_until && options_.follow) {
      return absl::InvalidArgumentError("give either --until or --follow, which has no end");
    }
    if (session_.json && !options_.format.empty()) {
      return absl::InvalidArgumentError("give either --format or --json");
    }
    const absl::Time now = absl::Now();
    CORDWOOD_ASSIGN_OR_RETURN(from_, ParsePlace(has_from ? options_.from : "start", now));
    CORDWOOD_ASSIGN_OR_RETURN(until_, ParsePlace(has_until ? options_.until : "end", now));
    return absl::OkStatus();
  }

  absl::Status SetEnds(const Topic& topic) {
    std::vector<int> numbers = options_.partitions;
    if (numbers.empty()) {
      for (int p = 0; p < topic.partition_count(); ++p) numbers.push_back(p);
    }
    for (const int number : numbers) {
      CORDWOOD_ASSIGN_OR_RETURN(const Partition partition, FindPartition(topic, number));
      CORDWOOD_ASSIGN_OR_RETURN(ends_[number], OffsetOfPlace(until_, partition));
    }
    return absl::OkStatus();
  }

  absl::Status Begin(const Topic& topic, Consumer& consumer) {
    if (!options_.group.empty()) return consumer.Subscribe({options_.topic});
    std::vector<TopicPartition> partitions;
    for (const auto& [number, end] : ends_) partitions.push_back({options_.topic, number});
    CORDWOOD_RETURN_IF_ERROR(consumer.Assign(partitions));
    for (const TopicPartition& where : partitions) {
      const Partition partition = topic.partition(where.partition);
      CORDWOOD_ASSIGN_OR_RETURN(Offset offset, OffsetOfPlace(from_, partition));
      // From the end that was seen before: meanwhile the log may have grown.
      if (from_.kind == Place::Kind::kBeforeEnd) {
        offset = std::max(partition.start_offset(), ends_[where.partition] - from_.number);
      }
      CORDWOOD_RETURN_IF_ERROR(consumer.Seek(where, offset));
    }
    return absl::OkStatus();
  }

  // Whether everything up to the ends was read, by what is assigned.
  absl::StatusOr<bool> IsDone(const Consumer& consumer, absl::Time begun) const {
    const std::vector<TopicPartition> assigned = consumer.assignment();
    for (const TopicPartition& where : assigned) {
      CORDWOOD_ASSIGN_OR_RETURN(const Offset position, consumer.position(where));
      const auto end = ends_.find(where.partition);
      if (end != ends_.end() && position < end->second) return false;
    }
    // Others of the group may have them all; they are given time to share.
    return !assigned.empty() || absl::Now() - begun > absl::Seconds(2);
  }

  bool IsOver() const { return IsStopped() || (options_.count > 0 && written_ >= options_.count); }

  template <class Use>
  absl::Status ReadEach(Consumer& consumer, Use use) {
    RecordBatch batch;
    int idle = 0;
    const absl::Time begun = absl::Now();
    for (bool has_polled = false; !IsOver(); has_polled = true) {
      // A member of a group is assigned something by its first Poll.
      if (!options_.follow && (has_polled || options_.group.empty())) {
        CORDWOOD_ASSIGN_OR_RETURN(const bool done, IsDone(consumer, begun));
        if (done) return absl::OkStatus();
      }
      CORDWOOD_RETURN_IF_ERROR(consumer.PollInto(batch, kPoll));
      // Behind the last record that compaction has left there may be offsets, and nothing comes.
      const bool is_idle = batch.empty() && batch.gaps().empty();
      idle = is_idle ? idle + 1 : 0;
      if (idle == kIdlePolls && !options_.follow) return absl::OkStatus();
      for (const Gap& gap : batch.gaps()) Tell(gap);
      std::map<TopicPartition, Offset> done;
      for (const RecordView& record : batch) {
        // What a group skips is gone for it.
        const bool is_late = record.offset() >= ends_[record.partition()];
        if (is_late && !options_.follow && options_.group.empty()) continue;
        if (filter_.Matches(record)) CORDWOOD_RETURN_IF_ERROR(use(record));
        if (!options_.group.empty()) {
          done[{options_.topic, record.partition()}] = record.offset() + 1;
        }
        if (IsOver()) return Commit(consumer, done);
      }
      // Who follows sees each record when it comes.
      if (options_.follow || !options_.group.empty()) {
        CORDWOOD_RETURN_IF_ERROR(session_.out.Flush());
      }
      if (!is_idle) CORDWOOD_RETURN_IF_ERROR(Commit(consumer, std::nullopt));
    }
    return absl::OkStatus();
  }

  // What was written out; none: the whole batch. What another member has by now, it commits.
  absl::Status Commit(Consumer& consumer,
                      const std::optional<std::map<TopicPartition, Offset>>& done) {
    if (options_.group.empty()) return absl::OkStatus();
    CORDWOOD_RETURN_IF_ERROR(session_.out.Flush());
    const absl::Status committed = done ? consumer.Commit(*done) : consumer.Commit();
    return absl::IsAborted(committed) ? absl::OkStatus() : committed;
  }

  void Format(const RecordView& record, std::string& out) const {
    if (session_.json) {
      AppendJsonRecord(record, out);
    } else if (options_.format.empty()) {
      out += record.value().value_or("");
      out += '\n';
    } else {
      format_.Append(record, out);
    }
  }

  absl::Status Write(const RecordView& record) {
    Format(record, session_.out.buffer());
    ++written_;
    session_.out.Write();
    return session_.out.status();
  }

  absl::Status Read(Consumer& consumer) {
    return ReadEach(consumer, [&](const RecordView& record) { return Write(record); });
  }

  // Of all partitions together: the newest by their times. Each is read backward, as a filter or a
  // compaction may leave few of many.
  absl::Status ReadLast(const Topic& topic, Consumer& consumer) {
    struct Kept {
      absl::Time time;
      int partition;
      Offset offset;
      std::string text;
    };
    std::vector<Kept> last;
    for (const auto& [number, end] : ends_) {
      std::int64_t found = 0;
      CORDWOOD_ASSIGN_OR_RETURN(PartitionReader reader,
                                topic.partition(number).Read(end, Direction::kBackward));
      for (const RecordView& record : reader) {
        if (IsStopped()) return absl::OkStatus();
        if (!filter_.Matches(record)) continue;
        last.push_back({record.timestamp(), record.partition(), record.offset(), {}});
        Format(record, last.back().text);
        if (++found == options_.last) break;
      }
      CORDWOOD_RETURN_IF_ERROR(reader.status());
      for (const Gap& gap : reader.gaps()) Tell(gap);
    }
    std::sort(last.begin(), last.end(), [](const Kept& a, const Kept& b) {
      return std::tie(a.time, a.partition, a.offset) < std::tie(b.time, b.partition, b.offset);
    });
    const auto wanted = static_cast<std::size_t>(options_.last);
    for (std::size_t i = last.size() - std::min(last.size(), wanted); i < last.size() && !IsOver();
         ++i, ++written_) {
      session_.out.Write(last[i].text);
    }
    CORDWOOD_RETURN_IF_ERROR(session_.out.Flush());
    if (!options_.follow) return absl::OkStatus();
    for (const auto& [number, end] : ends_) {
      CORDWOOD_RETURN_IF_ERROR(consumer.Seek({options_.topic, number}, end));
    }
    return Read(consumer);
  }

  void Tell(const Gap& gap) const {
    const bool is_one = gap.to - gap.from == 1;
    session_.Note(
        absl::StrCat(gap.topic, "-", gap.partition, is_one ? ": record " : ": records ", gap.from,
                     is_one ? "" : absl::StrCat(" to ", gap.to - 1),
                     is_one ? " is gone: " : " are gone: ", std::string(NameOf(gap.reason))));
  }

  Session& session_;
  Options options_;
  RecordFilter filter_;
  RecordFormat format_;
  Place from_, until_;
  std::map<int, Offset> ends_;  // by partition
  std::int64_t written_ = 0;
};

}  // namespace

void AddConsume(CLI::App& app, Session& session) {
  CLI::App* const consume = app.add_subcommand("consume", "Read records of a topic");
  const auto options = std::make_shared<Options>();
  consume->add_option("TOPIC", options->topic, "The topic")->required();
  consume->add_option("-p,--partition", options->partitions, "Only this one")
      ->type_name("N")
      ->allow_extra_args(false);
  consume->add_option("--from", options->from, absl::StrCat("Where to begin (start): ", kPlaceHelp))
      ->type_name("PLACE");
  consume->add_option("--until", options->until, "Where to end (end), as for --from")
      ->type_name("PLACE");
  consume
      ->add_option("-n,--last", options->last,
                   "The last so many that the filters let through, by their times")
      ->check(AtLeast(1))
      ->type_name("N");
  consume->add_option("-c,--count", options->count, "End after so many")
      ->check(AtLeast(1))
      ->type_name("N");
  consume->add_flag("--follow", options->follow, "Go on with what comes, until Ctrl-C");
  consume
      ->add_option("-g,--group", options->group,
                   "As a member of this group, which commits what was written")
      ->type_name("GROUP");
  consume
      ->add_option("-f,--format", options->format,
                   "%s value, %S its bytes, %R these in 4 bytes, %k key, %K its bytes, %T time in "
                   "ms, %h headers, %t topic, %p partition, %o offset, \\n \\t \\xNN")
      ->type_name("TEXT");
  consume->add_option("-k,--key", options->filter.key, "Only records with this key")
      ->type_name("KEY");
  consume
      ->add_option("-H,--header", options->filter.headers,
                   "Only records with this header, and this value if there is one")
      ->type_name("NAME[=VALUE]")
      ->allow_extra_args(false);
  consume
      ->add_option("-e,--grep", options->filter.pattern,
                   "Only records whose value has this (a POSIX extended regular expression)")
      ->type_name("REGEX");
  consume->callback([&session, options] {
    session.run = [&session, options] { return Run(session, *options).Do(); };
  });
}

}  // namespace cordwood::tool
