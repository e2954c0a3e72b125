#include "tests/block/loop_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace cordwood::testing {

absl::StatusOr<LoopDevice> LoopDevice::Over(const std::filesystem::path& file) {
  const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) return absl::ErrnoToStatus(errno, "/dev/loop-control");
  const int backing = open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (backing < 0) {
    close(control);
    return absl::ErrnoToStatus(errno, file.string());
  }
  // Between the question and the use somebody else may take it, and the kernel frees one some time
  // after its last close. One without a name in /dev may be followed by one that has its name.
  absl::Status status;
  int device = -1;
  std::string path;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    if (attempt > 0) absl::SleepFor(absl::Milliseconds(10));
    path = absl::StrCat("/dev/loop", ioctl(control, LOOP_CTL_GET_FREE));
    device = open(path.c_str(), O_RDWR | O_CLOEXEC);
    loop_config config = {};
    config.fd = static_cast<__u32>(backing);
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
    if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) == 0) break;
    status = absl::UnavailableError(absl::StrCat("no loop device: ", path, ": ", strerror(errno)));
    if (device >= 0) close(device);
    device = -1;
  }
  close(backing);
  close(control);
  if (device < 0) return status;
  return LoopDevice(device, path);
}

LoopDevice::~LoopDevice() {
  if (device_ >= 0) close(device_);
}

absl::StatusOr<MountedDisk> MountedDisk::Mount(const LoopDevice& disk,
                                               const std::string& file_system,
                                               const std::filesystem::path& folder) {
  if (mount(disk.path().c_str(), folder.c_str(), file_system.c_str(), 0,
            file_system == "xfs" ? "nouuid" : "") != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("mount ", disk.path(), " as ", file_system));
  }
  return MountedDisk(folder);
}

MountedDisk::~MountedDisk() {
  if (!folder_.empty()) umount2(folder_.c_str(), 0);
}

}  // namespace cordwood::testing
