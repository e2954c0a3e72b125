// A day in the life of a directory: all that is done to one, by a process that something happens
// to, which goes on after every error, and that writes down what it was promised. The notes lie
// where they outlive the process, so that another one can hold the directory to them.
//
//   SharedByForks<DayNotes> notes;
//   Child child([&](Child&) { LiveThroughDay(path, storage, *notes); });
//   ...
//   CHECK(ProblemAfterDay(path, Storage::OperatingSystem(), *notes, DayEnd::kProcess) == "");
//
// It appends (alone, in batches, in place, durable), rolls, reads, trims, flushes, retains,
// compacts, commits, changes and deletes topics, closes.

#ifndef CORDWOOD_TESTS_SUPPORT_BUSY_DAY_H_
#define CORDWOOD_TESTS_SUPPORT_BUSY_DAY_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "cordwood/broker.h"
#include "cordwood/os/storage.h"

namespace cordwood::testing {

// Plain memory: written by one process, read by another after it.
struct DayNotes {
  static constexpr int kMost = 128;
  static constexpr int kKeys = 4;

  struct Told {
    std::int64_t number;  // of the value
    Offset offset;
    bool durable;
  };
  // Records that were about to be appended when the process died or an exception came: they are
  // there all together, or not at all.
  struct InDoubt {
    std::int64_t first, count;
  };

  Told told[kMost] = {};  // of the topic "log"
  int count = 0;
  InDoubt in_doubt[kMost] = {};
  int doubts = 0;
  std::int64_t numbers = 0;  // values made so far, of all topics
  Offset durable = 0;        // of the topic "log", as a Flush said
  Offset trimmed = 0, trim_begun = 0;
  Offset committed = 0, commit_begun = 0;  // of the group "g"
  std::int64_t last_of_key[kKeys] = {};    // of the topic "table"; 0: none was told
  bool table_is_durable = false;
  int short_told = 0;  // of the topic "short", which keeps its last 20 records
  bool deleted = false, altered = false;
  int errors = 0, exceptions = 0;
  char wordless[200] = {};  // an error that does not say what and where
};

// std::bad_alloc is noted, too, as an error; what it was about to do is in doubt.
void LiveThroughDay(const std::filesystem::path& path, const std::shared_ptr<Storage>& storage,
                    DayNotes& notes);

enum class DayEnd { kProcess, kPower };

// Opens the directory, holds it to the notes, and appends to it. Empty, or what is wrong.
std::string ProblemAfterDay(const std::filesystem::path& path,
                            const std::shared_ptr<Storage>& storage, const DayNotes& notes,
                            DayEnd end);

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_BUSY_DAY_H_
