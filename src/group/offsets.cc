// The durable image: what its bytes mean, decided without touching a file.

#include "cordwood/group/offsets.h"

#include <algorithm>
#include <cstring>

#include "cordwood/os/checksum.h"
#include "cordwood/segment/format.h"

namespace cordwood::group {
namespace {

std::uint64_t ChecksumOf(const OffsetSlot& slot) {
  return os::Hash64(&slot, offsetof(OffsetSlot, checksum));
}
std::uint64_t ChecksumOf(const OffsetEntry& entry) {
  return os::Hash64(&entry, offsetof(OffsetEntry, checksum));
}

bool IsWhole(const OffsetSlot& slot) {
  return slot.checksum == ChecksumOf(slot) && slot.sequence != 0 && slot.offset >= 0 &&
         slot.offset <= kCommitMax;
}

bool IsWhole(const OffsetEntry& entry) {
  return entry.checksum == ChecksumOf(entry) && entry.name_bytes <= kTopicNameBytesMax &&
         entry.name_bytes != 0;
}

int Newest(bool first, bool second, const OffsetSlot (&slots)[2]) {
  if (first && second) return segment::IsLater(slots[1].sequence, slots[0].sequence) ? 1 : 0;
  return first ? 0 : second ? 1 : -1;
}

}  // namespace

int NewestSlot(const OffsetEntry& entry) {
  const auto counts = [&](const OffsetSlot& slot) {
    return IsWhole(slot) && slot.topic_id == entry.topic_id && slot.partition == entry.partition;
  };
  return Newest(counts(entry.slots[0]), counts(entry.slots[1]), entry.slots);
}

std::optional<OffsetEntry> ReadEntry(const OffsetEntry& bytes) {
  if (IsWhole(bytes)) return bytes;
  const int newest = Newest(IsWhole(bytes.slots[0]), IsWhole(bytes.slots[1]), bytes.slots);
  if (newest < 0) return std::nullopt;
  OffsetEntry entry =
      MakeEntry(bytes.slots[newest].topic_id, "", static_cast<int>(bytes.slots[newest].partition));
  std::copy_n(bytes.slots, 2, entry.slots);
  return entry;
}

OffsetEntry MakeEntry(const os::Bits128& topic_id, std::string_view topic, int partition) {
  OffsetEntry entry;
  entry.topic_id = topic_id;
  entry.partition = static_cast<std::uint32_t>(partition);
  entry.name_bytes = static_cast<std::uint32_t>(std::min(topic.size(), kTopicNameBytesMax));
  std::memcpy(entry.name, topic.data(), entry.name_bytes);
  entry.checksum = ChecksumOf(entry);
  return entry;
}

void WriteSlot(OffsetEntry& entry, Offset offset) {
  const int newest = NewestSlot(entry);
  OffsetSlot slot;
  slot.sequence = newest < 0 ? 1 : segment::SequenceAfter(entry.slots[newest].sequence);
  slot.offset = offset;
  slot.topic_id = entry.topic_id;
  slot.partition = entry.partition;
  slot.checksum = ChecksumOf(slot);
  // Over the other one: whatever happens to this write, the newest stays whole.
  entry.slots[newest == 0 ? 1 : 0] = slot;
}

}  // namespace cordwood::group
