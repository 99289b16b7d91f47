"""The libraries in a zenohd that was built otherwise than that of the other tests: one as Zenoh releases
it, and one with other features.

Each takes long to build: `scripts/other-zenohd KIND`. What is not there is skipped, unless
`MST_OTHER_ZENOHD` is set, as in CI.
"""

import os
import re
from dataclasses import replace

import pytest

from conftest import REPOSITORY
from router import Router, storage

DEMO = storage("demo/**", settle="50ms", replication={})


def program(kind):
    path = REPOSITORY / f".tools/other-zenohd/{kind}/bin/zenohd"
    if not path.is_file():
        message = f"there is no {path}: scripts/other-zenohd {kind} builds it"
        if os.environ.get("MST_OTHER_ZENOHD"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture
def start(programs, tmp_path):
    started = []

    def start(kind, storages=None, **options):
        router = Router(
            replace(programs, zenohd=program(kind)),
            tmp_path / "router",
            {"demo": DEMO, **(storages or {})},
            session="runtime",
            **options,
        )
        started.append(router)
        return router.start()

    yield start
    for router in started:
        router.kill()


@pytest.mark.parametrize("served_by", ["volume", "plugin"])
def test_a_zenohd_as_it_is_released_loads_the_libraries_and_stores(start, served_by):
    router = start("official", door=served_by)
    written = {f"demo/{n}": b"%d" % n for n in range(100)}
    for key, payload in written.items():
        router.client.put(key, payload)
    router.client.wait_for("demo/**", written)
    assert router.request("GET", "demo/7?_raw=true").body == b"7"
    router.wait_until_settled("demo", keys=100)
    root = router.status("demo")["root"]
    # The companion has the storages closed before the process ends, which it does by the signal.
    router.restart()
    assert router.status("demo")["root"] == root
    router.client.wait_for("demo/**", written)
    assert "panicked" not in router.log()


def test_its_wrong_options_are_an_error_and_no_abort(start):
    """A panic would take this router down: nothing that a user can write is one."""
    router = start(
        "official",
        {"bad": storage("bad/**", settel="1s"), "worse": storage("worse/**", settle=5)},
        door="plugin",
        expected=["demo"],
    )
    for name in ("bad", "worse"):
        router.wait_for_log("ERROR", f"'{name}'")
    router.client.put("demo/a", "1")
    router.client.wait_for("demo/a", {"demo/a": b"1"})
    assert router.is_running and "panicked" not in router.log()


@pytest.mark.parametrize("served_by", ["volume", "plugin"])
def test_a_zenohd_of_other_features_says_so_in_a_line_and_goes_on(start, served_by):
    router = start("features", door=served_by, expected=[])
    line = router.wait_for_log("Plugin compatibility mismatch", "Incompatible Zenoh feature sets")
    assert re.search(r"libzenoh_plugin_\w+\.so: Plugin compatibility mismatch", line), line
    router.client.put("demo/a", "1")
    assert router.client.get("demo/a") == {}
    assert router.is_running and "panicked" not in router.log()
