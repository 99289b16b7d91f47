"""The client's kit in `python/` does what docs/client.md says, with real routers.

Its code is pure client: it knows no doors, so what is of one storage is tested through the plugin,
and what is of several by routers behind different doors.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from decimal import Decimal

import pytest
import zenoh
from automerge.core import ROOT, Document as Automerge, ScalarType

import zenoh_mst
from cluster import chain
from conftest import REPOSITORY
from polling import wait_until
from router import storage
from zenoh_mst import Counter, Document, Object, Set, Stamp, Store
from zenoh_mst.cells import Write, canonical, cells
from zenoh_mst.stamps import Clock
from zenoh_mst.values import number

one_router = pytest.mark.doors("plugin")
several = pytest.mark.doors("mixed")

RULES = {
    "demo/count/**": "additive",
    "demo/tags/**": "set_union",
    "demo/notes/**": "automerge_crdt",
    "demo/machine/**": {
        "strategy": "object",
        "fields": {"hours": "additive", "tags": "set_union"},
    },
}
DEMO = storage(
    "demo/**", settle="50ms", replication={"sync_interval": "1s", "key_overrides": RULES}
)


@pytest.fixture
def open_store():
    """Opens the store of a router's storage, in a session of its own."""
    sessions = []

    def open_store(router, key_expr="demo/**", strip_prefix=None):
        session = zenoh.open(zenoh_mst.client_config(router.endpoint))
        sessions.append(session)
        return Store(session, key_expr, strip_prefix)

    yield open_store
    for session in sessions:
        session.close()


@pytest.fixture
def store(start_router, open_store):
    return open_store(start_router({"demo": DEMO}))


# Writes and reads.


@one_router
def test_a_put_that_returned_is_stored(store):
    write = store.put("demo/a", "one", encoding="text/plain")
    value = store.get("demo/a")
    assert (value.text, value.encoding, value.stamp) == ("one", "text/plain", write.stamp)
    assert store.get("demo/none") is None
    store.put("demo/b", json.dumps({"x": 1}), encoding="application/json")
    assert store.get("demo/b").json == {"x": 1}
    assert list(store.get_all("demo/*")) == ["demo/a", "demo/b"]
    store.delete("demo/a")
    assert store.get("demo/a") is None


@one_router
def test_a_write_that_is_repeated_is_one_write(store):
    stamp = store.stamp()
    first = store.put("demo/a", "one", stamp=stamp)
    assert store.put("demo/a", "one", stamp=stamp) == first
    # What replaced it does not go away, and counts as that it was taken.
    store.put("demo/a", "two")
    assert store.put("demo/a", "one", stamp=stamp) == first
    assert store.get("demo/a").text == "two"
    # A delete of the past deletes nothing that is newer.
    store.delete("demo/a", stamp=stamp)
    assert store.get("demo/a").text == "two"


@one_router
def test_a_write_that_is_refused_is_not_confirmed(start_router, open_store):
    router = start_router({"demo": DEMO})
    store = open_store(router)
    with pytest.raises(zenoh_mst.Unconfirmed, match="demo/count/a") as raised:
        store.put("demo/count/a", "five", timeout=0.5)
    router.wait_for_counters("demo", refused=1)
    assert raised.value.write.key == "demo/count/a"
    # Outside of the storage's keys nobody takes it.
    with pytest.raises(zenoh_mst.Unconfirmed):
        store.put("other/a", "1", timeout=0.5)
    with pytest.raises(ValueError, match="wildcard"):
        store.put("demo/*", "1")


@one_router
def test_a_get_waits_for_a_value(start_router, open_store):
    router = start_router({"demo": DEMO})
    store = open_store(router)
    with pytest.raises(zenoh_mst.NoAnswer, match="demo/a"):
        store.get("demo/a", until=lambda value: value is not None, timeout=0.2)
    asked = []

    def until(value):
        if not asked:
            router.client.put("demo/a", "1")
        asked.append(value)
        return value is not None

    assert store.get("demo/a", until=until).text == "1"
    assert asked[0] is None
    stamp = store.stamp()
    with pytest.raises(zenoh_mst.NoAnswer):
        store.get("demo/a", until=stamp, timeout=0.2)
    store.put("demo/a", "2", stamp=stamp)
    assert store.get("demo/a", until=stamp).text == "2"


@one_router
def test_a_write_that_was_deleted_with_others_is_told_from_one_that_nobody_answers(
    start_router, open_store
):
    """No storage can say any more whether it was taken: so a retry of it need not wait, and the
    error says what may have been."""
    fading = {**DEMO, "volume": {**DEMO["volume"], "lifetimes": {"demo/short/*": "1s"}}}
    router = start_router({"demo": fading})
    store = open_store(router)
    # Nothing of it can have gone: it cannot have been taken.
    with pytest.raises(zenoh_mst.NotShown) as raised:
        store.put("demo/count/a", "five", timeout=2)
    assert "refused it" in str(raised.value) and "five" in str(raised.value)
    written = [store.put(key, "1") for key in ("demo/w/1", "demo/short/1")]
    store.session.delete("demo/w/*", timestamp=store.stamp().for_zenoh())
    for write in written:
        wait_until(lambda: not store.cells(write.key), f"{write.key} is gone")
        for again in (
            lambda: store.put(write.key, "1", stamp=write.stamp, timeout=60),
            lambda: store.delete(write.key, stamp=write.stamp, timeout=60),
            lambda: store.confirm(write, timeout=60),
        ):
            with pytest.raises(zenoh_mst.NotShown) as raised:
                again()
            assert raised.value.write.stamp == write.stamp
            assert "wildcard" in str(raised.value) and "lifetime" in str(raised.value)
            assert "within 60 s" not in str(raised.value)
        assert store.get(write.key) is None
    router.kill()
    with pytest.raises(zenoh_mst.Unconfirmed) as raised:
        store.confirm(written[0], timeout=0.5)
    assert "within 0.5 s" in str(raised.value)


@contextmanager
def stopped(router):
    """A router that is linked with and does not answer, as one does on a machine that hangs."""
    os.kill(router.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(router.pid, signal.SIGCONT)


@several
def test_a_router_that_does_not_answer_keeps_no_write_from_being_confirmed(
    start_router, open_store
):
    first = start_router({"demo": DEMO}, session="runtime")
    second = start_router({"demo": DEMO}, session="runtime", connect=[first.endpoint])
    store = open_store(first)
    wait_until(lambda: len(store.statuses()) == 2, "both answer")
    for key in ("demo/count/b", "demo/b"):
        store.replicated(store.put(key, "1"), replicas=2)
    with stopped(second):
        write = store.put("demo/a", "1", timeout=5)
        assert store.put("demo/a", "1", stamp=write.stamp, timeout=5) == write
        stamp = store.stamp()
        assert store.put("demo/b", "2", stamp=stamp, timeout=5).stamp == stamp
        assert store.delete("demo/c", stamp=store.stamp(), timeout=5)
        counter = Counter(store, "demo/count/b")
        added = counter.add(1, stamp=store.stamp(), timeout=5)
        assert counter.add(1, stamp=added.stamp, timeout=5) == added
        assert len(store.replicated(added, replicas=1, timeout=5)) == 1
        # What is refused is not shown, and not all have answered.
        with pytest.raises(zenoh_mst.Unconfirmed) as raised:
            store.put("demo/count/b", "five", stamp=store.stamp(), timeout=1)
        assert raised.value.write.key == "demo/count/b"
    wait_until(lambda: len(store.statuses()) == 2, "both answer")
    assert store.get("demo/b").text == "2"
    assert store.get("demo/count/b").text == "2"


@one_router
def test_what_answers_with_an_error_keeps_no_write_from_being_sent(store):
    failing = store.session.declare_queryable(
        "demo/a", lambda query: query.reply_err("it is out of order")
    )
    try:
        write = store.put("demo/a", "1", stamp=store.stamp())
        assert store.put("demo/a", "1", stamp=write.stamp) == write
        with pytest.raises(zenoh_mst.Unconfirmed, match="it is out of order") as raised:
            store.confirm(Write("demo/a", store.stamp()), timeout=0.5)
        assert raised.value.write.key == "demo/a"
    finally:
        failing.undeclare()


# Merged values.


@one_router
def test_a_counter_counts_each_addition_once(store):
    counter = Counter(store, "demo/count/a")
    assert counter.value() == 0
    stamp = Stamp.parse(str(store.stamp()))
    for _ in range(3):
        counter.add(5, stamp=stamp)
    assert counter.value() == 5
    counter.add("0.1")
    counter.add(Decimal("0.2"))
    # It is found, too, behind what others added.
    counter.add(5, stamp=stamp)
    counter.add(-1)
    assert counter.value() == Decimal("4.3")
    # A delete covers it: it was taken, and is not put again.
    counter.delete()
    counter.add(5, stamp=stamp)
    assert counter.value() == 0


@one_router
def test_a_set_has_what_was_added_and_not_removed(store):
    tags = Set(store, "demo/tags/a")
    assert tags.value() == []
    elements = [None, False, True, -1, 0.5, 2**63, "red", "ü\0\n", [1, [2]], {"b": 1, "a": [None]}]
    stamp = store.stamp()
    tags.add(*elements, stamp=stamp)
    assert tags.value() == elements
    tags.remove("red", None)
    tags.add(*elements, stamp=stamp)
    assert tags.value() == [e for e in elements if e not in ("red", None)]
    tags.change(add=["new"], remove=elements)
    assert tags.value() == ["new"]
    Set(store, "demo/tags/empty").add()
    Set(store, "demo/tags/empty").add()
    assert store.get("demo/tags/empty").json == []
    with pytest.raises(ValueError, match="added and removed"):
        tags.change(add=[1], remove=[1.0])


@one_router
@pytest.mark.parametrize("strip_prefix", [None, "demo"])
def test_what_is_within_the_limits_is_taken_and_nothing_beyond_is_sent(
    start_router, open_store, strip_prefix
):
    router = start_router({"demo": {**DEMO, **({"strip_prefix": "demo"} if strip_prefix else {})}})
    store = open_store(router, strip_prefix=strip_prefix)
    tags, machine = Set(store, "demo/tags/a"), Object(store, "demo/machine/a")
    # Of 60,000 bytes four are no text: what a key begins and ends with, and the tag of a part. An
    # element has a byte more, that of its kind, and a field two, with which its name ends.
    stored = len("tags/a") if strip_prefix else len("demo/tags/a")
    longest = 60_000 - stored - 5
    of_object = len("machine/a") if strip_prefix else len("demo/machine/a")
    name = 60_000 - of_object - 6
    numbers = [2**64 - 1, -(2**63), 2.0**53 - 1, 1.7e-308, 1.5e-7]
    tags.add(*numbers)
    tags.add("x" * longest)
    tags.add(["x" * (longest - 4), ])
    machine.put({"x" * name: 1})
    assert len(tags.value()) == len(numbers) + 2
    for wrong in (
        2**64,
        -(2**63) - 1,
        1e21,
        1.7976931348623157e308,
        2.0**53,
        float("inf"),
        [{"a": 2**64}],
        "x" * (longest + 1),
        ["x" * (longest - 3)],
        "ä" * 30_000,
        "\ud800",
    ):
        with pytest.raises(ValueError):
            tags.add(wrong)
        with pytest.raises(ValueError):
            tags.remove(wrong)
    with pytest.raises(ValueError, match="60,000"):
        machine.put({"x" * (name + 1): 1})
    with pytest.raises(ValueError, match="65,536"):
        tags.add(*range(65_537))
    with pytest.raises(ValueError, match="60,000"):
        store.put("demo/" + "x" * 60_000, "1")
    with pytest.raises(ValueError, match="60,000"):
        store.delete("demo/" + "x" * 60_000)
    with pytest.raises(ValueError, match="4,096"):
        store.put("demo" + "/x" * 5_000, "1")
    # All that was sent was taken.
    assert router.status("demo")["counters"]["refused"] == 0


@one_router
def test_an_object_is_merged_by_fields(store):
    machine = Object(store, "demo/machine/a")
    assert machine.value() is None
    stamp = store.stamp()
    for _ in range(2):
        machine.put({"driver": "Ana", "hours": 1.5, "tags": ["new"]}, stamp=stamp)
    machine.put({"hours": 2, "site": {"lat": 48.1}})
    machine.remove("driver")
    machine.put({"driver": "Ana", "hours": 1.5, "tags": ["new"]}, stamp=stamp)
    assert machine.value() == {"hours": 3.5, "site": {"lat": 48.1}, "tags": ["new"]}


@one_router
def test_a_document_is_edited_by_several(store):
    notes = Document(store, "demo/notes/a")
    assert notes.json() is None
    with notes.edit() as document, document.transaction() as change:
        change.put(ROOT, "title", ScalarType.Str, "Route 7")
    other = notes.load()
    with notes.edit() as document, document.transaction() as change:
        change.put(ROOT, "state", ScalarType.Str, "open")
    known = other.get_heads()
    with other.transaction() as change:
        change.put(ROOT, "driver", ScalarType.Str, "Ana")
    stamp = store.stamp()
    for _ in range(2):
        write = notes.put(other, known, stamp=stamp)
    assert notes.json() == {"title": "Route 7", "state": "open", "driver": "Ana"}
    assert len(write.elements) == 1
    assert notes.put(other, other.get_heads()) is None
    assert isinstance(notes.load(), Automerge)


@one_router
def test_another_value_is_not_taken_for_a_merged_one(store):
    store.put("demo/a", "{}", encoding="application/json")
    with pytest.raises(ValueError, match="no set"):
        Set(store, "demo/a").value()
    store.put("demo/a", "[]", encoding="application/json")
    with pytest.raises(ValueError, match="no object"):
        Object(store, "demo/a").value()


# Several replicas.


@several
def test_a_write_is_waited_for_at_all_replicas(start_cluster, open_store):
    cluster = start_cluster(chain(2), {"demo": DEMO})
    first, second = (open_store(router) for router in cluster.routers)
    cluster.wait_until_linked()
    identities = {status["identity"] for status in cluster.statuses("demo")}
    wait_until(lambda: len(first.statuses()) == 2, "both answer")
    assert first.nearest() == cluster.statuses("demo")[0]["identity"]
    assert second.nearest() == cluster.statuses("demo")[1]["identity"]

    writes = [
        first.put("demo/a", "1"),
        Counter(first, "demo/count/a").add(1),
        Set(second, "demo/tags/a").add("x", "y"),
        Object(second, "demo/machine/a").put({"driver": "Ana", "hours": 1}),
        first.delete("demo/b"),
    ]
    for write in writes:
        assert first.replicated(write, replicas=2) == identities
    with pytest.raises(zenoh_mst.NoAnswer, match="of 3 replicas"):
        first.replicated(writes[0], replicas=3, timeout=0.2)

    cluster.cut()
    alone = Counter(first, "demo/count/a").add(1)
    assert len(first.replicated(alone, replicas=1)) == 1
    with pytest.raises(zenoh_mst.NoAnswer):
        first.replicated(alone, replicas=2, timeout=0.2)
    cluster.heal()
    assert first.replicated(alone, replicas=2, timeout=30) == identities
    root = first.root(replicas=2, timeout=30)
    assert {status["root"] for status in cluster.statuses("demo")} == {root}


@several
def test_a_repair_is_watched_as_what_is_put_is(start_cluster, open_store):
    cluster = start_cluster(chain(2), {"demo": DEMO})
    first, second = (open_store(router) for router in cluster.routers)
    cluster.wait_until_linked()
    with second.watch() as watch:
        cluster.routers[1].wait_for_status(
            "demo", lambda status: status["changes"]["heard"], "it is heard"
        )
        cluster.cut()
        repaired = first.put("demo/repaired", "1", encoding="text/plain")
        deleted = first.delete("demo/deleted")
        own = second.put("demo/own", "2")
        change = watch.next(timeout=30)
        assert (change.key, change.by, change.stamp) == ("demo/own", "publication", own.stamp)
        assert (change.payload, change.outdated) == (b"2", False)
        cluster.heal()
        origin = cluster.statuses("demo")[0]["identity"]
        told = {change.key: change for change in (watch.next(timeout=30), watch.next(timeout=30))}
        assert told["demo/repaired"] == zenoh_mst.Change(
            "demo/repaired", b"1", "text/plain", repaired.stamp, "repair", origin, False
        )
        assert told["demo/deleted"].payload is None
        assert told["demo/deleted"].stamp == deleted.stamp
        # A publication that comes after something newer.
        late = Stamp.at(repaired.stamp.nanos - 10**9, repaired.stamp.id)
        second.session.put("demo/repaired", "0", timestamp=late.for_zenoh())
        change = next(iter(watch))
        assert (change.key, change.outdated) == ("demo/repaired", True)
    assert list(watch) == [] and watch.dropped == 0


# Snapshots.


@one_router
def test_a_snapshot_is_of_one_moment(store, monkeypatch):
    written = {f"demo/a/{n}": store.put(f"demo/a/{n}", str(n)) for n in range(3)}
    snapshot = store.snapshot("demo/a/*")
    assert list(snapshot) == sorted(written)
    assert [value.stamp for value in snapshot.values()] == [w.stamp for w in written.values()]
    store.put("demo/b", "b")
    assert list(store.snapshot(["demo/b", "demo/a/1", "demo/none"])) == ["demo/a/1", "demo/b"]

    # What changes during the first reads: the last two are the same.
    reads = []
    read = Store.get_all

    def changing(self, selector, *, timeout):
        found = read(self, selector, timeout=timeout)
        reads.append(found)
        if len(reads) <= 2:
            store.put("demo/a/1", f"changed {len(reads)}")
        return found

    monkeypatch.setattr(Store, "get_all", changing)
    assert store.snapshot("demo/a/*")["demo/a/1"].text == "changed 2"
    assert len(reads) == 4

    def never_still(self, selector, *, timeout):
        store.put("demo/a/1", str(len(reads)))
        return changing(self, selector, timeout=timeout)

    monkeypatch.setattr(Store, "get_all", never_still)
    with pytest.raises(zenoh_mst.NoAnswer, match="changed in each read"):
        store.snapshot("demo/a/*", timeout=0.3)


# Proofs.


@one_router
@pytest.mark.parametrize("strip_prefix", [None, "demo"])
def test_what_is_proven_is_what_was_put(start_router, open_store, strip_prefix):
    router = start_router({"demo": {**DEMO, **({"strip_prefix": "demo"} if strip_prefix else {})}})
    store = open_store(router, strip_prefix=strip_prefix)
    store.put("demo/a", "one", encoding="text/plain")
    store.put("demo/empty", b"")
    store.delete("demo/deleted")
    counter = Counter(store, "demo/count/a")
    for amount in ("1", "0.1", "-2"):
        counter.add(amount)
    Set(store, "demo/tags/a").add("x")
    store.settled(Set(store, "demo/tags/a").add("y"))
    assert router.status("demo")["cells"] == 9
    root = store.root()

    proven = store.verified("demo/a", root)
    assert (proven.root, proven.payload, proven.cells[0].encoding) == (root, b"one", 4)
    assert store.verified("demo/empty", root).payload == b""
    deleted = store.verified("demo/deleted", root)
    assert deleted.payload is None and deleted.cells[0].payload is None
    assert store.verified("demo/none", root).cells == ()
    assert store.verified("demo/count/a", root).sum == Decimal("-0.9")
    with pytest.raises(ValueError, match="merged"):
        store.verified("demo/count/a", root).payload
    with pytest.raises(ValueError, match="no counter"):
        store.verified("demo/tags/a", root).sum
    with pytest.raises(zenoh_mst.Refused, match="no proof of demo/a"):
        store.verified("demo/a", "00" * 32)


@one_router
def test_what_does_not_hold_is_not_verified(start_router, open_store):
    router = start_router({"demo": DEMO})
    store = open_store(router)
    store.settled(store.put("demo/a", "one"))
    root = store.root()
    [(replica, shown)] = store._cells_of_replicas("demo/a", "*", 10)
    [reply] = store._replies(f"{store.group}/{replica}/proof", 10, payload="demo/a")
    proof = bytes(reply.ok.payload)
    verify = zenoh_mst.verified.verify
    assert verify("demo/a", "demo/a", root.upper(), proof, shown).payload == b"one"
    [cell] = shown
    other = zenoh_mst.Cell(**{**vars(cell), "payload": b"two"})
    for key, against, bytes_, cells_, why in [
        ("demo/a", "00" * 32, proof, shown, "against the root"),
        ("demo/b", root, proof, shown, "another key"),
        ("demo/a", root, proof[:-1], shown, "too early"),
        ("demo/a", root, proof, [other], "is not shown"),
        ("demo/a", root, proof, [], "is not shown"),
    ]:
        with pytest.raises(ValueError, match=why):
            verify(key, key, against, bytes_, cells_)


@one_router
def test_a_storage_that_does_not_answer_is_no_empty_one(store):
    """A get that ends with the time is no answer that there is nothing."""
    queryable = store.session.declare_queryable("demo/slow", lambda query: held.append(query))
    held = []
    try:
        with pytest.raises(zenoh_mst.NoAnswer, match="demo/slow"):
            store.get("demo/slow", timeout=0.3)
        with pytest.raises(zenoh_mst.NoAnswer):
            store.get("demo/slow", until=lambda value: True, timeout=0.3)
        assert len(held) == 2
    finally:
        held.clear()
        queryable.undeclare()


# Without a router.


def test_stamps_are_ordered_and_kept_as_text():
    id = bytes([1, 2]).ljust(16, b"\0")
    stamps = [Stamp.at(1_700_000_000_123_456_789 + n, id) for n in range(1000)]
    assert stamps == sorted(stamps) and len(set(stamps)) == 1000
    for stamp in stamps:
        assert Stamp.parse(str(stamp)) == stamp == Stamp.of(stamp.for_zenoh())
    # IDs are compared by their bytes, not by the number that is written.
    assert Stamp.parse("7/201") < Stamp.parse("7/102") < Stamp.parse("8/1")
    for wrong in ("", "7", "7/", "x/1", "7/0", "7/-1", "-1/1", f"7/{'f' * 33}", f"{1 << 64}/1"):
        with pytest.raises(ValueError, match="TIME/ID"):
            Stamp.parse(wrong)
    with pytest.raises(ValueError, match="not the stamp"):
        Stamp(stamps[0].time + 1, id).for_zenoh()


def test_a_clock_never_gives_a_stamp_twice():
    now = [10**18]
    clock = Clock(b"\x01", lambda: now[0])
    first, second = clock.stamp(), clock.stamp()
    now[0] -= 10**9
    assert first < second < clock.stamp()
    ahead = Stamp.at(now[0] + 400_000_000, b"\x02".ljust(16, b"\0"))
    clock = Clock(b"\x01", lambda: now[0])
    clock.has_read(ahead)
    assert clock.stamp() > ahead
    # A router would not keep a stamp that is after this one.
    far = Stamp.at(now[0] + 2_000_000_000, b"\x02".ljust(16, b"\0"))
    clock.has_read(far)
    assert clock.stamp() < far


@pytest.mark.parametrize(
    "amount, text",
    [
        (5, "5"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        ("1e17", "100000000000000000"),
        ("0.50", "0.50"),
        (Decimal("1E-18"), "0.000000000000000001"),
        ("-0", "0"),
        ("0e99", "0"),
        ("9" * 18 + "." + "9" * 18, "9" * 18 + "." + "9" * 18),
    ],
)
def test_a_number_that_a_counter_takes(amount, text):
    assert number(amount) == text


@pytest.mark.parametrize(
    "amount", ["five", "", "1e18", "1e-19", float("nan"), float("inf"), True, None, "1" * 19]
)
def test_a_number_that_a_counter_would_refuse(amount):
    with pytest.raises(ValueError, match="allowed is a number"):
        number(amount)


def test_equal_elements_are_one():
    assert canonical(1) == canonical(1.0) != canonical(True)
    assert canonical({"a": 1, "b": [2]}) == canonical({"b": [2.0], "a": 1})
    assert canonical("1") != canonical(1)
    deep = []
    for _ in range(64):
        deep = [deep]
    with pytest.raises(ValueError, match="64"):
        canonical(deep)
    with pytest.raises(TypeError):
        canonical({1: 2})
    with pytest.raises(TypeError):
        canonical(b"bytes")


def shown(*described):
    """Cells at times 1, 2, ... as a storage shows them."""
    return cells(json.dumps([{**cell, "timestamp": f"{cell['at']}/1"} for cell in described]))


@pytest.mark.parametrize(
    "fields, there, is_taken, is_in",
    [
        # A write of time 5, of one key.
        ({}, [], False, False),
        ({}, [{"at": 5, "strategy": "lww", "value": "x"}], True, True),
        ({}, [{"at": 6, "strategy": "lww", "deleted": True}], True, True),
        ({}, [{"at": 4, "strategy": "lww", "value": "x"}], False, False),
        ({}, [{"at": 6, "strategy": "additive", "value": "1"}], False, False),
        ({}, [{"at": 5, "strategy": "additive", "value": "1"}], True, True),
        # Of two elements.
        ({"elements": ["1", '"a"']}, [{"at": 5, "strategy": "set_union", "part": 1}], True, False),
        (
            {"elements": ["1", '"a"']},
            [
                {"at": 5, "strategy": "set_union", "part": 1.0},
                {"at": 9, "strategy": "set_union", "part": "a", "deleted": True},
            ],
            True,
            True,
        ),
        ({"elements": ["1"]}, [{"at": 6, "strategy": "set_union", "part": True}], False, False),
        ({"elements": ["null"]}, [{"at": 6, "strategy": "set_union", "part": None}], True, True),
        ({"elements": ["null"]}, [{"at": 6, "strategy": "set_union"}], False, False),
        # Of fields: one whose last writer wins, and one with a strategy.
        ({"fields": ["f"]}, [{"at": 6, "strategy": "object", "part": {"field": "f"}}], True, True),
        (
            {"fields": ["f"]},
            [{"at": 6, "strategy": "object", "part": {"field": "f", "strategy": "additive"}}],
            False,
            False,
        ),
        (
            {"fields": ["f", "g"]},
            [{"at": 5, "strategy": "object", "part": {"field": "f", "strategy": "additive"}}],
            True,
            False,
        ),
    ],
)
def test_a_write_is_found_among_cells(fields, there, is_taken, is_in):
    sets = {name: frozenset(value) for name, value in fields.items()}
    write = Write("demo/a", Stamp.parse("5/1"), **sets)
    found = shown(*there)
    assert (write.was_taken(found), write.is_in(found)) == (is_taken, is_in)


def test_whatever_a_change_may_be_by_is_documented():
    source = (REPOSITORY / "src/net/changes/queue.rs").read_text()
    names = re.findall(r'Self::\w+ => "(\w+)"', source)
    assert len(names) >= 4
    for file in ("docs/client.md", "python/src/zenoh_mst/changes.py"):
        text = (REPOSITORY / file).read_text()
        assert all(f"`{name}`" in text for name in ["publication", *names]), file


# The package.


def test_its_types_hold(tmp_path):
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path],
        cwd=REPOSITORY / "python",
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_its_metadata_are_those_of_the_project():
    project = tomllib.loads((REPOSITORY / "python/pyproject.toml").read_text())["project"]
    cargo = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["package"]
    assert (project["version"], project["license"]) == (cargo["version"], cargo["license"])
    tested = (REPOSITORY / "tests/e2e/requirements.txt").read_text().splitlines()
    needed = [*project["dependencies"], *project["optional-dependencies"]["documents"]]
    assert set(needed) <= set(tested)
    assert all(hasattr(zenoh_mst, name) for name in zenoh_mst.__all__)
