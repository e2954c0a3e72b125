// Brokers on a disk that stops at an operation, as that of a machine does that loses its power:
//
//   MortalMachine machine;
//   {
//     Broker broker = machine.Open();
//     machine.StopAt(3);
//     broker.CreateTopic("t").IgnoreError();
//   }
//   machine.Heal();
//   machine.disk->PowerCut();
//   CHECK(machine.Open().TopicNames().empty());

#ifndef CORDWOOD_TESTS_SUPPORT_MORTAL_MACHINE_H_
#define CORDWOOD_TESTS_SUPPORT_MORTAL_MACHINE_H_

#include <memory>

#include "cordwood/broker.h"
#include "tests/support/broker_fixture.h"
#include "tests/support/failing_storage.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

struct MortalMachine {
  Broker Open() const { return OpenQuiet(dir / "data", disk); }
  // Everything fails from that operation on; they are counted from the first StopAt() on.
  void StopAt(int operation) {
    disk->Before([this, operation](const FailingStorage::Operation&) {
      if (++done == operation) disk->FailEverything();
    });
  }
  void Heal() {
    disk->Before(nullptr);
    disk->Heal();
  }

  TempDir dir;
  std::shared_ptr<FailingStorage> disk = FailingStorage::Make();
  int done = 0;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_MORTAL_MACHINE_H_
