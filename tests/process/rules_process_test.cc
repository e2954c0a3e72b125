// The rules of the protocol that need processes which are killed, stopped, limited or forked.
// The table of all rules is in rules_test.cc.

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cordwood/log/cursor.h"
#include "cordwood/os/clock.h"
#include "cordwood/segment/format.h"
#include "cordwood/segment/frame.h"
#include "tests/catch.h"
#include "tests/support/child.h"
#include "tests/support/failing_storage.h"
#include "tests/support/log_fixture.h"

namespace cordwood::rules_process_test {
namespace {

using testing::Child;
using testing::FailingStorage;
using testing::LogFixture;
using Values = std::vector<std::string>;

constexpr std::uint32_t kYes = 1;
constexpr std::uint32_t kNo = 2;

// What a process needs to open the log of a LogFixture that was made after the fork.
struct Address {
  char path[240];
  os::Bits128 topic_id;

  static Address Of(const LogFixture& log) {
    Address address = {};
    const std::string path = log.folder().parent_path().string();
    std::copy_n(path.c_str(), std::min(path.size() + 1, sizeof address.path), address.path);
    address.topic_id = log.files().topic_id;
    return address;
  }
};

std::shared_ptr<log::Log> OpenAt(const Address& address,
                                 std::shared_ptr<Storage> storage = Storage::OperatingSystem()) {
  std::shared_ptr<os::Folder> root = storage->OpenFolder(address.path, {}).value();
  auto context = std::make_shared<log::Context>(storage, root);
  context->live = log::LiveFlag::Create().value();
  context->owners = os::LockOwners::Claim(*root, 0).value();
  context->boot_id = storage->BootId().value();
  segment::PartitionFiles files;
  files.root = root;
  files.folder = "0";
  files.topic_id = address.topic_id;
  files.name = std::make_shared<const internal::PartitionName>(internal::PartitionName{"test", 0});
  auto control =
      log::ControlFile::Open(*root, "control", address.topic_id, os::Access::kReadWrite).value();
  const log::LogConfig config = {.segment_bytes = 64 << 10,
                                 .segment_age_ns = std::numeric_limits<std::int64_t>::max()};
  return log::Log::Open(std::move(context), files, config, std::move(control), 0).value();
}

std::shared_ptr<log::Log> OpenThatOf(const Child& parent) {
  return OpenAt(parent.Receive<Address>());
}

bool Names(const absl::Status& status, pid_t pid) {
  return status.message().find("process " + std::to_string(pid)) != std::string::npos;
}

// Appends a record of 10,000 bytes, and stays in its turn with half of it written.
void StayInTurn(Child& parent) {
  const auto log = OpenThatOf(parent);
  const auto fill = [&](std::span<std::byte> out) {
    std::memset(out.data(), 'g', out.size());
    parent.Tell(kYes);
    parent.Wait();
    return out.size();
  };
  parent.Tell(log->AppendInPlace(10'000, {}, fill, {}).ok() ? kYes : kNo);
}

}  // namespace

TEST_CASE("Rule 3: a stopped writer is named when the deadline has passed, and never robbed") {
  Child child(StayInTurn);
  LogFixture log;
  child.Send(Address::Of(log));
  REQUIRE(child.Wait() == kYes);
  child.Stop();
  const std::int64_t before = os::MonotonicNanos();
  const absl::Status status =
      log->Append({.value = "x"}, {.timeout = absl::Milliseconds(100)}).status();
  const std::int64_t waited = os::MonotonicNanos() - before;
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK(Names(status, child.pid()));
  CHECK(waited >= 100'000'000);
  CHECK(log->end_offset() == 0);
  child.Continue();
  child.Tell(kYes);
  CHECK(child.Wait() == kYes);
  CHECK(log.Append("x") == 1);
  CHECK(log.Values() == Values{std::string(10'000, 'g'), "x"});
}

TEST_CASE("Rule 5: what a killed writer had written is zeroed before the next record") {
  Child child(StayInTurn);
  LogFixture log;
  log.Append("before");
  child.Send(Address::Of(log));
  REQUIRE(child.Wait() == kYes);
  child.Kill();
  CHECK(log.Bytes().find("gggg") != std::string::npos);
  CHECK(log.Append("after") == 1);
  CHECK(log.Bytes().find("gggg") == std::string::npos);
  CHECK(log.Values() == Values{"before", "after"});
  log.KillAndOpen();
  CHECK(log.Values() == Values{"before", "after"});
}

TEST_CASE("Rule 5: the next first opener zeroes what a killed writer had written") {
  Child child(StayInTurn);
  LogFixture log;
  log.Append("before");
  child.Send(Address::Of(log));
  REQUIRE(child.Wait() == kYes);
  child.Kill();
  CHECK(log.KillAndOpen().believed);
  CHECK(log.Bytes().find("gggg") == std::string::npos);
  CHECK(log.Values() == Values{"before"});
}

TEST_CASE("Rule 7: a sleeper that is killed leaves a flag, which the next append takes away") {
  Child child([](Child& parent) {
    const auto log = OpenThatOf(parent);
    parent.Tell(kYes);
    log->WaitForEnd(1'000'000, absl::InfiniteDuration()).IgnoreError();
  });
  LogFixture log;
  child.Send(Address::Of(log));
  REQUIRE(child.Wait() == kYes);
  while (log.block().attention.load() == 0) sched_yield();
  child.Kill();
  const std::uint32_t bell = log.block().bell.load();
  log.AppendMany(10);
  CHECK(log.block().attention.load() == 0);
  CHECK(log.block().bell.load() == bell + 1);
}

TEST_CASE("Rule 14: a process that is killed inside a sync has retired the file") {
  Child child([](Child& parent) {
    const auto storage = FailingStorage::Make();
    const auto log = OpenAt(parent.Receive<Address>(), storage);
    storage->Before([&](const FailingStorage::Operation& operation) {
      if (operation.op != FailingStorage::Op::kMapSync) return;
      parent.Tell(kYes);
      parent.Wait();
    });
    log->Flush().IgnoreError();
  });
  LogFixture log;
  log.AppendMany(5);
  REQUIRE(log->Flush().ok());
  log.AppendMany(5, "w");
  child.Send(Address::Of(log));
  REQUIRE(child.Wait() == kYes);
  // While it lives, nobody takes the sync from it, and nobody waits for longer than asked.
  child.Stop();
  const absl::Status late = log->FlushTo(10, absl::Milliseconds(50));
  CHECK(absl::IsDeadlineExceeded(late));
  CHECK(Names(late, child.pid()));
  CHECK(log.Append("meanwhile") == 10);
  child.Kill();
  REQUIRE(log->Flush().ok());
  CHECK(log->durable_offset() == 11);
  CHECK(log.Bases() == std::vector<Offset>{0, 5});
  CHECK(log.Values().size() == 11);
  CHECK(log.Gaps().empty());
}

TEST_CASE("Rule 29: past the limit of a file's size an append fails, and no signal comes") {
  Child child([](Child& parent) {
    const auto log = OpenThatOf(parent);
    const rlimit limit = {.rlim_cur = 20'000, .rlim_max = RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) parent.Tell(kNo);
    absl::Status status;
    std::uint32_t appended = 0;
    while (status.ok() && appended < 1000) {
      status = log->Append({.value = std::string(1000, 'x')}, {}).status();
      appended += status.ok();
    }
    parent.Tell(absl::IsResourceExhausted(status) ? kYes : kNo);
    parent.Tell(appended);
    const rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &none);
    parent.Tell(log->Append({.value = "goes on"}, {}).ok() ? kYes : kNo);
  });
  LogFixture log;
  child.Send(Address::Of(log));
  CHECK(child.Wait() == kYes);
  const std::uint32_t appended = child.Wait();
  CHECK(appended >= 5);
  CHECK(appended < 20);
  CHECK(child.Wait() == kYes);
  CHECK(log.Values().size() == appended + 1);
  CHECK(log.Values().back() == "goes on");
}

TEST_CASE("Rule 40: a child of a fork is told to open its own") {
  LogFixture log;
  log.Append("parent");
  const Address address = Address::Of(log);
  Child child([&](Child& parent) {
    std::vector<absl::Status> inherited;
    const std::vector<Record> batch(2);
    const auto fill = [](std::span<std::byte>) -> std::size_t { return 0; };
    inherited.push_back(log->Append({.value = "x"}, {}).status());
    inherited.push_back(log->AppendBatch(batch, {}).status());
    inherited.push_back(log->AppendInPlace(10, {}, fill, {}).status());
    inherited.push_back(log->AppendInPlace(10'000, {}, fill, {}).status());
    inherited.push_back(log->Trim(1));
    inherited.push_back(log->Flush());
    inherited.push_back(log->WaitForEnd(2, absl::Seconds(1)));
    inherited.push_back(log->WaitForDurable(2, absl::Seconds(1)));
    inherited.push_back(log->OffsetForTime(0).status());
    inherited.push_back(log->PrepareAhead());
    inherited.push_back(log->TryFlush());
    inherited.push_back(log->status());
    for (const absl::Status& status : inherited) {
      parent.Tell(absl::IsFailedPrecondition(status) &&
                          status.message().find("fork") != std::string::npos
                      ? kYes
                      : kNo);
    }
    parent.Tell(OpenAt(address)->Append({.value = "child"}, {}).ok() ? kYes : kNo);
  });
  for (int call = 0; call < 13; ++call) {
    CAPTURE(call);
    CHECK(child.Wait() == kYes);
  }
  child.Kill();
  CHECK(log.Append("parent again") == 2);
  CHECK(log.Values() == Values{"parent", "child", "parent again"});
}

TEST_CASE("Rule 42: a process that scribbles into the files makes no reader read outside") {
  Child child([](Child& parent) {
    const Address address = parent.Receive<Address>();
    const auto at = parent.Receive<std::uint64_t>();
    const std::string path = std::string(address.path) + "/0/" + segment::SegmentFileName(0);
    const int fd = open(path.c_str(), O_RDWR);
    void* map = mmap(nullptr, 64 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return;
    parent.Tell(kYes);
    // The lengths of one record, there and back as fast as can be.
    auto* value = reinterpret_cast<std::atomic<std::uint32_t>*>(static_cast<char*>(map) + at + 32);
    auto* frame = reinterpret_cast<std::atomic<std::uint32_t>*>(static_cast<char*>(map) + at + 4);
    const std::uint32_t value_bytes = *value, frame_bytes = *frame;
    for (;;) {
      *value = 0x7ffffff0;
      *value = value_bytes;
      *frame = 0x7ffffff0 | (frame_bytes & 7);
      *frame = frame_bytes;
    }
  });
  LogFixture log;
  log.AppendMany(20);
  log.Append("scribbled over");
  log.AppendMany(20, "w");
  child.Send(Address::Of(log));
  child.Send(log.PositionOf(20));
  REQUIRE(child.Wait() == kYes);
  int good = 0, bad = 0, outside = 0;
  std::size_t sum = 0;
  while (good == 0 || bad == 0 || good + bad < 100'000) {
    log::Cursor cursor(log.get(), 20);
    segment::CheckedFrame frame;
    const log::Cursor::Step step = cursor.Next(frame);
    ++(step == log::Cursor::Step::kRecord ? good : bad);
    if (step != log::Cursor::Step::kRecord) continue;
    const std::string_view value = cursor.View(frame).value().value_or("");
    if (value.size() > 100) {
      ++outside;
      continue;
    }
    sum += static_cast<std::size_t>(std::count(value.begin(), value.end(), 'x'));
  }
  CHECK(outside == 0);
  CHECK(sum == 0);
}

// The fresh file has the old one's name by then, and the tail is of the old one still.
TEST_CASE("Rule 14: a retire that is killed before its last step is finished by the next writer") {
  Child child([](Child& parent) {
    const auto disk = FailingStorage::Make();
    const auto log = OpenAt(parent.Receive<Address>(), disk);
    disk->Fail({.op = FailingStorage::Op::kMapSync, .where = segment::SegmentFileName(0)});
    bool renamed = false;
    disk->Before([&](const FailingStorage::Operation& op) {
      if (renamed) kill(getpid(), SIGKILL);
      renamed = op.op == FailingStorage::Op::kRename &&
                op.new_path.find(segment::SegmentFileName(0)) != std::string::npos;
    });
    parent.Tell(kYes);
    parent.Wait();
    log->Flush().IgnoreError();
    parent.Tell(kNo);
  });
  LogFixture log;
  log.AppendMany(10);
  child.Send(Address::Of(log));
  REQUIRE(child.Wait() == kYes);
  child.Tell(kYes);
  REQUIRE(child.Wait() == 0);  // killed
  child.Kill();
  const std::shared_ptr<log::Log> beside = log.OpenBeside();  // without a map of the old file
  // A reader need not wait for that writer.
  log::Cursor before(beside);
  segment::CheckedFrame frame;
  for (Offset next = 0; next < 10; ++next) {
    REQUIRE(before.Next(frame) == log::Cursor::Step::kRecord);
    CHECK(frame.header.offset == next);
  }
  REQUIRE(before.Next(frame) == log::Cursor::Step::kEnd);
  SECTION("one that has the old file mapped appends") {
    REQUIRE(log->Append({.value = "new"}, {}).ok());
  }
  SECTION("one that has not appends") { REQUIRE(beside->Append({.value = "new"}, {}).ok()); }
  SECTION("one that has not makes it durable first") {
    const absl::Status flushed = beside->Flush();
    CAPTURE(flushed);
    REQUIRE(flushed.ok());
    REQUIRE(log->Append({.value = "new"}, {}).ok());
  }
  for (const auto& reader : {log.get(), beside, log.OpenBeside()}) {
    log::Cursor cursor(reader);
    Offset next = 0;
    while (cursor.Next(frame) == log::Cursor::Step::kRecord) {
      CHECK(frame.header.offset == next);
      ++next;
    }
    CHECK(next == 11);
  }
  REQUIRE(before.Next(frame) == log::Cursor::Step::kRecord);
  CHECK(frame.header.offset == 10);
  REQUIRE(log->Flush().ok());
  CHECK(log->durable_offset() == 11);
}

}  // namespace cordwood::rules_process_test
