// The operating system's storage, except that it fails when it is told to, remembers what
// it was asked for and in which order, and knows what would be left after a power cut.
//
//   auto storage = FailingStorage::Make();
//   LogFixture log({.storage = storage});
//   storage->Fail({.op = Op::kMapSync, .status = absl::UnavailableError("EIO")});
//   CHECK(log->Flush().ok());                       // in a fresh file
//   CHECK(storage->Count(Op::kMapSync, ".log") == 2);
//   log.Kill();
//   storage->PowerCut();
//   log.Open();
//
// The disk, as bad as Linux allows it to be. It is a model: nothing is synced for real, so
// tests that only need many syncs are fast.
//   - Only what a sync that returned OK covered is on it; WriteBack() puts more there.
//   - The pages of a sync that failed count as clean: what is in them now, and what is
//     stored to them later, never gets there, though later syncs say OK.
//   - Names that were made, moved or taken away are as before until their folder is synced.
//
// Thread safety: every operation. Tests move the clock with Advance() and SetClock().

#ifndef CORDWOOD_TESTS_SUPPORT_FAILING_STORAGE_H_
#define CORDWOOD_TESTS_SUPPORT_FAILING_STORAGE_H_

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cordwood/os/storage.h"

namespace cordwood::testing {

class FailingStorage final : public Storage {
 public:
  enum class Op {
    kMapSync,
    kFileSync,
    kSyncFolder,
    kSyncFileSystem,
    kAllocate,
    kWrite,
    kCreate,
    kRename,
    kUnlink,
  };

  struct Operation {
    Op op = Op::kMapSync;
    std::string path = {};      // as the caller named it; of a file, when it was opened
    std::uint64_t inode = 0;    // of the file, 0 for names
    std::uint64_t from = 0;     // of a range in bytes
    std::uint64_t to = 0;       // one past its end
    std::string new_path = {};  // of a rename
    bool ok = true;
  };

  struct Failure {
    Op op = Op::kMapSync;
    absl::Status status = absl::UnavailableError("made to fail");
    int nth = 1;             // 1: the next one that matches
    int times = 1;           // and that many from then on
    std::string where = {};  // a part of the path; empty: any
  };
  static constexpr int kAlways = std::numeric_limits<int>::max();

  static std::shared_ptr<FailingStorage> Make();
  FailingStorage();
  ~FailingStorage() override;

  // ---- What goes wrong.
  void Fail(Failure failure);
  void FailEverything();
  void Heal();
  // Called before each operation, by the thread that asks for it.
  void Before(std::function<void(const Operation&)> hook);
  // Kills this process before the nth operation from here on.
  void DieBefore(int nth);

  // ---- What happened, in order.
  std::vector<Operation> operations() const;
  void Forget();
  int Count(Op op, std::string_view where = "") const;
  // The place of the first one at or after `from` in operations(); -1: there is none.
  int Find(Op op, std::string_view where, int from = 0) const;

  // ---- The disk.
  // All names are on it as they are now.
  void SettleNames();
  // What the file holds now is on it, as after a write-back that nobody asked for.
  void WriteBack(const std::filesystem::path& file);
  // The files become what is on it; another boot. All handles must be gone.
  void PowerCut();

  // ---- The clock: the system's, and what was added.
  void Advance(absl::Duration by);
  // Somebody sets it, by so much: no time has passed.
  void SetClock(absl::Duration by);

  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) override;
  std::int64_t NowNanos() override;
  std::int64_t ElapsedNanos() override;
  os::Bits128 Random128() override;
  absl::StatusOr<os::Bits128> BootId() override;

 private:
  class Machine;  // what the folders, files and maps share

  const std::shared_ptr<Storage> real_;
  const std::shared_ptr<Machine> machine_;
  std::atomic<std::int64_t> shift_ns_{0};
  std::atomic<std::int64_t> passed_ns_{0};
  std::atomic<std::uint8_t> boots_{0};

  class FailingFolder;
  class FailingFile;
  class FailingMapping;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_FAILING_STORAGE_H_
