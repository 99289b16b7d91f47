"""The only place where this package waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import NoAnswer

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1
_LEAST_SHARE = 0.1

Result = TypeVar("Result")


def first(ask: Callable[[float], Result | None], timeout: float) -> Result | None:
    """The first result of `ask` that is not None; None if there is none in time.

    `ask` is given the seconds that are left, and asked at least once. That it has no answer is no
    result.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        left = deadline - time.monotonic()
        try:
            result = ask(max(left, _FIRST_PAUSE))
        except NoAnswer:
            result = None
        if result is not None or time.monotonic() + pause >= deadline:
            return result
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def share(left: float, timeout: float) -> float:
    """How long one question of a wait waits for its answers: half as long as was waited before.

    So one that does not answer does not keep the others from being asked again, and one that
    takes long to answer is heard at last.
    """
    return min(left, max(_LEAST_SHARE, (timeout - left) / 2))
