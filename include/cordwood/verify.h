// What is in a directory, byte for byte: which records are whole, and what is torn, damaged or
// missing, by offset, file and position. It needs no Broker.
//
//   VerifyReport report = Verify("/var/lib/app/log").value();
//   for (const VerifiedTopic& topic : report.topics)
//     for (const VerifiedPartition& p : topic.partitions)
//       for (const VerifiedRange& r : p.ranges)
//         if (r.state != VerifiedState::kValid) std::cerr << r.file << ": " << r.what << "\n";
//
// Verify tells what a Broker that opens the directory now would find, and reads no more than
// that: it stores nothing, anywhere, and needs no permission to write. It reads files by system
// calls: a block that the disk cannot read, or a file that is cut off meanwhile, is damage in the
// report, and no signal. (One page of a directory that is open is mapped, as its writers have it:
// the control page of each topic.)
//
// Thread and process safety: from any thread, beside readers and writers in this process and
// others. It keeps nobody waiting: it has the locks of a reader, one segment at a time. What it
// finds wrong it looks at again, until it finds the same twice: what others change meanwhile is
// neither damaged nor torn.

#ifndef CORDWOOD_VERIFY_H_
#define CORDWOOD_VERIFY_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

// What is the matter with some bytes, or with a file.
enum class VerifiedState {
  kValid,  // every checksum holds
  // Bytes at the end that were never known to be durable and are not whole, or not in order: what
  // a process or the power left half done. The next Broker drops them; no promise is broken.
  kTorn,
  kDamaged,  // wrong bytes where durable records were, or where valid ones follow
  // Behind the published end, while somebody has the directory open for writing: not looked at.
  kInUse,
  kMissing,  // not there, and neither retention, a trim, a power cut nor a compaction says why
};
std::string_view ToString(VerifiedState state);  // "torn"

// Some bytes of a segment, and the records that they are or should be.
struct VerifiedRange {
  VerifiedState state = VerifiedState::kValid;
  // The offsets [from, to); equal: none that could be named. Of kValid, a compaction may have
  // left some of them out.
  Offset from = 0, to = 0;
  std::int64_t records = 0;  // valid ones
  std::string file = {};     // relative to the directory; empty: kMissing
  std::int64_t position = 0, bytes = 0;
  std::string what = {};  // in words; empty: kValid

  friend bool operator==(const VerifiedRange&, const VerifiedRange&) = default;
};

// The records of a partition, and what is wrong among them.
struct VerifiedPartition {
  int partition = 0;
  // What lies below the start is no part of the log and is not looked at; neither is, while
  // somebody has the directory open for writing, what lies past the end that is published.
  Offset start = 0, end = 0;
  Offset durable = 0;        // as far as it is known
  std::int64_t records = 0;  // valid ones, in [start, end)
  std::int64_t bytes = 0;    // of their frames
  // Of files below the start, which retention has not removed yet.
  std::int64_t bytes_left_over = 0;
  std::vector<VerifiedRange> ranges = {};  // by offset; neighbours in one file are one range

  friend bool operator==(const VerifiedPartition&, const VerifiedPartition&) = default;
};

// The partitions of a topic.
struct VerifiedTopic {
  std::string name = {};
  // Why the partitions cannot be told: its config is damaged or missing.
  absl::Status status = {};
  std::vector<VerifiedPartition> partitions = {};

  friend bool operator==(const VerifiedTopic&, const VerifiedTopic&) = default;
};

// Something that is wrong with a file and is no range of records: headers and seals of segments,
// indexes, configs, control pages, starts, committed offsets, pages of groups, the mark of a clean
// close; and where the disk cannot be read.
struct FileProblem {
  VerifiedState state = VerifiedState::kDamaged;
  std::string file = {};  // relative to the directory
  std::int64_t position = 0;
  std::string what = {};  // in words, with what it costs

  friend bool operator==(const FileProblem&, const FileProblem&) = default;
};

// What a Verify has found.
struct VerifyReport {
  // Somebody had it open for writing when Verify began.
  bool is_open = false;
  std::vector<VerifiedTopic> topics = {};
  std::vector<FileProblem> problems = {};

  // No range but those that are valid or in use, and no problem.
  bool is_clean() const;

  friend bool operator==(const VerifyReport&, const VerifyReport&) = default;
};

// Of Verify().
struct VerifyOptions {
  std::shared_ptr<Storage> storage = {};  // none: the operating system
};

// Checks everything, in a few megabytes of memory beside the report's own, the largest index, and
// 12 KiB for each segment of a partition. Errors are those of looking at the directory at all:
// kNotFound: there is none, or it is not one of cordwood's; kFailedPrecondition: its format is
// newer than this library, or it has a link, a folder or a file with a second name in the place of
// a file; kPermissionDenied; kResourceExhausted: no memory, or too many open files; kUnavailable:
// folders cannot be read, or any other errno. What is damaged is no error, it is in the report.
absl::StatusOr<VerifyReport> Verify(const std::filesystem::path& directory,
                                    const VerifyOptions& options = {});

}  // namespace cordwood

#endif  // CORDWOOD_VERIFY_H_
