// A file as a disk, and a file system on it, as root:
//
//   absl::StatusOr<LoopDevice> disk = LoopDevice::Over("/tmp/image");
//   {
//     absl::StatusOr<MountedDisk> mounted = MountedDisk::Mount(*disk, "ext4", folder);
//     ...
//   }

#ifndef CORDWOOD_TESTS_BLOCK_LOOP_DEVICE_H_
#define CORDWOOD_TESTS_BLOCK_LOOP_DEVICE_H_

#include <filesystem>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cordwood::testing {

class LoopDevice {
 public:
  static absl::StatusOr<LoopDevice> Over(const std::filesystem::path& file);
  LoopDevice(LoopDevice&& other) noexcept
      : device_(std::exchange(other.device_, -1)), path_(std::move(other.path_)) {}
  LoopDevice& operator=(LoopDevice&&) = delete;
  ~LoopDevice();

  const std::string& path() const { return path_; }  // /dev/loop7

 private:
  LoopDevice(int device, std::string path) : device_(device), path_(std::move(path)) {}

  int device_;
  std::string path_;
};

class MountedDisk {
 public:
  static absl::StatusOr<MountedDisk> Mount(const LoopDevice& disk, const std::string& file_system,
                                           const std::filesystem::path& folder);
  MountedDisk(MountedDisk&& other) noexcept : folder_(std::exchange(other.folder_, {})) {}
  MountedDisk& operator=(MountedDisk&&) = delete;
  ~MountedDisk();

 private:
  explicit MountedDisk(std::filesystem::path folder) : folder_(std::move(folder)) {}

  std::filesystem::path folder_;
};

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_BLOCK_LOOP_DEVICE_H_
