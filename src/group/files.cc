#include "group/files.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/checksum.h"
#include "cordwood/status_macros.h"

namespace cordwood::group {
namespace {

constexpr int kEntriesAtOnce = 128;  // 64 KiB

}  // namespace

std::string UniqueFolder(Storage& storage, const char* prefix) {
  const os::Bits128 random = storage.Random128();
  const absl::string_view bytes(reinterpret_cast<const char*>(random.data()), random.size());
  return absl::StrCat(kGroupsFolder, "/", prefix, absl::BytesToHexString(bytes));
}

std::string ShareFileName(const os::Bits128& topic_id, int partition) {
  return absl::StrCat(kSharePrefix, log::HexOf(topic_id), "-", partition);
}

absl::Status CreateGroup(const log::Context& context, const std::string& folder) {
  os::Folder& root = *context.root;
  const std::string made = UniqueFolder(*context.storage, kNewPrefix);
  const auto make = [&]() -> absl::Status {
    CORDWOOD_RETURN_IF_ERROR(root.CreateFolder(made));
    CORDWOOD_ASSIGN_OR_RETURN(const std::unique_ptr<os::File> offsets,
                              root.OpenFile(made + "/offsets", os::OpenMode::kCreate));
    CORDWOOD_RETURN_IF_ERROR(
        WriteImage(*offsets, 0, [](int) -> OffsetEntry { return OffsetEntry(); }));
    CORDWOOD_RETURN_IF_ERROR(root.OpenFile(made + "/members", os::OpenMode::kCreate).status());
    CORDWOOD_RETURN_IF_ERROR(root.SyncFolder(made));
    return root.RenameNew(made, folder);
  };
  const absl::Status status = make();
  if (status.ok()) return status;
  RemoveFolderAndFiles(root, made).IgnoreError();
  // Two at once: one of them has made it.
  return absl::IsAlreadyExists(status) ? absl::OkStatus() : status;
}

absl::Status RemoveFolderAndFiles(os::Folder& root, const std::string& folder) {
  CORDWOOD_ASSIGN_OR_RETURN(const std::vector<os::FolderEntry> entries, root.List(folder));
  for (const os::FolderEntry& entry : entries) {
    CORDWOOD_RETURN_IF_ERROR(root.Unlink(absl::StrCat(folder, "/", entry.name)));
  }
  return root.RemoveFolder(folder);
}

absl::Status CheckOffsetsHeader(os::File& file, const std::string& path) {
  OffsetsHeader header;
  CORDWOOD_ASSIGN_OR_RETURN(const std::size_t bytes, file.ReadAt(&header, sizeof header, 0));
  const auto bad = [&](const char* what) {
    return absl::DataLossError(absl::StrCat(
        path, ": ", what, "; put back a copy of it, or delete the group and begin anew"));
  };
  if (bytes < sizeof header) return bad("shorter than the header of a group's offsets");
  if (header.magic != OffsetsHeader().magic) return bad("not a file of a group's offsets");
  if (header.checksum != os::Hash64(&header, offsetof(OffsetsHeader, checksum))) {
    return bad("the checksum of its header does not hold");
  }
  if (header.version != kOffsetsVersion || header.entry_bytes != sizeof(OffsetEntry)) {
    return bad("of another format version");
  }
  return absl::OkStatus();
}

absl::Status WriteImage(os::File& file, int entries, absl::FunctionRef<OffsetEntry(int)> entry) {
  // Blocks first: a full disk is found here and not in the middle.
  CORDWOOD_RETURN_IF_ERROR(file.Allocate(EntryAt(entries)));
  std::vector<OffsetEntry> chunk;
  for (int from = 0; from < entries; from += kEntriesAtOnce) {
    const int to = std::min(entries, from + kEntriesAtOnce);
    chunk.clear();
    for (int i = from; i < to; ++i) chunk.push_back(entry(i));
    CORDWOOD_RETURN_IF_ERROR(
        file.WriteAt(chunk.data(), chunk.size() * sizeof(OffsetEntry), EntryAt(from)));
  }
  OffsetsHeader header;
  header.checksum = os::Hash64(&header, offsetof(OffsetsHeader, checksum));
  CORDWOOD_RETURN_IF_ERROR(file.WriteAt(&header, sizeof header, 0));
  return file.Sync();
}

absl::Status ReadEntries(os::File& file, int from, int to,
                         absl::FunctionRef<void(int, const OffsetEntry&)> f) {
  std::vector<OffsetEntry> chunk;
  while (from < to) {
    chunk.resize(static_cast<std::size_t>(std::min(to - from, kEntriesAtOnce)));
    CORDWOOD_ASSIGN_OR_RETURN(
        const std::size_t bytes,
        file.ReadAt(chunk.data(), chunk.size() * sizeof(OffsetEntry), EntryAt(from)));
    const auto whole = static_cast<int>(bytes / sizeof(OffsetEntry));
    if (whole == 0) return absl::OkStatus();
    for (int i = 0; i < whole; ++i) f(from + i, chunk[static_cast<std::size_t>(i)]);
    from += whole;
  }
  return absl::OkStatus();
}

absl::StatusOr<int> EntriesIn(os::File& file) {
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, file.Info());
  if (info.size <= kHeaderBytes) return 0;
  return static_cast<int>(
      std::min<std::uint64_t>((info.size - kHeaderBytes) / sizeof(OffsetEntry), kEntriesMax));
}

}  // namespace cordwood::group
