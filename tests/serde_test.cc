#include "cordwood/serde.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cordwood/typed.h"
#include "tests/catch.h"

namespace cordwood::serde_test {

// --- What a struct may be: checked by the compiler ------------------------------------------

using internal::Form;
using internal::FormOf;
using internal::HasPadding;
using internal::HasPointer;

struct Trade {
  std::int64_t price_cents;
  std::int32_t quantity;
  std::int32_t venue;
};

// Members that are stored.
enum class Side : std::int32_t { kBuy, kSell };
struct WithEnum {
  std::int64_t price;
  Side side;
};
struct WithArrays {
  char name[8];
  std::int64_t grid[2][2];
  Trade trades[3];
};
struct WithStdArray {
  std::array<char, 16> id;
  std::array<Trade, 2> trades;
};
struct WithOptional {
  double bid;
  std::optional<double> last;
};
struct WithTimes {
  absl::Time at;
  absl::Duration took;
  std::chrono::nanoseconds since;
};
struct WithDefaults {
  int count = 1;
  double ratio = 2;
};
struct WithConst {
  const std::int64_t id;
};
struct WithBits {
  std::uint32_t low : 3, high : 29;
};
struct WithUnnamedUnion {
  int kind;
  union {
    double number;
    std::int64_t integer;
  };
};
struct Base {};
struct WithBase : Base {
  int count;
};
struct WithInheritedMembers : Trade {};
struct Empty {};
class FixedString {  // a buffer of its own, no view
 public:
  const char* data() const { return text_; }
  std::size_t size() const { return size_; }

 private:
  char text_[15] = {};
  unsigned char size_ = 0;
};
struct WithFixedString {
  FixedString name;
};
struct WithoutDefault {
  explicit WithoutDefault(int n) : number(n) {}
  int number;
};
struct HidesADefault {
  int count;
  WithoutDefault rest = WithoutDefault(1);
};
struct Wide {
  int a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20,
      a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32, a33;
};

template <class... Ts>
constexpr bool kNoneHasPointer = !(HasPointer<Ts>() || ...);
static_assert(kNoneHasPointer<Trade, WithEnum, WithArrays, WithStdArray, WithOptional, WithTimes>);
static_assert(kNoneHasPointer<WithDefaults, WithConst, WithBits, WithUnnamedUnion, WithBase>);
static_assert(kNoneHasPointer<WithInheritedMembers, Empty, FixedString, WithFixedString>);
static_assert(kNoneHasPointer<HidesADefault, Wide>);

// Members that mean nothing elsewhere.
struct WithPointer {
  int id;
  const char* name;
};
struct WithNestedPointer {
  Trade trade;
  WithPointer parties[2];
};
struct WithPointerArray {
  const char* names[2];
};
struct WithStdArrayOfPointers {
  std::array<const char*, 2> names;
};
struct WithFunction {
  void (*call)();
};
struct WithMemberPointer {
  int WithPointer::*member;
};
struct WithStringView {
  std::string_view text;
};
struct WithAbslStringView {
  absl::string_view text;
  int id;
};
struct WithSpan {
  std::span<const int> numbers;
};
struct WithAbslSpan {
  absl::Span<const int> numbers;
};
struct WithIterator {
  std::vector<int>::iterator at;
};
struct PointerIsLast32 {
  int a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18, a19, a20,
      a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31;
  const char* a32;
};

template <class... Ts>
constexpr bool kAllHavePointers = (HasPointer<Ts>() && ...);
static_assert(kAllHavePointers<WithPointer, WithNestedPointer, WithPointerArray, WithFunction>);
static_assert(kAllHavePointers<WithStdArrayOfPointers, WithMemberPointer, WithStringView>);
static_assert(kAllHavePointers<WithAbslStringView, WithSpan, WithAbslSpan, WithIterator>);
static_assert(kAllHavePointers<PointerIsLast32, std::reference_wrapper<int>, absl::string_view>);

// Padding.
struct Floats {
  double a;
  float b, c;
};
struct PaddedEnd {
  std::int64_t number;
  std::int32_t branch;
};
struct PaddedFloats {
  double a;
  float b;
};
struct PaddedInside {
  PaddedEnd ends[2];
};
static_assert(!HasPadding<Trade>() && !HasPadding<WithBits>() && !HasPadding<WithArrays>());
static_assert(!HasPadding<Floats>() && !HasPadding<WithStdArray>() && !HasPadding<double>());
static_assert(HasPadding<PaddedEnd>() && HasPadding<PaddedFloats>() && HasPadding<PaddedInside>());
static_assert(HasPadding<WithEnum>() && HasPadding<Empty>());

// --- Types with a Serde of their own --------------------------------------------------------

struct Note {
  std::string text = {};
};
struct Picky {
  int number = 0;
};

// Has what a Protobuf message has.
class Proto {
 public:
  bool SerializeToString(std::string* out) const {
    if (text.empty()) return false;
    *out = "proto:" + text;
    return true;
  }
  bool ParseFromArray(const void* data, int size) {
    const std::string_view bytes(static_cast<const char*>(data), static_cast<std::size_t>(size));
    if (!bytes.starts_with("proto:")) return false;
    text = bytes.substr(6);
    return true;
  }
  std::string text = {};
};

}  // namespace cordwood::serde_test

template <>
struct cordwood::Serde<cordwood::serde_test::Note> {
  using Note = cordwood::serde_test::Note;
  static void Serialize(const Note& note, std::string& out) { out.append(note.text); }
  static absl::StatusOr<Note> Deserialize(std::string_view bytes) {
    if (bytes.empty()) return absl::InvalidArgumentError("an empty note");
    return Note{std::string(bytes)};
  }
};

template <>
struct cordwood::Serde<cordwood::serde_test::Picky> {
  using Picky = cordwood::serde_test::Picky;
  static absl::Status Serialize(const Picky& picky, std::string& out) {
    if (picky.number < 0) return absl::OutOfRangeError("negative");
    out.append(std::to_string(picky.number));
    return absl::OkStatus();
  }
  static absl::StatusOr<Picky> Deserialize(std::string_view) { return Picky{}; }
};

namespace cordwood::serde_test {
namespace {

static_assert(FormOf<Note>() == Form::kCustom && FormOf<Trade>() == Form::kInPlace);
static_assert(FormOf<Proto>() == Form::kMessage && FormOf<Side>() == Form::kNumber);

template <class T>
std::string ToBytes(const T& value) {
  std::string bytes;
  REQUIRE(Serde<T>::Serialize(value, bytes).ok());
  return bytes;
}

template <class T>
absl::StatusOr<T> FromBytes(std::string_view bytes) {
  return Serde<T>::Deserialize(bytes);
}

bool Says(const absl::Status& status, absl::StatusCode code, std::string_view word) {
  INFO(status.ToString());
  return status.code() == code &&
         absl::StrContains(status.message(), absl::string_view(word.data(), word.size()));
}

using namespace std::string_literals;  // NOLINT: for bytes with NULs in them

TEST_CASE("Serde: strings are their bytes, whatever they are") {
  CHECK(ToBytes("a\0b"s) == "a\0b"s);
  CHECK(*FromBytes<std::string>("a\0b"s) == "a\0b"s);
  CHECK(FromBytes<std::string>("")->empty());
}

TEST_CASE("Serde: a view that is read points into the record") {
  const std::string record = "AAPL";
  CHECK(FromBytes<std::string_view>(record)->data() == record.data());
}

TEST_CASE("Serde: Serialize appends") {
  std::string out = "x";
  REQUIRE(Serde<std::string>::Serialize("y", out).ok());
  REQUIRE(Serde<std::int16_t>::Serialize(0x4142, out).ok());
  REQUIRE(Serde<Proto>::Serialize(Proto{.text = "z"}, out).ok());
  CHECK(out == "xyABproto:z");
}

TEST_CASE("Serde: numbers are big-endian, as Kafka's own") {
  CHECK(ToBytes(std::int32_t{1}) == "\0\0\0\1"s);
  CHECK(ToBytes(std::int64_t{-2}) == "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFE"s);
  CHECK(ToBytes(std::uint16_t{0xBEEF}) == "\xBE\xEF"s);
  CHECK(ToBytes('c') == "c");
  CHECK(ToBytes(1.0) == "\x3F\xF0\0\0\0\0\0\0"s);
  CHECK(ToBytes(-2.5f) == "\xC0\x20\0\0"s);
  CHECK(ToBytes(Side::kSell) == "\0\0\0\1"s);
}

TEMPLATE_TEST_CASE("Serde: a number reads back as it was", "", std::int8_t, std::uint8_t,
                   std::int16_t, std::uint16_t, std::int32_t, std::uint32_t, std::int64_t,
                   std::uint64_t, float, double, char, char16_t) {
  using Limits = std::numeric_limits<TestType>;
  for (const TestType number : {TestType(), TestType(1), Limits::lowest(), Limits::max()}) {
    const auto back = FromBytes<TestType>(ToBytes(number));
    REQUIRE(back.ok());
    CHECK(*back == number);
  }
}

TEST_CASE("Serde: a bool is one byte, 0 or 1, and nothing else is one") {
  enum class Flag : bool { kOff, kOn };
  CHECK(ToBytes(true) == "\1"s);
  CHECK(*FromBytes<bool>("\0"s) == false);
  CHECK(*FromBytes<bool>("\1"s) == true);
  CHECK(Says(FromBytes<bool>("\2"s).status(), absl::StatusCode::kInvalidArgument, "bool"));
  CHECK(Says(FromBytes<Flag>("\xFF").status(), absl::StatusCode::kInvalidArgument, "bool"));
  CHECK(*FromBytes<Flag>("\1"s) == Flag::kOn);
}

TEST_CASE("Serde: another size is refused, and both sizes are said") {
  const auto short_one = FromBytes<std::int64_t>("1234567").status();
  CHECK(Says(short_one, absl::StatusCode::kInvalidArgument, "expected 8 bytes, found 7"));
  const auto long_one = FromBytes<Trade>(std::string(17, 'x')).status();
  CHECK(Says(long_one, absl::StatusCode::kInvalidArgument, "expected 16 bytes, found 17"));
  CHECK_FALSE(FromBytes<double>("").ok());
}

TEST_CASE("Serde: a struct is its memory") {
  const Trade trade = {17'512, 100, 2};
  const std::string bytes = ToBytes(trade);
  CHECK(bytes.size() == sizeof(Trade));
  CHECK(std::memcmp(bytes.data(), &trade, sizeof(Trade)) == 0);
  CHECK(FromBytes<Trade>(bytes)->venue == 2);
  CHECK(FromBytes<Trade>("-" + bytes + "-").status().ok() == false);
}

TEST_CASE("Serde: a Protobuf message by its own methods") {
  CHECK(ToBytes(Proto{.text = "hello"}) == "proto:hello");
  CHECK(FromBytes<Proto>("proto:hello")->text == "hello");
  CHECK(absl::IsInvalidArgument(FromBytes<Proto>("hello").status()));
  std::string out;
  CHECK(absl::IsInvalidArgument(Serde<Proto>::Serialize(Proto(), out)));
}

// --- Decoded --------------------------------------------------------------------------------

template <class T>
Decoded<T> Decode(std::optional<std::string_view> bytes, internal::Copies& copies) {
  return Decoded<T>(bytes, internal::TombstoneStatus(), copies);
}

TEST_CASE("Decoded: a struct is read where it lies") {
  internal::Copies copies;
  alignas(8) const Trade trade = {17'512, 100, 2};
  const auto decoded = Decode<Trade>(internal::BytesOf(trade), copies);
  REQUIRE(decoded.ok());
  CHECK(&decoded.value() == &trade);
  CHECK(copies.empty());
}

TEST_CASE("Decoded: a struct that is not aligned is copied") {
  internal::Copies copies;
  const Trade trade = {17'512, 100, 2};
  alignas(8) std::array<char, sizeof(Trade) + 1> bytes = {};
  std::memcpy(bytes.data() + 1, &trade, sizeof(Trade));
  const auto decoded = Decode<Trade>(std::string_view(bytes.data() + 1, sizeof(Trade)), copies);
  REQUIRE(decoded.ok());
  CHECK(decoded.value().quantity == 100);
  CHECK(copies.size() == 1);
}

TEST_CASE("Decoded: value of one that dies is the value itself") {
  internal::Copies copies;
  alignas(8) const Trade trade = {17'512, 100, 2};
  static_assert(std::is_same_v<decltype(std::declval<Decoded<Trade>>().value()), Trade>);
  static_assert(std::is_same_v<decltype(std::declval<Decoded<Note>>().value()), Note>);
  const Trade& kept = Decode<Trade>(internal::BytesOf(trade), copies).value();
  CHECK(&kept != &trade);
  CHECK(kept.price_cents == 17'512);
  CHECK(Decode<Note>("hello", copies).value().text == "hello");
}

TEST_CASE(
    "Decoded: a tombstone is kNotFound, a wrong size kInvalidArgument, a Serde's no its own") {
  internal::Copies copies;
  CHECK(Says(Decode<Trade>({}, copies).status(), absl::StatusCode::kNotFound, "tombstone"));
  CHECK(Says(Decode<Note>({}, copies).status(), absl::StatusCode::kNotFound, "tombstone"));
  CHECK(Says(Decode<Trade>("abc", copies).status(), absl::StatusCode::kInvalidArgument, "found 3"));
  CHECK(Says(Decode<Note>("", copies).status(), absl::StatusCode::kInvalidArgument, "empty note"));
}

TEST_CASE("TypedRecord: has key, value and the record that it came from") {
  alignas(8) std::array<char, sizeof(Trade) + 4> body = {};
  const Trade trade = {17'512, 100, 2};
  std::memcpy(body.data(), &trade, sizeof(Trade));
  std::memcpy(body.data() + sizeof(Trade), "AAPL", 4);
  const RecordView raw({.body = body.data(),
                        .value_bytes = sizeof(Trade),
                        .key_bytes = 4,
                        .flags = internal::RecordParts::kHasKey | internal::RecordParts::kHasValue,
                        .offset = 5});
  internal::Copies copies;
  const TypedRecord<std::string_view, Trade> record(raw, copies);
  CHECK(record.key().value() == "AAPL");
  CHECK(reinterpret_cast<const char*>(&record.value().value()) == record.raw().value()->data());
  CHECK(record.raw().offset() == 5);
  CHECK_FALSE(record.is_tombstone());
}

TEST_CASE("TypedRecord: without key and value it says so of each") {
  internal::Copies copies;
  const TypedRecord<std::int64_t, Note> record(RecordView(), copies);
  CHECK(Says(record.key().status(), absl::StatusCode::kNotFound, "no key"));
  CHECK(Says(record.value().status(), absl::StatusCode::kNotFound, "tombstone"));
  CHECK(record.is_tombstone());
}

// --- Encoded --------------------------------------------------------------------------------

TEST_CASE("Encoded: strings and structs are not copied") {
  const std::string text = "a text that is longer than any string keeps in itself";
  const Trade trade = {17'512, 100, 2};
  CHECK(internal::Encoded<std::string>(text).bytes().data() == text.data());
  CHECK(internal::Encoded<std::string_view>(text).bytes() == text);
  CHECK(internal::Encoded<Trade>(trade).bytes().data() == reinterpret_cast<const char*>(&trade));
}

TEST_CASE("Encoded: numbers and one's own types are written") {
  CHECK(internal::Encoded<std::int32_t>(7).bytes() == "\0\0\0\7"s);
  CHECK(internal::Encoded<Note>(Note{"hello"}).bytes() == "hello");
  CHECK(internal::Encoded<Proto>(Proto{.text = "p"}).bytes() == "proto:p");
}

TEST_CASE("Encoded: two at a time do not disturb each other") {
  const Note notes[] = {{"one"}, {"two"}};
  const internal::Encoded<Note> one(notes[0]), two(notes[1]);
  CHECK(one.bytes() == "one");
  CHECK(two.bytes() == "two");
}

TEST_CASE("Encoded: what a Serde refuses is its status") {
  CHECK(internal::Encoded<Picky>(Picky{4}).status().ok());
  CHECK(Says(internal::Encoded<Picky>(Picky{-4}).status(), absl::StatusCode::kOutOfRange,
             "negative"));
}

}  // namespace
}  // namespace cordwood::serde_test
