"""Networks that are no plain mesh of routers: routers with a namespace, and zenohd in mode peer."""

import pytest

from cluster import chain
from operators import Operator
from polling import wait_until
from router import storage

STORAGES = {"demo": storage("demo/**", settle="50ms", replication={})}


def peers(router):
    """The replicas that a replica knows, with how they stand to it."""
    replication = router.status("demo")["replication"]
    return {peer["replica"]: peer["relation"] for peer in replication["peers"] if peer["present"]}


def identity(router):
    return router.status("demo")["identity"]


def keys(router):
    return router.status("demo")["keys"]


def wait_for_keys(router, number):
    router.wait_for_status("demo", lambda status: status["keys"] == number, f"{number} keys")


@pytest.mark.doors("volume", "plugin")
def test_routers_with_a_namespace_are_replicas_of_their_own(start_router):
    """Two robots have the same storage, and a third machine a copy of the first one's."""
    first = start_router(STORAGES, session="runtime", zenoh={"namespace": "robot/1"})
    link = [first.endpoint]
    copy = start_router(STORAGES, session="runtime", zenoh={"namespace": "robot/1"}, connect=link)
    second = start_router(STORAGES, session="runtime", zenoh={"namespace": "robot/2"}, connect=link)
    wait_until(lambda: list(peers(first)) == [identity(copy)], "the copy is known")
    # A client without a namespace sees the whole keys.
    for number in range(5):
        first.client.put(f"robot/1/demo/{number}", b"1")
        second.client.put(f"robot/2/demo/{number % 3}", b"2")
    for router, number in [(first, 5), (copy, 5), (second, 3)]:
        wait_for_keys(router, number)
    assert first.client.get("robot/2/demo/1") == {"robot/2/demo/1": b"2"}
    # What was put while the copy was away is repaired; the other robot stays as it is.
    copy.kill()
    first.client.put("robot/1/demo/5", b"1")
    wait_for_keys(first, 6)
    copy.start()
    wait_for_keys(copy, 6)
    assert list(peers(second)) == [] and keys(second) == 3
    with Operator(first.port) as operator:
        operator.wait_for_answers("robot/1/@mst/2/*/*/status", 2)
        assert operator.all("@mst/2/*/*/status") == []


@pytest.mark.doors("volume", "plugin")
def test_zenohd_in_mode_peer_replicates(start_router):
    zenoh = {"mode": "peer"}
    first = start_router(STORAGES, session="runtime", zenoh=zenoh)
    second = start_router(STORAGES, session="runtime", zenoh=zenoh, connect=[first.endpoint])
    wait_until(lambda: list(peers(first)) == [identity(second)], "they know each other")
    first.client.put("demo/1", b"1")
    wait_for_keys(second, 1)
    second.kill()
    first.client.put("demo/2", b"2")
    wait_for_keys(first, 2)
    second.start()
    wait_for_keys(second, 2)
    wait_until(lambda: list(peers(first).values()) == ["equal"], "they are equal")


@pytest.mark.doors("mixed")
def test_a_client_that_moves_from_router_to_router_finds_what_it_wrote(start_cluster):
    cluster = start_cluster(chain(2), STORAGES, session="runtime")
    first, second = cluster.routers
    first.client.put("demo/at", b"first")
    for router in cluster.routers:
        router.client.wait_for("demo/at", {"demo/at": b"first"})
    # It moves while the routers are apart, and goes on where it is now.
    cluster.cut()
    second.client.put("demo/at", b"second")
    second.client.put("demo/new", b"1")
    second.client.wait_for("demo/new", {"demo/new": b"1"})
    assert first.client.get("demo/at") == {"demo/at": b"first"}
    cluster.heal()
    for router in cluster.routers:
        router.client.wait_for("demo/**", {"demo/at": b"second", "demo/new": b"1"})


#: A topic of ROS 2 as rmw_zenoh names it: domain, topic, type, and the hash of that.
TOPIC = "0/chatter/std_msgs::msg::dds_::String_/RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"


@pytest.mark.doors("volume", "plugin")
def test_a_topic_of_ros_is_stored_by_the_plugin_with_what_is_attached(start_router):
    """A subscriber of rmw_zenoh drops a sample without the attachment."""
    router = start_router({"ros": storage("*/*/*/*", settle="50ms")})
    message = b"\x00\x01\x00\x00\x06\x00\x00\x00hello\x00"
    heard = []
    with router.client.subscribed(TOPIC, heard.append):
        router.client.put(TOPIC, message, attachment=b"sequence number, time, gid")
        wait_until(lambda: heard, "the message is heard")
    assert bytes(heard[0].attachment) == b"sequence number, time, gid"
    router.client.wait_for(TOPIC, {TOPIC: message})
    attachment = router.client.sample(TOPIC).attachment
    # The storage manager gives a volume none.
    kept = b"sequence number, time, gid" if router.door == "plugin" else None
    assert (None if attachment is None else bytes(attachment)) == kept
