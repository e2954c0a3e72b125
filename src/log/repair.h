// What can be made anew of a partition's files. What takes the place of something that a Broker
// must not find missing is made in another folder, where no Broker looks; it is synced, and its
// name is not.
//
// Thread and process safety: one thread, while nobody has the directory open.

#ifndef CORDWOOD_LOG_REPAIR_H_
#define CORDWOOD_LOG_REPAIR_H_

#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "cordwood/log/control.h"
#include "cordwood/record.h"
#include "cordwood/segment/segment.h"

namespace cordwood::log {

// An empty segment with that base, made in the folder of `at` under its own name, to take the place
// of one of `files` whose header is damaged, or of all: so that it is known that the offsets from
// there were given out (rule 23), and a gap up to `next` for readers.
absl::Status MakeStandIn(const segment::PartitionFiles& files, const segment::PartitionFiles& at,
                         Storage& storage, Offset base, Offset next);

// The indexes of a segment that has none.
absl::Status MakeIndex(const segment::PartitionFiles& files, Offset base);

// A start in the folder of `at`, from what is whole of that of `files`, from the control block if
// there is one, or from the segments that are there.
absl::Status MakeStart(const segment::PartitionFiles& files, const segment::PartitionFiles& at,
                       const std::optional<Watermarks>& known);

// A control file at `path`, of a page that is damaged: it says what was durable, so that a
// recovery drops nothing of that. Where a log begins, the segments and the start file say.
absl::Status MakeControl(os::Folder& root, const std::string& path, const ControlFile& damaged,
                         std::span<const segment::PartitionFiles> partitions);

// What is believed of a block of a page that is damaged. Too much is no harm: a recovery knows
// which offsets were never given out.
Watermarks DurableOnly(const ControlBlock& damaged);

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_REPAIR_H_
