"""A storage, and its replicas, as a client sees them."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import zenoh

from .cells import Cell, Write, cells
from .changes import Watch
from .errors import NoAnswer, Refused, Unconfirmed
from .stamps import Stamp, clock_of
from .verified import Verified, verify
from .waiting import first

#: How long a call waits unless it is told otherwise, in seconds.
TIMEOUT = 10.0

#: What Zenoh says in place of the answers that are missing when the time is up.
_TIMEOUT = "Timeout"

_PLAIN = frozenset((string.ascii_letters + string.digits + "_-.").encode())


def client_config(*endpoints: str) -> zenoh.Config:
    """The configuration of a client of the routers at these endpoints, such as `tcp/127.0.0.1:7447`."""
    connect = {"endpoints": list(endpoints)}
    config = {"mode": "client", "connect": connect, "timestamping": {"enabled": True}}
    return zenoh.Config.from_json5(json.dumps(config))


@dataclass(frozen=True)
class Value:
    """What a key has."""

    key: str
    payload: bytes
    encoding: str
    #: That of the newest write that is part of it.
    stamp: Stamp

    @property
    def text(self) -> str:
        return self.payload.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


#: What a get may wait for: that a value is at least so new, or whatever a function says of it.
Until = Stamp | Callable[[Value | None], bool]


class Store:
    """The storages with one key expression and strip_prefix, on the session of a client.

    Keys are whole keys. Each call that waits takes a `timeout` in seconds.
    """

    def __init__(
        self, session: zenoh.Session, key_expr: str, strip_prefix: str | None = None
    ) -> None:
        self.session = session
        self.key_expr = str(zenoh.KeyExpr.autocanonize(key_expr))
        self.strip_prefix = strip_prefix
        parts = [self.key_expr] if strip_prefix is None else [self.key_expr, strip_prefix]
        #: What the keys begin with under which its replicas are asked.
        self.group = "@mst/2/" + "~".join(map(_escaped, parts))
        self._clock = clock_of(session)

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
        if stamp is None or not self._was_taken(write, timeout):
            self.session.delete(
                key,
                timestamp=write.stamp.for_zenoh(),
                congestion_control=zenoh.CongestionControl.BLOCK,
            )
        return self.confirm(write, timeout=timeout)

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
        write, which is sent again only if no storage has it."""
        write = Write(
            _exact(key), stamp or self.stamp(), frozenset(elements), frozenset(fields)
        )
        if stamp is None or not self._was_taken(write, timeout):
            self.session.put(
                key,
                payload,
                encoding=zenoh.Encoding(encoding),
                timestamp=write.stamp.for_zenoh(),
                congestion_control=zenoh.CongestionControl.BLOCK,
            )
        return self.confirm(write, timeout=timeout)

    def confirm(self, write: Write, *, timeout: float = TIMEOUT) -> Write:
        """Returns when a storage shows that it has taken the write; raises `Unconfirmed`."""
        if first(lambda left: self._was_taken(write, left) or None, timeout) is None:
            raise Unconfirmed(
                f"no storage has shown the write {write.stamp} of {write.key} within {timeout:g} s: "
                "it may be on its way, or refused (the router's log says why), or stamped anew by a "
                "router whose clock is more than 500 ms behind this machine's",
                write,
            )
        return write

    def replicated(self, write: Write, *, replicas: int, timeout: float = TIMEOUT) -> set[str]:
        """Waits until so many replicas hold a write, or what replaced it; returns their identities.

        Whether it is on their disks is a matter of their `durability`.
        """
        holders: set[str] = set()

        def ask(left: float) -> set[str] | None:
            for replica, shown in self._cells_of_replicas(write.key, "*", left):
                if write.is_in(shown):
                    holders.add(replica)
            return holders if len(holders) >= replicas else None

        if first(ask, timeout) is None:
            held = ", ".join(sorted(holders)) or "none"
            raise NoAnswer(f"of {replicas} replicas have {write.key} at {write.stamp}: {held}")
        return holders

    def settled(self, write: Write, *, timeout: float = TIMEOUT) -> None:
        """Waits until the roots of all replicas that answer include a write, or what replaced it."""

        def ask(left: float) -> bool | None:
            statuses = self.statuses(timeout=left)
            cuts = {status["identity"]: _ntp64(status["cut"]) for status in statuses}
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
        return [cells(bytes(sample.payload)) for sample in self._samples(f"{key}?raw", timeout)]

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

    def statuses(self, *, timeout: float = TIMEOUT) -> list[dict[str, Any]]:
        """The status of each replica that answers."""
        samples = self._samples(f"{self.group}/*/status", timeout, each=True)
        return [json.loads(bytes(sample.payload)) for sample in samples]

    def nearest(self, *, timeout: float = TIMEOUT) -> str:
        """The identity of the replica at the router that this session is connected with."""
        for router in self.session.info.routers_zid():
            selector = f"@/{router}/router/status/plugins/*/storages/*"
            for sample in self._samples(selector, timeout, each=True):
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

    # Asking.

    def _was_taken(self, write: Write, timeout: float) -> bool:
        value = self._value(write.key, timeout)
        if value is not None and value.stamp == write.stamp:
            return True
        return any(write.was_taken(shown) for shown in self.cells(write.key, timeout=timeout))

    def _value(self, key: str, timeout: float) -> Value | None:
        samples = self._samples(key, timeout)
        return self._as_value(samples[0]) if samples else None

    def _as_value(self, sample: zenoh.Sample) -> Value:
        if sample.timestamp is None:
            raise Refused(f"{sample.key_expr}: the answer has no timestamp, so no storage gave it")
        stamp = Stamp.of(sample.timestamp)
        self._clock.has_read(stamp)
        return Value(str(sample.key_expr), bytes(sample.payload), str(sample.encoding), stamp)

    def _cells_of_replicas(
        self, key: str, replica: str, timeout: float
    ) -> list[tuple[str, list[Cell]]]:
        selector = f"{self.group}/{replica}/cells"
        samples = self._samples(selector, timeout, payload=key, each=True)
        return [(_replica(sample), cells(bytes(sample.payload))) for sample in samples]

    def _samples(
        self, selector: str, timeout: float, *, payload: str | None = None, each: bool = False
    ) -> list[zenoh.Sample]:
        """Of each key the newest answer, or with `each` those of all that answered in time.

        Raises `Refused` for an error, and `NoAnswer` if the newest answer may be missing.
        """
        each = each or "?raw" in selector
        consolidation = zenoh.ConsolidationMode.NONE if each else zenoh.ConsolidationMode.LATEST
        found = []
        for reply in self._replies(selector, timeout, payload=payload, consolidation=consolidation):
            if reply.ok is not None:
                found.append(reply.ok)
            elif _error(reply) != _TIMEOUT:
                raise Refused(f"{selector}: {_error(reply)}")
            elif not each:
                raise NoAnswer(f"{selector}: not all storages answered within {timeout:.3g} s")
        return found

    def _replies(
        self,
        selector: str,
        timeout: float,
        *,
        payload: str | None = None,
        consolidation: zenoh.ConsolidationMode = zenoh.ConsolidationMode.NONE,
    ) -> Iterable[zenoh.Reply]:
        return self.session.get(
            selector,
            payload=payload,
            consolidation=consolidation,
            timeout=timeout,
            congestion_control=zenoh.CongestionControl.BLOCK,
        )

    def _relative(self, key: str) -> str:
        if self.strip_prefix is None:
            return key
        if key == self.strip_prefix:
            return ""
        if not key.startswith(f"{self.strip_prefix}/"):
            raise ValueError(f"{key} is not within {self.strip_prefix}")
        return key[len(self.strip_prefix) + 1 :]


def _error(reply: zenoh.Reply) -> str:
    return "an error" if reply.err is None else reply.err.payload.to_string()


def _replica(sample: zenoh.Sample) -> str:
    """Whose answer it is: the chunk after the group's."""
    return str(sample.key_expr).split("/")[3]


def _ntp64(time: str) -> int:
    return int(str(zenoh.NTP64.parse_rfc3339(time)))


def _exact(key: str) -> str:
    if "*" in key:
        raise ValueError(f"{key} has a wildcard, and a write that is confirmed is of one key")
    return key


def _escaped(part: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in part.encode())
