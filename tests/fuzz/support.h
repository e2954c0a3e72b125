// What the fuzzers share: the input, a folder in memory, a small directory whose bytes are the
// same in every run, and what has to be true of a directory whatever was done to its files.
//
//   Machine machine(seed);
//   machine.Put(Prepare().closed);       // and damage it
//   CheckDirectory(machine, Prepare().truth, {});
//
// A property that does not hold ends the process, so that the engine keeps the input.
//
// Thread safety: one thread.

#ifndef CORDWOOD_TESTS_FUZZ_SUPPORT_H_
#define CORDWOOD_TESTS_FUZZ_SUPPORT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>

#include "cordwood/cordwood.h"
#include "cordwood/os/storage.h"

namespace cordwood::fuzz {

[[noreturn]] void Fail(std::string_view what);
inline void Require(bool holds, std::string_view what) {
  if (!holds) Fail(what);
}

// The bytes of an input, from the front. Past its end there are zeros.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t bytes)
      : rest_(reinterpret_cast<const char*>(data), bytes) {}

  bool empty() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }
  template <class T>
  T Take() {
    T value = {};
    const std::string_view bytes = TakeBytes(sizeof value);
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    return value;
  }
  // Fewer at the end.
  std::string_view TakeBytes(std::size_t bytes) {
    const std::string_view taken = rest_.substr(0, bytes);
    rest_.remove_prefix(taken.size());
    return taken;
  }

 private:
  std::string_view rest_;
};

// The plain structs of the formats, in the bytes of a file.
template <class T>
T Load(std::string_view bytes, std::size_t at) {
  T value = {};
  if (at < bytes.size()) {
    std::memcpy(&value, bytes.data() + at, std::min(sizeof value, bytes.size() - at));
  }
  return value;
}
template <class T>
void Store(const T& value, std::string& bytes, std::size_t at) {
  if (at + sizeof value <= bytes.size()) std::memcpy(bytes.data() + at, &value, sizeof value);
}

// Files by their path below the directory; the path of a folder ends with a slash.
using Tree = std::map<std::string, std::string>;

// What was appended: whoever reads a record, ever, reads one of these.
class Truth {
 public:
  void Add(int partition, Offset offset, std::string value) {
    records_.emplace(partition, offset, std::move(value));
  }
  bool Has(int partition, Offset offset, std::string_view value) const {
    return records_.contains({partition, offset, std::string(value)});
  }

 private:
  std::set<std::tuple<int, Offset, std::string>> records_;
};

// A folder that is empty at first, in memory where the system has such a one, and a storage over
// it whose clock, random numbers and boot are the same in every run. Files, maps and locks are the
// operating system's: a touch past the end of a file is a SIGBUS, which the simulated machine of
// the tests forgives.
class Machine {
 public:
  explicit Machine(std::uint64_t seed);
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine();

  const std::filesystem::path& directory() const { return directory_; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  // Adds these files, and takes all that there are.
  void Put(const Tree& tree) const;
  Tree Take() const;
  // The control files, live pages and clean marker become those of this machine, as if they were
  // no copies: they name the files that they are in by number.
  void Adopt() const;

 private:
  const std::filesystem::path directory_;
  const std::shared_ptr<Storage> storage_;
};

// A directory with a topic "orders" of two partitions and three segments in the first, and a group
// "billing" that has committed something.
struct Prepared {
  Tree open;    // as its processes have left it that were killed
  Tree closed;  // as the last has left it
  Truth truth;
};
const Prepared& Prepare();
inline constexpr char kTopic[] = "orders";
inline constexpr char kGroup[] = "billing";
inline constexpr int kPartitions = 2;
// What the topic's id, and the number of this boot, are in every run.
os::Bits128 TopicId();
os::Bits128 BootId();

// The checksums, and what is said beside them, of a file of that name become right, whatever else
// is in it. Not those of records: what they hold stays what was appended.
void SignAgain(std::string_view path, std::string& bytes);

// Reads all of a partition in one direction: every record must be one that was appended, at its
// own offset, in order, and in no gap. With `is_whole` there is nothing but records and gaps from
// the start to the end. Returns the offsets that were read.
struct HowToRead {
  Direction direction = Direction::kForward;
  bool is_whole = true;
};
std::set<Offset> CheckReading(const Partition& partition, int number, const Truth& truth,
                              const HowToRead& how);

// Opens it read-only, then writable, then once more, and reads all that there is, in both
// directions. What was appended and flushed in between must be there, and all that could be read.
struct HowToOpen {
  bool is_whole = true;  // as in HowToRead
  // Else somebody has forged what is believed: that may cost records, later ones too.
  bool keeps = true;
};
void CheckDirectory(const Machine& machine, Truth truth, const HowToOpen& how);

}  // namespace cordwood::fuzz

#endif  // CORDWOOD_TESTS_FUZZ_SUPPORT_H_
