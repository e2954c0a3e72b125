"""What run.py has written, read back: for report.py and chart.py."""

import csv
import os
from statistics import median, pstdev

HERE = os.path.dirname(os.path.abspath(__file__))
PERCENTILES = ["p50", "p99", "p99.9", "max"]
WORKS = {
    "append": "append, one by one",
    "batch100": "append, batches of 100",
    "batch10000": "append, batches of 10,000",
    "read": "read all",
    "durable": "durable append, one by one",
    "latency": "from append to read in another thread",
}


def load_peers():
    """By name, in the order of the file: the columns of peers.tsv."""
    with open(os.path.join(HERE, "peers.tsv"), encoding="utf-8") as file:
        return {row["peer"]: row for row in csv.DictReader(file, delimiter="\t")}


def load_machine(folder):
    with open(os.path.join(folder, "machine.tsv"), encoding="utf-8") as file:
        return dict(line.rstrip("\n").split("\t", 1) for line in file)


class Cell:
    """All repetitions of one work by one peer, with values of one size."""

    def __init__(self, records):
        self.records = records
        self.repetitions = []

    def rates(self):
        """Records in a second."""
        return [self.records / numbers[0] for numbers in self.repetitions]

    def rate(self):
        return median(self.rates())

    def spread(self):
        """The standard deviation by the mean."""
        rates = self.rates()
        return pstdev(rates) / (sum(rates) / len(rates))

    def disk_bytes_per_record(self):
        return median(numbers[1] for numbers in self.repetitions) / self.records

    def percentile(self, i):
        """In nanoseconds, the median of the repetitions."""
        return median(numbers[i] for numbers in self.repetitions)


def load_runs(folder):
    """By (work, value bytes), then by peer."""
    tables = {}
    with open(os.path.join(folder, "runs.tsv"), encoding="utf-8") as file:
        next(file)
        for line in file:
            _, peer, work, value_bytes, records, *numbers = line.rstrip("\n").split("\t")
            row = tables.setdefault((work, int(value_bytes)), {})
            cell = row.setdefault(peer, Cell(int(records)))
            cell.repetitions.append([float(number) for number in numbers])
    order = list(WORKS)
    return dict(sorted(tables.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))
