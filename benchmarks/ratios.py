#!/usr/bin/env python3
"""Prints the ratio of each benchmark to its floor, from the JSON of a run with repetitions.

  build/release/benchmarks/cordwood_benchmarks --benchmark_repetitions=9 \
      --benchmark_enable_random_interleaving=true \
      --benchmark_out=run.json --benchmark_out_format=json
  python3 benchmarks/ratios.py run.json

The table is Markdown: medians of the repetitions, the spread of both sides (the standard deviation
by the mean), and the ratio of the medians. Where records are counted it is their rates that are
compared. Needs nothing but Python 3.
"""

import json
import re
import sys
from statistics import median, pstdev

# Rows whose floor has another name than Floor/ and their own.
OTHER_FLOORS = {
    "Poll/assigned": "Floor/Poll",
    "Poll/group": "Floor/Poll",
    "Latency/spin": "Floor/spin",
    "Latency/process": "Floor/spin",
    "Latency/block": "Floor/futex",
    "Latency/process/block": "Floor/futex",
    "Writers/one": "Floor/Writers",
    "Writers/own": "Floor/Writers",
    "CommitDurable": "Floor/fdatasync",
}


def base_of(name):
    """The name without what the library adds to it about clocks and repetitions."""
    return re.sub(r"/(iterations:\d+|repeats:\d+|manual_time|real_time)", "", name)


def floor_of(name, known):
    for prefix in sorted(OTHER_FLOORS, key=len, reverse=True):
        if name == prefix or name.startswith(prefix + "/"):
            name = OTHER_FLOORS[prefix] + name[len(prefix):]
            break
    else:
        name = "Floor/" + name
    return name if name in known else None


def nanoseconds(row):
    if "items_per_second" in row:
        return 1e9 / row["items_per_second"]
    return row["real_time"] * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[row["time_unit"]]


def show(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def spread(times):
    return f"{100 * pstdev(times) / (sum(times) / len(times)):.0f} %"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        run = json.load(file)
    times = {}
    for row in run["benchmarks"]:
        if row["run_type"] == "iteration" and not row.get("error_occurred"):
            times.setdefault(base_of(row["name"]), []).append(nanoseconds(row))
    print("| benchmark | one | spread | floor | spread | ratio |")
    print("|---|---|---|---|---|---|")
    for name, own in times.items():
        floor = floor_of(name, times)
        if name.startswith("Floor/") or floor is None:
            continue
        print(f"| {name} | {show(median(own))} | {spread(own)} | {show(median(times[floor]))} "
              f"| {spread(times[floor])} | {median(own) / median(times[floor]):.2f} |")


if __name__ == "__main__":
    main()
