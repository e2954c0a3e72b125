// Crash tests of one's own: a simulated machine, with a disk, a clock, and what can happen to
// them. Hand the program under test a Broker of the machine, kill the process or cut the power
// where it hurts, open again, and look whether what the program promised is still true. No
// process is started, no file is touched, and a power cut takes less than a millisecond.
//
//   for (std::uint64_t seed = 1; seed <= 100; ++seed) {
//     testing::Machine machine(seed);
//     Broker broker = machine.Open("/data").value();
//     std::set<int> confirmed = RunMyProgram(broker);
//     machine.CutPower();                              // `broker`, and all from it, is dead
//     broker = machine.Open("/data").value();
//     EXPECT_TRUE(IsAllThere(broker, confirmed)) << "seed " << machine.seed();
//   }
//
// Link cordwood::sim as well as cordwood::cordwood.
//
// One seed, one course: the same calls, by one thread, with the same seed find the same bytes
// lost. So a failure is found again with its seed. Times that a call waits for something
// (timeouts, the budget of Maintain) are of the real clock, and no part of the course.
//
// Thread safety: every operation. Who calls a handle while another thread ends its process gets
// an error or not, as with a real one, and the course is no longer the seed's alone.
//
// Lifetime: handles may outlive the machine; they are dead then.

#ifndef CORDWOOD_TESTING_H_
#define CORDWOOD_TESTING_H_

#include <cstdint>
#include <filesystem>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"

namespace cordwood {
namespace testing {

// A machine with one process, one disk and one clock.
class Machine {
 public:
  // Every choice that it makes comes from the seed.
  explicit Machine(std::uint64_t seed);
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine();

  // As Broker::Open, on the machine's disk, in its one process. The path's parent need not be
  // there, and no directory lies in another. Of the options `storage` and `background_threads`
  // are the machine's: there are no threads, and Broker::Maintain does their work.
  absl::StatusOr<Broker> Open(const std::filesystem::path& directory, BrokerOptions options = {});

  // The clock, at first 2026-01-01 00:00 UTC, stands still but for this.
  void AdvanceClock(absl::Duration duration);

  // As by SIGKILL. Every handle that came from Open, by whatever way, is dead: it answers
  // kFailedPrecondition, and nothing that is done with it reaches the disk. What was published
  // stays. Records that were read stay readable.
  void KillProcess();

  // As KillProcess, and what was not synced is lost, torn at 512 bytes, or kept, in whatever
  // choice the seed makes: bytes, sizes and names of files each by themselves. What was durable
  // stays. Then the machine has booted again.
  void CutPower();

  // So much more can be written before the disk is full (kResourceExhausted, Reason::kDiskFull).
  // Without a call: there is no limit. A file takes 4 KiB, and its bytes in steps of 4 KiB.
  void SetFreeBytes(std::int64_t bytes);

  // The next sync of this process, of whatever file or folder, fails with EIO, and of what it
  // should have written some is lost for good, though later syncs of it say OK: as Linux has it.
  void FailNextSync();

  // One bit of that record flips, in memory and on the disk, as on a disk that goes bad; the
  // seed says which. kNotFound: there is no such record; of several directories it is that which
  // was opened last.
  absl::Status FlipBit(const TopicPartition& where, Offset offset);

  // For the message of a test that fails.
  std::uint64_t seed() const;

 private:
  friend class Inside;  // for the tests of this library
  struct State;

  const std::unique_ptr<State> state_;
};

}  // namespace testing
}  // namespace cordwood

#endif  // CORDWOOD_TESTING_H_
