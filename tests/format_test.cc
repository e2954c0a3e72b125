// The bytes of format 1, and the page at the head of format.h held to the code: a reader that is
// written from its words alone, with nothing of frame.h, reads what WriteFrame wrote.

#include "cordwood/segment/format.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "cordwood/os/checksum.h"
#include "cordwood/record.h"
#include "cordwood/segment/frame.h"
#include "tests/catch.h"
#include "tests/support/plan_frame.h"

namespace cordwood::segment::format_test {
namespace {

using cordwood::testing::PlanFrame;

template <class T>
std::string BytesOf(const T& value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string Hex(std::string_view bytes) {
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

// 00 01 02 ... 0f for 0, 10 11 12 ... 1f for 0x10.
os::Bits128 Counting(std::uint8_t first) {
  os::Bits128 bits;
  for (std::uint8_t& byte : bits) byte = first++;
  return bits;
}

// ---- A reader from the words of the page ------------------------------------------------------

std::uint64_t Little(std::string_view file, std::size_t at, std::size_t bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes; i-- > 0;)
    value = value << 8 | static_cast<std::uint8_t>(file[at + i]);
  return value;
}

// "low half xor high half of the 128-bit product a * b", with 64-bit arithmetic.
std::uint64_t PageMum(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t mask = 0xffffffff;
  const std::uint64_t low = (a & mask) * (b & mask);
  const std::uint64_t cross1 = (a >> 32) * (b & mask) + (low >> 32);
  const std::uint64_t cross2 = (a & mask) * (b >> 32) + (cross1 & mask);
  const std::uint64_t high = (a >> 32) * (b >> 32) + (cross1 >> 32) + (cross2 >> 32);
  return (cross2 << 32 | (low & mask)) ^ high;
}

using PageHeaders = std::vector<std::pair<std::string, std::optional<std::string>>>;

struct PageRecord {
  std::optional<std::string> key, value;
  PageHeaders headers;
  std::uint64_t offset = 0, timestamp = 0, batch_remaining = 0, durable_lag = 0, bytes = 0;
};

class PageReader {
 public:
  explicit PageReader(std::string file) : file_(std::move(file)) {
    for (std::uint32_t i = 0; i < 6; ++i) {
      // {salt, topic id, 4 bytes partition, 4 bytes i}
      std::string input = file_.substr(32, 16) + file_.substr(16, 16) + file_.substr(12, 4);
      input += {static_cast<char>(i), '\0', '\0', '\0'};
      k_[i] = os::Hash64(input.data(), input.size());
    }
  }

  bool HeaderIsGood() const {
    return file_.substr(0, 8) == "CWSEGMT1" && Little(file_, 8, 4) == 1 &&
           Little(file_, 504, 8) == os::Hash64(file_.data(), 504);
  }
  bool SealIsGood() const {
    return file_.substr(512, 8) == "CWSEALD1" &&
           Little(file_, 1016, 8) == (os::Hash64(file_.data() + 512, 504) ^ Little(file_, 32, 8));
  }

  // The record of the frame at a position, if it is valid by the page.
  std::optional<PageRecord> At(std::size_t position) const {
    if (position + 48 > file_.size()) return std::nullopt;
    const auto u32 = [&](std::size_t at) { return Little(file_, position + at, 4); };
    const auto u64 = [&](std::size_t at) { return Little(file_, position + at, 8); };
    const std::uint64_t bytes = u32(4) & ~std::uint64_t{7};
    const std::uint64_t h =
        PageMum((u32(4) | std::uint64_t{position} / 8 << 32) ^ k_[0], u64(16) ^ k_[1]) ^
        PageMum(u64(24) ^ k_[2], (u32(32) | u32(36) << 32) ^ k_[3]) ^
        PageMum((u32(40) | u32(44) << 32) ^ k_[4], k_[5] | 1);
    if (u32(0) != ((h ^ h >> 32) & 0xffffffff)) return std::nullopt;
    if (bytes < 48 || position + bytes > file_.size()) return std::nullopt;
    std::uint64_t body = u32(32) + u32(36);
    if (u32(4) & 4) body += body + 4 <= bytes - 48 ? u32(48 + body) : 0;
    if (body > bytes - 48 || bytes - 48 - body >= 8) return std::nullopt;
    for (std::size_t i = position + 48 + body; i < position + bytes; ++i) {
      if (file_[i] != 0) return std::nullopt;
    }
    const std::uint64_t hash = os::Hash64(file_.data() + position + 48, body);
    if (u64(8) != PageMum(hash ^ h, (k_[5] ^ k_[0]) | 1)) return std::nullopt;
    return Decode(position, bytes);
  }

 private:
  PageRecord Decode(std::size_t position, std::uint64_t bytes) const {
    const auto u32 = [&](std::size_t at) { return Little(file_, at, 4); };
    PageRecord record;
    std::size_t at = position + 48;
    const auto take = [&](std::uint64_t size) {
      at += size;
      return file_.substr(at - size, size);
    };
    std::string value = take(u32(position + 32)), key = take(u32(position + 36));
    if (u32(position + 4) & 1) record.key = std::move(key);
    if (u32(position + 4) & 2) record.value = std::move(value);
    if (u32(position + 4) & 4) {
      const std::size_t end = at + u32(at);
      for (at += 4; at < end;) {
        const std::uint64_t key_bytes = u32(at), value_bytes = u32(at + 4);
        at += 8;
        std::string name = take(key_bytes);
        record.headers.emplace_back(std::move(name), std::nullopt);
        if (value_bytes != 0xffffffff) record.headers.back().second = take(value_bytes);
      }
    }
    record.offset = Little(file_, position + 16, 8);
    record.timestamp = Little(file_, position + 24, 8);
    record.batch_remaining = u32(position + 40);
    record.durable_lag = u32(position + 44);
    record.bytes = bytes;
    return record;
  }

  const std::string file_;
  std::uint64_t k_[6] = {};
};

// ---- A segment in memory ----------------------------------------------------------------------

class SegmentBytes {
 public:
  SegmentBytes(const os::Bits128& salt, const os::Bits128& topic_id, std::uint32_t partition)
      : key_(SegmentKey::Make(salt, topic_id, partition)), bytes_(kFirstFrame, '\0') {
    SegmentHeader header;
    header.partition = partition;
    header.topic_id = topic_id;
    header.salt = salt;
    header.capacity = 1 << 20;
    Sign(header);
    std::memcpy(bytes_.data(), &header, sizeof header);
  }

  // Returns the position of the frame.
  std::uint64_t Append(const Record& record, Offset offset, std::int64_t timestamp_ns,
                       std::uint32_t batch_remaining, Offset durable) {
    const FramePlan plan = PlanFrame(record);
    const std::uint64_t position = bytes_.size();
    bytes_.resize(position + plan.frame_bytes(), '\x5a');
    WriteFrame(key_, reinterpret_cast<std::byte*>(bytes_.data()), plan,
               {.position = position,
                .offset = offset,
                .timestamp_ns = timestamp_ns,
                .batch_remaining = batch_remaining,
                .durable = durable},
               record);
    return position;
  }

  const std::string& bytes() const { return bytes_; }
  std::string& bytes() { return bytes_; }
  std::string Frame(std::uint64_t position) const { return bytes_.substr(position); }

 private:
  const SegmentKey key_;
  std::string bytes_;
};

SegmentHeader ExampleHeader() {
  SegmentHeader header;
  header.partition = 3;
  header.topic_id = Counting(0);
  header.salt = Counting(0x10);
  header.offset_span = 0x1234;
  header.capacity = 1 << 20;
  header.created_ns = 1'000'000'007;
  Sign(header);
  return header;
}

Seal ExampleSeal() {
  Seal seal;
  seal.base = 7;
  seal.next = 9;
  seal.end_position = 1024 + 112;
  seal.largest_timestamp = -1;
  seal.last_append_ns = 5;
  seal.reason = SealReason::kRecovered;
  Sign(seal, Counting(0x10));
  return seal;
}

}  // namespace

// ---- Golden bytes -----------------------------------------------------------------------------

TEST_CASE("Format: the bytes of the page's example of a frame") {
  SegmentBytes segment({}, {}, 0);
  const std::uint64_t position = segment.Append({.value = "hi"}, 0, 1, 0, 0);
  CHECK(position == 1024);
  CHECK(Hex(segment.Frame(position)) ==
        "9efdccb7"            // header check
        "3a000000"            // 56 bytes, has a value
        "31ae5f0041886c4b"    // checksum
        "0000000000000000"    // offset
        "0100000000000000"    // timestamp
        "0200000000000000"    // value bytes, key bytes
        "0000000000000000"    // batch remaining, durable lag
        "6869000000000000");  // "hi", and six zeros to the next multiple of 8
}

TEST_CASE("Format: the bytes of a segment's header") {
  const std::string bytes = BytesOf(ExampleHeader());
  CHECK(Hex(bytes.substr(0, 72)) ==
        "43575345474d5431"                  // "CWSEGMT1"
        "0100000003000000"                  // version, partition
        "000102030405060708090a0b0c0d0e0f"  // topic id
        "101112131415161718191a1b1c1d1e1f"  // salt
        "3412000000000000"                  // offset span
        "0000100000000000"                  // capacity
        "07ca9a3b00000000");                // time of creation
  CHECK(bytes.substr(72, 432) == std::string(432, '\0'));
  CHECK(Hex(bytes.substr(504)) == "e92c914c259e4c67");
}

TEST_CASE("Format: the bytes of a seal") {
  const std::string bytes = BytesOf(ExampleSeal());
  CHECK(Hex(bytes.substr(0, 52)) ==
        "43575345414c4431"  // "CWSEALD1"
        "0700000000000000"  // base
        "0900000000000000"  // next
        "7004000000000000"  // end position
        "ffffffffffffffff"  // largest timestamp
        "0500000000000000"  // time of the last append
        "02000000");        // recovered
  CHECK(bytes.substr(52, 452) == std::string(452, '\0'));
  CHECK(Hex(bytes.substr(504)) == "dfd0eb6e45baeb1b");
}

TEST_CASE("Format: the bytes of an index's header and of a start slot") {
  IndexHeader index;
  index.salt = Counting(0x10);
  index.count = 2;
  index.checksum = 3;
  CHECK(Hex(BytesOf(index)) ==
        "4357494e44455831"                  // "CWINDEX1"
        "101112131415161718191a1b1c1d1e1f"  // salt
        "0200000000000000"                  // number of entries
        "0300000000000000"                  // checksum
        "000000000000000000000000000000000000000000000000");
  index.magic = kTimeIndexMagic;
  CHECK(BytesOf(index).substr(0, 8) == "CWTIMEX1");

  StartSlot slot;
  slot.sequence = 1;
  slot.start = 42;
  slot.topic_id = Counting(0);
  Sign(slot);
  CHECK(Hex(BytesOf(slot)) ==
        "0100000000000000"                  // sequence
        "2a00000000000000"                  // start offset
        "000102030405060708090a0b0c0d0e0f"  // topic id
        "000000000000000000000000000000000000000000000000"
        "7f504f51d85f14fc");  // checksum
}

TEST_CASE("Format: a seal's reasons keep their numbers") {
  CHECK(static_cast<int>(SealReason::kFull) == 1);
  CHECK(static_cast<int>(SealReason::kRecovered) == 2);
  CHECK(static_cast<int>(SealReason::kRetired) == 3);
}

// ---- The page against the code ----------------------------------------------------------------

TEST_CASE("Format: who knows only the page reads every frame that the code writes") {
  SegmentBytes segment(Counting(0x80), Counting(0x20), 0xfffffffe);
  const std::string long_value(5000, 'v');
  segment.Append({.value = "hi"}, 100, 1, 2, 90);
  segment.Append({.key = "k", .value = ""}, 101, -1, 1, 0);
  segment.Append({.key = "key of a tombstone"}, 102, 1 << 30, 0, 103);
  segment.Append({.key = "k", .value = long_value, .headers = {{"a", "1"}, {"", nullptr}}}, 103,
                 std::numeric_limits<std::int64_t>::max(), 0, 103);

  const PageReader page(segment.bytes());
  CHECK(page.HeaderIsGood());
  std::vector<PageRecord> records;
  std::size_t at = 1024;
  while (std::optional<PageRecord> record = page.At(at)) {
    at += record->bytes;
    records.push_back(*std::move(record));
  }
  CHECK(at == segment.bytes().size());
  REQUIRE(records.size() == 4);
  CHECK(records[0].value == "hi");
  CHECK_FALSE(records[0].key.has_value());
  CHECK(records[0].batch_remaining == 2);
  CHECK(records[0].durable_lag == 10);
  CHECK(records[1].value == "");
  CHECK(records[1].key == "k");
  CHECK(records[1].timestamp == 0xffffffffffffffff);
  CHECK_FALSE(records[2].value.has_value());
  CHECK(records[2].offset == 102);
  CHECK(records[2].durable_lag == kDurableLagUnknown);  // below the durable offset: not a lag
  CHECK(records[3].value == long_value);
  CHECK(records[3].key == "k");
  CHECK(records[3].headers == PageHeaders{{"a", "1"}, {"", std::nullopt}});
}

TEST_CASE("Format: page and code agree about every bit of a frame") {
  SegmentBytes segment(Counting(0x80), Counting(0x20), 7);
  const std::uint64_t at = segment.Append({.key = "key", .headers = {{"name", "v"}}}, 9, 5, 0, 1);
  const SegmentKey key = SegmentKey::Make(Counting(0x80), Counting(0x20), 7);
  for (std::size_t bit = 0; bit <= segment.Frame(at).size() * 8; ++bit) {
    std::string bytes = segment.bytes();  // the last round leaves it whole
    if (at + bit / 8 < bytes.size()) bytes[at + bit / 8] ^= static_cast<char>(1 << bit % 8);
    CheckedFrame frame;
    const bool code = CheckFrame(key, reinterpret_cast<const std::byte*>(bytes.data()), at,
                                 bytes.size(), true, frame) == FrameState::kValid;
    if (PageReader(bytes).At(at).has_value() != code) FAIL("they differ about bit " << bit);
  }
}

TEST_CASE("Format: who knows only the page finds the seal that the code writes") {
  SegmentBytes segment(Counting(0x10), Counting(0), 3);
  CHECK_FALSE(PageReader(segment.bytes()).SealIsGood());
  const Seal seal = ExampleSeal();
  std::memcpy(segment.bytes().data() + kSealPosition, &seal, sizeof seal);
  CHECK(PageReader(segment.bytes()).SealIsGood());
  segment.bytes()[40] ^= 1;  // beyond the salt's first 8 bytes
  CHECK(PageReader(segment.bytes()).SealIsGood());
  segment.bytes()[39] ^= 1;
  CHECK_FALSE(PageReader(segment.bytes()).SealIsGood());
}

// ---- What is valid ----------------------------------------------------------------------------

TEST_CASE("Format: a header, a seal or a start slot with any flipped bit is not valid") {
  const auto every_flip_shows = [](auto value, auto is_valid) {
    REQUIRE(is_valid(value));
    for (std::size_t bit = 0; bit < 8 * sizeof value; ++bit) {
      auto flipped = value;
      reinterpret_cast<unsigned char*>(&flipped)[bit / 8] ^=
          static_cast<unsigned char>(1 << bit % 8);
      if (is_valid(flipped)) FAIL("bit " << bit << " of " << 8 * sizeof value);
    }
  };
  every_flip_shows(ExampleHeader(), [](const SegmentHeader& h) { return IsValid(h); });
  every_flip_shows(ExampleSeal(), [](const Seal& s) { return IsValid(s, Counting(0x10)); });
  StartSlot slot{.sequence = 1, .start = 2};
  Sign(slot);
  every_flip_shows(slot, [](const StartSlot& s) { return IsValid(s); });
}

TEST_CASE("Format: a header that is signed but out of bounds is not valid") {
  const auto valid_with = [](auto change) {
    SegmentHeader header = ExampleHeader();
    change(header);
    Sign(header);
    return IsValid(header);
  };
  CHECK(valid_with([](SegmentHeader& h) { h.capacity = kFirstFrame; }));
  CHECK(valid_with([](SegmentHeader& h) { h.capacity = kSegmentBytesMax; }));
  CHECK(valid_with([](SegmentHeader& h) { h.offset_span = 2 * RecordsMax(kSegmentBytesMax); }));
  CHECK(valid_with([](SegmentHeader& h) { h.offset_span = kOffsetSpanMax; }));
  CHECK(valid_with([](SegmentHeader& h) { h.compacted_next = 300; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.compacted_next = -1; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.offset_span = kOffsetSpanMax + 1; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.capacity = kFirstFrame - 8; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.capacity = kSegmentBytesMax + 8; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.capacity = 4100; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.capacity = 0; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.offset_span = ~std::uint64_t{0}; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.version = 2; }));
  CHECK_FALSE(valid_with([](SegmentHeader& h) { h.magic = kSealMagic; }));
}

TEST_CASE("Format: a seal that is signed but out of bounds is not valid") {
  const auto valid_with = [](auto change) {
    Seal seal = ExampleSeal();
    change(seal);
    Sign(seal, Counting(0x10));
    return IsValid(seal, Counting(0x10));
  };
  CHECK(valid_with([](Seal& s) { s.next = s.base; }));
  CHECK(valid_with([](Seal& s) { s.end_position = kSegmentBytesMax; }));
  CHECK_FALSE(valid_with([](Seal& s) { s.base = -1; }));
  CHECK_FALSE(valid_with([](Seal& s) { s.next = s.base - 1; }));
  CHECK_FALSE(valid_with([](Seal& s) { s.next = std::numeric_limits<Offset>::max(); }));
  CHECK_FALSE(valid_with([](Seal& s) { s.end_position = kFirstFrame - 8; }));
  CHECK_FALSE(valid_with([](Seal& s) { s.end_position = kSegmentBytesMax + 8; }));
  CHECK_FALSE(valid_with([](Seal& s) { s.end_position += 4; }));
}

TEST_CASE("Format: a seal of another file's salt is not valid") {
  CHECK(IsValid(ExampleSeal(), Counting(0x10)));
  CHECK_FALSE(IsValid(ExampleSeal(), Counting(0x11)));
}

TEST_CASE("Format: a start slot that was never written, or starts below zero, is not valid") {
  StartSlot slot;
  Sign(slot);
  CHECK_FALSE(IsValid(slot));
  slot = {.sequence = 1, .start = -1};
  Sign(slot);
  CHECK_FALSE(IsValid(slot));
}

TEST_CASE("Format: salt, topic and partition each change every key") {
  const SegmentKey key = SegmentKey::Make(Counting(1), Counting(2), 3);
  const SegmentKey others[] = {SegmentKey::Make(Counting(9), Counting(2), 3),
                               SegmentKey::Make(Counting(1), Counting(9), 3),
                               SegmentKey::Make(Counting(1), Counting(2), 9)};
  for (const SegmentKey& other : others) {
    for (std::size_t i = 0; i < key.k.size(); ++i) CHECK(key.k[i] != other.k[i]);
  }
}

// ---- File names -------------------------------------------------------------------------------

TEST_CASE("Format: a segment's file name gives its base back") {
  CHECK(SegmentFileName(42) == "00000000000000000042.log");
  CHECK(SegmentFileName(42, ".index") == "00000000000000000042.index");
  CHECK(SegmentFileName(0, "") == "00000000000000000000");
  const Offset base = GENERATE(Offset{0}, Offset{1}, Offset{1} << 31, Offset{1} << 47);
  CHECK(BaseOfFileName(SegmentFileName(base)) == base);
}

TEST_CASE("Format: what is no segment's file name names no base") {
  const std::string_view name =
      GENERATE(as<std::string_view>(), "", "0.log", "00000000000000000042",
               "00000000000000000042.lo", "00000000000000000042.logs", "00000000000000000042.LOG",
               "00000000000000000042.index", "0000000000000000042.log", "000000000000000000042.log",
               "0000000000000000004x.log", "+0000000000000000042.log", "-0000000000000000042.log",
               "-0000000000000000000.log", " 0000000000000000042.log", "0x000000000000000042.log",
               "00000000000000000042 log", "09223372036854775807.log", "09223372036854775808.log",
               "99999999999999999999.log", "18446744073709551615.log", ".next-000000000000000.log",
               "../000000000000000042.log", "/00000000000000000042.log");
  CAPTURE(name);
  CHECK(BaseOfFileName(name) == std::nullopt);
}

TEST_CASE("Format: a zero within a file name names no base") {
  std::string name = SegmentFileName(42);
  name[10] = '\0';
  CHECK(BaseOfFileName(name) == std::nullopt);
}

TEST_CASE("Format: the most records of a segment are those of the smallest frames") {
  CHECK(RecordsMax(kFirstFrame + 10 * kFrameHeaderBytes) >= 10);
  CHECK(RecordsMax(kSegmentBytesMax) < std::uint64_t{1} << 31);  // fits the tail word
}

}  // namespace cordwood::segment::format_test
