#!/usr/bin/env python3
"""report.py FOLDER: makes FOLDER/comparison.md of what run.py has written there."""

import os
import sys

from results import PERCENTILES, WORKS, load_machine, load_peers, load_runs


def show_rate(rate):
    return f"{rate:,.0f}" if rate < 1e6 else f"{rate / 1e6:.2f} M"


def show_bytes(size):
    return f"{size:.0f}" if size > 0 else "not measured"


def show_time(ns):
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.0f} ns"


def rate_table(cells, peers):
    yield "| | records/s | spread | time for one | cordwood to this | bytes on disk for one |"
    yield "|---|---|---|---|---|---|"
    ours = cells["cordwood"].rate() if "cordwood" in cells else None
    for name in sorted(cells, key=lambda name: -cells[name].rate()):
        cell = cells[name]
        ratio = "" if ours is None or name == "cordwood" else f"{ours / cell.rate():.2f} x"
        yield (f"| {peers[name]['title']} | {show_rate(cell.rate())} | {cell.spread():.0%} "
               f"| {show_time(1e9 / cell.rate())} | {ratio} "
               f"| {show_bytes(cell.disk_bytes_per_record())} |")


def latency_table(cells, peers):
    yield "| | " + " | ".join(PERCENTILES) + " | records |"
    yield "|---" * (len(PERCENTILES) + 2) + "|"
    for name in sorted(cells, key=lambda name: cells[name].percentile(0)):
        times = [show_time(cells[name].percentile(i)) for i in range(len(PERCENTILES))]
        yield f"| {peers[name]['title']} | " + " | ".join(times) + f" | {cells[name].records:,} |"


def guarantee_table(names, peers, machine):
    columns = list(next(iter(peers.values())))[3:]
    yield "| | version | used as | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 3) + "|"
    for name in peers:
        if name in names:
            row = peers[name]
            version = machine.get("version " + name, "")
            yield (f"| {row['title']} | {version} | {row['used as']} | "
                   + " | ".join(row[column] for column in columns) + " |")


def report(folder):
    machine = load_machine(folder)
    peers = load_peers()
    tables = load_runs(folder)
    names = {name for cells in tables.values() for name in cells}
    yield "# cordwood beside what else there is"
    yield ""
    if machine["quick"] == "yes":
        yield "**A quick run, to see that everything works. Its figures mean nothing.**"
        yield ""
    yield (f"Medians of {machine['repetitions']} repetitions, in each of which every row was run "
           "once; the spread is the standard deviation by the mean. "
           "[benchmarks/README.md](README.md) says what is done in each.")
    yield ""
    yield (f"{machine['processor']}, {machine['cores']} cores, {machine['memory']}; "
           f"{machine['system']}, Linux {machine['kernel']}, {machine['file system']}; "
           f"{machine['compiler']}; {machine['date']}. The command: `{machine['command']}`")
    yield ""
    yield "## What each of them promises"
    yield ""
    yield from guarantee_table(names, peers, machine)
    for (work, value_bytes), cells in tables.items():
        yield ""
        yield f"## {WORKS[work].capitalize()}: {value_bytes} bytes"
        yield ""
        yield from (latency_table if work == "latency" else rate_table)(cells, peers)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    path = os.path.join(sys.argv[1], "comparison.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(report(sys.argv[1])) + "\n")


if __name__ == "__main__":
    main()
