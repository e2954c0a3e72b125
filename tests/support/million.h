// A million records of 100 bytes, each of which says which one it is, and a look at all of
// them: forward, backward and by time.

#ifndef CORDWOOD_TESTS_SUPPORT_MILLION_H_
#define CORDWOOD_TESTS_SUPPORT_MILLION_H_

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "cordwood/cordwood.h"

namespace cordwood::testing {

inline constexpr Offset kMillion = 1'000'000;

// The 100 bytes of record i: noise that only it has.
class Hundred {
 public:
  explicit Hundred(Offset i) {
    auto word = static_cast<std::uint64_t>(i) * 0x9e3779b97f4a7c15;
    for (std::size_t at = 0; at < 96; at += 8) {
      word ^= word >> 29;
      word *= 0xbf58476d1ce4e5b9;
      std::memcpy(bytes_.data() + at, &word, 8);
    }
    std::memcpy(bytes_.data() + 96, &word, 4);
  }
  std::string_view view() const { return {bytes_.data(), bytes_.size()}; }

 private:
  std::array<char, 100> bytes_;
};

// Ten records have the same time.
inline absl::Time TimeOfRecord(Offset i) {
  return absl::FromUnixSeconds(807'249'600) + absl::Milliseconds(i / 10);
}

inline absl::StatusOr<Offset> AppendHundred(const Partition& partition, Offset i) {
  const Hundred value(i);
  return partition.Append({.value = value.view(), .timestamp = TimeOfRecord(i)});
}

// OK if the partition has the records 0 to `end`, all of them and no other.
inline absl::Status CheckHundreds(const Partition& partition, Offset end) {
  const auto wrong = [](const char* where, Offset i) {
    return absl::DataLossError(absl::StrCat(where, ": record ", i, " is not what was appended"));
  };
  if (partition.start_offset() != 0 || partition.end_offset() != end) {
    return absl::DataLossError(absl::StrCat("the offsets are not [0, ", end, ")"));
  }
  absl::StatusOr<PartitionReader> forward = partition.Read(0);
  if (!forward.ok()) return forward.status();
  Offset next = 0;
  for (const RecordView& record : *forward) {
    if (record.offset() != next || record.value() != Hundred(next).view() ||
        record.timestamp() != TimeOfRecord(next)) {
      return wrong("forward", next);
    }
    ++next;
  }
  if (!forward->status().ok()) return forward->status();
  if (next != end || !forward->gaps().empty()) return wrong("forward", next);

  absl::StatusOr<PartitionReader> backward = partition.Read(end, Direction::kBackward);
  if (!backward.ok()) return backward.status();
  for (const RecordView& record : *backward) {
    --next;
    if (record.offset() != next || record.value() != Hundred(next).view()) {
      return wrong("backward", next);
    }
  }
  if (!backward->status().ok()) return backward->status();
  if (next != 0 || !backward->gaps().empty()) return wrong("backward", next);

  // By time: whole tens, and between two of them.
  for (Offset ten = 0; ten * 10 < end; ten += 997) {
    const absl::Time time = TimeOfRecord(ten * 10);
    if (partition.OffsetForTime(time).value_or(-1) != ten * 10 ||
        partition.OffsetForTime(time - absl::Nanoseconds(1)).value_or(-1) != ten * 10) {
      return wrong("by time", ten * 10);
    }
  }
  const absl::Time after = TimeOfRecord(end - 1) + absl::Nanoseconds(1);
  return partition.OffsetForTime(after).value_or(-1) == end ? absl::OkStatus()
                                                            : wrong("by time", end);
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_MILLION_H_
