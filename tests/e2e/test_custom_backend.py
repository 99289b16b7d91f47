"""A backend with a merge strategy of its own, as examples/custom-backend shows it."""

import pytest

from client import timestamp
from cluster import Cluster, chain
from conftest import REPOSITORY
from polling import wait_until
from router import storage

pytestmark = pytest.mark.doors("volume")

LIBRARY = REPOSITORY / "target" / "release" / "libzenoh_backend_custom.so"
KEY = "cellar/temperature"
RULES = {"key_overrides": {KEY: "median"}}


@pytest.fixture
def start_custom(start_router):
    """Starts a router that has that backend in the place of ours."""
    assert LIBRARY.is_file(), "run `cargo build --release -p custom-backend --lib --tests`"

    def start(storages, **options):
        volumes = {"mst": {"__path__": str(LIBRARY)}}
        return start_router(storages, volumes=volumes, **options)

    return start


def report(router, sensor, ago, reading):
    """A sensor stamps what it reports, by a clock of its own."""
    stamp = timestamp(-ago, writer=bytes([sensor]))
    router.client.put(KEY, reading, timestamp=stamp)


def test_the_median_of_what_sensors_reported_last_is_the_same_everywhere(start_custom):
    storages = {"cellar": storage("cellar/**", settle="50ms", replication=RULES)}
    cluster = Cluster(
        start_custom, chain(2), storages, own_gets="cellar/**", session="runtime"
    )
    near, far = cluster.routers
    cluster.cut()
    report(near, 1, 30, "20.5")
    report(near, 2, 20, "-3000")
    report(near, 2, 40, "19")
    report(far, 3, 10, "21")
    report(far, 4, 10, "22")
    report(far, 1, 50, "5")
    cluster.heal()
    for router in cluster.routers:
        # Of an even number the lower one: of -3000, 20.5, 21 and 22.
        router.client.wait_for(KEY, {KEY: b"20.5"})
        wait_until(lambda: router.status("cellar")["cells"] == 4, "all cells settle")
        assert router.status("cellar")["keys"] == 1
        assert router.status("cellar")["replication"]["session"] == "runtime"
    assert near.status("cellar")["root"] == far.status("cellar")["root"]
    cluster.close()


def test_what_the_strategy_cannot_take_is_refused(start_custom):
    router = start_custom({"cellar": storage("cellar/**", replication=RULES)})
    report(router, 1, 10, "20.5")
    report(router, 2, 10, "warm")
    wait_until(lambda: router.status("cellar")["counters"]["refused"] == 1, "it is refused")
    assert router.client.get(KEY) == {KEY: b"20.5"}
    assert "`median` cannot take it" in router.log()


def test_our_own_backend_does_not_know_the_strategy(start_router):
    router = start_router(
        {"cellar": storage("cellar/**", replication=RULES), "other": storage("other/**")},
        expected=["other"],
    )
    assert "found `median`, allowed is one of `lww`" in router.log()
