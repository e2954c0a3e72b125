// The rules of the protocol about files and what is in them, one test each. The table of all
// rules is in rules_test.cc.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cordwood/log/cursor.h"
#include "cordwood/log/directory.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/frame.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/log_fixture.h"
#include "tests/support/plan_frame.h"

namespace cordwood::rules_files_test {
namespace {

using testing::FailingStorage;
using testing::LogFixture;
using testing::TempDir;
using Op = FailingStorage::Op;
using Step = log::Cursor::Step;
using Values = std::vector<std::string>;

// Appends until there are that many segments more.
void Roll(LogFixture& log, std::size_t times = 1) {
  const std::size_t goal = log.Bases().size() + times;
  while (log.Bases().size() < goal) log.Append(std::string(1000, 'r'));
}

os::Bits128 SaltOf(LogFixture& log, Offset base) {
  return segment::Segment::Open(log.files(), base, os::Access::kRead).value()->header().salt;
}

// ---- 22

struct Opened {
  explicit Opened(const TempDir& dir, std::shared_ptr<Storage> storage = nullptr) {
    auto opened =
        log::Directory::Open(dir.path() / "d", {.storage = std::move(storage)}, {}, report);
    status = opened.status();
    if (opened.ok()) directory = *std::move(opened);
  }
  RecoveryReport report;
  absl::Status status;
  std::shared_ptr<log::Directory> directory;
};

TEST_CASE("Rule 22: the last closer marks the directory, the next opener takes the mark away") {
  TempDir dir;
  const std::filesystem::path marker = dir.path() / "d" / "CLEAN";
  const std::filesystem::path control = dir.path() / "d" / "topics" / "t" / "control";
  {
    Opened first(dir), second(dir);
    auto topic = first.directory->CreateTopic("t", {.partitions = 2}).value();
    REQUIRE(topic->OpenLog(0).value()->Append({.value = "a"}, {}).ok());
    REQUIRE(first.directory->Close().ok());
    CHECK_FALSE(std::filesystem::exists(marker));
    REQUIRE(second.directory->Close().ok());
    CHECK(std::filesystem::exists(marker));
  }
  SECTION("there is nothing to repair, and nothing is looked at") {
    // Who scanned this segment would report it.
    std::filesystem::resize_file(dir.path() / "d/topics/t/0/00000000000000000000.log", 1030);
    CHECK(Opened(dir).report.clean);
  }
  SECTION("it is gone for good before anything else is stored") {
    const auto disk = FailingStorage::Make();
    Opened again(dir, disk);
    CHECK(again.report.clean);
    CHECK_FALSE(std::filesystem::exists(marker));
    const int unlinked = disk->Find(Op::kUnlink, "CLEAN");
    REQUIRE(unlinked >= 0);
    CHECK(disk->Find(Op::kSyncFolder, "", unlinked) == unlinked + 1);
    CHECK(disk->Find(Op::kMapSync, "control") == -1);
    CHECK(disk->Find(Op::kWrite, "topics") == -1);
  }
  SECTION("who cannot take it away for good does not open") {
    const auto disk = FailingStorage::Make();
    disk->Fail({.op = Op::kSyncFolder});
    CHECK_FALSE(Opened(dir, disk).status.ok());
  }
  SECTION("it speaks of one control file, not of a copy") {
    std::filesystem::copy_file(control, control.string() + "2");
    std::filesystem::rename(control.string() + "2", control);
    CHECK_FALSE(Opened(dir).report.clean);
  }
  SECTION("it speaks of the watermarks as they were") {
    std::fstream file(control, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(4096 + 64 + 1);  // the tail of partition 0
    file.put(1);
    file.close();
    CHECK_FALSE(Opened(dir).report.clean);
  }
  SECTION("a damaged one is none") {
    std::fstream file(marker, std::ios::binary | std::ios::in | std::ios::out);
    file.seekg(70);
    const int byte = file.get();
    file.seekp(70);
    file.put(static_cast<char>(byte ^ 1));
    file.close();
    CHECK_FALSE(Opened(dir).report.clean);
  }
}

// ---- 25, 26

// A file as a roll leaves behind that died or failed after its rename, with a record in it
// that nobody published.
void PutLeftover(LogFixture& log, Offset base) {
  const os::Bits128 salt = {9};
  const std::string stem = segment::SegmentFileName(base, "");
  REQUIRE(segment::Segment::Create(log.files(), stem, salt, 256 << 10, 4000, 1).ok());
  auto leftover = segment::Segment::Open(log.files(), base, os::Access::kReadWrite).value();
  const Record ghost = {.value = "ghost"};
  segment::WriteFrame(leftover->key(), leftover->data(), testing::PlanFrame(ghost),
                      {.position = segment::kFirstFrame, .offset = base, .timestamp_ns = 1}, ghost);
}

TEST_CASE("Rule 25: a roll renames its own file, with its own salt, over a leftover") {
  const auto disk = FailingStorage::Make();
  LogFixture log({.storage = disk});
  log.AppendMany(10);
  PutLeftover(log, 10);
  const os::Bits128 leftover = SaltOf(log, 10);
  disk->Forget();
  log.Append(std::string(100'000, 'x'));
  CHECK(SaltOf(log, 10) != leftover);
  const int synced = disk->Find(Op::kFileSync, ".next-");
  CHECK(synced >= 0);
  CHECK(synced < disk->Find(Op::kRename, ".log"));
  CHECK(log.Values(10) == Values{std::string(100'000, 'x')});
}

TEST_CASE("Rule 25: a reader leaves a segment for the one that holds its next offset") {
  LogFixture log;
  log.AppendMany(10);
  Roll(log, 3);
  const std::vector<Offset> bases = log.Bases();
  const Values all = log.Values();
  // Empty files between them, as rolls leave that could not be finished; and one beyond.
  for (Offset base : {Offset{3}, bases[1] + 1, bases[2] + 5, log->end_offset() + 7}) {
    REQUIRE(segment::Segment::Create(log.files(), segment::SegmentFileName(base, ""), {9}, 64 << 10,
                                     4000, 1)
                .ok());
  }
  const auto other = log.OpenBeside();
  log::Cursor cursor(other, 0);
  segment::CheckedFrame frame;
  Values read;
  while (cursor.Next(frame) == Step::kRecord) read.emplace_back(*cursor.View(frame).value());
  CHECK((read == all));
  CHECK(cursor.next_offset() == log->end_offset());
  log.KillAndOpen();
  CHECK((log.Values() == all));
  CHECK(log.Gaps().empty());
}

TEST_CASE("Rule 26: a file that begins inside another and holds nothing is removed") {
  LogFixture log;
  log.AppendMany(10);
  Roll(log, 2);
  REQUIRE(log->Flush().ok());
  const Values all = log.Values();
  REQUIRE(
      segment::Segment::Create(log.files(), segment::SegmentFileName(5, ""), {9}, 64 << 10, 4000, 1)
          .ok());
  log.RebootAndOpen();
  CHECK((log.Values() == all));
  const std::vector<Offset> bases = log.Bases();
  CHECK(std::find(bases.begin(), bases.end(), 5) == bases.end());
}

TEST_CASE("Rule 26: what a newer file has taken over is never read from the old one") {
  const auto disk = FailingStorage::Make();
  LogFixture log({.storage = disk});
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  log.AppendMany(5);
  Roll(log);
  const Offset covered = log.Bases().back();
  Roll(log);
  const Values before = log.Values();
  // The first file is retired and the fresh one covers the second, which cannot be removed.
  disk->Fail({.op = Op::kMapSync, .where = segment::SegmentFileName(0)});
  disk->Fail({.op = Op::kUnlink,
              .times = FailingStorage::kAlways,
              .where = segment::SegmentFileName(covered)});
  REQUIRE(log->Flush().ok());
  REQUIRE(log.Bases() == std::vector<Offset>{0, 10, covered});
  // Nothing that it holds can be told from the fresh one's, so it gets worse.
  log.FlipBit(segment::kFirstFrame + segment::kFrameHeaderBytes, 1, covered);
  CHECK((log.Values() == before));
  Roll(log);
  Values all = log.Values();
  all.resize(before.size());
  CHECK((all == before));
  CHECK(log.Gaps(0).empty());
  CHECK(log.Gaps(covered).empty());  // also who begins there
}

TEST_CASE("Rule 26: who retires a file again removes what the one before it, killed, did not") {
  const auto disk = FailingStorage::Make();
  LogFixture log({.storage = disk});
  log.AppendMany(10);
  REQUIRE(log->Flush().ok());
  Roll(log, 2);
  const Values before = log.Values();
  const std::vector<Offset> bases = log.Bases();
  disk->Fail({.op = Op::kMapSync, .where = segment::SegmentFileName(0)});
  disk->Fail({.op = Op::kUnlink, .times = FailingStorage::kAlways});
  REQUIRE(log->Flush().ok());
  REQUIRE(log.Bases().size() == bases.size() + 1);
  disk->Heal();
  // Killed after the tail had moved, before anything was removed.
  log->block().durable = 10;
  log->block().sync_to = std::ssize(before);
  REQUIRE(log->Flush().ok());
  CHECK(log.Bases() == std::vector<Offset>{0, 10});
  CHECK((log.Values() == before));
  CHECK(log->durable_offset() == std::ssize(before));
}

// ---- 29, 30, 31

TEST_CASE("Rule 29: a tail beyond the file's end is looked at again, then it is data loss") {
  LogFixture log;
  log.AppendMany(10);
  const auto reader = log.OpenBeside();
  segment::CheckedFrame frame;
  log::Cursor cursor(reader, 5);
  REQUIRE(cursor.Next(frame) == Step::kRecord);
  SECTION("another process has grown it") {
    log.Append(std::string(20'000, 'x'));
    while (cursor.next_offset() < 11) REQUIRE(cursor.Next(frame) == Step::kRecord);
    CHECK(cursor.View(frame).value()->size() == 20'000);
  }
  SECTION("it is not there") {
    const log::TailView tail = log::ReadTail(log.block());
    log.block().tail.store(log::Tail{tail.slot, tail.records + 1, 40'000}.Pack());
    Step step = Step::kRecord;
    while (step == Step::kRecord) step = cursor.Next(frame);
    CHECK(step == Step::kError);
    CHECK(absl::IsDataLoss(cursor.status()));
    CHECK(absl::IsDataLoss(reader->Append({.value = "x"}, {}).status()));
  }
}

TEST_CASE("Rule 29: a segment that others have grown and left is read to its end") {
  LogFixture log;
  log.Append("first");
  const std::shared_ptr<log::Log> other = log.OpenBeside();
  REQUIRE(other->Locate(0).ok());  // mapped while the file was small
  Roll(log, 2);
  REQUIRE(other->Locate(log->end_offset()).ok());
  log::Cursor cursor(other, 0);
  segment::CheckedFrame frame;
  while (cursor.Next(frame) == Step::kRecord) {
  }
  CAPTURE(cursor.status());
  CHECK(cursor.next_offset() == log->end_offset());
}

// A size that shows may be that of a growth under way, which may still zero what is stored there:
// see os::File::Allocate. The full-disk test meets it on ext4, now and then.
TEST_CASE("Rule 29: room that another process has made is asked for before it is stored to") {
  const auto storage = FailingStorage::Make();
  LogFixture log({.segment_bytes = 1 << 20, .storage = storage});
  log.Append("a");
  REQUIRE(log.OpenBeside()->Populate(512 << 10).ok());
  const bool has_looked = GENERATE(false, true);
  if (has_looked) {
    log::Cursor cursor(log.get(), 0);
    segment::CheckedFrame frame;
    REQUIRE(cursor.Next(frame) == Step::kRecord);
    REQUIRE(cursor.segment()->RefreshSize().ok());
  }
  storage->Forget();
  while (log::ReadTail(log.block()).position <= segment::Segment::kBytesAtFirst) {
    CHECK(storage->Count(Op::kAllocate, ".log") == 0);
    log.Append(std::string(1000, 'v'));
  }
  CHECK(storage->Count(Op::kAllocate, ".log") == 1);
}

TEST_CASE("Rule 30: what does not fit an empty segment gets one of its own size, up to 2 GiB") {
  LogFixture log;
  log.Append("small");
  const std::string value(10'000, 'x');
  const std::vector<Record> batch(20, Record{.value = value});
  CHECK(log->AppendBatch(batch, {}).value().offset == 1);
  CHECK(log.Append("after") == 21);
  CHECK(log.Values().size() == 22);
  CHECK(std::filesystem::file_size(log.SegmentPath(1)) > 200'000);
  // Beyond that it is refused, before anything is written.
  const std::string large(63 << 20, 'x');
  const std::vector<Record> too_much(33, Record{.value = large});
  CHECK(absl::IsInvalidArgument(log->AppendBatch(too_much, {}).status()));
  CHECK(log->end_offset() == 22);
}

TEST_CASE("Rule 31: a reader, a read-only one too, holds its segment as long as it is mapped") {
  LogFixture log;
  log.AppendMany(10);
  Roll(log);
  REQUIRE(log->Flush().ok());
  auto context = std::make_shared<log::Context>(log.context()->storage, log.context()->root);
  context->live = log::LiveFlag::Create().value();
  auto control =
      log::ControlFile::Open(*context->root, "control", log.files().topic_id, os::Access::kRead);
  auto reader = log::Log::Open(context, log.files(), {}, control.value(), 0).value();
  auto cursor = std::make_unique<log::Cursor>(reader, 5);
  segment::CheckedFrame frame;
  REQUIRE(cursor->Next(frame) == Step::kRecord);
  const RecordView view = cursor->View(frame);
  std::shared_ptr<segment::Segment> held = cursor->segment();
  const auto file = log.files().root->OpenFile(held->path(), os::OpenMode::kReadWrite).value();
  // Everything else that could hold it is gone, the reader's log as well.
  REQUIRE(log->Trim(log->end_offset()).ok());
  cursor.reset();
  reader.reset();
  context->live->Shut();
  log.Kill();
  CHECK_FALSE(std::filesystem::exists(log.SegmentPath(0)));
  CHECK_FALSE(file->TryLock(os::LockKind::kExclusive, segment::Segment::kPinByte).value());
  CHECK(view.value() == "v5");
  held.reset();
  CHECK(file->TryLock(os::LockKind::kExclusive, segment::Segment::kPinByte).value());
}

// ---- 34

// Timestamps that run ahead and fall back; a large one comes early.
std::int64_t TimeOf(Offset offset) {
  return (offset % 7 == 3 ? offset - 400 : offset) * 1'000'000'000 + (offset == 100 ? 900 : 0);
}

void AppendTimed(LogFixture& log, Offset n) {
  for (Offset i = 0; i < n; ++i) {
    const absl::Time time = absl::FromUnixNanos(TimeOf(i));
    REQUIRE(log->Append({.value = "some bytes to fill it", .timestamp = time}, {}).ok());
  }
}

// The lowest offset whose timestamp is at or after the time, for many times.
int WrongAnswers(log::Log& log, Offset n) {
  int wrong = 0;
  for (Offset second = -500; second < n + 10; second += 13) {
    const std::int64_t time = second * 1'000'000'000;
    Offset expected = 0;
    while (expected < n && TimeOf(expected) < time) ++expected;
    wrong += log.OffsetForTime(time).value_or(-1) != std::min(expected, log.end_offset());
  }
  return wrong;
}

void ScrambleIndexes(LogFixture& log, const char* extension, std::size_t header) {
  std::mt19937 random(1);
  for (Offset base : log.Bases()) {
    const auto path = log.folder() / segment::SegmentFileName(base, extension);
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    for (auto at = header; at < std::filesystem::file_size(path); at += 1 + random() % 16) {
      file.seekp(static_cast<std::streamoff>(at));
      file.put(static_cast<char>(random()));
    }
  }
}

TEST_CASE("Rule 34: the index is rebuilt after an unclean stop, and answers are exact") {
  LogFixture log;
  AppendTimed(log, 3000);
  CHECK(WrongAnswers(*log, 3000) == 0);
  REQUIRE(log->Flush().ok());
  const Offset active = log.Bases().back();
  log.Kill();
  log.Reboot();
  const char* extension =
      GENERATE(segment::Index::kOffsetExtension, segment::Index::kTimeExtension);
  const auto path = log.folder() / segment::SegmentFileName(active, extension);
  std::filesystem::resize_file(path, 64);  // as the power left it
  std::filesystem::resize_file(path, 4096);
  log.Open();
  const auto index = segment::Segment::Open(log.files(), active, os::Access::kRead).value();
  REQUIRE(index->index() != nullptr);
  CHECK(index->index()->IsSealedAndWhole());
  CHECK(index->index()->Count() >= 2);
  CHECK(log.Values().size() == 3000);
  int wrong = 0;
  for (Offset second = 0; second < 2900; second += 13) {
    Offset expected = 0;
    while (TimeOf(expected) < second * 1'000'000'000) ++expected;
    wrong += log->OffsetForTime(second * 1'000'000'000).value_or(-1) != expected;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Rule 34: a sealed index that is damaged is not believed") {
  LogFixture log;
  AppendTimed(log, 3000);
  const char* extension =
      GENERATE(segment::Index::kOffsetExtension, segment::Index::kTimeExtension);
  ScrambleIndexes(log, extension, segment::Index::kHeaderBytes);
  const std::shared_ptr<log::Log> other = log.OpenBeside();
  // Of the active segment no checksum speaks: times below its base only.
  const Offset active = log.Bases().back();
  int wrong = 0;
  for (Offset second = 0; second < active - 500; second += 13) {
    Offset expected = 0;
    while (TimeOf(expected) < second * 1'000'000'000) ++expected;
    wrong += other->OffsetForTime(second * 1'000'000'000).value_or(-1) != expected;
  }
  CHECK(wrong == 0);
}

// Well-formed entries, so that nothing but the frame tells that they are wrong.
TEST_CASE("Rule 34: entries of the index that are wrong lead no reader astray") {
  LogFixture log;
  log.AppendMany(500);
  segment::IndexEntry wrong;
  SECTION("into the middle of a record") { wrong = {.position = log.PositionOf(200) + 8}; }
  SECTION("to a later record") { wrong = {.position = log.PositionOf(300)}; }
  SECTION("behind the last record") { wrong = {.position = log.PositionOf(499) + 56}; }
  SECTION("behind the end of the file") { wrong = {.position = std::uint64_t{1} << 34}; }
  const auto active = segment::Segment::Open(log.files(), 0, os::Access::kReadWrite).value();
  const std::size_t count = active->index()->Count();
  REQUIRE(count >= 5);
  for (std::size_t i = 0; i < count; ++i) {
    wrong.offset_delta = active->index()->At(i).value().offset_delta;
    REQUIRE(active->index()->Add(i, wrong));
  }
  const std::shared_ptr<log::Log> other = log.OpenBeside();
  for (Offset offset = 0; offset < 500; offset += 7) {
    log::Cursor cursor(other, offset);
    segment::CheckedFrame frame;
    CAPTURE(offset);
    REQUIRE(cursor.Next(frame) == Step::kRecord);
    REQUIRE(frame.header.offset == offset);
  }
}

// ---- 42

TEST_CASE("Rule 42: numbers from files and shared pages lead nowhere outside") {
  const std::uint32_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  LogFixture log;
  log.AppendMany(100);
  Roll(log, 2);
  ScrambleIndexes(log, segment::Index::kOffsetExtension, 0);
  ScrambleIndexes(log, segment::Index::kTimeExtension, 0);
  const std::uint64_t tail = log.block().tail.load();
  for (int i = 0; i < 300; ++i) {
    const auto other = log.OpenBeside();
    segment::CheckedFrame frame;
    log::Cursor cursor(other, static_cast<Offset>(random() % 200));
    for (int n = 0; n < 5; ++n) {
      // A position of up to 32 GiB, a number of up to 2 billion.
      log.block().tail.store(n % 2 == 0 ? tail : random() >> random() % 33);
      const Step step = cursor.Next(frame);
      if (step != Step::kRecord) continue;
      const std::string copy(cursor.View(frame).value().value_or(""));
      const auto end =
          reinterpret_cast<const char*>(cursor.segment()->data()) + cursor.segment()->file_bytes();
      REQUIRE(frame.body + frame.frame_bytes - segment::kFrameHeaderBytes <= end);
    }
    other->OffsetForTime(static_cast<std::int64_t>(random())).status().IgnoreError();
    log.block().tail.store(tail);
  }
  CHECK(log.Values().size() == static_cast<std::size_t>(log->end_offset()));
}

}  // namespace
}  // namespace cordwood::rules_files_test
