"""Repair over links that are slow, that break off, and that clients keep full."""

import os
import threading

import pytest

from client import timestamp
from cluster import chain
from polling import wait_until
from router import storage

#: Repair is behind the doors, and these take long: once, with a replica behind each.
pytestmark = pytest.mark.doors("mixed")

DEMO = {"demo": storage("demo/**", settle="100ms", replication={})}
CLOSED = "Closing transport"


def write_apart(cluster, values):
    """Writes at the first router while the link is cut, and waits until all is under its root."""
    cluster.cut()
    for key, payload in values.items():
        cluster.routers[0].client.put(key, payload, timestamp=timestamp())
    cluster.routers[0].wait_until_settled("demo", keys=len(values))


def test_a_large_value_lets_small_ones_go_first_and_goes_on_after_cuts(start_cluster):
    cluster = start_cluster(chain(2), DEMO)
    small = {f"demo/n/{n}": str(n).encode() for n in range(300)}
    large = {"demo/a/map": os.urandom(1_000_000)}
    write_apart(cluster, {**large, **small})
    link = cluster.link(0, 1)
    link.rate = 250_000
    before = link.bytes
    cluster.heal()

    def keys():
        return cluster.routers[1].status("demo")["keys"]

    wait_until(lambda: keys() >= len(small), "the small values are there")
    assert keys() == len(small), "before the large one, which comes first in order"
    for _ in range(2):
        had = link.bytes
        wait_until(lambda had=had: link.bytes > had + 250_000, "more of it has passed")
        cluster.cut()
        cluster.heal()
    cluster.wait_until_equal("demo", keys=len(small) + 1)
    assert cluster.routers[1].client.get("demo/a/map") == large
    # A piece that was under way at each cut is sent again, and nothing else.
    assert link.bytes - before < 1_400_000
    assert not any(CLOSED in router.log() for router in cluster.routers)


def random_values(count, length):
    return {f"demo/n/{n}": os.urandom(length) for n in range(count)}


def bytes_of(values):
    return sum(map(len, values.values()))


def test_delays_that_leap_do_not_make_it_send_again(start_cluster):
    cluster = start_cluster(chain(2), DEMO)
    values = random_values(400, 2_000)
    write_apart(cluster, values)
    link = cluster.link(0, 1)
    link.spikes = (200_000, 2.0)
    before = link.bytes
    cluster.heal()
    cluster.wait_until_equal("demo", keys=len(values))
    assert link.spiked > 0
    assert link.bytes - before < 1.3 * bytes_of(values)
    assert not any(CLOSED in router.log() for router in cluster.routers)


@pytest.mark.parametrize("direction", ["forth", "back"])
def test_a_link_that_is_stuck_in_one_direction_stops_nobody(start_cluster, direction):
    cluster = start_cluster(chain(2), DEMO)
    routers = cluster.routers
    routers[0].client.put("demo/before", b"1", timestamp=timestamp())
    cluster.wait_until_equal("demo", keys=1)
    link = cluster.link(0, 1)
    link.stall(direction)
    # Each goes on for its own clients.
    for number, router in enumerate(routers):
        for n in range(20):
            router.client.put(f"demo/{number}/{n}", b"meanwhile", timestamp=timestamp())
        own = {f"demo/{number}/{n}": b"meanwhile" for n in range(20)}
        router.client.wait_for(f"demo/{number}/*", own)
    # Zenoh's lease ends, and so does the connection of one that hears nothing.
    wait_until(
        lambda: any(len(router.neighbours()) == 0 for router in routers), "one hears nothing"
    )
    link.flow()
    cluster.wait_until_equal("demo", keys=41)
    for router in routers:
        assert len(router.client.get("demo/**")) == 41


def test_a_link_that_clients_keep_full_is_neither_closed_nor_closed_to_repair(start_cluster):
    cluster = start_cluster(chain(2), DEMO)
    values = {f"demo/n/{n}": os.urandom(1_000) for n in range(150)}
    write_apart(cluster, values)
    link = cluster.link(0, 1)
    link.rate = 150_000
    received = threading.Semaphore(0)
    near, far = (router.client for router in cluster.routers)
    with far.subscribed("stream/**", lambda _: received.release()):
        cluster.heal()
        cluster.wait_until_linked()
        done = threading.Event()
        frame = os.urandom(8_000)

        def publish():
            # As fast as it can: what the link does not take is dropped.
            while not done.wait(0.02):
                near.put_droppable("stream/frame", frame)

        publishing = threading.Thread(target=publish)
        publishing.start()
        try:
            cluster.wait_until_equal("demo", timeout=120, keys=len(values))
        finally:
            done.set()
            publishing.join()
    assert received.acquire(timeout=10), "the client's messages pass, too"
    assert not any(CLOSED in router.log() for router in cluster.routers)
