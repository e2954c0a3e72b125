// A directory with known records, as it was closed, killed, or left by a power cut, that is damaged
// in one place, opened, and held against what was written:
//
//   DamagedDirectory directory(DamagedDirectory::End::kKilled, /*segment_bytes=*/4096);
//   directory.ForEachDamage(/*first=*/0, /*stride=*/1, [&](const Damage& damage) {
//     CHECK(directory.ProblemWith(damage) == "");
//   });
//
// What it holds the library to:
//   - A record that is handed out is what was written at that offset, and comes in order.
//   - What is missing is inside a gap, or told by an error or the recovery's report.
//   - Below what was durable only those records are missing whose bytes were damaged, or, where the
//     header of a segment was, those of that segment.
//   - What was not durable may end at the first damaged record of that kind.
//   - An index that was damaged leads to the same records and times as a scan.
//   - What is appended next gets an offset that was never given, and can be read.
//   - A commit of the group is one that was made.
// A directory whose FORMAT, or a topic whose config is damaged may be refused, in words; with a
// damaged id in its config a topic has none of its records, and says so.

#ifndef CORDWOOD_TESTS_SUPPORT_DAMAGED_DIRECTORY_H_
#define CORDWOOD_TESTS_SUPPORT_DAMAGED_DIRECTORY_H_

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "cordwood/broker.h"
#include "tests/support/folder_picture.h"
#include "tests/support/temp_dir.h"

namespace cordwood::testing {

inline constexpr std::uint64_t kSector = 512;

struct Damage {
  enum class Kind {
    kFlipBit,      // number: which
    kSetByte,      // number: to what
    kAddOne,       // to a byte
    kZeroSector,   // at `at`, as the rest
    kSwapSectors,  // with the next one
    kCopySector,   // of the one before it
    kTakeSector,   // of the same place of `source`: a write that went astray
  };

  std::string file = {};
  Kind kind = Kind::kFlipBit;
  std::uint64_t at = 0;
  int number = 0;
  std::string source = {};

  void ApplyTo(FolderPicture& picture) const;
  // The bytes [from, to) that it may change.
  std::uint64_t to() const;
  std::string ToString() const;
};

class DamagedDirectory {
 public:
  enum class End {
    kClosed,
    kKilled,    // its control pages are of this boot; the last records are not durable
    kPowerCut,  // the same, of another boot
  };

  DamagedDirectory(End end, std::int64_t segment_bytes);

  // The damages number first, first + stride, ... of all that there are.
  void ForEachDamage(std::uint64_t first, std::uint64_t stride,
                     absl::FunctionRef<void(const Damage&)> f) const;
  // Empty, or what is wrong.
  std::string ProblemWith(const Damage& damage);

 private:
  struct Written {
    std::string value = {};
    absl::Time time = {};
    std::string file = {};
    std::uint64_t from = 0, to = 0;  // the frame, in its file
  };
  static constexpr int kPartitions = 2;

  void Fill(const Broker& broker, std::int64_t segment_bytes);
  void WriteDown(const FolderPicture& picture) const;
  bool MayBeLost(int p, Offset offset, const Damage& damage) const;
  std::string ProblemIn(const Partition& partition, int p, const Damage& damage, bool is_told);
  std::string ProblemOfLookups(const Partition& partition, int p,
                               const std::vector<bool>& found) const;
  std::string ProblemOfGroup(const Broker& broker) const;

  const End end_;
  const TempDir dir_;
  const std::filesystem::path path_ = dir_ / "data";
  FolderPicture whole_ = {};
  std::array<std::vector<Written>, kPartitions> written_ = {};
  std::array<Offset, kPartitions> durable_ = {};
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_DAMAGED_DIRECTORY_H_
