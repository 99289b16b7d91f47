"""What clients notice of a router's storages when others ask much of them, beside Zenoh's memory volume.

`.tools/python/bin/python benches/front_door.py --help`, after `make build tools`. Clients that put as fast as
they can, a client that stops reading, a wildcard delete of many keys, a slow disk. All traffic is on
loopback; every process that it starts it ends.
"""

import argparse
import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

# First, as it makes the modules of the tests importable.
from harness import (
    KEYS,
    PATIENCE,
    PROJECT,
    bytes_until_quiet,
    find_programs,
    print_table,
    starting,
)

from client import Client, timestamp
from cluster import Cluster, chain
from polling import wait_until
from router import storage

SPAWN = multiprocessing.get_context("spawn")
#: The keys of a case are in so many groups.
GROUPS = 100
#: Of what the others do, for so long and no oftener than this.
SPAN = 5.0
EVERY = 0.002
OTHERS = 1_000


@dataclass(frozen=True)
class System:
    """A storage, and who serves it."""

    title: str
    config: dict
    door: str = "volume"


def ours(persistence, door):
    config = storage(KEYS, persistence=persistence)
    return System(f"mst, {door}, {persistence}", config, door)


SYSTEMS = {
    "zenoh": System("Zenoh's, memory", {"key_expr": KEYS, "volume": "memory"}),
    "volume": ours("memory", "volume"),
    "memory": ours("memory", "plugin"),
    "durable": ours("durable", "plugin"),
}


@contextmanager
def one_router(options, system, storages=None, **router):
    with starting(options.programs) as start:
        yield start(storages or {"bench": system.config}, door=system.door, **router)


# What others notice.


def probe(port, seconds, results):
    """Gets of some keys, and puts of others until a get shows them, one after the other."""
    gets, puts = [], []
    with closing(Client(port)) as client:
        for number in range(OTHERS):
            client.put(f"bench/others/{number}", b"before")
        until(client, f"bench/others/{OTHERS - 1}", b"before")
        results.send(None)
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end:
            number += 1
            key = f"bench/others/{number % OTHERS}"
            start = time.monotonic()
            assert client.get(key), key
            gets.append(time.monotonic() - start)
            value = str(number).encode()
            start = time.monotonic()
            client.put(key, value)
            until(client, key, value)
            puts.append(time.monotonic() - start)
            time.sleep(EVERY)
    results.send((gets, puts))


def until(client, key, value):
    deadline = time.monotonic() + PATIENCE
    while client.get(key).get(key) != value:
        assert time.monotonic() < deadline, f"{key} is {value}"


class Others:
    """A client in a process of its own, for the time that it measures."""

    def __init__(self, router, seconds=SPAN):
        self._results, theirs = SPAWN.Pipe()
        arguments = (router.port, seconds, theirs)
        self._process = SPAWN.Process(target=probe, args=arguments, daemon=True)
        self._process.start()
        assert self._results.poll(PATIENCE), "it begins"
        self._results.recv()

    def figures(self, when):
        assert self._results.poll(PATIENCE), "it ends"
        gets, puts = self._results.recv()
        self._process.join()
        yield f"gets, p99, ms, {when}", p99(gets)
        yield f"puts until a get shows them, p99, ms, {when}", p99(puts)


def p99(times):
    return sorted(times)[int((len(times) - 1) * 0.99)] * 1000


# The cases.


def share_stored(options, system, puts, size):
    value = os.urandom(size)
    with one_router(options, system) as router, closing(Client(router.port)) as client:
        start = time.monotonic()
        for number in range(puts):
            client.put_droppable(f"bench/fast/{number % GROUPS}/{number}", value)
        took = time.monotonic() - start
        # What is under way comes in order.
        stored, before = count(router.client, GROUPS - 1), None
        while stored != before:
            time.sleep(1)
            stored, before = count(router.client, GROUPS - 1), stored
        stored = sum(count(router.client, group) for group in range(GROUPS))
    yield "s, to put them", took
    yield "share that is stored", stored / puts


def count(client, group):
    return len(client.samples(f"bench/fast/{group}/*"))


def fast_small(options, system):
    """200,000 puts of 1 kB, as fast as a client can."""
    yield from share_stored(options, system, 200_000, 1_000)


def fast_large(options, system):
    """300 puts of 1 MB, as fast as a client can."""
    yield from share_stored(options, system, 300, 1_000_000)


def stop_reading(port):
    """The first answer comes, and no other is read."""
    with closing(Client(port)) as client:
        for _ in client._session.get("bench/large/**", timeout=PATIENCE):
            os.kill(os.getpid(), signal.SIGSTOP)


def stuck_reader(options, system):
    """A client that stops reading a get of 20,000 values of 10 kB."""
    value = os.urandom(10_000)
    with one_router(options, system) as router:
        for number in range(20_000):
            router.client.put(f"bench/large/{number}", value)
        router.client.wait_for("bench/large/19999", {"bench/large/19999": value})
        yield from Others(router).figures("idle")
        stuck = SPAWN.Process(target=stop_reading, args=(router.port,), daemon=True)
        stuck.start()
        try:
            wait_until(lambda: is_stopped(stuck.pid), lambda: "it has stopped")
            yield from Others(router).figures("meanwhile")
        finally:
            stuck.kill()
            stuck.join()


def is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def wildcard_delete(options, system):
    """One delete of many keys, at a replica whose link is cut, and at another after it is healed.

    The client stamps it, so it is one cell. What no client stamped is done to each key that is known.
    """
    config = system.config
    config = {**config, "volume": {**config["volume"], "replication": {}}}
    with starting(options.programs) as start:
        cluster = Cluster(start, chain(2), {"bench": config}, door=system.door, own_gets=KEYS)
        with closing(cluster):
            near, far = cluster.routers
            last = f"bench/g/{(options.keys - 1) % GROUPS}/{options.keys - 1}"

            def fill_both():
                fill(near, options.keys)
                wait_until(
                    lambda: far.client.get(last), lambda: "the last key is there", timeout=PATIENCE
                )
                cluster.wait_until_equal("bench", timeout=PATIENCE, keys=options.keys)

            def delete():
                near.client.delete("bench/g/**", timestamp=timestamp())

            def heal():
                cluster.heal()
                wait_until(lambda: not far.client.get(last), lambda: "it is deleted")

            fill_both()
            cluster.cut()
            delete()
            link = cluster.link(0, 1)
            before = link.bytes
            heal()
            yield "bytes on the link after the heal", bytes_until_quiet([link], before)
            fill_both()
            yield from Others(near).figures("idle")
            cluster.cut()
            others = Others(near)
            delete()
            yield from others.figures("meanwhile")
            others = Others(far)
            heal()
            yield from others.figures("at the other replica")


def fill(router, keys):
    with closing(Client(router.port)) as client:
        for number in range(keys):
            client.put(f"bench/g/{number % GROUPS}/{number}", b"x" * 100)


def slow_disk(options, system):
    """460 puts a second for 15 s, each to be synced, on a disk that takes 20 ms to sync."""
    storages = {
        "bench": storage(KEYS, persistence="memory"),
        "synced": storage("synced/**", persistence="durable", durability="always"),
    }
    with slow_syncs(20) as environment, one_router(
        options, system, storages, environment=environment
    ) as router:
        others = Others(router, 15.0)
        start = time.monotonic()
        for number in range(460 * 15):
            time.sleep(max(0.0, start + number / 460 - time.monotonic()))
            router.client.put(f"synced/{number}", b"x" * 100)
        start, found = time.monotonic(), 0
        while found < 460 * 15:
            found = len(router.client.samples("synced/*"))
            assert time.monotonic() < start + PATIENCE, f"{found} are stored"
        yield "s, from the last put until a get has all", time.monotonic() - start
        yield from others.figures("of another storage")


@contextmanager
def slow_syncs(millis):
    with tempfile.TemporaryDirectory(prefix="mst-bench-") as folder:
        library = Path(folder) / "shim.so"
        source = PROJECT / "tests/e2e/shim.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        yield {"LD_PRELOAD": str(library), "MST_TEST_SYNC_MS": str(millis)}


@dataclass(frozen=True)
class Case:
    """What is measured, and of which systems."""

    figures: Callable
    systems: tuple = tuple(SYSTEMS)


CASES = {
    "small": Case(fast_small),
    "large": Case(fast_large),
    "stuck": Case(stuck_reader),
    "delete": Case(wildcard_delete, ("memory", "durable")),
    "slow": Case(slow_disk, ("volume", "memory")),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1, help="of which the median is taken")
    parser.add_argument("--keys", type=int, default=1_000_000, help="that are deleted")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    options = parser.parse_args()
    figures = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="mst-bench-") as folder:
        options.programs = find_programs(folder)
        for name in options.cases * options.runs:
            case = CASES[name]
            for system in [system for system in options.systems if system in case.systems]:
                title = SYSTEMS[system].title
                for row, value in case.figures(options, SYSTEMS[system]):
                    print(f"{name}, {title}: {row}: {value:,.3f}", flush=True)
                    figures[f"{name}: {row}", system].append(value)
    print_table({name: SYSTEMS[name].title for name in options.systems}, figures)


if __name__ == "__main__":
    main()
