#include "cordwood/log/maintenance_lock.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "log/small_files.h"

namespace cordwood::log {
namespace {

// Far beyond the end of a control file, which no lock on its bytes is about.
constexpr std::uint64_t kFirstByte = std::uint64_t{1} << 40;
constexpr std::uint64_t kBytesOfPartition = 4;

std::string ControlPath(const segment::PartitionFiles& files) {
  return files.folder.substr(0, files.folder.rfind('/') + 1) + "control";
}

}  // namespace

std::uint64_t MaintenanceLock::ByteOf(std::uint64_t partition, Kind kind) {
  return kFirstByte + partition * kBytesOfPartition + kind;
}

absl::StatusOr<std::optional<MaintenanceLock>> MaintenanceLock::Take(
    const Context& context, const segment::PartitionFiles& files, Kind kind,
    std::int64_t deadline_ns) {
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::File> file,
                            files.root->OpenFile(ControlPath(files), os::OpenMode::kReadWrite));
  CORDWOOD_ASSIGN_OR_RETURN(
      const bool locked,
      LockByte(*file, os::LockKind::kExclusive, ByteOf(files.partition, kind), deadline_ns));
  if (!locked) return std::nullopt;
  CORDWOOD_ASSIGN_OR_RETURN(std::unique_ptr<os::LockKeeper> keeper, file->KeepLocks());
  CORDWOOD_ASSIGN_OR_RETURN(Work work, Work::Begin(context));
  return MaintenanceLock(std::move(work), std::move(keeper));
}

}  // namespace cordwood::log
