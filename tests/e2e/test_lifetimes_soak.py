"""Steady puts to keys that live for a while, at routers whose clocks differ, one of them cut off half of the
time, and one dead from the beginning: roots are equal at every common watermark, nothing is pulled because
of deaths, no tombstone stays, and disk and memory stay flat.

It takes as many minutes as `MST_LIFETIMES_MINUTES` says, ten by `scripts/soak-lifetimes`; without that it is left out.
"""

import os
import random
import time
from pathlib import Path

import pytest

from client import timestamp
from cluster import star
from polling import wait_until
from router import storage

MINUTES = float(os.environ.get("MST_LIFETIMES_MINUTES", "0"))

#: Seconds.
LIFE = 60
SETTLE = 11
RUN = MINUTES * 60
AWAY_FOR = 60
#: After a change of the network those get what they missed that did.
REPAIR = SETTLE + 2 * 12 + 3
#: When what was written first has died, and what is flat from then on; memory a minute later, when caches and
#: allocators have what they need.
FULL = LIFE + 2 + 2 * SETTLE
WARM = 2 * LIFE + 2 * SETTLE

#: What clocks are off by, in milliseconds. The hub is the slowest, so that whoever is cut off is one of the others.
SKEWS = [-5000, 0, 4900, 2500, 0]
AWAY, DEAD = 3, 4

#: So many that what is remembered up to some number, such as changes for deltas, is full when memory is looked at.
WRITES_A_SECOND = 400
KEYS = 75 * WRITES_A_SECOND
VALUE = 200

#: What memory may grow by from the third minute on.
GROWTH = 4 << 20


def storages():
    options = {
        # The engine's buffers and caches grow until they are full, whatever dies: so that they are so soon, they
        # are small.
        "cache_size": "4MiB",
        "settle": f"{int(SETTLE * 1000)}ms",
        "max_clock_drift": "20s",
        "lifetimes": {"demo/pose/**": f"{int(LIFE * 1000)}ms"},
        "replication": {"sync_interval": "5s"},
    }
    return {"demo": storage("demo/**", **options)}


def memory(router):
    """Bytes that the process has in memory for itself alone, not as a file's."""
    for line in Path(f"/proc/{router.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel says how much memory a process has")


def disk(router):
    total = 0
    for path in router.data.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue  # The engine has just removed it.
    return total


class Watch:
    """What is seen of the routers, from one look to the next."""

    def __init__(self):
        self.roots, self.compared, self.watermarks = {}, 0, 0
        self.received, self.dead = None, None
        self.pulled_at_rest, self.dead_at_rest = 0, 0
        self.tombstones, self.cells = [], []
        self.disks, self.memories = [], []

    def moved(self):
        """Somebody came or went: what is pulled now was missed, and roots are not those of all."""
        self.roots.clear()
        self.received = None

    def rest(self, statuses):
        """Nobody came or went for long: roots of one watermark are equal, and nothing is pulled."""
        for number, status in statuses:
            seen = self.roots.setdefault(status["cut"], {})
            seen[number] = status["root"]
            if len(seen) > 1:
                assert len(set(seen.values())) == 1, f"at {status['cut']}: {seen}"
        received = sum(status["replication"]["pulls"]["cells_received"] for _, status in statuses)
        dead = sum(status["lifetimes"]["dead"] for _, status in statuses)
        if self.received is not None:
            self.pulled_at_rest += received - self.received
            self.dead_at_rest += dead - self.dead
        self.received, self.dead = received, dead

    def count(self):
        """Takes stock of the watermarks that two or more had in common."""
        common = [seen for seen in self.roots.values() if len(seen) > 1]
        self.watermarks += len(common)
        self.compared += sum(map(len, common))


def write(cluster, rng, number):
    """A client of one of the routers, whose clock is as that router's."""
    router = cluster.routers[number]
    key = f"demo/pose/{rng.randrange(KEYS)}"
    stamp = timestamp(SKEWS[number] / 1000, writer=bytes([number + 1]))
    if rng.randrange(7) == 0:
        router.client.delete(key, timestamp=stamp)
    else:
        router.client.put(key, rng.randbytes(VALUE), timestamp=stamp)


@pytest.mark.doors("mixed")
@pytest.mark.skipif(MINUTES == 0, reason="it takes minutes: scripts/soak-lifetimes")
def test_steady_writes_of_what_dies_stay_flat_and_pull_nothing_dead(start_cluster, disturbed):
    # Zenoh, too, takes timestamps that are ahead by so much.
    environments = [disturbed(clock=skew) | {"UHLC_MAX_DELTA_MS": "20000"} for skew in SKEWS]
    cluster = start_cluster(star(len(SKEWS)), storages(), environments=environments)
    cluster.wait_until_linked()
    cluster.end(DEAD, "kill")
    rng, watch = random.Random(24), Watch()
    live = range(AWAY + 1)
    began = changed = last_look = last_size = time.monotonic()
    is_away, written = False, 0
    while (passed := time.monotonic() - began) < RUN:
        for _ in range(int(passed * WRITES_A_SECOND) - written):
            write(cluster, rng, written % len(live))
            written += 1
        now = time.monotonic()
        if is_away != bool(int(passed / AWAY_FOR) % 2):
            watch.count()
            watch.moved()
            is_away = not is_away
            (cluster.link(0, AWAY).cut if is_away else cluster.link(0, AWAY).heal)()
            changed = now
        if now - last_look >= 0.1:
            last_look = now
            linked = [number for number in live if not (is_away and number == AWAY)]
            statuses = [(number, cluster.routers[number].status("demo")) for number in linked]
            if now - changed > REPAIR:
                watch.rest(statuses)
            if passed > FULL:
                watch.tombstones.append(max(status["tombstones"] for _, status in statuses))
                watch.cells.append(max(status["cells"] for _, status in statuses))
        if now - last_size >= 1:
            last_size = now
            if passed > FULL:
                watch.disks.append((passed, max(disk(cluster.routers[number]) for number in live)))
            if passed > WARM:
                watch.memories.append([memory(cluster.routers[number]) for number in live])
        wait_until(lambda: time.monotonic() - began >= (written + 1) / WRITES_A_SECOND, "the next write is due")
    watch.count()
    finals = [cluster.routers[number].status("demo") for number in live]
    say(watch, finals, written)

    assert watch.watermarks > 5 and watch.compared > 10, "roots were compared"
    assert watch.dead_at_rest == 0, "nothing that is dead came"
    # Those of a life, its grid step, and what settles late by clocks that differ.
    bound = WRITES_A_SECOND * (LIFE * 65 / 64 + 2 * SETTLE + 1)
    assert max(watch.cells) <= min(bound, KEYS), watch.cells
    assert flat(watch.disks), watch.disks
    memories = list(zip(*watch.memories))
    assert all(max(of_one) - of_one[0] <= GROWTH for of_one in memories), memories
    # When nobody writes any more, all of it goes, tombstones too, and with it what was on the disk.
    if is_away:
        cluster.heal((0, AWAY))
    for number in live:
        cluster.routers[number].wait_for_status(
            "demo",
            lambda status: status["cells"] == 0 and status["tombstones"] == 0,
            "all has died",
            timeout=3 * LIFE + 4 * SETTLE + 30,
        )


def flat(disks):
    """Whether the last third takes no more than the first, and a half of that: the engine takes turns."""
    sizes = [size for _, size in disks]
    third = max(1, len(sizes) // 3)
    return max(sizes[-third:]) <= 1.5 * max(sizes[:third])


def say(watch, finals, written):
    """What was measured, for whoever runs it by hand."""
    memories = [
        f"{min(of_one) / 2**20:.1f} to {max(of_one) / 2**20:.1f} MiB, {(of_one[-1] - of_one[0]) / 2**20:+.1f}"
        for of_one in zip(*watch.memories)
    ]
    sizes = [size / 2**20 for _, size in watch.disks]
    expired = sum(status["lifetimes"]["expired"] for status in finals)
    pulled = sum(status["replication"]["pulls"]["cells_received"] for status in finals)
    print(
        f"\n{RUN / 60:.1f} min: {written} writes, {expired} deaths, {watch.compared} roots compared at "
        f"{watch.watermarks} watermarks, all equal; {pulled} cells pulled, of these {watch.pulled_at_rest} while "
        f"nobody came or went, {watch.dead_at_rest} of them dead; at most {max(watch.cells)} cells and {max(watch.tombstones)} tombstones; "
        f"disk {min(sizes):.1f} to {max(sizes):.1f} MiB; memory of each router {memories}"
    )
