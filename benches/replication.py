"""Replication between routers, beside that of Zenoh's own storages.

`.tools/python/bin/python benches/replication.py --help`, after `make build tools`. All
traffic is on loopback, through links that are cut and healed; every router that it
starts it ends. The bytes are those that TCP carries.
"""

import argparse
import hashlib
import random
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

# First, as it makes the modules of the tests importable.
from harness import (
    KEYS,
    LIBRARIES,
    bytes_until_quiet,
    find_programs,
    linked,
    print_table,
    reader,
)

from client import timestamp
from cluster import chain, mesh
from router import COMPANION, storage

VALUE_BYTES = 100
#: Zenoh's own storages say what they have once in this time, by default.
ZENOH_INTERVAL = 10.0
MOMENTS_AGO = 0.1
TEN_HOURS = 36_000.0


@dataclass(frozen=True)
class System:
    """What is compared: a storage that is replicated, and the same one alone."""

    title: str
    is_ours: bool
    replicated: dict
    alone: dict


def zenoh_storage(**options):
    return {"key_expr": KEYS, "volume": "memory", **options}


def mst_storage(persistence, **options):
    return storage(KEYS, persistence=persistence, **options)


SYSTEMS = {
    "zenoh": System("Zenoh's, memory", False, zenoh_storage(replication={}), zenoh_storage()),
    **{
        name: System(f"mst, {name}", True, mst_storage(name, replication={}), mst_storage(name))
        for name in ["memory", "durable"]
    },
}


# What the cases are made of.


def started(programs, links, system, *, replicated=True):
    """Linked routers with a storage each; they end, and their data with them."""
    config = system.replicated if replicated else system.alone
    return linked(programs, links, config, session="runtime" if system.is_ours else None)


def key(number):
    """Numbers that follow each other have keys that lie anywhere."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return f"bench/{digest[:2]}/{digest[2:18]}"


def value(name):
    """What cannot be compressed."""
    return hashlib.shake_128(name.encode()).digest(VALUE_BYTES)


def made_up_writes(numbers, seconds):
    """Keys with timestamps, spread over the last `seconds`."""
    return {key(number): timestamp(-random.uniform(0, seconds)) for number in numbers}


def write(router, writes):
    """Returns when the router has all: it takes them in order."""
    for name, at in writes.items():
        router.client.put(name, value(name), timestamp=at)
    with reader(router) as client:
        client.wait_for_keys([name])


def wait_until_known(system, router):
    """Waits until replication knows of all that was written, at any moment of its interval.

    Ours does when the writes have settled, Zenoh's at the end of an interval.
    """
    if system.is_ours:
        router.wait_until_settled("bench")
        time.sleep(random.uniform(0, 1))
    else:
        time.sleep(ZENOH_INTERVAL * random.uniform(1.1, 2.1))


# The cases. Each yields figures by their names.


def repair(options, system, seconds):
    """New keys at one of two equal routers while the link is cut, then healed."""
    with started(options.programs, chain(2), system) as cluster:
        left, right = cluster.routers
        link = cluster.link(0, 1)
        cluster.cut()
        writes = made_up_writes(range(options.keys), seconds)
        for router in cluster.routers:
            write(router, writes)
        cluster.heal()
        wait_until_known(system, left)
        if system.is_ours:
            cluster.wait_until_equal("bench", cells=options.keys)
        for new in options.new * options.runs:
            cluster.cut()
            numbers = range(len(writes), len(writes) + new)
            added = made_up_writes(numbers, seconds)
            write(left, added)
            writes |= added
            wait_until_known(system, left)
            before = link.bytes
            with reader(right) as client:
                healed_at = time.monotonic()
                cluster.heal()
                equal_at = client.wait_for_keys(added)
            yield f"{new} new keys: s from heal", equal_at - healed_at
            yield f"{new} new keys: s from connection", equal_at - link.connected_at
            yield f"{new} new keys: bytes", bytes_until_quiet([link], before)
        with reader(right) as client:
            assert not client.missing(list(writes)), "the routers are not equal at the end"


def join(options, system):
    """A router without data is started beside one that has all."""
    writes = made_up_writes(range(options.keys), TEN_HOURS)
    for _ in range(options.runs):
        with started(options.programs, chain(2), system) as cluster:
            full, joining = cluster.routers
            link = cluster.link(0, 1)
            cluster.end(1, "kill")
            shutil.rmtree(joining.data, ignore_errors=True)
            write(full, writes)
            wait_until_known(system, full)
            before = link.bytes
            joining.start()
            with reader(joining) as client:
                # A part, so that asking for it takes no time that counts.
                all_at = client.wait_for_keys(random.sample(list(writes), min(500, len(writes))))
                yield "s from connection", all_at - link.connected_at
                yield "bytes", bytes_until_quiet([link], before)
                client.wait_for_keys(writes)


def idle(options, system):
    """Bytes of two equal routers that do nothing, above those without replication."""
    writes = made_up_writes(range(options.keys), TEN_HOURS)
    with ExitStack() as at_the_end:
        links = []
        for replicated in [True, False]:
            cluster = at_the_end.enter_context(
                started(options.programs, chain(2), system, replicated=replicated)
            )
            cluster.cut()
            for router in cluster.routers:
                write(router, writes)
            cluster.heal()
            links.append(cluster.link(0, 1))
        wait_until_known(system, router)
        before = [link.bytes for link in links]
        time.sleep(options.idle)
        replicated, alone = (link.bytes - was for link, was in zip(links, before))
        yield "bytes/s, the link alone", alone / options.idle
        yield "bytes/s, replication", (replicated - alone) / options.idle


def busy(options, system):
    """Writes at three routers all the time: how often roots of one cut are equal."""
    if not system.is_ours:
        return
    with started(options.programs, mesh(3), system) as cluster:
        cluster.wait_until_linked()
        time.sleep(1.0)  # Until they know what to send to each other.
        before = pulls_of_all(cluster)
        deadline = time.monotonic() + options.busy
        writers = [
            threading.Thread(target=write_steadily, args=[router, options.rate / 3, deadline])
            for router in cluster.routers
        ]
        for writer in writers:
            writer.start()
        roots = defaultdict(dict)
        while time.monotonic() < deadline:
            for number, status in enumerate(cluster.statuses("bench")):
                roots[status["cut"]][number] = status["root"]
        for writer in writers:
            writer.join()
        compared = [of_cut for of_cut in roots.values() if len(of_cut) > 1]
        equal = sum(len(set(of_cut.values())) == 1 for of_cut in compared)
        yield "cuts seen at two routers or more", len(compared)
        yield "% of them with one root", 100 * equal / max(1, len(compared))
        cluster.wait_until_equal("bench")
        pulls = pulls_of_all(cluster)
        for counter in ["started", "cells_received", "useless_cells"]:
            yield f"pulls, {counter}", pulls[counter] - before[counter]


def pulls_of_all(cluster):
    """The counters of all routers, added up."""
    pulls = [status["replication"]["pulls"] for status in cluster.statuses("bench")]
    return {counter: sum(pull[counter] for pull in pulls) for counter in pulls[0]}


def write_steadily(router, rate, deadline):
    """Puts that the router stamps, at keys that others write, too."""
    due = time.monotonic()
    while due < deadline:
        router.client.put(key(random.randrange(10_000)), random.randbytes(VALUE_BYTES))
        due += 1 / rate
        time.sleep(max(0, due - time.monotonic()))


CASES = {
    "recent": partial(repair, seconds=MOMENTS_AGO),
    "old": partial(repair, seconds=TEN_HOURS),
    "join": join,
    "idle": idle,
    "busy": busy,
}


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=100_000, help="at each router")
    parser.add_argument("--new", type=int, nargs="+", default=[10, 1000], help="keys to repair")
    parser.add_argument("--runs", type=int, default=1, help="of which the median is taken")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds")
    parser.add_argument("--busy", type=float, default=20.0, help="seconds")
    parser.add_argument("--rate", type=float, default=1000.0, help="puts/s of the busy routers")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    return parser.parse_args()


def libraries(systems):
    """Zenoh's own storages need no plugin of ours."""
    return [name for name in LIBRARIES if COMPANION not in name or systems != ["zenoh"]]


def main():
    options = arguments()
    figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="mst-bench-") as folder:
        options.programs = find_programs(folder, libraries(options.systems))
        for case in options.cases:
            for name in options.systems:
                for row, value in CASES[case](options, SYSTEMS[name]):
                    print(f"{case}, {SYSTEMS[name].title}: {row}: {value:,.3f}", flush=True)
                    figures[f"{case}: {row}", name].append(value)
    print(f"{options.keys} keys, {VALUE_BYTES}-byte values, medians of {options.runs} runs")
    print_table({name: SYSTEMS[name].title for name in options.systems}, figures)


if __name__ == "__main__":
    main()
