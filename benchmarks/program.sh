#!/bin/sh
# The program beside the library: 1,000,000 lines of 100 bytes through `cordwood produce` and
# `consume`, and what the library's Send and Poll do in the same run. A table in Markdown, of medians
# of five.
#
#   sh benchmarks/program.sh [BUILD]             (build/release; it takes about a minute)
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
build=${1:-$root/build/release}
for needed in "$build/bin/cordwood" "$build/benchmarks/cordwood_benchmarks"; do
  if ! [ -x "$needed" ]; then
    echo "$needed is not there: cmake --preset release && cmake --build --preset release" >&2
    exit 1
  fi
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
lines=1000000
awk -v n=$lines 'BEGIN { for (i = 0; i < n; i++) printf "%-100d\n", i }' >"$scratch/lines"

# rate COMMAND: lines a second.
rate() {
  begin=$(date +%s%N)
  "$@"
  end=$(date +%s%N)
  echo $((lines * 1000000000 / (end - begin)))
}
produce() { "$build/bin/cordwood" --dir "$scratch/data" produce lines --create <"$scratch/lines"; }
consume() { "$build/bin/cordwood" --dir "$scratch/data" consume lines >"$scratch/out"; }

for _ in 1 2 3 4 5; do
  rm -rf "$scratch/data"
  rate produce >>"$scratch/produce"
  rate consume >>"$scratch/consume"
  cmp "$scratch/lines" "$scratch/out"
done
# library NAME: records a second.
library() {
  CORDWOOD_BENCHMARK_DIR=$scratch "$build/benchmarks/cordwood_benchmarks" \
    --benchmark_filter="^$1\$" --benchmark_repetitions=5 --benchmark_format=csv 2>/dev/null |
    awk -F, -v name="\"$1_median\"" '$1 == name { printf "%d\n", $7 }'
}
row() {
  of_program=$(sort -n "$scratch/$1" | sed -n 3p)
  of_library=$(library "$2")
  echo "| $1 | $of_program | $2 | $of_library | $((of_program * 100 / of_library)) % |"
}
echo "| \`cordwood\` | lines a second | the library | records a second | |"
echo "|---|---|---|---|---|"
row produce Send/100
row consume Poll/assigned/100
