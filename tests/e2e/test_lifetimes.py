"""Lifetimes: what is only true for a while goes by itself, everywhere, and does not come back."""

import json
import re
import shutil
import time

import pytest

from client import timestamp
from cluster import chain
from polling import wait_until
from router import storage
from test_changes import attachment, key_of, listen  # noqa: F401
from test_mstctl import mstctl
from test_rest import curl

SHORT = {"demo/pose/**": "2s", "demo/log/**": "1h"}

ONE = storage("demo/**", settle="50ms", lifetimes=SHORT)
REPLICATED = storage(
    "demo/**", settle="100ms", lifetimes=SHORT, replication={"sync_interval": "1s"}
)


def wait_for_gone(router, key):
    wait_until(lambda: not router.client.get(key), lambda: f"{key} is there")


def wait_for_cells(router, cells, what, name="demo"):
    return router.wait_for_status(name, lambda status: status["cells"] == cells, what)


def test_what_has_a_lifetime_goes_and_what_has_none_stays(start_router):
    router = start_router({"demo": ONE})
    client = router.client
    began = time.monotonic()
    for number in range(20):
        client.put(f"demo/pose/{number}", f"at {number}")
        client.put(f"demo/map/{number}", f"map {number}")
    client.put("demo/log/1", "long")
    client.delete("demo/pose/3")
    client.wait_for("demo/map/19", {"demo/map/19": b"map 19"})
    wait_for_gone(router, "demo/pose/**")
    assert time.monotonic() - began >= 2
    # Tombstones go, too.
    status = wait_for_cells(router, 21, "poses have left the tree")
    assert status["tombstones"] == 0
    assert status["lifetimes"]["patterns"] == 2
    assert status["lifetimes"]["cells"] == 1
    assert status["lifetimes"]["expired"] >= 20
    assert status["lifetimes"]["held_seconds"] == 0
    assert len(client.get("demo/**")) == 21
    # What lives on is there again after a restart, and what is dead is not.
    client.put("demo/pose/again", "again")
    client.put("demo/map/1", "again")
    client.wait_for("demo/map/1", {"demo/map/1": b"again"})
    router.stop()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 2.5, "the pose is over")
    router.start()
    assert len(router.client.get("demo/**")) == 21
    wait_for_cells(router, 21, "the pose that was there is gone")


def test_a_robot_that_was_away_for_longer_brings_nothing_back(start_cluster):
    longer = storage(
        "demo/**",
        settle="100ms",
        lifetimes={**SHORT, "demo/pose/**": "8s"},
        replication={"sync_interval": "1s"},
    )
    cluster = start_cluster(chain(2), {"demo": longer})
    here, there = cluster.routers
    keys = [f"demo/pose/{number}" for number in range(10)]
    for key in keys:
        here.client.put(key, "old")
    here.client.put("demo/map", "stays")
    there.client.wait_for("demo/map", {"demo/map": b"stays"})
    cluster.wait_until_equal("demo", keys=11)
    cluster.end(1, "kill")
    # Deleted at one, while the other, which still has them, is away for longer than they live.
    for key in keys[:5]:
        here.client.delete(key)
    wait_for_cells(here, 1, "all are gone")
    here.client.put("demo/log/2", "meanwhile")
    there.start()
    cluster.wait_until_linked()
    cluster.wait_until_equal("demo", keys=2, cells=2, tombstones=0)
    for router in cluster.routers:
        assert set(router.client.get("demo/**")) == {"demo/map", "demo/log/2"}
        assert router.status("demo")["lifetimes"]["held_seconds"] == 0


def test_a_partition_that_lasts_longer_than_a_life_moves_nothing_that_is_dead(start_cluster):
    cluster = start_cluster(chain(2), {"demo": REPLICATED})
    here, there = cluster.routers
    here.client.put("demo/map", "stays")
    there.client.wait_for("demo/map", {"demo/map": b"stays"})
    cluster.wait_until_equal("demo", cells=1)
    before = [status["replication"]["pulls"] for status in cluster.statuses("demo")]
    cluster.cut()
    for router in cluster.routers:
        for number in range(50):
            router.client.put(f"demo/pose/{number}", "x" * 1000)
    for router in cluster.routers:
        router.wait_for_status(
            "demo",
            lambda status: status["cells"] == 1 and status["lifetimes"]["expired"] >= 50,
            "all have died on their own",
        )
    cluster.heal()
    cluster.wait_until_linked()
    cluster.wait_until_equal("demo", cells=1)
    here.client.put("demo/map", "new")
    there.client.wait_for("demo/map", {"demo/map": b"new"})
    cluster.wait_until_equal("demo", cells=1)
    after = [status["replication"]["pulls"] for status in cluster.statuses("demo")]
    for old, new in zip(before, after):
        assert new["cells_received"] - old["cells_received"] <= 1, (old, new)


def test_other_lifetimes_isolate(start_cluster):
    other = storage(
        "demo/**", settle="100ms", lifetimes={"demo/pose/**": "3s"}, replication={}
    )
    cluster = start_cluster(chain(2), [{"demo": REPLICATED}, {"demo": other}])

    def isolated(status):
        return any(peer["relation"] == "isolated" for peer in status["replication"]["peers"])

    for router in cluster.routers:
        router.wait_for_status("demo", isolated, "the other is isolated")


def test_whoever_listens_hears_of_deaths(start_router, listen):  # noqa: F811
    router = start_router({"demo": REPLICATED}, session="runtime")
    heard = listen(router)
    router.client.put("demo/pose/7", "here")
    router.client.put("demo/map", "stays")
    heard.wait_for("demo/pose/7")
    (sample,) = heard.samples
    assert key_of(sample) == "demo/pose/7"
    assert attachment(sample)["by"] == "expired"
    assert str(sample.kind) == "SampleKind.DELETE"


def test_counters_become_sliding_sums(start_router):
    config = storage(
        "demo/**",
        settle="50ms",
        lifetimes={"demo/count": "8s"},
        replication={"key_overrides": {"demo/count": "additive"}},
    )
    router = start_router({"demo": config})
    client = router.client
    client.put("demo/count", "5")
    client.wait_for("demo/count", {"demo/count": b"5"})
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 3, "some of its life is over")
    client.put("demo/count", "7")
    client.wait_for("demo/count", {"demo/count": b"12"})
    client.wait_for("demo/count", {"demo/count": b"7"})
    wait_for_gone(router, "demo/count")
    wait_for_cells(router, 0, "its cells are gone")


def test_documents_refuse_a_lifetime(start_router):
    config = storage(
        "demo/**",
        lifetimes={"demo/doc/*": "1h"},
        replication={"key_overrides": {"demo/doc/**": "automerge_crdt"}},
    )
    router = start_router({"demo": config}, expected=[])
    router.wait_for_log("option `lifetimes.demo/doc/*`: it matches keys that `automerge_crdt` may merge")


def test_mstctl_says_what_is_left_and_what_would_go(start_router):
    router = start_router({"demo": REPLICATED}, session="runtime")
    client = router.client
    client.put("demo/log/1", "long")
    client.put("demo/map/1", "old", timestamp=timestamp(-3600))
    client.put("demo/map/2", "new")
    wait_for_cells(router, 3, "all is settled")
    # The session of a volume's storage comes a moment later.
    wait_until(
        lambda: mstctl("--json", "keys", router=router).code == 0, "the storage can be asked"
    )
    listed = mstctl("--json", "keys", router=router, check=0).lines()
    left = {key["key"]: key["left_ms"] for key in listed}
    assert left["demo/map/1"] is None and left["demo/map/2"] is None
    assert 3_000_000 < left["demo/log/1"] <= 3_600_000
    would = mstctl("lifetimes", "demo/map/*=1m", router=router, check=0).text
    assert re.fullmatch(r"demo/map/\*: 1 of 2 keys would go at once, with 1 cells of \d+ B\n", would)
    assert len(client.get("demo/**")) == 3


@pytest.mark.doors("plugin")
def test_mstctl_knows_keys_by_their_whole_names_and_says_what_has_died(start_router, tmp_path):
    """A storage that strips a prefix: patterns and keys are written as clients write them."""
    stripped = {"lifetimes": {"demo/fleet/*/log": "1h"}, "strip_prefix": "demo/fleet"}
    router = start_router({"demo": storage("demo/fleet/**", settle="50ms", **stripped)}, door="plugin")
    client = router.client
    client.put("demo/fleet/1/map", "old", timestamp=timestamp(-3600))
    client.put("demo/fleet/2/map", "new")
    client.put("demo/fleet/3/map", "hidden", encoding="text/plain;ttl=1s")
    # Its life is over in some seconds.
    client.put("demo/fleet/1/log", "dies", timestamp=timestamp(-3590))
    client.put("demo/fleet/2/log", "lives", timestamp=timestamp(-60))
    router.wait_until_settled("demo", cells=5)
    backup = tmp_path / "then.backup"
    mstctl("backup", backup, router=router, check=0)
    would = mstctl("--json", "lifetimes", "demo/fleet/*/map=1m", "1/map=1m", router=router, check=0).lines()
    assert [(one["keys"], one["gone"]) for one in would] == [(3, 1), (0, 0)]
    wait_until(lambda: client.get("demo/fleet/3/map") == {}, "it is hidden")
    listed = mstctl("keys", "--deleted", router=router, check=0).text.splitlines()
    states = {line.split()[-1]: line.split()[2:-1] for line in listed[1:]}
    assert states["demo/fleet/3/map"] == ["expired"], listed
    assert states["demo/fleet/2/log"][1:] == ["left"] and states["demo/fleet/2/map"] == [], listed
    hidden = mstctl("get", "demo/fleet/3/map", router=router, check=1)
    assert "no value: its lifetime, or its `ttl`, was over at " in hidden.text
    wait_for_gone(router, "demo/fleet/1/log")
    router.wait_until_settled("demo", cells=4)
    # What has died is in the backup, and does not come back.
    again = mstctl("rollback", backup, "--yes", router=router, check=0).text
    assert "2 left as they are: the lives of their values are over" in again, again
    said = mstctl("--json", "restore", backup, router=router, check=0).json()
    assert (said["cells"], said["newest"], said["rejected"], said["dead"]) == (5, 0, 0, 1), said
    other = start_router({"demo": storage("demo/fleet/**", settle="50ms", **stripped)}, door="plugin")
    said = mstctl("restore", backup, router=other, check=0).text
    assert "1 cell was dropped, as the lifetime of the key was over" in said and "root" not in said, said
    assert set(other.client.get("demo/**")) == set(client.get("demo/**"))


def test_one_put_says_for_how_long_it_is_shown(start_router):
    config = storage(
        "demo/**", settle="50ms", lifetimes=SHORT, replication={"key_overrides": {"demo/count": "additive"}}
    )
    router = start_router({"demo": config}, session="runtime")
    client = router.client
    client.put("demo/map/1", "before")
    client.put("demo/map/1", "short", encoding="text/plain;ttl=3s")
    client.put("demo/log/1", "short", encoding="my/own;ttl=3s")
    status, body = curl(
        "-X", "PUT", "-H", "content-type: text/plain;ttl=3s", "-d", "rest", f"{router.rest_url}/demo/log/2"
    )
    assert status == 200, body
    client.put("demo/log/3", "long", encoding="text/plain;ttl=30m")
    client.wait_for("demo/log/3", {"demo/log/3": b"long"})
    assert set(client.get("demo/**")) == {"demo/map/1", "demo/log/1", "demo/log/2", "demo/log/3"}
    assert str(client.sample("demo/log/1").encoding) == "my/own;ttl=3s"
    wait_until(lambda: set(client.get("demo/**")) == {"demo/log/3"}, "the short ones are hidden")
    assert client.get("demo/map/1") == {}
    status, body = curl(f"{router.rest_url}/demo/log/2")
    assert (status, json.loads(body)) == (200, [])
    # They are hidden, and no more.
    status = wait_for_cells(router, 4, "all are in the tree")
    assert status["lifetimes"]["ttl_without_lifetime"] == 1
    router.wait_for_log("a put of 'demo/map/1' has a `ttl=`, and its key no lifetime")
    wait_until(lambda: mstctl("--json", "keys", router=router).code == 0, "the storage can be asked")
    (listed,) = mstctl("--json", "keys", router=router, check=0).lines()
    assert listed["key"] == "demo/log/3" and 1_500_000 < listed["left_ms"] <= 1_800_000
    # What is not understood is refused, and so it is where puts are merged.
    client.put("demo/map/2", "never", encoding="text/plain;ttl=soon")
    client.put("demo/count", "5", encoding="text/plain;ttl=5s")
    status = router.wait_for_status(
        "demo", lambda status: len(status["refused"]) == 2, "both are refused"
    )
    reasons = {write["key"]: write["reason"] for write in status["refused"]}
    assert reasons["demo/map/2"].startswith("its encoding says `ttl=soon`, allowed is a time")
    assert reasons["demo/count"].startswith("`additive` cannot take it: its encoding has a `ttl=`")
    # A later put is shown as ever, and a restart changes nothing.
    client.put("demo/map/1", "after")
    client.wait_for("demo/map/1", {"demo/map/1": b"after"})
    router.stop()
    router.start()
    assert set(router.client.get("demo/**")) == {"demo/log/3", "demo/map/1"}


def test_a_lifetime_that_becomes_longer_begins_ahead(start_router):
    def with_lifetime(lifetime):
        return storage("demo/**", settle="50ms", lifetimes={"demo/pose/**": lifetime})

    first = start_router({"demo": with_lifetime("10s")})
    first.client.put("demo/pose/1", "here")
    first.client.wait_for("demo/pose/1", {"demo/pose/1": b"here"})
    first.stop()
    longer = start_router({"demo": with_lifetime("30s")}, data=first.data, expected=[])
    longer.wait_for_log("option `lifetimes.demo/pose/**`: found \"30s\", and in the folder")
    longer.stop()
    # As the error says it.
    ahead = [{"for": "10s"}, {"from": "2999-01-01T00:00:00Z", "for": "30s"}]
    start_router({"demo": with_lifetime(ahead)}, data=first.data)


def test_a_restart_while_the_clock_is_wrong_kills_nothing(start_router, disturbed):
    """Nor does one after it is right again, though the wrong clock has stamped a value."""
    year = 365 * 24 * 3_600_000
    lifetimes = {"demo/log/**": "30d"}
    router = start_router({"demo": storage("demo/**", settle="50ms", lifetimes=lifetimes)})
    values = {f"demo/log/{number}": b"%d" % number for number in range(20)}
    for key, value in values.items():
        router.client.put(key, value)
    router.wait_until_settled("demo", keys=20)
    router.stop()
    router._environment |= disturbed(clock=year)
    router.start()
    router.client.put("demo/other", "stamped by the wrong clock")
    router.wait_until_settled("demo", cells=21)
    router.stop()
    router.start()
    router.wait_until_settled("demo", cells=21)
    assert set(router.client.get("demo/**")) == {"demo/other"}, "readers see the time by the clock"
    router.stop()
    router._environment |= disturbed(clock=0)
    router.start()
    router.client.wait_for("demo/log/**", values)
    # And what is put now is taken.
    router.client.put("demo/log/new", "new")
    router.client.wait_for("demo/log/new", {"demo/log/new": b"new"})
    assert router.status("demo")["lifetimes"]["dead"] == 0


@pytest.mark.doors("plugin")
def test_a_wildcard_delete_beside_lifetimes_brings_nothing_back(start_cluster):
    """What is deleted by a pattern is deleted for one that is away for longer than its keys live, be it
    by the rule or since it is dead; and what lives on of both kinds stays."""
    longer = storage(
        "demo/**",
        settle="100ms",
        lifetimes={"demo/pose/**": "6s"},
        replication={"sync_interval": "1s"},
    )
    cluster = start_cluster(chain(2), {"demo": longer})
    here, there = cluster.routers
    for number in range(10):
        here.client.put(f"demo/pose/{number}", "old")
        here.client.put(f"demo/map/{number}", "old")
    here.client.put("demo/stays", "stays")
    cluster.wait_until_equal("demo", keys=21)
    cluster.end(1, "kill")
    # Its own timestamp: the router that takes it does not stamp deletes.
    here.client.delete("demo/*/*", timestamp=timestamp())
    here.client.wait_for("demo/**", {"demo/stays": b"stays"})
    here.client.put("demo/map/3", "new")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 6.5, "longer than poses live")
    # Of the dead nothing is left, of the others the rule hides what it covers.
    here.client.put("demo/pose/3", "new")
    new = {"demo/stays": b"stays", "demo/map/3": b"new", "demo/pose/3": b"new"}
    here.client.wait_for("demo/**", new)
    there.start()
    cluster.wait_until_linked()
    # The rule is a cell, too.
    cluster.wait_until_equal("demo", keys=3, cells=4, wildcard_rules=1)
    for router in cluster.routers:
        router.client.wait_for("demo/**", new)
    del new["demo/pose/3"]
    for router in cluster.routers:
        wait_until(lambda: router.client.get("demo/**") == new, "the pose has died, and nothing else")
    cluster.wait_until_equal("demo", keys=2, cells=3, wildcard_rules=1)


def test_a_router_whose_clock_begins_in_1970_says_so(start_cluster, disturbed):
    """So does the replica that drops what it has stamped; and nothing of the others is lost."""
    since_1970 = int(time.time() * 1000) - 60_000
    config = {"demo": storage("demo/**", settle="100ms", lifetimes={"demo/log/**": "1h"}, replication={"sync_interval": "1s"})}
    cluster = start_cluster(chain(2), config)
    right, robot = cluster.routers
    right.client.put("demo/log/right", "right")
    robot.client.wait_for("demo/log/right", {"demo/log/right": b"right"})
    cluster.wait_until_equal("demo", cells=1)
    # Routers that are back at once are told of nobody: nothing would come, whatever the clock shows.
    cluster.end(1)
    robot._environment |= disturbed(clock=-since_1970)
    robot.start()
    behind = robot.wait_for_log("storage 'demo': the clock is", "s behind the time by which values have died here before")
    seconds = int(re.search(r"the clock is (\d+) s behind", behind)[1])
    assert abs(seconds * 1000 - since_1970) < 120_000, behind
    cluster.wait_until_linked()

    def is_dropped():
        # Until the robot has heard who subscribes.
        robot.client.put("demo/log/robot", "of 1970")
        return right.status("demo")["lifetimes"]["dead"] > 0

    wait_until(is_dropped, "what is stamped in 1970 is dropped where the clock is right")
    right.wait_for_log("WARN", "storage 'demo': dropped a write of", "log/robot", "is the clock of its writer right?")
    assert set(right.client.get("demo/log/**")) == {"demo/log/right"}
    # One that remembers nothing hears it of the other.
    cluster.end(1)
    shutil.rmtree(robot.data)
    robot.start()
    robot.wait_for_log("storage 'demo': the clock is", "s behind that of another replica: what is put here is stamped by it")
    # Set right, it has what all have.
    cluster.end(1)
    robot._environment |= disturbed(clock=0)
    robot.start()
    cluster.wait_until_linked()
    cluster.wait_until_equal("demo", cells=1)
    for router in cluster.routers:
        assert set(router.client.get("demo/log/**")) == {"demo/log/right"}


def test_a_rollback_neither_revives_nor_deletes_what_has_died(start_router, tmp_path):
    """A value that a put with wildcards showed dies with the value that it hid; and a key whose old
    value has died keeps the new one."""
    lifetimes = {"demo/hour/**": "1h"}
    storages = {"demo": storage("demo/**", settle="50ms", lifetimes=lifetimes)}
    router = start_router(storages, door="plugin")
    for key in ["demo/hour/ruled", "demo/hour/again"]:
        router.client.put(key, "old", timestamp=timestamp(-3597))
    router.client.put("demo/hour/*", "by a rule", timestamp=timestamp(-1))
    router.client.put("demo/map", "then")
    # The rule among them.
    router.wait_until_settled("demo", cells=4)
    backup = tmp_path / "then.backup"
    mstctl("backup", backup, router=router, check=0)
    wait_until(lambda: router.client.get("demo/hour/**") == {}, "both have died")
    router.client.put("demo/hour/again", "new")
    router.client.put("demo/map", "now")
    router.client.wait_for("demo/**", {"demo/hour/again": b"new", "demo/map": b"now"})
    router.wait_until_settled("demo", cells=4)
    done = mstctl("rollback", backup, "--yes", router=router, check=0)
    after = {"demo/hour/again": b"new", "demo/map": b"then"}
    router.client.wait_for("demo/**", after)
    assert "1 key put again, 0 deleted" in done.text, done.text
