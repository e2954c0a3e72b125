// What an open of a directory leaves for the next one to know.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cordwood/broker.h"
#include "cordwood/log/control.h"
#include "cordwood/log/topic_files.h"
#include "tests/catch.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/mortal_machine.h"

namespace cordwood::reopening_test {
namespace {

using testing::FailingStorage;
using testing::MortalMachine;
using testing::ValuesOf;
using Op = FailingStorage::Op;

constexpr AppendOptions kDurably = {.durability = Durability::kDurable};

// The process, and the power with it.
void Die(MortalMachine& machine, Broker& broker) {
  machine.disk->FailEverything();
  broker = Broker();
  machine.Heal();
  machine.disk->PowerCut();
}

TEST_CASE("Opening: one that cannot read a topic does not forget that its recovery has failed") {
  MortalMachine machine;
  const std::filesystem::path data = machine.dir / "data";
  Broker broker = machine.Open();
  REQUIRE(broker.CreateTopic("t").value().partition(0).Append({.value = "a"}, kDurably).ok());
  Die(machine, broker);

  machine.disk->Fail({.op = Op::kMapSync, .times = FailingStorage::kAlways});
  machine.disk->Fail({.op = Op::kFileSync, .times = FailingStorage::kAlways});
  broker = machine.Open();
  machine.disk->FailEverything();
  broker = Broker();
  machine.Heal();
  REQUIRE(std::filesystem::exists(data / "recovering"));

  std::filesystem::rename(data / "topics/t/config", machine.dir / "config");
  broker = machine.Open();
  CHECK(absl::IsDataLoss(broker.OpenTopic("t").status()));
  CHECK(std::filesystem::exists(data / "recovering"));
}

TEST_CASE("Opening: a page that was closed well and says deleted costs no topic, later neither") {
  MortalMachine machine;
  Broker broker = machine.Open();
  const Topic topic = broker.CreateTopic("t").value();
  REQUIRE(topic.partition(0).Append({.value = "a"}, kDurably).ok());
  REQUIRE(broker.Close().ok());
  {
    const auto folder = Storage::OperatingSystem()->OpenFolder(machine.dir / "data", {}).value();
    const os::Bits128 id = log::TopicFiles::ReadConfig(*folder, "t").value().id;
    const auto control =
        log::ControlFile::Open(*folder, "topics/t/control", id, os::Access::kReadWrite).value();
    control->block(0).state.store(static_cast<std::uint32_t>(log::PartitionState::kDeleted));
  }
  machine.disk->WriteBack(machine.dir / "data/topics/t/control");

  broker = machine.Open();
  REQUIRE(broker.OpenTopic("t").value().partition(0).Append({.value = "b"}, kDurably).ok());
  Die(machine, broker);
  broker = machine.Open();
  CHECK(ValuesOf(broker.OpenTopic("t").value().partition(0)) == std::vector<std::string>{"a", "b"});
}

}  // namespace
}  // namespace cordwood::reopening_test
