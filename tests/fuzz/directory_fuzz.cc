// Edits of the files of a small valid directory. Whatever was done to them: what can be read was
// appended at that offset, what is missing is a gap, and what is appended now stays.
//
//   byte 0     how it was left and where it is now, as Start
//   then, for each edit
//     1 byte   which file, in the order of their names
//     1 byte   what is done to it, as What
//     2 bytes  where, modulo the file's size plus 1
//     and what the edit needs

#include <algorithm>
#include <vector>

#include "tests/fuzz/support.h"

using namespace cordwood;
using namespace cordwood::fuzz;

namespace {

enum Start : std::uint8_t {
  kClosed = 1,   // else its processes were killed
  kAdopted = 2,  // its files are no copies, and in this boot
};

enum What : std::uint8_t {
  kOverwrite,  // 1 byte: how many bytes; the bytes
  kFlip,       // 1 byte: which bit
  kCut,        // there
  kExtend,     // by so many zeros
  kRemove,
  kZero,       // 1 byte: how many, times 64
  kCopyOver,   // 1 byte: of which other file it has the bytes from now on
  kSwapTails,  // 1 byte: with which other file, from there on
  kSign,       // its checksums hold again
  kEdits,
};

constexpr int kEditsMax = 8;

// The files as they were at first; one that was removed may come back.
std::vector<std::string> FilesIn(const Tree& tree) {
  std::vector<std::string> files;
  for (const auto& [path, bytes] : tree) {
    if (path.back() != '/') files.push_back(path);
  }
  return files;
}

struct Edited {
  Tree tree;
  const std::vector<std::string> files;
  // Something that is wrong has good checksums: it may say that a compaction has removed records.
  bool is_forged = false;

  const std::string& Pick(Input& input) const {
    return files[input.Take<std::uint8_t>() % files.size()];
  }
};

void Edit(Edited& edited, Input& input) {
  Tree& tree = edited.tree;
  const std::string& path = edited.Pick(input);
  std::string& bytes = tree[path];
  const auto what = static_cast<What>(input.Take<std::uint8_t>() % kEdits);
  const std::size_t at = input.Take<std::uint16_t>() % (bytes.size() + 1);
  switch (what) {
    case kOverwrite: {
      const std::string_view with = input.TakeBytes(input.Take<std::uint8_t>());
      bytes.replace(at, std::min(with.size(), bytes.size() - at), with);
      break;
    }
    case kFlip:
      if (at < bytes.size()) {
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << input.Take<std::uint8_t>() % 8));
      }
      break;
    case kCut:
      bytes.resize(at);
      break;
    case kExtend:
      bytes.append(at, '\0');
      break;
    case kRemove:
      tree.erase(path);
      break;
    case kZero: {
      const std::size_t count = std::size_t{64} * input.Take<std::uint8_t>();
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                  std::min(count, bytes.size() - at), '\0');
      break;
    }
    case kCopyOver:
      bytes = std::string(tree[edited.Pick(input)]);
      break;
    case kSwapTails: {
      std::string& other = tree[edited.Pick(input)];
      const std::size_t from = std::min(at, other.size());
      const std::string tail = bytes.substr(at);
      bytes.replace(at, std::string::npos, std::string(other, from));
      if (&other != &bytes) other.replace(from, std::string::npos, tail);
      break;
    }
    case kSign:
      SignAgain(path, bytes);
      edited.is_forged = true;
      break;
    case kEdits:
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const auto start = input.Take<std::uint8_t>();
  const Tree& tree = (start & kClosed) != 0 ? Prepare().closed : Prepare().open;
  Edited edited = {.tree = tree, .files = FilesIn(tree)};
  for (int i = 0; i < kEditsMax && !input.empty(); ++i) Edit(edited, input);
  const Machine machine(2);
  machine.Put(edited.tree);
  if ((start & kAdopted) != 0) machine.Adopt();
  CheckDirectory(machine, Prepare().truth, {.is_whole = !edited.is_forged});
  return 0;
}
