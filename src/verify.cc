#include "cordwood/verify.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cordwood/log/directory.h"
#include "cordwood/os/shared_lock.h"
#include "cordwood/status_macros.h"
#include "group/verify.h"
#include "log/clean_marker.h"
#include "log/small_files.h"
#include "os/pread_folder.h"
#include "verify_directory.h"

namespace cordwood {
namespace internal {
namespace {

// The version that FORMAT names; none: it is damaged. kNotFound: there is none.
absl::StatusOr<std::optional<int>> ReadFormat(os::Folder& root) {
  absl::StatusOr<std::string> text = log::ReadSmallFile(root, "FORMAT", 4096);
  if (absl::IsDataLoss(text.status())) return std::optional<int>();
  CORDWOOD_RETURN_IF_ERROR(text.status());
  absl::string_view rest = *text;
  int version = 0;
  if (!absl::ConsumePrefix(&rest, "cordwood ") || !absl::SimpleAtoi(rest, &version) ||
      *text != absl::StrCat("cordwood ", version, "\n")) {
    return std::optional<int>();
  }
  return std::optional<int>(version);
}

absl::StatusOr<std::vector<std::string>> FoldersIn(os::Folder& root, const std::string& path,
                                                   std::string_view kind) {
  std::vector<std::string> names;
  const absl::StatusOr<std::vector<os::FolderEntry>> entries = root.List(path);
  if (absl::IsNotFound(entries.status())) return names;
  if (!entries.ok()) return entries.status();
  for (const os::FolderEntry& entry : *entries) {
    if (entry.is_folder && ValidateName(kind, entry.name).ok()) names.push_back(entry.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A marker that does not hold is none.
std::vector<log::CleanEntry> LookAtClean(os::Folder& root, log::Findings& findings) {
  const auto bytes = log::ReadSmallFile(root, log::kCleanMarkerName, log::kMarkerBytesMax);
  if (!bytes.ok()) return {};
  std::vector<log::CleanEntry> entries = log::DecodeCleanMarker(*bytes);
  if (entries.empty() && *bytes != log::EncodeCleanMarker({})) {
    findings.all.push_back({.kind = log::FindingKind::kClean,
                            .problem = {.file = log::kCleanMarkerName,
                                        .what = "the mark of a clean close does not hold; the next "
                                                "Broker recovers every topic"}});
  }
  return entries;
}

}  // namespace

absl::StatusOr<std::shared_ptr<os::Folder>> OpenToVerify(Storage& storage,
                                                         const std::filesystem::path& directory) {
  CORDWOOD_ASSIGN_OR_RETURN(std::shared_ptr<os::Folder> root, storage.OpenFolder(directory, {}));
  os::PreadFolder reading(root, [](const os::Unreadable&) {});
  const absl::StatusOr<std::optional<int>> version = ReadFormat(reading);
  const absl::Status topics = root->List("topics").status();
  if (absl::IsNotFound(version.status()) && absl::IsNotFound(topics)) {
    return absl::NotFoundError(absl::StrCat(
        root->path(), ": is not a cordwood directory: it has neither a file FORMAT nor topics"));
  }
  if (version.ok() && *version && **version > 1) {
    return absl::FailedPreconditionError(
        absl::StrCat(root->path(), ": has format version ", **version,
                     "; this library knows version 1. Use a newer cordwood"));
  }
  if (!version.ok() && !absl::IsNotFound(version.status())) return version.status();
  return root;
}

absl::StatusOr<VerifyReport> VerifyDirectory(const std::shared_ptr<Storage>& storage,
                                             const std::shared_ptr<os::Folder>& root, bool is_open,
                                             log::Findings& findings) {
  // By file and position: what is read twice is told once.
  std::map<std::pair<std::string, std::uint64_t>, os::Unreadable> unreadable;
  const auto reading = std::make_shared<os::PreadFolder>(root, [&](const os::Unreadable& bytes) {
    os::Unreadable& known = unreadable[{bytes.path, bytes.from}];
    if (bytes.to > known.to) known = bytes;
  });
  auto context = std::make_shared<log::Context>(storage, reading);
  CORDWOOD_ASSIGN_OR_RETURN(context->live, log::LiveFlag::Create());
  CORDWOOD_ASSIGN_OR_RETURN(context->boot_id, storage->BootId());
  const log::VerifyInput input = {.context = context,
                                  .live_root = root,
                                  .is_open = is_open,
                                  .clean = LookAtClean(*context->root, findings)};
  VerifyReport report;
  report.is_open = is_open;
  const absl::StatusOr<std::optional<int>> version = ReadFormat(*context->root);
  if (!version.ok() && !absl::IsNotFound(version.status())) return version.status();
  if (!version.ok() || version->value_or(0) != 1) {
    findings.all.push_back(
        {.kind = log::FindingKind::kFormat,
         .problem = {.state = version.ok() ? VerifiedState::kDamaged : VerifiedState::kMissing,
                     .file = "FORMAT",
                     .what = "does not say \"cordwood 1\"; without it the directory cannot be "
                             "opened"}});
  }
  CORDWOOD_ASSIGN_OR_RETURN(const auto topics, FoldersIn(*root, "topics", "topic"));
  for (const std::string& name : topics) {
    log::Findings of_topic;
    VerifiedTopic topic = log::VerifyTopic(input, name, of_topic);
    // Deleted meanwhile.
    if (!topic.status.ok() && absl::IsNotFound(root->List("topics/" + name).status())) continue;
    report.topics.push_back(std::move(topic));
    std::move(of_topic.all.begin(), of_topic.all.end(), std::back_inserter(findings.all));
    findings.trouble.Update(of_topic.trouble);
  }
  CORDWOOD_ASSIGN_OR_RETURN(const auto groups, FoldersIn(*root, "groups", "group"));
  for (const std::string& name : groups) group::VerifyGroup(input, name, findings);
  CORDWOOD_RETURN_IF_ERROR(reading->trouble());
  CORDWOOD_RETURN_IF_ERROR(findings.trouble);
  for (const auto& [place, bytes] : unreadable) {
    findings.all.push_back(
        {.kind = log::FindingKind::kUnreadable,
         .problem = {.file = bytes.path,
                     .position = static_cast<std::int64_t>(bytes.from),
                     .what = absl::StrCat("the disk does not give ", bytes.to - bytes.from,
                                          " bytes back: ", bytes.why.message(),
                                          "; who reads them through a map gets SIGBUS")}});
  }
  for (const log::Finding& finding : findings.all) report.problems.push_back(finding.problem);
  return report;
}

}  // namespace internal

std::string_view ToString(VerifiedState state) {
  switch (state) {
    case VerifiedState::kValid:
      return "valid";
    case VerifiedState::kTorn:
      return "torn";
    case VerifiedState::kDamaged:
      return "damaged";
    case VerifiedState::kInUse:
      return "in use";
    case VerifiedState::kMissing:
      return "missing";
  }
  return "unknown";
}

bool VerifyReport::is_clean() const {
  return problems.empty() &&
         std::all_of(topics.begin(), topics.end(), [](const VerifiedTopic& topic) {
           return std::all_of(topic.partitions.begin(), topic.partitions.end(),
                              [](const VerifiedPartition& partition) {
                                return std::all_of(partition.ranges.begin(), partition.ranges.end(),
                                                   internal::IsWell);
                              });
         });
}

namespace internal {
namespace {

// Somebody may come, change something and go while we look.
constexpr int kLooksMax = 10;

// All that is neither valid nor in use.
std::vector<VerifiedRange> BadRanges(const VerifyReport& report) {
  std::vector<VerifiedRange> bad;
  for (const VerifiedTopic& topic : report.topics) {
    for (const VerifiedPartition& partition : topic.partitions) {
      std::remove_copy_if(partition.ranges.begin(), partition.ranges.end(), std::back_inserter(bad),
                          IsWell);
    }
  }
  return bad;
}

// What nobody has open is the same from look to look, or somebody was there in between. What
// somebody has goes on beside what is wrong.
bool IsWrongAlike(const VerifyReport& a, const VerifyReport& b) {
  if (!a.is_open || !b.is_open) return a == b;
  return a.problems == b.problems && BadRanges(a) == BadRanges(b);
}

// Asked, not taken: nobody is kept out.
absl::StatusOr<bool> IsOpen(os::Folder& root) {
  const absl::StatusOr<std::unique_ptr<os::File>> locks =
      root.OpenFile("locks", os::OpenMode::kRead);
  if (absl::IsNotFound(locks.status())) return false;
  CORDWOOD_RETURN_IF_ERROR(locks.status());
  return (*locks)->IsLocked(os::LockKind::kExclusive, os::LockOwners::kPresenceByte);
}

}  // namespace

absl::StatusOr<Looked> LookUntilAlike(const std::shared_ptr<Storage>& storage,
                                      const std::shared_ptr<os::Folder>& root, bool is_alone) {
  std::optional<VerifyReport> before;
  for (int n = 1;; ++n) {
    Looked looked;
    bool is_open = false;
    if (!is_alone) {
      CORDWOOD_ASSIGN_OR_RETURN(is_open, IsOpen(*root));
    }
    CORDWOOD_ASSIGN_OR_RETURN(looked.report,
                              VerifyDirectory(storage, root, is_open, looked.findings));
    looked.is_settled =
        looked.report.is_clean() || (before && IsWrongAlike(*before, looked.report));
    if (looked.is_settled || n == kLooksMax) return looked;
    before = std::move(looked.report);
  }
}

}  // namespace internal

absl::StatusOr<VerifyReport> Verify(const std::filesystem::path& directory,
                                    const VerifyOptions& options) {
  const std::shared_ptr<Storage> storage =
      options.storage != nullptr ? options.storage : Storage::OperatingSystem();
  CORDWOOD_ASSIGN_OR_RETURN(const std::shared_ptr<os::Folder> root,
                            internal::OpenToVerify(*storage, directory));
  // Who comes and goes for ever has a report of the last look.
  CORDWOOD_ASSIGN_OR_RETURN(internal::Looked looked,
                            internal::LookUntilAlike(storage, root, /*is_alone=*/false));
  return std::move(looked.report);
}

}  // namespace cordwood
