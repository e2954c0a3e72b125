// Long because it is the one description of cordwood's files.
//
// The format of cordwood's files, version 1. This page is enough to read them from
// another language; tests/format_test.cc holds the page to the code. All integers are
// little-endian. A *position* counts bytes from the start of a file, an *offset* counts
// records from the start of a partition. Ranges are half-open. What is reserved is
// written as zero and not looked at.
//
//   <directory>/FORMAT                            "cordwood 1\n": refused if newer
//              /locks                             os/shared_lock.h
//              /CLEAN                             clean marker, below
//              /reserve                           log/reserve.h
//              /topics/<topic>/config             "name=value" lines, and the topic's id
//                             /control            control file, below
//                             /<partition>/00000000000000000000.log        segment
//                                         /00000000000000000000.index      offset index
//                                         /00000000000000000000.timeindex  time index
//                                         /start  start slots, below
//              /groups/<group>/...                group/offsets.h
//              /damaged/<number>/...              what a repair has kept aside: not looked at
// A name that starts with a dot is not finished: whoever opens the directory first
// removes it. The 20 digits are the segment's base offset.
//
// SEGMENT: a header of 1,024 bytes, then frames one behind the other.
//
//   position  bytes  header, written once, synced before a record is published in it
//          0      8  magic "CWSEGMT1"
//          8      4  version = 1
//         12      4  partition
//         16     16  topic id
//         32     16  salt, random
//         48      8  offset span: no offset at or above base + span was given out in
//                    this segment, nor in the one after it before this one's successor
//                    had its name synced (offset_limit = base + span)
//         56      8  capacity: the file never grows past it
//         64      8  time of creation, Unix nanoseconds
//         72      8  0; in what a compaction wrote, the next offset: the segment stands for
//                    [base, next), and its last frame ends at the capacity
//        504      8  XXH3-64 of bytes 0 to 503
//   It names no base offset. Why: it is made ready before its base is known, and
//   gets its name by a rename.
//   Files whose base lies inside what a compaction wrote are its leftovers: not looked at.
//   Why in the header, not in the seal alone: with a damaged seal the segment would end at
//   its last frame, and the leftovers' records would be back.
//
//   position  bytes  seal, written once when nothing more will be appended
//        512      8  magic "CWSEALD1"
//        520      8  base offset
//        528      8  next offset: one past the last record
//        536      8  end position: one past the last frame
//        544      8  largest timestamp
//        552      8  time of the last append by the writer's clock
//        560      4  reason: 1 full or old, 2 recovered, 3 retired after a failed sync,
//                    4 compacted; 2 also where a recovered one was compacted: a power cut
//                    has taken what came after it
//       1016      8  XXH3-64 of bytes 512 to 1015, xor the first 8 bytes of the salt
//   A seal is valid iff magic and checksum hold. Without one, the segment ends where
//   the control block or a recovery says. Header and seal lie in sectors of their own,
//   so that writing one cannot tear the other.
//
// FRAME: a record in a segment, at a position that is a multiple of 8.
//
//   at  bytes  frame header, 48 bytes
//    0      4  header check
//    4      4  frame bytes (a multiple of 8), or'ed with flags: 1 has a key, 2 has a
//              value, 4 has headers
//    8      8  checksum
//   16      8  offset
//   24      8  timestamp, Unix nanoseconds
//   32      4  value bytes
//   36      4  key bytes
//   40      4  batch remaining: how many records of the same batch follow this one
//   44      4  durable lag: offset less the durable offset known when this was written;
//              0xFFFFFFFF if that is more than fits
//   48         value, key, headers section, then zero to the next multiple of 8
//   Headers section: 4 bytes its length, these 4 included, then for each header
//   {4 key bytes, 4 value bytes or 0xFFFFFFFF for none, key, value}, unaligned.
//   The body is value, key and headers section, without the padding.
//
//   Mum(a, b) = low half xor high half of the 128-bit product a * b.
//   k[i] = XXH3-64 of {salt, topic id, 4 bytes partition, 4 bytes i}, i = 0 to 5.
//   h = Mum((bytes 4-7 | position/8 << 32) ^ k[0], offset ^ k[1])
//       xor Mum(timestamp ^ k[2], (value bytes | key bytes << 32) ^ k[3])
//       xor Mum((batch remaining | durable lag << 32) ^ k[4], k[5] | 1)
//   header check = low 32 bits of (h xor h >> 32)
//   checksum = Mum(XXH3-64(body) ^ h, k[5] ^ k[0] | 1)
//   Why: the body is hashed before the writer's lock is taken, the rest under it. The
//   salt and the position make old bytes of a reused block, and a frame at another
//   place, wrong: without them such bytes were taken for records in 60 to 120 of 120
//   power cuts. The check of the header is there so that a length is believed only when
//   proven, before it leads to the bytes that the checksum needs.
//
//   A frame at `position` with end limit `limit` is valid if and only if
//     position + 48 <= limit, header check holds, frame bytes >= 48 and position + frame
//     bytes <= limit, the lengths of value, key and headers section fit the frame bytes
//     with less than 8 bytes of padding, the padding is zero, and the checksum holds.
//   Frame bytes of zero (header check not looked at) mean: nothing was written here.
//   Why the length and no checksum value: a sentinel can be a checksum's value.
//
// Example: the record {value "hi"} at offset 0, alone in its batch, timestamp 1 ns,
// nothing durable before it, first in a segment whose salt, topic id and partition are
// all zero, at position 1024 (tests/format_test.cc holds it):
//   9e fd cc b7  3a 00 00 00  check; 56 bytes, or'ed with 2: has a value
//   31 ae 5f 00 41 88 6c 4b   checksum
//   00 00 00 00 00 00 00 00   offset 0
//   01 00 00 00 00 00 00 00   timestamp
//   02 00 00 00  00 00 00 00  value bytes, key bytes
//   00 00 00 00  00 00 00 00  batch remaining, durable lag
//   68 69 00 00 00 00 00 00   "hi" and the padding
//
// OFFSET INDEX: 64 bytes of header, then entries of 8 bytes.
// TIME INDEX:   64 bytes of header, then entries of 16 bytes.
//
//   position  bytes  index header
//          0      8  magic "CWINDEX1" or "CWTIMEX1"
//          8     16  salt of the segment
//         24      8  number of entries, 0 while the segment is not sealed
//         32      8  XXH3-64 of the entries, xor the number of entries
//   offset entry  u64 = (offset - base) | position/8 << 32
//   time entry    i64 largest timestamp of the frames before `position`, u32 position, u32
//                 check: the low half of XXH3-64 of {salt, largest timestamp, u64 position}
//   An offset entry of zero, or a time entry with position zero, ends the entries.
//   Both have an entry for the same frames: the first that begins at or after each
//   index interval. They are hints: a reader checks that a frame is there. A pair whose
//   positions differ, or whose check does not hold, is none. Why a check: a smaller time
//   would lead past records that are to be found, and only a look at all of them shows it.
//
// CONTROL FILE: a header of 4,096 bytes, then 256 bytes a partition (log/control.h).
//   Believed beyond `durable` only in the boot it was written in, see log/recovery.h.
//
// START SLOTS, 128 bytes: two slots of 64 bytes {u64 sequence, i64 start offset,
//   16 bytes topic id, u32 reason (a GapReason: 0 retention, 1 trim, 2 dropped), u32
//   1 if a compaction has passed a damaged segment, i64 tombstone horizon, i64 compacted to, at 56:
//   XXH3-64 of bytes 0 to 55}. A sequence is never 0: after 2^64 - 1 comes 1. Of two valid slots
//   the later one counts, whose sequence less the other's, modulo 2^64, is below 2^63. Why: a
//   sequence that nothing could follow would hide whatever is written after it. No file: nothing
//   was ever given up. The horizon is one past the highest tombstone that compaction has removed;
//   below `compacted to` every record has been through a compaction.
//
// CLEAN marker: written by the last who closes, removed by the first who opens. A
//   header of 64 bytes {magic "CWCLEAN1", u64 number of topics, at 56: XXH3-64 of all
//   entries, xor the number}, then entries of 64 bytes {topic id, u64 inode of its
//   control file, u64 device, u64 XXH3-64 of the control file's watermarks}.

#ifndef CORDWOOD_SEGMENT_FORMAT_H_
#define CORDWOOD_SEGMENT_FORMAT_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

#include "cordwood/os/checksum.h"
#include "cordwood/os/storage.h"
#include "cordwood/record.h"

namespace cordwood::segment {

static_assert(std::endian::native == std::endian::little, "cordwood's files are little-endian");

inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::uint64_t kSegmentMagic = 0x31544d4745535743;    // "CWSEGMT1"
inline constexpr std::uint64_t kSealMagic = 0x31444c4145535743;       // "CWSEALD1"
inline constexpr std::uint64_t kIndexMagic = 0x315845444e495743;      // "CWINDEX1"
inline constexpr std::uint64_t kTimeIndexMagic = 0x3158454d49545743;  // "CWTIMEX1"

inline constexpr std::uint64_t kFirstFrame = 1024;  // position
inline constexpr std::uint32_t kFrameHeaderBytes = 48;
inline constexpr std::uint64_t kSegmentBytesMax = std::uint64_t{2} << 30;

struct SegmentHeader {
  std::uint64_t magic = kSegmentMagic;
  std::uint32_t version = kFormatVersion;
  std::uint32_t partition = 0;
  os::Bits128 topic_id = {};
  os::Bits128 salt = {};
  std::uint64_t offset_span = 0;
  std::uint64_t capacity = 0;
  std::int64_t created_ns = 0;
  Offset compacted_next = 0;
  std::uint8_t reserved[424] = {};
  std::uint64_t checksum = 0;
};
static_assert(sizeof(SegmentHeader) == 512);
static_assert(offsetof(SegmentHeader, salt) == 32);
static_assert(offsetof(SegmentHeader, offset_span) == 48);
static_assert(offsetof(SegmentHeader, compacted_next) == 72);
static_assert(offsetof(SegmentHeader, checksum) == 504);

enum class SealReason : std::uint32_t { kFull = 1, kRecovered = 2, kRetired = 3, kCompacted = 4 };

struct Seal {
  std::uint64_t magic = kSealMagic;
  Offset base = 0;
  Offset next = 0;
  std::uint64_t end_position = 0;
  std::int64_t largest_timestamp = 0;
  std::int64_t last_append_ns = 0;
  SealReason reason = SealReason::kFull;
  std::uint8_t reserved[452] = {};
  std::uint64_t checksum = 0;
};
static_assert(sizeof(Seal) == 512);
static_assert(offsetof(Seal, end_position) == 24);
static_assert(offsetof(Seal, reason) == 48);
static_assert(offsetof(Seal, checksum) == 504);
inline constexpr std::uint64_t kSealPosition = 512;

struct FrameHeader {
  std::uint32_t check;
  std::uint32_t bytes_and_flags;
  std::uint64_t checksum;
  Offset offset;
  std::int64_t timestamp_ns;
  std::uint32_t value_bytes;
  std::uint32_t key_bytes;
  std::uint32_t batch_remaining;
  std::uint32_t durable_lag;
};
static_assert(sizeof(FrameHeader) == kFrameHeaderBytes);
static_assert(offsetof(FrameHeader, checksum) == 8);
static_assert(offsetof(FrameHeader, timestamp_ns) == 24);
static_assert(offsetof(FrameHeader, durable_lag) == 44);

inline constexpr std::uint32_t kHasKey = 1;
inline constexpr std::uint32_t kHasValue = 2;
inline constexpr std::uint32_t kHasHeaders = 4;
inline constexpr std::uint32_t kFlagsMask = 7;
inline constexpr std::uint32_t kDurableLagUnknown = 0xffffffff;

struct IndexHeader {
  std::uint64_t magic = kIndexMagic;
  os::Bits128 salt = {};
  std::uint64_t count = 0;
  std::uint64_t checksum = 0;
  std::uint8_t reserved[24] = {};
};
static_assert(sizeof(IndexHeader) == 64);
static_assert(offsetof(IndexHeader, count) == 24);

struct StartSlot {
  std::uint64_t sequence = 0;
  Offset start = 0;
  os::Bits128 topic_id = {};
  std::uint32_t reason = 0;
  std::uint32_t has_passed_damage = 0;
  Offset tombstone_horizon = 0;
  Offset compacted_to = 0;
  std::uint64_t checksum = 0;
};
static_assert(sizeof(StartSlot) == 64);
static_assert(offsetof(StartSlot, tombstone_horizon) == 40);
static_assert(offsetof(StartSlot, checksum) == 56);

// The keys that tie a frame to its segment: the k[i] of the page above.
struct SegmentKey {
  std::array<std::uint64_t, 6> k = {};
  std::uint64_t odd = 0;           // k[5] | 1
  std::uint64_t odd_for_body = 0;  // k[5] ^ k[0] | 1
  static SegmentKey Make(const os::Bits128& salt, const os::Bits128& topic_id,
                         std::uint32_t partition);
};

// The first 8 bytes of a salt, which name a file in the control block.
inline std::uint64_t SaltTag(const os::Bits128& salt) {
  std::uint64_t tag;
  std::memcpy(&tag, salt.data(), sizeof tag);
  return tag;
}

// Of sequences that count the writes to two slots in turn.
inline std::uint64_t SequenceAfter(std::uint64_t sequence) {
  return sequence + 1 != 0 ? sequence + 1 : 1;
}
inline bool IsLater(std::uint64_t sequence, std::uint64_t than) {
  return static_cast<std::int64_t>(sequence - than) > 0;
}

// Sets the checksum of a header or seal that is otherwise filled in.
void Sign(SegmentHeader& header);
void Sign(Seal& seal, const os::Bits128& salt);
void Sign(StartSlot& slot);
// Whether it is one of ours. Of a header: also that every value is within bounds.
bool IsValid(const SegmentHeader& header);
bool IsValid(const Seal& seal, const os::Bits128& salt);
bool IsValid(const StartSlot& slot);

// "00000000000000000042.log"
std::string SegmentFileName(Offset base, const char* extension = ".log");
// The base offset that a file name names, if it is a segment's.
std::optional<Offset> BaseOfFileName(std::string_view name);

// The largest offset span of a header.
inline constexpr std::uint64_t kOffsetSpanMax =
    4 * ((kSegmentBytesMax - kFirstFrame) / kFrameHeaderBytes + 1);

// The most records that a segment of that capacity can hold.
inline std::uint64_t RecordsMax(std::uint64_t capacity) {
  return (capacity - kFirstFrame) / kFrameHeaderBytes + 1;
}

}  // namespace cordwood::segment

#endif  // CORDWOOD_SEGMENT_FORMAT_H_
