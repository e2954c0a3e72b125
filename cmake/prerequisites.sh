# shellcheck shell=sh
# Read by demo.sh, test.sh, .ci/run and the scripts in benchmarks: the packages that they need.
#
#   need g++ cmake ninja-build ...   installs what is missing, or says how and exits with 1
#
# Names are Debian's. What is there in some other way (a newer CMake, say) counts as there.

has_header() {
  for dir in /usr/include /usr/local/include; do
    if [ -e "$dir/$1" ]; then return 0; fi
  done
  return 1
}

has_package() {
  case "$1" in
    g++) command -v g++ >/dev/null 2>&1 && return 0 ;;
    clang) command -v clang++ >/dev/null 2>&1 && return 0 ;;
    cmake | ccache | clang-format | doxygen | git | kcat | valgrind | python3)
      command -v "$1" >/dev/null 2>&1 && return 0
      ;;
    maven) command -v mvn >/dev/null 2>&1 && return 0 ;;
    default-jdk-headless) command -v javac >/dev/null 2>&1 && return 0 ;;
    ninja-build) command -v ninja >/dev/null 2>&1 && return 0 ;;
    libabsl-dev) has_header absl/status/statusor.h && return 0 ;;
    libxxhash-dev) has_header xxhash.h && return 0 ;;
    libbenchmark-dev) has_header benchmark/benchmark.h && return 0 ;;
    libcli11-dev) has_header CLI/CLI.hpp && return 0 ;;
    librdkafka-dev) has_header librdkafka/rdkafka.h && return 0 ;;
    catch2)
      has_header catch2/catch.hpp && return 0
      has_header catch2/catch_test_macros.hpp && return 0
      ;;
  esac
  command -v dpkg-query >/dev/null 2>&1 || return 1
  case "$(dpkg-query --show --showformat='${Status}' "$1" 2>/dev/null)" in
    *" installed") return 0 ;;
  esac
  return 1
}

# The package with the version that is needed, for systems that name their packages otherwise.
describe_package() {
  case "$1" in
    g++) echo "a C++20 compiler: GCC 12 or later, or Clang 14 or later" ;;
    cmake) echo "CMake 3.25 or later" ;;
    ninja-build) echo "Ninja 1.10 or later" ;;
    libabsl-dev) echo "Abseil for C++ 20220623 or later, with its CMake package" ;;
    libxxhash-dev) echo "xxHash 0.8 or later (the header)" ;;
    catch2) echo "Catch2 2.13 or later, or 3" ;;
    libbenchmark-dev) echo "Google Benchmark 1.7 or later" ;;
    libcli11-dev) echo "CLI11 2.1 or later, with its CMake package (for the program cordwood)" ;;
    clang) echo "Clang 14 or later" ;;
    doxygen) echo "Doxygen 1.9 or later" ;;
    default-jdk-headless) echo "a Java development kit, 17 or later" ;;
    maven) echo "Maven 3.8 or later" ;;
    librdkafka-dev) echo "librdkafka 2.0 or later" ;;
    kcat) echo "kcat 1.7 or later" ;;
    *) echo "$1" ;;
  esac
}

cmake_is_too_old() {
  version=$(cmake --version 2>/dev/null |
    sed -n '1s/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  major=${version% *}
  minor=${version#* }
  [ "${major:-0}" -lt 3 ] || { [ "$major" -eq 3 ] && [ "$minor" -lt 25 ]; }
}

stop_if_cmake_is_too_old() {
  if cmake_is_too_old; then
    echo "CMake 3.25 or later is needed, and this system has $(cmake --version | sed -n 1p)." >&2
    echo "Debian 12 and Ubuntu 24.04 have it; or see https://cmake.org/download" >&2
    exit 1
  fi
}

# Runs apt-get through "$@" (nothing, or sudo). It is quiet; of what goes wrong the errors are
# shown, without the addresses of package sources.
install_packages() {
  if ! output=$("$@" apt-get update 2>&1 &&
    "$@" env DEBIAN_FRONTEND=noninteractive \
      apt-get install --yes --no-install-recommends $missing 2>&1); then
    printf '%s\n' "$output" | grep '^[EW]:' |
      sed -e 's|[a-z+]*://[^ ]*|<package source>|g' \
        -e 's/[[:alnum:]-]\{1,\}\(\.[[:alnum:]-]\{1,\}\)\{1,\}/<...>/g' >&2 || true
    echo "apt-get could not install the packages." >&2
    exit 1
  fi
}

need() {
  if [ "$(uname -s)" != Linux ]; then
    echo "cordwood runs on Linux only." >&2
    exit 1
  fi
  missing=
  for package in "$@"; do
    has_package "$package" || missing="$missing $package"
  done
  missing=${missing# }
  if [ -z "$missing" ]; then
    stop_if_cmake_is_too_old
    return 0
  fi

  if ! command -v apt-get >/dev/null 2>&1; then
    echo "These are missing; please install them in your system's own way:" >&2
    for package in $missing; do
      echo "  $(describe_package "$package")" >&2
    done
    exit 1
  fi
  line="apt-get update && apt-get install --yes --no-install-recommends $missing"
  if [ "$(id -u)" -eq 0 ]; then
    echo "Installing what is missing:"
    echo "  $line"
    install_packages
  elif command -v sudo >/dev/null 2>&1 && [ -t 0 ] && [ -t 1 ]; then
    echo "Some packages are missing. This would install them:"
    echo "  sudo $line" | sed 's/&& /\&\& sudo /'
    printf 'Run it now? [y/N] '
    read -r answer
    case "$answer" in
      y | Y | yes | Yes) ;;
      *)
        echo "Nothing was installed." >&2
        exit 1
        ;;
    esac
    sudo -v || exit 1
    install_packages sudo
  else
    echo "Some packages are missing. Please run this as root, then start again:" >&2
    echo "  $line" >&2
    exit 1
  fi
  stop_if_cmake_is_too_old
}

# What is compiled a second time comes out of a cache, where there is ccache. CMake reads this
# variable the first time that it configures a directory.
use_ccache() {
  if command -v ccache >/dev/null 2>&1; then
    export CMAKE_CXX_COMPILER_LAUNCHER=ccache
    export CCACHE_DIR="${CCACHE_DIR:-$root/build/ccache}"
    # Paths below the root are taken relative to it, so that another clone finds the same entries.
    export CCACHE_BASEDIR="$root"
    export CCACHE_NOHASHDIR=1
    # What it needs to know of precompiled headers, as its manual says.
    export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
  fi
}
