"""A storage, and its replicas, as a client sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import zenoh

from .asking import TIMEOUT, Asker, Value, _error, _replica
from .cells import Cell, Write, cells, check_limits
from .changes import Watch
from .confirming import confirm, ntp64
from .errors import NoAnswer, Refused
from .stamps import Stamp
from .verified import Verified, verify
from .waiting import first, share

#: How long a call at most looks for a write of before, until it sends it again: seconds.
_LOOK = 1.0


def client_config(*endpoints: str) -> zenoh.Config:
    """The configuration of a client of the routers at these endpoints, such as `tcp/127.0.0.1:7447`."""
    connect = {"endpoints": list(endpoints)}
    config = {"mode": "client", "connect": connect, "timestamping": {"enabled": True}}
    return zenoh.Config.from_json5(json.dumps(config))


#: What a get may wait for: that a value is at least so new, or whatever a function says of it.
Until = Stamp | Callable[[Value | None], bool]


class Store(Asker):
    """The storages with one key expression and strip_prefix, on the session of a client.

    Keys are whole keys. Each call that waits takes a `timeout` in seconds.
    """

    # Writing.

    def stamp(self) -> Stamp:
        """A stamp for a write that may have to be repeated: keep it until the write is confirmed."""
        return self._clock.stamp()

    def put(
        self,
        key: str,
        payload: bytes | str,
        *,
        encoding: str = "zenoh/bytes",
        stamp: Stamp | None = None,
        timeout: float = TIMEOUT,
    ) -> Write:
        """Puts a value, and returns when a storage has taken it."""
        return self.write(key, payload, encoding, stamp=stamp, timeout=timeout)

    def delete(self, key: str, *, stamp: Stamp | None = None, timeout: float = TIMEOUT) -> Write:
        """Deletes a key, and returns when a storage has taken that."""
        write = Write(_exact(key), stamp or self.stamp())

        def send() -> None:
            self.session.delete(
                key,
                timestamp=write.stamp.for_zenoh(),
                congestion_control=zenoh.CongestionControl.BLOCK,
            )

        return self._send(write, send, is_new=stamp is None, timeout=timeout)

    def write(
        self,
        key: str,
        payload: bytes | str,
        encoding: str,
        *,
        stamp: Stamp | None,
        timeout: float,
        elements: Iterable[str] = (),
        fields: Iterable[str] = (),
    ) -> Write:
        """A put that names these elements or fields. With a stamp that was used before it is that
        write, which is sent again unless a storage shows that it has it."""
        write = Write(
            _exact(key), stamp or self.stamp(), frozenset(elements), frozenset(fields)
        )

        def send() -> None:
            self.session.put(
                key,
                payload,
                encoding=zenoh.Encoding(encoding),
                timestamp=write.stamp.for_zenoh(),
                congestion_control=zenoh.CongestionControl.BLOCK,
            )

        return self._send(write, send, is_new=stamp is None, timeout=timeout)

    def confirm(self, write: Write, *, timeout: float = TIMEOUT) -> Write:
        """Returns when a storage shows that it has taken the write; raises `Unconfirmed`, which is
        `NotShown` if the storages answer without it."""
        confirm(self, write, timeout)
        return write

    def replicated(self, write: Write, *, replicas: int, timeout: float = TIMEOUT) -> set[str]:
        """Waits until so many replicas hold a write, or what replaced it; returns their identities.

        Whether it is on their disks is a matter of their `durability`.
        """
        holders: set[str] = set()

        def ask(left: float) -> set[str] | None:
            for replica, shown in self._cells_of_replicas(write.key, "*", share(left, timeout)):
                if write.is_in(shown):
                    holders.add(replica)
                if len(holders) >= replicas:
                    return holders
            return None

        if first(ask, timeout) is None:
            held = ", ".join(sorted(holders)) or "none"
            raise NoAnswer(f"of {replicas} replicas have {write.key} at {write.stamp}: {held}")
        return holders

    def settled(self, write: Write, *, timeout: float = TIMEOUT) -> None:
        """Waits until the roots of all replicas that answer include a write, or what replaced it."""

        def ask(left: float) -> bool | None:
            statuses = self.statuses(timeout=left)
            cuts = {status["identity"]: ntp64(status["cut"]) for status in statuses}
            held = self._cells_of_replicas(write.key, "*", left)
            holders = {replica for replica, shown in held if write.is_in(shown)}
            over = all(cut > write.stamp.time for cut in cuts.values())
            return True if cuts and over and holders >= cuts.keys() else None

        if first(ask, timeout) is None:
            raise NoAnswer(f"not all roots include {write.key} at {write.stamp}")

    # Reading.

    def get(
        self, key: str, *, until: Until | None = None, timeout: float = TIMEOUT
    ) -> Value | None:
        """The value of a key; None if there is none.

        With `until` it waits: for a value that is at least as new as a stamp, or for which a
        function says so. A value that is merged can be as new and lack older writes: `replicated`
        knows.
        """
        if until is None:
            return self._value(key, timeout)
        last: list[Value | None] = [None]

        def ask(left: float) -> list[Value | None] | None:
            last[0] = value = self._value(key, left)
            if callable(until):
                return last if until(value) else None
            return last if value is not None and value.stamp >= until else None

        if first(ask, timeout) is None:
            raise NoAnswer(f"{key} is not what was waited for; the last value was {last[0]}")
        return last[0]

    def get_all(self, selector: str, *, timeout: float = TIMEOUT) -> dict[str, Value]:
        """The values of all keys that match, ascending; each as new as the newest answer had it."""
        found = (self._as_value(sample) for sample in self._samples(selector, timeout))
        return {value.key: value for value in sorted(found, key=lambda value: value.key)}

    def snapshot(
        self, selectors: str | Iterable[str], *, timeout: float = TIMEOUT
    ) -> dict[str, Value]:
        """The values of many keys as they were at one moment.

        It reads them until two reads in a row are the same. Between these two there was a moment
        at which all keys had these values, as far as the reachable replicas knew. Raises `NoAnswer`
        if they do not stand still for so long.
        """
        wanted = [selectors] if isinstance(selectors, str) else list(selectors)
        last: dict[str, Value] | None = None

        def ask(left: float) -> dict[str, Value] | None:
            nonlocal last
            now: dict[str, Value] = {}
            for selector in wanted:
                now |= self.get_all(selector, timeout=left)
            before, last = last, now
            return now if now == before else None

        found = first(ask, timeout)
        if found is None:
            raise NoAnswer(f"the keys changed in each read for {timeout:g} s: read fewer at a time")
        return dict(sorted(found.items()))

    def cells(self, key: str, *, timeout: float = TIMEOUT) -> list[list[Cell]]:
        """The cells of a key, of each storage that answers."""
        return [cells(bytes(sample.payload)) for sample in self._each(f"{key}?raw", timeout)]

    # Proving.

    def root(self, *, replicas: int = 1, timeout: float = TIMEOUT) -> str:
        """The root that so many replicas, and all that answer, have at the same time."""
        seen: dict[str, str] = {}

        def ask(left: float) -> str | None:
            nonlocal seen
            statuses = self.statuses(timeout=left)
            seen = {status["identity"]: status["root"] for status in statuses}
            roots = set(seen.values())
            return roots.pop() if len(roots) == 1 and len(seen) >= replicas else None

        found = first(ask, timeout)
        if found is None:
            raise NoAnswer(f"{replicas} replicas have no root in common: {seen}")
        return found

    def verified(
        self, key: str, root: str, *, replica: str = "*", timeout: float = TIMEOUT
    ) -> Verified:
        """All cells of a key, proven against a root that the caller trusts.

        Nothing is believed of what a storage says but what the root proves. Raises `Refused` if no
        replica has this root now, and ValueError if what one shows does not hold.
        """
        refusals: list[str] = []
        selector = f"{self.group}/{replica}/proof?root={root}"
        for reply in self._replies(selector, timeout, payload=key):
            if reply.ok is None:
                refusals.append(_error(reply))
                continue
            [(_, shown)] = self._cells_of_replicas(key, _replica(reply.ok), timeout)
            return verify(key, self._relative(key), root, bytes(reply.ok.payload), shown)
        raise Refused(f"no proof of {key} under {root}: {'; '.join(refusals) or 'no answer'}")

    # Replicas.

    def nearest(self, *, timeout: float = TIMEOUT) -> str:
        """The identity of the replica at the router that this session is connected with."""
        for router in self.session.info.routers_zid():
            selector = f"@/{router}/router/status/plugins/*/storages/*"
            for sample in self._each(selector, timeout):
                status = json.loads(bytes(sample.payload))
                given = status.get("configuration", {})
                if (given.get("key_expr"), given.get("strip_prefix")) == (
                    self.key_expr,
                    self.strip_prefix,
                ):
                    return str(status["identity"])
        raise NoAnswer(f"no router that this session is connected with shows a storage {self.key_expr}")

    def watch(self, key_expr: str | None = None, *, replica: str | None = None) -> Watch:
        """What is put and deleted from now on, and what the replica nearby gets in another way:
        by a repair, a restored backup, a rollback."""
        keys = key_expr or self.key_expr
        feed = f"{self.group}/{replica or self.nearest()}/changes/{keys}"
        return Watch(self.session, keys, feed)

    # Sending.

    def _send(
        self, write: Write, send: Callable[[], None], *, is_new: bool, timeout: float
    ) -> Write:
        """Sends a write, unless it was made before and a storage shows it, and confirms it.

        To send it once more than needed does no harm: it is one write. So whoever does not answer
        does not keep it from being sent.
        """
        check_limits(write, self._stored(write.key))
        deadline = time.monotonic() + timeout
        if is_new or not self._search(write, min(timeout / 8, _LOOK)).found:
            send()
            timeout = max(deadline - time.monotonic(), 0)
            return self.confirm(write, timeout=timeout)
        return write

    def _stored(self, key: str) -> str:
        """The key as a storage keeps it, if it has it."""
        try:
            return self._relative(key)
        except ValueError:
            return key


def _exact(key: str) -> str:
    if "*" in key:
        raise ValueError(f"{key} has a wildcard, and a write that is confirmed is of one key")
    return key
