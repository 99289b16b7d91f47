"""A router that comes within a tenth of a second after another has gone. Zenoh takes the one for the other, and does
not tell it what its neighbour has declared."""

import os
import signal

import pytest

from cluster import star
from polling import wait_until
from router import storage

DEMO = {"demo": storage("demo/**", settle="100ms", replication={"sync_interval": "1s"})}


def test_a_router_that_is_told_of_nobody_gets_what_it_lacks(start_cluster):
    cluster = start_cluster(star(4), DEMO)
    full, gone, late, other = cluster.routers
    cluster.cut((0, 2))
    full.client.put("demo/a", b"value")
    # It has to be there at once when it is to.
    os.kill(late.pid, signal.SIGSTOP)
    cluster.heal((0, 2))
    # Routes are made when one goes, and then not before a tenth of a second is over.
    neighbours = len(full.neighbours())
    other.kill()
    wait_until(lambda: len(full.neighbours()) < neighbours, "its neighbour knows")
    gone.kill()
    os.kill(late.pid, signal.SIGCONT)
    late.client.wait_for("demo/a", {"demo/a": b"value"})
    wait_until(lambda: late.status("demo")["keys"] == 1, "it has it itself")
