"""Three and five routers under random cuts, kills and restarts, with puts, deletes, increments and sets
at all of them; what they come to is compared with a model of all that was written.

What happens follows from a seed, which a failure shows: `MST_FAULTS_SEED` runs one alone, and
`MST_FAULTS_STEPS` makes a run longer.
"""

import json
import os
import random

import pytest

from client import timestamp
from cluster import chain, mesh
from polling import wait_until
from router import storage

#: Replicas behind both doors are in one run.
pytestmark = pytest.mark.doors("mixed")

STEPS = int(os.environ.get("MST_FAULTS_STEPS", "8"))

STORAGES = {
    "demo": storage(
        "demo/**",
        settle="100ms",
        durability="always",
        replication={
            "key_overrides": {"demo/sum/**": "additive", "demo/set/**": "set_union"},
        },
    )
}


class Model:
    """All that was written, and what it comes to."""

    def __init__(self, rng):
        self._rng = rng
        self._last = {}
        self._sums = {}
        self._sets = {}
        self._fences = 0
        self._time = -3600.0

    def _now(self):
        """Later than all before: what is written at once is in order."""
        self._time += 0.001
        return timestamp(self._time)

    def write(self, router):
        """Something, at a router; returns when it is on its disk."""
        for _ in range(self._rng.randrange(1, 8)):
            number = self._rng.randrange(12)
            kind = self._rng.choice(["put", "put", "delete", "add", "element"])
            at = self._now()
            if kind == "put":
                payload = self._rng.randbytes(self._rng.randrange(1, 3000))
                router.client.put(f"demo/plain/{number}", payload, timestamp=at)
                self._last[f"demo/plain/{number}"] = payload
            elif kind == "delete":
                router.client.delete(f"demo/plain/{number}", timestamp=at)
                self._last.pop(f"demo/plain/{number}", None)
            elif kind == "add":
                more = self._rng.randrange(-5, 10)
                router.client.put(f"demo/sum/{number % 3}", str(more), timestamp=at)
                key = f"demo/sum/{number % 3}"
                self._sums[key] = self._sums.get(key, 0) + more
            else:
                element = f"e{self._rng.randrange(20)}"
                router.client.put(f"demo/set/{number % 3}", json.dumps([element]), timestamp=at)
                self._sets.setdefault(f"demo/set/{number % 3}", set()).add(element)
        # What comes after all of it is there: so is all of it, and it is committed.
        self._fences += 1
        fence, payload = f"demo/fence/{self._fences}", str(self._fences).encode()
        router.client.put(fence, payload, timestamp=self._now())
        self._last[fence] = payload
        router.client.wait_for(fence, {fence: payload})
        router.wait_for_status(
            "demo", lambda status: status["queues"]["uncommitted"] == 0, "all is committed"
        )

    def differences(self, router):
        """What a router has otherwise."""
        found = router.client.get("demo/**")
        plain = {key: value for key, value in found.items() if key.split("/")[1] in ("plain", "fence")}
        sums = {key: int(value) for key, value in found.items() if "/sum/" in key}
        sets = {key: set(json.loads(value)) for key, value in found.items() if "/set/" in key}
        pairs = [(plain, self._last), (sums, self._sums), (sets, self._sets)]
        return [
            (key, has.get(key), expected.get(key))
            for has, expected in pairs
            for key in sorted(has.keys() | expected.keys())
            if has.get(key) != expected.get(key)
        ]


def disturb(cluster, rng):
    """Something goes wrong, or is well again."""
    links = cluster.links
    running = [n for n, router in enumerate(cluster.routers) if router.is_running]
    down = [n for n in range(len(cluster.routers)) if n not in running]
    what = rng.choice(["cut", "cut", "heal", "kill", "restart"])
    if what == "cut":
        cluster.link(*rng.choice(links)).cut()
    elif what == "heal":
        cluster.heal(*rng.sample(links, rng.randrange(1, len(links) + 1)))
    elif what == "kill" and len(running) > 1:
        cluster.routers[rng.choice(running)].kill()
    elif down:
        cluster.routers[rng.choice(down)].start()


@pytest.mark.parametrize(
    ["links", "seed"],
    [(mesh(3), 1), (chain(3), 2), (mesh(5), 3)],
    ids=["three, meshed", "three in a chain", "five, meshed"],
)
def test_nothing_is_lost_or_made_up_whatever_happens(start_cluster, links, seed):
    seed = int(os.environ.get("MST_FAULTS_SEED", seed))
    rng = random.Random(seed)
    cluster = start_cluster(links, STORAGES)
    model = Model(rng)
    for _ in range(STEPS):
        disturb(cluster, rng)
        running = [router for router in cluster.routers if router.is_running]
        for router in rng.sample(running, min(2, len(running))):
            model.write(router)
    cluster.heal()
    for router in cluster.routers:
        if not router.is_running:
            router.start()
    differences = None

    def agree():
        nonlocal differences
        differences = [model.differences(router) for router in cluster.routers]
        return not any(differences)

    wait_until(agree, lambda: f"seed {seed}: differ {differences}", timeout=60)
    cluster.wait_until_equal("demo")
