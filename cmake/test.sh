#!/bin/sh
# Builds cordwood with its tests, examples and benchmarks, and runs every test.
#
#   sh cmake/test.sh
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/cmake/prerequisites.sh"

cat <<'TEXT'
This builds cordwood, its tests, examples and benchmarks in build/dev and runs every test.
About 13 minutes on two cores and 2 GB, all below build/; installing what is missing first takes
about 2 minutes more and up to 430 MB.

TEXT
need g++ cmake ninja-build libabsl-dev libxxhash-dev catch2 libbenchmark-dev libcli11-dev git
use_ccache
cd "$root"

cmake --preset dev -DCORDWOOD_BUILD_BENCHMARKS=ON
cmake --build --preset dev

echo
echo "Every public header, compiled alone:"
cmake --build --preset dev --target all_verify_interface_header_sets

# Each version formats a little differently, and the sources are as version 14 has them.
formatter=
for name in clang-format-14 clang-format; do
  if command -v $name >/dev/null 2>&1 && $name --version | grep -q 'version 14\.'; then
    formatter=$name
    break
  fi
done
echo
if [ -n "$formatter" ]; then
  echo "The format of every source:"
  # The programs of tests/acceptance are users' own, and stay as they are.
  find include src tests examples benchmarks -path tests/acceptance -prune -o \
    -type f \( -name '*.h' -o -name '*.cc' \) -exec $formatter --dry-run -Werror {} +
  echo "As it must be."
else
  echo "The format of the sources is not checked: clang-format 14 is not there."
fi

echo
ctest --preset dev -j2

cat <<TEXT

The build is in       $root/build/dev
Run it again with     sh "$root/cmake/test.sh"
Remove everything:    rm -r "$root/build"
TEXT
