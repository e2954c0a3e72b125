// A folder that is only read, and never through a map of a file (rule 32): a block that the disk
// cannot read, or a file that somebody cuts off meanwhile, is an answer here and no signal.
//
//   auto folder = std::make_shared<PreadFolder>(root, [&](const Unreadable& bytes) { ... });
//
// Its files are mapped into memory of this process, and what Fetch() asks for is read into that:
// of each no more than a few megabytes at a time, however long it is. What the disk does not give
// back is told, and is zero. What would change anything is kFailedPrecondition.
//
// Thread safety: one thread. A file that was mapped is held open, so that it can be read when its
// name has gone; of more than a few at a time the rest are found by their names again.

#ifndef CORDWOOD_OS_PREAD_FOLDER_H_
#define CORDWOOD_OS_PREAD_FOLDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"

namespace cordwood::os {

// The bytes [from, to) of a file; the path is that by which it was opened.
struct Unreadable {
  std::string path = {};
  std::uint64_t from = 0, to = 0;
  absl::Status why = {};
};

class PreadFolder final : public Folder {
 public:
  using Tell = std::function<void(const Unreadable&)>;

  PreadFolder(std::shared_ptr<Folder> folder, Tell tell);

  // The first failure that is no fault of a file's bytes and says nothing of them: a want of
  // descriptors, say, or a link in the place of a file. Who asked may have gone on without.
  const absl::Status& trouble() const;

  const std::string& path() const override;
  absl::StatusOr<std::unique_ptr<File>> OpenFile(std::string_view path, OpenMode mode) override;
  absl::Status CreateFolder(std::string_view path) override;
  absl::StatusOr<std::vector<FolderEntry>> List(std::string_view path) override;
  absl::Status Rename(std::string_view from, std::string_view to) override;
  absl::Status RenameNew(std::string_view from, std::string_view to) override;
  absl::Status Exchange(std::string_view a, std::string_view b) override;
  absl::Status Unlink(std::string_view path) override;
  absl::Status RemoveFolder(std::string_view path) override;
  absl::Status SyncFolder(std::string_view path) override;
  absl::Status SyncFileSystem() override;
  absl::StatusOr<FileSystemInfo> FileSystem() override;

  // What its files and maps share.
  struct Shared {
    std::shared_ptr<Folder> folder = {};
    Tell tell = {};
    int held = 0;  // files that maps hold open
    absl::Status trouble = {};
  };

 private:
  const std::shared_ptr<Shared> shared_;
};

}  // namespace cordwood::os

#endif  // CORDWOOD_OS_PREAD_FOLDER_H_
