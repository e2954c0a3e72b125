#include "cordwood/log/context.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"

namespace cordwood::log {

absl::StatusOr<std::unique_ptr<LiveFlag>> LiveFlag::Create() {
  const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* page = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("mmap of a page: ", strerror(errno)));
  }
  auto* word = static_cast<std::atomic<std::uint32_t>*>(page);
  word->store(kOpen, std::memory_order_seq_cst);
  auto flag = std::unique_ptr<LiveFlag>(new LiveFlag(word));
  if (madvise(page, bytes, MADV_WIPEONFORK) != 0) {
    return absl::UnavailableError(absl::StrCat("madvise(MADV_WIPEONFORK): ", strerror(errno)));
  }
  return flag;
}

LiveFlag::~LiveFlag() { munmap(word_, static_cast<std::size_t>(sysconf(_SC_PAGESIZE))); }

absl::Status LiveFlag::Check() const {
  switch (word_->load(std::memory_order_seq_cst)) {
    case kOpen:
      return absl::OkStatus();
    case kForked:
      return absl::FailedPreconditionError(
          "this handle was inherited over a fork; open the directory in the child");
    case kKilled:
      return absl::FailedPreconditionError(
          "the process that had this handle was killed, on a simulated machine; open the "
          "directory again");
    default:
      return absl::FailedPreconditionError("the broker is closed");
  }
}

}  // namespace cordwood::log
