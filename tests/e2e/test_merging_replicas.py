"""What is merged on several routers comes to one value, whatever was cut meanwhile."""

import json
import shutil
import threading

import pytest

from client import timestamp
from cluster import chain, mesh
from polling import wait_until
from router import storage
from test_merging import OBJECT, curl_put, in_order
from test_replication import check_all_have, is_isolated

RULES = {
    "key_overrides": {
        "demo/count/**": "additive",
        "demo/set/**": "set_union",
        "demo/state/**": OBJECT,
    }
}

MERGING = {"demo": storage("demo/**", settle="100ms", replication=RULES)}


@pytest.fixture
def cluster(start_cluster):
    """Three routers in a chain: what the ends have goes through the one between them."""
    return start_cluster(chain(3), MERGING)


def put_all(router, puts):
    """Puts that are given as seconds before now, key and payload; None deletes."""
    for ago, key, payload in puts:
        if payload is None:
            router.client.delete(key, timestamp=timestamp(-ago))
        else:
            router.client.put(key, payload, timestamp=timestamp(-ago))


def write_on_each_side(cluster, puts):
    """While all links are cut, each router being given what is its own."""
    cluster.cut()
    for router, own in zip(cluster.routers, puts):
        put_all(router, own)
    cluster.heal()


def test_increments_on_all_sides_of_cut_links_are_one_sum(cluster):
    """From Python and from curl, each put being counted once."""
    for _ in range(10):
        cluster.routers[0].client.put("demo/count/a", "1")
    check_all_have(cluster, {"demo/count/a": b"10"}, cells=10)

    cluster.cut()
    for number, router in enumerate(cluster.routers):
        for _ in range(100 * (number + 1)):
            router.client.put("demo/count/a", "1")
        for _ in range(5):
            curl_put(router, "demo/count/a", "0.1")
        curl_put(router, f"demo/count/of/{number}", "7")
        own = {"demo/count/a": b"%d.5" % (10 + 100 * (number + 1))}
        router.client.wait_for("demo/count/a", own)
    cluster.heal()

    values = {f"demo/count/of/{number}": b"7" for number in range(3)}
    check_all_have(cluster, values | {"demo/count/a": b"611.5"}, cells=10 + 600 + 15 + 3)


def test_what_is_counted_while_links_are_whole_is_counted_once(cluster):
    """Each put comes to all routers by itself, and is compared by them afterwards, too."""
    for n in range(300):
        cluster.routers[n % 3].client.put("demo/count/a", "1")
    check_all_have(cluster, {"demo/count/a": b"300"}, cells=300)


def test_adds_and_removes_on_all_sides_of_cut_links_are_one_set(cluster):
    in_order(cluster.routers[0].client, "demo/set/a", '["all", "moved", "removed", "back"]')
    check_all_have(cluster, {"demo/set/a": b'["all","back","moved","removed"]'})
    write_on_each_side(
        cluster,
        [
            [(30, "demo/set/a", '["of 0"]'), (20, "demo/set/a", '{"remove": ["removed"]}')],
            [(29, "demo/set/a", '{"add": [1], "remove": ["back"]}'), (9, "demo/set/b", "[]")],
            # One later than what another removes meanwhile, one that was never there.
            [(28, "demo/set/a", '["back", 1.0]'), (27, "demo/set/a", '{"remove": ["x", "moved"]}')],
        ],
    )
    expected = {"demo/set/a": b'[1,"all","back","of 0"]', "demo/set/b": b"[]"}
    # Of each set one that says that it is there.
    check_all_have(cluster, expected, cells=7 + 2, tombstones=3)


def test_fields_that_are_set_on_all_sides_of_cut_links_are_one_object(cluster):
    base = '{"name":"truck","driver":"ann","hours":1,"tags":["x"],"old":0}'
    in_order(cluster.routers[0].client, "demo/state/7", base)
    ordered = b'{"driver":"ann","hours":1,"name":"truck","old":0,"tags":["x"]}'
    check_all_have(cluster, {"demo/state/7": ordered})
    write_on_each_side(
        cluster,
        [
            [(30, "demo/state/7", '{"driver":"bob","hours":2,"engine":{"starts":1,"oil":"ok"}}')],
            [(29, "demo/state/7", '{"load":7,"hours":0.5,"tags":{"add":["y"],"remove":["x"]}}')],
            [
                (28, "demo/state/7", '{"driver":"eve","old":null,"engine":{"starts":4}}'),
                (31, "demo/state/7", '{"engine":{"oil":"low"},"tags":["z"]}'),
            ],
        ],
    )
    expected = {
        "driver": "eve",
        "engine": {"oil": "ok", "starts": 5},
        "hours": 3.5,
        "load": 7,
        "name": "truck",
        "tags": ["y", "z"],
    }
    # Fields are shown in the order of their names.
    compact = json.dumps(expected, separators=(",", ":")).encode()
    check_all_have(cluster, {"demo/state/7": compact}, cells=13 + 3, tombstones=2)


def test_a_delete_on_one_side_deletes_what_was_put_before_it_on_all(cluster):
    """And what was put after it elsewhere, though nobody there knew of it, stays."""
    first = cluster.routers[0]
    put_all(
        first,
        [(60, f"demo/count/{key}", "100") for key in "abc"]
        + [(60, "demo/set/a", "[1, 2]"), (60, "demo/state/a", '{"hours":1,"x":1}')],
    )
    cluster.wait_until_equal("demo", keys=5, cells=7 + 2)
    keys = ["demo/count/a", "demo/count/b", "demo/set/a", "demo/state/a"]
    write_on_each_side(
        cluster,
        [
            [(30, key, None) for key in keys],
            [
                *((40, key, "7") for key in ["demo/count/a", "demo/count/b", "demo/set/a"]),
                (40, "demo/state/a", '{"hours":7,"y":7}'),
                (20, "demo/count/a", "1"),
            ],
            [
                (20, "demo/count/a", "2"),
                (20, "demo/set/a", "[3]"),
                (20, "demo/state/a", '{"hours":3}'),
                (20, "demo/count/c", "1"),
            ],
        ],
    )
    expected = {
        "demo/count/a": b"3",
        "demo/count/c": b"101",
        "demo/set/a": b"[3]",
        "demo/state/a": b'{"hours":3}',
    }
    # Nothing is left of what is deleted.
    check_all_have(cluster, expected, cells=4 + 4 + 2 + 2, tombstones=4)


def test_a_router_that_was_killed_and_away_counts_with_the_others(cluster):
    """It was alone before it was killed, and missed what the others did meanwhile."""
    first, middle, last = cluster.routers
    first.client.put("demo/count/a", "1")
    first.client.put("demo/count/deleted", "1")
    check_all_have(cluster, {"demo/count/a": b"1", "demo/count/deleted": b"1"})
    cluster.cut()
    for _ in range(50):
        last.client.put("demo/count/a", "1")
    last.client.put("demo/set/a", '["last"]')
    last.client.put("demo/count/deleted", "5", timestamp=timestamp(-1))
    last.wait_for_status(
        "demo",
        lambda status: status["counters"]["puts"] == 52 and not status["queues"]["uncommitted"],
        "all is committed",
    )
    cluster.end(2, "kill")
    for _ in range(25):
        first.client.put("demo/count/a", "1")
        middle.client.put("demo/count/a", "1")
    middle.client.put("demo/set/a", '["middle"]')
    first.client.delete("demo/count/deleted", timestamp=timestamp())
    cluster.heal()
    cluster.routers[2].start()
    expected = {"demo/count/a": b"101", "demo/set/a": b'["last","middle"]'}
    check_all_have(cluster, expected, cells=101 + 3 + 1, tombstones=1)
    cluster.routers[2].client.put("demo/count/a", "1")
    expected["demo/count/a"] = b"102"
    check_all_have(cluster, expected, cells=106)


def test_a_router_that_joins_late_has_the_sums_of_the_others(cluster):
    late = cluster.routers[2]
    cluster.end(2)
    shutil.rmtree(late.data)
    for n in range(2000):
        cluster.routers[n % 2].client.put(f"demo/count/{n % 20}", "1")
    cluster.routers[0].client.put("demo/set/a", json.dumps(list(range(500))))
    cluster.routers[1].client.put("demo/state/a", '{"hours":1,"x":{"y":1}}')
    late.start()
    expected = {f"demo/count/{n}": b"100" for n in range(20)}
    expected["demo/set/a"] = json.dumps(list(range(500)), separators=(",", ":")).encode()
    expected["demo/state/a"] = b'{"hours":1,"x":{"y":1}}'
    check_all_have(cluster, expected, cells=2000 + 501 + 3)


def test_no_increment_is_lost_or_counted_twice_while_links_are_cut_and_healed(cluster):
    rounds_are_over = threading.Event()
    counts = [0] * 3

    def count(number, router):
        while not rounds_are_over.wait(0.002):
            router.client.put("demo/count/a", "1")
            router.client.put("demo/set/a", f'["{number}/{counts[number] % 50}"]')
            counts[number] += 1

    threads = [
        threading.Thread(target=count, args=[number, router])
        for number, router in enumerate(cluster.routers)
    ]
    for thread in threads:
        thread.start()

    def wait_for_some_more():
        aims = [count + 50 for count in counts]
        wait_until(
            lambda: all(count >= aim for count, aim in zip(counts, aims)), "each has counted more"
        )

    try:
        for link in [(0, 1), (1, 2), (0, 1)]:
            cluster.cut(link)
            wait_for_some_more()
            cluster.heal(link)
            cluster.wait_until_linked()
            wait_for_some_more()
    finally:
        rounds_are_over.set()
        for thread in threads:
            thread.join()
    elements = sorted(f"{number}/{n}" for number in range(3) for n in range(50))
    expected = {
        "demo/count/a": b"%d" % sum(counts),
        "demo/set/a": json.dumps(elements, separators=(",", ":")).encode(),
    }
    check_all_have(cluster, expected, cells=sum(counts) + 1 + len(elements))


def with_rules(**rules):
    return {"demo": storage("demo/**", settle="100ms", replication=rules)}


@pytest.mark.parametrize(
    "rules",
    [
        {"default_strategy": "set_union"},
        {"default_strategy": "additive", "type_overrides": {"text": "lww"}},
        {"default_strategy": "additive", "key_overrides": {"demo/set": "set_union"}},
        {},
    ],
    ids=["default", "types", "keys", "none"],
)
def test_routers_that_merge_by_different_rules_keep_apart_and_say_why(start_cluster, rules):
    ours = with_rules(default_strategy="additive")
    cluster = start_cluster(chain(2), [ours, with_rules(**rules)])
    cluster.cut()
    for number, router in enumerate(cluster.routers):
        router.client.put(f"demo/{number}", "1", timestamp=timestamp(-10))
        router.wait_until_settled("demo", keys=1)
    expected = [router.client.get("demo/**") for router in cluster.routers]
    cluster.heal()
    for router in cluster.routers:
        status = router.wait_for_status("demo", is_isolated, "its peer is isolated")
        [peer] = status["replication"]["peers"]
        assert "merge configuration" in peer["reason"], peer
        router.wait_for_log("ERROR", "'demo'", "merge configuration", peer["replica"])
    fingerprints = {status["replication"]["fingerprint"] for status in cluster.statuses("demo")}
    assert len(fingerprints) == 2
    for router, values in zip(cluster.routers, expected):
        assert len(values) == 1
        assert router.client.get("demo/**") == values
        assert router.status("demo")["replication"]["pulls"]["cells_received"] == 0


def test_rules_that_are_the_same_in_other_words_are_the_same(start_cluster):
    options = {"enabled": True, "sync_interval": "1h", "compression": False}
    same = [
        with_rules(**RULES),
        with_rules(
            default_strategy="lww",
            key_overrides=dict(reversed(RULES["key_overrides"].items())),
        ),
        with_rules(
            default_strategy={"strategy": "lww", "fields": {}},
            type_overrides={},
            key_overrides={
                "demo/state/**": dict(reversed(OBJECT.items())),
                "demo/set/**": {"strategy": "set_union"},
                "demo/count/**": "additive",
            },
            **options,
        ),
    ]
    cluster = start_cluster(mesh(3), same)
    write_on_each_side(cluster, [[(10, "demo/count/a", "1")]] * 3)
    check_all_have(cluster, {"demo/count/a": b"3"}, cells=3)
