"""SIGTERM and SIGINT lose nothing that was there before them."""

import os
import signal

import pytest

from router import storage

# So long that without a stop that closes storages each value would be lost.
UNHURRIED = {"sync_every": "60s", "settle": "60s"}
ROUNDS = int(os.environ.get("MST_STOP_ROUNDS", "20"))


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_what_a_get_has_shown_is_there_after_a_stop(start_router, ending):
    router = start_router({"demo": storage("demo/**", **UNHURRIED), "other": storage("other/**")})
    for number in range(ROUNDS):
        value = str(number).encode()
        router.client.put("demo/shown", value)
        router.client.wait_for("demo/shown", {"demo/shown": value})
        assert router.end_by(ending) == -ending, "it ends as it would have without the backend"
        router.start()
        router.client.wait_for("demo/shown", {"demo/shown": value})


def test_a_stop_can_be_left_to_the_router(start_router):
    """Then it is a kill: what is not committed is lost."""
    volumes = {"mst": {"graceful_stop": False}}
    router = start_router({"demo": storage("demo/**", **UNHURRIED)}, volumes=volumes)
    router.client.put("demo/shown", "value")
    router.client.wait_for("demo/shown", {"demo/shown": b"value"})
    assert router.end_by(signal.SIGTERM) == -signal.SIGTERM
    router.start()
    assert router.client.get("demo/shown") == {}


def test_a_stop_of_many_storages_closes_them_all(start_router):
    storages = {f"s{n}": storage(f"s{n}/**", **UNHURRIED) for n in range(12)}
    router = start_router(storages)
    values = {f"s{n}/key": str(n).encode() for n in range(12)}
    for key, value in values.items():
        router.client.put(key, value)
    for key, value in values.items():
        router.client.wait_for(key, {key: value})
    router.end_by(signal.SIGTERM)
    router.start()
    for key, value in values.items():
        router.client.wait_for(key, {key: value})
