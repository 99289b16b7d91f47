"""Puts and deletes with wildcards that reach keys which only another replica knows."""

import pytest

from client import timestamp
from cluster import chain
from polling import wait_until
from router import storage

REPLICATED = {"demo": storage("demo/**", durability="always", replication={"sync_interval": "1s"})}


def test_a_pattern_reaches_what_only_the_other_side_of_a_cut_knew(start_cluster):
    cluster = start_cluster(chain(2), REPLICATED, door="plugin")
    cluster.wait_until_linked()
    one, other = cluster.routers
    for key in ("demo/g/known", "demo/h/known"):
        one.client.put(key, b"1", timestamp=timestamp(-30))
    for router in cluster.routers:
        router.client.wait_for("demo/**", {"demo/g/known": b"1", "demo/h/known": b"1"})
    cluster.cut()
    for key in ("demo/g/unknown", "demo/h/unknown", "demo/h/deleted"):
        other.client.put(key, b"2", timestamp=timestamp(-20))
    other.client.delete("demo/h/deleted", timestamp=timestamp(-15))
    other.client.put("demo/g/later", b"3", timestamp=timestamp(-1))
    one.client.delete("demo/g/**", timestamp=timestamp(-10))
    one.client.put("demo/h/*", b"all", timestamp=timestamp(-10))
    one.client.wait_for("demo/**", {"demo/h/known": b"all"})
    before = {"demo/g/known": b"1", "demo/g/unknown": b"2", "demo/g/later": b"3"}
    other.client.wait_for("demo/g/**", before)
    cluster.heal()
    cluster.wait_until_linked()
    expected = {"demo/g/later": b"3", "demo/h/known": b"all", "demo/h/unknown": b"all"}
    for router in cluster.routers:
        router.client.wait_for("demo/**", expected)
    cluster.wait_until_equal("demo", keys=3, wildcard_rules=2)
    # An older put that comes late changes nothing, nor does it after a restart.
    for router in cluster.routers:
        router.kill()
    for router in cluster.routers:
        router.start()
    cluster.wait_until_linked()
    one.client.put("demo/g/late", b"4", timestamp=timestamp(-60))
    one.client.put("demo/h/late", b"4", timestamp=timestamp(-60))
    expected["demo/h/late"] = b"all"
    for router in cluster.routers:
        router.client.wait_for("demo/**", expected)
    cluster.wait_until_equal("demo", keys=4, wildcard_rules=2)


def test_a_volume_shows_the_rules_of_a_plugin(start_router):
    first = start_router(REPLICATED, door="plugin", session="runtime", own_gets="demo/**")
    for key in ("demo/g/a", "demo/h/a"):
        first.client.put(key, b"1", timestamp=timestamp(-30))
    first.client.wait_for("demo/**", {"demo/g/a": b"1", "demo/h/a": b"1"})
    first.client.delete("demo/g/**", timestamp=timestamp(-10))
    first.client.put("demo/h/**", b"all", timestamp=timestamp(-10))
    first.client.wait_for("demo/**", {"demo/h/a": b"all"})
    second = start_router(
        REPLICATED, door="volume", session="runtime", own_gets="demo/**", connect=[first.endpoint]
    )
    routers = (first, second)
    for router in routers:
        router.client.wait_for("demo/**", {"demo/h/a": b"all"})
    # Through the storage manager, too, what is older than a rule is not shown as it is.
    for part in "gh":
        second.client.put(f"demo/{part}/b", b"2", timestamp=timestamp(-20))
    second.client.put("demo/g/c", b"3", timestamp=timestamp(-5))
    expected = {"demo/h/a": b"all", "demo/h/b": b"all", "demo/g/c": b"3"}
    for router in routers:
        router.client.wait_for("demo/**", expected)
    roots = lambda: {router.status("demo")["root"] for router in routers}
    wait_until(lambda: len(roots()) == 1, "they have one root")


@pytest.mark.parametrize("prefix", [None, "demo"])
def test_patterns_beyond_the_storage_reach_its_keys(start_router, prefix):
    router = start_router({"demo": storage("demo/**", strip_prefix=prefix)}, door="plugin")
    client = router.client
    values = {"demo": b"1", "demo/a": b"1", "demo/a/b": b"1"}
    for key, value in values.items():
        client.put(key, value, timestamp=timestamp(-30))
    client.wait_for("demo/**", values)
    client.put("*/a/**", b"2", timestamp=timestamp(-20))
    values |= {"demo/a": b"2", "demo/a/b": b"2"}
    client.wait_for("demo/**", values)
    client.delete("**", timestamp=timestamp(-10))
    client.wait_for("demo/**", {})
    client.put("demo/a", b"3", timestamp=timestamp(-15))
    client.put("demo/c", b"3", timestamp=timestamp(-5))
    client.wait_for("demo/**", {"demo/c": b"3"})
