// Random calls on a broker of a simulated machine, each answer held against what plain containers
// say: topics that are made and deleted, records of every shape, reads from anywhere, both ways and
// by time, trims, retention, rolls, groups, and ends of the process, clean and by a kill.
//
//   ModelScript script(seed);
//   const std::string problem = script.Run(10'000);   // empty: every answer was right
//
// No power cuts and no faults: those are CrashScript's, where answers may be one or the other. Here
// each call has one right answer; only how much of its oldest retention gives up is a range.

#ifndef CORDWOOD_TESTS_SUPPORT_MODEL_SCRIPT_H_
#define CORDWOOD_TESTS_SUPPORT_MODEL_SCRIPT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"
#include "cordwood/testing.h"
#include "sim/random.h"

namespace cordwood::testing {

class ModelScript {
 public:
  explicit ModelScript(std::uint64_t seed);

  // Empty, or the first answer that is wrong, and at which step.
  std::string Run(int operations);
  // How many records were appended, read, and given up by retention.
  std::int64_t appended() const { return appended_; }
  std::int64_t read() const { return read_; }
  std::int64_t retained_away() const { return retained_away_; }

 private:
  struct ModelRecord {
    std::optional<std::string> key = {}, value = {};
    std::vector<std::pair<std::string, std::optional<std::string>>> headers = {};
    absl::Time timestamp = {};
    absl::Time appended = {};
    friend bool operator==(const ModelRecord&, const ModelRecord&) = default;
  };
  struct ModelPartition {
    std::map<Offset, ModelRecord> records = {};
    Offset start = 0, end = 0;
  };
  struct ModelTopic {
    Topic topic = {};
    TopicConfig config = {};
    std::vector<ModelPartition> partitions = {};
    std::map<std::pair<std::string, int>, Offset> committed = {};  // by group and partition
  };
  // What an operation is about.
  struct Place {
    ModelTopic* topic;
    ModelPartition* model;
    Partition partition;
    TopicPartition name;
  };

  void OneStep();
  void Reopen();
  void MakeTopic();
  void DeleteTopic();
  std::optional<Place> AnyPlace();
  // One after the start of the log, or beyond its ends.
  Offset AnyOffset(const ModelPartition& model);
  absl::Time AnyTime();
  ModelRecord AnyRecord(const TopicConfig& config);

  void Append(const Place& place);
  void AppendExpecting(const Place& place);
  void ReadForward(const Place& place);
  void ReadBackward(const Place& place);
  void FindTime(const Place& place);
  void Trim(const Place& place);
  void Consume(const Place& place);
  void CommitBack(const Place& place);
  void Maintain();

  // The start may have moved, if the topic has retention: takes that over, or says what is wrong.
  void TakeOverStart(const Place& place);
  void CheckEnds(const Place& place);
  bool Is(const RecordView& record, const ModelPartition& model);
  template <class... Words>
  void Wrong(const Words&... words) {
    if (problem_.empty()) {
      problem_ = absl::StrCat("seed ", seed_, ", step ", step_, ": ", words...);
    }
  }

  const std::uint64_t seed_;
  Machine machine_;
  sim::Random choices_;
  Broker broker_ = {};
  std::map<std::string, ModelTopic> topics_ = {};
  absl::Time now_;
  int step_ = 0;
  std::int64_t appended_ = 0, read_ = 0, retained_away_ = 0;
  std::string problem_ = {};
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_MODEL_SCRIPT_H_
