// A directory to be damaged, how a file of it is damaged, and whether anything in it has changed.
//
//   Data data;
//   FlipBit(data / FileOf(0), PositionOf(3, 0));
//   CHECK(Bad(data.LookAtPartition()).size() == 1);

#ifndef CORDWOOD_TESTS_SUPPORT_DAMAGE_H_
#define CORDWOOD_TESTS_SUPPORT_DAMAGE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/segment/format.h"
#include "cordwood/verify.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/files.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

// In place: the file keeps its inode, as one on a bad disk does.
inline void FlipBit(const std::filesystem::path& file, std::uint64_t position, int bit = 0) {
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(static_cast<std::streamoff>(position));
  const int byte = bytes.get();
  bytes.seekp(static_cast<std::streamoff>(position));
  bytes.put(static_cast<char>(byte ^ 1 << bit));
}

struct FileState {
  std::string bytes = {};
  std::filesystem::file_time_type written = {};
  friend bool operator==(const FileState&, const FileState&) = default;
};
using DirectoryState = std::map<std::string, FileState>;

inline DirectoryState StateOf(const std::filesystem::path& directory) {
  DirectoryState state;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    const std::string name = std::filesystem::relative(entry.path(), directory).string();
    const bool is_file = entry.is_regular_file();
    // Of the reserve, which is large and holds nothing, its length.
    state[name] = {!is_file            ? ""
                   : name == "reserve" ? std::to_string(entry.file_size())
                                       : ReadAll(entry.path()),
                   std::filesystem::last_write_time(entry.path())};
  }
  return state;
}

inline constexpr Offset kRecords = 100;
inline const std::string kFolder = "topics/t/0/";
inline const std::string kFirst = kFolder + "00000000000000000000.log";

// A hundred records of 1,000 bytes, durable, in segments of 32 KiB; and a group.
inline Broker MakeData(const std::filesystem::path& path,
                       std::shared_ptr<Storage> storage = nullptr) {
  Broker broker = OpenQuiet(path, std::move(storage));
  const TopicConfig config = {.segment_bytes = 32 << 10, .retention_age = absl::InfiniteDuration()};
  Partition partition = broker.CreateTopic("t", config).value().partition(0);
  for (Offset i = 0; i < kRecords; ++i) {
    REQUIRE(partition.Append({.value = std::string(1000, 'v')}).ok());
  }
  REQUIRE(partition.Flush().ok());
  Consumer consumer = broker.NewConsumer({.group = "g"}).value();
  REQUIRE(consumer.Assign({{"t", 0}}).ok());
  REQUIRE(consumer.Commit({{{"t", 0}, 7}}).ok());
  return broker;
}

struct Data {
  explicit Data(bool close = true,
                const std::filesystem::path& parent = std::filesystem::temp_directory_path())
      : dir(parent) {
    left_open = MakeData(path());
    if (close) REQUIRE(left_open.Close().ok());
  }

  std::filesystem::path path() const { return dir / "data"; }
  std::filesystem::path operator/(const std::string& file) const { return path() / file; }
  VerifyReport Look() const { return Verify(path()).value(); }
  VerifiedPartition LookAtPartition() const { return Look().topics.at(0).partitions.at(0); }
  // The base offsets of its segments, in order.
  std::vector<Offset> Bases() const {
    std::vector<Offset> bases;
    for (const std::string& name : NamesIn(path() / kFolder)) {
      if (const auto base = segment::BaseOfFileName(name)) bases.push_back(*base);
    }
    return bases;
  }

  TempDir dir;
  Broker left_open;
};

inline std::string FileOf(Offset base) { return kFolder + segment::SegmentFileName(base); }

// All that is neither valid nor in use.
inline std::vector<VerifiedRange> Bad(const VerifiedPartition& partition) {
  std::vector<VerifiedRange> bad;
  for (const VerifiedRange& range : partition.ranges) {
    const bool is_well =
        range.state == VerifiedState::kValid || range.state == VerifiedState::kInUse;
    if (!is_well) bad.push_back(range);
  }
  return bad;
}

// Frames of `Data`, in a segment that begins with that offset.
inline constexpr std::uint64_t kFrameBytes = 48 + 1000;
inline std::uint64_t PositionOf(Offset offset, Offset base) {
  return segment::kFirstFrame + static_cast<std::uint64_t>(offset - base) * kFrameBytes;
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_DAMAGE_H_
