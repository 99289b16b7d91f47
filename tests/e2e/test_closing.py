"""Whatever goes on at a storage ends when it is removed or changed: the folder is free at once, the
new storage opens, and others are answered meanwhile.

A reader that takes nothing is the worst that can go on: Zenoh itself waits for it, and the routers
here have it wait longer than any test does.
"""

import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from operators import Operator, base
from polling import PATIENCE, wait_until
from router import storage

#: A message that may not be dropped waits for room for an hour; then the link would be closed.
_BLOCK = {"wait_before_close": 3_600_000_000}
_TX = {"queue": {"congestion_control": {"block": _BLOCK}}}
PATIENT = {"transport": {"link": {"tx": _TX}}}

#: Asks for much, and stops with the first part of the answer.
STALLED = """
import os, signal, sys, zenoh
config = zenoh.Config.from_json5('{mode: "client", connect: {endpoints: ["%s"]}}' % sys.argv[1])
with zenoh.open(config) as session:
    selector = sys.argv[2]
    own, control, _ = selector.partition("/control/")
    if control:
        token = session.liveliness().declare_token(f"{own}/asker/{session.info.zid()}")
        selector += f"?asker={session.info.zid()}"
    everything = zenoh.ConsolidationMode.NONE
    for reply in session.get(selector, consolidation=everything, timeout=600):
        os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def stalled(router, selector):
    """A client that takes nothing of an answer but its beginning."""
    process = subprocess.Popen([sys.executable, "-c", STALLED, router.endpoint, selector])

    def is_stopped():
        with open(f"/proc/{process.pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "T"

    try:
        wait_until(is_stopped, "the client has stopped")
        yield
    finally:
        process.kill()
        process.wait(PATIENCE)


def start(start_router, **options):
    storages = {
        "demo": storage("demo/**", settle="50ms", **options),
        "other": storage("other/**", settle="50ms"),
    }
    router = start_router(storages, session="runtime", config_is_writable=True, zenoh=PATIENT)
    # More than fits into all that lies between the two.
    for number in range(64):
        router.client.put(f"demo/{number}", os.urandom(1 << 20))
    router.wait_until_settled("demo", keys=64)
    return router


def check_that_it_is_changed(router):
    changed = storage("demo/**", settle="60ms")
    router.configure("storages/demo", router.config_of(changed))
    assert router.status("other")["name"] == "other", "others are answered"
    router.add_storage("demo", changed)
    assert router.client.get("demo/1").keys() == {"demo/1"}


@pytest.mark.doors("volume")
def test_a_backup_that_nobody_reads_does_not_keep_the_storage(start_router):
    router = start(start_router)
    with Operator(router.port) as operator:
        operator.wait_for_answers("@mst/2/*/*/status", 2)
    with stalled(router, f"{base(router, 'demo')}/control/backup"):
        check_that_it_is_changed(router)


@pytest.mark.doors("plugin")
def test_a_get_that_nobody_reads_does_not_keep_the_storage(start_router):
    router = start(start_router, reply_timeout="1m")
    with stalled(router, "demo/**"):
        check_that_it_is_changed(router)
