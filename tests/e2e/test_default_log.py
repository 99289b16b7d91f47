"""Without RUST_LOG the log has errors only: what keeps data from being replicated is one.

It is said once, however often it is met.
"""

import socket
import threading
from contextlib import ExitStack

import pytest

from cluster import Cluster, chain
from polling import wait_until
from router import storage

pytestmark = pytest.mark.doors("volume")

DEFAULT_LOG = {"RUST_LOG": None}

#: Announced often, so that what is wrong is met often.
REPLICATION = {"sync_interval": "1s"}


def demo(*, strip_prefix=None, key_expr="demo/**", **replication):
    options = {"settle": "100ms", "replication": {**REPLICATION, **replication}}
    return {"demo": storage(key_expr, strip_prefix=strip_prefix, **options)}


def errors(router, *fragments):
    """Lines of the log that are errors, and have all `fragments`."""
    lines = (line for line in router.log().splitlines() if " ERROR " in line)
    return [line for line in lines if all(fragment in line for fragment in fragments)]


def replication(router):
    return router.status("demo")["replication"]


class Refusing:
    """Takes connections, and ends them at once."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp/127.0.0.1:{self._listener.getsockname()[1]}"
        #: How many there were.
        self.attempts = 0
        self._thread = threading.Thread(target=self._refuse)
        self._thread.start()

    def _refuse(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # It was closed.
            self.attempts += 1
            connection.close()

    def close(self):
        # It wakes the thread, which a close does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def refusing():
    end = Refusing()
    yield end
    end.close()


def test_that_there_is_no_session_is_said(start_router, refusing):
    connect = {"endpoints": [refusing.endpoint]}
    volumes = {"mst": {"session": {"mode": "client", "connect": connect}}}
    router = start_router(demo(), volumes=volumes, environment=DEFAULT_LOG)
    said = "there is no Zenoh session, so nothing is replicated and operators get no answers"
    router.wait_for_log(" ERROR ", "volume 'mst'", said)
    # It goes on trying. When the second attempt from now begins, the first has failed.
    aim = refusing.attempts + 2
    wait_until(lambda: refusing.attempts >= aim, "it is tried again")
    assert len(errors(router, said)) == 1, router.log()
    assert replication(router)["session"] is None


@pytest.mark.parametrize(
    ["other", "reason"],
    [
        (demo(strip_prefix="demo"), "strip_prefix"),
        (demo(key_expr="demo/*/**"), "key expression"),
        (demo(default_strategy="set_union"), "merge configuration"),
    ],
    ids=["strip_prefix", "key_expr", "merging"],
)
def test_an_isolation_is_said_by_both(start_router, other, reason):
    with ExitStack() as at_the_end:
        storages = [demo(), other]
        cluster = Cluster(
            start_router, chain(2), storages, session="runtime", environment=DEFAULT_LOG
        )
        at_the_end.callback(cluster.close)
        wait_until_isolated(cluster)
        # The other goes, and is met again.
        cluster.cut()
        wait_until(lambda: not any(is_there(router) for router in cluster.routers), "all gone")
        cluster.heal()
        wait_until_isolated(cluster)
        for router in cluster.routers:
            announced = replication(router)["announcements"]["sent"]
            wait_until(
                lambda: replication(router)["announcements"]["sent"] >= announced + 3,
                "it is announced again",
            )
        for router in cluster.routers:
            said = errors(router, "'demo'", "no data is exchanged with replica", reason)
            assert len(said) == 1, router.log()


def is_there(router):
    return any(peer["present"] for peer in replication(router)["peers"])


def wait_until_isolated(cluster):
    for router in cluster.routers:
        router.wait_for_status(
            "demo",
            lambda status: [
                (peer["present"], peer["relation"]) for peer in status["replication"]["peers"]
            ]
            == [(True, "isolated")],
            "its peer is there, and isolated",
        )


def test_rejections_are_said(start_router, disturbed):
    """Of a peer whose clock is an hour ahead."""
    ahead = start_router(demo(), session="runtime", environment=disturbed(clock=3_600_000))
    ahead.client.put("demo/a", "of the future")
    ahead.wait_until_settled("demo", keys=1)
    router = start_router(
        demo(), session="runtime", environment=DEFAULT_LOG, connect=[ahead.endpoint]
    )
    router.wait_for_status(
        "demo",
        lambda status: status["replication"]["rejected"]["clock"] > 0,
        "it is pulled and rejected",
    )
    heard = router.status("demo")["replication"]["announcements"]["received"]
    router.wait_for_status(
        "demo",
        lambda status: status["replication"]["announcements"]["received"] >= heard + 3,
        "the peer says again that it has it",
    )
    said = errors(router, "'demo'", "cells of replica", "were rejected", "1 too far ahead")
    assert len(said) == 1, router.log()
    assert router.status("demo")["keys"] == 0
