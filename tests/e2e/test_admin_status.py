"""What an operator sees in the admin space."""

import re
from datetime import datetime, timedelta, timezone

import pytest

from client import timestamp
from router import storage

CONFIGURATION = storage("demo/**", settle="50ms")

COUNTERS = {
    "puts",
    "deletes",
    "gets",
    "outdated",
    "refused",
    "commits",
    "committed_cells",
}
QUEUES = {"uncommitted", "uncommitted_bytes", "unsettled"}


def cut(status):
    return datetime.strptime(status["cut"][:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)


def test_a_new_storage_is_empty(start_router):
    router = start_router({"demo": CONFIGURATION})
    status = router.status("demo")
    assert status["configuration"] == router.config_of(CONFIGURATION)
    assert re.fullmatch("[0-9a-f]{64}", status["root"]), status
    for field in ["keys", "cells", "tombstones"]:
        assert status[field] == 0, field
    assert QUEUES <= status["queues"].keys()
    assert not any(status["queues"].values()), status
    assert COUNTERS <= status["counters"].keys()
    assert not any(status["counters"].values()), status
    assert status["failure"] is None
    assert status["disk_bytes"] >= 0
    assert abs(cut(status) - datetime.now(timezone.utc)) < timedelta(seconds=60)


def test_the_status_follows_what_is_done(start_router):
    router = start_router({"demo": CONFIGURATION})
    empty = router.status("demo")
    client = router.client
    for n in range(4):
        client.put(f"demo/{n}", "x" * 5000, timestamp=timestamp(-20))
    client.put("demo/0", "old", timestamp=timestamp(-30))
    client.delete("demo/1", timestamp=timestamp(-10))
    client.delete("demo/2", timestamp=timestamp(24 * 3600))
    router.wait_for_counters("demo", puts=5, deletes=1, refused=1)
    client.get("demo/0")
    client.get("demo/1")
    client.get("demo/none")

    status = router.wait_until_settled("demo", cells=4, keys=3, tombstones=1)

    counters = status["counters"]
    assert counters["gets"] == 3
    assert counters["outdated"] == 1
    assert 1 <= counters["commits"] <= counters["committed_cells"]
    assert 4 <= counters["committed_cells"] <= 6, "what is replaced in time is not committed"
    assert status["root"] != empty["root"]
    assert cut(status) >= cut(empty)
    assert status["disk_bytes"] > 15_000
    assert status["failure"] is None


def test_what_is_not_committed_is_counted_with_its_bytes(start_router):
    """Also while it is being written, which takes a moment with large values."""
    router = start_router({"demo": CONFIGURATION})
    payload = bytes(4 << 20)
    for n in range(6):
        router.client.put(f"demo/{n}", payload)

    def is_all_committed(status):
        queues = status["queues"]
        assert queues["uncommitted_bytes"] >= queues["uncommitted"] * len(payload), queues
        return status["counters"]["puts"] == 6 and queues["uncommitted"] == 0

    status = router.wait_for_status("demo", is_all_committed, "all is committed")
    assert status["queues"]["uncommitted_bytes"] == 0
    assert status["counters"]["committed_cells"] == 6


def test_counters_start_anew_and_what_is_stored_does_not(start_router):
    router = start_router({"demo": CONFIGURATION})
    router.client.put("demo/a", "value")
    router.client.put("demo/b", "value")
    router.wait_for_counters("demo", puts=2)
    router.client.delete("demo/b")
    before = router.wait_until_settled("demo", cells=2, keys=1, tombstones=1)
    router.restart()
    after = router.status("demo")
    assert not any(after["counters"].values()), after
    for field in ["root", "cells", "keys", "tombstones"]:
        assert after[field] == before[field], field


def test_the_status_of_a_storage_in_memory_has_the_same_fields(start_router):
    router = start_router(
        {"durable": storage("durable/**"), "memory": storage("memory/**", persistence="memory")}
    )
    assert router.status("memory").keys() == router.status("durable").keys()


@pytest.mark.doors("volume")
def test_the_status_of_the_volume_names_its_folder(start_router):
    router = start_router({"demo": CONFIGURATION})
    status = router.volume_status("mst")
    assert status["root"] == str(router.data)
    assert re.match(r"\d+\.\d+\.\d+", status["version"]), status
    assert isinstance(status["format"], int)
