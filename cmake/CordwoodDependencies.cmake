# What cordwood needs: the system's package when there is one, else the sources are fetched.
include(FetchContent)

find_package(Threads REQUIRED)

# absl's config file matches a version exactly, so no version is asked for.
set(ABSL_PROPAGATE_CXX_STD ON)
set(ABSL_ENABLE_INSTALL ${CORDWOOD_INSTALL})  # Else install(EXPORT) fails when absl is fetched.
FetchContent_Declare(absl
  GIT_REPOSITORY https://github.com/abseil/abseil-cpp.git
  GIT_TAG 20240722.0
  SYSTEM FIND_PACKAGE_ARGS CONFIG)

set(XXHASH_BUILD_XXHSUM OFF)
set(XXHASH_BUNDLED_MODE ON)
FetchContent_Declare(xxHash
  GIT_REPOSITORY https://github.com/Cyan4973/xxHash.git
  GIT_TAG v0.8.2
  SOURCE_SUBDIR cmake_unofficial
  SYSTEM FIND_PACKAGE_ARGS 0.8)  # cmake/FindxxHash.cmake
FetchContent_MakeAvailable(absl xxHash)

if(CORDWOOD_WITH_KAFKA)
  find_package(RdKafka REQUIRED)  # cmake/FindRdKafka.cmake
endif()

if(CORDWOOD_BUILD_TESTS)
  # No version is asked for: 3.x is preferred, Debian 12 has 2.13, and tests/catch.h includes
  # whichever is there. Both have Catch2::Catch2WithMain.
  FetchContent_Declare(Catch2
    GIT_REPOSITORY https://github.com/catchorg/Catch2.git
    GIT_TAG v3.7.1
    SYSTEM FIND_PACKAGE_ARGS CONFIG)
  FetchContent_MakeAvailable(Catch2)
  if(NOT Catch2_FOUND)
    list(APPEND CMAKE_MODULE_PATH "${catch2_SOURCE_DIR}/extras")
  endif()
endif()

if(CORDWOOD_BUILD_BENCHMARKS)
  set(BENCHMARK_ENABLE_TESTING OFF)
  set(BENCHMARK_ENABLE_INSTALL OFF)
  FetchContent_Declare(benchmark
    GIT_REPOSITORY https://github.com/google/benchmark.git
    GIT_TAG v1.9.1
    SYSTEM FIND_PACKAGE_ARGS 1.7 CONFIG)
  FetchContent_MakeAvailable(benchmark)
endif()
