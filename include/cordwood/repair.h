// Making a damaged directory usable again, without a Broker.
//
//   if (!Verify(path).value().is_clean()) {
//     RepairReport report = Repair(path).value();
//     for (const RepairReport::GivenUp& lost : report.given_up) std::cerr << lost.why << "\n";
//   }
//   Broker broker = Broker::Open(path).value();
//
// Thread and process safety: from any thread; while nobody else has the directory open.

#ifndef CORDWOOD_REPAIR_H_
#define CORDWOOD_REPAIR_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/options.h"
#include "cordwood/record.h"

namespace cordwood {

// Of Repair().
struct RepairOptions {
  std::shared_ptr<Storage> storage = {};  // none: the operating system
  // So long it waits for another process that is just opening or closing the directory.
  absl::Duration open_timeout = absl::Seconds(10);
};

// What a Repair has done.
struct RepairReport {
  // Records that no reader gets any more: what Verify found torn, damaged or missing.
  struct GivenUp {
    TopicPartition where = {};
    Offset from = 0, to = 0;  // [from, to); equal: none that could be named
    std::int64_t bytes = 0;
    std::string why = {};  // in words
  };
  // A file, or a whole topic, that was damaged, and where it is now. One that could not be read
  // everywhere may be there twice.
  struct KeptAside {
    std::string from = {}, to = {};  // relative to the directory
    std::string why = {};
  };

  std::vector<GivenUp> given_up = {};
  std::vector<KeptAside> kept_aside = {};
  std::vector<std::string> rebuilt = {};  // in words, a file each
};

// Makes a damaged directory usable again: afterwards Broker::Open succeeds, every topic that is
// left opens, and its reads give exactly what Verify called valid, with a gap wherever records
// were given up. Nothing is deleted: what is damaged is kept, byte for byte, under
// damaged/<number>/ in the directory, where nobody looks at it again.
//
//   a segment whose header is damaged,  aside: without its salt no record of it can be checked;
//   or that holds another one's bytes   an empty one takes its place
//   a file that the disk cannot read    aside; what can be read of it takes its place, and then all
//                                       is looked at again
//   a segment that was cut off          gets its length back, with zeros
//   a damaged record, a damaged seal    stays where it is: readers step over it, report a gap
//   an index, a start, a group's        aside; made anew from what is there
//   offsets or members, FORMAT
//   a control page, a group's pages     aside; made anew by who needs them
//   a topic's config                    the whole topic goes aside: its settings are nowhere else
//   all segments of a partition         are gone: it goes on behind its last known end; if that is
//                                       not known either, the whole topic goes aside
//   a file named as a segment that no   aside, with nothing in its place
//   log can have, behind offset 2^48
//
// It acts on what it has found twice, so that a read that fails once costs nothing. It may end at
// any point, killed or with an error, and is run again, also when a Broker has been there in
// between: each run has a folder of its own in damaged/ and goes by what it finds. (The folder of
// one that was cut off may also hold what was to take the place of a file; its report is lost.)
// OK: it is on the disk. A directory that is not damaged is not changed. What recovery has to do
// is left to the next Broker: with all its syncs again, if a recovery or a repair before was cut
// off or could not sync. What it writes has the mode of the file `locks`; run it as the user who
// owns the others.
//
// kUnavailable: another process is opening or closing it, or the disk gives something else each
// time; kFailedPrecondition: it is open, or a file is larger than any of ours; else as Verify, and
// what the disk says.
absl::StatusOr<RepairReport> Repair(const std::filesystem::path& directory,
                                    const RepairOptions& options = {});

}  // namespace cordwood

#endif  // CORDWOOD_REPAIR_H_
