// How long a test is to be, as the environment says; CI says nothing.
//
//   const std::uint64_t stride = NumberFromEnvironment("CORDWOOD_FAULT_STRIDE", 4);

#ifndef CORDWOOD_TESTS_SUPPORT_ENVIRONMENT_H_
#define CORDWOOD_TESTS_SUPPORT_ENVIRONMENT_H_

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace cordwood::testing {

inline std::uint64_t NumberFromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Where files are in memory, for tests that open directories by the thousand and lose no power.
// Only where there is room: a container may have 64 MB of it in all.
inline std::filesystem::path FolderInMemory() {
  constexpr std::uintmax_t kRoomMin = std::uintmax_t{1} << 30;
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space("/dev/shm", error);
  const bool has_room = !error && space.available >= kRoomMin;
  return has_room ? "/dev/shm" : std::filesystem::temp_directory_path();
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_ENVIRONMENT_H_
