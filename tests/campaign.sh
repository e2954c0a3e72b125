#!/bin/sh
# The long runs of what CI does for a moment: processes that are killed, power cuts of simulated
# machines and of mounted disks, damage, failures and a model, soaks of many processes,
# ThreadSanitizer, the fuzzers, every defect of tests/defects; and which lines and branches the
# tests reach. Says how many of what there were, and every failure with the seed, or the input,
# that repeats it.
#
#   sh tests/campaign.sh [minutes [part...]]
#
# An hour, and all parts, if nothing is said: kills power_cuts disks faults soaks threads fuzz
# defects coverage.
# Each has its share of the time, but for the last two, which are one run. What is begun is finished.
#
# Builds in build/<preset>, and leaves what each part printed in build/campaign.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/cmake/prerequisites.sh"
minutes=${1:-60}
[ $# -eq 0 ] || shift
parts=${*:-kills power_cuts disks faults soaks threads fuzz defects coverage}
cd "$root"
logs="$root/build/campaign"
fuzzers="segment index control offsets topic_config directory"

timed=0
for part in $parts; do
  case $part in
    kills | power_cuts | disks | faults | soaks | threads | fuzz) timed=$((timed + 1)) ;;
    defects | coverage) ;;
    *)
      echo "There is no part $part." >&2
      exit 2
      ;;
  esac
done
share=$((minutes * 60 / (timed > 0 ? timed : 1)))

need g++ cmake ninja-build libabsl-dev libxxhash-dev catch2 clang git
clang=$(clang++ -dumpversion | cut -d. -f1)
need "libclang-rt-$clang-dev" "llvm-$clang"
use_ccache
mkdir -p "$logs"

failures=0
# again COMMAND...: until the share of the time is over, and once at least. What it prints goes to a
# file; $round is the number of the run, for those that begin where the last one ended.
again() {
  log="$logs/$1.log"
  : >"$log"
  round=0
  failed=0
  end=$(($(date +%s) + share))
  while [ $round -eq 0 ] || [ "$(date +%s)" -lt $end ]; do
    "$@" >>"$log" 2>&1 || failed=$((failed + 1))
    round=$((round + 1))
  done
  failures=$((failures + failed))
  echo "$1: $round runs, $failed failed; see $log"
}

# build PRESET TARGET...
build() {
  preset=$1
  shift
  cmake --preset "$preset" --log-level=WARNING >"$logs/build.log"
  cmake --build --preset "$preset" --target "$@" -- --quiet
}

# total FILE WORDS: the sum of the numbers before these words.
total() {
  sed -n "s/.*[ :]\([0-9]\{1,\}\)$2.*/\1/p" "$logs/$1.log" | awk '{ n += $1 } END { print n + 0 }'
}

kills() {
  CORDWOOD_KILLS=5000 build/dev/tests/cordwood_process_tests "Kills:*"
}
power_cuts() {
  CORDWOOD_SIM_FIRST_SEED=$((1 + round * 1000)) CORDWOOD_SIM_SEEDS=1000 \
    build/dev/tests/cordwood_tests "Random crashes*"
}
disks() {
  for file_system in ext4 xfs btrfs; do
    # 77: it cannot be had here, and has said so.
    build/dev/tests/block/cordwood_power_cuts $file_system 1000 $((1 + round)) || [ $? -eq 77 ] ||
      return 1
  done
}
# What CI takes one of many of, each time the next ones.
faults() {
  (export CORDWOOD_DAMAGE_FIRST=$round CORDWOOD_FAULT_FIRST=$round
    export CORDWOOD_ALLOCATION_FIRST=$round CORDWOOD_MODEL_FIRST_SEED=$((1 + round * 4))
    build/dev/tests/cordwood_tests "Damage:*,Flips:*,Faults:*,Golden: a damaged*,Model:*" &&
      build/dev/tests/cordwood_allocation_tests)
}
soaks() {
  CORDWOOD_SOAK_SECONDS=60 build/dev/tests/cordwood_process_tests "Groups: 8 members*" &&
    CORDWOOD_SOAK_SECONDS=60 build/dev/tests/cordwood_process_tests "Retention: a soak*"
}
threads() {
  ctest --preset tsan --label-regex '^unit$'
}

# Each goes on from what it has learned in earlier campaigns. What it finds stays beside that.
fuzz() {
  has_failed=0
  for fuzzer in $fuzzers; do
    folder="$logs/fuzz/$fuzzer"
    mkdir -p "$folder/corpus"
    cp "$root/tests/fuzz/corpus/$fuzzer/"* "$folder/corpus/"
    (cd "$folder" && "$root/build/fuzz/tests/fuzz/cordwood_${fuzzer}_fuzz" corpus \
      -max_total_time=$((share / 6 + 1)) -max_len=8192 -timeout=10 -rss_limit_mb=512 \
      -print_final_stats=1) || has_failed=1
  done
  return $has_failed
}

has_libfuzzer() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -fsanitize=fuzzer -x c++ - -o "$logs/has_libfuzzer" 2>/dev/null
}

# figures WHAT FILE...: lines and branches that were reached, and a list of those that were not.
figures() {
  what=$1
  shift
  set -- build/coverage/tests/cordwood_tests -object build/coverage/tests/cordwood_process_tests \
    -object build/coverage/tests/fuzz/cordwood_fuzz_corpus \
    -instr-profile="$logs/coverage.profdata" "$@"
  "llvm-cov-$clang" report "$@" >"$logs/coverage_$what.txt"
  "llvm-cov-$clang" show "$@" -show-branches=count >"$logs/coverage_$what.lines"
  awk -v what="$what" '$1 == "TOTAL" {
    printf "%-22s %5d lines, %s reached; %5d branches, %s reached\n", what ":", $8, $10, $11, $13
  }' "$logs/coverage_$what.txt"
}

defects() {
  if ! ctest --test-dir build/dev -L '^(defect|campaign)$' --output-on-failure --no-tests=error \
    >"$logs/defects.log" 2>&1; then
    failures=$((failures + 1))
  fi
  echo "defects: $(grep 'tests passed' "$logs/defects.log"); see $logs/defects.log"
}

# The profiles are mapped files: they also have what a process did that was killed.
coverage() {
  rm -rf "$logs/profiles"
  if ! LLVM_PROFILE_FILE="$logs/profiles/%m%c.profraw" ctest --preset coverage \
    >"$logs/coverage.log" 2>&1; then
    failures=$((failures + 1))
    echo "coverage: the tests failed; see $logs/coverage.log"
  fi
  "llvm-profdata-$clang" merge -o "$logs/coverage.profdata" "$logs"/profiles/*.profraw
  # Absolute, as the compiler was given them.
  figures library $(find "$root/src" "$root/include" -name sim -prune -o -type f -print)
  figures recovery_and_decoding "$root/src/log/recovery.cc" "$root/src/log/cursor.cc" \
    "$root/src/log/start_file.cc" "$root/src/log/clean_marker.cc" "$root/src/log/write_again.cc" \
    "$root/src/group/offsets.cc" "$root"/src/segment/*.cc "$root"/include/cordwood/segment/*.h
}

for part in $parts; do
  case $part in
    kills | soaks)
      build dev cordwood_process_tests
      again "$part"
      ;;
    power_cuts)
      build dev cordwood_tests
      again power_cuts
      ;;
    faults)
      build dev cordwood_tests cordwood_allocation_tests
      again faults
      ;;
    disks)
      need pkg-config libfuse3-dev e2fsprogs xfsprogs btrfs-progs
      build dev cordwood_power_cuts
      again disks
      ;;
    threads)
      build tsan cordwood_tests
      again threads
      ;;
    fuzz)
      if has_libfuzzer; then
        build fuzz all
        again fuzz
      else
        echo "fuzz: left out, as this clang has no libFuzzer"
      fi
      ;;
    defects)
      build dev all
      defects
      ;;
    coverage)
      build coverage cordwood_tests cordwood_process_tests cordwood_fuzz_corpus
      coverage
      ;;
  esac
done

echo
for part in $parts; do
  case $part in
    kills) echo "kill -9 of writers:                     $(total kills ', of which')" ;;
    power_cuts)
      echo "power cuts of simulated machines:       $(total power_cuts ' power cuts')"
      echo "kills of their processes:               $(total power_cuts ' kills')"
      ;;
    faults)
      echo "damages of a directory:                 $(total faults ' damages')"
      echo "bits flipped under a reader:            $(total faults ' bits flipped')"
      echo "operations of the storage that failed:  $(total faults ' operations failed')"
      echo "allocations that failed:                $(total faults ' failed, of which')"
      echo "operations compared with a model:       $(total faults ' operations,')"
      ;;
    disks) echo "power cuts of mounted disks:            $(total disks ' images')" ;;
    fuzz)
      echo "inputs of the fuzzers:                  $(awk '/number_of_executed_units/ { n += $2 }
        END { printf "%d", n }' "$logs/fuzz.log")"
      ;;
  esac
done
if [ "$failures" -ne 0 ]; then
  echo "$failures runs failed."
  exit 1
fi
echo "Nothing failed."
