// What a log says of its files.

#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "cordwood/log/log.h"
#include "cordwood/status_macros.h"

namespace cordwood::log {
namespace {

// Zero, and what no clock says, is not known.
absl::Time TimeOf(std::int64_t ns) {
  return ns <= 0 ? absl::InfinitePast() : absl::FromUnixNanos(ns);
}

// Of records, which may be older than 1970; the smallest number stands for none.
absl::Time StampOf(std::int64_t ns) {
  return ns == std::numeric_limits<std::int64_t>::min() ? absl::InfinitePast()
                                                        : absl::FromUnixNanos(ns);
}

}  // namespace

absl::StatusOr<std::vector<SegmentDescription>> Log::DescribeSegments() {
  const ControlBlock& b = block();
  const TailView tail = ReadTail(b);
  const auto file_of = [&](Offset base) { return files_.Path(segment::SegmentFileName(base)); };
  std::vector<SegmentDescription> segments;
  {
    absl::MutexLock lock(&mutex_);
    CORDWOOD_RETURN_IF_ERROR(ListSegments(tail));
    for (auto it = sealed_.begin(); it != sealed_.end(); ++it) {
      const absl::StatusOr<std::shared_ptr<segment::Segment>> open = OpenSealed(*it);
      if (absl::IsNotFound(open.status())) continue;  // removed meanwhile
      SegmentDescription& segment = segments.emplace_back();
      segment.base = it->base;
      segment.file = file_of(it->base);
      if (!open.ok()) {
        segment.next = std::next(it) != sealed_.end() ? std::next(it)->base : tail.base;
        segment.damage = std::string(open.status().message());
        continue;
      }
      segment.next = it->next;
      segment.bytes = static_cast<std::int64_t>(it->end_position);
      segment.is_compacted = (*open)->is_compacted();
      segment.created = TimeOf((*open)->header().created_ns);
      segment.last_append = TimeOf(it->last_append_ns);
      if (it->next > it->base) segment.largest_timestamp = StampOf(it->largest_timestamp);
    }
  }
  SegmentDescription active{.base = tail.base,
                            .next = tail.end(),
                            .file = file_of(tail.base),
                            .bytes = static_cast<std::int64_t>(tail.position),
                            .is_active = true};
  // What only the writers keep is not always there.
  if (b.scratch_valid.load(std::memory_order_acquire) != 0 && tail.records > 0) {
    active.largest_timestamp = StampOf(b.largest_timestamp.load(std::memory_order_relaxed));
  }
  active.last_append = TimeOf(b.last_append_ns.load(std::memory_order_relaxed));
  if (const auto facts = segment::Segment::ReadFacts(files_, tail.base); facts.ok()) {
    active.created = TimeOf(facts->header.created_ns);
  } else if (!absl::IsNotFound(facts.status())) {
    active.damage = std::string(facts.status().message());
  }
  segments.push_back(std::move(active));
  return segments;
}

}  // namespace cordwood::log
