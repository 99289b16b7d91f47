"""What a client asks the replicas of a storage, and what they answer."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import zenoh

from .cells import Cell, Write, cells
from .errors import NoAnswer, Refused
from .stamps import Stamp, clock_of

#: How long a call waits unless it is told otherwise, in seconds.
TIMEOUT = 10.0

#: What Zenoh says in place of the answers that are missing when the time is up.
_TIMEOUT = "Timeout"

_PLAIN = frozenset((string.ascii_letters + string.digits + "_-.").encode())


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


@dataclass
class Search:
    """What the answers say of a write."""

    #: Whether one shows that a storage has taken it.
    found: bool = False
    #: Whether all storages answered.
    complete: bool = True
    #: The errors among the answers.
    errors: tuple[str, ...] = ()


class Asker:
    """Asks the storages with one key expression and strip_prefix."""

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

    def statuses(self, *, timeout: float = TIMEOUT) -> list[dict[str, Any]]:
        """The status of each replica that answers."""
        samples = self._each(f"{self.group}/*/status", timeout)
        return [json.loads(bytes(sample.payload)) for sample in samples]

    def _search(self, write: Write, timeout: float) -> Search:
        """Looks for a write, and ends with the first answer that shows it.

        First it asks for the value, which is short; if the nearest storage has another one, for
        the cells. Each of both has the whole timeout.
        """
        for reply in self._replies(write.key, timeout):
            if reply.ok is not None and reply.ok.timestamp is not None:
                stamp = Stamp.of(reply.ok.timestamp)
                self._clock.has_read(stamp)
                if stamp == write.stamp:
                    return Search(found=True)
                break
        search = Search()
        for reply in self._replies(f"{write.key}?raw", timeout):
            if reply.ok is None:
                search.complete = False
                if _error(reply) != _TIMEOUT:
                    search.errors += (_error(reply),)
            elif write.was_taken(_cells_if_any(reply.ok)):
                return Search(found=True)
        return search

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
    ) -> Iterator[tuple[str, list[Cell]]]:
        """The cells of a key at each replica that answers, as they come."""
        for sample in self._each(f"{self.group}/{replica}/cells", timeout, payload=key):
            yield _replica(sample), cells(bytes(sample.payload))

    def _samples(self, selector: str, timeout: float) -> list[zenoh.Sample]:
        """Of each key the newest answer.

        Raises `Refused` for an error, and `NoAnswer` if the newest answer may be missing.
        """
        found = []
        latest = zenoh.ConsolidationMode.LATEST
        for reply in self._replies(selector, timeout, consolidation=latest):
            if reply.ok is not None:
                found.append(reply.ok)
            elif _error(reply) == _TIMEOUT:
                raise NoAnswer(f"{selector}: not all storages answered within {timeout:.3g} s")
            else:
                raise Refused(f"{selector}: {_error(reply)}")
        return found

    def _each(
        self, selector: str, timeout: float, *, payload: str | None = None
    ) -> Iterator[zenoh.Sample]:
        """The answers of all that answer in time, as they come. Raises `Refused` for an error."""
        for reply in self._replies(selector, timeout, payload=payload):
            if reply.ok is not None:
                yield reply.ok
            elif _error(reply) != _TIMEOUT:
                raise Refused(f"{selector}: {_error(reply)}")

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


def _cells_if_any(sample: zenoh.Sample) -> list[Cell]:
    """Nothing if it is no answer of a storage of this backend: others may have the key, too."""
    try:
        return cells(bytes(sample.payload))
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def _error(reply: zenoh.Reply) -> str:
    return "an error" if reply.err is None else reply.err.payload.to_string()


def _replica(sample: zenoh.Sample) -> str:
    """Whose answer it is: the chunk after the group's."""
    return str(sample.key_expr).split("/")[3]


def _escaped(part: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in part.encode())
