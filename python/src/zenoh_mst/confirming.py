"""Waits until a storage shows a write, and finds out why none does."""

from __future__ import annotations

from typing import Any

import zenoh

from .asking import Asker, Search
from .cells import Write
from .errors import Error, NotShown, Unconfirmed
from .stamps import Stamp
from .waiting import first, share

#: After so many seconds without the write the replicas are asked for the reason.
_BEFORE_ASKING_WHY = 1.0

_RESTAMPED = "stamped anew by a router whose clock is more than 500 ms behind this machine's"


def confirm(asker: Asker, write: Write, timeout: float) -> None:
    """Returns when a storage shows that it has taken the write; raises `Unconfirmed`."""
    patience = min(_BEFORE_ASKING_WHY, timeout / 2)
    last = Search()
    statuses: list[dict[str, Any]] = []
    #: When all began to answer without it.
    lacked_since: float | None = None
    ask_why_at = patience

    def ask(left: float) -> str | None:
        """Nothing if it is there; a text if it is known that it will not be."""
        nonlocal last, statuses, lacked_since, ask_why_at
        waited = timeout - left
        last = asker._search(write, share(left, timeout))
        if last.found:
            return ""
        if not last.complete:
            lacked_since = None
        elif lacked_since is None:
            lacked_since = waited
        if waited < ask_why_at:
            return None
        ask_why_at = waited + _BEFORE_ASKING_WHY
        statuses = _statuses(asker, share(left, timeout))
        is_lacked = lacked_since is not None and waited - lacked_since >= patience
        return _why_not(write, statuses, is_lacked)

    why = first(ask, timeout)
    if why == "":
        return
    what = f"the write {write.stamp} of {write.key}"
    if why is not None:
        raise NotShown(f"no storage shows {what}: {why}", write)
    on_its_way = f"it may be on its way, or refused (the router's log says why), or {_RESTAMPED}"
    gone = _gone(statuses)
    if last.complete and statuses:
        raise NotShown(f"the storages answer, and none shows {what}: {on_its_way}, {gone}", write)
    errors = "".join(f"; an answer was the error: {error}" for error in last.errors)
    raise Unconfirmed(
        f"no storage has shown {what} within {timeout:.3g} s: {on_its_way}, {gone}{errors}", write
    )


def _statuses(asker: Asker, timeout: float) -> list[dict[str, Any]]:
    """Those of the replicas that answer: none to those who may not ask."""
    try:
        return asker.statuses(timeout=timeout)
    except Error:
        return []


def _why_not(write: Write, statuses: list[dict[str, Any]], is_lacked: bool) -> str | None:
    """Why it is not shown, if the replicas know that it will not be."""
    for status in statuses:
        for refused in status["refused"]:
            if Stamp.parse(refused["timestamp"]) == write.stamp:
                return f"replica {status['identity']} refused it: {refused['reason']}"
    # What is newer than a root may be about to be taken. What is older was sent long ago, or again
    # by this call, before its questions: it is not on its way.
    is_settled = all(ntp64(status["cut"]) > write.stamp.time for status in statuses)
    if not (is_lacked and statuses and is_settled):
        return None
    return f"it was refused (the router's log says why), or {_RESTAMPED}, {_gone(statuses)}"


def _gone(statuses: list[dict[str, Any]]) -> str:
    """How it may have gone after it was taken: what the statuses, if there are any, leave open."""
    by_rule = by_lifetime = by_collection = not statuses
    for status in statuses:
        by_rule |= status["wildcard_rules"] > 0
        by_lifetime |= status["lifetimes"]["patterns"] > 0
        by_collection |= status.get("collection", {}).get("horizon") is not None
    ways = ["by a later delete with wildcards"] * by_rule
    ways += ["since its lifetime was over"] * by_lifetime
    ways += ["by a delete that was collected"] * by_collection
    if not ways:
        return (
            "but it has not gone after it was taken: the storages have no wildcard rules and no "
            "lifetimes, and collected nothing"
        )
    return f"or it was taken and has gone since, {' or '.join(ways)}"


def ntp64(time: str) -> int:
    """The number of a time in a status."""
    return int(str(zenoh.NTP64.parse_rfc3339(time)))
