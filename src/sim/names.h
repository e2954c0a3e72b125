// The names on a simulated disk, twice: what processes see, and what the disk has.
//
//   OpenFile("a", kCreate)   Rename("a", "b")   Unlink("c")        changes, in order
//   SyncFolder("")                                                 all of them are on the disk
//
// Names that were made, moved or taken away are on the disk once a folder that they are in
// is synced. Of the other changes a power cut keeps some, in any choice, but for this: of
// one name an earlier change is kept if a later one is, and a rename is kept as a whole.
//
// Thread safety: none of its own.

#ifndef CORDWOOD_SIM_NAMES_H_
#define CORDWOOD_SIM_NAMES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"
#include "sim/file_bytes.h"
#include "sim/random.h"

namespace cordwood::sim {

// A file or a folder, whatever its name is.
struct Inode {
  Inode(std::uint64_t n, bool folder, std::shared_ptr<PageCache> cache)
      : number(n), is_folder(folder), bytes(std::move(cache)) {}

  const std::uint64_t number;
  const bool is_folder;
  FileBytes bytes;  // of a file

  using Entries = std::map<std::string, std::shared_ptr<Inode>, std::less<>>;
  Entries seen;     // of a folder
  Entries on_disk;  // of a folder

  // Of a file: who holds a lock on a byte, by the number of an open file description.
  using Holders = std::map<std::uint64_t, os::LockKind>;
  std::map<std::uint64_t, Holders> locks;
};

class Names {
 public:
  Names() = default;

  // A folder of its own, with no parent; it is on the disk at once. Null: there is none.
  std::shared_ptr<Inode> FindRoot(const std::string& path) const;
  void AddRoot(const std::string& path, std::shared_ptr<Inode> folder);

  // A path is relative to a folder, and stays below it. `verb` and `base` are for messages.
  struct Place {
    std::shared_ptr<Inode> folder;
    std::string name;
    std::shared_ptr<Inode> inode;  // null: the name is free
  };
  static absl::StatusOr<Place> PlaceOf(const std::shared_ptr<Inode>& base, std::string_view path,
                                       std::string_view verb, std::string_view base_path);

  // What processes see from now on.
  void Set(const Place& place, std::shared_ptr<Inode> inode);
  void Move(const Place& from, const Place& to);
  void Exchange(const Place& a, const Place& b);

  // ---- What gets to the disk.
  void Sync(const Inode& folder);
  void SyncAll();

  // ---- What happens to the machine.
  void CutPower(Random& random);

  // Each file and folder that has a name.
  void ForEach(absl::FunctionRef<void(Inode&)> f) const;

 private:
  struct Assignment {
    std::shared_ptr<Inode> folder;
    std::string name;
    std::shared_ptr<Inode> inode;
  };
  using Change = std::vector<Assignment>;  // all or none
  using NameSet = std::set<std::pair<const Inode*, std::string>>;
  static bool IsIn(const Change& change, const NameSet& names);
  static void AddTo(NameSet& names, const Change& change);
  static void PutOnDisk(const Change& change);
  void Apply(Change change);

  std::map<std::string, std::shared_ptr<Inode>> roots_;
  std::vector<Change> changes_;  // not on the disk yet, the oldest first
};

}  // namespace cordwood::sim

#endif  // CORDWOOD_SIM_NAMES_H_
