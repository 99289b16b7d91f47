"""Puts that are merged: sums, sets, objects and documents, in one router."""

import json
import threading

import pytest
import zenoh

from client import Client, timestamp
from polling import wait_until
from router import storage
from test_rest import curl, values, wait_for_values

#: An object some of whose fields are merged, too.
OBJECT = {
    "strategy": "object",
    "fields": {
        "hours": "additive",
        "tags": "set_union",
        "engine": {"strategy": "object", "fields": {"starts": "additive"}},
    },
}


def merging(key_expr, default="lww", *, types=None, keys=None, **options):
    """The configuration of a storage that merges and is not replicated."""
    replication = {
        "enabled": False,
        "default_strategy": default,
        "type_overrides": types or {},
        "key_overrides": keys or {},
    }
    return storage(key_expr, settle="50ms", replication=replication, **options)


@pytest.fixture(scope="module")
def router(start_shared_router):
    """Each test has keys of its own, and those that look at counters a storage."""
    return start_shared_router(
        {
            "count": merging("count/**", "additive"),
            "set": merging("set/**", "set_union"),
            "object": merging("object/**", OBJECT),
            "document": merging("document/**", "automerge_crdt"),
            "volatile": merging("volatile/**", "additive", persistence="memory"),
            "fleet": merging("fleet/**", strip_prefix="fleet", keys={"fleet/sum": "additive"}),
            "types": merging(
                "types/**",
                types={
                    "counter": "additive",
                    "application/json;tags": "set_union",
                    "application/yaml": "set_union",
                },
            ),
            "rules": merging(
                "rules/**",
                "set_union",
                types={"counter": "additive"},
                keys={
                    "rules/*/odometer": "additive",
                    "rules/truck/**": "lww",
                    "rules/truck/7/state": OBJECT,
                },
            ),
            "several": merging(
                "several/**", keys={"several/count/*": "additive", "several/set": "set_union"}
            ),
            "counted": merging("counted/**", "additive", keys={"counted/set": "set_union"}),
        }
    )


@pytest.fixture
def client(router):
    return router.client


def in_order(client, key, *payloads):
    """Puts, each newer than the one before."""
    for number, payload in enumerate(payloads):
        client.put(key, payload, timestamp=timestamp(number - 100))


def url_of(router, key):
    return f"{router.rest_url}/{key}"


def curl_put(router, key, payload, content_type="application/json", how="-d"):
    header = f"content-type: {content_type}"
    status, body = curl("-X", "PUT", "-H", header, how, payload, url_of(router, key))
    assert status == 200, body


# Counters.


@pytest.mark.parametrize("name", ["count", "volatile", "fleet"])
def test_a_counter_is_the_sum_of_all_puts(client, name):
    key = f"{name}/sum"
    for _ in range(500):
        client.put(key, "1")
    # In doubles this would be something else.
    for number in ["0.1", "0.2", " -0.5\n", "2e2"]:
        client.put(key, number)
    client.wait_for(key, {key: b"699.8"})


def test_numbers_are_added_exactly(client):
    largest = "9" * 18 + "." + "9" * 18
    for number in [largest, largest, "0.000000000000000002"]:
        client.put("count/exact", number)
    client.wait_for("count/exact", {"count/exact": b"2" + b"0" * 18})


def test_a_sum_has_the_encoding_and_the_time_of_the_newest_put(client):
    key = "count/encoded"
    encodings = ["text/plain;counter", "application/json", "my/number"]
    order = [1, 0, 2]
    stamps = [timestamp(place - 100) for place in order]
    for stamp, encoding in zip(stamps, encodings):
        client.put(key, "1", timestamp=stamp, encoding=zenoh.Encoding(encoding))
    client.wait_for(key, {key: b"3"})
    sample = client.sample(key)
    assert str(sample.encoding) == "my/number"
    assert sample.timestamp == stamps[2]
    client.put(key, "1", timestamp=timestamp(-101))
    client.wait_for(key, {key: b"4"})
    assert str(client.sample(key).encoding) == "my/number", "what comes late is not the newest"


def test_the_same_put_again_counts_once(client):
    stamp = timestamp(-50)
    client.put("count/again", "1", timestamp=timestamp(-60))
    for _ in range(3):
        client.put("count/again", "5", timestamp=stamp)
    client.put("count/again", "0.5")
    client.wait_for("count/again", {"count/again": b"6.5"})


def test_reads_between_puts_see_each_of_them(client):
    for n in range(1, 101):
        client.put("count/read", "1")
        client.wait_for("count/read", {"count/read": b"%d" % n})


def test_increments_of_many_clients_at_once_are_all_counted(router):
    """With reads meanwhile, which see the sum grow."""
    clients = [Client(router.port) for _ in range(4)]

    def increment(client):
        for n in range(300):
            client.put(f"count/many/{n % 3}", "1")

    threads = [threading.Thread(target=increment, args=[client]) for client in clients]
    try:
        for thread in threads:
            thread.start()
        seen = [0]
        while any(thread.is_alive() for thread in threads):
            seen.append(sum(map(int, router.client.get("count/many/*").values())))
        assert seen == sorted(seen)
        router.client.wait_for("count/many/*", {f"count/many/{n}": b"400" for n in range(3)})
    finally:
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()


def test_curl_counts(router):
    for number in ["1", "2.5", "-0.5"]:
        curl_put(router, "count/curl", number)
    wait_for_values(url_of(router, "count/curl"), {"count/curl": 3})
    curl("-X", "DELETE", url_of(router, "count/curl"))
    wait_for_values(url_of(router, "count/curl"), {})


# Sets.


def test_a_set_has_what_was_added_and_not_removed_since(client):
    in_order(
        client,
        "set/a",
        '["b", {"y": 1, "x": [2]}, 2.5, "ä", []]',
        "red",
        "10",
        '"quoted"',
        '{"add": [true, null, false], "remove": ["b", "never there"]}',
        '{"remove": ["red"]}',
        "red",
        '["red", 10.0, {"x": [2], "y": 1}]',
    )
    expected = b'[null,false,true,2.5,10,"quoted","red","\xc3\xa4",[],{"x":[2],"y":1}]'
    client.wait_for("set/a", {"set/a": expected})
    assert str(client.sample("set/a").encoding) == "application/json"


def test_of_an_add_and_a_remove_the_later_wins_whichever_comes_first(client):
    client.put("set/late", '{"remove": [1]}', timestamp=timestamp(-20))
    client.put("set/late", "[1, 2]", timestamp=timestamp(-30))
    client.put("set/late", "[3]", timestamp=timestamp(-10))
    client.put("set/late", '{"remove": [3]}', timestamp=timestamp(-15))
    client.wait_for("set/late", {"set/late": b"[2,3]"})


def test_a_set_that_lost_all_elements_is_empty_and_there(client):
    in_order(client, "set/emptied", '["a"]', '{"remove": ["a"]}')
    client.put("set/empty", "[]")
    client.wait_for("set/emptied", {"set/emptied": b"[]"})
    client.wait_for("set/empty", {"set/empty": b"[]"})


def test_curl_adds_to_and_removes_from_a_set(router):
    """As the documentation has it: the commands one after the other."""
    url = url_of(router, "set/curl")
    curl_put(router, "set/curl", '["red", "blue"]')
    wait_for_values(url, {"set/curl": ["blue", "red"]})
    curl_put(router, "set/curl", "green", "text/plain")
    wait_for_values(url, {"set/curl": ["blue", "green", "red"]})
    curl_put(router, "set/curl", '{"add": ["pink"], "remove": ["red", "blue"]}')
    wait_for_values(url, {"set/curl": ["green", "pink"]})
    curl("-X", "DELETE", url)
    wait_for_values(url, {})


# Objects.


def test_an_object_is_merged_field_by_field(client):
    in_order(
        client,
        "object/a",
        '{"name": "truck 7", "driver": "ann", "at": {"x": 1, "y": 2}}',
        '{"driver": "bob", "load": 1e2}',
        '{"at": {"x": 3}, "name": null}',
    )
    # A value is as it was put. One that is an object is replaced as a whole, where the
    # field has no strategy of its own.
    client.wait_for("object/a", {"object/a": b'{"at":{"x": 3},"driver":"bob","load":1e2}'})
    assert str(client.sample("object/a").encoding) == "application/json"


def test_fields_have_strategies_of_their_own(client):
    in_order(
        client,
        "object/fields",
        '{"hours": 1.5, "tags": ["a", "b"], "engine": {"starts": 1, "oil": "low"}}',
        '{"hours": 2, "tags": {"add": ["c"], "remove": ["a"]}, "engine": {"oil": "ok"}}',
        '{"engine": {"starts": 2}, "tags": "d"}',
    )
    expected = b'{"engine":{"oil":"ok","starts":3},"hours":3.5,"tags":["b","c","d"]}'
    client.wait_for("object/fields", {"object/fields": expected})


def test_a_field_that_is_removed_starts_anew(client):
    in_order(
        client,
        "object/removed",
        '{"hours": 5, "tags": [1], "name": "x"}',
        '{"hours": null, "tags": null, "name": null}',
        '{"hours": 2}',
    )
    client.wait_for("object/removed", {"object/removed": b'{"hours":2}'})
    # An older increment, that comes late, was removed, too.
    client.put("object/removed", '{"hours": 7}', timestamp=timestamp(-110))
    client.put("object/removed", '{"hours": 1}')
    client.wait_for("object/removed", {"object/removed": b'{"hours":3}'})


def test_an_object_that_lost_all_fields_is_empty_and_there(client):
    in_order(client, "object/emptied", '{"a": 1}', '{"a": null}')
    client.put("object/empty", "{}")
    client.wait_for("object/emptied", {"object/emptied": b"{}"})
    client.wait_for("object/empty", {"object/empty": b"{}"})


def test_curl_sets_and_removes_fields(router):
    url = url_of(router, "object/curl")
    curl_put(router, "object/curl", '{"a": 1, "hours": 1, "b": [null]}')
    wait_for_values(url, {"object/curl": {"a": 1, "hours": 1, "b": [None]}})
    curl_put(router, "object/curl", '{"a": null, "hours": 2}')
    wait_for_values(url, {"object/curl": {"hours": 3, "b": [None]}})


# Which strategy.


@pytest.mark.parametrize(
    "encoding", ["text/plain;counter", "application/json;counter", "counter", "my/own;counter"]
)
def test_a_put_of_a_type_is_merged_as_the_type_is(router, encoding):
    """By the content-type that curl gives, and by the encoding that a client does."""
    key = f"types/{encoding.replace('/', '_').replace(';', '_')}"
    curl_put(router, key, "5", encoding)
    router.client.wait_for(key, {key: b"5"})
    router.client.put(key, "2", encoding=zenoh.Encoding(encoding))
    router.client.wait_for(key, {key: b"7"})
    curl_put(router, key, "1", encoding)
    router.client.wait_for(key, {key: b"8"})
    assert str(router.client.sample(key).encoding) == encoding


def test_an_encoding_with_its_schema_is_a_type(client):
    tags = zenoh.Encoding.APPLICATION_JSON.with_schema("tags")
    client.put("types/tags", "[1]", encoding=tags)
    client.put("types/tags", "[2]", encoding=tags)
    client.wait_for("types/tags", {"types/tags": b"[1,2]"})


def test_an_encoding_is_a_type_with_any_schema(client):
    client.put("types/yaml", "one", encoding=zenoh.Encoding.APPLICATION_YAML)
    client.put("types/yaml", "two", encoding=zenoh.Encoding.APPLICATION_YAML.with_schema("any"))
    client.wait_for("types/yaml", {"types/yaml": b'["one","two"]'})


def test_a_set_is_json_with_the_schema_of_its_puts(router):
    curl_put(router, "types/curl", '["b"]', "application/json;tags")
    curl_put(router, "types/curl", '["a"]', "application/json;tags")
    router.client.wait_for("types/curl", {"types/curl": b'["a","b"]'})
    assert str(router.client.sample("types/curl").encoding) == "application/json;tags"


@pytest.mark.parametrize("encoding", ["text/plain", "text/plain;tags", "text/plain;counters"])
def test_a_put_of_no_type_that_has_a_rule_is_merged_by_the_default(client, encoding):
    key = f"types/other/{encoding.replace('/', '_').replace(';', '_')}"
    for payload in ["1", "2"]:
        client.put(key, payload, encoding=zenoh.Encoding(encoding))
    client.wait_for(key, {key: b"2"})
    assert str(client.sample(key).encoding) == encoding


def test_the_rule_of_a_key_goes_before_that_of_a_type(client):
    counter = zenoh.Encoding("text/plain;counter")
    for key in ["rules/car/trip", "rules/truck/trip"]:
        in_order(client, key, "1", "2")
        client.put(key, "3", timestamp=timestamp(-50), encoding=counter)
        client.put(key, "4", timestamp=timestamp(-49), encoding=counter)
    # By its type it is summed, but for the truck, where no rule of types counts.
    client.wait_for("rules/car/trip", {"rules/car/trip": b"7"})
    client.wait_for("rules/truck/trip", {"rules/truck/trip": b"4"})


def test_the_most_specific_rule_of_a_key_is_taken(client):
    expected = {
        "rules/car/odometer": b"3",
        "rules/truck/odometer": b"2",
        "rules/truck/7/state": b'{"a":1,"b":2}',
        "rules/car/7/state": b'["{}"]',
    }
    for key in ["rules/car/odometer", "rules/truck/odometer"]:
        in_order(client, key, "1", "2")
    in_order(client, "rules/truck/7/state", '{"a": 1}', '{"b": 2}')
    client.put("rules/car/7/state", '"{}"')
    for key, value in expected.items():
        client.wait_for(key, {key: value})


# Reading.


def test_the_cells_of_a_key_are_shown_with_their_stamps(client):
    deleted, added, removed = (timestamp(seconds) for seconds in [-30, -20, -10])
    client.delete("set/cells", timestamp=deleted)
    encoding = zenoh.Encoding("application/json;colours")
    client.put("set/cells", '["red", 1]', timestamp=added, encoding=encoding)
    client.put("set/cells", '{"remove": [1]}', timestamp=removed)
    client.wait_for("set/cells", {"set/cells": b'["red"]'})
    sample = client.samples("set/cells?raw")["set/cells"]
    assert str(sample.encoding) == "application/json"
    assert sample.timestamp == removed
    assert json.loads(bytes(sample.payload)) == [
        {"strategy": "lww", "timestamp": str(deleted), "deleted": True},
        # That there is a set.
        {
            "strategy": "set_union",
            "timestamp": str(removed),
            "encoding": "zenoh/bytes",
            "value": "",
        },
        {"strategy": "set_union", "part": 1, "timestamp": str(removed), "deleted": True},
        {
            "strategy": "set_union",
            "part": "red",
            "timestamp": str(added),
            "encoding": "application/json;colours",
            "value": "",
        },
    ]


def test_curl_shows_the_cells_of_a_key(router):
    url = url_of(router, "object/cells")
    curl_put(router, "object/cells", '{"hours": 2, "name": "x"}')
    wait_for_values(url, {"object/cells": {"hours": 2, "name": "x"}})
    status, body = curl("-g", f"{url}?raw")
    assert status == 200
    exists, hours, name = values(body)["object/cells"]
    assert "part" not in exists and exists["value"] == "", "that there is an object"
    assert hours["part"] == {"field": "hours", "strategy": "additive"}
    assert hours["value"] == "2"
    assert name["part"] == {"field": "name"}
    assert name["value"] == '"x"'
    assert hours["timestamp"] == name["timestamp"], "one put, one timestamp"


def test_curl_reads_a_value_alone_whatever_its_encoding(router):
    """By a parameter of the REST plugin, which else shows in base64 what it does not know."""
    url = url_of(router, "count/alone")
    curl_put(router, "count/alone", "1.5", "text/plain;counter")
    curl_put(router, "count/alone", "2", "text/plain;counter")
    router.client.wait_for("count/alone", {"count/alone": b"3.5"})
    assert curl(f"{url}?_raw") == (200, "3.5")
    assert curl(f"{url}?_raw;json") == (200, "3.5")
    status, body = curl(f"{url}?_raw;raw")
    assert status == 200
    assert [cell["value"] for cell in json.loads(body)] == ["1.5", "2"]


def test_the_cells_of_a_key_that_is_not_there_are_not_there(client):
    assert client.get("count/nobody?raw") == {}
    assert client.get("count/nobody") == {}


def test_a_plain_value_is_shown_as_its_one_cell(client):
    stamp = timestamp(-10)
    client.put("types/plain", "x", timestamp=stamp, encoding=zenoh.Encoding.TEXT_PLAIN)
    client.wait_for("types/plain", {"types/plain": b"x"})
    [cell] = json.loads(client.get("types/plain?raw")["types/plain"])
    assert cell == {
        "strategy": "lww",
        "timestamp": str(stamp),
        "encoding": "text/plain",
        "value": "x",
    }


def test_a_wildcard_shows_each_key_once(router):
    """Before it is settled and after, merged or not; and not what is deleted."""
    client = router.client
    # The rule for count/* is none for what is deeper.
    expected = {"several/set": b"[0,1,2,3,4,5,6,7,8,9]", "several/z": b"9"}
    for n in range(10):
        for key in ["a", "a/b", "b", "gone"]:
            client.put(f"several/count/{key}", "1")
        client.put("several/set", f"[{n}]")
        client.put("several/z", str(n))
    expected |= {"several/count/a": b"10", "several/count/b": b"10", "several/count/a/b": b"1"}
    client.wait_for("several/count/gone", {"several/count/gone": b"10"})
    client.delete("several/count/gone")
    client.wait_for("several/count/gone", {})
    for selector in ["several/count/*", "several/count/**", "several/*"]:
        matching = {key: value for key, value in expected.items() if is_below(key, selector)}
        client.wait_for(selector, matching)
    router.wait_until_settled("several")
    for selector in ["several/count/*", "several/count/**", "several/*"]:
        matching = {key: value for key, value in expected.items() if is_below(key, selector)}
        assert client.get(selector) == matching


def is_below(key, selector):
    return zenoh.KeyExpr(selector).includes(zenoh.KeyExpr(key))


def test_the_status_counts_keys_and_not_cells(router):
    client = router.client
    for n in range(20):
        client.put("counted/a", "1")
        client.put("counted/b", "1")
    in_order(client, "counted/set", "[1, 2, 3]", '{"remove": [1]}')
    router.wait_until_settled("counted", keys=3, cells=44, tombstones=1)
    client.delete("counted/a")
    # What the delete covers is gone.
    status = router.wait_until_settled("counted", keys=2, cells=25, tombstones=2)
    assert client.get("counted/**") == {"counted/b": b"20", "counted/set": b"[2,3]"}
    assert status["counters"]["puts"] == 42
    assert status["counters"]["deletes"] == 1
    assert status["counters"]["refused"] == 0


# What is refused.

REFUSED = {
    "text in a counter": ("count", "5", "five", "additive", "number"),
    "nothing in a counter": ("count", "5", "", "additive", "number"),
    "too many digits": ("count", "5", "1" * 19, "additive", "18 digits"),
    "a set in a counter": ("count", "5", "[1]", "additive", "number"),
    "an object in a set": ("set", '["a"]', '{"a": 1}', "set_union", "`a`"),
    "a set with half of an array": ("set", '["a"]', '["b"', "set_union", "JSON"),
    "added and removed": ("set", '["a"]', '{"add": [1], "remove": [1]}', "set_union", "both"),
    "an array for an object": ("object", '{"a":1}', "[1]", "object", "JSON object"),
    "a number for an object": ("object", '{"a":1}', "7", "object", "JSON object"),
    "half an object": ("object", '{"a":1}', '{"b": 2', "object", "JSON object"),
    "a field that does not fit": ("object", '{"a":1}', '{"b":2,"hours":"x"}', "object", "`hours`"),
    "text for a document": ("document", None, "text", "automerge_crdt", "Automerge"),
    "a broken document": ("document", None, b"\x85oJ\x83" + bytes(20), "automerge_crdt", "Auto"),
}


def wait_for_refusal(router, name, key, put):
    """Waits until what `put` puts is refused, and returns what the log says."""
    before = router.status(name)["counters"]
    put()
    after = router.wait_for_status(
        name,
        lambda status: status["counters"]["puts"] + status["counters"]["refused"]
        > before["puts"] + before["refused"],
        "the put has come",
    )["counters"]
    assert after["refused"] == before["refused"] + 1, "it is refused"
    assert after["puts"] == before["puts"]
    return router.wait_for_log("ERROR", key, "refused")


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_strategy_cannot_take_is_refused_and_changes_nothing(router, case):
    name, good, bad, strategy, reason = REFUSED[case]
    client = router.client
    key = f"{name}/refused/{case.replace(' ', '_')}"
    before = {}
    if good is not None:
        client.put(key, good)
        before = {key: good.encode()}
        client.wait_for(key, before)
    line = wait_for_refusal(router, name, key, lambda: client.put(key, bad))
    assert f"`{strategy}`" in line and reason in line, line
    assert client.get(key) == before
    raw = json.loads(client.get(f"{key}?raw").get(key, "[]"))
    # A set or an object has one beside its only element or field.
    cells = len(before) if name == "count" else 2 * len(before)
    assert len(raw) == cells, "no cell was written"


def test_after_a_refusal_a_counter_counts_on(router):
    refused = router.status("count")["counters"]["refused"]
    for number in ["1", "one", "2", "two", "3"]:
        curl_put(router, "count/mixed", number, "text/plain")
    wait_for_values(url_of(router, "count/mixed"), {"count/mixed": "6"})
    router.wait_for_counters("count", refused=refused + 2)


# Deletes.

PUTS = {
    "count": ("1", "2", b"2"),
    "set": ("[1]", "[2]", b"[2]"),
    "object": ('{"a": 1, "hours": 1}', '{"hours": 2}', b'{"hours":2}'),
}


@pytest.mark.parametrize("name", PUTS)
def test_what_is_put_after_a_delete_starts_anew(client, name):
    before, after, expected = PUTS[name]
    key = f"{name}/deleted"
    client.put(key, before, timestamp=timestamp(-30))
    client.wait_for(f"{name}/deleted", {key: before.replace(" ", "").encode()})
    client.delete(key, timestamp=timestamp(-20))
    client.wait_for(key, {})
    client.put(key, after, timestamp=timestamp(-10))
    client.wait_for(key, {key: expected})


@pytest.mark.parametrize("name", PUTS)
def test_a_delete_deletes_what_is_older_and_nothing_else(router, name):
    """In whatever order they come."""
    before, after, expected = PUTS[name]
    client = router.client
    key = f"{name}/deleted_between"
    counters = router.status(name)["counters"]
    client.put(key, after, timestamp=timestamp(-10))
    client.put(key, before, timestamp=timestamp(-30))
    client.delete(key, timestamp=timestamp(-20))
    router.wait_for_counters(name, deletes=counters["deletes"] + 1)
    assert client.get(key) == {key: expected}
    router.wait_until_settled(name)
    assert client.get(key) == {key: expected}
    client.put(key, before, timestamp=timestamp(-25))
    router.wait_for_counters(name, outdated=counters["outdated"] + 1)
    assert client.get(key) == {key: expected}


def test_deletes_and_puts_again_and_again(client):
    """As clients do it, who leave the timestamps to others."""
    for n in range(1, 6):
        for _ in range(n):
            client.put("count/often", "1")
        client.wait_for("count/often", {"count/often": b"%d" % n})
        client.delete("count/often")
        client.wait_for("count/often", {})


# What is kept.


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_everything_is_there_after_a_restart(start_router, end):
    keys = {"demo/count/*": "additive", "demo/set": "set_union", "demo/object": OBJECT}
    router = start_router({"demo": merging("demo/**", keys=keys)})
    client = router.client
    for _ in range(200):
        client.put("demo/count/a", "0.1")
    client.put("demo/count/deleted", "1")
    client.wait_for("demo/count/deleted", {"demo/count/deleted": b"1"})
    client.delete("demo/count/deleted")
    in_order(client, "demo/set", '["a", "b"]', '{"remove": ["a"]}')
    in_order(client, "demo/object", '{"hours": 1, "tags": ["x"], "a": 1}', '{"hours": 2}')
    client.put("demo/plain", "value")
    expected = {
        "demo/count/a": b"20",
        "demo/set": b'["b"]',
        "demo/object": b'{"a":1,"hours":3,"tags":["x"]}',
        "demo/plain": b"value",
    }
    client.wait_for("demo/**", expected)
    before = router.wait_until_settled("demo", keys=4, tombstones=2)

    getattr(router, end)()
    router.start()

    after = router.status("demo")
    for field in ["root", "cells", "keys", "tombstones"]:
        assert after[field] == before[field], field
    client = router.client
    assert client.get("demo/**") == expected
    client.put("demo/count/a", "1")
    client.put("demo/count/deleted", "7")
    client.put("demo/object", '{"hours": 1}')
    expected |= {
        "demo/count/a": b"21",
        "demo/count/deleted": b"7",
        "demo/object": b'{"a":1,"hours":4,"tags":["x"]}',
    }
    client.wait_for("demo/**", expected)


def test_increments_that_are_committed_survive_a_kill_amid_others(start_router):
    """A sum after a kill is that of the increments that were committed, each once."""
    router = start_router({"demo": merging("demo/**", "additive", sync_every="20ms")})
    for _ in range(3000):
        router.client.put("demo/a", "1")
    status = router.wait_for_status(
        "demo", lambda status: status["counters"]["committed_cells"] >= 200, "some are committed"
    )
    router.kill()
    router.start()
    found = int(router.client.get("demo/a")["demo/a"])
    assert status["counters"]["committed_cells"] <= found <= 3000
    assert router.status("demo")["cells"] == found


def test_increments_by_curl_survive_a_kill_when_they_are_committed(start_router):
    router = start_router({"demo": merging("demo/**", "additive")})
    for _ in range(5):
        curl_put(router, "demo/a", "2")
    router.wait_for_counters("demo", committed_cells=5)
    router.kill()
    router.start()
    wait_for_values(url_of(router, "demo/a"), {"demo/a": 10})


# Other rules than before.

#: What is put by the old rules, what a get then says; the same by the new ones.
SWITCHES = {
    "lww to additive": ("lww", ["40"], b"40", "additive", ["2", "1"], b"43"),
    "lww that is no number to additive": ("lww", ["x"], b"x", "additive", ["2", "1"], b"3"),
    "additive to lww": ("additive", ["40", "2"], b"42", "lww", ["7"], b"7"),
    "additive to set_union": ("additive", ["40", "2"], b"42", "set_union", ["[7]"], b"[7]"),
    "set_union to additive": ("set_union", ["[1]"], b"[1]", "additive", ["7"], b"7"),
    "lww to set_union": ("lww", ["[1,2]"], b"[1,2]", "set_union", ["[3]"], b"[1,2,3]"),
    "lww to object": ("lww", ['{"a":1}'], b'{"a":1}', OBJECT, ['{"b":2}'], b'{"a":1,"b":2}'),
    "object to lww": (OBJECT, ['{"a":1}', '{"b":2}'], b'{"a":1,"b":2}', "lww", ["x"], b"x"),
}


def test_a_value_of_before_is_shown_until_the_first_put_by_other_rules(start_router):
    """And an LWW value counts as the first put, if it can."""
    names = {case: f"s{number}" for number, case in enumerate(SWITCHES)}

    def configs(place):
        return {
            name: merging(f"{name}/**", SWITCHES[case][place]) for case, name in names.items()
        }

    def put_and_wait(router, place):
        for case, name in names.items():
            payloads, expected = SWITCHES[case][place : place + 2]
            for payload in payloads:
                router.client.put(f"{name}/a", payload)
            router.client.wait_for(f"{name}/*", {f"{name}/a": expected})
            # A router that is stopped commits nothing more.
            router.wait_until_settled(name)

    old = start_router(configs(0))
    put_and_wait(old, 1)
    old.stop()

    new = start_router(configs(3), data=old.data)
    for case, name in names.items():
        assert new.client.get(f"{name}/*") == {f"{name}/a": SWITCHES[case][2]}, case
        assert new.status(name)["keys"] == 1, case
    put_and_wait(new, 4)


def test_rules_that_are_changed_back_find_what_was_put_by_them(start_router):
    """What a counter was is no part of what last writer wins shows; a put there replaces it."""
    additive, lww = merging("demo/**", "additive"), merging("demo/**")
    first = start_router({"demo": additive})
    for number in ["40", "2"]:
        first.client.put("demo/kept", number)
        first.client.put("demo/replaced", number)
    first.client.wait_for("demo/*", {"demo/kept": b"42", "demo/replaced": b"42"})
    first.wait_until_settled("demo", keys=2, cells=4)
    first.stop()

    second = start_router({"demo": lww}, data=first.data)
    second.client.put("demo/replaced", "7")
    second.client.wait_for("demo/*", {"demo/kept": b"42", "demo/replaced": b"7"})
    second.wait_until_settled("demo", keys=2, cells=3)
    second.stop()

    third = start_router({"demo": additive}, data=first.data)
    assert third.client.get("demo/*") == {"demo/kept": b"42", "demo/replaced": b"7"}
    third.client.put("demo/kept", "1")
    third.client.put("demo/replaced", "1")
    third.client.wait_for("demo/*", {"demo/kept": b"43", "demo/replaced": b"8"})


# Configurations that are refused.

ALLOWED = ["`lww`", "`additive`", "`set_union`", "`object`", "`automerge_crdt`"]

BAD_RULES = {
    "default": (
        merging("bad/**", "magic"),
        ["`replication.default_strategy`", "`magic`", *ALLOWED],
    ),
    "of_type": (
        merging("bad/**", types={"counter": "sum"}),
        ["`replication.type_overrides.counter`", "`sum`", *ALLOWED],
    ),
    "of_key": (
        merging("bad/**", keys={"bad/*": "sum"}),
        ["`replication.key_overrides.bad/*`", "`sum`", *ALLOWED],
    ),
    "of_field": (
        merging("bad/**", {"strategy": "object", "fields": {"f": "sum"}}),
        ["`replication.default_strategy.fields.f`", "`sum`", *ALLOWED],
    ),
    "fields_of_a_counter": (
        merging("bad/**", {"strategy": "additive", "fields": {"f": "lww"}}),
        ["`replication.default_strategy`", "`additive`", "`object`"],
    ),
    "document_in_a_field": (
        merging("bad/**", {"strategy": "object", "fields": {"f": "automerge_crdt"}}),
        ["`replication.default_strategy.fields.f`", "`automerge_crdt`"],
    ),
    "other_keys": (
        merging("bad/**", keys={"good/*": "additive"}),
        ["`replication.key_overrides.good/*`", "`bad/**`"],
    ),
    "no_key_expression": (
        merging("bad/**", keys={"bad//a": "additive"}),
        ["`replication.key_overrides.bad//a`"],
    ),
    "misspelt": (
        storage("bad/**", replication={"default_stratgy": "additive"}),
        ["`default_stratgy`", "`default_strategy`"],
    ),
    "a_number": (merging("bad/**", 7), ["`replication.default_strategy`", "`7`", "name"]),
}


@pytest.fixture(scope="module")
def router_with_bad_rules(start_shared_router):
    bad = {name: config for name, (config, _) in BAD_RULES.items()}
    return start_shared_router({**bad, "good": merging("good/**", "additive")}, expected=["good"])


@pytest.mark.parametrize("name", BAD_RULES)
def test_rules_that_make_no_sense_are_refused_with_a_reason(router_with_bad_rules, name):
    line = router_with_bad_rules.wait_for_log("ERROR", f"'{name}'")
    missing = [fragment for fragment in BAD_RULES[name][1] if fragment not in line]
    assert not missing, f"not said: {missing}\n{line}"
    assert router_with_bad_rules.status(name) is None


def test_other_storages_work_beside_refused_rules(router_with_bad_rules):
    client = router_with_bad_rules.client
    client.put("good/a", "1")
    client.wait_for("good/a", {"good/a": b"1"})
