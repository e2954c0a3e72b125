#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "cordwood/group/live.h"
#include "cordwood/group/share.h"
#include "cordwood/log/topic_files.h"
#include "cordwood/os/checksum.h"
#include "group/files.h"
#include "group/verify.h"

namespace cordwood::group {
namespace {

using log::FindingKind;

// A file of the group, with its bytes as they are now. Not of one that has gone meanwhile.
class Page {
 public:
  static std::optional<Page> Read(const log::VerifyInput& input, std::string path,
                                  std::uint64_t bytes_max, log::Findings& findings) {
    Page page(input, std::move(path), findings);
    const auto file = input.context->root->OpenFile(page.path_, os::OpenMode::kRead);
    if (absl::IsNotFound(file.status())) return std::nullopt;
    const auto info = file.ok() ? (*file)->Info() : file.status();
    if (!info.ok()) {
      if (findings.IsDamage(info.status()))
        page.Tell(FindingKind::kEntry, 0, info.status().message());
      return std::nullopt;
    }
    page.info_ = *info;
    const std::uint64_t bytes = std::min(info->size, bytes_max);
    page.words_.resize((bytes + 7) / 8);
    const auto read = (*file)->ReadAt(page.words_.data(), bytes, 0);
    if (!read.ok()) {
      findings.trouble.Update(read.status());
      return std::nullopt;
    }
    page.bytes_ = *read;
    return page;
  }

  std::uint64_t bytes() const { return bytes_; }
  // As long as the page, which has so many bytes.
  template <class T>
  const T* At(std::uint64_t position) const {
    return reinterpret_cast<const T*>(reinterpret_cast<const std::byte*>(words_.data()) + position);
  }
  // Written in this boot, and no copy.
  template <class Header>
  bool IsOfThisBoot(const Header& header) const {
    return header.boot_id == input_.context->boot_id && header.inode == info_.inode &&
           header.device == info_.device;
  }
  void Tell(FindingKind kind, std::uint64_t position, absl::string_view what) const {
    findings_.all.push_back({.kind = kind,
                             .problem = {.file = path_,
                                         .position = static_cast<std::int64_t>(position),
                                         .what = std::string(what)}});
  }

 private:
  Page(const log::VerifyInput& input, std::string path, log::Findings& findings)
      : input_(input), path_(std::move(path)), findings_(findings) {}

  const log::VerifyInput& input_;
  std::string path_;
  log::Findings& findings_;
  os::FileInfo info_ = {};
  std::uint64_t bytes_ = 0;
  std::vector<std::uint64_t> words_;
};

// ---- The live page (group/live.h)

constexpr char kLiveCosts[] =
    "; the next member makes it anew, and commits that were not durable are lost";

void LookAtLive(const Page& page) {
  if (page.bytes() < kLiveEntriesAt) {
    page.Tell(FindingKind::kPage, page.bytes(),
              absl::StrCat("shorter than a live page", kLiveCosts));
    return;
  }
  const auto& header = *page.At<LiveHeader>(0);
  if (header.magic != LiveHeader::kMagic || header.version != LiveHeader::kVersion) {
    page.Tell(FindingKind::kPage, 0, absl::StrCat("not a group's live page", kLiveCosts));
    return;
  }
  if (!page.IsOfThisBoot(header)) return;
  const std::uint32_t state = header.state.load(std::memory_order_relaxed);
  if (state != LiveHeader::kReady && state != LiveHeader::kReplaced) {
    page.Tell(FindingKind::kPage, offsetof(LiveHeader, state),
              absl::StrCat("its state is none", kLiveCosts));
    return;
  }
  const std::uint32_t entries = header.entries.load(std::memory_order_relaxed);
  if (entries > static_cast<std::uint32_t>(kEntriesMax) ||
      LiveEntryAt(static_cast<int>(entries)) > page.bytes()) {
    page.Tell(FindingKind::kPage, offsetof(LiveHeader, entries),
              absl::StrCat("says ", entries, " entries, and is too short for them", kLiveCosts));
    return;
  }
  for (int i = 0; i < static_cast<int>(entries); ++i) {
    const auto& entry = *page.At<LiveEntry>(LiveEntryAt(i));
    const auto is_ref = [](std::uint32_t ref) {
      return ref <= static_cast<std::uint32_t>(kMembersMax) || ref == kBarred;
    };
    if (EpochOf(entry.durable.load(std::memory_order_relaxed)) != 0 ||
        !is_ref(entry.owner.load(std::memory_order_relaxed)) ||
        !is_ref(entry.target.load(std::memory_order_relaxed))) {
      page.Tell(FindingKind::kEntry, LiveEntryAt(i),
                "the entry of a partition says what it cannot");
      return;  // one is enough: there may be very many
    }
  }
}

// ---- What a share group knows of a partition (group/share.h)

void LookAtShare(const Page& page, std::string_view name) {
  constexpr char kCosts[] =
      "; the next member makes it anew, and what was acknowledged and not yet committed is "
      "delivered again";
  const auto tell = [&](std::uint64_t position, absl::string_view what) {
    page.Tell(FindingKind::kPage, position, absl::StrCat(what, kCosts));
  };
  if (page.bytes() < kShareBytes) return tell(page.bytes(), "shorter than a share file");
  const auto& header = *page.At<ShareHeader>(0);
  if (header.magic != ShareHeader::kMagic || header.version != kShareVersion ||
      header.slots != kShareSlots ||
      header.checksum != os::Hash64(&header, offsetof(ShareHeader, checksum))) {
    return tell(0, "not the header of a share file, or a damaged one");
  }
  if (name != ShareFileName(header.topic_id, static_cast<int>(header.partition))) {
    return tell(16, "of another topic or partition than its name says");
  }
  const std::uint32_t state = header.state.load(std::memory_order_relaxed);
  if (page.IsOfThisBoot(header) && state != ShareHeader::kReady &&
      state != ShareHeader::kReplaced) {
    return tell(offsetof(ShareHeader, state), "its state is none");
  }
  const Offset start = header.start.load(std::memory_order_relaxed);
  const Offset next_start = header.next_start.load(std::memory_order_relaxed);
  if (start < -1 || start > kCommitMax || next_start < -1 || next_start > kCommitMax) {
    page.Tell(FindingKind::kEntry, offsetof(ShareHeader, start),
              "its start is no offset; what is committed counts");
  }
  int wrong = 0;
  std::uint64_t first = 0;
  for (Offset i = 0; i < kShareSlots; ++i) {
    const std::uint64_t at = kShareHeaderBytes + static_cast<std::uint64_t>(i) * sizeof(ShareSlot);
    const std::uint64_t word = page.At<ShareSlot>(at)->word.load(std::memory_order_relaxed);
    const auto offset = static_cast<Offset>(word >> 16);
    if (word == 0 ||
        (offset % kShareSlots == i && ReadShareWord(word, offset).state != ShareState::kNone)) {
      continue;
    }
    if (wrong++ == 0) first = at;
  }
  if (wrong > 0) {
    page.Tell(
        FindingKind::kEntry, first,
        absl::StrCat(wrong, " slots say what no slot can; their records are delivered again"));
  }
}

}  // namespace

void VerifyPages(const log::VerifyInput& input, const std::string& folder,
                 log::Findings& findings) {
  constexpr std::uint64_t kLiveBytesMax =
      kLiveEntriesAt + std::uint64_t{kEntriesMax} * sizeof(LiveEntry);
  if (const auto live = Page::Read(input, folder + "/live", kLiveBytesMax, findings)) {
    LookAtLive(*live);
  }
  const absl::StatusOr<std::vector<os::FolderEntry>> entries = input.context->root->List(folder);
  if (!entries.ok()) return;  // gone meanwhile, or told by who looked into it before
  std::vector<std::string> names;
  for (const os::FolderEntry& entry : *entries) {
    if (!entry.is_folder && absl::StartsWith(entry.name, kSharePrefix)) names.push_back(entry.name);
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(folder, "/", name);
    if (const auto share = Page::Read(input, path, kShareBytes, findings)) {
      LookAtShare(*share, name);
    }
  }
}

}  // namespace cordwood::group
