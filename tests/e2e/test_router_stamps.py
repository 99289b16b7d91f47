"""Puts to merged keys that no client stamped: a router does, and each that a put comes by does it
anew."""

import pytest

from client import timestamp
from polling import wait_until
from router import storage
from test_merging import merging

TOLD = "a router stamped a put of"


def test_they_are_counted_and_told_once(start_router):
    storages = {"count": merging("count/**", keys={"count/sum": "additive"})}
    router = start_router(storages, session="runtime")
    for number in range(3):
        router.client.put("count/sum", "1")
        router.client.put("count/plain", str(number))
    router.client.put("count/sum", "10", timestamp=timestamp())
    router.client.wait_for("count/**", {"count/sum": b"13", "count/plain": b"2"})
    router.wait_for_counters("count", stamped_by_routers=3, refused=0, puts=7)
    assert router.log().count(TOLD) == 1


def test_they_can_be_refused(start_router):
    storages = {
        "count": merging("count/**", keys={"count/sum": "additive"}, unstamped="refuse"),
        "plain": storage("plain/**", unstamped="refuse"),
    }
    router = start_router(storages, session="runtime")
    for key in ["count/sum", "count/plain", "plain/sum"]:
        router.client.put(key, "1")
    router.client.put("count/sum", "10", timestamp=timestamp())
    router.client.wait_for("count/**", {"count/sum": b"10", "count/plain": b"1"})
    router.client.wait_for("plain/**", {"plain/sum": b"1"})
    router.wait_for_counters("count", stamped_by_routers=1, refused=1)
    router.wait_for_counters("plain", stamped_by_routers=0, refused=0)
    (refused,) = router.status("count")["refused"]
    assert refused["key"] == "count/sum"
    assert refused["reason"].startswith("a router stamped it")


@pytest.mark.parametrize("unstamped", ["accept", "refuse"])
def test_a_put_with_wildcards_is_one_to_each_merged_key(start_router, unstamped):
    storages = {"count": merging("count/**", "additive", unstamped=unstamped)}
    router = start_router(storages, session="runtime")
    router.client.put("count/a", "1", timestamp=timestamp())
    router.client.wait_for("count/**", {"count/a": b"1"})
    router.client.put("count/*", "5")
    router.wait_for_counters("count", stamped_by_routers=1)
    sums = {"accept": b"6", "refuse": b"1"}
    wait_until(
        lambda: router.client.get("count/a") == {"count/a": sums[unstamped]}, "it has the sum"
    )
