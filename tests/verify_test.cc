// What Verify says of a directory, whole or damaged, and that it only looks.

#include "cordwood/verify.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "cordwood/broker.h"
#include "cordwood/consumer.h"
#include "cordwood/group/offsets.h"
#include "cordwood/log/control.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/segment/format.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/damage.h"
#include "tests/support/environment.h"
#include "tests/support/folder_decorator.h"

namespace cordwood {
namespace {

using testing::Bad;
using testing::Data;
using testing::FileOf;
using testing::FlipBit;
using testing::kFirst;
using testing::kFolder;
using testing::kFrameBytes;
using testing::kRecords;
using testing::OpenQuiet;
using testing::PositionOf;
using testing::StateOf;
using testing::TempDir;
using State = VerifiedState;

// Every attempt to change something is an error, and is counted.
class LookingStorage final : public Storage {
 public:
  int changes = 0;

  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) override {
    if (options.create) return Refuse();
    auto folder = real_->OpenFolder(path, options);
    if (!folder.ok()) return folder.status();
    return std::make_unique<LookingFolder>(*std::move(folder), *this);
  }
  std::int64_t NowNanos() override { return real_->NowNanos(); }
  os::Bits128 Random128() override { return real_->Random128(); }
  absl::StatusOr<os::Bits128> BootId() override { return real_->BootId(); }

 private:
  absl::Status Refuse() {
    ++changes;
    return absl::PermissionDeniedError("not to be changed");
  }

  class LookingFile final : public testing::FileDecorator {
   public:
    LookingFile(std::unique_ptr<os::File> file, LookingStorage& storage)
        : FileDecorator(std::move(file)), storage_(storage) {}
    absl::Status WriteAt(const void*, std::size_t, std::uint64_t) override {
      return storage_.Refuse();
    }
    absl::Status Allocate(std::uint64_t) override { return storage_.Refuse(); }
    absl::Status PunchHole(std::uint64_t, std::uint64_t) override { return storage_.Refuse(); }
    absl::Status Sync() override { return storage_.Refuse(); }
    // Not even for reading: a bad block, or a file that is cut off, would be a signal (rule 32).
    absl::StatusOr<std::unique_ptr<os::Mapping>> Map(std::size_t, os::Access) override {
      return storage_.Refuse();
    }
    absl::StatusOr<bool> TryLock(os::LockKind kind, std::uint64_t byte) override {
      if (kind != os::LockKind::kShared) return storage_.Refuse();
      return FileDecorator::TryLock(kind, byte);
    }

   private:
    LookingStorage& storage_;
  };

  class LookingFolder final : public testing::FolderDecorator {
   public:
    LookingFolder(std::unique_ptr<os::Folder> folder, LookingStorage& storage)
        : FolderDecorator(std::move(folder)), storage_(storage) {}
    absl::StatusOr<std::unique_ptr<os::File>> OpenFile(std::string_view path,
                                                       os::OpenMode mode) override {
      if (mode != os::OpenMode::kRead) return storage_.Refuse();
      auto file = FolderDecorator::OpenFile(path, mode);
      if (!file.ok()) return file.status();
      return std::make_unique<LookingFile>(*std::move(file), storage_);
    }
    absl::Status CreateFolder(std::string_view) override { return storage_.Refuse(); }
    absl::Status Rename(std::string_view, std::string_view) override { return storage_.Refuse(); }
    absl::Status RenameNew(std::string_view, std::string_view) override {
      return storage_.Refuse();
    }
    absl::Status Exchange(std::string_view, std::string_view) override { return storage_.Refuse(); }
    absl::Status Unlink(std::string_view) override { return storage_.Refuse(); }
    absl::Status RemoveFolder(std::string_view) override { return storage_.Refuse(); }
    absl::Status SyncFolder(std::string_view) override { return storage_.Refuse(); }
    absl::Status SyncFileSystem() override { return storage_.Refuse(); }

   private:
    LookingStorage& storage_;
  };

  const std::shared_ptr<Storage> real_ = Storage::OperatingSystem();
};

TEST_CASE("Verify: of a whole directory there is nothing to tell") {
  const bool close = GENERATE(true, false);
  Data data(close);
  const VerifyReport report = data.Look();
  CHECK(report.is_open == !close);
  CHECK(report.is_clean());
  CHECK(report.problems.empty());
  REQUIRE(report.topics.size() == 1);
  CHECK(report.topics[0].name == "t");
  CHECK(report.topics[0].status.ok());
  const VerifiedPartition partition = report.topics[0].partitions.at(0);
  CHECK(partition.start == 0);
  CHECK(partition.end == kRecords);
  CHECK(partition.durable == kRecords);
  CHECK(partition.records == kRecords);
  CHECK(partition.bytes == static_cast<std::int64_t>(kRecords * kFrameBytes));
  const std::vector<Offset> bases = data.Bases();
  REQUIRE(bases.size() > 2);
  REQUIRE(partition.ranges.size() == bases.size() + (close ? 0 : 1));
  for (std::size_t i = 0; i < bases.size(); ++i) {
    const VerifiedRange& range = partition.ranges[i];
    CHECK(range.from == bases[i]);
    CHECK(range.to == (i + 1 < bases.size() ? bases[i + 1] : kRecords));
    CHECK(range.records == range.to - range.from);
    CHECK(range.file == FileOf(bases[i]));
    CHECK(range.position == static_cast<std::int64_t>(segment::kFirstFrame));
    CHECK(range.bytes == static_cast<std::int64_t>(kFrameBytes) * range.records);
  }
  if (close) return;
  // What is behind the end is not torn: somebody is about to write there.
  const VerifiedRange& in_use = partition.ranges.back();
  CHECK(in_use.state == State::kInUse);
  CHECK(in_use.from == kRecords);
  CHECK(in_use.to == kRecords);
  CHECK(in_use.file == FileOf(bases.back()));
  CHECK(in_use.position == static_cast<std::int64_t>(PositionOf(kRecords, bases.back())));
  CHECK(in_use.position + in_use.bytes ==
        static_cast<std::int64_t>(std::filesystem::file_size(data / in_use.file)));
}

TEST_CASE("Verify: it changes nothing and maps nothing, and does not try to") {
  Data data;
  const int damage = GENERATE(0, 1, 2, 3);
  if (damage == 1) FlipBit(data / kFirst, PositionOf(3, 0) + 60);
  if (damage == 2) FlipBit(data / FileOf(data.Bases().back()), 5);
  if (damage == 3) FlipBit(data / "topics/t/control", 1);
  const testing::DirectoryState before = StateOf(data.path());
  auto storage = std::make_shared<LookingStorage>();
  const VerifyReport report = Verify(data.path(), {.storage = storage}).value();
  CHECK(report.is_clean() == (damage == 0));
  CHECK(storage->changes == 0);
  CHECK((StateOf(data.path()) == before));
}

TEST_CASE("Verify: after a kill all is valid, for nothing that was published is lost") {
  TempDir dir;
  {
    Data data(false);
    std::filesystem::copy(data.path(), dir / "data", std::filesystem::copy_options::recursive);
  }
  // The copy's control page is that of another file: its records are looked through.
  const VerifyReport report = Verify(dir / "data").value();
  CHECK_FALSE(report.is_open);
  CHECK(report.is_clean());
  CHECK(report.topics.at(0).partitions.at(0).end == kRecords);
}

TEST_CASE("Verify: what a killed writer had not published is no record, and no damage") {
  Data data(false);
  {
    const auto folder = Storage::OperatingSystem()->OpenFolder(data.path(), {}).value();
    const os::Bits128 id = log::TopicFiles::ReadConfig(*folder, "t").value().id;
    const auto control =
        log::ControlFile::Open(*folder, "topics/t/control", id, os::Access::kReadWrite).value();
    log::ControlBlock& block = control->block(0);
    // As between the last record's bytes and its store of the tail.
    const std::uint64_t written = block.tail.load();
    log::Tail tail = log::Tail::Unpack(written);
    --tail.records;
    tail.position -= testing::kFrameBytes;
    block.intent.store(written);
    block.tail.store(tail.Pack());
    block.durable.store(kRecords - 1);
  }
  data.left_open = Broker();
  std::filesystem::remove(data / "CLEAN");
  const VerifyReport report = data.Look();
  CHECK(report.topics.at(0).partitions.at(0).end == kRecords - 1);
  for (const FileProblem& problem : report.problems) {
    CHECK(problem.file != "topics/t/control");
  }
  const Broker broker = OpenQuiet(data.path());
  CHECK(broker.OpenTopic("t").value().partition(0).end_offset() == kRecords - 1);
}

TEST_CASE("Verify: a group's commits that were cut off within one are told") {
  const Data data;
  const std::filesystem::path offsets = data / "groups/g/offsets";
  std::filesystem::resize_file(offsets, group::kHeaderBytes + 100);
  const VerifyReport report = data.Look();
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == "groups/g/offsets");
  CHECK(report.problems[0].position == static_cast<std::int64_t>(group::kHeaderBytes));
}

TEST_CASE("Verify: a damaged record is found at its offset and its position, and nothing else") {
  Data data;
  const Offset base = GENERATE(0, 1);  // of the first segment, or of the last
  const Offset first = base == 0 ? 0 : data.Bases().back();
  const Offset offset = first + 2;
  // Of the header the check, the length, the checksum, the offset; the value; the last byte.
  const int at = GENERATE(0, 5, 8, 16, 48, 1047);
  FlipBit(data / FileOf(first), PositionOf(offset, first) + static_cast<std::uint64_t>(at), 3);
  const VerifiedPartition partition = data.LookAtPartition();
  CHECK(partition.end == kRecords);
  CHECK(partition.records == kRecords - 1);
  const std::vector<VerifiedRange> bad = Bad(partition);
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].state == State::kDamaged);
  CHECK(bad[0].from == offset);
  CHECK(bad[0].to == offset + 1);
  CHECK(bad[0].file == FileOf(first));
  CHECK(bad[0].position == static_cast<std::int64_t>(PositionOf(offset, first)));
  CHECK(bad[0].bytes == static_cast<std::int64_t>(kFrameBytes));
  CHECK_FALSE(data.Look().is_clean());
}

TEST_CASE("Verify: bytes that were never durable are torn, not damaged") {
  Data data(false);
  const Offset last = data.Bases().back();
  Partition partition = data.left_open.OpenTopic("t").value().partition(0);
  for (int i = 0; i < 3; ++i) REQUIRE(partition.Append({.value = "published"}).ok());
  // As after a power cut: another machine's control page, and half of a record.
  TempDir dir;
  std::filesystem::copy(data.path(), dir / "data", std::filesystem::copy_options::recursive);
  const std::uint64_t torn = PositionOf(kRecords, last) + 64;
  FlipBit(dir / "data" / FileOf(last), torn + 50);
  const VerifyReport report = Verify(dir / "data").value();
  const VerifiedPartition& found = report.topics.at(0).partitions.at(0);
  CHECK(found.end == kRecords + 1);
  const std::vector<VerifiedRange> bad = Bad(found);
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].state == State::kTorn);
  CHECK(bad[0].from == kRecords + 1);
  CHECK(bad[0].to == kRecords + 1);
  CHECK(bad[0].file == FileOf(last));
  CHECK(bad[0].position == static_cast<std::int64_t>(torn));
  CHECK(report.problems.empty());
}

TEST_CASE("Verify: a segment with a damaged header costs its records, and is named") {
  Data data;
  const std::vector<Offset> bases = data.Bases();
  const bool is_last = GENERATE(false, true);
  const Offset base = is_last ? bases.back() : bases[1];
  const Offset next = is_last ? kRecords : bases[2];
  FlipBit(data / FileOf(base), 33);  // the salt
  const VerifyReport report = data.Look();
  const std::vector<VerifiedRange> bad = Bad(report.topics.at(0).partitions.at(0));
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].state == State::kDamaged);
  CHECK(bad[0].from == base);
  CHECK(bad[0].to == next);
  CHECK(bad[0].file == FileOf(base));
  CHECK(report.topics[0].partitions[0].records == kRecords - (next - base));
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == FileOf(base));
  CHECK(report.problems[0].position == 0);
}

TEST_CASE("Verify: a segment that is gone is missing, not damaged") {
  Data data;
  const std::vector<Offset> bases = data.Bases();
  const bool is_last = GENERATE(false, true);
  const Offset base = is_last ? bases.back() : bases[1];
  std::filesystem::remove(data / FileOf(base));
  const std::vector<VerifiedRange> bad = Bad(data.LookAtPartition());
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].state == State::kMissing);
  CHECK(bad[0].from == base);
  CHECK(bad[0].to == (is_last ? kRecords : bases[2]));
}

TEST_CASE("Verify: a segment that was cut off has lost what lay behind the cut") {
  Data data;
  const std::vector<Offset> bases = data.Bases();
  const bool is_last = GENERATE(false, true);
  const Offset base = is_last ? bases.back() : bases[1];
  const std::uint64_t cut = PositionOf(base + 3, base) + 100;
  std::filesystem::resize_file(data / FileOf(base), cut);
  const VerifyReport report = data.Look();
  const VerifiedPartition& partition = report.topics.at(0).partitions.at(0);
  const std::vector<VerifiedRange> bad = Bad(partition);
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].state == State::kDamaged);
  CHECK(bad[0].from == base + 3);
  CHECK(bad[0].to == (is_last ? kRecords : bases[2]));
  CHECK(bad[0].position == static_cast<std::int64_t>(PositionOf(base + 3, base)));
  REQUIRE_FALSE(report.problems.empty());
  CHECK(report.problems[0].file == FileOf(base));
  CHECK(report.problems[0].position == static_cast<std::int64_t>(cut));
}

TEST_CASE("Verify: small files that are damaged are named, and cost no record") {
  Data data;
  const std::string index = "00000000000000000000.index";
  const auto [file, position] = GENERATE_COPY(table<std::string, std::uint64_t>({
      {kFolder + index, 0},
      {kFolder + index, 9},
      {kFolder + index, 64},
      {kFolder + "00000000000000000000.timeindex", 72},
      {kFirst, 512},
      {kFirst, 700},
      {"topics/t/control", 0},
      {"FORMAT", 0},
      {"groups/g/offsets", 3},
      {"groups/g/offsets", 4096},
      {"groups/g/offsets", 4096 + 384},
  }));
  FlipBit(data / file, position);
  const VerifyReport report = data.Look();
  CAPTURE(file, position);
  REQUIRE(report.problems.size() == 1);
  const bool is_index = file.find("index") != std::string::npos;
  CHECK(report.problems[0].file == (is_index ? kFolder + index : file));
  CHECK_FALSE(report.problems[0].what.empty());
  CHECK(Bad(report.topics.at(0).partitions.at(0)).empty());
  CHECK(report.topics[0].partitions[0].records == kRecords);
}

TEST_CASE("Verify: an index that is whole and wrong is found by its records") {
  Data data;
  const std::filesystem::path file = data / (kFolder + "00000000000000000000.index");
  std::string bytes = testing::ReadAll(file);
  bytes[64 + 8] = static_cast<char>(bytes[64 + 8] ^ 1);  // the offset of the second entry
  segment::IndexHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  header.checksum = os::Hash64(bytes.data() + 64, header.count * 8) ^ header.count;
  std::memcpy(bytes.data(), &header, sizeof header);
  testing::WriteAll(file, bytes);
  const VerifyReport report = data.Look();
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].state == State::kDamaged);
  CHECK(report.problems[0].what.find("entry 1 says offset") != std::string::npos);
}

TEST_CASE("Verify: the start of a log, with either slot damaged") {
  Data data;
  {
    Broker broker = OpenQuiet(data.path());
    const Partition partition = broker.OpenTopic("t").value().partition(0);
    REQUIRE(partition.Trim(35).ok());
    REQUIRE(partition.Trim(40).ok());
    REQUIRE(broker.Close().ok());
  }
  const VerifyReport whole = data.Look();
  CHECK(whole.is_clean());
  CHECK(whole.topics.at(0).partitions.at(0).start == 40);
  CHECK(whole.topics[0].partitions[0].records == kRecords - 40);
  const auto slot = GENERATE(std::uint64_t{0}, std::uint64_t{64});
  FlipBit(data / (kFolder + "start"), slot + 8);
  const VerifyReport report = data.Look();
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == kFolder + "start");
}

TEST_CASE("Verify: without its config a topic cannot be told, and the others can") {
  Data data;
  {
    Broker broker = OpenQuiet(data.path());
    REQUIRE(broker.CreateTopic("other", {.partitions = 2}).ok());
    REQUIRE(broker.Close().ok());
  }
  testing::WriteAll(data / "topics/t/config", "topic.id=");
  const VerifyReport report = data.Look();
  REQUIRE(report.topics.size() == 2);
  CHECK(report.topics[0].partitions.size() == 2);
  CHECK(report.topics[0].status.ok());
  CHECK(absl::IsDataLoss(report.topics[1].status));
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].file == "topics/t/config");
}

TEST_CASE("Verify: what is no cordwood directory, or of a newer one, is an error") {
  TempDir dir;
  CHECK(absl::IsNotFound(Verify(dir / "nothing").status()));
  CHECK(absl::IsNotFound(Verify(dir.path()).status()));
  testing::WriteAll(dir / "FORMAT", "cordwood 2\n");
  CHECK(absl::IsFailedPrecondition(Verify(dir.path()).status()));
}

TEST_CASE("Verify: beside a writer there is no false alarm") {
  TempDir dir(testing::FolderInMemory());
  Broker broker = OpenQuiet(dir / "data");
  const Topic topic =
      broker
          .CreateTopic("t",
                       {.partitions = 2, .segment_bytes = 32 << 10, .retention_bytes = 256 << 10})
          .value();
  Consumer consumer = broker.NewConsumer({.group = "g"}).value();
  REQUIRE(consumer.Assign({{"t", 0}, {"t", 1}}).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> failures{0};
  std::thread writer([&] {
    for (Offset i = 1; !stop; ++i) {
      for (int p = 0; p < 2; ++p) {
        failures += !topic.partition(p).Append({.value = std::string(777, 'v')}).ok();
      }
      if (i % 16 == 0) failures += !consumer.Commit({{{"t", 0}, i}, {{"t", 1}, i}}).ok();
      if (i % 32 == 0) failures += !broker.Maintain(absl::Milliseconds(50)).ok();
    }
  });
  Offset start = 0;  // until retention has removed segments under its eyes, many times
  std::vector<std::string> alarms;
  for (int n = 0; n < 100 || start < 10'000; ++n) {
    const VerifyReport report = Verify(dir / "data").value();
    for (const FileProblem& problem : report.problems) {
      alarms.push_back(problem.file + ": " + problem.what);
    }
    for (const VerifiedPartition& partition : report.topics.at(0).partitions) {
      for (const VerifiedRange& range : Bad(partition)) {
        alarms.push_back(range.file + ": " + range.what);
      }
      start = partition.start;
    }
  }
  stop = true;
  writer.join();
  CHECK(failures == 0);
  CHECK(alarms == std::vector<std::string>{});
}

}  // namespace
}  // namespace cordwood
