// What is in the files of a topic, looked at without storing anything: the part of Verify that
// is about records. The end of each partition is found as a read-only open finds it, and its
// segments as a reader finds them; so what is called valid is what reads give.
//
// Thread and process safety: any thread, beside anyone.

#ifndef CORDWOOD_LOG_VERIFY_H_
#define CORDWOOD_LOG_VERIFY_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "cordwood/log/context.h"
#include "cordwood/log/log.h"
#include "cordwood/verify.h"
#include "log/clean_marker.h"

namespace cordwood::log {

// What a problem is, for who repairs it.
enum class FindingKind {
  kFormat,
  kConfig,
  kClean,
  kControl,
  kStart,
  kPartition,  // its folder, or every segment, is missing
  kHeader,     // of a segment; or it is another segment's file
  kStray,      // a segment's name that no segment can have
  kSeal,
  kCut,  // a segment is shorter than its records
  kIndex,
  kOffsets,  // a group's, as a whole
  kMembers,  // the file of a group's locks is missing
  kEntry,    // of a group's offsets or their metadata; a word of its pages
  kPage,     // a group's live page, or what a share group knows of a partition
  kUnreadable,
};

struct Finding {
  FindingKind kind = FindingKind::kConfig;
  FileProblem problem = {};
  TopicPartition where = {};  // of kStart to kIndex
  Offset base = 0;            // of a segment
  Offset next = 0;            // of kHeader: where what is readable goes on; base: not known
  std::uint64_t end = 0;      // of kCut: the position of the end of its records
};

struct Findings {
  std::vector<Finding> all = {};
  // What kept us from looking, and is no damage: no memory, no permission, too many open files, a
  // file with two names. Then nothing is known.
  absl::Status trouble = {};

  // True: it is what is wrong with the file.
  bool IsDamage(const absl::Status& status) {
    if (absl::IsDataLoss(status) || absl::IsNotFound(status)) return true;
    trouble.Update(status);
    return false;
  }
};

struct VerifyInput {
  std::shared_ptr<const Context> context;  // read-only; its folder is an os::PreadFolder
  std::shared_ptr<os::Folder> live_root;   // the same, for a page that others change meanwhile
  bool is_open = false;                    // somebody writes
  std::vector<CleanEntry> clean = {};
};

VerifiedTopic VerifyTopic(const VerifyInput& input, const std::string& name, Findings& findings);

// ---- The parts of it

// One segment on its way through a partition: where in it a frame is expected, and what its
// index says of that.
class IndexCheck {
 public:
  IndexCheck(const segment::PartitionFiles& files, const segment::Segment& segment,
             const segment::Seal& seal, Findings& findings);

  void Frame(std::uint64_t position, Offset offset, std::int64_t timestamp_ns);
  // Timestamps before here are not all known.
  void Damage() { knows_times_ = false; }
  // Nothing: all is well.
  std::optional<FileProblem> End() &&;

 private:
  void Wrong(VerifiedState state, std::string what);

  const segment::PartitionFiles& files_;
  const Offset base_;
  std::unique_ptr<segment::Index> index_;
  std::size_t count_ = 0;
  std::size_t next_ = 0;
  bool has_frames_ = false;
  bool knows_times_ = true;
  std::int64_t largest_;
  std::optional<FileProblem> problem_;
};

struct PartitionInput {
  segment::PartitionFiles files = {};
  std::shared_ptr<Log> log = {};  // null: no segment can be read
  Offset start = 0;               // without a log
  Offset durable = 0;             // as far as it is known; may be past the end
  bool is_open = false;
};

VerifiedPartition VerifyPartition(const PartitionInput& input, Findings& findings);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_VERIFY_H_
