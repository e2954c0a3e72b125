#include "group/repair.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "cordwood/group/offsets.h"
#include "cordwood/status_macros.h"
#include "group/files.h"

namespace cordwood::group {
namespace {

constexpr int kEntriesAtOnce = 128;

// One entry after the other, of a file that may be sparse and of any size.
class EntryReader {
 public:
  explicit EntryReader(os::File& file) : file_(file) {}

  OffsetEntry Read(int i) {
    if (i < from_ || i >= from_ + kEntriesAtOnce) {
      from_ = i;
      std::fill(chunk_.begin(), chunk_.end(), OffsetEntry());
      status_.Update(
          ReadEntries(file_, i, i + kEntriesAtOnce, [&](int at, const OffsetEntry& bytes) {
            chunk_[static_cast<std::size_t>(at - i)] = bytes;
          }));
    }
    return chunk_[static_cast<std::size_t>(i - from_)];
  }
  const absl::Status& status() const { return status_; }

 private:
  os::File& file_;
  int from_ = -kEntriesAtOnce;
  std::vector<OffsetEntry> chunk_ = std::vector<OffsetEntry>(kEntriesAtOnce);
  absl::Status status_;
};

bool IsNothing(const OffsetEntry& entry) {
  const OffsetEntry nothing;
  return std::memcmp(&entry, &nothing, sizeof entry) == 0;
}

}  // namespace

absl::Status WriteOffsetsAnew(os::Folder& root, const std::string& path, const std::string& made) {
  const auto old = root.OpenFile(path, os::OpenMode::kRead);
  if (!old.ok() && !absl::IsNotFound(old.status())) return old.status();
  CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> file,
                            root.OpenFile(made, os::OpenMode::kCreate));
  if (!old.ok()) return WriteImage(*file, 0, [](int) { return OffsetEntry(); });
  // Each keeps its place, the damaged ones too: the live page goes by it.
  EntryReader reader(**old);
  CORDWOOD_ASSIGN_OR_RETURN(const int entries, EntriesIn(**old));
  int used = 0;
  for (int i = 0; i < entries; ++i) {
    if (!IsNothing(reader.Read(i))) used = i + 1;
  }
  CORDWOOD_RETURN_IF_ERROR(WriteImage(*file, used, [&](int i) { return reader.Read(i); }));
  return reader.status();
}

}  // namespace cordwood::group
