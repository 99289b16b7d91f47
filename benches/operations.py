"""Backups of a storage in use, and restoring them: how fast, and what it costs writers. And
what it costs to look at all cells, from which follows what the scrub takes.

`.tools/python/bin/python benches/operations.py --help`, after `make build tools`. All traffic
is on loopback; every router that it starts it ends. What is restored has the root of what was
backed up, or the benchmark ends with an error.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import median

# First, as it makes the modules of the tests importable.
from harness import PATIENCE, PROJECT, find_programs, starting

import zenoh
from client import Client
from polling import wait_until
from router import storage

MSTCTL = PROJECT / "target/release/mstctl"
TICKS = os.sysconf("SC_CLK_TCK")
#: Seconds in which the scrub comes through all cells, by default.
SCRUB_INTERVAL = 7 * 24 * 3600
BLOCK = zenoh.CongestionControl.BLOCK
#: Puts of which the rate is taken.
SPAN = 4.0


def config(dir):
    return storage("bench/**", persistence="durable", dir=dir, replication={})


class Putter(Client):
    """Puts values of 100 bytes to random keys, prepared in advance, and counts."""

    def fill(self, keys):
        for key in keys:
            self._session.put(key, random.randbytes(100), congestion_control=BLOCK)

    def rate(self, keys, until):
        """Puts a second, until an event or for a while."""
        value = random.randbytes(100)
        publishers = [
            self._session.declare_publisher(key, congestion_control=BLOCK) for key in keys
        ]
        start = time.monotonic()
        puts = 0
        while not until.is_set() and time.monotonic() < start + PATIENCE:
            for publisher in publishers:
                publisher.put(value)
            puts += len(publishers)
        return puts / (time.monotonic() - start)


def mstctl(router, *arguments):
    command = [MSTCTL, "-e", f"tcp/127.0.0.1:{router.port}", "--json", *map(str, arguments)]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - start, done.stdout


def cells(router):
    (replica,) = json.loads(mstctl(router, "replicas")[1])
    return replica["cells"]


def cpu_seconds(router):
    """That the process has taken, in user and kernel mode."""
    fields = Path(f"/proc/{router.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def timed(stop, seconds):
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    return timer


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    keys = [f"bench/{n % 256:02x}/{n:09d}" for n in range(options.keys)]
    random.seed(7)
    random.shuffle(keys)
    backups, restores, ratios = [], [], []
    with tempfile.TemporaryDirectory(prefix="mst-bench-") as folder:
        programs = find_programs(folder)
        with starting(programs) as start:
            router = start({"bench": config("bench")}, session="runtime")
            with closing(Putter(router.port)) as putter:
                putter.fill(keys)
                wait_until(lambda: cells(router) == len(keys), "all cells", timeout=PATIENCE)
                before = cpu_seconds(router)
                elapsed, _ = mstctl(router, "verify")
                pass_seconds = cpu_seconds(router) - before
                print(
                    f"verify {len(keys) / elapsed:,.0f} cells/s; {pass_seconds:.2f} s of CPU: "
                    f"{100 * pass_seconds / SCRUB_INTERVAL:.5f} % of a core as the scrub does it",
                    flush=True,
                )
                # Before there are puts, after which the engine has its files to merge.
                for number in range(options.rounds):
                    file = Path(folder) / f"{number}.backup"
                    elapsed, _ = mstctl(router, "backup", file)
                    backups.append(len(keys) / elapsed)
                    empty = start({"bench": config("bench")}, session="runtime")
                    elapsed, _ = mstctl(empty, "restore", file)
                    restores.append(len(keys) / elapsed)
                    empty.kill()
                    size = file.stat().st_size
                    print(
                        f"backup {backups[-1]:,.0f} keys/s, restore {restores[-1]:,.0f} keys/s, "
                        f"{size / len(keys):.0f} bytes a key",
                        flush=True,
                    )
                for number in range(options.rounds):
                    stop = threading.Event()
                    timed(stop, SPAN)
                    alone = putter.rate(keys[:200], stop)
                    stop = threading.Event()
                    beside = []
                    writing = threading.Thread(
                        target=lambda stop=stop: beside.append(putter.rate(keys[:200], stop))
                    )
                    writing.start()
                    mstctl(router, "backup", Path(folder) / f"{number}-busy.backup")
                    stop.set()
                    writing.join()
                    ratios.append(beside[0] / alone)
                    print(
                        f"puts beside a backup {ratios[-1]:.2f} of {alone:,.0f}/s alone",
                        flush=True,
                    )
    print(
        f"medians: backup {median(backups):,.0f} keys/s, restore {median(restores):,.0f} keys/s, "
        f"puts beside a backup {median(ratios):.2f} of those alone"
    )


if __name__ == "__main__":
    main()
