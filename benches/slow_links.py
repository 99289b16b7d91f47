"""Repair over links that are slow, or that a client keeps full, beside Zenoh's own replication.

`.tools/python/bin/python benches/slow_links.py --help`, after `make build tools`. All traffic is on
loopback, through a link that passes on so many bytes a second; every router that it starts it ends.
"""

import argparse
import os
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager

# First, as it makes the modules of the tests importable.
from harness import find_programs, print_table, reader

from client import timestamp
from cluster import chain
from replication import SYSTEMS, libraries, started

CLOSED = "Closing transport"
#: Where a client's messages go that fill the link.
STREAM = "stream/frame"


@contextmanager
def behind(options, system, values, rate):
    """Two routers of which one lacks these values, and the slow link between them, which is cut."""
    with started(options.programs, chain(2), system) as cluster:
        cluster.cut()
        client = cluster.routers[0].client
        for key, payload in values.items():
            client.put(key, payload, timestamp=timestamp(-60))
        cluster.link(0, 1).rate = rate
        yield cluster


def figures_of(cluster, begun, values, rate):
    """What the link needs for the values alone is what times and bytes are compared with."""
    link = cluster.link(0, 1)
    before = link.bytes
    small = [key for key, payload in values.items() if len(payload) <= 1_000]
    with reader(cluster.routers[1]) as client:
        begun()
        start = time.monotonic()
        there = client.wait_for_keys(small) - start
        took = client.wait_for_keys(list(values)) - start
    data = sum(len(key) + len(payload) for key, payload in values.items())
    if len(small) < len(values):
        yield "s, until the small values are there", there
    yield "s, until all are there", took
    yield "as many times as the link needs", took * rate / data
    yield "bytes on the link, as many times the data", (link.bytes - before) / data
    yield "transports closed", sum(router.log().count(CLOSED) for router in cluster.routers)


def small_values(options, system):
    """2 MB of small values over 40 kB/s."""
    values = {f"bench/{n}": os.urandom(100) for n in range(18_000)}
    with behind(options, system, values, 40_000) as cluster:
        yield from figures_of(cluster, cluster.heal, values, 40_000)


def large_value(options, system):
    """A value of 2 MB, and 1,000 small ones, over 125 kB/s."""
    values = {f"bench/n/{n}": os.urandom(100) for n in range(1_000)}
    values = {"bench/large": os.urandom(2_000_000), **values}
    with behind(options, system, values, 125_000) as cluster:
        yield from figures_of(cluster, cluster.heal, values, 125_000)


def full_link(options, system):
    """0.6 MB over 60 kB/s, which a client fills with messages that may be dropped."""
    values = {f"bench/{n}": os.urandom(1_000) for n in range(600)}
    frame, done = os.urandom(4_000), threading.Event()
    with behind(options, system, values, 60_000) as cluster:
        near, far = (router.client for router in cluster.routers)

        def publish():
            while not done.wait(0.005):
                near.put_droppable(STREAM, frame)

        publishing = threading.Thread(target=publish)

        def begin():
            cluster.heal()
            cluster.wait_until_linked()
            publishing.start()

        with far.subscribed("stream/**", lambda _: None):
            try:
                yield from figures_of(cluster, begin, values, 60_000)
            finally:
                done.set()
                publishing.join()


CASES = {"small": small_values, "large": large_value, "full": full_link}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1, help="of which the median is taken")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    options = parser.parse_args()
    figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="mst-bench-") as folder:
        options.programs = find_programs(folder, libraries(options.systems))
        for case in options.cases * options.runs:
            for name in options.systems:
                try:
                    for row, value in CASES[case](options, SYSTEMS[name]):
                        print(f"{case}, {SYSTEMS[name].title}: {row}: {value:,.3f}", flush=True)
                        figures[f"{case}: {row}", name].append(value)
                except AssertionError as error:
                    print(f"{case}, {SYSTEMS[name].title}: {error}", flush=True)
    print_table({name: SYSTEMS[name].title for name in options.systems}, figures)


if __name__ == "__main__":
    main()
