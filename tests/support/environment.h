// How long a test is to be, as the environment says; CI says nothing.
//
//   const std::uint64_t stride = NumberFromEnvironment("CORDWOOD_FAULT_STRIDE", 4);

#ifndef CORDWOOD_TESTS_SUPPORT_ENVIRONMENT_H_
#define CORDWOOD_TESTS_SUPPORT_ENVIRONMENT_H_

#include <cstdint>
#include <cstdlib>
#include <filesystem>

namespace cordwood::testing {

inline std::uint64_t NumberFromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Where files are in memory, for tests that open directories by the thousand and lose no power.
inline std::filesystem::path FolderInMemory() {
  return std::filesystem::exists("/dev/shm") ? "/dev/shm" : std::filesystem::temp_directory_path();
}

}  // namespace cordwood::testing

#endif  // CORDWOOD_TESTS_SUPPORT_ENVIRONMENT_H_
