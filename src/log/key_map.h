// Where the newest record of each key is, for a compaction: 16 bytes a key, however long
// the keys are. The map knows only their hashes; whoever asks compares the keys themselves
// where two hashes are equal, so the answer is exact.
//
//   KeyMap map(16 << 20, keys_max);
//   const auto same = [&](KeyMap::Place place) { return KeyAt(place) == key; };
//   if (!map.Put(hash, {segment, position}, same)) ...;        // full: not stored
//   std::optional<KeyMap::Place> newest = map.Find(hash, same);
//
// Thread safety: one thread at a time.

#ifndef CORDWOOD_LOG_KEY_MAP_H_
#define CORDWOOD_LOG_KEY_MAP_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace cordwood::log {

class KeyMap {
 public:
  struct Place {
    std::uint32_t segment = 0;   // its number, as the caller counts
    std::uint64_t position = 0;  // of the frame; never 0
  };

  // Of at most `bytes`, and not more than `keys_max` keys need; at least one key fits.
  KeyMap(std::size_t bytes, std::uint64_t keys_max) {
    const std::uint64_t wanted = std::bit_ceil(std::max<std::uint64_t>(keys_max * 4 / 3 + 1, 2));
    const std::uint64_t allowed = std::bit_floor(std::max<std::size_t>(bytes / sizeof(Entry), 2));
    mask_ = static_cast<std::size_t>(std::min(wanted, allowed)) - 1;
    entries_ = std::make_unique<Entry[]>(mask_ + 1);
    // A search must meet an empty entry, and soon.
    keys_max_ = std::max<std::size_t>((mask_ + 1) / 4 * 3, 1);
  }

  // False: the key is not there, and there is no room for another.
  template <class Same>
  bool Put(std::uint64_t hash, Place place, Same same) {
    Entry& entry = Slot(hash, same);
    if (entry.place == 0) {
      if (keys_ == keys_max_) return false;
      ++keys_;
      entry.hash = hash;
    }
    entry.place = Pack(place);
    return true;
  }

  template <class Same>
  std::optional<Place> Find(std::uint64_t hash, Same same) const {
    const Entry& entry = Slot(hash, same);
    if (entry.place == 0) return std::nullopt;
    return Unpack(entry.place);
  }

  std::size_t keys() const { return keys_; }
  std::size_t bytes() const { return (mask_ + 1) * sizeof(Entry); }

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::uint64_t place = 0;  // zero: empty
  };
  static_assert(sizeof(Entry) == 16);

  static std::uint64_t Pack(Place place) {
    return std::uint64_t{place.segment} << 32 | place.position / 8;
  }
  static Place Unpack(std::uint64_t word) {
    return {static_cast<std::uint32_t>(word >> 32), (word & 0xffffffff) * 8};
  }

  // The key's entry, or the empty one where it would go.
  template <class Same>
  Entry& Slot(std::uint64_t hash, Same same) const {
    std::size_t i = static_cast<std::size_t>(hash) & mask_;
    while (entries_[i].place != 0 &&
           (entries_[i].hash != hash || !same(Unpack(entries_[i].place)))) {
      i = (i + 1) & mask_;
    }
    return entries_[i];
  }

  std::unique_ptr<Entry[]> entries_;
  std::size_t mask_ = 0;
  std::size_t keys_ = 0;
  std::size_t keys_max_ = 0;
};

}  // namespace cordwood::log

#endif  // CORDWOOD_LOG_KEY_MAP_H_
