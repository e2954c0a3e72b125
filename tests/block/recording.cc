#include "tests/block/recording.h"

#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <new>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"

namespace cordwood::testing {
namespace {

constexpr std::size_t kEventsMax = 1 << 20;
constexpr std::size_t kLogMax = std::size_t{2} << 30;
constexpr std::size_t kNotesMax = 1 << 14;  // in pieces
constexpr char kDisk[] = "/disk";

// Of which only what is touched takes memory.
std::byte* Share(std::size_t bytes) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(at);
}

}  // namespace

struct Recording::Shared {
  std::atomic<std::size_t> events, log_bytes, notes;
  std::atomic<bool> is_full;
};

struct Recording::Operations {
  static Recording& Self() { return *static_cast<Recording*>(fuse_get_context()->private_data); }

  static int GetAttributes(const char* path, struct stat* info, fuse_file_info*) {
    *info = {};
    if (std::strcmp(path, "/") == 0) {
      info->st_mode = S_IFDIR | 0700;
      info->st_nlink = 2;
      return 0;
    }
    if (std::strcmp(path, kDisk) != 0) return -ENOENT;
    info->st_mode = S_IFREG | 0600;
    info->st_nlink = 1;
    info->st_size = static_cast<off_t>(Self().disk_bytes_);
    return 0;
  }
  static int Read(const char*, char* to, std::size_t size, off_t offset, fuse_file_info*) {
    const Recording& self = Self();
    const auto from = std::min(static_cast<std::uint64_t>(offset), self.disk_bytes_);
    const auto bytes = std::min<std::uint64_t>(size, self.disk_bytes_ - from);
    std::memcpy(to, self.disk_ + from, bytes);
    return static_cast<int>(bytes);
  }
  static int Write(const char*, const char* from, std::size_t size, off_t offset, fuse_file_info*) {
    Recording& self = Self();
    const auto at = static_cast<std::uint64_t>(offset);
    if (at > self.disk_bytes_ || size > self.disk_bytes_ - at) return -ENOSPC;
    self.Write(from, size, at);
    return static_cast<int>(size);
  }
  static int Sync(const char*, int, fuse_file_info*) {
    Self().Flush();
    return 0;
  }
  static int Open(const char*, fuse_file_info*) { return 0; }
};

Recording::Recording(const void* notes, std::size_t notes_bytes, std::uint64_t disk_bytes)
    : live_notes_(static_cast<const std::byte*>(notes)),
      notes_bytes_(notes_bytes),
      disk_bytes_(disk_bytes),
      disk_(Share(disk_bytes)),
      shared_(new (Share(sizeof(Shared))) Shared()),
      events_(new (Share(kEventsMax * sizeof(Event))) Event[kEventsMax]),
      log_(Share(kLogMax)),
      notes_(Share(kNotesMax * notes_bytes)) {}

Recording::~Recording() {
  Unmount();
  munmap(disk_, disk_bytes_);
  munmap(static_cast<void*>(shared_), sizeof(Shared));
  munmap(static_cast<void*>(events_), kEventsMax * sizeof(Event));
  munmap(log_, kLogMax);
  munmap(notes_, kNotesMax * notes_bytes_);
}

absl::Status Recording::Mount(const std::filesystem::path& folder) {
  if (access("/dev/fuse", R_OK | W_OK) != 0) {
    return absl::FailedPreconditionError("there is no /dev/fuse");
  }
  folder_ = folder;
  server_ = fork();
  if (server_ < 0) return absl::ErrnoToStatus(errno, "fork");
  if (server_ == 0) {
    fuse_operations operations = {};
    operations.getattr = Operations::GetAttributes;
    operations.open = Operations::Open;
    operations.read = Operations::Read;
    operations.write = Operations::Write;
    operations.fsync = Operations::Sync;
    std::string program = "recording", where = folder.string(), foreground = "-f", single = "-s";
    char* arguments[] = {program.data(), where.data(), foreground.data(), single.data(), nullptr};
    _exit(fuse_main(4, arguments, &operations, this));
  }
  // Until it is there, or its process has given up.
  while (!std::filesystem::exists(folder / "disk")) {
    int status = 0;
    if (waitpid(server_, &status, WNOHANG) == server_) {
      server_ = -1;
      return absl::FailedPreconditionError(absl::StrCat("FUSE does not mount ", folder.string()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return absl::OkStatus();
}

void Recording::Unmount() {
  if (server_ <= 0) return;
  umount2(folder_.c_str(), MNT_DETACH);
  int status = 0;
  waitpid(server_, &status, 0);
  server_ = -1;
}

void Recording::Write(const void* from, std::uint64_t size, std::uint64_t offset) {
  std::memcpy(disk_ + offset, from, size);
  Add({.offset = offset, .size = size}, from);
}

void Recording::Add(Event event, const void* from) {
  const std::size_t at = shared_->events;
  const std::size_t log = shared_->log_bytes;
  const std::size_t notes = shared_->notes;
  if (at == kEventsMax || log + event.size > kLogMax || notes == kNotesMax) {
    shared_->is_full = true;
    return;
  }
  // Twice the same: then there was a moment at which all of it was so.
  std::byte* const to = notes_ + notes * notes_bytes_;
  do {
    std::memcpy(to, live_notes_, notes_bytes_);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } while (std::memcmp(to, live_notes_, notes_bytes_) != 0);
  const bool is_new = notes == 0 || std::memcmp(to, to - notes_bytes_, notes_bytes_) != 0;
  event.notes = is_new ? notes : notes - 1;
  event.data = log;
  if (event.size > 0) std::memcpy(log_ + log, from, event.size);
  events_[at] = event;
  shared_->notes = notes + is_new;
  shared_->log_bytes = log + event.size;
  shared_->events = at + 1;
}

std::size_t Recording::size() const { return shared_->events; }
const Recording::Event& Recording::event(std::size_t i) const { return events_[i]; }
const std::byte* Recording::data(const Event& event) const { return log_ + event.data; }
const void* Recording::notes(const Event& event) const {
  return notes_ + event.notes * notes_bytes_;
}
bool Recording::is_full() const { return shared_->is_full; }

}  // namespace cordwood::testing
