#!/usr/bin/env python3
"""chart.py FOLDER: makes FOLDER/comparison.svg of what run.py has written there.

A panel for each work and size, bars on a logarithmic scale; for latency a line from p50 to p99.9.
"""

import math
import os
import sys
from html import escape

from results import WORKS, load_machine, load_peers, load_runs
from report import show_rate, show_time

MARGIN, PANEL, ROW, LABEL, TOP, GAP = 12, 470, 20, 120, 84, 20
WIDTH = 2 * (MARGIN + PANEL) + GAP
OURS, OTHER, INK, GRID = "#b3541e", "#8aa1b1", "#222222", "#dddddd"


def text(x, y, words, size=12, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}" fill="{INK}">{escape(words)}</text>')


def line(x1, y1, x2, y2, color, width=1):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{color}" stroke-width="{width}"/>')


class Scale:
    """From values to places between left and right, by powers of ten."""

    def __init__(self, values, left, right):
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.left, self.right = left, right

    def at(self, value):
        part = (math.log10(value) - self.low) / (self.high - self.low)
        return self.left + part * (self.right - self.left)

    def decades(self):
        return [10.0 ** n for n in range(self.low, self.high + 1)]


def panel(x, y, title, cells, peers, is_latency):
    show = show_time if is_latency else show_rate
    if is_latency:
        lines = {name: [cell.percentile(i) for i in range(3)] for name, cell in cells.items()}
    else:
        lines = {name: [cell.rate()] for name, cell in cells.items()}
    order = sorted(lines, key=lambda name: lines[name][0] * (1 if is_latency else -1))
    scale = Scale([v for values in lines.values() for v in values],
                  x + LABEL, x + PANEL - (80 if is_latency else 60))
    unit = "p50, p99, p99.9" if is_latency else "records/s"
    yield text(x, y, title, size=13, weight="bold")
    yield text(x + PANEL, y, unit, size=11, anchor="end")
    bottom = y + 10 + ROW * len(order)
    for decade in scale.decades():
        yield line(scale.at(decade), y + 8, scale.at(decade), bottom, GRID)
    for i, name in enumerate(order):
        at = y + 22 + ROW * i
        color = OURS if name == "cordwood" else OTHER
        yield text(x + LABEL - 8, at, peers[name]["title"], anchor="end")
        values = lines[name]
        if is_latency:
            yield line(scale.at(values[0]), at - 4, scale.at(values[2]), at - 4, color, 3)
            for value in values:
                yield f'<circle cx="{scale.at(value):.1f}" cy="{at - 4}" r="4" fill="{color}"/>'
        else:
            yield (f'<rect x="{scale.left}" y="{at - 11}" height="{ROW - 6}" '
                   f'width="{max(scale.at(values[0]) - scale.left, 1):.1f}" fill="{color}"/>')
        label = ("p50 " if is_latency else "") + show(values[0])
        yield text(scale.at(values[-1]) + 8, at, label, size=11)


def chart(folder):
    machine = load_machine(folder)
    peers = load_peers()
    tables = load_runs(folder)
    body = []
    y = [TOP, TOP]
    for (work, value_bytes), cells in tables.items():
        column = 0 if value_bytes == min(size for _, size in tables) else 1
        title = f"{WORKS[work]}: {value_bytes} bytes"
        left = MARGIN + column * (PANEL + GAP)
        body += panel(left, y[column], title, cells, peers, work == "latency")
        y[column] += 40 + ROW * len(cells)
    height = max(y)
    where = (f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, "
             f"Linux {machine['kernel']}, {machine['file system']}, {machine['date']}")
    note = (f"medians of {machine['repetitions']} repetitions of {machine['command']}; "
            "scales are logarithmic")
    if machine["quick"] == "yes":
        note = "A QUICK RUN: THE FIGURES MEAN NOTHING; " + note
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">')
    yield f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    yield text(MARGIN, 22, "cordwood beside what else there is", size=16, weight="bold")
    yield text(MARGIN, 40, where, size=11)
    yield text(MARGIN, 56, note, size=11)
    yield from body
    yield "</svg>"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(os.path.join(sys.argv[1], "comparison.svg"), "w", encoding="utf-8") as file:
        file.write("\n".join(chart(sys.argv[1])) + "\n")


if __name__ == "__main__":
    main()
