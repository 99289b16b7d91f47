"""The feed of changes: what pub/sub did not bring is published below `@mst/2/`, and nothing else."""

import json
import threading

import pytest
import zenoh

from client import timestamp
from cluster import chain
from polling import wait_until
from router import storage
from test_mstctl import mstctl, wait_for_replicas

REPLICATED = storage("demo/**", settle="50ms", replication={"sync_interval": "1s"})


class Heard:
    """What a subscriber was told, in order."""

    def __init__(self):
        self._samples = []
        self._lock = threading.Lock()

    def __call__(self, sample):
        with self._lock:
            self._samples.append(sample)

    @property
    def samples(self):
        with self._lock:
            return list(self._samples)

    def keys(self):
        return [key_of(sample) for sample in self.samples]

    def wait_for(self, *keys):
        """Waits until it was told of all these."""
        missing = lambda: set(keys) - set(self.keys())
        wait_until(lambda: not missing(), lambda: f"it hears of {missing()}: {self.keys()}")

    def one(self, key):
        """The only sample of a key."""
        (sample,) = [sample for sample in self.samples if key_of(sample) == key]
        return sample


def key_of(sample):
    return str(sample.key_expr).split("/changes/", 1)[-1]


def attachment(sample):
    return json.loads(sample.attachment.to_string())


@pytest.fixture
def listen():
    """Listens to the feed of a router's storage, from the moment on when that knows it."""
    ends = []

    def listen(router, name="demo"):
        heard = Heard()
        feed = f"@mst/2/*/{router.status(name)['identity']}/changes/**"
        subscribed = router.client.subscribed(feed, heard)
        subscribed.__enter__()
        ends.append(subscribed)
        router.wait_for_status(name, lambda status: status["changes"]["heard"], "it is heard")
        return heard

    yield listen
    for subscribed in ends:
        subscribed.__exit__(None, None, None)


def reaches(near, far, number):
    """Whether a put at one router is heard at the other; if not yet, it may be later."""
    heard = Heard()
    with far.client.subscribed("demo/probe", heard):
        near.client.put("demo/probe", str(number))
        far.client.wait_for("demo/probe", {"demo/probe": str(number).encode()})
    return bool(heard.samples)


def test_what_was_repaired_is_heard_and_nothing_else(start_cluster, listen):
    cluster = start_cluster(chain(2), {"demo": REPLICATED})
    first, second = cluster.routers
    cluster.wait_until_linked()
    changes = listen(second)
    numbers = iter(range(1000))
    wait_until(lambda: reaches(first, second, next(numbers)), "puts reach the other router")

    # What pub/sub brings is no change.
    published = Heard()
    live = {f"demo/live/{n}": str(n).encode() for n in range(100)}
    with second.client.subscribed("demo/live/*", published):
        # An answer comes after the router has heard of the subscriber.
        second.client.get("demo/live/*")
        for key, value in live.items():
            first.client.put(key, value)
        first.client.delete("demo/live/0")
        wait_until(lambda: len(published.samples) == 101, "all is heard as it was put")
    cluster.wait_until_equal("demo", keys=100, tombstones=1)

    cluster.cut()
    at = timestamp()
    first.client.put("demo/new", "1", encoding=zenoh.Encoding.TEXT_PLAIN, timestamp=at)
    first.client.put("demo/live/1", "other")
    first.client.put("demo/deep/er/key", bytes(100_000))
    first.client.delete("demo/live/2")
    second.client.put("demo/own", "of the second")
    cluster.heal()
    changes.wait_for("demo/new", "demo/live/1", "demo/deep/er/key", "demo/live/2")
    cluster.wait_until_equal("demo", keys=102, tombstones=2)

    new = changes.one("demo/new")
    assert (new.kind, new.payload.to_string()) == (zenoh.SampleKind.PUT, "1")
    assert (new.timestamp, new.encoding) == (at, zenoh.Encoding.TEXT_PLAIN)
    assert attachment(new) == {"by": "repair", "from": first.status("demo")["identity"]}
    assert changes.one("demo/live/1").payload.to_string() == "other"
    assert len(bytes(changes.one("demo/deep/er/key").payload)) == 100_000
    deleted = changes.one("demo/live/2")
    assert deleted.kind == zenoh.SampleKind.DELETE and deleted.timestamp is not None

    # Another partition: what was told before is not told again.
    cluster.cut()
    first.client.put("demo/last", "1")
    cluster.heal()
    changes.wait_for("demo/last")
    told = [key for key in changes.keys() if key != "demo/probe"]
    assert sorted(told) == sorted(
        ["demo/new", "demo/live/1", "demo/deep/er/key", "demo/live/2", "demo/last"]
    )
    status = second.status("demo")["changes"]
    assert (status["published"], status["dropped"]) == (len(changes.samples), 0)
    assert first.status("demo")["changes"]["published"] == 0, "nobody listens there"


def test_of_a_merged_key_the_value_is_told(start_cluster, listen):
    rules = {"key_overrides": {"demo/count/*": "additive"}}
    counting = storage("demo/**", settle="50ms", replication=rules)
    cluster = start_cluster(chain(2), {"demo": counting})
    first, second = cluster.routers
    second.client.put("demo/count/a", "1")
    cluster.wait_until_equal("demo", keys=1)
    cluster.cut()
    changes = listen(second)
    for _ in range(20):
        first.client.put("demo/count/a", "5")
    first.client.put("demo/plain", "x")
    second.client.put("demo/count/a", "2")
    cluster.heal()
    changes.wait_for("demo/count/a", "demo/plain")
    cluster.wait_until_equal("demo", keys=2)
    values = [
        sample.payload.to_string()
        for sample in changes.samples
        if key_of(sample) == "demo/count/a"
    ]
    assert values[-1] == "103"
    cluster.cut()
    first.client.delete("demo/count/a")
    cluster.heal()
    cluster.wait_until_equal("demo", keys=1)
    wait_until(
        lambda: changes.samples[-1].kind == zenoh.SampleKind.DELETE, "it hears of the delete"
    )
    assert key_of(changes.samples[-1]) == "demo/count/a"


def test_what_is_rolled_back_and_restored_is_heard(start_router, listen, tmp_path):
    router = start_router({"demo": storage("demo/**", settle="50ms")}, session="runtime")
    for key in ("a", "b", "same"):
        router.client.put(f"demo/{key}", "before")
    router.wait_until_settled("demo", keys=3)
    wait_for_replicas(router, 1)
    file = tmp_path / "demo.mst"
    mstctl("backup", file, router=router, check=0)
    router.client.put("demo/a", "after")
    router.client.put("demo/new", "after")
    router.client.delete("demo/b")
    router.wait_until_settled("demo", keys=3)
    changes = listen(router)
    mstctl("rollback", file, "--yes", router=router, check=0)
    changes.wait_for("demo/a", "demo/b", "demo/new")
    assert sorted(changes.keys()) == ["demo/a", "demo/b", "demo/new"]
    assert changes.one("demo/a").payload.to_string() == "before"
    assert changes.one("demo/b").payload.to_string() == "before"
    assert changes.one("demo/new").kind == zenoh.SampleKind.DELETE
    told = attachment(changes.one("demo/a"))
    assert told["by"] == "rollback" and int(told["from"], 16)

    other = start_router({"demo": storage("demo/**", settle="50ms")}, session="runtime")
    wait_for_replicas(other, 1)
    changes = listen(other)
    mstctl("restore", file, router=other, check=0)
    changes.wait_for("demo/a", "demo/b", "demo/same")
    assert attachment(changes.one("demo/same"))["by"] == "restore"


def test_what_does_not_find_room_is_dropped_and_counted(start_cluster, listen):
    """A repair of more keys than may wait ends, whoever listens; what was not told is counted."""
    memory = storage("demo/**", settle="50ms", persistence="memory", replication={})
    number = 40_000
    cluster = start_cluster(chain(2), {"demo": memory})
    first, second = cluster.routers
    cluster.wait_until_linked()
    cluster.cut()
    changes = listen(second)
    for n in range(number):
        first.client.put(f"demo/{n}", b"x")
    first.wait_until_settled("demo", keys=number)
    cluster.heal()
    cluster.wait_until_equal("demo", keys=number, timeout=60)

    def is_all_told(status):
        status = status["changes"]
        return status["queued"] == 0 and status["published"] + status["dropped"] == number

    status = second.wait_for_status("demo", is_all_told, "all is told or dropped")
    wait_until(
        lambda: len(changes.samples) == status["changes"]["published"], "what is told is heard"
    )


def test_with_operators_none_nobody_is_told(start_cluster):
    silent = storage("demo/**", settle="50ms", operators="none", replication={})
    cluster = start_cluster(chain(2), {"demo": silent})
    first, second = cluster.routers
    cluster.wait_until_linked()
    cluster.cut()
    first.client.put("demo/a", "1")
    heard = Heard()
    with second.client.subscribed("@mst/2/*/*/changes/**", heard):
        cluster.heal()
        second.client.wait_for("demo/a", {"demo/a": b"1"})
        second.client.put("demo/b", "2")
        cluster.wait_until_equal("demo", keys=2)
    assert heard.samples == [] and not second.status("demo")["changes"]["heard"]
