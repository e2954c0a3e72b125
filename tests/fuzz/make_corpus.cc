// Writes the first inputs of every fuzzer, anew where the format has changed:
//
//   cordwood_make_fuzz_corpus tests/fuzz/corpus

#include <stdio.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "cordwood/log/control.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/segment/frame.h"
#include "tests/fuzz/support.h"

namespace cordwood::fuzz {
namespace {

namespace fs = std::filesystem;

class Corpus {
 public:
  Corpus(const fs::path& root, const char* fuzzer) : folder_(root / fuzzer) {
    fs::create_directories(folder_);
  }
  void Add(const char* name, std::string_view bytes) const {
    std::ofstream file(folder_ / name, std::ios::binary | std::ios::trunc);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    Require(file.good(), "an input could not be written");
  }

 private:
  const fs::path folder_;
};

// What an input begins with, byte by byte.
std::string Bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text.push_back(static_cast<char>(byte));
  return text;
}

// A segment of these records, from an offset on; all of its ids are zero.
std::string SegmentOf(const std::vector<Record>& records, Offset base, bool is_sealed,
                      Offset compacted_next = 0) {
  segment::SegmentHeader header;
  header.capacity = 4096;
  header.offset_span = 200;
  header.compacted_next = compacted_next;
  segment::Sign(header);
  const auto key = segment::SegmentKey::Make({}, {}, 0);
  std::string bytes(header.capacity, '\0');
  segment::FramePlace place = {.position = segment::kFirstFrame, .offset = base};
  for (const Record& record : records) {
    segment::FramePlan plan;
    segment::PlanSizes(record, plan);
    segment::HashBody(record, plan);
    place.timestamp_ns = 1000 + 37 * place.offset % 50;
    segment::WriteFrame(key, reinterpret_cast<std::byte*>(bytes.data()), plan, place, record);
    place.position += plan.frame_bytes();
    ++place.offset;
  }
  if (compacted_next != 0) {
    header.capacity = place.position;
    segment::Sign(header);
  }
  Store(header, bytes, 0);
  if (is_sealed) {
    segment::Seal seal = {.base = base, .next = place.offset, .end_position = place.position};
    segment::Sign(seal, {});
    Store(seal, bytes, segment::kSealPosition);
  }
  bytes.resize(place.position);
  return bytes;
}

void MakeSegments(const fs::path& root) {
  const Corpus corpus(root, "segment");
  const std::string page(300, 'p');
  const std::vector<Header> headers = {{"name", "value"}, {"null", nullptr}};
  const Record with_headers = {.key = "k", .value = "v", .headers = headers};
  const std::vector<Record> records = {{.value = "first"}, {.key = "a", .value = page},
                                       with_headers,       {.key = "tombstone"},
                                       {.value = ""},      {.key = "b", .value = "last"}};
  // By the bits of segment_fuzz.cc.
  corpus.Add("as_it_is", Bytes({0, 0, 0}) + SegmentOf(records, 0, false));
  corpus.Add("sealed", Bytes({0, 10, 0}) + SegmentOf(records, 10, true));
  corpus.Add("compacted", Bytes({0, 0, 0}) + SegmentOf(records, 0, true, 50));
  corpus.Add("signed", Bytes({1 | 2 | 4, 10, 0}) + SegmentOf(records, 10, true));
  corpus.Add("signed_headers", Bytes({1 | 4 | 8 | 16, 0, 0}) + SegmentOf(records, 0, false));
  corpus.Add("grown", Bytes({16, 0, 0}) + SegmentOf(records, 0, false));
}

void MakeIndexes(const fs::path& root) {
  const Corpus corpus(root, "index");
  const Tree& tree = Prepare().open;
  int number = 0;
  for (const auto& [path, bytes] : tree) {
    const std::size_t dot = path.rfind('.');
    if (path.rfind(std::string("topics/") + kTopic + "/0/0", 0) != 0 ||
        path.substr(dot) != ".index") {
      continue;
    }
    const std::string input = Bytes({number, static_cast<int>(bytes.size() % 256),
                                     static_cast<int>(bytes.size() / 256)}) +
                              bytes + tree.at(path.substr(0, dot) + ".timeindex");
    corpus.Add(("segment_" + std::to_string(number)).c_str(), Bytes({0}) + input);
    corpus.Add(("signed_" + std::to_string(number)).c_str(), Bytes({1 | 2}) + input);
    ++number;
  }
}

void MakeControls(const fs::path& root) {
  const Corpus corpus(root, "control");
  const std::string path = std::string("topics/") + kTopic + "/control";
  const std::string& open = Prepare().open.at(path);
  const std::string& closed = Prepare().closed.at(path);
  const std::string blocks = open.substr(log::kControlHeaderBytes);
  corpus.Add("whole", Bytes({0}) + open);
  corpus.Add("believed", Bytes({1 | 2 | 4}) + blocks);
  corpus.Add("of_another_boot", Bytes({1 | 2}) + blocks);
  corpus.Add("marked", Bytes({1 | 2 | 8}) + closed.substr(log::kControlHeaderBytes));
}

void MakeOffsets(const fs::path& root) {
  const Corpus corpus(root, "offsets");
  const std::string& image = Prepare().closed.at(std::string("groups/") + kGroup + "/offsets");
  corpus.Add("whole", Bytes({0}) + image);
  corpus.Add("entries", Bytes({1}) + image.substr(4096));
  corpus.Add("signed", Bytes({1 | 2 | 4}) + image.substr(4096));
}

void MakeConfigs(const fs::path& root) {
  const Corpus corpus(root, "topic_config");
  corpus.Add("default", log::FormatTopicConfig({.id = TopicId(), .config = {}}));
  corpus.Add("all_set",
             log::FormatTopicConfig({.id = TopicId(),
                                     .config = {.partitions = 7,
                                                .segment_bytes = 4096,
                                                .segment_age = absl::Seconds(1),
                                                .retention_bytes = 1,
                                                .cleanup = CleanupPolicy::kCompactAndDelete,
                                                .partitioner = "murmur2",
                                                .retain_for_groups = {"a", "b-c"},
                                                .backlog_bytes = 1 << 20,
                                                .retention_records = 5,
                                                .dirty_ratio_min = 0.125}}));
}

// Edits of files by their number; directory_fuzz.cc says what the bytes are.
void MakeDirectories(const fs::path& root) {
  const Corpus corpus(root, "directory");
  const Tree& tree = Prepare().closed;
  const auto number_of = [&](std::string_view file) {
    int number = 0;
    for (const auto& [path, bytes] : tree) {
      if (path == file) return number;
      if (path.back() != '/') ++number;
    }
    Fail("there is no such file");
  };
  const std::string topic = std::string("topics/") + kTopic;
  const int segment = number_of(topic + "/0/00000000000000000000.log");
  const int control = number_of(topic + "/control");
  const int config = number_of(topic + "/config");
  const int offsets = number_of(std::string("groups/") + kGroup + "/offsets");
  corpus.Add("closed", Bytes({1}));
  corpus.Add("closed_in_place", Bytes({1 | 2}));
  corpus.Add("killed", Bytes({0}));
  corpus.Add("killed_in_place", Bytes({2}));
  corpus.Add("flipped_record", Bytes({1 | 2, segment, 1, 0x80, 6, 3}));
  corpus.Add("cut_segment", Bytes({0, segment, 2, 0x00, 8}));
  corpus.Add("zeros_in_segment", Bytes({1, segment, 5, 0x00, 8, 2}));
  corpus.Add("no_control", Bytes({2, control, 4, 0, 0}));
  corpus.Add("segment_over_another", Bytes({1, segment + 3, 6, 0, 0, segment}));
  corpus.Add("swapped_tails", Bytes({0, segment, 7, 0, 6, segment + 3}));
  corpus.Add("signed_header", Bytes({0, segment, 0, 56, 0, 2, 0, 8, segment, 8, 0, 0}));
  corpus.Add("no_segment", Bytes({1 | 2, segment, 4, 0, 0}));
  corpus.Add("offsets_and_config", Bytes({1, offsets, 1, 0, 16, 1, config, 2, 40, 0}));
}

}  // namespace
}  // namespace cordwood::fuzz

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s <folder>\n", argv[0]);
    return 2;
  }
  using namespace cordwood::fuzz;
  MakeSegments(argv[1]);
  MakeIndexes(argv[1]);
  MakeControls(argv[1]);
  MakeOffsets(argv[1]);
  MakeConfigs(argv[1]);
  MakeDirectories(argv[1]);
  return 0;
}
