#!/usr/bin/env python3
"""Runs the peers' programs, interleaved: in each repetition all of them do all of their work.

Called by benchmarks/compare.sh. Writes runs.tsv, a line for each run, and machine.tsv, what it ran
on, to the folder --out; report.py and chart.py read them. Needs nothing but Python 3.
"""

import argparse
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NATIVE = ["cordwood", "rocksdb", "leveldb", "lmdb", "sqlite", "write", "fwrite"]
WORKS = ["append", "batch100", "batch10000", "read", "durable", "latency"]
NO_SUCH_WORK = 3
KAFKA_PORT = 19092
# Value bytes: records of appending and reading.
RECORDS = {100: 1_000_000, 1024: 300_000}
QUICK_RECORDS = {100: 20_000, 1024: 20_000}


def records_for(work, peer, value_bytes, quick):
    if work == "durable":
        return 20 if quick else 1_000
    if work == "latency":
        # A broker takes a thousand times as long as a library.
        return 200 if quick else (5_000 if peer == "kafka" else 100_000)
    return (QUICK_RECORDS if quick else RECORDS)[value_bytes]


class Peers:
    def __init__(self, build):
        self.build = build
        self.commands = {}
        for name in NATIVE:
            program = os.path.join(build, "cmake", "benchmarks", "peers", "peer_" + name)
            if os.access(program, os.X_OK):
                self.commands[name] = [program]
        if os.path.isdir(os.path.join(build, "chronicle", "lib")):
            self.commands["chronicle"] = [
                "sh", os.path.join(HERE, "chronicle", "run.sh"), os.path.join(build, "chronicle")]
        program = os.path.join(build, "cmake", "benchmarks", "peers", "peer_kafka")
        if os.access(program, os.X_OK) and os.path.isdir(os.path.join(build, "kafka", "lib")):
            self.commands["kafka"] = [program]
        self.broker = None

    def version(self, name):
        command = self.commands[name] + ["version"]
        version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        if name == "kafka":
            broker = self._broker_script("version", os.path.join(self.build, "kafka"))
            version = broker.stdout.strip() + ", " + version
        return version

    def start(self, name, directory):
        """What a peer needs that does not end with its program."""
        if name != "kafka":
            return
        self.broker = os.path.join(directory, "broker")
        self._broker_script("start", os.path.join(self.build, "kafka"), self.broker, KAFKA_PORT)
        os.environ["CORDWOOD_KAFKA"] = f"127.0.0.1:{KAFKA_PORT}"

    def stop(self):
        if self.broker is not None:
            self._broker_script("stop", self.broker)
            shutil.rmtree(self.broker, ignore_errors=True)
            self.broker = None

    @staticmethod
    def _broker_script(*arguments):
        script = ["bash", os.path.join(HERE, "kafka", "broker.sh")]
        # The broker keeps what it inherits open: a pipe would never end.
        with tempfile.TemporaryFile("w+") as output:
            code = subprocess.run(script + [str(a) for a in arguments], stdout=output,
                                  stderr=subprocess.STDOUT, check=False).returncode
            output.seek(0)
            text = output.read()
        if code != 0:
            sys.exit(f"the broker of Apache Kafka: {text}")
        return subprocess.CompletedProcess(script, code, text)


def run_one(command, work, value_bytes, records, parent, timeout):
    """The numbers that the program printed, or None if it has no such work."""
    directory = tempfile.mkdtemp(prefix="run-", dir=parent)
    os.sync()  # what is left of the run before would run beside this one
    try:
        done = subprocess.run(command + [work, str(value_bytes), str(records), directory],
                              capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode == NO_SUCH_WORK:
            return None
        if done.returncode != 0:
            sys.exit(f"{command[0]} {work} failed ({done.returncode}): {done.stderr}{done.stdout}")
        return done.stdout.split()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def first_match(path, pattern):
    try:
        with open(path, encoding="utf-8") as file:
            found = re.search(pattern, file.read(), re.MULTILINE)
            return found.group(1) if found else "unknown"
    except OSError:
        return "unknown"


def describe_machine(directory):
    file_system = subprocess.run(["df", "--output=fstype", directory], capture_output=True,
                                 text=True, check=True).stdout.split()[-1]
    compiler = subprocess.run(["c++", "--version"], capture_output=True, text=True, check=False)
    return {
        "processor": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$"),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)"?$'),
        "kernel": platform.release(),
        "file system": file_system,
        "compiler": compiler.stdout.split("\n")[0] or "unknown",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--command", required=True, help="for the report: what the user has typed")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--peers", default="", help="only these, with commas between them")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()

    peers = Peers(arguments.build)
    names = [name for name in peers.commands
             if not arguments.peers or name in arguments.peers.split(",")]
    data = tempfile.mkdtemp(prefix="cordwood-compare-",
                            dir=os.environ.get("CORDWOOD_BENCHMARK_DIR", arguments.build))
    began = time.monotonic()
    try:
        os.makedirs(arguments.out, exist_ok=True)
        with open(os.path.join(arguments.out, "machine.tsv"), "w", encoding="utf-8") as file:
            for key, value in describe_machine(data).items():
                file.write(f"{key}\t{value}\n")
            for name in names:
                file.write(f"version {name}\t{peers.version(name)}\n")
            file.write(f"command\t{arguments.command}\n")
            file.write(f"repetitions\t{arguments.repetitions}\n")
            file.write(f"quick\t{'yes' if arguments.quick else 'no'}\n")
            file.write(f"date\t{datetime.date.today().isoformat()}\n")
        with open(os.path.join(arguments.out, "runs.tsv"), "w", encoding="utf-8") as runs:
            runs.write("repetition\tpeer\twork\tvalue_bytes\trecords\tresults\n")
            for repetition in range(arguments.repetitions):
                # Each begins once in a while, so that none always comes after the same other.
                turn = repetition % len(names)
                for name in names[turn:] + names[:turn]:
                    peers.start(name, data)
                    for value_bytes in RECORDS:
                        for work in WORKS:
                            records = records_for(work, name, value_bytes, arguments.quick)
                            results = run_one(peers.commands[name], work, value_bytes, records,
                                              data, timeout=1800)
                            if results is None:
                                continue
                            runs.write("\t".join([str(repetition), name, work, str(value_bytes),
                                                  str(records), *results]) + "\n")
                            runs.flush()
                    peers.stop()
                minutes = (time.monotonic() - began) / 60
                print(f"repetition {repetition + 1} of {arguments.repetitions}: "
                      f"{minutes:.1f} minutes so far", flush=True)
    finally:
        peers.stop()
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
