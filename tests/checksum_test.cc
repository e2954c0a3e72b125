// XXH3-64 against the values that its authors published, whole and in pieces.

#include "cordwood/os/checksum.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/catch.h"

namespace cordwood::os::checksum_test {
namespace {

// The input of the published values: a prefix of one pseudo-random sequence.
std::string PublishedInput(std::size_t bytes) {
  std::string input(bytes, '\0');
  std::uint64_t state = 2'654'435'761U;
  for (char& c : input) {
    c = static_cast<char>(state >> 56);
    state *= 11'400'714'785'074'694'797U;
  }
  return input;
}

struct Published {
  std::size_t bytes;
  std::uint64_t hash;
};

// Source: xxHash 0.8, seed 0. The lengths take each of its ways of working.
constexpr Published kPublished[] = {
    {0, 0x2D06800538D394C2},    {1, 0xC44BDFF4074EECDB},    {6, 0x27B56A84CD2D7325},
    {12, 0xA713DAF0DFBB77E7},   {24, 0xA3FE70BF9D3510EB},   {48, 0x397DA259ECBA1F11},
    {80, 0xBCDEFBBB2C47C90A},   {195, 0xCD94217EE362EC3A},  {403, 0xCDEB804D65C6DEA4},
    {512, 0x617E49599013CB6B},  {2048, 0xDD59E2C3A5F038E0}, {2099, 0xC6B9D9B3FC9AC765},
    {2240, 0x6E73A90539CF2948}, {2367, 0xCB37AEB9E5D361ED},
};

}  // namespace

TEST_CASE("Checksum: the published values of XXH3-64 come out") {
  for (const Published& published : kPublished) {
    CAPTURE(published.bytes);
    const std::string input = PublishedInput(published.bytes);
    CHECK(Hash64(input.data(), input.size()) == published.hash);
  }
}

TEST_CASE("Checksum: no bytes have a hash, with or without an address") {
  const void* const nowhere = nullptr;
  const BytesPiece* const no_pieces = nullptr;
  CHECK(Hash64(nowhere, 0) == kPublished[0].hash);
  CHECK(Hash64("", 0) == kPublished[0].hash);
  CHECK(Hash64(no_pieces, 0) == kPublished[0].hash);
}

TEST_CASE("Checksum: three pieces have the hash of the whole, wherever it is cut") {
  for (const Published& published : kPublished) {
    const std::string input = PublishedInput(published.bytes);
    for (std::size_t first = 0; first <= input.size(); first += 1 + input.size() / 40) {
      const std::size_t second = (input.size() - first) / 2;
      const BytesPiece pieces[] = {{input.data(), first},
                                   {input.data() + first, second},
                                   {input.data() + first + second, input.size() - first - second}};
      if (Hash64(pieces, 3) != published.hash) FAIL(input.size() << " bytes, cut at " << first);
    }
  }
}

TEST_CASE("Checksum: empty pieces, with or without an address, add nothing") {
  const std::string input = PublishedInput(2099);
  const BytesPiece pieces[] = {{nullptr, 0},
                               {input.data(), 2000},
                               {input.data(), 0},
                               {nullptr, 0},
                               {input.data() + 2000, 99}};
  CHECK(Hash64(pieces, 5) == Hash64(input.data(), input.size()));
}

TEST_CASE("Checksum: the order of the pieces counts") {
  const BytesPiece one[] = {{"ab", 2}, {"c", 1}};
  const BytesPiece other[] = {{"c", 1}, {"ab", 2}};
  CHECK(Hash64(one, 2) != Hash64(other, 2));
}

}  // namespace cordwood::os::checksum_test
