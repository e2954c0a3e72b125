// cordwood dump: the files of a partition, as they are.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cordwood/status_macros.h"
#include "tool/checks.h"
#include "tool/commands.h"
#include "tool/frames.h"
#include "tool/record_format.h"

namespace cordwood::tool {
namespace {

struct Options {
  std::string topic = {};
  int partition = 0;
  Offset segment = 0;
  bool frames = false, index = false, headers = false, hex = false;
  std::int64_t limit = 0;  // 0: all
};

std::string_view NameOf(segment::SealReason reason) {
  switch (reason) {
    case segment::SealReason::kFull:
      return "full or old";
    case segment::SealReason::kRecovered:
      return "recovered";
    case segment::SealReason::kRetired:
      return "retired after a failed sync";
    case segment::SealReason::kCompacted:
      return "compacted";
  }
  return "unknown";
}

std::string Bits(const os::Bits128& bits) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(bits.data()), bits.size()));
}

// As `hexdump -C` has it.
std::string HexText(const std::byte* bytes, std::uint64_t position, std::uint64_t count) {
  std::string text;
  for (std::uint64_t row = 0; row < count; row += 16) {
    absl::StrAppendFormat(&text, "      %08x ", position + row);
    std::string letters;
    for (std::uint64_t i = row; i < row + 16; ++i) {
      if (i >= count) {
        text += "   ";
        continue;
      }
      const auto byte = static_cast<unsigned char>(bytes[i]);
      absl::StrAppendFormat(&text, " %02x", byte);
      letters += byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '.';
    }
    absl::StrAppend(&text, "  |", letters, "|\n");
  }
  return text;
}

class Dumper {
 public:
  Dumper(Session& session, const Options& options)
      : session_(session), options_(options), style_(session.style()) {}

  absl::Status Segment(const Partition& partition, const SegmentDescription& description) {
    absl::StatusOr<OpenedSegment> opened = OpenSegment(partition, description);
    if (!opened.ok()) {
      session_.Note(std::string(opened.status().message()));
      ++damaged_;
      return absl::OkStatus();
    }
    session_.json ? HeadJson(*opened) : Head(*opened);
    if (options_.index) Index(*opened);
    if ((options_.frames || options_.headers || options_.hex) && !IsOver()) {
      ForEachFrame(*opened->segment, segment::kFirstFrame, opened->limit,
                   [&](const FoundFrame& found) { return Frame(*opened, found); });
    }
    return session_.out.status();
  }

  absl::Status Finish() {
    CORDWOOD_RETURN_IF_ERROR(session_.out.Flush());
    if (damaged_ == 0) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("damaged segments or records: ", damaged_));
  }

 private:
  void Head(const OpenedSegment& opened) {
    const segment::SegmentHeader& header = opened.segment->header();
    std::string text = absl::StrCat(style_.Bold(opened.description.file), "\n");
    const auto line = [&](const char* name, const std::string& value) {
      absl::StrAppendFormat(&text, "  %-12s%s\n", name, value);
    };
    const SegmentDescription& segment = opened.description;
    line("offsets", segment.next == segment.base
                        ? absl::StrCat("none yet, from ", segment.base)
                        : absl::StrCat(segment.base, " to ", segment.next - 1));
    line("bytes", absl::StrCat(segment.bytes, " of ", header.capacity, ", the file has ",
                               opened.segment->file_bytes()));
    line("topic id", Bits(header.topic_id));
    line("salt", Bits(header.salt));
    line("created", TimeText(absl::FromUnixNanos(header.created_ns)));
    if (const auto seal = opened.segment->ReadSeal()) {
      line("seal", absl::StrCat(std::string(NameOf(seal->reason)), ", next ", seal->next, ", end ",
                                seal->end_position));
      line("last append", TimeText(absl::FromUnixNanos(seal->last_append_ns)));
    } else {
      line("seal", "none yet");
    }
    session_.out.Write(text);
  }

  void HeadJson(const OpenedSegment& opened) {
    const segment::SegmentHeader& header = opened.segment->header();
    internal::JsonWriter json;
    json.BeginObject().Key("segment").String(opened.description.file);
    json.Key("base").Number(opened.description.base).Key("next").Number(opened.description.next);
    json.Key("bytes").Number(opened.description.bytes);
    json.Key("capacity").Number(static_cast<std::int64_t>(header.capacity));
    json.Key("topic_id").String(Bits(header.topic_id)).Key("salt").String(Bits(header.salt));
    WriteTime(json.Key("created"), absl::FromUnixNanos(header.created_ns));
    json.Key("seal");
    if (const auto seal = opened.segment->ReadSeal()) {
      json.BeginObject().Key("reason").String(NameOf(seal->reason)).Key("next").Number(seal->next);
      json.Key("end_position").Number(static_cast<std::int64_t>(seal->end_position)).EndObject();
    } else {
      json.Null();
    }
    json.EndObject();
    session_.out.Write(std::move(json).Take() + "\n");
  }

  void Index(const OpenedSegment& opened) {
    const segment::Index* const index = opened.segment->index();
    const std::size_t count = index == nullptr ? 0 : index->Count();
    if (!session_.json) {
      session_.out.Write(index == nullptr
                             ? "  the index is missing or damaged: readers do without\n"
                             : absl::StrCat("  index, ", count, " entries\n"));
    }
    for (std::size_t i = 0; i < count; ++i) {
      const auto entry = index->At(i);
      if (!entry) continue;
      const Offset offset = opened.description.base + Offset{entry->offset_delta};
      if (session_.json) {
        internal::JsonWriter json;
        json.BeginObject().Key("index").Number(static_cast<std::int64_t>(i));
        json.Key("offset").Number(offset);
        json.Key("position").Number(static_cast<std::int64_t>(entry->position)).EndObject();
        session_.out.Write(std::move(json).Take() + "\n");
      } else {
        session_.out.Write(
            absl::StrFormat("    offset %-10d position %d\n", offset, entry->position));
      }
    }
  }

  bool Frame(const OpenedSegment& opened, const FoundFrame& found) {
    const bool is_good = found.state == segment::FrameState::kValid;
    if (!is_good) ++damaged_;
    session_.json ? FrameJson(opened, found) : FrameText(opened, found);
    ++shown_;
    return session_.out.status().ok() && !IsOver();
  }

  bool IsOver() const { return options_.limit > 0 && shown_ >= options_.limit; }

  void FrameText(const OpenedSegment& opened, const FoundFrame& found) {
    const segment::FrameHeader& header = found.frame.header;
    const std::string state(tool::NameOf(found.state));
    if (found.state == segment::FrameState::kBadHeader ||
        found.state == segment::FrameState::kPastEnd) {
      session_.out.Write(absl::StrCat("    position ", found.position, "  ", style_.Bad(state),
                                      "; what follows it cannot be told\n"));
      return;
    }
    std::string text = absl::StrFormat(
        "    offset %-10d position %-10d %6d bytes  %s  key %d  value %d  %016x  %s\n",
        header.offset, found.position, found.frame.frame_bytes,
        TimeText(absl::FromUnixNanos(header.timestamp_ns)), header.key_bytes, header.value_bytes,
        header.checksum,
        found.state == segment::FrameState::kValid ? style_.Good(state) : style_.Bad(state));
    if (options_.headers && found.state == segment::FrameState::kValid) {
      const RecordView record = segment::ViewOf(found.frame, opened.segment->name());
      for (const Header& h : record.headers()) {
        const std::string_view value = h.value.get().value_or("");
        absl::StrAppend(&text, "      ",
                        absl::CHexEscape(absl::string_view(h.key.data(), h.key.size())), " = ",
                        absl::CHexEscape(absl::string_view(value.data(), value.size())), "\n");
      }
    }
    if (options_.hex) {
      text +=
          HexText(opened.segment->data() + found.position, found.position, found.frame.frame_bytes);
    }
    session_.out.Write(text);
  }

  void FrameJson(const OpenedSegment& opened, const FoundFrame& found) {
    const segment::FrameHeader& header = found.frame.header;
    internal::JsonWriter json;
    json.BeginObject().Key("position").Number(static_cast<std::int64_t>(found.position));
    json.Key("state").String(tool::NameOf(found.state));
    if (found.state == segment::FrameState::kValid ||
        found.state == segment::FrameState::kBadBody) {
      json.Key("offset").Number(header.offset);
      json.Key("frame_bytes").Number(std::int64_t{found.frame.frame_bytes});
      WriteTime(json.Key("timestamp"), absl::FromUnixNanos(header.timestamp_ns));
      json.Key("key_bytes").Number(std::int64_t{header.key_bytes});
      json.Key("value_bytes").Number(std::int64_t{header.value_bytes});
      json.Key("batch_remaining").Number(std::int64_t{header.batch_remaining});
      json.Key("checksum").String(absl::StrCat(absl::Hex(header.checksum, absl::kZeroPad16)));
      if (options_.hex) {
        const std::byte* const bytes = opened.segment->data() + found.position;
        json.Key("hex").String(absl::BytesToHexString(
            absl::string_view(reinterpret_cast<const char*>(bytes), found.frame.frame_bytes)));
      }
    }
    if (options_.headers && found.state == segment::FrameState::kValid) {
      std::string headers;
      AppendJsonHeaders(segment::ViewOf(found.frame, opened.segment->name()), headers);
      json.Key("headers").Json(headers);
    }
    json.EndObject();
    session_.out.Write(std::move(json).Take() + "\n");
  }

  Session& session_;
  const Options& options_;
  const Style style_;
  std::int64_t shown_ = 0, damaged_ = 0;
};

absl::Status Dump(Session& session, const Options& options, bool one_segment) {
  CORDWOOD_ASSIGN_OR_RETURN(const Broker broker, OpenToRead(session));
  CORDWOOD_ASSIGN_OR_RETURN(const Topic topic, FindTopic(broker, options.topic));
  CORDWOOD_ASSIGN_OR_RETURN(const Partition partition, FindPartition(topic, options.partition));
  CORDWOOD_ASSIGN_OR_RETURN(const TopicDescription described, broker.DescribeTopic(options.topic));
  const std::vector<SegmentDescription>& segments =
      described.by_number[static_cast<std::size_t>(options.partition)].segments;
  Dumper dumper(session, options);
  bool found = false;
  for (const SegmentDescription& segment : segments) {
    if (one_segment && (options.segment < segment.base || options.segment >= segment.next)) {
      continue;
    }
    found = true;
    CORDWOOD_RETURN_IF_ERROR(dumper.Segment(partition, segment));
  }
  if (!found) {
    return absl::NotFoundError(absl::StrCat("no segment has the offset ", options.segment));
  }
  return dumper.Finish();
}

}  // namespace

void AddDump(CLI::App& app, Session& session) {
  CLI::App* const dump = app.add_subcommand("dump", "The files of a partition, as they are");
  const auto options = std::make_shared<Options>();
  dump->add_option("TOPIC", options->topic, "The topic")->required();
  dump->add_option("PARTITION", options->partition, "The partition")->required();
  CLI::Option* const segment =
      dump->add_option("-s,--segment", options->segment, "Only the one that has this offset")
          ->check(AtLeast(0))
          ->type_name("OFFSET");
  dump->add_flag("--frames", options->frames, "Each record's place, sizes, time and checksum");
  dump->add_flag("--index", options->index, "The entries of the index");
  dump->add_flag("--headers", options->headers, "The headers of the records, too");
  dump->add_flag("--hex", options->hex, "The bytes of the records, too");
  dump->add_option("-c,--count", options->limit, "End after so many records")
      ->check(AtLeast(1))
      ->type_name("N");
  dump->callback([&session, options, segment] {
    const bool one_segment = segment->count() > 0;
    session.run = [=, &session] { return Dump(session, *options, one_segment); };
  });
}

}  // namespace cordwood::tool
