// Share files: what words mean, where a group goes on, and what kills and power cuts leave.

#include "cordwood/group/share.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "cordwood/group/membership.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/clock.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood::group {
namespace {

namespace fs = std::filesystem;
using namespace cordwood::testing;
using Op = FailingStorage::Op;
using State = ShareState;

constexpr std::int64_t kWait = 1'000'000'000;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
constexpr std::uint32_t kMe = 7;
constexpr Offset kEnd = 10'000;

// A directory with a topic "orders", and the share file of its partition 0 for "billing". The
// words need no records: kEnd says how far there would be some.
class Fixture {
 public:
  Fixture() { Open(); }

  void Open() {
    RecoveryReport report;
    directory = log::Directory::Open(dir.path() / "data", {.storage = storage}, {}, report).value();
    const auto orders = directory->OpenOrCreateTopic("orders", {}).value();
    store = GroupStore::Open(directory->context()).value();
    group = store->OpenGroup("billing", true).value();
    const TopicRef ref = {orders->id(), "orders", 1};
    const int entry = group->Entries(ref, true).value()[0];
    place = {directory->context(), group, ref, 0, entry};
    file = ShareFile::Open(place, 0, kEnd, kWait).value();
  }
  // Without a word to the disk.
  void Close() {
    file.reset();
    place = {};
    group.reset();
    store.reset();
    directory.reset();
  }
  void Reopen() {
    Close();
    Open();
  }
  void CutPower() {
    Close();
    storage->PowerCut();
    Open();
  }
  // As a flush pass does.
  absl::Status Flush() {
    absl::Status status = file->Sync();
    status.Update(group->WriteDurable(group->Changes(), Group::Wait::kForTurn));
    return status;
  }

  void Set(Offset offset, State state, int deliveries = 1) {
    ShareTurn turn(*file);
    REQUIRE(turn.Take(kWait).ok());
    turn.Set(offset, state, deliveries);
  }
  void Hold(Offset offset, std::int64_t deadline_ns = kNever, int deliveries = 1) {
    ShareTurn turn(*file);
    REQUIRE(turn.Take(kWait).ok());
    turn.Hold(offset, {.deliveries = deliveries, .deadline_ns = deadline_ns, .member = kMe});
  }
  void Advance() {
    ShareTurn turn(*file);
    REQUIRE(turn.Take(kWait).ok());
    REQUIRE(turn.Advance().ok());
  }
  void AcceptTo(Offset to) {
    ShareTurn turn(*file);
    REQUIRE(turn.Take(kWait).ok());
    while (turn.start() < to) {
      const Offset limit = std::min(turn.limit(kEnd), to);
      for (Offset o = turn.start(); o < limit; ++o) turn.Set(o, State::kAccepted, 1);
      REQUIRE(turn.Advance().ok());
    }
  }
  ShareWord Look(Offset offset) {
    ShareTurn turn(*file);
    REQUIRE(turn.Take(kWait).ok());
    return turn.Look(offset);
  }
  bool IsHeld(Offset offset) {
    ShareTurn turn(*file);
    REQUIRE(turn.Take(kWait).ok());
    return turn.IsHeld(offset, os::MonotonicNanos());
  }
  Offset Start() {
    ShareTurn turn(*file);
    REQUIRE(turn.Take(kWait).ok());
    return turn.start();
  }
  std::optional<Offset> Committed() const { return group->committed(place.entry); }
  ShareHeader& header() const { return *file->mapped()->header; }
  fs::path Path() const {
    for (const fs::directory_entry& entry :
         fs::directory_iterator(dir.path() / "data" / "groups" / "billing")) {
      if (entry.path().filename().string().starts_with("share-")) return entry.path();
    }
    return {};
  }

  TempDir dir;
  std::shared_ptr<FailingStorage> storage = FailingStorage::Make();
  std::shared_ptr<log::Directory> directory;
  std::shared_ptr<GroupStore> store;
  std::shared_ptr<Group> group;
  ShareFile::Place place;
  std::shared_ptr<ShareFile> file;
};

void WriteAt(const fs::path& path, std::uint64_t at, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(at));
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string Hex(std::uint64_t word) {
  char bytes[8];
  std::memcpy(bytes, &word, 8);
  return absl::BytesToHexString(absl::string_view(bytes, 8));
}

}  // namespace

// ---- Words

TEST_CASE("Share: the bytes of a word are the documented ones") {
  CHECK(Hex(PackShareWord(7, {State::kAcquired, 2})) == "0240070000000000");
  CHECK(Hex(PackShareWord(7, {State::kAvailable, 2})) == "0220070000000000");
  CHECK(Hex(PackShareWord(kCommitMax, {State::kWornOut, 5})) == "05c0feffffffffff");
}

TEST_CASE("Share: a word says what was packed, of its own offset and of no other") {
  for (const Offset offset : {Offset{0}, Offset{1}, kShareSlots, kCommitMax}) {
    for (int state = 1; state <= 6; ++state) {
      const ShareWord word = {static_cast<State>(state), 3};
      CHECK(ReadShareWord(PackShareWord(offset, word), offset) == word);
      CHECK(ReadShareWord(PackShareWord(offset, word), offset + kShareSlots) == ShareWord());
    }
  }
}

TEST_CASE("Share: a word of no state, and an empty one, say that nothing was delivered") {
  CHECK(ReadShareWord(0, 0) == ShareWord());
  CHECK(ReadShareWord(5, 0) == ShareWord());
  CHECK(ReadShareWord(7 << 13 | 5, 0) == ShareWord());
}

TEST_CASE("Share: a record's key is known by a hash, and none is a value of its own") {
  internal::RecordParts parts = {.body = "ab", .key_bytes = 1};
  CHECK(ShareKeyOf(RecordView(parts)) == kNoKey);
  parts.flags = internal::RecordParts::kHasKey;
  const std::uint64_t a = ShareKeyOf(RecordView(parts));
  parts.key_bytes = 2;
  CHECK(a != ShareKeyOf(RecordView(parts)));
  CHECK(a > kNoKey);
}

TEST_CASE("Share: the bytes of a file are the documented ones") {
  Fixture f;
  f.AcceptTo(1);
  f.Hold(1, 9, 2);
  std::ifstream file(f.Path(), std::ios::binary);
  std::string bytes(kShareBytes, '\0');
  REQUIRE(file.read(bytes.data(), static_cast<std::streamsize>(bytes.size())));
  const auto hex = [&](std::size_t at, std::size_t n) {
    return absl::BytesToHexString(absl::string_view(bytes.data() + at, n));
  };
  CHECK(bytes.substr(0, 8) == "CWSHARE1");
  CHECK(hex(8, 8) == "0100000000080000");
  CHECK(std::memcmp(bytes.data() + 16, f.place.topic.id.data(), 16) == 0);
  CHECK(hex(32, 8) == "0000000000000000");
  CHECK(hex(80, 4) == "01000000");
  CHECK(hex(88, 16) == "01000000000000000100000000000000");
  // Slot 0: accepted after one delivery; slot 1: held until 9.
  CHECK(hex(4096, 8) == "0160000000000000");
  CHECK(hex(4128, 16) == "02400100000000000900000000000000");
  CHECK(hex(4148, 4) == "07000000");
}

// ---- Where it goes on

TEST_CASE("Share: every row of the table of starts") {
  CHECK(CaseOfStart(std::nullopt, -1, -1) == StartCase::kFirst);
  CHECK(CaseOfStart(std::nullopt, 5, 5) == StartCase::kCommitAgain);
  CHECK(CaseOfStart(5, -1, -1) == StartCase::kNew);
  CHECK(CaseOfStart(9, 5, 9) == StartCase::kMoved);
  CHECK(CaseOfStart(5, 5, 9) == StartCase::kAgreed);
  CHECK(CaseOfStart(5, 5, 5) == StartCase::kAgreed);
  CHECK(CaseOfStart(3, 5, 5) == StartCase::kReset);
  CHECK(CaseOfStart(7, 5, 9) == StartCase::kReset);
  CHECK(CaseOfStart(3, 5, 3) == StartCase::kReset);
}

TEST_CASE("Share: after a boot the larger of the header's start and the newest word's counts") {
  const Offset n = kShareSlots;
  CHECK(StartAfterBoot(std::nullopt, -1, -1, kEnd) == -1);
  CHECK(StartAfterBoot(5, 5, 7, kEnd) == 5);
  CHECK(StartAfterBoot(5, 9, 12, kEnd) == 9);
  CHECK(StartAfterBoot(9, 5, 12, kEnd) == 9);
  // The slot of offset 11 holds n + 11 by now: 11 was done with.
  CHECK(StartAfterBoot(5, 5, n + 11, kEnd) == 12);
  // What cannot be is not believed.
  CHECK(StartAfterBoot(5, kEnd + 1, -1, kEnd) == 5);
  CHECK(StartAfterBoot(5, -9, -1, kEnd) == 5);
  CHECK(StartAfterBoot(5, 5, kEnd, kEnd) == 5);
}

// ---- Turns

TEST_CASE("Share: start moves over what is done with, and is what the group has committed") {
  Fixture f;
  CHECK(f.Start() == 0);
  CHECK(f.Committed() == 0);
  f.Set(1, State::kArchived);
  f.Advance();
  CHECK(f.Start() == 0);
  f.Set(0, State::kAccepted);
  f.Advance();
  CHECK(f.Start() == 2);
  CHECK(f.Committed() == 2);
}

TEST_CASE("Share: a window ends 2,048 records after its start, or at the partition's end") {
  Fixture f;
  ShareTurn turn(*f.file);
  REQUIRE(turn.Take(kWait).ok());
  CHECK(turn.limit(kEnd) == kShareSlots);
  CHECK(turn.limit(5) == 5);
}

TEST_CASE("Share: a slot that is used again says nothing of the offset it was used for") {
  Fixture f;
  f.AcceptTo(kShareSlots + 5);
  f.Hold(kShareSlots + 5);
  CHECK(f.Look(5) == ShareWord());
  CHECK(f.Look(kShareSlots + 5) == ShareWord{State::kAcquired, 1});
  CHECK(f.Look(kShareSlots + 6) == ShareWord());
}

TEST_CASE("Share: a record is held until its deadline, and as long as its holder lives") {
  Fixture f;
  f.Hold(0);
  CHECK(f.IsHeld(0));
  f.Hold(1, os::MonotonicNanos() - 1);
  CHECK_FALSE(f.IsHeld(1));
  // Owners that do not live any more, and such as there cannot be.
  for (const std::uint32_t holder : {0x3fff0009u, 0u, 0xffffu}) {
    f.file->mapped()->slots[0].holder.store(holder);
    CHECK_FALSE(f.IsHeld(0));
  }
}

TEST_CASE("Share: a lease is that of one delivery to one consumer") {
  Fixture f;
  f.Hold(0);
  ShareTurn turn(*f.file);
  REQUIRE(turn.Take(kWait).ok());
  CHECK(turn.IsLease(0, 1, kMe));
  CHECK_FALSE(turn.IsLease(0, 2, kMe));
  CHECK_FALSE(turn.IsLease(0, 1, kMe + 1));
  CHECK_FALSE(turn.IsLease(1, 1, kMe));
  CHECK_FALSE(turn.IsLease(kShareSlots, 1, kMe));
}

TEST_CASE("Share: a lock that another thread has is waited for no longer than asked") {
  Fixture f;
  ShareTurn turn(*f.file);
  REQUIRE(turn.Take(kWait).ok());
  ShareTurn other(*f.file);
  CHECK(other.Take(1'000'000).code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("Share: a gap of any length is passed, but for what is held in it") {
  Fixture f;
  f.Hold(3);
  ShareTurn turn(*f.file);
  REQUIRE(turn.Take(kWait).ok());
  CHECK(turn.PassGap(0, 8000, kEnd, os::MonotonicNanos()).value() == kShareSlots);
  CHECK(turn.start() == 3);
  turn.Set(3, State::kAccepted, 1);
  REQUIRE(turn.Advance().ok());
  CHECK(turn.start() == kShareSlots);
  CHECK(turn.PassGap(kShareSlots, 8000, kEnd, os::MonotonicNanos()).value() == 8000);
  CHECK(turn.start() == 8000);
}

// ---- Kills

TEST_CASE("Share: a move of the start that was cut off at any step is finished") {
  Fixture f;
  f.AcceptTo(2);
  f.Set(7, State::kAccepted);
  SECTION("before the commit") { f.header().next_start.store(5); }
  SECTION("after the commit") {
    f.header().next_start.store(5);
    REQUIRE(f.group->Commit(f.place.entry, 5, false).ok());
  }
  f.Reopen();
  CHECK(f.Start() == 5);
  CHECK(f.Committed() == 5);
  CHECK(f.Look(7).state == State::kAccepted);
}

TEST_CASE("Share: a lock that a killed process had is taken over") {
  Fixture f;
  f.Hold(0);
  const std::uint32_t dead = 0x3fff0009;
  std::memcpy(static_cast<void*>(&f.header().lock), &dead, sizeof dead);
  CHECK(f.Start() == 0);
}

TEST_CASE("Share: a reset of the group forgets all words") {
  Fixture f;
  f.AcceptTo(10);
  REQUIRE(f.group->Commit(f.place.entry, 3, true).ok());
  CHECK(f.Start() == 3);
  CHECK(f.Look(3) == ShareWord());
}

TEST_CASE("Share: words outlive every handle") {
  Fixture f;
  f.Set(1, State::kAccepted);
  f.Reopen();
  CHECK(f.Look(1) == ShareWord{State::kAccepted, 1});
}

// ---- Boots

TEST_CASE("Share: what a flush pass made durable is there after a power cut") {
  Fixture f;
  f.AcceptTo(3);
  f.Set(4, State::kAccepted);
  f.Hold(5, kNever, 2);
  REQUIRE(f.Flush().ok());
  f.Set(6, State::kAccepted);
  f.CutPower();
  CHECK(f.Start() == 3);
  CHECK(f.Committed() == 3);
  CHECK(f.Look(4) == ShareWord{State::kAccepted, 1});
  CHECK(f.Look(6) == ShareWord());
  // Nobody holds anything after a boot, but it was delivered.
  CHECK(f.Look(5) == ShareWord{State::kAcquired, 2});
  CHECK_FALSE(f.IsHeld(5));
}

TEST_CASE("Share: a group that committed less than its words say goes on where they do") {
  Fixture f;
  f.AcceptTo(2);
  REQUIRE(f.Flush().ok());
  f.AcceptTo(kShareSlots + 5);
  REQUIRE(f.file->Sync().ok());  // and the power goes before the offsets are written
  f.CutPower();
  CHECK(f.Start() == kShareSlots + 5);
}

TEST_CASE("Share: slots that were used again on the disk do not undo what they were used for") {
  Fixture f;
  f.AcceptTo(2);
  REQUIRE(f.Flush().ok());
  f.AcceptTo(5);
  f.Hold(kShareSlots + 4);
  // The slots got to the disk, the header's page did not.
  const Offset start = 2;
  f.header().start.store(start);
  f.header().next_start.store(start);
  f.storage->WriteBack(f.Path());
  f.CutPower();
  CHECK(f.Start() == 5);
}

TEST_CASE("Share: a durable reset holds over a power cut, wherever it leads to") {
  Fixture f;
  f.AcceptTo(8);
  f.Set(9, State::kAccepted);
  REQUIRE(f.Flush().ok());
  const Offset to = GENERATE(0, 3, 8);
  REQUIRE(ForgetShareFile(*f.group, f.place.topic.id, f.place.partition).ok());
  REQUIRE(f.group->Commit(f.place.entry, to, true).ok());
  SECTION("with the file mapped") { CHECK(f.Start() == to); }
  SECTION("after a power cut") {
    REQUIRE(f.group->WriteDurable(f.group->Changes(), Group::Wait::kForTurn).ok());
    f.CutPower();
    CHECK(f.Start() == to);
  }
  CHECK(f.Look(to) == ShareWord());
  CHECK(f.Look(9) == ShareWord());
}

TEST_CASE("Share: acknowledgements that a flush made durable outlive commits that it did not") {
  Fixture f;
  f.AcceptTo(2);
  REQUIRE(f.Flush().ok());
  f.AcceptTo(5);
  REQUIRE(f.file->Sync().ok());
  f.AcceptTo(6);
  f.Set(8, State::kAccepted);
  REQUIRE(f.file->Sync().ok());
  f.CutPower();
  CHECK(f.Start() == 6);
  CHECK(f.Look(8) == ShareWord{State::kAccepted, 1});
}

TEST_CASE("Share: nothing is written where nothing has changed") {
  Fixture f;
  f.Set(0, State::kAccepted);
  REQUIRE(f.file->Sync().ok());
  f.storage->Forget();
  REQUIRE(f.file->Sync().ok());
  CHECK(f.storage->operations().empty());
}

TEST_CASE("Share: after a sync that failed another file has all of it, holders too") {
  Fixture f;
  f.Set(0, State::kAccepted, 3);
  f.Hold(1);
  std::shared_ptr<ShareFile> beside = ShareFile::Open(f.place, 0, kEnd, kWait).value();
  f.storage->Fail({.op = Op::kMapSync, .where = "share-"});
  REQUIRE(f.Flush().ok());
  {
    ShareTurn turn(*beside);
    REQUIRE(turn.Take(kWait).ok());
    CHECK(turn.IsLease(1, 1, kMe));
    CHECK(turn.IsHeld(1, os::MonotonicNanos()));
  }
  beside.reset();
  f.CutPower();
  CHECK(f.Look(0) == ShareWord{State::kAccepted, 3});
}

TEST_CASE("Share: one that died in its sync, or before its new file had the name, is no harm") {
  Fixture f;
  f.Set(1, State::kAccepted);
  f.Hold(2);
  const fs::path path = f.Path();
  const auto inode = f.header().inode;
  SECTION("in its sync") { f.header().syncing.store(1); }
  SECTION("before the rename") { f.header().state.store(ShareHeader::kReplaced); }
  REQUIRE(f.Flush().ok());
  CHECK(f.Look(1) == ShareWord{State::kAccepted, 1});
  CHECK(f.IsHeld(2));
  CHECK(f.header().inode != inode);
}

TEST_CASE("Share: a file whose header is damaged at any byte is made anew") {
  for (const std::uint64_t at : {0u, 8u, 12u, 20u, 32u, 40u, 48u, 56u}) {
    Fixture f;
    f.AcceptTo(2);
    f.Set(3, State::kAccepted);
    const fs::path path = f.Path();
    f.Close();
    WriteAt(path, at, "x");
    f.Open();
    INFO("byte " << at);
    CHECK(f.Start() == 2);
    CHECK(f.Look(3) == ShareWord());
  }
}

TEST_CASE("Share: a file that was cut is made anew") {
  Fixture f;
  f.AcceptTo(2);
  const fs::path path = f.Path();
  f.Close();
  fs::resize_file(path, 100);
  f.Open();
  CHECK(f.Start() == 2);
}

TEST_CASE("Share: words of any bytes are believed only where they name their offset") {
  Fixture f;
  f.Set(0, State::kAvailable, 2);
  const fs::path path = f.Path();
  f.Close();
  WriteAt(path, kShareHeaderBytes, std::string(kShareBytes - kShareHeaderBytes, '\xff'));
  f.Open();
  for (Offset o = 0; o < kShareSlots; ++o) REQUIRE(f.Look(o) == ShareWord());
  ShareTurn turn(*f.file);
  REQUIRE(turn.Take(kWait).ok());
  CHECK(turn.Advance().ok());
  CHECK(turn.start() == 0);
}

TEST_CASE("Share: a file that was copied with its directory holds nothing for anybody") {
  Fixture f;
  f.Set(0, State::kAccepted);
  f.Hold(1);
  f.Close();
  const fs::path path = f.Path();
  fs::copy_file(path, path.string() + ".copy");
  fs::rename(path.string() + ".copy", path);
  f.Open();
  CHECK(f.Look(0) == ShareWord{State::kAccepted, 1});
  CHECK_FALSE(f.IsHeld(1));
}

TEST_CASE("Share: a directory's last opener makes durable what others left") {
  Fixture f;
  f.Set(2, State::kAccepted);
  REQUIRE(SyncShareFiles(*f.directory->context()).ok());
  f.CutPower();
  CHECK(f.Look(2) == ShareWord{State::kAccepted, 1});
}

TEST_CASE("Share: ordinary members and those of a share group keep each other from a group") {
  Fixture f;
  const auto join = [&] {
    return Member::Join(f.group, *f.directory, {.topics = {f.place.topic.name}},
                        BuiltInAssignor("sticky"));
  };
  {
    const auto member = join().value();
    CHECK(JoinShare(*f.group).status().code() == absl::StatusCode::kFailedPrecondition);
  }
  const auto first = JoinShare(*f.group).value();
  const auto second = JoinShare(*f.group).value();
  CHECK(join().status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(f.group->MemberSlots().empty());
  CHECK(f.group->HasMember());
  CHECK(f.store->Delete("billing").code() == absl::StatusCode::kFailedPrecondition);
}

}  // namespace cordwood::group
