// Typed events: the log holds bytes, the program sees its own types.
//
//   usage: typed_events [DIRECTORY]      (default: typed-events-data)
//
//   prints the mean temperature of each room from records that are read in place, then the notes
//   of the day, of which one is broken and one was taken back; on a later run, what is new
//
// exit codes: 0 done; 1 something failed, and stderr says what; 2 wrong arguments.
#include <cordwood/cordwood.h>
#include <cordwood/status_macros.h>

#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>

// A trivially copyable struct without pointers needs nothing: it is stored as it lies in memory and
// read where it lies in the mapped file. Its layout is the format, so spell out the padding and
// only ever add new types. A field of another size would be a static_assert here, not a surprise.
struct Reading {
  double celsius;
  std::int32_t sensor;
  std::int32_t reserved;
};
static_assert(sizeof(Reading) == 16);

// Any other type says how it is written and read.
struct Note {
  std::string author;
  std::string text;
};

template <>
struct cordwood::Serde<Note> {
  static absl::Status Serialize(const Note& note, std::string& out) {
    if (note.author.find(':') != std::string::npos) {
      return absl::InvalidArgumentError("an author's name may not hold a colon");
    }
    out.append(note.author).append(": ").append(note.text);
    return absl::OkStatus();
  }
  static absl::StatusOr<Note> Deserialize(std::string_view bytes) {
    const std::size_t colon = bytes.find(": ");
    if (colon == std::string_view::npos) return absl::InvalidArgumentError("a note by nobody");
    return Note{std::string(bytes.substr(0, colon)), std::string(bytes.substr(colon + 2))};
  }
};

namespace {
using namespace cordwood;

absl::Status Measure(const Broker& broker) {
  CORDWOOD_RETURN_IF_ERROR(broker.OpenOrCreateTopic("readings", {.partitions = 4}).status());
  CORDWOOD_ASSIGN_OR_RETURN(const auto producer,
                            (broker.NewTypedProducer<std::string, Reading>("readings")));
  for (int i = 0; i < 1000; ++i) {
    const char* const room = i % 2 == 0 ? "kitchen" : "cellar";
    const double celsius = (i % 2 == 0 ? 21.0 : 12.0) + (i % 10) * 0.1;
    CORDWOOD_RETURN_IF_ERROR(
        producer.Send(room, Reading{.celsius = celsius, .sensor = i % 4, .reserved = 0}).status());
  }
  return producer.Flush();
}

absl::Status Average(const Broker& broker) {
  CORDWOOD_ASSIGN_OR_RETURN(
      auto consumer, (broker.NewTypedConsumer<std::string_view, Reading>({.group = "averages"})));
  CORDWOOD_RETURN_IF_ERROR(consumer.Subscribe({"readings"}));
  std::map<std::string, std::pair<double, int>, std::less<>> rooms;  // sum and count
  for (;;) {
    CORDWOOD_ASSIGN_OR_RETURN(const auto batch, consumer.Poll(absl::Milliseconds(100)));
    if (batch.empty()) break;
    for (const auto& record : batch) {
      if (!record.key().ok() || !record.value().ok()) continue;  // one bad record is one bad record
      const Reading& reading = record.value().value();  // no copy: it lies in the mapped file
      auto& [sum, count] = rooms[std::string(record.key().value())];
      sum += reading.celsius;
      ++count;
    }
    CORDWOOD_RETURN_IF_ERROR(consumer.Commit());
  }
  for (const auto& [room, total] : rooms) {
    std::printf("%-8s %.2f degrees over %d readings\n", room.c_str(), total.first / total.second,
                total.second);
  }
  return absl::OkStatus();
}

absl::Status WriteNotes(const Broker& broker) {
  CORDWOOD_RETURN_IF_ERROR(broker.OpenOrCreateTopic("notes").status());
  CORDWOOD_ASSIGN_OR_RETURN(const auto producer,
                            (broker.NewTypedProducer<std::int64_t, Note>("notes")));
  CORDWOOD_RETURN_IF_ERROR(producer.Send(1, Note{"ada", "the cellar is damp"}).status());
  CORDWOOD_RETURN_IF_ERROR(producer.Send(2, Note{"ben", "a window was open"}).status());
  CORDWOOD_RETURN_IF_ERROR(producer.SendTombstone(1).status());  // ada takes hers back

  // What the type cannot write is refused, and nothing is appended.
  const absl::Status refused = producer.Send(3, Note{"a:b", "hello"}).status();
  if (!absl::IsInvalidArgument(refused)) return absl::InternalError("the colon was not refused");

  // Another program writes what is no note at all: a poison pill.
  CORDWOOD_ASSIGN_OR_RETURN(const Producer other, broker.NewProducer());
  CORDWOOD_RETURN_IF_ERROR(
      other.Send("notes", {.key = std::string_view("\0\0\0\0\0\0\0\4", 8), .value = "?"}).status());
  return producer.Flush();
}

absl::Status ReadNotes(const Broker& broker) {
  CORDWOOD_ASSIGN_OR_RETURN(auto consumer,
                            (broker.NewTypedConsumer<std::int64_t, Note>({.group = "bulletin"})));
  CORDWOOD_RETURN_IF_ERROR(consumer.Subscribe({"notes"}));
  for (;;) {
    CORDWOOD_ASSIGN_OR_RETURN(const auto batch, consumer.Poll(absl::Milliseconds(100)));
    if (batch.empty()) return absl::OkStatus();
    for (const auto& record : batch) {
      const long long id = record.key().ok() ? record.key().value() : -1;
      if (record.raw().is_tombstone()) {
        std::printf("note %lld was taken back\n", id);
      } else if (!record.value().ok()) {
        std::printf("note %lld is broken: %s\n", id,
                    std::string(record.value().status().message()).c_str());
      } else {
        const Note& note = record.value().value();
        std::printf("note %lld, %s says: %s\n", id, note.author.c_str(), note.text.c_str());
      }
    }
    CORDWOOD_RETURN_IF_ERROR(consumer.Commit());
  }
}

absl::Status Run(const std::string& directory) {
  CORDWOOD_ASSIGN_OR_RETURN(Broker broker, Broker::Open(directory));
  CORDWOOD_RETURN_IF_ERROR(Measure(broker));
  CORDWOOD_RETURN_IF_ERROR(Average(broker));
  CORDWOOD_RETURN_IF_ERROR(WriteNotes(broker));
  CORDWOOD_RETURN_IF_ERROR(ReadNotes(broker));
  return broker.Close();
}
}  // namespace

int main(int argc, char** argv) {
  if (argc > 2 || (argc == 2 && (argv[1][0] == '-' || argv[1][0] == '\0'))) {
    std::fputs("usage: typed_events [DIRECTORY]\n", stderr);
    return 2;
  }
  const absl::Status status = Run(argc == 2 ? argv[1] : "typed-events-data");
  if (!status.ok()) {
    std::fprintf(stderr, "typed_events: %s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
