"""The client's kit in `rust/` does what that in `python/` does, with real routers: its example does it
all, and checks what comes of it."""

import json
import subprocess

import pytest

from client import timestamp
from cluster import chain
from conftest import REPOSITORY
from polling import PATIENCE
from test_client_kit import DEMO, stopped

KIT = REPOSITORY / "target/release/examples/kit"


def run(*arguments):
    done = subprocess.run([KIT, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == "done\n", done
    return done


@pytest.mark.doors("plugin")
@pytest.mark.parametrize("strip_prefix", [None, "demo"])
def test_all_of_it_with_one_router(start_router, strip_prefix):
    prefix = {} if strip_prefix is None else {"strip_prefix": strip_prefix}
    router = start_router({"demo": {**DEMO, **prefix}})
    run("all", router.endpoint, *prefix.values())
    router.wait_for_counters("demo", refused=1)


@pytest.mark.doors("mixed")
def test_writes_are_waited_for_at_all_replicas(start_cluster):
    cluster = start_cluster(chain(2), {"demo": DEMO})
    cluster.wait_until_linked()
    run("replicated", "2", *(router.endpoint for router in cluster.routers))


@pytest.mark.doors("mixed")
def test_a_router_that_does_not_answer_keeps_no_write_from_being_confirmed(start_router):
    first = start_router({"demo": DEMO}, session="runtime")
    second = start_router(
        {"demo": DEMO}, session="runtime", connect=[first.endpoint], own_gets="demo/**"
    )
    run("replicated", "2", first.endpoint, second.endpoint)
    with stopped(second):
        run("hanging", first.endpoint)
    second.client.wait_for("demo/b", {"demo/b": b"2"})
    second.client.wait_for("demo/count/b", {"demo/count/b": b"1"})


@pytest.mark.doors("plugin")
def test_a_write_that_has_gone_is_told_from_one_that_nobody_answers(start_router):
    fading = {**DEMO, "volume": {**DEMO["volume"], "lifetimes": {"demo/short/*": "1s"}}}
    router = start_router({"demo": fading})
    run("gone", router.endpoint)
    kit = subprocess.Popen(
        [KIT, "dead", router.endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert kit.stdout.readline() == "written\n"
        router.kill()
        told, _ = kit.communicate("killed\n", timeout=PATIENCE)
        assert (told, kit.returncode) == ("done\n", 0)
    finally:
        kit.kill()
        kit.wait()


@pytest.mark.doors("mixed")
def test_a_repair_is_watched_as_what_is_put_is(start_cluster):
    cluster = start_cluster(chain(2), {"demo": DEMO})
    cluster.wait_until_linked()
    first, second = cluster.routers
    watch = subprocess.Popen([KIT, "watch", "3", second.endpoint], stdout=subprocess.PIPE, text=True)
    try:
        origin, nearest = (status["identity"] for status in cluster.statuses("demo"))
        assert json.loads(watch.stdout.readline()) == {"nearest": nearest}
        second.wait_for_status("demo", lambda status: status["changes"]["heard"], "it is heard")
        cluster.cut()
        first.client.put("demo/repaired", "1")
        first.client.delete("demo/deleted", timestamp=timestamp(0))
        second.client.put("demo/own", "2")
        own = json.loads(watch.stdout.readline())
        assert (own["key"], own["payload"], own["by"], own["origin"]) == ("demo/own", "2", "publication", None)
        cluster.heal()
        told = {change["key"]: change for change in (json.loads(watch.stdout.readline()) for _ in range(2))}
        assert {change["by"] for change in told.values()} == {"repair"}
        assert {change["origin"] for change in told.values()} == {origin}
        assert (told["demo/repaired"]["payload"], told["demo/deleted"]["payload"]) == ("1", None)
        assert not any(change["outdated"] for change in told.values())
        assert watch.stdout.readline() == "done\n" and watch.wait(PATIENCE) == 0
    finally:
        watch.kill()
        watch.wait()
