// Frames against damage and against attackers: every flipped bit, every cut, every length that a
// header can claim. What must not be read lies behind a page that cannot be touched.

#include "cordwood/segment/frame.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "cordwood/record.h"
#include "cordwood/segment/format.h"
#include "tests/catch.h"
#include "tests/support/plan_frame.h"

namespace cordwood::segment::frame_test {
namespace {

using cordwood::testing::PlanFrame;

const SegmentKey kKey = SegmentKey::Make({1, 2, 3}, {4, 5, 6}, 7);

// The bytes of a file, laid so that the first byte behind the last one cannot be touched. One at a
// time: they share their pages.
class GuardedBytes {
 public:
  explicit GuardedBytes(std::string_view bytes)
      : data_(Guard() - bytes.size()), size_(bytes.size()) {
    if (size_ > kBytesMax) FAIL(size_ << " bytes");
    if (size_ != 0) std::memcpy(data_, bytes.data(), size_);
  }

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kBytesMax = 64 << 10;

  static std::byte* Guard() {
    static std::byte* const guard = [] {
      const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
      void* const map = mmap(nullptr, kBytesMax + page, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (map == MAP_FAILED) FAIL("mmap");
      std::byte* const behind = static_cast<std::byte*>(map) + kBytesMax;
      if (mprotect(behind, page, PROT_NONE) != 0) FAIL("mprotect");
      return behind;
    }();
    return guard;
  }

  std::byte* const data_;
  const std::size_t size_;
};

// One frame at a position of a file, and what can be done to it.
class Frame {
 public:
  explicit Frame(const Record& record, std::uint64_t position = kFirstFrame,
                 std::uint32_t batch_remaining = 0)
      : position_(position) {
    const FramePlan plan = PlanFrame(record);
    file_.assign(position + plan.frame_bytes(), '\x5a');
    WriteFrame(kKey, reinterpret_cast<std::byte*>(file_.data()), plan,
               {.position = position,
                .offset = 1000,
                .timestamp_ns = 1'600'000'000'000'000'000,
                .batch_remaining = batch_remaining,
                .durable = 990},
               record);
  }

  std::size_t bytes() const { return file_.size() - position_; }
  std::uint64_t position() const { return position_; }
  std::string& file() { return file_; }
  char& at(std::size_t i) { return file_[position_ + i]; }

  void FlipBit(std::size_t bit) { at(bit / 8) ^= static_cast<char>(1 << bit % 8); }
  void Put(std::size_t where, std::uint64_t value, std::size_t bytes) {
    std::memcpy(&at(where), &value, bytes);
  }
  FrameHeader header() const {
    FrameHeader header;
    std::memcpy(&header, file_.data() + position_, sizeof header);
    return header;
  }
  // Makes the header's check, and if the body is all there the checksum, hold again, as somebody
  // can who knows the salt.
  void Forge() {
    FrameHeader header = this->header();
    const std::uint64_t mix = MixHeader(kKey, position_, header);
    std::uint64_t body = std::uint64_t{header.value_bytes} + header.key_bytes;
    const std::uint64_t room = bytes() - kFrameHeaderBytes;
    if ((header.bytes_and_flags & kHasHeaders) != 0 && body + 4 <= room) {
      std::uint32_t section;
      std::memcpy(&section, &at(kFrameHeaderBytes + body), 4);
      body += section;
    }
    header.check = HeaderCheck(mix);
    if (body <= room) {
      const std::uint64_t hash = os::Hash64(file_.data() + position_ + kFrameHeaderBytes, body);
      header.checksum = Checksum(kKey, mix, hash);
    }
    std::memcpy(&at(0), &header, sizeof header);
  }

  FrameState Check(bool verify_body = true, const SegmentKey& key = kKey) const {
    CheckedFrame frame;
    return CheckFrame(key, reinterpret_cast<const std::byte*>(file_.data()), position_,
                      file_.size(), verify_body, frame);
  }

 private:
  const std::uint64_t position_;
  std::string file_;
};

// Every shape of a record: parts there, empty or missing, and each length of the padding.
std::vector<Frame> EveryShape() {
  static const std::string kLetters(5000, 'x');
  const auto letters = [](std::size_t n) { return std::string_view(kLetters).substr(0, n); };
  std::vector<Frame> frames;
  frames.emplace_back(Record{});
  frames.emplace_back(Record{.value = ""});
  frames.emplace_back(Record{.key = "", .value = ""});
  frames.emplace_back(Record{.key = "tombstone"});
  frames.emplace_back(Record{.headers = {{"", ""}}});
  frames.emplace_back(Record{.key = "k", .value = "v", .headers = {{"name", "v"}, {"n", nullptr}}});
  for (std::size_t n = 1; n <= 8; ++n) {
    frames.emplace_back(Record{.value = letters(n)});
    frames.emplace_back(Record{.key = letters(3), .value = letters(n)}, kFirstFrame + 8 * n, 2);
    frames.emplace_back(Record{.value = letters(n), .headers = {{"name", "value"}}});
  }
  frames.emplace_back(Record{.key = "key", .value = letters(5000)});
  return frames;
}

// Reads each byte that a reader would be shown; true if all of them lie in the frame.
bool ShowsOnlyItsOwn(const CheckedFrame& frame) {
  const internal::PartitionName name;
  const RecordView view = ViewOf(frame, &name);
  const char* const end = frame.body - kFrameHeaderBytes + frame.frame_bytes;
  bool inside = true;
  unsigned sum = 0;
  const auto look = [&](std::optional<std::string_view> bytes) {
    if (!bytes || bytes->empty()) return;
    inside = inside && bytes->data() >= frame.body && bytes->data() + bytes->size() <= end;
    for (const char c : *bytes) sum += static_cast<unsigned char>(c);
  };
  look(view.key());
  look(view.value());
  for (const Header& header : view.headers()) {
    look(header.key);
    look(header.value.get());
  }
  volatile unsigned keep = sum;  // so that the reads are done
  static_cast<void>(keep);
  return inside;
}

// Checks a frame that ends where nothing can be read; false if it would show what is not its own.
bool IsSafe(Frame& frame, bool verify_body) {
  const GuardedBytes file(frame.file());
  CheckedFrame checked;
  return CheckFrame(kKey, file.data(), frame.position(), file.size(), verify_body, checked) !=
             FrameState::kValid ||
         ShowsOnlyItsOwn(checked);
}

}  // namespace

TEST_CASE("Frame: what was written is valid, and nothing of it is lost") {
  const std::vector<Header> headers = {{"a", "1"}, {"", ""}, {"null", nullptr}};
  Frame frame({.key = "key", .value = "value", .headers = headers}, 2048, 5);
  CheckedFrame checked;
  REQUIRE(CheckFrame(kKey, reinterpret_cast<std::byte*>(frame.file().data()), 2048,
                     frame.file().size(), true, checked) == FrameState::kValid);
  const internal::PartitionName name{"orders", 7};
  const RecordView view = ViewOf(checked, &name);
  CHECK(view.key() == "key");
  CHECK(view.value() == "value");
  CHECK(view.offset() == 1000);
  CHECK(view.timestamp() == absl::FromUnixSeconds(1'600'000'000));
  CHECK(view.headers().size() == 3);
  CHECK(view.headers().Last("a") == "1");
  CHECK(view.topic() == "orders");
  CHECK(checked.header.batch_remaining == 5);
  CHECK(checked.header.durable_lag == 10);
  CHECK(checked.frame_bytes == frame.bytes());
}

TEST_CASE("Frame: every shape is valid, a multiple of 8 long, and short of padding") {
  for (const Frame& frame : EveryShape()) {
    CAPTURE(frame.bytes());
    CHECK(frame.Check() == FrameState::kValid);
    CHECK(frame.Check(false) == FrameState::kValid);
    CHECK(frame.bytes() % 8 == 0);
  }
}

TEST_CASE("Frame: a body that is hashed in pieces has the checksum of the whole") {
  const std::string value(GENERATE(4000U, 4090U, 4096U, 4097U, 70'000U), 'v');
  CHECK(Frame({.key = "key", .value = value}).Check() == FrameState::kValid);
  CHECK(Frame({.value = value, .headers = {{"n", "v"}}}).Check() == FrameState::kValid);
  CHECK(Frame({.key = value, .headers = {{value, value}}}).Check() == FrameState::kValid);
}

TEST_CASE("Frame: headers of a record that was read are written as they came") {
  const std::vector<Header> headers = {{"a", "1"}, {"null", nullptr}};
  Frame frame({.value = "v", .headers = headers});
  CheckedFrame checked;
  REQUIRE(CheckFrame(kKey, reinterpret_cast<std::byte*>(frame.file().data()), kFirstFrame,
                     frame.file().size(), true, checked) == FrameState::kValid);
  Frame copy({.value = "v", .headers = ViewOf(checked, nullptr).headers()});
  CHECK((copy.file() == frame.file()));
}

TEST_CASE("Frame: a value that is in its place already gets the same bytes") {
  const std::vector<Header> headers = {{"name", "v"}};
  const Record record{.key = "key", .value = "value", .headers = headers};
  Frame whole(record);
  Frame filled(record);
  const FramePlan plan = PlanFrame(record);
  for (std::size_t i = plan.value_bytes; i < filled.bytes() - kFrameHeaderBytes; ++i) {
    filled.at(kFrameHeaderBytes + i) = '\x5a';
  }
  PutTail(&filled.at(kFrameHeaderBytes), record, plan);
  CHECK((filled.file() == whole.file()));
}

// ---- Damage -----------------------------------------------------------------------------------

TEST_CASE("Frame: every single flipped bit is found, in every shape") {
  for (Frame& frame : EveryShape()) {
    for (std::size_t bit = 0; bit < frame.bytes() * 8; ++bit) {
      frame.FlipBit(bit);
      if (frame.Check() == FrameState::kValid) FAIL("bit " << bit << " of " << frame.bytes() * 8);
      frame.FlipBit(bit);
    }
    REQUIRE(frame.Check() == FrameState::kValid);
  }
}

TEST_CASE("Frame: a flipped bit of the header is known for what it is") {
  Frame frame({.key = "k", .value = "value"});
  for (std::size_t bit = 0; bit < 8 * kFrameHeaderBytes; ++bit) {
    const bool in_checksum = bit >= 64 && bit < 128;
    frame.FlipBit(bit);
    const FrameState state = frame.Check();
    if (state != (in_checksum ? FrameState::kBadBody : FrameState::kBadHeader)) {
      FAIL("bit " << bit << ": " << static_cast<int>(state));
    }
    frame.FlipBit(bit);
  }
}

TEST_CASE("Frame: cut at any byte it is not valid, and nothing behind the cut is read") {
  for (Frame& frame : EveryShape()) {
    if (frame.bytes() > 200) continue;
    for (std::size_t limit = frame.position(); limit < frame.file().size(); ++limit) {
      const GuardedBytes file(std::string_view(frame.file()).substr(0, limit));
      CheckedFrame checked;
      for (const bool verify_body : {true, false}) {
        if (CheckFrame(kKey, file.data(), frame.position(), limit, verify_body, checked) !=
            FrameState::kPastEnd) {
          FAIL("cut at " << limit - frame.position() << " of " << frame.bytes());
        }
      }
    }
  }
}

TEST_CASE("Frame: a whole frame at the very end of what can be read is valid") {
  for (Frame& frame : EveryShape()) {
    const GuardedBytes file(frame.file());
    CheckedFrame checked;
    CHECK(CheckFrame(kKey, file.data(), frame.position(), file.size(), true, checked) ==
          FrameState::kValid);
    CHECK(ShowsOnlyItsOwn(checked));
  }
}

TEST_CASE("Frame: at another position, salt, topic or partition it is no frame") {
  for (Frame& frame : EveryShape()) {
    CHECK(frame.Check(true, SegmentKey::Make({9}, {4, 5, 6}, 7)) == FrameState::kBadHeader);
    CHECK(frame.Check(true, SegmentKey::Make({1, 2, 3}, {9}, 7)) == FrameState::kBadHeader);
    CHECK(frame.Check(true, SegmentKey::Make({1, 2, 3}, {4, 5, 6}, 8)) == FrameState::kBadHeader);
    for (const std::size_t by : {8U, 16U, 512U, 4096U}) {
      const std::string moved = std::string(by, '\0') + frame.file();
      CheckedFrame checked;
      CHECK(CheckFrame(kKey, reinterpret_cast<const std::byte*>(moved.data()),
                       frame.position() + by, moved.size(), true,
                       checked) == FrameState::kBadHeader);
    }
  }
}

TEST_CASE("Frame: bytes that are not zero in the padding are found without the checksum too") {
  Frame frame({.value = "12345"});
  for (std::size_t i = frame.bytes() - 3; i < frame.bytes(); ++i) {
    frame.at(i) = 1;
    CHECK(frame.Check(false) == FrameState::kBadBody);
    frame.at(i) = 0;
  }
  CHECK(frame.Check(false) == FrameState::kValid);
}

TEST_CASE("Frame: without the checksum a damaged value passes, and only the value") {
  Frame frame({.key = "k", .value = "value"});
  frame.at(kFrameHeaderBytes) ^= 1;
  CHECK(frame.Check(false) == FrameState::kValid);
  CHECK(frame.Check(true) == FrameState::kBadBody);
}

// ---- Where nothing was written ----------------------------------------------------------------

TEST_CASE("Frame: zeros are nothing, at every position of a segment") {
  const std::string zeros(64 << 10, '\0');
  for (std::uint64_t at = 0; at + kFrameHeaderBytes <= zeros.size(); at += 8) {
    CheckedFrame frame;
    if (CheckFrame(kKey, reinterpret_cast<const std::byte*>(zeros.data()), at, zeros.size(), true,
                   frame) != FrameState::kNothing) {
      FAIL("position " << at);
    }
  }
}

TEST_CASE("Frame: a length of zero is nothing, whatever the rest of the header says") {
  Frame frame({.value = "value"});
  frame.Put(4, GENERATE(0U, 1U, 7U), 4);
  CHECK(frame.Check() == FrameState::kNothing);
  frame.Forge();  // a check that holds makes no difference: a check's value is no sentinel
  CHECK(frame.Check() == FrameState::kNothing);
}

TEST_CASE("Frame: a checksum of zero or of all ones is one as any other") {
  Frame frame({.value = "value"});
  for (const std::uint64_t forged : {std::uint64_t{0}, ~std::uint64_t{0}}) {
    frame.Put(8, forged, 8);
    CHECK(frame.Check() == FrameState::kBadBody);
    CHECK(frame.Check(false) == FrameState::kValid);
  }
  for (const std::uint64_t forged : {std::uint64_t{0}, ~std::uint64_t{0}}) {
    frame.Put(0, forged, 4);
    CHECK(frame.Check() == FrameState::kBadHeader);
  }
}

// ---- Attackers --------------------------------------------------------------------------------

TEST_CASE("Frame: no length that a proven header claims leads outside of the frame") {
  struct Field {
    const char* name;
    std::size_t at, bytes;
  };
  // The last is the length of the headers section, behind a value of 5 and a key of 3 bytes.
  const Field fields[] = {{"frame bytes", 4, 4},  {"offset", 16, 8},     {"timestamp", 24, 8},
                          {"value bytes", 32, 4}, {"key bytes", 36, 4},  {"remaining", 40, 4},
                          {"durable lag", 44, 4}, {"headers", 48 + 8, 4}};
  const std::uint64_t values[] = {
      0,          1,          3,          4,          5,          8,          40,        47,
      48,         49,         55,         56,         57,         64,         72,        0x7fffffff,
      0x80000000, 0x80000001, 0xfffffff7, 0xfffffff8, 0xfffffffc, 0xfffffffe, 0xffffffff};
  const std::vector<Header> headers = {{"name", "value"}};
  const Record record{.key = "key", .value = "value", .headers = headers};
  for (const Field& field : fields) {
    for (const std::uint64_t value : values) {
      for (std::uint32_t flags = 0; flags <= kFlagsMask; ++flags) {
        Frame frame(record);
        frame.Put(4, (frame.header().bytes_and_flags & ~kFlagsMask) | flags, 4);
        frame.Put(field.at, field.at == 4 ? (value & ~std::uint64_t{7}) | flags : value,
                  field.bytes);
        if (field.bytes == 8) frame.Put(field.at + 4, value, 4);
        frame.Forge();
        if (!IsSafe(frame, true) || !IsSafe(frame, false)) FAIL(field.name << " = " << value);
      }
    }
  }
}

TEST_CASE("Frame: lengths whose sum wraps around 32 bits do not fit") {
  Frame frame({.key = "key", .value = "value"});
  constexpr std::uint64_t kSums[] = {0x100000000, 0x100000008, 0x1fffffff8, 0x80000008};
  constexpr std::uint64_t kKeyBytes[] = {0x80000000, 0xffffffff, 0xfffffff8, 1};
  for (const std::uint64_t wrap : kSums) {
    for (const std::uint64_t key_bytes : kKeyBytes) {
      frame.Put(32, wrap - key_bytes, 4);
      frame.Put(36, key_bytes, 4);
      frame.Forge();
      const bool fits = std::uint64_t{frame.header().value_bytes} + key_bytes <= 8;
      CHECK((frame.Check(false) == FrameState::kValid) == fits);
      CHECK(IsSafe(frame, false));
    }
  }
}

TEST_CASE("Frame: eight bytes or more behind the body are no padding, though they are zero") {
  Frame frame({.value = std::string_view("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16)});
  for (std::uint64_t value_bytes = 0; value_bytes <= 17; ++value_bytes) {
    CAPTURE(value_bytes);
    frame.Put(32, value_bytes, 4);
    frame.Forge();
    const bool good = value_bytes > 8 && value_bytes <= 16;
    CHECK(frame.Check() == (good ? FrameState::kValid : FrameState::kBadBody));
  }
}

TEST_CASE("Frame: a headers section is no shorter than its own length") {
  Frame frame({.value = "12345678"});
  for (std::uint64_t section = 0; section <= 5; ++section) {
    CAPTURE(section);
    frame.Put(4, frame.header().bytes_and_flags | kHasHeaders, 4);
    frame.Put(32, 4, 4);
    frame.Put(kFrameHeaderBytes + 4, section, 4);
    frame.Forge();
    CHECK(frame.Check() == (section == 4 ? FrameState::kValid : FrameState::kBadBody));
  }
}

TEST_CASE("Frame: bodies that anybody may have written never lead outside of them") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 20'000; ++round) {
    Frame frame({.key = "key", .value = "value", .headers = {{"name", "value"}, {"n", nullptr}}});
    for (int i = 0; i < 3; ++i) {
      const std::size_t at = 4 + random() % (frame.bytes() - 4);
      frame.at(at) = static_cast<char>(random() % 4 == 0 ? 0xff : random());
    }
    frame.Forge();
    if (!IsSafe(frame, round % 2 == 0)) FAIL("round " << round);
  }
}

TEST_CASE("Frame: a log that is stored inside a log's value is not taken for frames") {
  std::string inner;
  for (std::uint64_t at = kFirstFrame; inner.size() < 4096; at += 56) {
    inner += Frame({.value = "inner"}, at).file().substr(at);
  }
  Frame outer({.value = inner});
  REQUIRE(outer.Check() == FrameState::kValid);
  // From inside the value, at any multiple of 8, as who looks for the next whole frame does.
  for (std::uint64_t at = kFirstFrame + 8; at < outer.file().size(); at += 8) {
    CheckedFrame frame;
    if (CheckFrame(kKey, reinterpret_cast<std::byte*>(outer.file().data()), at, outer.file().size(),
                   true, frame) == FrameState::kValid) {
      FAIL("a frame at " << at);
    }
  }
}

// ---- Plans ------------------------------------------------------------------------------------

TEST_CASE("Frame: a plan counts each part once and rounds up to 8") {
  const FramePlan plan = PlanFrame({.key = "123", .value = "45", .headers = {{"a", "b"}}});
  CHECK(plan.key_bytes == 3);
  CHECK(plan.value_bytes == 2);
  CHECK(plan.headers_bytes == 4 + 8 + 2);
  CHECK(plan.frame_bytes() == FrameBytes(3 + 2 + 14));
  CHECK(plan.frame_bytes() == 72);
  CHECK((plan.bytes_and_flags & kFlagsMask) == (kHasKey | kHasValue | kHasHeaders));
  CHECK(FrameBytes(0) == 48);
  CHECK(FrameBytes(1) == 56);
  CHECK(FrameBytes(8) == 56);
  CHECK(FrameBytes(std::uint64_t{1} << 40) == (std::uint64_t{1} << 40) + 48);
}

TEST_CASE("Frame: none and empty are told apart") {
  CHECK((PlanFrame({}).bytes_and_flags & kFlagsMask) == 0);
  CHECK((PlanFrame({.value = ""}).bytes_and_flags & kFlagsMask) == kHasValue);
  CHECK((PlanFrame({.key = ""}).bytes_and_flags & kFlagsMask) == kHasKey);
}

}  // namespace cordwood::segment::frame_test
