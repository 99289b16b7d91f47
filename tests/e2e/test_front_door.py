"""Storages that the plugin serves itself, without Zenoh's storage manager; and with it, beside
storages of the volume."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import zenoh

from client import timestamp
from polling import PATIENCE, wait_until
from router import storage
from test_mstctl import mstctl, wait_for_replicas

pytestmark = pytest.mark.doors("plugin")

DEMO = storage("demo/**")


def test_puts_gets_and_deletes(start_router):
    router = start_router({"demo": DEMO})
    client = router.client
    assert client.get("demo/**") == {}
    client.put("demo/a", b"1", encoding=zenoh.Encoding.APPLICATION_JSON)
    client.put("demo/b/c", b"2", timestamp=timestamp(-5))
    client.put("demo", b"3")
    client.wait_for("demo/**", {"demo/a": b"1", "demo/b/c": b"2", "demo": b"3"})
    assert client.sample("demo/a").encoding == zenoh.Encoding.APPLICATION_JSON
    assert client.get("demo/*") == {"demo/a": b"1"}
    assert client.get("demo/b/**") == {"demo/b/c": b"2"}
    assert client.get("demo/a$*") == {"demo/a": b"1"}
    assert client.get("**/c") == {"demo/b/c": b"2"}
    assert client.get("demo/none") == {}
    # An older one changes nothing.
    client.put("demo/b/c", b"old", timestamp=timestamp(-9))
    client.delete("demo/a")
    client.wait_for("demo/**", {"demo/b/c": b"2", "demo": b"3"})
    status = router.wait_until_settled("demo", keys=2, tombstones=1)
    assert status["configuration"]["key_expr"] == "demo/**"
    assert status["counters"]["outdated"] == 1


def test_a_prefix_is_stripped(start_router):
    router = start_router({"demo": storage("a/b/**", strip_prefix="a/b")})
    values = {"a/b": b"1", "a/b/c": b"2", "a/b/c/d": b"3"}
    for key, value in values.items():
        router.client.put(key, value)
    router.client.wait_for("a/b/**", values)
    assert router.client.get("**") == values
    assert router.client.get("a/*/c/**") == {"a/b/c": b"2", "a/b/c/d": b"3"}
    assert router.client.get("a/b") == {"a/b": b"1"}


def test_data_is_there_after_a_restart(start_router):
    router = start_router({"demo": storage("demo/**", durability="always")})
    values = {f"demo/{n}": str(n).encode() * 2000 for n in range(300)}
    for key, value in values.items():
        router.client.put(key, value)
    router.client.wait_for("demo/**", values)
    before = router.wait_until_settled("demo", keys=300)
    router.kill()
    router.start()
    assert router.status("demo")["root"] == before["root"]
    assert router.client.get("demo/**") == values
    assert router.client.get("demo/7") == {"demo/7": values["demo/7"]}


def test_updates_with_wildcards_hit_the_keys_that_are_known(start_router):
    router = start_router({"demo": DEMO})
    client = router.client
    before = {f"demo/{group}/{n}": b"1" for group in "ab" for n in range(50)}
    for key, value in before.items():
        client.put(key, value)
    client.wait_for("demo/**", before)
    client.put("demo/a/*", b"2")
    after = {key: b"2" if key.startswith("demo/a/") else value for key, value in before.items()}
    client.wait_for("demo/**", after)
    client.delete("demo/b/**")
    # It comes after the delete, and is not hit by it, whoever does it when.
    client.put("demo/b/0", b"3")
    after = {key: b"2" for key in after if key.startswith("demo/a/")}
    client.wait_for("demo/**", {**after, "demo/b/0": b"3"})
    client.delete("demo/a/**", timestamp=timestamp())
    client.wait_for("demo/**", {"demo/b/0": b"3"})


@pytest.mark.parametrize("doors", [("plugin", "plugin"), ("volume", "plugin")])
def test_replicas_behind_any_door_are_replicas_of_each_other(start_router, doors):
    storages = {"demo": storage("demo/**", replication={"sync_interval": "1s"})}
    first = start_router(storages, door=doors[0], session="runtime", own_gets="demo/**")
    values = {f"demo/{n}": str(n).encode() for n in range(200)}
    for key, value in values.items():
        first.client.put(key, value)
    first.client.wait_for("demo/**", values)
    first.client.delete("demo/0")
    del values["demo/0"]
    first.wait_until_settled("demo", keys=199)
    second = start_router(
        storages,
        door=doors[1],
        session="runtime",
        own_gets="demo/**",
        connect=[first.endpoint],
    )
    second.client.wait_for("demo/**", values)
    second.client.put("demo/new", b"x")
    values["demo/new"] = b"x"
    for router in (first, second):
        router.client.wait_for("demo/**", values)
    roots = lambda: {router.status("demo")["root"] for router in (first, second)}
    wait_until(lambda: len(roots()) == 1, "they have one root")
    assert second.status("demo")["replication"]["session"] == "given"


def test_a_folder_of_one_door_opens_at_the_other(start_router, tmp_path):
    """The options move, as docs/operators.md says, and the folder stays: all of it is there."""
    data = tmp_path / "data"
    values, before = {}, None
    options = {"settle": "50ms", "replication": {"key_overrides": {"demo/count": "additive"}}}
    for number, door in enumerate(["volume", "plugin", "volume", "plugin"]):
        router = start_router(
            {"demo": storage("demo/**", strip_prefix="demo", **options)},
            door=door,
            session="runtime",
            data=data,
        )
        assert router.client.get("demo/**") == values
        if before is not None:
            now = router.status("demo")
            same = ("root", "identity", "keys", "cells", "tombstones")
            assert [now[field] for field in same] == [before[field] for field in same]
        values[f"demo/{number}"] = door.encode()
        values["demo/count"] = str(number + 1).encode()
        router.client.put(f"demo/{number}", door)
        router.client.put("demo/gone", door)
        router.client.put("demo/count", "1")
        router.client.wait_for("demo/**", {**values, "demo/gone": door.encode()})
        router.client.delete("demo/gone")
        router.client.wait_for("demo/**", values)
        before = router.wait_until_settled("demo", keys=len(values), tombstones=1)
        wait_for_replicas(router, 1)
        made = ["snapshot", "create", f"by-{number}"]
        mstctl(*made, router=router, check=0)
        listed = mstctl("--json", "snapshot", "list", router=router, check=0).json()
        names = [snapshot["name"] for snapshot in listed[0]["snapshots"]]
        assert sorted(names) == [f"by-{n}" for n in range(number + 1)]
        router.stop()


def test_what_one_door_has_is_refused_at_the_other(start_router):
    """Whichever comes second: the plugin and the storage manager start in no order."""
    router = start_router(
        {"by_folder": storage("a/**", dir="one"), "by_group": storage("b/**", dir="two")},
        served={"served_folder": storage("c/**", dir="one"), "served_group": storage("b/**", dir="three")},
        door="volume",
        session="runtime",
        expected=[],
    )
    folder = router.wait_for_log("ERROR", "folder", "/one is in use")
    group = router.wait_for_log("ERROR", "group", "has a storage on b/** in this process already")
    assert "'by_folder'" in folder or "'served_folder'" in folder
    assert "'by_group'" in group or "'served_group'" in group
    assert [router.status("by_folder"), router.status("served_folder")].count(None) == 1
    assert [router.status("by_group"), router.status("served_group")].count(None) == 1


def test_both_doors_in_one_router(start_router):
    router = start_router(
        {"demo": DEMO}, served={"other": storage("other/**")}, door="volume", session="runtime"
    )
    router.client.put("demo/a", b"1")
    router.client.put("other/a", b"2")
    router.client.wait_for("demo/**", {"demo/a": b"1"})
    router.client.wait_for("other/**", {"other/a": b"2"})
    for name in ("demo", "other"):
        router.wait_until_settled(name, keys=1)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"settel": "1s"}, ["`settel`", "`settle`", "`reply_timeout`"]),
        ({"strip_prefix": "x"}, ["`strip_prefix`", "demo/**"]),
        ({"reply_timeout": "1ms"}, ["`reply_timeout`", "100ms"]),
        ({"dir": "../up"}, ["`dir`", "relative"]),
    ],
)
def test_a_wrong_storage_is_named_and_the_others_serve(start_router, wrong, said):
    bad = storage("demo/**")
    for option, value in wrong.items():
        (bad if option == "strip_prefix" else bad["volume"])[option] = value
    router = start_router({"bad": bad, "good": storage("good/**")}, expected=["good"])
    router.wait_for_log("ERROR", "plugin 'mst': storage 'bad'", *said)
    assert router.status("bad") is None
    router.client.put("good/a", b"1")
    router.client.wait_for("good/**", {"good/a": b"1"})


def test_storages_are_added_changed_and_removed_at_run_time(start_router):
    router = start_router({"demo": DEMO}, config_is_writable=True)
    router.client.put("demo/a", b"1")
    added = storage("added/**", settle="10ms")
    router.add_storage("added", added)
    router.client.put("added/a", b"2")
    before = router.wait_until_settled("added", keys=1)
    router.add_storage("added", storage("added/**", settle="20ms"))
    assert router.status("added")["root"] == before["root"]
    assert router.client.get("added/**") == {"added/a": b"2"}
    router.remove_storage("added")
    wait_until(lambda: router.status("added") is None, "it is gone")
    assert router.client.get("added/**") == {}
    assert not router.has_open(router.data / "added")
    router.configure("storages/bad", {"key_expr": "bad/**", "settel": "1s"})
    router.wait_for_log("ERROR", "'bad'", "`settel`", "`settle`")
    assert router.status("bad") is None
    router.add_storage("added", added)
    assert router.client.get("added/**") == {"added/a": b"2"}
    # A change that cannot be: its folder is another's. All is as it was.
    router.configure("storages/added", {"key_expr": "added/**", "dir": "demo"})
    router.wait_for_log("ERROR", "'added'", "/demo is in use")
    assert router.client.get("added/**") == {"added/a": b"2"}
    assert router.client.get("demo/**") == {"demo/a": b"1"}


def test_the_first_storage_is_added_at_run_time(start_router):
    router = start_router({}, config_is_writable=True)
    router.add_storage("added", storage("added/**"))
    router.client.put("added/a", b"1")
    router.client.wait_for("added/**", {"added/a": b"1"})


def test_parameters_of_a_get(start_router):
    router = start_router({"demo": DEMO})
    client = router.client
    client.put("demo/old", b"1", timestamp=timestamp(-100))
    client.put("demo/new", b"2", timestamp=timestamp(-1))
    client.wait_for("demo/**", {"demo/old": b"1", "demo/new": b"2"})
    assert client.get("demo/**?_time=[now(-10s)..]") == {"demo/new": b"2"}
    assert client.get("demo/**?_time=[..now(-10s)]") == {"demo/old": b"1"}
    assert client.get("demo/old?_time=[now(-10s)..]") == {}
    assert client.get("demo/old?mine=1;_raw=true") == {"demo/old": b"1"}
    cells = json.loads(client.get("demo/old?raw")["demo/old"])
    assert len(cells) == 1
    with pytest.raises(AssertionError, match="`_nothing` is not known"):
        client.get("demo/**?_nothing=1")
    with pytest.raises(AssertionError, match="`_time`"):
        client.get("demo/old?_time=yesterday")
    response = router.request("GET", "demo/old?_raw=true")
    assert (response.status, response.body) == (200, b"1")


def test_attachments_come_back(start_router):
    """From memory, from the disk after a restart, and from a replica."""
    storages = {"demo": storage("demo/**", settle="50ms", replication={})}
    first = start_router(storages, own_gets="demo/**")
    attached = {f"demo/{n}": f"seq={n}".encode() for n in range(20)}
    for key, attachment in attached.items():
        first.client.put(key, bytes(int(key[5:]) * 300), attachment=attachment)
    first.client.put("demo/empty", b"x", attachment=b"")
    first.client.put("demo/plain", b"x")

    def attachments(router):
        samples = router.client.samples("demo/**").items()
        found = {key: sample.attachment for key, sample in samples}
        return {key: None if one is None else bytes(one) for key, one in found.items()}

    expected = {**attached, "demo/empty": b"", "demo/plain": None}
    wait_until(lambda: attachments(first) == expected, lambda: f"they are there: {attachments(first)}")
    sample = first.client.sample("demo/7")
    assert bytes(sample.attachment) == b"seq=7"
    first.wait_until_settled("demo", keys=22)
    first.restart()
    assert attachments(first) == expected
    second = start_router(storages, own_gets="demo/**", connect=[first.endpoint])
    wait_until(lambda: attachments(second) == expected, "the other replica has them, too")
    (cell,) = json.loads(second.client.get("demo/7?raw")["demo/7"])
    assert cell["attachment"] == "seq=7"


def test_merged_keys_are_folded(start_router):
    merged = storage("demo/**", replication={"default_strategy": "additive", "enabled": False})
    router = start_router({"demo": merged})
    for number in range(1, 5):
        router.client.put("demo/count", str(number))
    router.client.wait_for("demo/*", {"demo/count": b"10"})
    router.client.put("demo/count", b"five")
    router.wait_for_log("ERROR", "`PUT`", "demo/count", "`additive` cannot take it")
    router.client.delete("demo/*")
    router.client.wait_for("demo/**", {})


#: A client that asks for much, and stops with the first answer.
STALLED = """
import os, signal, sys, zenoh
config = zenoh.Config.from_json5('{mode: "client", connect: {endpoints: ["%s"]}}' % sys.argv[1])
with zenoh.open(config) as session:
    for reply in session.get(sys.argv[2], consolidation=zenoh.ConsolidationMode.NONE, timeout=60):
        os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def start_stalled_get():
    """Starts a client that takes nothing of an answer but its beginning; it ends with the test."""
    started = []

    def is_stopped(process):
        state = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state == "T"

    def start(router, selector):
        command = [sys.executable, "-c", STALLED, router.endpoint, selector]
        process = subprocess.Popen(command)
        started.append(process)
        wait_until(lambda: is_stopped(process), "the client has stopped")

    yield start
    for process in started:
        process.kill()
        process.wait(PATIENCE)


def test_a_reader_that_takes_nothing_holds_up_nobody(start_router, start_stalled_get):
    router = start_router({"demo": storage("demo/**", persistence="memory", reply_timeout="1s")})
    client = router.client
    for number in range(4000):
        client.put(f"demo/much/{number}", bytes(50_000))
    client.put("demo/little/a", b"1")
    client.wait_for("demo/little/*", {"demo/little/a": b"1"})
    start_stalled_get(router, "demo/much/**")
    # They are answered while the other is stalled; it ends when its time is over.
    for number in range(50):
        value = str(number).encode()
        client.put("demo/little/a", value)
        client.wait_for("demo/little/*", {"demo/little/a": value})
    router.wait_for_log("WARN", "demo/much/**", "reply_timeout")


def test_dropped_puts_are_counted_and_told(start_router):
    """Nothing settles for a minute: when as much is pending as may be, and the queue is full, what
    comes is dropped, and nothing is missing in the sum."""
    router = start_router({"demo": storage("demo/**", persistence="memory", settle="1m")})
    # The publisher's own queue does not drop them.
    patient = {"queue": {"congestion_control": {"drop": {"wait_before_drop": 10_000_000}}}}
    config = {
        "mode": "client",
        "connect": {"endpoints": [router.endpoint]},
        "transport": {"link": {"tx": patient}},
    }
    sent = 4_000
    drop = zenoh.CongestionControl.DROP
    with zenoh.open(zenoh.Config.from_json5(json.dumps(config))) as session:
        for number in range(sent):
            session.put(f"demo/{number}", bytes(100_000), congestion_control=drop)

    def sum_is(expected):
        def check(status):
            return status["counters"]["puts"] + status["counters"]["dropped"] == expected

        return router.wait_for_status("demo", check, f"{expected} puts were taken or dropped")

    counters = sum_is(sent)["counters"]
    assert counters["dropped"] > 0
    assert len(router.client.get("demo/$*1")) > 0, "gets are answered meanwhile"
    # One that asks to wait does, but not for ever.
    router.client.put("demo/late", b"x")
    counters = sum_is(sent + 1)["counters"]
    router.wait_for_log("ERROR", "'demo'", "puts and deletes were dropped", "`Block`")
    metrics = router.client.get("@mst/2/*/*/metrics")
    (text,) = metrics.values()
    assert f" {counters['dropped']}" in next(
        line for line in text.decode().splitlines() if line.startswith("zenoh_mst_dropped_puts_total")
    )
