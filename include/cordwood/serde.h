// How the keys and values of typed producers and consumers become bytes, and bytes become them.
//
//   struct Trade { std::int64_t price_cents; std::int32_t quantity, venue; };  // needs nothing
//   struct Note { std::string text; };                                        // says how
//   template <>
//   struct cordwood::Serde<Note> {
//     static void Serialize(const Note& note, std::string& out) { out.append(note.text); }
//     static absl::StatusOr<Note> Deserialize(std::string_view bytes) {
//       return Note{std::string(bytes)};
//     }
//   };
//
// Serialize appends, and may return an absl::Status. Built in are:
//
//   std::string, std::string_view   the bytes; a view points into the record
//   integers, enums, float, double  big-endian, as Kafka's own; bool is one byte, 0 or 1
//   Protobuf messages               by SerializeToString and ParseFromArray; no dependency
//   structs                         as they lie in memory, and read there without a copy
//
// A struct is trivially copyable, of standard layout, aligned to at most 8, and has no pointer,
// reference or view in it. That is checked member by member in aggregates of at most 32 members,
// each of which can be made from {}, without a base or an unnamed union; in other classes it is up
// to you. As a key it has no padding either. Its bytes are this machine's: other byte orders and
// compilers may differ, and whoever writes to the topic has to be trusted to put 0 or 1 in a bool.
//
// Thread safety: the functions keep no state. What outlives what: a std::string_view or a struct
// read in place is valid as long as the record's RecordBatch.

#ifndef CORDWOOD_SERDE_H_
#define CORDWOOD_SERDE_H_

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cordwood {

template <class T>
struct Serde;

namespace internal {

// --- What the members of a struct are -------------------------------------------------------
//
// An aggregate's direct members are counted by how many {} it can be made from: each {} stands for
// exactly one member, be it an array or a struct. A structured binding then names their types.

// Initializes any member; only unions; only the bases of T.
struct AnyMember {
  template <class U>
  operator U() const;
};
struct AnyUnion {
  template <class U>
  requires std::is_union_v<U>
  operator U() const;
};
template <class T>
struct AnyBase {
  template <class U>
  requires(std::is_base_of_v<U, T> && !std::is_same_v<U, T>) operator U() const;
};

template <class... Ms>
struct MemberList {};

// Not a class that one can look into.
struct Opaque {};

template <class... Ms>
MemberList<Ms...> ListOf(const Ms&...);

// n times {}, and n names.
// clang-format off
#define CORDWOOD_E1 {}
#define CORDWOOD_E2 CORDWOOD_E1, {}
#define CORDWOOD_E3 CORDWOOD_E2, {}
#define CORDWOOD_E4 CORDWOOD_E3, {}
#define CORDWOOD_E5 CORDWOOD_E4, {}
#define CORDWOOD_E6 CORDWOOD_E5, {}
#define CORDWOOD_E7 CORDWOOD_E6, {}
#define CORDWOOD_E8 CORDWOOD_E7, {}
#define CORDWOOD_E9 CORDWOOD_E8, {}
#define CORDWOOD_E10 CORDWOOD_E9, {}
#define CORDWOOD_E11 CORDWOOD_E10, {}
#define CORDWOOD_E12 CORDWOOD_E11, {}
#define CORDWOOD_E13 CORDWOOD_E12, {}
#define CORDWOOD_E14 CORDWOOD_E13, {}
#define CORDWOOD_E15 CORDWOOD_E14, {}
#define CORDWOOD_E16 CORDWOOD_E15, {}
#define CORDWOOD_E17 CORDWOOD_E16, {}
#define CORDWOOD_E18 CORDWOOD_E17, {}
#define CORDWOOD_E19 CORDWOOD_E18, {}
#define CORDWOOD_E20 CORDWOOD_E19, {}
#define CORDWOOD_E21 CORDWOOD_E20, {}
#define CORDWOOD_E22 CORDWOOD_E21, {}
#define CORDWOOD_E23 CORDWOOD_E22, {}
#define CORDWOOD_E24 CORDWOOD_E23, {}
#define CORDWOOD_E25 CORDWOOD_E24, {}
#define CORDWOOD_E26 CORDWOOD_E25, {}
#define CORDWOOD_E27 CORDWOOD_E26, {}
#define CORDWOOD_E28 CORDWOOD_E27, {}
#define CORDWOOD_E29 CORDWOOD_E28, {}
#define CORDWOOD_E30 CORDWOOD_E29, {}
#define CORDWOOD_E31 CORDWOOD_E30, {}
#define CORDWOOD_E32 CORDWOOD_E31, {}
#define CORDWOOD_E33 CORDWOOD_E32, {}
#define CORDWOOD_M1 m1
#define CORDWOOD_M2 CORDWOOD_M1, m2
#define CORDWOOD_M3 CORDWOOD_M2, m3
#define CORDWOOD_M4 CORDWOOD_M3, m4
#define CORDWOOD_M5 CORDWOOD_M4, m5
#define CORDWOOD_M6 CORDWOOD_M5, m6
#define CORDWOOD_M7 CORDWOOD_M6, m7
#define CORDWOOD_M8 CORDWOOD_M7, m8
#define CORDWOOD_M9 CORDWOOD_M8, m9
#define CORDWOOD_M10 CORDWOOD_M9, m10
#define CORDWOOD_M11 CORDWOOD_M10, m11
#define CORDWOOD_M12 CORDWOOD_M11, m12
#define CORDWOOD_M13 CORDWOOD_M12, m13
#define CORDWOOD_M14 CORDWOOD_M13, m14
#define CORDWOOD_M15 CORDWOOD_M14, m15
#define CORDWOOD_M16 CORDWOOD_M15, m16
#define CORDWOOD_M17 CORDWOOD_M16, m17
#define CORDWOOD_M18 CORDWOOD_M17, m18
#define CORDWOOD_M19 CORDWOOD_M18, m19
#define CORDWOOD_M20 CORDWOOD_M19, m20
#define CORDWOOD_M21 CORDWOOD_M20, m21
#define CORDWOOD_M22 CORDWOOD_M21, m22
#define CORDWOOD_M23 CORDWOOD_M22, m23
#define CORDWOOD_M24 CORDWOOD_M23, m24
#define CORDWOOD_M25 CORDWOOD_M24, m25
#define CORDWOOD_M26 CORDWOOD_M25, m26
#define CORDWOOD_M27 CORDWOOD_M26, m27
#define CORDWOOD_M28 CORDWOOD_M27, m28
#define CORDWOOD_M29 CORDWOOD_M28, m29
#define CORDWOOD_M30 CORDWOOD_M29, m30
#define CORDWOOD_M31 CORDWOOD_M30, m31
#define CORDWOOD_M32 CORDWOOD_M31, m32
#define CORDWOOD_EACH_COUNT(X) \
  X(32) X(31) X(30) X(29) X(28) X(27) X(26) X(25) \
  X(24) X(23) X(22) X(21) X(20) X(19) X(18) X(17) \
  X(16) X(15) X(14) X(13) X(12) X(11) X(10) X(9) \
  X(8) X(7) X(6) X(5) X(4) X(3) X(2) X(1)
// clang-format on

// The number of members; -1: it cannot be said, or there are too many.
template <class T>
consteval int CountMembers() {
  if constexpr (std::is_empty_v<T>) return 0;
  if constexpr (requires { T{CORDWOOD_E33}; }) return -1;
#define CORDWOOD_COUNT(n)                                                 \
  if constexpr (requires { T{CORDWOOD_E##n}; }) {                         \
    /* Another one, which cannot be made from {}, has a default. */       \
    if constexpr (requires { T{CORDWOOD_E##n, AnyMember()}; }) return -1; \
    return n;                                                             \
  }
  CORDWOOD_EACH_COUNT(CORDWOOD_COUNT)
#undef CORDWOOD_COUNT
  return -1;
}

// An unnamed union has members that a structured binding cannot name, and a base has others.
template <class T>
consteval bool HasUnionOrBase() {
  if constexpr (requires { T{AnyBase<T>()}; }) return true;
  if constexpr (requires { T{AnyUnion()}; }) return true;
#define CORDWOOD_UNION(n) \
  if constexpr (requires { T{CORDWOOD_E##n, AnyUnion()}; }) return true;
  CORDWOOD_EACH_COUNT(CORDWOOD_UNION)
#undef CORDWOOD_UNION
  return false;
}

template <int kCount, class T>
auto MembersOf(const T& object) {
#define CORDWOOD_LIST(n)                      \
  if constexpr (kCount == n) {                \
    const auto& [CORDWOOD_M##n] = object;     \
    return decltype(ListOf(CORDWOOD_M##n)){}; \
  }
  CORDWOOD_EACH_COUNT(CORDWOOD_LIST)
  if constexpr (kCount == 0) return MemberList<>();
#undef CORDWOOD_LIST
}

template <class T>
concept TupleLike = requires {
  std::tuple_size<T>::value;
};

template <class T>
consteval auto Members() {
  if constexpr (TupleLike<T>) {  // std::array: its bindings are its elements
    if constexpr (requires { typename T::value_type; }) {
      return MemberList<typename T::value_type[std::tuple_size_v<T>]>();
    } else {
      return Opaque();
    }
  } else if constexpr (!std::is_class_v<T> || !std::is_aggregate_v<T>) {
    return Opaque();
  } else if constexpr (CountMembers<T>() < 0 || HasUnionOrBase<T>()) {
    return Opaque();
  } else {
    return decltype(MembersOf<CountMembers<T>()>(std::declval<const T&>()))();
  }
}

// --- What may lie in a file -----------------------------------------------------------------

template <class T>
struct IsReferenceWrapper : std::false_type {};
template <class T>
struct IsReferenceWrapper<std::reference_wrapper<T>> : std::true_type {};

// A class that shows elements which are not its own, of the standard library, of Abseil, of anyone:
// big enough for a pointer, and its const does not reach what data() points at. A class with a
// buffer of its own is none.
template <class T>
concept ViewLike = std::is_class_v<T> && !std::is_aggregate_v<T> && alignof(T) >= alignof(void*) &&
                   sizeof(T) <= 4 * sizeof(void*) && requires(T & t, const T& constant) {
  { t.data() } -> std::same_as<decltype(constant.data())>;
};

template <class T>
concept PointsElsewhere =
    std::is_pointer_v<T> || std::is_member_pointer_v<T> || std::is_null_pointer_v<T> ||
    IsReferenceWrapper<T>::value || std::input_or_output_iterator<T> || ViewLike<T>;

template <class T>
consteval bool HasPointer();

template <class... Ms>
consteval bool AnyHasPointer(MemberList<Ms...>) {
  return (HasPointer<std::remove_cv_t<std::remove_all_extents_t<Ms>>>() || ...);
}
consteval bool AnyHasPointer(Opaque) { return false; }

template <class T>
consteval bool HasPointer() {
  if constexpr (PointsElsewhere<T>) {
    return true;
  } else {
    return AnyHasPointer(Members<T>());
  }
}

// Every byte is part of a value. (Of a float that is true, though -0.0 and 0.0 are two keys.)
template <class T>
consteval bool HasPadding();

template <class T, class... Ms>
consteval bool MembersHavePadding(MemberList<Ms...>) {
  return (HasPadding<std::remove_all_extents_t<Ms>>() || ...) ||
         (std::size_t{0} + ... + sizeof(Ms)) != sizeof(T);
}
template <class T>
consteval bool MembersHavePadding(Opaque) {
  return true;
}

template <class T>
consteval bool HasPadding() {
  if constexpr (std::has_unique_object_representations_v<T>) {
    return false;
  } else if constexpr (std::is_same_v<std::remove_cv_t<T>, float> ||
                       std::is_same_v<std::remove_cv_t<T>, double>) {
    return false;
  } else {
    return MembersHavePadding<std::remove_cv_t<T>>(Members<std::remove_cv_t<T>>());
  }
}

// --- The forms that are built in ------------------------------------------------------------

enum class Form { kString, kStringView, kNumber, kMessage, kInPlace, kCustom };

template <class T>
concept Message = std::is_class_v<T> && std::is_default_constructible_v<T> &&
    requires(const T& message, T& into, std::string* out) {
  { message.SerializeToString(out) } -> std::convertible_to<bool>;
  { into.ParseFromArray(out->data(), 0) } -> std::convertible_to<bool>;
};

template <class T>
consteval Form BuiltInForm() {
  if constexpr (std::is_same_v<T, std::string>) {
    return Form::kString;
  } else if constexpr (std::is_same_v<T, std::string_view>) {
    return Form::kStringView;
  } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
    return Form::kNumber;
  } else if constexpr (Message<T>) {
    return Form::kMessage;
  } else {
    return Form::kInPlace;
  }
}

// kCustom: someone has written a Serde for it.
template <class T>
consteval Form FormOf() {
  if constexpr (requires { Serde<T>::kCordwoodForm; }) {
    return Serde<T>::kCordwoodForm;
  } else {
    return Form::kCustom;
  }
}

// An enum without a type of its own may not hold every value of its bytes.
template <class T>
concept EnumWithType = std::is_enum_v<T> && requires {
  T{0};
};

template <class T, Form kForm>
struct Rules {};

template <class T>
struct Rules<T, Form::kNumber> {
  static_assert(!std::is_same_v<T, long double>,
                "cordwood: a long double is not the same on two machines; use a double, or write "
                "template <> struct cordwood::Serde<long double>");
  static_assert(!std::is_enum_v<T> || EnumWithType<T>,
                "cordwood: this enum has to say its type, as in enum Color : int, so that it has "
                "one size everywhere and every value that is read is one of its own");
};

template <class T>
struct Rules<T, Form::kInPlace> {
  static_assert(!std::is_pointer_v<T> && !std::is_array_v<T> && !std::is_null_pointer_v<T>,
                "cordwood: a pointer or an array is no key and no value; use std::string, "
                "std::string_view or std::array");
  static_assert(std::is_trivially_copyable_v<T>,
                "cordwood: this type has no Serde built in and is not trivially copyable; write "
                "template <> struct cordwood::Serde<T>, as cordwood/serde.h shows");
  static_assert(std::is_standard_layout_v<T>,
                "cordwood: a struct that is stored as it lies in memory has to have standard "
                "layout: no reference, no virtual function, all members in one class and of one "
                "access; or write a cordwood::Serde for it");
  static_assert(alignof(T) <= 8,
                "cordwood: a struct that is read where it lies is aligned to at most 8 bytes; or "
                "write a cordwood::Serde for it");
  static_assert(!HasPointer<T>(),
                "cordwood: this struct has a pointer, a reference or a view in it, which means "
                "nothing to another process or after a restart; store what it points at, or write "
                "a cordwood::Serde for it");
};

// Equal keys have to be equal bytes, or they go to two partitions and are compacted as two.
template <class T>
consteval bool IsGoodKey() {
  if constexpr (FormOf<T>() == Form::kInPlace) {
    return !HasPadding<T>();
  } else {
    return true;
  }
}

// --- Numbers --------------------------------------------------------------------------------

template <std::size_t kBytes>
using UintOf = std::conditional_t<
    kBytes == 1, std::uint8_t,
    std::conditional_t<kBytes == 2, std::uint16_t,
                       std::conditional_t<kBytes == 4, std::uint32_t, std::uint64_t>>>;

template <class T>
std::array<char, sizeof(T)> NumberToBytes(T number) {
  using Bits = UintOf<sizeof(T)>;
  Bits bits;
  if constexpr (std::is_floating_point_v<T>) {
    bits = std::bit_cast<Bits>(number);
  } else {
    bits = static_cast<Bits>(number);
  }
  std::array<char, sizeof(T)> bytes;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    bytes[i] = static_cast<char>(static_cast<unsigned char>(bits >> (8 * (sizeof(T) - 1 - i))));
  }
  return bytes;
}

absl::Status WrongSize(std::size_t expected, std::size_t found);

template <class T>
consteval bool IsBool() {
  if constexpr (std::is_enum_v<T>) {
    return std::is_same_v<std::underlying_type_t<T>, bool>;
  } else {
    return std::is_same_v<T, bool>;
  }
}

template <class T>
absl::StatusOr<T> NumberFromBytes(std::string_view bytes) {
  using Bits = UintOf<sizeof(T)>;
  if (bytes.size() != sizeof(T)) return WrongSize(sizeof(T), bytes.size());
  std::uint64_t wide = 0;
  for (const char byte : bytes) wide = wide << 8 | static_cast<unsigned char>(byte);
  const auto bits = static_cast<Bits>(wide);
  if constexpr (IsBool<T>()) {
    if (bits > 1) return absl::InvalidArgumentError("a bool is one byte, 0 or 1");
  }
  if constexpr (std::is_floating_point_v<T>) {
    return std::bit_cast<T>(bits);
  } else {
    return static_cast<T>(bits);
  }
}

// --- Structs --------------------------------------------------------------------------------

template <class T>
std::string_view BytesOf(const T& object) {
  return std::string_view(reinterpret_cast<const char*>(&object), sizeof(T));
}

template <class T>
T CopyOut(const char* bytes) {
  std::array<std::byte, sizeof(T)> copy;
  std::memcpy(copy.data(), bytes, sizeof(T));
  return std::bit_cast<T>(copy);
}

// Bytes in a segment are aligned to 8; only those that came another way need a copy.
template <class T>
bool IsAligned(const char* bytes) {
  return reinterpret_cast<std::uintptr_t>(bytes) % alignof(T) == 0;
}

inline absl::Status WrongSize(std::size_t expected, std::size_t found) {
  return absl::InvalidArgumentError("expected " + std::to_string(expected) + " bytes, found " +
                                    std::to_string(found));
}

}  // namespace internal

// What is built in. Specialize it for types of your own, and for any of these.
template <class T>
struct Serde {
  static_assert(std::is_same_v<T, std::remove_cvref_t<T>>,
                "cordwood: a key or value is a type without const, volatile or &");
  // For the library, which knows by it that no one has specialized this Serde.
  static constexpr internal::Form kCordwoodForm = internal::BuiltInForm<T>();
  static_assert(sizeof(internal::Rules<T, kCordwoodForm>) != 0);  // checks them

  static absl::Status Serialize(const T& value, std::string& out) {
    using internal::Form;
    if constexpr (kCordwoodForm == Form::kString || kCordwoodForm == Form::kStringView) {
      out.append(value);
    } else if constexpr (kCordwoodForm == Form::kNumber) {
      const auto bytes = internal::NumberToBytes(value);
      out.append(bytes.data(), bytes.size());
    } else if constexpr (kCordwoodForm == Form::kMessage) {
      std::string bytes;  // SerializeToString replaces what is there
      if (!value.SerializeToString(&bytes)) {
        return absl::InvalidArgumentError("the message cannot be serialized");
      }
      out.append(bytes);
    } else {
      out.append(internal::BytesOf(value));
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<T> Deserialize(std::string_view bytes) {
    using internal::Form;
    if constexpr (kCordwoodForm == Form::kString || kCordwoodForm == Form::kStringView) {
      return T(bytes);
    } else if constexpr (kCordwoodForm == Form::kNumber) {
      return internal::NumberFromBytes<T>(bytes);
    } else if constexpr (kCordwoodForm == Form::kMessage) {
      T message;
      if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()) ||
          !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
        return absl::InvalidArgumentError("the bytes are no such message");
      }
      return message;
    } else {
      if (bytes.size() != sizeof(T)) return internal::WrongSize(sizeof(T), bytes.size());
      return internal::CopyOut<T>(bytes.data());
    }
  }
};

}  // namespace cordwood

#endif  // CORDWOOD_SERDE_H_
