"""Routers whose clocks differ: nothing that may be taken is missing, nobody claims to be equal who
is not, and each says how far the others' clocks are off."""

import random

import pytest

from cluster import chain, mesh
from polling import wait_until
from router import storage

#: What is heard of a peer is heard when something happens, or not at all.
DEMO = {"demo": storage("demo/**", settle="100ms", replication={"sync_interval": "24h"})}

#: A second between two announcements.
SOON = {"demo": storage("demo/**", settle="100ms", replication={"sync_interval": "1s"})}

HOUR = 3600_000


def peer(router, other):
    """What the status of a router says of another."""
    identity = other.status("demo")["identity"]
    peers = router.status("demo")["replication"]["peers"]
    return next((peer for peer in peers if peer["replica"] == identity), None)


def wait_for_relation(router, other, relation):
    last = None

    def check():
        nonlocal last
        last = peer(router, other)
        return last is not None and last["relation"] == relation and last

    return wait_until(check, lambda: f"{relation}: {last}")


def check_offset(router, other, expected):
    """In the status and in the metrics. The time that an announcement is on its way counts; it is
    never so much."""
    offsets = [peer(router, other)["clock_offset_ms"] / 1000]
    name = other.status("demo")["identity"]
    for metrics in router.client.get("@mst/*/*/*/metrics").values():
        for line in metrics.decode().splitlines():
            if line.startswith("zenoh_mst_peer_clock_offset_seconds{") and f'peer="{name}"' in line:
                offsets.append(float(line.split()[-1]))
    assert len(offsets) >= 2, "it is in the metrics"
    assert all(abs(offset - expected / 1000) < 20 for offset in offsets), offsets


@pytest.mark.parametrize("offset", [HOUR, -HOUR, 60_000], ids=["ahead", "behind", "a minute ahead"])
def test_nothing_is_hidden_after_a_partition(start_cluster, disturbed, offset):
    cluster = start_cluster(chain(2), DEMO, environments=[None, disturbed(clock=offset)])
    right, wrong = cluster.routers
    # The one whose timestamps both take.
    writer, other = (right, wrong) if offset > 0 else (wrong, right)
    values = {f"demo/{number}": b"before" for number in range(3)}
    for key, value in values.items():
        writer.client.put(key, value)
    other.client.wait_for("demo/**", values)
    wait_for_relation(other, writer, "equal")
    cluster.cut()
    missed = {f"demo/missed/{number}": b"meanwhile" for number in range(3)}
    for key, value in missed.items():
        writer.client.put(key, value)
    cluster.heal()
    other.client.wait_for("demo/**", values | missed)
    for one, another in [(writer, other), (other, writer)]:
        wait_for_relation(one, another, "equal")
    roots = [status["root"] for status in cluster.statuses("demo")]
    assert roots[0] == roots[1]
    check_offset(right, wrong, offset)
    check_offset(wrong, right, -offset)


def test_what_a_fast_clock_stamps_is_rejected_and_nobody_looks_equal(start_cluster, disturbed):
    environments = [None, None, disturbed(clock=HOUR)]
    cluster = start_cluster(mesh(3), DEMO, environments=environments)
    first, second, fast = cluster.routers
    fast.client.put("demo/future", b"1")
    for router in (first, second):
        wait_for_relation(router, fast, "divergent")
        router.wait_for_status(
            "demo",
            lambda status: status["replication"]["rejected"]["clock"] > 0,
            "what is ahead of the clock is rejected",
        )
        wait_for_relation(fast, router, "behind")
    wait_for_relation(first, second, "equal")
    wait_for_relation(second, first, "equal")
    # What is properly stamped still goes everywhere.
    first.client.put("demo/now", b"2")
    for router in cluster.routers:
        router.client.wait_for("demo/now", {"demo/now": b"2"})


def test_what_a_slow_clock_refuses_is_sent_once(start_cluster, disturbed):
    """Its peers do not pay for the clock of one router: what it rejects is not sent again."""
    cluster = start_cluster(chain(2), SOON, environments=[None, disturbed(clock=-24 * HOUR)])
    right, slow = cluster.routers
    values = {f"demo/{number}": random.Random(number).randbytes(4000) for number in range(250)}
    for key, value in values.items():
        right.client.put(key, value)
    bytes_of_values = sum(len(value) for value in values.values())
    slow.wait_for_status(
        "demo",
        lambda status: (peer(slow, right) or {}).get("refused_cells") == len(values),
        "all of it is rejected, and remembered",
    )
    assert peer(slow, right)["relation"] == "divergent"
    served = right.status("demo")["replication"]["served"]
    assert served["bytes_sent"] > bytes_of_values, "it was sent once"
    # What is properly stamped for both still comes, so pulls go on.
    heard = slow.status("demo")["replication"]["announcements"]["received"]
    slow.wait_for_status(
        "demo",
        lambda status: status["replication"]["announcements"]["received"] >= heard + 5,
        "several intervals are over",
    )
    after = right.status("demo")["replication"]["served"]
    assert after["bytes_sent"] - served["bytes_sent"] < bytes_of_values / 100, (served, after)
