// The bytes of both index files of a good segment. An index is a hint: through any index a reader
// finds what it finds by walking.
//
//   byte 0    what becomes right before it is used, as Right
//   byte 1    of which segment of the first partition
//   2 bytes   how long the offset index is
//   then      the offset index, and the time index to the end

#include <map>
#include <vector>

#include "cordwood/segment/format.h"
#include "cordwood/segment/index.h"
#include "tests/fuzz/support.h"

using namespace cordwood;
using namespace cordwood::fuzz;

namespace {

enum Right : std::uint8_t {
  kSalt = 1,    // magic and salt are those of the segment
  kSigned = 2,  // the checksum holds
};

const std::string kFolder = std::string("topics/") + kTopic + "/0/";

std::vector<std::string> Stems(const Tree& tree) {
  std::vector<std::string> stems;
  for (const auto& [path, bytes] : tree) {
    if (path.rfind(kFolder, 0) == 0 &&
        segment::BaseOfFileName(path.substr(kFolder.size())).has_value()) {
      stems.push_back(path.substr(0, path.size() - 4));
    }
  }
  return stems;
}

std::string FileOf(std::uint8_t right, const std::string& path, const segment::SegmentHeader& of,
                   std::string_view input) {
  std::string bytes(input);
  if ((right & kSalt) != 0) Store(of.salt, bytes, offsetof(segment::IndexHeader, salt));
  if ((right & (kSalt | kSigned)) != 0) {
    const auto was = Load<segment::IndexHeader>(bytes, 0);
    SignAgain(path, bytes);
    if ((right & kSigned) == 0) {
      Store(was.checksum, bytes, offsetof(segment::IndexHeader, checksum));
    }
  }
  return bytes;
}

// Whether a time is wrong and its check holds all the same: it may lead past what is looked for, to
// a record that is later than one which is there.
bool HasForgedTimes(std::string_view bytes, std::string_view good, const os::Bits128& salt) {
  constexpr std::size_t kFirst = segment::Index::kHeaderBytes;
  constexpr std::size_t kEntry = segment::Index::kTimeEntryBytes;
  for (std::size_t at = kFirst; at < bytes.size(); at += kEntry) {
    const auto time = Load<std::int64_t>(bytes, at);
    const auto position = Load<std::uint32_t>(bytes, at + 8);
    const auto check = Load<std::uint32_t>(bytes, at + 12);
    if (check != segment::Index::TimeCheck(salt, time, position)) continue;
    bool is_right = false;
    for (std::size_t i = kFirst; i < good.size(); i += kEntry) {
      is_right |=
          Load<std::int64_t>(good, i) == time && Load<std::uint32_t>(good, i + 8) == position;
    }
    if (!is_right) return true;
  }
  return false;
}

// What a walk finds: the records of the partition, by offset.
std::map<Offset, absl::Time> Walk(const Partition& partition) {
  std::map<Offset, absl::Time> records;
  PartitionReader reader = partition.Read(partition.start_offset()).value();
  for (const RecordView& record : reader) records[record.offset()] = record.timestamp();
  Require(reader.status().ok() && reader.gaps().empty(), "good segments cannot be walked");
  return records;
}

void CheckFrom(const Partition& partition, Offset from, Direction direction) {
  absl::StatusOr<PartitionReader> reader = partition.Read(from, direction);
  Require(reader.ok(), "a good segment cannot be read");
  const Offset expected = direction == Direction::kForward ? from : from - 1;
  for (const RecordView& record : *reader) {
    Require(record.offset() == expected, "a record that is there is not found through the index");
    Require(Prepare().truth.Has(0, record.offset(), record.value().value_or("")),
            "a wrong record is found through the index");
    break;
  }
  Require(reader->status().ok() && reader->gaps().empty(), "an index makes a gap");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const auto right = input.Take<std::uint8_t>();
  Tree tree = Prepare().open;
  const std::vector<std::string> stems = Stems(tree);
  const std::string stem = stems[input.Take<std::uint8_t>() % stems.size()];
  const auto header = Load<segment::SegmentHeader>(tree[stem + ".log"], 0);
  const std::string offset_path = stem + segment::Index::kOffsetExtension;
  const std::string time_path = stem + segment::Index::kTimeExtension;
  const auto offset_bytes = input.Take<std::uint16_t>();
  tree[offset_path] = FileOf(right, offset_path, header, input.TakeBytes(offset_bytes));
  tree[time_path] = FileOf(right, time_path, header, input.rest());

  const Machine machine(2);
  machine.Put(tree);
  machine.Adopt();
  const Broker broker =
      Broker::Open(machine.directory(), {.read_only = true, .storage = machine.storage()}).value();
  const Partition partition = broker.OpenTopic(kTopic)->partition(0);
  const std::map<Offset, absl::Time> records = Walk(partition);
  // Some of them; the bits that are left choose which.
  for (const auto& [offset, time] : records) {
    if (offset % 4 != right >> 6) continue;
    CheckFrom(partition, offset, Direction::kForward);
    CheckFrom(partition, offset + 1, Direction::kBackward);
  }
  const bool is_forged = HasForgedTimes(tree[time_path], Prepare().open.at(time_path), header.salt);
  for (const auto& [offset, time] : records) {
    const absl::StatusOr<Offset> found = partition.OffsetForTime(time);
    Require(found.ok() && *found <= partition.end_offset(), "a time is not found");
    const auto record = records.find(*found);
    Require(record == records.end() || record->second >= time, "a record is found too early");
    if (!is_forged) Require(*found <= offset, "a time is found too late");
  }
  return 0;
}
