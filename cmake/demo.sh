#!/bin/sh
# Builds the main example and runs it on real data.
#
#   sh cmake/demo.sh [arguments of examples/access_log.cc]
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/cmake/prerequisites.sh"

cat <<'TEXT'
This builds cordwood and its example access_log, and sends 40,000 lines of a real web server's log
through a topic. About 2 minutes on two cores and 30 MB, all below build/; installing what
is missing first takes about 2 minutes more and up to 430 MB.

TEXT
need g++ cmake ninja-build libabsl-dev libxxhash-dev
use_ccache

cmake -S "$root" -B "$root/build/demo" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=Release \
  -DCORDWOOD_BUILD_TESTS=OFF -DCORDWOOD_BUILD_TOOL=OFF -DCORDWOOD_BUILD_EXAMPLES=ON \
  -DCORDWOOD_INSTALL=OFF
cmake --build "$root/build/demo" --target access_log

# The arguments are the program's own. A file and a directory of the demo stand in for what is not
# given; the program's defaults would be relative to the folder that one happens to be in.
data=
file=
value_of=
for argument in "$@"; do
  case "$value_of$argument" in
    --data | --rate) value_of="$argument " ;;
    "--data "*) data=$argument value_of= ;;
    "--rate "*) value_of= ;;
    -*) ;;
    *) file=$argument ;;
  esac
done
if [ -z "$data" ]; then
  data=$root/build/demo-data
  set -- --data "$data" "$@"
fi
if [ -z "$file" ]; then
  set -- "$@" "$root/examples/data/nasa_http_aug95_40k.log"
fi

echo
"$root/build/demo/examples/access_log" "$@"

cat <<TEXT

The data is in        $data
Run it again with     sh "$root/cmake/demo.sh"      (it goes on where it was)
Remove everything:    rm -r "$root/build"
TEXT
