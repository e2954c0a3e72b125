#!/bin/sh
# cordwood beside RocksDB, LMDB, SQLite, LevelDB, Chronicle Queue, Apache Kafka and plain files: the
# same work, in one run. Writes a table, a chart and the single figures.
#
#   sh benchmarks/compare.sh [--quick] [--repetitions N] [--peers cordwood,lmdb,...]
#
# --quick sees that everything works: a few records, one repetition. CORDWOOD_BENCHMARK_DIR in the
# environment says on which file system the data is to lie; otherwise that of build/.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/cmake/prerequisites.sh"
build=$root/build/compare
command="sh benchmarks/compare.sh${*:+ $*}"

repetitions=9
quick=
peers=
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick=--quick repetitions=1 ;;
    --repetitions)
      repetitions=$2
      shift
      ;;
    --peers)
      peers=$2
      shift
      ;;
    *)
      sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
  esac
  shift
done

cat <<'TEXT'
This builds cordwood and its peers in build/compare and runs all of them. With 9 repetitions that is
perhaps an hour on two cores, which should have nothing else to do, and a few GB below build/;
installing what is missing first takes a few minutes and up to 1 GB.

TEXT
need g++ cmake ninja-build libabsl-dev libxxhash-dev librocksdb-dev liblmdb-dev libsqlite3-dev \
  libleveldb-dev librdkafka-dev default-jdk-headless maven python3
use_ccache

cmake -S "$root" -B "$build/cmake" -G Ninja --log-level=WARNING -DCMAKE_BUILD_TYPE=Release \
  -DCORDWOOD_BUILD_PEERS=ON -DCORDWOOD_BUILD_TESTS=OFF -DCORDWOOD_BUILD_SIM=OFF \
  -DCORDWOOD_BUILD_EXAMPLES=OFF -DCORDWOOD_INSTALL=OFF
cmake --build "$build/cmake"

# Fetches and compiles a Java peer, once; again when its sources change. Of what goes wrong the
# errors are shown, without the addresses of package sources.
make_java_peer() {
  source=$root/benchmarks/peers/$1
  if [ -e "$build/$1/made" ] && [ -z "$(find "$source" -type f -newer "$build/$1/made")" ]; then
    return 0
  fi
  echo "Fetching $1 with Maven"
  if ! output=$(mvn --quiet --batch-mode --file "$source/pom.xml" \
    "-Dtarget.directory=$build/$1" package 2>&1); then
    printf '%s\n' "$output" | sed 's|[a-z+]*://[^ )]*|<package source>|g' >&2
    exit 1
  fi
  touch "$build/$1/made"
}
make_java_peer chronicle
make_java_peer kafka

cd "$root"
python3 -B benchmarks/peers/run.py --build "$build" --out "$build/results" --command "$command" \
  --repetitions "$repetitions" --peers "$peers" $quick
python3 -B benchmarks/peers/report.py "$build/results"
python3 -B benchmarks/peers/chart.py "$build/results"

cat <<TEXT

The table is          $build/results/comparison.md
The chart is          $build/results/comparison.svg
The single figures    $build/results/runs.tsv
Run it again with     sh "$root/benchmarks/compare.sh"
Remove everything:    rm -r "$build"
TEXT
