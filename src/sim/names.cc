#include "sim/names.h"

#include <errno.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cordwood/status_macros.h"
#include "os/errno_status.h"

namespace cordwood::sim {
namespace {

constexpr std::size_t kNameBytesMax = 255;

}  // namespace

std::shared_ptr<Inode> Names::FindRoot(const std::string& path) const {
  const auto it = roots_.find(path);
  return it == roots_.end() ? nullptr : it->second;
}

void Names::AddRoot(const std::string& path, std::shared_ptr<Inode> folder) {
  roots_[path] = std::move(folder);
}

absl::StatusOr<Names::Place> Names::PlaceOf(const std::shared_ptr<Inode>& base,
                                            std::string_view path, std::string_view verb,
                                            std::string_view base_path) {
  const auto error = [&](int number) {
    return os::ErrnoStatus(number, verb, std::string(base_path) + "/" + std::string(path));
  };
  if (path.starts_with('/')) return error(EXDEV);
  Place place = {.folder = base, .name = "", .inode = base};
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view name = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (name.empty() || name == ".") continue;
    if (name == "..") return error(EXDEV);
    if (name.size() > kNameBytesMax) return error(ENAMETOOLONG);
    if (place.inode == nullptr) return error(ENOENT);
    if (!place.inode->is_folder) return error(ENOTDIR);
    const auto entry = place.inode->seen.find(name);
    place = {.folder = place.inode,
             .name = std::string(name),
             .inode = entry == place.inode->seen.end() ? nullptr : entry->second};
  }
  return place;
}

void Names::Set(const Place& place, std::shared_ptr<Inode> inode) {
  Apply({{place.folder, place.name, std::move(inode)}});
}

void Names::Move(const Place& from, const Place& to) {
  Apply({{from.folder, from.name, nullptr}, {to.folder, to.name, from.inode}});
}

void Names::Exchange(const Place& a, const Place& b) {
  Apply({{a.folder, a.name, b.inode}, {b.folder, b.name, a.inode}});
}

void Names::Apply(Change change) {
  for (const Assignment& assignment : change) {
    if (assignment.inode == nullptr) {
      assignment.folder->seen.erase(assignment.name);
    } else {
      assignment.folder->seen[assignment.name] = assignment.inode;
    }
  }
  changes_.push_back(std::move(change));
}

// ---- What gets to the disk

bool Names::IsIn(const Change& change, const NameSet& names) {
  return std::any_of(change.begin(), change.end(), [&](const Assignment& assignment) {
    return names.contains({assignment.folder.get(), assignment.name});
  });
}

void Names::AddTo(NameSet& names, const Change& change) {
  for (const Assignment& assignment : change) {
    names.emplace(assignment.folder.get(), assignment.name);
  }
}

void Names::PutOnDisk(const Change& change) {
  for (const Assignment& assignment : change) {
    if (assignment.inode == nullptr) {
      assignment.folder->on_disk.erase(assignment.name);
    } else {
      assignment.folder->on_disk[assignment.name] = assignment.inode;
    }
  }
}

void Names::Sync(const Inode& folder) {
  // From the last to the first: with a change go the earlier ones of the same names.
  std::vector<bool> goes(changes_.size());
  NameSet names;
  for (std::size_t i = changes_.size(); i-- > 0;) {
    const auto is_here = [&](const Assignment& a) { return a.folder.get() == &folder; };
    goes[i] =
        IsIn(changes_[i], names) || std::any_of(changes_[i].begin(), changes_[i].end(), is_here);
    if (goes[i]) AddTo(names, changes_[i]);
  }
  std::vector<Change> left;
  for (std::size_t i = 0; i < changes_.size(); ++i) {
    if (goes[i]) {
      PutOnDisk(changes_[i]);
    } else {
      left.push_back(std::move(changes_[i]));
    }
  }
  changes_ = std::move(left);
}

void Names::SyncAll() {
  for (const Change& change : changes_) PutOnDisk(change);
  changes_.clear();
}

// ---- What happens to the machine

void Names::CutPower(Random& random) {
  const std::uint64_t mood = random.Mood();
  NameSet lost;
  for (const Change& change : changes_) {
    if (!IsIn(change, lost) && random.Chance(mood, 8)) {
      PutOnDisk(change);
    } else {
      AddTo(lost, change);
    }
  }
  changes_.clear();
  // A folder that has no name any more is seen by nobody.
  std::vector<Inode*> folders;
  for (const auto& [path, root] : roots_) folders.push_back(root.get());
  while (!folders.empty()) {
    Inode* folder = folders.back();
    folders.pop_back();
    folder->seen = folder->on_disk;
    for (const auto& [name, inode] : folder->seen) {
      if (inode->is_folder) folders.push_back(inode.get());
    }
  }
}

void Names::ForEach(absl::FunctionRef<void(Inode&)> f) const {
  std::vector<Inode*> left;
  for (const auto& [path, root] : roots_) left.push_back(root.get());
  while (!left.empty()) {
    Inode* inode = left.back();
    left.pop_back();
    f(*inode);
    for (const auto& [name, entry] : inode->seen) left.push_back(entry.get());
  }
}

}  // namespace cordwood::sim
