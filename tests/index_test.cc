// The sparse index: its lookups against a scan, its seal against every flipped byte, and files
// that are anything but an index.

#include "cordwood/segment/index.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/checksum.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/format.h"
#include "tests/catch.h"
#include "tests/support/temp_dir.h"

namespace cordwood::segment::index_test {
namespace {

constexpr os::Bits128 kSalt = {1, 2, 3, 4};
constexpr char kStem[] = "00000000000000000000";
constexpr std::int64_t kNoTime = std::numeric_limits<std::int64_t>::min();

// The two files of an index, and what happens to them.
class IndexFiles {
 public:
  IndexFiles() : root_(Storage::OperatingSystem()->OpenFolder(dir_.path(), {}).value()) {
    const absl::Status created = Index::Create(*root_, kStem, kSalt);
    if (!created.ok()) FAIL(created.ToString());
  }

  absl::StatusOr<std::unique_ptr<Index>> TryOpen(std::size_t entries_max,
                                                 os::Access access = os::Access::kReadWrite,
                                                 const os::Bits128& salt = kSalt) {
    return Index::Open(*root_, kStem, salt, entries_max, access);
  }
  std::unique_ptr<Index> Open(std::size_t entries_max = 1000,
                              os::Access access = os::Access::kReadWrite) {
    return TryOpen(entries_max, access).value();
  }

  std::string Read(const char* extension) {
    std::ifstream in(Path(extension), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  // In place, as another process would: an open index sees it.
  void Write(const char* extension, std::size_t at, const std::string& bytes) {
    std::fstream out(Path(extension), std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(at));
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void FlipByte(const char* extension, std::size_t at) {
    Write(extension, at, std::string(1, static_cast<char>(~Read(extension)[at])));
  }
  void Cut(const char* extension, std::size_t bytes) {
    std::filesystem::resize_file(Path(extension), bytes);
  }
  void Remove(const char* extension) { std::filesystem::remove(Path(extension)); }

  os::Folder& root() { return *root_; }

 private:
  std::filesystem::path Path(const char* extension) {
    return dir_.path() / (std::string(kStem) + extension);
  }

  testing::TempDir dir_;
  std::unique_ptr<os::Folder> root_;
};

IndexEntry EntryNumber(std::uint32_t i) {
  return {.offset_delta = 10 * i, .position = kFirstFrame + 4096 * i, .time_before = 100 * i};
}

void Fill(Index& index, std::uint32_t entries) {
  for (std::uint32_t i = 0; i < entries; ++i) {
    if (!index.Add(i, EntryNumber(i))) FAIL("no room for entry " << i);
  }
}

// The last entry for which `before` holds, the slow way.
template <class Before>
std::optional<std::size_t> Scan(const std::vector<IndexEntry>& entries, Before before) {
  std::optional<std::size_t> last;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (before(entries[i])) last = i;
  }
  return last;
}

}  // namespace

TEST_CASE("Index: an entry comes back as it was added, to every reader") {
  IndexFiles files;
  const auto writer = files.Open();
  const auto reader = files.Open(1000, os::Access::kRead);
  const IndexEntry first{.offset_delta = 0, .position = kFirstFrame, .time_before = kNoTime};
  const IndexEntry large{.offset_delta = 0xffffffff,
                         .position = kSegmentBytesMax - 48,
                         .time_before = std::numeric_limits<std::int64_t>::max()};
  CHECK(writer->Add(0, first));
  CHECK(writer->Add(1, large));
  CHECK(reader->Count() == 2);
  CHECK(reader->At(0)->offset_delta == 0);
  CHECK(reader->At(0)->position == kFirstFrame);
  CHECK(reader->At(0)->time_before == kNoTime);
  CHECK(reader->At(1)->offset_delta == 0xffffffff);
  CHECK(reader->At(1)->position == kSegmentBytesMax - 48);
  CHECK(reader->At(1)->time_before == large.time_before);
  CHECK(reader->At(2) == std::nullopt);
}

TEST_CASE("Index: it counts none, one, and as many as there is room for") {
  IndexFiles files;
  const auto index = files.Open();
  CHECK(index->Count() == 0);
  Fill(*index, 1);
  CHECK(index->Count() == 1);
  for (std::uint32_t n = 1; n <= index->room(); ++n) {
    Fill(*index, n);
    if (index->Count() != n) FAIL("counts " << index->Count() << " of " << n);
  }
  CHECK_FALSE(index->Add(index->room(), EntryNumber(0)));
  CHECK(index->At(index->room()) == std::nullopt);
  CHECK(index->At(std::numeric_limits<std::size_t>::max()) == std::nullopt);
}

TEST_CASE("Index: with room for no entry there is none") {
  IndexFiles files;
  const auto index = files.Open(0);
  CHECK(index->room() == 0);
  CHECK(index->Count() == 0);
  CHECK_FALSE(index->Add(0, EntryNumber(0)));
  CHECK(index->LastAtOrBeforeOffset(1, 10) == std::nullopt);
}

TEST_CASE("Index: every lookup finds what a scan finds") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  IndexFiles files;
  const auto index = files.Open();
  REQUIRE(index->Grow(files.root(), kStem, 1000).ok());
  std::vector<IndexEntry> entries;
  IndexEntry next{.offset_delta = 0, .position = kFirstFrame, .time_before = kNoTime};
  for (std::size_t i = 0; i < 700; ++i) {
    REQUIRE(index->Add(i, next));
    entries.push_back(next);
    next.offset_delta += static_cast<std::uint32_t>(1 + random() % 5);
    next.position += 8 * (6 + random() % 600);
    // Often the same again: many frames do not move the largest timestamp.
    const auto step = static_cast<std::int64_t>(random() % 3);
    next.time_before = i == 0 ? -5 : next.time_before + step;
  }
  REQUIRE(index->Count() == entries.size());
  for (int round = 0; round < 5'000; ++round) {
    const auto offset = static_cast<std::uint32_t>(random() % (next.offset_delta + 5));
    const std::uint64_t position = random() % (next.position + 100);
    const auto time =
        static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(next.time_before + 12)) - 8;
    const bool equal =
        index->LastAtOrBeforeOffset(offset, entries.size()) ==
            Scan(entries, [&](const IndexEntry& e) { return e.offset_delta <= offset; }) &&
        index->LastAtOrBeforePosition(position, entries.size()) ==
            Scan(entries, [&](const IndexEntry& e) { return e.position <= position; }) &&
        index->LastBeforeTime(time, entries.size()) ==
            Scan(entries, [&](const IndexEntry& e) { return e.time_before < time; });
    if (!equal) FAIL("offset " << offset << ", position " << position << ", time " << time);
  }
}

TEST_CASE("Index: a lookup looks at no entry beyond the count that it is given") {
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 20);
  CHECK(index->LastAtOrBeforeOffset(1000, 20) == 19U);
  CHECK(index->LastAtOrBeforeOffset(1000, 5) == 4U);
  CHECK(index->LastAtOrBeforePosition(kSegmentBytesMax, 5) == 4U);
  CHECK(index->LastBeforeTime(1'000'000, 5) == 4U);
  CHECK(index->LastAtOrBeforeOffset(1000, 0) == std::nullopt);
  CHECK(index->LastAtOrBeforeOffset(1000, std::numeric_limits<std::size_t>::max()) == 19U);
}

// ---- Room -------------------------------------------------------------------------------------

TEST_CASE("Index: it grows, keeps its entries, and a reader sees the room after a refresh") {
  IndexFiles files;
  const auto writer = files.Open();
  const auto reader = files.Open(1000, os::Access::kRead);
  const std::size_t before = writer->room();
  Fill(*writer, static_cast<std::uint32_t>(before));
  REQUIRE(writer->Grow(files.root(), kStem, 500).ok());
  CHECK(writer->room() == 500);
  Fill(*writer, 500);
  CHECK(reader->room() == before);
  CHECK(reader->Count() == before);
  CHECK(reader->At(400) == std::nullopt);
  reader->Refresh(files.root(), kStem);
  CHECK(reader->Count() == 500);
  CHECK(reader->At(400)->offset_delta == 4000);
}

TEST_CASE("Index: it grows to what was reserved and no further, and never shrinks") {
  IndexFiles files;
  const auto index = files.Open(100);
  REQUIRE(index->Grow(files.root(), kStem, 5000).ok());
  CHECK(index->room() == 100);
  CHECK(files.Read(Index::kOffsetExtension).size() == Index::kHeaderBytes + 100 * 8);
  CHECK(files.Read(Index::kTimeExtension).size() == Index::kHeaderBytes + 100 * 16);
  REQUIRE(index->Grow(files.root(), kStem, 10).ok());
  CHECK(index->room() == 100);
  CHECK_FALSE(index->Add(100, EntryNumber(0)));
}

TEST_CASE("Index: without its files, or with another's, it keeps the room that it had") {
  IndexFiles files;
  const auto index = files.Open();
  const std::size_t before = index->room();
  Fill(*index, 3);
  files.Remove(Index::kTimeExtension);
  index->Refresh(files.root(), kStem);
  CHECK(index->room() == before);
  CHECK(absl::IsNotFound(index->Grow(files.root(), kStem, 500)));
  CHECK(index->room() == before);
  CHECK(index->Count() == 3);
}

TEST_CASE("Index: larger files that took the names of its own are no room for it") {
  IndexFiles files;
  const auto index = files.Open();
  const std::size_t before = index->room();
  files.Remove(Index::kOffsetExtension);
  files.Remove(Index::kTimeExtension);
  REQUIRE(Index::Create(files.root(), kStem, kSalt).ok());
  REQUIRE(files.Open()->Grow(files.root(), kStem, 1000).ok());
  index->Refresh(files.root(), kStem);
  CHECK(index->room() == before);  // beyond it a touch of the map is a SIGBUS
  CHECK_FALSE(index->Grow(files.root(), kStem, 900).ok());
  CHECK(index->room() == before);
}

TEST_CASE("Index: Clear takes away all entries from one on") {
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 30);
  index->Clear(12);
  CHECK(index->Count() == 12);
  CHECK(index->At(11)->offset_delta == 110);
  for (std::size_t i = 12; i < index->room(); ++i) CHECK(index->At(i) == std::nullopt);
  index->Clear(0);
  CHECK(index->Count() == 0);
}

TEST_CASE("Index: Clear takes away what a power cut left behind a lost page of entries") {
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 30);
  files.Write(Index::kOffsetExtension, Index::kHeaderBytes + 8 * 10, std::string(8 * 5, '\0'));
  files.Write(Index::kTimeExtension, Index::kHeaderBytes + 16 * 10, std::string(16 * 5, '\0'));
  index->Clear(10);
  Fill(*index, 15);
  CHECK(index->Count() == 15);
  CHECK(index->At(20) == std::nullopt);
}

// ---- Files that are no index of this segment --------------------------------------------------

TEST_CASE("Index: files of another segment, or of no index, are refused") {
  IndexFiles files;
  CHECK(absl::IsDataLoss(files.TryOpen(10, os::Access::kRead, {9}).status()));
  for (const char* extension : {Index::kOffsetExtension, Index::kTimeExtension}) {
    for (std::size_t at = 0; at < 24; ++at) {
      files.FlipByte(extension, at);
      if (!absl::IsDataLoss(files.TryOpen(10).status())) FAIL(extension << ", byte " << at);
      files.FlipByte(extension, at);
    }
  }
  CHECK(files.TryOpen(10).ok());
}

TEST_CASE("Index: a missing, empty or cut file is refused, or has less room") {
  IndexFiles files;
  const char* const extension = GENERATE(Index::kOffsetExtension, Index::kTimeExtension);
  const std::size_t entry_bytes = extension == Index::kOffsetExtension ? 8 : 16;
  files.Cut(extension, Index::kHeaderBytes + 3 * entry_bytes + 7);
  CHECK(files.Open()->room() == 3);
  files.Cut(extension, Index::kHeaderBytes);
  CHECK(files.Open()->room() == 0);
  files.Cut(extension, Index::kHeaderBytes - 1);
  CHECK(absl::IsDataLoss(files.TryOpen(10).status()));
  files.Cut(extension, 0);
  CHECK(absl::IsDataLoss(files.TryOpen(10).status()));
  files.Remove(extension);
  CHECK(absl::IsNotFound(files.TryOpen(10).status()));
}

TEST_CASE("Index: an entry that cannot be right is none") {
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 3);
  const auto put = [&](const char* extension, std::size_t at, std::uint64_t value) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &value, 8);
    files.Write(extension, Index::kHeaderBytes + at, bytes);
  };
  put(Index::kOffsetExtension, 8, 5);  // a position of zero
  CHECK(index->At(1) == std::nullopt);
  put(Index::kOffsetExtension, 8, std::uint64_t{kFirstFrame / 8 - 1} << 32);
  put(Index::kTimeExtension, 16 + 8, kFirstFrame - 8);  // inside of the segment's header
  CHECK(index->At(1) == std::nullopt);
  put(Index::kTimeExtension, 2 * 16 + 8, kFirstFrame);  // not the position beside it
  CHECK(index->At(2) == std::nullopt);
  CHECK(index->At(0).has_value());
}

TEST_CASE("Index: random bytes never lead outside of what is there") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  IndexFiles files;
  const auto index = files.Open(50);
  for (int round = 0; round < 200; ++round) {
    std::string offsets(8 * 64, '\0'), times(16 * 64, '\0');
    for (char& c : offsets) c = static_cast<char>(random() % 4 == 0 ? 0 : random());
    for (char& c : times) c = static_cast<char>(random());
    for (std::size_t i = 0; i < 64; ++i) {
      if (random() % 4 == 0) continue;  // most of them agree about the position
      std::uint64_t position = 0;
      std::memcpy(&position, offsets.data() + 8 * i + 4, 4);
      position *= 8;
      std::int64_t time = 0;
      std::memcpy(&time, times.data() + 16 * i, 8);
      position |= std::uint64_t{Index::TimeCheck(kSalt, time, position)} << 32;
      std::memcpy(times.data() + 16 * i + 8, &position, 8);
    }
    files.Write(Index::kOffsetExtension, Index::kHeaderBytes, offsets);
    files.Write(Index::kTimeExtension, Index::kHeaderBytes, times);
    const std::size_t count = index->Count();
    if (count > 50) FAIL("counts " << count);
    const auto target = static_cast<std::uint32_t>(random());
    for (const auto& found :
         {index->LastAtOrBeforeOffset(target, count), index->LastAtOrBeforePosition(target, count),
          index->LastBeforeTime(target, count)}) {
      if (found && !(*found < count && index->At(*found))) FAIL("found " << *found);
    }
    for (std::size_t i = 0; i < 70; ++i) {
      const auto entry = index->At(i);
      if (entry && (i >= 50 || entry->position < kFirstFrame || entry->position % 8 != 0)) {
        FAIL("entry " << i << " at " << entry->position);
      }
    }
    if (index->IsSealedAndWhole()) FAIL("sealed");
  }
}

TEST_CASE("Index: an entry with any byte of its time flipped is none") {
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 2);
  for (std::size_t byte = 0; byte < Index::kTimeEntryBytes; ++byte) {
    const std::size_t at = Index::kHeaderBytes + Index::kTimeEntryBytes + byte;
    CAPTURE(byte);
    files.FlipByte(Index::kTimeExtension, at);
    CHECK(index->At(1) == std::nullopt);
    CHECK(index->LastBeforeTime(1'000'000, 2) == 0U);
    files.FlipByte(Index::kTimeExtension, at);
    CHECK(index->At(1)->time_before == EntryNumber(1).time_before);
  }
}

// ---- The seal ---------------------------------------------------------------------------------

TEST_CASE("Index: it is whole from its seal on, also for who opens it later") {
  IndexFiles files;
  {
    const auto index = files.Open();
    Fill(*index, 20);
    CHECK_FALSE(index->IsSealedAndWhole());
    index->Seal(20);
    CHECK(index->IsSealedAndWhole());
    CHECK(index->Sync().ok());
  }
  const auto index = files.Open(1000, os::Access::kRead);
  CHECK(index->IsSealedAndWhole());
  CHECK(index->Count() == 20);
}

TEST_CASE("Index: its seal is the number and the checksum that the format's page names") {
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 20);
  index->Seal(20);
  for (const char* extension : {Index::kOffsetExtension, Index::kTimeExtension}) {
    const std::string bytes = files.Read(extension);
    IndexHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const std::size_t entry_bytes = extension == Index::kOffsetExtension ? 8 : 16;
    CHECK(header.count == 20);
    CHECK(header.checksum ==
          (os::Hash64(bytes.data() + Index::kHeaderBytes, 20 * entry_bytes) ^ 20));
  }
}

TEST_CASE("Index: an entry that came after the seal makes it not whole once it is counted") {
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 20);
  index->Seal(19);
  CHECK(index->IsSealedAndWhole());
  Fill(*index, 5);
  CHECK(index->IsSealedAndWhole());  // the same entries again
  CHECK(index->Add(18, EntryNumber(30)));
  CHECK_FALSE(index->IsSealedAndWhole());
}

TEST_CASE("Index: a sealed index with any byte flipped is not whole") {
  const char* const extension = GENERATE(Index::kOffsetExtension, Index::kTimeExtension);
  const std::size_t entry_bytes = extension == Index::kOffsetExtension ? 8 : 16;
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 20);
  index->Seal(20);
  for (std::size_t at = 24; at < Index::kHeaderBytes + 20 * entry_bytes; ++at) {
    if (at >= 40 && at < Index::kHeaderBytes) continue;  // reserved, not looked at
    files.FlipByte(extension, at);
    if (index->IsSealedAndWhole()) FAIL(extension << ", byte " << at);
    files.FlipByte(extension, at);
  }
  CHECK(index->IsSealedAndWhole());
}

TEST_CASE("Index: a seal that claims more entries than there are is not believed") {
  IndexFiles files;
  const auto index = files.Open();
  Fill(*index, 20);
  index->Seal(20);
  for (const std::uint64_t count : {index->room() + 1, std::size_t{1} << 60, ~std::size_t{0}}) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &count, 8);
    files.Write(Index::kOffsetExtension, 24, bytes);
    CHECK_FALSE(index->IsSealedAndWhole());
  }
}

}  // namespace cordwood::segment::index_test
