// Segment files: made, opened, grown, pinned, sealed, and every damage to what a header says.

#include "cordwood/segment/segment.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/frame.h"
#include "tests/catch.h"
#include "tests/support/files.h"
#include "tests/support/folder_decorator.h"
#include "tests/support/plan_frame.h"
#include "tests/support/says.h"
#include "tests/support/temp_dir.h"

namespace cordwood::segment::segment_test {
namespace {

using cordwood::testing::PlanFrame;
using cordwood::testing::Says;

constexpr os::Bits128 kSalt = {1, 2, 3, 4};
constexpr std::uint64_t kCapacity = 1 << 20;

// A partition's folder with the segment of base 100 in it, and what happens to its files.
class Partition {
 public:
  explicit Partition(std::uint64_t capacity = kCapacity) {
    files_.root = Storage::OperatingSystem()->OpenFolder(dir_.path(), {}).value();
    files_.folder = "3";
    files_.topic_id = {7, 7};
    files_.partition = 3;
    files_.name = std::make_shared<internal::PartitionName>();
    std::filesystem::create_directory(dir_.path() / "3");
    Create(100, capacity);
  }

  void Create(Offset base, std::uint64_t capacity = kCapacity, const os::Bits128& salt = kSalt) {
    const absl::Status created = Segment::Create(files_, SegmentFileName(base, ""), salt, capacity,
                                                 /*offset_span=*/500, /*now_ns=*/1);
    if (!created.ok()) FAIL(created.ToString());
  }
  absl::StatusOr<std::shared_ptr<Segment>> TryOpen(os::Access access = os::Access::kReadWrite) {
    return Segment::Open(files_, 100, access);
  }
  std::shared_ptr<Segment> Open(os::Access access = os::Access::kReadWrite) {
    return TryOpen(access).value();
  }

  std::filesystem::path Path(const char* extension = ".log") {
    return dir_.path() / "3" / SegmentFileName(100, extension);
  }
  void Write(std::size_t at, std::string_view bytes) {
    std::fstream out(Path(), std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(at));
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  std::string Read() { return testing::ReadAll(Path()); }
  std::uint64_t FileBytes() { return std::filesystem::file_size(Path()); }
  void Cut(std::size_t bytes) { std::filesystem::resize_file(Path(), bytes); }
  void Remove(const char* extension = ".log") { std::filesystem::remove(Path(extension)); }
  std::unique_ptr<os::File> OpenFile() {
    return files_.root->OpenFile("3/" + SegmentFileName(100), os::OpenMode::kReadWrite).value();
  }

  PartitionFiles& files() { return files_; }

 private:
  testing::TempDir dir_;
  PartitionFiles files_;
};

// A folder that tells when somebody has looked at the size of a file and not yet used it.
class WatchedFolder final : public testing::FolderDecorator {
 public:
  using FolderDecorator::FolderDecorator;
  std::function<void()> after_look;

  absl::StatusOr<std::unique_ptr<os::File>> OpenFile(std::string_view path,
                                                     os::OpenMode mode) override {
    absl::StatusOr<std::unique_ptr<os::File>> file = FolderDecorator::OpenFile(path, mode);
    if (!file.ok()) return file;
    return std::make_unique<WatchedFile>(*std::move(file), this);
  }

 private:
  class WatchedFile final : public testing::FileDecorator {
   public:
    WatchedFile(std::unique_ptr<os::File> file, WatchedFolder* folder)
        : FileDecorator(std::move(file)), folder_(folder) {}

    absl::StatusOr<os::FileInfo> Info() override {
      const absl::StatusOr<os::FileInfo> info = FileDecorator::Info();
      if (folder_->after_look) folder_->after_look();
      return info;
    }

   private:
    WatchedFolder* const folder_;
  };
};

Seal SealAt(Offset next, std::uint64_t end_position) {
  Seal seal;
  seal.next = next;
  seal.end_position = end_position;
  seal.largest_timestamp = 11;
  seal.last_append_ns = 12;
  seal.reason = SealReason::kRecovered;
  return seal;
}

}  // namespace

TEST_CASE("Segment: it is opened as it was made") {
  Partition partition;
  const auto segment = partition.Open();
  CHECK(segment->base() == 100);
  CHECK(segment->header().salt == kSalt);
  CHECK(segment->header().partition == 3);
  CHECK(segment->header().created_ns == 1);
  CHECK(segment->capacity() == kCapacity);
  CHECK(segment->offset_limit() == 600);
  CHECK(segment->salt_tag() == SaltTag(kSalt));
  CHECK(segment->key().k == SegmentKey::Make(kSalt, {7, 7}, 3).k);
  CHECK(segment->path() == "3/00000000000000000100.log");
  CHECK(segment->writable());
  CHECK(segment->index() != nullptr);
  CHECK(segment->file_bytes() == partition.FileBytes());
  CHECK(segment->ReadSeal() == std::nullopt);
}

TEST_CASE("Segment: it holds a frame from which another open reads the record") {
  Partition partition;
  const auto writer = partition.Open();
  const Record record{.key = "k", .value = "value"};
  WriteFrame(writer->key(), writer->data(), PlanFrame(record), {.position = 1024, .offset = 100},
             record);
  REQUIRE(writer->Sync(0, 2048).ok());
  const auto reader = partition.Open(os::Access::kRead);
  CHECK_FALSE(reader->writable());
  CheckedFrame frame;
  REQUIRE(CheckFrame(reader->key(), reader->data(), 1024, reader->file_bytes(), true, frame) ==
          FrameState::kValid);
  CHECK(ViewOf(frame, reader->name()).value() == "value");
}

TEST_CASE("Segment: two are not made under one name") {
  Partition partition;
  CHECK(absl::IsAlreadyExists(
      Segment::Create(partition.files(), SegmentFileName(100, ""), kSalt, kCapacity, 1, 1)));
}

TEST_CASE("Segment: a capacity is rounded up to a multiple of 8") {
  Partition partition(4097);
  CHECK(partition.Open()->capacity() == 4104);
  CHECK(partition.FileBytes() == 4104);
}

// ---- What cannot be opened --------------------------------------------------------------------

TEST_CASE("Segment: a header with any byte flipped is data loss that names file and position") {
  Partition partition;
  const std::string whole = partition.Read();
  for (std::size_t at = 0; at < sizeof(SegmentHeader); ++at) {
    partition.Write(at, std::string(1, static_cast<char>(~whole[at])));
    const absl::Status status = partition.TryOpen().status();
    if (!absl::IsDataLoss(status) || !Says(status, partition.Path().string()) ||
        !Says(status, "position 0")) {
      FAIL("byte " << at << ": " << status.ToString());
    }
    partition.Write(at, whole.substr(at, 1));
  }
  CHECK(partition.TryOpen().ok());
}

TEST_CASE("Segment: that of another topic or partition is data loss, in words") {
  Partition partition;
  partition.files().partition = 4;
  CHECK(absl::IsDataLoss(partition.TryOpen().status()));
  CHECK(Says(partition.TryOpen().status(), "partition 3"));
  partition.files().partition = 3;
  partition.files().topic_id = {8};
  CHECK(absl::IsDataLoss(partition.TryOpen().status()));
  CHECK(Says(partition.TryOpen().status(), "another topic"));
}

TEST_CASE("Segment: that of another base is data loss, by its seal or by its first record") {
  Partition partition;
  const auto segment = partition.Open();
  SECTION("by its seal") {
    Seal seal = SealAt(110, 2048);
    seal.base = 99;
    Sign(seal, kSalt);
    std::memcpy(segment->data() + kSealPosition, &seal, sizeof seal);
  }
  SECTION("by its first record") {
    const Record record = {.value = "v"};
    const Offset offset = GENERATE(Offset{0}, Offset{99}, Offset{101});
    WriteFrame(segment->key(), segment->data(), PlanFrame(record),
               {.position = kFirstFrame, .offset = offset}, record);
  }
  const absl::Status opened = partition.TryOpen().status();
  CHECK(absl::IsDataLoss(opened));
  CHECK(Segment::ReadFacts(partition.files(), 100).status() == opened);
}

TEST_CASE("Segment: a file that is shorter than its header is data loss") {
  Partition partition;
  for (const std::size_t bytes : {1023U, 1000U, 512U, 511U, 100U, 1U, 0U}) {
    partition.Cut(bytes);
    CAPTURE(bytes);
    CHECK(absl::IsDataLoss(partition.TryOpen().status()));
    CHECK(Says(partition.TryOpen().status(), partition.Path().string()));
  }
}

TEST_CASE("Segment: a name that is not there is not found") {
  Partition partition;
  CHECK(absl::IsNotFound(Segment::Open(partition.files(), 101, os::Access::kRead).status()));
}

TEST_CASE("Segment: a file of zeros, of letters, or a folder is no segment") {
  Partition partition;
  partition.Write(0, std::string(2048, '\0'));
  CHECK(absl::IsDataLoss(partition.TryOpen().status()));
  partition.Write(0, std::string(2048, 'x'));
  CHECK(absl::IsDataLoss(partition.TryOpen().status()));
  partition.Remove();
  std::filesystem::create_directory(partition.Path());
  CHECK(absl::IsFailedPrecondition(partition.TryOpen(os::Access::kRead).status()));
}

TEST_CASE("Segment: an index that is missing, foreign or damaged is no error") {
  Partition partition;
  SECTION("missing") { partition.Remove(Index::kTimeExtension); }
  SECTION("foreign") {
    partition.Create(200, kCapacity, {9});
    std::filesystem::rename(partition.files().root->path() + "/3/00000000000000000200.index",
                            partition.Path(Index::kOffsetExtension));
  }
  SECTION("empty") { std::filesystem::resize_file(partition.Path(Index::kOffsetExtension), 0); }
  SECTION("a folder") {
    partition.Remove(Index::kOffsetExtension);
    std::filesystem::create_directory(partition.Path(Index::kOffsetExtension));
  }
  const auto segment = partition.Open();
  CHECK(segment->index() == nullptr);
  CHECK(segment->Grow(segment->capacity()).ok());
  CHECK(segment->RefreshSize().ok());
}

// ---- Size -------------------------------------------------------------------------------------

TEST_CASE("Segment: it grows in steps, with blocks, up to its capacity") {
  Partition partition;
  const auto segment = partition.Open();
  std::uint64_t before = segment->file_bytes();
  CHECK(before == Segment::kBytesAtFirst);
  int steps = 0;
  for (; before < kCapacity; ++steps) {
    REQUIRE(segment->Grow(before + 1).ok());
    REQUIRE(segment->file_bytes() > before);
    REQUIRE(segment->file_bytes() == partition.FileBytes());
    before = segment->file_bytes();
    std::memset(segment->data() + before - 8, 1, 8);
  }
  CHECK(before == kCapacity);
  CHECK(steps <= 8);  // it doubles
  CHECK(segment->Grow(kCapacity).ok());
  CHECK(absl::IsInternal(segment->Grow(kCapacity + 1)));
  CHECK(partition.FileBytes() == kCapacity);
}

TEST_CASE("Segment: what it grew to is zero, and what was there stays") {
  Partition partition;
  const auto segment = partition.Open();
  std::memcpy(segment->data() + 4096, "stays", 5);
  REQUIRE(segment->Grow(100'000).ok());
  CHECK(std::memcmp(segment->data() + 4096, "stays", 5) == 0);
  for (std::size_t i = Segment::kBytesAtFirst; i < segment->file_bytes(); ++i) {
    if (segment->data()[i] != std::byte{0}) FAIL("byte " << i);
  }
}

TEST_CASE("Segment: its index has room for what it grew to") {
  Partition partition;
  const auto segment = partition.Open();
  REQUIRE(segment->Grow(kCapacity).ok());
  CHECK(segment->index()->room() >= kCapacity / 4096);
}

TEST_CASE("Segment: another open sees the growth after it has looked again") {
  Partition partition;
  const auto writer = partition.Open();
  const auto reader = partition.Open(os::Access::kRead);
  REQUIRE(writer->Grow(900'000).ok());
  std::memcpy(writer->data() + 890'000, "far", 3);
  CHECK(reader->file_bytes() == Segment::kBytesAtFirst);
  REQUIRE(reader->RefreshSize().ok());
  CHECK(reader->file_bytes() == writer->file_bytes());
  CHECK(std::memcmp(reader->data() + 890'000, "far", 3) == 0);
  CHECK(reader->index()->room() == writer->index()->room());
  const auto second_writer = partition.Open();
  CHECK(second_writer->file_bytes() == writer->file_bytes());
  CHECK(second_writer->writable_bytes() == 0);  // what it sees may be zeroed yet
  CHECK(second_writer->Grow(800'000).ok());
  CHECK(second_writer->writable_bytes() == writer->file_bytes());
}

TEST_CASE("Segment: a file that is longer than its capacity has its capacity") {
  Partition partition(4096);
  partition.Cut(8192);
  const auto segment = partition.Open();
  CHECK(segment->file_bytes() == 4096);
  REQUIRE(segment->RefreshSize().ok());
  CHECK(segment->file_bytes() == 4096);
}

TEST_CASE("Segment: its size never goes back when it grows while somebody looks") {
  const int moment = GENERATE(1, 2, 3, 4, 5, 6);
  Partition partition;
  const auto folder = std::make_shared<WatchedFolder>(partition.files().root);
  partition.files().root = folder;
  const auto segment = partition.Open();
  int looks = 0;
  folder->after_look = [&] {
    if (++looks == moment) REQUIRE(segment->Grow(900'000).ok());
  };
  REQUIRE(segment->RefreshSize().ok());
  folder->after_look = nullptr;
  if (looks < moment) REQUIRE(segment->Grow(900'000).ok());
  CHECK(segment->file_bytes() >= 900'000);
  CHECK(segment->index()->room() >= 900'000 / 4096);
}

TEST_CASE("Segment: a file that somebody cut is data loss when it is looked at again") {
  Partition partition;
  const auto segment = partition.Open();
  REQUIRE(segment->Grow(100'000).ok());
  partition.Cut(4096);
  const absl::Status status = segment->RefreshSize();
  CHECK(absl::IsDataLoss(status));
  CHECK(Says(status, segment->path()));
}

TEST_CASE("Segment: without its name, or with another's file under it, it is not found") {
  Partition partition;
  const auto segment = partition.Open();
  std::memcpy(segment->data() + 4096, "stays", 5);
  partition.Remove();
  CHECK(absl::IsNotFound(segment->RefreshSize()));
  CHECK(absl::IsNotFound(segment->Grow(100'000)));
  partition.Remove(Index::kOffsetExtension);
  partition.Remove(Index::kTimeExtension);
  partition.Create(100, kCapacity, {9});
  CHECK(absl::IsNotFound(segment->RefreshSize()));
  CHECK(absl::IsNotFound(segment->Grow(100'000)));
  CHECK(std::memcmp(segment->data() + 4096, "stays", 5) == 0);  // what is mapped stays readable
}

// ---- The pin ----------------------------------------------------------------------------------

TEST_CASE("Segment: while somebody holds it another File finds it locked") {
  Partition partition;
  const auto file = partition.OpenFile();
  const os::Access access = GENERATE(os::Access::kRead, os::Access::kReadWrite);
  auto one = partition.Open(access);
  auto other = partition.Open(access);
  CHECK(file->IsLocked(os::LockKind::kExclusive, Segment::kPinByte).value());
  CHECK_FALSE(file->TryLock(os::LockKind::kExclusive, Segment::kPinByte).value());
  one.reset();
  CHECK(file->IsLocked(os::LockKind::kExclusive, Segment::kPinByte).value());
  other.reset();
  CHECK_FALSE(file->IsLocked(os::LockKind::kExclusive, Segment::kPinByte).value());
}

TEST_CASE("Segment: one that is about to be reused is unavailable") {
  Partition partition;
  const auto file = partition.OpenFile();
  REQUIRE(file->TryLock(os::LockKind::kExclusive, Segment::kPinByte).value());
  CHECK(absl::IsUnavailable(partition.TryOpen(os::Access::kRead).status()));
  REQUIRE(file->Unlock(Segment::kPinByte).ok());
  CHECK(partition.TryOpen(os::Access::kRead).ok());
}

// ---- The seal ---------------------------------------------------------------------------------

TEST_CASE("Segment: a seal is read as it was written, also by who opens it later") {
  Partition partition;
  const auto segment = partition.Open();
  segment->WriteSeal(SealAt(110, 2048));
  const auto reader = partition.Open(os::Access::kRead);
  for (const Segment* each : {segment.get(), reader.get()}) {
    const std::optional<Seal> seal = each->ReadSeal();
    REQUIRE(seal.has_value());
    CHECK(seal->base == 100);
    CHECK(seal->next == 110);
    CHECK(seal->end_position == 2048);
    CHECK(seal->largest_timestamp == 11);
    CHECK(seal->last_append_ns == 12);
    CHECK(seal->reason == SealReason::kRecovered);
  }
}

TEST_CASE("Segment: a seal with any byte flipped is none, and the segment opens without it") {
  Partition partition;
  const auto segment = partition.Open();
  segment->WriteSeal(SealAt(110, 2048));
  for (std::size_t at = kSealPosition; at < kFirstFrame; ++at) {
    segment->data()[at] = ~segment->data()[at];
    if (segment->ReadSeal().has_value()) FAIL("byte " << at);
    segment->data()[at] = ~segment->data()[at];
  }
  CHECK(segment->ReadSeal().has_value());
  segment->data()[kSealPosition + 100] ^= std::byte{1};
  CHECK(partition.Open()->ReadSeal() == std::nullopt);
}

TEST_CASE("Segment: a seal of another base, or past the capacity, is none") {
  Partition partition;
  const auto segment = partition.Open();
  const auto put = [&](Seal seal) {
    Sign(seal, kSalt);
    std::memcpy(segment->data() + kSealPosition, &seal, sizeof seal);
  };
  Seal seal = SealAt(110, 2048);
  seal.base = 99;
  put(seal);
  CHECK(segment->ReadSeal() == std::nullopt);
  seal.base = 100;
  put(seal);
  CHECK(segment->ReadSeal().has_value());
  seal.end_position = kCapacity + 8;
  put(seal);
  CHECK(segment->ReadSeal() == std::nullopt);
}

}  // namespace cordwood::segment::segment_test
