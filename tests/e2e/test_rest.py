"""The commands of the documentation: curl, with the REST plugin."""

import json
import os
import subprocess

import pytest

from polling import wait_until
from router import storage


@pytest.fixture(scope="module")
def router(start_shared_router):
    return start_shared_router({"demo": storage("demo/**")})


def curl(*arguments):
    """The HTTP status and the body of the response."""
    process = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments],
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        timeout=30,
        check=True,
    )
    body, _, status = process.stdout.decode().rpartition("\n")
    return int(status), body


def values(body):
    return {reply["key"]: reply["value"] for reply in json.loads(body)}


def wait_for_values(url, expected):
    """The storage takes a put a moment after curl has been told that it is sent."""

    def check():
        status, body = curl("-g", url)
        assert status == 200, body
        return values(body) == expected

    wait_until(check, lambda: f"{url} is {expected}; it is {curl('-g', url)}")


def test_curl_puts_gets_and_deletes(router):
    greeting = f"{router.rest_url}/demo/greeting"
    everything = f"{router.rest_url}/demo/**"
    status, _ = curl("-X", "PUT", "-H", "content-type: text/plain", "-d", "hello", greeting)
    assert status == 200
    wait_for_values(greeting, {"demo/greeting": "hello"})
    wait_for_values(everything, {"demo/greeting": "hello"})
    status, _ = curl("-X", "DELETE", greeting)
    assert status == 200
    wait_for_values(everything, {})


def test_json_comes_back_as_json(router):
    url = f"{router.rest_url}/demo/json"
    curl("-X", "PUT", "-H", "content-type: application/json", "-d", '{"x": [1, 2.5, null]}', url)
    wait_for_values(url, {"demo/json": {"x": [1, 2.5, None]}})
    curl("-X", "DELETE", url)
    wait_for_values(url, {})


def test_curl_and_a_zenoh_client_see_the_same(router):
    url = f"{router.rest_url}/demo/shared"
    curl("-X", "PUT", "-H", "content-type: text/plain", "-d", "from curl", url)
    router.client.wait_for("demo/shared", {"demo/shared": b"from curl"})
    router.client.delete("demo/shared")
    wait_for_values(url, {})


def test_a_key_that_is_not_text_is_refused_and_the_router_goes_on(router):
    before = router.status("demo")
    status, body = curl("-X", "PUT", "-d", "x", f"{router.rest_url}/demo/%FF%FE")
    assert status == 400, body
    assert "UTF-8" in body
    assert router.is_alive()
    assert router.status("demo")["counters"]["puts"] == before["counters"]["puts"]
    assert router.client.get("demo/**") == {}


def test_curl_adds_and_removes_a_storage(start_router):
    router = start_router({"demo": storage("demo/**")}, config_is_writable=True)
    storages = f"{router.rest_url}/@/local/router/config/{router.configured}/storages"
    # As people write it: JSON5.
    config = {
        "volume": '{key_expr: "fleet/**", volume: {id: "mst"}}',
        "plugin": '{key_expr: "fleet/**"}',
    }[router.door]
    status, _ = curl("-X", "PUT", f"{storages}/fleet", "-d", config)
    assert status == 200
    wait_until(lambda: router.status("fleet"), "the storage is there")
    url = f"{router.rest_url}/fleet/a"
    curl("-X", "PUT", "-H", "content-type: text/plain", "-d", "value", url)
    wait_for_values(url, {"fleet/a": "value"})
    status, _ = curl("-X", "DELETE", f"{storages}/fleet")
    assert status == 200
    wait_until(lambda: not router.has_open(router.data / "fleet"), "the storage is closed")
    wait_for_values(url, {})
    assert router.status("fleet") is None


def test_the_admin_space_answers_curl(router):
    status, body = curl(
        f"{router.rest_url}/@/local/router/status/{router.configured}/storages/demo"
    )
    assert status == 200
    [reply] = json.loads(body)
    assert "root" in reply["value"]
