"""What operators get of a hundred replicas of ten storages: a client answers as they would."""

import json
import threading
import time

import pytest

from client import Client
from operators import Operator, base
from router import storage
from test_mstctl import mstctl

#: Behind the doors.
pytestmark = pytest.mark.doors("plugin")

STORAGES, REPLICAS = 10, 100


class Fleet(Client):
    """Has the tokens of all these replicas, and answers for each with a brief status."""

    def __init__(self, port, brief):
        super().__init__(port)
        self.bytes = 0
        self._answers = {}
        for group in range(STORAGES):
            for number in range(REPLICAS):
                identity = f"{group:02}{number:030}"
                key = f"@mst/2/s{group}%2f%2a%2a/{identity}"
                status = {**brief, "name": f"s{group}", "identity": identity}
                status["replication"]["equal_peers"] = REPLICAS - 1
                self._answers[key] = json.dumps(status, separators=(",", ":"))
        declare = self._session.liveliness().declare_token
        self._tokens = [declare(key) for key in self._answers]
        self._answering = self._session.declare_queryable("@mst/2/*/*/status", self._answer)

    def _answer(self, query):
        # Not on the thread that Zenoh calls with.
        threading.Thread(target=self._reply, args=[query]).start()

    def _reply(self, query):
        with query:
            for key, answer in self._answers.items():
                self.bytes += len(answer)
                query.reply(f"{key}/status", answer)


def test_a_thousand_statuses_are_a_megabyte(start_router):
    router = start_router({"demo": storage("demo/**", settle="50ms", replication={})})
    router.client.put("demo/a", b"1")
    router.wait_until_settled("demo", keys=1)
    with Operator(router.port) as operator:
        operator.wait_for_answers("@mst/2/*/*/status", 1)
        brief = operator.ask(f"{base(router, 'demo')}/status?brief=true")
        whole = operator.ask(f"{base(router, 'demo')}/status")
    # Brief is less of the same.
    assert brief["root"] == whole["root"]
    assert len(json.dumps(brief)) < len(json.dumps(whole)) / 2
    fleet = Fleet(router.port, brief)
    try:
        began = time.monotonic()
        done = mstctl("--json", "replicas", router=router, check=0)
        took = time.monotonic() - began
        listed = json.loads(done.out)
        print(f"{took:.2f} s, {fleet.bytes} bytes")
        # And that of the router itself.
        assert len(listed) == STORAGES * REPLICAS + 1
        assert fleet.bytes <= 1_000_000
    finally:
        fleet.close()
