"""Values that storages merge: counters, sets, objects.

The storage's rules decide how a key is merged (docs/merging.md): these are for keys whose rule is
the strategy that each of them names. Other strategies take such puts for what they are to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from .asking import TIMEOUT, Value
from .cells import Write, canonical
from .stamps import Stamp
from .store import Store, Until

_DIGITS = 18


def number(amount: int | float | Decimal | str) -> str:
    """A number as `additive` takes it; raises ValueError if it would refuse it."""
    try:
        exact = Decimal(repr(amount) if isinstance(amount, float) else amount)
    except (InvalidOperation, TypeError, ValueError):
        raise ValueError(f"found {amount!r}, allowed is a number") from None
    if isinstance(amount, bool) or not exact.is_finite():
        raise ValueError(f"found {amount!r}, allowed is a number")
    _, digits, exponent = exact.as_tuple()
    text = "".join(map(str, digits))
    # Zeros that do not change the number are no digits.
    significant = text.strip("0")
    last = int(exponent) + len(text) - len(text.rstrip("0"))
    if significant and (last < -_DIGITS or last + len(significant.lstrip("0")) > _DIGITS):
        raise ValueError(
            f"found {amount}, allowed is a number with at most {_DIGITS} digits before the point "
            f"and {_DIGITS} after it"
        )
    return format(exact, "f") if significant else "0"


class _Merged:
    """A key of a store."""

    def __init__(self, store: Store, key: str) -> None:
        self.store = store
        self.key = key

    def delete(self, *, stamp: Stamp | None = None, timeout: float = TIMEOUT) -> Write:
        """Deletes the key, with all that was put to it until now."""
        return self.store.delete(self.key, stamp=stamp, timeout=timeout)

    def _get(self, until: Until | None, timeout: float) -> Value | None:
        return self.store.get(self.key, until=until, timeout=timeout)


class Counter(_Merged):
    """A number to which everybody adds (`additive`)."""

    def add(
        self,
        amount: int | float | Decimal | str,
        *,
        stamp: Stamp | None = None,
        timeout: float = TIMEOUT,
    ) -> Write:
        """Adds to it, and returns when a storage has counted it.

        Safe to retry: with the `stamp` of a call that failed, or that was made before a crash, it
        is the same addition, which counts once.
        """
        return self.store.write(
            self.key, number(amount), "text/plain", stamp=stamp, timeout=timeout
        )

    def value(self, *, until: Until | None = None, timeout: float = TIMEOUT) -> Decimal:
        """The sum; 0 if nothing was added."""
        value = self._get(until, timeout)
        return Decimal(0) if value is None else Decimal(value.text)


class Set(_Merged):
    """A set of JSON values (`set_union`)."""

    def add(
        self, *elements: Any, stamp: Stamp | None = None, timeout: float = TIMEOUT
    ) -> Write:
        """Adds elements; without any it makes an empty set."""
        return self.change(add=elements, stamp=stamp, timeout=timeout)

    def remove(
        self, *elements: Any, stamp: Stamp | None = None, timeout: float = TIMEOUT
    ) -> Write:
        """Removes elements, until somebody adds them again."""
        return self.change(remove=elements, stamp=stamp, timeout=timeout)

    def change(
        self,
        *,
        add: Iterable[Any] = (),
        remove: Iterable[Any] = (),
        stamp: Stamp | None = None,
        timeout: float = TIMEOUT,
    ) -> Write:
        """Adds and removes elements in one write."""
        added, removed = list(add), list(remove)
        names = frozenset(map(canonical, added)), frozenset(map(canonical, removed))
        both = names[0] & names[1]
        if both:
            raise ValueError(f"to be added and removed: {', '.join(sorted(both))}")
        return self.store.write(
            self.key,
            json.dumps({"add": added, "remove": removed}, allow_nan=False),
            "application/json",
            stamp=stamp,
            timeout=timeout,
            elements=names[0] | names[1],
        )

    def value(self, *, until: Until | None = None, timeout: float = TIMEOUT) -> list[Any]:
        """The elements, in the order of the storage; empty if there is no set."""
        value = self._get(until, timeout)
        elements = [] if value is None else value.json
        if not isinstance(elements, list):
            raise ValueError(f"{self.key} is no set: {elements!r}")
        return elements


class Object(_Merged):
    """A JSON object, merged field by field (`object`)."""

    def put(
        self,
        fields: Mapping[str, Any],
        *,
        stamp: Stamp | None = None,
        timeout: float = TIMEOUT,
    ) -> Write:
        """Puts fields, and leaves the others as they are; None removes one."""
        return self.store.write(
            self.key,
            json.dumps(dict(fields), allow_nan=False),
            "application/json",
            stamp=stamp,
            timeout=timeout,
            fields=fields,
        )

    def remove(
        self, *names: str, stamp: Stamp | None = None, timeout: float = TIMEOUT
    ) -> Write:
        """Removes fields."""
        return self.put(dict.fromkeys(names), stamp=stamp, timeout=timeout)

    def value(self, *, until: Until | None = None, timeout: float = TIMEOUT) -> dict[str, Any] | None:
        """The object; None if there is none."""
        value = self._get(until, timeout)
        if value is None:
            return None
        fields = value.json
        if not isinstance(fields, dict):
            raise ValueError(f"{self.key} is no object: {fields!r}")
        return fields
