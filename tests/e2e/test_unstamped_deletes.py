"""Deletes and puts of a client that does not stamp what it sends: what is put after a delete is
there, at all routers, and they need not compare what they did."""

import pytest

from client import timestamp
from cluster import chain
from polling import wait_until
from router import storage

PAIRS = 300


def demo(**options):
    return {"demo": storage("demo/**", **options)}


def write_pairs(client):
    """Deletes each key, and puts it again at once; what has to be there then."""
    values = {f"demo/{number}": b"after %d" % number for number in range(PAIRS)}
    for key, value in values.items():
        client.delete(key)
        client.put(key, value)
    return values


def put_before(client):
    before = {f"demo/{number}": b"before" for number in range(PAIRS)}
    for key, value in before.items():
        client.put(key, value)
    return before


def test_a_put_that_follows_a_delete_is_there(start_router):
    router = start_router(demo(), session="runtime")
    before = put_before(router.client)
    router.client.wait_for("demo/**", before)
    values = write_pairs(router.client)
    router.client.wait_for("demo/**", values)
    router.wait_until_settled("demo", keys=PAIRS, cells=PAIRS)
    assert router.client.get("demo/**") == values


def reaches(near, far, value):
    """Whether a put at one router is at the other; if not yet, it may be when asked again."""
    near.client.put("demo/0", value)
    return far.client.get("demo/0") == {"demo/0": value}


@pytest.mark.parametrize("case", ["usual", "slow disk", "clock behind"])
def test_at_two_routers_both_have_it_without_a_pull(start_cluster, disturbed, case):
    """The storages are not replicated, so neither gets anything from the other: that they end with
    one root says that each made the same of what the client sent."""
    environments = {
        "usual": [None, None],
        "slow disk": [disturbed(sync=5), disturbed(sync=5)],
        # The stamps of the second follow those of the first, and count up by ones.
        "clock behind": [None, disturbed(clock=-400)],
    }
    storages = demo(**({"durability": "always"} if case == "slow disk" else {}))
    cluster = start_cluster(chain(2), storages, environments=environments[case])
    cluster.wait_until_linked()
    first, second = cluster.routers
    # A put is lost to a router whose subscription is not known yet where it is made.
    for near, far, value in [(first, second, b"1"), (second, first, b"2")]:
        wait_until(lambda: reaches(near, far, value), "puts reach the other router")
    before = put_before(first.client)
    for router in cluster.routers:
        router.client.wait_for("demo/**", before)
    values = write_pairs(second.client)
    # No put follows the last delete.
    second.client.delete("demo/0")
    del values["demo/0"]
    for router in cluster.routers:
        router.client.wait_for("demo/**", values)
    cluster.wait_until_equal("demo", keys=PAIRS - 1, cells=PAIRS, tombstones=1)
    for router in cluster.routers:
        assert router.client.get("demo/**") == values


def test_deleting_what_is_not_there_writes_nothing(start_router):
    router = start_router(demo(), session="runtime")
    for number in range(5):
        router.client.delete(f"demo/{number}")
    router.client.put("demo/last", b"1")
    router.client.wait_for("demo/**", {"demo/last": b"1"})
    router.client.delete("demo/last")
    router.client.delete("demo/last")
    router.wait_for_counters("demo", deletes=7, outdated=6)
    router.wait_until_settled("demo", cells=1, tombstones=1)


def test_a_put_after_a_wildcard_delete_never_shows_as_empty(start_router):
    """The storage manager takes the value away from a put that looks older than the delete."""
    router = start_router(demo(), session="runtime")
    before = put_before(router.client)
    router.client.wait_for("demo/**", before)
    router.client.delete("demo/**")
    for key in before:
        router.client.put(key, b"after")
    # What comes last is there when all before it was taken.
    router.client.put("demo/marker", b"last")
    router.client.wait_for("demo/marker", {"demo/marker": b"last"})
    there = router.client.get("demo/**")
    assert set(there.values()) <= {b"after", b"last"}, "none is empty, none was before"


def test_a_stamped_delete_bears_its_own_timestamp(start_router):
    router = start_router(demo(), session="runtime")
    router.client.put("demo/a", b"old", timestamp=timestamp(-20))
    router.client.delete("demo/a", timestamp=timestamp(-5))
    router.client.put("demo/a", b"between", timestamp=timestamp(-10))
    router.client.put("demo/b", b"1")
    router.client.wait_for("demo/**", {"demo/b": b"1"})
    router.wait_for_counters("demo", outdated=1)
