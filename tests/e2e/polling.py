"""The only place where tests wait."""

import time

#: Far more than anything takes on a busy machine; waiting ends at the first success.
PATIENCE = 30.0

_FIRST_PAUSE = 0.002
_LONGEST_PAUSE = 0.1


def wait_until(condition, what, timeout=PATIENCE):
    """Returns the first true result of `condition()`; fails with `what` at the deadline.

    `what` is a text, or a function that makes one when it is needed.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            reason = what() if callable(what) else what
            raise AssertionError(f"not within {timeout:g} s: {reason}")
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
