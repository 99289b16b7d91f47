"""Collection: what was deleted leaves the storage for good, and does not come back."""

import json

import pytest

from client import timestamp
from operators import Operator, base
from router import storage
from test_mstctl import mstctl

SETTLED = {"settle": "50ms", "operators": "all", "collect": {"after": "1m"}}


def wait_for_collected(router, collected, keys=0):
    def is_so(status):
        collection = status["collection"]
        return (
            collection["collected_tombstones"] == collected
            and collection["state"] == "idle"
            # As of the last root.
            and (status["tombstones"], status["keys"]) == (0, keys)
        )

    return router.wait_for_status("demo", is_so, f"{collected} tombstones are collected")


@pytest.mark.parametrize("persistence", ["durable", "memory"])
def test_deletes_are_collected_and_nothing_older_is_taken(start_router, persistence):
    router = start_router({"demo": storage("demo/**", persistence=persistence, **SETTLED)})
    client = router.client
    for number in range(50):
        client.put(f"demo/{number}", f"value {number}", timestamp=timestamp(-100))
    for number in range(40):
        client.delete(f"demo/{number}", timestamp=timestamp(-90))
    kept = {f"demo/{number}": f"value {number}".encode() for number in range(40, 50)}
    client.wait_for("demo/*", kept)
    status = wait_for_collected(router, 40, keys=10)
    assert status["cells"] == 10
    assert status["collection"]["floor"] == status["collection"]["horizon"]
    # What a publisher held back.
    client.put("demo/0", "late", timestamp=timestamp(-95))
    client.delete("demo/45", timestamp=timestamp(-95))

    def are_refused(status):
        return status["collection"]["refused_late"] == 2

    status = router.wait_for_status("demo", are_refused, "late writes are refused")
    assert all("`collect.after`" in refused["reason"] for refused in status["refused"])
    router.wait_for_log("WARN", "refused a write of", "`collect.after`", "`refused_late`")
    assert client.get("demo/*") == kept
    # What is not so old is as ever.
    client.delete("demo/49", timestamp=timestamp(-10))
    client.put("demo/0", "new", timestamp=timestamp(-10))
    del kept["demo/49"]
    kept["demo/0"] = b"new"
    client.wait_for("demo/*", kept)
    router.wait_for_status("demo", lambda status: status["tombstones"] == 1, "it has settled")
    if persistence == "memory":
        return
    floor = status["collection"]["floor"]
    router.stop()
    router.start()
    router.client.wait_for("demo/*", kept)
    status = router.wait_for_status("demo", lambda _: True, "there is one")
    assert status["collection"]["floor"] == floor
    router.client.put("demo/1", "late", timestamp=timestamp(-95))
    router.wait_for_status(
        "demo", lambda status: status["collection"]["refused_late"] == 1, "it is refused still"
    )
    assert router.client.get("demo/*") == kept


def test_an_operator_sees_what_is_collected(start_router):
    router = start_router({"demo": storage("demo/**", **SETTLED)}, session="runtime")
    client = router.client
    client.put("demo/a", "a", timestamp=timestamp(-100))
    client.delete("demo/a", timestamp=timestamp(-90))
    wait_for_collected(router, 1)
    with Operator(router.port) as operator:
        own = base(router, "demo")
        state = operator.ask(f"{own}/control/collect")
        assert (state["state"], state["collected_tombstones"]) == ("idle", 1)
        assert operator.ask(f"{own}/control/collect?do=now")["collected_tombstones"] == 1
        refusal = operator.refusal(f"{own}/control/collect?do=later")
        assert "'later'" in refusal and "`now`" in refusal, refusal
    shown = mstctl("collect", router=router, check=0).text
    assert "idle, floor 20" in shown and "1 tombstone and 0 rules" in shown
    [of_storage] = json.loads(mstctl("collect", "--json", router=router, check=0).text)
    assert of_storage["collection"]["collected_tombstones"] == 1
    assert "idle, floor 20" in mstctl("collect", "now", router=router, check=0).text


def test_a_storage_that_does_not_collect_says_so(start_router):
    router = start_router(
        {"demo": storage("demo/**", settle="50ms", operators="all")}, session="runtime"
    )
    client = router.client
    client.put("demo/a", "a", timestamp=timestamp(-100_000))
    client.delete("demo/a", timestamp=timestamp(-90_000))
    router.wait_for_status("demo", lambda status: status["tombstones"] == 1, "it has settled")
    with Operator(router.port) as operator:
        own = base(router, "demo")
        operator.wait_for_answers(f"{own}/control/collect", 1)
        state = operator.ask(f"{own}/control/collect")
        assert (state["state"], state["floor"]) == ("off", None)
        assert "has no `collect`" in operator.refusal(f"{own}/control/collect?do=now")
