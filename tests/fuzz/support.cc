#include "tests/fuzz/support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cordwood/group/live.h"
#include "cordwood/group/offsets.h"
#include "cordwood/log/control.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/checksum.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/index.h"
#include "log/clean_marker.h"

namespace cordwood::fuzz {
namespace {

namespace fs = std::filesystem;

constexpr char kFolderPrefix[] = "cordwood-fuzz-";

// A process that a finding has ended leaves its folder: the next one removes it.
void RemoveFoldersOfTheDead(const fs::path& parent) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!absl::StartsWith(name, kFolderPrefix)) continue;
    pid_t pid = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + sizeof kFolderPrefix - 1, end, pid);
    if (parsed.ec != std::errc() || parsed.ptr != end || pid <= 0) continue;
    if (kill(pid, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path(), ignored);
  }
}

fs::path NewFolder() {
  static const fs::path* const process_folder = [] {
    fs::path parent = "/dev/shm";
    if (getenv("TMPDIR") != nullptr || access(parent.c_str(), W_OK) != 0) {
      parent = fs::temp_directory_path();
    }
    RemoveFoldersOfTheDead(parent);
    const auto* path = new fs::path(parent / absl::StrCat(kFolderPrefix, getpid()));
    fs::create_directory(*path);
    atexit([] {
      std::error_code ignored;
      fs::remove_all(*process_folder, ignored);
    });
    return path;
  }();
  static int number = 0;
  fs::path folder = *process_folder / std::to_string(++number);
  fs::create_directory(folder);
  return folder;
}

class FixedStorage final : public Storage {
 public:
  explicit FixedStorage(std::uint64_t seed) : state_(seed) {}

  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const fs::path& path, const os::OpenFolderOptions& options) override {
    return real_->OpenFolder(path, options);
  }
  std::int64_t NowNanos() override { return now_ns_ += 1'000'000; }
  std::int64_t ElapsedNanos() override { return now_ns_; }
  os::Bits128 Random128() override {
    const std::array<std::uint64_t, 2> words = {Next(), Next()};
    os::Bits128 bits;
    std::memcpy(bits.data(), words.data(), sizeof bits);
    return bits;
  }
  absl::StatusOr<os::Bits128> BootId() override { return fuzz::BootId(); }

 private:
  std::uint64_t Next() {
    ++state_;
    return os::Hash64(&state_, sizeof state_);
  }

  const std::shared_ptr<Storage> real_ = Storage::OperatingSystem();
  std::uint64_t state_;
  std::int64_t now_ns_ = 1'767'225'600'000'000'000;  // 2026-01-01
};

std::string ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void WriteFile(const fs::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  Require(file.good(), "a file of the fuzzer's own could not be written");
}

// The same in every run, and longer now and then.
std::string ValueOf(int partition, int number) {
  std::string value = absl::StrCat("record-", partition, "-", number, ":");
  value.append(static_cast<std::size_t>(number * 7 % 40), 'x');
  return value;
}

// The key of every record says the beginning of its value.
std::string_view KeyIn(std::string_view value) { return value.substr(0, value.find(':')); }

void Append(const Partition& partition, int number, const std::string& value, Truth& truth,
            std::set<Offset>& appended) {
  const absl::StatusOr<Offset> offset =
      partition.Append({.key = KeyIn(value), .value = value}, {.timeout = absl::Seconds(1)});
  if (!offset.ok()) return;
  truth.Add(number, *offset, value);
  Require(appended.insert(*offset).second, "an offset was given out twice");
}

absl::StatusOr<Broker> Open(const Machine& machine, bool read_only) {
  return Broker::Open(machine.directory(), {.read_only = read_only,
                                            .background_threads = false,
                                            .open_timeout = absl::Seconds(1),
                                            .storage = machine.storage(),
                                            .reserve_bytes = 0,
                                            .low_disk_bytes = 0});
}

// What the processes that made the directory did.
Prepared Make() {
  Prepared made;
  const Machine machine(1);
  const Broker broker = Open(machine, false).value();
  const Topic topic = broker
                          .CreateTopic(kTopic, {.partitions = kPartitions,
                                                .segment_bytes = 4096,
                                                .segment_age = absl::InfiniteDuration(),
                                                .index_interval_bytes = 512,
                                                .retention_age = absl::InfiniteDuration()})
                          .value();
  std::array<std::set<Offset>, kPartitions> appended;
  const auto append = [&](int partition, int count) {
    auto& offsets = appended[static_cast<std::size_t>(partition)];
    for (int i = 0; i < count; ++i) {
      Append(topic.partition(partition), partition,
             ValueOf(partition, static_cast<int>(offsets.size())), made.truth, offsets);
    }
  };
  append(0, 75);
  append(1, 5);
  Require(broker.ResetOffsets(kGroup, ResetTo::At(3), {.partitions = {{kTopic, -1}}}).ok(),
          "the offsets of the prepared directory could not be committed");
  Require(broker.Maintain(absl::Seconds(10)).ok(), "the prepared directory could not be flushed");
  append(0, 5);
  append(1, 1);
  made.open = machine.Take();
  Require(broker.Close().ok(), "the prepared directory could not be closed");
  made.closed = machine.Take();
  return made;
}

os::Bits128 IdIn(const Tree& tree) {
  // "topic.id=" and 32 digits.
  const std::string& config = tree.at(absl::StrCat("topics/", kTopic, "/config"));
  os::Bits128 id = {};
  for (std::size_t i = 0; i < id.size(); ++i) {
    std::from_chars(config.data() + 9 + 2 * i, config.data() + 11 + 2 * i, id[i], 16);
  }
  return id;
}

// A page that says in which file it lies.
template <class Header>
void AdoptPage(const fs::path& path) {
  struct stat info = {};
  std::string bytes = ReadFile(path);
  if (bytes.size() < sizeof(Header) || stat(path.c_str(), &info) != 0) return;
  const std::uint64_t inode = info.st_ino;
  const std::uint64_t device = info.st_dev;
  Store(inode, bytes, offsetof(Header, inode));
  Store(device, bytes, offsetof(Header, device));
  WriteFile(path, bytes);
}

void AdoptMarker(const fs::path& marker, const fs::path& control) {
  struct stat info = {};
  std::vector<log::CleanEntry> entries = log::DecodeCleanMarker(ReadFile(marker));
  if (entries.size() != 1 || stat(control.c_str(), &info) != 0) return;
  entries[0].inode = info.st_ino;
  entries[0].device = info.st_dev;
  WriteFile(marker, log::EncodeCleanMarker(entries));
}

}  // namespace

void Fail(std::string_view what) {
  fprintf(stderr, "BROKEN: %.*s\n", static_cast<int>(what.size()), what.data());
  abort();
}

// ---- A machine

Machine::Machine(std::uint64_t seed)
    : directory_(NewFolder()), storage_(std::make_shared<FixedStorage>(seed)) {}

Machine::~Machine() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
}

void Machine::Put(const Tree& tree) const {
  for (const auto& [path, bytes] : tree) {
    if (path.back() == '/') {
      fs::create_directories(directory_ / path);
    } else {
      WriteFile(directory_ / path, bytes);
    }
  }
}

Tree Machine::Take() const {
  Tree tree;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory_)) {
    const std::string path = entry.path().lexically_relative(directory_).string();
    if (entry.is_directory()) {
      tree[path + "/"] = "";
    } else {
      tree[path] = ReadFile(entry.path());
    }
  }
  return tree;
}

void Machine::Adopt() const {
  const fs::path control = directory_ / "topics" / kTopic / "control";
  AdoptPage<log::ControlHeader>(control);
  AdoptPage<group::LiveHeader>(directory_ / "groups" / kGroup / "live");
  AdoptMarker(directory_ / log::kCleanMarkerName, control);
}

// ---- A prepared directory

const Prepared& Prepare() {
  static const Prepared* const prepared = new Prepared(Make());
  return *prepared;
}

os::Bits128 TopicId() {
  static const os::Bits128 id = IdIn(Prepare().closed);
  return id;
}

os::Bits128 BootId() { return {'t', 'h', 'i', 's', ' ', 'b', 'o', 'o', 't'}; }

void SignAgain(std::string_view path, std::string& bytes) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  const auto ends_with = [&](std::string_view end) {
    return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
  };
  if (ends_with(".log") && bytes.size() >= segment::kFirstFrame) {
    auto header = Load<segment::SegmentHeader>(bytes, 0);
    header.magic = segment::kSegmentMagic;
    header.version = segment::kFormatVersion;
    header.topic_id = TopicId();
    segment::Sign(header);
    Store(header, bytes, 0);
    auto seal = Load<segment::Seal>(bytes, segment::kSealPosition);
    if (seal.magic != segment::kSealMagic) return;
    segment::Sign(seal, header.salt);
    Store(seal, bytes, segment::kSealPosition);
  } else if (ends_with("index") && bytes.size() >= sizeof(segment::IndexHeader)) {
    auto header = Load<segment::IndexHeader>(bytes, 0);
    const bool of_time = ends_with(segment::Index::kTimeExtension);
    const std::size_t entry =
        of_time ? segment::Index::kTimeEntryBytes : segment::Index::kOffsetEntryBytes;
    header.magic = of_time ? segment::kTimeIndexMagic : segment::kIndexMagic;
    header.count = std::min<std::uint64_t>(header.count, (bytes.size() - sizeof header) / entry);
    header.checksum = os::Hash64(bytes.data() + sizeof header, header.count * entry) ^ header.count;
    Store(header, bytes, 0);
  } else if (name == "start") {
    for (std::size_t at = 0; at < 2 * sizeof(segment::StartSlot);
         at += sizeof(segment::StartSlot)) {
      auto slot = Load<segment::StartSlot>(bytes, at);
      slot.topic_id = TopicId();
      segment::Sign(slot);
      Store(slot, bytes, at);
    }
  } else if (name == "offsets") {
    group::OffsetsHeader header;
    header.checksum = os::Hash64(&header, offsetof(group::OffsetsHeader, checksum));
    Store(header, bytes, 0);
    for (std::size_t at = group::kHeaderBytes; at < bytes.size();
         at += sizeof(group::OffsetEntry)) {
      auto entry = Load<group::OffsetEntry>(bytes, at);
      for (group::OffsetSlot& slot : entry.slots) {
        slot.checksum = os::Hash64(&slot, offsetof(group::OffsetSlot, checksum));
      }
      entry.checksum = os::Hash64(&entry, offsetof(group::OffsetEntry, checksum));
      Store(entry, bytes, at);
    }
  }
}

// ---- Properties

std::set<Offset> CheckReading(const Partition& partition, int number, const Truth& truth,
                              const HowToRead& how) {
  const bool forward = how.direction == Direction::kForward;
  const Offset start = partition.start_offset();
  const Offset end = partition.end_offset();
  absl::StatusOr<PartitionReader> reader = partition.Read(forward ? start : end, how.direction);
  if (!reader.ok()) return {};
  // Half-open: each is a record or a gap.
  std::vector<std::pair<Offset, Offset>> ranges;
  std::set<Offset> offsets;
  std::optional<Offset> last;
  for (const RecordView& record : *reader) {
    const Offset at = record.offset();
    Require(at >= start && at < end, "a record lies outside of [start, end)");
    Require(!last || (forward ? at > *last : at < *last), "records are out of order");
    Require(record.key().has_value() && record.value().has_value() &&
                truth.Has(number, at, *record.value()) && *record.key() == KeyIn(*record.value()),
            "a record was read that was never appended at that offset");
    Require(record.headers().empty(), "a record has headers that it was not appended with");
    last = at;
    offsets.insert(at);
    ranges.emplace_back(at, at + 1);
  }
  for (const Gap& gap : reader->gaps()) {
    if (gap.reason == GapReason::kTombstones) continue;  // says what may be missing, and is no gap
    Require(gap.from < gap.to && gap.from >= start && gap.to <= end, "a gap is none");
    ranges.emplace_back(gap.from, gap.to);
  }
  if (!how.is_whole || !reader->status().ok()) return offsets;
  std::sort(ranges.begin(), ranges.end());
  Offset next = start;
  for (const auto& [from, to] : ranges) {
    Require(from == next, from < next ? "a record lies in a gap, or gaps overlap"
                                      : "records are missing, and no gap says so");
    next = to;
  }
  Require(next == end, "records at the end are missing, and no gap says so");
  return offsets;
}

namespace {

// Of all partitions of the topic; those that can be read forward.
using Readable = std::array<std::set<Offset>, kPartitions>;
Readable CheckTopic(const Topic& topic, const Truth& truth, const HowToOpen& how) {
  Readable readable;
  for (int i = 0; i < kPartitions; ++i) {
    auto& forward = readable[static_cast<std::size_t>(i)];
    const Partition partition = topic.partition(i);
    forward = CheckReading(partition, i, truth,
                           {.direction = Direction::kForward, .is_whole = how.is_whole});
    const std::set<Offset> backward = CheckReading(
        partition, i, truth, {.direction = Direction::kBackward, .is_whole = how.is_whole});
    if (how.is_whole) {
      Require(std::includes(forward.begin(), forward.end(), backward.begin(), backward.end()),
              "a record is found backward and not forward");
    }
    partition.OffsetForTime(absl::FromUnixSeconds(1'767'225'600)).IgnoreError();
  }
  return readable;
}

void AskAround(const Broker& broker) {
  broker.DescribeTopic(kTopic).IgnoreError();
  for (const std::string& group : broker.ListGroups()) broker.DescribeGroup(group).IgnoreError();
  broker.DescribeHolds(kTopic).IgnoreError();
  broker.DescribeCompaction({kTopic, 0}).IgnoreError();
}

}  // namespace

void CheckDirectory(const Machine& machine, Truth truth, const HowToOpen& how) {
  if (const absl::StatusOr<Broker> broker = Open(machine, true); broker.ok()) {
    if (const absl::StatusOr<Topic> topic = broker->OpenTopic(kTopic); topic.ok()) {
      CheckTopic(*topic, truth, how);
    }
    AskAround(*broker);
  }
  Readable readable;
  bool is_there = false;
  {
    const absl::StatusOr<Broker> broker = Open(machine, false);
    if (!broker.ok()) return;
    AskAround(*broker);
    if (const absl::StatusOr<Topic> topic = broker->OpenTopic(kTopic); topic.ok()) {
      is_there = true;
      CheckTopic(*topic, truth, how);
      Readable appended;
      for (int i = 0; i < kPartitions; ++i) {
        auto& offsets = appended[static_cast<std::size_t>(i)];
        const Partition partition = topic->partition(i);
        for (int n = 0; n < 3; ++n) {
          Append(partition, i, absl::StrCat("added-", i, "-", n, ":"), truth, offsets);
        }
        if (!partition.Flush().ok()) offsets.clear();
      }
      readable = CheckTopic(*topic, truth, how);
      for (std::size_t i = 0; i < kPartitions && how.keeps; ++i) {
        Require(std::includes(readable[i].begin(), readable[i].end(), appended[i].begin(),
                              appended[i].end()),
                "what was appended cannot be read");
      }
    }
    broker->Close().IgnoreError();
  }
  const absl::StatusOr<Broker> broker = Open(machine, false);
  Require(broker.ok(), "a directory that was open cannot be opened again");
  if (!is_there) return;
  const absl::StatusOr<Topic> topic = broker->OpenTopic(kTopic);
  Require(topic.ok(), "a topic that was open cannot be opened again");
  const Readable again = CheckTopic(*topic, truth, how);
  for (std::size_t i = 0; i < kPartitions && how.keeps; ++i) {
    Require(std::includes(again[i].begin(), again[i].end(), readable[i].begin(), readable[i].end()),
            "what could be read is gone after a close");
  }
  // It may compact and retain, as the config says by now.
  broker->Maintain(absl::Milliseconds(20)).IgnoreError();
  CheckTopic(*topic, truth, {.is_whole = false});
}

}  // namespace cordwood::fuzz
