"""A Zenoh client as tests use one: nothing is dropped on the way, answers are checked."""

import json
import time
from contextlib import contextmanager

import zenoh

from polling import PATIENCE, wait_until

#: By default a client drops what a busy router does not take at once.
_BLOCK = zenoh.CongestionControl.BLOCK

#: The writer of timestamps that a test makes.
WRITER = b"\x01"


def timestamp(seconds_from_now=0.0, *, writer=WRITER):
    """A timestamp, for writes whose order is not that in which they are sent."""
    nanos = time.time_ns() + int(seconds_from_now * 1e9)
    return zenoh.Timestamp(zenoh.NTP64(nanos // 10**9, nanos % 10**9), writer)


def _payloads(samples):
    return {key: bytes(sample.payload) for key, sample in samples.items()}


class Client:
    """A session in client mode with the router on a loopback port."""

    def __init__(self, port):
        config = {
            "mode": "client",
            "connect": {
                "endpoints": [f"tcp/127.0.0.1:{port}"],
                "timeout_ms": int(PATIENCE * 1000),
                "exit_on_failure": True,
                "retry": {"period_init_ms": 10, "period_max_ms": 100},
            },
            "scouting": {"multicast": {"enabled": False}},
            "transport": {"shared_memory": {"enabled": False}},
        }
        self._session = zenoh.open(zenoh.Config.from_json5(json.dumps(config)))

    def close(self):
        self._session.close()

    def put(self, key, payload, **options):
        """Sends a put. It has an effect when the storage gets it."""
        self._session.put(key, payload, congestion_control=_BLOCK, **options)

    def put_droppable(self, key, payload):
        """Sends a put that a link may drop which does not take it at once."""
        self._session.put(key, payload)

    @contextmanager
    def subscribed(self, key_expr, handle):
        """Has `handle` called with what is published, until the block ends."""
        subscriber = self._session.declare_subscriber(key_expr, handle)
        try:
            yield
        finally:
            subscriber.undeclare()

    def delete(self, key, **options):
        """Sends a delete. It has an effect when the storage gets it."""
        self._session.delete(key, congestion_control=_BLOCK, **options)

    def samples(self, selector, may_be_damaged=False):
        """All samples that a get is answered with, by key: no key may come twice. Of a value that is
        damaged the plugin says so, and the storage manager nothing."""
        found = {}
        replies = self._session.get(
            selector,
            consolidation=zenoh.ConsolidationMode.NONE,
            timeout=PATIENCE,
        )
        for reply in replies:
            if reply.ok is None:
                reason = reply.err.payload.to_string()
                assert may_be_damaged and " is damaged" in reason, f"{selector}: {reason}"
                continue
            key = str(reply.ok.key_expr)
            assert key not in found, f"{selector}: two answers for {key}"
            found[key] = reply.ok
        return found

    def sample(self, key):
        """What is at one key, or None."""
        return self.samples(key).get(key)

    def get(self, selector):
        """Payloads by key."""
        return _payloads(self.samples(selector))

    def get_undamaged(self, selector):
        """As `get`, where some values may be damaged."""
        return _payloads(self.samples(selector, may_be_damaged=True))

    def wait_for(self, selector, expected):
        """Waits until a get is answered with exactly `expected`, payloads by key.

        The storage manager takes a put and a get that come at the same time in any
        order, so a get that follows at once may not see the put.
        """
        last = None

        def check():
            nonlocal last
            last = self.get(selector)
            return last == expected

        def difference():
            keys = last.keys() | expected.keys()
            different = sorted(key for key in keys if last.get(key) != expected.get(key))
            return (
                f"{selector} has the {len(expected)} expected values; "
                f"{len(different)} are different, such as {different[:10]}"
            )

        wait_until(check, difference)
