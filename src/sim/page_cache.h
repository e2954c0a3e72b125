// The memory of a simulated machine: what processes see of its files. All of it is one
// sparse file in memory, of which each file has a window; so all maps of a file show the
// same bytes, and a futex in one of them wakes who sleeps on another.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<PageCache> cache, PageCache::Create());
//   std::shared_ptr<Window> window = cache->NewWindow();
//   ASSIGN_OR_RETURN(std::byte* data, window->Map(bytes, os::Access::kReadWrite));
//
// A window is held by the file, and by who has it open or mapped. When a process is killed
// each file gets a copy in a new window, and what the dead process still stores goes to the
// old one.
//
// Thread safety: PageCache. A Window as memory: the caller's locks.

#ifndef CORDWOOD_SIM_PAGE_CACHE_H_
#define CORDWOOD_SIM_PAGE_CACHE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cordwood/os/storage.h"

namespace cordwood::sim {

class Window;

class PageCache : public std::enable_shared_from_this<PageCache> {
 public:
  // No file is longer. Windows lie so far apart.
  static constexpr std::uint64_t kWindowBytes = std::uint64_t{4} << 30;

  static absl::StatusOr<std::shared_ptr<PageCache>> Create();
  PageCache(const PageCache&) = delete;
  PageCache& operator=(const PageCache&) = delete;
  ~PageCache();

  // All zero.
  std::shared_ptr<Window> NewWindow();

 private:
  friend class Window;
  explicit PageCache(int fd) : fd_(fd) {}

  const int fd_;
  std::atomic<std::uint64_t> windows_{0};
};

class Window {
 public:
  Window(std::shared_ptr<PageCache> cache, std::uint64_t begin)
      : cache_(std::move(cache)), begin_(begin) {}
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;
  ~Window();  // gives its memory back

  // Within kWindowBytes. Bytes that were never written are zero.
  absl::Status Read(void* to, std::uint64_t bytes, std::uint64_t position) const;
  absl::Status Write(const void* from, std::uint64_t bytes, std::uint64_t position);
  absl::Status Clear(std::uint64_t from, std::uint64_t to);
  // To be unmapped by the caller.
  absl::StatusOr<std::byte*> Map(std::size_t bytes, os::Access access) const;

 private:
  const std::shared_ptr<PageCache> cache_;
  const std::uint64_t begin_;
};

}  // namespace cordwood::sim

#endif  // CORDWOOD_SIM_PAGE_CACHE_H_
