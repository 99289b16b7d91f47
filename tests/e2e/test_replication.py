"""Storages of several routers come to hold the same, whatever happens between them."""

import random
import shutil
import threading

import pytest

from client import timestamp
from cluster import chain, mesh, star
from polling import wait_until
from router import free_port, storage

DEMO = {"demo": storage("demo/**", settle="100ms", replication={})}


def check_all_have(cluster, values, **fields):
    """Waits until all routers are equal, and checks that a get at each says `values`."""
    status = cluster.wait_until_equal("demo", keys=len(values), **fields)
    for router in cluster.routers:
        assert router.client.get("demo/**") == values
    return status


class Writes:
    """Puts and deletes at any router, and what they come to: the last write wins."""

    def __init__(self):
        self._last = {}

    def put(self, router, key, payload, at):
        router.client.put(key, payload, timestamp=at)
        self._note(key, at, payload)

    def delete(self, router, key, at):
        router.client.delete(key, timestamp=at)
        self._note(key, at, None)

    def _note(self, key, at, payload):
        self._last[key] = max(self._last.get(key, (at, payload)), (at, payload), key=_time)

    @property
    def values(self):
        return {key: payload for key, (_, payload) in self._last.items() if payload is not None}

    @property
    def cells(self):
        return len(self._last)


def _time(write):
    return write[0]


def write_at_random(router, writes, order):
    """Some keys that others write, too, and some that they do not."""
    for n in range(60):
        key = f"demo/shared/{order.randrange(40)}"
        at = timestamp(-order.uniform(1, 20))
        if n % 4:
            writes.put(router, key, order.randbytes(order.randrange(3000)), at)
        else:
            writes.delete(router, key, at)
        own = f"demo/own/{order.randrange(1 << 40)}"
        writes.put(router, own, order.randbytes(20), timestamp(-order.uniform(1, 20)))


@pytest.mark.parametrize(
    ["links", "session"],
    [(chain(3), "runtime"), (chain(3), "client"), (star(5), "runtime"), (mesh(5), "runtime")],
    ids=["chain", "chain, sessions of their own", "star", "mesh"],
)
def test_different_writes_on_all_sides_of_cut_links_end_the_same_everywhere(
    start_cluster, links, session
):
    cluster = start_cluster(links, DEMO, session=session)
    order = random.Random(1)
    writes = Writes()
    write_at_random(cluster.routers[0], writes, order)
    check_all_have(cluster, writes.values, cells=writes.cells)

    cluster.cut()
    for router in cluster.routers:
        write_at_random(router, writes, order)
    cluster.heal()

    check_all_have(cluster, writes.values, cells=writes.cells)
    for router in cluster.routers:
        router.wait_for_status("demo", knows_all_are_equal(cluster), "it knows that all are equal")
        assert router.status("demo")["replication"]["session"] == router.session


def knows_all_are_equal(cluster):
    others = len(cluster.routers) - 1
    return lambda status: [
        peer["relation"] for peer in status["replication"]["peers"] if peer["present"]
    ] == ["equal"] * others


def test_what_comes_by_pulls_goes_on_to_the_next_router(start_cluster):
    """The ends of a chain are repaired link by link, never seeing each other's writes."""
    cluster = start_cluster(chain(3), DEMO)
    first, _, last = cluster.routers
    cluster.cut()
    first.client.put("demo/first", "1", timestamp=timestamp(-10))
    last.client.put("demo/last", "3", timestamp=timestamp(-10))
    cluster.heal((0, 1))
    wait_until(
        lambda: cluster.routers[1].client.get("demo/**") == {"demo/first": b"1"},
        "the middle has what the first has",
    )
    cluster.cut()
    cluster.heal((1, 2))
    for router in [cluster.routers[1], last]:
        router.client.wait_for("demo/**", {"demo/first": b"1", "demo/last": b"3"})
    assert first.client.get("demo/**") == {"demo/first": b"1"}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_delete_of_a_router_that_was_alone_wins_after_its_restart(start_cluster, end):
    cluster = start_cluster(chain(3), DEMO)
    first, _, last = cluster.routers
    values = {f"demo/{n}": b"old" for n in range(20)}
    for key, payload in values.items():
        first.client.put(key, payload, timestamp=timestamp(-30))
    check_all_have(cluster, values)

    cluster.cut()
    for n in range(10):
        last.client.delete(f"demo/{n}", timestamp=timestamp(-20))
        del values[f"demo/{n}"]
    last.wait_until_settled("demo", tombstones=10)
    cluster.end(2, end)
    last.start()
    cluster.heal()

    check_all_have(cluster, values, tombstones=10)


def fill(router):
    """Puts what takes many messages to exchange, and returns it."""
    order = random.Random(1)
    values = {f"demo/{n}": order.randbytes(10_000) for n in range(2000)}
    for key, payload in values.items():
        router.client.put(key, payload)
    router.wait_until_settled("demo", keys=len(values))
    return values


@pytest.mark.parametrize("killed", [0, 1], ids=["who has it", "who lacks it"])
def test_a_kill_in_the_middle_of_an_exchange_only_delays_it(start_cluster, killed):
    cluster = start_cluster(chain(2), DEMO)
    full, empty = cluster.routers
    link = cluster.link(0, 1)
    cluster.cut()
    values = fill(full)

    link.heal(for_bytes=5_000_000)
    wait_until(lambda: link.is_cut, "a part was sent")
    cluster.end(killed, "kill")
    cluster.routers[killed].start()
    cluster.heal()

    check_all_have(cluster, values)


def test_routers_are_restarted_in_turn_with_exchanges_under_way(start_cluster):
    """As in an upgrade, and as when one after the other fails: nobody waits for anybody."""
    cluster = start_cluster(mesh(3), DEMO)
    values = {}
    for turn in range(6):
        number, end = turn % 3, ["stop", "kill"][turn % 2]
        others = [router for router in cluster.routers if router is not cluster.routers[number]]
        cluster.end(number, end)
        for n in range(300):
            key, payload = f"demo/{turn}/{n}", b"%d" % n * 100
            others[n % 2].client.put(key, payload, timestamp=timestamp())
            values[key] = payload
        cluster.routers[number].start()
    check_all_have(cluster, values)


def test_an_exchange_goes_on_after_cuts_in_its_middle(start_cluster):
    """What came before a cut is not sent again."""
    cluster = start_cluster(chain(2), DEMO)
    full, empty = cluster.routers
    link = cluster.link(0, 1)
    cluster.cut()
    values = fill(full)
    for _ in range(2):
        link.heal(for_bytes=5_000_000)
        wait_until(lambda: link.is_cut, "a part was sent")
        cluster.cut()
    cluster.heal()
    check_all_have(cluster, values)
    assert link.bytes < 1.6 * sum(map(len, values.values()))


def test_a_router_that_joins_late_gets_all(start_cluster):
    cluster = start_cluster(chain(3), DEMO)
    late = cluster.routers[-1]
    cluster.end(2)
    shutil.rmtree(late.data)
    values = {f"demo/{n}": f"value {n}".encode() for n in range(3000)}
    for key, payload in values.items():
        cluster.routers[0].client.put(key, payload, timestamp=timestamp(-10))
    for n in range(100):
        cluster.routers[0].client.delete(f"demo/deleted/{n}", timestamp=timestamp(-10))
    late.start()
    check_all_have(cluster, values, tombstones=100)


def test_nothing_is_lost_of_what_is_written_while_links_are_cut_and_healed(start_cluster):
    cluster = start_cluster(chain(3), DEMO)
    rounds_are_over = threading.Event()
    written = [Writes() for _ in cluster.routers]

    def write(number, router):
        n = 0
        while not rounds_are_over.wait(0.002):
            written[number].put(router, f"demo/{number}/{n}", f"{n}".encode(), timestamp())
            written[number].put(router, f"demo/{number}/last", f"{n}".encode(), timestamp())
            n += 1

    writers = [
        threading.Thread(target=write, args=[number, router])
        for number, router in enumerate(cluster.routers)
    ]
    for writer in writers:
        writer.start()

    def wait_for_some_writes():
        aims = [writes.cells + 100 for writes in written]
        wait_until(
            lambda: all(writes.cells >= aim for writes, aim in zip(written, aims)),
            "some more is written at each router",
        )

    try:
        for link in [(0, 1), (1, 2), (0, 1)]:
            cluster.cut(link)
            wait_for_some_writes()
            cluster.heal(link)
            cluster.wait_until_linked()
            wait_for_some_writes()
    finally:
        rounds_are_over.set()
        for writer in writers:
            writer.join()
    values = {key: value for writes in written for key, value in writes.values.items()}
    check_all_have(cluster, values)


@pytest.mark.parametrize(
    "other",
    [
        storage("demo/**", settle="100ms", strip_prefix="demo", replication={}),
        storage("demo/*/**", settle="100ms", replication={}),
    ],
    ids=["strip_prefix", "key_expr"],
)
def test_storages_that_do_not_fit_keep_apart_and_say_why(start_cluster, other):
    cluster = start_cluster(chain(2), [DEMO, {"demo": other}])
    cluster.cut()
    for number, router in enumerate(cluster.routers):
        router.client.put(f"demo/{number}/a", "own", timestamp=timestamp(-10))
        router.wait_until_settled("demo", keys=1)
    cluster.heal()

    for router in cluster.routers:
        router.wait_for_status("demo", is_isolated, "its peer is isolated, with the reason")
    for number, router in enumerate(cluster.routers):
        assert router.client.get("demo/**") == {f"demo/{number}/a": b"own"}
        pulls = router.status("demo")["replication"]["pulls"]
        assert pulls["cells_received"] == 0


def is_isolated(status):
    peers = status["replication"]["peers"]
    return [peer["relation"] for peer in peers] == ["isolated"] and peers[0]["reason"]


@pytest.mark.doors("volume")
def test_without_a_session_a_storage_works_alone(start_router):
    nobody = f"tcp/127.0.0.1:{free_port()}"
    volumes = {"mst": {"session": {"connect": {"endpoints": [nobody]}}}}
    router = start_router(DEMO, volumes=volumes)
    router.client.put("demo/a", "value")
    router.wait_until_settled("demo", keys=1)
    assert router.client.get("demo/**") == {"demo/a": b"value"}
    replication = router.status("demo")["replication"]
    assert replication["session"] is None
    assert replication["peers"] == []


def test_replication_can_be_switched_off(start_cluster):
    off = {"demo": storage("demo/**", settle="100ms", replication={"enabled": False})}
    cluster = start_cluster(mesh(3), [DEMO, DEMO, off])
    first, second, third = cluster.routers
    cluster.cut()
    first.client.put("demo/a", "value")
    first.wait_until_settled("demo", keys=1)
    cluster.heal()
    second.client.wait_for("demo/**", {"demo/a": b"value"})
    assert third.client.get("demo/**") == {}
    assert third.status("demo")["replication"] is None
    peers = first.status("demo")["replication"]["peers"]
    assert [peer["replica"] for peer in peers] == [identity(second)]


def identity(router):
    return router.status("demo")["replication"]["replica"]


@pytest.fixture
def original_and_copy(start_cluster):
    """Two routers, of which one starts with a copy of the other's folder.

    That is told by announcements, of which there is one every `sync_interval`.
    """
    often = storage("demo/**", settle="100ms", replication={"sync_interval": "1s"})
    cluster = start_cluster(chain(2), {"demo": often})
    original, copy = cluster.routers
    original.client.put("demo/a", "of both")
    check_all_have(cluster, {"demo/a": b"of both"})
    copied = identity(original)
    assert identity(copy) != copied
    cluster.end(0)
    cluster.end(1)
    shutil.rmtree(copy.data)
    shutil.copytree(original.data, copy.data)
    original.start()
    copy.start()
    wait_until(lambda: identity(copy) != identity(original), "one has another identity")
    assert identity(original) == copied, "it was there first"
    return cluster


def test_a_copy_of_a_folder_gets_an_identity_of_its_own(original_and_copy):
    original, copy = original_and_copy.routers
    made = identity(copy)
    copy.wait_for_log("WARN", "'demo'", made)
    original_and_copy.end(1)
    original.client.put("demo/b", "of the original")
    original.wait_until_settled("demo", keys=2)
    copy.start()
    check_all_have(original_and_copy, {"demo/a": b"of both", "demo/b": b"of the original"})
    assert identity(copy) == made, "it is kept"


def test_others_still_see_the_original_of_a_copy(start_cluster):
    """The copy gives the name up that it shared, which must not look as if the original had."""
    often = storage("demo/**", settle="100ms", replication={"sync_interval": "1s"})
    cluster = start_cluster(chain(3), {"demo": often})
    original, middle, copy = cluster.routers
    original.client.put("demo/a", "of all")
    check_all_have(cluster, {"demo/a": b"of all"})
    for number in range(3):
        cluster.end(0)
        cluster.end(2)
        shutil.rmtree(copy.data)
        shutil.copytree(original.data, copy.data)
        original.start()
        copy.start()
        wait_until(lambda: identity(copy) != identity(original), "one has another identity")

        def sees(router, other):
            peers = router.status("demo")["replication"]["peers"]
            peers = {peer["replica"]: peer for peer in peers}
            peer = peers.get(identity(other), {})
            return peer.get("present") and peer.get("relation") == "equal"

        routers = cluster.routers
        pairs = [(one, other) for one in routers for other in routers if one is not other]
        wait_until(lambda: all(sees(*pair) for pair in pairs), "each sees all others")
        original.client.put(f"demo/b/{number}", "of the original")
        for router in routers:
            router.client.wait_for(f"demo/b/{number}", {f"demo/b/{number}": b"of the original"})


def test_a_copy_exchanges_data_as_others_do(original_and_copy):
    original, copy = original_and_copy.routers
    original_and_copy.cut()
    original.client.put("demo/b", "of the original")
    copy.client.put("demo/c", "of the copy")
    original_and_copy.heal()
    values = {"demo/a": b"of both", "demo/b": b"of the original", "demo/c": b"of the copy"}
    check_all_have(original_and_copy, values)


def test_the_status_tells_what_was_exchanged(start_cluster):
    cluster = start_cluster(chain(2), DEMO)
    left, right = cluster.routers
    for n in range(1000):
        left.client.put(f"demo/{n}", "old", timestamp=timestamp(-60))
    cluster.wait_until_equal("demo", keys=1000)
    before = [status["replication"] for status in cluster.statuses("demo")]

    cluster.cut()
    for router in cluster.routers:
        router.wait_for_status("demo", lambda s: not peer(s)["present"], "the other is gone")
    for n in range(50):
        left.client.put(f"demo/{n}/new", "new", timestamp=timestamp(-10))
    left.wait_until_settled("demo", keys=1050)
    cluster.heal()
    cluster.wait_until_equal("demo", keys=1050)

    for router in cluster.routers:
        status = router.wait_for_status(
            "demo", lambda s: peer(s)["relation"] == "equal", "both know that they are equal"
        )
        other = peer(status)
        assert other["present"]
        assert other["reason"] is None
        assert other["root"] == status["root"]
        assert other["cells"] == 1050
        assert other["last_equal"] is not None
        assert not any(status["replication"]["rejected"].values()), status

    after = [status["replication"] for status in cluster.statuses("demo")]
    assert peer({"replication": after[0]})["replica"] == after[1]["replica"]
    assert after[0]["group"] == after[1]["group"]
    assert after[0]["fingerprint"] == after[1]["fingerprint"]
    assert after[0]["pulls"]["cells_received"] == before[0]["pulls"]["cells_received"]
    pulls = {name: after[1]["pulls"][name] - n for name, n in before[1]["pulls"].items()}
    assert pulls["cells_received"] == 50
    assert pulls["useless_cells"] == 0
    assert pulls["failed"] == 0
    assert pulls["started"] == pulls["completed"] == 1
    assert 1 <= pulls["round_trips"] <= 5
    assert 0 < pulls["bytes_sent"] < 20_000
    assert 0 < pulls["bytes_received"] < 20_000
    served = {name: after[0]["served"][name] - n for name, n in before[0]["served"].items()}
    assert served["digest_queries"] + served["entries_queries"] == pulls["round_trips"]
    # With it, the root, if it was asked for.
    assert pulls["bytes_received"] <= served["bytes_sent"] <= pulls["bytes_received"] + 200


def peer(status):
    (only,) = status["replication"]["peers"]
    return only
