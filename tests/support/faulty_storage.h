// Storage whose nth operation fails with an errno, whatever operation it is, and which hands
// everything else on to another one.
//
//   const auto storage = FaultyStorage::Over(Storage::OperatingSystem());
//   storage->FailNth(17, ENOSPC);
//   ... what a program does ...
//   if (!storage->was_hit()) ...                  // there were fewer than 17
//   INFO(storage->hit());                         // "write topics/t/config"
//
// What cannot fail on Linux does not fail here: giving back a lock or a map, and the clock.
//
// Or a process is stopped before its nth operation, and others go on meanwhile:
//
//   storage->BeforeNth(17, [&] { ... what the others do ... });
//
// Thread safety: every operation.

#ifndef CORDWOOD_TESTS_SUPPORT_FAULTY_STORAGE_H_
#define CORDWOOD_TESTS_SUPPORT_FAULTY_STORAGE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "cordwood/os/storage.h"

namespace cordwood::testing {

class FaultyStorage final : public Storage {
 public:
  static std::shared_ptr<FaultyStorage> Over(std::shared_ptr<Storage> storage);
  explicit FaultyStorage(std::shared_ptr<Storage> storage);
  ~FaultyStorage() override;

  // The nth operation from here on; 0: none.
  void FailNth(int nth, int error);
  bool was_hit() const;
  std::string hit() const;
  void BeforeNth(int nth, std::function<void()> meanwhile);
  int operations() const;  // since FailNth or BeforeNth

  absl::StatusOr<std::unique_ptr<os::Folder>> OpenFolder(
      const std::filesystem::path& path, const os::OpenFolderOptions& options) override;
  std::int64_t NowNanos() override { return storage_->NowNanos(); }
  std::int64_t ElapsedNanos() override { return storage_->ElapsedNanos(); }
  os::Bits128 Random128() override { return storage_->Random128(); }
  absl::StatusOr<os::Bits128> BootId() override;

 private:
  class Faults;
  class FaultyFolder;
  class FaultyFile;
  class FaultyMapping;

  const std::shared_ptr<Storage> storage_;
  const std::shared_ptr<Faults> faults_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_FAULTY_STORAGE_H_
