"""What a storage still has after the router has ended, in one way or another."""

import os

import pytest
import zenoh

from router import storage

ENDINGS = {"SIGTERM": "stop", "SIGKILL": "kill"}


@pytest.fixture(params=ENDINGS)
def end(request):
    """Ends a router, and starts it again."""

    def end_and_start(router):
        getattr(router, ENDINGS[request.param])()
        router.start()

    return end_and_start


def put_of_every_kind(client):
    """Returns the puts' keys and payloads."""
    values = {
        "demo/empty": b"",
        "demo/short": b"short",
        "demo/binary": bytes(range(256)),
        "demo/1024": os.urandom(1024),
        "demo/1025": os.urandom(1025),
        "demo/long": os.urandom(1 << 20),
        **{f"demo/n/{n}": str(n).encode() for n in range(200)},
    }
    for key, payload in values.items():
        client.put(key, payload)
    return values


def test_everything_is_there_after_a_restart(start_router, end):
    router = start_router({"demo": storage("demo/**", settle="100ms")})
    client = router.client
    values = put_of_every_kind(client)
    client.put("demo/replaced", os.urandom(5000))
    client.put("demo/deleted", "value")
    client.put("demo/deleted/long", os.urandom(5000))
    client.wait_for("demo/deleted", {"demo/deleted": b"value"})
    client.put("demo/replaced", "short")
    client.delete("demo/deleted")
    client.delete("demo/deleted/long")
    schema = zenoh.Encoding.APPLICATION_PROTOBUF.with_schema("fleet.Position")
    client.put("demo/encoded", "value", encoding=schema)
    values |= {"demo/replaced": b"short", "demo/encoded": b"value"}
    client.wait_for("demo/**", values)
    before = router.wait_until_settled("demo", keys=len(values), tombstones=2)
    samples = client.samples("demo/**")

    end(router)

    after = router.status("demo")
    for field in ["root", "cells", "keys", "tombstones"]:
        assert after[field] == before[field], field
    assert router.client.get("demo/**") == values
    for key, sample in router.client.samples("demo/**").items():
        assert sample.timestamp == samples[key].timestamp, key
        assert sample.encoding == samples[key].encoding, key


def test_a_router_can_be_ended_again_and_again(start_router, end):
    router = start_router({"demo": storage("demo/**", settle="10ms")})
    roots = set()
    for n in range(4):
        router.client.put(f"demo/{n}", str(n))
        roots.add(router.wait_until_settled("demo", keys=n + 1)["root"])
        end(router)
        assert router.status("demo")["root"] in roots
        assert router.client.get("demo/**") == {f"demo/{m}": b"%d" % m for m in range(n + 1)}
    assert len(roots) == 4


def test_what_is_not_settled_is_not_lost(start_router, end):
    """It is committed long before."""
    router = start_router({"demo": storage("demo/**", settle="60s")})
    values = put_of_every_kind(router.client)
    router.wait_for_counters("demo", committed_cells=len(values))
    assert router.status("demo")["queues"]["unsettled"] == len(values)
    end(router)
    assert router.status("demo")["keys"] == len(values)
    assert router.client.get("demo/**") == values


def is_all_committed(status, puts):
    return status["counters"]["puts"] == puts and status["queues"]["uncommitted"] == 0


@pytest.mark.parametrize("durability", ["interval", "none"])
def test_what_the_status_says_is_committed_survives_a_kill(start_router, durability):
    """Without `always`, it is the status that tells when a put is safe; large values make the
    time long in which it could be wrong."""
    router = start_router({"demo": storage("demo/**", durability=durability)})
    for round_number in range(3):
        values = {f"demo/{round_number}/{n}": os.urandom(4 << 20) for n in range(6)}
        puts = router.status("demo")["counters"]["puts"] + len(values)
        for key, payload in values.items():
            router.client.put(key, payload)
        router.wait_for_status(
            "demo", lambda status: is_all_committed(status, puts), "all is committed"
        )
        router.kill()
        router.start()
        lost = values.keys() - router.client.get(f"demo/{round_number}/*").keys()
        assert not lost, f"lost in round {round_number}: {sorted(lost)}"


@pytest.mark.doors("volume")
def test_with_durability_always_no_put_that_was_taken_is_lost(start_router):
    """The volume's puts return when they are committed; the plugin's are counted when they arrive."""
    router = start_router({"demo": storage("demo/**", durability="always")})
    values = {f"demo/{n}": str(n).encode() for n in range(50)}
    for key, payload in values.items():
        router.client.put(key, payload)
    # The storage answers between puts: those counted have returned.
    router.wait_for_counters("demo", puts=50)
    router.kill()
    router.start()
    assert router.client.get("demo/**") == values


@pytest.mark.parametrize("durability", ["always", "interval"])
def test_a_kill_amid_writes_loses_nothing_that_was_committed(start_router, durability):
    """Writes are committed in the order in which they came, each whole."""
    router = start_router({"demo": storage("demo/**", durability=durability, sync_every="20ms")})
    payloads = [os.urandom(size) for size in [10, 1000, 3000]]
    for n in range(3000):
        router.client.put(f"demo/{n}", payloads[n % 3])
    status = router.wait_for_status(
        "demo", lambda status: status["counters"]["committed_cells"] >= 200, "some are committed"
    )
    router.kill()
    committed = status["counters"]["committed_cells"]

    router.start()

    found = router.client.get("demo/**")
    kept = len(found)
    assert kept >= committed
    assert found == {f"demo/{n}": payloads[n % 3] for n in range(kept)}
    assert router.status("demo")["cells"] == kept


def test_a_storage_in_memory_starts_empty(start_router):
    router = start_router({"demo": storage("demo/**", persistence="memory", settle="10ms")})
    empty = router.status("demo")["root"]
    router.client.put("demo/a", "value")
    router.client.wait_for("demo/**", {"demo/a": b"value"})
    status = router.wait_until_settled("demo", keys=1)
    assert status["root"] != empty
    assert status["disk_bytes"] == 0
    router.restart()
    assert router.client.get("demo/**") == {}
    assert router.status("demo")["root"] == empty
    assert not (router.data / "demo").exists(), "nothing is on disk"
