"""Timestamps of writes, and the clock that gives them."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import zenoh

#: Routers stamp anew what is further ahead of their clock.
_MOST_AHEAD = 500_000_000

_NANOS = 10**9


@dataclass(frozen=True, order=True)
class Stamp:
    """When a write was made, and by whose clock. Of two stamps the greater is the later one.

    `str` and `parse` are inverse: keep the text, and a write can be repeated after a crash.
    """

    #: NTP64: seconds since 1970 in the upper 32 bits, their fraction in the lower.
    time: int
    #: 16 bytes, as storages order them.
    id: bytes

    @classmethod
    def parse(cls, text: str) -> Stamp:
        """A stamp as storages and Zenoh write it: `TIME/ID`."""
        time, slash, id = text.partition("/")
        try:
            number, writer = int(time), int(id, 16)
            if not slash or not 0 <= number < 1 << 64 or writer <= 0:
                raise ValueError
            return cls(number, writer.to_bytes(16, "little"))
        except (ValueError, OverflowError):
            raise ValueError(f"found {text!r}, a timestamp is TIME/ID") from None

    @classmethod
    def of(cls, timestamp: zenoh.Timestamp) -> Stamp:
        """That of a sample."""
        return cls.parse(str(timestamp))

    @classmethod
    def at(cls, nanos: int, id: bytes) -> Stamp:
        """That of a clock which shows so many nanoseconds since 1970."""
        seconds, rest = divmod(nanos, _NANOS)
        return cls(int(str(zenoh.NTP64(seconds, rest))), id)

    @property
    def nanos(self) -> int:
        """Nanoseconds since 1970, rounded down."""
        return (self.time * _NANOS) >> 32

    def for_zenoh(self) -> zenoh.Timestamp:
        """As a put takes it. Only whole nanoseconds can be given to Zenoh, as `Clock` makes them."""
        for nanos in (self.nanos, self.nanos + 1):
            made = zenoh.Timestamp(zenoh.NTP64(*divmod(nanos, _NANOS)), self.id)
            if Stamp.of(made) == self:
                return made
        raise ValueError(f"{self} is not the stamp of a write of this package")

    def __str__(self) -> str:
        return f"{self.time}/{int.from_bytes(self.id, 'little'):x}"


class Clock:
    """Gives stamps, each later than those before it and than what was read.

    Thread-safe. `now` is a reading of the machine's clock, in nanoseconds since 1970.
    """

    def __init__(self, id: bytes, now: Callable[[], int] = time.time_ns) -> None:
        self._id = id.ljust(16, b"\0")
        self._now = now
        self._last = 0
        self._lock = threading.Lock()

    def stamp(self) -> Stamp:
        """A stamp that was not given before."""
        with self._lock:
            self._last = max(self._now(), self._last + 1)
            return Stamp.at(self._last, self._id)

    def has_read(self, stamp: Stamp) -> None:
        """What is stamped from now on is later. Not if that is so far ahead that a router would
        not keep the stamp."""
        with self._lock:
            if stamp.nanos <= self._now() + _MOST_AHEAD:
                self._last = max(self._last, stamp.nanos + 1)


_clocks: weakref.WeakValueDictionary[bytes, Clock] = weakref.WeakValueDictionary()
_clocks_lock = threading.Lock()


def clock_of(session: zenoh.Session) -> Clock:
    """The one clock of a session: two would give the same stamp twice."""
    id = int(str(session.info.zid()), 16).to_bytes(16, "little")
    with _clocks_lock:
        clock = _clocks.get(id)
        if clock is None:
            clock = _clocks[id] = Clock(id)
        return clock
