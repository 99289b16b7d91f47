"""What is put and deleted, and what storages repaired, as one stream."""

from __future__ import annotations

import json
import queue
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import zenoh

from .stamps import Stamp

#: Changes that may wait for whoever reads them.
MAX_WAITING = 16_384
#: Keys of which the newest change is remembered, to tell late ones.
MAX_REMEMBERED = 65_536


@dataclass(frozen=True)
class Change:
    """What became of one key."""

    key: str
    #: The new value; None if the key was deleted. Of a publication it is what was put: an
    #: increment, not the sum. Of any other it is the whole value.
    payload: bytes | None
    encoding: str
    stamp: Stamp | None
    #: `publication`, `repair`, `restore`, `rollback`, or `expired`: its lifetime was over.
    by: str
    #: The replica, or the session of the operator, that it came from: of what expired the replica
    #: that tells it. None of a publication.
    origin: str | None
    #: Whether something newer of this key was told before: a late publication.
    outdated: bool


class Watch:
    """An iterator of changes, from `Store.watch`. Ends with its `with` block, or by `close`.

    If nobody reads, changes are dropped beyond the first 16,384 that wait, and counted.
    """

    def __init__(self, session: zenoh.Session, key_expr: str, feed: str) -> None:
        #: Changes that nobody read in time.
        self.dropped = 0
        self._counting = threading.Lock()
        self._waiting: queue.Queue[tuple[zenoh.Sample, bool]] = queue.Queue(MAX_WAITING)
        self._newest: OrderedDict[str, Stamp] = OrderedDict()
        self._subscribers = [
            session.declare_subscriber(key_expr, lambda sample: self._take(sample, False)),
            session.declare_subscriber(feed, lambda sample: self._take(sample, True)),
        ]

    def next(self, timeout: float | None = None) -> Change | None:
        """The next change; None if none comes in time."""
        try:
            sample, from_feed = self._waiting.get(timeout=timeout)
        except queue.Empty:
            return None
        return self._change(sample, from_feed)

    def close(self) -> None:
        """Ends it. What waits is forgotten."""
        subscribers, self._subscribers = self._subscribers, []
        for subscriber in subscribers:
            subscriber.undeclare()  # type: ignore[no-untyped-call]

    def _take(self, sample: zenoh.Sample, from_feed: bool) -> None:
        try:
            self._waiting.put_nowait((sample, from_feed))
        except queue.Full:
            # Each subscriber has a thread of its own.
            with self._counting:
                self.dropped += 1

    def _change(self, sample: zenoh.Sample, from_feed: bool) -> Change:
        key, by, origin = str(sample.key_expr), "publication", None
        if from_feed:
            key = key.split("/changes/", 1)[1]
            told = json.loads(bytes(sample.attachment or b"{}"))
            by, origin = told["by"], told.get("from")
        stamp = None if sample.timestamp is None else Stamp.of(sample.timestamp)
        return Change(
            key=key,
            payload=bytes(sample.payload) if sample.kind == zenoh.SampleKind.PUT else None,
            encoding=str(sample.encoding),
            stamp=stamp,
            by=by,
            origin=origin,
            outdated=stamp is not None and self._is_outdated(key, stamp),
        )

    def _is_outdated(self, key: str, stamp: Stamp) -> bool:
        newest = self._newest.get(key)
        if newest is not None and stamp < newest:
            return True
        self._newest[key] = stamp
        self._newest.move_to_end(key)
        if len(self._newest) > MAX_REMEMBERED:
            self._newest.popitem(last=False)
        return False

    def __iter__(self) -> Iterator[Change]:
        while self._subscribers:
            change = self.next(timeout=0.5)
            if change is not None:
                yield change

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
