"""What a profile of the compiler is worth: sizes of programs, and what puts and gets cost a router.

    .tools/python/bin/python benches/profiles.py default=target/release thin=target/thin/release

after each was built, as in benches/README.md. Each router is `mst-router` with one durable storage. Measured is the
processor time that it takes, which depends little on what else the machine does. All traffic is on loopback; every
process that it starts it ends.
"""

import argparse
import os
import subprocess
import tempfile
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from pathlib import Path

# First, as it makes the modules of the tests importable.
from harness import KEYS, find_programs, print_table, reader, starting

from client import Client
from router import storage

PUTS = 200_000
GETS = 50_000
SIZE = 100
SIZED = ("libzenoh_backend_mst.so", "mst-router", "mstctl")


def sizes(folder, scratch):
    """MB of what is shipped: without symbols."""
    for name in SIZED:
        stripped = Path(scratch) / "stripped"
        subprocess.run(["strip", "--strip-unneeded", "-o", stripped, folder / name], check=True)
        yield f"{name}, MB", stripped.stat().st_size / 1e6


def processor_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def costs(programs):
    """Microseconds of the router's processor time."""
    value = os.urandom(SIZE)
    config = storage(KEYS, settle="50ms")
    with starting(programs) as start:
        router = start({"bench": config}, door="plugin", program="mst-router")
        keys = [f"bench/{number % 100}/{number}" for number in range(PUTS)]

        def cost(of, count):
            before = processor_seconds(router.pid)
            of()
            return (processor_seconds(router.pid) - before) / count * 1e6

        def put():
            with closing(Client(router.port)) as client:
                for key in keys:
                    client.put(key, value)
            router.wait_until_settled("bench", keys=PUTS)

        def get():
            with reader(router) as client:
                assert not client.missing(keys[:GETS])

        def get_all():
            assert sum(len(router.client.samples(f"bench/{group}/*")) for group in range(100)) == PUTS

        yield "a put, stored and settled, µs", cost(put, PUTS)
        yield "a get of one key, µs", cost(get, GETS)
        yield "a key of a get with wildcards, µs", cost(get_all, PUTS)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("built", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--runs", type=int, default=5, help="of which the median is taken")
    options = parser.parse_args()
    built = dict(one.split("=", 1) for one in options.built)
    figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="mst-bench-") as scratch:
        programs = find_programs(scratch)
        for name, folder in built.items():
            for row, value in sizes(Path(folder), scratch):
                figures[row, name].append(value)
        # One after the other, so that what becomes of the machine meanwhile is the same for all.
        for _ in range(options.runs):
            for name, folder in built.items():
                program = Path(folder).resolve() / "mst-router"
                for row, value in costs(replace(programs, mst_router=program)):
                    print(f"{name}: {row}: {value:.2f}", flush=True)
                    figures[row, name].append(value)
    print_table({name: name for name in built}, figures)


if __name__ == "__main__":
    main()
