"""The latest write wins, in whatever order writes arrive, and deletes stay deleted."""

import pytest

from client import timestamp
from polling import wait_until
from router import storage

YEAR = 365 * 24 * 3600.0

#: Where the first of two writes is when the second comes.
STATES = ["not settled", "settled", "after a restart"]


@pytest.fixture(params=STATES)
def bring_about(request, start_router):
    """Starts a router, has a first write done, and returns with it in each state."""

    def first(write):
        settle = "60s" if request.param == "not settled" else "10ms"
        router = start_router({"demo": storage("demo/**", settle=settle)})
        write(router.client)
        if request.param == "not settled":
            router.wait_for_status(
                "demo", lambda status: status["queues"]["unsettled"] == 1, "one update is pending"
            )
        else:
            router.wait_until_settled("demo", cells=1)
        if request.param == "after a restart":
            router.restart()
        return router

    return first


def wait_for_one_outdated(router):
    router.wait_for_counters("demo", outdated=1, refused=0)


def test_a_put_older_than_what_is_stored_is_ignored(bring_about):
    old, new = timestamp(-20), timestamp(-10)
    router = bring_about(lambda client: client.put("demo/a", "new", timestamp=new))
    router.client.put("demo/a", "old", timestamp=old)
    wait_for_one_outdated(router)
    sample = router.client.sample("demo/a")
    assert bytes(sample.payload) == b"new"
    assert sample.timestamp == new


def test_a_delete_older_than_what_is_stored_is_ignored(bring_about):
    router = bring_about(lambda client: client.put("demo/a", "new", timestamp=timestamp(-10)))
    router.client.delete("demo/a", timestamp=timestamp(-20))
    wait_for_one_outdated(router)
    assert router.client.get("demo/**") == {"demo/a": b"new"}


def test_a_put_older_than_a_delete_is_ignored(bring_about):
    """Even if the delete came first, and nothing was there to be deleted."""
    router = bring_about(lambda client: client.delete("demo/a", timestamp=timestamp(-10)))
    router.client.put("demo/a", "old", timestamp=timestamp(-20))
    wait_for_one_outdated(router)
    assert router.client.get("demo/a") == {}
    assert router.client.get("demo/**") == {}


def test_a_put_newer_than_a_delete_is_taken(bring_about):
    router = bring_about(lambda client: client.delete("demo/a", timestamp=timestamp(-20)))
    router.client.put("demo/a", "new", timestamp=timestamp(-10))
    router.client.wait_for("demo/**", {"demo/a": b"new"})
    assert router.status("demo")["counters"]["outdated"] == 0


def test_a_deleted_key_is_not_brought_back_by_an_old_put_after_a_restart(start_router):
    """The whole life of a key, the tombstone being the only thing that is left of it."""
    router = start_router({"demo": storage("demo/**", settle="10ms")})
    router.client.put("demo/a", "value", timestamp=timestamp(-30))
    router.client.wait_for("demo/a", {"demo/a": b"value"})
    router.client.delete("demo/a", timestamp=timestamp(-20))
    router.wait_until_settled("demo", cells=1, keys=0, tombstones=1)
    router.restart()
    router.client.put("demo/a", "value", timestamp=timestamp(-30))
    router.client.put("demo/a", "another value", timestamp=timestamp(-25))
    router.wait_for_counters("demo", puts=2, outdated=2)
    assert router.client.get("demo/**") == {}
    router.client.put("demo/a", "new", timestamp=timestamp(-10))
    router.client.wait_for("demo/**", {"demo/a": b"new"})


def test_the_same_put_twice_is_one(bring_about):
    written_at = timestamp(-10)
    router = bring_about(lambda client: client.put("demo/a", "once", timestamp=written_at))
    router.client.put("demo/a", "once", timestamp=written_at)
    wait_for_one_outdated(router)
    assert router.client.get("demo/**") == {"demo/a": b"once"}


def test_a_delete_far_ahead_of_the_clock_is_refused(start_router):
    """Routers stamp such puts anew, yet let such deletes pass: taken, one would hide its key
    for a year."""
    router = start_router({"demo": storage("demo/**")})
    client = router.client
    client.put("demo/a", "before")
    client.wait_for("demo/a", {"demo/a": b"before"})
    client.delete("demo/a", timestamp=timestamp(YEAR))
    router.wait_for_counters("demo", refused=1, deletes=0, outdated=0)
    line = router.wait_for_log("demo/a", "max_clock_drift", "ERROR")
    assert "10s" in line, f"it says what is allowed: {line}"
    assert client.get("demo/a") == {"demo/a": b"before"}
    client.put("demo/a", "after")
    client.wait_for("demo/a", {"demo/a": b"after"})
    router.wait_until_settled("demo", keys=1)
    router.restart()
    assert router.client.get("demo/**") == {"demo/a": b"after"}


def test_a_put_far_ahead_of_the_clock_is_stamped_by_the_router(start_router):
    router = start_router({"demo": storage("demo/**")})
    client = router.client
    client.put("demo/a", "ahead", timestamp=timestamp(YEAR))
    client.wait_for("demo/a", {"demo/a": b"ahead"})
    assert client.sample("demo/a").timestamp < timestamp(60)
    client.put("demo/a", "after")
    client.wait_for("demo/a", {"demo/a": b"after"})
    assert router.status("demo")["counters"]["refused"] == 0


def test_how_far_ahead_is_allowed_can_be_set(start_router):
    router = start_router(
        {
            "strict": storage("strict/**", max_clock_drift="1s"),
            "loose": storage("loose/**", max_clock_drift="1h"),
        }
    )
    ahead = timestamp(600)
    for name in ["strict", "loose"]:
        router.client.put(f"{name}/a", "value")
        router.client.wait_for(f"{name}/a", {f"{name}/a": b"value"})
        router.client.delete(f"{name}/a", timestamp=ahead)
    router.wait_for_counters("strict", refused=1, deletes=0)
    router.wait_for_counters("loose", refused=0, deletes=1)
    assert router.client.get("strict/a") == {"strict/a": b"value"}
    assert router.client.get("loose/a") == {}


def test_a_write_slightly_ahead_of_the_clock_keeps_its_place(start_router):
    """Within what is allowed, it is newer than what is written now, and older than what is
    written when its time has passed."""
    router = start_router({"demo": storage("demo/**", settle="10ms")})
    client = router.client
    ahead = timestamp(1.5)
    client.delete("demo/a", timestamp=ahead)
    router.wait_for_counters("demo", deletes=1)
    client.put("demo/a", "too early", timestamp=timestamp())
    wait_for_one_outdated(router)
    assert client.get("demo/a") == {}
    # Settling, too, waits for its time.
    assert router.status("demo")["tombstones"] == 0
    wait_until(lambda: timestamp() > ahead, "the time has passed")
    router.wait_until_settled("demo", tombstones=1)
    client.put("demo/a", "in time")
    client.wait_for("demo/a", {"demo/a": b"in time"})
