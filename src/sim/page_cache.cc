#include "sim/page_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <limits>

#include "os/errno_status.h"

namespace cordwood::sim {
namespace {

constexpr char kName[] = "the memory of a simulated machine";

}  // namespace

absl::StatusOr<std::shared_ptr<PageCache>> PageCache::Create() {
  const int fd = memfd_create("cordwood_sim", MFD_CLOEXEC);
  if (fd < 0) return os::ErrnoStatus(errno, "memfd_create", kName);
  auto cache = std::shared_ptr<PageCache>(new PageCache(fd));
  // A store past the end would be a SIGBUS; there is memory only where something is stored.
  if (ftruncate(fd, std::numeric_limits<off_t>::max()) != 0) {
    return os::ErrnoStatus(errno, "ftruncate", kName);
  }
  return cache;
}

PageCache::~PageCache() { close(fd_); }

std::shared_ptr<Window> PageCache::NewWindow() {
  const std::uint64_t number = windows_.fetch_add(1, std::memory_order_relaxed);
  return std::make_shared<Window>(shared_from_this(), number * kWindowBytes);
}

Window::~Window() { Clear(0, PageCache::kWindowBytes).IgnoreError(); }

absl::Status Window::Read(void* to, std::uint64_t bytes, std::uint64_t position) const {
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t n = pread(cache_->fd_, static_cast<char*>(to) + done, bytes - done,
                            static_cast<off_t>(begin_ + position + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return os::ErrnoStatus(n < 0 ? errno : EIO, "pread", kName);
    done += static_cast<std::uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status Window::Write(const void* from, std::uint64_t bytes, std::uint64_t position) {
  for (std::uint64_t done = 0; done < bytes;) {
    const ssize_t n = pwrite(cache_->fd_, static_cast<const char*>(from) + done, bytes - done,
                             static_cast<off_t>(begin_ + position + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return os::ErrnoStatus(n < 0 ? errno : EIO, "pwrite", kName);
    done += static_cast<std::uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status Window::Clear(std::uint64_t from, std::uint64_t to) {
  if (to <= from) return absl::OkStatus();
  if (fallocate(cache_->fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(begin_ + from), static_cast<off_t>(to - from)) == 0) {
    return absl::OkStatus();
  }
  return os::ErrnoStatus(errno, "fallocate", kName);
}

absl::StatusOr<std::byte*> Window::Map(std::size_t bytes, os::Access access) const {
  const int protection = access == os::Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  void* data =
      mmap(nullptr, bytes, protection, MAP_SHARED, cache_->fd_, static_cast<off_t>(begin_));
  if (data == MAP_FAILED) return os::ErrnoStatus(errno, "mmap", kName);
  return static_cast<std::byte*>(data);
}

}  // namespace cordwood::sim
