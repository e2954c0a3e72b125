#!/bin/sh
# Instructions per record, by callgrind: a table in Markdown. They do not depend on how busy the
# machine is, but on the compiler and the processor that it compiles for.
#
#   sh benchmarks/instructions.sh [BUILD]        (build/release; it takes about a minute)
#
# Each work is run with N records and with 2 N; the difference, by N, is what one costs. So it holds
# what comes once in a while, such as an index entry every 4 KiB. Kernel time is not in it.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/cmake/prerequisites.sh"
need valgrind
program=${1:-$root/build/release}/benchmarks/instructions
if ! [ -x "$program" ]; then
  echo "$program is not there: cmake --preset release && cmake --build --preset release" >&2
  exit 1
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
records=20000

# count WORK VALUE_BYTES RECORDS: the instructions of one run.
count() {
  if ! CORDWOOD_BENCHMARK_DIR=$scratch valgrind --tool=callgrind \
    --callgrind-out-file="$scratch/out" "$program" "$1" "$2" "$3" >"$scratch/log" 2>&1; then
    cat "$scratch/log" >&2
    exit 1
  fi
  sed -n 's/^summary: *//p; s/^totals: *//p' "$scratch/out" | head -n 1
}

echo "| instructions per record | 16 bytes | 100 | 1024 | 16384 |"
echo "|---|---|---|---|---|"
for work in append floor-append batch in-place send read floor-read poll; do
  row="| $work |"
  for bytes in 16 100 1024 16384; do
    once=$(count "$work" "$bytes" "$records")
    twice=$(count "$work" "$bytes" $((2 * records)))
    row="$row $(((twice - once) / records)) |"
  done
  echo "$row"
done
