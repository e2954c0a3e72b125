// cordwood explain: where a record lies, whether it is whole, and who has read it.

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cordwood/status_macros.h"
#include "tool/checks.h"
#include "tool/commands.h"
#include "tool/frames.h"

namespace cordwood::tool {
namespace {

struct Options {
  std::string topic = {};
  int partition = 0;
  Offset offset = 0;
};

struct Reader {
  std::string group = {};
  std::optional<Offset> committed = {};
  std::string member = {};
};

struct Answer {
  OpenedSegment where = {};
  FoundFrame found = {};
  bool is_durable = false;
  std::vector<Reader> readers = {};
};

// The frame of the offset. kNotFound: there is none. kDataLoss: nor is there one that is whole, for
// there is damage where it would lie.
absl::StatusOr<FoundFrame> FindFrame(const OpenedSegment& opened, Offset offset) {
  const segment::Segment& segment = *opened.segment;
  std::uint64_t begin = segment::kFirstFrame;
  if (const segment::Index* const index = segment.index(); index != nullptr) {
    const auto delta = static_cast<std::uint32_t>(offset - segment.base());
    if (const auto i = index->LastAtOrBeforeOffset(delta, index->Count())) {
      if (const auto entry = index->At(*i)) begin = entry->position;
    }
  }
  absl::Status why = absl::NotFoundError("is not there");
  for (std::uint64_t position = begin; position < opened.limit;) {
    FoundFrame found{.position = position};
    found.state = segment::CheckFrame(segment.key(), segment.data(), position, opened.limit, true,
                                      found.frame);
    const bool has_header =
        found.state == segment::FrameState::kValid || found.state == segment::FrameState::kBadBody;
    if (has_header && found.frame.header.offset == offset) return found;
    if (has_header && found.frame.header.offset > offset) return why;
    // Behind what is damaged, as a reader does: frames begin at multiples of 8.
    if (!has_header && why.code() != absl::StatusCode::kDataLoss) {
      why = absl::DataLossError(absl::StrCat(opened.description.file, ", position ", position,
                                             ": bytes that are no record"));
    }
    position += has_header ? found.frame.frame_bytes : 8;
  }
  return why;
}

std::string Placed(const Options& options) {
  return absl::StrCat(options.topic, "-", options.partition, " offset ", options.offset);
}

absl::StatusOr<Answer> Find(const Broker& broker, const Options& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, FindTopic(broker, options.topic));
  CORDWOOD_ASSIGN_OR_RETURN(const Partition partition, FindPartition(topic, options.partition));
  if (options.offset < partition.start_offset() || options.offset >= partition.end_offset()) {
    const Offset start = partition.start_offset(), end = partition.end_offset();
    return absl::NotFoundError(absl::StrCat(
        Placed(options), " is not there\n  ",
        start == end
            ? absl::StrCat("The partition has no records; the next one gets ", end, ".")
            : absl::StrCat("The records of the partition go from ", start, " to ", end - 1, ".")));
  }
  CORDWOOD_ASSIGN_OR_RETURN(const TopicDescription described, broker.DescribeTopic(options.topic));
  Answer answer;
  absl::Status why = absl::NotFoundError("");
  for (const SegmentDescription& segment :
       described.by_number[static_cast<std::size_t>(options.partition)].segments) {
    if (options.offset < segment.base || options.offset >= segment.next) continue;
    if (!segment.damage.empty()) return absl::DataLossError(segment.damage);
    CORDWOOD_ASSIGN_OR_RETURN(answer.where, OpenSegment(partition, segment));
    const absl::StatusOr<FoundFrame> found = FindFrame(answer.where, options.offset);
    why = found.status();
    if (!found.ok()) continue;
    answer.found = *found;
    break;
  }
  if (absl::IsDataLoss(why)) {
    return absl::DataLossError(
        absl::StrCat(Placed(options), " is damaged, or was never there\n  ", why.message()));
  }
  if (!why.ok()) {
    return absl::NotFoundError(absl::StrCat(
        Placed(options), " is not there: compaction has removed it, or a power cut took it"));
  }
  answer.is_durable = options.offset < partition.durable_offset();
  for (const std::string& name : broker.ListGroups()) {
    const absl::StatusOr<GroupDescription> group = broker.DescribeGroup(name);
    if (!group.ok()) continue;  // it was deleted meanwhile, or `groups` says what is wrong
    for (const PartitionProgress& p : group->partitions) {
      if (p.topic == options.topic && p.partition == options.partition) {
        answer.readers.push_back({name, p.committed, p.member});
      }
    }
  }
  return answer;
}

bool HasRead(const Reader& reader, Offset offset) {
  return reader.committed && *reader.committed > offset;
}

std::string Text(const Answer& answer, const Options& options, const Style& style) {
  const segment::FrameHeader& header = answer.found.frame.header;
  const SegmentDescription& segment = answer.where.description;
  const bool is_good = answer.found.state == segment::FrameState::kValid;
  std::string text = absl::StrCat(style.Bold(Placed(options)), "\n");
  const auto line = [&](const char* name, const std::string& value) {
    absl::StrAppendFormat(&text, "  %-12s%s\n", name, value);
  };
  line("file", segment.file);
  line("position",
       absl::StrCat(answer.found.position, ", ", answer.found.frame.frame_bytes, " bytes"));
  line("segment", absl::StrCat("offsets ", segment.base, " to ", segment.next - 1,
                               segment.is_active ? ", active" : ", closed"));
  const std::string state(NameOf(answer.found.state));
  line("checksum", absl::StrCat(absl::Hex(header.checksum, absl::kZeroPad16), ", ",
                                is_good ? style.Good(state) : style.Bad(state)));
  line("timestamp", TimeText(absl::FromUnixNanos(header.timestamp_ns)));
  line("key", (header.bytes_and_flags & segment::kHasKey) != 0
                  ? absl::StrCat(header.key_bytes, " bytes")
                  : "none");
  line("value", (header.bytes_and_flags & segment::kHasValue) != 0
                    ? absl::StrCat(header.value_bytes, " bytes")
                    : "none: a tombstone");
  if (header.batch_remaining > 0) {
    line("batch", absl::StrCat(header.batch_remaining, " more of the same batch follow"));
  }
  line("durable", answer.is_durable ? "yes" : "not yet");
  if (answer.readers.empty()) line("read by", "no group that is known here");
  for (const Reader& reader : answer.readers) {
    line(&reader == &answer.readers.front() ? "read by" : "",
         absl::StrCat(reader.group, ": ", HasRead(reader, options.offset) ? "yes" : "not yet",
                      ", committed ", reader.committed ? Count(*reader.committed) : "nothing",
                      reader.member.empty() ? "" : ", read by " + reader.member));
  }
  return text;
}

void WriteJson(internal::JsonWriter& json, const Answer& answer, const Options& options) {
  const segment::FrameHeader& header = answer.found.frame.header;
  const SegmentDescription& segment = answer.where.description;
  json.BeginObject();
  json.Key("topic").String(options.topic);
  json.Key("partition").Number(std::int64_t{options.partition});
  json.Key("offset").Number(options.offset);
  json.Key("file").String(segment.file);
  json.Key("position").Number(static_cast<std::int64_t>(answer.found.position));
  json.Key("frame_bytes").Number(std::int64_t{answer.found.frame.frame_bytes});
  json.Key("segment").BeginObject().Key("base").Number(segment.base);
  json.Key("next").Number(segment.next).Key("is_active").Bool(segment.is_active).EndObject();
  json.Key("checksum").String(absl::StrCat(absl::Hex(header.checksum, absl::kZeroPad16)));
  json.Key("state").String(NameOf(answer.found.state));
  WriteTime(json.Key("timestamp"), absl::FromUnixNanos(header.timestamp_ns));
  json.Key("key_bytes").Number(std::int64_t{header.key_bytes});
  json.Key("value_bytes").Number(std::int64_t{header.value_bytes});
  json.Key("is_durable").Bool(answer.is_durable);
  json.Key("groups").BeginArray();
  for (const Reader& reader : answer.readers) {
    json.BeginObject().Key("group").String(reader.group);
    json.Key("has_read").Bool(HasRead(reader, options.offset)).Key("committed");
    reader.committed ? json.Number(*reader.committed) : json.Null();
    json.EndObject();
  }
  json.EndArray().EndObject();
}

absl::Status Explain(Session& session, const Options& options) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(const Answer answer, Find(broker, options));
  if (!session.json) return session.Answer(Text(answer, options, session.style()));
  internal::JsonWriter json(true);
  WriteJson(json, answer, options);
  return session.Answer(std::move(json));
}

}  // namespace

void AddExplain(CLI::App& app, Session& session) {
  CLI::App* const explain =
      app.add_subcommand("explain", "Where a record lies, and who has read it");
  const auto options = std::make_shared<Options>();
  explain->add_option("TOPIC", options->topic, "The topic")->required();
  explain->add_option("PARTITION", options->partition, "The partition")->required();
  explain->add_option("OFFSET", options->offset, "The offset")->required()->check(AtLeast(0));
  explain->callback([&session, options] {
    session.run = [&session, options] { return Explain(session, *options); };
  });
}

}  // namespace cordwood::tool
