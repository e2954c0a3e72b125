// Committed offsets: the durable image, the live page, members, and what a power cut leaves.

#include "cordwood/group/offsets.h"

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/escaping.h"
#include "cordwood/group/membership.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/checksum.h"
#include "tests/catch.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood::group {
namespace {

namespace fs = std::filesystem;
using namespace cordwood::testing;
using Op = FailingStorage::Op;
using Wait = Group::Wait;

os::Bits128 SomeId() {
  os::Bits128 id;
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::uint8_t>(i);
  return id;
}

// An entry whose slots hold 41 and, the newest, 42.
OffsetEntry EntryOf41And42() {
  OffsetEntry entry = MakeEntry(SomeId(), "orders", 3);
  WriteSlot(entry, 41);
  WriteSlot(entry, 42);
  return entry;
}

std::optional<Offset> Read(const OffsetEntry& bytes) {
  const std::optional<OffsetEntry> entry = ReadEntry(bytes);
  const int newest = entry ? NewestSlot(*entry) : -1;
  if (newest < 0) return std::nullopt;
  return entry->slots[newest].offset;
}

std::string Hex(const void* bytes, std::size_t size) {
  return absl::BytesToHexString(absl::string_view(static_cast<const char*>(bytes), size));
}

// A directory with a topic "orders", and a group "billing" in it.
class Fixture {
 public:
  explicit Fixture(int partitions = 3) : partitions_(partitions) { Open(); }

  void Open() {
    RecoveryReport report;
    directory = log::Directory::Open(dir.path() / "data", {.storage = storage}, {}, report).value();
    orders = directory->OpenOrCreateTopic("orders", {.partitions = partitions_}).value();
    store = GroupStore::Open(directory->context()).value();
    group = store->OpenGroup("billing", true).value();
    entries = group->Entries(Orders(), true).value();
  }
  // Without a word to the durable image: nobody writes it but WriteDurable.
  void Close() {
    group.reset();
    store.reset();
    orders.reset();
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

  TopicRef Orders() const { return {orders->id(), "orders", orders->partitions()}; }
  absl::Status Commit(int partition, Offset offset, bool force = false) {
    return group->Commit(entries[static_cast<std::size_t>(partition)], offset, force);
  }
  std::optional<Offset> Committed(int partition) const {
    return group->committed(entries[static_cast<std::size_t>(partition)]);
  }
  std::shared_ptr<Member> Join() const {
    return Member::Join(group, *directory, {.topics = {"orders"}}, BuiltInAssignor("sticky"))
        .value();
  }
  absl::Status MakeDurable() { return group->WriteDurable(group->Changes(), Wait::kForTurn); }
  void Append(int partition) {
    REQUIRE(orders->OpenLog(partition).value()->Append({.value = "x"}, {}).ok());
  }
  fs::path File(const std::string& name) const {
    return dir.path() / "data" / "groups" / "billing" / name;
  }

  TempDir dir;
  std::shared_ptr<FailingStorage> storage = FailingStorage::Make();
  std::shared_ptr<log::Directory> directory;
  std::shared_ptr<log::TopicFiles> orders;
  std::shared_ptr<GroupStore> store;
  std::shared_ptr<Group> group;
  std::vector<int> entries;

 private:
  const int partitions_;
};

void FlipByte(const fs::path& path, std::uint64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const char byte = static_cast<char>(file.get() ^ 0x5a);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

}  // namespace

// ---- The durable image

TEST_CASE("Offsets: the bytes of an entry are the documented ones") {
  const OffsetEntry entry = EntryOf41And42();
  const auto* bytes = reinterpret_cast<const char*>(&entry);
  CHECK(Hex(bytes, 32) == "000102030405060708090a0b0c0d0e0f03000000060000006f72646572730000");
  CHECK(Hex(bytes + 384, 36) ==
        "01000000000000002900000000000000000102030405060708090a0b0c0d0e0f03000000");
  CHECK(Hex(bytes + 448, 36) ==
        "02000000000000002a00000000000000000102030405060708090a0b0c0d0e0f03000000");
  for (const auto& [at, from, size] :
       {std::array<std::size_t, 3>{376, 0, 376}, {384 + 56, 384, 56}, {448 + 56, 448, 56}}) {
    const std::uint64_t checksum = os::Hash64(bytes + from, size);
    CHECK(std::memcmp(bytes + at, &checksum, 8) == 0);
  }
  CHECK(Hex(bytes + 440, 8) == "7e43a76d3985a3d0");
  CHECK(Hex(bytes + 376, 8) == "6da4e784ae0bab6d");
}

TEST_CASE("Offsets: the file has its header, then the entries, at the documented places") {
  Fixture f;
  REQUIRE(f.Commit(1, 0).ok());
  REQUIRE(f.MakeDurable().ok());
  std::ifstream file(f.File("offsets"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  REQUIRE(bytes.size() == 4096 + 3 * 512);
  CHECK(bytes.substr(0, 8) == "CWOFFST1");
  CHECK(Hex(bytes.data() + 8, 8) == "0100000000020000");
  CHECK(bytes.substr(4096 + 512 + 24, 6) == "orders");
  CHECK(Hex(bytes.data() + 4096 + 512 + 384, 8) == "0100000000000000");
}

TEST_CASE("Offsets: a torn write of a slot leaves the old commit or the new one, at every byte") {
  const OffsetEntry before = EntryOf41And42();
  OffsetEntry after = before;
  WriteSlot(after, 43);
  const std::size_t slot_bytes = sizeof before.slots[0];
  const std::size_t at = std::memcmp(&before.slots[0], &after.slots[0], slot_bytes) != 0 ? 0 : 1;
  for (std::size_t cut = 0; cut <= slot_bytes; ++cut) {
    CAPTURE(cut);
    OffsetEntry torn = before;  // the new slot's first bytes, then its last
    std::memcpy(&torn.slots[at], &after.slots[at], cut);
    const std::optional<Offset> first = Read(torn);
    CHECK((first == 42 || first == 43));
    torn = after;
    std::memcpy(&torn.slots[at], &before.slots[at], cut);
    const std::optional<Offset> last = Read(torn);
    CHECK((last == 42 || last == 43));
  }
}

TEST_CASE("Offsets: a damaged byte of a slot costs that slot, at every byte of both") {
  for (std::size_t byte = 0; byte < 64; ++byte) {
    for (const std::size_t slot : {0U, 1U}) {
      CAPTURE(byte, slot);
      OffsetEntry entry = EntryOf41And42();
      reinterpret_cast<std::uint8_t*>(&entry.slots[slot])[byte] ^= 0x10;
      CHECK(Read(entry) == (slot == 1 ? 41 : 42));
    }
  }
}

TEST_CASE("Offsets: a damaged name costs the name and no commit, at every byte of the entry") {
  for (std::size_t byte = 0; byte < 384; ++byte) {
    CAPTURE(byte);
    OffsetEntry bytes = EntryOf41And42();
    reinterpret_cast<std::uint8_t*>(&bytes)[byte] ^= 0x10;
    const std::optional<OffsetEntry> entry = ReadEntry(bytes);
    REQUIRE(entry.has_value());
    CHECK(entry->topic_id == SomeId());
    CHECK(entry->partition == 3);
    CHECK(Read(bytes) == 42);
  }
}

TEST_CASE("Offsets: zeros are no entry, and an entry without a slot has no commit") {
  CHECK_FALSE(ReadEntry(OffsetEntry()).has_value());
  CHECK(ReadEntry(MakeEntry(SomeId(), "orders", 0)).has_value());
  CHECK_FALSE(Read(MakeEntry(SomeId(), "orders", 0)).has_value());
}

TEST_CASE("Offsets: whatever a slot's sequence is, the next commit counts") {
  for (const std::uint64_t sequence :
       {std::uint64_t{1} << 63, ~std::uint64_t{1}, ~std::uint64_t{0}}) {
    CAPTURE(sequence);
    OffsetEntry entry = MakeEntry(SomeId(), "orders", 3);
    WriteSlot(entry, 41);
    OffsetSlot& slot = entry.slots[0];
    slot.sequence = sequence;
    slot.checksum = os::Hash64(&slot, offsetof(OffsetSlot, checksum));
    CHECK(Read(entry) == 41);
    for (Offset offset = 42; offset < 46; ++offset) {
      WriteSlot(entry, offset);
      CHECK(Read(entry) == offset);
    }
  }
}

TEST_CASE("Offsets: a slot of another topic or partition does not count") {
  OffsetEntry entry = MakeEntry(SomeId(), "orders", 3);
  OffsetEntry other = MakeEntry(SomeId(), "orders", 4);
  WriteSlot(other, 7);
  entry.slots[0] = other.slots[0];
  CHECK_FALSE(Read(entry).has_value());
}

// ---- Committing

TEST_CASE("Offsets: a commit is there for the next open of the same boot, durable or not") {
  Fixture f;
  REQUIRE(f.Commit(1, 7).ok());
  CHECK(f.Committed(1) == 7);
  CHECK_FALSE(f.Committed(0).has_value());
  f.Reopen();
  CHECK(f.Committed(1) == 7);
}

TEST_CASE("Offsets: a commit of another open is seen at once") {
  Fixture f;
  RecoveryReport report;
  const auto other =
      log::Directory::Open(f.dir.path() / "data", {.storage = f.storage}, {}, report).value();
  const auto group =
      GroupStore::Open(other->context()).value()->OpenGroup("billing", false).value();
  const std::vector<int> entries = group->Entries(f.Orders(), false).value();
  REQUIRE(f.Commit(2, 5).ok());
  CHECK(group->committed(entries[2]) == 5);
}

TEST_CASE("Offsets: a commit goes back only when it is forced") {
  Fixture f;
  REQUIRE(f.Commit(0, 7).ok());
  const absl::Status back = f.Commit(0, 6);
  CHECK(back.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(std::string(back.message()).find("force") != std::string::npos);
  CHECK(f.Committed(0) == 7);
  CHECK(f.Commit(0, 6, true).ok());
  CHECK(f.Committed(0) == 6);
}

TEST_CASE("Offsets: an offset that no word can hold is kInvalidArgument") {
  Fixture f;
  CHECK(f.Commit(0, -1).code() == absl::StatusCode::kInvalidArgument);
  CHECK(f.Commit(0, kCommitMax + 1).code() == absl::StatusCode::kInvalidArgument);
  CHECK(f.Commit(0, kCommitMax).ok());
}

TEST_CASE("Offsets: a topic with the same name and another id has nothing committed") {
  Fixture f;
  REQUIRE(f.Commit(0, 7).ok());
  f.orders.reset();
  REQUIRE(f.directory->DeleteTopic("orders").ok());
  f.Reopen();
  CHECK_FALSE(f.Committed(0).has_value());
}

TEST_CASE("Offsets: a copy of a directory has what was durable, not the live page") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  REQUIRE(f.MakeDurable().ok());
  REQUIRE(f.Commit(0, 9).ok());
  f.Close();
  fs::copy(f.dir.path() / "data", f.dir.path() / "copy", fs::copy_options::recursive);
  RecoveryReport report;
  const auto copy = log::Directory::Open(f.dir.path() / "copy", {}, {}, report).value();
  const auto orders = copy->OpenTopic("orders").value();
  const auto group = GroupStore::Open(copy->context()).value()->OpenGroup("billing", false).value();
  CHECK(group->committed(group->Entries({orders->id(), "orders", 3}, false).value()[0]) == 5);
  f.Open();
}

TEST_CASE("Offsets: threads that make a group and its entries at once agree on them") {
  TempDir dir;
  RecoveryReport report;
  const auto directory = log::Directory::Open(dir.path() / "data", {}, {}, report).value();
  const auto orders = directory->CreateTopic("orders", {.partitions = 100}).value();
  const TopicRef topic{orders->id(), "orders", 100};
  std::vector<std::vector<int>> entries(4);
  std::vector<std::thread> threads;
  for (std::vector<int>& own : entries) {
    threads.emplace_back([&] {
      const auto store = GroupStore::Open(directory->context()).value();
      own = store->OpenGroup("billing", true).value()->Entries(topic, true).value();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<int>& own : entries) CHECK(own == entries[0]);
  CHECK(entries[0].size() == 100);
}

TEST_CASE("Offsets: commits of several threads keep the largest") {
  Fixture f;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (Offset i = 0; i < 1000; ++i) f.Commit(0, 4 * i + t).IgnoreError();
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(f.Committed(0) == 3999);
}

// ---- Durability

TEST_CASE("Offsets: a power cut leaves what was durable") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  REQUIRE(f.Commit(1, 6).ok());
  REQUIRE(f.MakeDurable().ok());
  REQUIRE(f.Commit(0, 9).ok());
  f.CutPower();
  CHECK(f.Committed(0) == 5);
  CHECK(f.Committed(1) == 6);
  CHECK_FALSE(f.Committed(2).has_value());
}

TEST_CASE("Offsets: more entries than are written at a time are all durable") {
  Fixture f(300);
  for (int p = 0; p < 300; p += 7) REQUIRE(f.Commit(p, p + 1).ok());
  REQUIRE(f.MakeDurable().ok());
  for (int p = 0; p < 300; p += 3) REQUIRE(f.Commit(p, p + 2).ok());
  REQUIRE(f.MakeDurable().ok());
  CHECK(f.group->Changes().empty());
  f.CutPower();
  for (int p = 0; p < 300; ++p) {
    CAPTURE(p);
    const std::optional<Offset> expected = p % 3 == 0   ? std::optional<Offset>(p + 2)
                                           : p % 7 == 0 ? std::optional<Offset>(p + 1)
                                                        : std::nullopt;
    CHECK(f.Committed(p) == expected);
  }
}

TEST_CASE("Offsets: a pass writes what was committed when it began, not what came later") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  const GroupStore::Snapshot snapshot = f.store->Take();
  REQUIRE(f.Commit(0, 9).ok());
  REQUIRE(f.store->WriteDurable(snapshot).ok());
  f.CutPower();
  CHECK(f.Committed(0) == 5);
}

TEST_CASE("Offsets: a pass that is late takes nothing back that another has written") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  const GroupStore::Snapshot late = f.store->Take();
  REQUIRE(f.Commit(0, 9).ok());
  REQUIRE(f.MakeDurable().ok());
  REQUIRE(f.store->WriteDurable(late).ok());
  f.CutPower();
  CHECK(f.Committed(0) == 9);
}

TEST_CASE("Offsets: a pass that is late does not undo a commit that was forced back") {
  Fixture f;
  REQUIRE(f.Commit(0, 9).ok());
  const GroupStore::Snapshot late = f.store->Take();
  REQUIRE(f.Commit(0, 5, true).ok());
  REQUIRE(f.MakeDurable().ok());
  REQUIRE(f.store->WriteDurable(late).ok());
  f.CutPower();
  CHECK(f.Committed(0) == 5);
}

TEST_CASE("Offsets: a commit that was forced back is durable as such") {
  Fixture f;
  REQUIRE(f.Commit(0, 9).ok());
  REQUIRE(f.MakeDurable().ok());
  REQUIRE(f.Commit(0, 5, true).ok());
  REQUIRE(f.MakeDurable().ok());
  f.CutPower();
  CHECK(f.Committed(0) == 5);
}

TEST_CASE("Offsets: after a failed sync a new file takes the old one's place") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  REQUIRE(f.MakeDurable().ok());
  f.storage->Fail({.op = Op::kFileSync, .where = "billing/offsets"});
  REQUIRE(f.Commit(1, 6).ok());
  CHECK(f.MakeDurable().ok());
  f.CutPower();
  CHECK(f.Committed(0) == 5);
  CHECK(f.Committed(1) == 6);
}

TEST_CASE("Offsets: where no sync succeeds nothing is durable, and the next pass makes it so") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  f.storage->Fail({.op = Op::kFileSync, .times = FailingStorage::kAlways});
  CHECK_FALSE(f.MakeDurable().ok());
  CHECK(f.group->Changes().size() == 1);
  f.storage->Heal();
  CHECK(f.MakeDurable().ok());
  f.CutPower();
  CHECK(f.Committed(0) == 5);
}

TEST_CASE("Offsets: a full disk is a Status, and what is committed stays") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  const auto users = f.directory->CreateTopic("users", {.partitions = 2}).value();
  f.storage->Fail(
      {.op = Op::kAllocate, .status = absl::ResourceExhaustedError("full"), .where = "billing"});
  CHECK(f.group->Entries({users->id(), "users", 2}, true).status().code() ==
        absl::StatusCode::kResourceExhausted);
  CHECK(f.Committed(0) == 5);
  CHECK(f.group->Entries({users->id(), "users", 2}, true).ok());
}

TEST_CASE("Offsets: a damaged slot on the disk costs the newest commit after a boot") {
  Fixture f;
  for (const Offset offset : {5, 6}) {
    REQUIRE(f.Commit(0, offset).ok());
    REQUIRE(f.MakeDurable().ok());
  }
  f.Close();
  f.storage->PowerCut();
  FlipByte(f.File("offsets"), 4096 + 448 + 8);
  f.Open();
  CHECK(f.Committed(0) == 5);
}

TEST_CASE("Offsets: a damaged header is kDataLoss that names the file") {
  Fixture f;
  f.Close();
  FlipByte(f.File("offsets"), 9);
  RecoveryReport report;
  f.directory =
      log::Directory::Open(f.dir.path() / "data", {.storage = f.storage}, {}, report).value();
  f.store = GroupStore::Open(f.directory->context()).value();
  const absl::Status status = f.store->OpenGroup("billing", true).status();
  CHECK(status.code() == absl::StatusCode::kDataLoss);
  CHECK(std::string(status.message()).find("billing/offsets") != std::string::npos);
  CHECK(f.store->Delete("billing").ok());
}

// ---- Texts

TEST_CASE("Offsets: a text belongs to the commit that it came with") {
  Fixture f;
  const int entry = f.entries[1];
  CHECK(f.group->Metadata(entry).value().empty());
  REQUIRE(f.group->WriteMetadata(entry, 7, "host-1").ok());
  CHECK(f.group->Metadata(entry).value().empty());
  REQUIRE(f.Commit(1, 7).ok());
  CHECK(f.group->Metadata(entry).value() == "host-1");
  REQUIRE(f.Commit(1, 8).ok());
  CHECK(f.group->Metadata(entry).value().empty());
}

TEST_CASE("Offsets: a text is durable with its commit, and 4,096 bytes at most") {
  Fixture f;
  const std::string text(kMetadataBytesMax, 'm');
  CHECK(f.group->WriteMetadata(f.entries[0], 7, text + "m").code() ==
        absl::StatusCode::kInvalidArgument);
  REQUIRE(f.group->WriteMetadata(f.entries[0], 7, text).ok());
  REQUIRE(f.Commit(0, 7).ok());
  REQUIRE(f.MakeDurable().ok());
  f.CutPower();
  CHECK(f.group->Metadata(f.entries[0]).value() == text);
}

// ---- Members and administration

TEST_CASE("Offsets: a group with a member is not deleted, one without is gone with all it had") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  auto member = f.Join();
  CHECK(f.store->Delete("billing").code() == absl::StatusCode::kFailedPrecondition);
  member.reset();
  CHECK(f.store->Delete("billing").ok());
  CHECK(f.store->List().empty());
  CHECK_FALSE(f.group->is_current());
  CHECK(f.Commit(0, 6).code() == absl::StatusCode::kFailedPrecondition);
  CHECK(f.store->Delete("billing").code() == absl::StatusCode::kNotFound);
  f.Reopen();
  CHECK_FALSE(f.Committed(0).has_value());
}

TEST_CASE("Offsets: a description has every partition, with all that is there as the lag") {
  Fixture f;
  f.Append(0);
  f.Append(0);
  f.Append(1);
  REQUIRE(f.Commit(0, 1).ok());
  const GroupDescription group = f.store->Describe("billing", *f.directory).value();
  CHECK(group.state == "Empty");
  REQUIRE(group.partitions.size() == 3);
  CHECK(group.partitions[0].committed == 1);
  CHECK(group.partitions[0].lag == 1);
  CHECK_FALSE(group.partitions[1].committed.has_value());
  CHECK(group.partitions[1].lag == 1);
  CHECK(group.partitions[2].lag == 0);
  const auto member = f.Join();
  CHECK(f.store->Describe("billing", *f.directory).value().state == "PreparingRebalance");
  CHECK(member->Take().size() == 3);
  CHECK(f.store->Describe("billing", *f.directory).value().state == "Stable");
}

TEST_CASE("Offsets: a description leaves out topics that were deleted") {
  Fixture f;
  f.orders.reset();
  REQUIRE(f.directory->DeleteTopic("orders").ok());
  CHECK(f.store->Describe("billing", *f.directory).value().partitions.empty());
  CHECK(f.store->Describe("nobody", *f.directory).status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("Offsets: a name of a group that is none is kInvalidArgument") {
  Fixture f;
  for (const std::string name : {"", ".hidden", "../orders", "a/b"}) {
    CAPTURE(name);
    CHECK(f.store->OpenGroup(name, true).status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(f.store->Delete(name).code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("Offsets: the first opener sweeps what was left half made") {
  Fixture f;
  fs::create_directory(f.dir.path() / "data" / "groups" / ".new-1");
  fs::create_directory(f.dir.path() / "data" / "groups" / ".deleted-1");
  std::ofstream(f.dir.path() / "data" / "groups" / ".deleted-1" / "offsets") << "x";
  REQUIRE(f.store->Sweep().ok());
  CHECK_FALSE(fs::exists(f.dir.path() / "data" / "groups" / ".new-1"));
  CHECK_FALSE(fs::exists(f.dir.path() / "data" / "groups" / ".deleted-1"));
  CHECK(f.store->List() == std::vector<std::string>{"billing"});
}

TEST_CASE("Offsets: a read-only open sees the live page, and after a boot the durable image") {
  Fixture f;
  REQUIRE(f.Commit(0, 5).ok());
  REQUIRE(f.MakeDurable().ok());
  REQUIRE(f.Commit(0, 9).ok());
  const auto committed = [&] {
    RecoveryReport report;
    const auto directory =
        log::Directory::Open(f.dir.path() / "data", {.read_only = true, .storage = f.storage}, {},
                             report)
            .value();
    const auto group =
        GroupStore::Open(directory->context()).value()->OpenGroup("billing", false).value();
    const auto orders = directory->OpenTopic("orders").value();
    return group->committed(group->Entries({orders->id(), "orders", 3}, false).value()[0]);
  };
  CHECK(committed() == 9);
  f.Close();
  f.storage->PowerCut();
  CHECK(committed() == 5);
  f.Open();
}

}  // namespace cordwood::group
