"""What every storage does: keep values by key, and give them back."""

import os

import pytest
import zenoh

from client import timestamp
from polling import wait_until
from router import storage


@pytest.fixture(scope="module")
def router(start_shared_router):
    return start_shared_router({"demo": storage("demo/**")})


@pytest.fixture
def client(router):
    return router.client


def test_a_put_is_got_until_it_is_deleted(client):
    client.put("demo/life/greeting", "hello")
    client.wait_for("demo/life/greeting", {"demo/life/greeting": b"hello"})
    client.delete("demo/life/greeting")
    client.wait_for("demo/life/greeting", {})
    client.put("demo/life/greeting", "hello again")
    client.wait_for("demo/life/greeting", {"demo/life/greeting": b"hello again"})


def test_a_put_replaces_the_value_that_was_there(client):
    for value in ["one", "two", "a rather longer one " * 100, "3"]:
        client.put("demo/replaced", value)
        client.wait_for("demo/replaced", {"demo/replaced": value.encode()})


def test_what_was_never_put_is_not_there(client):
    assert client.get("demo/never/put") == {}
    assert client.get("demo/never/**") == {}


def test_deleting_what_is_not_there_does_no_harm(router, client):
    deletes = router.status("demo")["counters"]["deletes"]
    client.delete("demo/nothing/here")
    router.wait_for_counters("demo", deletes=deletes + 1)
    assert client.get("demo/nothing/**") == {}


def test_wildcards_select_what_they_match(client):
    fleet = {
        f"demo/fleet/{robot}/{part}": f"{robot} {part}".encode()
        for robot in ["r1", "r2", "r3"]
        for part in ["arm", "arm/joint", "leg"]
    }
    for key, value in fleet.items():
        client.put(key, value)
    client.wait_for("demo/fleet/**", fleet)

    def matching(*keys):
        return {f"demo/fleet/{key}": fleet[f"demo/fleet/{key}"] for key in keys}

    assert client.get("demo/fleet/*/arm") == matching("r1/arm", "r2/arm", "r3/arm")
    assert client.get("demo/fleet/r2/**") == matching("r2/arm", "r2/arm/joint", "r2/leg")
    assert client.get("demo/fleet/**/joint") == matching(
        "r1/arm/joint", "r2/arm/joint", "r3/arm/joint"
    )
    assert client.get("demo/fleet/r$*/leg") == matching("r1/leg", "r2/leg", "r3/leg")
    assert client.get("demo/fleet/*") == {}


def test_keys_are_any_text(client):
    values = {
        "demo/text/größe": b"umlauts",
        "demo/text/温度": b"Chinese",
        "demo/text/a b": b"a space",
        "demo/text/" + "long" * 200: b"long",
        "demo/text/a/b/c/d/e/f/g/h/i/j/k/l/m": b"deep",
    }
    for key, value in values.items():
        client.put(key, value)
    client.wait_for("demo/text/**", values)
    for key, value in values.items():
        assert client.get(key) == {key: value}


@pytest.mark.parametrize(
    "encoding",
    [
        zenoh.Encoding.ZENOH_BYTES,
        zenoh.Encoding.TEXT_PLAIN,
        zenoh.Encoding.TEXT_PLAIN.with_schema("utf-8"),
        zenoh.Encoding.APPLICATION_JSON,
        zenoh.Encoding.APPLICATION_PROTOBUF.with_schema("fleet.Position"),
        zenoh.Encoding("my_app/odometer;counter"),
    ],
    ids=str,
)
def test_encoding_and_timestamp_come_back_with_the_value(router, client, encoding):
    written_at = timestamp()
    key = "demo/encoded"
    client.put(key, "{}", encoding=encoding, timestamp=written_at)

    def is_there():
        sample = client.sample(key)
        return sample and sample.timestamp == written_at and sample

    sample = wait_until(is_there, f"a value of {written_at}")
    assert sample.encoding == encoding
    assert bytes(sample.payload) == b"{}"


# A payload of more than 1024 bytes is kept apart from its key.
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0", id="a zero"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param(os.urandom(1023), id="1023 bytes"),
        pytest.param(os.urandom(1024), id="1024 bytes"),
        pytest.param(os.urandom(1025), id="1025 bytes"),
        pytest.param(os.urandom(5 << 20), id="5 MiB"),
    ],
)
def test_any_payload_comes_back_as_it_was(client, payload):
    client.put("demo/payload", payload)
    client.wait_for("demo/payload", {"demo/payload": payload})


def test_a_thousand_keys_are_all_there_and_each_once(router, client):
    puts = router.status("demo")["counters"]["puts"]
    values = {f"demo/many/{n // 100}/{n}": f"value {n}".encode() for n in range(1000)}
    for key, value in values.items():
        client.put(key, value)
    router.wait_for_counters("demo", puts=puts + 1000)
    assert client.get("demo/many/**") == values
    assert len(client.get("demo/many/7/*")) == 100


def test_what_is_not_settled_yet_is_got_like_all_else(start_router):
    """An update is seen once the storage has it, long before it is part of the root."""
    router = start_router({"demo": storage("demo/**", settle="60s")})
    router.client.put("demo/new", "seen")
    router.client.put("demo/gone", "not seen")
    router.wait_for_counters("demo", puts=2)
    router.client.delete("demo/gone")
    status = router.wait_for_counters("demo", puts=2, deletes=1)
    assert status["queues"]["unsettled"] == 2 and status["cells"] == 0, status
    assert router.client.get("demo/new") == {"demo/new": b"seen"}
    assert router.client.get("demo/gone") == {}
    assert router.client.get("demo/**") == {"demo/new": b"seen"}


@pytest.mark.parametrize("settle", ["10ms", "60s"], ids=["settled", "not settled"])
def test_a_wildcard_delete_reaches_every_key_it_matches(start_router, settle):
    router = start_router({"demo": storage("demo/**", settle=settle)})
    client = router.client
    values = {f"demo/{area}/{n}": b"x" for area in ["in", "out"] for n in range(50)}
    for key, value in values.items():
        client.put(key, value)
    router.wait_for_counters("demo", puts=100)
    if settle == "10ms":
        router.wait_until_settled("demo", cells=100)
    client.delete("demo/in/**")
    router.wait_for_counters("demo", deletes=50)
    assert client.get("demo/**") == {key: b"x" for key in values if key.startswith("demo/out/")}
    client.delete("demo/**")
    client.wait_for("demo/**", {})
    client.put("demo/in/7", "new")
    client.wait_for("demo/**", {"demo/in/7": b"new"})


def test_a_wildcard_put_replaces_every_value_it_matches(start_router, door):
    router = start_router({"demo": storage("demo/**")})
    client = router.client
    for n in range(20):
        client.put(f"demo/in/{n}", "old")
    client.put("demo/out", "old")
    router.wait_for_counters("demo", puts=21)
    client.put("demo/in/*", "new", encoding=zenoh.Encoding.TEXT_PLAIN)
    # The storage manager makes a put of each key of it, the plugin one rule.
    router.wait_for_counters("demo", puts=41 if door == "volume" else 22)
    samples = client.samples("demo/**")
    assert bytes(samples.pop("demo/out").payload) == b"old"
    assert len(samples) == 20
    for key, sample in samples.items():
        assert bytes(sample.payload) == b"new", key
        assert sample.encoding == zenoh.Encoding.TEXT_PLAIN, key


def test_a_key_of_many_chunks_takes_no_router_down(start_router):
    """The storage manager compares each key with a wildcard get's by a call for each chunk."""
    router = start_router({"demo": storage("demo/**")})
    router.client.put("demo/" + "/".join(["a"] * 29_000), "x")
    router.client.put("demo/" + "/".join(["a"] * 4_000) + "/x", "y")
    router.wait_for_counters("demo", puts=1, refused=1)
    assert list(router.client.get("demo/**/x").values()) == [b"y"]
    assert router.is_running
