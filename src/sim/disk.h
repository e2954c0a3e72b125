// The simulated machine itself: its disk, its memory, its clocks, and the one process that
// runs on it. What a process asks for comes through a Storage, of which each process has
// its own (sim/storage.h).
//
//   auto disk = std::make_shared<Disk>(seed);
//   std::shared_ptr<Storage> storage = MakeStorage(disk);
//   ...
//   disk->CutPower();                     // `storage`, and all that came from it, is dead
//   storage = MakeStorage(disk);
//
// Thread safety: everything but Before(). Lifetime: held by all that came from it.

#ifndef CORDWOOD_SIM_DISK_H_
#define CORDWOOD_SIM_DISK_H_

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "cordwood/os/storage.h"
#include "sim/names.h"
#include "sim/page_cache.h"
#include "sim/random.h"

namespace cordwood::sim {

class Disk {
 public:
  static constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max();

  explicit Disk(std::uint64_t seed);

  // ---- What happens to it.
  void KillProcess();
  void CutPower();
  void AdvanceClock(std::int64_t ns);
  void SetFreeBytes(std::int64_t bytes);
  void FailNextSync();
  // Of the file at `path` in the directory; kNotFound.
  absl::Status FlipBit(const std::filesystem::path& directory, std::string_view path,
                       std::uint64_t position, int bit);
  // A choice that is the seed's, of [0, limit).
  std::uint64_t Below(std::uint64_t limit);

  // Called before each operation, by the thread that asks for it; it may kill the process.
  // For tests of this library.
  void Before(std::function<void()> hook) { hook_ = std::move(hook); }

  std::uint64_t process() const;
  std::int64_t now_ns() const;
  std::int64_t elapsed_ns() const;
  os::Bits128 boot_id() const;
  os::Bits128 RandomBits();

  // One operation of a process: alone at the disk, if the process lives.
  class Turn {
   public:
    Turn(Disk& disk, std::uint64_t process);
    // kUnavailable: the process is dead, or the machine could not be made.
    absl::Status status() const;

   private:
    Disk& disk_;
    const std::uint64_t process_;
    std::optional<absl::MutexLock> lock_;
  };

  // ---- In a Turn. `path` is for messages.
  Names& names() { return names_; }
  static std::string RootName(const std::filesystem::path& directory) {
    return (directory / "").lexically_normal().string();
  }
  std::shared_ptr<Inode> NewInode(bool is_folder);
  std::uint64_t NextDescription() { return ++descriptions_; }
  std::int64_t FreeBytes() const;
  // Whether there is room for one more file or folder.
  absl::Status CheckRoom(std::string_view verb, const std::string& path) const;
  // Gives the file blocks for [from, to), or as many as there are; where they end.
  std::uint64_t AddBlocks(Inode& file, std::uint64_t from, std::uint64_t to);
  // True: this sync fails.
  bool TakeFailure() { return std::exchange(fail_next_sync_, false); }
  absl::Status SyncFile(Inode& file, std::uint64_t from, std::uint64_t to, std::string_view verb,
                        const std::string& path);
  absl::Status SyncFolder(Inode& folder, std::string_view verb, const std::string& path);
  absl::Status SyncEverything(const std::string& path);

 private:
  void Kill();
  // Every file that has a name, or had one and may get it back.
  void ForEachInode(absl::FunctionRef<void(Inode&)> f);
  void WriteBackSomething();

  mutable absl::Mutex mutex_;
  absl::Status broken_;  // why the machine could not be made, or has no memory
  std::function<void()> hook_;
  Random fate_;  // what is lost
  Random bits_;  // what a process gets
  std::shared_ptr<PageCache> cache_;
  Names names_;
  std::map<std::uint64_t, std::weak_ptr<Inode>> inodes_;
  std::uint64_t process_ = 1;
  std::uint64_t descriptions_ = 0;
  std::int64_t total_bytes_ = kUnlimited;
  bool fail_next_sync_ = false;
  std::int64_t now_ns_;
  std::int64_t elapsed_ns_;
  os::Bits128 boot_id_;
};

}  // namespace cordwood::sim

#endif  // CORDWOOD_SIM_DISK_H_
