"""mst-router: a router with the plugins `mst` and `rest` in it, in the place of zenohd.

What the storages do is tested by the other files, through zenohd: it is the same library. Here is
what the program adds to it."""

import json
import signal
import subprocess

import pytest

from conftest import REPOSITORY
from polling import PATIENCE, wait_until
from router import storage

DEMO = {"demo": storage("demo/**")}

pytestmark = pytest.mark.doors("plugin")


@pytest.fixture
def start(start_router):
    def start(storages=DEMO, **options):
        return start_router(storages, program="mst-router", **options)

    return start


def test_puts_gets_deletes_and_rest(start):
    router = start()
    router.client.put("demo/a", b"1")
    router.client.put("demo/b", b"2")
    router.client.wait_for("demo/**", {"demo/a": b"1", "demo/b": b"2"})
    router.client.delete("demo/b")
    router.client.wait_for("demo/**", {"demo/a": b"1"})
    response = router.request("PUT", "demo/rest", body="3", headers={"content-type": "text/plain"})
    assert response.status == 200
    router.client.wait_for("demo/*", {"demo/a": b"1", "demo/rest": b"3"})
    response = router.request("GET", "demo/rest?_raw=true")
    assert (response.status, response.body) == (200, b"3")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_what_a_get_has_shown_is_there_after_a_stop(start, ending):
    router = start({"demo": storage("demo/**", sync_every="60s", settle="60s")})
    for number in range(3):
        value = str(number).encode()
        router.client.put("demo/shown", value)
        router.client.wait_for("demo/shown", {"demo/shown": value})
        assert router.end_by(ending) == -ending
        router.start()
        router.client.wait_for("demo/shown", {"demo/shown": value})


def test_it_replicates_with_a_zenohd_and_has_the_same_folder(start, start_router):
    storages = {"demo": storage("demo/**", settle="50ms", replication={})}
    first = start_router(storages, own_gets="demo/**")
    values = {f"demo/{n}": str(n).encode() for n in range(200)}
    for key, value in values.items():
        first.client.put(key, value)
    first.client.wait_for("demo/**", values)
    second = start(storages, own_gets="demo/**", connect=[first.endpoint])
    second.client.wait_for("demo/**", values)
    second.client.put("demo/new", b"x")
    values["demo/new"] = b"x"
    roots = set()
    for router in (first, second):
        router.client.wait_for("demo/**", values)
        roots.add(router.wait_until_settled("demo", keys=201)["root"])
    assert len(roots) == 1
    second.stop()
    third = start_router(storages, data=second.data)
    assert third.status("demo")["root"] in roots
    assert third.client.get("demo/**") == values


def test_storages_are_added_and_removed_at_run_time(start):
    """To a router that began without any: it closes them when it is stopped, too."""
    router = start({}, config_is_writable=True)
    router.add_storage("added", storage("added/**", sync_every="60s", settle="60s"))
    router.client.put("added/a", b"1")
    router.client.wait_for("added/**", {"added/a": b"1"})
    assert router.end_by(signal.SIGTERM) == -signal.SIGTERM
    router.start()
    router.add_storage("added", storage("added/**"))
    assert router.client.get("added/**") == {"added/a": b"1"}
    router.remove_storage("added")
    wait_until(lambda: router.status("added") is None, "it is gone")


def test_the_shipped_configuration_is_zenohds(start):
    router = start({"demo": None}, config_file=REPOSITORY / "config/zenohd.json5")
    router.client.put("demo/count/doors", "5")
    router.client.put("demo/count/doors", "-2")
    router.client.wait_for("demo/**", {"demo/count/doors": b"3"})


def run(programs, *arguments):
    """Runs it until it ends by itself."""
    command = [programs.mst_router, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["-c", "/nowhere/router.json5"], ["/nowhere/router.json5"]),
        (["--cfg", "mode"], ["KEY:VALUE"]),
        (["--cfg", "listen/endpoints:7"], ["listen/endpoints"]),
        (["--cfg", "plugins/mst:{storage:{}}"], ["plugin 'mst'", "`storage`", "`storages`"]),
        (["--cfg", "plugins/mst:7"], ["plugin 'mst'"]),
        (["-P", "nothing"], ["nothing"]),
        (
            ["--cfg", 'plugins/storage_manager:{volumes:{mst:{}}}'],
            ["volume 'mst'", "plugin `mst`"],
        ),
        (["--adminspace-permissions", "all"], ["--adminspace-permissions", "rw"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("-") else "",
)
def test_what_is_wrong_ends_it_with_an_error(programs, arguments, said):
    ended = run(programs, "-l", "tcp/127.0.0.1:0", "--no-multicast-scouting", *arguments)
    assert ended.returncode in (1, 2), ended
    assert "panicked" not in ended.stderr
    for fragment in said:
        assert fragment in ended.stdout + ended.stderr


def test_a_storage_with_a_wrong_option_is_not_served_and_the_router_runs(start):
    router = start({"bad": storage("bad/**", settle=5), **DEMO}, expected=["demo"])
    router.wait_for_log("ERROR", "'bad'")
    router.client.put("demo/a", b"1")
    router.client.wait_for("demo/**", {"demo/a": b"1"})
    assert router.status("bad") is None


def test_it_says_its_version(programs):
    ended = run(programs, "--version")
    assert ended.returncode == 0 and "Zenoh 1.10.2" in ended.stdout


def test_a_plugin_from_a_file_is_loaded(start, programs):
    """The storage manager with a volume of another backend, beside the plugin that is inside."""
    config = {
        "listen": {"endpoints": ["tcp/127.0.0.1:7447"]},
        "plugins_loading": {"search_dirs": ["/opt/zenoh-mst"]},
        "plugins": {
            "rest": {"http_port": "127.0.0.1:8000"},
            "mst": {"storages": {"demo": {"key_expr": "demo/**"}}},
            "storage_manager": {
                "__required__": True,
                "storages": {"plain": {"key_expr": "plain/**", "volume": "memory"}},
            },
        },
    }
    path = programs.mst_router.parent / "other.json5"
    path.write_text(json.dumps(config))
    router = start({"demo": None}, config_file=path)
    router.client.put("plain/a", b"1")
    router.client.put("demo/a", b"2")
    router.client.wait_for("plain/**", {"plain/a": b"1"})
    router.client.wait_for("demo/**", {"demo/a": b"2"})
