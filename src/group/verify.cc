#include "group/verify.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cordwood/group/offsets.h"
#include "cordwood/os/checksum.h"
#include "cordwood/status_macros.h"
#include "group/files.h"

namespace cordwood::group {
namespace {

using log::FindingKind;

// Somebody may write a slot, or a text, while it is looked at.
constexpr int kLooksMax = 10;

template <class T>
bool IsNothing(const T& value) {
  static const T nothing = [] {
    T zero;
    std::memset(static_cast<void*>(&zero), 0, sizeof zero);
    return zero;
  }();
  return std::memcmp(&value, &nothing, sizeof value) == 0;
}

// Empty: as it was written, or nothing was.
std::string WrongEntry(const OffsetEntry& bytes) {
  if (IsNothing(bytes)) return "";
  const std::optional<OffsetEntry> entry = ReadEntry(bytes);
  if (!entry) return "nothing in the entry holds; its commit is lost";
  if (entry->checksum != bytes.checksum || entry->name_bytes != bytes.name_bytes) {
    return "the entry's own checksum does not hold; it has lost the topic's name";
  }
  const int newest = NewestSlot(*entry);
  const bool has_other = !IsNothing(bytes.slots[newest == 0 ? 1 : 0]);
  if (newest < 0 && (has_other || !IsNothing(bytes.slots[0]))) {
    return "no slot of the entry holds; its commit is lost";
  }
  if (newest < 0 || !has_other) return "";
  // Without the one that counts, the other one has to count.
  OffsetEntry other = *entry;
  other.slots[newest] = OffsetSlot();
  return NewestSlot(other) >= 0 ? "" : "a slot of the entry does not hold; the other one counts";
}

std::string WrongText(const MetadataBlock& block) {
  if (IsNothing(block)) return "";
  const std::size_t bytes = std::min<std::size_t>(block.text_bytes, kMetadataBytesMax);
  const os::BytesPiece pieces[] = {{&block, offsetof(MetadataBlock, checksum)},
                                   {block.text, bytes}};
  return os::Hash64(pieces, 2) == block.checksum ? "" : "the text of a commit does not hold";
}

// Reads each block of a file until there is nothing wrong with it, a few times at most.
template <class Block, class Wrong>
absl::Status LookAtBlocks(os::Folder& root, const std::string& path, std::uint64_t from,
                          Wrong wrong, log::Findings& findings) {
  const auto opened = root.OpenFile(path, os::OpenMode::kRead);
  if (!opened.ok()) return opened.status();
  auto block = std::make_unique<Block>();
  std::uint64_t at = from;
  for (int i = 0; i < kEntriesMax; ++i, at += sizeof(Block)) {
    std::string why;
    for (int n = 0; n < kLooksMax; ++n) {
      CORDWOOD_ASSIGN_OR_RETURN(const std::size_t bytes,
                                (*opened)->ReadAt(block.get(), sizeof(Block), at));
      if (bytes == 0) return absl::OkStatus();
      why = bytes < sizeof(Block) ? "the file was cut off within it, which is lost" : wrong(*block);
      if (why.empty()) break;
    }
    if (why.empty()) continue;
    findings.all.push_back(
        {.kind = FindingKind::kEntry,
         .problem = {
             .file = path, .position = static_cast<std::int64_t>(at), .what = std::move(why)}});
  }
  // It may be sparse, and of any size.
  CORDWOOD_ASSIGN_OR_RETURN(const os::FileInfo info, (*opened)->Info());
  if (info.size > at) {
    findings.all.push_back(
        {.kind = FindingKind::kEntry,
         .problem = {.file = path,
                     .position = static_cast<std::int64_t>(at),
                     .what = absl::StrCat("longer than the ", kEntriesMax,
                                          " entries that a group can have; the rest counts for "
                                          "nothing, and is not looked at")}});
  }
  return absl::OkStatus();
}

}  // namespace

void VerifyGroup(const log::VerifyInput& input, const std::string& name, log::Findings& findings) {
  os::Folder& root = *input.context->root;
  const std::string folder = absl::StrCat(kGroupsFolder, "/", name);
  const std::string path = folder + "/offsets";
  const auto opened = root.OpenFile(path, os::OpenMode::kRead);
  const absl::Status header = opened.ok() ? CheckOffsetsHeader(**opened, path) : opened.status();
  // A group whose folder is gone by now was deleted meanwhile.
  if (absl::IsNotFound(header) && !root.List(folder).ok()) return;
  if (!header.ok() && !findings.IsDamage(header)) return;
  if (!header.ok()) {
    const bool is_missing = absl::IsNotFound(header);
    findings.all.push_back(
        {.kind = FindingKind::kOffsets,
         .problem = {.state = is_missing ? VerifiedState::kMissing : VerifiedState::kDamaged,
                     .file = path,
                     .what = is_missing ? "the group's committed offsets are missing"
                                        : std::string(header.message())}});
  }
  const std::string members = folder + "/members";
  const absl::Status locks = root.OpenFile(members, os::OpenMode::kRead).status();
  if (absl::IsNotFound(locks) && !root.List(folder).ok()) return;  // deleted meanwhile
  if (!locks.ok() && findings.IsDamage(locks)) {
    findings.all.push_back({.kind = FindingKind::kMembers,
                            .problem = {.state = VerifiedState::kMissing,
                                        .file = members,
                                        .what = "the file of the group's locks is missing; nobody "
                                                "can join it"}});
  }
  for (const absl::Status& looked :
       {LookAtBlocks<OffsetEntry>(root, path, kHeaderBytes, WrongEntry, findings),
        LookAtBlocks<MetadataBlock>(root, folder + "/metadata", 0, WrongText, findings)}) {
    if (!looked.ok()) findings.IsDamage(looked);
  }
  VerifyPages(input, folder, findings);
}

}  // namespace cordwood::group
