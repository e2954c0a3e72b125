// A random life of a directory on a simulated machine, held against a model in plain
// containers: appends, batches, flushes, trims, failing syncs and a full disk, between ends
// of the process and of the power, also in the middle of any of these, and of an open.
//
//   CrashScript script(seed);
//   const std::string problem = script.Run(200);   // empty: every promise was kept
//
// What it holds the log to, of each partition:
//   - After a process's end everything published is there. After a power cut what is there is
//     a prefix of it, no shorter than what was durable, that ends with a whole batch.
//   - Nothing else is there: no record that was lost before, none that nobody wrote.
//   - What was under way may be there, as a whole, behind all that.
//   - An offset that somebody was given is never given to anybody again.
//   - Offsets are dense but for where the power was cut, or a process ended in the middle of
//     something that it did to files (it may have been moving records to a fresh one, rule 14).
//   - What is missing between the start and the end is told as a gap.
//   - A trim that returned OK is never taken back, and nothing else moves the start.

#ifndef CORDWOOD_TESTS_SUPPORT_CRASH_SCRIPT_H_
#define CORDWOOD_TESTS_SUPPORT_CRASH_SCRIPT_H_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cordwood/cordwood.h"
#include "cordwood/testing.h"
#include "sim/random.h"

namespace cordwood::testing {

class CrashScript {
 public:
  explicit CrashScript(std::uint64_t seed);

  // Empty, or the first thing that is wrong, and at which step.
  std::string Run(int steps);
  // How often the process was killed, and the power cut.
  int kills() const { return kills_; }
  int power_cuts() const { return power_cuts_; }

 private:
  static constexpr int kPartitions = 2;
  struct Model {
    std::map<Offset, std::string> published = {};
    std::set<Offset> batch_ends = {};
    std::optional<std::vector<std::string>> under_way = {};  // when the process ended
    std::set<Offset> trims_under_way = {};                   // and those that failed
    Offset start = 0;
    Offset durable = 0;    // what lies below stays
    Offset given_end = 0;  // one past all that anybody was given
    Offset end = 0;        // of the log: past a hole, where a power cut has left one
  };

  bool OneStep();
  void Append(int p, std::size_t count, Durability durability, bool in_place);
  void Trim(int p);
  void FailSync(int p);
  void LimitDisk();
  void EndProcess(bool power);
  // Ends it, at the operation on files that is the nth from now.
  void ArmEnd();
  bool Reopen();
  // Holds what is there against the model, which takes over what may be so or so.
  bool Verify(int p);
  bool Problem(const std::string& what);

  const std::uint64_t seed_;
  Machine machine_;
  sim::Random choices_;
  Broker broker_ = {};
  std::array<Partition, kPartitions> partitions_ = {};
  std::array<Model, kPartitions> models_ = {};
  int step_ = 0;
  int kills_ = 0, power_cuts_ = 0;
  int written_ = 0;          // records, for values that are told apart
  int operations_left_ = 0;  // until the end that is armed; 0: none
  bool armed_power_ = false;
  bool disk_is_small_ = false;
  bool is_dead_ = true;          // the process has ended
  bool power_was_cut_ = false;   // since the last look
  bool may_leave_hole_ = false;  // the same
  std::string problem_ = {};
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_CRASH_SCRIPT_H_
